"""The numeric targets of a data set: their spread, and their values in bins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from jaxlstm.report.sequences import Sequences, Splits, valid_steps

#: Bins of a target.
BINS = 30


def measure_targets(splits: Splits) -> pd.DataFrame:
    """Measure each numeric target in each split.

    Args:
        splits: The data by the splits' names.

    Returns:
        One line a split and target: columns `split`, `target`, `rows`, with a target for each step
        `steps`, then `mean`, `std`, `min`, `max`.
    """
    return of_each(splits, {split: data.summary() for split, data in splits.items()})


def bin_targets(splits: Splits) -> pd.DataFrame:
    """Count the values of each numeric target in equal bins, the same for all splits.

    Args:
        splits: The data by the splits' names.

    Returns:
        One line a split, target and bin: columns `split`, `target`, `low`, `high`, `count` (of
        rows, or of steps with a target for each; a value at an edge counts in the bin above it,
        the largest in the last).
    """
    values = {split: _target_values(data) for split, data in splits.items()}
    names = next(iter(splits.values())).summary().index.tolist()
    parts = []
    for number, name in enumerate(names):
        edges = _edges(np.concatenate([own[:, number] for own in values.values()]))
        for split, own in values.items():
            parts.append(
                pd.DataFrame(
                    {
                        "split": split,
                        "target": name,
                        "low": edges[:-1],
                        "high": edges[1:],
                        "count": np.histogram(own[:, number], edges)[0],
                    }
                )
            )
    order = {split: place for place, split in enumerate(splits)}
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values(
        "split", key=lambda own: own.map(order), kind="stable", ignore_index=True
    )


def of_each(splits: Splits, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Stack a table of each split, the split's name in the first column."""
    parts = []
    for split in splits:
        table = tables[split].reset_index()
        table.insert(0, "split", split)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _target_values(data: Sequences) -> np.ndarray:
    """Return the targets of all rows, or of all steps that are not padding, `[R, D]`."""
    y = data.y[valid_steps(data)] if data.per_step else data.y
    columns = data.y.shape[-1] if data.y.ndim > 1 + data.per_step else 1
    return y.astype(np.float64).reshape(-1, columns)


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if high - low < BINS and (values == np.round(values)).all():
        return np.arange(low - 0.5, high + 1)  # a bin for each whole number
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)
