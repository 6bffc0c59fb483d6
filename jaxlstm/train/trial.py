"""One trial as pure functions: state in, state out.

Shapes: ``N`` rows of the data set, ``B`` batch size, ``C`` classes. Everything that a trial needs
to go on is in its state, its random key included; the data set is shared and a trial holds row
numbers.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm.train import objective, optimizers, schedules
from jaxlstm.train.hyperparameters import Hyperparameters

Array = jax.Array

# Rows evaluated at a time. Fixed, so that a trial's numbers do not depend on how many rows others
# are validated on.
EVALUATION_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Structure:
    """What shapes a program: trials of equal structure share it. Hashable."""

    module: nn.Module  # its traced fields hold placeholders
    batch_size: int
    traced_fields: tuple[str, ...] = ()


class Data(NamedTuple):
    """The data set, on the device once."""

    x: Any  # shape=(N, ...)
    y: Any  # shape=(N,), dtype=int32


class Rows(NamedTuple):
    """Which rows a trial trains on and is validated on; each list is padded to N."""

    train: Any  # shape=(N,), dtype=int32
    n_train: Any  # shape=(), dtype=int32
    validation: Any  # shape=(N,), dtype=int32
    n_validation: Any  # shape=(), dtype=int32


class State(NamedTuple):
    """State of a trial between epochs."""

    params: Any
    collections: Any  # the network's other variables, such as batch statistics
    slots: optimizers.Slots
    step: Array  # shape=(), dtype=int32, optimizer steps done
    epoch: Array  # shape=(), dtype=int32, epochs done
    key: Array  # shape=(), the trial's own random key


class Metrics(NamedTuple):
    """Sums over the rows of one epoch, shape=() each; the host divides, in float64."""

    train_loss: Array
    train_correct: Array
    validation_loss: Array
    validation_correct: Array
    penalty: Array  # the L2 term at the end of the epoch
    learning_rate: Array  # at the last step


def mode_argument(module: nn.Module, train: bool) -> dict[str, Any]:
    """How this network is told whether it trains: ``train``, ``training`` or ``deterministic``."""
    names = inspect.signature(type(module).__call__).parameters
    for name in ("train", "training"):
        if name in names:
            return {name: train}
    return {"deterministic": not train} if "deterministic" in names else {}


def init(structure: Structure, x: Array, key: Array) -> State:
    """Draws a trial's first state.

    Args:
      structure: network and batch size.
      x: one row of the data set, ``[1, ...]``; only shape and type matter. The state is of its
        type, whatever type the network draws its weights in.
      key: the trial's random key.

    Returns:
      The state before the first epoch.
    """
    init_key, key = jax.random.split(key)
    module = structure.module
    variables = dict(
        module.init(
            {"params": init_key, "dropout": init_key}, x, **mode_argument(module, train=False)
        )
    )
    dtype = jnp.result_type(x, float)
    variables = jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        variables,
    )
    params = variables.pop("params", {})
    zero = jnp.zeros((), jnp.int32)
    return State(params, variables, optimizers.init(params), zero, zero, key)


def apply(
    structure: Structure, fields: Any, params: Any, collections: Any, x: Array, key: Any = None
) -> tuple[Array, Any]:
    """Logits ``[B, C]`` and the updated collections; in training mode when given a key."""
    module = structure.module.clone(**{name: fields[name] for name in structure.traced_fields})
    variables = {"params": params, **collections}
    if key is None:
        logits: Any = module.apply(variables, x, **mode_argument(module, train=False))
        return logits, collections
    logits, collections = module.apply(
        variables,
        x,
        **mode_argument(module, train=True),
        rngs={"dropout": key},
        mutable=list(collections),
    )
    return logits, dict(collections)


def _shuffle(key: Array, rows: Array, count: Array) -> Array:
    """Shuffles the first ``count`` of ``rows [N]``; the order does not depend on N."""
    bits = jax.random.bits(key, rows.shape, jnp.uint32)
    is_padding = jnp.arange(rows.shape[0]) >= count
    return lax.sort((is_padding, bits, rows), num_keys=2)[2]


def _batch(rows: Array, count: Array, index: Array, size: int) -> tuple[Array, Array]:
    """Row numbers ``[size]`` of a batch, and which are its own; real rows fill up the last one."""
    position = index * size + jnp.arange(size)
    return rows[position % jnp.maximum(count, 1)], position < count


def evaluate(
    structure: Structure,
    state: State,
    hyperparameters: Hyperparameters,
    data: Data,
    rows: Array,
    count: Array,
) -> tuple[Array, Array]:
    """Evaluates a trial on the first ``count`` of ``rows [N]``.

    Returns:
      The summed cross-entropy (without L2 and class weights) and the number of correct rows.
    """

    def body(index: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        row, valid = _batch(rows, count, index, EVALUATION_BATCH)
        labels = data.y[row]
        logits, _ = apply(
            structure, hyperparameters.fields, state.params, state.collections, data.x[row]
        )
        loss = jnp.sum(jnp.where(valid, objective.cross_entropy(logits, labels), 0))
        return totals[0] + loss, totals[1] + objective.count_correct(logits, labels, valid)

    start = jnp.zeros((), data.x.dtype), jnp.zeros((), jnp.int32)
    return lax.fori_loop(0, -(-count // EVALUATION_BATCH), body, start)


def train_epoch(
    structure: Structure,
    state: State,
    hyperparameters: Hyperparameters,
    data: Data,
    rows: Rows,
    active: Array,
) -> tuple[State, Metrics]:
    """Trains for one epoch over the shuffled training rows, then evaluates on the validation rows.

    The last, short batch is used; its loss is the mean over its own rows. Loss and accuracy of
    training are running ones, taken before each step with dropout on, as Keras reports them.

    Args:
      structure: network and batch size.
      state: the trial's state; the data's type is the type it computes in.
      hyperparameters: the trial's traced numbers.
      data: the data set.
      rows: the trial's rows.
      active: whether the trial still trains, shape ``()``; if not, its state stays as it is.

    Returns:
      The new state, and the epoch's sums.
    """
    size = structure.batch_size
    key = jax.random.fold_in(state.key, state.epoch)
    shuffle_key, dropout_key = jax.random.split(key)
    order = _shuffle(shuffle_key, rows.train, rows.n_train)
    steps = -(-rows.n_train // size)
    dtype = data.x.dtype

    def body(index: Array, carry: Any) -> Any:
        params, collections, slots, step, loss_sum, correct, _ = carry
        row, valid = _batch(order, rows.n_train, index, size)
        x, labels = data.x[row], data.y[row]

        def loss_fn(params: Any) -> Any:
            logits, updated = apply(
                structure,
                hyperparameters.fields,
                params,
                collections,
                x,
                jax.random.fold_in(dropout_key, index),
            )
            loss = objective.batch_loss(logits, labels, valid, hyperparameters.class_weight)
            loss = loss + objective.l2_penalty(params, hyperparameters.l2)
            return loss, (logits, updated)

        (loss, (logits, updated)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        rate = schedules.learning_rate(hyperparameters, step.astype(dtype) / steps).astype(dtype)
        params, slots = optimizers.update(hyperparameters, slots, grads, params, rate, step)
        loss_sum = loss_sum + loss * jnp.sum(valid)
        correct = correct + objective.count_correct(logits, labels, valid)
        return params, updated, slots, step + 1, loss_sum, correct, rate

    zero = jnp.zeros((), dtype)
    carry = (
        state.params,
        state.collections,
        state.slots,
        state.step,
        zero,
        jnp.zeros((), jnp.int32),
        zero,
    )
    # A traced trip count: a lane walks its own batches only, and a stopped one none.
    params, collections, slots, step, loss_sum, correct, rate = lax.fori_loop(
        0, jnp.where(active, steps, 0), body, carry
    )
    state = State(params, collections, slots, step, state.epoch + active, state.key)
    validation_loss, validation_correct = evaluate(
        structure,
        state,
        hyperparameters,
        data,
        rows.validation,
        jnp.where(active, rows.n_validation, 0),
    )
    penalty = objective.l2_penalty(params, hyperparameters.l2)
    return state, Metrics(loss_sum, correct, validation_loss, validation_correct, penalty, rate)
