"""The networks of convolutions against NumPy loops and Keras."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from references import equations

from jaxlstm.nn import CNN, CNNLSTM, Conv1D, LSTMParams
from jaxlstm.nn.padding import width_of

ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def draw(module: nn.Module, x: Any) -> Any:
    """Parameters of a module, random everywhere: biases too."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    leaves = [normal(*leaf.shape, seed=7 + n) / 2 for n, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, leaves)


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, padding: str) -> np.ndarray:
    """Place by place and tap by tap; with "same" a missing half pixel is missing before."""
    window = kernel.shape[:-2]
    before = [(span - 1) // 2 if padding == "same" else 0 for span in window]
    size = [
        extent - (0 if padding == "same" else span - 1)
        for extent, span in zip(x.shape[1:-1], window, strict=True)
    ]
    out = np.zeros((len(x), *size, kernel.shape[-1])) + bias
    for place in np.ndindex(*size):
        for tap in np.ndindex(*window):
            seen = tuple(p + t - b for p, t, b in zip(place, tap, before, strict=True))
            if all(0 <= s < n for s, n in zip(seen, x.shape[1:-1], strict=True)):
                out[:, *place] += x[:, *seen] @ kernel[tap]
    return out


def pooled(x: np.ndarray, pool: int) -> np.ndarray:
    """The maximum of each block of places; what fills no block is left out."""
    size = [extent // pool for extent in x.shape[1:-1]]
    out = np.zeros((len(x), *size, x.shape[-1]))
    for place in np.ndindex(*size):
        block = tuple(slice(p * pool, (p + 1) * pool) for p in place)
        out[:, *place] = x[:, *block].max(tuple(range(1, x.ndim - 1)))
    return out


def after_convolutions(net: Any, params: Any, x: np.ndarray) -> np.ndarray:
    for index in range(len(net.channels)):
        layer = params[f"conv_{index}"]
        x = ACTIVATIONS[net.activation](convolved(x, layer["kernel"], layer["bias"], net.padding))
        x = pooled(x, net.pool)
    return x


def after_dense(net: Any, params: Any, h: np.ndarray) -> np.ndarray:
    for index in range(len(net.dense)):
        layer = params[f"dense_{index}"]
        h = ACTIVATIONS[net.dense_activation](h @ layer["kernel"] + layer["bias"])
    return h @ params["logits"]["kernel"] + params["logits"]["bias"]


IMAGES, SEQUENCES = (3, 9, 12, 2), (3, 13, 2)
FLAT: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "CNN": (CNN(4, (3, 5), (2, 3)), IMAGES),
    "CNN, same, softmax": (
        CNN(4, (3, 5), (4, 3), "softmax", dense=(6, 7), padding="same"),
        IMAGES,
    ),
    "CNN, pool 3": (CNN(4, (3,), activation="tanh", dense=(6,), pool=3), IMAGES),
    "CNN, no pool": (CNN(4, (3, 2), dense=(6,), dense_activation="tanh", pool=1), IMAGES),
    "Conv1D": (Conv1D(4, (3, 5)), SEQUENCES),
    "Conv1D, valid": (Conv1D(4, (3, 5), 4, padding="valid", dense=(6, 7)), (3, 21, 2)),
    "Conv1D, even": (
        Conv1D(4, (3, 5), 4, 3, "softmax", dense=(6,), dense_activation="tanh"),
        SEQUENCES,
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", FLAT)
def test_convolutions_equal_numpy(case: str) -> None:
    net, shape = FLAT[case]
    x = normal(*shape)
    params = draw(net, x)
    got = jax.jit(net.apply)({"params": params}, x)
    wanted = after_dense(net, params, after_convolutions(net, params, x).reshape(len(x), -1))
    assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    assert np.ptp(wanted, axis=0).min() > 1e-3  # the rows do differ


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "net",
    [
        CNNLSTM(4, (3, 5), (2, 3), units=(6,), dense=(7,), dense_activation="tanh"),
        CNNLSTM(4, (3,), (3, 2), (6, 5), padding="valid", pool=3, activation="tanh"),
        CNNLSTM(4, (3,), units=(6, 5), bidirectional=True),
    ],
    ids=["one layer", "two layers", "both directions"],
)
def test_cnn_lstm_equals_numpy(net: CNNLSTM) -> None:
    """Rows are steps, top to bottom, of columns' channels, left to right."""
    x = normal(*IMAGES)
    params = draw(net, x)
    got = jax.jit(net.apply)({"params": params}, x)

    image = after_convolutions(net, params, x)
    hs = np.stack([image[:, row].reshape(len(x), -1) for row in range(image.shape[1])], axis=1)
    h = hs
    for index in range(len(net.units)):
        layer = params["StackedLSTM_0"][f"lstm_{index}"]
        ways = [layer["forward"], layer["backward"]] if net.bidirectional else [layer]
        runs = [
            equations(LSTMParams(**way), hs, reverse=bool(back)) for back, way in enumerate(ways)
        ]
        hs = np.concatenate([out for out, _ in runs], axis=-1)
        h = np.concatenate([state for _, (_, state) in runs], axis=-1)
    wanted = after_dense(net, params, h)
    assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    assert np.ptp(wanted, axis=0).min() > 1e-3


def keras_network(net: Any, shape: tuple[int, ...]) -> Any:
    """The study's network in Keras, for inputs ``[B, *shape]``."""
    layers: list[Any] = [keras.Input(shape)]
    for channels in net.channels:
        if isinstance(net, Conv1D):
            kind, pool = keras.layers.Conv1D, keras.layers.MaxPooling1D(net.pool)
        else:
            kind, pool = keras.layers.Conv2D, keras.layers.MaxPooling2D(net.pool)
        layers += [
            kind(channels, net.kernel_size, padding=net.padding, activation=net.activation),
            pool,
        ]
    if isinstance(net, CNNLSTM):
        layers.append(keras.layers.TimeDistributed(keras.layers.Flatten()))
        for index, units in enumerate(net.units):
            layer = keras.layers.LSTM(units, return_sequences=index < len(net.units) - 1)
            layers.append(keras.layers.Bidirectional(layer) if net.bidirectional else layer)
    else:
        layers.append(keras.layers.Flatten())
    layers += [keras.layers.Dense(n, activation=net.dense_activation) for n in net.dense]
    return keras.Sequential([*layers, keras.layers.Dense(net.classes)])


@pytest.mark.parametrize(
    ("net", "shape", "count"),
    [
        # Counts by hand: 9 * 1 * 32 + 32, 9 * 32 * 64 + 64, then 5 * 5 * 64 * 62 + 62.
        (CNN(62, activation="softmax"), (28, 28, 1), 320 + 18_496 + 99_262),
        (CNN(7, (32, 64, 128), dense=(128,), padding="same"), (32, 32, 1), 355_847),
        # 5 * 32 * 64 + 64, 5 * 64 * 128 + 128, 64 * 128 * 6 + 6.
        (Conv1D(6), (256, 32), 10_304 + 41_088 + 49_158),
        # 320, 18,496, a row of 8 * 64 features: 4 * 64 * (512 + 64 + 1), 64 * 7 + 7.
        (CNNLSTM(7), (32, 32, 1), 320 + 18_496 + 147_712 + 455),
        (CNNLSTM(3, (4,), units=(6, 5), bidirectional=True), (8, 6, 2), None),
    ],
    ids=["CNN", "CNN, dense", "Conv1D", "CNNLSTM", "CNNLSTM, both directions"],
)
def test_networks_equal_keras(net: nn.Module, shape: tuple[int, ...], count: int | None) -> None:
    """Keras's number of parameters, in its order; and its output for the same ones."""
    x = normal(2, *shape).astype(np.float32)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32) / 3, draw(net, x))
    twin = keras_network(net, shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == twin.count_params()
    assert count in (None, twin.count_params())

    def ordered(group: Any) -> list[Any]:
        names = ["conv_", "StackedLSTM", "lstm_", "forward", "backward", "dense_", "logits"]
        names += ["kernel", "recurrent_kernel", "bias"]
        place = {
            name: next(n for n, start in enumerate(names) if name.startswith(start))
            for name in group
        }
        leaves = []
        for name in sorted(group, key=lambda name: (place[name], name)):
            leaves += ordered(group[name]) if isinstance(group[name], dict) else [group[name]]
        return leaves

    weights = ordered(params)
    assert len(weights) == len(jax.tree.leaves(params))
    twin.set_weights(weights)
    wanted = np.asarray(twin(x))
    got = jax.jit(net.apply)({"params": params}, x)
    assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", [CNN, CNNLSTM])
def test_grey_images(kind: Any) -> None:
    net, x = kind(3, channels=(4,)), normal(3, 7, 9).astype(np.float32)
    params = draw(net, x)
    run = jax.jit(net.apply)
    assert_allclose(run({"params": params}, x), run({"params": params}, x[..., None]))


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "CNN": (CNN(3, (4,), dense=(9,)), (3, 7, 8)),
    "Conv1D": (Conv1D(3, (4,), dense=(9,)), (3, 7, 2)),
    "CNNLSTM": (CNNLSTM(3, (4,), units=(5,), dense=(9,)), (3, 7, 8)),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_traced_rates_share_a_program(case: str) -> None:
    net, shape = NETWORKS[case]
    assert set(net.traced_fields) == {"dropout", "dense_dropout"}
    x = normal(*shape).astype(np.float32)
    params = jax.tree.map(jnp.float32, draw(net, x))
    rngs = {"dropout": jax.random.key(1)}

    @jax.jit
    def run(dropout: Any, dense_dropout: Any) -> Any:
        lane = net.clone(dropout=dropout, dense_dropout=dense_dropout)
        return lane.apply({"params": params}, x, train=True, rngs=rngs)

    rates = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.4)]
    outputs = [np.asarray(run(*rate)) for rate in rates]
    assert run._cache_size() == 1
    for (dropout, dense_dropout), got in zip(rates, outputs, strict=True):
        known = net.clone(dropout=dropout, dense_dropout=dense_dropout)
        wanted = known.apply({"params": params}, x, train=True, rngs=rngs)
        assert_allclose(got, wanted, atol=1e-5)
        evaluated = known.apply({"params": params}, x)
        assert_allclose(evaluated, outputs[0], atol=1e-5)  # nothing is dropped
    differences = [np.abs(a - b).max() for n, a in enumerate(outputs) for b in outputs[:n]]
    assert min(differences) > 1e-3


def test_what_may_be_padded() -> None:
    fields: Any = {"dense": (5,), "dense_activation": "elu"}
    assert width_of(CNN(3, (4, 8), **fields)) == (4, 8, 5)
    assert width_of(CNN(3, (4, 8), activation="softmax", **fields)) == (5,)
    assert width_of(CNN(3, activation="softmax")) is None
    assert width_of(Conv1D(3, (4, 8), dense=(5,), dense_activation="sigmoid")) == (4, 8)
    assert width_of(CNNLSTM(3, (4,), units=(6, 7), **fields)) == (4, 6, 7, 5)
    assert width_of(CNNLSTM(3, activation="softmax", units=(6, 7))) == (6, 7)


IMAGE, SEQUENCE = (2, 10, 11), (2, 8, 3)


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (CNN(3, padding="SAME"), IMAGE, "padding must be one of valid, same, got 'SAME'"),
        (CNN(3, pool=0), IMAGE, "pool must be an integer of at least 1, got 0"),
        (CNN(3, channels=8), IMAGE, "channels must be a sequence of positive integers, got 8"),
        (CNN(3, (4, 0)), IMAGE, r"channels must be .* got \(4, 0\)"),
        (CNN(3, dense=64), IMAGE, "dense must be a sequence of positive integers, got 64"),
        (CNN(3, kernel_size=3), IMAGE, "kernel_size must be two positive integers, got 3"),
        (CNN(3, kernel_size=(3, 3, 3)), IMAGE, "kernel_size must be two positive integers"),
        (CNN(3, activation="rleu"), IMAGE, "activation must be one of .* got 'rleu'"),
        (CNN(3, (4,), dense=(2,), dense_activation="rleu"), IMAGE, "dense_activation must be"),
        (CNN(3, (4,), dropout=1.5), IMAGE, r"rate must be a number in \[0, 1\), got 1.5"),
        (CNN(3), (2, 8), r"x must be images .* got shape \(2, 8\)"),
        (CNN(3), (2, 8, 9), "x must be larger: of 8 x 9 nothing is left after conv_1, with"),
        (CNN(3, padding="same"), (2, 1, 1), "x must be larger: of 1 x 1 nothing .* conv_0"),
        (CNN(3), (2, 2, 30), "x must be larger"),
        (Conv1D(3), (2, 8, 9, 1), r"x must be sequences \[B, T, F\], got shape"),
        (Conv1D(3), (2, 3, 2), "x must be larger: of 3 nothing is left after conv_1, with"),
        (Conv1D(3, kernel_size=(3, 3)), SEQUENCE, "kernel_size must be an integer of at least 1"),
        (Conv1D(3, padding="causal"), SEQUENCE, "padding must be one of valid, same, got 'causal'"),
        (CNNLSTM(3, units=64), IMAGE, "units must be a sequence of positive integers, got 64"),
        (CNNLSTM(3, units=()), IMAGE, "units must be a sequence that names at least one"),
        (CNNLSTM(3, bidirectional=True, merge="avg"), IMAGE, "merge must be one of .* got 'avg'"),
        (CNNLSTM(3), (2, 3, 9), "x must be larger: of 3 x 9 nothing is left after conv_1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_said(net: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        jax.eval_shape(net.init, jax.random.key(0), np.zeros(shape, np.float32))
    assert "\n" not in str(error.value)


def test_blocks_say_it_too() -> None:
    with pytest.raises(ValueError, match="x must be larger: of 4 x 4 nothing is left"):
        CNN(3).parameter_blocks((2, 4, 4))
    with pytest.raises(ValueError, match="channels must be a sequence of positive integers"):
        width_of(CNN(3, channels=8))
