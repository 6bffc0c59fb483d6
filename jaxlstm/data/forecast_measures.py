"""Naive forecasts and the errors of forecasts, per step of the horizon and over all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxlstm.data.forecast import ForecastWindows

TrainSeries = ArrayLike | Mapping[str, ArrayLike]


def naive_forecast(windows: ForecastWindows) -> np.ndarray:
    """Forecasts the last value before the forecast at every step, ``[N, horizon]``."""
    last = [
        windows.series[member][origin - 1]
        for member, origin in zip(windows.members, windows.origins, strict=True)
    ]
    return np.repeat(np.array(last)[:, None], windows.horizon, axis=1)


def seasonal_naive_forecast(windows: ForecastWindows, season: int) -> np.ndarray:
    """Forecasts the value of the same place in the last season that was seen, ``[N, horizon]``.

    Args:
      windows: of the series.
      season: its length in steps, such as 12 for months of a year.

    Raises:
      ValueError: a season below 1 step, or a forecast that begins before a whole season was seen.
    """
    _check_season(season)
    early = windows.origins < season
    if early.any():
        row = int(early.argmax())
        raise ValueError(
            f"the forecast of window {row} begins at step {windows.origins[row]} of series"
            f" {windows.names[windows.members[row]]!r}, before a season of {season} steps was seen."
        )
    places = np.arange(windows.horizon) % season - season
    rows = zip(windows.members, windows.origins, strict=True)
    found = [windows.series[member][origin + places] for member, origin in rows]
    return np.array(found).reshape(len(windows), windows.horizon)


def rmse(true: ArrayLike, predicted: ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the series."""
    true, predicted = _pair(true, predicted)
    return float(np.sqrt(np.mean((true - predicted) ** 2)))


def smape(true: ArrayLike, predicted: ArrayLike) -> float:
    """Symmetric mean absolute percentage error, in per cent, 0 to 200.

    The mean of ``200 |true - predicted| / (|true| + |predicted|)``, 0 where both are 0.

    References:
      Makridakis, Spiliotis and Assimakopoulos, "The M4 Competition", International Journal of
      Forecasting 36, 2020.
    """
    true, predicted = _pair(true, predicted)
    size = np.abs(true) + np.abs(predicted)
    error = np.abs(true - predicted)
    return float(np.mean(200 * np.divide(error, size, out=np.zeros_like(size), where=size > 0)))


def mase(
    true: ArrayLike,
    predicted: ArrayLike,
    train_series: TrainSeries,
    season: int = 1,
    *,
    groups: ArrayLike | None = None,
) -> float:
    """Mean absolute error over that of the seasonal naive forecast within the training series.

    Below 1 a forecast is better than that one was, one step (or season) ahead, in training.

    Args:
      true: ``[N, horizon]`` or ``[N]``.
      predicted: of the same shape.
      train_series: the values trained on, in the order of time, ``[L]``; of several series a dict
        by name, such as the training windows' ``history``.
      season: steps of a season; 1 for the naive forecast.
      groups: which series each row is from, ``[N]``, where there are several.

    Raises:
      ValueError: shapes that differ, a season as long as a series, a series that does not change
        from season to season, or a row from none of the series.

    References:
      Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal
      of Forecasting 22, 2006.
    """
    true, predicted = _pair(true, predicted)
    scale = _scales(len(true), train_series, season, groups)
    return float(np.mean(np.abs(true - predicted) / scale.reshape(-1, *[1] * (true.ndim - 1))))


def forecast_errors(
    true: ArrayLike,
    predicted: ArrayLike,
    train_series: TrainSeries | None = None,
    season: int = 1,
    *,
    groups: ArrayLike | None = None,
) -> pd.DataFrame:
    """Measures forecasts at each step of the horizon and over all.

    Args:
      true: ``[N, horizon]``.
      predicted: of the same shape.
      train_series: as in `mase`; without it there is no column ``mase``.
      season: as in `mase`.
      groups: as in `mase`.

    Returns:
      A line for each step, ``t+1`` and so on, and one for ``all``; columns ``rmse`` and ``mae`` in
      the unit of the series, ``smape`` in per cent, ``mase``.

    Raises:
      ValueError: see `mase`.
    """
    true, predicted = _pair(true, predicted)
    if true.ndim != 2:
        raise ValueError(f"true must have shape [N, horizon], got {true.shape}.")
    steps = {f"t+{step + 1}": slice(step, step + 1) for step in range(true.shape[1])}
    lines = {}
    for name, part in {**steps, "all": slice(None)}.items():
        own, forecast = true[:, part], predicted[:, part]
        lines[name] = {
            "rmse": rmse(own, forecast),
            "mae": float(np.mean(np.abs(own - forecast))),
            "smape": smape(own, forecast),
        }
        if train_series is not None:
            lines[name]["mase"] = mase(own, forecast, train_series, season, groups=groups)
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("step")


def _pair(true: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if true.shape != predicted.shape:
        raise ValueError(
            f"true and predicted must have the same shape, got {true.shape} and {predicted.shape}."
        )
    if not true.size:
        raise ValueError("there are no forecasts to measure.")
    return true, predicted


def _scales(
    rows: int, train_series: TrainSeries, season: int, groups: ArrayLike | None
) -> np.ndarray:
    """In-sample error of the seasonal naive forecast for the series of each row, ``[N]``."""
    _check_season(season)
    if not isinstance(train_series, Mapping):
        return np.full(rows, _scale("train_series", train_series, season))
    if groups is None:
        if len(train_series) != 1:
            raise ValueError(
                f"train_series holds {len(train_series)} series: groups must say which one each row"
                " is from."
            )
        return np.full(rows, _scale("train_series", next(iter(train_series.values())), season))
    names = [str(name) for name in np.asarray(groups)]
    if len(names) != rows:
        raise ValueError(
            f"groups must have an entry for each of the {rows} rows, got {len(names)}."
        )
    scales = {}
    for name in dict.fromkeys(names):
        if name not in train_series:
            raise ValueError(f"train_series has no series {name!r}, which rows are from.")
        scales[name] = _scale(f"series {name!r}", train_series[name], season)
    return np.array([scales[name] for name in names])


def _scale(name: str, series: ArrayLike, season: int) -> float:
    values = np.asarray(series, np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape [L], got {values.shape}.")
    if len(values) <= season:
        raise ValueError(f"{name} has {len(values)} values, a season of {season} steps needs more.")
    scale = float(np.mean(np.abs(values[season:] - values[:-season])))
    if scale == 0:
        raise ValueError(
            f"{name} repeats itself after {season} steps: mase has nothing to scale by."
        )
    return scale


def _check_season(season: int) -> None:
    if season < 1:
        raise ValueError(f"season must be at least 1 step, got {season}.")
