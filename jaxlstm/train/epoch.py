"""One epoch of a trial: the walk over its training rows, and the evaluation after it.

The pieces are functions of their own, so that rows may come from a data set on the device or, in
chunks, from the host (`jaxlstm.grid.stream`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm.train import objective, optimizers, schedules, standardization, stopping
from jaxlstm.train.augment import augment_rows
from jaxlstm.train.data import Data, take, without_padding
from jaxlstm.train.hyperparameters import Hyperparameters
from jaxlstm.train.task import Task
from jaxlstm.train.trial import Metrics, Rows, State, Structure, Weights, apply

Array = jax.Array

# Of an epoch's key: numbers 0 and 1 are the shuffle's and dropout's.
_AUGMENT_KEY = 2

# Rows evaluated at a time. Fixed, so that a trial's numbers do not depend on how many rows others
# are validated on.
EVALUATION_BATCH = 128


def _shuffle(key: Array, rows: Array, count: Array) -> Array:
    """Shuffles the first ``count`` of ``rows [N]``; the order does not depend on N."""
    bits = jax.random.bits(key, rows.shape, jnp.uint32)
    is_padding = jnp.arange(rows.shape[0]) >= count
    return lax.sort((is_padding, bits, rows), num_keys=2)[2]


def _take(rows: Array, count: Array, start: Array, end: Array, size: int) -> tuple[Array, Array]:
    """Row numbers ``[size]`` from ``start`` on, and which lie before ``end``; others fill up."""
    position = start + jnp.arange(size)
    return rows[position % jnp.maximum(count, 1)], position < end


class Totals(NamedTuple):
    """Sums over rows, or steps, by their weights."""

    loss: Array  # shape=()
    metrics: Array  # shape=(metrics,)
    mass: Array  # shape=(), of the weights


def no_totals(task: Task, dtype: Any) -> Totals:
    """Sums over no rows."""
    zero = jnp.zeros((), dtype)
    return Totals(zero, jnp.zeros(len(task.METRICS), dtype), zero)


def _network_input(structure: Structure, h: Hyperparameters, x: Array, lengths: Any) -> Array:
    """Rows as the network sees them: standardised, zeros past their length."""
    x = standardization.apply(h.standardization, x)
    return without_padding(x, lengths) if structure.standardizes or structure.augment else x


def evaluation_rows(
    rows: Array, count: Array, batch: Array, size: int = EVALUATION_BATCH
) -> tuple[Array, Array]:
    """Rows of an evaluation batch, ``[size]``, and which of them count."""
    return _take(rows, count, batch * EVALUATION_BATCH, count, size)


def evaluate_batch(
    structure: Structure,
    weights: Weights,
    hyperparameters: Hyperparameters,
    totals: Totals,
    batch: Data,
    valid: Array,
) -> Totals:
    """Adds a batch's valid rows to the totals; the loss has neither L2 nor weights of classes."""
    h = hyperparameters
    x = _network_input(structure, h, batch.x, batch.lengths)
    outputs, _ = apply(structure, h.fields, weights, x, lengths=batch.lengths)
    loss, metrics = structure.task.sums(outputs, batch, valid, h.task, train=False)
    masses = valid.astype(loss.dtype) if batch.mass is None else jnp.where(valid, batch.mass, 0)
    return Totals(totals.loss + loss, totals.metrics + metrics, totals.mass + jnp.sum(masses))


def evaluate(
    structure: Structure,
    weights: Weights,
    hyperparameters: Hyperparameters,
    data: Data,
    rows: Array,
    count: Array,
) -> Totals:
    """Evaluates weights on the first ``count`` of ``rows [N]``."""

    def body(index: Array, totals: Totals, size: int = EVALUATION_BATCH) -> Totals:
        row, valid = evaluation_rows(rows, count, index, size)
        return evaluate_batch(structure, weights, hyperparameters, totals, take(data, row), valid)

    totals = no_totals(structure.task, data.x.dtype)
    whole = whole_batches(
        count, -(-count // EVALUATION_BATCH), EVALUATION_BATCH, structure.evaluation_tails
    )
    totals = lax.fori_loop(0, whole, body, totals)
    for size in structure.evaluation_tails:
        step = functools.partial(body, whole, size=size)
        is_last = count - whole * EVALUATION_BATCH == size
        totals = lax.cond(is_last, step, lambda totals: totals, totals)
    return totals


def whole_batches(count: Any, batches: Any, size: int, tails: tuple[int, ...]) -> Any:
    """How many of the ``batches`` of ``count`` rows have the same ``size``.

    With ``tails`` the last one is not filled up with other rows where rows are left over.
    """
    return jnp.minimum(batches, count // size) if tails else batches


class Walk(NamedTuple):
    """What one micro-batch hands to the next."""

    weights: Weights
    slots: optimizers.Slots
    step: Array
    grads: Any  # of the batch so far
    batch_loss: Array  # of the batch so far
    totals: Totals  # of the epoch so far
    rate: Array


class Pass(NamedTuple):
    """One pass over the training rows, as it is before it begins."""

    order: Array  # shape=(N,), the training rows shuffled
    masses: Any  # shape=(N,), of each batch in turn; None: its number of rows
    n_train: Array  # shape=()
    walks: Array  # shape=(), how many micro-batches
    key: Array  # shape=(), of this epoch's augmentation and dropout
    plateau_rate: Array  # shape=()


def begin_pass(
    structure: Structure,
    state: State,
    hyperparameters: Hyperparameters,
    rows: Rows,
    active: Array,
    dtype: Any,
    mass: Array | None = None,
) -> tuple[Pass, Walk]:
    """Shuffles the training rows; a trial that is not active has no micro-batch to walk.

    ``mass [N]`` is what each row of the data set counts for, see `jaxlstm.train.data.Data`.
    """
    key = jax.random.fold_in(state.key, state.epoch)
    batches, parts = _batches(structure, hyperparameters, rows.n_train)
    last_rows = rows.n_train - (batches - 1) * hyperparameters.batch_size
    walks = (batches - 1) * parts + -(-last_rows // structure.micro_batch)
    zero = jnp.zeros((), dtype)
    walk = Walk(
        weights=state.weights,
        slots=state.slots,
        step=state.step,
        grads=jax.tree.map(jnp.zeros_like, state.weights.params),
        batch_loss=zero,
        totals=no_totals(structure.task, dtype),
        rate=zero,
    )
    order = _shuffle(jax.random.split(key)[0], rows.train, rows.n_train)
    masses = None
    if mass is not None:
        place = jnp.arange(order.shape[0])
        own = jnp.where(place < rows.n_train, mass[order], 0)
        masses = jax.ops.segment_sum(own, place // hyperparameters.batch_size, order.shape[0])
    one = Pass(
        order,
        masses,
        rows.n_train,
        jnp.where(active, walks, 0),
        key,
        state.stopping.plateau_rate,
    )
    return one, walk


def _batches(
    structure: Structure, hyperparameters: Hyperparameters, rows: Array
) -> tuple[Array, Array]:
    """Batches of an epoch, and micro-batches of a batch."""
    size = hyperparameters.batch_size
    return -(-rows // size), -(-size // structure.micro_batch)


def _place(
    structure: Structure, hyperparameters: Hyperparameters, one: Pass, index: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Of a micro-batch: its batch, which part of it, and where in the epoch its first row, its
    batch's first row and its batch's end are.
    """
    _, parts = _batches(structure, hyperparameters, one.n_train)
    batch, part = index // parts, index % parts
    first = batch * hyperparameters.batch_size
    end = first + jnp.minimum(hyperparameters.batch_size, one.n_train - first)
    return batch, part, first + part * structure.micro_batch, first, end


def micro_batch_rows(
    structure: Structure,
    hyperparameters: Hyperparameters,
    one: Pass,
    index: Array,
    size: int | None = None,
) -> Array:
    """Row numbers of a micro-batch, ``[micro_batch or size]``; those beyond its batch do not count."""
    *_, start, _, end = _place(structure, hyperparameters, one, index)
    return _take(one.order, one.n_train, start, end, size or structure.micro_batch)[0]


def walk_micro_batch(
    structure: Structure,
    hyperparameters: Hyperparameters,
    one: Pass,
    index: Array,
    walk: Walk,
    rows: Data,
) -> Walk:
    """Trains on one micro-batch, and steps where it ends its batch.

    A batch is walked in micro-batches, a common size for trials of any batch size. The loss is a sum
    over rows divided by the rows of the batch (over steps or weights: by what they sum to), so the
    gradients of its micro-batches add up to exactly the gradient of the batch; the L2 term joins
    them before the step. ``rows`` may be fewer than a micro-batch: those of a tail.
    """
    size = len(rows.x)
    h = hyperparameters
    x, dtype = rows.x, rows.x.dtype
    batch, part, start, first, end = _place(structure, h, one, index)
    valid = start + jnp.arange(size) < end
    if structure.augment:
        augment_key = jax.random.fold_in(one.key, _AUGMENT_KEY)
        x = augment_rows(structure.augment, augment_key, x, start, rows.lengths)
    x = _network_input(structure, h, x, rows.lengths)
    mass = (end - first).astype(dtype) if one.masses is None else one.masses[batch]
    dropout_key = jax.random.split(one.key)[1]

    def loss_fn(params: Any) -> Any:
        outputs, updated = apply(
            structure,
            h.fields,
            walk.weights._replace(params=params),
            x,
            jax.random.fold_in(dropout_key, batch),
            part * structure.micro_batch,
            rows.lengths,
        )
        loss, metrics = structure.task.sums(outputs, rows, valid, h.task, train=True)
        return loss / mass, (metrics, updated)

    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (metrics, updated)), grads = value_and_grad(walk.weights.params)
    is_first = part == 0
    grads = jax.tree.map(lambda a, g: jnp.where(is_first, g, a + g), walk.grads, grads)
    loss = jnp.where(is_first, loss, walk.batch_loss + loss)
    walk = walk._replace(
        weights=walk.weights._replace(collections=updated),
        grads=grads,
        batch_loss=loss,
        totals=walk.totals._replace(metrics=walk.totals.metrics + metrics),
    )

    def update(walk: Walk) -> Walk:
        params = walk.weights.params
        batches, _ = _batches(structure, h, one.n_train)
        rate = schedules.learning_rate(h, walk.step.astype(dtype) / batches, one.plateau_rate)
        rate = rate.astype(dtype)
        total = objective.add_l2_gradient(walk.grads, params, h.l2)
        loss = walk.batch_loss + objective.l2_penalty(params, h.l2)
        params, slots = optimizers.update(
            h,
            walk.slots,
            total,
            params,
            rate,
            walk.step,
            structure.optimizers,
            structure.undecayed,
        )
        before = walk.totals
        totals = before._replace(loss=before.loss + loss * mass, mass=before.mass + mass)
        return walk._replace(
            weights=walk.weights._replace(params=params),
            slots=slots,
            step=walk.step + 1,
            totals=totals,
            rate=rate,
        )

    return lax.cond(start + size >= end, update, lambda walk: walk, walk)


def train_epoch(
    structure: Structure,
    state: State,
    hyperparameters: Hyperparameters,
    data: Data,
    rows: Rows,
    active: Array,
    validate: Array,
) -> tuple[State, Metrics]:
    """Trains for one epoch over the shuffled training rows, then evaluates on the validation rows.

    The last, short batch is used; its loss is the mean over its own rows. Loss and metrics of
    training are running ones, taken before each step with dropout on, as Keras reports them. Training
    rows are augmented, then standardised; validation rows are standardised alone.

    Args:
      structure: network and micro-batch size.
      state: the trial's state; the data's type is the type it computes in.
      hyperparameters: the trial's traced numbers.
      data: the data set.
      rows: the trial's rows.
      active: whether the trial still trains, shape ``()``; if not, or if it has stopped by itself,
        its state stays as it is.
      validate: whether to evaluate on the validation rows, shape ``()``.

    Returns:
      The new state, and what the epoch gave.
    """
    active = active & ~state.stopping.stopped
    h = hyperparameters
    one, walk = begin_pass(structure, state, h, rows, active, data.x.dtype, data.mass)

    def body(index: Array, walk: Walk, size: int | None = None) -> Walk:
        row = micro_batch_rows(structure, h, one, index, size)
        return walk_micro_batch(structure, h, one, index, walk, take(data, row))

    # A traced trip count: a lane walks its own batches only, and a stopped one none.
    whole = whole_batches(one.n_train, one.walks, structure.micro_batch, structure.tails)
    walk = lax.fori_loop(0, whole, body, walk)
    for size in structure.tails:
        is_last = (whole < one.walks) & (one.n_train - whole * structure.micro_batch == size)
        step = functools.partial(body, whole, size=size)
        walk = lax.cond(is_last, step, lambda walk: walk, walk)
    count = jnp.where(active & validate, rows.n_validation, 0)
    totals = evaluate(structure, walk.weights, h, data, rows.validation, count)
    return finish_epoch(structure, state, h, walk, totals, rows, active, validate)


def finish_epoch(
    structure: Structure,
    state: State,
    hyperparameters: Hyperparameters,
    walk: Walk,
    validated: Totals,
    rows: Rows,
    active: Array,
    validate: Array,
) -> tuple[State, Metrics]:
    """The state after an epoch's walk and evaluation, and what the epoch gave."""
    weights = walk.weights
    n_validation = jnp.where(validate, rows.n_validation, 0)
    penalty = objective.l2_penalty(weights.params, hyperparameters.l2)
    trained = walk.totals
    dtype = trained.loss.dtype
    masses = [jnp.where(totals.mass > 0, totals.mass, 1) for totals in (trained, validated)]
    watched = jnp.concatenate(
        [
            (trained.loss / masses[0])[None],
            trained.metrics / masses[0],
            (validated.loss / masses[1] + penalty)[None],
            validated.metrics / masses[1],
        ]
    ).astype(dtype)
    after = stopping.update(
        hyperparameters,
        state.stopping,
        watched,
        state.epoch,
        n_validation > 0,
        structure.task.monitors,
    )
    # A diverged trial has nothing to gain from further epochs.
    after = after._replace(stopped=after.stopped | ~jnp.isfinite(trained.loss))
    after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, state.stopping)
    improved = after.improved & active
    best = jax.tree.map(lambda new, old: jnp.where(improved, new, old), weights, state.best)
    state = State(weights, best, walk.slots, walk.step, state.epoch + active, after, state.key)
    return state, Metrics(
        *trained,
        *validated,
        penalty,
        walk.rate,
        active,
        improved,
        after.stopped,
    )
