"""`SequenceData` for every task: shapes, slices, counts, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split

from jaxlstm.data import SequenceData

N, T, F, D = 11, 5, 2, 3
TASKS = ["classification", "multilabel", "regression"]


def make(task: str = "regression", per_step: bool = False, several: bool = True) -> SequenceData:
    """Rows that all differ, of unequal length, with zeros at padding."""
    rng = np.random.default_rng(7)
    lengths = rng.integers(1, T + 1, N)
    x = rng.normal(size=(N, T, F)).astype(np.float32)
    shape = (N, T) if per_step else (N,)
    if task == "classification":
        y: np.ndarray = rng.integers(0, D, shape).astype(np.int32)
    elif task == "multilabel":
        y = rng.integers(0, 2, (*shape, D)).astype(np.int32)
    else:
        y = rng.normal(3, 2, (*shape, D) if several else shape)
    for row, length in enumerate(lengths):
        x[row, length:] = 0
        if per_step:
            y[row, length:] = 0
    return SequenceData(
        x,
        y,
        () if task == "regression" else ("a", "b", "c"),
        "made",
        "here",
        groups=np.array([*"ppqrstpqrst"]),
        lengths=lengths,
        weight=rng.random(shape) + 0.1,
        target_names=("u", "v", "w") if task == "regression" and several else (),
        per_step=per_step,
    )


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_task_and_targets(task: str, per_step: bool) -> None:
    data = make(task, per_step)
    assert data.task == task
    if task == "classification":
        wanted = np.array([*"abc"])[data.y]
        np.testing.assert_array_equal(data.targets, wanted)
        np.testing.assert_array_equal(data.labels, wanted)
    else:
        assert data.targets is data.y
        with pytest.raises(ValueError, match="made has no classes' names as targets"):
            _ = data.labels
    assert data.shape == (N, T, F)
    for row, steps in enumerate(data.as_list()):
        np.testing.assert_array_equal(steps, data.x[row, : data.lengths[row]])  # type: ignore[index]
    full = dataclasses.replace(data, lengths=None)
    np.testing.assert_array_equal(full.as_list(), full.x)


@given(
    rows=st.one_of(
        st.lists(st.integers(-N, N - 1)),
        st.lists(st.booleans(), min_size=N, max_size=N),
        st.slices(N),
    ),
    task=st.sampled_from(TASKS),
    per_step=st.booleans(),
)
def test_rows_stay_together(rows: Any, task: str, per_step: bool) -> None:
    data = make(task, per_step)
    taken = data[rows]
    numbers = np.arange(N)[rows if isinstance(rows, slice) or rows else np.zeros(0, int)]
    assert len(taken) == len(numbers)
    assert taken.shape == (len(numbers), T, F)
    for field in ("x", "y", "groups", "lengths", "weight"):
        np.testing.assert_array_equal(getattr(taken, field), getattr(data, field)[numbers])
    assert (taken.task, taken.target_names, taken.per_step) == (task, data.target_names, per_step)
    assert taken.summary().notna().all(axis=None) or not len(taken)


def test_rows_of_other_kinds_are_refused() -> None:
    for rows in (3, 1.5, [[0, 1]], ["a"], (1, 2, 3)):
        if rows == (1, 2, 3):
            assert len(make()[rows]) == 3
            continue
        with pytest.raises(TypeError, match="rows must be an array of row numbers, a mask or"):
            make()[rows]


def test_a_fold_without_weight_is_no_error() -> None:
    data = dataclasses.replace(make(), weight=np.arange(N) // 3 / 2)
    assert not data[:3].weight.any()  # type: ignore[union-attr]


class Mean(RegressorMixin, BaseEstimator):
    """Predicts the mean target of rows at least as long as ``shortest``."""

    def __init__(self, shortest: int = 1) -> None:
        self.shortest = shortest

    def fit(self, X: SequenceData, y: np.ndarray) -> Mean:
        assert isinstance(X, SequenceData)
        assert X.lengths is not None
        np.testing.assert_array_equal(X.y, y)
        self.mean_ = y[X.lengths >= self.shortest].mean(0)
        return self

    def predict(self, X: SequenceData) -> np.ndarray:
        return np.tile(self.mean_, (len(X), 1))


def test_scikit_learns_splitters_take_it_as_x() -> None:
    data = make()
    scores = cross_val_score(Mean(2), data, data.targets, cv=KFold(3))
    for score, (train, test) in zip(scores, KFold(3).split(data), strict=True):
        part, held_out = data.take(train), data.take(test)
        fitted = Mean(2).fit(part, part.y)
        assert score == pytest.approx(fitted.score(held_out, held_out.y))
    search = GridSearchCV(Mean(), {"shortest": [1, 3]}, cv=3).fit(data, data.targets)
    assert search.best_params_["shortest"] in (1, 3)
    train, test = train_test_split(data, test_size=4, random_state=0)
    assert (len(train), len(test)) == (7, 4)
    assert isinstance(train, SequenceData)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_splits_of_every_task(task: str, per_step: bool) -> None:
    data = make(task, per_step)
    train, test = data.split_rows(0.4, seed=3)
    assert sorted([*train, *test]) == list(range(N))
    parts = data.split(0.4, by="group", seed=3)
    assert not set(parts[0].groups) & set(parts[1].groups)  # type: ignore[arg-type]
    if task == "classification" and not per_step:
        lone = dataclasses.replace(data, y=np.array([0] * 9 + [1, 2], np.int32))
        with pytest.raises(ValueError, match="class 'b' has 1 row"):
            lone.split(0.4)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
def test_summary_of_numbers(per_step: bool, several: bool) -> None:
    data = make("regression", per_step, several)
    table = data.summary()
    names = ["u", "v", "w"] if several else ["target"]
    assert table.index.tolist() == names
    assert table.index.name == "target"
    for column, name in enumerate(names):
        values = []
        for row in range(N):
            own = data.y[row] if not several else data.y[row][..., column]
            values += own[: data.lengths[row]].tolist() if per_step else [float(own)]  # type: ignore[index]
        line = table.loc[name]
        assert line["rows"] == N
        assert line.get("steps", None) == (len(values) if per_step else None)
        assert line["mean"] == pytest.approx(sum(values) / len(values))
        assert line["std"] == pytest.approx(pd.Series(values).std(ddof=0))
        assert (line["min"], line["max"]) == (min(values), max(values))
    unnamed = dataclasses.replace(data, target_names=())
    assert unnamed.summary().index.tolist() == (
        ["target 0", "target 1", "target 2"] if several else ["target"]
    )


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_summary_counts_steps(task: str) -> None:
    data = make(task, per_step=True)
    table = data.summary()
    assert list(table) == ["steps", "percent", "rows", "groups"]
    total = int(data.lengths.sum())  # type: ignore[union-attr]
    assert table.loc["all"].tolist() == [total, 100, N, 5]
    for label, name in enumerate("abc"):
        places = [
            (row, step)
            for row in range(N)
            for step in range(data.lengths[row])  # type: ignore[index]
            if (
                data.y[row, step] == label if task == "classification" else data.y[row, step, label]
            )
        ]
        rows = {row for row, _ in places}
        assert table.loc[name, "steps"] == len(places)
        assert table.loc[name, "percent"] == pytest.approx(100 * len(places) / total)
        assert table.loc[name, "rows"] == len(rows)
        assert table.loc[name, "groups"] == len({data.groups[row] for row in rows})  # type: ignore[index]


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_summary_of_no_rows(task: str, per_step: bool) -> None:
    table = make(task, per_step)[:0].summary()
    assert table["rows"].tolist() == [0] * len(table)
    assert len(table) == (3 if task == "regression" else 4)


def test_summary_of_labels() -> None:
    data = make("multilabel")
    table = data.summary()
    assert table["rows"].tolist() == [*data.y.sum(0).tolist(), N]
    assert table.loc["b", "percent"] == pytest.approx(100 * data.y[:, 1].mean())
    assert table.loc["b", "groups"] == len(set(data.groups[data.y[:, 1] == 1]))  # type: ignore[index]


def test_hash_of_the_new_fields() -> None:
    data = make("regression", per_step=True)
    bare = dataclasses.replace(data, weight=None, target_names=())
    names = dataclasses.replace(bare, target_names=("u", "v", "x"))
    other = dataclasses.replace(data, weight=data.weight[::-1])  # type: ignore[index]
    rows = make("regression")
    hashes = [each.sha256 for each in (data, bare, names, other, rows)]
    assert len(set(hashes)) == len(hashes)
    # As before these fields were there: a run that is resumed asks for it.
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    old = SequenceData(x, np.array([0, 1, 1], np.int32), ("no", "yes"), "any", "any")
    assert old.sha256 == "bf4ac1ac133abd4e2e8cd493f271ee43c6b34c6f3011d496d3dd60d59456210f"


def replaced(**fields: Any) -> Any:
    task, per_step = fields.pop("task", "regression"), fields.pop("per_step", False)
    return dataclasses.replace(make(task, per_step), **fields)


def at(array: np.ndarray, index: Any, value: Any) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


STEPS = {"task": "classification", "per_step": True}
LABELS = {"task": "multilabel"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"x": np.zeros(11)}, r"x must have shape \[N, T, F\] or \[N, T\], got \(11,\)"),
    ({"y": np.zeros(10)}, r"y must have shape \[11\], one target for each row of x, .*\(10,\)"),
    ({"y": np.zeros((11, 0))}, r"or \[11, D\], got \(11, 0\)"),
    ({"y": np.zeros((11, 3, 1))}, r"or \[11, D\], got \(11, 3, 1\)"),
    ({**STEPS, "y": np.zeros((11, 4), int)}, r"y must have shape \[11, 5\], .* step .*\(11, 4\)"),
    ({"y": np.zeros((11, 3), int)}, "y must hold floats where there are no classes, got .* int64"),
    ({"y": at(make().y, (4, 2), np.nan)}, "the target of row 4, column 2 of y is nan"),
    ({"per_step": True, "y": at(make(per_step=True).y, (3, 1, 0), np.inf)}, "row 3, step 1, col"),
    ({"target_names": ("u", "v")}, r"2 target names do not fit y of shape \(11, 3\)"),
    ({**LABELS, "target_names": ("u",)}, "target_names name the columns of a regression target"),
    (
        {**LABELS, "classes": ("a", "b")},
        r"y of shape \(11, 3\) must have a column for each of the 2",
    ),
    ({**LABELS, "y": at(make("multilabel").y, (5, 1), 2)}, "0 or 1 .*, got 2 at row 5, column 1"),
    ({**LABELS, "y": np.ones((11, 3))}, "y must be 0 or 1 for each label, got 1.0 at row 0"),
    ({**STEPS, "y": at(make(**STEPS).y, (6, 3), 3)}, r"in 0\.\.2, got 3 at row 6, step 3"),
    ({**STEPS, "y": at(make(**STEPS).y, (6, 3), -1)}, r"in 0\.\.2, got -1 at row 6, step 3"),
    ({"groups": np.zeros(10)}, r"groups must have shape \[11\], one entry for each row of x, got"),
    ({"lengths": np.ones(10, int)}, r"lengths must have shape \[11\]"),
    ({"lengths": np.ones(11)}, "lengths must be integers, got values of type float64"),
    ({"lengths": at(np.ones(11, int), 6, 0)}, "row 6 is empty: its length is 0"),
    ({"lengths": at(np.ones(11, int), 6, 6)}, r"length of row 6 is 6; it must be in 1\.\.5"),
    ({"lengths": at(np.ones(11, int), 6, -1)}, "length of row 6 is -1"),
    ({"weight": np.ones((11, 5))}, r"weight must have shape \[11\], got \(11, 5\)"),
    (
        {"per_step": True, "weight": np.ones(10)},
        r"must have shape \[11\] or \[11, 5\], got \(10,\)",
    ),
    ({"weight": np.array([*"abcdefghijk"])}, "weight must hold numbers, got values of type <U1"),
    ({"weight": at(np.ones(11), 8, -0.5)}, "the weight of row 8 is -0.5; it must be a finite"),
    ({"weight": at(np.ones(11), 8, np.nan)}, "the weight of row 8 is nan"),
    ({"per_step": True, "weight": at(np.ones((11, 5)), (2, 4), np.inf)}, "row 2, step 4 is inf"),
    ({"weight": np.zeros(11)}, "all weights are 0: no row would count"),
    (
        {
            "per_step": True,
            "weight": (np.arange(5) >= make().lengths[:, None]).astype(float),  # type: ignore[index]
        },
        "all weights are 0",
    ),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_fields_that_do_not_fit_are_refused(number: int) -> None:
    fields, message = BAD[number]
    with pytest.raises(ValueError, match=f"^here: .*{message}") as caught:
        replaced(**fields)
    assert str(caught.value).endswith(".")
