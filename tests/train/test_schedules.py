"""Schedules against Keras's, optax's and PyTorch's over a whole run of steps, and past its end."""

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
from jaxlstm.train.hyperparameters import MAX_BOUNDARIES, SCHEDULES

pytestmark = pytest.mark.usefixtures("strict_ranks")

PER_EPOCH = 7  # steps
EPOCHS = 28
STEPS = np.arange(PER_EPOCH * EPOCHS + 9)
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
    "Keras's inverse time": (
        {"schedule": "inverse_time", "decay_rate": 0.4, "decay_epochs": 3},
        keras_schedules.InverseTimeDecay(RATE, 3 * PER_EPOCH, 0.4),
    ),
    "inverse time, warm-up": (
        {"schedule": "inverse_time", "decay_rate": 2.5, "decay_epochs": 3, "warmup_epochs": 1},
        after_warm_up(1, keras_schedules.InverseTimeDecay(RATE, 3 * PER_EPOCH, 2.5)),
    ),
    "Keras's polynomial": (
        {"schedule": "polynomial", "decay_epochs": 20},
        keras_schedules.PolynomialDecay(RATE, 20 * PER_EPOCH),
    ),
    "Keras's polynomial, power": (
        {"schedule": "polynomial", "decay_epochs": 9, "power": 2.5, "end_learning_rate": 0.004},
        keras_schedules.PolynomialDecay(RATE, 9 * PER_EPOCH, 0.004, 2.5),
    ),
    "Keras's polynomial, upwards": (
        {"schedule": "polynomial", "decay_epochs": 9, "power": 0.5, "end_learning_rate": 0.1},
        keras_schedules.PolynomialDecay(RATE, 9 * PER_EPOCH, 0.1, 0.5),
    ),
    "Keras's polynomial, cycle": (
        {"schedule": "polynomial", "decay_epochs": 4, "power": 1.5, "cycle": True},
        keras_schedules.PolynomialDecay(RATE, 4 * PER_EPOCH, power=1.5, cycle=True),
    ),
    "optax's polynomial, warm-up": (
        {"schedule": "polynomial", "decay_epochs": 5, "power": 2, "warmup_epochs": 3},
        after_warm_up(3, optax.polynomial_schedule(RATE, 1e-4, 2, 5 * PER_EPOCH)),
    ),
    "Keras's restarts": (
        {"schedule": "cosine_restarts", "decay_epochs": 3},
        keras_schedules.CosineDecayRestarts(RATE, 3 * PER_EPOCH),
    ),
    "Keras's restarts, all of a length": (
        {"schedule": "cosine_restarts", "decay_epochs": 5, "t_mul": 1.0, "m_mul": 0.7},
        keras_schedules.CosineDecayRestarts(RATE, 5 * PER_EPOCH, t_mul=1.0, m_mul=0.7),
    ),
    "Keras's restarts, other numbers": (
        {
            "schedule": "cosine_restarts",
            "decay_epochs": 2,
            "t_mul": 1.3,
            "m_mul": 0.8,
            "alpha": 0.15,
            "warmup_epochs": 2,
        },
        after_warm_up(2, keras_schedules.CosineDecayRestarts(RATE, 2 * PER_EPOCH, 1.3, 0.8, 0.15)),
    ),
    "Keras's piecewise": (
        {"schedule": "piecewise", "boundaries": (2, 9.0, 21), "values": (0.1, 0.02, 0.3, 0.04)},
        keras_schedules.PiecewiseConstantDecay(
            [2 * PER_EPOCH, 9 * PER_EPOCH, 21 * PER_EPOCH], [0.1, 0.02, 0.3, 0.04]
        ),
    ),
    "Keras's piecewise, one boundary": (
        {"schedule": "piecewise", "boundaries": [5], "values": [0.1, 0.02]},
        keras_schedules.PiecewiseConstantDecay([5 * PER_EPOCH], [0.1, 0.02]),
    ),
    "Keras's piecewise, as many as there may be": (
        {
            "schedule": "piecewise",
            "boundaries": np.arange(1, MAX_BOUNDARIES + 1) * 1.5 + 0.1,
            "values": 1 / np.arange(1, MAX_BOUNDARIES + 2),
        },
        keras_schedules.PiecewiseConstantDecay(
            list((np.arange(1, MAX_BOUNDARIES + 1) * 1.5 + 0.1) * PER_EPOCH),
            list(1 / np.arange(1, MAX_BOUNDARIES + 2)),
        ),
    ),
    "no boundary": ({"schedule": "piecewise", "values": (0.2,)}, optax.constant_schedule(0.2)),
    "optax's one cycle": (
        {"schedule": "onecycle", "pct_start": 0.25},
        optax.cosine_onecycle_schedule(TOTAL, RATE, 0.25),
    ),
    "optax's exponential to an end": (
        {"schedule": "exponential", "decay_rate": 0.7, "decay_epochs": 2, "end_value": 0.011},
        optax.exponential_decay(RATE, 2 * PER_EPOCH, 0.7, end_value=0.011),
    ),
    "optax's staircase upwards to an end": (
        {"schedule": "step", "decay_rate": 1.5, "decay_epochs": 3, "end_value": 0.2},
        optax.exponential_decay(RATE, 3 * PER_EPOCH, 1.5, staircase=True, end_value=0.2),
    ),
    "a warm-up that begins above 0": (
        {"schedule": "cosine", "warmup_epochs": 3, "warmup_learning_rate": 0.004},
        optax.warmup_cosine_decay_schedule(0.004, RATE, 3 * PER_EPOCH, TOTAL),
    ),
    "Keras's warm-up that begins above the rate": (
        {"schedule": "cosine", "warmup_epochs": 3, "warmup_learning_rate": 0.1},
        keras_schedules.CosineDecay(
            0.1, TOTAL - 3 * PER_EPOCH, warmup_target=RATE, warmup_steps=3 * PER_EPOCH
        ),
    ),
    "optax's cosine, exponent": (
        {"schedule": "cosine", "alpha": 0.2, "exponent": 1.7},
        optax.cosine_decay_schedule(RATE, TOTAL, 0.2, 1.7),
    ),
    "Keras's inverse time, staircase": (
        {"schedule": "inverse_time", "decay_rate": 0.4, "decay_epochs": 3, "staircase": True},
        keras_schedules.InverseTimeDecay(RATE, 3 * PER_EPOCH, 0.4, staircase=True),
    ),
    "optax's linear one cycle": (
        {"schedule": "linear_onecycle", "pct_start": 0.25, "pct_final": 0.75},
        optax.linear_onecycle_schedule(TOTAL, RATE, 0.25, 0.75),
    ),
    "optax's linear one cycle, other numbers": (
        {"schedule": "linear_onecycle", "pct_start": 0.5, "div_factor": 4, "final_div_factor": 7.0}
        | {"pct_final": 0.5 + 2 / EPOCHS},
        optax.linear_onecycle_schedule(TOTAL, RATE, 0.5, 0.5 + 2 / EPOCHS, 4, 7),
    ),
    "optax's piecewise in lines": (
        {
            "schedule": "piecewise_linear",
            "boundaries": (2, 9, 21),
            "values": (0.1, 0.02, 0.3, 0.04),
        },
        optax.piecewise_interpolate_schedule(
            "linear", 0.1, {2 * PER_EPOCH: 0.2, 9 * PER_EPOCH: 15, 21 * PER_EPOCH: 0.04 / 0.3}
        ),
    ),
    "optax's piecewise in cosines": (
        {"schedule": "piecewise_cosine", "boundaries": (3, 5), "values": (0.1, 0.02, 0.3)}
        | {"warmup_epochs": 1, "warmup_learning_rate": 0.1},
        optax.join_schedules(
            [
                optax.constant_schedule(0.1),
                optax.piecewise_interpolate_schedule(
                    "cosine", 0.1, {3 * PER_EPOCH: 0.2, 5 * PER_EPOCH: 15}
                ),
            ],
            [PER_EPOCH],
        ),
    ),
    "optax's one cycle, other numbers": (
        {"schedule": "onecycle", "pct_start": 0.75, "div_factor": 4, "final_div_factor": 7.0},
        optax.cosine_onecycle_schedule(TOTAL, RATE, 0.75, 4, 7),
    ),
}


@jax.jit
def run(numbers: Any, plateau_rate: Any = RATE) -> Any:
    """The rate of every step, with time as a trial counts it."""
    time = jnp.asarray(STEPS / PER_EPOCH, jnp.result_type(float))
    return jax.vmap(lambda epoch: schedules.learning_rate(numbers, epoch, plateau_rate))(time)


@pytest.fixture
def theirs(request: pytest.FixtureRequest) -> Any:
    """Their rate of every step, in float64: in float32 Keras's restarts may be a step late."""
    keras.config.set_floatx("float64")
    with jax.enable_x64(True):
        rates = np.asarray(jax.jit(jax.vmap(CASES[request.param][1]))(1.0 * STEPS))
    keras.config.set_floatx("float32")
    return rates


@pytest.mark.parametrize(("case", "theirs"), [(name, name) for name in CASES], indirect=["theirs"])
def test_equals_keras_and_optax(case: str, theirs: Any, hyperparameters: Any) -> None:
    got = run(hyperparameters(learning_rate=RATE, epochs=EPOCHS, **CASES[case][0]))
    assert len(got) > 200
    assert_allclose(got, theirs, rtol=1e-5, atol=1e-6 * RATE)


def test_every_schedule_has_a_case() -> None:
    cases = {fields.get("schedule", "constant") for fields, _ in CASES.values()}
    assert cases | {"plateau"} == set(SCHEDULES)


@pytest.mark.parametrize(("pct_start", "div_factor", "final"), [(0.3, 25, 1e4), (0.6, 3, 20)])
def test_one_cycle_equals_pytorch(
    pct_start: float, div_factor: float, final: float, hyperparameters: Any
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is an optional reference")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=RATE,
        total_steps=TOTAL,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final,
    )
    wanted = []
    for _ in range(TOTAL):
        wanted += schedule.get_last_lr()
        optimizer.step()
        if len(wanted) < TOTAL:
            schedule.step()
    # Its peak and its end come a step early: the last of its steps has the last rate.
    numbers = hyperparameters(
        schedule="onecycle",
        learning_rate=RATE,
        epochs=1,
        pct_start=(pct_start * TOTAL - 1) / (TOTAL - 1),
        div_factor=div_factor,
        final_div_factor=final,
    )
    time = np.arange(TOTAL, dtype=np.float32) / (TOTAL - 1)
    got = jax.vmap(lambda epoch: schedules.learning_rate(numbers, epoch, RATE))(time)
    assert_allclose(got, wanted, rtol=1e-5, atol=1e-6 * RATE)


@pytest.mark.parametrize("t_mul", [1.0, 1.25, 1.5, 2.0, 3.0, 7.0])
def test_restarts_begin_where_the_cycle_before_ends(t_mul: float, hyperparameters: Any) -> None:
    """Against a loop over cycles; Keras's logarithms round some beginnings down in float32."""
    numbers = hyperparameters(
        schedule="cosine_restarts", learning_rate=RATE, t_mul=t_mul, m_mul=0.9, decay_epochs=2
    )
    for cycle in range(12 if t_mul < 7 else 7):
        begin, length = sum(2 * t_mul**n for n in range(cycle)), 2 * t_mul**cycle
        for done in (0, 0.25, 0.5):
            time = np.float32(begin + done * length)
            wanted = RATE * 0.9**cycle * (1 + np.cos(np.pi * done)) / 2
            got = schedules.learning_rate(numbers, jnp.asarray(time), RATE)
            assert_allclose(got, wanted, rtol=2e-5, err_msg=f"cycle {cycle}, {done} of it")


def test_plateau_is_the_rate_it_is_given(hyperparameters: Any) -> None:
    numbers = hyperparameters(schedule="plateau", learning_rate=9.0, warmup_epochs=2)
    rise = np.minimum(STEPS / (2 * PER_EPOCH), 1)
    for rate in (RATE, RATE / 7):
        assert_allclose(run(numbers, rate), rate * rise, rtol=2e-6)
    for schedule in set(SCHEDULES) - {"plateau"}:
        numbers = hyperparameters(schedule=schedule, learning_rate=RATE, values=(RATE,))
        assert np.array_equal(run(numbers, RATE), run(numbers, 9.0))


def test_different_schedules_are_lanes_of_one_program(hyperparameters: Any) -> None:
    settings = [
        hyperparameters(learning_rate=0.01 * (n + 1), epochs=EPOCHS + n, **fields)
        for n, (fields, _) in enumerate(CASES.values())
    ]
    before = run._cache_size()
    alone = [run(numbers) for numbers in settings]
    assert run._cache_size() <= before + 1
    together = jax.jit(jax.vmap(run))(jax.tree.map(lambda *leaves: np.stack(leaves), *settings))
    for lane, wanted in zip(together, alone, strict=True):
        assert_allclose(lane, wanted, rtol=1e-5, atol=1e-6 * RATE)


# With these each schedule begins at RATE.
BEGINS: dict[str, dict[str, Any]] = {
    "piecewise": {"boundaries": (3,), "values": (RATE, 0.5)},
    "piecewise_linear": {"boundaries": (3,), "values": (RATE, 0.5)},
    "piecewise_cosine": {"boundaries": (3,), "values": (RATE, 0.5)},
    "onecycle": {"div_factor": 1, "pct_start": 0.5},
    "linear_onecycle": {"div_factor": 1, "pct_start": 0.5},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
class TestEnds:
    def test_starts_at_the_rate_without_warm_up_and_at_0_with(
        self, schedule: str, hyperparameters: Any
    ) -> None:
        fields = {"learning_rate": RATE, "schedule": schedule, **BEGINS.get(schedule, {})}
        plain = run(hyperparameters(**fields))
        assert_allclose(plain[0], RATE, rtol=1e-6)
        warm = run(hyperparameters(**fields, warmup_epochs=2))
        rise = RATE * np.arange(2 * PER_EPOCH + 1) / (2 * PER_EPOCH)
        assert_allclose(warm[: 2 * PER_EPOCH + 1], rise, rtol=2e-6)

    def test_warm_up_as_long_as_the_run_or_longer(
        self, schedule: str, hyperparameters: Any
    ) -> None:
        fields = {"learning_rate": RATE, "schedule": schedule, **BEGINS.get(schedule, {})}
        for warmup_epochs in (EPOCHS, EPOCHS + 3):
            numbers = hyperparameters(epochs=EPOCHS, warmup_epochs=warmup_epochs, **fields)
            rise = RATE * STEPS[:TOTAL] / (warmup_epochs * PER_EPOCH)
            assert_allclose(run(numbers)[:TOTAL], rise, rtol=2e-6)

    @pytest.mark.parametrize(
        "odd",
        [
            {"epochs": 1, "pct_start": 0.0, "t_mul": 1.0, "power": 0.0, "m_mul": 0.0},
            {"epochs": 1, "pct_start": 1.0, "t_mul": 1.001, "power": 9.0, "cycle": True},
            {"warmup_epochs": 1e6, "decay_epochs": 1e-3, "alpha": 1.0, "t_mul": 100.0},
            {"decay_epochs": 1e6, "decay_rate": 1e-6, "end_learning_rate": 0.0},
        ],
    )
    def test_odd_numbers_give_a_finite_rate(
        self, schedule: str, odd: dict[str, Any], hyperparameters: Any
    ) -> None:
        fields = {"learning_rate": RATE, "schedule": schedule, **BEGINS.get(schedule, {}), **odd}
        got = run(hyperparameters(**fields))
        assert np.all(np.isfinite(got))
        assert np.all(got >= 0)

    def test_numbers_of_other_schedules_do_not_get_in(
        self, schedule: str, hyperparameters: Any
    ) -> None:
        """Not even where they make those infinite or NaN."""
        own = {"learning_rate": RATE, "schedule": schedule, **BEGINS.get(schedule, {})}
        others: dict[str, dict[str, Any]] = {
            "exponential": {"decay_rate": 1e30, "decay_epochs": 0.1},
            "cosine_restarts": {"m_mul": 1e30, "t_mul": 1.0, "decay_epochs": 0.1},
            "onecycle": {"div_factor": 1e-38, "final_div_factor": 1e-38},
        }
        uses = {
            "step": {"decay_rate", "decay_epochs"},
            "exponential": {"decay_rate", "decay_epochs"},
            "inverse_time": {"decay_rate", "decay_epochs"},
            "polynomial": {"decay_epochs"},
            "cosine_restarts": {"decay_epochs", "m_mul", "t_mul"},
            "onecycle": {"div_factor", "final_div_factor"},
            "linear_onecycle": {"div_factor", "final_div_factor"},
        }
        for fields in others.values():
            unused = {k: v for k, v in fields.items() if k not in uses.get(schedule, ())}
            got = run(hyperparameters(**own | unused))
            assert np.array_equal(got, run(hyperparameters(**own)))


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
