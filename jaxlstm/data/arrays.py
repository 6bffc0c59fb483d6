"""The user's own arrays: as they are, from an npz file, or from a csv file of windows."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxlstm.data.sequences import SequenceData

_ARRAYS = ("x", "y", "groups", "lengths", "classes", "feature_names")


def from_arrays(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    source: str = "arrays",
    feature_names: Sequence[str] = (),
) -> SequenceData:
    """Takes labelled sequences as they are.

    Args:
      x: sequences ``[N, T, F]``, or rows ``[N, T]`` of scalars; numbers.
      y: label of each row, ``[N]``: numbers or strings, or with ``classes`` indices into these.
      groups: who each row is from, ``[N]``.
      lengths: valid steps of each row, ``[N]``, in 0..T, the rest being padding.
      classes: names of the classes; by default the labels that occur, sorted.
      name: of the data set.
      source: where the data came from; errors begin with it.
      feature_names: names of the features, ``[F]``, with their units.

    Raises:
      ValueError: shapes that do not fit together, no rows, missing labels or groups, lengths or
        indices outside their range.
    """
    x, y = np.asarray(x), _texts(source, "y", y)
    if x.ndim < 2:
        raise ValueError(f"{source}: x must have shape [N, T, F] or [N, T], got {x.shape}.")
    if y.ndim != 1:
        raise ValueError(f"{source}: y must have shape [N], one label a row, got {y.shape}.")
    if len(x) != len(y):
        raise ValueError(f"{source}: x has {len(x)} rows, y has {len(y)} labels.")
    if not x.size:
        raise ValueError(
            f"{source} has no rows." if not len(x) else f"{source}: its rows are empty."
        )
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{source}: x must hold numbers, got values of type {x.dtype}.")
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError(f"{source}: the label of row {int(np.isnan(y).argmax())} of y is NaN.")
    if feature_names and (x.ndim < 3 or len(feature_names) != x.shape[2]):
        raise ValueError(
            f"{source}: {len(feature_names)} feature names do not fit x of shape {x.shape}."
        )
    if classes is None:
        kinds, labels = np.unique(y, return_inverse=True)
        classes = [str(kind) for kind in kinds]
    else:
        labels = y
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(classes):
            shown = y[:1] if y.dtype.kind not in "iu" else [y.min(), y.max()]
            raise ValueError(
                f"{source}: y must be indices of the {len(classes)} classes, integers in"
                f" 0..{len(classes) - 1}, got {', '.join(map(str, shown))}."
            )
    return SequenceData(
        x,
        labels.astype(np.int32),
        tuple(str(kind) for kind in classes),
        name,
        source,
        groups=None if groups is None else _one_each(source, "groups", groups, len(x)),
        lengths=None if lengths is None else _checked_lengths(source, lengths, *x.shape[:2]),
        feature_names=tuple(feature_names),
    )


def load_arrays(path: str | Path, *, label: str = "label") -> SequenceData:
    """Loads labelled sequences from a file.

    Args:
      path: an ``.npz`` file with arrays ``x [N, T, F]`` (or ``[N, T]``) and ``y [N]``, and those of
        ``groups [N]``, ``lengths [N]``, ``classes [C]`` and ``feature_names [F]`` that
        ``from_arrays`` shall get, too; or a ``.csv`` file with a header, one sequence of scalars a
        line and its label in a column.
      label: name of that column.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another kind of file, a damaged one, one without the arrays or the column, or what
        ``from_arrays`` raises.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the path of an .npz or .csv file.")
    if path.suffix == ".npz":
        held: dict[str, Any] = _read_npz(path)
    elif path.suffix == ".csv":
        table = read_delimited(path, [label])
        features = [column for column in table.columns if column != label]
        values = np.zeros((len(table), len(features)))
        for place, column in enumerate(features):
            values[:, place] = to_numbers(path, table[column])
        held = {"x": values, "y": to_labels(table[label])}
    else:
        raise ValueError(f"{path} must end in .npz or .csv, got {path.suffix or 'no ending'!r}.")
    names: dict[str, Any] = {
        key: [str(entry) for entry in np.atleast_1d(held.pop(key))]
        for key in ("classes", "feature_names")
        if key in held
    }
    return from_arrays(**held, **names, name=path.stem, source=str(path))


def _texts(source: str, name: str, array: ArrayLike) -> np.ndarray:
    """An array, or text where pandas or a list made objects of text."""
    array = np.asarray(array)
    if array.dtype.kind == "O":
        for place, entry in enumerate(array.reshape(-1)):
            if not isinstance(entry, str):
                raise ValueError(
                    f"{source}: {name} must hold numbers or strings, got {entry!r} at row {place}."
                )
        array = array.astype(str)
    return array


def _one_each(source: str, name: str, array: ArrayLike, rows: int) -> np.ndarray:
    array = _texts(source, name, array)
    if array.shape != (rows,):
        raise ValueError(f"{source}: {name} must have shape [{rows}], as x has, got {array.shape}.")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{source}: {name} is NaN at row {int(np.isnan(array).argmax())}.")
    return array


def _checked_lengths(source: str, lengths: ArrayLike, rows: int, steps: int) -> np.ndarray:
    array = _one_each(source, "lengths", lengths, rows)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{source}: lengths must be integers, got values of type {array.dtype}.")
    outside = (array < 0) | (array > steps)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"{source}: the length of row {row} is {array[row]}; x has {steps} steps a row."
        )
    return array.astype(np.int32)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a readable npz file: it is damaged or of another kind.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = list(arrays)
            held = {name: arrays[name] for name in _ARRAYS if name in names}
    except Exception as error:  # a damaged file makes zipfile, zlib and numpy raise anything
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds an array of Python objects: save x as numbers and y as numbers or"
                " strings of a fixed length (y.astype(str))."
            ) from error
        raise ValueError(f"{path} is not a readable npz file: {error}.") from error
    for name in ("x", "y"):
        if name not in held:
            raise ValueError(f"{path} has no array {name!r}; it has {', '.join(names) or 'none'}.")
    return held


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
        raise ValueError(f"{path}, {place_of(path, row)}, column {column.name!r}: {shown}.")
    return numbers.to_numpy(np.float64)


def to_labels(column: pd.Series) -> np.ndarray:
    """Labels as integers, which sort as such, where they are written as integers; else as text."""
    try:
        numbers = column.astype(int)
    except (ValueError, OverflowError):
        return column.to_numpy(str)
    return numbers.to_numpy() if (numbers.astype(str) == column).all() else column.to_numpy(str)


def place_of(path: Path, row: int) -> str:
    """Where in its file a table's row is; pandas skips blank lines."""
    if path.suffix == ".parquet":
        return f"row {row}"
    with path.open(encoding="utf-8") as lines:
        filled = [number for number, line in enumerate(lines, 1) if line.strip()]
    return f"line {filled[row + 1]}"
