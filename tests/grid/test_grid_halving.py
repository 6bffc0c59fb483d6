"""Halving: scikit-learn's rungs, survivors that go on from where they are, kills in between."""

from __future__ import annotations

import math
import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, HalvingRandomSearchCV, ParameterSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxlstm import GridSearch, HalvingSearch
from jaxlstm.grid.lanes import Lanes, first_state
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.rungs import best, floor_log, hyperband, successive_halving
from jaxlstm.grid.scoring import Scoring
from jaxlstm.grid.states import own_state, wide_state

GRID = {"learning_rate": [0.001, 0.05, 0.02, 0.01], "dropout": [0.0, 0.3]}


class Counted(ClassifierMixin, BaseEstimator):
    """Scores its one parameter, whatever the data."""

    def __init__(self, value: int = 0, epochs: int = 1):
        self.value, self.epochs = value, epochs

    def fit(self, X: Any, y: Any) -> Counted:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return float(self.value)


# -- how many candidates, for how many epochs


@given(
    st.integers(1, 30),
    st.sampled_from([2, 3, 4, 2.5, 1.5]),
    st.integers(1, 40),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_rungs_are_scikit_learns(
    count: int, factor: float, most: int, least: int, exhausts: bool, aggressive: bool
) -> None:
    least = min(least, most)
    # Its logarithm may fall short of a power of the factor.
    assume(math.floor(math.log(count, factor)) == floor_log(count, factor))
    theirs = HalvingGridSearchCV(
        Counted(),
        {"value": list(range(count))},
        factor=factor,
        resource="epochs",
        max_resources=most,
        min_resources="exhaust" if exhausts else least,
        aggressive_elimination=aggressive,
        cv=2,
        refit=False,
    )
    ours = successive_halving(
        count,
        min_resources=1 if exhausts else least,
        max_resources=most,
        factor=factor,
        exhausts=exhausts,
        aggressive=aggressive,
    )
    start = ours.start
    assume(math.floor(math.log(most // start, factor)) == floor_log(most // start, factor))
    theirs.fit(np.zeros((4, 1)), [0, 1, 0, 1])
    assert [rung.candidates for rung in ours.rungs] == theirs.n_candidates_
    assert [rung.epochs for rung in ours.rungs] == theirs.n_resources_
    assert len(ours.rungs) == theirs.n_iterations_
    assert ours.required == theirs.n_required_iterations_
    assert ours.possible == theirs.n_possible_iterations_
    assert start == int(theirs.min_resources_)


def test_a_power_of_the_factor_loses_no_rung() -> None:
    assert math.log(243, 3) < 5
    rungs = successive_halving(243, min_resources=1, max_resources=243, factor=3).rungs
    assert [(rung.candidates, rung.epochs) for rung in rungs] == [
        (3 ** (5 - power), 3**power) for power in range(6)
    ]


def test_hyperband_is_algorithm_1() -> None:
    found = [
        [(rung.candidates, rung.epochs) for rung in bracket.rungs]
        for bracket in hyperband(min_resources=1, max_resources=81, factor=3)
    ]
    # R = 81, eta = 3: n = ceil(5 * 3**s / (s + 1)) by hand.
    assert found == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    odd = hyperband(min_resources=2, max_resources=11, factor=2)
    assert [[rung.epochs for rung in bracket.rungs] for bracket in odd] == [
        [2, 5, 11],
        [5, 11],
        [11],
    ]


def test_best_prefers_the_first_of_equals_and_nan_last() -> None:
    assert best([0.2, math.nan, 0.7, 0.5, 0.7, 0.5], 3) == [2, 3, 4]
    assert best([math.nan, 0.1, math.nan], 2) == [0, 1]


# -- survivors


def frame(search: Any) -> pd.DataFrame:
    """The results without the times."""
    table = pd.DataFrame(search.cv_results_)
    return table[[name for name in table if "time" not in name]]


@pytest.fixture
def halving(classifier: Any) -> HalvingSearch:
    """Eight candidates for 1 epoch, four for 2, two for 4."""
    return HalvingSearch(
        classifier, GRID, factor=2, min_resources=1, max_resources=4, cv=2, random_state=0
    )


@pytest.mark.parametrize(
    "change",
    [{}, {"schedule": "cosine"}, {"schedule": "plateau", "validation_fraction": 0.3}],
)
def test_a_survivor_is_the_trial_trained_in_one_go(
    change: dict[str, Any], halving: Any, data: Any, recorder: Any, assert_same_weights: Any
) -> None:
    X, y = data
    halving.estimator = clone(halving.estimator).set_params(**change)
    halving.set_params(scoring=recorder, layout="loop").fit(X, y)
    assert halving.n_candidates_ == [8, 4, 2]
    assert halving.n_resources_ == [1, 2, 4]
    assert halving.n_remaining_candidates_ == 1
    assert halving.n_iterations_ == halving.n_possible_iterations_ == 3
    assert halving.n_required_iterations_ == 4
    assert (halving.min_resources_, halving.max_resources_) == (1, 4)
    results = pd.DataFrame(halving.cv_results_)
    assert results["iter"].tolist() == [0] * 8 + [1] * 4 + [2] * 2
    assert results["n_resources"].tolist() == [1] * 8 + [2] * 4 + [4] * 2
    assert results["param_epochs"].tolist() == results["n_resources"].tolist()

    cells = [{k: [v] for k, v in p.items()} for p in results["params"][-2:]]
    gone = dict(recorder.seen)
    alone = GridSearch(
        halving.estimator, cells, scoring=recorder, cv=2, random_state=0, layout="loop", refit=False
    ).fit(X, y)
    compared = 0
    for key, (estimator, _, _) in recorder.seen.items():
        if estimator is not gone.get(key, [None])[0]:
            assert_same_weights(estimator.params_, gone[key][0].params_)
            compared += 1
    assert compared == 4
    columns = ["epoch", "learning_rate", "train_loss", "val_loss", "val_accuracy"]
    last = halving.curves_[halving.curves_["cell"] >= 12].reset_index(drop=True)
    pd.testing.assert_frame_equal(last[columns], alone.curves_[columns], check_exact=True)
    for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(results[name][-2:], alone.cv_results_[name])
    assert halving.best_index_ == 12 + alone.cv_results_["mean_test_score"].argmax()
    assert halving.best_score_ == results["mean_test_score"][halving.best_index_]
    assert halving.best_estimator_.get_params()["epochs"] == 4


def test_each_iteration_keeps_the_best_of_the_one_before(halving: Any, data: Any) -> None:
    halving.set_params(refit=False, n_seeds=2).fit(*data)
    results = pd.DataFrame(halving.cv_results_)
    for iteration, count in ((0, 4), (1, 2)):
        scores = results["mean_test_score"][results["iter"] == iteration].to_numpy()
        before, after = (
            [
                {name: value for name, value in params.items() if name != "epochs"}
                for params in results["params"][results["iter"] == number]
            ]
            for number in (iteration, iteration + 1)
        )
        assert after == [before[place] for place in best(scores, count)]


def test_lanes_side_by_side_of_several_widths_go_on(halving: Any, data: Any) -> None:
    """Survivors leave a padded program for a narrower one."""
    grid = {"units": [4, 3], "optimizer": ["adagrad", "adam"]}
    halving.set_params(param_grid=grid, refit=False, max_resources=2)
    side = clone(halving).set_params(layout="vmap").fit(*data)
    loop = halving.set_params(layout="loop").fit(*data)
    assert side.cv_results_["params"] == loop.cv_results_["params"]
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(side.curves_[name], loop.curves_[name], rtol=2e-4)


@pytest.mark.parametrize("optimizer", ["adagrad", "ftrl", "adam"])
def test_a_state_is_narrowed_and_widened_again(optimizer: str, data: Any, classifier: Any) -> None:
    X, y = data
    prepared = Prepared(classifier.set_params(optimizer=optimizer), X, y, cv=2, random_state=0)
    narrow, _, wide, _ = prepared.problem([{"units": 3}, {"units": 4}]).trials
    structure = wide.network.structure
    rng, row = np.random.default_rng(0), X[:1]

    def changed(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return rng.normal(size=leaf.shape).astype(leaf.dtype) if leaf.ndim else leaf

    first = first_state(narrow, structure, row)
    own = own_state(first, narrow, structure, row)
    own = own._replace(
        weights=jax.tree.map(changed, own.weights),
        best=jax.tree.map(changed, own.best),
        slots=jax.tree.map(changed, own.slots),
    )
    wider = wide_state(own, narrow, structure, row)
    assert wide_state(wider, narrow, structure, row) is wider
    assert wide_state(own, narrow, narrow.network.structure, row) is own
    again = own_state(wider, narrow, structure, row)
    for part in ("weights", "best", "slots"):
        mine, theirs = (jax.tree.leaves(getattr(state, part)) for state in (own, again))
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
        # All else is what it was before the first step.
        for a, b, small in zip(
            jax.tree.leaves(getattr(wider, part)),
            jax.tree.leaves(getattr(first, part)),
            mine,
            strict=True,
        ):
            differ = np.asarray(a) != np.asarray(b)
            assert differ.sum() == (np.size(small) if np.ndim(small) else 0)
    assert jax.tree.structure(wider) == jax.tree.structure(first)


def test_a_survivor_that_has_stopped_stays(halving: Any, data: Any) -> None:
    halving.estimator = clone(halving.estimator).set_params(
        early_stopping=True, monitor="val_loss", patience=0, min_delta=10.0, validation_fraction=0.2
    )
    halving.set_params(refit=False, layout="loop").fit(*data)
    alone = GridSearch(
        clone(halving.estimator).set_params(epochs=4), GRID, cv=2, random_state=0, refit=False
    ).fit(*data)
    assert alone.results_["epochs"].max() < 4
    last = halving.results_[halving.results_["cell"] >= 12]
    assert (last["epochs"] < 4).all()
    assert set(last["status"]) == {"ok"}
    whole = alone.results_.set_index(["param_learning_rate", "param_dropout", "fold"])
    for _, row in last.iterrows():
        same = whole.loc[(row["param_learning_rate"], row["param_dropout"], row["fold"])]
        for name in ("epochs", "train_loss", "val_loss", "score"):
            assert row[name] == same[name]


def test_a_candidate_that_diverges_does_not_go_on(halving: Any, data: Any) -> None:
    grid = [{"optimizer": ["sgd"], "learning_rate": [1e30]}, {"dropout": [0.0, 0.3, 0.1]}]
    with (
        pytest.warns(FitFailedWarning, match="2 of 14 fits failed"),
        pytest.warns(UserWarning, match="test scores are non-finite"),
    ):
        halving.set_params(param_grid=grid, refit=False).fit(*data)
    assert halving.n_candidates_ == [4, 2, 1]
    assert np.isnan(halving.cv_results_["mean_test_score"]).tolist() == [True] + [False] * 6


def test_all_of_scikit_learns_columns(halving: Any, data: Any) -> None:
    theirs = HalvingGridSearchCV(
        Counted(), {"value": [1, 2]}, resource="epochs", max_resources=4, cv=2
    ).fit(np.zeros((4, 1)), [0, 1, 0, 1])
    halving.set_params(param_grid={"dropout": [0.0, 0.3]}, return_train_score=True, refit=False)
    ours = halving.fit(*data).cv_results_
    names = {name.replace("param_value", "param_dropout") for name in theirs.cv_results_}
    assert set(ours) == names | {"bracket"}
    for name in ("iter", "n_resources"):
        assert np.asarray(theirs.cv_results_[name]).dtype == ours[name].dtype


def test_draws_are_scikit_learns(data: Any, classifier: Any) -> None:
    space = {"learning_rate": loguniform(1e-3, 1e-1), "dropout": [0.0, 0.1, 0.3]}
    ours = HalvingSearch(
        classifier, space, n_candidates="exhaust", min_resources=1, max_resources=3, cv=2,
        random_state=5, refit=False,
    ).fit(*data)  # fmt: skip
    theirs = HalvingRandomSearchCV(
        Counted(), {"value": loguniform(1, 9)}, min_resources=1, max_resources=3,
        resource="epochs", cv=2, random_state=5,
    ).fit(np.zeros((4, 1)), [0, 1, 0, 1])  # fmt: skip
    assert ours.n_candidates_ == theirs.n_candidates_ == [3, 1]
    drawn = [dict(one) | {"epochs": 1} for one in ParameterSampler(space, 3, random_state=5)]
    assert ours.cv_results_["params"][:3] == drawn


def test_hyperband_runs_its_brackets(data: Any, classifier: Any) -> None:
    search = HalvingSearch(
        classifier, {"learning_rate": loguniform(1e-3, 1e-1)}, brackets="hyperband", factor=2,
        max_resources=2, cv=2, random_state=0,
    ).fit(*data)  # fmt: skip
    assert search.n_candidates_ == [[2, 1], [2]]
    assert search.n_resources_ == [[1, 2], [2]]
    assert search.n_iterations_ == [2, 1]
    results = search.cv_results_
    assert results["bracket"].tolist() == [0, 0, 0, 1, 1]
    assert results["iter"].tolist() == [0, 0, 1, 0, 0]
    rates = results["param_learning_rate"]
    assert len(set(rates)) == 4
    assert rates[2] in rates[:2]
    last = results["mean_test_score"][2:]
    assert search.best_index_ == 2 + last.argmax()


def test_a_pipelines_epochs(data: Any, classifier: Any) -> None:
    pipeline = make_pipeline(FunctionTransformer(np.tanh), classifier)
    search = HalvingSearch(
        pipeline, {"lstmclassifier__dropout": [0.0, 0.3]}, factor=2, cv=2, random_state=0
    ).fit(*data)
    assert search.n_resources_ == [1, 2]
    assert search.best_params_["lstmclassifier__epochs"] == 2
    assert search.max_resources_ == 2


def test_the_plan_is_the_first_iteration(halving: Any, data: Any) -> None:
    plan = halving.plan(*data, measure=False)
    assert plan.fits == 16
    assert "max_resources_" not in vars(halving)


# -- a killed search goes on


class Killed(BaseException):
    pass


@pytest.mark.parametrize("fits", [3, 16, 17, 24, 27])
def test_a_killed_search_ends_with_the_same_table(
    fits: int, halving: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halving.set_params(refit=False)
    whole = clone(halving).set_params(layout="loop", n_jobs=1).fit(*data)
    halving.set_params(checkpoint_dir=tmp_path / "s", layout="loop", n_jobs=1)
    score, done = Scoring.__call__, []

    def killed(self: Any, trial: Any, outcome: Any) -> Any:
        if len(done) == fits:
            raise Killed
        done.append(trial.index)
        return score(self, trial, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "__call__", killed)
        with pytest.raises(Killed):
            clone(halving).fit(*data)
    # What was finished, or begun and saved, is not trained again.
    epochs, train = [], Lanes.train_epoch

    def counted(self: Any, active: Any, validate: Any) -> Any:
        epochs.append(int(active.sum()))
        return train(self, active, validate)

    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "train_epoch", counted)
        again = clone(halving).fit(*data)
    pd.testing.assert_frame_equal(frame(again), frame(whole), check_exact=True)
    pd.testing.assert_frame_equal(again.curves_, whole.curves_, check_exact=True)
    assert again.best_index_ == whole.best_index_
    # The iterations train 16, 8 and 8 epochs. Killed at 3 and 17, the state of one survivor is lost
    # with its unfinished iteration; it trains its 1 or 2 epochs again.
    assert sum(epochs) == {3: 29 + 1, 16: 16, 17: 15 + 2, 24: 8, 27: 2}[fits]
    assert not list((tmp_path / "s" / "states").glob("*/*"))


def test_a_killed_search_whose_survivors_stop_where_an_iteration_ends(
    halving: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a trial's record does not say that it has stopped, and its lane is gone."""
    halving.estimator = clone(halving.estimator).set_params(
        early_stopping=True, monitor="loss", patience=0, min_delta=0.01
    )
    grid = {"learning_rate": [1e-6, 0.05], "optimizer": ["sgd", "adam"]}
    halving.set_params(
        param_grid=grid, max_resources=4, factor=1.3, refit=False, layout="loop", n_jobs=1
    )
    whole = clone(halving).fit(*data)
    epochs = whole.results_["epochs"][whole.results_["cell"] >= whole.n_candidates_[0]]
    assert {2, 3} <= set(epochs)
    assert whole.n_resources_[:4] == [1, 1, 1, 2]
    score = Scoring.__call__
    before = 2 * sum(whole.n_candidates_[:-1])
    halving.set_params(checkpoint_dir=tmp_path / "s", checkpoint_every=0.0)

    def killed(self: Any, trial: Any, outcome: Any) -> Any:
        if trial.index >= before:
            raise Killed
        return score(self, trial, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "__call__", killed)
        with pytest.raises(Killed):
            clone(halving).fit(*data)
    again = clone(halving).fit(*data)
    pd.testing.assert_frame_equal(frame(again), frame(whole), check_exact=True)
    pd.testing.assert_frame_equal(again.curves_, whole.curves_, check_exact=True)


@pytest.mark.parametrize("fits", [5, 17])
def test_ctrl_c_returns_what_is_finished(fits: int, halving: Any, data: Any) -> None:
    done = []

    def score(estimator: Any, X: Any, y: Any) -> float:
        done.append(len(done))
        if len(done) == fits:
            signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGINT)
            time.sleep(0.5)  # until the main thread has heard of it
        return float(len(done))

    halving.set_params(scoring=score, layout="loop", n_jobs=1)
    with pytest.warns(RuntimeWarning, match="Interrupted: .* fits are finished"):
        halving.fit(*data)
    assert halving.interrupted_
    assert not hasattr(halving, "best_estimator_")
    assert halving.n_candidates_ == ([8] if fits == 5 else [8, 4])
    assert "interrupted" in set(halving.results_["status"])
    assert np.isfinite(halving.best_score_)


# -- mistakes


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"factor": 1}, ValueError, "factor must be a number above 1, got 1"),
        ({"factor": "3"}, TypeError, "factor must be a number above 1, got '3'"),
        ({"resource": "n_samples"}, ValueError, "resource must be 'epochs'.*got 'n_samples'"),
        ({"min_resources": "most"}, ValueError, "min_resources must be .*'exhaust', got 'most'"),
        ({"min_resources": 9}, ValueError, "min_resources=9 is more than max_resources, 4"),
        ({"max_resources": 2.0}, TypeError, "max_resources must be a whole number.*got 2.0"),
        ({"n_candidates": 0}, ValueError, "n_candidates must be a whole number above 0.*got 0"),
        ({"brackets": 3}, ValueError, "brackets must be 1 or 'hyperband', got 3"),
        ({"brackets": "hyperband", "n_candidates": 3}, ValueError, "n_candidates must be None, got 3"),
        ({"n_candidates": "exhaust", "min_resources": "exhaust"}, ValueError, "cannot both be"),
        ({"param_grid": {"epochs": [1, 2]}}, ValueError, "'epochs' is the resource"),
        ({"param_grid": []}, ValueError, "param_grid is empty"),
        ({"param_grid": {"dropout": loguniform(0.1, 1)}}, ValueError, "distribution for 'dropout'"),
        ({"param_grid": [], "n_candidates": 2}, ValueError, "param_grid is empty"),
        ({"param_grid": {"drop": [1]}}, ValueError, "'drop' in the grid is not a parameter"),
    ],
)  # fmt: skip
def test_mistakes(change: Any, kind: Any, message: str, halving: Any, data: Any) -> None:
    with pytest.raises(kind, match=message):
        halving.set_params(**change).fit(*data)


def test_draws_need_a_seed_to_go_on_with(halving: Any, data: Any, tmp_path: Path) -> None:
    """The estimator's own seed says nothing of what is drawn."""
    halving.set_params(n_candidates=2, random_state=None, checkpoint_dir=tmp_path / "s")
    halving.set_params(estimator__random_state=3)
    with pytest.raises(ValueError, match="checkpoint_dir needs a random_state that is an integer"):
        halving.fit(*data)
