"""What a trial minimises: losses of each row or step, and the L2 term, with Keras's conventions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = jax.Array

# Keras's bound on probabilities where their power is taken.
_EPSILON = 1e-7


def cross_entropy(logits: Array, labels: Array, label_smoothing: Array | float = 0.0) -> Array:
    """Softmax cross-entropy: ``[..., C], [...] -> [...]``, in nats.

    ``label_smoothing`` s turns a label's 1 into ``1 - s + s / C`` and the other 0s into ``s / C``
    (Szegedy et al., arXiv:1512.00567; Keras's `CategoricalCrossentropy`).
    """
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # -mean(log p), written so that s = 0 leaves the first term alone, an infinite logit apart.
    uniform = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)
    smooth = jnp.asarray(label_smoothing, hard.dtype)
    return jnp.where(smooth > 0, (1 - smooth) * hard + smooth * uniform, hard)


def focal_cross_entropy(
    logits: Array, labels: Array, label_smoothing: Array, gamma: Array, alpha: Array
) -> Array:
    """Focal softmax cross-entropy: ``[..., C], [...] -> [...]``.

    ``alpha * (1 - p) ** gamma`` times each class's term of the cross-entropy (Lin et al.,
    arXiv:1708.02002; Keras's `CategoricalFocalCrossentropy`).
    """
    log_p = jax.nn.log_softmax(logits)
    terms = -alpha * _power(1 - jnp.exp(log_p), gamma) * log_p
    hard = jnp.take_along_axis(terms, labels[..., None], axis=-1)[..., 0]
    smooth = jnp.asarray(label_smoothing, hard.dtype)
    return (1 - smooth) * hard + smooth * jnp.mean(terms, axis=-1)


def binary_cross_entropy(
    logits: Array, targets: Array, label_smoothing: Array | float = 0.0
) -> Array:
    """Sigmoid cross-entropy, the mean over labels: ``[..., D], [..., D] -> [...]``, in nats.

    ``label_smoothing`` s turns 1 into ``1 - s / 2`` and 0 into ``s / 2`` (Keras's
    `BinaryCrossentropy`).
    """
    targets = _smoothed(targets, label_smoothing)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1)


def binary_focal_cross_entropy(
    logits: Array, targets: Array, label_smoothing: Array, gamma: Array
) -> Array:
    """Focal sigmoid cross-entropy, the mean over labels: ``[..., D], [..., D] -> [...]``.

    ``(1 - p_t) ** gamma`` times the cross-entropy, with p_t the probability of the target (Lin et
    al., arXiv:1708.02002; Keras's `BinaryFocalCrossentropy`).
    """
    targets = _smoothed(targets, label_smoothing)
    p = jax.nn.sigmoid(logits)
    missed = 1 - (targets * p + (1 - targets) * (1 - p))
    terms = _power(missed, gamma) * optax.sigmoid_binary_cross_entropy(logits, targets)
    return jnp.mean(terms, axis=-1)


def _smoothed(targets: Array, label_smoothing: Array | float) -> Array:
    smooth = jnp.asarray(label_smoothing, targets.dtype)
    return targets * (1 - smooth) + smooth / 2


def _power(base: Array, exponent: Array) -> Array:
    """A power of numbers in [0, 1] whose gradient is finite at 0, where it is taken as 0."""
    return jnp.maximum(base, _EPSILON) ** exponent


def squared_error(outputs: Array, targets: Array) -> Array:
    """Mean squared error over the last axis: ``[..., D], [..., D] -> [...]``."""
    return jnp.mean(jnp.square(outputs - targets), axis=-1)


def absolute_error(outputs: Array, targets: Array) -> Array:
    """Mean absolute error over the last axis: ``[..., D], [..., D] -> [...]``."""
    return jnp.mean(jnp.abs(outputs - targets), axis=-1)


def huber(outputs: Array, targets: Array, delta: Array) -> Array:
    """Half the squared error up to ``delta``, linear beyond; the mean over the last axis.

    References:
      Huber, "Robust Estimation of a Location Parameter", 1964. Keras's `Huber`.
    """
    error = jnp.abs(outputs - targets)
    half = jnp.asarray(0.5, error.dtype)
    inner = jnp.minimum(error, delta)  # its square is finite where the error's is not
    rows = jnp.where(error <= delta, half * jnp.square(inner), delta * error - half * delta**2)
    return jnp.mean(rows, axis=-1)


def log_cosh(outputs: Array, targets: Array) -> Array:
    """``log(cosh(error))``, the mean over the last axis (Keras's `LogCosh`)."""
    error = outputs - targets
    rows = error + jax.nn.softplus(-2 * error) - jnp.log(jnp.asarray(2, error.dtype))
    return jnp.mean(rows, axis=-1)


def pinball(outputs: Array, targets: Array, level: Array) -> Array:
    """The loss whose minimum is the quantile of that level; the mean over the last axis.

    References:
      Koenker and Bassett, "Regression Quantiles", 1978. scikit-learn's `mean_pinball_loss`.
    """
    error = targets - outputs
    return jnp.mean(jnp.maximum(level * error, (level - 1) * error), axis=-1)


def _kernels(params: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]


def l2_penalty(params: Any, l2: Array) -> Array:
    """``l2`` times the sum of squares of all kernels (Keras's ``L2``); biases are left out."""
    return l2 * sum((jnp.sum(jnp.square(leaf)) for leaf in _kernels(params)), jnp.zeros(()))


def add_l2_gradient(grads: Any, params: Any, l2: Array) -> Any:
    """Adds the gradient of `l2_penalty`."""
    return jax.tree.map(lambda g, p: g + 2 * l2 * p if p.ndim > 1 else g, grads, params)
