"""Windows of time series and the values that follow them, to learn forecasting from."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxlstm.data.forecast_series import Series, read_series
from jaxlstm.data.row_numbers import index_columns
from jaxlstm.data.sequences import SequenceData

Column = str | int


@dataclasses.dataclass(frozen=True)
class ForecastWindows:
    """Windows ``[N, window, F]``, the values after them ``[N, horizon]``, and where they are from.

    Attributes:
      data: the windows as a data set for regression, targets in the unit of the series; ``groups``
        are the names of the series, or None where there is one only.
      origins: index of each window's first forecast step in its series, ``[N]``.
      members: number of each window's series, ``[N]``.
      series: the target's values of each series, ``[L]``, float64.
      names: of the series.
      times: when each value is, the index of each series.
      clock: the same as whole numbers that count the times of all series together, ``[L]``.
    """

    data: SequenceData
    origins: np.ndarray
    members: np.ndarray
    series: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    times: tuple[pd.Index, ...]
    clock: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def window(self) -> int:
        """Steps of a window."""
        return self.data.x.shape[1]

    @property
    def horizon(self) -> int:
        """Steps that are forecast."""
        return self.data.y.shape[1]

    @property
    def first_times(self) -> np.ndarray:
        """When each window's first forecast step is, as a number of ``clock``, ``[N]``."""
        return self._clock(self.origins)

    @property
    def last_times(self) -> np.ndarray:
        """When each window's last forecast step is, as a number of ``clock``, ``[N]``."""
        return self._clock(self.origins + self.horizon - 1)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """The target's values up to the last one that a window of the series holds, by series."""
        return {
            self.names[member]: self.series[member][
                : self.origins[self.members == member].max() + self.horizon
            ]
            for member in np.unique(self.members)
        }

    def take(self, rows: np.ndarray | slice) -> ForecastWindows:
        """Returns these windows of the same series."""
        return dataclasses.replace(
            self,
            data=self.data.take(rows),
            origins=self.origins[rows],
            members=self.members[rows],
        )

    def forecast_times(self) -> np.ndarray:
        """When each forecast step is, in the terms of the series' index, ``[N, horizon]``."""
        found = np.empty((len(self), self.horizon), object)
        for row, (member, origin) in enumerate(zip(self.members, self.origins, strict=True)):
            found[row] = list(self.times[member][origin : origin + self.horizon])
        return found

    def split(self, test_size: int | float) -> tuple[ForecastWindows, ForecastWindows]:
        """Splits in time order: the last first forecast steps are the test part's.

        Windows whose targets reach into the time of the test part's are in neither part.

        Args:
          test_size: how many different first forecast steps go to the test part, or their share.

        Raises:
          ValueError: a part that would be empty.
        """
        moments = np.unique(self.first_times)
        whole = isinstance(test_size, Integral)
        count = int(test_size) if whole else round(test_size * len(moments))
        if not 0 < count < len(moments):
            raise ValueError(
                f"test_size must leave both parts some of the {len(moments)} first forecast steps,"
                f" got {test_size}."
            )
        start = moments[-count]
        train = np.flatnonzero(self.last_times < start)
        if not len(train):
            raise ValueError(
                f"test_size {test_size} leaves no window for training whose {self.horizon} forecast"
                " steps end before those of the test part."
            )
        return self.take(train), self.take(np.flatnonzero(self.first_times >= start))

    def _clock(self, steps: np.ndarray) -> np.ndarray:
        found = np.empty(len(self), np.int64)
        for member in np.unique(self.members):
            own = self.members == member
            found[own] = self.clock[member][steps[own]]
        return found


def forecast_windows(
    series: ArrayLike | pd.Series | pd.DataFrame | Sequence[Any] | Mapping[str, Any],
    window: int,
    horizon: int = 1,
    stride: int = 1,
    *,
    target: Column | None = None,
    exogenous: Sequence[Column] | None = None,
    known_future: Sequence[Column] = (),
    names: Sequence[str] = (),
    name: str = "forecast",
    source: str = "series",
) -> ForecastWindows:
    """Cuts time series into windows and the values of the target that follow each.

    A window's features are the target's own past and the exogenous columns' over the same steps. A
    column of ``known_future``, such as a holiday or a price set in advance, has one more feature,
    ``NAME (t+H)``: its value ``horizon`` steps later. So the window's last ``horizon`` steps hold
    what the column will be at the forecast steps, the first forecast step's first.

    The rows of a series are taken as successive steps, whatever its index says.

    Args:
      series: one series, ``[L]`` or ``[L, F]``, a pandas Series or DataFrame; or several, a list of
        them or a dict by name. Their pandas indices say which of their values are of the same
        time; without these, all series begin together.
      window: steps of a window.
      horizon: steps to forecast.
      stride: steps from a window to the next.
      target: column to forecast, by name or number; by default the first that is no index.
      exogenous: columns that are features beside it; by default all others but columns without a
        name, or called index, id and the like, that only number the rows: an index that was saved
        with them, which is left out with a warning.
      known_future: columns whose values are known ``horizon`` steps ahead; the window must then be
        at least as long as the horizon.
      names: of the columns of arrays.
      name: of the data set.
      source: where the series came from; errors begin with it.

    Returns:
      The windows in the order of the series, and within one in that of time. Several series too
      short for a window are left out and counted in ``data.dropped``.

    Raises:
      ValueError: a missing or infinite value, an index that does not rise, an unknown column,
        series without a common set of columns, or none that is long enough.
    """
    for option, number in (("window", window), ("horizon", horizon), ("stride", stride)):
        if not isinstance(number, Integral):
            raise TypeError(f"{option} must be a whole number of steps, got {number!r}.")
        if number < 1:
            raise ValueError(f"{option} must be at least 1 step, got {number}.")
    given = read_series(series, names, source)
    columns = given[0].columns
    named = [*([] if target is None else [target]), *(exogenous or ()), *known_future]
    known = {_number(source, columns, column) for column in named}
    indices = [k for k in index_columns(columns, given[0].values) if k not in known]
    own = [k for k in range(len(columns)) if k not in indices]
    if indices and (target is None or exogenous is None):
        shown = ", ".join(repr(columns[k]) for k in indices)
        warnings.warn(
            f"{source}: {shown} only numbers the rows, as an index that was saved with them, and is"
            " left out; name it in exogenous to keep it.",
            stacklevel=2,
        )
    if not own:
        raise ValueError(f"{source}: its columns only number the rows.")
    wanted = _number(source, columns, own[0] if target is None else target)
    others = own if exogenous is None else exogenous
    features = [wanted, *(_number(source, columns, column) for column in others)]
    features = list(dict.fromkeys(features))
    ahead = [_number(source, columns, column) for column in known_future]
    if ahead and window < horizon:
        raise ValueError(
            f"{source}: with known_future the window must be at least as long as the horizon of"
            f" {horizon} steps, got {window}."
        )
    parts = [_cut(own, window, horizon, stride, wanted, features, ahead) for own in given]
    short = [own for own, (x, *_) in zip(given, parts, strict=True) if not len(x)]
    if len(short) == len(given):
        longest = max(len(own.values) for own in given)
        raise ValueError(
            f"{source}: a window of {window} and {horizon} steps to forecast need"
            f" {window + horizon} values, the longest series has {longest}."
        )
    members = np.concatenate([np.full(len(x), k) for k, (x, *_) in enumerate(parts)])
    data = SequenceData(
        np.concatenate([x for x, *_ in parts]),
        np.concatenate([y for _, y, _ in parts]),
        (),
        name,
        source,
        groups=np.array([own.name for own in given])[members] if len(given) > 1 else None,
        dropped={"series too short": len(short)} if short else {},
        skipped=tuple(f"series {own.name!r}: {len(own.values)} values." for own in short),
        feature_names=(
            *(columns[column] for column in features),
            *(f"{columns[column]} (t+{horizon})" for column in ahead),
        ),
        target_names=tuple(f"t+{step}" for step in range(1, horizon + 1)),
    )
    return ForecastWindows(
        data,
        np.concatenate([origins for *_, origins in parts]),
        members,
        tuple(own.values[:, wanted] for own in given),
        tuple(own.name for own in given),
        tuple(own.times for own in given),
        _common_clock(source, given),
    )


def _cut(
    series: Series,
    window: int,
    horizon: int,
    stride: int,
    target: int,
    features: list[int],
    ahead: list[int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows, targets and origins of a series."""
    values = series.values
    origins = np.arange(window, len(values) - horizon + 1, stride)
    steps = origins[:, None] - window + np.arange(window)
    x = values[steps[:, :, None], np.array(features)]
    if ahead:
        x = np.concatenate([x, values[steps[:, :, None] + horizon, np.array(ahead)]], axis=2)
    y = values[origins[:, None] + np.arange(horizon), target]
    return x, y, origins


def _number(source: str, columns: tuple[str, ...], column: Column) -> int:
    if isinstance(column, str):
        if column in columns:
            return columns.index(column)
    elif 0 <= column < len(columns):
        return int(column)
    raise ValueError(
        f"{source}: there is no column {column!r}; the columns are {', '.join(columns)}."
    )


def _common_clock(source: str, given: list[Series]) -> tuple[np.ndarray, ...]:
    """The time of each value of each series as its rank among the times of all."""
    every = given[0].times
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values without an order, which is seen below
            for own in given[1:]:
                every = every.union(own.times)
        mixed = every.dtype == object and any(own.times.dtype != object for own in given)
    except (TypeError, ValueError):  # periods of different lengths
        mixed = True
    if mixed or not every.is_monotonic_increasing:
        kinds = ", ".join(dict.fromkeys(str(own.times.dtype) for own in given))
        raise ValueError(f"{source}: the indices of the series cannot be compared: {kinds}.")
    return tuple(every.get_indexer(own.times).astype(np.int64) for own in given)
