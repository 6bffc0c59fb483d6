"""Rows of unequal length and targets of any kind, as arrays, from npz and from csv files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm.data import SequenceData, from_arrays, load_arrays

RNG = np.random.default_rng(1)
X = RNG.normal(size=(6, 4, 2))
LENGTHS = np.array([4, 2, 1, 3, 4, 2])
NUMBERS = RNG.normal(5, 3, 6)
ROWS = [X[row, :length] for row, length in enumerate(LENGTHS)]


def padded(rows: list[np.ndarray], steps: int = 4) -> np.ndarray:
    wanted = np.zeros((len(rows), steps, *rows[0].shape[1:]))
    for row, own in enumerate(rows):
        for step, value in enumerate(own):
            wanted[row, step] = value
    return wanted


# -- rows of unequal length -----------------------------------------------------------------------


@pytest.mark.parametrize("scalars", [False, True])
@pytest.mark.parametrize("form", ["list", "tuple", "objects", "lists", "nan"])
def test_rows_of_unequal_length(form: str, scalars: bool) -> None:
    rows = [row[:, 0] if scalars else row for row in ROWS]
    x: Any = rows
    if form == "tuple":
        x = tuple(rows)
    elif form == "objects":
        x = np.empty(6, object)
        x[:] = rows
    elif form == "lists":
        x = [row.tolist() for row in rows]
    elif form == "nan":
        x = X[:, :, 0].copy() if scalars else X.copy()
        for row, length in enumerate(LENGTHS):
            x[row, length:] = np.nan
        before = x.copy()
    data = from_arrays(x, NUMBERS)
    np.testing.assert_array_equal(data.x, padded(rows))
    assert data.lengths is not None
    np.testing.assert_array_equal(data.lengths, LENGTHS)
    assert data.lengths.dtype == np.int32
    for own, row in zip(data.as_list(), rows, strict=True):
        np.testing.assert_array_equal(own, row)
    if form == "nan":
        np.testing.assert_array_equal(x, before)  # the caller's array is left alone
    assert data.sha256 == from_arrays(padded(rows), NUMBERS, lengths=LENGTHS).sha256


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    features=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_lists_come_back(lengths: list[int], features: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(n, features) if features else n).astype(np.float32) for n in lengths]
    data = from_arrays(rows, rng.normal(size=len(rows)))
    assert data.x.dtype == np.float32
    assert (data.lengths is None) == (len(set(lengths)) == 1)
    for own, row in zip(data.as_list(), rows, strict=True):
        np.testing.assert_array_equal(own, row)


def test_nan_past_given_lengths_is_padding() -> None:
    x = X.copy()
    x[1, 2:] = np.nan
    x[3, 3, 1] = np.inf
    data = from_arrays(x, NUMBERS, lengths=LENGTHS)
    assert not data.x[1, 2:].any()
    assert np.isnan(x[1, 2:]).all()
    assert from_arrays(X.astype(int), [*"abcabc"]).x.dtype.kind == "i"
    full = from_arrays([*x.tolist()[:1], X[1].tolist()], [1, 2])
    assert full.lengths is None


def nan_at(*index: int) -> np.ndarray:
    x = X.copy()
    x[index] = np.nan
    return x


BAD_X: list[tuple[Any, dict[str, Any], str]] = [
    (nan_at(2, 1, 0), {}, "x is NaN at row 2, step 1, feature 0"),
    (nan_at(2, 3, 1), {}, "x is NaN at row 2, step 3, feature 1"),
    (nan_at(4, 0), {}, "x is NaN at row 4, step 0, feature 0"),
    (nan_at(4)[:, :, 0], {}, "row 4 of x is empty: all its values are NaN"),
    (nan_at(0, 2)[:, :, 0], {}, r"x is NaN at row 0, step 2\.$"),
    (nan_at(3, 2), {"lengths": LENGTHS}, "x is NaN at row 3, step 2, feature 0"),
    (ROWS, {"lengths": LENGTHS[::-1]}, "length of row 0 is 2, but this row of x has 4 steps"),
    ([*ROWS[:5], X[5, :0]], {}, "row 5 of x is empty"),
    ([*ROWS[:5], X[5, :, :1]], {}, r"row 5 of x has shape \(4, 1\); .* shape \[T_i, 2\]"),
    ([*ROWS[:5], X[5, :, 0]], {}, r"row 5 of x has shape \(4,\)"),
    ([*ROWS[:5], 3.0], {}, r"row 5 of x has shape \(\)"),
    ([*ROWS[:5], [["a", "b"]]], {}, "row 5 of x holds values of type <U1, row 0 of type float64"),
    ([*ROWS[:5], [[1, None]]], {}, "row 5 of x holds values of type object"),
    ([*ROWS[:5], [[1, 2], [3]]], {}, r"row 5 of x has shape \(2,\)"),
    ([["a"], ["b", "c"], *[["d"]] * 4], {}, "x must hold numbers, got values of type <U1"),
    ([1, 2, 3, 4, 5, 6], {}, r"x must have shape .* got \(6,\)"),
    ([], {}, r"x must have shape .* got \(0,\)"),
]


@pytest.mark.parametrize("number", range(len(BAD_X)))
def test_bad_rows(number: int) -> None:
    x, options, message = BAD_X[number]
    with pytest.raises(ValueError, match=f"^here: .*{message}") as caught:
        from_arrays(x, NUMBERS, source="here", **options)
    assert "\n" not in str(caught.value)


# -- which task -----------------------------------------------------------------------------------

FLAGS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
STEPS = RNG.integers(3, 7, (6, 4))
GUESSED: list[tuple[Any, dict[str, Any], tuple[str, bool]]] = [
    ([3, 1, 3, 20, 1, 20], {}, ("classification", False)),
    ([3.0, 1, 3, 20, 1, 20], {}, ("classification", False)),
    ([*"abcabc"], {}, ("classification", False)),
    (NUMBERS, {}, ("regression", False)),
    ([3, 1, 3, 20, 1, 20], {"task": "regression"}, ("regression", False)),
    ([3, 1, 3, 20, 1, 20], {"target_names": ["age (a)"]}, ("regression", False)),
    (NUMBERS, {"task": "classification"}, ("classification", False)),
    (FLAGS, {}, ("multilabel", False)),
    (FLAGS.astype(bool), {}, ("multilabel", False)),
    (FLAGS.astype(float), {}, ("regression", False)),
    (FLAGS.astype(float), {"task": "multilabel"}, ("multilabel", False)),
    (FLAGS, {"target_names": [*"abc"]}, ("regression", False)),
    (FLAGS * 2, {}, ("regression", False)),
    (RNG.normal(size=(6, 3)), {}, ("regression", False)),
    (STEPS, {}, ("classification", True)),
    (STEPS.astype(str), {}, ("classification", True)),
    (STEPS, {"per_step": False}, ("regression", False)),
    (STEPS % 2, {"per_step": False}, ("multilabel", False)),
    (STEPS / 3, {}, ("regression", True)),
    (RNG.normal(size=(6, 4, 3)), {}, ("regression", True)),
    (RNG.integers(0, 2, (6, 4, 3)), {}, ("multilabel", True)),
    (FLAGS, {"classes": [*"xyz"]}, ("multilabel", False)),
    ([0, 1, 2, 0, 1, 2], {"classes": [*"xyz"]}, ("classification", False)),
    (STEPS - 3, {"classes": [*"vxyz"]}, ("classification", True)),
    (pd.Series(NUMBERS), {}, ("regression", False)),
    (pd.DataFrame(FLAGS), {}, ("multilabel", False)),
]


@pytest.mark.parametrize("number", range(len(GUESSED)))
def test_the_task_is_found(number: int) -> None:
    y, options, (task, per_step) = GUESSED[number]
    data = from_arrays(X, y, **options)
    assert (data.task, data.per_step) == (task, per_step)
    if task == "classification" and "classes" not in options:
        np.testing.assert_array_equal(data.labels, np.asarray(y).astype(str))
        given = np.array(np.asarray(y).tolist())
        whole = given.dtype.kind in "biu" or (given.dtype.kind == "f" and (given % 1 == 0).all())
        np.testing.assert_array_equal(data.targets, given if whole else data.labels)
        assert (data.targets.dtype.kind in "biuf") == whole  # numbers stay numbers
        assert data.y.dtype == np.int32
    elif task == "regression":
        np.testing.assert_array_equal(data.targets, y)
        assert data.y.dtype == np.float64
    else:
        np.testing.assert_array_equal(data.y, y)
        assert data.y.dtype == np.int32
    assert data.target_names == tuple(options.get("target_names", ()))
    if task == "multilabel":
        assert data.classes == tuple(options.get("classes", map(str, range(data.y.shape[-1]))))


@pytest.mark.parametrize("kind", ["names", "integers", "numbers", "columns", "flags"])
def test_targets_of_each_step(kind: str) -> None:
    """As a list as long as the rows, and padded with anything: the same data."""
    if kind == "columns":
        full: np.ndarray = RNG.normal(size=(6, 4, 3))
    elif kind == "flags":
        full = RNG.integers(0, 2, (6, 4, 2))
    else:
        full = STEPS / 3 if kind == "numbers" else STEPS.astype(str) if kind == "names" else STEPS
    full = full.copy()
    for row, length in enumerate(LENGTHS):
        # No padding may become a class, decide the task or be missing.
        full[row, length:] = "padding" if kind == "names" else 99 if kind == "integers" else 1
        if full.dtype.kind == "f":
            full[row, length:] = np.nan
    weight = RNG.random((6, 4))
    listed = from_arrays(
        ROWS,
        [own[:length] for own, length in zip(full, LENGTHS, strict=True)],
        weight=[own[:length] for own, length in zip(weight, LENGTHS, strict=True)],
    )
    arrays = from_arrays(X, full, lengths=LENGTHS, weight=weight)
    assert listed.per_step
    assert arrays.per_step
    for data in (listed, arrays):
        for row, length in enumerate(LENGTHS):
            if kind in ("names", "integers"):
                assert data.labels[row, :length].tolist() == full[row, :length].astype(str).tolist()
            else:
                np.testing.assert_array_equal(data.y[row, :length], full[row, :length])
            np.testing.assert_array_equal(data.weight[row, :length], weight[row, :length])  # type: ignore[index]
            assert not data.y[row, length:].any()
            assert not data.weight[row, length:].any()  # type: ignore[index]
    assert listed.classes == arrays.classes
    assert "padding" not in listed.classes
    np.testing.assert_array_equal(listed.y, arrays.y)


BAD_Y: list[tuple[Any, dict[str, Any], str]] = [
    ([*"abcdef"], {"task": "regression"}, "a regression target must be numbers, got 'a' at row 0"),
    ([*"abcdef"], {"task": "multilabel"}, r"multilabel needs y of shape \[N, D\], got \(6,\)"),
    (FLAGS.astype(str), {"task": "multilabel"}, "multilabel targets must be numbers, got '0' at"),
    (FLAGS * 2, {"task": "multilabel"}, "0 or 1 for each label, got 2 at row 0, column 1"),
    (FLAGS, {"task": "classification"}, r"y of shape \(6, 3\) holds numbers in several columns"),
    (NUMBERS, {"task": "regression", "classes": [*"ab"]}, "classes do not go with a regression"),
    (NUMBERS, {"task": "ranking"}, "task must be one of 'auto', .*, got 'ranking'"),
    (np.where(NUMBERS[2] == NUMBERS, np.nan, NUMBERS), {}, "the target of row 2 of y is NaN"),
    (np.where(NUMBERS[2] == NUMBERS, np.inf, NUMBERS), {}, "the target of row 2 of y is inf"),
    (np.where(STEPS[0, 1] == STEPS, np.nan, STEPS / 3), {}, "target of row 0, step 1 of y is NaN"),
    (NUMBERS[:5], {}, "x has 6 rows, y has 5 targets"),
    (STEPS[:, :3], {"per_step": True}, r"y must have shape \[6, 4\].* got \(6, 3\)"),
    (NUMBERS, {"per_step": True}, r"y must have shape \[6, 4\].* got \(6,\)"),
    ([[1.5]] * 5 + [[1, 2]], {}, "row 0 of y has 1 steps, that of x 4"),
    ([[1.5]] * 5 + [[1, 2]], {"per_step": False}, "the rows of y must all have the same shape"),
    ([1, 2, 3, None, 5, 6], {}, "y must hold numbers or strings, got None at row 3"),
    (NUMBERS, {"target_names": ["a", "b"]}, r"2 target names do not fit y of shape \(6,\)"),
    (NUMBERS, {"weight": [*"abcdef"]}, "weight must hold numbers, got 'a' at row 0"),
    (NUMBERS, {"weight": [1] * 5}, r"weight must have shape \[6\], got \(5,\)"),
    (NUMBERS, {"weight": [1, 2, -3, 1, 1, 1]}, "the weight of row 2 is -3.0"),
    (NUMBERS.astype(complex), {}, "y must hold numbers or strings, got values of type complex128"),
]


@pytest.mark.parametrize("number", range(len(BAD_Y)))
def test_bad_targets(number: int) -> None:
    y, options, message = BAD_Y[number]
    with pytest.raises(ValueError, match=f"^here: .*{message}") as caught:
        from_arrays(X, y, source="here", **options)
    assert "\n" not in str(caught.value)


# -- files ----------------------------------------------------------------------------------------


def test_npz_of_every_field(tmp_path: Path) -> None:
    x = X.copy()
    x[2, 1:] = np.nan
    path = tmp_path / "mine.npz"
    y = np.arange(12).reshape(6, 2)
    np.savez(path, x=x, y=y, weight=NUMBERS**2, target_names=["a (m)", "b"], task="regression")
    data = load_arrays(path)
    assert (data.task, data.target_names) == ("regression", ("a (m)", "b"))
    np.testing.assert_array_equal(data.y, y)
    np.testing.assert_array_equal(data.weight, NUMBERS**2)
    np.testing.assert_array_equal(data.lengths, [4, 4, 1, 4, 4, 4])
    np.savez(path, x=X, y=STEPS % 2, per_step=False)
    assert load_arrays(path).task == "multilabel"
    assert load_arrays(path, per_step=True).task == "classification"
    assert load_arrays(path, task="regression").task == "regression"
    with pytest.raises(
        ValueError, match="weight, group and features name columns of a table; an npz"
    ):
        load_arrays(path, weight="w")


TABLE = "a,kind,b,c,w,who\n1,0.5,1,2.5,2,x\n4,2,0,-1,0,y\n7,-3.25,1,9,1.5,x\n"


def read(folder: Path, text: str, **options: Any) -> SequenceData:
    path = folder / "mine.csv"
    path.write_text(text)
    return load_arrays(path, **options)


def test_csv_of_numbers(tmp_path: Path) -> None:
    data = read(
        tmp_path, TABLE.replace("who", "v").replace("x", "5").replace("y", "6"), label="kind"
    )
    assert (data.task, data.target_names) == ("regression", ("kind",))
    np.testing.assert_array_equal(data.y, [0.5, 2, -3.25])
    np.testing.assert_array_equal(data.x[0], [1, 1, 2.5, 2, 5])
    data = read(tmp_path, TABLE, label="kind", weight="w", group="who")
    np.testing.assert_array_equal(data.x, [[1, 1, 2.5], [4, 0, -1], [7, 1, 9]])
    assert data.weight is not None
    assert data.groups is not None
    assert data.weight.tolist() == [2, 0, 1.5]
    assert data.groups.tolist() == ["x", "y", "x"]
    labels = read(tmp_path, TABLE, label="kind", group="who", task="classification")
    assert labels.labels.tolist() == ["0.5", "2", "-3.25"]
    whole = read(tmp_path, TABLE, label="b", group="who", task="regression")
    assert (whole.y.tolist(), whole.target_names) == ([1, 0, 1], ("b",))


@pytest.mark.parametrize("label", ["c, kind", ["c", "kind"], ("c", "kind")])
def test_csv_of_several_numbers(label: Any, tmp_path: Path) -> None:
    data = read(tmp_path, TABLE, label=label, group="who")
    assert (data.task, data.target_names) == ("regression", ("c", "kind"))
    np.testing.assert_array_equal(data.y, [[2.5, 0.5], [-1, 2], [9, -3.25]])
    np.testing.assert_array_equal(data.x, [[1, 1, 2], [4, 0, 0], [7, 1, 1.5]])


def test_csv_of_several_labels(tmp_path: Path) -> None:
    text = "up,t0,left,t1\n1,0.5,0,2\n0,3,1,4\n1,5,1,6\n"
    data = read(tmp_path, text, label="up,left")  # as many as there are steps, but no steps
    assert (data.task, data.classes, data.per_step) == ("multilabel", ("up", "left"), False)
    np.testing.assert_array_equal(data.y, [[1, 0], [0, 1], [1, 1]])
    steps = read(tmp_path, text, label="up,left", per_step=True)
    assert (steps.task, steps.classes, steps.per_step) == ("classification", ("0", "1"), True)
    np.testing.assert_array_equal(steps.y, data.y)
    numbers = read(tmp_path, text.replace("6", "6.5"), label="t0,t1", per_step=True)
    assert (numbers.task, numbers.target_names) == ("regression", ())
    np.testing.assert_array_equal(numbers.y, [[0.5, 2], [3, 4], [5, 6.5]])


@pytest.mark.parametrize(
    "text", ["1.0\n2.0", "nan\n1.5", "inf\n1.5", "1.5\nx", "1e3\n2e3", "01\n1"]
)
def test_text_that_stays_text(text: str, tmp_path: Path) -> None:
    lines = [f"{label},{number}" for number, label in enumerate(text.split("\n"))]
    data = read(tmp_path, "\n".join(["label,t", *lines]))
    assert data.task == "classification"
    assert data.labels.tolist() == text.split("\n")


BAD_CSV: list[tuple[dict[str, Any], str]] = [
    ({"label": "who,kind"}, "line 2, column 'who': 'x' is not a number"),
    ({"label": "who", "task": "regression"}, "line 2, column 'who': 'x' is not a number"),
    ({"label": "kind,kind"}, "column 'kind' is named for two purposes"),
    ({"label": "kind", "weight": "kind"}, "column 'kind' is named for two purposes"),
    ({"label": "kind", "weight": "who"}, "line 2, column 'who': 'x' is not a number"),
    ({"label": "kind", "weight": "u"}, "has no column 'u'"),
    ({"label": "kind,u"}, "has no column 'u'"),
    (
        {"label": "b,kind", "task": "multilabel", "group": "who"},
        "0 or 1 .* got 0.5 at row 0, column 1",
    ),
    ({"label": "kind,b", "task": "classification", "group": "who"}, r"\(3, 2\) holds numbers in"),
]


@pytest.mark.parametrize("number", range(len(BAD_CSV)))
def test_bad_columns(number: int, tmp_path: Path) -> None:
    options, message = BAD_CSV[number]
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, TABLE, **options)
    assert "\n" not in str(caught.value)
