"""Flax (linen) layers over `recurrence`: cells, layers, stacks, dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm.nn.recurrence import Carry, LSTMParams, lstm, lstm_step

Array = jax.Array
Initializer = Callable[..., Any]

MERGES = ("concat", "sum", "mean", "mul")


def forget_gate_bias(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Bias ``[4H]`` of zeros with ones for the forget gate: Keras's ``unit_forget_bias``."""
    del key
    units = shape[0] // 4
    return jnp.zeros(shape, dtype).at[units : 2 * units].set(1)


def _lstm_params(module: Any, features: int) -> LSTMParams:
    gates = 4 * module.features
    return LSTMParams(
        module.param("kernel", module.kernel_init, (features, gates), module.param_dtype),
        module.param(
            "recurrent_kernel", module.recurrent_init, (module.features, gates), module.param_dtype
        ),
        module.param("bias", module.bias_init, (gates,), module.param_dtype),
    )


class LSTMCell(nn.RNNCellBase):
    """One LSTM step as a Flax cell, usable in `flax.linen.RNN`; carry is ``(c, h)``.

    Attributes:
      features: units H.
      kernel_init: initialiser of the kernel ``[F, 4H]`` (Keras's default: Glorot uniform).
      recurrent_init: initialiser of the recurrent kernel ``[H, 4H]`` (orthogonal).
      bias_init: initialiser of the bias ``[4H]`` (zeros, forget gate 1).
      param_dtype: type of the weights.
    """

    features: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer = forget_gate_bias
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Maps carry ``(c, h)``, each ``[..., H]``, and inputs ``[..., F]`` to ``(carry, h)``."""
        return lstm_step(_lstm_params(self, inputs.shape[-1]), carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """Returns zeros ``(c, h)`` for inputs of shape ``[..., F]``."""
        del rng
        zeros = jnp.zeros((*input_shape[:-1], self.features), self.param_dtype)
        return zeros, zeros

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of the input are features."""
        return 1


class LSTM(nn.Module):
    """One LSTM layer in one direction: ``[B, T, F] -> [B, T, H]``.

    Attributes are `LSTMCell`'s, and:
      reverse: whether to walk the sequences from their end.
      backend: see `jaxlstm.lstm`.
    """

    features: int
    reverse: bool = False
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer = forget_gate_bias
    param_dtype: Any = jnp.float32
    backend: str = "auto"

    @nn.compact
    def __call__(
        self, x: Array, *, initial_carry: Carry | None = None, lengths: Array | None = None
    ) -> tuple[Array, Carry]:
        """Returns outputs ``[B, T, H]`` and the last carry ``(c, h)``, each ``[B, H]``."""
        return lstm(
            _lstm_params(self, x.shape[-1]),
            x,
            initial_carry=initial_carry,
            lengths=lengths,
            reverse=self.reverse,
            backend=self.backend,
        )


def merge_directions(forward: Array, backward: Array, merge: str) -> Array:
    """Merges two arrays ``[..., H]`` by "concat" (``[..., 2H]``), "sum", "mean" or "mul"."""
    if merge == "concat":
        return jnp.concatenate([forward, backward], axis=-1)
    if merge == "sum":
        return forward + backward
    if merge == "mean":
        return (forward + backward) / 2
    if merge == "mul":
        return forward * backward
    raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {merge!r}.")


class Bidirectional(nn.Module):
    """Two LSTMs, one in each direction of time, merged as Keras's `Bidirectional` does.

    Attributes:
      features: units H of each direction.
      merge: "concat", "sum", "mean" or "mul" (Keras's ``merge_mode``; its "ave" is "mean").
      backend: see `jaxlstm.lstm`.
    """

    features: int
    merge: str = "concat"
    backend: str = "auto"

    @nn.compact
    def __call__(self, x: Array, *, lengths: Array | None = None) -> tuple[Array, Array]:
        """Returns outputs ``[B, T, H or 2H]`` and the last states merged, ``[B, H or 2H]``.

        The last state of the backward direction is the one it reaches at a row's first step.
        """
        hs_forward, (_, h_forward) = LSTM(self.features, backend=self.backend, name="forward")(
            x, lengths=lengths
        )
        hs_backward, (_, h_backward) = LSTM(
            self.features, reverse=True, backend=self.backend, name="backward"
        )(x, lengths=lengths)
        return (
            merge_directions(hs_forward, hs_backward, self.merge),
            merge_directions(h_forward, h_backward, self.merge),
        )


class Dropout(nn.Module):
    """Dropout whose rate may be a traced number, so that it can differ between lanes.

    Kept entries are divided by ``1 - rate``, as in Keras and Flax. The mask is drawn with the last
    axis outermost: the first H features get the same mask however many more there are, so a layer
    padded with extra units draws as the unpadded one. Randomness comes from the "dropout" stream, 16
    bits an entry (half the cost of a float), so the rate is met to 1/65536.

    Attributes:
      rate: the share of entries set to 0, in [0, 1); a number or a traced scalar.
    """

    rate: Any = 0.0

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns x, with entries dropped when ``train``; x is ``[B, ..., F]``."""
        if not train or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        words = jax.random.bits(self.make_rng("dropout"), ((x.size + 1) // 2,), jnp.uint32)
        halves = lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size]
        draws = jnp.moveaxis(halves.reshape(x.shape[-1], *x.shape[:-1]), 0, -1)
        threshold = jnp.round(jnp.asarray(self.rate, jnp.float32) * 65536).astype(jnp.uint32)
        keep = draws >= threshold
        scale = (1 / (1 - jnp.asarray(self.rate, x.dtype))).astype(x.dtype)
        return jnp.where(keep, x * scale, 0)


class StackedLSTM(nn.Module):
    """LSTM layers on top of each other, with dropout between them.

    Attributes:
      units: units of each layer.
      dropout: rate after every layer but the last, as in PyTorch's `nn.LSTM`; may be traced.
      bidirectional: whether every layer runs in both directions.
      merge: how the directions are merged, see `Bidirectional`.
      backend: see `jaxlstm.lstm`.
    """

    units: Sequence[int]
    dropout: Any = 0.0
    bidirectional: bool = False
    merge: str = "concat"
    backend: str = "auto"

    @nn.compact
    def __call__(
        self, x: Array, *, lengths: Array | None = None, train: bool = False
    ) -> tuple[Array, Array]:
        """Returns the top layer's outputs ``[B, T, H]`` and its last state ``[B, H]``."""
        if not self.units:
            raise ValueError("units must name at least one layer, got an empty sequence.")
        hs, h = x, x[:, -1]
        for index, features in enumerate(self.units):
            if index:
                hs = Dropout(self.dropout)(hs, train=train)
            name = f"lstm_{index}"
            if self.bidirectional:
                hs, h = Bidirectional(features, self.merge, self.backend, name=name)(
                    hs, lengths=lengths
                )
            else:
                hs, (_, h) = LSTM(features, backend=self.backend, name=name)(hs, lengths=lengths)
        return hs, h
