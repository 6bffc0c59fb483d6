"""Columns of a table: checked, and made numbers or labels."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxlstm.data.targets import Task

_MISSING = ("", "na", "n/a", "nan", "null", "none", "nil", "?", "-", ".")
_GROUPED = re.compile(r"[+-]?\d{1,3}([ ,.'\u00a0\u2009\u202f]\d{3})+([.,]\d*)?|[+-]?\d+,\d+")


def names_of(columns: str | Sequence[str]) -> list[str]:
    """Names of columns from a sequence of them, or from text with commas between them."""
    if isinstance(columns, str):
        return [name.strip() for name in columns.split(",")]
    return list(columns)


def check_purposes(columns: Sequence[str]) -> None:
    """Raises a ValueError if a column is named twice."""
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ValueError(f"column {twice[0]!r} is named for two purposes.")


def check_columns(path: Path, table: pd.DataFrame, needed: Iterable[str]) -> None:
    """Raises a ValueError unless a table has these columns, with a value in every row."""
    for column in needed:
        if column not in table:
            names = [str(name) for name in table.columns]
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            lower = {name.lower(): name for name in names}
            near = difflib.get_close_matches(column.lower(), lower, n=1, cutoff=0.75)
            hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
            if len(names) == 1 and not near:
                hint = " Its first line holds no comma, semicolon, tab or bar that parts the names."
            raise ValueError(f"{path} has no column {column!r}; its columns: {shown}.{hint}")
        if table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax())
            place = place_of(path, table.index[row])
            raise ValueError(f"{path}, {place}: the {column} is missing.")


def to_numbers(path: Path, column: pd.Series) -> np.ndarray:
    """A column's numbers, ``[R]``; a ValueError names the place of what is not one."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        value = column.iloc[row]
        if pd.isna(value) or str(value).strip().lower() in _MISSING:
            written = "" if pd.isna(value) or not str(value).strip() else f", it says {value!r}"
            shown = f"the value is missing{written}; fill it in, or leave the row out"
        else:
            shown = f"{value!r} is not a number"
            if _GROUPED.fullmatch(str(value).strip()):
                shown += "; write it without separators of thousands and with a decimal point"
        if numbers.isna().all() and not column.isna().any():
            shown += (
                "; a column of text is no feature: say that it is the label, the weight or the group,"
                " name the others in features, or, where each line is a step of a sequence, say that"
                " it is the id, and which column is the time"
            )
        place = place_of(path, column.index[row])
        raise ValueError(f"{path}, {place}, column {column.name!r}: {shown}.")
    return numbers.to_numpy(np.float64)


def to_labels(column: pd.Series) -> np.ndarray:
    """Labels as integers, which sort as such, where they are written as integers, or as booleans
    where they are written so; else as text.
    """
    if set(column) <= {"True", "False"}:
        return (column == "True").to_numpy(bool)
    try:
        numbers = column.astype(int)
    except (ValueError, OverflowError):
        return column.to_numpy(str)
    return numbers.to_numpy() if (numbers.astype(str) == column).all() else column.to_numpy(str)


def to_targets(path: Path, columns: pd.DataFrame, task: Task, per_step: bool) -> np.ndarray:
    """Columns of text as targets, ``[R]`` of one column, ``[R, D]`` of several.

    Integers are integers, numbers that are not all whole are floats, other text stays text, unless
    ``task`` says what they are. Several columns that are not steps must all hold numbers.

    Raises:
      ValueError: a value that should be a number and is none, by its place.
    """
    several = columns.shape[1] > 1 and not per_step
    if task in ("multilabel", "regression") or several:
        arrays = [to_labels(columns[name]) for name in columns]
        if task == "regression" or any(array.dtype.kind not in "biu" for array in arrays):
            arrays = [to_numbers(path, columns[name]) for name in columns]
    elif columns.shape[1] > 1:
        together = pd.concat([columns[name] for name in columns], ignore_index=True)
        return _to_target(together, task).reshape(columns.shape, order="F")
    else:
        arrays = [_to_target(columns[name], task) for name in columns]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, 1)


def column_names(
    y: np.ndarray, columns: list[str], task: Task, per_step: bool
) -> dict[str, list[str]]:
    """The argument of ``from_arrays`` that columns of targets give their names to, or none."""
    several = y.ndim > 1 + per_step
    if len(columns) > 1 and not several:  # they are steps
        return {}
    flags = y.dtype.kind in "biu" and bool(((y == 0) | (y == 1)).all())
    if several and (task == "multilabel" or (task == "auto" and flags)):
        return {"classes": columns}
    guessed = task == "auto" and (several or y.dtype.kind == "f")
    return {"target_names": columns} if task == "regression" or guessed else {}


def _to_target(column: pd.Series, task: Task) -> np.ndarray:
    labels = to_labels(column)
    if labels.dtype.kind in "biu" or task == "classification":
        return labels
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    fractions = np.isfinite(numbers).all() and (numbers != np.round(numbers)).any()
    return numbers if fractions else labels


def place_of(path: Path, number: int) -> str:
    """Where in its file a row is, by the table's index."""
    return f"{'row' if path.suffix.lower() == '.parquet' else 'line'} {number}"


def is_number(text: str) -> bool:
    """Whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
