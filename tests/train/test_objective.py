"""Losses against Keras's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxlstm.train import objective
from jaxlstm.train.data import Data
from jaxlstm.train.task import Classification

pytestmark = pytest.mark.usefixtures("strict_ranks")

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(9, 4)).astype(np.float32) * 3
LABELS = np.array([3, 0, 1, 1, 2, 0, 3, 3, 1], np.int32)
WEIGHTS = np.array([0.5, 2.0, 1.25, 3.0], np.float32)
ALL = np.ones(9, bool)


def sums(logits: Any, labels: Any, valid: Any, weights: Any, smoothing: Any = 0.0) -> Any:
    """Loss and metrics of a batch, as an epoch adds them up."""
    numbers = {"loss": 0, "label_smoothing": smoothing, "class_weight": jnp.asarray(weights)}
    task = Classification(losses=("cross_entropy",))
    batch = Data(None, jnp.asarray(labels))
    return task.sums(jnp.asarray(logits), batch, jnp.asarray(valid), numbers, train=True)


def batch_loss(logits: Any, labels: Any, valid: Any, weights: Any, smoothing: Any = 0.0) -> Any:
    """The loss of a batch: the sum over its rows by their number."""
    total, _ = sums(logits, labels, valid, weights, smoothing)
    return total / np.maximum(1, np.sum(valid)).astype(np.float32)


def log_softmax(logits: Any) -> Any:
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_cross_entropy_is_minus_the_log_of_the_labels_softmax() -> None:
    wanted = -log_softmax(LOGITS)[np.arange(9), LABELS]
    assert_allclose(objective.cross_entropy(LOGITS, LABELS), wanted, rtol=1e-5)


def test_cross_entropy_of_large_logits_is_finite() -> None:
    logits = jnp.array([[1e4, -1e4, 0.0], [3e38, 0.0, -3e38]])
    assert_allclose(objective.cross_entropy(logits, jnp.array([1, 0])), [2e4, 0])


@pytest.mark.parametrize("weights", [np.ones(4, np.float32), WEIGHTS], ids=["none", "weights"])
def test_batch_loss_is_keras(weights: np.ndarray) -> None:
    """The weighted losses' sum over the number of rows, not over the sum of weights."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wanted = loss(LABELS, LOGITS, sample_weight=weights[LABELS])
    assert_allclose(batch_loss(LOGITS, LABELS, ALL, weights), wanted, rtol=1e-6)
    by_hand = -(log_softmax(LOGITS)[np.arange(9), LABELS] * weights[LABELS]).sum() / 9
    assert_allclose(batch_loss(LOGITS, LABELS, ALL, weights), by_hand, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75, 1.0])
def test_label_smoothing_is_keras(smoothing: float) -> None:
    """Value and gradient, with class weights."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    targets = np.eye(4, dtype=np.float32)[LABELS]

    def theirs(logits: Any) -> Any:
        return loss(targets, logits, sample_weight=WEIGHTS[LABELS])

    def ours(logits: Any) -> Any:
        return batch_loss(logits, LABELS, ALL, WEIGHTS, jnp.float32(smoothing))

    with jax.numpy_rank_promotion("allow"):  # Keras's own
        wanted, wanted_grad = jax.value_and_grad(theirs)(jnp.asarray(LOGITS))
    got, grad = jax.value_and_grad(ours)(jnp.asarray(LOGITS))
    assert_allclose(got, wanted, rtol=1e-5)
    assert_allclose(grad, wanted_grad, rtol=1e-4, atol=1e-7)
    rows = objective.cross_entropy(LOGITS, LABELS, smoothing)
    by_hand = (1 - smoothing) * targets + smoothing / 4
    assert_allclose(rows, -(by_hand * log_softmax(LOGITS)).sum(-1), rtol=1e-5)


def test_no_smoothing_leaves_an_infinite_logit_alone() -> None:
    logits = jnp.array([[2.0, -jnp.inf, 1.0]])
    assert_allclose(
        objective.cross_entropy(logits, jnp.array([0])), np.log1p(np.exp(-1)), rtol=1e-6
    )
    assert objective.cross_entropy(logits, jnp.array([0]), 0.1) == np.inf


def test_a_batch_in_pieces_has_the_loss_of_the_whole() -> None:
    whole = batch_loss(LOGITS, LABELS, ALL, WEIGHTS, 0.1)
    parts = [slice(0, 4), slice(4, 5), slice(5, 9)]
    pieces = [sums(LOGITS[part], LABELS[part], ALL[part], WEIGHTS, 0.1)[0] for part in parts]
    assert_allclose(sum(pieces) / 9, whole, rtol=1e-6)


def test_class_weights_and_l2_are_those_of_train_on_batch() -> None:
    x, kernel = RNG.normal(size=(9, 5)).astype(np.float32), RNG.normal(size=(5, 4))
    kernel, bias = kernel.astype(np.float32), WEIGHTS - 1
    dense = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.02))
    model = keras.Sequential([keras.Input((5,)), dense])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dense.set_weights([kernel, bias])
    with jax.numpy_rank_promotion("allow"):  # Keras's own
        wanted = model.train_on_batch(x, LABELS, class_weight=dict(enumerate(WEIGHTS)))
    got = batch_loss(x @ kernel + bias, LABELS, ALL, WEIGHTS)
    got += objective.l2_penalty({"kernel": kernel, "bias": bias}, 0.02)
    assert_allclose(got, wanted, rtol=1e-5)


def test_masked_rows_do_not_count() -> None:
    valid = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0], bool)
    wanted = batch_loss(LOGITS[valid], LABELS[valid], ALL[:5], WEIGHTS)
    loss = jax.value_and_grad(batch_loss)
    for other in (7.0, 1e30, np.nan):
        changed = np.where(valid[:, None], LOGITS, np.float32(other))
        got, grad = loss(changed, np.where(valid, LABELS, 2), valid, WEIGHTS)
        assert_allclose(got, wanted, rtol=1e-6)
        if other == 7.0:
            assert not grad[~valid].any()
            assert grad[valid].all()


def test_a_batch_without_rows_has_loss_0() -> None:
    loss, grad = jax.value_and_grad(batch_loss)(LOGITS, LABELS, ~ALL, WEIGHTS)
    assert loss == 0
    assert not grad.any()


def test_l2_is_keras_over_kernels_alone() -> None:
    params = {
        "lstm": {
            "kernel": RNG.normal(size=(3, 8)).astype(np.float32),
            "recurrent_kernel": RNG.normal(size=(2, 8)).astype(np.float32),
            "bias": RNG.normal(size=8).astype(np.float32),
        },
        "conv": {"kernel": RNG.normal(size=(3, 2, 1, 4)).astype(np.float32)},
        "norm": {"scale": RNG.normal(size=4).astype(np.float32)},
    }
    l2 = keras.regularizers.L2(0.03)
    kernels = [*list(params["lstm"].values())[:2], params["conv"]["kernel"]]
    assert_allclose(
        objective.l2_penalty(params, 0.03), sum(float(l2(kernel)) for kernel in kernels), rtol=1e-6
    )
    grads = jax.grad(objective.l2_penalty)(params, 0.03)
    others = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), params)
    added = objective.add_l2_gradient(others, params, np.float32(0.03))
    for one, wanted, own in zip(*map(jax.tree.leaves, (added, grads, others)), strict=True):
        assert_allclose(one, wanted + own, rtol=1e-5)
    assert_allclose(grads["conv"]["kernel"], 0.06 * params["conv"]["kernel"], rtol=1e-6)
    assert not grads["lstm"]["bias"].any()
    assert not grads["norm"]["scale"].any()
    assert objective.l2_penalty({"bias": WEIGHTS}, 0.03) == 0


def test_accuracy_counts_the_valid_rows() -> None:
    right = LOGITS.argmax(-1) == LABELS
    assert 0 < right.sum() < 9
    valid = np.array([1, 0, 1, 1, 0, 1, 1, 1, 1], bool)
    assert_array_equal(sums(LOGITS, LABELS, valid, WEIGHTS)[1], [(right & valid).sum()])
    assert_array_equal(sums(LOGITS, LOGITS.argmax(-1), valid, WEIGHTS)[1], [7])


# -- the definitions, in NumPy ----------------------------------------------------------------------


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def binary(z: Any, y: Any, s: float, gamma: float = 0.0) -> Any:
    y, p = y * (1 - s) + s / 2, sigmoid(z)
    missed = 1 - (y * p + (1 - y) * (1 - p))
    return (missed**gamma * -(y * np.log(p) + (1 - y) * np.log(1 - p))).mean(-1)


def focal(z: Any, y: Any, s: float, gamma: float, alpha: float) -> Any:
    p = np.exp(log_softmax(z))
    hard = np.eye(z.shape[-1])[y]
    return (-alpha * (hard * (1 - s) + s / z.shape[-1]) * (1 - p) ** gamma * np.log(p)).sum(-1)


def huber(z: Any, y: Any, delta: float) -> Any:
    error = np.abs(z - y)
    return np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean(-1)


def pinball(z: Any, y: Any, level: float) -> Any:
    return np.where(y > z, level * (y - z), (1 - level) * (z - y)).mean(-1)


DEFINITIONS: dict[str, tuple[str, Any, Any, tuple[float, ...]]] = {
    "focal": ("labels", objective.focal_cross_entropy, focal, (0.1, 1.7, 0.3)),
    "focal of 0": ("labels", objective.focal_cross_entropy, focal, (0.0, 0.0, 1.0)),
    "binary": ("0/1", objective.binary_cross_entropy, binary, (0.0,)),
    "smoothed binary": ("0/1", objective.binary_cross_entropy, binary, (0.3,)),
    "binary focal": ("0/1", objective.binary_focal_cross_entropy, binary, (0.2, 1.5)),
    "squares": ("numbers", objective.squared_error, lambda z, y: ((z - y) ** 2).mean(-1), ()),
    "absolute": ("numbers", objective.absolute_error, lambda z, y: np.abs(z - y).mean(-1), ()),
    "huber": ("numbers", objective.huber, huber, (0.8,)),
    "log-cosh": (
        *("numbers", objective.log_cosh, lambda z, y: np.log(np.cosh(z - y)).mean(-1), ()),
    ),
    "pinball": ("numbers", objective.pinball, pinball, (0.85,)),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_losses_are_their_definitions(case: str, x64: None) -> None:
    """Value and gradient, the latter by finite differences; of rows and of steps."""
    kind, loss, wanted, numbers = DEFINITIONS[case]
    rng = np.random.default_rng(1)
    for shape in ((5,), (3, 2)):
        z = 2 * rng.normal(size=(*shape, 4)) + np.arange(4) / 3
        y = {
            "labels": rng.integers(0, 4, shape),
            "0/1": rng.integers(0, 2, z.shape).astype(float),
            "numbers": 2 * rng.normal(size=z.shape),
        }[kind]
        traced = [jnp.asarray(number) for number in numbers]
        got = loss(jnp.asarray(z), jnp.asarray(y), *traced)
        assert got.shape == shape
        assert_allclose(got, wanted(z, y, *numbers), rtol=1e-12)
        grad = jax.grad(lambda z, y=y, loss=loss, traced=traced: loss(z, y, *traced).sum())(z)
        for place in np.ndindex(z.shape):
            step = np.zeros_like(z)
            step[place] = 1e-6
            above, below = (wanted(z + sign * step, y, *numbers).sum() for sign in (1, -1))
            assert_allclose(grad[place], (above - below) / 2e-6, rtol=1e-6, atol=1e-8)


def test_large_outputs_leave_losses_and_gradients_finite() -> None:
    z = np.float32([[1e4, -1e4, 3e4], [-2e30, 1e30, 0.0]])
    ones = np.float32([[0, 1, 1], [1, 1, 0]])
    for loss in (
        lambda z: objective.binary_cross_entropy(z, jnp.asarray(ones), 0.1),
        lambda z: objective.binary_focal_cross_entropy(z, jnp.asarray(ones), 0.0, 2.0),
        lambda z: objective.focal_cross_entropy(z, jnp.array([1, 0]), jnp.zeros(()), 2.0, 0.25),
        lambda z: objective.absolute_error(z, ones),
        lambda z: objective.huber(z, ones, 0.7),
        lambda z: objective.log_cosh(z, ones),
        lambda z: objective.pinball(z, ones, 0.3),
    ):
        value, grad = jax.value_and_grad(lambda z, loss=loss: loss(z).sum())(jnp.asarray(z))
        assert np.isfinite(value)
        assert np.isfinite(grad).all()


def test_the_gradient_of_a_focal_loss_is_finite_where_it_is_0() -> None:
    """A power below 1 has none at 0, where the right class is certain."""
    z = jnp.array([[60.0, -60.0, -80.0]])
    grad = jax.grad(
        lambda z: objective.focal_cross_entropy(z, jnp.array([0]), 0.0, 0.5, 1.0).sum()
    )(z)
    assert np.isfinite(grad).all()
    grad = jax.grad(
        lambda z: objective.binary_focal_cross_entropy(z, jnp.array([[1.0, 0, 0]]), 0.0, 0.5).sum()
    )(z)
    assert np.isfinite(grad).all()
