"""Learning-rate schedules whose every number may be traced.

Time is counted in epochs, a fraction of one at each optimizer step, so that a schedule means the
same whatever the batch size. Where Keras has the schedule ours equals its, and optax's where those
accept the numbers; optax's branch in Python on step counts, which breaks when a step count is traced.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxlstm.train.hyperparameters import SCHEDULES, Hyperparameters

Array = jax.Array


def _half_cosine(done: Array) -> Array:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + jnp.cos(jnp.pi * done))


def _restarts(h: Hyperparameters, t: Array) -> Array:
    """The factor of cosine annealing with warm restarts."""
    cycles = t / h.decay_epochs  # in lengths of the first cycle
    grows = h.t_mul > 1
    t_mul = jnp.where(grows, h.t_mul, 2)

    def begin(number: Array) -> Array:
        return (t_mul**number - 1) / (t_mul - 1)

    number = jnp.floor(jnp.log1p(cycles * (t_mul - 1)) / jnp.log(t_mul))
    # Where a cycle begins the logarithms may be rounded down to the one before.
    number = jnp.where(begin(number + 1) <= cycles, number + 1, number)
    done = (cycles - begin(number)) / t_mul**number
    number = jnp.where(grows, number, jnp.floor(cycles))
    done = jnp.where(grows, done, cycles - jnp.floor(cycles))
    return (1 - h.alpha) * h.m_mul**number * _half_cosine(done) + h.alpha


def _polynomial(h: Hyperparameters, t: Array) -> Array:
    cycles = t / h.decay_epochs
    length = jnp.where(h.cycle, jnp.maximum(jnp.ceil(cycles), 1), 1)
    left = 1 - jnp.minimum(cycles / length, 1)
    return (h.learning_rate - h.end_learning_rate) * left**h.power + h.end_learning_rate


def _one_cycle(h: Hyperparameters, done: Array) -> Array:
    peak = h.learning_rate
    first = peak / h.div_factor
    last = first / h.final_div_factor
    rise = jnp.clip(done / jnp.maximum(h.pct_start, 1e-6), 0, 1)
    fall = jnp.clip((done - h.pct_start) / jnp.maximum(1 - h.pct_start, 1e-6), 0, 1)
    return jnp.where(
        done < h.pct_start,
        peak + (first - peak) * _half_cosine(rise),
        last + (peak - last) * _half_cosine(fall),
    )


def learning_rate(hyperparameters: Hyperparameters, epoch: Array, plateau_rate: Array) -> Array:
    """Learning rate at a time given in epochs.

    With t the epochs since warm-up ended, d = ``epochs - warmup_epochs`` those from there to the
    end, and the names of Keras's schedules:

    - constant: ``learning_rate``
    - step: ``learning_rate * decay_rate ** floor(t / decay_epochs)`` (Keras: staircase)
    - exponential: ``learning_rate * decay_rate ** (t / decay_epochs)``
    - inverse_time: ``learning_rate / (1 + decay_rate * t / decay_epochs)``
    - polynomial: from ``learning_rate`` to ``end_learning_rate`` in ``decay_epochs``, as
      ``(1 - t / decay_epochs) ** power``; with ``cycle`` the period is the smallest multiple of
      ``decay_epochs`` that t has not passed
    - cosine: ``learning_rate * ((1 - alpha) * (1 + cos(pi t / d)) / 2 + alpha)``. It always ends
      with the training; ``decay_epochs`` plays no part.
    - cosine_restarts: cosines one after another, the first ``decay_epochs`` long, each ``t_mul``
      times as long and ``m_mul`` times as high as the one before, with ``alpha`` as above
    - piecewise: ``values[n]``, with n the number of ``boundaries`` below t
    - onecycle: by half cosines from ``learning_rate / div_factor`` up to ``learning_rate`` at
      ``pct_start * d``, and down to ``learning_rate / div_factor / final_div_factor`` at d
    - plateau: ``plateau_rate``

    During warm-up the rate rises linearly from 0 to what the schedule begins with (plateau: to
    what it stands at).

    Args:
      hyperparameters: of one trial.
      epoch: epochs since training began, shape ``()``, not necessarily whole.
      plateau_rate: the rate that `stopping.Stopping` holds, shape ``()``.

    Returns:
      The learning rate, shape ``()``.

    References:
      Loshchilov and Hutter, "SGDR", arXiv:1608.03983. Smith and Topin, "Super-Convergence",
      arXiv:1708.07120.
    """
    h = hyperparameters
    t = jnp.maximum(epoch - h.warmup_epochs, 0)
    done = jnp.clip(t / jnp.maximum(h.epochs - h.warmup_epochs, 1e-6), 0, 1)
    rates = {
        "constant": h.learning_rate,
        "step": h.learning_rate * h.decay_rate ** jnp.floor(t / h.decay_epochs),
        "exponential": h.learning_rate * h.decay_rate ** (t / h.decay_epochs),
        "inverse_time": h.learning_rate / (1 + h.decay_rate * t / h.decay_epochs),
        "polynomial": _polynomial(h, t),
        "cosine": h.learning_rate * ((1 - h.alpha) * _half_cosine(done) + h.alpha),
        "cosine_restarts": h.learning_rate * _restarts(h, t),
        "piecewise": jnp.asarray(h.values)[jnp.sum(t > h.boundaries)],
        "onecycle": _one_cycle(h, done),
        "plateau": plateau_rate,
    }
    rate = jnp.stack([jnp.asarray(rates[name], t.dtype) for name in SCHEDULES])[h.schedule]
    warm_up = jnp.where(
        h.warmup_epochs > 0, jnp.minimum(epoch / jnp.maximum(h.warmup_epochs, 1e-6), 1), 1
    )
    return rate * warm_up
