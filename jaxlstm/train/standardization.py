"""Features brought to mean 0 and standard deviation 1, by the rows that a trial trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from jaxlstm.train.data import step_weights

Array = jax.Array

# Numbers looked at in one piece.
PIECE = 1 << 22


class Standardization(NamedTuple):
    """What a trial's inputs are standardised by; traced, so that folds share a program."""

    mean: Any  # shape=(F,)
    scale: Any  # shape=(F,), above 0


def fit(
    x: np.ndarray, rows: np.ndarray, lengths: Any = None, weight: Any = None
) -> Standardization:
    """Mean and standard deviation of each feature over some rows and all their steps.

    In float64, piece by piece, so that the rows are never copied as a whole. As in scikit-learn's
    `StandardScaler` the deviation is the population's, and a constant feature's is taken as 1.

    Args:
      x: the data set, ``[N, ..., F]``.
      rows: row numbers, at least one; one that is named twice counts twice.
      lengths: steps of each row that count, ``[N]``; None: all.
      weight: what each row counts for, ``[N]``, or each step, ``[N, T]``; None: 1.

    Returns:
      Numbers of the data's type.
    """
    at_once = max(1, PIECE // max(1, x[0].size))
    features = x.shape[-1]
    is_plain = lengths is None and weight is None

    def pieces() -> Iterator[tuple[np.ndarray, Any]]:
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            values = x[some].astype(np.float64).reshape(-1, features)
            yield values, None if is_plain else _counts(x.shape, some, lengths, weight)

    def mean_of(change: Any) -> np.ndarray:
        sums = (
            (change(piece) if counts is None else change(piece) * counts).sum(axis=0)
            for piece, counts in pieces()
        )
        return np.asarray(sum(sums, np.zeros(features)) / count)

    count = float(len(rows) * (x[0].size // features))
    if not is_plain:
        count = sum(float(counts.sum()) for _, counts in pieces())
    mean = mean_of(lambda piece: piece)
    variance = mean_of(lambda piece: np.square(piece - mean))
    # What a constant feature's rounding may leave, scikit-learn's bound.
    epsilon = np.finfo(np.float64).eps
    rounding = count * epsilon * variance + (count * mean * epsilon) ** 2
    scale = np.sqrt(variance)
    # A device may take numbers below the smallest normal one for 0.
    is_constant = (variance <= rounding) | (scale < np.finfo(x.dtype).tiny)
    scale = np.where(is_constant, 1, scale)
    return Standardization(mean.astype(x.dtype), scale.astype(x.dtype))


def _counts(shape: tuple[int, ...], rows: np.ndarray, lengths: Any, weight: Any) -> np.ndarray:
    """What each vector of features of some rows counts for, ``[vectors, 1]``."""
    steps = shape[1] if len(shape) > 2 else 1
    lengths = None if lengths is None else np.asarray(lengths)[rows]
    weight = None if weight is None else np.asarray(weight)[rows]
    counts = step_weights(lengths, weight, len(rows), steps)
    vectors = int(np.prod(shape[1:-1])) // steps
    return np.repeat(counts.reshape(-1), vectors)[:, None]


def apply(standardization: Standardization | None, x: Array) -> Array:
    """Rows ``[B, ..., F]``, standardised; as they are where there is nothing to do it by."""
    if standardization is None:
        return x
    before = tuple(range(x.ndim - 1))
    mean, scale = (lax.expand_dims(one, before) for one in map(jax.numpy.asarray, standardization))
    return (x - mean) / scale
