"""The optimizers against Keras's own, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxlstm.train import optimizers

pytestmark = pytest.mark.usefixtures("strict_ranks")

STEPS = 200

# Keras's class, its arguments, and ours where they are called otherwise.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "adam, other numbers": ("Adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop, momentum": ("RMSprop", {"rho": 0.7, "momentum": 0.8, "epsilon": 1e-5}),
    "sgd": ("SGD", {}),
    "sgd, momentum": ("SGD", {"momentum": 0.9}),
    "sgd, nesterov": ("SGD", {"momentum": 0.8, "nesterov": True}),
}


def problem(dtype: Any, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters, and gradients ``[STEPS, ...]`` that differ in size, sign and noise.

    The small ones are of the size of sqrt(epsilon) or below, where it matters how epsilon is added;
    the sparse ones are often exactly 0.
    """
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (3, 4), "bias": (4,), "scale": (), "small": (5,), "sparse": (2, 3)}
    params = {name: rng.normal(size=shape) / 100 for name, shape in shapes.items()}
    grads = {
        name: rng.normal(size=shape) + rng.normal(size=(STEPS, *shape))
        for name, shape in shapes.items()
    }
    grads["small"] = grads["small"] * 1e-4
    grads["bias"] = grads["bias"] * 30
    grads["sparse"] = grads["sparse"] * (rng.random((STEPS, 2, 3)) < 0.1)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, grads))


def rates(dtype: Any, changing: bool) -> Any:
    steps = np.arange(STEPS)
    return jnp.asarray(0.01 * (1 + 0.9 * np.sin(steps)) if changing else 0.01 + 0 * steps, dtype)


@jax.jit
def run_ours(hyperparameters: Any, params: Any, grads: Any, rates: Any) -> Any:
    """The parameters after every step."""

    def step(carry: Any, inputs: Any) -> Any:
        params, slots = carry
        grads, rate, index = inputs
        carry = optimizers.update(hyperparameters, slots, grads, params, rate, index)
        return carry, carry[0]

    carry = params, optimizers.init(params)
    return jax.lax.scan(step, carry, (grads, rates, jnp.arange(STEPS, dtype=jnp.int32)))[1]


def run_keras(optimizer: Any, params: Any, grads: Any, rates: Any) -> Any:
    names = list(params)
    optimizer.build([keras.Variable(params[name]) for name in names])
    state = [variable.value for variable in optimizer.variables]
    (rate_at,) = (
        n for n, variable in enumerate(optimizer.variables) if "learning_rate" in variable.path
    )

    def step(carry: Any, inputs: Any) -> Any:
        params, state = carry
        grads, rate = inputs
        state = [*state[:rate_at], rate, *state[rate_at + 1 :]]
        params, state = optimizer.stateless_apply(
            state, [grads[name] for name in names], [params[name] for name in names]
        )
        params = dict(zip(names, params, strict=True))
        return (params, state), params

    return jax.jit(lambda carry, inputs: jax.lax.scan(step, carry, inputs)[1])(
        (params, state), (grads, rates)
    )


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[Any]:
    """JAX and Keras in one precision."""
    keras.config.set_floatx(request.param)
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)
    keras.config.set_floatx("float32")


@pytest.mark.parametrize("changing", [False, True], ids=["constant rate", "changing rate"])
@pytest.mark.parametrize(("name", "numbers"), CASES.values(), ids=CASES)
def test_equals_keras(
    name: str, numbers: dict[str, Any], changing: bool, dtype: Any, hyperparameters: Any
) -> None:
    params, grads = problem(dtype)
    wanted = run_keras(
        getattr(keras.optimizers, name)(**numbers), params, grads, rates(dtype, changing)
    )
    got = run_ours(
        hyperparameters(optimizer=name.lower(), **numbers), params, grads, rates(dtype, changing)
    )
    for leaf, start in params.items():
        moved = np.abs(np.asarray(wanted[leaf]) - np.asarray(start)).max()
        assert moved > 0
        assert got[leaf].dtype == dtype
        # In float32 1 - 0.999 is wrong by 1e-5 itself, and Keras rounds it at another place.
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        assert_allclose(
            got[leaf], wanted[leaf], rtol=tolerance, atol=tolerance * moved, err_msg=leaf
        )


def test_lanes_of_different_optimizers_equal_each_alone(hyperparameters: Any) -> None:
    settings = [
        hyperparameters(optimizer=name.lower(), **numbers) for name, numbers in CASES.values()
    ]
    problems = [problem(np.float32, seed) for seed in range(len(settings))]
    rate = rates(np.float32, True)
    stacked, (params, grads) = jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]),
        *zip(settings, problems, strict=True),
    )
    together = jax.jit(jax.vmap(run_ours, (0, 0, 0, None)))(stacked, params, grads, rate)
    for lane, (numbers, own) in enumerate(zip(settings, problems, strict=True)):
        alone = run_ours(numbers, *own, rate)
        for leaf, wanted in alone.items():
            assert_allclose(together[leaf][lane], wanted, rtol=1e-5, atol=1e-6, err_msg=leaf)


def test_another_optimizer_or_number_does_not_retrace(hyperparameters: Any) -> None:
    traces = []

    @jax.jit
    def step(numbers: Any, params: Any, grads: Any, rate: Any, index: Any) -> Any:
        traces.append(1)
        return optimizers.update(numbers, optimizers.init(params), grads, params, rate, index)[0]

    params, grads = problem(np.float32)
    first = jax.tree.map(lambda leaf: leaf[0], grads)
    results = [
        step(
            hyperparameters(optimizer=name.lower(), **numbers),
            params,
            first,
            jnp.float32(0.1 * n + 0.1),
            jnp.int32(n),
        )
        for n, (name, numbers) in enumerate(CASES.values())
    ]
    assert len(traces) == 1
    for n, result in enumerate(results):
        assert not any(np.allclose(result["kernel"], other["kernel"]) for other in results[:n])


OTHERS = {
    "adam": {"momentum": 0.9, "nesterov": True, "rho": 0.5},
    "rmsprop": {"nesterov": True, "beta_1": 0.5, "beta_2": 0.7, "momentum": 0.8},
    "sgd": {"beta_1": 0.5, "beta_2": 0.7, "rho": 0.5, "epsilon": 0.1, "momentum": 0.8},
}


@pytest.mark.parametrize(("name", "numbers"), OTHERS.items(), ids=OTHERS)
def test_numbers_of_other_optimizers_change_nothing(
    name: str, numbers: dict[str, Any], hyperparameters: Any
) -> None:
    params, grads = problem(np.float32)
    own = {"momentum": numbers["momentum"]} if name != "adam" else {}
    got, wanted = (
        run_ours(hyperparameters(optimizer=name, **fields), params, grads, rates(np.float32, True))
        for fields in (numbers, own)
    )
    assert all(np.array_equal(got[leaf], wanted[leaf]) for leaf in params)


def test_a_zero_gradient_from_the_start_moves_nothing(hyperparameters: Any) -> None:
    """So that units padded with zeros stay exactly zero."""
    params, grads = problem(np.float32)
    grads["kernel"] = grads["kernel"].at[:, 1].set(0)
    for name, numbers in CASES.values():
        after = run_ours(
            hyperparameters(optimizer=name.lower(), **numbers),
            params,
            grads,
            rates(np.float32, True),
        )
        assert np.array_equal(after["kernel"][-1, 1], params["kernel"][1])
        assert not np.any(after["kernel"][-1, [0, 2]] == params["kernel"][np.array([0, 2])])
