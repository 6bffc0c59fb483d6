"""Schedules against optax's and Keras's over a whole run of steps, and past its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from jaxlstm.train import schedules

pytestmark = pytest.mark.usefixtures("strict_ranks")

PER_EPOCH = 7  # steps
EPOCHS = 6
STEPS = np.arange(PER_EPOCH * EPOCHS + 5)
RATE = 0.03
TOTAL = PER_EPOCH * EPOCHS

keras_schedules = keras.optimizers.schedules
Schedule = Callable[[Any], Any]


def after_warm_up(epochs: float, schedule: Schedule) -> Schedule:
    steps = round(epochs * PER_EPOCH)
    return optax.join_schedules([optax.linear_schedule(0, RATE, steps), schedule], [steps])


def exponential(epochs: float, rate: float, staircase: bool) -> Schedule:
    return optax.exponential_decay(RATE, epochs * PER_EPOCH, rate, staircase=staircase)


CASES: dict[str, tuple[dict[str, Any], Schedule]] = {
    "constant": ({}, optax.constant_schedule(RATE)),
    "constant, warm-up": (
        {"warmup_epochs": 2},
        after_warm_up(2, optax.constant_schedule(RATE)),
    ),
    "cosine": ({"schedule": "cosine"}, optax.cosine_decay_schedule(RATE, TOTAL)),
    "cosine, alpha": (
        {"schedule": "cosine", "alpha": 0.2},
        optax.cosine_decay_schedule(RATE, TOTAL, alpha=0.2),
    ),
    "cosine, warm-up": (
        {"schedule": "cosine", "alpha": 0.1, "warmup_epochs": 2},
        optax.warmup_cosine_decay_schedule(0, RATE, 2 * PER_EPOCH, TOTAL, 0.1 * RATE),
    ),
    "exponential": (
        {"schedule": "exponential", "decay_rate": 0.7, "decay_epochs": 2},
        exponential(2, 0.7, staircase=False),
    ),
    "exponential, warm-up": (
        {"schedule": "exponential", "decay_rate": 0.7, "decay_epochs": 1.5, "warmup_epochs": 1},
        after_warm_up(1, exponential(1.5, 0.7, staircase=False)),
    ),
    "step": (
        {"schedule": "step", "decay_rate": 0.3, "decay_epochs": 2},
        exponential(2, 0.3, staircase=True),
    ),
    "step, warm-up": (
        {"schedule": "step", "decay_rate": 0.3, "decay_epochs": 1, "warmup_epochs": 3},
        after_warm_up(3, exponential(1, 0.3, staircase=True)),
    ),
    "Keras's cosine": (
        {"schedule": "cosine", "alpha": 0.1},
        keras_schedules.CosineDecay(RATE, TOTAL, alpha=0.1),
    ),
    "Keras's cosine, warm-up": (
        {"schedule": "cosine", "alpha": 0.1, "warmup_epochs": 2},
        keras_schedules.CosineDecay(
            0.0, TOTAL - 2 * PER_EPOCH, 0.1, warmup_target=RATE, warmup_steps=2 * PER_EPOCH
        ),
    ),
    "Keras's exponential": (
        {"schedule": "exponential", "decay_rate": 0.7, "decay_epochs": 2},
        keras_schedules.ExponentialDecay(RATE, 2 * PER_EPOCH, 0.7),
    ),
    "Keras's staircase": (
        {"schedule": "step", "decay_rate": 0.7, "decay_epochs": 2},
        keras_schedules.ExponentialDecay(RATE, 2 * PER_EPOCH, 0.7, staircase=True),
    ),
}


@jax.jit
def run(numbers: Any) -> Any:
    """The rate of every step, with time as a trial counts it."""
    time = jnp.asarray(STEPS / PER_EPOCH, jnp.result_type(float))
    return jax.vmap(lambda epoch: schedules.learning_rate(numbers, epoch))(time)


@pytest.mark.parametrize("name", CASES)
def test_equals_optax_and_keras(name: str, hyperparameters: Any) -> None:
    fields, theirs = CASES[name]
    got = run(hyperparameters(learning_rate=RATE, epochs=EPOCHS, **fields))
    # Theirs rounds in float32 as ours does, at other places: cosine's end is near 0.
    assert_allclose(got, [float(theirs(step)) for step in STEPS], rtol=2e-6, atol=1e-6 * RATE)


def test_different_schedules_are_lanes_of_one_program(hyperparameters: Any) -> None:
    settings = [
        hyperparameters(learning_rate=0.01 * (n + 1), epochs=EPOCHS + n, **fields)
        for n, (fields, _) in enumerate(CASES.values())
    ]
    together = jax.jit(jax.vmap(run))(jax.tree.map(lambda *leaves: np.stack(leaves), *settings))
    for lane, numbers in zip(together, settings, strict=True):
        assert_allclose(lane, run(numbers), rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "exponential"])
class TestEnds:
    def test_starts_at_the_rate_without_warm_up_and_at_0_with(
        self, schedule: str, hyperparameters: Any
    ) -> None:
        plain = run(hyperparameters(learning_rate=RATE, schedule=schedule))
        assert_allclose(plain[0], RATE, rtol=1e-6)
        warm = run(hyperparameters(learning_rate=RATE, schedule=schedule, warmup_epochs=2))
        rise = RATE * np.arange(2 * PER_EPOCH + 1) / (2 * PER_EPOCH)
        assert_allclose(warm[: 2 * PER_EPOCH + 1], rise, rtol=2e-6)

    def test_warm_up_as_long_as_the_run_or_longer(
        self, schedule: str, hyperparameters: Any
    ) -> None:
        for warmup_epochs in (EPOCHS, EPOCHS + 3):
            numbers = hyperparameters(
                learning_rate=RATE, schedule=schedule, epochs=EPOCHS, warmup_epochs=warmup_epochs
            )
            rise = RATE * STEPS[:TOTAL] / (warmup_epochs * PER_EPOCH)
            assert_allclose(run(numbers)[:TOTAL], rise, rtol=2e-6)


def test_cosine_stays_at_alpha_after_the_end(hyperparameters: Any) -> None:
    got = run(hyperparameters(learning_rate=RATE, schedule="cosine", alpha=0.25, epochs=EPOCHS))
    assert_allclose(got[TOTAL:], 0.25 * RATE, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_float64(hyperparameters: Any) -> None:
    numbers = hyperparameters(
        learning_rate=RATE, schedule="cosine", alpha=0.2, epochs=EPOCHS, warmup_epochs=1.5
    )
    got = run(numbers)
    assert got.dtype == np.float64
    time = STEPS / PER_EPOCH
    done = np.clip((time - 1.5) / (EPOCHS - 1.5), 0, 1)
    wanted = RATE * np.minimum(time / 1.5, 1) * (0.8 * (1 + np.cos(np.pi * done)) / 2 + 0.2)
    assert_allclose(got, wanted, rtol=1e-14)
