"""The user's own long table: one line a moment in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxlstm.data.arrays import from_arrays
from jaxlstm.data.columns import (
    check_columns,
    check_purposes,
    column_names,
    names_of,
    place_of,
    to_labels,
    to_numbers,
    to_targets,
)
from jaxlstm.data.delimited import read_frame, table_name
from jaxlstm.data.row_numbers import without_row_numbers
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.targets import Task


def load_table(
    path: str | Path,
    *,
    id: str = "id",
    time: str = "time",
    label: str | Sequence[str] = "label",
    group: str | None = None,
    weight: str | None = None,
    features: str | Sequence[str] | None = None,
    length: int | None = None,
    task: Task = "auto",
    per_step: bool = False,
) -> SequenceData:
    """Loads sequences from a table with a line for each moment of each.

    The sequences come in the order in which their ids first appear; a sequence's rows are sorted by
    time, those of the same time staying in the order of the file. Shorter sequences are padded with
    zeros at the end, and ``lengths`` says how many steps of each are its own.

    Args:
      path: of a ``.csv``, ``.tsv`` or ``.parquet`` file (the last needs pyarrow), text also packed by
        gzip, bzip2, xz or zip.
      id: column that says which sequence a row belongs to.
      time: column to sort by: numbers, or dates and times in ISO 8601.
      label: column with the sequence's target, the same in all its rows unless ``per_step``.
        Several, as a sequence of names or as text with commas between them, are the labels of a
        multilabel task or the columns of a regression target.
      group: column that says who the sequence is from, the same in all its rows.
      weight: column that says how much the sequence counts; with ``per_step`` it may differ from
        row to row.
      features: columns of numbers that make the features, in this order; by default all others but
        those that only number the rows, such as an index, which are left out with a warning.
      length: steps of every sequence: longer ones are cut at the end. By default the longest's.
      task: as in ``from_arrays``; text that reads as numbers which are not all whole is regression.
      per_step: whether every row has a target of its own.

    Returns:
      Sequences ``[N, T, F]`` with a target for each, or per step ``[N, T]`` or ``[N, T, D]``.

    Raises:
      FileNotFoundError: no such file.
      ImportError: a parquet file, and nothing to read it with.
      ValueError: a damaged file, a missing column or value, a column that looks like an index and
        may be none, or an id with several labels, groups or weights.
    """
    path = Path(path)
    if length is not None and length < 1:
        raise ValueError(f"length must be at least 1 step, got {length}.")
    targets = names_of(label)
    others = [column for column in (group, weight) if column is not None]
    keys = [id, time, *targets, *others]
    chosen = None if features is None else names_of(features)
    check_purposes([*keys, *(chosen or ())])
    table = read_frame(path, keys)
    if not len(table):
        raise ValueError(f"{path} has no rows.")
    if chosen is None:
        table = without_row_numbers(path, table, keys)
        chosen = [column for column in table.columns if column not in keys]
    check_columns(path, table, [column for column in chosen if column not in table])
    if not chosen:
        raise ValueError(f"{path} has no columns of features beside {', '.join(keys)}.")

    number, ids = pd.factorize(table[id])
    order = np.lexsort((_moments(path, table[time]), number))
    counts = np.bincount(number)
    steps = int(counts.max()) if length is None else length
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = place < steps
    sequence = number[order]

    def laid_out(values: np.ndarray) -> np.ndarray:
        """Values of the table's rows, ``[R, ...]``, as ``[N, T, ...]``; padding stays 0 or ""."""
        array = np.zeros((len(ids), steps, *values.shape[1:]), values.dtype)
        array[sequence[kept], place[kept]] = values[order][kept]
        return array

    x = np.zeros((len(ids), steps, len(chosen)))
    for feature, column in enumerate(chosen):
        x[:, :, feature] = laid_out(to_numbers(path, table[column]))
    if per_step:
        y = laid_out(to_targets(path, table[targets], task, per_step=False))
    else:
        once = pd.concat([_one_per_id(path, table, id, column) for column in targets], axis=1)
        y = to_targets(path, once, task, per_step=False)
    lengths = np.minimum(counts, steps)
    return from_arrays(
        x,
        y,
        groups=None if group is None else to_labels(_one_per_id(path, table, id, group)),
        lengths=None if (lengths == steps).all() else lengths,
        weight=None if weight is None else _weights(path, table, id, weight, laid_out, per_step),
        task=task,
        per_step=per_step,
        ids=np.asarray(ids, str),
        name=table_name(path),
        source=str(path),
        feature_names=[str(column) for column in chosen],
        **column_names(y, targets, task, per_step),
    )


def _weights(
    path: Path,
    table: pd.DataFrame,
    id: str,
    column: str,
    laid_out: Callable[[np.ndarray], np.ndarray],
    per_step: bool,
) -> np.ndarray:
    """Weights ``[N]``, or ``[N, T]`` where there are targets per step and the weights differ."""
    varies = table[[id, column]].drop_duplicates()[id].duplicated().any()
    if per_step and varies:
        return laid_out(to_numbers(path, table[column]))
    return to_numbers(path, _one_per_id(path, table, id, column))


def _moments(path: Path, column: pd.Series) -> np.ndarray:
    """Something to sort by."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.to_numpy()
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.isna().any():
        return numbers.to_numpy()
    dates = pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
    if not dates.isna().any():
        return dates.to_numpy()
    row = int((numbers.isna() & dates.isna()).to_numpy().argmax())
    place = f"{path}, {place_of(path, column.index[row])}, column {column.name!r}"
    raise ValueError(
        f"{place}: {column.iloc[row]!r} is neither a number nor a date as 2024-05-31T12:00:00, or"
        " others in the column are of the other kind."
    )


def _one_per_id(path: Path, table: pd.DataFrame, id: str, column: str) -> pd.Series:
    """The value that a column has for each id, in the order in which these first appear."""
    pairs = table[[id, column]].drop_duplicates()
    again = pairs[id].duplicated().to_numpy()
    if again.any():
        name = pairs[id].iloc[int(again.argmax())]
        found = ", ".join(map(repr, pairs[column][pairs[id] == name].iloc[:3]))
        raise ValueError(
            f"{path}: {id} {name!r} has several values in the column {column!r}: {found}; all rows"
            " of a sequence must have the same one, unless the column is a label and per_step=True."
        )
    return pairs[column]
