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


def _cosine(h: Hyperparameters, done: Array) -> Array:
    half = _half_cosine(done)
    half = jnp.where(h.exponent == 1, half, half**h.exponent)
    return h.learning_rate * ((1 - h.alpha) * half + h.alpha)


def _ended(h: Hyperparameters, rate: Array) -> Array:
    """An exponential decay, no further than to its end."""
    return jnp.where(
        h.decay_rate < 1, jnp.maximum(rate, h.end_value), jnp.minimum(rate, h.end_value)
    )


def _piece(h: Hyperparameters, t: Array) -> tuple[Array, Array, Array]:
    """The values that a time lies between, and how far it is from the first to the second."""
    boundaries, values = jnp.asarray(h.boundaries), jnp.asarray(h.values)
    number = jnp.sum(t >= boundaries)
    ends = jnp.concatenate([jnp.zeros_like(boundaries[:1]), boundaries])
    start = ends[number]
    end = ends[jnp.minimum(number + 1, len(boundaries))]
    is_last = ~jnp.isfinite(end) | (end <= start)
    done = jnp.where(is_last, 0, (t - start) / jnp.where(is_last, 1, end - start))
    return values[number], values[jnp.minimum(number + 1, len(boundaries))], done


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


def _linear_one_cycle(h: Hyperparameters, done: Array) -> Array:
    first = h.learning_rate / h.div_factor
    last = first / h.final_div_factor
    zero, one = jnp.zeros_like(h.pct_start), jnp.ones_like(h.pct_start)
    places = jnp.stack([zero, h.pct_start, h.pct_final, one])
    return jnp.interp(done, places, jnp.stack([first, h.learning_rate, first, last]))


def learning_rate(hyperparameters: Hyperparameters, epoch: Array, plateau_rate: Array) -> Array:
    """Learning rate at a time given in epochs.

    With t the epochs since warm-up ended, d = ``epochs - warmup_epochs`` those from there to the
    end, and the names of Keras's schedules:

    - constant: ``learning_rate``
    - step: ``learning_rate * decay_rate ** floor(t / decay_epochs)`` (Keras: staircase)
    - exponential: ``learning_rate * decay_rate ** (t / decay_epochs)``; it and step go no further
      than to ``end_value`` (optax's)
    - inverse_time: ``learning_rate / (1 + decay_rate * t / decay_epochs)``; with ``staircase`` only
      the whole periods of t count
    - polynomial: from ``learning_rate`` to ``end_learning_rate`` in ``decay_epochs``, as
      ``(1 - t / decay_epochs) ** power``; with ``cycle`` the period is the smallest multiple of
      ``decay_epochs`` that t has not passed
    - cosine: ``learning_rate * ((1 - alpha) * ((1 + cos(pi t / d)) / 2) ** exponent + alpha)``. It
      always ends with the training; ``decay_epochs`` plays no part.
    - cosine_restarts: cosines one after another, the first ``decay_epochs`` long, each ``t_mul``
      times as long and ``m_mul`` times as high as the one before, with ``alpha`` as above
    - piecewise: ``values[n]``, with n the number of ``boundaries`` below t
    - piecewise_linear and piecewise_cosine: from ``values[n]`` at boundary n (the first at 0) to the
      next one at the next, in a line or half a cosine, and the last value from then on (optax's
      `piecewise_interpolate_schedule`)
    - onecycle: by half cosines from ``learning_rate / div_factor`` up to ``learning_rate`` at
      ``pct_start * d``, and down to ``learning_rate / div_factor / final_div_factor`` at d
    - linear_onecycle: in lines from ``learning_rate / div_factor`` up to ``learning_rate`` at
      ``pct_start * d``, back at ``pct_final * d``, and down to ``learning_rate / div_factor /
      final_div_factor`` at d (optax's)
    - plateau: ``plateau_rate``

    During warm-up the rate goes in a line from ``warmup_learning_rate`` to what the schedule begins
    with (plateau: to what it stands at).

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
    periods = t / h.decay_epochs
    whole = jnp.floor(periods)
    counted = h.decay_rate * jnp.where(h.staircase, whole * h.decay_epochs, t) / h.decay_epochs
    start, end, between = _piece(h, t)
    rates = {
        "constant": h.learning_rate,
        "step": _ended(h, h.learning_rate * h.decay_rate**whole),
        "exponential": _ended(h, h.learning_rate * h.decay_rate**periods),
        "inverse_time": h.learning_rate / (1 + counted),
        "polynomial": _polynomial(h, t),
        "cosine": _cosine(h, done),
        "cosine_restarts": h.learning_rate * _restarts(h, t),
        "piecewise": jnp.asarray(h.values)[jnp.sum(t > h.boundaries)],
        "onecycle": _one_cycle(h, done),
        "plateau": plateau_rate,
        "linear_onecycle": _linear_one_cycle(h, done),
        "piecewise_linear": start + (end - start) * between,
        "piecewise_cosine": end + (start - end) * _half_cosine(between),
    }
    rate = jnp.stack([jnp.asarray(rates[name], t.dtype) for name in SCHEDULES])[h.schedule]
    warm_up = jnp.where(
        h.warmup_epochs > 0, jnp.minimum(epoch / jnp.maximum(h.warmup_epochs, 1e-6), 1), 1
    )
    start = h.warmup_learning_rate
    return jnp.where(warm_up < 1, start + (rate - start) * warm_up, rate)
