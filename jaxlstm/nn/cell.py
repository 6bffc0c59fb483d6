"""The LSTM equations: weights, gates and one step.

Shapes: ``B`` batch, ``T`` time, ``F`` features, ``H`` units. Gate order is i, f, g, o, as in Keras
(i, f, c, o) and PyTorch:

    z = x K + h R + b,   i, f, o = sigmoid(z_i, z_f, z_o),   g = tanh(z_g)
    c' = f * c + i * g,  h' = o * tanh(c')

With peepholes the gates see the cell, too: z_i += p_i * c, z_f += p_f * c, z_o += p_o * c'.

References:
    Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.
    Gers et al., "Learning to Forget", Neural Computation 12(10), 2000 (the forget gate).
    Gers et al., "Learning Precise Timing with LSTM Recurrent Networks", JMLR 3, 2002 (peepholes).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Carry = tuple[Array, Array]


class LSTMParams(NamedTuple):
    """Weights of one LSTM layer in one direction."""

    kernel: Array  # shape=(F, 4H)
    recurrent_kernel: Array  # shape=(H, 4H)
    bias: Array | None = None  # shape=(4H,)
    peephole: Array | None = None  # shape=(3, H), rows i, f, o


def check_params(params: LSTMParams, features: int) -> None:
    """Raises ValueError unless the weights fit each other and F features."""
    shape = jnp.shape(params.recurrent_kernel)
    units = shape[0] if shape else 0
    if units == 0:
        raise ValueError(f"params.recurrent_kernel must have shape (H, 4 H), got {shape}.")
    for name, shape in [
        ("recurrent_kernel", (units, 4 * units)),
        ("kernel", (features, 4 * units)),
        ("bias", (4 * units,)),
        ("peephole", (3, units)),
    ]:
        weights = getattr(params, name)
        if weights is not None and jnp.shape(weights) != shape:
            raise ValueError(
                f"params.{name} must have shape {shape} for {features} features and {units} units,"
                f" got {jnp.shape(weights)}."
            )


def gate_scale(units: int, dtype: Any) -> Array:
    """One factor a gate column: halves the sigmoid gates' pre-activation (see `half_gates`)."""
    return jnp.ones((4, units), dtype).at[jnp.array([0, 1, 3])].set(0.5).reshape(4 * units)


def half_gates(half_z: Array) -> tuple[Array, Array, Array, Array]:
    """Gate activations i, f, g, o from ``z * gate_scale``.

    As sigmoid(z) = tanh(z / 2) / 2 + 1 / 2, one tanh over the whole block serves all four gates. The
    halving is folded into the weights, where it is exact: 0.5 is a power of two. Gates are right to
    one rounding of 1, not of themselves: in float32 sigmoid(-20) is 0.
    """
    i, f, g, o = jnp.split(jnp.tanh(half_z), 4, axis=-1)
    return i * 0.5 + 0.5, f * 0.5 + 0.5, g, o * 0.5 + 0.5


def lstm_step(
    params: LSTMParams, carry: Carry, x: Array, *, recurrent_mask: Array | None = None
) -> tuple[Carry, Array]:
    """Runs one LSTM step.

    Args:
      params: weights; kernel ``[F, 4H]``, recurrent_kernel ``[H, 4H]``, bias ``[4H]`` or None,
        peephole ``[3, H]`` or None.
      carry: ``(c, h)``, each ``[..., H]``.
      x: input of this step, ``[..., F]``.
      recurrent_mask: factors ``[..., H]`` of h on its way into the recurrent product, or None.

    Returns:
      ``((c, h), h)``, each ``[..., H]``, in the type of the inputs: 16 bits stay 16 bits.

    Raises:
      ValueError: shapes that do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> params = LSTMParams(jnp.ones((3, 8)), jnp.ones((2, 8)), jnp.zeros(8))
      >>> (c, h), y = lstm_step(params, (jnp.zeros((5, 2)), jnp.zeros((5, 2))), jnp.ones((5, 3)))
      >>> y.shape
      (5, 2)
    """
    params = jax.tree.map(jnp.asarray, LSTMParams(*params))
    x, c, h = jnp.asarray(x), jnp.asarray(carry[0]), jnp.asarray(carry[1])
    check_params(params, x.shape[-1])
    wanted = (*x.shape[:-1], len(params.recurrent_kernel))
    if c.shape != wanted or h.shape != wanted:
        raise ValueError(f"carry must be (c, h) of shape {wanted}, got {c.shape} and {h.shape}.")

    def as_row(vector: Array) -> Array:
        return vector.reshape(*[1] * (x.ndim - 1), -1)

    seen = h if recurrent_mask is None else h * recurrent_mask
    z = x @ params.kernel + seen @ params.recurrent_kernel
    if params.bias is not None:
        z = z + as_row(params.bias)
    if params.peephole is None:
        i, f, g, o = half_gates(z * as_row(gate_scale(h.shape[-1], z.dtype)))
        c = f * c + i * g
    else:
        z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=-1)
        p_i, p_f, p_o = map(as_row, params.peephole)
        i, f = jax.nn.sigmoid(z_i + p_i * c), jax.nn.sigmoid(z_f + p_f * c)
        c = f * c + i * jnp.tanh(z_g)
        o = jax.nn.sigmoid(z_o + p_o * c)
    h = o * jnp.tanh(c)
    return (c, h), h
