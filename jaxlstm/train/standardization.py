"""Features brought to mean 0 and standard deviation 1, by the rows that a trial trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

Array = jax.Array

# Numbers looked at in one piece.
PIECE = 1 << 22


class Standardization(NamedTuple):
    """What a trial's inputs are standardised by; traced, so that folds share a program."""

    mean: Any  # shape=(F,)
    scale: Any  # shape=(F,), above 0


def fit(x: np.ndarray, rows: np.ndarray) -> Standardization:
    """Mean and standard deviation of each feature over some rows and all their steps.

    In float64, piece by piece, so that the rows are never copied as a whole. As in scikit-learn's
    `StandardScaler` the deviation is the population's, and a constant feature's is taken as 1.

    Args:
      x: the data set, ``[N, ..., F]``.
      rows: row numbers, at least one; one that is named twice counts twice.

    Returns:
      Numbers of the data's type.
    """
    at_once = max(1, PIECE // max(1, x[0].size))
    count = len(rows) * (x[0].size // x.shape[-1])

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), at_once):
            yield x[rows[start : start + at_once]].astype(np.float64).reshape(-1, x.shape[-1])

    mean = sum((piece.sum(axis=0) for piece in pieces()), np.zeros(x.shape[-1])) / count
    squares = (np.square(piece - mean).sum(axis=0) for piece in pieces())
    variance = sum(squares, np.zeros(x.shape[-1])) / count
    # What a constant feature's rounding may leave, scikit-learn's bound.
    epsilon = np.finfo(np.float64).eps
    rounding = count * epsilon * variance + (count * mean * epsilon) ** 2
    scale = np.sqrt(variance)
    # A device may take numbers below the smallest normal one for 0.
    is_constant = (variance <= rounding) | (scale < np.finfo(x.dtype).tiny)
    scale = np.where(is_constant, 1, scale)
    return Standardization(mean.astype(x.dtype), scale.astype(x.dtype))


def apply(standardization: Standardization | None, x: Array) -> Array:
    """Rows ``[B, ..., F]``, standardised; as they are where there is nothing to do it by."""
    if standardization is None:
        return x
    before = tuple(range(x.ndim - 1))
    mean, scale = (lax.expand_dims(one, before) for one in map(jax.numpy.asarray, standardization))
    return (x - mean) / scale
