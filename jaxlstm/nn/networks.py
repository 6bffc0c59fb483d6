"""Classifying networks: each maps a batch of inputs to logits ``[B, C]``.

A network's ``traced_fields`` may hold traced numbers, so that trials which differ in them share one
compiled program. A network of your own may declare the same attribute, and what `padding` asks for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

from jaxlstm.nn.layers import Bidirectional, Dropout, StackedLSTM
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


def activation(name: str, field: str = "activation") -> Callable[[Array], Array]:
    """Returns the activation of that name (Keras's names), which the field holds.

    Raises:
      ValueError: an unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"{field} must be one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]


def checked_integer(name: str, value: Any, least: int = 1) -> int:
    """Returns an integer field.

    Raises:
      ValueError: no integer, or a smaller one.
    """
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


def checked_widths(name: str, widths: Any) -> Widths:
    """Returns the widths of layers as a tuple.

    Raises:
      ValueError: anything but a sequence of positive integers.
    """
    known = isinstance(widths, Sequence) and not isinstance(widths, str)
    if not known or not all(isinstance(width, int | np.integer) and width > 0 for width in widths):
        raise ValueError(f"{name} must be a sequence of positive integers, got {widths!r}.")
    return tuple(widths)


def dense_layer(features: int, name: str) -> nn.Dense:
    """A dense layer that starts as Keras's does."""
    return nn.Dense(features, kernel_init=nn.initializers.glorot_uniform(), name=name)


def lstm_output(
    stack: StackedLSTM,
    x: Array,
    *,
    lengths: Array | None = None,
    train: bool = False,
    flatten: bool = False,
    return_sequences: bool = False,
) -> Array:
    """The last state ``[B, H]`` of a stack, its outputs ``[B, T, H]``, or these flattened.

    A stack without places between layers drops out there.
    """
    if flatten and lengths is not None:
        raise ValueError(
            "flatten=True joins the outputs of all steps, so rows must be equally long: leave it out"
            " for rows of unequal length."
        )
    if flatten and return_sequences:
        raise ValueError("flatten and return_sequences cannot both be True.")
    hs, h = stack(x, lengths=lengths, train=train)
    out = hs if flatten or return_sequences else h
    if len(stack.units) == 1:
        out = Dropout(stack.dropout, blocks=len(stack.output_blocks()))(out, train=train)
    return out.reshape(len(out), -1) if flatten else out


def dense_head(
    h: Array, classes: int, dense: Sequence[int], name: str, dropout: Any, *, train: bool
) -> Array:
    """Dense layers, each with its activation (of that name) and dropout, then logits ``[B, C]``.

    To be called in a network's ``__call__``, to which the layers then belong.
    """
    for index, features in enumerate(dense):
        h = activation(name)(dense_layer(features, f"dense_{index}")(h))
        h = Dropout(dropout)(h, train=train)
    return dense_layer(classes, "logits")(h)


def dense_head_blocks(inputs: Widths, classes: int, dense: Sequence[int]) -> dict[str, Any]:
    """See `padding`: the parameters of `dense_head` over inputs that lie in these blocks."""
    names = [*(f"dense_{index}" for index in range(len(dense))), "logits"]
    blocks = {}
    for name, features in zip(names, [*dense, classes], strict=True):
        blocks[name] = {"kernel": (inputs, (features,)), "bias": ((features,),)}
        inputs = (features,)
    return blocks


class ByFields:
    """Makes a module's copies and pickles depend on its fields alone, as scikit-learn compares them."""

    def __reduce__(self) -> Any:
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        names = [field.name for field in fields if field.init and field.name != "parent"]
        return _made, (type(self), {name: getattr(self, name) for name in names})


def _made(kind: type, fields: dict[str, Any]) -> Any:
    return kind(**fields)


class LSTMClassifierNetwork(ByFields, nn.Module):
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
      flatten: whether the outputs of all steps go on, flattened, instead of the last state, as in
        Keras after ``return_sequences=True`` and ``Flatten``; ``dropout`` then acts on them where
        it acted on the last state. Rows must then be equally long.
      return_sequences: whether every step has outputs, ``[B, T, C]`` (Keras's name).
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
    flatten: bool = False
    return_sequences: bool = False

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
        steps = x_shape[-2] if self.flatten else 1
        return {
            "StackedLSTM_0": stack.parameter_blocks((x_shape[-1],)),
            **dense_head_blocks(stack.output_blocks() * steps, self.classes, self.dense),
        }

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
        """Maps sequences ``[B, T, F]`` to logits ``[B, C]``, or ``[B, T, C]``."""
        h = lstm_output(
            self._stack(),
            x,
            lengths=lengths,
            train=train,
            flatten=self.flatten,
            return_sequences=self.return_sequences,
        )
        return dense_head(
            h, self.classes, self.dense, self.activation, self.dense_dropout, train=train
        )


class MLP(ByFields, nn.Module):
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
        return dense_head_blocks((math.prod(x_shape[1:]),), self.classes, self.units)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Maps inputs ``[B, ...]`` to logits ``[B, C]``."""
        x = x.reshape(x.shape[0], -1)
        return dense_head(x, self.classes, self.units, self.activation, self.dropout, train=train)


class RowColumnBiLSTM(ByFields, nn.Module):
    """LSTMs that walk over an image's rows, top to bottom: an image is a sequence of its rows.

    A bidirectional layer, LSTM layers of its width, one of another width, its last state, dense
    layers, logits.

    Attributes:
      classes: number of classes C.
      row_hidden: units of the bidirectional layer in each direction, and of the ``depth`` next ones.
      col_hidden: units of the last LSTM layer.
      depth: number of LSTM layers between those two.
      dense: units of each dense layer between the LSTMs and the logits.
      dropout: rate on the outputs of every LSTM layer but the last; may be traced.
      dense_dropout: rate after each dense layer; may be traced.
      merge: how the two directions are merged, see `Bidirectional`.
      activation: of the dense layers.
    """

    classes: int
    row_hidden: int = 64
    col_hidden: int = 64
    depth: int = 4
    dense: Sequence[int] = (64, 64)
    dropout: Any = 0.0
    dense_dropout: Any = 0.0
    merge: str = "concat"
    activation: str = "relu"

    traced_fields: ClassVar[tuple[str, ...]] = ("dropout", "dense_dropout")

    @property
    def paddable(self) -> dict[str, int | Widths]:
        """See `padding`."""
        fields: dict[str, int | Widths] = {
            "row_hidden": self.row_hidden,
            "col_hidden": self.col_hidden,
        }
        if self.activation not in NOT_PADDABLE:
            fields["dense"] = checked_widths("dense", self.dense)
        return fields

    @nn.nowrap
    def parameter_blocks(self, x_shape: tuple[int, ...]) -> dict[str, Any]:
        """See `padding`; x is ``[B, height, width]`` or ``[B, height, width, 1]``."""
        stack, rows = self._stack(), Bidirectional(self.row_hidden)
        return {
            "rows": rows.parameter_blocks((x_shape[2],)),
            "StackedLSTM_0": stack.parameter_blocks(self._row_blocks()),
            **dense_head_blocks(stack.output_blocks(), self.classes, self.dense),
        }

    @nn.nowrap
    def _row_blocks(self) -> Widths:
        return (self.row_hidden,) * (2 if self.merge == "concat" else 1)

    @nn.nowrap
    def _stack(self) -> StackedLSTM:
        rows = (self.row_hidden,) * checked_integer("depth", self.depth, 0)
        return StackedLSTM((*rows, self.col_hidden), self.dropout)

    @nn.compact
    def __call__(self, x: Array, *, lengths: Array | None = None, train: bool = False) -> Array:
        """Maps images ``[B, height, width]`` or ``[B, height, width, 1]`` to logits ``[B, C]``.

        ``lengths [B]`` are the valid image rows of each, all by default.
        """
        if x.ndim == 4 and x.shape[3] == 1:
            x = x[..., 0]
        if x.ndim != 3:
            raise ValueError(
                "x must be grey images [B, height, width] or [B, height, width, 1],"
                f" got shape {x.shape}."
            )
        for name in ("row_hidden", "col_hidden"):
            checked_integer(name, getattr(self, name))
        dense = checked_widths("dense", self.dense)
        stack = self._stack()
        rows = Bidirectional(self.row_hidden, self.merge, name="rows")
        h, _ = rows(x, lengths=lengths, train=train)
        h = Dropout(self.dropout, blocks=len(self._row_blocks()))(h, train=train)
        _, h = stack(h, lengths=lengths, train=train)
        return dense_head(h, self.classes, dense, self.activation, self.dense_dropout, train=train)
