"""The user's own arrays, from an npz or a csv file."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from jaxlstm.data.sequences import SequenceData


def load_arrays(path: str | Path, *, label: str = "label") -> SequenceData:
    """Loads labelled sequences from a file.

    Args:
      path: an ``.npz`` file with arrays ``x [N, T, F]`` (or ``[N, T]``) and ``y [N]``, or a ``.csv``
        file with a header, one sequence of scalars a line and its label in a column.
      label: name of that column.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another kind of file, a damaged one, or one without the arrays or the column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the path of an .npz or .csv file.")
    if path.suffix == ".npz":
        x, y = _read_npz(path)
    elif path.suffix == ".csv":
        x, y = _read_csv(path, label)
    else:
        raise ValueError(f"{path} must end in .npz or .csv, got {path.suffix or 'no ending'!r}.")
    if x.ndim < 2:
        raise ValueError(f"{path}: x must have shape [N, T, F] or [N, T], got {x.shape}.")
    if y.ndim != 1:
        raise ValueError(f"{path}: y must have shape [N], one label a row, got {y.shape}.")
    if len(x) != len(y):
        raise ValueError(f"{path}: x has {len(x)} rows, y has {len(y)} labels.")
    if not x.size:
        raise ValueError(f"{path} has no rows." if not len(x) else f"{path}: its rows are empty.")
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError(f"{path}: the label of row {int(np.isnan(y).argmax())} of y is NaN.")
    classes, labels = np.unique(y, return_inverse=True)
    return SequenceData(
        x, labels.astype(np.int32), tuple(str(name) for name in classes), path.stem, str(path)
    )


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a readable npz file: it is damaged or of another kind.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = list(arrays)
            held = {name: arrays[name] for name in ("x", "y") if name in names}
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
    return held["x"], held["y"]


def _read_csv(path: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with warnings.catch_warnings():
            # A line with more values than the header must not lose its last ones, nor its first.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                index_col=False,
                dtype={label: str},
                keep_default_na=False,  # "NA" and "None" may be labels
                na_values={label: [""]},
            )
    except pd.errors.ParserWarning as error:
        raise ValueError(f"{path}: its lines have more values than the header.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().rstrip(".")
        raise ValueError(f"{path} is not a readable csv file: {reason}.") from error
    if label not in table:
        shown = ", ".join(map(str, table.columns[:8])) + (", ..." if len(table.columns) > 8 else "")
        raise ValueError(f"{path} has no column {label!r} for the labels; its columns: {shown}.")
    values = table.drop(columns=label)
    if table[label].isna().any():
        row = int(table[label].isna().to_numpy().argmax())
        raise ValueError(f"{path}, line {_line(path, row)}: the label is missing.")
    for column in values.columns:
        numbers = pd.to_numeric(values[column], errors="coerce")
        if numbers.isna().any():
            row = int(numbers.isna().to_numpy().argmax())
            raise ValueError(
                f"{path}, line {_line(path, row)}, column {column!r}:"
                f" {values[column].iloc[row]!r} is not a number."
            )
    return values.to_numpy(np.float64), _labels(table[label])


def _labels(column: pd.Series) -> np.ndarray:
    """Labels as integers, which sort as such, where they are written as integers; else as text."""
    try:
        numbers = column.astype(int)
    except ValueError:
        return column.to_numpy(str)
    return numbers.to_numpy() if (numbers.astype(str) == column).all() else column.to_numpy(str)


def _line(path: Path, row: int) -> int:
    """Line in the file of a table's row; pandas skips blank lines."""
    with path.open(encoding="utf-8") as lines:
        filled = [number for number, line in enumerate(lines, 1) if line.strip()]
    return filled[row + 1]
