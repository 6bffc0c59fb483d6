"""The task behind a run: classes, labels or numbers, per row or per step."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from jaxlstm.report.text import count_text, exact_text

Task = Literal["classification", "multilabel", "regression"]
TASKS = ("classification", "multilabel", "regression")
_LARGEST = sys.float_info.max  # JSON has whole numbers that are larger


@dataclasses.dataclass(frozen=True)
class Problem:
    """The task that a run's `config["data"]` describes.

    Attributes:
        task: `"classification"`, `"multilabel"` or `"regression"`.
        per_step: Whether every step of a row has a target of its own.
        classes: The classes' names in order; empty where unknown.
        targets: Names of the columns of a regression's target, or of the labels.
        horizon: Whether the target's columns are successive steps of a forecast.
        units: The unit of the target, `"kWh"`; may be empty.
    """

    task: Task = "classification"
    per_step: bool = False
    classes: tuple[Any, ...] = ()
    targets: tuple[str, ...] = ()
    horizon: bool = False
    units: str = ""

    @property
    def noun(self) -> str:
        """The name of what has one target: `"row"` or `"step"`."""
        return "step" if self.per_step else "row"

    def with_units(self, text: str) -> str:
        """Return a label with the target's unit in brackets, where it is known."""
        return f"{text} ({self.units})" if self.units else text

    def held_out(self, test: Mapping[str, Any]) -> str:
        """Return how much was held out, `1,000 held-out rows`, from a summary's `test`.

        Args:
            test: The summary; `rows`, and per step `steps`, may be missing.
        """
        count = test.get(f"{self.noun}s")
        if not is_number(count):
            return f"the held-out {self.noun}s"
        return count_text(count, f"held-out {self.noun}")


def problem_of(config: Mapping[str, Any], where: str = "config") -> Problem:
    """Return the task that a run's configuration describes.

    Args:
        config: The run's; without `data`, or its `task`, it is a classification.
        where: The configuration's name, for an error.

    Raises:
        ValueError: The task is none that there is.
    """
    data = section(config, "data") if isinstance(config, Mapping) else {}
    task: Any = data.get("task") or "classification"
    if task not in TASKS:
        raise ValueError(f"{where}: data.task is {task!r}; allowed: {', '.join(map(repr, TASKS))}")
    return Problem(
        task=task,
        per_step=bool(data.get("per_step")),
        classes=tuple(data.get("classes") or ()),
        targets=tuple(map(exact_text, data.get("targets") or ())),
        horizon=bool(data.get("horizon")),
        units=str(data.get("units") or ""),
    )


def section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a dictionary inside another, an empty one where it is missing or null."""
    value = settings.get(name)
    return value if isinstance(value, Mapping) else {}


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
