"""Trials -> groups -> chunks: what will be compiled and run, printable before anything runs."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.grid import programs
from jaxlstm.grid.space import Network, Problem, pad_rows
from jaxlstm.train.trial import Structure

# Share of a device's memory that a program may take.
MEMORY_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Group:
    """Trials that share one compiled program."""

    structure: Structure
    variants: tuple[int, ...]
    trials: tuple[int, ...]  # indices into the problem's trials
    lanes: int  # of one program
    bytes: int  # of one running program with its arguments; 0 if not measured

    def describe(self) -> str:
        """The network and the batch size in a line."""
        module = self.structure.module
        hidden = {"parent", "name", *self.structure.traced_fields}
        shown = [
            f"{field.name}={getattr(module, field.name)!r}"
            for field in dataclasses.fields(module)
            if field.name not in hidden and getattr(module, field.name) != field.default
        ]
        return f"{type(module).__name__}({', '.join(shown)}), batch {self.structure.batch_size}"


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Lanes that one call of a program trains."""

    group: int
    trials: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search will compile and run."""

    groups: tuple[Group, ...]
    chunks: tuple[Chunk, ...]  # in the order in which they start: longest first
    layout: str
    workers: int
    devices: int  # how many of the process's devices it uses
    device_kind: str
    cells: int
    folds: int
    data_bytes: int

    @property
    def fits(self) -> int:
        """How many trials train."""
        return sum(len(group.trials) for group in self.groups)

    @property
    def programs(self) -> int:
        """How many training programs it needs."""
        return len(self.groups)

    @property
    def bytes(self) -> int:
        """Most memory that data and running programs take together."""
        largest = sorted((group.bytes for group in self.groups), reverse=True)
        if self.layout == "vmap":
            return self.data_bytes + max(largest, default=0)
        at_once = [size for group in self.groups for size in [group.bytes] * len(group.trials)]
        return self.data_bytes + sum(sorted(at_once, reverse=True)[: self.workers])

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, for a report."""
        return {
            "lanes": self.fits,
            "cells": self.cells,
            "folds": self.folds,
            "programs": self.programs,
            "layout": "one lane at a time" if self.layout == "loop" else "vmap",
            "workers": self.workers,
            "bytes": self.bytes,
            "groups": [
                {
                    "group": index,
                    "structure": group.describe(),
                    "lanes": len(group.trials),
                    "programs": 1,
                    "bytes": group.bytes,
                }
                for index, group in enumerate(self.groups)
            ],
        }

    def __str__(self) -> str:
        if self.layout == "loop":
            cores = f"{self.workers} CPU core{'s' * (self.workers > 1)}"
            how = f"one lane at a time on {'each of ' * (self.workers > 1)}{cores}"
        else:
            how = f"lanes side by side on {self.devices} x {self.device_kind}"
        rows = [("group", "network", "lanes", "a program", "programs", "memory")]
        for index, group in enumerate(self.groups):
            memory = human_bytes(group.bytes) if group.bytes else "not measured"
            lanes = str(len(group.trials))
            rows.append((str(index), group.describe(), lanes, str(group.lanes), "1", memory))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        count = f"{self.programs} program{'s' * (self.programs != 1)}"
        return "\n".join(
            [
                f"{self.fits} fits ({self.cells} cells x {self.folds} folds) as lanes of"
                f" {count}, {how}",
                *table,
                f"memory: {human_bytes(self.bytes)} at most, {human_bytes(self.data_bytes)} of it"
                " the data",
            ]
        )


def human_bytes(count: int) -> str:
    """1536 -> "1.5 kB"."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _tree_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def available_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_workers(n_jobs: int | None) -> int:
    """How many CPU cores to use; scikit-learn's meaning, but None means all of them.

    Raises:
      TypeError: no integer.
      ValueError: 0.
    """
    cores = available_cores()
    if n_jobs is None:
        return cores
    if not isinstance(n_jobs, Integral):
        raise TypeError(f"n_jobs must be an integer or None, got {n_jobs!r}.")
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0: give a number of cores, or -1 or None for all.")
    return int(max(1, cores + 1 + n_jobs) if n_jobs < 0 else n_jobs)


def _train_shapes(
    structure: Structure, problem: Problem, layout: str, lanes: int, network: Network
) -> Any:
    """Shapes of a training program's arguments."""

    def shapes(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), tree
        )

    data = shapes(problem.datasets[0])
    state = programs.state_shape(
        structure, jax.ShapeDtypeStruct((1, *data.x.shape[1:]), data.x.dtype)
    )
    hyperparameters = shapes(network.hyperparameters)
    tables = shapes(pad_rows(problem.folds, len(problem.datasets[0].y)))
    active = jax.ShapeDtypeStruct((), bool)
    if layout == "loop":
        rows = jax.tree.map(
            lambda table: jax.ShapeDtypeStruct(table.shape[1:], table.dtype), tables
        )
        return state, hyperparameters, data, rows, active
    wide = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((lanes, *leaf.shape), leaf.dtype),
        (state, hyperparameters, active),
    )
    return (*wide[:2], data, tables, wide[2], jax.ShapeDtypeStruct((lanes,), jnp.int32))


def _measure(program: Any, data_bytes: int) -> int:
    """Bytes that a running program holds beside the data set."""
    memory = program.memory_analysis()
    if memory is None:
        return 0
    total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return max(0, total - data_bytes)


def _memory_limit(devices: Sequence[Any]) -> int | None:
    stats = [device.memory_stats() or {} for device in devices]
    limits = [stat["bytes_limit"] for stat in stats if "bytes_limit" in stat]
    return int(MEMORY_SHARE * min(limits)) if limits else None


def default_layout(devices: Sequence[Any]) -> str:
    """How lanes run fastest on these devices."""
    return "loop" if devices[0].platform == "cpu" else "vmap"


def make_plan(
    problem: Problem,
    *,
    layout: str = "auto",
    n_jobs: int | None = None,
    measure: bool = True,
    memory_limit: int | None = None,
) -> Plan:
    """Groups trials by structure and cuts the groups into chunks.

    Args:
      problem: the trials and their data.
      layout: "loop", "vmap" or "auto", see `jaxlstm.grid.programs`.
      n_jobs: CPU cores to use with "loop"; all by default.
      measure: whether to compile the programs now, which their memory is read from and which a run
        needs anyway. With "vmap" it also caps the lanes of a program by the device's memory.
      memory_limit: bytes that a program with its data may take on one device; what the device
        reports by default.

    Raises:
      ValueError: an unknown layout.
    """
    devices = tuple(jax.local_devices())
    if layout == "auto":
        layout = default_layout(devices)
    if layout not in programs.LAYOUTS:
        raise ValueError(f"layout must be auto, loop or vmap, got {layout!r}.")
    data_bytes = sum(_tree_bytes(data) for data in problem.datasets)
    limit = memory_limit if memory_limit is not None else _memory_limit(devices)
    members: dict[Any, list[int]] = {}
    for index, trial in enumerate(problem.trials):
        shape = problem.datasets[trial.variant].x.shape
        members.setdefault((trial.network.structure, shape), []).append(index)

    groups = []
    for (structure, _), indices in members.items():
        first = problem.trials[indices[0]]
        one = dataclasses.replace(problem, datasets=[problem.datasets[first.variant]])
        lanes, size = 1, 0
        if layout == "vmap":
            # A chunk's lanes read one version of the data set.
            most = max(Counter(problem.trials[index].variant for index in indices).values())
            lanes = -(-most // len(devices)) * len(devices)
        mesh = programs.lanes_mesh(devices) if layout == "vmap" else None
        while measure:
            args = _train_shapes(structure, one, layout, lanes, first.network)
            program = programs.train_program(structure, layout, args, mesh)
            size = _measure(program, _tree_bytes(one.datasets[0]))
            if mesh is None or limit is None or size + data_bytes <= limit:
                break
            if lanes == len(devices):
                raise ValueError(
                    f"one lane of {type(structure.module).__name__} needs {human_bytes(size)} beside"
                    f" {human_bytes(data_bytes)} of data, more than the {human_bytes(limit)} at"
                    " hand. Use a smaller batch_size or network."
                )
            # Memory is nearly proportional to lanes; the loop measures again.
            share = max(0, limit - data_bytes) / max(size, 1)
            fitting = int(lanes * share) // len(devices) * len(devices)
            lanes = max(len(devices), min(fitting, lanes - len(devices)))
        variants = tuple(sorted({problem.trials[index].variant for index in indices}))
        groups.append(Group(structure, variants, tuple(indices), lanes, size))

    chunks = [
        Chunk(number, tuple(same[start : start + group.lanes]))
        for number, group in enumerate(groups)
        for same in _by_variant(problem, group)
        for start in range(0, len(same), group.lanes)
    ]
    chunks.sort(key=lambda chunk: -_cost(problem, groups[chunk.group], chunk))
    return Plan(
        groups=tuple(groups),
        chunks=tuple(chunks),
        layout=layout,
        workers=resolve_workers(n_jobs) if layout == "loop" else 1,
        devices=len(devices) if layout == "vmap" else 1,
        device_kind=devices[0].device_kind,
        cells=len({trial.cell for trial in problem.trials}),
        folds=len({trial.fold for trial in problem.trials}),
        data_bytes=data_bytes,
    )


def _by_variant(problem: Problem, group: Group) -> list[list[int]]:
    """The group's trials, apart by the version of the data set that they read."""
    parts: dict[int, list[int]] = {variant: [] for variant in group.variants}
    for index in group.trials:
        parts[problem.trials[index].variant].append(index)
    return list(parts.values())


def trial_cost(problem: Problem, index: int) -> float:
    """Relative time of a trial: epochs x rows x weights."""
    trial = problem.trials[index]
    data = problem.datasets[trial.variant]
    x = jax.ShapeDtypeStruct((1, *data.x.shape[1:]), data.x.dtype)
    params = _parameter_count(trial.network.structure, x)
    return float(trial.network.epochs * len(problem.folds[trial.fold].train) * params)


_parameter_counts: dict[Any, int] = {}


def _parameter_count(structure: Structure, x: jax.ShapeDtypeStruct) -> int:
    key = structure.module, x.shape
    if key not in _parameter_counts:
        params = programs.state_shape(structure, x).params
        _parameter_counts[key] = sum(leaf.size for leaf in jax.tree.leaves(params))
    return _parameter_counts[key]


def _cost(problem: Problem, group: Group, chunk: Chunk) -> float:
    return max(trial_cost(problem, index) for index in chunk.trials)
