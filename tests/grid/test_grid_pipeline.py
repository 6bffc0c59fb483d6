"""A pipeline's steps are fitted on each fold's training rows and on no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from jaxlstm import GridSearch, LSTMClassifier

# Fits alone have other rows than a search, and so programs of other shapes.
pytestmark = pytest.mark.usefixtures("optimised")

FOLDS = KFold(2, shuffle=True, random_state=1)


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """Columns of very different scales; float32, so that nothing is said about conversion."""
    rng = np.random.default_rng(3)
    y = rng.permutation(np.repeat([0, 1], [15, 11]))
    X = rng.normal(size=(26, 4)) * [1, 10, 0.1, 5] + y[:, None] * [1, 10, 0.1, 5]
    return X.astype(np.float32), y


@pytest.fixture
def pipeline(classifier: Any) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("net", classifier)])


def test_lane_equals_the_pipeline_fitted_by_hand(
    table: Any, pipeline: Pipeline, recorder: Any, assert_same_weights: Any
) -> None:
    X, y = table
    grid = {
        "net__dropout": [0.0, 0.3],
        "scale__with_mean": [True, False],
        "net__optimizer": ["adam", "rmsprop"],
    }
    search = GridSearch(
        pipeline, grid, cv=FOLDS, scoring=recorder, refit=False, random_state=2
    ).fit(X, y)
    splits = list(FOLDS.split(X, y))
    assert search.plan_.programs == 1
    for row in search.results_.itertuples():
        train, validation = splits[row.fold]
        cell = search.cv_results_["params"][row.cell]
        lane = recorder.lane(clone(pipeline).set_params(**cell), X[validation])

        scaler = StandardScaler(with_mean=cell["scale__with_mean"]).fit(X[train])
        alone = clone(pipeline.named_steps["net"]).set_params(
            dropout=cell["net__dropout"],
            optimizer=cell["net__optimizer"],
            random_state=row.seed,
        )
        alone.fit(scaler.transform(X[train]), y[train])

        assert [name for name, _ in lane.steps] == ["scale", "net"]
        np.testing.assert_array_equal(lane["scale"].scale_, scaler.scale_)
        assert_same_weights(lane["net"].params_, alone.params_)
        scaled = scaler.transform(X[validation])
        np.testing.assert_array_equal(
            lane.predict_proba(X[validation]), alone.predict_proba(scaled)
        )
        assert row.score == alone.score(scaled, y[validation])


def test_search_over_steps_is_gridsearchcvs(table: Any, pipeline: Pipeline) -> None:
    """Replaced steps, dropped steps, a transformer's parameters; steps of other output sizes."""
    X, y = table
    grid: list[dict[str, Any]] = [
        {"scale": [MinMaxScaler(), StandardScaler(), "passthrough"], "net__l2": [0.0, 0.1]},
        {"scale": [PCA(random_state=0)], "scale__n_components": [3], "net__l2": [0.1, 0.2]},
        {"net": [LSTMClassifier(4, batch_size=8, random_state=7)], "net__epochs": [1, 2]},
    ]
    settings: dict[str, Any] = {"cv": FOLDS}
    pipeline.set_params(net__random_state=4)
    ours = GridSearch(clone(pipeline), grid, **settings).fit(X, y)
    theirs = GridSearchCV(clone(pipeline), grid, **settings).fit(X, y)
    for name in [f"split{fold}_test_score" for fold in range(2)] + ["rank_test_score"]:
        np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
    assert repr(ours.best_params_) == repr(theirs.best_params_)
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    assert len(ours.best_estimator_.steps) == 2


def test_counted_and_predicted_accuracy_agree(table: Any, pipeline: Pipeline) -> None:
    X, y = table
    grid = {"scale": [StandardScaler(), MinMaxScaler()]}
    counted, predicted = (
        GridSearch(pipeline, grid, cv=FOLDS, scoring=scoring, random_state=2, refit=False)
        .fit(X, y)
        .results_["score"]
        .tolist()
        for scoring in (None, make_scorer(accuracy_score))
    )
    assert counted == predicted


class Shift(TransformerMixin, BaseEstimator):
    """Adds an array, whose repr is the same for many."""

    def __init__(self, by: Any):
        self.by = by

    def fit(self, X: Any, y: Any = None) -> Shift:
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X + np.float32(self.by.sum())


def test_values_that_look_alike_are_told_apart(table: Any, classifier: Any) -> None:
    X, y = table
    one, other = np.zeros(2000), np.zeros(2000)
    other[1000] = 3.0
    assert repr(one) == repr(other)
    pipeline = Pipeline([("shift", Shift(one)), ("net", classifier)])
    values = GridSearch(
        pipeline, {"shift__by": [one, other]}, cv=2, random_state=0, refit=False
    ).fit(X, y)
    steps = GridSearch(
        pipeline, {"shift": [Shift(one), Shift(other)]}, cv=2, random_state=0, refit=False
    ).fit(X, y)
    for search in (values, steps):
        losses = search.results_.pivot(index="cell", columns="fold", values="train_loss")
        assert (losses.loc[0] != losses.loc[1]).all()


def test_equal_steps_are_fitted_once(table: Any, classifier: Any) -> None:
    X, y = table
    fitted: list[int] = []

    def spy(X: Any) -> Any:
        fitted.append(len(X))
        return X

    pipeline = Pipeline([("spy", FunctionTransformer(spy)), ("net", classifier)])
    grid = [{"net__dropout": [0.0, 0.1, 0.2]}, {"net__l2": [0.1], "spy__validate": [False]}]
    search = GridSearch(pipeline, grid, cv=2, random_state=0, refit=False).fit(X, y)
    # A training and a validation part for each fold and for each setting of the step.
    assert fitted == [13] * 8
    # One program serves all; with lanes side by side a chunk reads one version of the data.
    assert search.plan_.programs == 1
    vmap = clone(search).set_params(layout="vmap").fit(X, y)
    assert vmap.plan_.groups[0].slots == 3
    assert sorted(len(chunk.lanes) for chunk in vmap.plan_.chunks) == [1, 1, 3, 3]
    np.testing.assert_allclose(vmap.results_["val_loss"], search.results_["val_loss"], rtol=1e-4)


def test_data_frames_sparse_rows_and_lists_pass_through(table: Any, classifier: Any) -> None:
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcd"))
    scale = make_pipeline(StandardScaler(), classifier)

    def score(pipeline: Any, X: Any, scoring: Any = "balanced_accuracy") -> Any:
        search = GridSearch(
            pipeline, {"lstmclassifier__l2": [0.0, 0.1]}, cv=FOLDS, scoring=scoring, random_state=0
        ).fit(X, y)
        return search.results_[["score", "train_loss"]].to_numpy(), search

    expected, _ = score(scale, X)
    found, search = score(scale, frame)
    np.testing.assert_array_equal(found, expected)
    assert search.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_array_equal(score(scale, X.tolist())[0], score(scale, X.astype(float))[0])
    # Transformers that hand on data frames, which the network then knows the columns of.
    with sklearn.config_context(transform_output="pandas"):
        found, search = score(clone(scale), frame)
        np.testing.assert_array_equal(found, expected)
        assert search.best_estimator_[-1].feature_names_in_.tolist() == list("abcd")
    reduced = make_pipeline(TruncatedSVD(3, random_state=0), classifier)
    np.testing.assert_allclose(
        score(reduced, sparse.csr_matrix(X))[0], score(reduced, X)[0], rtol=1e-3
    )


def test_pipeline_of_one_step_and_three_dimensions(data: Any, classifier: Any) -> None:
    X, y = data
    alone = GridSearch(classifier, {"l2": [0.0, 0.1]}, cv=FOLDS, random_state=0).fit(X, y)
    one = GridSearch(
        Pipeline([("net", classifier)]), {"net__l2": [0.0, 0.1]}, cv=FOLDS, random_state=0
    ).fit(X, y)
    double = make_pipeline(FunctionTransformer(lambda x: x * 2), classifier)
    doubled = GridSearch(double, {"lstmclassifier__l2": [0.0, 0.1]}, cv=FOLDS, random_state=0).fit(
        X, y
    )
    by_hand = clone(alone).fit(2 * X, y)
    columns = ["train_loss", "val_loss", "score"]
    pd.testing.assert_frame_equal(one.results_[columns], alone.results_[columns], check_exact=True)
    pd.testing.assert_frame_equal(
        doubled.results_[columns], by_hand.results_[columns], check_exact=True
    )


def test_mistakes_are_named(table: Any, pipeline: Pipeline) -> None:
    X, y = table

    def fit(estimator: Any, grid: Any) -> None:
        GridSearch(estimator, grid, cv=2).fit(X, y)

    with pytest.raises(
        ValueError, match=r"'nett__units' in the grid .*Did you mean 'net__units'\?"
    ):
        fit(pipeline, {"nett__units": [3]})
    with pytest.raises(ValueError, match=r"'unit' is not a parameter .*Did you mean 'units'\?"):
        fit(pipeline, {"net__unit": [3]})
    with pytest.raises(TypeError, match=r"units must be .* got 'big'.*in the cell"):
        fit(pipeline, {"net__units": ["big"]})
    with pytest.raises(TypeError, match="Pipeline that ends in one, got StandardScaler"):
        fit(make_pipeline(StandardScaler(), StandardScaler()), {"standardscaler-1__copy": [True]})
    with pytest.raises(TypeError, match=r"must be one of jaxlstm .* got MinMaxScaler"):
        fit(MinMaxScaler(), {"copy": [True]})
    with pytest.raises(ValueError, match="y is missing"):
        GridSearch(pipeline, {"net__units": [3]}, cv=2).fit(X)
