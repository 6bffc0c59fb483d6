"""Flax (linen) layers over `recurrence`: cells, layers, stacks, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32

from jaxlstm.nn.padding import Widths
from jaxlstm.nn.recurrence import Carry, LSTMParams, checked_sequences, lstm, lstm_step

Array = jax.Array
Initializer = Callable[..., Any]

MERGES = ("concat", "sum", "mean", "mul")

# Variables ``{BATCH: {FIRST_ROW: n}}`` beside the parameters say that the rows given are rows n, n + 1,
# ... of their batch, so that dropout treats a batch given in pieces as the whole one. Lifted
# transformations inside a network (`flax.linen.jit`, `remat`, `scan`, ...) hide them: there n is 0.
BATCH = "batch"
FIRST_ROW = "first_row"


def forget_gate_bias(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Bias ``[4H]`` of zeros with ones for the forget gate: Keras's ``unit_forget_bias``."""
    del key
    units = shape[0] // 4
    return jnp.zeros(shape, dtype).at[units : 2 * units].set(1)


def orthogonal(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """An orthogonal matrix, Keras's recurrent initialiser; for 16 bits drawn in float32."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return nn.initializers.orthogonal()(key, shape, wide).astype(dtype)


def _check_features(features: Any) -> None:
    if not isinstance(features, int | np.integer) or features < 1:
        raise ValueError(f"features must be a positive integer, got {features!r}.")


def _lstm_params(module: Any, features: int) -> LSTMParams:
    _check_features(module.features)
    gates = 4 * module.features
    dtype = module.param_dtype
    peephole_shape = (3, module.features)
    return LSTMParams(
        module.param("kernel", module.kernel_init, (features, gates), dtype),
        module.param("recurrent_kernel", module.recurrent_init, (module.features, gates), dtype),
        module.param("bias", module.bias_init, (gates,), dtype) if module.use_bias else None,
        module.param("peephole", module.peephole_init, peephole_shape, dtype)
        if module.peephole
        else None,
    )


def _drops(name: str, rate: Any) -> bool:
    """Whether there is anything to drop; a traced rate may turn out to be anything.

    Raises:
      ValueError: a known rate is not in [0, 1).
    """
    if isinstance(rate, jax.core.Tracer):
        return True
    try:
        number = math.nan if isinstance(rate, str) else float(rate)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be a number in [0, 1), got {rate!r}.")
    return number > 0


def _key_words(key: Array) -> tuple[Array, Array]:
    """A random key of any kind as the two words of a Threefry key, by hashing what is beyond two."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    first, *others = jnp.split(data.astype(jnp.uint32), list(range(2, data.size, 2)))
    for words in others:
        first = threefry_2x32((first[0], first[1]), jnp.pad(words, (0, 2 - words.size)))
    return first[0], first[1]


def dropout_factors(
    key: Array, rate: Any, shape: Sequence[int], dtype: Any, first_row: Any = 0
) -> Array:
    """What dropout multiplies by: 0 with probability ``rate``, else ``1 / (1 - rate)``.

    Entry (row, ..., unit) is drawn from the key and its own place alone: a batch cut into pieces
    draws as the whole one, and a layer padded with further units as the unpadded one. The counter of
    Threefry is (row, place of four neighbouring units); the four share its 64 bits. 16 random bits an
    entry meet the rate to 1/65536.

    Args:
      key: a random key.
      rate: in [0, 1); may be traced.
      shape: ``[B, ..., H]``, or ``[H]`` for one row.
      dtype: type of the factors; for integers float32.
      first_row: number of the first row in its batch, an integer; may be traced.

    References:
      Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """
    rows, *middle, units = shape if len(shape) > 1 else (1, *shape)
    between, fours = math.prod(middle), -(-units // 4)

    def place(axis: int) -> Array:
        return lax.broadcasted_iota(jnp.uint32, (rows, between, fours), axis)

    row = place(0) + jnp.asarray(first_row).astype(jnp.uint32)
    # Further fours of units come after all places of these.
    words = threefry_2x32(_key_words(key), jnp.stack([row, place(2) * between + place(1)]))
    quarter = jnp.arange(4, dtype=jnp.uint32)
    pairs = jnp.where(quarter < 2, words[0][..., None], words[1][..., None])
    draws = (pairs >> (quarter % 2 * 16)) & 0xFFFF
    draws = draws.reshape(rows, between, 4 * fours)[..., :units].reshape(tuple(shape))
    rate = jnp.asarray(rate, jnp.float32)
    threshold = jnp.minimum(jnp.round(rate * 65536), 65535).astype(jnp.uint32)
    scale = (1 / (1 - rate)).astype(dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.float32)
    return jnp.where(draws >= threshold, scale, 0)


def _draw(module: nn.Module, rate: Any, shape: Sequence[int], dtype: Any) -> Array:
    """Factors from the module's "dropout" stream, for the rows that the caller says these are."""
    assert module.scope is not None
    first_row = module.scope.root.get_variable(BATCH, FIRST_ROW, 0)
    return dropout_factors(module.make_rng("dropout"), rate, shape, dtype, first_row)


class LSTMCell(nn.RNNCellBase):
    """One LSTM step as a Flax cell, usable in `flax.linen.RNN`; carry is ``(c, h)``.

    Attributes:
      features: units H.
      kernel_init: initialiser of the kernel ``[F, 4H]`` (Keras's default: Glorot uniform).
      recurrent_init: initialiser of the recurrent kernel ``[H, 4H]`` (orthogonal).
      bias_init: initialiser of the bias ``[4H]`` (zeros, forget gate 1).
      use_bias: whether there is a bias.
      peephole: whether the gates see the cell (Gers et al., 2002); weights ``[3, H]``.
      peephole_init: their initialiser (zeros, with which the cell starts as one without).
      param_dtype: type of the weights.
    """

    features: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = orthogonal
    bias_init: Initializer = forget_gate_bias
    use_bias: bool = True
    peephole: bool = False
    peephole_init: Initializer = nn.initializers.zeros
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Maps carry ``(c, h)``, each ``[..., H]``, and inputs ``[..., F]`` to ``(carry, h)``."""
        return lstm_step(_lstm_params(self, inputs.shape[-1]), carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """Returns zeros ``(c, h)`` for inputs of shape ``[..., F]``."""
        del rng
        _check_features(self.features)
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
      dropout: share of a row's inputs dropped, the same ones in every step; may be traced.
      recurrent_dropout: share of a row's h dropped on its way into the recurrent product, the same
        in every step; may be traced. Both are Gal and Ghahramani's variational dropout
        (arXiv:1512.05287) with one mask for all gates, which leaves a step one product; Keras draws
        one for each gate when it has recurrent dropout.
      backend: see `jaxlstm.lstm`.
    """

    features: int
    reverse: bool = False
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = orthogonal
    bias_init: Initializer = forget_gate_bias
    use_bias: bool = True
    peephole: bool = False
    peephole_init: Initializer = nn.initializers.zeros
    dropout: Any = 0.0
    recurrent_dropout: Any = 0.0
    param_dtype: Any = jnp.float32
    backend: str = "auto"

    @nn.nowrap
    def parameter_blocks(self, features: Widths) -> dict[str, Any]:
        """See `padding`; the input features lie in these blocks."""
        gates = (self.features,) * 4
        blocks: dict[str, Any] = {
            "kernel": (features, gates),
            "recurrent_kernel": ((self.features,), gates),
        }
        if self.use_bias:
            blocks["bias"] = (gates,)
        if self.peephole:
            blocks["peephole"] = ((3,), (self.features,))
        return blocks

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        initial_carry: Carry | None = None,
        lengths: Array | None = None,
        mask: Array | None = None,
        train: bool = False,
    ) -> tuple[Array, Carry]:
        """Returns outputs ``[B, T, H]`` and the last carry ``(c, h)``, each ``[B, H]``.

        h is each row's last valid output, what Keras calls ``return_sequences=False``. Which steps
        are valid say ``lengths [B]`` or, with gaps, ``mask [B, T]``, see `jaxlstm.lstm`. Randomness
        of the two dropouts, when ``train``, comes from the "dropout" stream.
        """
        x = checked_sequences(x)
        params = _lstm_params(self, x.shape[-1])
        recurrent_mask, dtype = None, jnp.result_type(x, params.kernel)
        if _drops("dropout", self.dropout) and train:
            shape = (len(x), x.shape[-1])
            x = x * _draw(self, self.dropout, shape, dtype)[:, None]
        if _drops("recurrent_dropout", self.recurrent_dropout) and train:
            shape = (len(x), self.features)
            recurrent_mask = _draw(self, self.recurrent_dropout, shape, dtype)
        return lstm(
            params,
            x,
            initial_carry=initial_carry,
            lengths=lengths,
            mask=mask,
            reverse=self.reverse,
            recurrent_mask=recurrent_mask,
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
      recurrent_dropout: see `LSTM`; each direction draws its own mask.
      backend: see `jaxlstm.lstm`.
    """

    features: int
    merge: str = "concat"
    recurrent_dropout: Any = 0.0
    backend: str = "auto"

    @nn.nowrap
    def parameter_blocks(self, features: Widths) -> dict[str, Any]:
        """See `padding`; the input features lie in these blocks."""
        one_way = LSTM(self.features).parameter_blocks(features)
        return {"forward": one_way, "backward": one_way}

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        initial_carry: Any = None,
        lengths: Array | None = None,
        mask: Array | None = None,
        train: bool = False,
        return_carry: bool = False,
    ) -> tuple[Any, ...]:
        """Returns outputs ``[B, T, H or 2H]`` and the last states merged, ``[B, H or 2H]``.

        The last state of the backward direction is the one it reaches at a row's first step.
        ``initial_carry`` is a pair, the forward and the backward direction's ``(c, h)``; with
        ``return_carry`` a third result is the pair of last carries.
        """
        if self.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {self.merge!r}.")
        if initial_carry is not None and len(initial_carry) != 2:
            raise ValueError(
                "initial_carry must be a pair, the (c, h) of the forward and of the backward direction."
            )
        outputs, carries = [], []
        for index, (name, reverse) in enumerate([("forward", False), ("backward", True)]):
            layer = LSTM(
                self.features,
                reverse=reverse,
                recurrent_dropout=self.recurrent_dropout,
                backend=self.backend,
                name=name,
            )
            start = None if initial_carry is None else initial_carry[index]
            hs, carry = layer(x, initial_carry=start, lengths=lengths, mask=mask, train=train)
            outputs.append(hs)
            carries.append(carry)
        merged = (
            merge_directions(outputs[0], outputs[1], self.merge),
            merge_directions(carries[0][1], carries[1][1], self.merge),
        )
        return (*merged, tuple(carries)) if return_carry else merged


class Dropout(nn.Module):
    """Dropout whose rate may be a traced number, so that it can differ between lanes.

    Kept entries are divided by ``1 - rate``, as in Keras and Flax. Randomness comes from the
    "dropout" stream; see `dropout_factors` for how it is drawn.

    Attributes:
      rate: the share of entries set to 0, in [0, 1); a number or a traced scalar.
      blocks: in how many equal blocks the features lie. Each block draws as if it alone had been
        padded with further features.
    """

    rate: Any = 0.0
    blocks: int = 1

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns x, with entries dropped when ``train``; x is ``[B, ..., F]``."""
        if not _drops("rate", self.rate) or not train:
            return x
        width, rest = divmod(x.shape[-1], self.blocks)
        if rest:
            raise ValueError(f"blocks must divide the {x.shape[-1]} features, got {self.blocks!r}.")
        shape = (*x.shape[:-1], self.blocks, width) if self.blocks > 1 else x.shape
        factors = _draw(self, self.rate, shape, x.dtype).reshape(x.shape)
        return jnp.where(factors == 0, 0, x * factors)  # 0 * inf is not 0


class StackedLSTM(nn.Module):
    """LSTM layers on top of each other, with dropout between them.

    For other options stack `LSTM` and `Bidirectional` yourself.

    Attributes:
      units: units of each layer.
      dropout: rate after every layer but the last, as in PyTorch's `nn.LSTM`; may be traced.
      recurrent_dropout: of every layer, see `LSTM`; may be traced.
      bidirectional: whether every layer runs in both directions.
      merge: how the directions are merged, see `Bidirectional`.
      backend: see `jaxlstm.lstm`.
    """

    units: Sequence[int]
    dropout: Any = 0.0
    bidirectional: bool = False
    merge: str = "concat"
    backend: str = "auto"
    recurrent_dropout: Any = 0.0

    @nn.nowrap
    def output_blocks(self, layer: int = -1) -> Widths:
        """The blocks in which a layer's output features lie: one for each direction concatenated."""
        both = self.bidirectional and self.merge == "concat"
        return (self.units[layer],) * (2 if both else 1)

    @nn.nowrap
    def parameter_blocks(self, features: Widths) -> dict[str, Any]:
        """See `padding`; the input features lie in these blocks."""
        blocks: dict[str, Any] = {}
        for index, units in enumerate(self.units):
            layer = Bidirectional(units) if self.bidirectional else LSTM(units)
            blocks[f"lstm_{index}"] = layer.parameter_blocks(features)
            features = self.output_blocks(index)
        return blocks

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        initial_carry: Any = None,
        lengths: Array | None = None,
        mask: Array | None = None,
        train: bool = False,
        return_carry: bool = False,
    ) -> tuple[Any, ...]:
        """Returns the top layer's outputs ``[B, T, H]`` and its last state ``[B, H]``.

        ``initial_carry`` has each layer's, as `LSTM` or `Bidirectional` take it; with
        ``return_carry`` a third result has each layer's last one.
        """
        if not isinstance(self.units, Sequence) or not self.units or isinstance(self.units, str):
            raise ValueError(
                f"units must be a sequence that names at least one layer's units, got {self.units!r}."
            )
        options = {"recurrent_dropout": self.recurrent_dropout, "backend": self.backend}
        if initial_carry is not None and len(initial_carry) != len(self.units):
            raise ValueError(
                f"initial_carry must have one carry for each of {len(self.units)} layers, got"
                f" {len(initial_carry)}."
            )
        carries: list[Any] = []
        hs = x
        for index, features in enumerate(self.units):
            if index:
                blocks = len(self.output_blocks(index - 1))
                hs = Dropout(self.dropout, blocks=blocks)(hs, train=train)
            name, start = f"lstm_{index}", None if initial_carry is None else initial_carry[index]
            given: Any = {"initial_carry": start, "lengths": lengths, "mask": mask, "train": train}
            if self.bidirectional:
                layer = Bidirectional(features, self.merge, name=name, **options)
                hs, h, carry = layer(hs, **given, return_carry=True)
            else:
                hs, last = LSTM(features, name=name, **options)(hs, **given)
                carry, h = last, last[1]
            carries.append(carry)
        return (hs, h, tuple(carries)) if return_carry else (hs, h)
