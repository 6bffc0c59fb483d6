"""A trial's epochs against a plain loop: NumPy's gradients, Keras's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from trials import (
    ROWS,
    TRAIN,
    VALIDATION,
    WEIGHTS,
    assert_close,
    assert_same,
    make_data,
    order_of,
    raw,
    softmax_of,
    start,
    train_epoch,
)

from jaxlstm.nn import MLP
from jaxlstm.train.data import Data
from jaxlstm.train.hyperparameters import OPTIMIZERS
from jaxlstm.train.trial import State, Structure

# Keras's classes, by our names.
KERAS = {
    **{"adam": "Adam", "adamw": "AdamW", "nadam": "Nadam", "rmsprop": "RMSprop", "sgd": "SGD"},
    **{"adadelta": "Adadelta", "adagrad": "Adagrad", "ftrl": "Ftrl", "lion": "Lion"},
}


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    keras.config.set_floatx("float64")
    with jax.enable_x64(True):
        yield
    keras.config.set_floatx("float32")


def targets_of(y: Any, smoothing: float) -> Any:
    return (1 - smoothing) * np.eye(3)[y] + smoothing / 3


def score_of(params: Any, x: Any, y: Any, smoothing: float) -> tuple[float, int]:
    """Summed cross-entropy, and how many rows are right."""
    _, p = softmax_of(params, x)
    return -(targets_of(y, smoothing) * np.log(p)).sum(), (p.argmax(-1) == y).sum()


def penalty_of(params: Any, l2: float) -> Any:
    return l2 * sum((layer["kernel"] ** 2).sum() for layer in params.values())


def gradient_of(params: Any, x: Any, y: Any, numbers: dict[str, Any]) -> tuple[float, Any]:
    """Loss of a batch, its mean over rows, and the gradient, by the chain rule."""
    l2, smoothing = numbers.get("l2", 0.0), numbers.get("label_smoothing", 0.0)
    inputs, p = softmax_of(params, x)
    weights = np.asarray(numbers.get("class_weight", np.ones(3)))[y][:, None] / len(y)
    targets = targets_of(y, smoothing)
    loss = -(weights * targets * np.log(p)).sum() + penalty_of(params, l2)
    d_z = weights * (p - targets)
    grads = {}
    for n in reversed(range(len(inputs))):
        name = "logits" if n == len(inputs) - 1 else f"dense_{n}"
        kernel = params[name]["kernel"]
        grads[name] = {"kernel": inputs[n].T @ d_z + 2 * l2 * kernel, "bias": d_z.sum(0)}
        d_z = (d_z @ kernel.T) * (1 - inputs[n] ** 2)
    return loss, grads


def keras_optimizer(name: str, numbers: dict[str, Any], leaves: list[Any]) -> Callable[..., Any]:
    """A step of Keras's own optimizer: (rate, gradients, parameters) -> parameters."""
    known = getattr(keras.optimizers, KERAS[name])
    trial_only = {
        *("optimizer", "l2", "label_smoothing", "class_weight", "batch_size", "epochs"),
        *("schedule", "alpha", "decay_rate", "decay_epochs", "warmup_epochs"),
    }
    rule = known(**{key: value for key, value in numbers.items() if key not in trial_only})
    rule.build([keras.Variable(leaf) for leaf in leaves])
    (rate_at,) = (
        n for n, variable in enumerate(rule.variables) if "learning_rate" in variable.path
    )
    state = [variable.value for variable in rule.variables]
    apply = jax.jit(rule.stateless_apply)

    def step(rate: float, grads: list[Any], params: list[Any]) -> list[Any]:
        state[rate_at] = np.asarray(rate)
        params, state[:] = apply(list(state), grads, params)
        return [np.asarray(leaf) for leaf in params]

    return step


def reference(
    state: State,
    numbers: dict[str, Any],
    data: Data,
    rate_at: Callable[[float], float],
    epochs: int,
) -> tuple[Any, list[dict[str, float]]]:
    """Parameters after some epochs, and the metrics of each."""
    x, y = np.asarray(data.x), np.asarray(data.y)
    batch_size = numbers["batch_size"]
    l2, smoothing = numbers.get("l2", 0.0), numbers.get("label_smoothing", 0.0)
    leaves, structure = jax.tree.flatten(raw(state.weights.params))
    update = keras_optimizer(numbers.get("optimizer", "adam"), numbers, leaves)
    steps_an_epoch = -(-len(TRAIN) // batch_size)
    step, history = 0, []

    for epoch in range(epochs):
        order, _ = order_of(state.key, epoch)
        train_loss, train_correct = 0.0, 0
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            params = jax.tree.unflatten(structure, leaves)
            loss, grads = gradient_of(params, x[rows], y[rows], numbers)
            train_loss += loss * len(rows)
            train_correct += score_of(params, x[rows], y[rows], smoothing)[1]
            rate = rate_at(step / steps_an_epoch)
            leaves = update(rate, jax.tree.leaves(grads), leaves)
            step += 1
        params = jax.tree.unflatten(structure, leaves)
        loss, correct = score_of(params, x[VALIDATION], y[VALIDATION], smoothing)
        history.append(
            {
                "train_loss": train_loss,
                "train_metrics": [train_correct],
                "train_mass": len(TRAIN),
                "validation_loss": loss,
                "validation_metrics": [correct],
                "validation_mass": len(VALIDATION),
                "penalty": penalty_of(params, l2),
                "learning_rate": rate,
            }
        )
    return params, history


ALL: dict[str, Any] = {"l2": 0.01, "label_smoothing": 0.2, "class_weight": WEIGHTS}
CASES: dict[str, dict[str, Any]] = {
    "batches of 4, momentum, weights, l2": {
        **{"batch_size": 4, "optimizer": "sgd", "momentum": 0.8},
        **{"l2": 0.01, "class_weight": WEIGHTS},
    },
    "batches of 5, adam, weights": {"batch_size": 5, "epsilon": 1e-3, **ALL},
    "batches of 7, rmsprop, cosine": {
        **{"batch_size": 7, "optimizer": "rmsprop", "momentum": 0.3},
        **{"schedule": "cosine", "alpha": 0.1, "epochs": 3},
    },
    "a batch larger than the set, nesterov": {
        **{"batch_size": 40, "optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    },
    "whole set, clipped": {"batch_size": 17, "global_clipnorm": 0.1, **ALL},
    "one row, adamw, step": {
        **{"batch_size": 1, "optimizer": "adamw", "weight_decay": 0.1, "clipvalue": 0.05},
        **{"schedule": "step", "decay_rate": 0.5, "decay_epochs": 0.5, "warmup_epochs": 1},
    },
    "nadam": {"batch_size": 6, "optimizer": "nadam", "clipnorm": 0.2, **ALL},
    "adadelta": {"batch_size": 6, "optimizer": "adadelta", **ALL},
    "adagrad": {"batch_size": 6, "optimizer": "adagrad", **ALL},
    "ftrl": {"batch_size": 6, "optimizer": "ftrl", "l1_regularization_strength": 0.01, **ALL},
    "lion": {"batch_size": 6, "optimizer": "lion", **ALL},
}


def rates(numbers: dict[str, Any], time: float) -> float:
    """The learning rate at a time in epochs."""
    schedule = numbers.get("schedule", "constant")
    if schedule == "cosine":
        return 0.05 * (0.9 * 0.5 * (1 + np.cos(np.pi * time / 3)) + 0.1)
    if schedule == "step":  # warm-up lasts 1 epoch
        return 0.05 * min(time, 1) * 0.5 ** np.floor(max(time - 1, 0) / 0.5)
    return 0.05


def test_every_optimizer_has_a_case() -> None:
    assert {numbers.get("optimizer", "adam") for numbers in CASES.values()} == set(OPTIMIZERS)


@pytest.mark.parametrize("micro", [3, 17])
@pytest.mark.parametrize("numbers", CASES.values(), ids=CASES)
def test_epochs_equal_a_plain_loop(
    numbers: dict[str, Any], micro: int, hyperparameters: Any
) -> None:
    """Every update, the last short batch's included, and every sum that is reported."""
    data = make_data(3, 2, dtype=np.float64)
    structure = Structure(MLP(3, (6,), "tanh"), micro)
    h = hyperparameters(learning_rate=0.05, **numbers)
    state = start(structure, h, data)
    wanted, history = reference(state, numbers, data, lambda time: rates(numbers, time), epochs=3)
    for epoch in range(3):
        state, metrics = train_epoch(structure, state, h, data, ROWS)
        for name, value in history[epoch].items():
            assert_allclose(getattr(metrics, name), value, rtol=1e-9, err_msg=name)
        assert metrics.trained
        assert not metrics.stopped
    assert_close(state.weights.params, wanted, rtol=1e-8, atol=1e-11)
    assert (state.epoch, state.step) == (3, 3 * -(-17 // numbers["batch_size"]))


def test_without_validation_everything_else_is_the_same(hyperparameters: Any) -> None:
    data = make_data(3, 2, dtype=np.float64)
    structure = Structure(MLP(3, (6,), "tanh"), 3)
    h = hyperparameters(learning_rate=0.05, batch_size=5, monitor="loss", plateau_monitor="loss")
    state = start(structure, h, data)
    watched, told = train_epoch(structure, state, h, data, ROWS)
    unwatched, silent = train_epoch(structure, state, h, data, ROWS, validate=False)
    assert_same(unwatched, watched)
    assert told.validation_loss > 0
    assert (silent.validation_loss, *silent.validation_metrics) == (0, 0)
    assert silent.train_loss == told.train_loss
