"""Stopping, kept weights and the plateau schedule of a trial against Keras's own callbacks."""

from __future__ import annotations

import types
from typing import Any

import jax
import keras
import numpy as np
import pytest
from trials import (
    ROWS,
    TRAIN,
    VALIDATION,
    assert_same,
    make_data,
    raw,
    start,
    train_epoch,
)

from jaxlstm.nn import MLP
from jaxlstm.train.hyperparameters import METRICS
from jaxlstm.train.trial import Metrics, State, Structure

pytestmark = pytest.mark.usefixtures("x64")

EPOCHS = 14
STRUCTURE = Structure(MLP(3, (6,), "tanh"), 3)


class Model:
    """What Keras's callbacks see of a model: weights, a rate, and the wish to stop."""

    def __init__(self, rate: float) -> None:
        self.optimizer = types.SimpleNamespace(learning_rate=rate)
        self.metrics: list[Any] = []
        self.stop_training = False
        self.weights = self.saved = None

    def get_weights(self) -> Any:
        return self.weights

    def set_weights(self, weights: Any) -> None:
        self.weights = weights

    def save_weights(self, *_: Any, **__: Any) -> None:
        self.saved = self.weights


def mode(monitor: str, mode: str = "auto") -> dict[str, str]:
    usual = "max" if "accuracy" in monitor else "min"
    return {"monitor": monitor, "mode": usual if mode == "auto" else mode}


class Callbacks:
    """Keras's three callbacks with a trial's settings."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.model = Model(numbers["learning_rate"])
        self.best_monitor = numbers.get("best_monitor")
        self.early = keras.callbacks.EarlyStopping(
            **mode(numbers["monitor"], numbers.get("mode", "auto")),
            baseline=numbers.get("baseline"),
            min_delta=numbers.get("min_delta", 0.0),
            patience=numbers["patience"],
            start_from_epoch=numbers.get("start_from_epoch", 0),
            restore_best_weights=True,
        )
        self.checkpoint = keras.callbacks.ModelCheckpoint(
            "unused.weights.h5",
            **mode(self.best_monitor or "loss"),
            save_best_only=True,
            save_weights_only=True,
        )
        self.plateau = keras.callbacks.ReduceLROnPlateau(
            **mode(numbers.get("plateau_monitor", "val_loss")),
            factor=numbers.get("plateau_factor", 0.1),
            patience=numbers.get("plateau_patience", 10),
            min_delta=numbers.get("plateau_min_delta", 1e-4),
            cooldown=numbers.get("cooldown", 0),
            min_lr=numbers.get("min_lr", 0.0),
        )
        self.all = [self.early, self.checkpoint]
        self.all += [self.plateau] if numbers.get("schedule") == "plateau" else []
        for callback in self.all:
            callback.set_model(self.model)
            callback.on_train_begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, float], weights: Any) -> None:
        self.model.weights = weights
        for callback in self.all:
            callback.on_epoch_end(epoch, dict(logs))

    @property
    def kept(self) -> Any:
        """The weights of the best epoch so far."""
        return self.model.saved if self.best_monitor else self.early.best_weights


def logs_of(metrics: Metrics) -> dict[str, float]:
    """An epoch's metrics as Keras names and defines them."""
    return {
        "loss": float(metrics.train_loss) / len(TRAIN),
        "accuracy": float(metrics.train_metrics[0]) / len(TRAIN),
        "val_loss": float(metrics.validation_loss) / len(VALIDATION) + float(metrics.penalty),
        "val_accuracy": float(metrics.validation_metrics[0]) / len(VALIDATION),
    }


CASES: dict[str, dict[str, Any]] = {
    "patience 0": {"patience": 0, "monitor": "val_loss"},
    "patience 2": {"patience": 2, "monitor": "val_loss", "l2": 0.01},
    "an accuracy": {"patience": 3, "monitor": "val_accuracy"},
    "a delta": {"patience": 1, "monitor": "loss", "min_delta": 0.02},
    "a late start": {"patience": 1, "monitor": "val_loss", "start_from_epoch": 5},
    "another best": {"patience": 4, "monitor": "accuracy", "best_monitor": "val_loss"},
    "the best accuracy": {"patience": 9, "monitor": "loss", "best_monitor": "val_accuracy"},
    "a baseline": {"patience": 4, "monitor": "val_loss", "baseline": 0.9, "min_delta": 0.01},
    "a baseline of an accuracy": {"patience": 3, "monitor": "accuracy", "baseline": 0.45},
    "the other mode": {"patience": 2, "monitor": "val_loss", "mode": "max", "baseline": 2.0},
    "the other mode of an accuracy": {"patience": 2, "monitor": "accuracy", "mode": "min"},
    "plateau": {
        **{"patience": 99, "monitor": "val_loss", "schedule": "plateau"},
        **{"plateau_factor": 0.3, "plateau_patience": 2, "cooldown": 1, "min_lr": 0.01},
    },
    "plateau of an accuracy": {
        **{"patience": 8, "monitor": "val_loss", "best_monitor": "accuracy"},
        **{"schedule": "plateau", "plateau_monitor": "accuracy", "plateau_patience": 1},
        **{"plateau_factor": 0.5, "plateau_min_delta": 0.05},
    },
}


@pytest.mark.parametrize("numbers", CASES.values(), ids=CASES)
def test_equals_a_plain_loop_with_keras_callbacks(
    numbers: dict[str, Any], hyperparameters: Any
) -> None:
    """Which epoch is the last, whose weights are kept, and every epoch's learning rate.

    The labels are noise and the rate is high, so that all metrics go up and down.
    """
    numbers = {"optimizer": "sgd", "learning_rate": 0.9, "momentum": 0.8, **numbers}
    h = hyperparameters(early_stopping=True, batch_size=7, **numbers)
    data = make_data(3, 2, dtype=np.float64)
    callbacks = Callbacks(numbers)
    state = start(STRUCTURE, h, data)
    bests, epoch = [], 0
    for epoch in range(EPOCHS):
        rate = callbacks.model.optimizer.learning_rate
        state, metrics = train_epoch(STRUCTURE, state, h, data, ROWS)
        # Keras keeps what it set in float32.
        assert metrics.learning_rate == pytest.approx(float(rate), rel=1e-6)
        callbacks.on_epoch_end(epoch, logs_of(metrics), raw(state.weights))
        assert bool(metrics.stopped) == callbacks.model.stop_training
        if callbacks.kept is not None and epoch >= numbers.get("start_from_epoch", 0):
            assert_same(state.best, callbacks.kept)
        bests.append(bool(metrics.improved))
        if metrics.stopped:
            break
    assert sum(bests) > 0
    if numbers["patience"] < 8:
        assert epoch < EPOCHS - 1, "the case never stops"
        assert not bests[-1]
    if numbers.get("schedule") == "plateau":
        assert metrics.learning_rate < 0.9
    stays(state, h, data)


def stays(state: State, h: Any, data: Any) -> None:
    """A stopped trial is bit for bit the same ever after, and says that it sat out."""
    if not state.stopping.stopped:
        return
    after = state
    for _ in range(2):
        after, metrics = train_epoch(STRUCTURE, after, h, data, ROWS)
        assert not metrics.trained
        assert not metrics.improved
        assert metrics.stopped
    assert_same(after, state)


def test_watching_changes_no_update(hyperparameters: Any) -> None:
    """Early stopping, best weights and what they monitor leave the epochs before as they are."""
    data = make_data(3, 2, dtype=np.float64)
    seen = []
    for numbers in (
        {},
        {"early_stopping": True, "patience": 50, "monitor": "accuracy"},
        {"restore_best_weights": True, "best_monitor": "val_accuracy", "patience": 0},
    ):
        h = hyperparameters(learning_rate=0.05, batch_size=5, **numbers)
        state = start(STRUCTURE, h, data)
        for _ in range(3):
            state, _ = train_epoch(STRUCTURE, state, h, data, ROWS)
        seen.append((state.weights, state.slots, state.step, state.epoch))
    assert_same(seen[1], seen[0])
    assert_same(seen[2], seen[0])


def test_a_trial_that_diverges_stops(hyperparameters: Any) -> None:
    data = make_data(3, 2, dtype=np.float64)
    h = hyperparameters(optimizer="sgd", learning_rate=1e300, l2=1.0, batch_size=5)
    state = start(STRUCTURE, h, data)
    while not state.stopping.stopped:
        state, metrics = train_epoch(STRUCTURE, state, h, data, ROWS)
        assert state.epoch < 4
    assert not np.isfinite(metrics.train_loss)
    assert not metrics.improved
    stays(state, h, data)


def test_the_kept_weights_are_finite_though_the_last_are_not(hyperparameters: Any) -> None:
    data = make_data(3, 2, dtype=np.float64)
    h = hyperparameters(
        **{"schedule": "piecewise", "boundaries": (1.9,), "values": (0.1, 1e200)},
        **{"optimizer": "sgd", "batch_size": 5, "l2": 1e-3, "restore_best_weights": True},
    )
    state, improved = start(STRUCTURE, h, data), []
    for _ in range(4):
        state, metrics = train_epoch(STRUCTURE, state, h, data, ROWS)
        improved.append(bool(metrics.improved))
        if improved[-1]:
            wanted = raw(state.weights)
    assert improved[0]
    assert not improved[-1]
    assert_same(state.best, wanted)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.best))
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.weights))


def test_every_metric_is_watched_by_a_case() -> None:
    watched = {
        numbers.get(name)
        for numbers in CASES.values()
        for name in ("monitor", "best_monitor", "plateau_monitor")
    }
    assert set(METRICS) <= watched
