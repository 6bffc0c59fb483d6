"""The user's own arrays, from an npz or a csv file."""

from __future__ import annotations

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
    if len(x) != len(y):
        raise ValueError(f"{path}: x has {len(x)} rows, y has {len(y)} labels.")
    if not len(y):
        raise ValueError(f"{path} has no rows.")
    if y.ndim != 1:
        raise ValueError(f"{path}: y must have shape [N], one label a row, got {y.shape}.")
    classes, labels = np.unique(y, return_inverse=True)
    return SequenceData(
        x, labels.astype(np.int32), tuple(str(name) for name in classes), path.stem, str(path)
    )


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in ("x", "y") if name not in arrays]
            if missing:
                raise ValueError(
                    f"{path} has no array {missing[0]!r}; it has {', '.join(arrays) or 'none'}."
                )
            return arrays["x"], arrays["y"]
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable npz file: {error}.") from error
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds an array of Python objects: save x as numbers and y as numbers or"
                " strings of a fixed length (y.astype(str))."
            ) from error
        raise


def _read_csv(path: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable csv file: {error}") from error
    if label not in table:
        shown = ", ".join(map(str, table.columns[:8])) + (", ..." if len(table.columns) > 8 else "")
        raise ValueError(f"{path} has no column {label!r} for the labels; its columns: {shown}.")
    values = table.drop(columns=label)
    if table[label].isna().any():
        line = int(table[label].isna().to_numpy().argmax()) + 2
        raise ValueError(f"{path}, line {line}: the label is missing.")
    for column in values.columns:
        numbers = pd.to_numeric(values[column], errors="coerce")
        if numbers.isna().any():
            row = int(numbers.isna().to_numpy().argmax())
            raise ValueError(
                f"{path}, line {row + 2}, column {column!r}: {values[column].iloc[row]!r} is not a"
                " number."
            )
    return values.to_numpy(np.float64), table[label].to_numpy()
