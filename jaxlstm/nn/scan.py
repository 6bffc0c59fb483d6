"""The LSTM as a scan over time: one with a gradient of its own, one that JAX differentiates.

Arrays are time-major here: x ``[T, B, F]``, hs ``[T, B, H]``.

What the hand-written gradient does, and why, was chosen by measurement on CPU (benchmarks/NOTES.md):

- its scan computes only what is sequential; every weight gradient is a matrix product over many
  steps, instead of a rank-B update of the weights in every step;
- it walks through time in blocks, so that what a block needs stays in the cache and no array of the
  gates' gradient is ever written to memory as a whole;
- it keeps c and the gate activations where they are small (`KEPT_BYTES_PER_UNIT`), else it computes
  them again from the outputs and from c at the beginning of each block: the inputs of a block's gates
  are known by then, so that is one product.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm.nn.cell import Array, Carry, LSTMParams, gate_scale, half_gates, lstm_step

# Above this many bytes of gate activations a unit, they are computed again in the backward pass: the
# product that this takes is cheap where there are few units, and memory traffic where there are many.
KEPT_BYTES_PER_UNIT = 144 << 10
# A block of the backward pass has about this many rows (steps x batch) ...
BLOCK_ROWS = 1024
# ... and this many steps.
BLOCK_STEPS = (4, 32)


def is_valid(lengths: Array | None, steps: int) -> Array | None:
    """Mask ``[T, B, 1]``: does step t belong to row b. None where every step does."""
    if lengths is None:
        return None
    return (jnp.arange(steps, dtype=lengths.dtype)[:, None] < lengths[None, :])[..., None]


def lstm_autodiff(
    params: LSTMParams,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    recurrent_mask: Array | None,
    reverse: bool,
) -> tuple[Array, Carry]:
    """A scan of `lstm_step`, for JAX to differentiate: any order, forward and reverse mode."""

    def step(carry: Carry, inputs: Any) -> Any:
        x_t, valid_t = inputs
        if valid_t is not None:
            x_t = jnp.where(valid_t, x_t, 0)  # whatever is there must not reach a gradient
        after, h = lstm_step(params, carry, x_t, recurrent_mask=recurrent_mask)
        if valid_t is None:
            return after, h
        frozen = jax.tree.map(lambda new, old: jnp.where(valid_t, new, old), after, carry)
        return frozen, jnp.where(valid_t, h, 0)

    last, hs = lax.scan(step, carry, (x, is_valid(lengths, x.shape[0])), reverse=reverse)
    return hs, last


class _Kept(NamedTuple):
    """What the forward scan keeps for the backward scan, besides its outputs."""

    c: Array  # shape=(T, B, H), before each step
    # Four arrays: read back as slices of one [T, B, 4H] array they cost nearly twice as much a step.
    gates: tuple[Array, Array, Array, Array]  # each of shape=(T, B, H)


# Rows that a batch of unknown size (of `jax.export`) counts as, and steps.
_SYMBOLIC = 32


def _known(size: Any) -> int:
    return size if isinstance(size, int) else _SYMBOLIC


def keeps_gates(steps: int, batch: int, dtype: Any) -> bool:
    """Whether the gate activations of so many steps and rows are few enough to keep."""
    if not isinstance(steps, int):
        return True  # blocks are of a known number of steps
    batch = _known(batch)
    return 4 * steps * batch * jnp.dtype(dtype).itemsize <= KEPT_BYTES_PER_UNIT


def _halved(params: LSTMParams) -> tuple[Array, Array]:
    """Both kernels on each other, ``[F + H, 4H]``, and the bias, ``[1, 4H]``, for `half_gates`."""
    scale = gate_scale(params.recurrent_kernel.shape[0], params.kernel.dtype)[None]
    assert params.bias is not None
    kernels = jnp.concatenate([params.kernel, params.recurrent_kernel])
    return kernels * scale, params.bias[None] * scale


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def lstm_scan(
    params: LSTMParams,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    recurrent_mask: Array | None,
    reverse: bool,
    keep: bool,
) -> tuple[Array, Carry]:
    """Runs the LSTM over time-major x; params have a bias and no peephole.

    Args:
      params: weights.
      x: inputs ``[T, B, F]``.
      carry: ``(c, h)``, each ``[B, H]``.
      lengths: valid steps ``[B]``, or None.
      recurrent_mask: factors ``[B, H]`` of h in the recurrent product, or None.
      reverse: whether to run backwards in time.
      keep: whether to keep c and the gate activations for the backward pass, see `keeps_gates`.

    Returns:
      ``(hs, (c, h))``: outputs ``[T, B, H]`` and the last carry.
    """
    return _forward(params, x, carry, lengths, recurrent_mask, reverse, keep)[0]


def _forward(
    params: LSTMParams,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    recurrent_mask: Array | None,
    reverse: bool,
    keep: bool,
) -> Any:
    steps, batch, _ = x.shape
    kernels, bias = _halved(params)

    def step(state: Any, inputs: Any) -> Any:
        (c, h), c_starts = state
        x_t, valid_t, slot = inputs
        seen = h if recurrent_mask is None else h * recurrent_mask
        # One product of both inputs with both kernels is faster than two.
        gates = half_gates(jnp.concatenate([x_t, seen], axis=-1) @ kernels + bias)
        if keep:
            # Else XLA computes each activation twice: once to keep it, once to use it.
            gates = lax.optimization_barrier(gates)
        i, f, g, o = gates
        c_next = f * c + i * g
        h_next = y = o * jnp.tanh(c_next)
        if valid_t is not None:
            c_next, h_next = jnp.where(valid_t, c_next, c), jnp.where(valid_t, h_next, h)
            y = jnp.where(valid_t, y, 0)
        if keep:
            return ((c_next, h_next), None), (y, _Kept(c, gates))
        # Of the steps that write to a slot the last one is the one before the slot's block.
        c_starts = lax.dynamic_update_index_in_dim(c_starts, c_next, slot, 0)
        return ((c_next, h_next), c_starts), (y, None)

    c_starts = slots = None
    if not keep:
        size = _block_steps(steps, batch)
        slots = jnp.arange(steps) // size if reverse else (jnp.arange(steps) + size) // size
        c_starts = jnp.tile(carry[0], (steps // size + 2, 1, 1))
    inputs = (x, is_valid(lengths, steps), slots)
    (last, c_starts), (hs, kept) = lax.scan(step, (carry, c_starts), inputs, reverse=reverse)
    return (hs, last), (params, x, carry, lengths, recurrent_mask, hs, kept, c_starts)


def _block_steps(steps: int, batch: int) -> int:
    """Steps of a block: a divisor of all steps if there is a fitting one."""
    least, most = BLOCK_STEPS
    wanted = max(1, min(steps, most, max(least, BLOCK_ROWS // max(_known(batch), 1))))
    return next((size for size in range(wanted, least - 1, -1) if steps % size == 0), wanted)


def _backward(reverse: bool, keep: bool, residuals: Any, cotangents: Any) -> Any:
    """Gradient by hand.

    With dh the gradient that reaches h', and dc the one that reaches c' (both include the next
    step's):

        dc += dh * o * (1 - tanh(c')^2)
        dz_i = dc * g * i (1 - i)      dz_f = dc * c * f (1 - f)
        dz_g = dc * i * (1 - g^2)      dz_o = dh * tanh(c') * o (1 - o)
        dc <- dc * f                   dh <- dz R^T

    and dK, dR, db, dx are sums over steps of products with dz.
    """
    params, x, carry, lengths, recurrent_mask, hs, kept, c_starts = residuals
    d_hs, d_last = cotangents
    steps, batch, features = x.shape
    units = carry[0].shape[-1]
    valid = is_valid(lengths, steps)
    kernels, bias = _halved(params)
    recurrent_kernel_t, kernel_t = params.recurrent_kernel.T, params.kernel.T

    def step(state: Any, inputs: Any) -> Any:
        dc_next, dh_next, d_mask = state
        d_h, c, (i, f, g, o), valid_t, h_before = inputs
        tanh_c = jnp.tanh(f * c + i * g)
        dh = dh_next + d_h
        dc = dc_next + dh * o * (1 - tanh_c * tanh_c)
        dz = jnp.concatenate(
            [
                dc * g * i * (1 - i),
                dc * c * f * (1 - f),
                dc * i * (1 - g * g),
                dh * tanh_c * o * (1 - o),
            ],
            axis=-1,
        )
        dc = dc * f
        if valid_t is not None:
            dz, dc = jnp.where(valid_t, dz, 0), jnp.where(valid_t, dc, dc_next)
        dh = dz @ recurrent_kernel_t
        if recurrent_mask is not None:
            d_mask = d_mask + dh * h_before
            dh = dh * recurrent_mask
        if valid_t is not None:
            # dz is 0 on a frozen row, so its product is too: only what passed by is added.
            dh = dh + jnp.where(valid_t, 0, dh_next)
        return (dc, dh, d_mask), dz

    def compute_again(both: Array, c_start: Array, valid: Array | None, shape: Any) -> _Kept:
        z = (both @ kernels + bias).reshape(*shape[:2], 4 * units)
        gates = lax.optimization_barrier(half_gates(z))
        i, f, g, _ = gates

        def step(c: Array, inputs: Any) -> Any:
            f, i_g, valid_t = inputs
            c_next = f * c + i_g
            return c_next if valid_t is None else jnp.where(valid_t, c_next, c), c

        _, c = lax.scan(step, c_start, (f, i * g, valid), reverse=reverse)
        return _Kept(c, gates)

    def block(state: Any, inputs: Any) -> Any:
        """Some steps: their dz, then what depends on dz, in products over all of them."""
        d_carry, d_params = state
        x, hs, kept, d_hs, valid, next_valid, h_edge, c_start = inputs
        if reverse:
            h_before = jnp.concatenate([hs[1:], h_edge[None]])
        else:
            h_before = jnp.concatenate([h_edge[None], hs[:-1]])
        if valid is not None:
            x = jnp.where(valid, x, 0)  # dz is 0 there, but 0 * nan is not
            if reverse:  # a row's first step backwards comes from its initial carry
                h_before = jnp.where(next_valid, h_before, carry[1])
        seen = h_before if recurrent_mask is None else h_before * recurrent_mask
        both = jnp.concatenate([x, seen], axis=-1).reshape(-1, features + units)
        if not keep:
            kept = compute_again(both, c_start, valid, hs.shape)
        inputs = (d_hs, *kept, valid, None if recurrent_mask is None else h_before)
        d_carry, dz = lax.scan(step, d_carry, inputs, reverse=not reverse)
        rows = dz.reshape(-1, 4 * units)
        d_params = jax.tree.map(jnp.add, d_params, (both.T @ rows, rows.sum(0, keepdims=True)))
        return (d_carry, d_params), (rows @ kernel_t).reshape(x.shape)

    size = _block_steps(steps, batch)
    blocks, rest = divmod(steps, size)
    whole = blocks * size
    # The step before a block's first one (after its last one, in reverse) lies in another block.
    h_edges = jnp.concatenate([hs[size::size], carry[1][None]] if reverse
                              else [carry[1][None], hs[size - 1 :: size]])  # fmt: skip
    next_valid = None
    if valid is not None:
        next_valid = jnp.concatenate([valid[1:], jnp.zeros_like(valid[:1])])
    inputs = (x, hs, kept, d_hs, valid, next_valid)
    in_blocks = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(blocks, size, *leaf.shape[1:]), inputs
    )
    tail = jax.tree.map(lambda leaf: leaf[whole:], inputs)
    d_mask, zeros = jax.tree.map(jnp.zeros_like, (recurrent_mask, (kernels, bias)))
    state = ((*d_last, d_mask), zeros)
    d_tail = jnp.zeros_like(x[whole:])
    whole_starts, tail_start = None, None
    if not keep:
        starts = c_starts[1:] if reverse else c_starts
        whole_starts, tail_start = starts[:blocks], starts[blocks]
    if rest and not reverse:
        state, d_tail = block(state, (*tail, h_edges[blocks], tail_start))
    in_blocks = (*in_blocks, h_edges[:blocks], whole_starts)
    state, d_x = lax.scan(block, state, in_blocks, reverse=not reverse)
    if rest and reverse:
        state, d_tail = block(state, (*tail, carry[1], tail_start))
    (dc, dh, d_mask), (d_kernels, d_bias) = state
    d_x = jnp.concatenate([d_x.reshape(whole, batch, features), d_tail])
    d_params = LSTMParams(d_kernels[:features], d_kernels[features:], d_bias[0])
    return d_params, d_x, (dc, dh), None, d_mask


lstm_scan.defvjp(_forward, _backward)
