"""Rows of unequal length made one array: padded with zeros, their lengths kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxlstm.data.checks import check_lengths, first


def stack_rows(
    source: str, x: ArrayLike | Sequence[ArrayLike], lengths: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Stacks rows and finds out how long each is.

    Args:
      source: errors begin with it.
      x: sequences ``[N, T, F]`` or ``[N, T]``, or a list of arrays ``[T_i, F]`` or ``[T_i]``. Unless
        ``lengths`` are given, steps at a row's end of which all values are NaN are padding.
      lengths: valid steps of each row, ``[N]``, or None.

    Returns:
      The rows, zeros at padding, and their lengths, int32, or None where all are full.

    Raises:
      ValueError: no numbers, no rows, rows of several shapes, an empty row, a missing value, or
        lengths that do not fit.
    """
    rows = _as_rows(x)
    if rows is None:
        stacked, own = np.asarray(x), None
    else:
        stacked, own = pad(source, "x", rows)
    if stacked.ndim < 2:
        raise ValueError(f"{source}: x must have shape [N, T, F] or [N, T], got {stacked.shape}.")
    if not stacked.size:
        raise ValueError(
            f"{source} has no rows." if not len(stacked) else f"{source}: its rows are empty."
        )
    if stacked.dtype.kind not in "biuf":
        raise ValueError(f"{source}: x must hold numbers, got values of type {stacked.dtype}.")
    given = None
    if lengths is not None:
        given = np.asarray(lengths)
        check_lengths(source, given, *stacked.shape[:2])
        if own is not None and (given != own).any():
            row = int((given != own).argmax())
            raise ValueError(
                f"{source}: the length of row {row} is {given[row]}, but this row of x has"
                f" {own[row]} steps."
            )
    return _without_nan(source, stacked, own if given is None else given, trim=given is None)


def pad(source: str, name: str, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Stacks arrays ``[T_i, ...]``, zeros or empty text at the end of the shorter ones.

    Returns:
      The array ``[N, T, ...]``, and the lengths, or None where all are equally long.

    Raises:
      ValueError: a row that is no sequence or empty, or of another kind or width than the first.
    """
    for number, row in enumerate(rows):
        if row.ndim == 0 or row.ndim != rows[0].ndim or row.shape[1:] != rows[0].shape[1:]:
            shape = ", ".join(["T_i", *map(str, rows[0].shape[1:])])
            raise ValueError(
                f"{source}: row {number} of {name} has shape {row.shape}; after row 0 it must have"
                f" shape [{shape}]."
            )
        if not row.size:
            raise ValueError(f"{source}: row {number} of {name} is empty.")
        if (row.dtype.kind in "US") != (rows[0].dtype.kind in "US") or row.dtype.kind == "O":
            raise ValueError(
                f"{source}: row {number} of {name} holds values of type {row.dtype}, row 0 of type"
                f" {rows[0].dtype}."
            )
    lengths = np.array([len(row) for row in rows], np.int32)
    dtype = np.result_type(*{row.dtype for row in rows})
    padded = np.zeros((len(rows), int(lengths.max()), *rows[0].shape[1:]), dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded, None if (lengths == lengths[0]).all() else lengths


def as_ragged(array: Any) -> list[np.ndarray] | None:
    """Rows of a list of arrays that are not equally long, or None for anything else."""
    rows = _as_rows(array)
    if rows is None or len({row.shape for row in rows}) == 1:
        return None
    return rows


def _as_rows(array: Any) -> list[np.ndarray] | None:
    """Rows of a list that holds arrays or lists, or None for an array or a list of scalars."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "O" and array.ndim == 1:
        array = list(array)
    if not isinstance(array, (list, tuple)) or not array:
        return None
    if not any(isinstance(row, (list, tuple)) or np.ndim(row) for row in array):
        return None
    return [_array(row) for row in array]


def _array(row: Any) -> np.ndarray:
    try:
        return np.asarray(row)
    except ValueError:  # its own rows differ in length
        return np.asarray(row, object)


def _without_nan(
    source: str, x: np.ndarray, lengths: np.ndarray | None, trim: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Checks the valid steps for missing values and zeroes the others.

    Args:
      source: errors begin with it.
      x: rows ``[N, T, ...]``.
      lengths: of the rows, or None where all are full.
      trim: whether all-NaN steps at a row's end are padding.
    """
    steps = x.shape[1]
    if x.dtype.kind == "f":
        missing = np.isnan(x)
        if missing.any():
            valid = np.arange(steps) < (steps if lengths is None else lengths[:, None])
            valid = np.broadcast_to(valid, x.shape[:2])
            if trim:
                filled = valid & ~missing.reshape(*x.shape[:2], -1).all(2)
                lengths = (filled * np.arange(1, steps + 1)).max(1).astype(np.int32)
                if not lengths.all():
                    raise ValueError(
                        f"{source}: row {int((lengths == 0).argmax())} of x is empty: all its"
                        " values are NaN."
                    )
                valid = np.arange(steps) < lengths[:, None]
            inside = missing & valid.reshape(*valid.shape, *[1] * (x.ndim - 2))
            if inside.any():
                row, step, *feature = first(inside)
                shown = f", feature {feature[0]}" if feature else ""
                raise ValueError(f"{source}: x is NaN at row {row}, step {step}{shown}.")
            x = np.where(missing, np.zeros((), x.dtype), x)
    if lengths is None or (lengths == steps).all():
        return x, None
    return x, lengths.astype(np.int32)
