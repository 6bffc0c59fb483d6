"""Windows over recordings of people, cut wherever a recording breaks."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np


class Windows(NamedTuple):
    """Windows, by group, and within a group in the order of its rows.

    Attributes:
      x: values, ``[N, T, F]``.
      y: label of each window, ``[N]``.
      groups: group of each window, ``[N]``.
      rows: first row of each window, an index into the rows given, ``[N]``.
      used: which of the rows given are in at least one window, ``[R]``.
    """

    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    used: np.ndarray


def sliding_windows(
    values: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    time: np.ndarray,
    *,
    window: int,
    stride: int,
    max_gap: float,
    label: Literal["majority", "last"] = "majority",
    across_labels: bool = False,
) -> Windows:
    """Cuts every group's rows into runs, and the runs into windows.

    The rows of a group are taken in their order, wherever they lie among those of others. A run
    ends where the clock goes back or leaps by more than ``max_gap``, and, unless
    ``across_labels``, where the label changes. Windows begin at a run's first row and every
    ``stride`` rows from there; no window leaves its run. A clock that stands still ends nothing.

    Args:
      values: one row a moment in time, ``[R, F]``.
      labels: class of each row, integers from 0, ``[R]``.
      groups: who each row is from, ``[R]``.
      time: of each row, ``[R]``, in any unit.
      window: rows in a window, ``T``.
      stride: rows from the start of a window to the start of the next.
      max_gap: longest time between two rows of a run, in the unit of ``time``.
      label: of a window whose rows' labels differ: the most frequent (of equally frequent ones the
        lowest number), or that of the last row.
      across_labels: whether a window may hold rows of several labels.

    Raises:
      ValueError: an option outside its range.
    """
    for name, number in (("window", window), ("stride", stride)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1 row, got {number}.")
    if not max_gap >= 0:
        raise ValueError(f"max_gap must not be negative, got {max_gap}.")
    if label not in ("majority", "last"):
        raise ValueError(f"label must be 'majority' or 'last', got {label!r}.")
    order = np.argsort(groups, kind="stable")
    values, labels, groups, time = values[order], labels[order], groups[order], time[order]

    later, earlier = time[1:], time[:-1]
    cut = (groups[1:] != groups[:-1]) | (later < earlier)
    cut |= _elapsed(earlier, later) > max_gap
    if not across_labels:
        cut |= labels[1:] != labels[:-1]
    begins = np.flatnonzero(np.concatenate([[True], cut])) if len(order) else np.zeros(0, int)
    lengths = np.diff(np.append(begins, len(order)))
    counts = np.maximum(0, (lengths - window) // stride + 1)
    number_in_run = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(begins, counts) + stride * number_in_run

    features = values.shape[1]
    if len(starts):
        flat = np.lib.stride_tricks.sliding_window_view(
            np.ascontiguousarray(values).reshape(-1), window * features
        )
        x = flat[starts * features].reshape(-1, window, features)
    else:
        x = np.zeros((0, window, features), values.dtype)
    if label == "last" or not across_labels:
        y = labels[starts + window - 1]
    else:
        y = _most_frequent(labels, starts, window)

    edges = np.zeros(len(order) + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + window, -1)
    used = np.zeros(len(order), bool)
    used[order] = np.cumsum(edges[:-1]) > 0
    return Windows(x, y, groups[starts], order[starts], used)


def _elapsed(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Time between rows where it went on; integers may be too far apart for their own type."""
    if earlier.dtype.kind in "iu":
        unsigned = later.astype(np.uint64) - earlier.astype(np.uint64)  # right modulo 2**64
        return np.where(later >= earlier, unsigned, np.uint64(0))
    return later - earlier


def _most_frequent(labels: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    best = np.zeros(len(starts), labels.dtype)
    most = np.zeros(len(starts), np.int64)
    for number in np.unique(labels):
        before = np.concatenate([[0], np.cumsum(labels == number)])
        count = before[starts + window] - before[starts]
        best[count > most] = number
        most = np.maximum(most, count)
    return best
