"""A plan on devices: workers take chunks, train their lanes epoch by epoch, keep the curves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxlstm.grid import program_cache, programs
from jaxlstm.grid.checkpoint import Checkpoint
from jaxlstm.grid.chunk import ChunkRun, Run
from jaxlstm.grid.outcome import INTERRUPTED, LaneRun, Outcome, Progress, curve_names
from jaxlstm.grid.plan import Chunk, Plan
from jaxlstm.grid.space import Problem, Trial

logger = logging.getLogger("jaxlstm")

# Programs with lanes left from which on no other begins: fewer than those that are kept.
MOST_OPEN = 8


class _Queue:
    """Hands out chunks so that no worker waits for a program that another one compiles.

    Programs that nobody has begun to compile go first, then chunks that can start, longest first;
    but while many programs have work left, they end theirs first: not all can stay in memory.
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
                    opened = {c.group for c in self._waiting if c.group in self._begun}
                    first = ready if len(opened) >= MOST_OPEN else new
                    chunk = (first or new or ready)[0]
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


def execute(
    plan: Plan,
    problem: Problem,
    *,
    on_finish: Callable[[Trial, Outcome], Any] | None = None,
    needs_weights: Callable[[Trial], bool] = lambda trial: True,
    progress: Progress | None = None,
    validation_freq: int = 1,
    checkpoint: Checkpoint | None = None,
    begun: Mapping[int, LaneRun] | None = None,
    keep_runs: bool = False,
    keep_weights: bool = False,
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
        are kept in the outcomes.
      needs_weights: whether a trial's weights are looked at; the others' are not fetched.
      progress: told what goes on.
      validation_freq: validate every so many epochs (Keras's name), and after the last.
      checkpoint: where finished trials and lanes in work are saved; what it has is not done again.
      begun: lanes to go on with, by their first trial's index; states at their own width.
      keep_runs: whether outcomes keep their lane, to go on with; one that has stopped has no state.
      keep_weights: whether outcomes keep their weights all the same, and ``checkpoint`` saves them;
        ``needs_weights`` is then to say True.

    Returns:
      Outcomes in the order of the problem's trials.
    """
    outcomes, begun = taken_up(
        plan,
        problem,
        on_finish=on_finish,
        needs_weights=needs_weights,
        progress=progress,
        checkpoint=checkpoint,
        begun=begun,
        keep_weights=keep_weights,
    )

    def finish(trial: Trial, outcome: Outcome) -> None:
        if on_finish:
            waited = program_cache.waited_seconds()
            outcome.scores = on_finish(trial, outcome)
            outcome.compile_seconds += program_cache.waited_seconds() - waited
            if not keep_weights:
                outcome.params = outcome.collections = None
        outcomes[trial.index] = outcome
        if checkpoint:
            checkpoint.add(problem, trial, outcome, keep_weights)
        if progress:
            progress.finished(outcome)

    queue = _Queue(plan.chunks)
    run = Run(
        plan,
        problem,
        validation_freq,
        needs_weights,
        finish,
        progress,
        # Lanes of several processes are not saved.
        checkpoint if jax.process_count() == 1 else None,
        keep_runs,
        begun,
        outcomes,
        queue,
    )
    settings = programs.settings()

    def work() -> None:
        with programs.settings_of(settings):
            while (chunk := queue.take()) is not None:
                ChunkRun(run, chunk).train()
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
    if checkpoint:
        checkpoint.drop_finished(problem, outcomes)
    return in_order(problem, outcomes)


def taken_up(
    plan: Plan,
    problem: Problem,
    *,
    on_finish: Callable[[Trial, Outcome], Any] | None,
    needs_weights: Callable[[Trial], bool],
    progress: Progress | None,
    checkpoint: Checkpoint | None,
    begun: Mapping[int, LaneRun] | None,
    keep_weights: bool,
) -> tuple[dict[int, Outcome], dict[int, LaneRun]]:
    """What there is of a run before it starts: outcomes by trial, lanes in work by their first.

    The arguments are those of `execute`.
    """
    runs = dict(begun or {})
    if checkpoint is None:
        return {}, runs
    outcomes = checkpoint.outcomes(problem, on_finish, needs_weights, keep_weights)
    if progress:
        for outcome in outcomes.values():
            progress.finished(outcome)
    return outcomes, runs | checkpoint.lane_runs(plan, problem, outcomes)


def in_order(problem: Problem, outcomes: Mapping[int, Outcome]) -> list[Outcome]:
    """Outcomes in the order of the problem's trials; those that have none are marked."""

    def interrupted(trial: Trial) -> Outcome:
        names = curve_names(trial.network.structure.task)
        return Outcome(trial.index, {name: [] for name in names}, failed=INTERRUPTED)

    return [outcomes.get(trial.index) or interrupted(trial) for trial in problem.trials]
