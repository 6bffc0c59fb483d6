"""The time-series archives' `.ts` files: series of any length and dimension, with their targets."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxlstm.data.arrays import from_arrays
from jaxlstm.data.packed import read_packed
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.ts_stamps import Spacing, read_stamped

Missing = float | Literal["error", "interpolate"]

#: The archives' largest file, unpacked, has half of this.
_FILE_BYTES = 4 << 30
_FLAGS = ("timestamps", "missing", "univariate", "equallength", "classlabel", "targetlabel")
_COUNTS = {"dimension": "dimensions", "dimensions": "dimensions", "serieslength": "serieslength"}
# A date within the brackets of a time stamp holds colons of its own.
_BETWEEN_DIMENSIONS = re.compile(r":(?![^()]*\))")


class Header(NamedTuple):
    """What the lines that begin with @ say; None where they say nothing."""

    name: str | None
    flags: dict[str, bool]
    counts: dict[str, int]
    classes: tuple[str, ...] | None


def load_ts(path: str | Path, *, missing: Missing = "error") -> SequenceData:
    """Loads the series of a `.ts` file of the UCR, UEA or TSER archive, plain or gzipped.

    Lines that begin with ``#`` are comments, those that begin with ``@`` the header; names in it
    that are not known are passed over. Every other line is a series: its dimensions separated by
    ``:``, their values by ``,``, the target last. Values are numbers, or with ``@timeStamps true``
    pairs ``(time,value)`` whose times are equally spaced, with the same spacing in all series.

    Classes are numbered in the order of ``@classLabel``, so that the train and the test file of a
    problem agree. Without names there, the classes are the labels that occur, sorted.

    Args:
      path: of a ``.ts`` or ``.ts.gz`` file.
      missing: what a missing value (``?`` or ``NaN``) within a series becomes: "error" refuses it,
        "interpolate" takes the line between its neighbours in the dimension, or the nearest value
        at an end, a number is put in its place. Steps at a series' end where the values of all
        dimensions are missing are padding, whatever is said here.

    Returns:
      Sequences ``[N, T, F]``, float64, with ``lengths`` where they differ; a label, or with
      ``@targetLabel true`` a number to predict, ``[N]``. ``rate`` is known from time stamps that
      are dates.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file, or one that contradicts its header, by line, dimension and step,
        all counted from 1.

    References:
      Middlehurst et al., "aeon: a Python Toolkit for Learning from Time Series", JMLR 25, 2024,
      for the format; Bagnall et al., arXiv:1811.00075, and Tan et al., arXiv:2012.02329, for the
      archives.
    """
    path = Path(path)
    if not path.name.endswith((".ts", ".ts.gz")):
        raise ValueError(f"{path} must end in .ts or .ts.gz.")
    if isinstance(missing, str):
        if missing not in ("error", "interpolate"):
            raise ValueError(
                f"missing must be 'error', 'interpolate' or a number, got {missing!r}."
            )
    elif not math.isfinite(missing):
        raise ValueError(f"missing must be 'error', 'interpolate' or a number, got {missing}.")
    text = read_packed(path, _FILE_BYTES).decode("utf-8-sig", "replace")
    lines = _lines(text)
    header = _read_header(path, lines)
    regression = header.flags.get("targetlabel", False)
    series: list[np.ndarray] = []
    targets: list[Any] = []
    spacing = Spacing(path)
    for number, line in lines:
        place = f"{path}, line {number}"
        *dimensions, target = _BETWEEN_DIMENSIONS.split(line)
        if not dimensions:
            raise ValueError(f"{place}: a series must end with a colon and its target.")
        values = _values(place, dimensions, header, spacing, number)
        _check_declared(place, values, header, series)
        series.append(_filled(place, values, missing))
        targets.append(_number(place, target) if regression else _label(place, target, header))
    if not series:
        raise ValueError(f"{path} has no series after @data.")
    classes = header.classes
    index = {name: code for code, name in enumerate(classes or ())}
    data = from_arrays(
        series,
        np.array([index[target] for target in targets] if classes else targets),
        task="regression" if regression else "classification",
        per_step=False,
        classes=classes,
        name=header.name or path.name.split(".")[0],
        source=str(path),
    )
    return dataclasses.replace(data, rate=spacing.rate)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> Header:
    name, classes = None, None
    flags: dict[str, bool] = {}
    counts: dict[str, int] = {}
    for number, line in lines:
        place = f"{path}, line {number}"
        if not line.startswith("@"):
            raise ValueError(f"{place}: a series before the line @data.")
        tag, *words = line[1:].split() or [""]
        key = tag.lower()
        if key == "data":
            break
        if key == "problemname":
            name = " ".join(words) or None
        elif key in _FLAGS:
            if not words or words[0].lower() not in ("true", "false"):
                shown = repr(words[0]) if words else "nothing"
                raise ValueError(f"{place}: @{tag} must be true or false, got {shown}.")
            flags[key] = words[0].lower() == "true"
            if key == "classlabel" and flags[key]:
                classes = tuple(words[1:]) or None
                if classes and len(set(classes)) < len(classes):
                    twice = next(word for word in classes if classes.count(word) > 1)
                    raise ValueError(f"{place}: @{tag} names {twice!r} twice.")
        elif key in _COUNTS:
            if len(words) != 1 or not re.fullmatch("[1-9][0-9]{0,8}", words[0]):
                raise ValueError(
                    f"{place}: @{tag} must be a whole number above 0, got {' '.join(words)!r}."
                )
            counts[_COUNTS[key]] = int(words[0])
    else:
        raise ValueError(f"{path} has no line @data: it is damaged or no .ts file.")
    if flags.get("classlabel", False) == flags.get("targetlabel", False):
        both = "both" if flags.get("classlabel") else "neither"
        raise ValueError(
            f"{path} must have @classLabel true with the names of the classes or @targetLabel true,"
            f" it has {both}."
        )
    return Header(name, flags, counts, classes)


def _values(
    place: str, dimensions: list[str], header: Header, spacing: Spacing, line: int
) -> np.ndarray:
    """Values of a series, ``[T, F]``, NaN where they are missing."""
    if header.flags.get("timestamps", False):
        texts = spacing.add(line, [read_stamped(place, k, d) for k, d in enumerate(dimensions, 1)])
    else:
        texts = [dimension.split(",") for dimension in dimensions]
    columns = [_column(place, number, own) for number, own in enumerate(texts, 1)]
    for number, column in enumerate(columns, 1):
        if len(column) != len(columns[0]):
            raise ValueError(
                f"{place}: dimension {number} has {len(column)} steps, dimension 1 has"
                f" {len(columns[0])}."
            )
    return np.stack(columns, 1)


def _column(place: str, dimension: int, texts: list[str]) -> np.ndarray:
    try:
        values = np.array([*map(float, texts)])
        plain = not any("_" in text for text in texts)  # Python takes 1_000 for a number
        if plain and np.isfinite(values).all():
            return values
    except ValueError:
        pass
    values = np.empty(len(texts))
    for step, text in enumerate(texts, 1):
        text = text.strip()
        number = math.nan if text == "?" or text.lower() == "nan" else _to_float(text)
        if number is None:
            raise ValueError(
                f"{place}, dimension {dimension}, step {step}: "
                + (f"{text!r} is not a finite number." if text else "the value is empty.")
            )
        values[step - 1] = number
    return values


def _to_float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _check_declared(
    place: str, values: np.ndarray, header: Header, earlier: list[np.ndarray]
) -> None:
    """Raises a ValueError if a series is not as the header, or the first series, says."""
    steps, dimensions = values.shape
    wanted = header.counts.get("dimensions")
    if header.flags.get("univariate", False):
        wanted = 1
    if wanted is None and earlier:
        wanted = earlier[0].shape[1]
    if wanted is not None and dimensions != wanted:
        raise ValueError(f"{place}: the series has {dimensions} dimensions instead of {wanted}.")
    length = header.counts.get("serieslength")
    if header.flags.get("equallength", False) and length is not None and steps != length:
        raise ValueError(f"{place}: the series has {steps} steps instead of {length}.")


def _filled(place: str, values: np.ndarray, missing: Missing) -> np.ndarray:
    """The series without its padding, missing values filled."""
    gaps = np.isnan(values)
    if not gaps.any():
        return values
    known = np.flatnonzero(~gaps.all(1))
    if not len(known):
        raise ValueError(f"{place}: all values of the series are missing.")
    values, gaps = values[: known[-1] + 1], gaps[: known[-1] + 1]
    if missing == "error" and gaps.any():
        dimension = int(gaps.any(0).argmax())
        raise ValueError(
            f"{place}, dimension {dimension + 1}, step {int(gaps[:, dimension].argmax()) + 1}: the"
            " value is missing; missing='interpolate' or a number fills it."
        )
    if missing != "interpolate":
        return values if missing == "error" else np.where(gaps, float(missing), values)
    values = values.copy()
    steps = np.arange(len(values))
    for dimension in np.flatnonzero(gaps.any(0)).tolist():
        own = gaps[:, dimension]
        if own.all():
            raise ValueError(f"{place}, dimension {dimension + 1}: all its values are missing.")
        values[own, dimension] = np.interp(steps[own], steps[~own], values[~own, dimension])
    return values


def _number(place: str, text: str) -> float:
    number = _to_float(text.strip())
    if number is None:
        raise ValueError(f"{place}: the target must be a finite number, got {text.strip()!r}.")
    return number


def _label(place: str, text: str, header: Header) -> str:
    label = text.strip()
    if not label or (header.classes is None and label == "?"):
        raise ValueError(f"{place}: the label is missing.")
    if header.classes is not None and label not in header.classes:
        shown = ", ".join(header.classes[:8]) + (", ..." if len(header.classes) > 8 else "")
        raise ValueError(
            f"{place}: the label {label!r} is not among those of @classLabel: {shown}."
        )
    return label
