"""The interface is scikit-learn's: its own GridSearchCV is the reference."""

from __future__ import annotations

import io
import pickle
import threading
from typing import Any

import jax.numpy as jnp
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.metrics import accuracy_score, f1_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator_sparse_tag

from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid.results import cv_results

# Fits alone have other rows than a search, and so programs of other shapes.
pytestmark = pytest.mark.usefixtures("optimised")

GRID = [
    {"dropout": [0.0, 0.3], "learning_rate": [0.02, 0.05]},
    {"dropout": [0.1], "optimizer": ["rmsprop"], "schedule": ["cosine"]},
]


def scores_dict(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    predicted = estimator.predict(X)
    return {
        "right": accuracy_score(y, predicted),
        "f1": f1_score(y, predicted, average="macro"),
    }


SCORINGS = {
    "none": (None, True),
    "name": ("accuracy", True),
    "another": ("neg_log_loss", True),
    "list": (["accuracy", "balanced_accuracy"], "balanced_accuracy"),
    "tuple": (("accuracy", "f1_macro"), "f1_macro"),
    "dict": ({"a": "accuracy", "f": make_scorer(f1_score, average="micro")}, "f"),
    "dict, no refit": ({"a": "accuracy", "loss": "neg_log_loss"}, False),
    "callable": (make_scorer(accuracy_score), True),
    "callable of a dict": (scores_dict, "f1"),
    "callable of a dict, no refit": (scores_dict, False),
    "no refit": (None, False),
    "refit by a callable": (None, lambda results: 3),
    "several, refit by a callable": (["accuracy", "f1_macro"], lambda results: np.int64(1)),
}


def both(estimator: Any, grid: Any, data: Any, **settings: Any) -> tuple[GridSearch, GridSearchCV]:
    X, y = data
    ours = GridSearch(clone(estimator), grid, **settings).fit(X, y)
    return ours, GridSearchCV(clone(estimator), grid, **settings).fit(X, y)


def assert_same_results(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        found = ours[name]
        if name == "params":
            assert found == expected
            continue
        assert type(found) is type(expected), name
        assert found.dtype == expected.dtype, name
        assert found.shape == expected.shape, name
        if isinstance(expected, np.ma.MaskedArray):
            np.testing.assert_array_equal(np.ma.getmaskarray(found), np.ma.getmaskarray(expected))
            assert [repr(value) for value in found] == [repr(value) for value in expected]
        elif name.startswith("std_") and "time" not in name:
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-16)
        elif "time" not in name:
            np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("case", SCORINGS)
def test_results_are_those_of_gridsearchcv(case: str, data: Any, classifier: Any) -> None:
    """Scores too: the same estimator, seed and folds, fitted one after another by scikit-learn."""
    scoring, refit = SCORINGS[case]
    classifier.set_params(random_state=2)
    ours, theirs = both(
        classifier,
        GRID,
        data,
        scoring=scoring,
        refit=refit,
        cv=3,
        return_train_score=case in ("none", "dict", "callable of a dict"),
    )
    assert_same_results(ours.cv_results_, theirs.cv_results_)
    assert ours.n_splits_ == theirs.n_splits_
    assert ours.multimetric_ == theirs.multimetric_
    for name in ("best_index_", "best_params_", "best_score_", "refit_time_", "best_estimator_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        if name in ("best_index_", "best_params_", "best_score_") and hasattr(ours, name):
            assert getattr(ours, name) == getattr(theirs, name), name
    assert type(ours.scorer_) is type(theirs.scorer_) or isinstance(ours.scorer_, dict)
    if not refit:
        return
    X, y = data
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.n_features_in_ == theirs.n_features_in_ == 2  # not its 5 steps
    if not (callable(refit) and ours.multimetric_):
        assert ours.score(X, y) == theirs.score(X, y)


class Anything(ClassifierMixin, BaseEstimator):
    """Takes any values and scores at once, so that tables can be compared."""

    def __init__(self, a: Any = None, b: Any = None, c: Any = None):
        self.a, self.b, self.c = a, b, c

    def fit(self, X: Any, y: Any) -> Anything:
        self.classes_ = np.unique(y)
        return self

    def score(self, X: Any, y: Any) -> float:
        if self.c == "nan":
            return float("nan")
        return float(len(repr((self.a, self.b))) % 7) + X[0, 0]


GRIDS: list[Any] = [
    {"a": [1, 2, 3], "b": [0.5, 1.0]},
    {"a": [True, False], "b": [None, 1]},
    {"a": ["x", "yy"], "b": [b"x", b"yy"]},
    {"a": [(1, 2), (3,)], "b": [(1, 2), (3, 4)]},
    {"a": [[1, 2], [3]], "b": [[1, 2], [3, 4]]},
    {"a": [1, "x", None, (1, 2)], "b": [1, 2.5]},
    {"a": np.array([1, 2], np.int8), "b": np.array([0.5, 0.1], np.float32)},
    {"a": [LSTMClassifier(units=3), "passthrough"], "b": [{"x": 1}, {"y": 2}]},
    [{"a": [1]}, {"b": [2.0]}, {"a": [3], "b": [4.0]}],
    [{"a": [1], "b": ["x"]}, {}],
    [{"b": [(1, 2)]}, {"a": [True]}, {"a": [2], "c": [np.nan]}],
    [{"a": [1, 2], "c": [None, "nan"]}],
    [{"a": [1, 2], "c": ["nan"]}],
]


@pytest.mark.filterwarnings("ignore:One or more of the .* scores are non-finite:UserWarning")
@pytest.mark.parametrize("number", range(len(GRIDS)))
def test_table_of_any_values_is_scikit_learns(number: int) -> None:
    grid = GRIDS[number]
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    theirs = GridSearchCV(Anything(), grid, cv=2, refit=False, return_train_score=True).fit(X, y)
    expected = theirs.cv_results_

    def folds(part: str) -> np.ndarray:
        return np.stack([expected[f"split{fold}_{part}_score"] for fold in range(2)], axis=1)

    times = np.full((len(expected["params"]), 2), 0.5)
    found = cv_results(
        expected["params"],
        {"test": {"score": folds("test")}, "train": {"score": folds("train")}},
        times,
        times,
    )
    assert_same_results(found, expected)


def test_accuracy_by_any_name_is_the_same_number(data: Any, classifier: Any) -> None:
    """None and "accuracy" are counted in the program, the others by predicting."""
    X, y = data
    tables = [
        GridSearch(classifier, GRID, cv=4, scoring=scoring, random_state=1, refit=False)
        .fit(X, y)
        .cv_results_
        for scoring in (None, "accuracy", make_scorer(accuracy_score), ["accuracy"])
    ]
    for name in ("split0_test", "split3_test", "mean_test", "rank_test"):
        expected = tables[0][f"{name}_score"]
        np.testing.assert_array_equal(tables[1][f"{name}_score"], expected)
        np.testing.assert_array_equal(tables[2][f"{name}_score"], expected)
        np.testing.assert_array_equal(tables[3][f"{name}_accuracy"], expected)
    assert len(np.unique(tables[0]["mean_test_score"])) > 1


@pytest.mark.parametrize(
    "cv",
    [
        3,
        None,
        KFold(4, shuffle=True, random_state=5),
        StratifiedKFold(2),
        GroupKFold(3),
    ],
    ids=repr,
)
def test_splits_are_scikit_learns(cv: Any, data: Any, classifier: Any, recorder: Any) -> None:
    X, y = data
    groups = np.arange(26) % 7 if isinstance(cv, GroupKFold) else None
    search = GridSearch(
        classifier, {"dropout": [0.0]}, cv=cv, scoring=recorder, refit=False, random_state=0
    ).fit(X, y, groups=groups)
    splitter = StratifiedKFold(cv or 5) if cv in (3, None) else cv
    expected = [(X[test], y[test]) for _, test in splitter.split(X, y, groups)]
    assert search.n_splits_ == len(expected)
    assert len(recorder.seen) == len(expected)
    for rows, labels in expected:
        _, seen_rows, seen_labels = recorder.seen[recorder.key(recorder.settings(classifier), rows)]
        np.testing.assert_array_equal(seen_rows, rows)
        np.testing.assert_array_equal(seen_labels, labels)


def test_splits_may_be_given_as_row_numbers_masks_and_draws(data: Any, classifier: Any) -> None:
    X, y = data
    splits = list(StratifiedKFold(3).split(X, y))
    masks = [tuple(np.isin(np.arange(26), part) for part in split) for split in splits]
    lists = [tuple(part.tolist() for part in split) for split in splits]
    negative = [(train - 26, test) for train, test in splits]

    def run(cv: Any) -> np.ndarray:
        search = GridSearch(classifier, {"dropout": [0.0]}, cv=cv, random_state=0, refit=False)
        return search.fit(X, y).curves_["train_loss"].to_numpy()

    expected = run(splits)
    for other in (masks, lists, negative, iter(splits)):
        np.testing.assert_array_equal(run(other), expected)

    # A bootstrap draws rows more than once, here more of them than there are.
    rng = np.random.default_rng(0)
    draw, rest = rng.integers(0, 20, 40), np.arange(20, 26)
    search = GridSearch(classifier, {"dropout": [0.2]}, cv=[(draw, rest)], random_state=0)
    (row,) = search.set_params(refit=False).fit(X, y).results_.itertuples()
    alone = clone(classifier).set_params(dropout=0.2, random_state=row.seed)
    alone.fit(X[draw], y[draw])
    assert row.score == alone.score(X[rest], y[rest])
    assert row.train_loss == alone.history_["loss"][-1]


def test_pickle_and_joblib_keep_everything(data: Any, classifier: Any) -> None:
    X, y = data
    for layout in ("loop", "vmap"):
        search = GridSearch(
            classifier, {"dropout": [0.0, 0.1, 0.3]}, cv=3, random_state=1, layout=layout
        ).fit(X, y)
        file = io.BytesIO()
        joblib.dump(search, file)
        assert b"arrow" not in file.getvalue().lower()  # it is read where there is no pyarrow
        file.seek(0)
        for copy in (pickle.loads(pickle.dumps(search)), joblib.load(file)):
            np.testing.assert_array_equal(copy.predict_proba(X), search.predict_proba(X))
            assert copy.best_params_ == search.best_params_
            pd.testing.assert_frame_equal(copy.results_, search.results_)
            assert str(copy.plan_) == str(search.plan_)
            assert copy.fit(X, y).best_score_ == search.best_score_


def test_is_an_estimator(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"dropout": [0.0, 0.3]}, cv=2, random_state=1)
    assert is_classifier(search)
    assert clone(search).get_params(deep=False).keys() == search.get_params(deep=False).keys()
    search.set_params(estimator__epochs=1, cv=3)
    assert search.estimator.epochs == 1
    assert "GridSearch" in repr(search)
    check_estimator_sparse_tag("GridSearch", search)
    assert cross_val_score(search, X, y, cv=2).shape == (2,)
    # Inside a pipeline, which here turns the sequences round.
    flip = FunctionTransformer(lambda x: x[:, ::-1], validate=False)
    pipeline = make_pipeline(flip, clone(search)).fit(X, y)
    alone = clone(search).fit(X[:, ::-1], y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), alone.predict_proba(X[:, ::-1]))
    assert pipeline[-1].best_score_ == alone.best_score_


def test_inside_gridsearchcv_and_cross_val_score(data: Any, classifier: Any) -> None:
    X, y = data
    classifier.set_params(random_state=0)
    scores = cross_val_score(classifier, X, y, cv=3)
    ours = GridSearch(classifier, {"epochs": [2]}, cv=3, refit=False).fit(X, y)
    np.testing.assert_array_equal(scores, ours.results_["score"])


def test_columns_of_a_data_frame_are_known(classifier: Any, data: Any) -> None:
    X, y = data
    frame = pd.DataFrame(X[:, :, 0], columns=list("abcde"))
    labels = pd.Series(y, name="label")
    columns: list[Any] = []

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        columns.append(list(X.columns))
        return estimator.score(X, y)

    search = GridSearch(classifier, {"dropout": [0.0]}, cv=3, scoring=scorer, random_state=0)
    search.fit(frame, labels)
    assert columns == [list("abcde")] * 3
    assert search.feature_names_in_.tolist() == list("abcde")
    plain = clone(search).set_params(scoring=None).fit(X[:, :, 0], y)
    np.testing.assert_array_equal(search.predict_proba(frame), plain.predict_proba(X[:, :, 0]))
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    with pytest.raises(ValueError, match="feature names should match"):
        search.predict(frame[list("edcba")])


def test_scorers_run_in_threads_with_the_callers_settings(data: Any, classifier: Any) -> None:
    X, y = data
    seen: list[tuple[bool, str]] = []

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        seen.append((sklearn.get_config()["assume_finite"], threading.current_thread().name))
        return 0.5

    with sklearn.config_context(assume_finite=True):
        GridSearch(classifier, {"dropout": [0.0, 0.1]}, cv=3, scoring=scorer).fit(X, y)
    assert [assumed for assumed, _ in seen] == [True] * 6


@pytest.mark.parametrize("kind", [float, np.float32, np.array, jnp.asarray, bool])
def test_a_score_may_be_any_number(kind: Any, data: Any, classifier: Any) -> None:
    X, y = data
    for scoring in (lambda *_: kind(1.0), lambda *_: {"a": kind(1.0)}):
        search = GridSearch(classifier, {"l2": [0.0]}, cv=2, scoring=scoring, refit=False)
        (score,) = search.fit(X, y).results_.filter(like="score").to_numpy().T.tolist()
        assert score == [1.0, 1.0]


def test_results_are_a_tidy_table(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(
        classifier,
        [{"units": [4, (5, 3)], "epochs": [1, 2]}, {"l2": [0.1]}],
        cv=3,
        scoring=["accuracy", "f1_macro"],
        refit="f1_macro",
        random_state=0,
    ).fit(X, y)
    table = search.results_
    assert table["trial"].tolist() == list(range(15))
    assert table["cell"].tolist() == [cell for cell in range(5) for _ in range(3)]
    assert table["fold"].tolist() == [0, 1, 2] * 5
    assert table["status"].tolist() == ["ok"] * 15
    assert table["epochs"].tolist() == [1] * 6 + [2] * 6 + [2] * 3
    assert table["group"].nunique() == search.plan_.programs == 2
    assert table["param_units"].tolist()[:6] == [4] * 3 + [(5, 3)] * 3
    assert table["param_l2"].isna().tolist() == [True] * 12 + [False] * 3
    for name in ("accuracy", "f1_macro"):
        np.testing.assert_array_equal(
            table.pivot(index="cell", columns="fold", values=f"score_{name}").mean(axis=1),
            search.cv_results_[f"mean_test_{name}"],
        )
    curves = search.curves_
    assert len(curves) == table["epochs"].sum()
    last = curves.groupby("trial").last()
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_array_equal(last[name], table[name])
    assert (table["fit_seconds"] > 0).all()
