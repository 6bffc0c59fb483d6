"""Data, rows and comparisons of the tests that train a trial."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.train import epoch, trial
from jaxlstm.train.data import Data
from jaxlstm.train.hyperparameters import Hyperparameters
from jaxlstm.train.trial import Rows, State, Structure

N = 23
PERMUTATION = np.random.default_rng(5).permutation(N)
TRAIN, VALIDATION = PERMUTATION[:17], PERMUTATION[17:]
WEIGHTS = (0.5, 2.0, 1.25)

init = jax.jit(trial.init, static_argnums=0)
evaluate = jax.jit(epoch.evaluate, static_argnums=0)

traces: list[Structure] = []  # one entry each time that `train_epoch` is traced


@functools.partial(jax.jit, static_argnums=0)
def _train_epoch(structure: Structure, *args: Any) -> Any:
    traces.append(structure)
    return epoch.train_epoch(structure, *args)


def train_epoch(
    structure: Structure,
    state: State,
    h: Hyperparameters,
    data: Data,
    rows: Rows,
    active: bool = True,
    validate: bool = True,
) -> Any:
    return _train_epoch(structure, state, h, data, rows, np.bool_(active), np.bool_(validate))


def make_data(*shape: int, rows: int = N, dtype: Any = np.float32) -> Data:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, *shape)).astype(dtype)
    return Data(x, rng.integers(0, 3, rows).astype(np.int32))


def make_rows(train: Any, validation: Any, size: int = N, fill: int = 0) -> Rows:
    def padded(rows: Any) -> Any:
        return np.asarray([*rows, *[fill] * (size - len(rows))], np.int32)

    return Rows(padded(train), np.int32(len(train)), padded(validation), np.int32(len(validation)))


ROWS = make_rows(TRAIN, VALIDATION)


def start(structure: Structure, h: Hyperparameters, data: Data, seed: int = 0) -> State:
    return init(structure, h, data.x[:1], jax.random.key(seed))


def raw(tree: Any) -> Any:
    """NumPy arrays, random keys included."""
    return jax.tree.map(
        lambda leaf: np.asarray(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ),
        tree,
    )


def assert_same(got: Any, wanted: Any) -> None:
    """Bit for bit."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(raw(got)), jax.tree.leaves(raw(wanted)), strict=True):
        assert a.dtype == b.dtype
        assert_array_equal(a, b)


def assert_close(got: Any, wanted: Any, **tolerance: float) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(raw(got)), jax.tree.leaves(raw(wanted)), strict=True):
        assert_allclose(a, b, **tolerance)


def order_of(key: jax.Array, epoch: int, train: Any = TRAIN, size: int = N) -> Any:
    """The training rows as an epoch visits them, and the key of its dropout."""
    shuffle_key, dropout_key = jax.random.split(jax.random.fold_in(key, epoch))
    bits = np.asarray(jax.random.bits(shuffle_key, (size,), jnp.uint32))[: len(train)]
    return train[np.argsort(bits, kind="stable")], dropout_key


def softmax_of(params: Any, x: Any) -> tuple[list[Any], Any]:
    """Each layer's input and the probabilities of a perceptron with tanh, in NumPy."""
    inputs = [x.reshape(len(x), np.prod(x.shape[1:]))]
    for n in range(len(params) - 1):
        layer = params[f"dense_{n}"]
        inputs.append(np.tanh(inputs[-1] @ layer["kernel"] + layer["bias"]))
    scores = np.exp(inputs[-1] @ params["logits"]["kernel"] + params["logits"]["bias"])
    return inputs, scores / scores.sum(-1, keepdims=True)
