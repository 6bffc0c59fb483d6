"""Windows of series against a loop, and folds that show training nothing of what they test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from jaxlstm.data import ForecastSplit, ForecastWindows, forecast_windows, load_airline

RNG = np.random.default_rng(5)
FRAME = pd.DataFrame(
    {
        "price": RNG.normal(size=20),
        "sold": RNG.normal(40, 9, 20),
        "holiday": RNG.integers(0, 2, 20),
    },
    index=pd.date_range("2024-01-01", periods=20, name="day"),
)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    window=st.integers(1, 6),
    horizon=st.integers(1, 4),
    stride=st.integers(1, 3),
    features=st.integers(1, 3),
    target=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_windows_equal_a_loop(
    lengths: list[int],
    window: int,
    horizon: int,
    stride: int,
    features: int,
    target: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    target = target % features
    series = {f"s{k}": rng.normal(size=(length, features)) for k, length in enumerate(lengths)}
    options: dict[str, Any] = {"window": window, "horizon": horizon, "stride": stride}
    if max(lengths) < window + horizon:
        with pytest.raises(ValueError, match=f"need {window + horizon} values, the longest series"):
            forecast_windows(series, **options)
        return
    found = forecast_windows(series, target=target, **options)
    order = [target, *(column for column in range(features) if column != target)]
    expected = []
    for member, (name, values) in enumerate(series.items()):
        start = 0
        while start + window + horizon <= len(values):
            x = [[values[start + step, column] for column in order] for step in range(window)]
            y = [values[start + window + step, target] for step in range(horizon)]
            expected.append((x, y, name, start + window, member))
            start += stride
    data = found.data
    assert len(found) == len(data) == len(expected)
    np.testing.assert_array_equal(data.x, [x for x, *_ in expected])
    np.testing.assert_array_equal(data.y, [y for _, y, *_ in expected])
    assert data.y.dtype == np.float64
    assert (data.task, found.window, found.horizon) == ("regression", window, horizon)
    assert found.origins.tolist() == [origin for *_, origin, _ in expected]
    assert found.members.tolist() == [member for *_, member in expected]
    if len(series) > 1:
        assert data.groups is not None
        assert data.groups.tolist() == [name for _, _, name, *_ in expected]
    else:
        assert data.groups is None
    short = sum(length < window + horizon for length in lengths)
    assert sum(data.dropped.values()) == len(data.skipped) == short
    assert data.target_names == tuple(f"t+{step}" for step in range(1, horizon + 1))
    np.testing.assert_array_equal(found.first_times, found.origins)  # without indices, one clock
    np.testing.assert_array_equal(found.last_times, found.origins + horizon - 1)
    for name, values in found.history.items():
        last = max(origin for _, _, own, origin, _ in expected if own == name)
        np.testing.assert_array_equal(values, series[name][: last + horizon, target])


@pytest.mark.parametrize("form", ["numbers", "array", "series", "column"])
def test_forms_of_one_series(form: str) -> None:
    values = FRAME["price"].to_numpy()
    given: Any = {
        "numbers": values.tolist(),
        "array": values,
        "series": FRAME["price"],
        "column": values[:, None],
    }[form]
    found = forecast_windows(given, 3, 2)
    np.testing.assert_array_equal(found.data.x[4, :, 0], values[4:7])
    np.testing.assert_array_equal(found.data.y[4], values[7:9])
    assert found.data.feature_names == (("price",) if form == "series" else ("value",))
    assert found.names == (("price",) if form == "series" else ("series",))
    when = found.forecast_times()
    assert when.shape == (16, 2)
    assert when[4, 1] == (FRAME.index[8] if form == "series" else 8)


def test_columns_are_chosen() -> None:
    found = forecast_windows(FRAME, 4, 2, target="sold", exogenous=["holiday"])
    assert found.data.feature_names == ("sold", "holiday")
    np.testing.assert_array_equal(found.data.x[3], FRAME[["sold", "holiday"]].to_numpy()[3:7])
    np.testing.assert_array_equal(found.data.y[3], FRAME["sold"].to_numpy()[7:9])
    alone = forecast_windows(FRAME, 4, exogenous=())
    assert (alone.data.feature_names, alone.data.y.shape) == (("price",), (16, 1))
    named = forecast_windows(FRAME.to_numpy(), 4, names=["a", "b", "c"], target="c")
    assert named.data.feature_names == ("c", "a", "b")
    assert forecast_windows(FRAME.to_numpy(), 4).data.feature_names[2] == "column 2"


def test_columns_known_ahead_are_the_forecast_steps_own() -> None:
    found = forecast_windows(FRAME, 4, 3, target="sold", exogenous=(), known_future=["holiday"])
    assert found.data.feature_names == ("sold", "holiday (t+3)")
    holiday = FRAME["holiday"].to_numpy()
    for row, origin in enumerate(found.origins):
        # The window's last steps hold the column at the forecast steps, in their order.
        np.testing.assert_array_equal(found.data.x[row, -3:, 1], holiday[origin : origin + 3])
        np.testing.assert_array_equal(found.data.x[row, :, 1], holiday[origin - 1 : origin + 3])
    with pytest.raises(ValueError, match="the window must be at least as long as the horizon of 5"):
        forecast_windows(FRAME, 4, 5, known_future=["holiday"])


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (FRAME, {"window": 0}, "window must be at least 1 step, got 0"),
    (FRAME, {"horizon": 0}, "horizon must be at least 1 step, got 0"),
    (FRAME, {"stride": -1}, "stride must be at least 1 step, got -1"),
    (FRAME, {"target": "prise"}, "no column 'prise'; the columns are price, sold, holiday"),
    (FRAME, {"target": 3}, "no column 3; the columns are price"),
    (FRAME, {"exogenous": ["x"]}, "no column 'x'"),
    (FRAME, {"known_future": [-1]}, "no column -1"),
    (FRAME, {"window": 19, "horizon": 2}, "need 21 values, the longest series has 20"),
    (FRAME.iloc[::-1], {}, "the index does not rise at step 1: 2024-01-19"),
    (pd.concat([FRAME, FRAME.iloc[-1:]]), {}, "the index does not rise at step 20: 2024-01-20"),
    (FRAME.where(FRAME["price"] != FRAME["price"].iloc[6]), {}, "value of price at step 6 is nan"),
    ([FRAME, FRAME.replace({"holiday": {1: np.inf}})], {}, "series '1': the value of holiday at"),
    (FRAME.assign(price="a"), {}, "a series must hold numbers: could not convert"),
    (np.zeros((3, 2, 2)), {}, r"must have shape \[L\] or \[L, F\], got \(3, 2, 2\)"),
    (np.zeros((9, 2)), {"names": ["a"]}, "1 names do not fit a series of 2 columns"),
    (np.zeros((9, 2)), {"names": ["a", "a"]}, "two columns are called 'a'"),
    ([], {}, "there is no series"),
    ([FRAME, FRAME[["sold"]]], {}, "series '1' has the columns sold, series '0' price, sold, hol"),
    (
        [FRAME, FRAME.reset_index(drop=True)],
        {},
        "the indices of the series cannot be compared: dat",
    ),
    (
        [FRAME.to_period("D"), FRAME.to_period("M").drop_duplicates().groupby(level=0).first()],
        {"window": 1},
        "the indices of the series cannot be compared: period",
    ),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_series(number: int) -> None:
    series, options, message = BAD[number]
    with pytest.raises(ValueError, match=message) as caught:
        forecast_windows(series, **{"window": 3, **options})
    assert "\n" not in str(caught.value)


def test_series_share_a_clock() -> None:
    parts = [FRAME.iloc[:12], FRAME.iloc[5:], FRAME.iloc[8:20]]
    found = forecast_windows(parts, 3, 2)
    for row, (member, origin) in enumerate(zip(found.members, found.origins, strict=True)):
        day = parts[member].index[origin]
        assert found.first_times[row] == FRAME.index.get_loc(day)
        assert found.forecast_times()[row, 0] == day


# -- folds ----------------------------------------------------------------------------------------


def seen(windows: ForecastWindows, row: int) -> set[tuple[int, int]]:
    """Series and time of every value in a window, inputs and targets."""
    member, origin = windows.members[row], windows.origins[row]
    steps = range(origin - windows.window, origin + windows.horizon)
    return {(member, int(windows.clock[member][step])) for step in steps}


def asked(windows: ForecastWindows, row: int) -> set[tuple[int, int]]:
    """Series and time of every value that a window forecasts."""
    member, origin = windows.members[row], windows.origins[row]
    steps = range(origin, origin + windows.horizon)
    return {(member, int(windows.clock[member][step])) for step in steps}


@st.composite
def several_series(draw: Any) -> ForecastWindows:
    """Series that begin and end at different times, the last ones perhaps first in the list."""
    series = {}
    for number in range(draw(st.integers(1, 3))):
        begin, length = draw(st.integers(0, 15)), draw(st.integers(25, 40))
        days = pd.date_range("2024-01-01", periods=60)[begin : begin + length]
        kept = np.ones(length, bool)
        kept[draw(st.lists(st.integers(0, length - 1), max_size=3))] = False  # days without a value
        series[f"s{number}"] = pd.Series(np.arange(length) + 100.0 * number, days)[kept]
    return forecast_windows(
        series, draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    )


@settings(max_examples=100)
@given(
    windows=several_series(),
    n_splits=st.integers(2, 4),
    test_size=st.sampled_from([None, 1, 2]),
    gap=st.integers(0, 3),
    most=st.sampled_from([None, 1, 4]),
)
def test_no_training_window_sees_a_tested_value(
    windows: ForecastWindows, n_splits: int, test_size: int | None, gap: int, most: int | None
) -> None:
    try:
        cv = ForecastSplit(windows, n_splits, test_size, gap, most)
    except ValueError as error:
        message = str(error)
        cv = None
    if cv is None:
        assert "has no training windows that end before" in message or "Too many splits" in message
        return
    folds = list(cv.split(windows.data))
    assert len(folds) == n_splits == cv.get_n_splits()
    tested: set[int] = set()
    for train, test in folds:
        assert len(train)
        assert len(test)
        forecast = set().union(*(asked(windows, row) for row in test))
        values = set().union(*(seen(windows, row) for row in train))
        assert not forecast & values
        # By time, not by the order of rows or series.
        start = min(time for _, time in forecast)
        assert max(time for _, time in values) + gap < start
        assert tested.isdisjoint(test)
        tested |= set(test.tolist())
        moments = {int(windows.first_times[row]) for row in test}
        everyone = [r for r in range(len(windows)) if int(windows.first_times[r]) in moments]
        assert test.tolist() == everyone
        fitting = [r for r in range(len(windows)) if windows.last_times[r] + gap < start]
        if most is None:
            assert train.tolist() == fitting
        else:
            latest = sorted({int(windows.first_times[row]) for row in fitting})[-most:]
            assert {int(windows.first_times[row]) for row in train} == set(latest)
            assert set(train) <= set(fitting)


def test_one_series_and_one_step_is_scikit_learns_own_split() -> None:
    windows = forecast_windows(load_airline(), 12)
    folds = ForecastSplit(windows, 4, test_size=20).split(windows.data, windows.data.y)
    reference = TimeSeriesSplit(4, test_size=20).split(windows.data.x)
    for own, wanted in zip(folds, reference, strict=True):
        for mine, theirs in zip(own, wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_scikit_learn_searches_with_it() -> None:
    windows = forecast_windows(load_airline(), 13, 2)
    x, y = windows.data.x[:, :, 0], windows.data.y
    cv = ForecastSplit(windows, 3)
    scores = cross_val_score(LinearRegression(), x, y, cv=cv, scoring="r2")
    assert scores.min() > 0.5
    search = GridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}, cv=cv).fit(x, y)
    assert search.n_splits_ == 3
    assert repr(cv) == (
        "ForecastSplit(130 windows, n_splits=3, test_size=None, gap=0, max_train_size=None)"
    )


def test_bad_folds() -> None:
    windows = forecast_windows(load_airline(), 12, 12)
    with pytest.raises(ValueError, match="was made for 121 windows, X has 100 rows"):
        next(ForecastSplit(windows).split(windows.data[:100]))
    with pytest.raises(ValueError, match="fold 0 has no training windows that end before"):
        ForecastSplit(windows, 2, test_size=55)
    with pytest.raises(ValueError, match="gap must not be negative, got -1"):
        ForecastSplit(windows, gap=-1)
    with pytest.raises(ValueError, match="max_train_size must be at least 1, got 0"):
        ForecastSplit(windows, max_train_size=0)
    with pytest.raises(ValueError, match="n_splits=1"):
        ForecastSplit(windows, 1)


@settings(max_examples=60)
@given(windows=several_series(), share=st.one_of(st.integers(1, 10), st.floats(0.1, 0.5)))
def test_a_split_in_time_shares_no_target(windows: ForecastWindows, share: Any) -> None:
    train, test = windows.split(share)
    moments = sorted({*windows.first_times.tolist()})
    count = share if isinstance(share, int) else round(share * len(moments))
    assert sorted({*test.first_times.tolist()}) == moments[-count:]
    forecast = set().union(*(asked(test, row) for row in range(len(test))))
    values = set().union(*(seen(train, row) for row in range(len(train))))
    assert max(time for _, time in values) < min(time for _, time in forecast)
    known = {*map(tuple, np.stack([train.members, train.origins], 1).tolist())}
    for row in range(len(windows)):
        if windows.last_times[row] < moments[-count]:
            assert (windows.members[row], windows.origins[row]) in known
    # The series that errors are scaled by end before the first tested value.
    for name, history in train.history.items():
        member = train.names.index(name)
        assert windows.clock[member][len(history) - 1] < moments[-count]


def test_bad_splits_in_time() -> None:
    windows = forecast_windows(load_airline(), 12, 12)
    for size in (0, 121, 1.0, 0.001):
        with pytest.raises(ValueError, match="must leave both parts some of the 121"):
            windows.split(size)
    with pytest.raises(ValueError, match="leaves no window for training whose 12 forecast steps"):
        windows.split(115)


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "", "row_id"])
def test_an_index_that_was_saved_is_neither_target_nor_feature(name: str) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"sales": rng.normal(size=20), "trend": np.arange(20)})
    wanted = forecast_windows(table, 5, 2)
    assert wanted.data.feature_names == ("sales", "trend")  # a trend may be meant
    indexed = table.copy()
    indexed.insert(0, name, np.arange(20))
    with pytest.warns(UserWarning, match=f"'{name}' only numbers the rows"):
        windows = forecast_windows(indexed, 5, 2)
    assert windows.data.feature_names == wanted.data.feature_names
    np.testing.assert_array_equal(windows.data.x, wanted.data.x)
    np.testing.assert_array_equal(windows.data.y, wanted.data.y)
    kept = forecast_windows(indexed, 5, 2, target="sales", exogenous=[name])
    assert kept.data.feature_names == ("sales", name)
