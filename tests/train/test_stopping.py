"""Stopping, kept weights and the plateau schedule against Keras's own callbacks."""

from __future__ import annotations

import types
import warnings
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from jaxlstm.train import stopping
from jaxlstm.train.hyperparameters import METRICS

pytestmark = pytest.mark.usefixtures("strict_ranks")

EPOCHS = 24

# Quarters and halves: sums and comparisons are exact, and ties happen.
VALUES = st.integers(-12, 12).map(lambda n: n / 4)
DELTAS = st.sampled_from([0.0, 0.25, 0.5, 2.0])
COUNTS = st.integers(0, 6)

SETTINGS = st.fixed_dictionaries(
    {
        "early_stopping": st.booleans(),
        "monitor": st.sampled_from(METRICS),
        "patience": COUNTS,
        "min_delta": DELTAS,
        "start_from_epoch": COUNTS,
        "best_monitor": st.sampled_from([None, *METRICS]),
        "plateau_monitor": st.sampled_from(METRICS),
        "plateau_factor": st.sampled_from([0.5, 0.25, 0.0625]),
        "plateau_patience": COUNTS,
        "plateau_min_delta": DELTAS,
        "cooldown": COUNTS,
        "min_lr": st.sampled_from([0.0, 2**-10, 2**-3, 1.0, 2.0]),
    }
)
CURVES = st.lists(
    st.tuples(st.booleans() | st.just(True), VALUES, VALUES, VALUES, VALUES),
    min_size=EPOCHS,
    max_size=EPOCHS,
)


def scan(numbers: Any, metrics: Any, validated: Any) -> stopping.Stopping:
    """The state after every epoch."""

    def epoch(state: Any, inputs: Any) -> Any:
        state = stopping.update(numbers, state, *inputs)
        return state, state

    start = stopping.init(numbers, metrics.dtype)
    inputs = metrics, jnp.arange(len(metrics), dtype=jnp.int32), validated
    return jax.lax.scan(epoch, start, inputs)[1]


run = jax.jit(scan)


class KerasModel:
    """What callbacks see of a model; its weights are the number of the epoch."""

    def __init__(self) -> None:
        self.optimizer = types.SimpleNamespace(learning_rate=1.0)
        self.metrics: list[Any] = []
        self.stop_training = False
        self.weights = self.saved = -1

    def get_weights(self) -> int:
        return self.weights

    def set_weights(self, weights: int) -> None:
        self.weights = weights

    def save_weights(self, *_: Any, **__: Any) -> None:
        self.saved = self.weights


def run_keras(settings: dict[str, Any], metrics: Any, validated: Any) -> dict[str, list[Any]]:
    """What Keras's callbacks do after every epoch until they stop the training."""

    def mode(monitor: str) -> dict[str, str]:
        # "auto" asks a compiled model's metrics.
        return {"monitor": monitor, "mode": "max" if "accuracy" in monitor else "min"}

    early = keras.callbacks.EarlyStopping(
        **mode(settings["monitor"]),
        min_delta=settings["min_delta"],
        patience=settings["patience"],
        start_from_epoch=settings["start_from_epoch"],
        restore_best_weights=True,
    )
    plateau = keras.callbacks.ReduceLROnPlateau(
        **mode(settings["plateau_monitor"]),
        factor=settings["plateau_factor"],
        patience=settings["plateau_patience"],
        min_delta=settings["plateau_min_delta"],
        cooldown=settings["cooldown"],
        min_lr=settings["min_lr"],
    )
    checkpoint = keras.callbacks.ModelCheckpoint(
        "unused.weights.h5",
        **mode(settings["best_monitor"] or "loss"),
        save_best_only=True,
        save_weights_only=True,
    )
    model = KerasModel()
    for callback in (early, plateau, checkpoint):
        callback.set_model(model)
        callback.on_train_begin()
    seen: dict[str, list[Any]] = {"stopped": [], "kept": [], "rate": [], "counts": []}
    for epoch, (row, has_validation) in enumerate(zip(metrics, validated, strict=True)):
        model.weights = epoch
        logs = dict(zip(METRICS, map(float, row), strict=True))
        if not has_validation:
            logs = {name: value for name, value in logs.items() if "val_" not in name}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*which is not available")
            early.on_epoch_end(epoch, logs)
            plateau.on_epoch_end(epoch, logs)
        if checkpoint.monitor in logs:  # else Keras saves whatever there is
            checkpoint.on_epoch_end(epoch, logs)
        restored = -1 if early.best_weights is None else early.best_weights
        stopped = model.stop_training and settings["early_stopping"]
        seen["stopped"].append(stopped)
        seen["kept"].append(restored if settings["best_monitor"] is None else model.saved)
        seen["rate"].append(model.optimizer.learning_rate)
        seen["counts"].append((early.wait, plateau.wait, plateau.cooldown_counter))
        if stopped:
            break
    return seen


def arrays(curves: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray([row[1:] for row in curves], np.float32), np.asarray(
        [row[0] for row in curves]
    )


def last_improved(states: stopping.Stopping) -> list[int]:
    """The epoch whose weights are kept, after every epoch; -1 while there is none."""
    epochs = np.where(states.improved, np.arange(len(states.improved)), -1)
    return np.maximum.accumulate(epochs).tolist()


@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(SETTINGS, CURVES)
def test_equals_keras_s_callbacks(hyperparameters: Any, settings: Any, curves: Any) -> None:
    metrics, validated = arrays(curves)
    wanted = run_keras(settings, metrics, validated)
    got = run(hyperparameters(learning_rate=1.0, **settings), metrics, validated)
    epochs = len(wanted["stopped"])
    assert got.stopped[:epochs].tolist() == wanted["stopped"]
    assert last_improved(got)[:epochs] == wanted["kept"]
    assert got.plateau_rate[:epochs].tolist() == wanted["rate"]
    counts = got.wait.tolist(), got.plateau_wait.tolist(), got.plateau_cooldown.tolist()
    assert list(zip(*counts, strict=True))[:epochs] == wanted["counts"]
    assert np.isfinite(got.kept_best).tolist()[:epochs] == [kept >= 0 for kept in wanted["kept"]]
    # What has stopped stays so, and keeps what it had.
    for name, leaf in got._asdict().items():
        if name == "improved":
            assert not np.any(leaf[epochs:])
        else:
            assert np.all(leaf[epochs:] == leaf[epochs - 1])


def falling(start: float = 3.0) -> np.ndarray:
    """Metrics ``[EPOCHS, 4]`` of which all four improve each epoch."""
    steps = np.arange(EPOCHS, dtype=np.float32)
    return np.stack([start - steps, start + steps] * 2, axis=1)


ALL = np.ones(EPOCHS, bool)


@pytest.mark.parametrize("monitor", METRICS)
def test_directions(monitor: str, hyperparameters: Any) -> None:
    """Less is better of a loss, more of an accuracy, below 0, too."""
    fields = {"early_stopping": True, "monitor": monitor, "plateau_monitor": monitor}
    numbers = hyperparameters(**fields, patience=2, plateau_patience=2, plateau_factor=0.5)
    better, worse = run(numbers, falling(), ALL), run(numbers, -falling(), ALL)
    assert np.all(better.improved)
    assert not np.any(better.stopped)
    assert len(set(better.plateau_rate.tolist())) == 1
    assert worse.improved.tolist() == [True] + [False] * (EPOCHS - 1)
    assert worse.stopped.tolist() == [False, False] + [True] * (EPOCHS - 2)
    assert worse.plateau_rate[2] == worse.plateau_rate[1] / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("monitor", METRICS)
def test_a_metric_that_is_not_finite_is_no_improvement(
    monitor: str, bad: float, hyperparameters: Any
) -> None:
    """Not at first either, and a number after it is one."""
    metrics = falling()
    metrics[:3] = metrics[8] = bad
    fields = {"monitor": monitor, "plateau_monitor": monitor, "plateau_patience": 3}
    for best_monitor in (None, monitor):
        got = run(hyperparameters(**fields, best_monitor=best_monitor), metrics, ALL)
        assert got.improved.tolist() == [False] * 3 + [True] * 5 + [False] + [True] * 15
        assert got.wait.tolist() == [1, 2, 3] + [0] * 5 + [1] + [0] * 15
        assert got.plateau_wait.tolist() == [1, 2, 0] + [0] * 5 + [1] + [0] * 15
        assert not any(np.any(np.isnan(leaf)) for leaf in got)
    for patience in (0, 1, 2):  # Keras never stops after the first epoch
        got = run(hyperparameters(**fields, early_stopping=True, patience=patience), metrics, ALL)
        assert got.stopped.tolist() == [False] + [True] * (EPOCHS - 1)


@pytest.mark.parametrize("best_monitor", [None, "val_accuracy"])
def test_without_validation_what_monitors_it_stays_as_it_is(
    best_monitor: str | None, hyperparameters: Any
) -> None:
    numbers = hyperparameters(early_stopping=True, best_monitor=best_monitor, patience=1)
    state = run(numbers, falling()[:5], ALL[:5])
    state = jax.tree.map(lambda leaf: leaf[3], state)
    for metrics in (falling()[9], -falling()[9], np.full(4, np.nan, np.float32)):
        after = stopping.update(
            numbers, state, jnp.asarray(metrics), jnp.int32(5), jnp.asarray(False)
        )
        assert after == state._replace(improved=after.improved)
        assert state.improved
        assert not after.improved


def test_lanes_equal_each_alone_and_values_do_not_retrace(hyperparameters: Any) -> None:
    rng = np.random.default_rng(0)
    settings = [
        hyperparameters(
            early_stopping=bool(lane % 5),
            learning_rate=rng.random() + 0.1,
            monitor=METRICS[lane % 4],
            plateau_monitor=METRICS[-lane % 4],
            best_monitor=[None, *METRICS][lane % 5],
            patience=lane % 7,
            min_delta=rng.random() / 4,
            start_from_epoch=lane % 3,
            plateau_patience=lane % 4,
            plateau_factor=rng.random() + 1e-3,
            cooldown=lane % 3,
        )
        for lane in range(20)
    ]
    metrics = rng.normal(size=(20, EPOCHS, 4)).astype(np.float32)
    validated = rng.random((20, EPOCHS)) < 0.7
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *settings)
    run(settings[0], metrics[0], validated[0])
    before = run._cache_size()
    alone = [run(*lane) for lane in zip(settings, metrics, validated, strict=True)]
    assert run._cache_size() == before
    together = jax.jit(jax.vmap(scan))(stacked, metrics, validated)
    for lane, wanted in enumerate(alone):
        for name, leaf in wanted._asdict().items():
            # The rate is a product of up to 24 factors.
            np.testing.assert_allclose(getattr(together, name)[lane], leaf, rtol=1e-6)
    stopped = np.asarray([bool(lane.stopped[-1]) for lane in alone])
    assert stopped.any()
    assert not stopped.all()


@pytest.mark.parametrize(
    ("dtype", "x64"), [(np.float32, False), (np.float32, True), (np.float64, True)]
)
def test_types_stay(dtype: Any, x64: bool, hyperparameters: Any) -> None:
    with jax.enable_x64(x64):
        numbers = hyperparameters()
        state = stopping.init(numbers, dtype)
        after = stopping.update(numbers, state, jnp.ones(4, dtype), jnp.int32(0), jnp.asarray(True))
        assert [leaf.dtype for leaf in after] == [leaf.dtype for leaf in state]
        assert [leaf.shape for leaf in after] == [()] * len(state)
        floats = {leaf.dtype for leaf in after if jnp.issubdtype(leaf.dtype, jnp.floating)}
        assert floats == {np.dtype(dtype)}
