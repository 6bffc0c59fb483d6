"""What a compiled program takes: bytes, and seconds of a micro-batch."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.grid import programs
from jaxlstm.grid.program_cache import Memory
from jaxlstm.grid.space import Problem, Trial, pad_rows
from jaxlstm.train.data import Data
from jaxlstm.train.trial import Rows, Structure


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _shapes(tree: Any, *lead: int) -> Any:
    def shape(leaf: Any) -> Any:
        dtype = getattr(leaf, "dtype", None)
        dtype = dtype if dtype is not None else jnp.result_type(leaf)
        return jax.ShapeDtypeStruct((*lead, *np.shape(leaf)), dtype)

    return jax.tree.map(shape, tree)


def lane_shapes(tree: Any, slots: int) -> Any:
    """Shapes of a tree's leaves with a leading lane axis."""
    return _shapes(tree, slots)


def state_bytes(problem: Problem, trial: Trial, structure: Structure) -> int:
    """Bytes of one lane's state."""
    x = problem.datasets[trial.variant].x
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    state = programs.state_shape(structure, _shapes(trial.network.hyperparameters), row)
    words: Any = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return tree_bytes(state._replace(key=words))


def arguments_for(
    problem: Problem, trial: Trial, structure: Structure, layout: str, slots: int
) -> Any:
    """The shapes of the arguments of a group's training program.

    Args:
      problem: its data and row lists.
      trial: one of the group.
      structure: the group's.
      layout: see `programs.train_program`.
      slots: lanes of the program.
    """
    data = _shapes(problem.datasets[trial.variant])
    numbers = _shapes(trial.network.hyperparameters)
    row = jax.ShapeDtypeStruct((1, *data.x.shape[1:]), data.x.dtype)
    state = programs.state_shape(structure, numbers, row)
    tables = _shapes(pad_rows(problem.folds, len(problem.datasets[0].y)))
    flag = jax.ShapeDtypeStruct((), bool)
    if layout == "loop":
        rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tables)
        return state, numbers, data, rows, flag, flag
    state, numbers, flag = _shapes((state, numbers, flag), slots)
    fold = jax.ShapeDtypeStruct((slots,), jnp.int32)
    return state, numbers, data, tables, flag, flag, fold


def running_bytes(memory: Memory | None, data: Data, at_once: int = 1) -> int:
    """Bytes that a running program holds beside the data set; 0 where its memory is not known.

    ``at_once`` epochs are in flight: an accelerator has its temporary arrays for each.
    """
    if memory is None:
        return 0
    total = memory.arguments + memory.outputs + memory.temporary * at_once - memory.shared
    return max(0, total - tree_bytes(data))


def with_memory(plan: Any, problem: Problem) -> Any:
    """A plan of lanes one at a time, with the memory of the programs that have run."""

    def measured(one: Any) -> Any:
        first = problem.trials[one.lanes[0].trials[0]]
        args = arguments_for(problem, first, one.structure, "loop", 1)
        memory = programs.train_memory(one.structure, "loop", args)
        data = problem.datasets[first.variant]
        return dataclasses.replace(one, bytes=running_bytes(memory, data))

    return dataclasses.replace(plan, groups=tuple(measured(one) for one in plan.groups))


def micro_batch_seconds(
    program: Any, args: Any, structure: Structure, layout: str, mesh: Any
) -> float:
    """Seconds of a micro-batch of all the program's lanes, its share of an optimizer step included.

    The number of training rows is traced, so the program itself is run, on weights and rows of
    zeros, for a few micro-batches; the difference of two lengths leaves the rest of an epoch out.
    """
    size = structure.micro_batch

    def zeros(leaf: Any) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            key = programs.random_key(0)
            return jnp.broadcast_to(key, leaf.shape)
        return np.zeros(leaf.shape, leaf.dtype)

    def place(tree: Any, is_lanes: bool) -> Any:
        if mesh is None:
            return jax.device_put(tree)
        return programs.on_lanes(mesh, tree) if is_lanes else programs.on_all(mesh, tree)

    _, numbers, data, rows, *rest = jax.tree.map(zeros, args)
    numbers = numbers._replace(
        batch_size=np.full_like(numbers.batch_size, size),
        decay_epochs=numbers.decay_epochs + 1,
        standardization=jax.tree.map(np.ones_like, numbers.standardization),
    )
    numbers = numbers._replace(
        task={
            name: np.ones_like(number) if name == "target_scale" else number
            for name, number in numbers.task.items()
        }
    )
    if data.lengths is not None:
        data = data._replace(lengths=np.full_like(data.lengths, data.x.shape[1]))
    ones = jax.tree.map(np.ones_like, (data.weight, data.mass))
    data = data._replace(weight=ones[0], mass=ones[1])
    numbers = place(numbers, True)
    data = Data(*place(data, False))
    on = place(np.ones_like(rest[0]), True)
    off = place(np.zeros_like(rest[1]), True)
    fold = [place(one, True) for one in rest[2:]]

    def run(walks: int) -> float:
        state = place(jax.tree.map(zeros, args[0]), True)
        count = walks * size + sum(structure.tails[:1])
        some = rows._replace(n_train=np.full_like(rows.n_train, count))
        table = Rows(*place(some, False))
        start = time.perf_counter()
        with jax.debug_nans(False):  # zeros may be divided by zeros
            jax.block_until_ready(program(state, numbers, data, table, on, off, *fold))
        return time.perf_counter() - start

    first = run(1)
    few = min(run(1), run(1)) if first < 1 else first
    if few > 1:
        return few
    many = min(run(5), run(5))
    # A busy machine may make five look shorter than one; then the rest of an epoch stays in.
    return (many - few) / 4 if many > few else many / 5
