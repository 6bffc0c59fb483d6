"""Optuna's suggestions: its own study, asked and told by hand, is the reference."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import expon, loguniform, randint, uniform
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning

from jaxlstm import GridSearch, OptunaSearch
from jaxlstm.grid.scoring import Scoring

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

SPACE = {
    "learning_rate": FloatDistribution(1e-3, 1e-1, log=True),
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
}


def called(trial: Any) -> dict[str, Any]:
    optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd"])
    params = {"learning_rate": trial.suggest_float("rate", 1e-3, 1e-1, log=True)}
    if optimizer == "sgd":
        params["momentum"] = trial.suggest_float("momentum", 0.0, 0.9)
    return params | {"optimizer": optimizer}


@pytest.fixture
def search(classifier: Any) -> OptunaSearch:
    return OptunaSearch(classifier, SPACE, n_trials=7, batch=3, cv=2, random_state=0, refit=False)


def test_a_batch_is_asked_then_told(search: Any, data: Any) -> None:
    # Past 10 trials the sampler looks at what it was told.
    search.set_params(n_trials=14, batch=5, estimator__epochs=1).fit(*data)
    sampler = optuna.samplers.TPESampler(constant_liar=True, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    expected: list[dict[str, Any]] = []
    for size in (5, 5, 4):
        asked = [study.ask(SPACE) for _ in range(size)]
        cells = [{name: [value] for name, value in one.params.items()} for one in asked]
        grid = GridSearch(search.estimator, cells, cv=2, random_state=0, refit=False).fit(*data)
        for one, score in zip(asked, grid.cv_results_["mean_test_score"], strict=True):
            study.tell(one, score)
        expected += [one.params for one in asked]
    assert search.cv_results_["params"] == expected
    assert search.cv_results_["trial"].tolist() == list(range(14))
    ours = [(one.params, one.value, one.state) for one in search.study_.trials]
    assert ours == [(one.params, one.value, one.state) for one in study.trials]
    assert search.best_score_ == search.study_.best_value
    assert search.best_params_ == search.study_.best_params


def test_a_callable_says_the_space(search: Any, data: Any) -> None:
    search.set_params(space=called, refit=True).fit(*data)
    params = search.cv_results_["params"]
    assert {one["optimizer"] for one in params} == {"adam", "sgd"}
    for one, trial in zip(params, search.study_.trials, strict=True):
        assert one["learning_rate"] == trial.params["rate"]
        assert one.get("momentum") == trial.params.get("momentum")
    assert search.best_estimator_.learning_rate == search.best_params_["learning_rate"]


def test_lists_and_scipys_distributions_are_a_space(search: Any, data: Any) -> None:
    space = {
        "learning_rate": loguniform(1e-3, 1e-1),
        "dropout": uniform(0.1, 0.2),
        "batch_size": randint(7, 10),
        "l2": expon(scale=0.01),
        "optimizer": ["adam", "sgd"],
        "units": [(3,), (4,)],
        "beta_1": np.array([0.8, 0.9]),
        "momentum": FloatDistribution(0, 0.5),
    }
    search.set_params(space=space, n_trials=3).fit(*data)
    told = [trial.params for trial in search.study_.trials]
    for params, suggested in zip(search.cv_results_["params"], told, strict=True):
        assert params.keys() == suggested.keys() == space.keys()
        assert 1e-3 <= params["learning_rate"] <= 1e-1
        assert 0.1 <= params["dropout"] <= 0.3
        assert type(params["batch_size"]) is int
        assert 7 <= params["batch_size"] < 10
        assert params["l2"] == pytest.approx(-0.01 * np.log1p(-suggested["l2"]))
        assert repr(params["units"]) == suggested["units"]
        assert type(params["beta_1"]) is float
        for name in ("learning_rate", "dropout", "batch_size", "optimizer", "beta_1", "momentum"):
            assert params[name] == suggested[name]
    kinds = search.study_.trials[0].distributions
    assert kinds["learning_rate"] == FloatDistribution(1e-3, 1e-1, log=True)


@pytest.mark.parametrize("batch", [3, 8])
@pytest.mark.parametrize("kind", ["grid", "brute force"])
@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_samplers_that_try_everything_end_the_search(
    kind: str, batch: int, search: Any, data: Any
) -> None:
    space = {"optimizer": ["adam", "sgd"], "dropout": [0.0, 0.2]}
    samplers = optuna.samplers
    sampler = samplers.GridSampler(space, seed=1)
    if kind == "brute force":
        sampler = samplers.BruteForceSampler(seed=1)
    search.set_params(space=space, sampler=sampler, n_trials=20, batch=batch).fit(*data)
    found = sorted((one["optimizer"], one["dropout"]) for one in search.cv_results_["params"])
    assert found == [("adam", 0.0), ("adam", 0.2), ("sgd", 0.0), ("sgd", 0.2)]
    assert {trial.state for trial in search.study_.trials} == {TrialState.COMPLETE}
    assert search.best_score_ == search.study_.best_value


def test_a_grid_of_the_users_goes_on_and_takes_enqueued_trials(search: Any, data: Any) -> None:
    space = {"optimizer": ["adam", "sgd"], "dropout": [0.0, 0.2]}
    sampler = optuna.samplers.GridSampler(space, seed=1)
    pruner = optuna.pruners.HyperbandPruner()
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.enqueue_trial({"optimizer": "adam", "dropout": 0.2})
    search.set_params(space=space, study=study, n_trials=2).fit(*data)
    assert len(study.trials) == 2
    search.set_params(n_trials=20).fit(*data)
    assert search.cv_results_["trial"].tolist() == [2, 3, 4]
    tried = {(one.params["optimizer"], one.params["dropout"]) for one in study.trials[1:]}
    assert len(tried) == 4


def test_trials_that_the_space_prunes(search: Any, data: Any) -> None:
    def space(trial: Any) -> Any:
        rate = trial.suggest_float("rate", 0, 1)
        if trial.number % 2:
            raise optuna.TrialPruned("an odd one")
        return {"dropout": rate / 2}

    search.set_params(space=space, n_trials=5).fit(*data)
    states = [trial.state for trial in search.study_.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED] * 2 + [TrialState.COMPLETE]
    assert search.cv_results_["trial"].tolist() == [0, 2, 4]

    def nothing(trial: Any) -> Any:
        raise optuna.TrialPruned

    search.set_params(space=nothing)
    for call in (search.fit, search.plan):
        with pytest.raises(ValueError, match="space has pruned every trial"):
            call(*data)


def test_an_infinite_score_is_told_and_nan_has_failed(search: Any, data: Any) -> None:
    scores = {"adam": np.nan, "sgd": -np.inf}
    search.set_params(
        space={"optimizer": list(scores)},
        n_trials=4,
        scoring=lambda estimator, X, y: scores[estimator.optimizer],
        refit=False,
    )
    with pytest.warns(UserWarning, match="non-finite"):
        search.fit(*data)
    assert search.best_params_ == search.study_.best_params == {"optimizer": "sgd"}


def test_a_study_of_the_users_goes_on(search: Any, data: Any) -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    search.set_params(study=study, n_trials=2)
    plan = search.plan(*data, measure=False)
    assert plan.fits == 4
    assert not study.trials
    for count in (2, 4):
        assert search.fit(*data).study_ is study
        assert len(study.trials) == count
    assert search.cv_results_["trial"].tolist() == [2, 3]


def test_a_sampler_is_left_as_it_was(search: Any, data: Any) -> None:
    search.set_params(sampler=optuna.samplers.RandomSampler(seed=3), n_trials=2, random_state=None)
    one, other = (search.fit(*data).cv_results_["params"] for _ in range(2))
    assert one == other
    assert clone(search).fit(*data).cv_results_["params"] == one


def test_the_plan_is_the_first_batch(search: Any, data: Any) -> None:
    plan = search.plan(*data, measure=False)
    assert plan.fits == 6
    assert search.set_params(n_trials=2).plan(*data, measure=False).fits == 4


def test_a_failed_fit_is_told_as_failed(search: Any, data: Any) -> None:
    space = {"learning_rate": CategoricalDistribution([0.01, 1e30])}
    search.set_params(space=space, estimator__optimizer="sgd", n_trials=6, error_score=0.0)
    with pytest.warns(FitFailedWarning):
        search.fit(*data)
    for trial in search.study_.trials:
        diverged = trial.params["learning_rate"] == 1e30
        assert trial.state == (TrialState.FAIL if diverged else TrialState.COMPLETE)
    assert len({trial.state for trial in search.study_.trials}) == 2


def test_no_trial_is_left_running(search: Any, data: Any) -> None:
    study = optuna.create_study(direction="maximize")

    def broken(estimator: Any, X: Any, y: Any) -> float:
        raise OSError("no scores today")

    search.set_params(study=study, scoring=broken, error_score="raise")
    with pytest.raises(OSError, match="no scores today"):
        search.fit(*data)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3

    def broken_space(trial: Any) -> Any:
        raise OSError("no space today")

    with pytest.raises(OSError, match="no space today"):
        search.set_params(space=broken_space).fit(*data)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 4


class Killed(BaseException):
    pass


@pytest.mark.parametrize("fits", [4, 6, 9])
def test_a_killed_search_asks_for_the_same(
    fits: int, search: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clone(search).fit(*data)
    search.set_params(checkpoint_dir=tmp_path / "s", checkpoint_every=0.0)
    score, done = Scoring.__call__, []

    def killed(self: Any, trial: Any, outcome: Any) -> Any:
        if len(done) == fits:
            raise Killed
        done.append(trial.index)
        return score(self, trial, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "__call__", killed)
        with pytest.raises(Killed):
            clone(search).fit(*data)
    done, fits = [], 99
    monkeypatch.setattr(Scoring, "__call__", killed)
    again = clone(search).fit(*data)
    assert len(done) <= 14 - 4
    assert again.cv_results_["params"] == whole.cv_results_["params"]
    for name in ("split0_test_score", "split1_test_score", "rank_test_score"):
        np.testing.assert_array_equal(again.cv_results_[name], whole.cv_results_[name])


def test_optunas_log_is_left_alone(
    search: Any, data: Any, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    logger = logging.getLogger("optuna")
    before = logger.level, logger.propagate, list(logger.handlers)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.INFO):
            search.set_params(n_trials=1).fit(*data)
            assert not [one for one in caplog.records if one.name.startswith("optuna")]
            optuna.create_study()
            assert [one for one in caplog.records if one.name.startswith("optuna")]
    finally:
        optuna.logging.disable_propagation()
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_without_optuna(search: Any, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxlstm\[optuna\]'"):
        search.fit(*data)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"space": {}}, ValueError, "space is empty"),
        ({"space": {"dropout": 0.1}}, TypeError, r"space\['dropout'\] must be an Optuna dist"),
        ({"space": {"dropout": []}}, ValueError, r"space\['dropout'\] is empty"),
        ({"space": {"optimizer": "adam"}}, TypeError, r"space\['optimizer'\] must .*got 'adam'"),
        ({"space": [SPACE]}, TypeError, "space must be a dict of distributions or lists"),
        ({"space": lambda trial: None}, TypeError, "space must return a dict.*got None"),
        (
            {"space": {"drop": FloatDistribution(0, 1)}},
            ValueError,
            "'drop' in the grid is not a parameter",
        ),
        ({"n_trials": 0}, ValueError, "n_trials must be .*got 0"),
        ({"batch": "all"}, TypeError, "batch must be .*got 'all'"),
        ({"sampler": "tpe"}, TypeError, "sampler must be an Optuna sampler or None, got 'tpe'"),
        ({"study": "s"}, TypeError, "study must be an Optuna study or None, got 's'"),
    ],
)
def test_mistakes(change: Any, kind: Any, message: str, search: Any, data: Any) -> None:
    with pytest.raises(kind, match=message):
        search.set_params(**change).fit(*data)


def test_studies_that_do_not_fit(search: Any, data: Any, tmp_path: Path) -> None:
    search.set_params(study=optuna.create_study())
    with pytest.raises(ValueError, match=r"study must maximize one score.*got minimize\."):
        search.fit(*data)
    search.set_params(study=optuna.create_study(direction="maximize"))
    with pytest.raises(ValueError, match="study must be None"):
        clone(search).set_params(checkpoint_dir=tmp_path / "s").fit(*data)
    search.set_params(sampler=optuna.samplers.RandomSampler())
    with pytest.raises(ValueError, match="give study or sampler, not both"):
        search.fit(*data)
