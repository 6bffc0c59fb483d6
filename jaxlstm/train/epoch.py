"""One epoch of a trial: the walk over its training rows, and the evaluation after it.

The pieces are functions of their own, so that rows may come from a data set on the device or, in
chunks, from the host (`jaxlstm.grid.stream`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm.train import objective, optimizers, schedules, standardization, stopping
from jaxlstm.train.augment import augment_rows
from jaxlstm.train.hyperparameters import Hyperparameters
from jaxlstm.train.trial import Data, Metrics, Rows, State, Structure, Weights, apply

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
    """Sums over validation rows, shape=() each."""

    loss: Array  # cross-entropy, without L2 and class weights
    correct: Array


def no_totals(dtype: Any) -> Totals:
    """Sums over no rows."""
    return Totals(jnp.zeros((), dtype), jnp.zeros((), jnp.int32))


def evaluation_rows(rows: Array, count: Array, batch: Array) -> tuple[Array, Array]:
    """Rows of an evaluation batch, ``[EVALUATION_BATCH]``, and which of them count."""
    return _take(rows, count, batch * EVALUATION_BATCH, count, EVALUATION_BATCH)


def evaluate_batch(
    structure: Structure,
    weights: Weights,
    hyperparameters: Hyperparameters,
    totals: Totals,
    batch: Data,
    valid: Array,
) -> Totals:
    """Adds a batch's valid rows to the totals."""
    x = standardization.apply(hyperparameters.standardization, batch.x)
    logits, _ = apply(structure, hyperparameters.fields, weights, x)
    loss = objective.cross_entropy(logits, batch.y, hyperparameters.label_smoothing)
    loss = jnp.sum(jnp.where(valid, loss, 0))
    correct = objective.count_correct(logits, batch.y, valid)
    return Totals(totals.loss + loss, totals.correct + correct)


def evaluate(
    structure: Structure,
    weights: Weights,
    hyperparameters: Hyperparameters,
    data: Data,
    rows: Array,
    count: Array,
) -> Totals:
    """Evaluates weights on the first ``count`` of ``rows [N]``."""

    def body(index: Array, totals: Totals) -> Totals:
        row, valid = evaluation_rows(rows, count, index)
        batch = Data(data.x[row], data.y[row])
        return evaluate_batch(structure, weights, hyperparameters, totals, batch, valid)

    return lax.fori_loop(0, -(-count // EVALUATION_BATCH), body, no_totals(data.x.dtype))


class Walk(NamedTuple):
    """What one micro-batch hands to the next."""

    weights: Weights
    slots: optimizers.Slots
    step: Array
    grads: Any  # of the batch so far
    batch_loss: Array  # of the batch so far
    loss: Array  # of the epoch so far, as is what follows
    correct: Array
    rate: Array


class Pass(NamedTuple):
    """One pass over the training rows, as it is before it begins."""

    order: Array  # shape=(N,), the training rows shuffled
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
) -> tuple[Pass, Walk]:
    """Shuffles the training rows; a trial that is not active has no micro-batch to walk."""
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
        loss=zero,
        correct=jnp.zeros((), jnp.int32),
        rate=zero,
    )
    order = _shuffle(jax.random.split(key)[0], rows.train, rows.n_train)
    plateau_rate = state.stopping.plateau_rate
    return Pass(order, rows.n_train, jnp.where(active, walks, 0), key, plateau_rate), walk


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
    structure: Structure, hyperparameters: Hyperparameters, one: Pass, index: Array
) -> Array:
    """Row numbers of a micro-batch, ``[micro_batch]``; those beyond its batch do not count."""
    *_, start, _, end = _place(structure, hyperparameters, one, index)
    return _take(one.order, one.n_train, start, end, structure.micro_batch)[0]


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
    over rows divided by the rows of the batch, so the gradients of its micro-batches add up to
    exactly the gradient of the batch; the L2 term joins them before the step.
    """
    size = structure.micro_batch
    h = hyperparameters
    x, labels = rows
    dtype = x.dtype
    batch, part, start, first, end = _place(structure, h, one, index)
    valid = start + jnp.arange(size) < end
    if structure.augment:
        x = augment_rows(structure.augment, jax.random.fold_in(one.key, _AUGMENT_KEY), x, start)
    x = standardization.apply(h.standardization, x)
    batch_rows = (end - first).astype(dtype)
    dropout_key = jax.random.split(one.key)[1]

    def loss_fn(params: Any) -> Any:
        logits, updated = apply(
            structure,
            h.fields,
            walk.weights._replace(params=params),
            x,
            jax.random.fold_in(dropout_key, batch),
            part * size,
        )
        loss = objective.loss_sum(logits, labels, valid, h.class_weight, h.label_smoothing)
        return loss / batch_rows, (logits, updated)

    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (logits, updated)), grads = value_and_grad(walk.weights.params)
    is_first = part == 0
    grads = jax.tree.map(lambda a, g: jnp.where(is_first, g, a + g), walk.grads, grads)
    loss = jnp.where(is_first, loss, walk.batch_loss + loss)
    correct = walk.correct + objective.count_correct(logits, labels, valid)
    walk = walk._replace(
        weights=walk.weights._replace(collections=updated),
        grads=grads,
        batch_loss=loss,
        correct=correct,
    )

    def update(walk: Walk) -> Walk:
        params = walk.weights.params
        batches, _ = _batches(structure, h, one.n_train)
        rate = schedules.learning_rate(h, walk.step.astype(dtype) / batches, one.plateau_rate)
        rate = rate.astype(dtype)
        total = objective.add_l2_gradient(walk.grads, params, h.l2)
        loss = walk.batch_loss + objective.l2_penalty(params, h.l2)
        params, slots = optimizers.update(
            h, walk.slots, total, params, rate, walk.step, structure.optimizers
        )
        return walk._replace(
            weights=walk.weights._replace(params=params),
            slots=slots,
            step=walk.step + 1,
            loss=walk.loss + loss * batch_rows,
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

    The last, short batch is used; its loss is the mean over its own rows. Loss and accuracy of
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
    one, walk = begin_pass(structure, state, h, rows, active, data.x.dtype)

    def body(index: Array, walk: Walk) -> Walk:
        row = micro_batch_rows(structure, h, one, index)
        return walk_micro_batch(structure, h, one, index, walk, Data(data.x[row], data.y[row]))

    # A traced trip count: a lane walks its own batches only, and a stopped one none.
    walk = lax.fori_loop(0, one.walks, body, walk)
    count = jnp.where(active & validate, rows.n_validation, 0)
    totals = evaluate(structure, walk.weights, h, data, rows.validation, count)
    return finish_epoch(state, h, walk, totals, rows, active, validate)


def finish_epoch(
    state: State,
    hyperparameters: Hyperparameters,
    walk: Walk,
    totals: Totals,
    rows: Rows,
    active: Array,
    validate: Array,
) -> tuple[State, Metrics]:
    """The state after an epoch's walk and evaluation, and what the epoch gave."""
    weights = walk.weights
    n_validation = jnp.where(validate, rows.n_validation, 0)
    penalty = objective.l2_penalty(weights.params, hyperparameters.l2)
    dtype = walk.loss.dtype
    trained, validated = (jnp.maximum(n, 1).astype(dtype) for n in (rows.n_train, n_validation))
    watched = jnp.stack(
        [
            walk.loss / trained,
            walk.correct / trained,
            totals.loss / validated + penalty,
            totals.correct / validated,
        ]
    ).astype(dtype)
    after = stopping.update(hyperparameters, state.stopping, watched, state.epoch, n_validation > 0)
    # A diverged trial has nothing to gain from further epochs.
    after = after._replace(stopped=after.stopped | ~jnp.isfinite(walk.loss))
    after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, state.stopping)
    improved = after.improved & active
    best = jax.tree.map(lambda new, old: jnp.where(improved, new, old), weights, state.best)
    state = State(weights, best, walk.slots, walk.step, state.epoch + active, after, state.key)
    return state, Metrics(
        walk.loss,
        walk.correct,
        totals.loss,
        totals.correct,
        penalty,
        walk.rate,
        active,
        improved,
        after.stopped,
    )
