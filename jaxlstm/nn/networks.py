"""Classifying networks: each maps a batch of inputs to logits ``[B, C]``.

A network's ``traced_fields`` may hold traced numbers, so that trials which differ in them share one
compiled program. A network of your own may declare the same attribute, and what `padding` asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any, ClassVar

import flax.linen as nn
import jax

from jaxlstm.nn.layers import Dropout, StackedLSTM
from jaxlstm.nn.padding import Widths

Array = jax.Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softmax": jax.nn.softmax,
    "tanh": jax.numpy.tanh,
}

# Of these, a unit whose weights are all 0 is not 0 (sigmoid), or changes the others (softmax).
NOT_PADDABLE = ("sigmoid", "softmax")


def activation(name: str) -> Callable[[Array], Array]:
    """Returns the activation of that name (Keras's names).

    Raises:
      ValueError: an unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]


def _dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.glorot_uniform(), name=name)


def _dense_blocks(inputs: Widths, features: int) -> dict[str, Any]:
    return {"kernel": (inputs, (features,)), "bias": ((features,),)}


class LSTMClassifierNetwork(nn.Module):
    """Stacked LSTM, last valid state, dense layers, logits.

    Attributes:
      classes: number of classes C.
      units: units of each LSTM layer.
      dense: units of each dense layer between the LSTM and the logits.
      dropout: rate on the outputs of every LSTM layer but the last, or, with one layer, on its last
        state; may be traced.
      dense_dropout: rate after each dense layer; may be traced.
      bidirectional: whether the LSTM layers run in both directions.
      merge: how the directions are merged, see `Bidirectional`.
      activation: of the dense layers.
      recurrent_dropout: of every LSTM layer, see `LSTM`; may be traced.
    """

    classes: int
    units: Sequence[int] = (64,)
    dense: Sequence[int] = ()
    dropout: Any = 0.0
    dense_dropout: Any = 0.0
    bidirectional: bool = False
    merge: str = "concat"
    activation: str = "relu"
    recurrent_dropout: Any = 0.0

    @property
    def traced_fields(self) -> tuple[str, ...]:
        """Names of the fields that may be traced.

        A known recurrent dropout of 0 is not among them: a traced one costs every step a product.
        """
        rate = self.recurrent_dropout
        known = not isinstance(rate, jax.core.Tracer)
        off = known and isinstance(rate, Number) and rate == 0
        return ("dropout", "dense_dropout", *([] if off else ["recurrent_dropout"]))

    @property
    def paddable(self) -> dict[str, Widths]:
        """See `padding`."""
        fields = {"units": tuple(self.units), "dense": tuple(self.dense)}
        if self.activation in NOT_PADDABLE:
            del fields["dense"]
        return fields

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, T, F]``."""
        stack = self._stack()
        blocks = {"StackedLSTM_0": stack.parameter_blocks((x_shape[-1],))}
        inputs = stack.output_blocks()
        for index, features in enumerate(self.dense):
            blocks[f"dense_{index}"] = _dense_blocks(inputs, features)
            inputs = (features,)
        return {**blocks, "logits": _dense_blocks(inputs, self.classes)}

    @nn.nowrap
    def _stack(self) -> StackedLSTM:
        return StackedLSTM(
            self.units,
            self.dropout,
            self.bidirectional,
            self.merge,
            recurrent_dropout=self.recurrent_dropout,
        )

    @nn.compact
    def __call__(self, x: Array, *, lengths: Array | None = None, train: bool = False) -> Array:
        """Maps sequences ``[B, T, F]`` to logits ``[B, C]``."""
        stack = self._stack()
        _, h = stack(x, lengths=lengths, train=train)
        if len(self.units) == 1:
            h = Dropout(self.dropout, blocks=len(stack.output_blocks()))(h, train=train)
        for index, features in enumerate(self.dense):
            h = activation(self.activation)(_dense(features, f"dense_{index}")(h))
            h = Dropout(self.dense_dropout)(h, train=train)
        return _dense(self.classes, "logits")(h)


class MLP(nn.Module):
    """Dense layers over the flattened input, then logits.

    Attributes:
      classes: number of classes C.
      units: units of each hidden layer.
      activation: of the hidden layers.
      dropout: rate after each hidden layer; may be traced.
    """

    classes: int
    units: Sequence[int] = (784, 392)
    activation: str = "relu"
    dropout: Any = 0.0

    traced_fields: ClassVar[tuple[str, ...]] = ("dropout",)

    @property
    def paddable(self) -> dict[str, Widths]:
        """See `padding`."""
        return {} if self.activation in NOT_PADDABLE else {"units": tuple(self.units)}

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, ...]``."""
        blocks, inputs = {}, (math.prod(x_shape[1:]),)
        for index, features in enumerate(self.units):
            blocks[f"dense_{index}"] = _dense_blocks(inputs, features)
            inputs = (features,)
        return {**blocks, "logits": _dense_blocks(inputs, self.classes)}

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Maps inputs ``[B, ...]`` to logits ``[B, C]``."""
        x = x.reshape(x.shape[0], -1)
        for index, features in enumerate(self.units):
            x = activation(self.activation)(_dense(features, f"dense_{index}")(x))
            x = Dropout(self.dropout)(x, train=train)
        return _dense(self.classes, "logits")(x)


class CNN(nn.Module):
    """Convolutions with 2x2 max-pooling over images, flattened, dropout, logits.

    Attributes:
      classes: number of classes C.
      channels: output channels of each convolution.
      kernel_size: height and width of the convolutions, in pixels.
      activation: of the convolutions.
      dropout: rate before the logits; may be traced.
    """

    classes: int
    channels: Sequence[int] = (32, 64)
    kernel_size: Sequence[int] = (3, 3)
    activation: str = "relu"
    dropout: Any = 0.0

    traced_fields: ClassVar[tuple[str, ...]] = ("dropout",)

    @property
    def paddable(self) -> dict[str, Widths]:
        """See `padding`."""
        return {} if self.activation in NOT_PADDABLE else {"channels": tuple(self.channels)}

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, height, width]`` or ``[B, height, width, channels]``."""
        size, inputs = x_shape[1:3], 1 if len(x_shape) == 3 else x_shape[3]
        window = tuple(self.kernel_size)
        blocks: dict[str, Any] = {}
        for index, channels in enumerate(self.channels):
            kernel = (*((pixels,) for pixels in window), (inputs,), (channels,))
            blocks[f"conv_{index}"] = {"kernel": kernel, "bias": ((channels,),)}
            size = tuple(
                (pixels - span + 1) // 2 for pixels, span in zip(size, window, strict=True)
            )
            inputs = channels
        flat = (inputs,) * math.prod(size)
        return {**blocks, "logits": _dense_blocks(flat, self.classes)}

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Maps images ``[B, height, width]`` or ``[B, height, width, channels]`` to logits."""
        if x.ndim == 3:
            x = x[..., None]
        for index, channels in enumerate(self.channels):
            x = nn.Conv(
                channels,
                tuple(self.kernel_size),
                padding="VALID",
                kernel_init=nn.initializers.glorot_uniform(),
                name=f"conv_{index}",
            )(x)
            x = nn.max_pool(activation(self.activation)(x), (2, 2), strides=(2, 2))
        x = Dropout(self.dropout)(x, train=train)
        return _dense(self.classes, "logits")(x.reshape(x.shape[0], -1))
