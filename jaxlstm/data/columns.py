"""Columns of a table in a text file: read, checked, and made numbers or labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxlstm.data.targets import Task


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


def read_delimited(path: Path, text: Iterable[str], separator: str = ",") -> pd.DataFrame:
    """Reads a table with a header from a text file.

    Args:
      path: of the file.
      text: columns that it must have, with a value in every row, and that stay as they are written.
      separator: between the values of a line.

    Raises:
      ValueError: a damaged file, or one without the columns or with a missing value in one.
    """
    text = list(text)
    try:
        with warnings.catch_warnings():
            # A line with more values than the header must not lose its last ones, nor its first.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep=separator,
                index_col=False,
                dtype=dict.fromkeys(text, str),
                keep_default_na=False,  # "NA" and "None" may be labels
                na_values={column: [""] for column in text},
            )
    except pd.errors.ParserWarning as error:
        raise ValueError(f"{path}: its lines have more values than the header.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().rstrip(".")
        kind = "csv" if separator == "," else "tsv"
        raise ValueError(f"{path} is not a readable {kind} file: {reason}.") from error
    check_columns(path, table, text)
    return table


def check_columns(path: Path, table: pd.DataFrame, needed: Iterable[str]) -> None:
    """Raises a ValueError unless a table has these columns, with a value in every row."""
    for column in needed:
        if column not in table:
            shown = ", ".join(map(str, table.columns[:8]))
            more = ", ..." if len(table.columns) > 8 else ""
            raise ValueError(f"{path} has no column {column!r}; its columns: {shown}{more}.")
        if table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax())
            raise ValueError(f"{path}, {place_of(path, row)}: the {column} is missing.")


def to_numbers(path: Path, column: pd.Series) -> np.ndarray:
    """A column's numbers, ``[R]``; a ValueError names the place of what is not one."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        value = column.iloc[row]
        shown = "missing" if pd.isna(value) else f"{value!r} is not a number"
        if numbers.isna().all() and not column.isna().any():
            shown += "; a column of text is no feature: say that it is the label, the weight or the"
            shown += " group, or leave it out"
        raise ValueError(
            f"{path}, {place_of(path, int(column.index[row]))}, column {column.name!r}: {shown}."
        )
    return numbers.to_numpy(np.float64)


def to_labels(column: pd.Series) -> np.ndarray:
    """Labels as integers, which sort as such, where they are written as integers; else as text."""
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
        if task == "regression" or any(array.dtype.kind not in "iu" for array in arrays):
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
    flags = y.dtype.kind in "iu" and bool(((y == 0) | (y == 1)).all())
    if several and (task == "multilabel" or (task == "auto" and flags)):
        return {"classes": columns}
    guessed = task == "auto" and (several or y.dtype.kind == "f")
    return {"target_names": columns} if task == "regression" or guessed else {}


def _to_target(column: pd.Series, task: Task) -> np.ndarray:
    labels = to_labels(column)
    if labels.dtype.kind in "iu" or task == "classification":
        return labels
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    fractions = np.isfinite(numbers).all() and (numbers != np.round(numbers)).any()
    return numbers if fractions else labels


def place_of(path: Path, row: int) -> str:
    """Where in its file a table's row is; pandas skips blank lines."""
    if path.suffix == ".parquet":
        return f"row {row}"
    with path.open(encoding="utf-8") as lines:
        filled = [number for number, line in enumerate(lines, 1) if line.strip()]
    return f"line {filled[row + 1]}"
