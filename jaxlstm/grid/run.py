"""A plan on devices: workers take chunks, train their lanes epoch by epoch, keep the curves."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxlstm.grid import processes, programs
from jaxlstm.grid.groups import lane_epochs
from jaxlstm.grid.lanes import Devices, Lanes, fetch
from jaxlstm.grid.measure import lane_shapes
from jaxlstm.grid.outcome import CURVES, INTERRUPTED, LaneRun, Outcome, Progress
from jaxlstm.grid.plan import Chunk, Plan
from jaxlstm.grid.space import Problem, Trial
from jaxlstm.grid.states import own_state, slot_state, wide_state
from jaxlstm.grid.store import Store
from jaxlstm.train.trial import Metrics, State

logger = logging.getLogger("jaxlstm")


class _Queue:
    """Hands out chunks so that no worker waits for a program that another one compiles.

    Programs that nobody has begun to compile go first, then chunks that can start, longest first.
    """

    def __init__(self, chunks: tuple[Chunk, ...]):
        self._waiting = list(chunks)
        self._begun: set[int] = set()
        self._ready: set[int] = set()
        self._changed = threading.Condition()
        self._stopped = False

    def take(self) -> Chunk | None:
        with self._changed:
            while self._waiting and not self._stopped:
                new = [c for c in self._waiting if c.group not in self._begun]
                ready = [c for c in self._waiting if c.group in self._ready]
                if new or ready:
                    chunk = (new or ready)[0]
                    self._waiting.remove(chunk)
                    self._begun.add(chunk.group)
                    return chunk
                self._changed.wait()
            return None

    def is_ready(self, group: int) -> None:
        with self._changed:
            self._ready.add(group)
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        return self._stopped


@dataclasses.dataclass
class _Run:
    """What the chunks of a run share."""

    plan: Plan
    problem: Problem
    validation_freq: int
    needs_weights: Callable[[Trial], bool]
    finish: Callable[[Trial, Outcome], None]  # scores, saves and reports a trial
    progress: Progress | None
    store: Store | None
    keep_runs: bool
    begun: Mapping[int, LaneRun]  # by the first trial of their lane
    outcomes: dict[int, Outcome]
    queue: _Queue

    def __post_init__(self) -> None:
        devices = jax.devices() if self.plan.layout == "vmap" else jax.local_devices()[:1]
        self.devices = Devices(self.problem, self.plan.layout, devices)
        # The host reads an accelerator's metrics an epoch late, so that the device never waits.
        self.late = 0 if devices[0].platform == "cpu" else 1


class _ChunkRun:
    """Trains the lanes of one chunk: as lanes end, waiting ones take their slots."""

    def __init__(self, run: _Run, chunk: Chunk):
        self.run, self.problem, self.chunk = run, run.problem, chunk
        self.group = run.plan.groups[chunk.group]
        self.waiting = deque(self._lane_runs(chunk))
        first = self.problem.trials[chunk.lanes[0].trials[0]]
        self.variant = first.variant
        self.name = f"chunk-{chunk.group}-{first.index}"
        x = self.problem.datasets[self.variant].x
        self.row = np.zeros((1, *x.shape[1:]), x.dtype)
        self.slots: list[LaneRun | None] = []
        self.pending: deque[tuple[list[LaneRun | None], np.ndarray, Metrics]] = deque()
        self.epoch_seconds = 0.0

    def _lane_runs(self, chunk: Chunk) -> Iterator[LaneRun]:
        for lane in chunk.lanes:
            if all(self.problem.trials[place].index in self.run.outcomes for place in lane.trials):
                continue
            first = self.problem.trials[lane.trials[0]].index
            begun = self.run.begun.get(first)
            yield dataclasses.replace(begun, lane=lane) if begun else LaneRun(lane)

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
                if "RESOURCE_EXHAUSTED" not in str(error) or slots <= least or not alone:
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

    def _begin_again(self) -> None:
        """Puts the lanes in work back: their states are lost."""
        self.pending.clear()
        for lane_run in self.slots:
            if lane_run is not None:
                fresh = LaneRun(lane_run.lane, read=lane_run.read)
                self.waiting.appendleft(fresh)
        self.slots = []

    def _train(self, slots: int) -> None:
        run = self.run
        self.slots = [None] * slots
        self.lanes = Lanes(self.problem, self.group, run.devices, self.variant, slots)
        if run.store:
            run.store.begin(self.key)
        start = time.perf_counter()
        while True:
            self._fill()
            if not any(self.slots):
                break
            self._launch()
            run.queue.is_ready(self.chunk.group)
            while len(self.pending) > (0 if self._reads_now() else run.late):
                self._record()
            now = time.perf_counter()
            self._share_time(now - start)
            start = now
            self._end_lanes()
            if run.queue.stopped:
                self._save()
                return
            if run.store and run.store.is_due(self.key):
                self._save()
            self._narrow()
        self._drop_saves()

    @property
    def key(self) -> str:
        """Name of a save: what it can be read back as depends on the number of slots."""
        return f"{self.name}-{len(self.slots)}"

    def _drop_saves(self, but: str = "") -> None:
        store = self.run.store
        for key in store.saved() if store else []:
            if store and key.startswith(f"{self.name}-") and key != but:
                store.drop(key)

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
        columns = [np.atleast_1d(column) for column in fetch(tuple(metrics))]
        for slot, lane_run in enumerate(slots):
            own = Metrics(*(column[slot] for column in columns))
            if lane_run is None or not own.trained:
                continue
            lane_run.record(self.problem, own, bool(validate[slot]))
            if self.run.progress:
                self.run.progress.epoch(self._last_trial(lane_run).index)

    def _share_time(self, seconds: float) -> None:
        self.epoch_seconds = seconds
        working = [lane_run for lane_run in self.slots if lane_run is not None]
        for lane_run in working:
            lane_run.seconds += seconds / len(working)

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
                    if not lane_run.stopped:
                        states = states if states is not None else self.lanes.states()
                        own = slot_state(states, slot)
                        own = own_state(own, trial, self.lanes.structure, self.row)
                    curves = {name: list(values) for name, values in lane_run.curves.items()}
                    outcome.run = dataclasses.replace(lane_run, curves=curves, state=own)
                lane_run.read += 1
                if trial.index not in self.run.outcomes:
                    self.run.finish(trial, outcome)
                if lane_run.read == len(lane_run.lane.trials):
                    self.slots[slot] = lane_run = None

    def _save(self) -> None:
        """Saves the lanes in work, so that they can go on after the process has died."""
        if self.run.store is None or not any(self.slots):
            return
        while self.pending:
            self._record()
        meta = {
            "lanes": [
                lane_run.to_meta(self.problem) if lane_run else None for lane_run in self.slots
            ],
            "group": self.chunk.group,
        }
        self.run.store.save(self.key, self.lanes.states(), meta)
        self._drop_saves(but=self.key)

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
        if not processes.from_first(lambda: saved >= 2 * programs.seconds_a_program()):
            return
        while self.pending:
            self._record()
        self.lanes = self.lanes.narrowed(self.problem, self.group, self.variant, kept)
        runs = [self.slots[slot] for slot in kept]
        self.slots = runs + [None] * (self.lanes.slots - len(runs))
        self._end_lanes()


def execute(
    plan: Plan,
    problem: Problem,
    *,
    on_finish: Callable[[Trial, Outcome], Any] | None = None,
    needs_weights: Callable[[Trial], bool] = lambda trial: True,
    progress: Progress | None = None,
    validation_freq: int = 1,
    store: Store | None = None,
    begun: Mapping[int, LaneRun] | None = None,
    keep_runs: bool = False,
) -> list[Outcome]:
    """Trains every trial of a plan.

    A lane whose loss is no longer finite stops alone. Where a program finds no memory for its lanes,
    it is tried again with half as many. Ctrl-C saves the lanes in work and returns, with the trials
    that have no result marked.

    Args:
      plan: made from ``problem``.
      problem: trials and data.
      on_finish: called in a worker thread with each finished trial and its outcome, weights
        included; what it returns is kept as ``scores`` and the weights are dropped. Without it they
        are kept.
      needs_weights: whether a trial's weights are looked at; the others' are not fetched.
      progress: told what goes on.
      validation_freq: validate every so many epochs (Keras's name), and after the last.
      store: where finished trials and lanes in work are saved; what it has is not done again.
      begun: lanes to go on with, by their first trial's index; states at their own width.
      keep_runs: whether outcomes keep their lane, to go on with; one that has stopped has no state.

    Returns:
      Outcomes in the order of the problem's trials.
    """
    outcomes, begun = taken_up(plan, problem, progress, store, begun)

    def finish(trial: Trial, outcome: Outcome) -> None:
        if on_finish:
            outcome.scores = on_finish(trial, outcome)
            outcome.params = outcome.collections = None
        outcomes[trial.index] = outcome
        if store:
            store.add(trial.index, outcome.to_record())
        if progress:
            progress.finished(outcome)

    queue = _Queue(plan.chunks)
    run = _Run(
        plan,
        problem,
        validation_freq,
        needs_weights,
        finish,
        progress,
        store if jax.process_count() == 1 else None,  # lanes of several processes are not saved
        keep_runs,
        begun,
        outcomes,
        queue,
    )
    settings = programs.settings()

    def work() -> None:
        with programs.settings_of(settings):
            while (chunk := queue.take()) is not None:
                _ChunkRun(run, chunk).train()
                queue.is_ready(chunk.group)

    workers = max(1, min(plan.workers, len(plan.chunks)))
    pool = ThreadPoolExecutor(workers)
    futures: list[Any] = []
    waits = True
    try:
        for _ in range(workers):
            futures.append(pool.submit(work))
        for future in futures:
            future.add_done_callback(lambda done: queue.stop() if done.exception() else None)
        for future in futures:
            future.result()
    except KeyboardInterrupt:
        # The workers leave after the epoch they are in; a second Ctrl-C does not wait for them.
        waits = False
        queue.stop()
        pool.shutdown(wait=True)
        for future in futures:
            future.result()
    except BaseException:
        queue.stop()
        raise
    finally:
        pool.shutdown(wait=waits)
    return in_order(problem, outcomes)


def taken_up(
    plan: Plan,
    problem: Problem,
    progress: Progress | None,
    store: Store | None,
    begun: Mapping[int, LaneRun] | None,
) -> tuple[dict[int, Outcome], dict[int, LaneRun]]:
    """What there is of a run before it starts: outcomes by trial, lanes in work by their first."""
    runs = dict(begun or {})
    if store is None:
        return {}, runs
    wanted = {trial.index for trial in problem.trials}
    outcomes = {
        index: Outcome.from_record(index, record)
        for index, record in store.finished().items()
        if index in wanted
    }
    if progress:
        for outcome in outcomes.values():
            progress.finished(outcome)
    return outcomes, runs | _saved_runs(plan, problem, store)


def in_order(problem: Problem, outcomes: Mapping[int, Outcome]) -> list[Outcome]:
    """Outcomes in the order of the problem's trials; those that have none are marked."""

    def interrupted(trial: Trial) -> Outcome:
        return Outcome(trial.index, {name: [] for name in CURVES}, failed=INTERRUPTED)

    return [outcomes.get(trial.index) or interrupted(trial) for trial in problem.trials]


def _saved_runs(plan: Plan, problem: Problem, store: Store) -> dict[int, LaneRun]:
    """The lanes that were in work when the process died, by their first trial's index."""
    runs: dict[int, LaneRun] = {}
    places = {trial.index: place for place, trial in enumerate(problem.trials)}
    groups = {place: one for one in plan.groups for place in one.trials}
    for key in store.saved():
        kind, *numbers = key.split("-")
        if kind != "chunk" or int(numbers[1]) not in places:
            continue
        _, index, slots = numbers
        group = groups[places[int(index)]]
        trial = problem.trials[group.lanes[0].trials[0]]
        x = problem.datasets[trial.variant].x
        row = np.zeros((1, *x.shape[1:]), x.dtype)
        like = programs.state_shape(group.structure, trial.network.hyperparameters, row)
        try:
            found = store.load(key, lane_shapes(like, int(slots)))
        except ValueError:  # of another layout and other widths: its lanes begin again
            continue
        if found is None:
            continue
        states, meta = found
        for slot, lane in enumerate(meta["lanes"]):
            first = lane["trials"][0] if lane is not None else None
            if first not in places:
                continue
            if groups[places[first]].structure.module != group.structure.module:
                continue  # padded to a width that its program no longer has
            state = jax.tree.map(lambda leaf, slot=slot: leaf[slot], states)
            found_run = LaneRun.from_meta(lane, places, state)
            if first not in runs or runs[first].epochs < found_run.epochs:
                runs[first] = found_run
    return runs
