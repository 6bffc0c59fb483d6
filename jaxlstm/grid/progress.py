"""A live display of a run: fits, epochs, best so far, time left."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from jaxlstm.grid.groups import lane_cost, lane_epochs
from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.plan import Plan
from jaxlstm.grid.space import Problem
from jaxlstm.train.stopping import signs


class LiveProgress:
    """Draws a run's progress on the terminal; a context manager.

    The bar moves with the estimated work done, not with the fits, so that the time left makes sense
    when the trials differ in size.
    """

    def __init__(self, plan: Plan, problem: Problem, console: Console | None = None):
        self._plan = plan
        name = f"val_{problem.task.METRICS[0]}"
        self._metric, self._best = name, min if signs([name]) == (1,) else max
        self._cells = {trial.index: trial.cell for trial in problem.trials}
        self._lane: dict[int, int] = {}  # of each trial
        self._left: list[int] = []  # epochs of each lane
        self._trials_left: list[int] = []
        self._work: list[float] = []  # of an epoch of each lane
        for lane in (lane for group in plan.groups for lane in group.lanes):
            for place in lane.trials:
                self._lane[problem.trials[place].index] = len(self._left)
            self._left.append(lane_epochs(problem, lane))
            self._trials_left.append(len(lane.trials))
            self._work.append(lane_cost(problem, lane) / self._left[-1])
        self._epochs = sum(self._left)
        self._fits_done = 0
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
        total = sum(work * left for work, left in zip(self._work, self._left, strict=True))
        self._task = self._display.add_task("compiling", total=total, counts=self._counts())

    def _counts(self) -> str:
        best = self._best((sum(s) / len(s) for s in self._scores.values()), default=None)
        done = self._epochs - sum(self._left)
        text = f"fits {self._fits_done}/{self._plan.fits}, epochs {done}/{self._epochs}"
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
            self._advance(self._lane[trial], 1)

    def finished(self, outcome: Outcome) -> None:
        """Counts the fit and its score."""
        with self._lock:
            self._fits_done += 1
            lane = self._lane[outcome.trial]
            self._trials_left[lane] -= 1
            if outcome.failed is None and outcome.curves[self._metric]:
                score = outcome.curves[self._metric][outcome.last]
                if score == score:
                    self._scores.setdefault(self._cells[outcome.trial], []).append(score)
            # Epochs that a stopped lane did not train are done with as well.
            self._advance(lane, 0 if self._trials_left[lane] else self._left[lane])

    def _advance(self, lane: int, epochs: int) -> None:
        epochs = min(epochs, self._left[lane])
        self._left[lane] -= epochs
        self._display.update(
            self._task,
            description="training",
            counts=self._counts(),
            advance=self._work[lane] * epochs,
        )
