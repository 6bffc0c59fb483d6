"""What a trial minimises and what it reports, with Keras's conventions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def cross_entropy(logits: Array, labels: Array, label_smoothing: Array | float = 0.0) -> Array:
    """Softmax cross-entropy of each row: ``[B, C], [B] -> [B]``, in nats.

    ``label_smoothing`` s turns a label's 1 into ``1 - s + s / C`` and the other 0s into ``s / C``
    (Szegedy et al., arXiv:1512.00567; Keras's `CategoricalCrossentropy`).
    """
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # -mean(log p), written so that s = 0 leaves the first term alone, an infinite logit apart.
    uniform = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)
    smooth = jnp.asarray(label_smoothing, hard.dtype)
    return jnp.where(smooth > 0, (1 - smooth) * hard + smooth * uniform, hard)


def _kernels(params: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]


def l2_penalty(params: Any, l2: Array) -> Array:
    """``l2`` times the sum of squares of all kernels (Keras's ``L2``); biases are left out."""
    return l2 * sum((jnp.sum(jnp.square(leaf)) for leaf in _kernels(params)), jnp.zeros(()))


def add_l2_gradient(grads: Any, params: Any, l2: Array) -> Any:
    """Adds the gradient of `l2_penalty`."""
    return jax.tree.map(lambda g, p: g + 2 * l2 * p if p.ndim > 1 else g, grads, params)


def loss_sum(
    logits: Array, labels: Array, valid: Array, class_weight: Array, label_smoothing: Array
) -> Array:
    """Weighted loss summed over the valid rows.

    Class weights scale each row's loss; a batch's loss is the sum by the number of its rows, as in
    Keras.

    Args:
      logits: ``[B, C]``.
      labels: ``[B]``, integers.
      valid: ``[B]``, False for rows that only fill the batch up.
      class_weight: ``[C]``.
      label_smoothing: see `cross_entropy`, shape ``()``.

    Returns:
      The sum, shape ``()``.
    """
    weighted = cross_entropy(logits, labels, label_smoothing) * class_weight[labels]
    return jnp.sum(jnp.where(valid, weighted, 0))


def count_correct(logits: Array, labels: Array, valid: Array) -> Array:
    """How many valid rows have their largest logit at the label, shape ``()``, dtype int32."""
    return jnp.sum(valid & (jnp.argmax(logits, -1) == labels), dtype=jnp.int32)
