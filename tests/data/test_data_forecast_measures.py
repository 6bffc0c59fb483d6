"""Naive forecasts and errors: by hand, against loops, on the airline passengers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from jaxlstm.data import (
    forecast_errors,
    forecast_windows,
    load_airline,
    mase,
    naive_forecast,
    rmse,
    seasonal_naive_forecast,
    smape,
)


def test_airline(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "series" / "Airline.csv")
    passengers = load_airline()
    assert passengers.tolist() == table["Passengers"].tolist()
    assert [str(month) for month in passengers.index] == table["Date"].tolist()


def test_airlines_sum() -> None:
    passengers = load_airline()
    assert (len(passengers), passengers.sum(), passengers.dtype) == (144, 40363, np.float64)
    assert passengers["1960-07"] == 622
    by_place = sum(place * count for place, count in enumerate(passengers, 1))
    assert by_place == 3587478


@given(
    window=st.integers(4, 7),
    horizon=st.integers(1, 9),
    season=st.integers(1, 4),
    stride=st.integers(1, 3),
)
def test_naive_forecasts_equal_a_loop(window: int, horizon: int, season: int, stride: int) -> None:
    rng = np.random.default_rng(horizon)
    series = {"a": rng.normal(size=30), "b": rng.normal(size=21)}
    windows = forecast_windows(series, window, horizon, stride)
    last, seasonal = naive_forecast(windows), seasonal_naive_forecast(windows, season)
    assert last.shape == seasonal.shape == windows.data.y.shape
    for row, (member, origin) in enumerate(zip(windows.members, windows.origins, strict=True)):
        known = [*series["ab"[member]][:origin]]
        for step in range(horizon):
            assert last[row, step] == series["ab"[member]][origin - 1]
            # What is forecast counts as known for the seasons after it.
            known.append(known[-season])
            assert seasonal[row, step] == known[-1]
    np.testing.assert_array_equal(seasonal_naive_forecast(windows, 1), last)


def test_a_season_must_have_been_seen() -> None:
    windows = forecast_windows({"a": np.arange(20.0), "b": np.arange(9.0)}, 6, 2)
    with pytest.raises(
        ValueError, match="window 0 begins at step 6 of series 'a', before a season"
    ):
        seasonal_naive_forecast(windows, 7)
    late = windows.take(windows.origins >= 7)
    assert seasonal_naive_forecast(late, 7)[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="season must be at least 1 step, got 0"):
        seasonal_naive_forecast(windows, 0)


def test_errors_by_hand() -> None:
    true, predicted = [[2.0, 4.0], [0.0, 10.0]], [[3.0, 4.0], [0.0, 6.0]]
    assert rmse(true, predicted) == pytest.approx(np.sqrt((1 + 0 + 0 + 16) / 4))
    assert smape(true, predicted) == pytest.approx((200 * 1 / 5 + 0 + 0 + 200 * 4 / 16) / 4)
    assert smape([1.0, -1.0], [-1.0, 1.0]) == 200
    # Steps of 1, 3 and 2 between neighbours: 2 on average; 4 and 1 after two: 2.5.
    train = [5.0, 6.0, 9.0, 7.0]
    assert mase(true, predicted, train) == pytest.approx((1 + 0 + 0 + 4) / 4 / 2)
    assert mase(true, predicted, train, 2) == pytest.approx((1 + 0 + 0 + 4) / 4 / 2.5)
    assert mase(true, predicted, {"s": train}, 2) == mase(true, predicted, train, 2)


def test_errors_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    true, predicted = rng.normal(20, 5, (7, 3)), rng.normal(20, 5, (7, 3))
    groups = np.array([*"abbabaa"])
    train = {"b": rng.normal(size=9), "a": rng.normal(size=14), "c": np.zeros(5)}
    table = forecast_errors(true, predicted, train, 4, groups=groups)
    assert table.index.tolist() == ["t+1", "t+2", "t+3", "all"]
    assert list(table) == ["rmse", "mae", "smape", "mase"]
    scale = {
        name: sum(abs(own[t] - own[t - 4]) for t in range(4, len(own))) / (len(own) - 4)
        for name, own in train.items()
    }
    for line, steps in zip(table.itertuples(), [[0], [1], [2], [0, 1, 2]], strict=True):
        assert line.rmse == pytest.approx(
            root_mean_squared_error(true[:, steps].ravel(), predicted[:, steps].ravel())
        )
        assert line.mae == pytest.approx(mean_absolute_error(true[:, steps], predicted[:, steps]))
        pairs = [(row, step) for row in range(7) for step in steps]
        relative, scaled = 0.0, 0.0
        for row, step in pairs:
            error = abs(true[row, step] - predicted[row, step])
            relative += 200 * error / (abs(true[row, step]) + abs(predicted[row, step]))
            scaled += error / scale[groups[row]]
        assert line.smape == pytest.approx(relative / len(pairs))
        assert line.mase == pytest.approx(scaled / len(pairs))
    assert list(forecast_errors(true, predicted)) == ["rmse", "mae", "smape"]


def test_the_seasonal_naive_forecast_of_training_has_mase_1() -> None:
    """By definition: each value of the training series forecast by the one a season before."""
    series = load_airline().iloc[:96]
    windows = forecast_windows(series, 12)
    forecast = seasonal_naive_forecast(windows, 12)
    assert windows.history["passengers"].tolist() == series.tolist()
    assert mase(windows.data.y, forecast, windows.history, 12) == pytest.approx(1)


def test_units_stay_the_series() -> None:
    rng = np.random.default_rng(0)
    series = rng.normal(size=40).cumsum() + 30
    windows, tenfold = forecast_windows(series, 5, 3), forecast_windows(10 * series, 5, 3)
    tables = [
        forecast_errors(own.data.y, naive_forecast(own), own.history) for own in (windows, tenfold)
    ]
    np.testing.assert_allclose(tables[1][["rmse", "mae"]], 10 * tables[0][["rmse", "mae"]])
    np.testing.assert_allclose(tables[1][["smape", "mase"]], tables[0][["smape", "mase"]])


ONES = np.ones((2, 2))
BAD: list[tuple[dict[str, Any], str]] = [
    ({"predicted": np.ones((2, 1))}, r"must have the same shape, got \(2, 2\) and \(2, 1\)"),
    ({"true": np.ones((0, 2)), "predicted": np.ones((0, 2))}, "there are no forecasts to measure"),
    ({"true": np.ones(2), "predicted": np.ones(2)}, r"true must have shape \[N, horizon\], got"),
    ({"season": 0}, "season must be at least 1 step, got 0"),
    ({"season": 3}, "train_series has 3 values, a season of 3 steps needs more"),
    ({"train_series": np.ones((3, 2))}, r"train_series must have shape \[L\], got \(3, 2\)"),
    ({"train_series": [1, 2, 1], "season": 2}, "train_series repeats itself after 2 steps"),
    ({"train_series": {"a": [1, 2, 4], "b": [1]}}, "holds 2 series: groups must say which one"),
    ({"train_series": {"a": [1, 2, 4]}, "groups": [*"ab"]}, "has no series 'b', which rows are"),
    ({"train_series": {"a": [1, 2, 4]}, "groups": [*"aaa"]}, "each of the 2 rows, got 3"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_errors(number: int) -> None:
    options, message = BAD[number]
    with pytest.raises(ValueError, match=message):
        forecast_errors(**{"true": ONES, "predicted": ONES, "train_series": [1, 2, 4], **options})
