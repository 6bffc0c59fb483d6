"""The LSTM equations, their scan over time and their own gradient.

Shapes: ``B`` batch, ``T`` time, ``F`` features, ``H`` units. Gate order is i, f, g, o, as in Keras
(i, f, c, o) and PyTorch:

    z = x K + h R + b,   i, f, o = sigmoid(z_i, z_f, z_o),   g = tanh(z_g)
    c' = f * c + i * g,  h' = o * tanh(c')

References:
    Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.
    Gers et al., "Learning to Forget", Neural Computation 12(10), 2000 (the forget gate).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Carry = tuple[Array, Array]

BACKENDS = ("auto", "xla")


class LSTMParams(NamedTuple):
    """Weights of one LSTM layer in one direction."""

    kernel: Array  # shape=(F, 4H)
    recurrent_kernel: Array  # shape=(H, 4H)
    bias: Array  # shape=(4H,)


class _Kept(NamedTuple):
    """What the forward scan keeps for the backward scan, time-major."""

    h: Array  # shape=(T, B, H), the carry after each step, frozen where a row has ended
    c: Array  # shape=(T, B, H), likewise
    # Four arrays: read back as slices of one [T, B, 4H] array they cost nearly twice as much a step.
    gates: tuple[Array, Array, Array, Array]


def _gate_scale(units: int, dtype: Any) -> Array:
    """One factor a gate column: halves the sigmoid gates' pre-activation (see `_gates`)."""
    return jnp.ones((4, units), dtype).at[jnp.array([0, 1, 3])].set(0.5).reshape(4 * units)


def _gates(half_z: Array) -> tuple[Array, Array, Array, Array]:
    """Gate activations i, f, g, o from ``z * _gate_scale``.

    As sigmoid(z) = tanh(z / 2) / 2 + 1 / 2, one tanh over the whole block serves all four gates. The
    halving is folded into the weights, where it is exact: 0.5 is a power of two.
    """
    i, f, g, o = jnp.split(jnp.tanh(half_z), 4, axis=-1)
    return i * 0.5 + 0.5, f * 0.5 + 0.5, g, o * 0.5 + 0.5


def lstm_step(params: LSTMParams, carry: Carry, x: Array) -> tuple[Carry, Array]:
    """Runs one LSTM step.

    Args:
      params: weights; kernel ``[F, 4H]``, recurrent_kernel ``[H, 4H]``, bias ``[4H]``.
      carry: ``(c, h)``, each ``[..., H]``.
      x: input of this step, ``[..., F]``.

    Returns:
      ``((c, h), h)``, each ``[..., H]``.

    Example:
      >>> import jax.numpy as jnp
      >>> params = LSTMParams(jnp.ones((3, 8)), jnp.ones((2, 8)), jnp.zeros(8))
      >>> (c, h), y = lstm_step(params, (jnp.zeros((5, 2)), jnp.zeros((5, 2))), jnp.ones((5, 3)))
      >>> y.shape
      (5, 2)
    """
    c, h = carry
    z = x @ params.kernel + h @ params.recurrent_kernel + params.bias
    i, f, g, o = _gates(z * _gate_scale(h.shape[-1], z.dtype))
    c = f * c + i * g
    h = o * jnp.tanh(c)
    return (c, h), h


def _is_valid(lengths: Array | None, steps: int) -> Array | None:
    """Mask ``[T, B, 1]``: does step t belong to row b. None where every step does."""
    if lengths is None:
        return None
    return (jnp.arange(steps)[:, None] < lengths[None, :])[..., None]


def _scan(params: LSTMParams, x: Array, carry: Carry, valid: Array | None, reverse: bool) -> Any:
    """Scans the time-major ``x [T, B, F]``; returns the last carry and `_Kept`."""
    scale = _gate_scale(params.recurrent_kernel.shape[0], params.kernel.dtype)
    kernel, recurrent_kernel, bias = (weights * scale for weights in params)

    def step(carry: Carry, inputs: Any) -> Any:
        c, h = carry
        x_t, valid_t = inputs
        gates = _gates(x_t @ kernel + h @ recurrent_kernel + bias)
        # Without the barrier XLA computes each activation twice: once to keep it, once to use it.
        i, f, g, o = gates = lax.optimization_barrier(gates)
        c_next = f * c + i * g
        h_next = o * jnp.tanh(c_next)
        if valid_t is not None:
            c_next = jnp.where(valid_t, c_next, c)
            h_next = jnp.where(valid_t, h_next, h)
        return (c_next, h_next), _Kept(h_next, c_next, gates)

    return lax.scan(step, carry, (x, valid), reverse=reverse)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _lstm(
    params: LSTMParams, x: Array, carry: Carry, lengths: Array | None, reverse: bool
) -> tuple[Array, Carry]:
    return _lstm_forward(params, x, carry, lengths, reverse)[0]


def _lstm_forward(
    params: LSTMParams, x: Array, carry: Carry, lengths: Array | None, reverse: bool
) -> Any:
    valid = _is_valid(lengths, x.shape[0])
    last, kept = _scan(params, x, carry, valid, reverse)
    hs = kept.h if valid is None else jnp.where(valid, kept.h, 0)
    return (hs, last), (params, x, carry, lengths, kept)


def _lstm_backward(reverse: bool, residuals: Any, cotangents: Any) -> Any:
    """Gradient by hand: the scan computes only what is sequential.

    With dh the gradient that reaches h', and dc the one that reaches c' (both include the next
    step's):

        dc += dh * o * (1 - tanh(c')^2)
        dz_i = dc * g * i (1 - i)      dz_f = dc * c * f (1 - f)
        dz_g = dc * i * (1 - g^2)      dz_o = dh * tanh(c') * o (1 - o)
        dc <- dc * f                   dh <- dz R^T

    so every weight gradient is a sum over steps of products with dz, that is one matrix product
    over all T * B rows after the scan instead of a rank-B update of the weights in every step.
    """
    params, x, carry, lengths, kept = residuals
    d_hs, (d_c_last, d_h_last) = cotangents
    valid = _is_valid(lengths, x.shape[0])
    if valid is not None:
        x = jnp.where(valid, x, 0)  # dz is 0 there, but 0 * nan is not

    def before(states: Array, initial: Array) -> Array:
        if reverse:
            states = jnp.concatenate([states[1:], initial[None]])
        else:
            states = jnp.concatenate([initial[None], states[:-1]])
        return states[: x.shape[0]]  # nothing where T is 0

    c_before, h_before = before(kept.c, carry[0]), before(kept.h, carry[1])
    recurrent_kernel_t = params.recurrent_kernel.T

    def step(d_carry: Carry, inputs: Any) -> Any:
        dc_next, dh_next = d_carry
        d_h, c, c_prev, (i, f, g, o), valid_t = inputs
        tanh_c = jnp.tanh(c)
        dh = dh_next + d_h
        dc = dc_next + dh * o * (1 - tanh_c * tanh_c)
        dz = jnp.concatenate(
            [
                dc * g * i * (1 - i),
                dc * c_prev * f * (1 - f),
                dc * i * (1 - g * g),
                dh * tanh_c * o * (1 - o),
            ],
            axis=-1,
        )
        dc_prev = dc * f
        if valid_t is not None:
            dz = jnp.where(valid_t, dz, 0)
            dc_prev = jnp.where(valid_t, dc_prev, dc_next)
            # dz is 0 on a frozen row, so its product is too: only what passed by is added.
            return (dc_prev, dz @ recurrent_kernel_t + jnp.where(valid_t, 0, dh_next)), dz
        return (dc_prev, dz @ recurrent_kernel_t), dz

    (dc, dh), dz = lax.scan(
        step,
        (d_c_last, d_h_last),
        (d_hs, kept.c, c_before, kept.gates, valid),
        reverse=not reverse,
    )
    rows = dz.reshape(-1, dz.shape[-1])
    d_params = LSTMParams(
        kernel=x.reshape(-1, x.shape[-1]).T @ rows,
        recurrent_kernel=h_before.reshape(-1, h_before.shape[-1]).T @ rows,
        bias=rows.sum(0),
    )
    d_x = (rows @ params.kernel.T).reshape(x.shape)
    return d_params, d_x, (dc, dh), None


_lstm.defvjp(_lstm_forward, _lstm_backward)


def lstm(
    params: LSTMParams,
    x: Array,
    *,
    initial_carry: Carry | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    backend: str = "auto",
) -> tuple[Array, Carry]:
    """Runs an LSTM over a batch of sequences.

    Steps past a row's length change nothing: its carry is frozen and its outputs are 0. A row of
    length 0 returns the initial carry. ``reverse`` walks the valid part of each row from its last
    step to its first; output t still belongs to input t, so the last state is ``hs[:, 0]``.

    Args:
      params: weights; kernel ``[F, 4H]``, recurrent_kernel ``[H, 4H]``, bias ``[4H]``.
      x: sequences, ``[B, T, F]``.
      initial_carry: ``(c, h)``, each ``[B, H]``; zeros by default.
      lengths: valid steps of each row, integers ``[B]`` in ``0..T``; all T by default.
      reverse: whether to run backwards in time.
      backend: "xla" (a scan, everywhere) or "auto", which picks among the backends at hand.

    Returns:
      ``(hs, (c, h))``: outputs ``[B, T, H]`` and the last carry, each ``[B, H]``.

    Raises:
      ValueError: shapes that do not fit together, or an unknown backend.

    Example:
      >>> import jax
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> kernel = jax.random.normal(keys[0], (3, 16))
      >>> params = LSTMParams(kernel, jax.random.normal(keys[1], (4, 16)), kernel[0])
      >>> hs, (c, h) = lstm(params, jax.random.normal(keys[2], (2, 5, 3)))
      >>> hs.shape, bool((hs[:, -1] == h).all())
      ((2, 5, 4), True)
    """
    params = LSTMParams(*params)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if x.ndim != 3:
        raise ValueError(f"x must have shape [B, T, F], got {x.shape}.")
    batch, _, features = x.shape
    units = params.recurrent_kernel.shape[0]
    for name, shape in [
        ("kernel", (features, 4 * units)),
        ("recurrent_kernel", (units, 4 * units)),
        ("bias", (4 * units,)),
    ]:
        got = getattr(params, name).shape
        if got != shape:
            raise ValueError(
                f"params.{name} must have shape {shape} for {features} features and {units} units,"
                f" got {got}."
            )
    if initial_carry is None:
        zeros = jnp.zeros((batch, units), jnp.result_type(x, *params))
        initial_carry = (zeros, zeros)
    for name, state in zip(("c", "h"), initial_carry, strict=True):
        if state.shape != (batch, units):
            raise ValueError(
                f"initial_carry's {name} must have shape {(batch, units)}, got {state.shape}."
            )
    if lengths is not None:
        lengths = jnp.asarray(lengths)
        if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise ValueError(
                f"lengths must be integers of shape {(batch,)}, got {lengths.dtype} {lengths.shape}."
            )
    dtype = jnp.result_type(x, *params)
    params, x, carry = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype), (params, x, tuple(initial_carry))
    )
    hs, last = _lstm(params, x.swapaxes(0, 1), carry, lengths, bool(reverse))
    return hs.swapaxes(0, 1), last
