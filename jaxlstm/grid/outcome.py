"""What comes of a trial, and the curve of the lane that it is read from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxlstm.grid.groups import Lane
from jaxlstm.grid.space import Problem, Trial
from jaxlstm.train.task import Task
from jaxlstm.train.trial import Metrics, State


def curve_names(task: Task) -> tuple[str, ...]:
    """The columns of a trial's curve, one value an epoch."""
    own = ("loss", *task.METRICS)
    return ("learning_rate", *(f"train_{name}" for name in own), *(f"val_{name}" for name in own))


#: Why a trial has no result when the user broke the run off.
INTERRUPTED = "interrupted"


@dataclasses.dataclass
class Outcome:
    """What came of one trial."""

    trial: int
    curves: dict[str, list[float]]
    params: Any = None
    collections: Any = None
    fit_seconds: float = 0.0  # its share of the lanes' training time, once compiled
    compile_seconds: float = 0.0  # its share of the time for which its lanes waited for programs
    failed: str | None = None  # why it has no result
    scores: Any = None  # what `on_finish` returned
    last: int = -1  # place in the curves of the epoch whose weights it ended with
    stopped_early: bool = False
    run: Any = None  # the lane's `LaneRun`, where it is to go on later

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.curves["train_loss"])

    @property
    def status(self) -> str:
        """One of "ok", "failed" and "interrupted"."""
        if self.failed == INTERRUPTED:
            return INTERRUPTED
        return "failed" if self.failed else "ok"

    def to_record(self) -> dict[str, Any]:
        """Everything but the weights, as plain data."""
        return {
            "curves": self.curves,
            "fit_seconds": self.fit_seconds,
            "compile_seconds": self.compile_seconds,
            "failed": self.failed,
            "scores": self.scores,
            "last": self.last,
            "stopped_early": self.stopped_early,
        }

    @classmethod
    def from_record(cls, trial: int, record: dict[str, Any]) -> Outcome:
        """The reverse of `to_record`."""
        return cls(trial, **record)


class Progress(Protocol):
    """What a run tells while it goes on; called from worker threads."""

    def epoch(self, trial: int, curves: Mapping[str, Sequence[float]]) -> None:
        """The lane whose last trial this is has trained one more epoch; its curves up to there."""

    def finished(self, outcome: Outcome) -> None:
        """A trial is done, scores included."""


@dataclasses.dataclass
class LaneRun:
    """A lane on its way: what the host knows of it."""

    lane: Lane
    curves: dict[str, list[float]]
    seconds: float = 0.0
    compile_seconds: float = 0.0  # since a trial of the lane ended
    best: int = -1  # place in the curves of the best epoch so far
    launched: int = 0  # epochs started, of which the host may not have seen the last
    read: int = 0  # trials of the lane that are done
    stopped: bool = False
    failed: str | None = None
    state: State | None = None  # to go on from; None: from the beginning

    @property
    def epochs(self) -> int:
        """Epochs that the host has seen."""
        return len(self.curves["train_loss"])

    @classmethod
    def new(cls, problem: Problem, lane: Lane, state: State | None = None) -> LaneRun:
        """A lane before its first epoch, from a state of its own if there is one."""
        task = problem.trials[lane.trials[0]].network.structure.task
        return cls(lane, {name: [] for name in curve_names(task)}, state=state)

    def next_read(self, problem: Problem) -> int:
        """Epochs after which the next of the lane's trials ends."""
        return problem.trials[self.lane.trials[self.read]].network.epochs

    def is_validated(self, problem: Problem, epoch: int, validation_freq: int) -> bool:
        """Whether it is validated after this epoch; a trial's score comes from its last one."""
        return epoch % validation_freq == 0 or any(
            problem.trials[place].network.epochs == epoch for place in self.lane.trials
        )

    def record(self, problem: Problem, metrics: Metrics, validated: bool) -> None:
        """Adds one epoch; ``metrics`` are this lane's numbers."""
        fold = problem.folds[problem.trials[self.lane.trials[0]].rows]
        validated = validated and len(fold.validation) > 0
        loss, penalty = float(metrics.train_loss), float(metrics.penalty)
        val_loss = float(metrics.validation_loss) if validated else 0.0
        mass, val_mass = float(metrics.train_mass), float(metrics.validation_mass)
        values = [float(metrics.learning_rate), loss / mass]
        values += [float(total) / mass for total in metrics.train_metrics]
        if validated:
            values.append(val_loss / val_mass + penalty)
            values += [float(total) / val_mass for total in metrics.validation_metrics]
        else:
            values += [np.nan] * (1 + len(metrics.validation_metrics))
        if metrics.improved:
            self.best = self.epochs
        for column, value in zip(self.curves.values(), values, strict=True):
            column.append(value)
        if not np.isfinite([loss, penalty, val_loss]).all():
            self.failed = f"the loss is not finite after epoch {self.epochs}"
        self.stopped = bool(metrics.stopped) or self.failed is not None

    def outcome(self, problem: Problem, trial: Trial, validation_freq: int) -> Outcome:
        """What comes of a trial that ends here."""
        curves = {name: list(values) for name, values in self.curves.items()}
        for name in (name for name in curves if name.startswith("val_")):
            for place in range(len(curves[name])):
                # Evaluated for another trial of the lane.
                if (place + 1) % validation_freq and place + 1 != trial.network.epochs:
                    curves[name][place] = np.nan
        keeps_best = trial.network.keeps_best and self.best >= 0
        compile_seconds, self.compile_seconds = self.compile_seconds, 0.0
        return Outcome(
            trial.index,
            curves,
            fit_seconds=self.seconds,
            compile_seconds=compile_seconds,
            failed=self.failed,
            last=self.best if keeps_best else self.epochs - 1,
            stopped_early=self.stopped and not self.failed and self.epochs < trial.network.epochs,
        )

    def to_meta(self) -> dict[str, Any]:
        """Everything but its trials and its state, as plain data."""
        return {
            "curves": self.curves,
            "seconds": self.seconds,
            "best": self.best,
            "stopped": self.stopped,
            "failed": self.failed,
        }

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], state: State) -> LaneRun:
        """The reverse of `to_meta`, of no trials yet."""
        run = cls(Lane(()), meta["curves"], meta["seconds"], best=meta["best"], state=state)
        run.launched = run.epochs
        run.stopped, run.failed = meta["stopped"], meta["failed"]
        return run
