"""Columns that number a table's rows: an index that was saved with it is no feature."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

# As pandas calls a column without a name, and the levels of an index.
_UNNAMED = re.compile(r"(unnamed: ?\d+(_level_\d+)?|__index_level_\d+__)(\.\d+)*|", re.I)
_LEVEL = re.compile(r"level_\d+")  # unless it is a level of something, in fractions
_NAMES = re.compile(
    r"#|index|idx|ids?|uu?id|guid|rows?|row[ _.-]?(id|index|idx|no|nr|num|numbers?|names?)"
    r"|.*[ _.-](id|uuid|guid)",
    re.I,
)
# These name rows only where there are several of a value.
_WHO = re.compile(
    "subject|user|person|participant|patient|speaker|actor|writer|trial|session|sequence|series"
    "|recording",
    re.I,
)
_CAMEL = re.compile(r".*[a-z](Id|ID)")
#: In a shorter table a column that counts 1, 2, 3 may do so by chance.
_FEWEST = 8


def is_unnamed(column: object) -> bool:
    """Whether a column's name is that of an index, which had none."""
    return _UNNAMED.fullmatch(str(column).strip()) is not None


def is_identifier(column: object) -> bool:
    """Whether a column's name says that it tells rows apart."""
    name = str(column).strip()
    return bool(_NAMES.fullmatch(name) or _CAMEL.fullmatch(name))


def index_columns(columns: Sequence[str], values: np.ndarray) -> list[int]:
    """The columns of a series that are an index which was saved with it.

    Args:
      columns: their names.
      values: ``[L, F]``.
    """
    return [
        place
        for place, name in enumerate(columns)
        if (is_unnamed(name) or is_identifier(name)) and _is_distinct(pd.Series(values[:, place]))
    ]


def without_row_numbers(path: Path, table: pd.DataFrame, kept: Iterable[str]) -> pd.DataFrame:
    """Leaves out, with a warning, the columns that only number or name a table's rows.

    These are columns without a name at the front, where an index is saved; columns called index, id
    and the like in which no value is there twice; and, in tables of 8 or more rows, columns that
    count the rows from 0 or 1.

    Args:
      path: of the file; the warning begins with it.
      table: its content.
      kept: columns that are known to be something else.

    Raises:
      ValueError: a column that looks like one of these, and has values of its own.
    """
    kept = set(kept)
    left_out: dict[str, str] = {}
    leading = True
    for place, column in enumerate(map(str, table.columns)):
        values = table.iloc[:, place]
        unnamed = is_unnamed(column) or (_LEVEL.fullmatch(column) and _is_discrete(values))
        leading = leading and bool(unnamed)
        if column in kept:
            continue
        if unnamed:
            if not (leading or _is_empty(values) or _is_distinct(values)):
                raise ValueError(
                    f"{path}: column {place + 1} of {table.shape[1]} has no name: give it one in the"
                    " first line, or leave it out."
                )
            left_out[column] = "is empty" if _is_empty(values) else "is an index without a name"
        elif (is_identifier(column) or _WHO.fullmatch(column)) and _is_discrete(values):
            if not _is_distinct(values):
                raise ValueError(
                    f"{path}: the column {column!r} looks like the name of a row, but"
                    f" {_twice(values)!r} is there twice: say what it is (the group, the label, or the"
                    " id of a long table, whose lines are the steps of sequences), name it in"
                    " features, or leave it out."
                )
            if is_identifier(column):
                left_out[column] = "names each row"
        elif len(values) >= _FEWEST and _counts_rows(values):
            left_out[column] = "counts the rows"
    if left_out:
        reasons = ", ".join(f"{column!r} {reason}" for column, reason in left_out.items())
        several = len(left_out) > 1
        warnings.warn(
            f"{path}: the column{'s' if several else ''} {', '.join(map(repr, left_out))}"
            f" {'are' if several else 'is'} left out: {reasons}. To keep"
            f" {'one' if several else 'it'}, name the columns to use in features.",
            stacklevel=3,
        )
        table = table.drop(columns=list(left_out))
    return table


def _is_empty(values: pd.Series) -> bool:
    return bool((values.isna() | (values.astype(str).str.strip() == "")).all())


def _is_discrete(values: pd.Series) -> bool:
    """Whether values are text or whole numbers."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return bool((numbers == np.round(numbers)).all())


def _is_distinct(values: pd.Series) -> bool:
    return _is_discrete(values) and values.is_unique


def _twice(values: pd.Series) -> str:
    return str(values[values.duplicated()].iloc[0])


def _counts_rows(values: pd.Series) -> bool:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    return numbers[0] in (0, 1) and bool((numbers == numbers[0] + np.arange(len(numbers))).all())
