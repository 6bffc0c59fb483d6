"""Learning-rate schedules whose every number may be traced.

Time is counted in epochs, a fraction of one at each optimizer step, so that a schedule means the
same whatever the batch size. Where optax's schedules accept the numbers, ours equal them; theirs branch
in Python on step counts, which breaks when a step count is traced.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxlstm.train.hyperparameters import SCHEDULES, Hyperparameters

Array = jax.Array


def learning_rate(hyperparameters: Hyperparameters, epoch: Array) -> Array:
    """Learning rate at a time given in epochs.

    With t the epochs since warm-up ended, and the names of Keras's schedules:

    - constant: ``learning_rate``
    - cosine: ``learning_rate * ((1 - alpha) * (1 + cos(pi t / d)) / 2 + alpha)`` with
      d = ``epochs - warmup_epochs``
    - step: ``learning_rate * decay_rate ** floor(t / decay_epochs)`` (Keras: staircase)
    - exponential: ``learning_rate * decay_rate ** (t / decay_epochs)``

    During warm-up the rate rises linearly from 0 to ``learning_rate``.

    Args:
      hyperparameters: of one trial.
      epoch: epochs since training began, shape ``()``, not necessarily whole.

    Returns:
      The learning rate, shape ``()``.
    """
    h = hyperparameters
    t = jnp.maximum(epoch - h.warmup_epochs, 0)
    done = jnp.clip(t / jnp.maximum(h.epochs - h.warmup_epochs, 1e-6), 0, 1)
    factors = {
        "constant": jnp.ones_like(t),
        "cosine": (1 - h.alpha) * 0.5 * (1 + jnp.cos(jnp.pi * done)) + h.alpha,
        "step": h.decay_rate ** jnp.floor(t / h.decay_epochs),
        "exponential": h.decay_rate ** (t / h.decay_epochs),
    }
    factor = jnp.stack([factors[name] for name in SCHEDULES])[h.schedule]
    warm_up = jnp.where(
        h.warmup_epochs > 0, jnp.minimum(epoch / jnp.maximum(h.warmup_epochs, 1e-6), 1), 1
    )
    return h.learning_rate * factor * warm_up
