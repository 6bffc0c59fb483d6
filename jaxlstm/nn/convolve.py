"""Convolution and max-pooling whose gradients are as fast inside XLA's loops on a CPU as outside.

A trial's steps are the body of a loop. There XLA's CPU backend computes the gradient that JAX derives
for a convolution's kernel, and the scatter of a max-pool's gradient, some fifty times slower than as
programs of their own; the same gradients written as plain convolutions, and as maxima of slices, keep
their speed. The figures are in ``benchmarks/NOTES.md``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pads = tuple[tuple[int, int], ...]


def convolve(x: Array, kernel: Array, strides: Sequence[int], padding: Any, **_: Any) -> Array:
    """`flax.linen.Conv`'s ``conv_general_dilated`` for strides and dilations of 1.

    Args:
      x: ``[B, *size, K]``.
      kernel: ``[*window, K, channels]``.
      strides: 1 for each axis.
      padding: "VALID", "SAME" or pairs of zeros before and after each axis.

    Returns:
      ``[B, *size, channels]``. It has no forward-mode derivative (`jax.jvp`).

    Raises:
      ValueError: another stride.
    """
    window = kernel.shape[:-2]
    if any(stride != 1 for stride in strides):
        raise ValueError(f"strides must be 1, got {tuple(strides)}.")
    pads = lax.padtype_to_pads(x.shape[1:-1], window, (1,) * len(window), padding)
    return _convolve(x, kernel, tuple((int(low), int(high)) for low, high in pads))


def _plain(x: Array, kernel: Array, pads: Pads) -> Array:
    names = "HW"[: len(pads)]
    numbers = (f"N{names}C", f"{names}IO", f"N{names}C")
    return lax.conv_general_dilated(x, kernel, (1,) * len(pads), pads, dimension_numbers=numbers)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, pads: Pads) -> Array:
    return _plain(x, kernel, pads)


def _forward(x: Array, kernel: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return _plain(x, kernel, pads), (x, kernel)


def _backward(pads: Pads, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def derived(x: Array, kernel: Array, dy: Array) -> Any:
        return jax.vjp(functools.partial(_plain, pads=pads), x, kernel)[1](dy)

    return lax.platform_dependent(
        *kept, dy, cpu=functools.partial(_gradients, pads), default=derived
    )


def _gradients(pads: Pads, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    axes = tuple(range(len(pads)))
    window = kernel.shape[:-2]
    # What a pixel gave to the outputs comes back through the kernel turned around.
    back = tuple((n - 1 - low, n - 1 - high) for n, (low, high) in zip(window, pads, strict=True))
    dx = _plain(dy, jnp.flip(kernel, axes).swapaxes(-1, -2), back)
    # The sum over rows and pixels, rows taking the place of channels: [K, *window, channels].
    rows_last = (x.ndim - 1, *range(1, x.ndim - 1), 0)
    dk = _plain(x.transpose(rows_last), dy.transpose(*range(1, dy.ndim - 1), 0, dy.ndim - 1), pads)
    return dx, dk.transpose(*range(1, dk.ndim - 1), 0, dk.ndim - 1)


_convolve.defvjp(_forward, _backward)


def max_pool(x: Array, pool: Sequence[int]) -> Array:
    """The largest value of each window of ``[B, *size, channels]``; an incomplete last one is left out.

    Where several values of a window are the largest they share its gradient.
    """
    whole = [extent // n * n for extent, n in zip(x.shape[1:-1], pool, strict=True)]
    slices = []
    for place in itertools.product(*map(range, pool)):
        ranges = [slice(at, end, n) for at, end, n in zip(place, whole, pool, strict=True)]
        slices.append(x[(slice(None), *ranges)])
    return functools.reduce(jnp.maximum, slices)
