"""Networks of convolutions, which map a batch of images or sequences to logits ``[B, C]``.

Windows, "same" and "valid" padding and max-pooling are Keras's. As in `networks`, ``traced_fields``
may hold traced numbers and `padding` may widen the layers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

from jaxlstm.nn.convolve import convolve, max_pool
from jaxlstm.nn.layers import Dropout, StackedLSTM
from jaxlstm.nn.networks import (
    NOT_PADDABLE,
    ByFields,
    activation,
    checked_integer,
    checked_widths,
    dense_head,
    dense_head_blocks,
    lstm_output,
)
from jaxlstm.nn.padding import Widths

Array = jax.Array

PADDINGS = ("valid", "same")


@dataclasses.dataclass(frozen=True)
class _Convolutions:
    """Convolutions ``[B, *size, K] -> [B, *size, channels]``, each activated and max-pooled.

    No module of its own: its layers belong to the network in whose ``__call__`` it is called.
    """

    channels: Sequence[int]
    window: Sequence[int]  # an extent for each of the size's axes
    activation: str
    padding: str
    pool: int
    clips_width: bool = False  # whether a last axis shorter than the pooling is pooled to one

    def __post_init__(self) -> None:
        checked_widths("channels", self.channels)
        checked_integer("pool", self.pool)
        activation(self.activation)
        if self.padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {self.padding!r}.")

    def sizes(self, size: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The sizes after each convolution and its pooling.

        Raises:
          ValueError: nothing would be left.
        """
        sizes = [size]
        for index in range(len(self.channels)):
            lost = [0 if self.padding == "same" else span - 1 for span in self.window]
            left = [extent - less for extent, less in zip(sizes[-1], lost, strict=True)]
            pools = zip(left, self._pools(left), strict=True)
            sizes.append(tuple(extent // pool for extent, pool in pools))
            if min(sizes[-1]) < 1:
                raise ValueError(
                    f"x must be larger: of {' x '.join(map(str, size))} nothing is left after"
                    f" conv_{index}, with windows of {' x '.join(map(str, self.window))}, padding"
                    f" {self.padding!r} and pool {self.pool}: take fewer channels, padding='same' or"
                    " pool=1."
                )
        return sizes[1:]

    def _pools(self, size: Sequence[int]) -> Widths:
        """The extent of the pooling along each axis of an image of this size."""
        last = max(1, min(self.pool, size[-1])) if self.clips_width else self.pool
        return (*(self.pool,) * (len(size) - 1), last)

    def output_shape(self, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for inputs ``[B, *size, K]``."""
        *_, size = [x_shape[1:-1], *self.sizes(x_shape[1:-1])]
        return x_shape[0], *size, (self.channels[-1] if self.channels else x_shape[-1])

    def parameter_blocks(self, inputs: int) -> dict[str, Any]:
        """See `padding`; the input has that many channels."""
        blocks = {}
        for index, channels in enumerate(self.channels):
            kernel = (*((span,) for span in self.window), (inputs,), (channels,))
            blocks[f"conv_{index}"] = {"kernel": kernel, "bias": ((channels,),)}
            inputs = channels
        return blocks

    def __call__(self, x: Array) -> Array:
        self.sizes(x.shape[1:-1])
        for index, channels in enumerate(self.channels):
            x = nn.Conv(
                channels,
                tuple(self.window),
                padding=self.padding.upper(),
                kernel_init=nn.initializers.glorot_uniform(),
                conv_general_dilated=convolve,
                name=f"conv_{index}",
            )(x)
            x = max_pool(activation(self.activation)(x), self._pools(x.shape[1:-1]))
        return x


def _image_window(kernel_size: Any) -> Widths:
    known = isinstance(kernel_size, Sequence) and len(kernel_size) == 2
    if not known or not all(isinstance(n, int | np.integer) and n > 0 for n in kernel_size):
        raise ValueError(f"kernel_size must be two positive integers, got {kernel_size!r}.")
    return tuple(kernel_size)


def _image_shape(x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape ``[B, height, width, channels]`` of images that may lack the last axis."""
    if len(x_shape) not in (3, 4):
        raise ValueError(
            "x must be images [B, height, width] or [B, height, width, channels],"
            f" got shape {tuple(x_shape)}."
        )
    return (*x_shape, 1) if len(x_shape) == 3 else tuple(x_shape)


def _paddable(module: Any, **fields: Any) -> dict[str, Widths]:
    """See `padding`: of these fields of widths those whose activation, given by name, permits it."""
    return {
        name: checked_widths(name, getattr(module, name))
        for name, own in fields.items()
        if own not in NOT_PADDABLE
    }


class CNN(ByFields, nn.Module):
    """Convolutions with max-pooling over images, flattened, dropout, dense layers, logits.

    Attributes:
      classes: number of classes C.
      channels: output channels of each convolution.
      kernel_size: height and width of the convolutions, in pixels.
      activation: of the convolutions.
      dropout: rate after the convolutions; may be traced.
      dense: units of each dense layer between the convolutions and the logits.
      dense_dropout: rate after each dense layer; may be traced.
      dense_activation: of the dense layers.
      padding: "valid" or "same": whether a convolution keeps to the image or keeps its size.
      pool: height and width of the max-pooling after each convolution, in pixels; 1: none.
    """

    classes: int
    channels: Sequence[int] = (32, 64)
    kernel_size: Sequence[int] = (3, 3)
    activation: str = "relu"
    dropout: Any = 0.0
    dense: Sequence[int] = ()
    dense_dropout: Any = 0.0
    dense_activation: str = "relu"
    padding: str = "valid"
    pool: int = 2

    traced_fields: ClassVar[tuple[str, ...]] = ("dropout", "dense_dropout")

    @property
    def paddable(self) -> dict[str, Widths]:
        """See `padding`."""
        return _paddable(self, channels=self.activation, dense=self.dense_activation)

    @nn.nowrap
    def _convolutions(self) -> _Convolutions:
        window = _image_window(self.kernel_size)
        return _Convolutions(self.channels, window, self.activation, self.padding, self.pool)

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, height, width]`` or ``[B, height, width, channels]``."""
        return _flat_blocks(self, self._convolutions(), _image_shape(x_shape))

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Maps images ``[B, height, width]`` or ``[B, height, width, channels]`` to logits."""
        return _flat(self, self._convolutions(), x.reshape(_image_shape(x.shape)), train)


class Conv1D(ByFields, nn.Module):
    """Convolutions over time with max-pooling, flattened, dropout, dense layers, logits.

    Attributes:
      classes: number of classes C.
      channels: output channels of each convolution.
      kernel_size: steps of each convolution.
      pool: steps of the max-pooling after each convolution; 1: none.
      activation: of the convolutions.
      padding: "valid" or "same": whether a convolution keeps to the sequence or keeps its length.
      dropout: rate after the convolutions; may be traced.
      dense: units of each dense layer between the convolutions and the logits.
      dense_activation: of the dense layers.
      dense_dropout: rate after each dense layer; may be traced.
    """

    classes: int
    channels: Sequence[int] = (64, 128)
    kernel_size: int = 5
    pool: int = 2
    activation: str = "relu"
    padding: str = "same"
    dropout: Any = 0.0
    dense: Sequence[int] = ()
    dense_activation: str = "relu"
    dense_dropout: Any = 0.0

    traced_fields: ClassVar[tuple[str, ...]] = ("dropout", "dense_dropout")

    @property
    def paddable(self) -> dict[str, Widths]:
        """See `padding`."""
        return _paddable(self, channels=self.activation, dense=self.dense_activation)

    @nn.nowrap
    def _convolutions(self) -> _Convolutions:
        window = (checked_integer("kernel_size", self.kernel_size),)
        return _Convolutions(self.channels, window, self.activation, self.padding, self.pool)

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, T, F]``."""
        return _flat_blocks(self, self._convolutions(), x_shape)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Maps sequences ``[B, T, F]`` to logits ``[B, C]``."""
        if x.ndim != 3:
            raise ValueError(f"x must be sequences [B, T, F], got shape {x.shape}.")
        return _flat(self, self._convolutions(), x, train)


def _flat_blocks(
    module: CNN | Conv1D, convolutions: _Convolutions, x_shape: tuple[int, ...]
) -> dict[str, Any]:
    _, *size, channels = convolutions.output_shape(x_shape)
    flat = (channels,) * math.prod(size)
    return {
        **convolutions.parameter_blocks(x_shape[-1]),
        **dense_head_blocks(flat, module.classes, module.dense),
    }


def _flat(module: CNN | Conv1D, convolutions: _Convolutions, x: Array, train: bool) -> Array:
    dense = checked_widths("dense", module.dense)
    activation(module.dense_activation, "dense_activation")
    x = Dropout(module.dropout)(convolutions(x), train=train)
    x = x.reshape(x.shape[0], -1)
    names = module.dense_activation, module.dense_dropout
    return dense_head(x, module.classes, dense, *names, train=train)


class CNNLSTM(ByFields, nn.Module):
    """Convolutions with max-pooling, whose rows are a sequence for a stacked LSTM; dense, logits.

    The LSTM's step t sees row t of the last pooling's image, top to bottom: all its columns, left to
    right, each with all channels.

    Attributes:
      classes: number of classes C.
      channels: output channels of each convolution.
      kernel_size: height and width of the convolutions, in pixels.
      units: units of each LSTM layer.
      dense: units of each dense layer between the LSTM and the logits.
      activation: of the convolutions.
      padding: "valid" or "same": whether a convolution keeps to the image or keeps its size.
      pool: height and width of the max-pooling after each convolution, in pixels; 1: none. Of a width
        below it, as of sequences ``[N, T, F]`` of few features, all columns are pooled to one.
      dropout: rate after the convolutions and on the outputs of every LSTM layer but the last, or,
        with one layer, on its last state, as in `LSTMClassifierNetwork`; may be traced.
      dense_dropout: rate after each dense layer; may be traced.
      dense_activation: of the dense layers.
      bidirectional: whether the LSTM layers run in both directions.
      merge: how the directions are merged, see `Bidirectional`.
    """

    classes: int
    channels: Sequence[int] = (32, 64)
    kernel_size: Sequence[int] = (3, 3)
    units: Sequence[int] = (64,)
    dense: Sequence[int] = ()
    activation: str = "relu"
    padding: str = "same"
    pool: int = 2
    dropout: Any = 0.0
    dense_dropout: Any = 0.0
    dense_activation: str = "relu"
    bidirectional: bool = False
    merge: str = "concat"

    traced_fields: ClassVar[tuple[str, ...]] = ("dropout", "dense_dropout")

    @property
    def paddable(self) -> dict[str, Widths]:
        """See `padding`."""
        own = {"channels": self.activation, "units": "tanh", "dense": self.dense_activation}
        return _paddable(self, **own)

    @nn.nowrap
    def _convolutions(self) -> _Convolutions:
        window = _image_window(self.kernel_size)
        return _Convolutions(
            self.channels, window, self.activation, self.padding, self.pool, clips_width=True
        )

    @nn.nowrap
    def _stack(self) -> StackedLSTM:
        return StackedLSTM(self.units, self.dropout, self.bidirectional, self.merge)

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, height, width]`` or ``[B, height, width, channels]``."""
        x_shape = _image_shape(x_shape)
        convolutions, stack = self._convolutions(), self._stack()
        _, _, width, channels = convolutions.output_shape(x_shape)
        return {
            **convolutions.parameter_blocks(x_shape[-1]),
            "StackedLSTM_0": stack.parameter_blocks((channels,) * width),
            **dense_head_blocks(stack.output_blocks(), self.classes, self.dense),
        }

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Maps images ``[B, height, width]`` or ``[B, height, width, channels]`` to logits."""
        checked_widths("units", self.units)
        dense = checked_widths("dense", self.dense)
        activation(self.dense_activation, "dense_activation")
        x = self._convolutions()(x.reshape(_image_shape(x.shape)))
        x = Dropout(self.dropout)(x, train=train)  # by channel, as `padding` wants it
        x = x.reshape(*x.shape[:2], -1)
        h = lstm_output(self._stack(), x, train=train)
        names = self.dense_activation, self.dense_dropout
        return dense_head(h, self.classes, dense, *names, train=train)
