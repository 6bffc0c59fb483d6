"""A trial's epochs against plain loops, and what its state promises."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.nn import MLP, LSTMClassifierNetwork
from jaxlstm.train import trial
from jaxlstm.train.hyperparameters import OPTIMIZERS
from jaxlstm.train.trial import Data, Rows, State, Structure

N = 23
PERMUTATION = np.random.default_rng(5).permutation(N)
TRAIN, VALIDATION = PERMUTATION[:17], PERMUTATION[17:]

init = jax.jit(trial.init, static_argnums=0)
evaluate = jax.jit(trial.evaluate, static_argnums=0)


traces: list[Structure] = []  # one entry each time that `train_epoch` is traced


@functools.partial(jax.jit, static_argnums=0)
def train_epoch(structure: Structure, *args: Any) -> Any:
    traces.append(structure)
    return trial.train_epoch(structure, *args)


def make_data(*shape: int, rows: int = N, dtype: Any = np.float32) -> Data:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, *shape)).astype(dtype)
    return Data(x, rng.integers(0, 3, rows).astype(np.int32))


def make_rows(train: Any, validation: Any, size: int = N, fill: int = 0) -> Rows:
    def padded(rows: Any) -> Any:
        return np.asarray([*rows, *[fill] * (size - len(rows))], np.int32)

    return Rows(padded(train), np.int32(len(train)), padded(validation), np.int32(len(validation)))


ROWS = make_rows(TRAIN, VALIDATION)


def start(structure: Structure, data: Data, seed: int = 0) -> State:
    return init(structure, data.x[:1], jax.random.key(seed))


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
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, **tolerance)


# The reference: one trial in NumPy, as a loop over batches of its own rows.


def softmax_of(params: Any, x: Any) -> tuple[list[Any], Any]:
    """Each layer's input and the probabilities of a perceptron with tanh."""
    inputs = [x.reshape(len(x), np.prod(x.shape[1:]))]
    for n in range(len(params) - 1):
        layer = params[f"dense_{n}"]
        inputs.append(np.tanh(inputs[-1] @ layer["kernel"] + layer["bias"]))
    scores = np.exp(inputs[-1] @ params["logits"]["kernel"] + params["logits"]["bias"])
    return inputs, scores / scores.sum(-1, keepdims=True)


def score_of(params: Any, x: Any, y: Any) -> tuple[float, int]:
    """Summed cross-entropy, and how many rows are right."""
    _, p = softmax_of(params, x)
    return -np.log(p[np.arange(len(y)), y]).sum(), (p.argmax(-1) == y).sum()


def penalty_of(params: Any, l2: float) -> Any:
    return l2 * sum((layer["kernel"] ** 2).sum() for layer in params.values())


def gradient_of(params: Any, x: Any, y: Any, h: Any) -> tuple[float, Any]:
    """Loss of a batch, its mean over rows, and the gradient, by the chain rule."""
    inputs, p = softmax_of(params, x)
    weights = np.asarray(h.class_weight)[y] / len(y)
    loss = -(weights * np.log(p[np.arange(len(y)), y])).sum() + penalty_of(params, h.l2)
    d_z = weights[:, None] * (p - np.eye(p.shape[1])[y])
    grads = {}
    for n in reversed(range(len(inputs))):
        name = "logits" if n == len(inputs) - 1 else f"dense_{n}"
        kernel = params[name]["kernel"]
        grads[name] = {"kernel": inputs[n].T @ d_z + 2 * h.l2 * kernel, "bias": d_z.sum(0)}
        d_z = (d_z @ kernel.T) * (1 - inputs[n] ** 2)
    return loss, grads


def keras_step(h: Any, step: int, rate: float, grad: Any, m: Any, v: Any) -> Any:
    """Change of a parameter and its new slots."""
    match OPTIMIZERS[h.optimizer]:
        case "sgd":
            m = h.momentum * m - rate * grad
            return (h.momentum * m - rate * grad if h.nesterov else m), m, v
        case "rmsprop":
            v = h.rho * v + (1 - h.rho) * grad**2
            m = h.momentum * m + rate * grad / np.sqrt(v + h.epsilon)
            return -m, m, v
        case "adam":
            m = h.beta_1 * m + (1 - h.beta_1) * grad
            v = h.beta_2 * v + (1 - h.beta_2) * grad**2
            alpha = rate * np.sqrt(1 - h.beta_2 ** (step + 1)) / (1 - h.beta_1 ** (step + 1))
            return -alpha * m / (np.sqrt(v) + h.epsilon), m, v


def order_of(key: jax.Array, epoch: int) -> tuple[np.ndarray, jax.Array]:
    """The training rows as an epoch visits them, and the key of its dropout."""
    shuffle_key, dropout_key = jax.random.split(jax.random.fold_in(key, epoch))
    bits = np.asarray(jax.random.bits(shuffle_key, (N,), jnp.uint32))[: len(TRAIN)]
    return TRAIN[np.argsort(bits, kind="stable")], dropout_key


def reference(
    state: State,
    h: Any,
    data: Data,
    batch_size: int,
    rate_at: Callable[[float], float],
    epochs: int,
) -> tuple[Any, list[dict[str, float]]]:
    """Parameters after some epochs, and the metrics of each."""
    x, y = np.asarray(data.x), np.asarray(data.y)
    leaves, structure = jax.tree.flatten(raw(state.params))
    slots = [(np.zeros_like(leaf), np.zeros_like(leaf)) for leaf in leaves]
    steps_an_epoch = -(-len(TRAIN) // batch_size)
    step, history = 0, []

    for epoch in range(epochs):
        order, _ = order_of(state.key, epoch)
        train_loss, train_correct = 0.0, 0
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            params = jax.tree.unflatten(structure, leaves)
            loss, grads = gradient_of(params, x[rows], y[rows], h)
            train_loss += loss * len(rows)
            train_correct += score_of(params, x[rows], y[rows])[1]
            rate = rate_at(step / steps_an_epoch)
            for n, grad in enumerate(jax.tree.leaves(grads)):
                change, *new = keras_step(h, step, rate, grad, *slots[n])
                leaves[n], slots[n] = leaves[n] + change, tuple(new)
            step += 1
        params = jax.tree.unflatten(structure, leaves)
        validation_loss, validation_correct = score_of(params, x[VALIDATION], y[VALIDATION])
        history.append(
            {
                "train_loss": train_loss,
                "train_correct": train_correct,
                "validation_loss": validation_loss,
                "validation_correct": validation_correct,
                "penalty": penalty_of(params, h.l2),
                "learning_rate": rate,
            }
        )
    return params, history


WEIGHTS = (0.5, 2.0, 1.25)
REFERENCE_CASES = {
    "batches of 4, momentum, weights, l2": (
        4,
        {"optimizer": "sgd", "momentum": 0.8, "l2": 0.01, "class_weight": WEIGHTS},
    ),
    "batches of 5, adam, weights": (5, {"l2": 0.02, "class_weight": WEIGHTS, "epsilon": 1e-3}),
    "batches of 7, rmsprop, cosine": (
        7,
        {"optimizer": "rmsprop", "momentum": 0.3, "schedule": "cosine", "alpha": 0.1, "epochs": 3},
    ),
    "a batch larger than the set, nesterov": (
        40,
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "numbers"), REFERENCE_CASES.values(), ids=REFERENCE_CASES)
def test_epochs_equal_a_plain_loop(
    size: int, numbers: dict[str, Any], hyperparameters: Any
) -> None:
    """Every update, the last short batch's included, and every sum that is reported."""
    data = make_data(3, 2, dtype=np.float64)
    structure = Structure(MLP(3, (6,), "tanh"), size)
    h = hyperparameters(learning_rate=0.05, **numbers)

    def rate_at(time: float) -> float:
        if numbers.get("schedule") == "cosine":
            return 0.05 * (0.9 * 0.5 * (1 + np.cos(np.pi * time / 3)) + 0.1)
        return 0.05

    state = start(structure, data)
    wanted, history = reference(state, h, data, size, rate_at, epochs=3)
    for epoch in range(3):
        state, metrics = train_epoch(structure, state, h, data, ROWS, np.True_)
        for name, value in history[epoch].items():
            assert_allclose(getattr(metrics, name), value, rtol=1e-10, err_msg=name)
    assert_close(state.params, wanted, rtol=1e-9, atol=1e-12)
    assert (state.epoch, state.step) == (3, 3 * -(-17 // size))


def losses_of(logits: Any, y: Any) -> Any:
    return jnp.log(jnp.exp(logits).sum(-1)) - logits[jnp.arange(len(y)), y]


@pytest.mark.usefixtures("x64")
def test_dropout_draws_anew_at_every_step(hyperparameters: Any) -> None:
    data = make_data(4, 2, dtype=np.float64)
    module = LSTMClassifierNetwork(3, units=(5,), dense=(6,))
    structure = Structure(module, 17, ("dropout", "dense_dropout"))
    rates = {"dropout": 0.4, "dense_dropout": 0.3}
    h = hyperparameters(optimizer="sgd", learning_rate=0.5, fields=rates)
    state = start(structure, data)
    wanted, key = raw(state.params), state.key

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
        state, metrics = train_epoch(structure, state, h, data, ROWS, np.True_)
        assert_allclose(metrics.train_loss, 17 * loss, rtol=1e-10)
    assert_close(state.params, wanted, rtol=1e-9, atol=1e-12)
    none = hyperparameters(
        optimizer="sgd", learning_rate=0.5, fields={"dropout": 0, "dense_dropout": 0}
    )
    other, _ = train_epoch(structure, start(structure, data), none, data, ROWS, np.True_)
    assert not np.allclose(other.params["logits"]["kernel"], wanted["logits"]["kernel"], atol=1e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [1, 4])
def test_every_training_row_is_visited_once_an_epoch(size: int, hyperparameters: Any) -> None:
    """Row j of the kernel meets row j of the data alone, as the data is one-hot.

    The rate is so low that all gradients are those of the first step: p - y over the rows of the
    batch, with p = 1/3.
    """
    data = make_data(1)._replace(x=np.eye(N))
    structure = Structure(MLP(3, ()), size)
    state = start(structure, data)
    state = state._replace(params=jax.tree.map(np.zeros_like, raw(state.params)))
    h = hyperparameters(optimizer="sgd", learning_rate=1e-7)
    state, _ = train_epoch(structure, state, h, data, ROWS, np.True_)
    moved = np.asarray(state.params["logits"]["kernel"]) / -1e-7
    assert not moved[VALIDATION].any()
    once = 1 / 3 - np.eye(3)[np.asarray(data.y)]
    share = moved[TRAIN] / once[TRAIN]
    assert_allclose(np.ptp(share, axis=1), 0, atol=1e-5)
    batches = [len(TRAIN[first : first + size]) for first in range(0, 17, size)]
    wanted = [1 / rows for rows in batches for _ in range(rows)]
    assert_allclose(np.sort(share[:, 0]), np.sort(wanted), rtol=1e-5)


NUMBERS = {"learning_rate": 0.03, "l2": 0.001}


class TestState:
    module = LSTMClassifierNetwork(3, units=(5,))
    structure = Structure(module, 4, ("dropout",))

    def train(self, state: State, h: Any, data: Data, epochs: int) -> tuple[State, Any]:
        for _ in range(epochs):
            state, metrics = train_epoch(self.structure, state, h, data, ROWS, np.True_)
        return state, metrics

    def test_holds_all_that_a_trial_needs_to_go_on(self, hyperparameters: Any) -> None:
        h = hyperparameters(schedule="cosine", fields={"dropout": 0.3}, **NUMBERS)
        data = make_data(4, 2)
        wanted = self.train(start(self.structure, data), h, data, 4)
        half, _ = self.train(start(self.structure, data), h, data, 2)
        saved = raw(half)
        loaded = jax.tree.map(jnp.asarray, saved)
        loaded = loaded._replace(key=jax.random.wrap_key_data(saved.key))
        assert_same(self.train(loaded, h, data, 2), wanted)

    def test_of_a_stopped_trial_stays_bit_for_bit(self, hyperparameters: Any) -> None:
        h = hyperparameters(fields={"dropout": 0.3}, **NUMBERS)
        data = make_data(4, 2)
        state, _ = self.train(start(self.structure, data), h, data, 1)
        after, metrics = train_epoch(self.structure, state, h, data, ROWS, np.False_)
        assert_same(after, state)
        assert (metrics.train_loss, metrics.train_correct) == (0, 0)
        assert (metrics.validation_loss, metrics.validation_correct) == (0, 0)

    def test_begins_with_the_networks_own_weights(self) -> None:
        data = make_data(4, 2)
        state = start(self.structure, data, seed=1)
        assert (state.step, state.epoch) == (0, 0)
        assert state.collections == {}
        assert not any(leaf.any() for leaf in jax.tree.leaves(state.slots))
        weights = state.params["StackedLSTM_0"]["lstm_0"]
        product = weights["recurrent_kernel"] @ weights["recurrent_kernel"].T
        assert_allclose(product, np.eye(5), atol=1e-5)
        assert_array_equal(weights["bias"], np.repeat([0, 1, 0, 0], 5))
        assert_same(start(self.structure, data, seed=1), state)
        other = start(self.structure, data, seed=2)
        assert not np.allclose(other.params["logits"]["kernel"], state.params["logits"]["kernel"])
        assert not np.array_equal(raw(other.key), raw(state.key))

    def test_another_row_count_or_number_does_not_retrace(self, hyperparameters: Any) -> None:
        data = make_data(4, 2)
        state, counts, steps = start(self.structure, data), [], []
        for rate, numbers, rows in [
            (0.0, {"optimizer": "sgd", "learning_rate": 1}, ROWS),
            (0.5, {"schedule": "step", "warmup_epochs": 0.5}, ROWS),
            (0.5, {"optimizer": "rmsprop"}, make_rows(TRAIN[:6], TRAIN[6:])),
        ]:
            h = hyperparameters(fields={"dropout": rate}, **numbers)
            after, _ = train_epoch(self.structure, state, h, data, rows, np.True_)
            counts.append(len(traces))
            steps.append(int(after.step))
        assert counts[0] == counts[1] == counts[2] > 0
        assert steps == [5, 5, 2]


@pytest.mark.usefixtures("x64")
def test_lanes_under_vmap_equal_each_alone(hyperparameters: Any) -> None:
    """Lanes differ in weights, optimizer, rates, folds and their sizes; one has stopped."""
    data = make_data(4, 2, dtype=np.float64)
    structure = Structure(LSTMClassifierNetwork(3, units=(5,)), 4, ("dropout", "dense_dropout"))
    settings = [
        {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1},
        {"optimizer": "adam", "l2": 0.01, "class_weight": WEIGHTS, "schedule": "cosine"},
        {"optimizer": "rmsprop", "schedule": "exponential", "warmup_epochs": 1},
        {"optimizer": "adam", "learning_rate": 0.02},
    ]
    lanes = [
        (
            start(structure, data, seed),
            hyperparameters(fields={"dropout": 0.2 * seed, "dense_dropout": 0.0}, **numbers),
            make_rows(PERMUTATION[: 9 + 3 * seed], PERMUTATION[9 + 3 * seed :]),
            np.bool_(seed != 2),
        )
        for seed, numbers in enumerate(settings)
    ]

    shared = Data(*map(jnp.asarray, data))

    def run(state: State, h: Any, rows: Rows, active: Any) -> Any:
        return trial.train_epoch(structure, state, h, shared, rows, active)

    def two_epochs(run: Any, state: State, *args: Any) -> Any:
        state, first = run(state, *args)
        state, second = run(state, *args)
        return state._replace(key=jax.random.key_data(state.key)), first, second

    def stack(*leaves: Any) -> Any:
        is_key = jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
        return (jnp if is_key else np).stack(leaves)

    stacked = jax.tree.map(stack, *lanes)
    together = jax.device_get(two_epochs(jax.jit(jax.vmap(run)), *stacked))
    alone = jax.jit(run)
    for lane, args in enumerate(lanes):
        got = jax.tree.map(lambda leaf: leaf[lane], together)  # noqa: B023
        assert_close(got, two_epochs(alone, *args), rtol=1e-9, atol=1e-12)


class TestEvaluate:
    @pytest.mark.parametrize("count", [0, 1, 5, 128, 131, 300])
    def test_sums_over_the_rows_it_is_given(self, count: int, hyperparameters: Any) -> None:
        """Batch by batch of 128, the last of which is filled up."""
        data = make_data(4, rows=300)
        structure = Structure(MLP(3, (6,), "tanh", dropout=0.0), 4, ("dropout",))
        state = start(structure, data)
        rows = np.random.default_rng(count).permutation(300)
        h = hyperparameters(l2=0.5, class_weight=WEIGHTS, fields={"dropout": 0.9})
        loss, correct = evaluate(structure, state, h, data, rows.astype(np.int32), np.int32(count))
        own = rows[:count]
        wanted_loss, wanted_correct = score_of(raw(state.params), data.x[own], data.y[own])
        assert_allclose(loss, wanted_loss, rtol=1e-5)
        assert correct == wanted_correct
        assert correct.dtype == np.int32


def test_loss_falls_where_there_is_something_to_learn(hyperparameters: Any) -> None:
    """Which third of a sequence's sum: an LSTM has to add up over time."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 6, 2)).astype(np.float32)
    sums = x[:, :, 0].sum(1)
    y = np.digitize(sums, np.quantile(sums, [1 / 3, 2 / 3]))
    data = Data(x, y.astype(np.int32))
    structure = Structure(LSTMClassifierNetwork(3, units=(8,)), 16, ("dropout",))
    rows = make_rows(np.arange(60), np.arange(60, 90), size=90)
    h = hyperparameters(learning_rate=0.03, fields={"dropout": 0.1})
    state, history = start(structure, data), []
    for _ in range(15):
        state, metrics = train_epoch(structure, state, h, data, rows, np.True_)
        history.append(metrics)
    assert history[0].train_loss / 60 > 0.9  # log 3 = 1.1
    assert history[-1].train_loss < 0.4 * history[0].train_loss
    assert history[-1].validation_loss < 0.5 * history[0].validation_loss
    assert history[-1].validation_correct > 0.8 * 30


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
        Structure(Normalised(), 5),  # its statistics are those of whole batches, filled up
    ],
    ids=["dropout", "batch statistics"],
)
def test_padding_changes_nothing(structure: Structure, hyperparameters: Any) -> None:
    """Neither what fills the tables up nor the size of the data set, to the last bit."""
    h = hyperparameters(l2=0.01, learning_rate=0.05, fields={"dropout": 0.3})

    def run(data: Data, rows: Rows) -> Any:
        state, first = train_epoch(structure, start(structure, data), h, data, rows, np.True_)
        return train_epoch(structure, state, h, data, rows, np.True_), first

    data = make_data(4)
    wanted = run(data, ROWS)
    assert_same(run(data, make_rows(TRAIN, VALIDATION, fill=9)), wanted)
    extra = make_data(4, rows=18)
    more = Data(*(np.concatenate(parts) for parts in zip(data, extra, strict=True)))
    rows = make_rows(TRAIN, VALIDATION, size=N + 18, fill=30)
    assert_same(run(more, rows), wanted)


@pytest.mark.usefixtures("x64")
class TestCollections:
    structure = Structure(Normalised(), 17)

    def train(self, h: Any, data: Data) -> tuple[State, Any]:
        state = start(self.structure, data)
        for _ in range(2):
            state, metrics = train_epoch(self.structure, state, h, data, ROWS, np.True_)
        return state, metrics

    def test_are_updated_in_training_and_used_in_evaluation(self, hyperparameters: Any) -> None:
        data = make_data(4, dtype=np.float64)
        data = data._replace(x=data.x * 3 + 2)
        state, metrics = self.train(hyperparameters(), data)
        statistics = state.collections["batch_stats"]["BatchNorm_0"]
        own = data.x[TRAIN]
        # From mean 0 and variance 1, two steps of 0.8 old + 0.2 new.
        assert_allclose(statistics["mean"], 0.36 * own.mean(0), rtol=1e-9)
        assert_allclose(statistics["var"], 0.64 + 0.36 * own.var(0), rtol=1e-9)
        norm, dense = raw(state.params["BatchNorm_0"]), raw(state.params["Dense_0"])
        x, y = data.x[VALIDATION], data.y[VALIDATION]

        def loss(mean: Any, var: Any) -> Any:
            h = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
            return losses_of(h @ dense["kernel"] + dense["bias"], y).sum()

        running = loss(np.asarray(statistics["mean"]), np.asarray(statistics["var"]))
        assert_allclose(metrics.validation_loss, running, rtol=1e-9)
        assert abs(loss(x.mean(0), x.var(0)) - running) > 0.1

    def test_stay_as_they_are_where_a_trial_has_stopped(self, hyperparameters: Any) -> None:
        data = make_data(4, dtype=np.float64)
        state, _ = self.train(hyperparameters(), data)
        after, _ = train_epoch(self.structure, state, hyperparameters(), data, ROWS, np.False_)
        assert_same(after, state)

    def test_and_weights_are_of_the_datas_type(self, hyperparameters: Any) -> None:
        """Though Flax draws weights and keeps statistics in float32."""
        data = make_data(4, dtype=np.float64)
        first = start(self.structure, data)
        leaves = jax.tree.leaves(raw((first, self.train(hyperparameters(), data))))
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
    assert trial.mode_argument(module, train=True) == in_training
    assert trial.mode_argument(module, train=False) == in_evaluation
    data = make_data(4)
    structure = Structure(module, 5)
    state = start(structure, data)
    variables = {"params": state.params, **state.collections}
    plain = WithNothing().apply(variables, data.x)
    evaluated, _ = trial.apply(structure, {}, state.params, {}, data.x)
    assert_array_equal(evaluated, plain)
    trained, _ = trial.apply(structure, {}, state.params, {}, data.x, jax.random.key(0))
    assert np.any(trained == 0) == bool(in_training)
    assert np.allclose(trained, plain) != bool(in_training)
