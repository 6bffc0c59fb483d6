"""What happens to lanes on their way: others take their slots, memory runs out, the user breaks off."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import KFold

from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid import lanes, outcome, program_cache
from jaxlstm.grid import plan as planning
from jaxlstm.grid.scoring import Scoring

# Uneven: 26 rows are 9, 9 and 8.
FOLDS = KFold(3, shuffle=True, random_state=1)

# 21 lanes that end after 1 to 7 epochs, by their number or by themselves.
ENDING: list[dict[str, list[Any]]] = [
    {"epochs": [1, 3, 5], "schedule": ["cosine"]},
    {"epochs": [2, 7], "optimizer": ["sgd"]},
    {
        "early_stopping": [True],
        "patience": [0, 1, 2],
        "validation_fraction": [0.25],
        "restore_best_weights": [True],
        "learning_rate": [0.3],
        "epochs": [7],
    },
]


@pytest.fixture
def few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(planning.MOST_LANES, "cpu", 4)


@pytest.fixture
def small() -> LSTMClassifier:
    return LSTMClassifier(units=4, batch_size=8, dropout=0.2, learning_rate=0.02, epochs=2)


def search(data: Any, estimator: Any, grid: Any, **settings: Any) -> GridSearch:
    settings = {"refit": False, "random_state": 3, "cv": FOLDS, "scoring": "f1_macro"} | settings
    return GridSearch(estimator, grid, **settings).fit(*data)


def timeless(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["fit_seconds", "compile_seconds", "group"])


def assert_same(one: GridSearch, other: GridSearch, **tolerance: float) -> None:
    """Tables of the same numbers; without a tolerance bit for bit."""
    settings: Any = tolerance or {"check_exact": True}
    pd.testing.assert_frame_equal(one.curves_, other.curves_, **settings)
    pd.testing.assert_frame_equal(timeless(one.results_), timeless(other.results_), **settings)


@pytest.fixture
def double(data: Any, x64: None) -> Any:
    return data[0].astype(np.float64), data[1]


TIGHT = {"rtol": 1e-10, "atol": 1e-12}


class Epochs:
    """What each program was started with, epoch by epoch."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.active: list[int] = []


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> Epochs:
    seen = Epochs()
    train_epoch = lanes.Lanes.train_epoch

    def counted(self: lanes.Lanes, active: np.ndarray, validate: np.ndarray) -> Any:
        seen.slots.append(len(active))
        seen.active.append(int(active.sum()))
        return train_epoch(self, active, validate)

    monkeypatch.setattr(lanes.Lanes, "train_epoch", counted)
    return seen


def test_waiting_lanes_take_the_slots_of_those_that_end(
    double: Any, small: Any, few_slots: None, epochs: Epochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "seconds_a_program", lambda: 1e9)  # it never narrows
    before = Counter(program_cache.compilations)
    vmap = search(double, small, ENDING, layout="vmap")
    assert set(epochs.slots) == {4}
    assert (Counter(program_cache.compilations) - before)["train"] <= 1
    one_by_one = np.sort(vmap.results_.groupby(["cell", "fold"])["epochs"].max())
    # Lanes of epochs alone are one, and the slots are mostly in use: the host learns an epoch late.
    lone = vmap.results_[vmap.results_["param_optimizer"] != "sgd"]["epochs"].sum() + 3 * 7
    assert sum(epochs.active) >= lone
    assert len(epochs.slots) <= lone / 4 + one_by_one.max() + len(vmap.results_) / 2
    assert (vmap.results_["epochs"] < vmap.results_["param_epochs"]).any()
    assert_same(vmap, search(double, small, ENDING, layout="loop"), **TIGHT)


def test_the_last_lanes_move_into_a_smaller_program(
    double: Any, small: Any, epochs: Epochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "seconds_a_program", lambda: 0.0)  # it always pays
    before = Counter(program_cache.compilations)
    vmap = search(double, small, ENDING, layout="vmap")
    sizes = sorted(set(epochs.slots), reverse=True)
    assert sizes[0] == 21
    assert len(sizes) > 2
    assert all(narrow <= -(-wide // 2) for wide, narrow in itertools.pairwise(sizes))
    assert epochs.slots == sorted(epochs.slots, reverse=True)
    assert (Counter(program_cache.compilations) - before)["train"] <= len(sizes)
    assert_same(vmap, search(double, small, ENDING, layout="loop"), **TIGHT)


def out_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Programs of more lanes than this find no memory, in their second epoch."""
    train_epoch = lanes.Lanes.train_epoch
    begun: Counter[int] = Counter()

    def limited(self: lanes.Lanes, active: np.ndarray, validate: np.ndarray) -> Any:
        begun[id(self)] += 1
        if len(active) > most and begun[id(self)] > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")
        return train_epoch(self, active, validate)

    monkeypatch.setattr(lanes.Lanes, "train_epoch", limited)


def test_out_of_memory_halves_the_lanes(
    double: Any, small: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    expected = search(double, small, ENDING, layout="loop")
    monkeypatch.setitem(planning.MOST_LANES, "cpu", 16)
    scored: list[int] = []
    score = Scoring.__call__
    monkeypatch.setattr(
        Scoring, "__call__", lambda *args: (scored.append(args[1].index), score(*args))[1]
    )
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "jaxlstm"):
        out_of_memory(patch, most=5)
        vmap = search(double, small, ENDING, layout="vmap")
    said = [record.getMessage() for record in caplog.records if record.name == "jaxlstm"]
    assert [text.split(",")[0] for text in said] == [
        "out of memory: 8 lanes at a time instead of 16",
        "out of memory: 4 lanes at a time instead of 8",
    ]
    assert sorted(scored) == list(range(len(vmap.results_)))  # each trial ends once
    assert_same(vmap, expected, **TIGHT)

    out_of_memory(monkeypatch, most=0)
    cures = (
        r"memory ran out: use a smaller batch_size than \d.*'stream'.*{}memory_limit.*RESOURCE_EX"
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match=cures.format("")):
        search(double, small, ENDING, layout="vmap")
    with pytest.raises(jax.errors.JaxRuntimeError, match=cures.format("fewer n_jobs than 2.*")):
        search(double, small, ENDING, layout="loop", n_jobs=2)


def test_other_errors_of_a_program_are_not_taken_for_memory(
    data: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(lanes.Lanes, "train_epoch", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: something else"):
        search(data, small, {"l2": [0.0, 0.1]}, layout="vmap")


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_lanes_that_diverge_leave_their_neighbours_alone(
    layout: str, data: Any, small: Any, few_slots: None
) -> None:
    diverging = {"optimizer": ["sgd"], "learning_rate": [1e30], "epochs": [1, 4]}
    alone = search(data, small, ENDING, layout=layout)
    with pytest.warns(FitFailedWarning, match="6 of 30 fits failed") as caught:
        mixed = search(data, small, [diverging, *ENDING], layout=layout, error_score=-2.0)
    assert len(caught) == 1
    for name in ("1e+30", "'epochs': 4", "fold 0", "Their score is -2.0"):
        assert name in str(caught[0].message)
    failed = mixed.results_["status"] == "failed"
    assert failed.tolist() == [True] * 6 + [False] * (len(mixed.results_) - 6)
    assert (mixed.results_["score"][failed] == -2).all()
    assert (mixed.results_["epochs"][failed] == 1).all()
    columns = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    others = mixed.curves_[mixed.curves_["cell"] >= 2][columns].reset_index(drop=True)
    close: Any = {"check_exact": True} if layout == "loop" else {"rtol": 1e-4, "atol": 1e-5}
    pd.testing.assert_frame_equal(others, alone.curves_[columns], **close)
    with pytest.raises(ValueError, match=r"The fit of \{.*1e\+30.*\}, fold \d failed: the loss is"):
        search(data, small, [diverging, *ENDING], layout=layout, error_score="raise")


# -- Ctrl-C ---------------------------------------------------------------------------------------


def interrupt_after(monkeypatch: pytest.MonkeyPatch, trials: int, times: int = 1) -> None:
    """A real Ctrl-C, when so many trials are done."""
    score, done = Scoring.__call__, [0]
    lock = threading.Lock()

    def counted(scoring: Any, trial: Any, outcome: Any) -> Any:
        found = score(scoring, trial, outcome)
        with lock:
            done[0] += 1
            due = done[0] == trials
        if due:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
        return found

    monkeypatch.setattr(Scoring, "__call__", counted)


@pytest.fixture
def no_refit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("refitted")

    monkeypatch.setattr(GridSearch, "_refit", fail)


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_interrupted_and_gone_on_with(
    layout: str,
    data: Any,
    small: Any,
    few_slots: None,
    no_refit: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = search(data, small, ENDING, layout=layout)
    assert expected.interrupted_ is False
    settings: dict[str, Any] = {
        "layout": layout,
        "refit": True,
        "n_jobs": 2,
        "checkpoint_dir": tmp_path / "s",
    }
    with monkeypatch.context() as patch:
        interrupt_after(patch, 8)
        with pytest.warns(RuntimeWarning, match=r"Interrupted: \d+ of 24 fits are") as caught:
            broken_off = search(data, small, ENDING, **settings)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert broken_off.interrupted_ is True
    results = broken_off.results_
    left = results["status"] == "interrupted"
    assert 0 < left.sum() <= 16
    assert f"Interrupted: {24 - left.sum()} of 24" in str(caught[0].message)
    assert results["score"][left].isna().all()
    assert (results["epochs"][left] == 0).all()
    pd.testing.assert_frame_equal(
        timeless(results[~left]), timeless(expected.results_[~left]), check_exact=True
    )
    assert not hasattr(broken_off, "best_estimator_")
    assert broken_off.best_score_ == np.nanmax(broken_off.cv_results_["mean_test_score"])

    score, again = Scoring.__call__, []
    monkeypatch.setattr(
        Scoring, "__call__", lambda *args: (again.append(args[1].index), score(*args))[1]
    )
    settings["refit"] = False
    whole = search(data, small, ENDING, **settings)
    assert sorted(again) == results["trial"][left].tolist()
    assert whole.interrupted_ is False
    assert_same(whole, expected)


def test_interrupted_before_anything_is_finished(
    data: Any, small: Any, no_refit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is compiled for the table afterwards."""
    record, done = outcome.LaneRun.record, [0]

    def counted(*args: Any) -> None:
        record(*args)
        done[0] += 1
        if done[0] == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    monkeypatch.setattr(outcome.LaneRun, "record", counted)
    with pytest.raises(KeyboardInterrupt, match="interrupted before a fit was finished"):
        search(data, small, {"epochs": [50], "units": [3, 4]}, layout="loop", n_jobs=1)
    assert done[0] < 5


def test_an_interrupted_search_compiles_nothing_more(
    data: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_cache.clear()
    before = Counter(program_cache.compilations)
    interrupt_after(monkeypatch, 1)
    with pytest.warns(RuntimeWarning, match="Interrupted: 1 of 12"):
        search(data, small, {"units": [2, 3, 4, 5]}, layout="loop", n_jobs=1)
    assert (Counter(program_cache.compilations) - before)["train"] == 1


def test_a_second_interruption_does_not_wait(
    data: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here for a scorer that comes back only when it is told to."""
    scoring, told = threading.Event(), threading.Event()
    score = Scoring.__call__

    def slow(*args: Any) -> Any:
        scoring.set()
        told.wait(60)
        return score(*args)

    def twice() -> None:
        scoring.wait(60)
        for _ in range(2):
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Scoring, "__call__", slow)
    user = threading.Thread(target=twice)
    user.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            search(data, small, {"l2": [0.0, 0.1, 0.2]}, layout="loop", n_jobs=1)
        assert not told.is_set()
        user.join()
    finally:
        told.set()


# -- what the host asks for -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_metrics_come_back_once_an_epoch(
    layout: str, data: Any, small: Any, epochs: Epochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And weights where they are looked at."""
    fetch, metrics, states = lanes.fetch, [0], [0]

    def counted(tree: Any) -> Any:
        is_metrics = len(jax.tree.leaves(tree)) == len(outcome.Metrics._fields)
        (metrics if is_metrics else states)[0] += 1
        return fetch(tree)

    monkeypatch.setattr(lanes, "fetch", counted)
    grid = {"epochs": [2, 5], "l2": [0.0, 0.1]}
    search(data, small, grid, layout=layout, scoring="accuracy")
    assert 0 < metrics[0] <= len(epochs.slots)
    assert len(epochs.slots) == (5 if layout == "vmap" else 5 * 6)
    assert states[0] == 0  # accuracy is counted on the device
    search(data, small, grid, layout=layout)
    assert states[0] == (2 if layout == "vmap" else 2 * 6)


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_ten_thousand_lanes_are_planned(layout: str, data: Any, small: Any) -> None:
    grid = {"learning_rate": np.linspace(1e-3, 1e-1, 1112).tolist(), "units": [3, 4, 5]}
    ten_thousand = GridSearch(small, grid, cv=FOLDS, random_state=0, layout=layout)
    plan = ten_thousand.plan(*data, measure=False)
    assert plan.fits == plan.lanes == 1112 * 9
    assert plan.programs == (1 if layout == "vmap" else 3)
    planned = [place for chunk in plan.chunks for lane in chunk.lanes for place in lane.trials]
    assert sorted(planned) == list(range(plan.fits))
    assert len(plan.chunks) == (1 if layout == "vmap" else plan.lanes)


# -- the best epoch -------------------------------------------------------------------------------

BEST: dict[str, list[Any]] = {
    "restore_best_weights": [True],
    "validation_fraction": [0.25],
    "learning_rate": [0.3],
    "optimizer": ["adam", "sgd"],
}


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_epochs_in_one_run_with_the_best_weights_equal_separate_fits(
    layout: str, double: Any, small: Any
) -> None:
    """Each number of epochs has the best epoch of its own prefix."""
    many = search(double, small, {**BEST, "epochs": [1, 2, 4, 7]}, layout=layout)
    assert many.plan_.lanes == 6
    best = []
    for cell, params in enumerate(many.cv_results_["params"]):
        one = search(double, small, {name: [value] for name, value in params.items()})
        ours = many.results_[many.results_["cell"] == cell].reset_index(drop=True)
        columns = ["seed", "status", "epochs", "train_loss", "val_loss", "val_accuracy", "score"]
        pd.testing.assert_frame_equal(ours[columns], one.results_[columns], **TIGHT)
        curve = many.curves_[many.curves_["cell"] == cell]
        for _, epochs in curve.groupby("fold"):
            values = epochs["val_loss"].to_numpy()
            place = int(values.argmin())
            best.append((params["epochs"] - 1) - place)
            trial = many.results_.set_index("trial").loc[epochs["trial"].iloc[0]]
            assert trial["val_loss"] == values[place]
    assert min(best) == 0
    assert max(best) > 1  # the last epoch is often not the best


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_validation_every_few_epochs_with_early_stopping(
    layout: str, double: Any, small: Any, few_slots: None
) -> None:
    """Patience counts validated epochs; the last epoch is one of them, wherever it lies."""
    grid = {**BEST, "early_stopping": [True], "patience": [0, 1], "epochs": [3, 8]}
    found = search(double, small, grid, layout=layout, validation_freq=2)
    assert found.plan_.lanes == 24  # where it is validated depends on where it ends
    results = found.results_.set_index("trial")
    stopped = results["epochs"] < results["param_epochs"]
    assert 2 < stopped.sum() < 24
    for number, curve in found.curves_.groupby("trial"):
        trial = results.loc[number]
        epoch, loss = curve["epoch"].to_numpy(), curve["val_loss"].to_numpy()
        due = (epoch % 2 == 0) | (epoch == trial["param_epochs"])
        np.testing.assert_array_equal(np.isfinite(loss), due)
        waited, best, ends = 0, np.inf, None
        for place, value in zip(epoch[due], loss[due], strict=True):
            waited, best = (0, value) if value < best else (waited + 1, best)
            if waited >= max(trial["param_patience"], 1) and ends is None:
                ends = place
        assert ends is None or ends == epoch[-1]
        assert stopped[number] == (ends is not None and ends < trial["param_epochs"])
        assert trial["val_loss"] == np.nanmin(loss)
