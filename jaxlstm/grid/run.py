"""A plan on devices: workers take chunks, train their lanes epoch by epoch, keep the curves."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np

from jaxlstm.grid import programs
from jaxlstm.grid.plan import Chunk, Plan
from jaxlstm.grid.space import Problem, Trial, pad_rows
from jaxlstm.train.trial import Data, Metrics, Rows

#: The columns of a trial's curve, one value an epoch.
CURVES = (
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
)


@dataclasses.dataclass
class Outcome:
    """What came of one trial."""

    trial: int
    curves: dict[str, list[float]]
    params: Any = None
    collections: Any = None
    fit_seconds: float = 0.0  # its share of the chunk's training time
    failed: str | None = None  # why it has no result
    scores: Any = None  # what `on_finish` returned

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.curves["train_loss"])


class Progress(Protocol):
    """What a run tells while it goes on; called from worker threads."""

    def epoch(self, trial: int) -> None:
        """A trial has trained one more epoch."""

    def finished(self, outcome: Outcome) -> None:
        """A trial is done, scores included."""


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


class _Lanes:
    """The arguments of a chunk's program; the two layouts differ only here."""

    def __init__(self, run: _Run, chunk: Chunk):
        plan, problem = run.plan, run.problem
        self.chunk = chunk
        group = plan.groups[chunk.group]
        self.trials = [problem.trials[index] for index in chunk.trials]
        self.structure = group.structure
        self.layout, self.mesh = plan.layout, run.mesh
        variant = self.trials[0].variant
        # A program's lanes are a fixed number: the last chunk is filled up with idle ones.
        filled = self.trials + [self.trials[0]] * (group.lanes - len(self.trials))
        row = np.zeros(
            (1, *problem.datasets[variant].x.shape[1:]), problem.datasets[variant].x.dtype
        )
        states = [programs.init_state(self.structure, row, trial.seed) for trial in filled]
        numbers = [trial.network.hyperparameters for trial in filled]
        data = run.data[variant]
        if self.layout == "loop":
            self._state = states[0]
            self._rows = run.rows[self.trials[0].fold]
            self._before = (jax.device_put(numbers[0]), data)
            self._after: tuple[Any, ...] = ()
        else:
            stack = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *states)
            self._state = programs.on_lanes(self.mesh, stack)
            hp = jax.tree.map(lambda *leaves: np.stack(leaves), *numbers)
            fold = np.asarray([trial.fold for trial in filled], np.int32)
            self._rows = run.tables
            self._before = (programs.on_lanes(self.mesh, hp), data)
            self._after = (programs.on_lanes(self.mesh, fold),)
        self.active = np.zeros(len(filled), bool)
        self.active[: len(self.trials)] = True
        # No validation rows: a traced count, so the same program leaves validation out.
        self._no_validation = self._rows._replace(n_validation=self._rows.n_validation * 0)
        self._program = programs.train_program(
            self.structure, self.layout, self._args(validate=True), self.mesh
        )

    def _args(self, validate: bool) -> tuple[Any, ...]:
        if self.layout == "loop":
            active: Any = np.asarray(self.active[0])
        else:
            active = programs.on_lanes(self.mesh, self.active.copy())
        rows = self._rows if validate else self._no_validation
        return (self._state, *self._before, rows, active, *self._after)

    def train_epoch(self, validate: bool) -> Metrics:
        """Starts one epoch of all active lanes; does not wait for it."""
        self._state, metrics = self._program(*self._args(validate))
        return metrics

    def variables(self, lane: int) -> tuple[Any, Any]:
        """Parameters and collections of a lane, on the host."""
        tree = self._state.params, self._state.collections
        if self.layout == "loop":
            return jax.tree.map(np.asarray, tree)
        return jax.tree.map(lambda leaf: np.asarray(leaf[lane]), tree)


class _Run:
    def __init__(
        self, plan: Plan, problem: Problem, progress: Progress | None, validation_freq: int
    ):
        self.validation_freq = validation_freq
        self.plan, self.problem, self.progress = plan, problem, progress
        devices = jax.local_devices()[: plan.devices]
        self.mesh = programs.lanes_mesh(devices) if plan.layout == "vmap" else None
        tables = pad_rows(problem.folds, len(problem.datasets[0].y))
        if self.mesh is None:
            self.data = [jax.device_put(data, devices[0]) for data in problem.datasets]
            self.rows = [
                jax.device_put(Rows(*(table[fold] for table in tables)), devices[0])
                for fold in range(len(problem.folds))
            ]
        else:
            self.data = [Data(*programs.on_all(self.mesh, data)) for data in problem.datasets]
            self.tables = programs.on_all(self.mesh, tables)
        # The host reads an accelerator's metrics an epoch late, so that the device never waits.
        self.late = 0 if plan.layout == "loop" else 1

    def train(self, lanes: _Lanes, queue: _Queue) -> list[Outcome]:
        outcomes = [Outcome(trial.index, {name: [] for name in CURVES}) for trial in lanes.trials]
        epochs = np.asarray([trial.network.epochs for trial in lanes.trials])
        pending: deque[tuple[np.ndarray, Metrics]] = deque()
        start = time.perf_counter()
        for epoch in range(int(epochs.max())):
            lanes.active[: len(epochs)] &= epochs > epoch
            if queue.stopped or not lanes.active.any():
                break
            validate = any(self._is_validated(trial, epoch + 1) for trial in lanes.trials)
            pending.append((lanes.active.copy(), lanes.train_epoch(validate)))
            if len(pending) > self.late:
                self._record(lanes, outcomes, *pending.popleft())
        while pending:
            self._record(lanes, outcomes, *pending.popleft())
        seconds = (time.perf_counter() - start) / len(outcomes)
        for lane, outcome in enumerate(outcomes):
            outcome.fit_seconds = seconds
            outcome.params, outcome.collections = lanes.variables(lane)
        return outcomes

    def _is_validated(self, trial: Trial, epoch: int) -> bool:
        """Whether a trial is validated after this epoch; its score comes from the last one."""
        return epoch % self.validation_freq == 0 or epoch == trial.network.epochs

    def _record(
        self, lanes: _Lanes, outcomes: list[Outcome], active: np.ndarray, metrics: Metrics
    ) -> None:
        sums = [np.atleast_1d(np.asarray(value, float)) for value in metrics]
        for lane, outcome in enumerate(outcomes):
            if not active[lane] or outcome.failed:
                continue
            trial = lanes.trials[lane]
            fold = self.problem.folds[trial.fold]
            loss, correct, val_loss, val_correct, penalty, rate = (total[lane] for total in sums)
            rows, val_rows = len(fold.train), len(fold.validation)
            if not self._is_validated(trial, outcome.epochs + 1):
                val_rows, val_loss = 0, 0.0  # evaluated, if at all, for a lane beside it
            values = (
                rate,
                loss / rows,
                correct / rows,
                val_loss / val_rows + penalty if val_rows else np.nan,
                val_correct / val_rows if val_rows else np.nan,
            )
            for name, value in zip(CURVES, values, strict=True):
                outcome.curves[name].append(float(value))
            checked = [loss, penalty, val_loss]
            if not np.isfinite(checked).all():
                outcome.failed = f"the loss is not finite after epoch {outcome.epochs}"
                lanes.active[lane] = False
            if self.progress:
                self.progress.epoch(outcome.trial)


@contextlib.contextmanager
def _settings_of(caller: dict[str, Any]) -> Iterator[None]:
    """JAX's context managers act on one thread: the workers take over the caller's settings."""
    with (
        jax.enable_x64(caller["jax_enable_x64"]),
        jax.default_matmul_precision(caller["jax_default_matmul_precision"]),
        jax.numpy_rank_promotion(caller["jax_numpy_rank_promotion"]),
    ):
        yield


def execute(
    plan: Plan,
    problem: Problem,
    *,
    on_finish: Callable[[Outcome], Any] | None = None,
    progress: Progress | None = None,
    validation_freq: int = 1,
) -> list[Outcome]:
    """Trains every trial of a plan.

    A lane whose loss is no longer finite stops alone.

    Args:
      plan: made from ``problem``.
      problem: trials and data.
      on_finish: called in a worker thread with each finished outcome, weights included; what it
        returns is kept as ``scores`` and the weights are dropped. Without it they are kept.
      progress: told what goes on.
      validation_freq: validate every so many epochs (Keras's name), and after the last.

    Returns:
      Outcomes in the order of the problem's trials.
    """
    run = _Run(plan, problem, progress, validation_freq)
    queue = _Queue(plan.chunks)
    outcomes: dict[int, Outcome] = {}
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_rank_promotion")
    caller = {name: getattr(jax.config, name) for name in names}

    def work() -> None:
        with _settings_of(caller):
            while (chunk := queue.take()) is not None:
                lanes = _Lanes(run, chunk)
                queue.is_ready(chunk.group)
                for outcome in run.train(lanes, queue):
                    if queue.stopped:
                        return
                    if on_finish:
                        outcome.scores = on_finish(outcome)
                        outcome.params = outcome.collections = None
                    outcomes[outcome.trial] = outcome
                    if progress:
                        progress.finished(outcome)

    workers = max(1, min(plan.workers, len(plan.chunks)))
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        try:
            for future in futures:
                future.add_done_callback(lambda done: queue.stop() if done.exception() else None)
            for future in futures:
                future.result()
        except BaseException:
            # Ctrl-C or an error: the other workers leave after the epoch they are in.
            queue.stop()
            raise
    return [outcomes[index] for index in range(len(problem.trials))]
