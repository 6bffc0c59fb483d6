"""A live display of a run: fits, epochs, best so far, time left."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from jaxlstm.grid.plan import Plan, trial_cost
from jaxlstm.grid.run import Outcome
from jaxlstm.grid.space import Problem


class LiveProgress:
    """Draws a run's progress on the terminal; a context manager.

    The bar moves with the estimated work done, not with the fits, so that the time left makes sense
    when the trials differ in size.
    """

    def __init__(self, plan: Plan, problem: Problem, console: Console | None = None):
        self._plan, self._problem = plan, problem
        self._work = {
            trial.index: trial_cost(problem, trial.index) / trial.network.epochs
            for trial in problem.trials
        }
        self._epochs = sum(trial.network.epochs for trial in problem.trials)
        self._fits_done = self._epochs_done = 0
        self._lock = threading.Lock()  # workers report at the same time
        self._scores: dict[int, list[float]] = {}
        self._display = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            refresh_per_second=4,
        )
        total = sum(self._work[t.index] * t.network.epochs for t in problem.trials)
        self._task = self._display.add_task("compiling", total=total, counts=self._counts())

    def _counts(self) -> str:
        best = max((sum(s) / len(s) for s in self._scores.values()), default=None)
        text = (
            f"fits {self._fits_done}/{self._plan.fits}, epochs {self._epochs_done}/{self._epochs}"
        )
        return text if best is None else f"{text}, best {best:.4f}"

    def __enter__(self) -> LiveProgress:
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()

    def epoch(self, trial: int) -> None:
        """Moves the bar."""
        with self._lock:
            self._epochs_done += 1
            self._update(advance=self._work[trial])

    def finished(self, outcome: Outcome) -> None:
        """Counts the fit and its score."""
        with self._lock:
            trial = self._problem.trials[outcome.trial]
            self._fits_done += 1
            # Epochs that a failed lane did not train are done with as well.
            missing = trial.network.epochs - outcome.epochs
            self._epochs_done += missing
            if outcome.failed is None and outcome.curves["val_accuracy"]:
                score = outcome.curves["val_accuracy"][-1]
                if score == score:
                    self._scores.setdefault(trial.cell, []).append(score)
            self._update(advance=self._work[outcome.trial] * missing)

    def _update(self, **change: Any) -> None:
        self._display.update(self._task, description="training", counts=self._counts(), **change)
