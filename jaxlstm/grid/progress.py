"""What a run shows while it trains: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import threading
import time
from collections.abc import Mapping, Sequence
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

from jaxlstm.grid.describe import human_seconds
from jaxlstm.grid.groups import lane_cost, lane_epochs
from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.plan import Plan
from jaxlstm.grid.space import Problem
from jaxlstm.train.stopping import signs

#: A line where so much of the work is done since the last, or so many seconds have passed.
LINE_SHARE, LINE_SECONDS = 0.1, 30.0


class LiveProgress:
    """Shows a run's progress; a context manager.

    The bar and the lines go by the estimated work done, not by the fits, so that the time left makes
    sense when the trials differ in size. Lines, each flushed, stand where no bar can be drawn: in a
    file, a pipe, a dumb terminal, a notebook without ipywidgets.

    Args:
      plan: what is run.
      problem: what the plan was made from.
      console: where to; standard output by default.
      verbose: 1 shows a bar, or lines; 2 or more a line for each epoch, as in Keras.
    """

    def __init__(
        self, plan: Plan, problem: Problem, console: Console | None = None, *, verbose: int = 1
    ):
        self._plan, self._problem, self._verbose = plan, problem, verbose
        name = f"val_{problem.task.METRICS[0]}"
        self._metric, self._best = name, min if signs([name]) == (1,) else max
        self._trials = {trial.index: trial for trial in problem.trials}
        self._lane: dict[int, int] = {}  # of each trial
        self._group: list[int] = []  # of each lane
        self._left: list[int] = []  # epochs of each lane
        self._trials_left: list[int] = []
        self._work: list[float] = []  # of an epoch of each lane
        for number, lane in (
            (number, lane) for number, group in enumerate(plan.groups) for lane in group.lanes
        ):
            self._group.append(number)
            for place in lane.trials:
                self._lane[problem.trials[place].index] = len(self._left)
            self._left.append(lane_epochs(problem, lane))
            self._trials_left.append(len(lane.trials))
            self._work.append(lane_cost(problem, lane) / self._left[-1])
        self._epochs = sum(self._left)
        self._total = sum(work * left for work, left in zip(self._work, self._left, strict=True))
        self._fits_done = 0
        self._compiled: set[int] = set()  # groups with an epoch
        self._lock = threading.Lock()  # workers report at the same time
        self._scores: dict[int, list[float]] = {}
        console = console or Console()
        self._display = (
            _Bar(console, self._total)
            if verbose == 1 and _draws(console)
            # Of a single fit, its epochs say all.
            else _Lines(
                console, self._total, plan.programs, is_quiet=verbose > 1 and plan.fits == 1
            )
        )

    def _counts(self) -> str:
        best = self._best((sum(s) / len(s) for s in self._scores.values()), default=None)
        done = self._epochs - sum(self._left)
        text = f"fits {self._fits_done}/{self._plan.fits}, epochs {done}/{self._epochs}"
        return text if best is None else f"{text}, best {best:.4f}"

    def __enter__(self) -> LiveProgress:
        self._display.start(self._counts())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()

    def epoch(self, trial: int, curves: Mapping[str, Sequence[float]]) -> None:
        """Moves the bar.

        Args:
          trial: the lane's last.
          curves: of the lane, up to this epoch.
        """
        with self._lock:
            self._compiled.add(self._group[self._lane[trial]])
            self._say_epoch(trial, curves)
            self._advance(self._lane[trial], 1)

    def finished(self, outcome: Outcome) -> None:
        """Counts the fit and its score."""
        with self._lock:
            self._fits_done += 1
            lane = self._lane[outcome.trial]
            self._trials_left[lane] -= 1
            trial = self._trials[outcome.trial]
            if outcome.failed is None and outcome.curves[self._metric]:
                score = outcome.curves[self._metric][outcome.last]
                if score == score:
                    self._scores.setdefault(trial.cell, []).append(score)
            # Epochs that a stopped lane did not train are done with as well.
            self._advance(lane, 0 if self._trials_left[lane] else self._left[lane])

    def _advance(self, lane: int, epochs: int) -> None:
        epochs = min(epochs, self._left[lane])
        self._left[lane] -= epochs
        self._display.advance(self._work[lane] * epochs, self._counts(), len(self._compiled))

    def _say_epoch(self, index: int, curves: Mapping[str, Sequence[float]]) -> None:
        if self._verbose < 2:
            return
        trial, epochs = self._trials[index], len(curves["train_loss"])
        values = {name.removeprefix("train_"): column[-1] for name, column in curves.items()}
        rate = values.pop("learning_rate")
        shown = [f"{name}: {_number(value)}" for name, value in values.items() if value == value]
        where = ""
        if self._plan.fits > 1:
            where = f"[CV {trial.fold + 1}/{self._plan.folds}; {trial.cell + 1}/{self._plan.cells}"
            repeats = self._plan.fits // max(1, self._plan.cells * self._plan.folds)
            where += f"; seed {trial.seed}] " if repeats > 1 else "] "
        self._display.say(
            f"{where}Epoch {epochs}/{trial.network.epochs} - "
            + " - ".join([*shown, f"learning_rate: {_number(rate)}"])
        )


class _Bar:
    """A bar that moves."""

    def __init__(self, console: Console, total: float):
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
        self._task = self._display.add_task("compiling", total=total, counts="")

    def start(self, counts: str) -> None:
        self._display.update(self._task, counts=counts)
        self._display.start()

    def stop(self) -> None:
        self._display.stop()

    def say(self, line: str) -> None:
        """Says nothing: the bar is all there is."""

    def advance(self, work: float, counts: str, compiled: int) -> None:
        self._display.update(
            self._task,
            description="training" if compiled else "compiling",
            counts=counts,
            advance=work,
        )


class _Lines:
    """A line from time to time."""

    def __init__(self, console: Console, total: float, programs: int, is_quiet: bool):
        self._file = console.file
        self._total, self._programs, self._is_quiet = total, programs, is_quiet
        self._done = self._done_before = self._said = 0.0
        self._compiled = 0  # programs
        self._counts = self._counts_said = ""
        self._begun = self._trained_from = self._said_at = time.monotonic()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._tick, daemon=True)

    def start(self, counts: str) -> None:
        self._counts = counts
        self._summary()
        self._watch.start()

    def stop(self) -> None:
        self._over.set()
        self._watch.join()
        with self._lock:
            if self._counts != self._counts_said:
                self._summary()

    def say(self, line: str) -> None:
        # A reader who has gone, or a terminal without the letters, is no reason to stop training.
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._file, flush=True)

    def advance(self, work: float, counts: str, compiled: int) -> None:
        with self._lock:
            now, is_new = time.monotonic(), compiled > self._compiled
            is_due = is_new and (not self._compiled or now - self._said_at >= 1)
            self._done += work
            if is_new and not self._compiled:  # compiling and the disk say nothing of the speed
                self._trained_from, self._done_before = now, self._done
            self._counts, self._compiled = counts, compiled
            is_due |= self._done >= self._said + LINE_SHARE * self._total
            # The last line comes when the last fit is counted, too.
            if is_due and not math.isclose(self._done, self._total):
                self._summary()

    def _tick(self) -> None:
        """Says that the run goes on while nothing is reported: programs compile, epochs are long."""
        while not self._over.wait(min(1.0, LINE_SECONDS)):
            with self._lock:
                if time.monotonic() - self._said_at >= LINE_SECONDS:
                    self._summary()

    def _summary(self) -> None:
        self._said, self._said_at, self._counts_said = self._done, time.monotonic(), self._counts
        if self._is_quiet:
            return
        share = min(1.0, self._done / self._total) if self._total else 1.0
        words = "training" if self._compiled else "compiling"
        if self._programs > 1:
            words += f": programs {self._compiled}/{self._programs}"
        words += f"{',' if self._programs > 1 else ':'} {self._counts}"
        line = f"{share:4.0%} {words}, {human_seconds(self._said_at - self._begun)}"
        trained = self._done - self._done_before
        if trained > 0 and share < 1 and self._compiled:
            rate = (self._said_at - self._trained_from) / trained
            line += f", about {human_seconds(rate * (self._total - self._done))} left"
        self.say(line)


def _draws(console: Console) -> bool:
    """Whether a console can redraw a bar."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


def _number(value: float) -> str:
    """A number as Keras prints it."""
    return f"{value:.4f}" if abs(value) > 1e-3 or not value else f"{value:.4e}"
