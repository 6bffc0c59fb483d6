"""Rows and targets as a user has them -> padded arrays and lengths.

Rows come as an array ``[N, ...]``, as a list of arrays ``[T_i, F]``, as ``[N, T, F]`` whose trailing
steps are NaN in all features (tslearn's convention), or as a `jaxlstm.data.SequenceData`. Padding is
cut to the longest row and filled with 0, so that how much of it there was changes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlstm.train.data import LARGEST_ID, Input

# Numbers looked at in one piece.
PIECE = 1 << 22


_SEQUENCE_DATA = ("x", "targets", "lengths", "weight", "take")


class Sequences(NamedTuple):
    """Rows as arrays."""

    x: np.ndarray  # shape=(N, T, ...), 0 past a row's length
    lengths: np.ndarray | None = None  # shape=(N,), dtype=int32; None: all rows have T steps
    steps: int | None = None  # steps of the array that was given; None: it was a list
    units: Any = None  # a `Units` that x is written in; None: as given

    @property
    def counts(self) -> np.ndarray:
        """Which steps are a row's own, ``[N, T]``."""
        steps = self.x.shape[1]
        lengths = np.full(len(self.x), steps) if self.lengths is None else self.lengths
        return np.arange(steps) < np.asarray(lengths)[:, None]


def check_kind(what: str, values: Any) -> None:
    """Raises ValueError where values are dates, durations or complex numbers.

    Args:
      what: name of the argument, for errors.
      values: an array, of objects too, or a table with columns.
    """
    if hasattr(values, "dtypes") and hasattr(values, "columns"):
        for name, column in values.items():
            if getattr(column.dtype, "kind", "O") in "OMmc":
                check_kind(f"column {name!r} of {what}", column)
        return
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind == "O":
        kinds = {_kind_of(value) for value in np.asarray(values, object).flat}
        kind = next(iter(sorted(kinds - {""})), "")
    if kind == "c":
        raise ValueError(f"Complex data not supported: {what} must hold real numbers.")
    if kind in ("M", "m"):
        held, since = ("dates", "(t - t.min())") if kind == "M" else ("durations", "t")
        raise ValueError(
            f"{what} holds {held}: turn them into numbers first, such as seconds, {since} /"
            " np.timedelta64(1, 's')."
        )


def _kind_of(value: Any) -> str:
    """NumPy's letter for dates, durations and complex numbers; else nothing."""
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return "m"
    # pandas, which need not be there, has dates of another kind: periods.
    if isinstance(value, datetime.date | datetime.time | np.datetime64) or hasattr(
        value, "start_time"
    ):
        return "M"
    return "c" if isinstance(value, complex | np.complexfloating) else ""


def is_sequence_data(X: Any) -> bool:
    """Whether X is a `jaxlstm.data.SequenceData`, or has all that one has; a table has columns."""
    return not hasattr(X, "iloc") and all(hasattr(X, name) for name in _SEQUENCE_DATA)


def targets_of(X: Any, y: Any) -> Any:
    """The targets: y, or where there are none those that a `SequenceData` brings."""
    return X.targets if y is None and is_sequence_data(X) else y


def weight_of(X: Any, sample_weight: Any) -> Any:
    """The weights that are given, or where there are none those that a `SequenceData` brings."""
    return X.weight if sample_weight is None and is_sequence_data(X) else sample_weight


def is_list(rows: Any) -> bool:
    """Whether rows come one by one: a list, a tuple or a vector of objects, of arrays."""
    is_vector = isinstance(rows, np.ndarray) and rows.dtype == object and rows.ndim == 1
    if not is_vector and not isinstance(rows, list | tuple):
        return False
    return len(rows) > 0 and all(np.ndim(row) > 0 for row in rows if isinstance(row, np.ndarray))


def _arrays(rows: Any) -> list[np.ndarray] | None:
    """Rows of unequal shape as arrays; None where they make one array as they are."""
    if not is_list(rows):
        return None
    odd = [place for place, row in enumerate(rows) if not hasattr(row, "__len__")]
    if odd and len(odd) < len(rows):
        raise ValueError(
            f"X[{odd[0]}] must be a row as the others are, an array [T, F], got {rows[odd[0]]!r}."
        )
    if odd:
        return None
    if any(isinstance(row, str | dict) for row in rows):
        return None
    try:
        arrays = [np.asarray(row) for row in rows]
    except ValueError:
        return None  # a row that is no array by itself
    if any(array.ndim == 0 for array in arrays):
        return None
    one_by_one = any(isinstance(row, np.ndarray) for row in rows)
    if len({array.shape for array in arrays}) == 1 and not one_by_one:
        return None
    return arrays


def read_rows(X: Any) -> Sequences | None:
    """Rows that are not one array, padded; None for those that are.

    Raises:
      ValueError: an empty row, rows of different features or types, NaN within a row.
    """
    if is_sequence_data(X):
        x = np.asarray(X.x)
        _check_numbers("X", x)
        return cut(x, X.lengths) if X.lengths is not None else Sequences(x, None, x.shape[1])
    if hasattr(X, "iloc") and getattr(getattr(X, "dtype", None), "kind", "") == "O":
        X = X.to_numpy()  # a pandas Series of arrays
    arrays = _arrays(X)
    if arrays is None:
        return None
    first = arrays[0]
    for place, row in enumerate(arrays):
        _check_numbers(f"X[{place}]", row)
        if not row.size:
            raise ValueError(f"X[{place}] is empty: every row needs at least one step.")
        if row.shape[1:] != first.shape[1:]:
            raise ValueError(
                "rows of X must have the same features in every step, but steps of X[0] have the"
                f" shape {first.shape[1:]} and those of X[{place}] {row.shape[1:]}."
            )
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            at = np.argwhere(~np.isfinite(row))[0].tolist()
            reason = "NaN" if np.isnan(row[tuple(at)]) else "infinity"
            raise ValueError(
                f"X must hold finite numbers, but X[{place}][{', '.join(map(str, at))}] is {reason}."
            )
    lengths = np.array([len(row) for row in arrays], np.int32)
    x = np.zeros((len(arrays), lengths.max(), *first.shape[1:]), np.result_type(*arrays))
    for place, row in enumerate(arrays):
        x[place, : len(row)] = row
    return Sequences(x, None if (lengths == lengths[0]).all() else lengths)


def _check_numbers(what: str, array: np.ndarray) -> None:
    check_kind(what, array)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"X must hold numbers, but {what} is of type {array.dtype}.")


def cut(x: np.ndarray, lengths: Any) -> Sequences:
    """An array whose rows have these lengths, cut to the longest, with 0 in the padding.

    Raises:
      ValueError: a length outside 1..T.
    """
    steps = x.shape[1]
    lengths = np.asarray(lengths)
    wrong = np.flatnonzero((lengths < 1) | (lengths > steps))
    if len(wrong):
        place = int(wrong[0])
        if lengths[place] == 0:
            raise ValueError(f"X[{place}] is empty: every row needs at least one step.")
        raise ValueError(f"the length of X[{place}] must be in 1..{steps}, got {lengths[place]}.")
    longest = int(lengths.max())
    if (lengths == longest).all():
        return Sequences(x[:, :longest], None, steps)
    counts = np.arange(longest) < lengths[:, None]
    padded = np.where(counts.reshape(*counts.shape, *[1] * (x.ndim - 2)), x[:, :longest], 0)
    return Sequences(padded.astype(x.dtype, copy=False), lengths.astype(np.int32), steps)


def read_padding(x: np.ndarray) -> Sequences:
    """An array ``[N, T, F]`` whose rows may end in steps that are NaN in all features.

    Raises:
      ValueError: a row of nothing but NaN.
    """
    if x.ndim != 3 or x.dtype.kind != "f" or first_not_finite(x) is None:
        return Sequences(x, None, x.shape[1] if x.ndim > 1 else None)
    is_own = ~np.isnan(x).all(axis=2)
    lengths = x.shape[1] - is_own[:, ::-1].argmax(axis=1)
    lengths[~is_own.any(axis=1)] = 0
    if (lengths == x.shape[1]).all():
        return Sequences(x, None, x.shape[1])
    return cut(x, lengths)


def first_not_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """Where the first number is that is not finite; looks piece by piece, as x may be on disk."""
    at_once = max(1, PIECE // max(1, x[0].size))
    for start in range(0, len(x), at_once):
        finite = np.isfinite(x[start : start + at_once])
        if not finite.all():
            row, *rest = np.argwhere(~finite)[0].tolist()
            return (start + row, *rest)
    return None


def widened(rows: Sequences, steps: int) -> Sequences:
    """Rows padded with zeros to so many steps, their lengths said."""
    have = rows.x.shape[1]
    if have >= steps:
        return rows
    lengths = rows.lengths
    if lengths is None:
        lengths = np.full(len(rows.x), have, np.int32)
    more = [(0, 0), (0, steps - have), *[(0, 0)] * (rows.x.ndim - 2)]
    return rows._replace(x=np.pad(rows.x, more), lengths=lengths)


def read_steps(what: str, values: Any, rows: Sequences) -> np.ndarray:
    """One value, or vector of them, for each step of each row: those of all own steps in turn.

    Args:
      what: name of the argument, for errors.
      values: ``[N, T, ...]``, of which steps past a row's length are not looked at, or a list of
        arrays ``[T_i, ...]``.
      rows: what they belong to.

    Returns:
      ``[steps, ...]``, the own steps of row 0, then of row 1, ...

    Raises:
      ValueError: another number of rows, or of steps of one of them.
    """
    counts = rows.counts
    lengths = counts.sum(axis=1)
    if is_list(values):
        arrays = [np.asarray(value) for value in values]
        if len(arrays) != len(lengths):
            raise ValueError(f"X has {len(lengths)} rows, {what} has {len(arrays)}.")
        for place, (value, length) in enumerate(zip(arrays, lengths, strict=True)):
            if value.ndim == 0 or len(value) != length:
                found = len(value) if value.ndim else "no"
                raise ValueError(
                    f"{what} must have one entry for each step of X: X[{place}] has {length} steps,"
                    f" {what}[{place}] has {found} entries."
                )
            if value.shape[1:] != arrays[0].shape[1:]:
                raise ValueError(
                    f"all steps of {what} must have the same shape, but those of {what}[0] have"
                    f" {arrays[0].shape[1:]} and those of {what}[{place}] {value.shape[1:]}."
                )
        return _typed(np.concatenate(arrays))
    array = np.asarray(values)
    steps = {rows.x.shape[1], rows.steps} - {None}
    if array.ndim < 2 or len(array) != len(lengths) or array.shape[1] not in steps:
        wanted = " or ".join(f"[{len(lengths)}, {count}]" for count in sorted(steps))
        raise ValueError(
            f"{what} must have one entry for each step of X, so its shape must begin with {wanted},"
            f" got {array.shape}."
        )
    return _typed(array[:, : rows.x.shape[1]][counts])


def _typed(flat: np.ndarray) -> np.ndarray:
    """Values of an array of objects, such as predictions with None in the padding, in their type."""
    return np.asarray(flat.tolist()) if flat.dtype == object else flat


def place_of_step(step: int, rows: Sequences) -> str:
    """Row and step of one of the steps that `read_steps` gives, as ``[row][step]``."""
    row, own = np.argwhere(rows.counts)[step].tolist()
    return f"[{row}][{own}]"


def rows_of(X: Any) -> Sequences:
    """The rows of any X that an estimator takes, as they are."""
    rows = read_rows(X)
    return read_padding(np.asarray(X)) if rows is None else rows


def by_step(weight: np.ndarray | None, rows: Sequences) -> np.ndarray | None:
    """Weights ``[N]`` or ``[N, T]`` of all own steps in turn, ``[steps]``."""
    if weight is None:
        return None
    whole = weight if weight.ndim == 2 else np.repeat(weight[:, None], rows.x.shape[1], axis=1)
    return whole[rows.counts]


def spread(flat: np.ndarray, rows: Sequences) -> np.ndarray:
    """The reverse of `read_steps`: ``[steps, ...] -> [N, T, ...]``, 0 past a row's length."""
    counts = rows.counts
    padded = np.zeros((*counts.shape, *flat.shape[1:]), flat.dtype)
    padded[counts] = flat
    return padded


def as_given(values: np.ndarray, rows: Sequences, fill: Any = None) -> np.ndarray:
    """Values of each step, ``[N, T, ...]``, in the form in which the rows came.

    For a list a vector of arrays ``[T_i, ...]``. For an array one of its steps, where those past a
    row's length hold ``fill``; by default NaN, or None where values are no floating-point numbers.
    """
    counts = rows.counts
    if rows.steps is None:
        parts = np.empty(len(values), object)
        for place, own in enumerate(counts):
            parts[place] = values[place, : len(own)][own]
        return parts
    if rows.lengths is None and values.shape[1] == rows.steps:
        return values
    is_floating = values.dtype.kind == "f"
    fill = np.nan if is_floating and fill is None else fill
    shape = (len(values), rows.steps, *values.shape[2:])
    full = np.full(shape, fill, values.dtype if is_floating else object)
    full[:, : counts.shape[1]][counts] = values[:, : counts.shape[1]][counts]
    return full


def is_dict(X: Any) -> bool:
    """Whether X is a dict of arrays; SciPy's dok matrices are dicts, too."""
    return isinstance(X, Mapping) and not hasattr(X, "tocsr")


class DictRows(dict[str, Any]):
    """A dict of arrays ``[N, ...]`` whose rows scikit-learn can count and pick."""

    def __init__(self, arrays: Mapping[str, Any]):
        super().__init__({name: np.asarray(array) for name, array in arrays.items()})
        if not arrays:
            raise ValueError("X is an empty dict: it must have an array [N, ...] for each input.")
        counts = {name: len(part) if part.ndim else None for name, part in self.items()}
        if len(set(counts.values())) > 1 or None in counts.values():
            raise ValueError(
                "the arrays of X must have as many rows each, got"
                f" {', '.join(f'{count} in {name!r}' for name, count in counts.items())}."
            )

    @property
    def shape(self) -> tuple[int]:
        """Number of rows."""
        return (len(next(iter(self.values()))),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        if isinstance(key, tuple):
            key = key[0]
        return DictRows({name: array[key] for name, array in self.items()})


def packed(X: Mapping[str, Any]) -> tuple[tuple[Input, ...], np.ndarray]:
    """A dict of arrays as columns of one array ``[N, columns]``, and what they are.

    Raises:
      TypeError, ValueError: keys that are no names, arrays of unequal length, or not of numbers.
    """
    inputs, parts = [], []
    dtype = jax.dtypes.canonicalize_dtype(float)
    for name, array in DictRows(X).items():
        where = f"X[{name!r}]"
        if not isinstance(name, str):
            raise TypeError(f"the keys of X must be names, got {name!r}.")
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"{where} must be an array [N, ...] of numbers, got {array.dtype} of shape"
                f" {array.shape}; sequences of unequal length in a dict are not supported."
            )
        if not array.size:
            raise ValueError(f"{where} must have rows of at least one number.")
        kind = None
        if array.dtype.kind != "f":
            check_ids(array, where)
            kind = "bool" if array.dtype.kind == "b" else "int32"
        with np.errstate(over="ignore"):
            part = array.astype(dtype)
        place = first_not_finite(part)
        if place is not None:
            raise ValueError(
                f"X must hold finite numbers, but {where}[{', '.join(map(str, place))}] is"
                f" {array[place]}."
            )
        inputs.append(Input(name, array.shape[1:], kind))
        parts.append(part.reshape(len(part), -1))
    return tuple(inputs), np.concatenate(parts, axis=1)


def check_ids(array: np.ndarray, name: str = "X") -> None:
    """Raises ValueError where ids are no whole numbers, or beyond what float32 holds."""
    whole = np.round(array)
    wrong = np.argwhere((whole != array) | (np.abs(whole.astype(np.float64)) >= LARGEST_ID))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise ValueError(
            f"{name} must hold whole numbers below {LARGEST_ID} in size, as the module takes them for"
            f" ids, but {name}[{', '.join(map(str, place))}] is {array[place]}."
        )
