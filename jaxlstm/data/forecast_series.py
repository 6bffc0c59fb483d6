"""One or several time series in any of the forms that users hold them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Series(NamedTuple):
    """One series.

    Attributes:
      name: of the series.
      values: ``[L, F]``, float64.
      columns: names of the ``F`` columns.
      times: when each value is, rising.
    """

    name: str
    values: np.ndarray
    columns: tuple[str, ...]
    times: pd.Index


def read_series(series: Any, names: Sequence[str], source: str) -> list[Series]:
    """Reads one series or several.

    Args:
      series: an array ``[L]`` or ``[L, F]``, a pandas Series or DataFrame, a list of numbers; or
        several of them as a list or a dict by name.
      names: of the columns of arrays.
      source: errors begin with it.

    Raises:
      ValueError: no series, no numbers, a missing or infinite value, an index that does not rise,
        or series whose columns differ.
    """
    if isinstance(series, Mapping):
        given = [(str(name), own) for name, own in series.items()]
    elif isinstance(series, (list, tuple)) and not _is_numbers(series):
        given = [(str(number), own) for number, own in enumerate(series)]
    else:
        given = [(str(getattr(series, "name", None) or "series"), series)]
    if not given:
        raise ValueError(f"{source}: there is no series.")
    several = len(given) > 1
    read = [
        _read(name, own, names, f"{source}, series {name!r}" if several else source)
        for name, own in given
    ]
    for own in read:
        if own.columns != read[0].columns:
            raise ValueError(
                f"{source}: series {own.name!r} has the columns {', '.join(own.columns)}, series"
                f" {read[0].name!r} {', '.join(read[0].columns)}."
            )
    return read


def _is_numbers(series: Sequence[Any]) -> bool:
    return bool(series) and all(np.ndim(value) == 0 for value in series)


def _read(name: str, series: Any, names: Sequence[str], place: str) -> Series:
    columns: list[str] = [str(column) for column in names]
    index = None
    if isinstance(series, pd.Series):
        columns = columns or ["value" if series.name is None else str(series.name)]
        index = series.index
    elif isinstance(series, pd.DataFrame):
        columns, index = [str(column) for column in series.columns], series.index
    array = np.asarray(series)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{place}: a series must have shape [L] or [L, F], got {array.shape}.")
    try:
        values = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: a series must hold numbers: {error}.") from error
    if not columns:
        single = values.shape[1] == 1
        columns = ["value"] if single else [f"column {k}" for k in range(values.shape[1])]
    if len(columns) != values.shape[1]:
        raise ValueError(
            f"{place}: {len(columns)} names do not fit a series of {values.shape[1]} columns."
        )
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise ValueError(f"{place}: two columns are called {twice!r}.")
    bad = ~np.isfinite(values)
    if bad.any():
        step, column = (int(number) for number in np.argwhere(bad)[0])
        raise ValueError(
            f"{place}: the value of {columns[column]} at step {step} is {values[step, column]}."
        )
    if index is None:
        index = pd.RangeIndex(len(values))
    if not (index.is_monotonic_increasing and index.is_unique):
        step = next(k for k in range(1, len(index)) if not index[k] > index[k - 1])
        raise ValueError(f"{place}: the index does not rise at step {step}: {index[step]}.")
    return Series(name, values, tuple(columns), index)
