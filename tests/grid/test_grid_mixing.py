"""Networks whose rows depend on each other get batches of exactly their rows, as Flax would."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.model_selection import KFold

from jaxlstm import FlaxClassifier, GridSearch
from jaxlstm.grid import mixing, programs
from jaxlstm.nn import CNNLSTM, LSTM, MLP, Dropout, LSTMClassifierNetwork, RowColumnBiLSTM
from jaxlstm.train.data import Data
from jaxlstm.train.trial import Mixing, Structure

FOLDS = KFold(2)
LAYOUTS = ["loop", "vmap"]
if importlib.util.find_spec("grain"):
    LAYOUTS.append("stream")


class Mixed(nn.Module):
    """Statistics that are kept, and a mean over the batch that is taken in evaluation, too."""

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        kept = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(2)(jnp.concatenate([kept, x - x.mean(0)], axis=1))


_rng = np.random.default_rng(4)
X = (3 * _rng.normal(size=(9, 2)) + [5, -1]).astype(np.float32)
y = np.asarray([0, 1] * 4 + [0], np.int32)


@functools.cache
def trained(numbers: tuple[int, ...], size: int, epochs: int) -> Any:
    """Plain Flax and optax on batches of their true size, from the same first weights."""
    rows = np.asarray(numbers)
    model = FlaxClassifier(Mixed(), random_state=0)
    network = model._network(Data(X, y), rows, model._check_data(X, y)[1])
    state = programs.init_state(network.structure, network.hyperparameters, X[:1], 0)
    params, collections = state.weights
    tx = optax.sgd(0.05)
    slots = tx.init(params)
    for epoch in range(epochs):
        shuffle = jax.random.split(jax.random.fold_in(state.key, epoch))[0]
        with jax.threefry_partitionable(True):
            bits = np.asarray(jax.random.bits(shuffle, (len(X),), jnp.uint32))[: len(rows)]
        order = rows[np.argsort(bits, kind="stable")]
        for start in range(0, len(rows), size):
            batch = order[start : start + size]

            def loss_of(params: Any, batch: Any = batch, collections: Any = collections) -> Any:
                variables = {"params": params, **collections}
                logits, after = Mixed().apply(variables, X[batch], True, mutable=["batch_stats"])
                each = optax.softmax_cross_entropy_with_integer_labels(logits, y[batch])
                return each.mean(), after

            grads, collections = jax.grad(loss_of, has_aux=True)(params)
            updates, slots = tx.update(grads, slots)
            params = optax.apply_updates(params, updates)
    return params, collections


@pytest.mark.filterwarnings("ignore:The scoring .* does not support sample_weight")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_are_of_their_own_rows(layout: str) -> None:
    """Folds of 3 and 4 rows in batches of 2 and whole; early stopping; rows that weigh nothing."""
    weight = np.ones(9)
    weight[[2, 6]] = 0
    counted = np.flatnonzero(weight)
    models = []

    def score(model: Any, X: Any, y: Any) -> float:
        models.append((model, X, y))
        return 0.0

    model = FlaxClassifier(Mixed(), optimizer="sgd", learning_rate=0.05, epochs=3, random_state=0)
    # After its first epoch a loss never gets better by so much.
    model.set_params(monitor="loss", patience=0, min_delta=100.0)
    grid = {"batch_size": [2, 64], "early_stopping": [False, True]}
    search = GridSearch(model, grid, cv=FOLDS, scoring=score, layout=layout, refit=False)
    search.fit(X, y, sample_weight=weight)
    assert len(models) == 8
    for model, validated, labels in models:
        test = np.asarray([np.flatnonzero((row == X).all(1))[0] for row in validated])
        rows = np.setdiff1d(counted, test)
        epochs = len(model.history_["loss"])
        assert epochs == (2 if model.early_stopping else 3)
        params, collections = trained(tuple(rows.tolist()), model.batch_size, epochs)
        for ours, theirs in ((model.params_, params), (model.collections_, collections)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-5, 2e-6), ours, theirs)
        own = np.isin(test, counted)
        logits = Mixed().apply({"params": params, **collections}, validated[own], False)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels[own]).mean()
        assert model.history_["val_loss"][-1] == pytest.approx(float(loss), rel=1e-4)
        logits = Mixed().apply({"params": params, **collections}, validated, False)
        np.testing.assert_allclose(model.predict_proba(validated), nn.softmax(logits), 1e-4, 1e-6)


class Made(nn.Module):
    """A network of one function, after a dense layer."""

    of: Any

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        h = x if jnp.issubdtype(x.dtype, jnp.integer) else nn.Dense(6)(x)
        return nn.Dense(2)(self.of(self, h, train))


class OverLengths(nn.Module):
    """Steps of the longest row of the batch."""

    @nn.compact
    def __call__(self, x: Any, lengths: Any) -> Any:
        return nn.Dense(2)(x.sum(1) / lengths.max())


def _noise(module: Any, h: Any, train: bool) -> Any:
    return h + jax.random.normal(module.make_rng("noise"), h.shape) if train else h


def _hidden(module: Any, h: Any, train: bool) -> Any:
    """Zero before training."""
    gain = module.param("gain", nn.initializers.zeros, (h.shape[-1],))
    return h + gain * h.max(0)


def _in_eights(module: Any, h: Any, train: bool) -> Any:
    if len(h) == 1:
        return h
    ghosts = h.reshape(-1, 8, h.shape[-1])
    return (ghosts - ghosts.mean(1, keepdims=True)).reshape(h.shape)


NONE, ALL = Mixing(), Mixing(True, True, True)
KINDS: dict[str, tuple[Any, Mixing]] = {
    "nothing": (lambda m, h, train: h, NONE),
    "layer norm": (lambda m, h, train: nn.LayerNorm()(h), NONE),
    "own dropout": (lambda m, h, train: Dropout(0.3)(h, train=train), NONE),
    "flax dropout": (
        lambda m, h, train: nn.Dropout(0.3, deterministic=not train)(h),
        Mixing(True, False, False),
    ),
    "noise": (_noise, Mixing(True, False, False)),
    "lstm": (lambda m, h, train: LSTM(3)(h[:, :, None])[1][1], NONE),
    "batch norm": (
        lambda m, h, train: nn.BatchNorm(use_running_average=not train)(h),
        Mixing(True, True, False),
    ),
    "mean": (lambda m, h, train: h - h.mean(0), ALL),
    "mean in training": (
        lambda m, h, train: h - h.mean(0) if train else h,
        Mixing(True, True, False),
    ),
    "neighbours": (lambda m, h, train: h + jnp.roll(h, 1, 0), ALL),
    "attention": (lambda m, h, train: nn.softmax(h @ h.T) @ h, ALL),
    "hidden at first": (_hidden, ALL),
    "groups of rows": (_in_eights, ALL),
}


@pytest.mark.parametrize(("of", "wanted"), KINDS.values(), ids=KINDS)
def test_what_mixes_rows_is_found(of: Any, wanted: Mixing) -> None:
    data = Data(np.zeros((9, 4), np.float32), None)
    assert mixing.find(Structure(Made(of), 3), data) == wanted


def test_mixing_of_integers_and_of_lengths_is_found() -> None:
    x = np.arange(24, dtype=np.int32).reshape(6, 4)
    for of, wanted in [
        (lambda m, h, train: nn.Embed(24, 3)(h).mean(1), NONE),
        (lambda m, h, train: nn.Embed(24, 3)(h - h.min(0)).mean(1), ALL),
    ]:
        assert mixing.find(Structure(Made(of), 3), Data(x, None)) == wanted
    ragged = Data(np.zeros((6, 5, 2), np.float32), None, np.full(6, 3, np.int32))
    assert mixing.find(Structure(OverLengths(), 3), ragged) == ALL


def test_no_network_of_the_library_mixes_rows() -> None:
    """So they are not asked."""
    for module, shape in [
        (MLP(2, (3,), dropout=0.5), (4,)),
        (LSTMClassifierNetwork(2, (3,), (3,), 0.5, 0.5, recurrent_dropout=0.5), (5, 2)),
        (RowColumnBiLSTM(2, 3, 3, 1, (3,), 0.5, 0.5), (5, 4)),
        (CNNLSTM(2, (3,), (2, 2), (3,), dropout=0.5), (6, 5, 1)),
    ]:
        names = tuple(module.traced_fields)
        x = jax.ShapeDtypeStruct(shape, np.float32)
        assert mixing._found(module, names, (), x, (), False) == NONE


def test_a_prediction_does_not_depend_on_rows_that_fill_a_batch() -> None:
    model = FlaxClassifier(Made(KINDS["mean"][0]), epochs=1, random_state=0).fit(X, y)
    for rows in (X[:3], X[:5]):
        wanted = nn.softmax(model.module.apply({"params": model.params_}, rows))
        np.testing.assert_allclose(model.predict_proba(rows), wanted, 1e-5)
