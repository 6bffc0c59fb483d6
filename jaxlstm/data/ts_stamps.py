"""Time stamps of `.ts` files: pairs of a time and a value, which must be equally spaced."""

from __future__ import annotations

import datetime
import math
import re
from pathlib import Path

#: One pair, ``(time,value)``; the value has no comma.
_PAIR = re.compile(r"\(\s*([^()]+?)\s*,\s*([^(),]*?)\s*\)")

#: A time and a value as text; the time in seconds where it is a date.
Stamped = list[tuple[float, str, bool]]


def read_stamped(place: str, dimension: int, text: str) -> Stamped:
    """Reads the pairs of a dimension.

    Returns:
      Of each pair its time, the text of its value, and whether the time is a date, in seconds.

    Raises:
      ValueError: something else than pairs with a comma between them, or a time that is neither a
        number nor a date, by its step.
    """
    pairs: Stamped = []
    end = 0
    text = text.strip()
    while end < len(text):
        match = _PAIR.match(text, end)
        if match is None:
            raise ValueError(
                f"{place}, dimension {dimension}, step {len(pairs) + 1}: expected a pair"
                f" (time,value), got {text[end : end + 30]!r}."
            )
        time, dated = _time(match[1])
        if time is None:
            raise ValueError(
                f"{place}, dimension {dimension}, step {len(pairs) + 1}: the time {match[1]!r} is"
                " neither a number nor a date as 2024-05-31 12:00:00."
            )
        pairs.append((time, match[2], dated))
        rest = text[match.end() :].lstrip()
        if rest and not rest.startswith(","):
            raise ValueError(
                f"{place}, dimension {dimension}: expected a comma after step {len(pairs)}, got"
                f" {rest[:30]!r}."
            )
        end = len(text) - len(rest[1:].lstrip()) if rest else len(text)
    if not pairs:
        raise ValueError(f"{place}: dimension {dimension} has no pairs (time,value).")
    return pairs


class Spacing:
    """The step from one time to the next, the same in a whole file.

    Attributes:
      path: of the file.
      step: between two times, in seconds where they are dates; None as long as it is not known.
      line: of the series that it was first seen in.
      dated: whether the times are dates.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step: float | None = None
        self.line = 0
        self.dated = False

    @property
    def rate(self) -> float | None:
        """Steps a second, where the times are dates."""
        return 1 / self.step if self.dated and self.step else None

    def add(self, line: int, dimensions: list[Stamped]) -> list[list[str]]:
        """Checks the times of a series.

        Args:
          line: of the series.
          dimensions: as `read_stamped` returns them.

        Returns:
          The texts of each dimension's values.

        Raises:
          ValueError: times that differ between dimensions, do not rise, or are not equally spaced.
        """
        place = f"{self.path}, line {line}"
        times = [time for time, _, _ in dimensions[0]]
        for number, pairs in enumerate(dimensions[1:], 2):
            if len(pairs) == len(times) and [time for time, _, _ in pairs] != times:
                raise ValueError(
                    f"{place}: the time stamps of dimension {number} are not those of dimension 1."
                )
        for number in range(1, len(times)):
            step = times[number] - times[number - 1]
            if step <= 0:
                raise ValueError(f"{place}: the time stamp of step {number + 1} does not rise.")
            if self.step is None:
                self.step, self.line, self.dated = step, line, dimensions[0][0][2]
            # Times such as 0.1, 0.2, 0.3 are not equally spaced to the last bit.
            size = max(abs(times[number]), abs(times[number - 1]))
            if abs(step - self.step) > 1e-6 * self.step + 1e-12 * size:
                raise ValueError(
                    f"{place}: steps {number} and {number + 1} are {step:g} apart, those of line"
                    f" {self.line} {self.step:g}; only equally spaced time stamps can be read."
                )
        return [[text for _, text, _ in pairs] for pairs in dimensions]


def _time(text: str) -> tuple[float | None, bool]:
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return (number if math.isfinite(number) else None), False
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None, True
    if moment.tzinfo is None:  # not the time zone of this machine, whose clock leaps
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp(), True
