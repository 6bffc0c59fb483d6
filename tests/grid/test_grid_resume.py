"""A search that was killed goes on where it was, to the same tables, byte for byte."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import threading
import time
import types
import warnings
from pathlib import Path
from typing import Any, cast

import jax
import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxlstm import FlaxClassifier, GridSearch, HalvingSearch, LSTMClassifier, RandomSearch
from jaxlstm.grid import plan as planning
from jaxlstm.grid import saves, session
from jaxlstm.grid.checkpoint import Checkpoint
from jaxlstm.grid.journal import Journal, unsealed
from jaxlstm.grid.lanes import Lanes
from jaxlstm.grid.outcome import LaneRun
from jaxlstm.grid.scoring import Scoring
from jaxlstm.grid.store import Store

FOLDS = KFold(3, shuffle=True, random_state=1)
EPOCHS = {"optimizer": ["adam", "sgd"], "epochs": [2, 6]}  # one run, read twice
STOPPING = {
    "early_stopping": [True],
    "patience": [0, 1],
    "restore_best_weights": [True],
    "validation_fraction": [0.25],
    "learning_rate": [0.3],
    "epochs": [8],
}
# Kept by tests that need a killed process: one that only forks is there in no time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jaxlstm", "jaxlstm.grid.search", "optax", "orbax.checkpoint"])


def make_search(folder: Any, **settings: Any) -> GridSearch:
    """Lanes that save after every epoch; their weights are looked at."""
    classifier = LSTMClassifier(
        units=4, batch_size=8, dropout=0.2, recurrent_dropout=0.1, learning_rate=0.03
    )
    settings = {"param_grid": [EPOCHS, STOPPING], "layout": "loop"} | settings
    return GridSearch(
        classifier,
        cv=FOLDS,
        scoring="f1_macro",
        refit=False,
        random_state=3,
        checkpoint_dir=folder,
        checkpoint_every=0,
        **settings,
    )


def tables(search: GridSearch) -> dict[str, Any]:
    """All that a search found out, times aside."""
    results = {name: column for name, column in search.cv_results_.items() if "time" not in name}
    return {
        "cv_results_": {
            name: column.tolist() if name == "params" or name.startswith("param_") else column
            for name, column in ((name, np.ma.asarray(column)) for name, column in results.items())
        },
        "results_": search.results_.drop(columns=["fit_seconds", "compile_seconds"]),
        "curves_": search.curves_,
        "best": (search.best_index_, search.best_params_, search.best_score_),
    }


def assert_same_tables(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert one["best"] == other["best"]
    assert list(one["cv_results_"]) == list(other["cv_results_"])
    for name, column in one["cv_results_"].items():
        if isinstance(column, list):
            assert column == other["cv_results_"][name], name
        else:
            assert column.tobytes() == other["cv_results_"][name].tobytes(), name
    for name in ("results_", "curves_"):
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


def run_search(data: Any, folder: Path, out: Path, layout: str) -> None:
    """A process of its own: writes down what it does, and what it found."""
    warnings.simplefilter("error")
    planning.MOST_LANES["cpu"] = 5  # some lanes wait for a slot
    log = open(out / "log", "a", buffering=1)  # noqa: SIM115
    score, record, add = Scoring.__call__, LaneRun.record, Checkpoint.add

    def logged_score(scoring: Any, trial: Any, outcome: Any) -> Any:
        log.write(f"scored {trial.index}\n")
        return score(scoring, trial, outcome)

    def logged_record(run: LaneRun, *args: Any) -> None:
        (out / "begun").touch()
        log.write(f"epoch {run.lane.trials[0]} {run.epochs}\n")
        record(run, *args)

    def logged_add(kept: Checkpoint, problem: Any, trial: Any, *args: Any) -> None:
        add(kept, problem, trial, *args)
        log.write(f"kept {trial.index}\n")

    Scoring.__call__ = logged_score  # type: ignore[method-assign]
    Checkpoint.add = logged_add  # type: ignore[method-assign]
    LaneRun.record = logged_record  # type: ignore[method-assign]
    search = make_search(folder, layout=layout).fit(*data)
    (out / "tables.new").write_bytes(pickle.dumps(tables(search)))
    (out / "tables.new").rename(out / "tables")


class Runs:
    """Starts processes that search, one after another, and reads what they wrote."""

    def __init__(self, data: Any, folder: Path, layout: str):
        self.data, self.folder, self.layout = data, folder / "search", layout
        self.out = folder / "out"
        self.seconds = 0.0  # of the last process, from its first epoch on

    def start(self, kill_after: float | None = None) -> bool:
        """Whether it came to its end before it was killed."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        process = FORKS.Process(
            target=run_search, args=(self.data, self.folder, self.out, self.layout)
        )
        process.start()
        try:
            while process.is_alive() and not (self.out / "begun").exists():
                time.sleep(0.01)
            begun = time.monotonic()
            process.join(240 if kill_after is None else kill_after)
            self.seconds = time.monotonic() - begun
        finally:
            process.kill()
            process.join()
        if kill_after is None:
            assert process.exitcode == 0
        assert process.exitcode in (0, -9)
        return process.exitcode == 0

    def finished(self) -> set[str]:
        """Trials whose results are on the disk, whole."""
        path = self.folder / "finished.jsonl"
        text = path.read_text() if path.exists() else ""
        return {json.loads(line)["trial"] for line in text.split("\n")[:-1]}

    def log(self) -> list[list[str]]:
        path = self.out / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def tables(self) -> dict[str, Any]:
        found: dict[str, Any] = pickle.loads((self.out / "tables").read_bytes())
        return found


@pytest.mark.parametrize("layout", ["loop", pytest.param("vmap", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_resumed(
    kills: int, layout: str, data: Any, tmp_path: Path
) -> None:
    whole = Runs(data, tmp_path / "whole", layout)
    whole.start()
    expected = whole.tables()
    assert len(expected["results_"]) == 18
    assert (expected["results_"]["epochs"] < expected["results_"]["param_epochs"]).any()

    rng = random.Random(f"{kills} {layout}")
    done = continued = 0
    round_number = 0
    while done < kills:
        round_number += 1
        runs = Runs(data, tmp_path / f"{round_number}", layout)
        before: set[str] = set()
        trained: set[int] = set()
        ended = False
        while not ended:
            last = done >= kills
            ended = runs.start(None if last else rng.uniform(0, 0.7) * whole.seconds)
            log = runs.log()
            scored = [int(entry[1]) for entry in log if entry[0] == "scored"]
            assert len(set(scored)) == len(scored)
            assert not trained & set(scored)
            epochs: dict[str, int] = {}
            for entry in log:
                if entry[0] == "epoch":
                    assert int(entry[2]) == epochs.get(entry[1], int(entry[2]) - 1) + 1
                    continued += entry[1] not in epochs and int(entry[2]) > 0
                    epochs[entry[1]] = int(entry[2])
            done += not ended
            assert before <= runs.finished()
            trained |= {int(entry[1]) for entry in log if entry[0] == "kept"}
            before = runs.finished()
        assert_same_tables(runs.tables(), expected)
        assert len(before) == 18
        assert Store.saved(_reader(runs.folder)) == []  # no saves are left behind
    print(f"{done} kills, {continued} lanes went on from a save")
    if kills > 2:
        assert continued > 0


class Broken(Exception):
    """Ends a search as a kill would, but that the process lives."""


def break_off(monkeypatch: pytest.MonkeyPatch, search: GridSearch, data: Any, after: int) -> bool:
    """Fits up to so many saves of lanes in work; whether there were as many."""
    save, count = Store.save, [0]

    def counted(store: Store, *args: Any) -> None:
        save(store, *args)
        count[0] += 1
        if count[0] == after:
            raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", counted)
        try:
            search.fit(*data)
        except Broken:
            return True
    return False


@pytest.mark.parametrize("layout", ["loop", pytest.param("vmap", marks=pytest.mark.slow)])
def test_every_save_is_one_to_go_on_from(
    layout: str, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a lane that the device has stopped and the host does not know of yet."""
    monkeypatch.setitem(planning.MOST_LANES, "cpu", 4)
    grid = [{"epochs": [1, 3]}, {**STOPPING, "epochs": [3, 9]}]
    settings: dict[str, Any] = {"param_grid": grid, "layout": layout, "n_jobs": 1}
    expected = tables(make_search(None, **settings).fit(*data))
    assert (expected["results_"]["epochs"] < expected["results_"]["param_epochs"]).any()
    count = 0
    while True:
        count += 1 if layout == "vmap" else 6
        search = make_search(tmp_path / str(count), **settings)
        if not break_off(monkeypatch, search, data, count):
            break
        assert_same_tables(tables(clone(search).fit(*data)), expected)
    assert count >= 6


def test_layout_workers_and_verbosity_may_change(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Lanes saved at a width that the other layout pads begin again."""
    grid = {"units": [3, 6], "epochs": [1, 4], "optimizer": ["adam", "sgd"]}
    expected = make_search(None, param_grid=grid).fit(*data)
    for number, (first, then) in enumerate([("loop", "vmap"), ("vmap", "loop")]):
        folder = tmp_path / str(number)
        search = make_search(folder, param_grid=grid, layout=first, n_jobs=1)
        assert break_off(monkeypatch, search, data, 2)
        assert Store.saved(_reader(folder))
        search.set_params(layout=then, n_jobs=2, verbose=1, checkpoint_every=30.0).fit(*data)
        assert search.plan_.layout == then
        assert (search.results_["status"] == "ok").all()
        pd.testing.assert_frame_equal(search.curves_, expected.curves_, rtol=1e-3)  # padded
    capsys.readouterr()


def _reader(folder: Path) -> Any:
    """The part of a store that only reads."""
    store = Store.__new__(Store)
    store.folder = folder
    return store


def _fit_is_refused(search: GridSearch, data: Any, message: str, error: Any = ValueError) -> None:
    with pytest.raises(error, match=message) as caught:
        search.fit(*data)
    assert "\n" not in str(caught.value)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(session, "execute", fail)


SMALL: dict[str, Any] = {"param_grid": {"epochs": [1], "dropout": [0.1, 0.2]}}


def test_another_search_is_refused_in_one_sentence(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = data
    search = make_search(tmp_path / "s", **SMALL)
    first = tables(search.fit(X, y))
    trained: list[Any] = []
    score = Scoring.__call__
    monkeypatch.setattr(
        Scoring, "__call__", lambda *args: (trained.append(args[1]), score(*args))[1]
    )
    assert_same_tables(tables(clone(search).fit(X, y)), first)  # all is there
    assert trained == []

    other = X.copy()
    other[3, 1, 0] += 1e-6
    _fit_is_refused(clone(search), (other, y), "holds another search: the data differ. Choose")
    swapped = y.copy()
    place = np.flatnonzero(y != y[0])[0]
    swapped[[0, place]] = y[[place, 0]]
    _fit_is_refused(clone(search), (X, swapped), "the data differ")
    changed = clone(search).set_params(cv=KFold(3, shuffle=True, random_state=2))
    _fit_is_refused(changed, data, "the splits differ")
    with monkeypatch.context() as patch:
        patch.setattr(session, "code_version", lambda: "jaxlstm 0.0.1, jax 0.1")
        _fit_is_refused(
            clone(search), data, r"the code differs \(code: jaxlstm .* there, jaxlstm 0"
        )
    with Store(
        tmp_path / "s", unsealed("search", (tmp_path / "s/search.json").read_bytes())["fingerprint"]
    ):
        _fit_is_refused(clone(search), data, "in use by another search that is running")
    assert trained == []
    assert_same_tables(tables(clone(search).fit(X, y)), first)


# -- other searches in the same folder


BASE: dict[str, Any] = {
    "cv": FOLDS,
    "refit": False,
    "random_state": 3,
    "layout": "loop",
    "n_jobs": 1,
}


def base_search(folder: Any, grid: Any, estimator: Any = None, **settings: Any) -> GridSearch:
    """Scores that the curves tell, so that a shorter run can be read from a longer one."""
    lstm = estimator or LSTMClassifier(units=3, batch_size=8, learning_rate=0.03, dropout=0.2)
    return GridSearch(lstm, grid, checkpoint_dir=folder, **{**BASE, **settings})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry an epoch that is trained."""
    epochs: list[int] = []
    train = Lanes.train_epoch

    def counted(self: Any, active: Any, validate: Any) -> Any:
        epochs.extend(range(int(active.sum())))
        return train(self, active, validate)

    monkeypatch.setattr(Lanes, "train_epoch", counted)
    return epochs


RATES = {"learning_rate": [0.01, 0.1], "epochs": [4]}


@pytest.mark.parametrize(
    ("change", "epochs"),
    [
        ({"grid": {"learning_rate": [0.1, 0.03], "epochs": [4]}}, 3 * 4),
        ({"grid": {"learning_rate": [0.1], "epochs": [2, 3, 4]}}, 0),
        ({"grid": {"learning_rate": [0.1], "epochs": [3, 6]}}, 3 * 6),
        ({"grid": [RATES, {"units": [3, 5], "learning_rate": [0.1], "epochs": [4]}]}, 3 * 4),
        ({"grid": {"dropout": [0.2], "learning_rate": [0.1], "optimizer": ["adam", "sgd"]},
          "epochs": 4}, 3 * 4),
        ({"n_seeds": 2}, 2 * 3 * 4),
        ({"random_state": 4}, 2 * 3 * 4),
        ({"refit": True, "verbose": 1, "n_jobs": 2, "error_score": 0.0}, 5),
        ({"scoring": "accuracy"}, 2 * 3 * 4),
        ({"return_train_score": True}, 2 * 3 * 4),
        ({"return_estimator": True}, 2 * 3 * 4),
        ({"grid": RATES | {"schedule": ["cosine"], "decay_epochs": [4], "epochs": [2]}}, 2 * 3 * 2),
        ({"grid": RATES | {"restore_best_weights": [True], "validation_fraction": [0.25]}}, 24),
    ],
)  # fmt: skip
def test_a_search_takes_what_was_trained_in_another(
    change: dict[str, Any], epochs: int, data: Any, tmp_path: Path, trained: list[int]
) -> None:
    """And ends as it does without a folder; what the other had trained stays there."""
    base_search(tmp_path / "s", RATES).fit(*data)
    assert len(trained) == 2 * 3 * 4
    journal = (tmp_path / "s" / "finished.jsonl").read_bytes()
    settings = dict(change)
    grid, of_lane = settings.pop("grid", RATES), settings.pop("epochs", None)
    estimator = LSTMClassifier(units=3, batch_size=8, learning_rate=0.03, dropout=0.2)
    if of_lane:
        estimator.set_params(epochs=of_lane, verbose=0)
    if settings.get("refit"):
        settings["estimator__epochs"] = 5  # of no cell
    trained.clear()
    new = base_search(tmp_path / "s", grid, estimator).set_params(**settings)
    with contextlib.ExitStack() as stack:
        if settings.get("refit"):
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(
                GridSearch, "_refit", lambda *_: trained.extend(range(5))
            )
        new.fit(*data)
        assert len(trained) == epochs
        assert_same_tables(
            tables(new), tables(clone(new).set_params(checkpoint_dir=None).fit(*data))
        )
    assert (tmp_path / "s" / "finished.jsonl").read_bytes().startswith(journal)
    assert Store.saved(_reader(tmp_path / "s")) == (
        [key for key in Store.saved(_reader(tmp_path / "s")) if key.startswith("weights-")]
    )


@pytest.mark.parametrize("kind", ["random", "halving", "early"])
def test_other_kinds_of_searches_take_it_too(
    kind: str, data: Any, tmp_path: Path, trained: list[int]
) -> None:
    early = {"early_stopping": True, "monitor": "loss", "patience": 0, "min_delta": 0.05}
    lstm = LSTMClassifier(units=3, batch_size=8, epochs=6, **(early if kind == "early" else {}))
    space = {"learning_rate": loguniform(1e-3, 0.3)}
    options: Any = BASE | {"checkpoint_dir": tmp_path / "s"}
    if kind == "random":
        first: Any = RandomSearch(lstm, space, n_iter=2, **options)
        second: Any = RandomSearch(lstm, space, n_iter=3, **options)
        epochs = 1 * 3 * 6
    elif kind == "halving":  # its first iteration is the beginning of what is there
        first = GridSearch(lstm, {"learning_rate": [0.01, 0.1, 0.03]}, **options)
        second = HalvingSearch(lstm, {"learning_rate": [0.01, 0.1, 0.03]}, **options)
        epochs = 0
    else:
        first = GridSearch(lstm, {"learning_rate": [0.1, 0.3]}, **options)
        second = GridSearch(lstm, {"learning_rate": [0.1, 0.3], "epochs": [1, 3, 5]}, **options)
        epochs = 0
    first.fit(*data)
    ended = first.results_["epochs"]
    assert (ended.min() < 5) == (kind == "early")
    trained.clear()
    second.fit(*data)
    assert len(trained) == epochs
    other = clone(second).set_params(checkpoint_dir=None).fit(*data)
    pd.testing.assert_frame_equal(
        *(
            search.results_.drop(columns=["fit_seconds", "compile_seconds"])
            for search in (second, other)
        )
    )
    pd.testing.assert_frame_equal(second.curves_, other.curves_)


def test_lanes_in_work_go_on_in_another_grid(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    grid: dict[str, Any] = {"learning_rate": [0.1], "epochs": [6]}
    first = base_search(tmp_path / "s", grid, checkpoint_every=0)
    assert break_off(monkeypatch, first, data, 4)
    for epochs, left in (([7], 3 + 7 + 7), ([3, 7], 3 * 7), ([6], 2 + 6 + 6)):
        folder = tmp_path / f"{epochs}"
        shutil.copytree(tmp_path / "s", folder)
        trained.clear()
        again = base_search(folder, {"learning_rate": [0.1, 0.01], "epochs": epochs})
        again.set_params(param_grid={"learning_rate": [0.1], "epochs": epochs}).fit(*data)
        assert len(trained) == left
        fresh = clone(again).set_params(checkpoint_dir=None).fit(*data)
        assert_same_tables(tables(again), tables(fresh))
        assert Store.saved(_reader(folder)) == []


CODE = """
from flax import linen
from sklearn.base import BaseEstimator, TransformerMixin
from jaxlstm import FlaxClassifier, LSTMClassifier

THRESHOLD = 0.25

class Scaled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self
    def transform(self, X):
        return X * FACTOR

FACTOR = 2.0

def share(estimator, X):
    return estimator.predict_proba(X)[:, 0]

def scorer(estimator, X, y):
    return float((share(estimator, X) > THRESHOLD).mean())

class Own(LSTMClassifier):
    def score(self, X, y):
        return float(share(self, X).mean())

class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.relu(linen.Dense(2)(x.mean(1))))
"""


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("scorer", "(X)[:, 0]", "(X)[:, 1]"),
        ("estimator", ".mean())\n\nclass Net", ".max())\n\nclass Net"),
        ("step", "FACTOR = 2.0", "FACTOR = 3.0"),
        ("network", "relu", "tanh"),
        ("scorer", "def share(estimator, X):", "def share(estimator, X):\n    # Words."),
    ],
)
def test_edited_code_is_trained_and_scored_anew(
    kind: str, before: str, after: str, data: Any, tmp_path: Path, trained: list[int]
) -> None:
    def search(source: str, folder: Any) -> GridSearch:
        code = types.ModuleType("a_users_module")
        exec(compile(source, "<stdin>", "exec"), code.__dict__)
        lstm = LSTMClassifier(units=2, batch_size=8, epochs=1)
        settings: dict[str, Any] = {}
        if kind == "scorer":
            settings["scoring"] = code.scorer
        elif kind == "estimator":
            lstm = code.Own(units=2, batch_size=8, epochs=1)
            settings["return_train_score"] = True
        elif kind == "step":
            lstm = make_pipeline(code.Scaled(), lstm)
        else:
            lstm = FlaxClassifier(code.Net(), batch_size=8, epochs=1)
        name = "lstmclassifier__l2" if kind == "step" else "l2"
        return base_search(folder, {name: [0.0]}, lstm, **settings)

    assert CODE.count(before) == 1
    edited = CODE.replace(before, after)
    first = search(CODE, tmp_path / "s").fit(*data)
    trained.clear()
    again = search(CODE, tmp_path / "s").fit(*data)
    assert trained == []
    second = search(edited, tmp_path / "s").fit(*data)
    fresh = search(edited, None).fit(*data)
    assert_same_tables(tables(again), tables(first))
    assert_same_tables(tables(second), tables(fresh))
    assert len(trained) == (3 if "Words" in after else 6)
    is_same = second.curves_.equals(first.curves_) and second.best_score_ == first.best_score_
    assert is_same == ("Words" in after)


# -- the refit


def refitted(folder: Any, pipeline: bool = False, **settings: Any) -> GridSearch:
    lstm: Any = LSTMClassifier(units=3, batch_size=8, epochs=6, dropout=0.2, warm_start=True)
    lstm.set_params(**settings)
    name = "l2"
    if pipeline:
        lstm, name = make_pipeline(FunctionTransformer(), lstm), "lstmclassifier__l2"
    return base_search(folder, {name: [0.01]}, lstm, refit=True, checkpoint_every=0)


def last_of(search: GridSearch) -> Any:
    model = search.best_estimator_
    return model[-1] if hasattr(model, "steps") else model


@pytest.mark.parametrize(
    ("pipeline", "settings"),
    [
        (False, {}),
        (True, {}),
        (False, {"early_stopping": True, "monitor": "loss", "patience": 0, "min_delta": 0.02,
                 "epochs": 40, "restore_best_weights": True, "learning_rate": 0.1}),
    ],
)  # fmt: skip
def test_a_search_killed_in_its_refit_goes_on_with_it(
    pipeline: bool,
    settings: Any,
    data: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: list[int],
    assert_same_weights: Any,
) -> None:
    whole = refitted(None, pipeline, **settings).fit(*data)
    total = len(last_of(whole).history_["loss"])
    search = refitted(tmp_path / "s", pipeline, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(GridSearch, "_refit", lambda *_: None)
        search.fit(*data)
    assert break_off(monkeypatch, search, data, 3)  # epochs of the refit
    trained.clear()
    for left in (total - 3, 0):
        again = clone(search).fit(*data)
        assert len(trained) == left
        trained.clear()
        model, expected = last_of(again), last_of(whole)
        assert_same_weights(model.params_, expected.params_)
        assert repr(model.history_) == repr(expected.history_)
        assert model.best_epoch_ == expected.best_epoch_
        assert not {name for name in vars(model) if "checkpoint" in name}
        pickle.dumps(again)
        # What comes back can be trained on, like the one that was never saved.
        X, y = data
        once, more = clone(whole).fit(X, y), again
        for one in (once, more):
            last_of(one).set_params(epochs=2, early_stopping=False).fit(X, y)
        assert_same_weights(last_of(more).params_, last_of(once).params_)
        trained.clear()


@pytest.mark.parametrize("saved", [True, False])
def test_ctrl_c_in_the_refit_returns_what_is_finished(
    saved: bool, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    search = refitted(tmp_path / "s" if saved else None)
    whole = refitted(None).fit(*data)
    record, epochs = LaneRun.record, []

    def interrupted(run: LaneRun, problem: Any, *args: Any) -> None:
        record(run, problem, *args)
        epochs.append(len(problem.trials))
        if epochs.count(1) == 4:
            signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGINT)
            time.sleep(0.5)

    with monkeypatch.context() as patch:
        patch.setattr(LaneRun, "record", interrupted)
        words = "is saved, and the same fit goes on" if saved else "is lost"
        with pytest.warns(
            RuntimeWarning, match=f"all 3 fits are finished, the refit .*{words}"
        ) as seen:
            search.fit(*data)
    assert seen[0].filename == __file__
    assert search.interrupted_
    assert not hasattr(search, "best_estimator_")
    assert not hasattr(search, "refit_time_")
    assert_same_tables(tables(search), tables(whole))
    trained.clear()
    search.fit(*data)
    assert len(trained) == (2 if saved else 3 * 6 + 6)
    assert not search.interrupted_
    assert repr(search.best_estimator_.history_) == repr(whole.best_estimator_.history_)


def test_a_copied_journal_is_not_believed(data: Any, tmp_path: Path, trained: list[int]) -> None:
    X, y = data
    expected = tables(base_search(None, RATES).fit(X, y))
    base_search(tmp_path / "seed", RATES, random_state=4).fit(X, y)
    base_search(tmp_path / "data", RATES).fit(X + 1, y)
    for name in ("seed", "data"):
        folder = tmp_path / f"to {name}"
        base_search(folder, {"epochs": [1]}).fit(X, y)
        shutil.copy(tmp_path / name / "finished.jsonl", folder)
        search = base_search(folder, RATES)
        warns = pytest.warns(RuntimeWarning, match="lines 1, 2, .* of another search")
        with warns if name == "data" else contextlib.nullcontext() as caught:
            search.fit(X, y)
        assert caught is None or caught[0].filename == __file__
        assert_same_tables(tables(search), expected)


def test_a_folder_with_nothing_of_a_search_says_so(
    data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base_search(tmp_path / "s", {"epochs": [1]}).fit(*data)
    base_search(tmp_path / "s", {"epochs": [1, 2]}).fit(*data)
    assert not caplog.records
    base_search(tmp_path / "s", {"epochs": [1]}, random_state=5).fit(*data)
    (record,) = caplog.records
    assert "none of its 6 finished fits is one of this search's" in record.getMessage()


def make_damage(folder: Path, rng: random.Random) -> str:
    """Flips bits of, deletes or doubles a part of a file, or the file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(rng.choice([files, [one for one in files if one.parent == folder]]))
    content = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "flip", "cut", "double", "delete", "copy", "empty"])
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    if kind == "flip":
        for _ in range(rng.choice([1, 1, 1, 3])):
            if content:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[start:end]
    elif kind == "double":
        content[end:end] = content[start:end]
    elif kind == "empty":
        content.clear()
    path.write_bytes(content)
    if kind == "delete":
        path.unlink()
    elif kind == "copy":
        to = rng.choice([path.with_name(f"{path.name}-1"), rng.choice(files)])
        to.write_bytes(content)
    return f"{kind} {path.relative_to(folder)}"


def file_bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def restore(folder: Path, content: dict[str, bytes]) -> None:
    """Makes a folder's files what they were."""
    there = file_bytes(folder)
    for name in there.keys() - content.keys():
        (folder / name).unlink()
    for name, text in content.items():
        if there.get(name) != text:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)


# Orbax forgets coroutines when it meets a damaged save.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    "count", [20, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(20_000)])]
)
def test_damage_is_said_or_without_effect(
    count: int, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any damage to any file the table is the same, or a sentence names the file.

    All that a search learns from a folder is what a store gives; for each thing that damage makes of
    that a search is done.
    """
    monkeypatch.setattr(os, "fsync", lambda file: None)
    whole, folder = tmp_path / "s", tmp_path / "damaged"
    grid = {"units": [2], "epochs": [1, 3], "learning_rate": [0.1]}
    search = base_search(whole, grid, return_estimator=True, checkpoint_every=0)
    search.set_params(cv=KFold(2, shuffle=True, random_state=1))
    expected = tables(clone(search).set_params(checkpoint_dir=None).fit(*data))
    # A lane is finished, another one in work.
    assert break_off(monkeypatch, search, data, 6)
    content = file_bytes(whole)
    fingerprint = unsealed("search", content["search.json"])["fingerprint"]
    states: dict[str, tuple[Any, Any]] = {}  # what is saved under a key: what it is like, and it
    load = Store.load

    def noted(store: Store, key: str, like: Any) -> Any:
        found = load(store, key, like)
        if found is not None:
            states[key] = jax.tree.map(lambda leaf: leaf, found[0]), found
        return found

    def fit() -> GridSearch:
        new = clone(search).set_params(checkpoint_dir=folder, checkpoint_every=60)
        return new.fit(*data)

    shutil.copytree(whole, folder)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "load", noted)
        fit()
    assert {key.partition("-")[0] for key in states} == {"chunk", "weights"}

    def read(store: Store, key: str, changed: set[str]) -> bool:
        if not any(name.startswith(f"states/{key}/") for name in changed):
            return True
        like, right = states[key]
        found = store.load(key, like)
        if found is not None:
            assert found[1] == right[1]
            for one, other in zip(*map(jax.tree.leaves, (found[0], right[0])), strict=True):
                assert np.asarray(as_words(one)).tobytes() == np.asarray(as_words(other)).tobytes()
        return found is not None

    rng = random.Random(count)
    seen: set[Any] = set()
    refused = 0
    for number in range(count):
        if folder.exists():
            restore(folder, content)
        else:
            shutil.copytree(whole, folder)
        what = [make_damage(folder, rng) for _ in range(rng.choice([1, 1, 2]))]
        said, refusal = f"{number}: {what}", ""
        there = file_bytes(folder)
        changed = {name for name in there | content if there.get(name) != content.get(name)}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with Store(folder, fingerprint) as store:
                    believed = json.dumps(store.finished(), sort_keys=True), str(store.notes)
                    kept = tuple(read(store, key, changed) for key in states)
            except ValueError as error:
                refusal = str(error)
            except AssertionError as error:
                raise AssertionError(said) from error
            if refusal:
                assert re.search("its search.json is (damaged|missing)", refusal), said
                refused += 1
                continue
            if (believed, kept) in seen:
                continue
            seen.add((believed, kept))
            try:
                assert_same_tables(tables(fit()), expected)
            except AssertionError as error:
                named = any("notes.json" in str(one.message) for one in caught)
                if not named:
                    raise AssertionError(said) from error
            shutil.rmtree(folder)
    print(f"{refused} refused, {len(seen)} searches")
    assert refused < count / 2
    gc.collect()


def as_words(leaf: Any) -> Any:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


@pytest.mark.parametrize("seed", [None, np.random.RandomState(0)])
def test_a_search_without_a_seed_cannot_go_on(
    seed: Any, data: Any, tmp_path: Path, no_training: None
) -> None:
    search = make_search(tmp_path / "s", **SMALL).set_params(random_state=seed)
    _fit_is_refused(search, data, "checkpoint_dir needs a random_state that is an integer.*; got")
    assert not (tmp_path / "s").exists()


def test_a_bad_folder_is_said_before_anything_is_trained(
    data: Any, tmp_path: Path, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.md").write_text("")
    for folder, error, message in (
        ("file", ValueError, "is a file"),
        ("file/s", OSError, "cannot be written: .*Not a directory"),
        ("thesis", ValueError, "a folder with other files in it, such as 'text.md'"),
    ):
        _fit_is_refused(make_search(tmp_path / folder, **SMALL), data, message, error)
    search = make_search(tmp_path / "s", **SMALL)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000))
        _fit_is_refused(
            search, data, "too little space: the search may need .* 20.0 kB are", OSError
        )
    _fit_is_refused(
        search.set_params(checkpoint_every=-1), data, "every must be seconds, 0 or more, got -1"
    )


@pytest.mark.parametrize("what", ["states", "records"])
def test_a_disk_that_fills_up_costs_the_saves_only(
    what: str, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tables(make_search(None, **SMALL).fit(*data))
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: Any, **__: Any) -> None:
        raise full

    grid: Any = {"param_grid": {"epochs": [1], "dropout": [0.1, 0.2]}}
    search = make_search(tmp_path / "s", **grid)
    with monkeypatch.context() as patch:
        if what == "states":
            grid["param_grid"]["epochs"] = [2]
            expected = tables(make_search(None, **grid).fit(*data))
            search.set_params(**grid)
            patch.setattr(saves, "save", fail)
        else:
            patch.setattr(Journal, "append", fail)
        with pytest.warns(RuntimeWarning, match="No space left on device") as caught:
            search.fit(*data)
    assert len(caught) == 1
    assert str(tmp_path / "s") in str(caught[0].message)
    assert caught[0].filename == __file__
    assert_same_tables(tables(search), expected)


@pytest.mark.parametrize("backend", [None, pytest.param("loky", marks=pytest.mark.slow)])
def test_estimators_are_kept_through_a_kill(
    backend: str | None, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is the fit done alone, whether it was trained before the kill or after it."""
    X, y = data
    settings: dict[str, Any] = {"return_estimator": True, "n_jobs": 1}
    grid = [{**EPOCHS, "standardize": [True]}, {**STOPPING, "epochs": [3]}]
    search = make_search(tmp_path, param_grid=grid, **settings)
    assert break_off(monkeypatch, search, data, 14)
    assert any(key.startswith("weights-") for key in Store.saved(_reader(tmp_path)))
    with joblib.parallel_config(backend=backend) if backend else contextlib.nullcontext():
        search = clone(search).fit(*data)
    assert len(search.estimators_) == len(search.results_)
    again = clone(search).fit(*data)
    for row, model, read in zip(
        search.results_.itertuples(), search.estimators_, again.estimators_, strict=True
    ):
        train, test = list(FOLDS.split(X, y))[row.fold]
        alone = clone(search.estimator).set_params(**search.cv_results_["params"][row.cell])
        alone.set_params(random_state=row.seed).fit(X[train], y[train])
        expected = alone.predict_proba(X[test])
        found = model.predict_proba(X[test])
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        np.testing.assert_array_equal(read.predict_proba(X[test]), found)
        assert model.score(X[test], y[test]) == row.val_accuracy or alone.early_stopping
    search.set_params(return_estimator=False)
    pd.testing.assert_frame_equal(search.fit(*data).results_, again.results_)


def test_a_failed_fit_has_no_estimator(data: Any) -> None:
    search = GridSearch(
        LSTMClassifier(units=3, epochs=2, optimizer="sgd"),
        {"learning_rate": [0.1, 1e30]},
        cv=FOLDS,
        random_state=0,
        refit=False,
        return_estimator=True,
    )
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
        search.fit(*data)
    failed = search.results_["status"] == "failed"
    assert failed.any()
    assert [model is None for model in search.estimators_] == failed.tolist()
