"""What a trial minimises and what it reports, with Keras's conventions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Softmax cross-entropy of each row: ``[B, C], [B] -> [B]``, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def l2_penalty(params: Any, l2: Array) -> Array:
    """``l2`` times the sum of squares of all kernels (Keras's ``L2``); biases are left out."""
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    return l2 * sum((jnp.sum(jnp.square(leaf)) for leaf in kernels), jnp.zeros(()))


def batch_loss(logits: Array, labels: Array, valid: Array, class_weight: Array) -> Array:
    """Mean loss of a batch.

    Class weights scale each row's loss and the sum is divided by the number of rows, as in Keras.

    Args:
      logits: ``[B, C]``.
      labels: ``[B]``, integers.
      valid: ``[B]``, False for rows that only fill the batch up.
      class_weight: ``[C]``.

    Returns:
      The loss, shape ``()``.
    """
    weighted = cross_entropy(logits, labels) * class_weight[labels]
    return jnp.sum(jnp.where(valid, weighted, 0)) / jnp.maximum(jnp.sum(valid), 1)


def count_correct(logits: Array, labels: Array, valid: Array) -> Array:
    """How many valid rows have their largest logit at the label, shape ``()``, dtype int32."""
    return jnp.sum(valid & (jnp.argmax(logits, -1) == labels), dtype=jnp.int32)
