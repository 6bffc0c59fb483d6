"""What a data set holds, in numbers: rows of each class, spread of each numeric target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxlstm.data.checks import valid_steps

if TYPE_CHECKING:
    from jaxlstm.data.sequences import SequenceData


def summarise(data: SequenceData) -> pd.DataFrame:
    """Builds the table of `SequenceData.summary`, which says what is in it."""
    if data.task == "regression":
        return _spread(data)
    return _steps(data) if data.per_step else _rows(data)


def target_columns(data: SequenceData) -> tuple[str, ...]:
    """Names of a regression target's columns: its own, or ``target``, ``target 0``, ..."""
    if data.target_names:
        return data.target_names
    if data.y.ndim == 1 + data.per_step:
        return ("target",)
    return tuple(f"target {number}" for number in range(data.y.shape[-1]))


def _rows(data: SequenceData) -> pd.DataFrame:
    held = _held(data)  # [N, C]
    table = pd.DataFrame({"rows": held.sum(0)}, index=pd.Index(data.classes, name="class"))
    if data.groups is not None:
        table["groups"] = _groups(data.groups, held)
    table.loc["all"] = [
        len(data),
        *([] if data.groups is None else [len(np.unique(data.groups))]),
    ]
    table.insert(1, "percent", 100 * table["rows"] / max(1, len(data)))
    return table


def _steps(data: SequenceData) -> pd.DataFrame:
    valid = valid_steps(data)
    held = np.stack(
        [
            valid & (data.y[:, :, label] != 0 if data.y.ndim == 3 else data.y == label)
            for label in range(len(data.classes))
        ],
        axis=-1,
    )  # [N, T, C]
    somewhere = np.asarray(held.any(1))
    table = pd.DataFrame(
        {"steps": held.sum((0, 1)), "rows": somewhere.sum(0)},
        index=pd.Index(data.classes, name="class"),
    )
    if data.groups is not None:
        table["groups"] = _groups(data.groups, somewhere)
    table.loc["all"] = [
        int(valid.sum()),
        len(data),
        *([] if data.groups is None else [len(np.unique(data.groups))]),
    ]
    table.insert(1, "percent", 100 * table["steps"] / max(1, int(valid.sum())))
    return table


def _spread(data: SequenceData) -> pd.DataFrame:
    y = data.y.astype(np.float64)
    values = y[valid_steps(data)] if data.per_step else y
    names = target_columns(data)
    values = values.reshape(-1, len(names))  # [rows or steps, D]
    table = pd.DataFrame({"rows": len(data)}, index=pd.Index(names, name="target"))
    if data.per_step:
        table["steps"] = len(values)
    for name, measure in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
        table[name] = measure(values, axis=0) if len(values) else np.full(len(names), np.nan)
    return table


def _held(data: SequenceData) -> np.ndarray:
    """Whether each row is of each class, or has each label, ``[N, C]``."""
    if data.y.ndim == 2:
        return data.y != 0
    return data.y[:, None] == np.arange(len(data.classes))


def _groups(groups: np.ndarray, held: np.ndarray) -> list[int]:
    return [len(np.unique(groups[own])) for own in held.T]
