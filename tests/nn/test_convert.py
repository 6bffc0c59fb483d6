"""Weights of Keras and PyTorch layers, run by us and by them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn import LSTMParams, from_keras, from_torch, lstm, to_keras, to_torch

run_lstm = jax.jit(lstm, static_argnames="reverse")
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def assert_same(a: LSTMParams, b: LSTMParams) -> None:
    for name in LSTMParams._fields:
        assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


class TestKeras:
    @pytest.mark.parametrize("use_bias", [True, False])
    def test_runs_as_the_keras_layer_and_back(self, use_bias: bool) -> None:
        layer = keras.layers.LSTM(5, use_bias=use_bias, return_sequences=True, return_state=True)
        x, carry = normal(4, 6, 3), (normal(4, 5), normal(4, 5))
        layer.build(x.shape)
        weights = [normal(3, 20), normal(5, 20), normal(20)][: 3 if use_bias else 2]
        layer.set_weights(weights)
        params = from_keras(layer.get_weights())
        hs, (c, h) = run_lstm(params, jnp.asarray(x), initial_carry=carry)
        wanted_hs, wanted_h, wanted_c = layer(x, initial_state=[carry[1], carry[0]])
        assert_allclose(hs, wanted_hs, atol=1e-5)
        assert_allclose(h, wanted_h, atol=1e-5)
        assert_allclose(c, wanted_c, atol=1e-5)
        back = to_keras(params)
        for got, weight in zip(back, weights, strict=True):
            assert_array_equal(got, weight)
        assert_same(from_keras(back), params)

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_another_number_of_arrays(self, count: int) -> None:
        with pytest.raises(ValueError, match=f"2 or 3 weight arrays, got {count}"):
            from_keras([normal(3, 20)] * count)

    @pytest.mark.parametrize(
        "shapes",
        [
            [(3, 15), (5, 15), (2, 15)],  # a GRU
            [(3, 20), (5, 20), (16,)],
            [(3, 16), (5, 20), (20,)],
            [(3, 20), (4, 20), (20,)],
            [(2, 3, 20), (5, 20), (20,)],
            [(3, 20), (), (20,)],
        ],
    )
    def test_shapes_that_do_not_fit(self, shapes: Any) -> None:
        with pytest.raises(ValueError, match="from Keras are not those of one LSTM") as error:
            from_keras([normal(*shape) for shape in shapes])
        assert all(str(shape) in str(error.value) for shape in shapes)


def torch_state(features: int, units: int, layers: int, bias: bool = True) -> dict[str, Any]:
    """Random weights under the names of a bidirectional `torch.nn.LSTM`."""
    state = {}
    for layer in range(layers):
        width = 2 * units if layer else features
        for way in ("", "_reverse"):
            state[f"weight_ih_l{layer}{way}"] = normal(4 * units, width)
            state[f"weight_hh_l{layer}{way}"] = normal(4 * units, units)
            if bias:
                state[f"bias_ih_l{layer}{way}"] = normal(4 * units)
                state[f"bias_hh_l{layer}{way}"] = normal(4 * units)
    return state


def documented(state: Any, suffix: str, x: np.ndarray) -> np.ndarray:
    """PyTorch's equations as its documentation of `nn.LSTM` gives them, for ``x [B, T, F]``."""

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    w_ii, w_if, w_ig, w_io = np.split(state[f"weight_ih_{suffix}"], 4)
    w_hi, w_hf, w_hg, w_ho = np.split(state[f"weight_hh_{suffix}"], 4)
    nothing = np.zeros(4 * w_hi.shape[1])
    b_ii, b_if, b_ig, b_io = np.split(state.get(f"bias_ih_{suffix}", nothing), 4)
    b_hi, b_hf, b_hg, b_ho = np.split(state.get(f"bias_hh_{suffix}", nothing), 4)
    h = c = np.zeros((len(x), w_hi.shape[1]))
    hs = []
    for x_t in x.swapaxes(0, 1):
        i = sigmoid(x_t @ w_ii.T + b_ii + h @ w_hi.T + b_hi)
        f = sigmoid(x_t @ w_if.T + b_if + h @ w_hf.T + b_hf)
        g = np.tanh(x_t @ w_ig.T + b_ig + h @ w_hg.T + b_hg)
        o = sigmoid(x_t @ w_io.T + b_io + h @ w_ho.T + b_ho)
        c = f * c + i * g
        h = o * np.tanh(c)
        hs.append(h)
    return np.stack(hs, 1)


def run_ours(state: Any, layers: int, x: np.ndarray, prefix: str = "") -> Any:
    """Layer on layer, both directions concatenated; the last states as PyTorch stacks them."""
    hs: Any = x
    last = []
    for layer in range(layers):
        outputs = []
        for reverse in (False, True):
            params = from_torch(state, layer=layer, reverse=reverse, prefix=prefix)
            out, (c, h) = run_lstm(params, hs, reverse=reverse)
            outputs.append(out)
            last.append((h, c))
        hs = np.concatenate(outputs, -1)
    return hs, [np.stack(states) for states in zip(*last, strict=True)]


class TestTorch:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("prefix", ["", "encoder.rnn."])
    def test_runs_as_documented(self, prefix: str, bias: bool) -> None:
        state = torch_state(3, 5, layers=2, bias=bias)
        x = normal(4, 6, 3)
        wanted = x
        for layer in range(2):
            ahead = documented(state, f"l{layer}", wanted)
            back = documented(state, f"l{layer}_reverse", wanted[:, ::-1])[:, ::-1]
            wanted = np.concatenate([ahead, back], -1)
        prefixed = {prefix + name: weights for name, weights in state.items()}
        got, _ = run_ours({**prefixed, "head.weight": normal(2, 2)}, 2, x, prefix)
        assert_allclose(got, wanted, atol=1e-5)

    @pytest.mark.parametrize("bias", [True, False])
    def test_runs_as_torch_and_back(self, bias: bool) -> None:
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        module = torch.nn.LSTM(3, 5, 2, bias=bias, batch_first=True, bidirectional=True)
        x = normal(4, 6, 3)
        with torch.no_grad():
            wanted, (h, c) = module(torch.from_numpy(x))
        got, (got_h, got_c) = run_ours(module.state_dict(), 2, x)
        assert_allclose(got, wanted.numpy(), atol=1e-6)
        assert_allclose(got_h, h.numpy(), atol=1e-6)
        assert_allclose(got_c, c.numpy(), atol=1e-6)
        if not bias:
            return
        other = torch.nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True)
        arrays: dict[str, Any] = {}
        for layer in (0, 1):
            for reverse in (False, True):
                place: Any = {"layer": layer, "reverse": reverse}
                arrays |= to_torch(from_torch(module.state_dict(), **place), **place)
        other.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
        with torch.no_grad():
            again, _ = other(torch.from_numpy(x))
        assert_allclose(again.numpy(), wanted.numpy(), atol=1e-6)

    @pytest.mark.parametrize(
        ("place", "name"),
        [
            ({}, "weight_ih_l0"),
            ({"layer": 2}, "weight_ih_l2"),
            ({"layer": 1, "reverse": True, "prefix": "net."}, "net.weight_ih_l1_reverse"),
        ],
    )
    def test_round_trip_is_exact(self, place: Any, name: str) -> None:
        params = LSTMParams(*(jnp.asarray(normal(*shape)) for shape in [(3, 20), (5, 20), (20,)]))
        arrays = to_torch(params, **place)
        assert_array_equal(arrays[name], params.kernel.T)
        assert all(array.flags.writeable and array.flags.c_contiguous for array in arrays.values())
        assert_same(from_torch(arrays, **place), params)

    def test_no_such_layer(self) -> None:
        state = torch_state(3, 5, layers=1)
        for place, name in [
            ({"layer": 1}, "weight_ih_l1 among weight_ih_l0"),
            ({"prefix": "rnn."}, r"rnn\.weight_ih_l0"),
        ]:
            with pytest.raises(KeyError, match=name):
                from_torch(state, **place)

    def test_projected_lstm(self) -> None:
        state = torch_state(3, 5, layers=1) | {"weight_hh_l0": normal(20, 2)}
        with pytest.raises(ValueError, match=r"from PyTorch .*\(3, 20\), \(2, 20\), \(20,\)"):
            from_torch(state)
