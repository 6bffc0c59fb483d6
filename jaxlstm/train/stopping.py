"""When a trial stops, which epoch's weights it keeps, and the plateau schedule: Keras's callbacks.

One pure step an epoch, with every number traced, in place of EarlyStopping, ModelCheckpoint and
ReduceLROnPlateau.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlstm.train.hyperparameters import METRICS, Hyperparameters, signs

Array = jax.Array


class Stopping(NamedTuple):
    """State of a trial's monitors; shape=() each.

    The best values are times their metric's sign (less is better), inf while there is none.
    """

    best: Array  # of early stopping's monitor
    wait: Array  # dtype=int32, monitored epochs since
    stopped: Array  # dtype=bool, whether the trial has ended early
    improved: Array  # dtype=bool, whether the last epoch's weights are the ones to keep
    kept_best: Array  # inf: no epoch's weights were to be kept so far
    plateau_best: Array
    plateau_wait: Array  # dtype=int32
    plateau_cooldown: Array  # dtype=int32, epochs left of it
    plateau_rate: Array  # the learning rate, before warm-up, that the plateau schedule stands at


def init(hyperparameters: Hyperparameters, dtype: Any) -> Stopping:
    """Returns the state before the first epoch, its numbers of type ``dtype``."""
    best, zero, no = jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    rate = jnp.asarray(hyperparameters.learning_rate, dtype)
    return Stopping(best, zero, no, no, best, best, zero, zero, rate)


def _read(
    metrics: Array, monitors: Sequence[str], monitor: Array, validated: Array
) -> tuple[Array, Array]:
    """The monitored metric, and whether there is one."""
    needs_validation = jnp.asarray([name.startswith("val_") for name in monitors])
    return metrics[monitor], validated | ~needs_validation[monitor]


def update(
    hyperparameters: Hyperparameters,
    stopping: Stopping,
    metrics: Array,
    epoch: Array,
    validated: Array,
    monitors: Sequence[str] = METRICS,
) -> Stopping:
    """Looks at one epoch's metrics.

    As Keras's EarlyStopping, ModelCheckpoint (``save_best_only``) and ReduceLROnPlateau do at the
    end of an epoch, the last two in mode "auto". Apart from them: a metric that is NaN or infinite
    is never an improvement (to Keras a first NaN is the best there can be), weights are not kept for
    want of a metric (ModelCheckpoint saves those of an epoch without one), and a trial that has
    stopped stays as it is.

    Which weights to keep: with ``best_monitor`` -1 those of every improvement by ``min_delta`` that
    early stopping counts, from ``start_from_epoch`` on; else those of that metric's best epoch. This
    does not depend on ``restore_best_weights``: whether to use them is the caller's affair.

    Args:
      hyperparameters: of one trial.
      stopping: the state after the epoch before.
      metrics: of this epoch, in the order of ``monitors``.
      epoch: epochs done before this one, shape ``()``, dtype int32.
      validated: whether the validation metrics were computed, shape ``()``, dtype bool. If not, what
        monitors one of them stays as it is, its waiting too.
      monitors: names of the metrics, `jaxlstm.train.task.Task.monitors`.

    Returns:
      The new state.
    """
    h, s = hyperparameters, stopping
    dtype = s.best.dtype
    metrics = metrics.astype(dtype)
    signed = metrics * jnp.asarray(signs(monitors), dtype)

    value, known = _read(metrics, monitors, h.monitor, validated)
    value = value * h.mode
    counts = known & (epoch >= h.start_from_epoch)
    better = counts & jnp.isfinite(value) & (value + h.min_delta < s.best)
    best = jnp.where(better, value, s.best)
    wait = jnp.where(better & (value + h.min_delta < h.baseline), 0, s.wait + counts)
    ends = h.early_stopping & counts & ~better & (wait >= h.patience) & (epoch > 0)

    value, known = _read(signed, monitors, jnp.maximum(h.best_monitor, 0), validated)
    own = known & jnp.isfinite(value) & (value < s.kept_best)
    improved = jnp.where(h.best_monitor < 0, better, own)
    kept_best = jnp.where(h.best_monitor < 0, best, jnp.where(own, value, s.kept_best))

    value, known = _read(signed, monitors, h.plateau_monitor, validated)
    better = jnp.isfinite(value) & (value + h.plateau_min_delta < s.plateau_best)
    cooldown = jnp.maximum(s.plateau_cooldown - 1, 0)
    waits = ~better & (cooldown == 0)
    plateau_wait = jnp.where(better, 0, s.plateau_wait + waits)  # 0 all through a cooldown
    reduces = waits & (plateau_wait >= h.plateau_patience) & (s.plateau_rate > h.min_lr)
    reduced = jnp.maximum(s.plateau_rate * h.plateau_factor, h.min_lr)
    looked = Stopping(
        best,
        wait,
        ends,
        improved,
        kept_best,
        jnp.where(known & better, value, s.plateau_best),
        jnp.where(known, jnp.where(reduces, 0, plateau_wait), s.plateau_wait),
        jnp.where(known, jnp.where(reduces, h.cooldown, cooldown), s.plateau_cooldown),
        jnp.where(known & reduces, reduced, s.plateau_rate),
    )
    unchanged = s._replace(improved=jnp.zeros_like(s.improved))
    return jax.tree.map(
        lambda new, was: jnp.asarray(jnp.where(s.stopped, was, new), was.dtype), looked, unchanged
    )
