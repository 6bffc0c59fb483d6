"""Options of the layers: bias, peepholes, the two variational dropouts, merges against Keras."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn import layers
from jaxlstm.nn.convert import to_keras
from jaxlstm.nn.layers import LSTM, Bidirectional, LSTMCell, StackedLSTM
from jaxlstm.nn.recurrence import LSTMParams, lstm

LENGTHS = np.array([5, 1, 2, 4])
KEY = jax.random.key(3)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draw(module: nn.Module, x: Any) -> Any:
    """Variables of a module, random everywhere."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(module.init, KEY, x))
    leaves = [normal(*leaf.shape, seed=7 + n) / 2 for n, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, leaves)


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """All masks that the layers draw."""
    drawn: list[np.ndarray] = []
    original = layers.dropout_factors

    def record(*args: Any) -> Any:
        drawn.append(original(*args))
        return drawn[-1]

    monkeypatch.setattr(layers, "dropout_factors", record)
    return drawn


@pytest.mark.parametrize("options", [{"use_bias": False}, {"peephole": True}])
def test_weights_that_are_there_and_not(options: dict[str, Any]) -> None:
    x = normal(4, 5, 3)
    layer = LSTM(6, **options)
    variables = draw(layer, x)
    shapes = {name: weights.shape for name, weights in variables["params"].items()}
    kernels = {"kernel": (3, 24), "recurrent_kernel": (6, 24)}
    other = {"bias": (24,), "peephole": (3, 6)} if "peephole" in options else {}
    assert shapes == kernels | other
    hs, (c, h) = layer.apply(variables, x, lengths=LENGTHS)
    wanted = lstm(LSTMParams(**variables["params"]), x, lengths=LENGTHS)
    jax.tree.map(assert_array_equal, (hs, (c, h)), wanted)

    cell = nn.RNN(LSTMCell(6, **options))
    alone = cell.apply({"params": {"cell": variables["params"]}}, x)
    assert_allclose(alone, lstm(LSTMParams(**variables["params"]), x)[0], atol=1e-6)


def test_peepholes_start_as_none() -> None:
    x = normal(4, 5, 3)
    with_peepholes = LSTM(6, peephole=True).init_with_output(KEY, x)[0]
    assert_allclose(with_peepholes[0], LSTM(6).init_with_output(KEY, x)[0][0], atol=1e-6)


def test_recurrent_dropout_is_one_mask_for_all_steps(factors: list[np.ndarray]) -> None:
    x = normal(40, 5, 3)
    layer = LSTM(16, recurrent_dropout=0.25)
    variables = draw(layer, x)
    hs, _ = layer.apply(variables, x, train=True, rngs={"dropout": KEY})
    (mask,) = factors
    assert mask.shape == (40, 16)
    assert_allclose(np.unique(mask), [0, 4 / 3], rtol=1e-6)
    assert 0.2 < (np.asarray(mask) == 0).mean() < 0.3
    assert len(np.unique(mask, axis=0)) > 30  # rows differ
    wanted, _ = lstm(LSTMParams(**variables["params"]), x, recurrent_mask=mask)
    assert_array_equal(hs, wanted)
    assert np.abs(hs - layer.apply(variables, x)[0]).max() > 0.1  # it does something


def test_input_dropout_drops_the_same_features_in_all_steps(factors: list[np.ndarray]) -> None:
    x = normal(40, 5, 7)
    layer = LSTM(4, dropout=0.5)
    variables = draw(layer, x)
    hs, _ = layer.apply(variables, x, train=True, rngs={"dropout": KEY})
    (mask,) = factors
    assert mask.shape == (40, 7)
    wanted, _ = lstm(LSTMParams(**variables["params"]), x * np.asarray(mask)[:, None])
    assert_allclose(hs, wanted, atol=1e-6)


def test_no_dropout_outside_training() -> None:
    x = normal(4, 5, 3)
    layer = LSTM(6, dropout=0.5, recurrent_dropout=0.5)
    variables = draw(layer, x)
    assert_array_equal(layer.apply(variables, x)[0], LSTM(6).apply(variables, x)[0])
    plain = LSTM(6).apply(variables, x, train=True)  # rates of 0 need no random stream
    assert_array_equal(plain[0], LSTM(6).apply(variables, x)[0])


def test_rates_may_be_lanes() -> None:
    x = normal(30, 5, 3)
    variables = draw(LSTM(8), x)

    @jax.jit
    @jax.vmap
    def run(rate: Any) -> Any:
        layer = LSTM(8, recurrent_dropout=rate)
        return layer.apply(variables, x, train=True, rngs={"dropout": KEY})[0]

    lanes = run(jnp.array([0.0, 0.3, 0.6]))
    assert_allclose(lanes[0], LSTM(8).apply(variables, x)[0], atol=1e-6)
    for lane, rate in zip(lanes[1:], (0.3, 0.6), strict=True):
        alone = LSTM(8, recurrent_dropout=rate)
        wanted = alone.apply(variables, x, train=True, rngs={"dropout": KEY})[0]
        assert_allclose(lane, wanted, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_layer_and_direction_draws_its_own(
    bidirectional: bool, factors: list[np.ndarray]
) -> None:
    x = normal(4, 5, 3)
    stack = StackedLSTM((6, 6), recurrent_dropout=0.5, bidirectional=bidirectional)
    stack.apply(draw(stack, x), x, train=True, rngs={"dropout": KEY})
    assert len(factors) == (4 if bidirectional else 2)
    assert len(np.unique(factors, axis=0)) == len(factors)


@pytest.mark.usefixtures("x64")
def test_a_mask_means_what_it_means_in_keras() -> None:
    keras = pytest.importorskip("keras")
    x, mask = normal(4, 5, 3), (normal(4, 6, seed=1) > 0) * np.float32(2)
    layer = keras.layers.LSTM(6, return_sequences=True, recurrent_dropout=0.5)
    layer.build(x.shape)
    params = LSTMParams(normal(3, 24), normal(6, 24, seed=4), normal(24, seed=5))
    layer.set_weights(to_keras(params))
    layer.cell.get_recurrent_dropout_mask = lambda _: [mask] * 4  # Keras has one a gate
    hs, _ = lstm(params, x, recurrent_mask=mask)
    assert_allclose(hs, np.asarray(layer(x, training=True)), atol=1e-5)


@pytest.mark.parametrize("merge", ["concat", "sum", "mean", "mul"])
def test_merges_are_keras_s(merge: str) -> None:
    keras = pytest.importorskip("keras")
    x = normal(4, 5, 3)
    ours = Bidirectional(6, merge)
    variables = draw(ours, x)
    hs, h = ours.apply(variables, x, lengths=LENGTHS)
    for sequences, got in [(True, hs), (False, h)]:
        one_way = keras.layers.LSTM(6, return_sequences=sequences, zero_output_for_mask=True)
        both = keras.layers.Bidirectional(one_way, {"mean": "ave"}.get(merge, merge))
        both.build(x.shape)
        both.set_weights(
            [
                array
                for direction in ("forward", "backward")
                for array in to_keras(LSTMParams(**variables["params"][direction]))
            ]
        )
        wanted = np.asarray(both(x, mask=np.arange(5) < LENGTHS[:, None]))
        assert_allclose(got, wanted, atol=1e-5)


RATES = [1.5, 1, True, -0.1, float("nan"), "0.5", [0.1, 0.2], None]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
def test_rates_outside_0_to_1(name: str, rate: Any) -> None:
    x = normal(4, 5, 3)
    for module in (LSTM(6, **{name: rate}), StackedLSTM((6, 6), **{name: rate})):
        with pytest.raises(ValueError, match=r"must be a number in \[0, 1\), got "):
            module.init(KEY, x)


@pytest.mark.parametrize("kind", [np.int32, jnp.bfloat16, np.float32])
def test_factors_for_any_type(kind: Any) -> None:
    factors = layers.dropout_factors(KEY, 0.99, (1000, 20), kind)
    assert factors.dtype == (np.float32 if kind == np.int32 else kind)
    assert_allclose(np.unique(factors.astype(np.float32)), [0, 100], rtol=1e-5)
    assert (layers.dropout_factors(KEY, 0.9999999, (1000, 1000), kind) != 0).any()


@pytest.mark.parametrize("features", [0, -1, 2.5, "4", None])
def test_units_are_a_positive_number(features: Any) -> None:
    for module in (LSTM(features), nn.RNN(LSTMCell(features))):
        with pytest.raises(ValueError, match="features must be a positive integer, got "):
            module.init(KEY, normal(4, 5, 3))


@pytest.mark.parametrize("units", [4, "4", (), None])
def test_stacks_take_a_sequence_of_units(units: Any) -> None:
    with pytest.raises(ValueError, match="units must be a sequence"):
        StackedLSTM(units).init(KEY, normal(4, 5, 3))


def test_dropout_does_not_hide_a_wrong_rank() -> None:
    layer = LSTM(4, dropout=0.5)
    variables = layer.init(KEY, normal(5, 5, 3))
    with pytest.raises(ValueError, match=r"x must have shape \[B, T, F\], got \(5, 3\)"):
        layer.apply(variables, normal(5, 3), train=True, rngs={"dropout": KEY})


def test_a_stack_of_no_steps() -> None:
    hs, h = StackedLSTM((4, 5)).init_with_output(KEY, normal(2, 0, 3))[0]
    assert hs.shape == (2, 0, 5)
    assert_array_equal(h, np.zeros((2, 5)))


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_weights_of_16_bits(kind: Any) -> None:
    params = LSTM(6, param_dtype=kind).init(KEY, normal(4, 5, 3).astype(kind))["params"]
    assert {weights.dtype for weights in params.values()} == {jnp.dtype(kind)}
    kernel = params["recurrent_kernel"].astype(jnp.float32)
    assert_allclose(kernel @ kernel.T, np.eye(6), atol=0.02)
