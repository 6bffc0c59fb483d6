"""What one block of threads computes: the two kernels of the resident LSTM, in Pallas.

A block takes 16 rows of the batch through all T steps. Shapes as in `jaxlstm.nn.kernels.resident`;
``U`` are the units padded to a power of two. Gates have an axis of their own and the recurrent
matrix comes as four ``[U, U]`` blocks, because Triton cannot slice a value.

Whatever a step reads is asked for one step before, so that memory's latency hides behind the step
in between. The activations are as in `jaxlstm.nn.cell`: sigmoid(z) = tanh(z / 2) / 2 + 1 / 2,
with the halving folded into the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxlstm.nn.kernels.resident import TILE

try:
    from jax.experimental.pallas import triton
except ImportError:  # deprecated in JAX 0.12; the interpreter does without
    triton = None  # type: ignore[assignment]

Array = jax.Array


def _tanh(approximate: bool) -> Callable[[Array], Array]:
    """Of the GPU's own instruction, right to 2^-11, or of the library."""
    return triton.approx_tanh if approximate else jnp.tanh


def forward(
    half_z_ref: Any,  # shape=(TILE, T, 4, U), the input's part of z, halved for sigmoids
    recurrent_ref: Any,  # shape=(4, U, U), from, to; likewise
    bias_ref: Any,  # shape=(4, U), likewise
    c_ref: Any,  # shape=(TILE, U), as are h and the mask
    h_ref: Any,
    lengths_ref: Any,  # shape=(TILE, 1)
    mask_ref: Any,
    hs_ref: Any,  # shape=(TILE, T, U)
    c_last_ref: Any,  # shape=(TILE, U)
    h_last_ref: Any,
    *kept_refs: Any,  # for the backward kernel: gates, shape=(TILE, T, 4, U); c, shape=(TILE, T, U)
    reverse: bool,
    precision: Any,
    approximate: bool,
) -> None:
    """All steps of one tile of rows."""
    steps, dtype = hs_ref.shape[1], hs_ref.dtype
    tanh = _tanh(approximate)
    recurrent = [recurrent_ref[gate] for gate in range(4)]  # read once: they stay
    bias = [bias_ref[gate, :][None, :] for gate in range(4)]
    lengths, mask = lengths_ref[...], mask_ref[...]

    def time(step: Any) -> Any:
        return steps - 1 - step if reverse else step

    def read(step: Any) -> Any:
        return tuple(half_z_ref[:, time(step), gate, :] for gate in range(4))

    def advance(step: Any, state: Any) -> Any:
        c, h, half_z = state
        following = read(jnp.minimum(step + 1, steps - 1))
        sent = (h * mask).astype(dtype)

        def activation(gate: int) -> Array:
            product = jnp.dot(
                sent, recurrent[gate], precision=precision, preferred_element_type=c.dtype
            )
            return tanh(half_z[gate].astype(c.dtype) + bias[gate] + product)

        i, f, g, o = (activation(gate) for gate in range(4))
        i, f, o = i * 0.5 + 0.5, f * 0.5 + 0.5, o * 0.5 + 0.5
        t = time(step)
        valid = t < lengths
        c_next = f * c + i * g
        h_next = o * tanh(c_next)
        c_next = jnp.where(valid, c_next, c)
        hs_ref[:, t, :] = jnp.where(valid, h_next, 0).astype(dtype)
        if kept_refs:
            gates_ref, cs_ref = kept_refs
            for gate, kept in enumerate((i, f, g, o)):
                gates_ref[:, t, gate, :] = kept.astype(dtype)
            cs_ref[:, t, :] = c_next.astype(dtype)
        return c_next, jnp.where(valid, h_next, h), following

    c, h, _ = lax.fori_loop(0, steps, advance, (c_ref[...], h_ref[...], read(0)))
    c_last_ref[...] = c
    h_last_ref[...] = h


def backward(
    gates_ref: Any,  # shape=(TILE, T, 4, U)
    cs_ref: Any,  # shape=(TILE, T, U), c after each step
    d_hs_ref: Any,  # shape=(TILE, T, U)
    recurrent_ref: Any,  # shape=(4, U, U), transposed: to, from
    c_ref: Any,  # shape=(TILE, U), the initial one; as are the mask and both gradients
    lengths_ref: Any,  # shape=(TILE, 1)
    mask_ref: Any,
    d_c_last_ref: Any,
    d_h_last_ref: Any,
    dz_ref: Any,  # shape=(TILE, T, 4, U)
    d_c_ref: Any,  # shape=(TILE, U)
    d_h_ref: Any,
    *,
    reverse: bool,
    precision: Any,
    approximate: bool,
) -> None:
    """The gradient of one tile of rows, last step first; its equations are in `jaxlstm.nn.scan`."""
    steps, dtype = dz_ref.shape[1], dz_ref.dtype
    tanh = _tanh(approximate)
    recurrent = [recurrent_ref[gate] for gate in range(4)]  # read once: they stay
    c_initial, lengths, mask = c_ref[...], lengths_ref[...], mask_ref[...]

    def time(step: Any) -> Any:
        return step if reverse else steps - 1 - step

    def read(step: Any) -> Any:
        t, t_before = time(step), time(jnp.minimum(step + 1, steps - 1))
        gates = tuple(gates_ref[:, t, gate, :] for gate in range(4))
        return gates, d_hs_ref[:, t, :], cs_ref[:, t_before, :]

    def advance(step: Any, state: Any) -> Any:
        dc_next, dh_next, c, (gates, d_h, c_before) = state
        following = read(jnp.minimum(step + 1, steps - 1))
        i, f, g, o = (gate.astype(c.dtype) for gate in gates)
        c_before = jnp.where(step == steps - 1, c_initial, c_before.astype(c.dtype))
        t = time(step)
        valid = t < lengths
        tanh_c = tanh(c)
        dh = dh_next + d_h.astype(c.dtype)
        dc = dc_next + dh * o * (1 - tanh_c * tanh_c)
        dz = (
            dc * g * i * (1 - i),
            dc * c_before * f * (1 - f),
            dc * i * (1 - g * g),
            dh * tanh_c * o * (1 - o),
        )
        d_sent = jnp.zeros_like(dh)
        for gate in range(4):
            dz_gate = jnp.where(valid, dz[gate], 0).astype(dtype)
            dz_ref[:, t, gate, :] = dz_gate
            d_sent += jnp.dot(
                dz_gate, recurrent[gate], precision=precision, preferred_element_type=c.dtype
            )
        # dz is 0 on a frozen row, so its product is too: only what passed by is added.
        dh_before = mask * d_sent + jnp.where(valid, 0, dh_next)
        return jnp.where(valid, dc * f, dc_next), dh_before, c_before, following

    c_last = cs_ref[:, time(0), :].astype(c_initial.dtype)
    start = d_c_last_ref[...], d_h_last_ref[...], c_last, read(0)
    dc, dh, _, _ = lax.fori_loop(0, steps, advance, start)
    d_c_ref[...] = dc
    d_h_ref[...] = dh


def call(
    kernel: Callable[..., None],
    inputs: Sequence[Array],
    outputs: Sequence[jax.ShapeDtypeStruct],
    *,
    interpret: bool,
    precision: Any,
    approximate: bool,
    reverse: bool,
) -> Sequence[Array]:
    """Runs `forward` or `backward` once for every tile of rows.

    Args:
      kernel: `forward` or `backward`.
      inputs: its inputs over all rows, a multiple of `TILE`; the first and all outputs have rows.
      outputs: its outputs' shapes over all rows.
      interpret: whether Pallas' interpreter runs it, on any device.
      precision: of products, as `jax.lax.dot` takes it; DEFAULT is TF32 for float32 on a GPU.
      approximate: whether tanh is the GPU's own, which the interpreter does not have.
      reverse: whether the LSTM walks from the last step to the first.

    Returns:
      The kernel's outputs. `jax.vmap` makes a lane further blocks of the same launch.
    """
    rows, units = inputs[0].shape[0], inputs[0].shape[-1]

    def spec(array: Any) -> pl.BlockSpec:
        rest = array.shape[1:]
        if array.shape[0] == rows:
            return pl.BlockSpec((TILE, *rest), lambda tile: (tile, *(0 for _ in rest)))
        # The weights, whose first axis are the 4 gates, are whole in every block.
        return pl.BlockSpec(array.shape, lambda tile: (0, *(0 for _ in rest)))

    options: dict[str, Any] = {"interpret": interpret}
    if not interpret:
        # A warp for every 8 columns of a gate: the width of one tensor-core product.
        options["compiler_params"] = triton.CompilerParams(num_warps=units // 8, num_stages=1)
    return pl.pallas_call(
        functools.partial(
            kernel, reverse=reverse, precision=precision, approximate=approximate and not interpret
        ),
        grid=(rows // TILE,),
        in_specs=[spec(array) for array in inputs],
        out_specs=[spec(array) for array in outputs],
        out_shape=list(outputs),
        name=f"lstm_resident_{kernel.__name__}",
        **options,
    )(*inputs)
