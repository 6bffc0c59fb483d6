"""Masks with gaps, other layouts, carries of every layer, against Keras's and Flax's semantics."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxlstm import lstm
from jaxlstm.nn import LSTM, Bidirectional, LSTMCell, LSTMParams, StackedLSTM, lstm_step

B, T, F, H = 4, 6, 3, 5
_rng = np.random.default_rng(0)
X = _rng.normal(size=(B, T, F)).astype(np.float32)
PARAMS = LSTMParams(
    *(_rng.normal(size=shape).astype(np.float32) for shape in [(F, 4 * H), (H, 4 * H), (4 * H,)])
)
CARRY = tuple(_rng.normal(size=(B, H)).astype(np.float32) for _ in range(2))
MASK = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 1], [1] * 6, [0] * 6], bool)


def keras_like(params: Any, x: Any, mask: Any, carry: Any, reverse: bool) -> Any:
    """Step by step: a masked one leaves the carry and repeats the output, at first 0."""
    hs, before = [None] * x.shape[1], jnp.zeros_like(carry[1])
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        after, h = lstm_step(params, carry, x[:, t])
        valid = mask[:, t, None]
        carry = tuple(jnp.where(valid, new, old) for new, old in zip(after, carry, strict=True))
        before = hs[t] = jnp.where(valid, h, before)
    return jnp.stack(hs, axis=1), carry


def assert_close(got: Any, wanted: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_masks_with_gaps(reverse: bool) -> None:
    x = np.where(MASK[..., None], X, np.nan)  # whatever is there reaches nothing

    def ours(params: Any, x: Any) -> Any:
        return lstm(params, x, mask=MASK, initial_carry=CARRY, reverse=reverse)

    def theirs(params: Any, x: Any) -> Any:
        return keras_like(params, x, MASK, CARRY, reverse)

    assert_close(ours(PARAMS, x), theirs(PARAMS, X))

    def total(run: Any, x: Any) -> Any:
        hs, (c, h) = run(PARAMS, x)
        return (hs * jnp.arange(hs.size).reshape(hs.shape)).sum() + (c * h).sum()

    gradient = jax.grad(lambda x: total(ours, x))(x)
    wanted = jax.grad(lambda x: total(theirs, x))(X)
    np.testing.assert_allclose(gradient, np.where(MASK[..., None], wanted, 0), 1e-3, 1e-3)
    layer = LSTM(H, reverse=reverse)
    params = dict(zip(("kernel", "recurrent_kernel", "bias"), PARAMS, strict=False))
    given = layer.apply({"params": params}, X, mask=MASK, initial_carry=CARRY)
    assert_close(given, theirs(PARAMS, X))


def test_keras_itself() -> None:
    keras = pytest.importorskip("keras")
    layer = keras.layers.LSTM(H, return_sequences=True, return_state=True)
    layer.build((B, T, F))
    layer.set_weights([np.asarray(weights) for weights in PARAMS[:3]])
    hs, h, c = (np.asarray(part) for part in layer(X, mask=MASK))
    assert_close(lstm(PARAMS, X, mask=MASK), (hs, (c, h)))


def test_layouts() -> None:
    """Time first and several batch axes, as `flax.linen.RNN` has them."""
    lengths = np.array([[6, 2], [0, 3]])
    x = X.reshape(2, 2, T, F)
    carry = tuple(part.reshape(2, 2, H) for part in CARRY)
    cell = LSTMCell(H)
    params = dict(zip(("kernel", "recurrent_kernel", "bias"), PARAMS, strict=False))

    def flax(x: Any, **given: Any) -> Any:
        rnn = nn.RNN(cell, return_carry=True, time_major=given.pop("time_major", False))
        after, hs = rnn.apply({"params": {"cell": params}}, x, **given)
        return hs, after

    assert_close(lstm(PARAMS, x, initial_carry=carry), flax(x, initial_carry=carry))
    swapped = X.swapaxes(0, 1)
    wanted = flax(swapped, time_major=True, initial_carry=CARRY)
    assert_close(lstm(PARAMS, swapped, time_major=True, initial_carry=CARRY), wanted)
    hs, last = lstm(PARAMS, X, lengths=lengths.ravel())
    ours = lstm(PARAMS, x, lengths=lengths)
    assert_close(ours, (hs.reshape(2, 2, T, H), tuple(part.reshape(2, 2, H) for part in last)))
    hs, last = lstm(PARAMS, X, mask=MASK)
    assert_close(lstm(PARAMS, swapped, mask=MASK.T, time_major=True), (hs.swapaxes(0, 1), last))
    with pytest.raises(ValueError, match="mask and lengths say the same"):
        lstm(PARAMS, X, mask=MASK, lengths=lengths.ravel())
    with pytest.raises(ValueError, match=r"mask must have the shape \(4, 6\)|mask"):
        lstm(PARAMS, X, mask=MASK[:, :3])


def test_carries_of_directions_and_layers() -> None:
    """A sequence in two parts is the whole one, for what runs forward; each layer's are its own."""
    network = StackedLSTM((H, 2))
    params = network.init(jax.random.key(1), X)
    hs, h, carries = network.apply(params, X, return_carry=True)
    _, _, half = network.apply(params, X[:, :4], return_carry=True)
    rest, h_rest, after = network.apply(params, X[:, 4:], initial_carry=half, return_carry=True)
    assert_close((rest, h_rest, after), (hs[:, 4:], h, carries))
    both = Bidirectional(H)
    params = both.init(jax.random.key(2), X)
    start = (CARRY, CARRY[::-1])
    hs, state, carries = both.apply(params, X, initial_carry=start, return_carry=True)
    for index, (name, reverse) in enumerate([("forward", False), ("backward", True)]):
        own = lstm(params["params"][name], X, initial_carry=start[index], reverse=reverse)
        assert_close((hs[..., index * H :][..., :H], carries[index]), own)
        assert_close(state[:, index * H :][:, :H], own[1][1])
    stacked = StackedLSTM((H, 2), bidirectional=True)
    params = stacked.init(jax.random.key(3), X)
    *_, carries = stacked.apply(params, X, return_carry=True)
    assert [part[0][0].shape for part in carries] == [(B, H), (B, 2)]


@pytest.mark.parametrize("shape", ["b, 6, 3", "4, t, 3", "b, t, 3"])
def test_export_with_sizes_left_open(shape: str) -> None:
    x = jax.ShapeDtypeStruct(export.symbolic_shape(shape), jnp.float32)
    exported = export.export(jax.jit(lambda x: lstm(PARAMS, x)))(x)
    assert_close(exported.call(X), lstm(PARAMS, X))
    if "t" not in shape:
        gradient = jax.grad(lambda x: lstm(PARAMS, x)[0].sum())
        got = export.export(jax.jit(gradient))(x).call(X)
        np.testing.assert_allclose(got, gradient(X), rtol=1e-4, atol=1e-6)
