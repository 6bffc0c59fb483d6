"""Tasks: their losses against Keras's, their metrics against scikit-learn's, what counts in them."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import metrics as scores
from sklearn.base import clone
from trials import assert_close, assert_same, order_of, raw, start, train_epoch

from jaxlstm import FlaxClassifier, FlaxRegressor, LSTMClassifier, LSTMRegressor
from jaxlstm.nn import MLP, LSTMClassifierNetwork, LSTMParams, to_keras
from jaxlstm.train import hyperparameters as names
from jaxlstm.train.augment import Jitter
from jaxlstm.train.data import Data, with_mass
from jaxlstm.train.standardization import Standardization
from jaxlstm.train.task import Classification, Multilabel, Regression, Task
from jaxlstm.train.trial import Rows, Structure

OUTPUTS = 4


@pytest.fixture
def _double() -> Iterator[None]:
    keras.config.set_floatx("float64")
    with jax.enable_x64(True):
        yield
    keras.config.set_floatx("float32")


def numbers_of(task: Task, dtype: Any = np.float64, **changes: Any) -> dict[str, Any]:
    """The task's traced numbers, every class weighing the same."""
    assert changes.keys() <= {"loss", *task.DEFAULTS}
    params = {**task.DEFAULTS, "loss": task.LOSSES[0], **changes}
    more = {"class_weight": np.ones(OUTPUTS, dtype)} if isinstance(task, Classification) else {}
    return task.numbers(params, dtype) | more


def targets_of(task: Task, shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 1) -> Any:
    """Random targets of so many rows, or rows and steps."""
    rng = np.random.default_rng(seed)
    if isinstance(task, Classification):
        return rng.integers(0, OUTPUTS, shape).astype(np.int32)
    if isinstance(task, Multilabel):
        return rng.integers(0, 2, (*shape, OUTPUTS)).astype(dtype)
    return (2 * rng.normal(size=(*shape, OUTPUTS)) + np.arange(OUTPUTS)).astype(dtype)


def one_hot(y: Any, dtype: Any) -> Any:
    return np.eye(OUTPUTS, dtype=dtype)[y]


# -- losses ---------------------------------------------------------------------------------------


LOSSES: dict[str, tuple[type[Task], dict[str, Any], Callable[..., Any]]] = {
    "cross-entropy": (
        Classification,
        {"loss": "cross_entropy"},
        lambda **more: keras.losses.CategoricalCrossentropy(**more, from_logits=True),
    ),
    "smoothed cross-entropy": (
        Classification,
        {"loss": "categorical_crossentropy", "label_smoothing": 0.15},
        lambda **more: keras.losses.CategoricalCrossentropy(
            **more, from_logits=True, label_smoothing=0.15
        ),
    ),
    "focal": (
        Classification,
        {"loss": "focal", "gamma": 1.5, "focal_alpha": 0.4},
        lambda **more: keras.losses.CategoricalFocalCrossentropy(
            **more, from_logits=True, gamma=1.5, alpha=0.4
        ),
    ),
    "smoothed focal": (
        Classification,
        {"loss": "categorical_focal_crossentropy", "label_smoothing": 0.2, "gamma": 0.7},
        lambda **more: keras.losses.CategoricalFocalCrossentropy(
            **more, from_logits=True, label_smoothing=0.2, gamma=0.7
        ),
    ),
    "binary cross-entropy": (
        Multilabel,
        {"loss": "binary_crossentropy"},
        lambda **more: keras.losses.BinaryCrossentropy(**more, from_logits=True),
    ),
    "smoothed binary cross-entropy": (
        Multilabel,
        {"loss": "cross_entropy", "label_smoothing": 0.3},
        lambda **more: keras.losses.BinaryCrossentropy(
            **more, from_logits=True, label_smoothing=0.3
        ),
    ),
    "binary focal": (
        Multilabel,
        {"loss": "binary_focal_crossentropy", "gamma": 2.5},
        lambda **more: keras.losses.BinaryFocalCrossentropy(**more, from_logits=True, gamma=2.5),
    ),
    "smoothed binary focal": (
        Multilabel,
        {"loss": "focal", "label_smoothing": 0.1},
        lambda **more: keras.losses.BinaryFocalCrossentropy(
            **more, from_logits=True, label_smoothing=0.1
        ),
    ),
    "mse": (Regression, {"loss": "mean_squared_error"}, keras.losses.MeanSquaredError),
    "mae": (Regression, {"loss": "mean_absolute_error"}, keras.losses.MeanAbsoluteError),
    "huber": (
        Regression,
        {"loss": "huber", "delta": 0.7},
        lambda **more: keras.losses.Huber(**more, delta=0.7),
    ),
    "log-cosh": (Regression, {"loss": "logcosh"}, keras.losses.LogCosh),
}


def mean_loss(task: Task, outputs: Any, y: Any, numbers: Any, train: bool = True) -> Any:
    """The loss of a batch of which all rows and steps count."""
    batch = Data(None, jnp.asarray(y))
    total, _ = task.sums(outputs, batch, jnp.ones(len(y), bool), numbers, train=train)
    return total / np.prod(outputs.shape[:-1])


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.float32, (9,)), (np.float64, (5, 3))], ids=["rows", "steps"]
)
@pytest.mark.parametrize("case", LOSSES)
def test_losses_are_keras(case: str, dtype: Any, shape: Any, request: Any) -> None:
    """Value and gradient by the outputs."""
    if dtype == np.float64:
        request.getfixturevalue("_double")
    kind, changes, make = LOSSES[case]
    task = kind(per_step=len(shape) > 1)
    y = targets_of(task, shape, dtype)
    outputs = 2 * np.random.default_rng(2).normal(size=(*shape, OUTPUTS))
    outputs = jnp.asarray(outputs + np.arange(OUTPUTS) / 3, dtype)
    theirs = make(dtype=np.dtype(dtype).name)
    given = one_hot(y, dtype) if kind is Classification else y
    wanted, slope = jax.value_and_grad(lambda outputs: theirs(given, outputs))(outputs)
    numbers = numbers_of(task, dtype, **changes)
    got, grad = jax.value_and_grad(lambda outputs: mean_loss(task, outputs, y, numbers))(outputs)
    assert got.dtype == dtype
    # Keras's own means are in float32, whatever it is told; test_objective has the definitions.
    rtol = 1e-5 if dtype == np.float32 else 1e-7
    assert_allclose(got, wanted, rtol=rtol)
    assert_allclose(grad, slope, rtol=rtol, atol=rtol * np.abs(slope).max())
    alone = kind(per_step=task.per_step, losses=(task.loss_of(changes["loss"]),))
    assert_allclose(mean_loss(alone, outputs, y, numbers), got, rtol=rtol / 50)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.85])
def test_the_quantile_loss_is_scikit_learns(level: float, x64: None) -> None:
    """The gradient by finite differences, which are exact where no error changes its sign."""
    task = Regression()
    y = targets_of(task, (7,))
    outputs = np.random.default_rng(3).normal(size=y.shape)
    numbers = numbers_of(task, loss="pinball", level=level)

    def wanted(outputs: Any) -> float:
        return scores.mean_pinball_loss(y, outputs, alpha=level)

    got, grad = jax.value_and_grad(lambda z: mean_loss(task, z, y, numbers))(jnp.asarray(outputs))
    assert_allclose(got, wanted(outputs), rtol=1e-12)
    for place in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[place] = 1e-5
        slope = (wanted(outputs + step) - wanted(outputs - step)) / 2e-5
        assert_allclose(grad[place], slope, rtol=1e-7)


@pytest.mark.parametrize("kind", [Classification, Multilabel, Regression])
def test_numbers_and_losses_are_traced(kind: type[Task], x64: None) -> None:
    """One program for every loss and number of a task, with each one's own values."""
    task, traces = kind(), []
    assert task.losses == kind.LOSSES
    y = targets_of(task, (6,))
    outputs = jnp.asarray(np.random.default_rng(4).normal(size=(6, OUTPUTS)))

    @jax.jit
    def together(numbers: Any) -> Any:
        traces.append(numbers)
        return jax.value_and_grad(lambda z: mean_loss(task, z, y, numbers))(outputs)

    values = {
        "label_smoothing": [0.0, 0.2],
        "gamma": [2.0, 0.5],
        "focal_alpha": [0.25, 0.6],
        "delta": [1.0, 0.3],
        "level": [0.5, 0.9],
    }
    seen = set()
    for loss in kind.LOSSES:
        for name in kind.DEFAULTS:
            for value in values[name]:
                numbers = numbers_of(task, loss=loss, **{name: value})
                alone = kind(losses=(loss,))
                wanted = jax.value_and_grad(
                    lambda z, one=alone, own=numbers: mean_loss(one, z, y, own)
                )(outputs)
                assert_close(together(numbers), wanted, rtol=1e-12, atol=1e-14)
                seen.add(round(float(wanted[0]), 9))
    assert len(traces) == 1
    others = {"cross_entropy": 2, "focal": 4 if kind is Classification else 3}
    counts = {**others, "mse": 1, "mae": 1, "huber": 2, "log_cosh": 1, "quantile": 2}
    # Half the absolute error is the median's loss, so no two of these are equal.
    assert len(seen) == sum(counts[loss] for loss in kind.LOSSES)


def test_a_function_of_ones_own_is_a_loss(x64: None) -> None:
    def cubed(targets: Any, outputs: Any) -> Any:
        return jnp.abs(outputs - targets) ** 3  # of each number: their mean counts

    task = Regression(per_step=True).with_loss(cubed)
    assert task.losses == (cubed,)
    y = targets_of(task, (3, 2))
    outputs = np.random.default_rng(5).normal(size=y.shape)
    got = mean_loss(task, jnp.asarray(outputs), y, numbers_of(task, loss=cubed))
    assert_allclose(got, (np.abs(outputs - y) ** 3).mean(), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "loss", "error", "message"),
    [
        (Regression, "hubre", ValueError, r"loss must be one of mse, .* Did you mean 'huber'\?"),
        (Multilabel, "mse", ValueError, "loss must be one of cross_entropy, focal, got 'mse'"),
        (Classification, 3, ValueError, "loss must be one of cross_entropy, focal, got 3"),
    ],
)
def test_an_unknown_loss_is_named(kind: Any, loss: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        kind.loss_of(loss)


# -- metrics --------------------------------------------------------------------------------------


def measured(task: Task, outputs: Any, y: Any, numbers: Any) -> Any:
    batch = Data(None, jnp.asarray(y))
    valid = jnp.ones(len(y), bool)
    loss, found = task.sums(jnp.asarray(outputs), batch, valid, numbers, train=False)
    count = np.prod(outputs.shape[:-1])
    return float(loss) / count, np.asarray(found) / count


@pytest.mark.parametrize("shape", [(40,), (10, 4)], ids=["rows", "steps"])
def test_metrics_are_scikit_learns(shape: tuple[int, ...], x64: None) -> None:
    """Of the predictions that the outputs stand for."""
    outputs = np.random.default_rng(6).normal(size=(*shape, OUTPUTS))
    steps = {"per_step": len(shape) > 1}

    one = Classification(**steps)
    y, numbers = targets_of(one, shape), numbers_of(one)
    given = np.asarray(one.predictions(jnp.asarray(outputs), numbers)).reshape(-1, OUTPUTS)
    assert_allclose(given.sum(-1), 1, rtol=1e-12)
    (accuracy,) = measured(one, outputs, y, numbers)[1]
    assert_allclose(accuracy, scores.accuracy_score(y.ravel(), given.argmax(-1)), rtol=1e-12)
    assert 0 < accuracy < 1

    several = Multilabel(**steps)
    y, numbers = targets_of(several, shape), numbers_of(several)
    given = np.asarray(several.predictions(jnp.asarray(outputs), numbers)).reshape(-1, OUTPUTS)
    (accuracy,) = measured(several, outputs, y, numbers)[1]
    flat = y.reshape(-1, OUTPUTS)
    assert_allclose(accuracy, 1 - scores.hamming_loss(flat, given > 0.5), rtol=1e-12)
    theirs = keras.metrics.BinaryAccuracy()
    theirs.update_state(flat, given)
    assert_allclose(accuracy, theirs.result(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(12,), (4, 3)], ids=["rows", "steps"])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_errors_are_in_the_targets_units(is_scaled: bool, shape: Any, x64: None) -> None:
    """While the loss is that of standardised targets."""
    task = Regression(per_step=len(shape) > 1)
    y = targets_of(task, shape) * [1, 10, 100, 0.1] + [0, 5, -300, 7]
    outputs = np.random.default_rng(7).normal(size=y.shape)
    numbers = numbers_of(task, loss="huber", delta=0.4)
    mean, scale = np.zeros(OUTPUTS), np.ones(OUTPUTS)
    if is_scaled:
        flat = y.reshape(-1, OUTPUTS)
        mean, scale = flat.mean(0), flat.std(0)
        numbers |= {"target_mean": mean, "target_scale": scale}
    given = np.asarray(task.predictions(jnp.asarray(outputs), numbers))
    assert_allclose(given, outputs * scale + mean, rtol=1e-12)
    loss, (mse, mae) = measured(task, outputs, y, numbers)
    flat, given = y.reshape(-1, OUTPUTS), given.reshape(-1, OUTPUTS)
    assert_allclose(mse, scores.mean_squared_error(flat, given), rtol=1e-12)
    assert_allclose(mae, scores.mean_absolute_error(flat, given), rtol=1e-12)
    error = np.abs((y - mean) / scale - outputs)
    huber = np.where(error <= 0.4, error**2 / 2, 0.4 * error - 0.08)
    assert_allclose(loss, huber.mean(), rtol=1e-12)


# -- whole runs against Keras ----------------------------------------------------------------------


# 20 training rows are five batches of 4, so 10 epochs are 50 steps.
N, STEPS, FEATURES, BATCH, EPOCHS = 27, 5, 3, 4, 10
TRAIN, VALIDATION = np.split(np.random.default_rng(8).permutation(N), [20])
LENGTHS = np.random.default_rng(9).integers(1, STEPS + 1, N).astype(np.int32)
OWN = np.arange(STEPS) < LENGTHS[:, None]


def rows_of(train: Any = TRAIN, validation: Any = VALIDATION) -> Rows:
    def padded(rows: Any) -> Any:
        return np.pad(rows, (0, N - len(rows))).astype(np.int32)

    return Rows(padded(train), np.int32(len(train)), padded(validation), np.int32(len(validation)))


def data_of(task: Task, dtype: Any, *, ragged: bool = False, weight: Any = None) -> Data:
    """Rows and targets, both other ones in every step; zeros past a row's length."""
    x = np.random.default_rng(10).normal(size=(N, STEPS, FEATURES)).astype(dtype)
    y = targets_of(task, (N, STEPS) if task.per_step else (N,), dtype)
    if ragged:
        x[~OWN] = 0
        if task.per_step:
            y[~OWN] = 0
    return with_mass(Data(x, y, LENGTHS if ragged else None, weight), task.per_step)


def traced(task: Task, dtype: Any, *, weights: Any = None, more: Any = None, **changes: Any) -> Any:
    """A trial's traced numbers."""
    own = {name: changes.pop(name) for name in ("loss", *task.DEFAULTS) if name in changes}
    numbers = numbers_of(task, dtype, **own) | (more or {})
    if weights is not None:
        numbers["class_weight"] = np.asarray(weights, dtype)
    return names.trace(names.DEFAULTS | changes, numbers, {}, task.monitors)


def twin(params: Any, steps: bool) -> Any:
    """Keras's model of the same weights, and a function that reads them in our order."""
    dense = {
        name: keras.layers.Dense(layer["bias"].size, None if name == "logits" else "tanh")
        for name, layer in params.items()
        if name != "StackedLSTM_0"
    }
    layers: list[Any] = [keras.Input((STEPS, FEATURES))]
    recurrent = None
    if steps:
        lstm = params["StackedLSTM_0"]["lstm_0"]
        recurrent = keras.layers.LSTM(lstm["bias"].size // 4, return_sequences=True)
        layers += [keras.layers.Masking(-99.0), recurrent]
    else:
        layers.append(keras.layers.Flatten())
    model = keras.Sequential([*layers, *(dense[name] for name in sorted(dense))])
    for name, layer in dense.items():
        layer.set_weights([layer_ for layer_ in (params[name]["kernel"], params[name]["bias"])])
    if recurrent is not None:
        recurrent.set_weights(
            to_keras(LSTMParams(**params["StackedLSTM_0"]["lstm_0"], peephole=None))
        )

    def read() -> Any:
        found = {
            name: dict(zip(("kernel", "bias"), layer.get_weights(), strict=True))
            for name, layer in dense.items()
        }
        if recurrent is None:
            return found
        keys = ("kernel", "recurrent_kernel", "bias")
        own = dict(zip(keys, recurrent.get_weights(), strict=True))
        return found | {"StackedLSTM_0": {"lstm_0": own}}

    return model, read


#: An optimizer whose steps are in proportion to gradients, and one that divides by their size, whose
#: epsilon keeps the rounding of a gradient near 0 from becoming a step.
OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "rows": (
        {"optimizer": "adam", "learning_rate": 0.01, "epsilon": 1e-2},
        lambda: keras.optimizers.Adam(0.01, epsilon=1e-2),
    ),
    "steps": (
        {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.8},
        lambda: keras.optimizers.SGD(0.1, momentum=0.8),
    ),
}


def scaled(task: Task, data: Data) -> Data:
    return data._replace(y=data.y / 3) if isinstance(task, Regression) else data


@pytest.mark.parametrize("network", ["rows", "steps"])
@pytest.mark.parametrize("case", [*LOSSES, "quantile"])
def test_50_steps_are_keras(case: str, network: str) -> None:
    """The same batches from the same weights; steps of rows of unequal length by Keras's masks.

    In float32 the sums of a batch are rounded otherwise: 50 steps leave a few 1e-6 of the largest
    parameter.
    """
    kind, changes, make = LOSSES.get(case, (Regression, {"loss": "quantile", "level": 0.8}, None))
    is_steps = network == "steps"
    task = kind(per_step=is_steps)
    module: Any = MLP(OUTPUTS, (6,), "tanh")
    if is_steps:
        module = LSTMClassifierNetwork(OUTPUTS, units=(4,), return_sequences=True)
    structure = Structure(module, 3, task=task)
    data = scaled(task, data_of(task, np.float32, ragged=is_steps))
    numbers, optimizer = OPTIMIZERS[network]
    h = traced(task, np.float32, batch_size=BATCH, **numbers, **changes)
    state = start(structure, h, data)
    first = raw(state.weights.params)
    model, read = twin(first, is_steps)

    def quantile(targets: Any, outputs: Any) -> Any:
        error = targets - outputs
        return keras.ops.mean(keras.ops.maximum(0.8 * error, -0.2 * error), axis=-1)

    model.compile(optimizer(), loss=make() if make else quantile)
    x = np.where(OWN[..., None], data.x, np.float32(-99)) if is_steps else data.x
    y = one_hot(data.y, np.float32) if kind is Classification else data.y
    for epoch in range(EPOCHS):
        order, _ = order_of(state.key, epoch, TRAIN, N)
        state, metrics = train_epoch(structure, state, h, data, rows_of())
        total = 0.0
        for batch in order.reshape(-1, BATCH):
            mass = OWN[batch].sum() if is_steps else BATCH
            total += float(model.train_on_batch(x[batch], y[batch])) * mass
            model.reset_metrics()
        assert_allclose(float(metrics.train_loss), total, rtol=1e-5)
    assert state.step == 50
    wanted = read()
    for path, leaf in jax.tree.leaves_with_path(raw(state.weights.params)):
        one, own = wanted, first
        for key in path:
            one, own = one[key.key], own[key.key]
        assert np.abs(one - own).max() > 1e-3, path  # a hundred times the tolerance
        assert_allclose(leaf, one, atol=1e-5 * max(1, np.abs(one).max()), err_msg=str(path))


# -- targets per step ------------------------------------------------------------------------------


def loss_by_hand(task: Task, z: Any, y: Any) -> tuple[Any, list[Any]]:
    """Loss and metrics of one step, by their definitions."""
    if isinstance(task, Classification):
        return jax.nn.logsumexp(z) - z[y], [z.argmax() == y]
    if isinstance(task, Multilabel):
        losses = jnp.log1p(jnp.exp(z)) - z * y
        return losses.mean(), [((z > 0) == (y > 0.5)).mean()]
    return jnp.log(jnp.cosh(z - y)).mean(), [((z - y) ** 2).mean(), jnp.abs(z - y).mean()]


class PerStep:
    """Epochs of a network with targets per step, by a loop over rows, each of its own steps alone."""

    def __init__(self, task: Task, data: Data, class_weight: Any) -> None:
        self.task, self.data, self.class_weight = task, data, class_weight
        self.module = LSTMClassifierNetwork(
            OUTPUTS, units=(4,), dense=(3,), bidirectional=True, return_sequences=True
        )
        self.row = jax.jit(jax.value_and_grad(self._row, has_aux=True), static_argnums=4)

    def _row(self, params: Any, x: Any, y: Any, weight: Any, train: bool) -> tuple[Any, Any]:
        """The loss of one row ``[T_i, F]``, summed over its steps; metrics and weights, likewise."""
        outputs = self.module.apply({"params": params}, x[None])[0]
        loss, metrics = 0.0, [0.0] * len(self.task.METRICS)
        for step in range(len(x)):
            own, found = loss_by_hand(self.task, outputs[step], y[step])
            if train and self.class_weight is not None:
                own = own * jnp.asarray(self.class_weight)[y[step]]
            loss = loss + weight[step] * own
            metrics = [
                total + weight[step] * one for total, one in zip(metrics, found, strict=True)
            ]
        return loss, (jnp.stack(metrics), weight.sum())

    def sums(self, params: Any, rows: Any, train: bool) -> tuple[Any, Any, Any, Any]:
        """Loss, metrics, weights and gradient, summed over rows."""
        parts = []
        for row in rows:
            x, y, weight = (part[row, : LENGTHS[row]] for part in self.of_steps)
            (loss, (metrics, mass)), grads = self.row(params, x, y, weight, train)
            parts.append((loss, metrics, mass, grads))
        return raw(jax.tree.map(lambda *leaves: sum(leaves), *parts))

    @property
    def of_steps(self) -> Any:
        return self.data.x, self.data.y, self.data.weight

    def step(self, params: Any, rows: Any, rate: float) -> tuple[Any, Any, Any, Any]:
        """Parameters after a step of gradient descent, and the sums before it."""
        loss, metrics, mass, grads = self.sums(params, rows, train=True)
        params = jax.tree.map(lambda p, g: p - rate * g / mass, params, grads)
        return params, loss, metrics, mass


def step_weights(seed: int = 11) -> Any:
    """What each step counts for; some, of a whole row as well, count for nothing."""
    weight = np.random.default_rng(seed).uniform(0.2, 3, (N, STEPS))
    weight[np.random.default_rng(seed + 1).uniform(size=weight.shape) < 0.2] = 0
    weight[TRAIN[3]] = 0
    return weight


PER_STEP = [Classification(True), Multilabel(True), Regression(True)]


@pytest.mark.parametrize("task", PER_STEP, ids=lambda task: task.name)
def test_epochs_of_steps_equal_a_plain_loop(task: Task, x64: None) -> None:
    """Loss, metrics and parameters, of batches of 6 rows and a short one; lengths and weights."""
    train, validation = TRAIN[:13], VALIDATION
    data = data_of(task, np.float64, ragged=True, weight=step_weights())
    class_weight = np.array([0.5, 2.0, 1.25, 0.8]) if isinstance(task, Classification) else None
    loop = PerStep(task, data, class_weight)
    numbers: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.3, "batch_size": 6}
    if isinstance(task, Regression):
        numbers["loss"] = "log_cosh"
    h = traced(task, np.float64, weights=class_weight, **numbers)
    structure = Structure(loop.module, 4, task=task)
    state = start(structure, h, data)
    params, key = raw(state.weights.params), state.key
    for epoch in range(2):
        order, _ = order_of(key, epoch, train, N)
        total, metrics, mass = 0.0, np.zeros(len(task.METRICS)), 0.0
        for first in range(0, len(order), 6):
            params, *found = loop.step(params, order[first : first + 6], 0.3)
            total, metrics, mass = total + found[0], metrics + found[1], mass + found[2]
        state, got = train_epoch(structure, state, h, data, rows_of(train, validation))
        assert_allclose(got.train_loss, total, rtol=1e-10)
        assert_allclose(got.train_metrics, metrics, rtol=1e-10)
        assert_allclose(got.train_mass, mass, rtol=1e-12)
        loss, metrics, mass, _ = loop.sums(params, validation, train=False)
        assert_allclose(got.validation_loss, loss, rtol=1e-10)
        assert_allclose(got.validation_metrics, metrics, rtol=1e-10)
        assert_allclose(got.validation_mass, mass, rtol=1e-12)
    assert_close(state.weights.params, params, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("is_changed", [False, True], ids=["as it is", "augmented, standardised"])
@pytest.mark.parametrize("task", PER_STEP, ids=lambda task: task.name)
def test_what_stands_in_the_padding_changes_no_bit(task: Task, is_changed: bool) -> None:
    data = data_of(task, np.float32, ragged=True, weight=step_weights().astype(np.float32))
    other = jax.tree.map(np.copy, data)
    rng = np.random.default_rng(13)
    other.x[~OWN] = 30 * rng.normal(size=other.x[~OWN].shape)
    other.weight[~OWN] = rng.uniform(1, 9, other.weight[~OWN].shape)
    y = other.y[~OWN]
    other.y[~OWN] = 3 if isinstance(task, Classification) else rng.normal(size=y.shape) * 50
    other = with_mass(other, per_step=True)
    module = LSTMClassifierNetwork(
        OUTPUTS, units=(4, 3), dropout=0.2, recurrent_dropout=0.1, return_sequences=True
    )
    h = traced(task, np.float32, batch_size=6, learning_rate=0.02)
    augment = (Jitter(0.1),) if is_changed else ()
    structure = Structure(module, 4, augment=augment, standardizes=is_changed, task=task)
    if is_changed:
        scale = Standardization(*np.float32([[0.3, -1, 2], [0.7, 2, 1.5]]))
        h = h._replace(standardization=scale)
    runs = []
    for one in (data, other):
        state, told = start(structure, h, data), []
        for _ in range(2):
            state, metrics = train_epoch(structure, state, h, one, rows_of())
            told.append(metrics)
        runs.append((state, told))
    assert_same(runs[1], runs[0])


# -- weights --------------------------------------------------------------------------------------


WHOLE: dict[str, Any] = {
    **{"batch_size": 1000, "epochs": 4, "learning_rate": 0.05, "random_state": 0},
    **{"standardize": True, "l2": 0.01},
}
ESTIMATORS: dict[str, Any] = {
    "classes": LSTMClassifier(3, class_weight="balanced", label_smoothing=0.1, **WHOLE),
    "classes of steps": LSTMClassifier(
        3, class_weight="balanced", return_sequences=True, loss="focal", **WHOLE
    ),
    "labels": FlaxClassifier(LSTMClassifierNetwork(OUTPUTS, units=(3,)), **WHOLE),
    "labels of steps": LSTMClassifier(3, return_sequences=True, **WHOLE),
    "numbers": LSTMRegressor(3, standardize_targets=True, loss="huber", **WHOLE),
    "numbers of steps": FlaxRegressor(
        LSTMClassifierNetwork(OUTPUTS, units=(3,), return_sequences=True),
        standardize_targets=True,
        return_sequences=True,
        **WHOLE,
    ),
}


def listed(name: str) -> tuple[list[Any], Any]:
    """Rows of unequal length, and their targets."""
    steps = "steps" in name
    kinds = {"classes": Classification, "labels": Multilabel, "numbers": Regression}
    task = kinds[name.split()[0]](per_step=steps)
    data = data_of(task, np.float64)
    rows = [row[:length] for row, length in zip(data.x, LENGTHS, strict=True)]
    y = data.y.astype(int) if isinstance(task, Multilabel) else data.y
    return rows, [one[:length] for one, length in zip(y, LENGTHS, strict=True)] if steps else y


def repeated(rows: Any, times: Any) -> Any:
    places = np.repeat(np.arange(len(rows)), times)
    return [rows[n] for n in places] if isinstance(rows, list) else rows[places]


def assert_same_fit(one: Any, other: Any) -> None:
    """Parameters, and every loss and metric; sums of the same numbers in another order."""
    assert_close(one.params_, other.params_, rtol=1e-9, atol=1e-11)
    assert one.history_.keys() == other.history_.keys()
    for name, values in one.history_.items():
        assert_allclose(values, other.history_[name], rtol=1e-10, err_msg=name)
    h, wanted = one.network_.hyperparameters, other.network_.hyperparameters
    assert_close(h.standardization, wanted.standardization, rtol=1e-12)
    assert_close(h.task, wanted.task, rtol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_weight_is_how_often_a_row_is_given(name: str, x64: None) -> None:
    """Twice for 2, not at all for 0; in training and in validation."""
    rows, y = listed(name)
    times = np.random.default_rng(14).integers(0, 4, N)
    assert {0, 1, 2} <= set(times.tolist())
    watched = np.random.default_rng(15).integers(0, 3, 9)
    model = ESTIMATORS[name]
    weighted = clone(model).fit(
        rows, y, sample_weight=times, validation_data=(rows[:9], y[:9], watched)
    )
    given = clone(model).fit(
        repeated(rows, times),
        repeated(y, times),
        validation_data=(repeated(rows[:9], watched), repeated(y[:9], watched)),
    )
    assert_same_fit(weighted, given)
    scaled = clone(model).fit(
        rows, y, sample_weight=0.37 * times, validation_data=(rows[:9], y[:9], 5.0 * watched)
    )
    assert_same_fit(scaled, weighted)
    plain = clone(model).fit(rows, y)
    assert not np.allclose(plain.history_["loss"], weighted.history_["loss"], rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if "steps" in name])
def test_a_weight_of_0_at_a_rows_end_is_a_shorter_row(name: str, x64: None) -> None:
    """Of steps: nothing after it is looked at, as the network looks back alone."""
    rows, y = listed(name)
    kept = np.maximum(1, LENGTHS - np.arange(N) % 3)
    weight = [1.0 * (np.arange(n) < k) for n, k in zip(LENGTHS, kept, strict=True)]
    # A row's own weight counts for each of its steps.
    each = np.random.default_rng(16).uniform(0.5, 2, N)
    weight = [own * one for own, one in zip(weight, each, strict=True)]
    shorter = [[one[:k] for one, k in zip(part, kept, strict=True)] for part in (rows, y)]
    model = ESTIMATORS[name]
    assert_same_fit(
        clone(model).fit(rows, y, sample_weight=weight),
        clone(model).fit(*shorter, sample_weight=each),
    )


def test_rows_of_weight_0_are_left_out_of_batches(x64: None) -> None:
    """Batches and their order are those of the other rows, held-out ones too."""
    rows, y = listed("numbers")
    counts = np.random.default_rng(17).uniform(size=N) < 0.7
    model = LSTMRegressor(
        3,
        **WHOLE | {"batch_size": 5},
        early_stopping=True,
        patience=9,
        validation_fraction=0.2,
    )
    others = [row for row, one in zip(rows, counts, strict=True) if one]
    weighted = clone(model).fit(rows, y, sample_weight=1.0 * counts)
    given = clone(model).fit(others, y[counts])
    assert np.isfinite(given.history_["val_mse"]).all()
    for name, values in given.history_.items():
        assert_allclose(weighted.history_[name], values, rtol=1e-10)
    assert_close(weighted.params_, given.params_, rtol=1e-9, atol=1e-11)


# -- early stopping --------------------------------------------------------------------------------


WATCHED: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("min", {"patience": 1}),
    "mae": ("min", {"patience": 2, "min_delta": 0.01}),
    "val_mse": ("min", {"patience": 1}),
    "val_mae": ("min", {"patience": 2}),
    "val_loss": ("min", {"patience": 1, "start_from_epoch": 4}),
}


class Watched:
    """What Keras's callbacks see of a model."""

    def __init__(self, rate: float) -> None:
        self.optimizer = types.SimpleNamespace(learning_rate=rate)
        self.stop_training = False
        self.epoch = -1

    def get_weights(self) -> Any:
        return self.epoch

    def set_weights(self, epoch: Any) -> None:
        self.epoch = epoch


def with_callback(callback: Any, history: Any, rate: float) -> tuple[int, list[float], Any]:
    """The epoch after which it ends, each epoch's learning rate, and the model."""
    model = Watched(rate)
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch in range(len(history["loss"])):
        rates.append(float(model.optimizer.learning_rate))
        model.epoch = epoch
        logs = {name: values[epoch] for name, values in history.items()}
        callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callback.on_train_end()
    return epoch, rates, model


def noisy(**settings: Any) -> Any:
    """A regressor whose metrics go up and down, of targets that are noise."""
    return LSTMRegressor(
        4,
        **{"optimizer": "sgd", "learning_rate": 0.6, "momentum": 0.7, "batch_size": 5},
        **{"loss": "mae", "standardize_targets": True, "epochs": 24, "random_state": 1},
        **settings,
    )


def fitted(model: Any) -> Any:
    rows, y = listed("numbers")
    return model.fit(rows[:18], y[:18], validation_data=(rows[18:], y[18:]))


@pytest.mark.parametrize("monitor", WATCHED)
def test_early_stopping_is_keras(monitor: str, x64: None) -> None:
    """The last epoch and the one whose weights are kept; less is better."""
    mode, numbers = WATCHED[monitor]
    free = fitted(noisy()).history_
    callback = keras.callbacks.EarlyStopping(
        monitor=monitor, mode=mode, restore_best_weights=True, **numbers
    )
    last, _, kept = with_callback(callback, free, 0.6)
    assert last < 23, "the case never stops"
    model = fitted(
        noisy(early_stopping=True, monitor=monitor, restore_best_weights=True, **numbers)
    )
    assert len(model.history_["loss"]) == last + 1
    for name, values in model.history_.items():
        assert values == free[name][: last + 1], name
    assert kept.epoch < last
    assert model.best_epoch_ == kept.epoch


@pytest.mark.parametrize("monitor", ["mse", "mae", "val_mse"])
def test_plateau_is_keras(monitor: str, x64: None) -> None:
    numbers: dict[str, Any] = {"cooldown": 1, "min_lr": 0.01}
    names = {"factor": 0.4, "patience": 1, "min_delta": 0.002}
    own = {f"plateau_{name}": value for name, value in names.items()}
    model = fitted(noisy(schedule="plateau", plateau_monitor=monitor, **own, **numbers))
    callback = keras.callbacks.ReduceLROnPlateau(monitor=monitor, mode="min", **names, **numbers)
    _, rates, _ = with_callback(callback, model.history_, 0.6)
    # Keras keeps what it set in float32.
    assert_allclose(model.history_["learning_rate"], rates, rtol=1e-6)
    assert len(set(rates)) > 2


def test_an_unknown_monitor_is_named() -> None:
    rows, y = listed("numbers")
    rows = [row.astype(np.float32) for row in rows]
    with pytest.raises(
        ValueError, match=r"monitor must be one of loss, mse, mae, val_loss, .*'acc"
    ):
        noisy(early_stopping=True, monitor="accuracy").fit(rows, y)
