"""Dropout's draws belong to places: neither a batch's cut nor further units change them."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn import (
    CNN,
    CNNLSTM,
    LSTM,
    MLP,
    Conv1D,
    Dropout,
    LSTMClassifierNetwork,
    RowColumnBiLSTM,
)
from jaxlstm.nn.layers import BATCH, FIRST_ROW, dropout_factors

KEY = jax.random.key(3)


@functools.partial(jax.jit, static_argnums=2)
def factors(key: Any, rate: Any, shape: Any, first_row: Any = 0) -> Any:
    return dropout_factors(key, rate, shape, jnp.float32, first_row)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(13, 7), (13, 3, 10), (13, 2, 3, 5), (13, 4, 1), (13, 0, 3)])
def test_pieces_are_the_whole(shape: tuple[int, ...]) -> None:
    whole = np.asarray(factors(KEY, 0.4, shape))
    assert whole.shape == shape
    for cut in (1, 5):
        pieces = [
            factors(KEY, 0.4, (min(cut, 13 - row), *shape[1:]), row) for row in range(0, 13, cut)
        ]
        assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 9), (5, 2, 3, 4), (1, 1)])
@pytest.mark.parametrize("extra", [1, 3, 8])
def test_further_units_and_rows_append(shape: tuple[int, ...], extra: int) -> None:
    rows, units = shape[0], shape[-1]
    larger = factors(KEY, 0.4, (rows + extra, *shape[1:-1], units + extra))
    assert_array_equal(larger[:rows, ..., :units], factors(KEY, 0.4, shape))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg", None])
def test_keys_of_any_kind(impl: str | None) -> None:
    """Apart for apart seeds and folds, the same in lanes as alone; about half agree at rate 1/2."""
    keys = [jax.random.key(seed, impl=impl) for seed in (0, 1, 2**31)]
    keys = [*keys, jax.random.fold_in(keys[0], 1)]
    if impl is None:
        keys = [jax.random.key_data(key) for key in keys]  # as of jax.random.PRNGKey
    drawn = np.asarray(jax.vmap(lambda key: factors(key, 0.5, (40, 50)))(jnp.stack(keys)))
    for lane, key in zip(drawn, keys, strict=True):
        assert_array_equal(lane, factors(key, 0.5, (40, 50)))
    for a in range(len(keys)):
        for b in range(a):
            assert abs((drawn[a] == drawn[b]).mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_key_rate_and_row_may_be_lanes() -> None:
    keys, rates = jax.random.split(KEY, 3), jnp.array([0.0, 0.3, 0.8])
    rows = jnp.array([0, 7, 1 << 20])
    lanes = jax.vmap(lambda key, rate, row: factors(key, rate, (9, 4, 6), row))(keys, rates, rows)
    for n, lane in enumerate(lanes):
        assert_array_equal(lane, factors(keys[n], rates[n], (9, 4, 6), rows[n]))


def test_places_are_independent() -> None:
    """Neighbours along every axis, at all distances up to 8, agree as often as chance has it."""
    kept = np.asarray(factors(KEY, 0.5, (64, 30, 40)) != 0)
    for axis in range(3):
        for distance in range(1, 9):
            moved = np.moveaxis(kept, axis, 0)
            agreement = (moved[distance:] == moved[:-distance]).mean()
            assert abs(agreement - 0.5) < 5 * 0.5 / np.sqrt(kept.size * 3 / 4)
    # Sums over rows, steps and units scatter as binomials do.
    for axes in [(1, 2), (0, 2), (0, 1), 0, 1, 2]:
        sums = kept.sum(axes)
        n = kept.size / sums.size
        ratio = ((sums - n / 2) ** 2).mean() / (n / 4)
        assert abs(ratio - 1) < 5 * np.sqrt(2 / sums.size)


def test_the_16_bits_are_uniform() -> None:
    """Where an entry's draw lies, seen through rates: chi-square over 32 equal bins.

    Each of a four's places (two halves of two words) by itself.
    """
    rates = jnp.arange(33) / 32
    rates = rates.at[-1].set(65535 / 65536)  # a draw of 65535 is never dropped
    kept = jax.vmap(lambda rate: factors(KEY, rate, (100, 20, 64)))(rates) != 0
    bins = (np.asarray(kept).sum(0) - 1).clip(0)  # how many thresholds the draw reaches
    for place in range(4):
        counts = np.bincount(bins[..., place::4].ravel(), minlength=32)[:32]
        expected = counts.sum() / 32
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert 10 < chi_square < 70  # 31 degrees of freedom: each side beyond 1e-4


class TestNetworks:
    """`FIRST_ROW` reaches every dropout of a network."""

    cases = (
        (LSTM(5, dropout=0.3, recurrent_dropout=0.4), (11, 4, 3)),
        (Dropout(0.5), (11, 6)),
        (
            LSTMClassifierNetwork(
                3,
                (4, 5),
                (6,),
                dropout=0.3,
                dense_dropout=0.2,
                recurrent_dropout=0.4,
                bidirectional=True,
            ),
            (11, 4, 3),
        ),
        (LSTMClassifierNetwork(3, (4,), dropout=0.5), (11, 4, 3)),
        (MLP(3, (8, 7), dropout=0.3), (11, 5)),
        (CNN(3, (4,), dropout=0.5), (11, 8, 9)),
        (Conv1D(3, (4,), dropout=0.5, dense=(6,), dense_dropout=0.3), (11, 8, 3)),
        (CNNLSTM(3, (4,), units=(5, 4), dropout=0.5, dense=(6,), dense_dropout=0.3), (11, 8, 9)),
        (RowColumnBiLSTM(3, 6, 5, 1, (6,), dropout=0.4, dense_dropout=0.3), (11, 8, 9)),
    )

    @pytest.mark.parametrize(("module", "shape"), cases)
    def test_pieces_are_the_whole(self, module: nn.Module, shape: Any) -> None:
        x = normal(*shape)
        variables = jax.jit(module.init)(KEY, x)

        @jax.jit
        def run(x: Any, first_row: Any) -> Any:
            batch = {BATCH: {FIRST_ROW: first_row}}
            out: Any = module.apply({**variables, **batch}, x, train=True, rngs={"dropout": KEY})
            return out[0] if isinstance(out, tuple) else out

        whole = jax.jit(module.apply, static_argnames="train")(
            variables, x, train=True, rngs={"dropout": KEY}
        )
        whole = whole[0] if isinstance(whole, tuple) else whole
        first, second = run(x[:4], jnp.int32(0)), run(x[4:], jnp.int32(4))
        assert_allclose(np.concatenate([first, second]), whole, atol=1e-5)
        assert np.abs(run(x[4:], jnp.int32(0)) - second).max() > 1e-3  # it does something

    def test_lanes_and_gradients(self) -> None:
        layer, x = Dropout(0.5), normal(6, 5)

        def run(x: Any, row: Any) -> Any:
            variables = {BATCH: {FIRST_ROW: row}}
            return jnp.sum(layer.apply(variables, x, train=True, rngs={"dropout": KEY}))

        rows = jnp.array([0, 6])
        grads = jax.jit(jax.vmap(jax.grad(run), (None, 0)))(x, rows)
        assert_array_equal(grads.reshape(12, 5), factors(KEY_OF_LAYER, 0.5, (12, 5)))

    def test_the_collection_is_only_read(self) -> None:
        net, x = MLP(3, (4,), dropout=0.5), normal(2, 3)
        variables = net.init({"params": KEY, "dropout": KEY}, x, train=True)
        assert set(variables) == {"params"}
        given = {**variables, BATCH: {FIRST_ROW: 3}}
        for mutable in (True, ["batch_stats"]):
            _, changed = net.apply(given, x, train=True, rngs={"dropout": KEY}, mutable=mutable)
            assert changed.get(BATCH, {FIRST_ROW: 3}) == {FIRST_ROW: 3}

    def test_features_in_blocks(self) -> None:
        x = np.ones((6, 4, 10), np.float32)
        wide = np.ones((6, 4, 14), np.float32)
        out, padded = (
            np.asarray(Dropout(0.4, blocks=2).apply({}, each, train=True, rngs={"dropout": KEY}))
            for each in (x, wide)
        )
        assert_array_equal(padded[..., [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]], out)
        assert (out[..., :5] != out[..., 5:]).any()
        with pytest.raises(ValueError, match="blocks must divide the 10 features, got 3"):
            Dropout(0.4, blocks=3).apply({}, x, train=True, rngs={"dropout": KEY})


class _Key(nn.Module):
    def __call__(self) -> Any:
        return self.make_rng("dropout")


KEY_OF_LAYER = _Key().apply({}, rngs={"dropout": KEY})
