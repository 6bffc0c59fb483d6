"""The lanes of one chunk, epoch by epoch: as lanes end, waiting ones take their slots."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from jaxlstm.grid import processes, program_cache
from jaxlstm.grid.checkpoint import Checkpoint
from jaxlstm.grid.groups import lane_epochs
from jaxlstm.grid.lanes import Devices, Lanes
from jaxlstm.grid.machine import is_out_of_memory, saying
from jaxlstm.grid.outcome import LaneRun, Outcome, Progress
from jaxlstm.grid.plan import Chunk, Plan
from jaxlstm.grid.space import Problem, Trial
from jaxlstm.grid.states import own_state, slot_state, wide_state
from jaxlstm.train.trial import Metrics, State

logger = logging.getLogger("jaxlstm")


class Queue(Protocol):
    """What a chunk needs of the queue that it came from."""

    @property
    def stopped(self) -> bool:
        """Whether the run is to stop."""

    def is_ready(self, group: int) -> None:
        """Says that a group's program is compiled."""


@dataclasses.dataclass
class Run:
    """What the chunks of a run share."""

    plan: Plan
    problem: Problem
    validation_freq: int
    needs_weights: Callable[[Trial], bool]
    finish: Callable[[Trial, Outcome], None]  # scores, saves and reports a trial
    progress: Progress | None
    checkpoint: Checkpoint | None  # where lanes in work are saved
    keep_runs: bool
    begun: Mapping[int, LaneRun]  # by the first trial of their lane
    outcomes: dict[int, Outcome]
    queue: Queue

    def __post_init__(self) -> None:
        devices = jax.devices() if self.plan.layout == "vmap" else jax.local_devices()[:1]
        with saying("the data does not fit on the device: a search has layout='stream' for it"):
            self.devices = Devices(self.problem, self.plan.layout, devices)
        # The host reads an accelerator's metrics an epoch late, so that the device never waits.
        self.late = 0 if devices[0].platform == "cpu" else 1


def _now() -> np.ndarray:
    """Seconds for which this thread has worked, and for which it has waited for programs."""
    return np.array([program_cache.clock(), program_cache.waited_seconds()])


class ChunkRun:
    """Trains the lanes of one chunk: as lanes end, waiting ones take their slots."""

    def __init__(self, run: Run, chunk: Chunk):
        self.run, self.problem, self.chunk = run, run.problem, chunk
        self.group = run.plan.groups[chunk.group]
        self.waiting = deque(self._lane_runs(chunk))
        first = self.problem.trials[chunk.lanes[0].trials[0]]
        self.variant = first.variant
        checkpoint = run.checkpoint
        self.name = checkpoint.chunk_name(self.problem, chunk.lanes) if checkpoint else ""
        x = self.problem.datasets[self.variant].x
        self.row = np.zeros((1, *x.shape[1:]), x.dtype)
        self.slots: list[LaneRun | None] = []
        self.pending: deque[tuple[list[LaneRun | None], np.ndarray, Metrics]] = deque()
        self.since = _now()  # the end of the last epoch
        self.epoch_seconds = 0.0

    def _lane_runs(self, chunk: Chunk) -> Iterator[LaneRun]:
        for lane in chunk.lanes:
            if all(self.problem.trials[place].index in self.run.outcomes for place in lane.trials):
                continue
            first = self.problem.trials[lane.trials[0]].index
            begun = self.run.begun.get(first)
            if begun:
                yield dataclasses.replace(begun, lane=lane)
            else:
                yield LaneRun.new(self.problem, lane)

    def train(self) -> None:
        """Trains all lanes, or stops early where the run is to stop."""
        slots = self.group.slots
        if not self.waiting:
            self._drop_saves()  # of a process that died before it could
        while self.waiting:
            try:
                self._train(slots)
            except jax.errors.JaxRuntimeError as error:
                least = 1 if self.run.devices.mesh is None else self.run.devices.mesh.size
                alone = jax.process_count() == 1  # else others may have had memory
                if not is_out_of_memory(error) or not alone:
                    raise
                if slots <= least:
                    with saying(self._more_memory()):
                        raise
                before, slots = slots, max(least, slots // 2 // least * least)
                logger.warning(
                    "out of memory: %d lanes at a time instead of %d, those in work begin again",
                    slots,
                    before,
                )
                self._begin_again()
            if self.run.queue.stopped:
                return

    def _more_memory(self) -> str:
        """What helps where one lane finds no memory."""
        network = self.problem.trials[self.chunk.lanes[0].trials[0]].network
        cures = [f"use a smaller batch_size than {network.batch_size} or a smaller network"]
        if self.run.plan.layout != "stream":
            cures.append("layout='stream', which keeps the data off the device")
        if self.run.plan.workers > 1:
            cures.append(f"fewer n_jobs than {self.run.plan.workers}")
        cures.append("a memory_limit, so that a search plans for less")
        return "; or ".join(cures)

    def _begin_again(self) -> None:
        """Puts the lanes in work back: their states are lost."""
        self.pending.clear()
        for lane_run in self.slots:
            if lane_run is not None:
                fresh = LaneRun.new(self.problem, lane_run.lane)
                fresh.read = lane_run.read
                self.waiting.appendleft(fresh)
        self.slots = []

    def _train(self, slots: int) -> None:
        run = self.run
        self.slots = [None] * slots
        self.lanes = Lanes(self.problem, self.group, run.devices, self.variant, slots)
        if run.checkpoint:
            run.checkpoint.states.begin(self.name)
        self.since = _now()
        while True:
            self._fill()
            if not any(self.slots):
                break
            self._launch()
            run.queue.is_ready(self.chunk.group)
            while len(self.pending) > (0 if self._reads_now() else run.late):
                self._record()
            now = _now()
            self._share_time(*(now - self.since))
            self.since = now
            self._end_lanes()
            if run.queue.stopped:
                self._save()
                return
            if run.checkpoint and run.checkpoint.states.is_due(self.name):
                with self._aside():
                    self._save()
            self._narrow()
        self._drop_saves()

    def _drop_saves(self) -> None:
        if self.run.checkpoint:
            self.run.checkpoint.states.drop(self.name)

    def _fill(self) -> None:
        free = [slot for slot, taken in enumerate(self.slots) if taken is None]
        if free and self.waiting:
            self.lanes.put(self._entries(free))

    def _entries(self, free: list[int]) -> Iterator[tuple[int, Trial, State]]:
        """Waiting lanes for the free slots, their states made one by one."""
        for slot in free[: len(self.waiting)]:
            lane_run = self.waiting.popleft()
            trial = self._last_trial(lane_run)
            state, lane_run.state = lane_run.state, None
            self.slots[slot] = lane_run
            if state is None:
                state = self.lanes.first_state(trial)
            else:
                state = wide_state(state, trial, self.lanes.structure, self.row)
            yield slot, trial, state

    def _last_trial(self, lane_run: LaneRun) -> Trial:
        return self.problem.trials[lane_run.lane.trials[-1]]

    def _launch(self) -> None:
        active = np.zeros(len(self.slots), bool)
        validate = np.zeros(len(self.slots), bool)
        for slot, lane_run in enumerate(self.slots):
            if lane_run is None:
                continue
            done = lane_run.stopped or lane_run.launched == lane_epochs(self.problem, lane_run.lane)
            if not done:
                lane_run.launched += 1
                active[slot] = True
                validate[slot] = lane_run.is_validated(
                    self.problem, lane_run.launched, self.run.validation_freq
                )
        metrics = self.lanes.train_epoch(active, validate)
        self.pending.append((list(self.slots), validate, metrics))

    def _reads_now(self) -> bool:
        """Whether a trial ends with the epoch just started: its weights are read before the next."""
        return any(
            lane_run is not None and lane_run.launched >= lane_run.next_read(self.problem)
            for lane_run in self.slots
        )

    def _record(self) -> None:
        slots, validate, metrics = self.pending.popleft()
        columns = self.lanes.fetched(metrics)
        for slot, lane_run in enumerate(slots):
            own = Metrics(*(column[slot] for column in columns))
            if lane_run is None or not own.trained:
                continue
            lane_run.record(self.problem, own, bool(validate[slot]))
            if self.run.progress:
                self.run.progress.epoch(self._last_trial(lane_run).index, lane_run.curves)

    def _share_time(self, seconds: float, compile_seconds: float) -> None:
        self.epoch_seconds = seconds
        working = [lane_run for lane_run in self.slots if lane_run is not None]
        for lane_run in working:
            lane_run.seconds += seconds / len(working)
            lane_run.compile_seconds += compile_seconds / len(working)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Its time is no lane's training."""
        start = _now()
        yield
        self.since += _now() - start

    def _end_lanes(self) -> None:
        """Ends the trials that are due and frees the slots of lanes that have none left."""
        states: Any = None
        for slot, lane_run in enumerate(self.slots):
            while lane_run is not None and (
                lane_run.stopped or lane_run.epochs >= lane_run.next_read(self.problem)
            ):
                trial = self.problem.trials[lane_run.lane.trials[lane_run.read]]
                outcome = lane_run.outcome(self.problem, trial, self.run.validation_freq)
                if outcome.failed is None and self.run.needs_weights(trial):
                    states = states if states is not None else self.lanes.states()
                    weights = self.lanes.own_weights(states, slot, trial)
                    outcome.params, outcome.collections = weights
                if self.run.keep_runs:
                    own = None
                    if lane_run.failed is None:
                        states = states if states is not None else self.lanes.states()
                        own = slot_state(states, slot)
                        own = own_state(own, trial, self.lanes.structure, self.row)
                    curves = {name: list(values) for name, values in lane_run.curves.items()}
                    outcome.run = dataclasses.replace(lane_run, curves=curves, state=own)
                lane_run.read += 1
                if trial.index not in self.run.outcomes:
                    with self._aside():
                        self.run.finish(trial, outcome)
                if lane_run.read == len(lane_run.lane.trials):
                    self.slots[slot] = lane_run = None

    def _save(self) -> None:
        """Saves the lanes in work, so that they can go on after the process has died."""
        if self.run.checkpoint is None or not any(self.slots):
            return
        while self.pending:
            self._record()
        self.run.checkpoint.save_lanes(
            self.name, self.problem, self.lanes.structure, self.lanes.states(), self.slots
        )

    def _narrow(self) -> None:
        """Moves the last lanes into a smaller program where that saves more than it costs."""
        mesh = self.run.devices.mesh
        kept = [slot for slot, lane_run in enumerate(self.slots) if lane_run is not None]
        if mesh is None or self.waiting or not kept or len(self.slots) <= mesh.size:
            return
        if 2 * len(kept) > len(self.slots):
            return
        left = max(lane_epochs(self.problem, one.lane) - one.launched for one in self.slots if one)
        saved = left * self.epoch_seconds * (1 - len(kept) / len(self.slots))
        # A matter of clocks: one process decides for all.
        if not processes.from_first(lambda: saved >= 2 * program_cache.seconds_a_program()):
            return
        while self.pending:
            self._record()
        self.lanes = self.lanes.narrowed(self.problem, self.group, self.variant, kept)
        runs = [self.slots[slot] for slot in kept]
        self.slots = runs + [None] * (self.lanes.slots - len(runs))
        self._end_lanes()
