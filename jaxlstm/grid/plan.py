"""Trials -> groups -> chunks: what will be compiled and run, printable before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxlstm.grid import measure as measuring
from jaxlstm.grid import programs
from jaxlstm.grid.describe import describe, human_bytes, human_seconds
from jaxlstm.grid.groups import (
    Lane,
    Sharing,
    group,
    lane_cost,
    lane_epochs,
    lane_walks,
    padded_share,
    share_runs,
)
from jaxlstm.grid.html import plan_html
from jaxlstm.grid.machine import memory_at_hand, resolve_workers
from jaxlstm.grid.program_cache import Memory
from jaxlstm.grid.space import Problem
from jaxlstm.grid.stream import chunk_bytes
from jaxlstm.train.trial import Structure

# Lanes of one program at most: beyond, nothing is gained. On a CPU lanes side by side soon no longer
# fit the cache (benchmarks/NOTES.md).
MOST_LANES = {"cpu": 32, "gpu": 1024, "tpu": 1024}

LAYOUT_NAMES = {
    "loop": "one lane at a time",
    "vmap": "vmap",
    "stream": "one lane at a time, streamed",
}

# Seconds of estimated work from which on it is worth compiling both layouts and timing them.
WORTH_TIMING = 1800.0


@dataclasses.dataclass(frozen=True)
class Group:
    """Lanes that share one compiled program."""

    structure: Structure
    lanes: tuple[Lane, ...]
    slots: int  # lanes that the program holds at a time
    bytes: int  # of one running program with its arguments; 0 if not measured
    seconds: float | None  # of one micro-batch of all slots; None if not timed
    padding: float  # share of the arithmetic that only pads
    state_bytes: int  # of one lane's state

    @property
    def trials(self) -> tuple[int, ...]:
        """Places in the problem's trials."""
        return tuple(place for lane in self.lanes for place in lane.trials)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Lanes of one group that one worker trains; as they end, others take their slots."""

    group: int
    lanes: tuple[Lane, ...]  # longest first


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search will compile and run."""

    groups: tuple[Group, ...]
    chunks: tuple[Chunk, ...]  # in the order in which they start: longest first
    descriptions: tuple[str, ...]  # of the groups
    layout: str
    workers: int
    devices: int  # how many devices it uses
    device_kind: str
    cells: int
    folds: int
    fits: int
    data_bytes: int  # of the data set on each device
    host_bytes: int  # of settings, curves and scores
    seconds: float | None  # estimated time of the training; None if not timed

    @property
    def lanes(self) -> int:
        """How many runs train: no more than fits, as trials may share one."""
        return sum(len(group.lanes) for group in self.groups)

    @property
    def programs(self) -> int:
        """How many training programs it needs."""
        return len(self.groups)

    @property
    def padding(self) -> float:
        """Share of all arithmetic that only pads, between 0 and 1; groups count by their lanes."""
        return sum(one.padding * len(one.lanes) for one in self.groups) / max(1, self.lanes)

    @property
    def bytes(self) -> int:
        """Most memory that data and running programs take together."""
        largest = sorted((group.bytes for group in self.groups), reverse=True)
        if self.layout == "vmap":
            return self.data_bytes + max(largest, default=0)
        at_once = [size for group in self.groups for size in [group.bytes] * len(group.lanes)]
        return self.data_bytes + sum(sorted(at_once, reverse=True)[: self.workers])

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, for a report."""
        return {
            "fits": self.fits,
            "lanes": self.lanes,
            "cells": self.cells,
            "folds": self.folds,
            "programs": self.programs,
            "layout": LAYOUT_NAMES[self.layout],
            "workers": self.workers,
            "bytes": self.bytes,
            "host_bytes": self.host_bytes,
            "padding": self.padding,
            "estimated_seconds": self.seconds,
            "groups": [
                {
                    "group": index,
                    "structure": self.descriptions[index],
                    "fits": len(group.trials),
                    "lanes": len(group.lanes),
                    "at_once": group.slots,
                    "programs": 1,
                    "bytes": group.bytes,
                    "padding": group.padding,
                }
                for index, group in enumerate(self.groups)
            ],
        }

    def __str__(self) -> str:
        head, rows, last = self._words()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([head, *table, *last])

    def _repr_html_(self) -> str:
        return plan_html(*self._words())

    def _words(self) -> tuple[str, list[tuple[str, ...]], list[str]]:
        """The first sentence, the table's rows with its heads, and the lines below."""
        if self.layout != "vmap":
            cores = f"{self.workers} CPU core{'s' * (self.workers > 1)}"
            how = f"one lane at a time on {'each of ' * (self.workers > 1)}{cores}"
            if self.layout == "stream":
                how += ", its data in chunks from the host"
        else:
            how = f"lanes side by side on {self.devices} x {self.device_kind}"
        rows: list[tuple[str, ...]] = [
            ("group", "network", "fits", "lanes", "at once", "padding", "memory")
        ]
        for index, one in enumerate(self.groups):
            rows.append(
                (
                    str(index),
                    self.descriptions[index],
                    str(len(one.trials)),
                    str(len(one.lanes)),
                    str(one.slots),
                    f"{one.padding:.0%}",
                    human_bytes(one.bytes) if one.bytes else "not measured",
                )
            )
        last = [
            f"memory: {human_bytes(self.bytes)} at most, {human_bytes(self.data_bytes)} of it"
            f" the data; {human_bytes(self.host_bytes)} for settings and curves"
        ]
        if self.seconds is not None:
            last.append(f"time: about {human_seconds(self.seconds)} of training, as timed just now")
        head = (
            f"{_count(self.fits, 'fit')} ({_count(self.cells, 'cell')} x"
            f" {_count(self.folds, 'fold')}{self._repeats()}) as {_count(self.lanes, 'lane')} of"
            f" {_count(self.programs, 'program')}, {how}"
        )
        return head, rows, last

    def _repeats(self) -> str:
        repeats = self.fits // max(1, self.cells * self.folds)
        return f" x {repeats} seeds" if repeats > 1 else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def default_layout(problem: Problem, memory_limit: int | None = None) -> str:
    """How lanes run as a rule: side by side on an accelerator, one at a time on a CPU.

    Data that is more than the limit (80 % of what a device has free) streams from the host.
    """
    devices = jax.devices()
    limit = memory_at_hand(devices) if memory_limit is None else memory_limit
    if limit is not None and sum(map(measuring.tree_bytes, problem.datasets)) > limit:
        return "stream"
    return "loop" if devices[0].platform == "cpu" else "vmap"


def make_plan(
    problem: Problem,
    *,
    layout: str = "auto",
    n_jobs: int | None = None,
    measure: bool | None = True,
    memory_limit: int | None = None,
    validation_freq: int = 1,
    shares_widths: bool = False,
) -> Plan:
    """Groups trials by the program that they share and cuts the groups into chunks.

    Args:
      problem: the trials and their data.
      layout: "loop", "vmap", "stream" or "auto", see `jaxlstm.grid.programs`. "auto" is the usual
        one, unless the work is long: then "loop" and "vmap" are compiled and timed.
      n_jobs: CPU cores to use with "loop"; all by default.
      measure: whether to compile the programs now, read their memory and time a few micro-batches;
        a run needs the programs anyway. With "vmap" it also caps the lanes of a program by memory.
        None: with "vmap" alone.
      memory_limit: bytes that a program with its data may take on one device; 80 % of what it has
        free by default.
      validation_freq: see `jaxlstm.grid.run.execute`.
      shares_widths: whether lanes that run one at a time may be padded to share a program, too.

    Raises:
      ValueError: an unknown layout, or a lane that does not fit into memory or ``memory_limit``.
    """
    devices = tuple(jax.devices())
    if layout not in ("auto", *programs.LAYOUTS):
        raise ValueError(f"layout must be auto, loop, vmap or stream, got {layout!r}.")
    workers = resolve_workers(n_jobs)
    may_choose = layout == "auto"
    make = _Planner(
        problem, devices, workers, memory_limit, validation_freq, may_choose, shares_widths
    )
    if layout != "auto":
        return make.plan(layout, measure)
    if jax.process_count() > 1:
        return make.plan("vmap", measure)
    usual = default_layout(problem, memory_limit)
    if usual == "stream":
        return make.plan(usual, measure)
    if measure is False or not make.is_long(usual):
        return make.plan(usual, measure)
    plans = [make.plan(one, measure=True) for one in (usual, *{"loop", "vmap"} - {usual})]
    return min(plans, key=lambda plan: plan.seconds or 0.0)


@dataclasses.dataclass
class _Planner:
    problem: Problem
    devices: tuple[Any, ...]
    workers: int
    memory_limit: int | None
    validation_freq: int
    may_choose: bool = False  # whether the layout is for the planner to choose
    shares_widths: bool = False  # whether lanes in a loop may be padded

    def __post_init__(self) -> None:
        self.given_limit = self.memory_limit
        self.platform = self.devices[0].platform
        self.data_bytes = sum(measuring.tree_bytes(data) for data in self.problem.datasets)
        if self.memory_limit is None:
            self.memory_limit = memory_at_hand(self.devices)
        self.lanes = share_runs(self.problem, self.validation_freq)

    def is_long(self, usual: str) -> bool:
        """Whether the work is worth timing both layouts: so much of it, and lanes to share it."""
        if len(self.lanes) < 2 * self.workers:
            return False
        speed = 2e10 if usual == "loop" else 1e12  # what small products reach, on the low side
        shape = self.problem.datasets[0].x.shape[1:]
        steps = shape[0] if len(shape) > 1 else 1
        arithmetic = sum(lane_cost(self.problem, lane) for lane in self.lanes) * 6 * steps
        return arithmetic / speed > WORTH_TIMING

    def plan(self, layout: str, measure: bool | None) -> Plan:
        if measure is None:
            measure = layout == "vmap"
        problem = self.problem
        mesh = programs.lanes_mesh(self.devices) if layout == "vmap" else None
        sharings = group(problem, self.lanes, layout, self.platform, self.shares_widths)
        settings = programs.settings()

        def build(one: Sharing) -> Group:
            with programs.settings_of(settings):
                return self._group(one, layout, mesh, measure)

        # Programs compile side by side.
        with ThreadPoolExecutor(self.workers if measure else 1) as pool:
            groups = list(pool.map(build, sharings))
        self._check_limit(groups, layout)
        chunks = []
        for number, one in enumerate(groups):
            for lanes in self._by_variant(one.lanes):
                lanes.sort(key=lambda lane: -lane_cost(problem, lane))
                if layout != "vmap":
                    chunks += [Chunk(number, (lane,)) for lane in lanes]
                else:
                    chunks.append(Chunk(number, tuple(lanes)))
        chunks.sort(key=lambda chunk: -lane_cost(problem, chunk.lanes[0]))
        return Plan(
            groups=tuple(groups),
            chunks=tuple(chunks),
            descriptions=tuple(describe(problem, one.structure, one.lanes) for one in groups),
            layout=layout,
            workers=self.workers if layout != "vmap" else 1,
            devices=len(self.devices) if layout == "vmap" else 1,
            device_kind=self.devices[0].device_kind,
            cells=len({trial.cell for trial in problem.trials}),
            folds=len({trial.fold for trial in problem.trials}),
            fits=len(problem.trials),
            data_bytes=0 if layout == "stream" else self.data_bytes,
            host_bytes=self._host_bytes(),
            seconds=self._seconds(groups, layout),
        )

    def _group(self, one: Sharing, layout: str, mesh: Any, measure: bool) -> Group:
        slots, size, seconds = 1, 0, None
        copies = 0 if mesh is None else 2 if self.platform == "cpu" else 1
        first = self.problem.trials[one.lanes[0].trials[0]]
        state = measuring.state_bytes(self.problem, first, one.structure)
        least = len(self.devices)
        if mesh is not None:
            # The lanes of a program read one version of the data set.
            most = max(len(lanes) for lanes in self._by_variant(one.lanes))
            most = min(most, least * MOST_LANES.get(self.platform, 1024))
            slots = -(-most // least) * least
        if layout == "stream":
            data = self.problem.datasets[first.variant]
            size = 3 * state + chunk_bytes(data, one.structure.micro_batch)
            measure = False
        while measure:
            args = measuring.arguments_for(self.problem, first, one.structure, layout, slots)
            program = programs.train_program(one.structure, layout, args, mesh)
            data, at_once = self.problem.datasets[first.variant], 1 if self.platform == "cpu" else 2
            size = measuring.running_bytes(Memory.of(program), data, at_once)
            # New lanes are put together beside the states of those in work.
            size += copies * slots * state
            limit = self.memory_limit
            if mesh is None or limit is None or size + self.data_bytes <= limit:
                seconds = measuring.micro_batch_seconds(program, args, one.structure, layout, mesh)
                break
            if slots == least:
                raise ValueError(
                    f"one lane of {type(one.structure.module).__name__} needs {human_bytes(size)}"
                    f" beside {human_bytes(self.data_bytes)} of data, more than the"
                    f" {human_bytes(limit)} at hand. Use a smaller batch_size or network."
                )
            # Memory is nearly proportional to lanes; the loop measures again.
            share = max(0, limit - self.data_bytes) / max(size, 1)
            fitting = int(slots * share) // least * least
            slots = max(least, min(fitting, slots - least))
        return Group(
            one.structure,
            one.lanes,
            slots,
            size,
            seconds,
            padded_share(self.problem, one),
            state,
        )

    def _check_limit(self, groups: Sequence[Group], layout: str) -> None:
        """Refuses a limit below what one lane takes at the very least."""
        if self.given_limit is None:
            return
        largest = max(groups, key=lambda one: max(one.bytes, one.state_bytes))
        taken = max(largest.bytes, largest.state_bytes)
        least = taken if layout == "stream" else taken + self.data_bytes
        if layout == "stream" and self.may_choose:  # chunks can be larger than all the data
            least = min(least, largest.state_bytes + self.data_bytes)
        if least > self.given_limit:
            raise ValueError(
                f"memory_limit={self.given_limit} is less than one lane of"
                f" {type(largest.structure.module).__name__} needs with its data: give {least} bytes"
                f" ({human_bytes(least)}) at the least, or None for what is free."
            )

    def _by_variant(self, lanes: Sequence[Lane]) -> list[list[Lane]]:
        """Lanes apart by the version of the data set that they read."""
        parts: dict[int, list[Lane]] = {}
        for lane in lanes:
            parts.setdefault(self.problem.trials[lane.trials[0]].variant, []).append(lane)
        return list(parts.values())

    def _host_bytes(self) -> int:
        """Measured: an estimator and a network a cell, an outcome and its curves a trial."""
        cells = len({trial.cell for trial in self.problem.trials})
        curves = sum(160 * trial.network.epochs for trial in self.problem.trials)
        return 12_000 * cells + 1600 * len(self.problem.trials) + curves

    def _seconds(self, groups: Sequence[Group], layout: str) -> float | None:
        """Training time by the timed micro-batches; validation costs about a third a row."""
        total = 0.0
        for one in groups:
            if one.seconds is None:
                return None
            size = one.structure.micro_batch
            walks = [lane_walks(self.problem, lane, size) for lane in one.lanes]
            for lane in one.lanes:
                trial = self.problem.trials[lane.trials[0]]
                rows = len(self.problem.folds[trial.rows].validation)
                epochs = lane_epochs(self.problem, lane)
                walks.append(round(epochs / self.validation_freq * rows / size / 3))
            at_once = self.workers if layout != "vmap" else one.slots
            total += one.seconds * max(sum(walks) / at_once, max(walks))
        return total
