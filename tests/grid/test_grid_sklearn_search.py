"""What scikit-learn's own tests ask of its searches, asked of ours: the behaviour its guide describes.

Networks of one epoch on 24 rows: nearly all tests share one program.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sklearn
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, get_scorer, get_scorer_names, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    ParameterSampler,
    RandomizedSearchCV,
    ShuffleSplit,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from jaxlstm import FlaxClassifier, FlaxRegressor, GridSearch, HalvingSearch, RandomSearch
from jaxlstm.grid.foresight import failing_scorers
from jaxlstm.grid.prepare import Prepared
from jaxlstm.nn import MLP

RATES = {"learning_rate": [0.001, 0.01, 0.1]}
TINY: dict[str, Any] = {"epochs": 1, "batch_size": 8, "random_state": 0}


def tiny(cls: Any = FlaxClassifier, classes: int = 2) -> Any:
    return cls(MLP(classes=classes, units=(3,)), **TINY)


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    y = rng.permutation(np.arange(24) % 2)
    X = rng.normal(size=(24, 3)) + y[:, None] * [1.0, 0.5, 0.0]
    return X.astype(np.float32), y


def by_rate(*scores: Any) -> Any:
    """A scorer that gives each learning rate its score; an exception is raised."""

    def score(estimator: Any, X: Any, y: Any) -> Any:
        found = scores[RATES["learning_rate"].index(estimator.learning_rate)]
        if isinstance(found, Exception):
            raise found
        return found

    return score


# -- a subclass's own answers ---------------------------------------------------------------------


class OwnScore(FlaxClassifier):
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        return float(np.asarray(X)[0, 0])


class OwnPredict(FlaxClassifier):
    def predict(self, X: Any) -> Any:
        return 1 - super().predict(X)


class Reversed:
    """A mixin."""

    def predict_proba(self, X: Any) -> Any:
        return super().predict_proba(X)[:, ::-1]  # type: ignore[misc]

    def predict(self, X: Any) -> Any:
        return self.predict_proba(X).argmax(axis=1)


class OwnProba(Reversed, FlaxClassifier):
    pass


class OwnPipeline(Pipeline):
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        return 0.125


@pytest.mark.parametrize("scoring", [None, "accuracy"])
@pytest.mark.parametrize("kind", [OwnScore, OwnPredict, OwnProba])
def test_own_methods_of_a_subclass_decide(kind: Any, scoring: Any, table: Any) -> None:
    settings: dict[str, Any] = {"scoring": scoring, "cv": 3}
    ours = GridSearch(tiny(kind), RATES, **settings).fit(*table)
    theirs = GridSearchCV(tiny(kind), RATES, **settings).fit(*table)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
    np.testing.assert_array_equal(ours.predict(table[0]), theirs.predict(table[0]))
    plain = GridSearch(tiny(), RATES, **settings).fit(*table)
    if scoring is None or kind is not OwnScore:
        assert (ours.cv_results_["mean_test_score"] != plain.cv_results_["mean_test_score"]).any()
    seeds = GridSearch(tiny(kind), RATES, n_seeds=2, refit=False, **settings).fit(*table)
    first = seeds.results_[seeds.results_["seed"] == 0]["score"]
    np.testing.assert_array_equal(first, ours.results_["score"])


def test_own_methods_of_a_pipeline_and_in_halving(table: Any) -> None:
    pipeline = OwnPipeline([("scale", StandardScaler()), ("net", tiny())])
    search = GridSearch(pipeline, {"net__l2": [0.0, 0.1]}, cv=2, refit=False).fit(*table)
    assert search.results_["score"].tolist() == [0.125] * 4
    halving = HalvingSearch(tiny(OwnScore), RATES, max_resources=1, cv=KFold(2), refit=False)
    scores = halving.fit(*table).results_["score"].tolist()
    assert scores == table[0][[0, 12], 0].tolist() * 3


def test_a_fit_of_its_own_is_refused(table: Any) -> None:
    class OwnFit(FlaxClassifier):
        def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
            return super().fit(-X, y, **params)

    with pytest.raises(TypeError, match="OwnFit has its own fit, which a search does not call"):
        GridSearch(tiny(OwnFit), RATES).fit(*table)


# -- scores that are no numbers -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # scikit-learn's
@pytest.mark.parametrize(
    ("scores", "ranks"),
    [
        ((-np.inf, np.nan, 0.5), [2, 3, 1]),
        ((np.nan, -np.inf, np.nan), [2, 1, 2]),
        ((np.nan, np.inf, 0.5), [3, 1, 2]),
        ((np.nan, np.nan, np.nan), [1, 1, 1]),
    ],
)
def test_scores_that_are_not_finite(scores: Any, ranks: Any, table: Any) -> None:
    settings: dict[str, Any] = {"scoring": by_rate(*scores), "cv": 2, "return_train_score": True}
    results = []
    for kind in (GridSearch, GridSearchCV):
        with pytest.warns(UserWarning, match="non-finite") as caught:
            results.append(kind(tiny(), RATES, **settings).fit(*table))
        messages = [str(one.message) for one in caught if one.category is UserWarning]
        for part in ("test", "train"):
            wanted = f"One or more of the {part} scores are non-finite: {np.array(scores)}"
            assert wanted in messages
    ours, theirs = results
    assert ours.cv_results_["rank_test_score"].tolist() == ranks
    assert theirs.cv_results_["rank_test_score"].tolist() == ranks
    assert ours.best_index_ == theirs.best_index_ == ranks.index(1)
    np.testing.assert_equal(ours.best_score_, theirs.best_score_)
    with pytest.warns(UserWarning, match="non-finite"):
        halving = HalvingSearch(
            tiny(), RATES, max_resources=1, cv=2, refit=False, scoring=by_rate(*scores)
        ).fit(*table)
    assert halving.best_index_ == ranks.index(1)


def test_one_scorer_that_raises_costs_its_metric_alone(table: Any) -> None:
    wrong = by_rate(ZeroDivisionError("by zero"), 0.2, 0.3)
    search = GridSearch(tiny(), RATES, cv=2, scoring={"a": "accuracy", "wrong": wrong}, refit="a")
    with (
        pytest.warns(UserWarning, match=r"of 'wrong' of 2 of 6 fits .*ZeroDivisionError: by zero"),
        pytest.warns(UserWarning, match=r"test scores are non-finite: \[ *nan 0\.2 0\.3\]"),
    ):
        search.fit(*table)
    plain = GridSearch(tiny(), RATES, cv=2).fit(*table)
    for name in ("split0_test", "split1_test", "rank_test"):
        np.testing.assert_array_equal(
            search.cv_results_[f"{name}_a"], plain.cv_results_[f"{name}_score"]
        )
    assert search.cv_results_["rank_test_wrong"].tolist() == [3, 2, 1]
    assert set(search.results_["status"]) == {"ok"}
    with pytest.warns(UserWarning, match="Scoring failed"):
        search.set_params(error_score=0.25).fit(*table)
    assert search.cv_results_["mean_test_wrong"].tolist() == [0.25, 0.2, 0.3]
    with pytest.raises(ZeroDivisionError):
        search.set_params(error_score="raise").fit(*table)


def test_a_scorer_that_always_raises_loses_nothing_else(table: Any) -> None:
    search = GridSearch(tiny(), RATES, cv=2, scoring=by_rate(*[OSError("never")] * 3))
    with (
        pytest.warns(UserWarning, match="6 of 6 fits .*OSError: never"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(*table)
    assert search.best_index_ == 0
    assert search.predict(table[0]).shape == (24,)


def test_metrics_that_do_not_fit_the_targets_are_named_before_training(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table
    text = np.where(y > 0, "up", "down")
    monkeypatch.setattr("jaxlstm.grid.session.execute", None)  # a lane that trained would raise

    def said(estimator: Any, y: Any, **settings: Any) -> str:
        search = GridSearch(estimator, RATES, **{"cv": 3, "refit": "accuracy"} | settings)
        with (
            pytest.warns(UserWarning, match="Scoring will fail for") as caught,
            pytest.raises(TypeError, match="'NoneType' object is not callable"),
        ):
            search.fit(X, y)
        return " ".join(str(one.message) for one in caught)

    found = said(tiny(), text, scoring=["accuracy", "f1", "f1_macro"])
    assert "'f1' on split 0, 1, 2" in found
    assert "f1_macro" not in found
    three = np.arange(24) % 3
    found = said(tiny(classes=3), three, scoring=["accuracy", "roc_auc", "roc_auc_ovr", "jaccard"])
    assert "'roc_auc' on" in found
    assert "'jaccard' on" in found
    assert "roc_auc_ovr" not in found
    numbers = said(
        tiny(FlaxRegressor, 1),
        X[:, 1] - 9,
        scoring=["r2", "accuracy", "neg_log_loss", "neg_mean_squared_log_error"],
        refit="r2",
    )
    for name in ("'accuracy'", "'neg_log_loss'", "'neg_mean_squared_log_error'"):
        assert name in numbers
    assert "FlaxRegressor has none of the following attributes: predict_proba" in numbers
    ones = [(np.arange(12), np.flatnonzero(y == 1)), (np.arange(12), np.arange(12, 24))]
    assert "on split 0, whatever" in said(tiny(), y, scoring="neg_log_loss", cv=ones, refit=True)
    # Nothing could be chosen by it.
    with pytest.raises(
        ValueError, match=r"scoring 'f1' cannot be computed on split 0: .*pos_label"
    ):
        GridSearch(tiny(), RATES, scoring="f1", cv=3).fit(X, text)
    with pytest.raises(ValueError, match="scoring 'f1' cannot be computed"):
        GridSearch(
            tiny(), RATES, scoring=["f1", "accuracy"], refit="accuracy", error_score="raise"
        ).fit(X, text)


def test_a_refit_that_would_fail_is_refused_before_training(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxlstm.grid.session.execute", None)
    X, y = table
    grid = [{"learning_rate": [0.1]}, {"early_stopping": [True], "validation_fraction": [0.0]}]
    for kind in (GridSearch, HalvingSearch):
        with pytest.raises(ValueError, match=r"the refit on all rows has none.*early_stopping"):
            kind(tiny(), grid, cv=2).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), tiny())
    with pytest.raises(ValueError, match="the refit on all rows has none"):
        GridSearch(
            pipeline,
            {"flaxclassifier__schedule": ["plateau"], "flaxclassifier__validation_fraction": [0]},
        ).fit(X, y)
    # A class of one row, which no split has in its training rows, cannot be held out of all rows.
    rare = np.where(np.arange(24) == 23, 2, y)
    search = GridSearch(
        tiny(classes=3), {"early_stopping": [True]}, cv=[(np.arange(20), np.arange(20, 24))]
    )
    with pytest.raises(ValueError, match=r"validation_fraction=0\.1 of 24 training rows"):
        search.fit(X, rare)


# -- draws ----------------------------------------------------------------------------------------


def test_plan_moves_no_random_state_and_fit_draws_what_scikit_learn_draws(table: Any) -> None:
    X, y = table
    shared, own = np.random.RandomState(3), np.random.RandomState(4)
    rates = loguniform(1e-3, 1e-1)
    rates.random_state = np.random.RandomState(9)
    search = RandomSearch(
        tiny().set_params(random_state=own),
        {"learning_rate": rates, "l2": [0.0, 0.1]},
        n_iter=3,
        cv=ShuffleSplit(2, random_state=shared),
        random_state=shared,
        refit=False,
    )

    def states() -> list[Any]:
        generators = [shared, own, rates.random_state, np.random.mtrand._rand]
        return [repr(one.get_state()) for one in generators] + [random.getstate()]

    before = states()
    search.plan(X, y, measure=False)
    assert states() == before
    results = search.fit(X, y).cv_results_
    reference = RandomizedSearchCV(
        tiny(),
        search.param_distributions,
        n_iter=3,
        cv=ShuffleSplit(2, random_state=(state := np.random.RandomState(3))),
        random_state=state,
        refit=False,
        scoring=lambda estimator, X, y: float(X[0, 0]),
    ).fit(X, y)
    assert results["params"] == reference.cv_results_["params"]
    assert states() != before
    rows = search.set_params(
        scoring=reference.scoring,
        random_state=(state := np.random.RandomState(3)),
        cv=ShuffleSplit(2, random_state=state),
    ).fit(X, y)
    for fold in range(2):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(rows.cv_results_[name], reference.cv_results_[name])
    drawn = ParameterSampler(search.param_distributions, 3, random_state=np.random.RandomState(3))
    assert [one["l2"] for one in drawn] == [one["l2"] for one in results["params"]]


@pytest.mark.parametrize("kind", [GridSearch, HalvingSearch])
def test_splits_that_come_once(kind: Any, table: Any) -> None:
    X, y = table
    search = kind(tiny(), RATES, cv=KFold(3).split(X), refit=False)
    assert search.plan(X, y, measure=False).fits == 9
    assert search.plan(X, y, measure=False).fits == 9
    assert search.fit(X, y).n_splits_ == 3

    class Once:
        def __init__(self) -> None:
            self.splits = KFold(3).split(X)

        def get_n_splits(self, *_: Any) -> int:
            return 3

        def split(self, *_: Any) -> Iterator[Any]:
            yield from self.splits

    with pytest.raises(TypeError, match="plan cannot copy cv"):
        search.set_params(cv=Once()).plan(X, y)
    assert search.fit(X, y).n_splits_ == 3


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("refit", 5),
        ("refit", None),
        ("return_train_score", "no"),
        ("verbose", -1),
        ("scoring", ["accuracy", "accuracy"]),
        ("scoring", {1: "accuracy"}),
        ("scoring", [["accuracy"]]),
        ("scoring", [accuracy_score]),
        ("scoring", ()),
        ("scoring", "sklearn"),
        ("scoring", 5),
        ("cv", "3"),
        ("cv", 1),
        ("n_jobs", "two"),
        ("error_score", "ignore"),
        ("error_score", None),
    ],
)
def test_parameters_are_checked_as_theirs(name: str, value: Any, table: Any) -> None:
    settings = {"refit": False, "cv": 2} | {name: value}
    with pytest.raises((TypeError, ValueError)):
        GridSearchCV(tiny(), RATES, **settings).fit(*table)
    distributions = {"learning_rate": [0.1]}
    for search in (
        GridSearch(tiny(), RATES, **settings),
        RandomSearch(tiny(), distributions, n_iter=1, **settings),
        HalvingSearch(tiny(), RATES, **settings),
    ):
        with pytest.raises((TypeError, ValueError), match=name):
            search.fit(*table)


@pytest.mark.parametrize("score", [np.array([0.5]), np.float32(0.5), "a", None, [0.5], np.ones(2)])
def test_what_a_scorer_may_return(score: Any, table: Any) -> None:
    settings: dict[str, Any] = {"cv": 2, "scoring": lambda *_: score, "refit": False}
    searches = [kind(tiny(), {"l2": [0.0]}, **settings) for kind in (GridSearchCV, GridSearch)]
    if np.size(score) == 1 and isinstance(score, np.ndarray | np.generic):
        assert [one.fit(*table).best_score_ for one in searches] == [0.5, 0.5]
        return
    for search in searches:
        with pytest.raises(ValueError, match="scoring must return a number, got"):
            search.fit(*table)


@pytest.mark.parametrize("grid", [{}, [{}], [{"l2": [0.1]}, {}]])
def test_an_empty_grid_is_the_estimator_as_it_is(grid: Any, table: Any) -> None:
    ours, theirs = (kind(tiny(), grid, cv=2).fit(*table) for kind in (GridSearch, GridSearchCV))
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
    assert ours.best_params_ == theirs.best_params_


def test_a_splitter_that_miscounts_and_groups_that_are_missing(table: Any) -> None:
    class Miscounting(KFold):
        def get_n_splits(self, *_: Any) -> int:
            return 5

    with pytest.raises(ValueError, match=r"inconsistent results\. Expected 5 splits, got 3"):
        GridSearch(tiny(), RATES, cv=Miscounting(3)).fit(*table)
    for cv in (GroupKFold(2), LeaveOneGroupOut()):
        search = GridSearch(tiny(), {"l2": [0.0]}, cv=cv, refit=False)
        with pytest.raises(ValueError, match="The 'groups' parameter should not be None"):
            search.fit(*table)
        assert search.fit(*table, groups=np.arange(24) % 2).n_splits_ == 2


def test_without_a_refit_and_before_a_fit(table: Any) -> None:
    search = GridSearch(tiny(), RATES, cv=2, refit=False)
    for fitted in (search, clone(search).fit(*table)):
        assert not hasattr(fitted, "classes_")
        assert not hasattr(fitted, "n_features_in_")
        for name in ("predict", "predict_proba", "transform", "score_samples"):
            with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
                getattr(fitted, name)
        with pytest.raises(AttributeError, match="refit=False"):
            fitted.score(*table)
    assert not hasattr(search, "best_index_")
    refitted = GridSearch(tiny(), RATES, cv=2)
    assert not hasattr(refitted, "n_features_in_")
    assert refitted.fit(*table).n_features_in_ == 3
    with pytest.raises(ValueError, match="metadata routing"):
        refitted.score(*table, sample_weight=np.ones(24))
    assert "FlaxClassifier" in refitted._repr_html_()


@pytest.mark.parametrize("index", [-1, 3, 1.0, "0", None])
def test_refit_callables_that_give_no_index(index: Any, table: Any) -> None:
    errors = []
    for kind in (GridSearch, GridSearchCV):
        with pytest.raises((TypeError, IndexError)) as caught:
            kind(tiny(), RATES, cv=2, refit=lambda results: index).fit(*table)
        errors.append(caught.type)
    assert errors[0] is errors[1]


def test_the_grid_and_its_values_stay_as_they_are(table: Any) -> None:
    X, y = table
    grid = {"net": [tiny()], "net__l2": [0.1], "scale": [StandardScaler()]}
    pipeline = Pipeline([("scale", None), ("net", None)])
    search = GridSearch(pipeline, grid, cv=2, scoring="accuracy").fit(X, y)
    assert grid["net"][0].l2 == 0.0
    assert search.best_estimator_["net"].l2 == 0.1
    for name in ("net", "scale"):
        assert search.cv_results_[f"param_{name}"][0] is grid[name][0]
        assert not hasattr(grid[name][0], "n_features_in_")
        assert search.best_estimator_[name] is not grid[name][0]
    holes = X.copy()
    holes[5] = np.nan
    filled = make_pipeline(SimpleImputer(), tiny())
    ours, theirs = (
        kind(filled, {"flaxclassifier__l2": [0.1]}, cv=2).fit(holes, y)
        for kind in (GridSearch, GridSearchCV)
    )
    assert ours.best_score_ == theirs.best_score_


def test_callbacks_and_searches_of_ones_own_are_refused(table: Any) -> None:
    with pytest.raises(NotImplementedError, match="does not call scikit-learn's callbacks"):
        GridSearch(tiny(), RATES).set_callbacks(object())

    class Own(GridSearch):
        def _run_search(self, evaluate_candidates: Any) -> None:
            evaluate_candidates([{"l2": 0.1}])

    with pytest.raises(TypeError, match="Own has a _run_search of its own"):
        Own(tiny(), RATES).fit(*table)


# -- weights and metadata -------------------------------------------------------------------------


def test_scorers_that_take_no_weights_are_named(table: Any) -> None:
    plain = make_scorer(lambda y, predicted: 0.5)
    search = GridSearch(tiny(), {"l2": [0.0]}, cv=2, scoring=plain, refit=False)
    weight = np.arange(24.0) + 1
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(*table, sample_weight=weight)
    search.set_params(scoring={"plain": plain, "accuracy": "accuracy"})
    with pytest.warns(UserWarning, match=r"The scoring plain=.* does not support") as caught:
        search.fit(*table, sample_weight=weight)
    assert len(caught) == 1


@pytest.mark.parametrize("several", [True, False])
def test_each_scorer_gets_the_metadata_it_asks_for(several: bool, table: Any) -> None:
    """Under the names that it has been given, as with scikit-learn's metadata routing."""
    seen: list[Any] = []

    def metric(y: Any, predicted: Any, sample_weight: Any = None, cost: Any = None) -> float:
        seen.append((sample_weight, cost))
        return 0.5

    X, y = table
    weight, cost = np.arange(24.0), np.arange(24.0) * 2
    splits = list(KFold(2).split(X))
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(metric).set_score_request(sample_weight="mass", cost=True)
        search = GridSearch(
            tiny(),
            {"l2": [0.0]},
            cv=KFold(2),
            scoring={"own": scorer, "accuracy": "accuracy"} if several else scorer,
            refit="own" if several else True,
        )
        search.fit(X, y, mass=weight, cost=cost)
        search.score(X, y, mass=weight, cost=cost)
    assert len(seen) == 3
    seen.sort(key=lambda pair: (len(pair[0]), pair[0][0]))  # folds are scored as they finish
    for (found, more), rows in zip(seen, [test for _, test in splits] + [slice(None)], strict=True):
        np.testing.assert_array_equal(found, weight[rows])
        np.testing.assert_array_equal(more, cost[rows])


# -- pipelines ------------------------------------------------------------------------------------


class Step(TransformerMixin, BaseEstimator):
    """A stateless transformer, whose `fit` sets nothing; other rows in training than later."""

    def __init__(self, train: Any = None, later: Any = None):
        self.train, self.later = train, later

    def fit(self, X: Any, y: Any = None) -> Step:
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        return X if self.train is None else self.train(X)

    def transform(self, X: Any) -> Any:
        return X if self.later is None else self.later(X)


def test_pipelines_in_pipelines_and_steps_to_be_filled(table: Any) -> None:
    X, y = table
    classifier = tiny()
    settings: dict[str, Any] = {"cv": 2, "scoring": "accuracy"}
    nested = Pipeline(
        [
            ("first", make_pipeline(Step(), PCA(3, random_state=0))),
            ("second", Pipeline([("scale", StandardScaler()), ("net", classifier)])),
        ]
    )
    cases: list[tuple[Any, Any]] = [
        (
            nested,
            {
                "second__net__l2": [0.0, 0.1],
                "first__pca__whiten": [False, True],
                "second__scale": [MinMaxScaler(), "passthrough"],
            },
        ),
        (
            Pipeline([("scale", None), ("net", None)]),
            [
                {"net": [classifier], "net__epochs": [1, 2]},
                {"net": [classifier], "scale": [Step(), Normalizer()]},
            ],
        ),
        (Pipeline([("step", Step()), ("net", "passthrough")]), {"net": [classifier]}),
    ]
    for estimator, grid in cases:
        ours = GridSearch(estimator, grid, **settings).fit(X, y)
        theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
        for name in ("split0_test_score", "split1_test_score", "rank_test_score"):
            np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-5)
    weight = {"second__net__sample_weight": np.arange(24.0)}
    weighted = GridSearch(nested, {"second__net__l2": [0.1]}, cv=2, random_state=0)
    scores = weighted.fit(X, y, **weight).results_["train_loss"]
    assert (scores != weighted.fit(X, y).results_["train_loss"]).all()
    halving = HalvingSearch(nested, {"second__net__l2": [0.0, 0.1]}, cv=2, random_state=0)
    assert halving.fit(X, y).best_params_["second__net__epochs"] == 1
    with pytest.raises(TypeError, match="got None, which no candidate fills"):
        GridSearch(Pipeline([("net", None)]), {"net__l2": [0.1]}).fit(X, y)


def test_a_pipeline_whose_last_step_is_stateless_is_its_steps(table: Any) -> None:
    X, y = table
    scores = [
        GridSearch(make_pipeline(*steps, tiny()), {}, cv=2, scoring="accuracy")
        .fit(X, y)
        .cv_results_["mean_test_score"]
        for steps in (
            [StandardScaler(), Step()],
            [make_pipeline(StandardScaler(), Step())],
            [make_pipeline(StandardScaler(), make_pipeline("passthrough", Step()))],
        )
    ]
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, scores[:1] * 3)


def test_texts_through_a_vectorizer() -> None:
    texts = ["a good day", "bad night", "good", "bad, bad", "day", "night"] * 4
    y = [text.startswith("bad") for text in texts]
    steps = [TfidfVectorizer(dtype=np.float32), TruncatedSVD(3, random_state=0)]
    pipeline = make_pipeline(*steps, tiny())
    grid = {"tfidfvectorizer__norm": ["l1", "l2"]}
    ours, theirs = (
        search(pipeline, grid, cv=2).fit(texts, y) for search in (GridSearch, GridSearchCV)
    )
    np.testing.assert_array_equal(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(ours.predict(texts), theirs.predict(texts))


def wide(features: int) -> Any:
    return lambda X: np.ones((len(X), features), np.float32)


@pytest.mark.parametrize(
    ("train", "later", "message"),
    [
        (lambda X: X[:1], None, r"inconsistent numbers of samples: \[1, 12\]"),
        (None, lambda X: X[:1], r"inconsistent numbers of samples: \[1, 12\]"),
        (lambda X: X[::2], lambda X: X[::2], r"inconsistent numbers of samples: \[6, 12\]"),
        (None, lambda X: np.concatenate([X, X]), r"inconsistent numbers .* \[24, 12\]"),
        (wide(3), wide(1), "X has 1 features, but .* is expecting 3"),
        (wide(1), wide(3), "X has 3 features, but .* is expecting 1"),
        (
            lambda X: np.ones((len(X), 5, 3), np.float32),
            lambda X: np.ones((len(X), 5, 1), np.float32),
            r"training rows of shape \(5, 3\) and validation rows of shape \(5, 1\)",
        ),
        (lambda X: X[:, 0], None, "Expected 2D array, got 1D array"),
        (lambda X: 1.0, None, "Expected sequence or array-like"),
    ],
)
def test_rows_that_a_step_does_not_keep(train: Any, later: Any, message: str, table: Any) -> None:
    pipeline = Pipeline([("step", Step(train, later)), ("net", tiny())])
    with pytest.raises((TypeError, ValueError), match=message):
        GridSearch(pipeline, {"net__l2": [0.1]}, cv=2).fit(*table)


@pytest.mark.parametrize("kind", ["two classes", "three classes", "labels", "numbers"])
def test_metrics_that_fail_are_foreseen(kind: str, table: Any) -> None:
    """None of scikit-learn's metrics is refused that a fitted estimator allows."""
    X, y = table
    is_number = kind == "numbers"
    if kind == "three classes":
        y = np.arange(24) % 3
    elif kind == "labels":
        y = np.stack([y, 1 - y, y ^ (np.arange(24) % 3 > 0)], axis=1)
    elif is_number:
        y = X[:, 0] + 5.0
    model = tiny(FlaxRegressor if is_number else FlaxClassifier, classes=None)
    scorers = {name: get_scorer(name) for name in get_scorer_names()}
    prepared = Prepared(model, X, y, cv=[(np.arange(24), np.arange(24))])
    model.fit(X, y)
    raising = set()
    for name, scorer in scorers.items():
        try:
            scorer(model, X, y)
        except Exception:
            raising.add(name)
    foreseen = set(failing_scorers(prepared, scorers))
    assert foreseen <= raising
    expected = {"three classes": {"f1", "roc_auc"}, "labels": {"f1"}, "numbers": {"f1", "roc_auc"}}
    assert foreseen >= expected.get(kind, set())
    assert ("roc_auc" in foreseen) == (kind in ("three classes", "numbers"))
