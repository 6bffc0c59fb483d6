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


class Units(NamedTuple):
    """How a data set is written where its type cannot tell the given numbers apart.

    A Unix time of today is a multiple of 128 in float32. Such a feature is stored as ``(x - center) /
    unit``, and its mean and scale are in these units; all others have center 0 and unit 1.
    """

    center: Any  # shape=(F,), dtype=float64
    unit: Any  # shape=(F,), dtype=float64, powers of two

    def written(self, x: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows ``[N, ..., F]`` in these units, subtracted in float64 piece by piece."""
        result = np.empty(x.shape, dtype)
        at_once = max(1, PIECE // max(1, x[0].size))
        for start in range(0, len(x), at_once):
            piece = slice(start, start + at_once)
            result[piece] = (x[piece].astype(np.float64) - self.center) / self.unit
        return result

    def traced(self, x: Array) -> Array:
        """The same within a JAX program, in the type of ``x``: the center is taken in two parts."""
        center = np.asarray(self.center, np.float64)
        near = center.astype(x.dtype)
        rest = (center - near).astype(x.dtype)
        return ((x - near) - rest) / np.asarray(self.unit, x.dtype)


AS_GIVEN = Units(0.0, 1.0)

# A mean so many deviations away from 0 leaves float32 14 bits of one deviation.
_FAR = 2.0**10

# Outside, a deviation or its reciprocal comes near the ends of float32.
_SMALL, _LARGE = 2.0**-100, 2.0**100


def is_told_apart(mean: Any, scale: Any) -> np.ndarray:
    """Whether float32 holds features of such means and deviations as they are, ``[F]``."""
    within = (scale >= _SMALL) & (scale <= _LARGE)
    return np.asarray((np.abs(mean) <= _FAR * scale) & within)


def units_of(x: np.ndarray, rows: Any, lengths: Any, dtype: Any) -> Units | None:
    """The units in which numbers of ``dtype`` tell the rows apart; None: as they are.

    Args:
      x: the data set as given, ``[N, ..., F]``.
      rows: row numbers to look at.
      lengths: steps of each row that count, ``[N]``; None: all.
      dtype: floating-point type of computation.
    """
    # A file that is mapped may be larger than memory: it stays the data set.
    is_mapped = isinstance(x, np.memmap) and x.dtype == dtype
    if np.finfo(dtype).bits > 32 or is_mapped:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        count, mean, variance = _moments(x, rows, lengths, None)
        scale, is_constant = _deviation(count, mean, variance)
    # Rounding that is the same in all rows goes with the mean, up to where it would be a whole one.
    scale = np.where(is_constant, 2.0**13, scale)
    is_far = ~is_told_apart(mean, scale) & np.isfinite(scale)
    if not is_far.any():
        return None
    is_extreme = is_far & ((scale < _SMALL) | (scale > _LARGE))
    exponent = np.round(np.log2(np.where(is_extreme, scale, 1)))
    return Units(np.where(is_far, mean, 0), 2.0**exponent)


def fit(
    x: np.ndarray, rows: np.ndarray, lengths: Any = None, weight: Any = None, units: Any = None
) -> Standardization:
    """Mean and standard deviation of each feature over some rows and all their steps.

    As in scikit-learn's `StandardScaler` the deviation is the population's, and a constant feature's
    is taken as 1.

    Args:
      x: the data set, ``[N, ..., F]``.
      rows: row numbers, at least one; one that is named twice counts twice.
      lengths: steps of each row that count, ``[N]``; None: all.
      weight: what each row counts for, ``[N]``, or each step, ``[N, T]``; None: 1.
      units: the `Units` of x; None: as given.

    Returns:
      Numbers of the data's type, in its units.
    """
    count, mean, variance = _moments(x, rows, lengths, weight)
    limits = np.finfo(x.dtype)
    center, unit = (0.0, 1.0) if units is None else units
    scale, is_constant = _deviation(count, mean + center / unit, variance)
    # A device may take numbers below the smallest normal one for 0.
    is_constant = is_constant | (scale < limits.tiny)
    scale = np.where(is_constant, np.clip(1 / unit, limits.tiny, limits.max), scale)
    return Standardization(mean.astype(x.dtype), scale.astype(x.dtype))


def _deviation(count: float, mean: np.ndarray, variance: np.ndarray) -> Any:
    """Deviations, and where they are no more than what rounding may leave of a constant feature.

    The bound is scikit-learn's.
    """
    epsilon = np.finfo(np.float64).eps
    rounding = count * epsilon * variance + (count * mean * epsilon) ** 2
    return np.sqrt(variance), variance <= rounding


def _moments(x: np.ndarray, rows: Any, lengths: Any, weight: Any) -> Any:
    """What counts, and mean and variance of each feature ``[F]``.

    In float64, piece by piece, so that the rows are never copied as a whole.
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
    return count, mean, mean_of(lambda piece: np.square(piece - mean))


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
