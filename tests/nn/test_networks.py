"""The networks against Keras's, with the same weights; where dropout stands."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from references import equations

from jaxlstm.nn import (
    CNN,
    CNNLSTM,
    MLP,
    Conv1D,
    Dropout,
    LSTMClassifierNetwork,
    LSTMParams,
    RowColumnBiLSTM,
    StackedLSTM,
)
from jaxlstm.nn.networks import ACTIVATIONS, activation

Layer = keras.layers.Layer


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draw(module: nn.Module, x: Any) -> Any:
    """Parameters of a module, random everywhere: biases too."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    leaves = [normal(*leaf.shape, seed=7 + n) / 2 for n, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, leaves)


def loaded(layer: Layer, shape: Any, *weights: dict[str, Any]) -> Layer:
    """A Keras layer built for inputs of a shape, with our weights in Keras's order."""
    layer.build(shape)
    names = ("kernel", "recurrent_kernel", "bias")
    layer.set_weights([group[name] for group in weights for name in names if name in group])
    return layer


def keras_lstm(units: int, weights: Any, shape: Any, merge: str | None, outputs: bool) -> Layer:
    """One layer, in both directions where the weights name them."""
    layer = keras.layers.LSTM(units, return_sequences=outputs)
    if "forward" not in weights:
        return loaded(layer, shape, weights)
    layer = keras.layers.Bidirectional(layer, merge_mode=merge)
    return loaded(layer, shape, weights["forward"], weights["backward"])


LSTM_NETWORKS = {
    "stack, dense": (
        {"units": (6, 4), "dense": (5, 7), "activation": "tanh"},
        np.array([6, 3, 1, 4]),
    ),
    "flattened": ({"units": (4, 3), "dense": (5,), "flatten": True}, None),
    "both directions": ({"units": (4, 3), "bidirectional": True, "dense": (5,)}, None),
    "both directions of one layer, mean": (
        {"units": (3,), "bidirectional": True, "merge": "mean"},
        np.array([2, 6, 5, 1]),
    ),
}


@pytest.mark.parametrize(("fields", "lengths"), LSTM_NETWORKS.values(), ids=LSTM_NETWORKS)
def test_lstm_network_equals_keras(fields: dict[str, Any], lengths: Any) -> None:
    net = LSTMClassifierNetwork(3, **fields)
    x = normal(4, 6, 2)
    params = draw(net, x)
    mask = np.arange(6) < lengths[:, None] if lengths is not None else None

    h: Any = x
    merge = {"concat": "concat", "mean": "ave"}[net.merge]
    for index, units in enumerate(net.units):
        weights = params["StackedLSTM_0"][f"lstm_{index}"]
        outputs = index < len(net.units) - 1 or net.flatten
        h = keras_lstm(units, weights, h.shape, merge, outputs)(h, mask=mask)
    if net.flatten:
        h = keras.layers.Flatten()(h)
    for index, units in enumerate(net.dense):
        dense = keras.layers.Dense(units, activation=net.activation)
        h = loaded(dense, h.shape, params[f"dense_{index}"])(h)
    wanted = loaded(keras.layers.Dense(3), h.shape, params["logits"])(h)

    got = jax.jit(net.apply)({"params": params}, x, lengths=lengths)
    assert_allclose(got, wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).min() > 0.01  # the rows do differ


def test_mlp_equals_numpy() -> None:
    net = MLP(3, (7, 5), "tanh")
    x = normal(4, 3, 2)
    params = draw(net, x)
    got = jax.jit(net.apply)({"params": params}, x)
    h = np.asarray(x).reshape(4, 6)
    for name in ("dense_0", "dense_1", "logits"):
        h = h @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
        h = h if name == "logits" else np.tanh(h)
    assert_allclose(got, h, atol=1e-5)


def row_column_equations(net: RowColumnBiLSTM, params: Any, x: Any) -> Any:
    """Row by row through the NumPy LSTMs."""
    ways = [params["rows"][name] for name in ("forward", "backward")]
    forward, backward = (
        equations(LSTMParams(**way), x, reverse=bool(back))[0] for back, way in enumerate(ways)
    )
    if net.merge == "concat":
        hs = np.concatenate([forward, backward], axis=-1)
    else:
        hs = {"sum": forward + backward, "mean": (forward + backward) / 2}[net.merge]
    for index in range(net.depth + 1):
        hs, (_, h) = equations(LSTMParams(**params["StackedLSTM_0"][f"lstm_{index}"]), hs)
    function = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[net.activation]
    for index in range(len(net.dense)):
        h = function(h @ params[f"dense_{index}"]["kernel"] + params[f"dense_{index}"]["bias"])
    return h @ params["logits"]["kernel"] + params["logits"]["bias"]


@pytest.mark.parametrize(
    "net",
    [
        RowColumnBiLSTM(3, 4, 6, 2, (7, 5)),
        RowColumnBiLSTM(3, 5, 3, 0, (7,), merge="sum", activation="tanh"),
        RowColumnBiLSTM(3, 4, 6, 1, (), merge="mean"),
    ],
    ids=["concat", "no layer between, sum", "mean"],
)
@pytest.mark.usefixtures("x64")
def test_row_column_network_equals_numpy(net: RowColumnBiLSTM) -> None:
    x = 3 * normal(4, 6, 5).astype(float)
    params = jax.tree.map(lambda leaf: 2 * leaf.astype(float), draw(net, x))
    wanted = row_column_equations(net, params, x)
    run = jax.jit(net.apply)
    assert_allclose(run({"params": params}, x), wanted, rtol=1e-12, atol=1e-13)
    assert_allclose(run({"params": params}, x[..., None]), wanted, rtol=1e-12, atol=1e-13)
    assert np.ptp(wanted, axis=0).min() > 1e-3  # the rows do differ
    assert not np.allclose(run({"params": params}, x[:, ::-1]), wanted, atol=1e-3)


def test_row_column_network_has_as_many_parameters_as_keras() -> None:
    """The thesis's network; an LSTM of H units over F features has 4 H (F + H + 1)."""
    net = RowColumnBiLSTM(7, row_hidden=64, col_hidden=32)
    params = jax.eval_shape(net.init, jax.random.key(0), np.zeros((2, 32, 32)))["params"]
    lstm = keras.layers.LSTM
    twin = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            keras.layers.Reshape((32, 32)),
            keras.layers.Bidirectional(lstm(64, return_sequences=True)),
            *(lstm(64, return_sequences=True) for _ in range(4)),
            lstm(32),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(7),
        ]
    )
    wanted = 2 * 256 * 97 + 256 * 193 + 3 * 256 * 129 + 128 * 97 + 33 * 64 + 65 * 64 + 65 * 7
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == wanted == twin.count_params()


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"row_hidden": 0}, (2, 4, 4), "row_hidden must be an integer of at least 1, got 0"),
        ({"col_hidden": (3,)}, (2, 4, 4), r"col_hidden must be an integer .* got \(3,\)"),
        ({"depth": -1}, (2, 4, 4), "depth must be an integer of at least 0, got -1"),
        ({"dense": 64}, (2, 4, 4), "dense must be a sequence of positive integers, got 64"),
        ({"merge": "ave"}, (2, 4, 4), "merge must be one of .* got 'ave'"),
        ({"activation": "rleu"}, (2, 4, 4), "activation must be one of .* got 'rleu'"),
        ({}, (2, 4, 4, 3), r"x must be grey images .* got shape \(2, 4, 4, 3\)"),
    ],
)
def test_row_column_mistakes_are_said(fields: Any, shape: Any, message: str) -> None:
    net = RowColumnBiLSTM(3, **fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(net.init, jax.random.key(0), np.zeros(shape, np.float32))


def test_cnn_equals_keras() -> None:
    net = CNN(3, channels=(4, 5), kernel_size=(3, 2), activation="elu")
    x = normal(3, 11, 14, 2)
    params = draw(net, x)
    h: Any = x
    for index, channels in enumerate(net.channels):
        conv = keras.layers.Conv2D(channels, (3, 2), activation="elu")
        h = loaded(conv, h.shape, params[f"conv_{index}"])(h)
        h = keras.layers.MaxPooling2D()(h)
    h = keras.layers.Flatten()(h)
    wanted = loaded(keras.layers.Dense(3), h.shape, params["logits"])(h)
    assert_allclose(jax.jit(net.apply)({"params": params}, x), wanted, atol=1e-5)


def test_cnn_takes_grey_images() -> None:
    net, x = CNN(3, channels=(4,)), normal(3, 7, 9)
    params = draw(net, x)
    run = jax.jit(net.apply)
    assert_allclose(run({"params": params}, x), run({"params": params}, x[..., None]))


def test_cnn_of_28_by_28_images() -> None:
    """28 -> 26 -> 13 -> 11 -> 5: the studies' network."""
    params = jax.eval_shape(CNN(10).init, jax.random.key(0), np.zeros((2, 28, 28)))["params"]
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {
        "conv_0": (3, 3, 1, 32),
        "conv_1": (3, 3, 32, 64),
        "logits": (5 * 5 * 64, 10),
    }


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (MLP(4, (30,)), normal(2, 20)),
        (CNN(4), normal(2, 12, 12)),
        (CNN(4, dense=(30,), padding="same"), normal(2, 12, 12)),
        (Conv1D(4), normal(2, 12, 3)),
    ],
    ids=["mlp", "cnn", "cnn, dense", "conv1d"],
)
def test_dense_and_convolution_weights_start_as_keras_does(net: nn.Module, x: Any) -> None:
    """Glorot uniform, whose fans count a convolution's whole window; biases 0."""
    params = jax.device_get(jax.jit(net.init)(jax.random.key(0), x))["params"]
    for layer in params.values():
        *window, fan_in, fan_out = layer["kernel"].shape
        limit = np.sqrt(6 / (np.prod(window) * (fan_in + fan_out)))
        assert 0.9 * limit < np.abs(layer["kernel"]).max() <= limit
        assert not layer["bias"].any()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_keras(name: str) -> None:
    x = 3 * normal(50, 6)
    assert_allclose(jax.jit(activation(name))(x), keras.activations.get(name)(x), atol=1e-6)


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match=r"one of elu, gelu, .*tanh, got 'rleu'"):
        draw(MLP(2, activation="rleu"), normal(2, 3))


class TestDropout:
    """What is dropped, and that what follows sees it."""

    def run(self, net: nn.Module, x: Any) -> tuple[Any, dict[str, Any], Any]:
        """Parameters, the outputs of every dropout by its path, and the logits."""
        params = draw(net, x)

        @jax.jit
        def run(params: Any, key: Any) -> Any:
            return net.apply(
                {"params": params},
                x,
                train=True,
                rngs={"dropout": key},
                capture_intermediates=lambda module, _: isinstance(module, Dropout),
            )

        logits, seen = jax.device_get(run(params, jax.random.key(1)))
        flat = jax.tree_util.tree_flatten_with_path(seen["intermediates"])[0]
        return params, {jax.tree_util.keystr(path): out for path, out in flat}, logits

    def dense(self, layer: Any, h: Any) -> Any:
        return h @ layer["kernel"] + layer["bias"]

    def test_of_one_lstm_layer_is_on_its_last_state(self) -> None:
        net = LSTMClassifierNetwork(3, units=(9,), dropout=0.5)
        params, dropped, logits = self.run(net, normal(4, 5, 2))
        ((path, h),) = dropped.items()
        assert "StackedLSTM" not in path
        assert h.shape == (4, 9)
        assert 0 < (h == 0).sum() < h.size
        assert_allclose(logits, self.dense(params["logits"], h), atol=1e-5)

    def test_of_one_flattened_layer_is_on_all_its_outputs(self) -> None:
        net = LSTMClassifierNetwork(3, units=(9,), dropout=0.5, flatten=True)
        params, dropped, logits = self.run(net, normal(4, 5, 2))
        ((path, h),) = dropped.items()
        assert "StackedLSTM" not in path
        assert h.shape == (4, 5, 9)
        assert 0 < (h == 0).sum() < h.size
        assert_allclose(logits, self.dense(params["logits"], h.reshape(4, -1)), atol=1e-5)

    @pytest.mark.parametrize(("between", "after"), [(0.5, 0.0), (0.0, 0.3)])
    def test_of_several_lstm_layers_is_between_them_and_after_dense_ones(
        self, between: float, after: float
    ) -> None:
        fields: Any = {"dropout": between, "dense_dropout": after}
        net = LSTMClassifierNetwork(3, units=(9, 8, 7), dense=(20,), activation="tanh", **fields)
        params, dropped, logits = self.run(net, normal(4, 5, 2))
        inside = [out for path, out in dropped.items() if "StackedLSTM" in path]
        outside = [out for path, out in dropped.items() if "StackedLSTM" not in path]
        assert [out.shape for out in inside] == [(4, 5, 9), (4, 5, 8)]
        assert all((out == 0).any() == (between > 0) for out in inside)
        (h,) = outside
        assert h.shape == (4, 20)
        assert (h == 0).any() == (after > 0)
        assert np.abs(h).max() <= 1 / (1 - after)  # after tanh
        assert_allclose(logits, self.dense(params["logits"], h), atol=1e-5)

    @pytest.mark.parametrize(
        ("net", "x", "shapes"),
        [
            (MLP(3, (9, 8), dropout=0.5), normal(4, 5), [(4, 9), (4, 8)]),
            (CNN(3, (4, 6), dropout=0.5), normal(4, 11, 12), [(4, 1, 1, 6)]),
            (
                CNN(3, (4,), dropout=0.5, dense=(9, 8), dense_dropout=0.3, padding="same"),
                normal(4, 11, 12),
                [(4, 5, 6, 4), (4, 9), (4, 8)],
            ),
            (
                Conv1D(3, (4, 6), dropout=0.5, dense=(9,), dense_dropout=0.3),
                normal(4, 11, 2),
                [(4, 2, 6), (4, 9)],
            ),
            (
                CNNLSTM(3, (4,), units=(7,), dropout=0.5, dense=(9,), dense_dropout=0.3),
                normal(4, 11, 12),
                [(4, 5, 6, 4), (4, 7), (4, 9)],
            ),
            (
                CNNLSTM(3, (4,), units=(7, 8), dropout=0.5, dense=(9,), dense_dropout=0.3),
                normal(4, 11, 12),
                [(4, 5, 6, 4), (4, 9), (4, 5, 7)],
            ),
            (
                RowColumnBiLSTM(3, 6, 5, 2, (9,), dropout=0.5, dense_dropout=0.3),
                normal(4, 11, 12),
                [(4, 11, 12), (4, 9), (4, 11, 6), (4, 11, 6)],
            ),
        ],
        ids=["mlp", "cnn", "cnn, dense", "conv1d", "cnnlstm", "cnnlstm of two", "row/column"],
    )
    def test_of_other_networks(self, net: nn.Module, x: Any, shapes: Any) -> None:
        params, dropped, logits = self.run(net, x)
        # The network's own by number, then those of its stack.
        outputs = list(dropped.values())
        assert [out.shape for out in outputs] == shapes
        assert all(0 < (out == 0).sum() < out.size for out in outputs)
        own = [out for path, out in dropped.items() if "StackedLSTM" not in path]
        h = own[-1].reshape(4, -1)
        assert_allclose(logits, self.dense(params["logits"], h), atol=1e-5)
        assert not np.allclose(logits, jax.jit(net.apply)({"params": params}, x))

    @pytest.mark.parametrize(
        "net",
        [
            LSTMClassifierNetwork(2, recurrent_dropout=0.1),
            MLP(2),
            CNN(2),
            Conv1D(2),
            CNNLSTM(2),
            RowColumnBiLSTM(2),
        ],
    )
    def test_rates_are_traced_fields(self, net: Any) -> None:
        assert set(net.traced_fields) == {n for n in type(net).__annotations__ if "dropout" in n}

    @pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
    def test_no_recurrent_dropout_is_no_traced_field(self, rate: Any) -> None:
        net = LSTMClassifierNetwork(2, recurrent_dropout=rate)
        assert net.traced_fields == ("dropout", "dense_dropout")

        def traced(rate: Any) -> Any:
            net = LSTMClassifierNetwork(2, recurrent_dropout=rate)
            return dict.fromkeys(net.traced_fields, rate)

        assert "recurrent_dropout" in jax.eval_shape(traced, rate)

    def test_recurrent_dropout_reaches_every_lstm_layer(self) -> None:
        x, rate = normal(4, 5, 2), 0.4
        net = LSTMClassifierNetwork(3, (6, 5), recurrent_dropout=rate)
        params, _, logits = self.run(net, x)

        class Outer(nn.Module):
            @nn.compact
            def __call__(self, x: Any) -> Any:
                return StackedLSTM((6, 5), recurrent_dropout=rate)(x, train=True)[1]

        inner = {"StackedLSTM_0": params["StackedLSTM_0"]}
        h = Outer().apply({"params": inner}, x, rngs={"dropout": jax.random.key(1)})
        assert_allclose(logits, self.dense(params["logits"], h), atol=1e-5)
        assert not np.allclose(logits, net.apply({"params": params}, x), atol=1e-3)
