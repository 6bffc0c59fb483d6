"""A trial's epochs: dropout, rows, evaluation, collections, and what its state promises."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from trials import (
    PERMUTATION,
    ROWS,
    TRAIN,
    VALIDATION,
    WEIGHTS,
    N,
    assert_close,
    assert_same,
    evaluate,
    make_data,
    make_rows,
    order_of,
    raw,
    softmax_of,
    start,
    traces,
    train_epoch,
)

from jaxlstm.nn import MLP, LSTMClassifierNetwork
from jaxlstm.train import trial
from jaxlstm.train.data import Data
from jaxlstm.train.epoch import train_epoch as plain_train_epoch
from jaxlstm.train.trial import Rows, State, Structure


def losses_of(logits: Any, y: Any) -> Any:
    return jnp.log(jnp.exp(logits).sum(-1)) - logits[jnp.arange(len(y)), y]


@pytest.mark.usefixtures("x64")
def test_dropout_draws_anew_at_every_step(hyperparameters: Any) -> None:
    data = make_data(4, 2, dtype=np.float64)
    module = LSTMClassifierNetwork(3, units=(5,), dense=(6,))
    structure = Structure(module, 17, ("dropout", "dense_dropout"))
    rates = {"dropout": 0.4, "dense_dropout": 0.3}
    h = hyperparameters(optimizer="sgd", learning_rate=0.5, fields=rates)
    state = start(structure, h, data)
    wanted, key = raw(state.weights.params), state.key

    @jax.jit
    def gradient(params: Any, rows: Any, key: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = module.clone(**rates).apply(
                {"params": params}, jnp.asarray(data.x)[rows], train=True, rngs={"dropout": key}
            )
            return losses_of(logits, jnp.asarray(data.y)[rows]).mean()

        return jax.value_and_grad(loss)(params)

    for epoch in range(2):
        order, dropout_key = order_of(key, epoch)
        loss, grads = gradient(wanted, order, jax.random.fold_in(dropout_key, 0))
        wanted = jax.tree.map(lambda p, g: p - 0.5 * g, wanted, raw(grads))
        state, metrics = train_epoch(structure, state, h, data, ROWS)
        assert_allclose(metrics.train_loss, 17 * loss, rtol=1e-10)
    assert_close(state.weights.params, wanted, rtol=1e-9, atol=1e-12)
    none = hyperparameters(
        optimizer="sgd", learning_rate=0.5, fields={"dropout": 0, "dense_dropout": 0}
    )
    other, _ = train_epoch(structure, start(structure, none, data), none, data, ROWS)
    assert not np.allclose(
        other.weights.params["logits"]["kernel"], wanted["logits"]["kernel"], atol=1e-3
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "micro"), [(1, 1), (4, 4), (5, 2), (40, 3)])
def test_every_training_row_is_visited_once_an_epoch(
    size: int, micro: int, hyperparameters: Any
) -> None:
    """Row j of the kernel meets row j of the data alone, as the data is one-hot.

    The rate is so low that all gradients are those of the first step: p - y over the rows of the
    batch, with p = 1/3.
    """
    data = make_data(1)._replace(x=np.eye(N))
    structure = Structure(MLP(3, ()), micro)
    h = hyperparameters(optimizer="sgd", learning_rate=1e-7, batch_size=size)
    state = start(structure, h, data)
    zeros = jax.tree.map(np.zeros_like, raw(state.weights.params))
    state = state._replace(weights=state.weights._replace(params=zeros))
    state, _ = train_epoch(structure, state, h, data, ROWS)
    moved = np.asarray(state.weights.params["logits"]["kernel"]) / -1e-7
    assert not moved[VALIDATION].any()
    once = 1 / 3 - np.eye(3)[np.asarray(data.y)]
    share = moved[TRAIN] / once[TRAIN]
    assert_allclose(np.ptp(share, axis=1), 0, atol=1e-5)
    batches = [len(TRAIN[first : first + size]) for first in range(0, 17, size)]
    wanted = [1 / rows for rows in batches for _ in range(rows)]
    assert_allclose(np.sort(share[:, 0]), np.sort(wanted), rtol=1e-5)


NUMBERS = {"learning_rate": 0.03, "l2": 0.001, "batch_size": 4}


class TestState:
    module = LSTMClassifierNetwork(3, units=(5,))
    structure = Structure(module, 3, ("dropout",))  # a batch of 4 is 3 rows and 1

    def train(self, state: State, h: Any, data: Data, epochs: int) -> tuple[State, Any]:
        for _ in range(epochs):
            state, metrics = train_epoch(self.structure, state, h, data, ROWS)
        return state, metrics

    def test_holds_all_that_a_trial_needs_to_go_on(self, hyperparameters: Any) -> None:
        h = hyperparameters(schedule="cosine", fields={"dropout": 0.3}, **NUMBERS)
        data = make_data(4, 2)
        wanted = self.train(start(self.structure, h, data), h, data, 4)
        half, _ = self.train(start(self.structure, h, data), h, data, 2)
        saved = raw(half)
        loaded = jax.tree.map(jnp.asarray, saved)
        loaded = loaded._replace(key=jax.random.wrap_key_data(saved.key))
        assert_same(self.train(loaded, h, data, 2), wanted)

    def test_of_a_stopped_trial_stays_bit_for_bit(self, hyperparameters: Any) -> None:
        h = hyperparameters(fields={"dropout": 0.3}, **NUMBERS)
        data = make_data(4, 2)
        state, _ = self.train(start(self.structure, h, data), h, data, 1)
        after, metrics = train_epoch(self.structure, state, h, data, ROWS, active=False)
        assert_same(after, state)
        assert (metrics.train_loss, *metrics.train_metrics) == (0, 0)
        assert (metrics.validation_loss, *metrics.validation_metrics) == (0, 0)

    def test_begins_with_the_networks_own_weights(self, hyperparameters: Any) -> None:
        h = hyperparameters(fields={"dropout": 0.3}, **NUMBERS)
        data = make_data(4, 2)
        state = start(self.structure, h, data, seed=1)
        assert (state.step, state.epoch) == (0, 0)
        assert state.weights.collections == {}
        assert_same(state.best, state.weights)
        slots = state.slots.first, state.slots.second
        assert not any(leaf.any() for leaf in jax.tree.leaves(slots))
        weights = state.weights.params["StackedLSTM_0"]["lstm_0"]
        product = weights["recurrent_kernel"] @ weights["recurrent_kernel"].T
        assert_allclose(product, np.eye(5), atol=1e-5)
        assert_array_equal(weights["bias"], np.repeat([0, 1, 0, 0], 5))
        assert_same(start(self.structure, h, data, seed=1), state)
        other = start(self.structure, h, data, seed=2)
        kernels = [one.weights.params["logits"]["kernel"] for one in (state, other)]
        assert not np.allclose(*kernels)
        assert not np.array_equal(raw(other.key), raw(state.key))

    def test_another_row_count_or_number_does_not_retrace(self, hyperparameters: Any) -> None:
        data = make_data(4, 2)
        counts, steps = [], []
        for rate, numbers, rows, validate in [
            (0.0, {"optimizer": "sgd", "learning_rate": 1, "batch_size": 4}, ROWS, True),
            (0.5, {"schedule": "step", "warmup_epochs": 0.5, "batch_size": 5}, ROWS, False),
            (0.5, {"optimizer": "rmsprop"}, make_rows(TRAIN[:6], TRAIN[6:]), True),
            (0.5, {"early_stopping": True, "label_smoothing": 0.1, "clipnorm": 1.0}, ROWS, True),
        ]:
            h = hyperparameters(fields={"dropout": rate}, **{"batch_size": 3} | numbers)
            state = start(self.structure, h, data)
            after, _ = train_epoch(self.structure, state, h, data, rows, validate=validate)
            counts.append(len(traces))
            steps.append(int(after.step))
        assert len(set(counts)) == 1
        assert steps == [5, 4, 2, 6]


@pytest.mark.usefixtures("x64")
def test_lanes_under_vmap_equal_each_alone(hyperparameters: Any) -> None:
    """Lanes differ in weights, optimizer, rates, folds and their sizes; one has stopped."""
    data = make_data(4, 2, dtype=np.float64)
    structure = Structure(LSTMClassifierNetwork(3, units=(5,)), 4, ("dropout", "dense_dropout"))
    settings: list[dict[str, Any]] = [
        {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "batch_size": 6},
        {"optimizer": "adam", "l2": 0.01, "class_weight": WEIGHTS, "schedule": "cosine"},
        {"optimizer": "rmsprop", "schedule": "exponential", "warmup_epochs": 1},
        {"optimizer": "adam", "learning_rate": 0.02, "batch_size": 3, "label_smoothing": 0.1},
        # It stops by itself after its second epoch.
        {"optimizer": "lion", "early_stopping": True, "min_delta": 9.0, "batch_size": 9},
    ]
    lanes = []
    for seed, numbers in enumerate(settings):
        fields = {"dropout": 0.2 * seed, "dense_dropout": 0.0}
        h = hyperparameters(fields=fields, **{"batch_size": 4} | numbers)
        rows = make_rows(PERMUTATION[: 9 + 3 * seed], PERMUTATION[9 + 3 * seed :])
        flags = np.bool_(seed != 2), np.bool_(seed != 1)
        lanes.append((start(structure, h, data, seed), h, rows, *flags))

    shared = jax.tree.map(jnp.asarray, data)

    def run(state: State, h: Any, rows: Rows, active: Any, validate: Any) -> Any:
        return plain_train_epoch(structure, state, h, shared, rows, active, validate)

    def three_epochs(run: Any, state: State, *args: Any) -> Any:
        told = []
        for _ in range(3):
            state, metrics = run(state, *args)
            told.append(metrics)
        return state._replace(key=jax.random.key_data(state.key)), told

    def stack(*leaves: Any) -> Any:
        is_key = jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
        return (jnp if is_key else np).stack(leaves)

    stacked = jax.tree.map(stack, *lanes)
    together = jax.device_get(three_epochs(jax.jit(jax.vmap(run)), *stacked))
    alone = jax.jit(run)
    for lane, args in enumerate(lanes):
        got = jax.tree.map(lambda leaf: leaf[lane], together)  # noqa: B023
        assert_close(got, three_epochs(alone, *args), rtol=1e-9, atol=1e-12)
    assert [sum(bool(one.trained[lane]) for one in together[1]) for lane in range(5)] == [
        *(3, 3, 0, 3, 2)
    ]


class TestEvaluate:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("count", [0, 1, 5, 128, 131, 300])
    def test_sums_over_the_rows_it_is_given(
        self, count: int, smoothing: float, hyperparameters: Any
    ) -> None:
        """Batch by batch of 128, the last of which is filled up."""
        data = make_data(4, rows=300)
        structure = Structure(MLP(3, (6,), "tanh", dropout=0.0), 4, ("dropout",))
        rows = np.random.default_rng(count).permutation(300).astype(np.int32)
        h = hyperparameters(
            l2=0.5, class_weight=WEIGHTS, label_smoothing=smoothing, fields={"dropout": 0.9}
        )
        weights = start(structure, h, data).weights
        loss, (correct,), mass = evaluate(structure, weights, h, data, rows, np.int32(count))
        own = rows[:count]
        params = jax.tree.map(np.float64, raw(weights.params))
        _, p = softmax_of(params, data.x[own])
        targets = (1 - smoothing) * np.eye(3)[data.y[own]] + smoothing / 3
        assert_allclose(loss, -(targets * np.log(p)).sum(), rtol=1e-5)
        assert correct == (p.argmax(-1) == data.y[own]).sum()
        assert mass == len(own)


def test_loss_falls_where_there_is_something_to_learn(hyperparameters: Any) -> None:
    """Which third of a sequence's sum: an LSTM has to add up over time."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 6, 2)).astype(np.float32)
    sums = x[:, :, 0].sum(1)
    y = np.digitize(sums, np.quantile(sums, [1 / 3, 2 / 3]))
    data = Data(x, y.astype(np.int32))
    structure = Structure(LSTMClassifierNetwork(3, units=(8,)), 8, ("dropout",))
    rows = make_rows(np.arange(60), np.arange(60, 90), size=90)
    h = hyperparameters(learning_rate=0.03, batch_size=16, fields={"dropout": 0.1})
    state, history = start(structure, h, data), []
    for _ in range(15):
        state, metrics = train_epoch(structure, state, h, data, rows)
        history.append(metrics)
    assert history[0].train_loss / 60 > 0.9  # log 3 = 1.1
    assert history[-1].train_loss < 0.4 * history[0].train_loss
    assert history[-1].validation_loss < 0.5 * history[0].validation_loss
    assert history[-1].validation_metrics[0] > 0.8 * 30


class Normalised(nn.Module):
    """A network of a user's own that keeps batch statistics."""

    @nn.compact
    def __call__(self, x: Any, training: bool) -> Any:
        x = x.reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not training, momentum=0.8)(x)
        return nn.Dense(3)(x)


@pytest.mark.parametrize(
    "structure",
    [
        Structure(MLP(3, (6,)), 5, ("dropout",)),
        Structure(Normalised(), 5, tails=(2,), evaluation_tails=(6,)),
    ],
    ids=["dropout", "batch statistics"],
)
def test_padding_changes_nothing(structure: Structure, hyperparameters: Any) -> None:
    """Neither what fills the tables up nor the size of the data set, to the last bit."""
    h = hyperparameters(l2=0.01, learning_rate=0.05, batch_size=5, fields={"dropout": 0.3})

    def run(data: Data, rows: Rows) -> Any:
        state, first = train_epoch(structure, start(structure, h, data), h, data, rows)
        return train_epoch(structure, state, h, data, rows), first

    data = make_data(4)
    wanted = run(data, ROWS)
    assert_same(run(data, make_rows(TRAIN, VALIDATION, fill=9)), wanted)
    extra = make_data(4, rows=18)
    more = jax.tree.map(lambda *parts: np.concatenate(parts), data, extra)
    rows = make_rows(TRAIN, VALIDATION, size=N + 18, fill=30)
    assert_same(run(more, rows), wanted)


@pytest.mark.usefixtures("x64")
class TestCollections:
    structure = Structure(Normalised(), 17)

    def train(self, h: Any, data: Data) -> tuple[State, Any]:
        state = start(self.structure, h, data)
        for _ in range(2):
            state, metrics = train_epoch(self.structure, state, h, data, ROWS)
        return state, metrics

    def test_are_updated_in_training_and_used_in_evaluation(self, hyperparameters: Any) -> None:
        data = make_data(4, dtype=np.float64)
        data = data._replace(x=data.x * 3 + 2)
        state, metrics = self.train(hyperparameters(batch_size=17), data)
        statistics = state.weights.collections["batch_stats"]["BatchNorm_0"]
        own = data.x[TRAIN]
        # From mean 0 and variance 1, two steps of 0.8 old + 0.2 new.
        assert_allclose(statistics["mean"], 0.36 * own.mean(0), rtol=1e-9)
        assert_allclose(statistics["var"], 0.64 + 0.36 * own.var(0), rtol=1e-9)
        norm, dense = raw(state.weights.params["BatchNorm_0"]), raw(state.weights.params["Dense_0"])
        x, y = data.x[VALIDATION], data.y[VALIDATION]

        def loss(mean: Any, var: Any) -> Any:
            h = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
            return losses_of(h @ dense["kernel"] + dense["bias"], y).sum()

        running = loss(np.asarray(statistics["mean"]), np.asarray(statistics["var"]))
        assert_allclose(metrics.validation_loss, running, rtol=1e-9)
        assert abs(loss(x.mean(0), x.var(0)) - running) > 0.1

    def test_stay_as_they_are_where_a_trial_has_stopped(self, hyperparameters: Any) -> None:
        data = make_data(4, dtype=np.float64)
        h = hyperparameters(batch_size=17)
        state, _ = self.train(h, data)
        after, _ = train_epoch(self.structure, state, h, data, ROWS, active=False)
        assert_same(after, state)

    def test_and_weights_are_of_the_datas_type(self, hyperparameters: Any) -> None:
        """Though Flax draws weights and keeps statistics in float32."""
        h, data = hyperparameters(batch_size=17), make_data(4, dtype=np.float64)
        first = start(self.structure, h, data)
        leaves = jax.tree.leaves(raw((first, self.train(h, data))))
        floats = {leaf.dtype for leaf in leaves if np.issubdtype(leaf.dtype, np.floating)}
        assert floats == {np.dtype(np.float64)}


class WithTrain(nn.Module):
    @nn.compact
    def __call__(self, x: Any, *, train: bool = False) -> Any:
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))


class WithTraining(nn.Module):
    @nn.compact
    def __call__(self, x: Any, training: bool) -> Any:
        return nn.Dropout(0.5)(nn.Dense(3)(x), deterministic=not training)


class WithDeterministic(nn.Module):
    @nn.compact
    def __call__(self, x: Any, deterministic: bool = True) -> Any:
        return nn.Dropout(0.5)(nn.Dense(3)(x), deterministic=deterministic)


class WithNothing(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3)(x)


@pytest.mark.parametrize(
    ("module", "in_training", "in_evaluation"),
    [
        (WithTrain(), {"train": True}, {"train": False}),
        (WithTraining(), {"training": True}, {"training": False}),
        (WithDeterministic(), {"deterministic": False}, {"deterministic": True}),
        (WithNothing(), {}, {}),
    ],
    ids=["train", "training", "deterministic", "nothing"],
)
def test_networks_are_told_whether_they_train(
    module: nn.Module, in_training: Any, in_evaluation: Any, hyperparameters: Any
) -> None:
    assert trial.call_arguments(module, train=True) == in_training
    assert trial.call_arguments(module, train=False) == in_evaluation
    data = make_data(4)
    structure = Structure(module, 5)
    weights = start(structure, hyperparameters(), data).weights
    variables = {"params": weights.params, **weights.collections}
    plain = WithNothing().apply(variables, data.x)
    evaluated, _ = trial.apply(structure, {}, weights, data.x)
    assert_array_equal(evaluated, plain)
    trained, _ = trial.apply(structure, {}, weights, data.x, jax.random.key(0))
    assert np.any(trained == 0) == bool(in_training)
    assert np.allclose(trained, plain) != bool(in_training)
