"""Convolution and max-pooling against JAX's own, and their speed inside a loop."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxlstm.nn.convolve import convolve, max_pool


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=2),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    padding=st.sampled_from(["SAME", "VALID"]),
    lanes=st.booleans(),
)
def test_gradients_are_those_that_jax_derives(
    sizes: list[tuple[int, int]], channels: tuple[int, int], padding: str, lanes: bool
) -> None:
    window = tuple(span for span, _ in sizes)
    inputs, outputs = channels
    rng = np.random.default_rng(0)
    shape = tuple(span + extra for span, extra in sizes)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(2, *shape, inputs)))
        kernel = jnp.asarray(rng.normal(size=(3, *window, inputs, outputs)))
        names = "HW"[: len(window)]

        def plain(x: Any, kernel: Any) -> Any:
            numbers = (f"N{names}C", f"{names}IO", f"N{names}C")
            ones = (1,) * len(window)
            return lax.conv_general_dilated(x, kernel, ones, padding, dimension_numbers=numbers)

        def ours(x: Any, kernel: Any) -> Any:
            return convolve(x, kernel, (1,) * len(window), padding)

        def gradients(function: Any) -> Any:
            def loss(x: Any, kernel: Any) -> Any:
                y = function(x, kernel)
                return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape)) + y**2)

            both = jax.value_and_grad(loss, argnums=(0, 1))
            if lanes:
                return jax.jit(jax.vmap(both, (None, 0)))(x, kernel)
            return jax.jit(both)(x, kernel[0])

        for one, other in zip(
            jax.tree.leaves(gradients(ours)), jax.tree.leaves(gradients(plain)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pool", [(1,), (2,), (3,), (2, 2), (3, 2)])
def test_max_pool_is_flax_s(pool: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, *(7, 8)[: len(pool)], 3)), jnp.float32)

    def loss(function: Any) -> Any:
        return jax.value_and_grad(lambda x: jnp.sum(jnp.sin(function(x)) * 3))(x)

    value, gradient = loss(lambda x: max_pool(x, pool))
    expected = loss(lambda x: nn.max_pool(x, pool, strides=pool))
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-6)


def test_equal_values_share_the_gradient() -> None:
    gradient = jax.grad(lambda x: max_pool(x, (2,)).sum())(jnp.ones((1, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, 0], [0.5] * 4)


def test_strides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strides must be 1, got \(2, 2\)\."):
        convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)), (2, 2), "VALID")
