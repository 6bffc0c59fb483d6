"""A run written and read again: exactly, whole, and refused in one sentence where damaged."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import json
import math
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_runs import KINDS, make_task_run

from jaxlstm.report import Run, load_run
from jaxlstm.report.csv_tables import NUMBER, TEXT, csv_text, parse_csv
from jaxlstm.report.files import write_atomic, write_run_files

FILES = ["config.json", "curves.csv", "predictions.csv", "results.csv", "summary.json"]


@pytest.fixture
def folder(digits_run: Run, tmp_path: Path) -> Path:
    write_run_files(digits_run, tmp_path)
    return tmp_path


def results_with(run: Run, **columns: list[Any]) -> Run:
    rows = len(next(iter(columns.values())))
    table = pd.concat([run.results] * (rows // len(run.results) + 1), ignore_index=True)[:rows]
    # Objects, lest pandas makes one column of integers, booleans and floats all floats.
    added = {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    return dataclasses.replace(run, results=table.assign(**added))


def test_a_run_comes_back(digits_run: Run, folder: Path) -> None:
    again = load_run(folder)
    expected = digits_run.results.assign(param_units=digits_run.results["param_units"].map(repr))
    pd.testing.assert_frame_equal(again.results, expected, check_exact=True)
    pd.testing.assert_frame_equal(again.curves, digits_run.curves, check_exact=True)
    # The classes' names are digits: canonical numbers read as numbers.
    predictions = digits_run.predictions.astype({"true": int, "predicted": int})
    pd.testing.assert_frame_equal(again.predictions, predictions, check_exact=True)
    assert again.config["config"]["dense"] == [75]
    assert again.summary["best"]["cell"] == digits_run.summary["best"]["cell"]
    assert sorted(os.listdir(folder)) == FILES


def test_writing_what_was_read_changes_nothing(folder: Path, tmp_path: Path) -> None:
    write_run_files(load_run(folder), tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.tuples(st.integers(), st.floats(allow_nan=False)),
)


@given(
    st.lists(st.floats(), min_size=1, max_size=20).flatmap(
        lambda scores: st.tuples(
            st.just(scores), st.lists(VALUES, min_size=len(scores), max_size=len(scores))
        )
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_value_survives(
    digits_run: Run, tmp_path: Path, drawn: tuple[list[float], list[Any]]
) -> None:
    scores, values = drawn
    write_run_files(results_with(digits_run, score=scores, param_x=values), tmp_path)
    first = (tmp_path / "results.csv").read_bytes()
    again = load_run(tmp_path)
    assert len(again.results) == len(scores)
    for before, after in zip(scores, again.results["score"], strict=True):
        assert (before == after) or (math.isnan(before) and math.isnan(after))
    texts = [value if isinstance(value, str) else repr(value) for value in values]
    back = [value if isinstance(value, str) else repr(value) for value in again.results["param_x"]]
    assert texts == back
    write_run_files(again, tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.int64(3), np.int64(4)], [3, 4]),
        ([np.float32(0.1), np.float32(0.2)], [float(np.float32(0.1)), float(np.float32(0.2))]),
        ([True, np.False_], [True, False]),
        ([1, 0.5], [1, 0.5]),
        (["01", "7"], ["01", "7"]),
        (["1e3", "2"], ["1e3", "2"]),
        ([(np.int64(50), 25), (100, 50)], ["(50, 25)", "(100, 50)"]),
        (["adam", 'a,b\n"c"\'\r'], ["adam", 'a,b\n"c"\'\r']),
        (["\r", "\n", " ", "\x85"], ["\r", "\n", " ", "\x85"]),
        (["日本語", "<b>&amp;"], ["日本語", "<b>&amp;"]),
    ],
)
def test_hyperparameters_keep_their_kind(
    digits_run: Run, tmp_path: Path, values: list[Any], expected: list[Any]
) -> None:
    write_run_files(results_with(digits_run, param_x=values), tmp_path)
    found = load_run(tmp_path).results["param_x"].tolist()
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_missing_hyperparameters_do_not_make_floats_of_the_others(
    digits_run: Run, tmp_path: Path
) -> None:
    write_run_files(results_with(digits_run, param_x=[3, math.nan, 4]), tmp_path)
    found = load_run(tmp_path).results["param_x"].tolist()
    assert found[0] == 3
    assert isinstance(found[0], int)
    assert math.isnan(found[1])


def test_json_takes_what_runs_hold(digits_run: Run, tmp_path: Path) -> None:
    config = {
        "config": {
            "zeta": np.float32(0.5),
            "alpha": (1, (2, np.int64(3))),
            "nan": math.nan,
            "inf": -math.inf,
            "array": np.array([[1.0, np.nan]]),
            "flag": np.bool_(True),
            "set": {"b", "a"},
            "path": Path("data"),
            "date": datetime(2025, 11, 21, tzinfo=UTC),
            "function": math.sqrt,
            "missing": pd.NA,
            "dtype": np.dtype("float32"),
            "keys": {1: "one", (2, 3): "pair"},
            "surrogate": "\ud800",
        }
    }
    write_run_files(dataclasses.replace(digits_run, config=config), tmp_path)
    found = load_run(tmp_path).config["config"]
    assert list(found) == sorted(found)
    assert found["alpha"] == [1, [2, 3]]
    assert found["nan"] is found["inf"] is found["missing"] is None
    assert found["array"] == [[1.0, None]]
    assert found["flag"] is True
    assert found["set"] == ["a", "b"]
    assert found["date"] == "2025-11-21T00:00:00+00:00"
    assert found["keys"] == {"1": "one", "(2, 3)": "pair"}
    assert found["path"] == "data"
    assert found["dtype"] == "float32"


def test_an_empty_run_comes_back(digits_run: Run, tmp_path: Path) -> None:
    empty = Run(digits_run.results[:0], digits_run.curves[:0], {}, {})
    write_run_files(empty, tmp_path)
    again = load_run(tmp_path)
    assert list(again.results.columns) == list(digits_run.results.columns)
    assert len(again.results) == len(again.curves) == 0
    assert again.predictions is None


def test_an_earlier_runs_predictions_go(digits_run: Run, folder: Path) -> None:
    write_run_files(dataclasses.replace(digits_run, predictions=None), folder)
    assert not (folder / "predictions.csv").exists()
    assert load_run(folder).predictions is None


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "results.csv"
    write_atomic(path, "old")

    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt  # what a Ctrl-C at the worst moment raises

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new and longer")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_full_disk_is_said_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"results.csv cannot be written: No space left") as caught:
        write_atomic(tmp_path / "results.csv", "text")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_atomic(tmp_path / "ours", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda run: run.results.drop(columns="score"), "column 'score' is missing"),
        (lambda run: run.results.assign(status="fine"), "holds 'fine'; allowed: ok or failed"),
        (lambda run: run.results.assign(score="high"), "holds 'high'; a number is needed"),
        (lambda run: run.results.assign(epochs=1.5), "holds 1.5; a whole number is needed"),
        (lambda run: run.results.assign(fold=math.nan), "holds nan; a whole number is needed"),
        (
            lambda run: pd.concat([run.results, run.results[["score"]]], axis=1),
            "column 'score' appears 2 times",
        ),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_written(
    digits_run: Run, folder: Path, change: Callable[[Run], pd.DataFrame], sentence: str
) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}
    with pytest.raises(ValueError, match=r"run\.results") as caught:
        write_run_files(dataclasses.replace(digits_run, results=change(digits_run)), folder)
    assert sentence in str(caught.value)
    assert {name: (folder / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize("name", [name for name in FILES if name != "predictions.csv"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        load_run(folder)


def edit(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("results.csv", lambda text: "", "is empty; a header line"),
        ("results.csv", edit(",score", ",points"), "the column 'score' is missing"),
        ("results.csv", edit("\n1,0,1,", "\none,0,1,"), "line 3, column 'trial': 'one' found"),
        ("results.csv", edit(",ok,", ",OK,"), "line 2, column 'status': 'OK' found"),
        ("results.csv", edit("\n1,0,1,", "\n1,0,"), "line 3 has 14 values, the header names 15"),
        ("results.csv", lambda text: text[:-5], "line 55 is cut short"),
        ("results.csv", edit('"(50, 25)"', '"(50, 25)'), "line"),
        ("curves.csv", edit("\n0,0,0,2,", "\n0,0,0,two,"), "line 3, column 'epoch': 'two' found"),
        ("curves.csv", edit("0.001,", "O.001,"), "line 2, column 'learning_rate': 'O.001' found"),
        ("curves.csv", lambda text: text[: len(text) // 2], "line"),
        ("results.csv", edit("val_accuracy", "accuracy"), "column 'val_accuracy' is missing"),
        ("curves.csv", edit("train_loss", "training_loss"), "column 'train_loss' is missing"),
        ("predictions.csv", edit("predicted", "guess"), "column 'predicted' is missing"),
        ("predictions.csv", edit(",0.", ",O."), "column 'probability': 'O."),
        ("config.json", edit('"data": {', '"data": {"task": "sorting",'), "data.task is 'sorting'"),
        ("config.json", lambda text: text[:-9], "not valid JSON"),
        ("summary.json", edit('"scoring"', "scoring"), "not valid JSON"),
        ("summary.json", lambda text: "[1]\n", "holds a JSON list; an object is needed"),
    ],
)
def test_a_damaged_file_gives_one_sentence(
    folder: Path, name: str, change: Callable[[str], str], sentence: str
) -> None:
    path = folder / name
    path.write_text(change(path.read_text()), encoding="utf-8")
    with pytest.raises(ValueError, match=name) as caught:
        load_run(folder)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_every_task_come_back(kind: str, tmp_path: Path) -> None:
    run = make_task_run(kind)
    write_run_files(run, tmp_path)
    again = load_run(tmp_path)
    assert run.predictions is not None
    assert again.predictions is not None
    for name in ("results", "curves", "predictions"):
        expected, found = getattr(run, name), getattr(again, name)
        pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)
    write_run_files(again, tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(
        st.tuples(
            st.integers(-(10**9), 10**9),
            st.integers(0, 10**6),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
            VALUES,
            *[NUMBERS] * 4,
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_predictions_survive(tmp_path: Path, drawn: list[tuple[Any, ...]]) -> None:
    names = ["row", "step", "target", "group", "true", "predicted", "naive", "seasonal_naive"]
    table = pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in
                          zip(names, zip(*drawn, strict=True), strict=True)})  # fmt: skip
    run = dataclasses.replace(make_task_run("regression_steps", rows=1), predictions=table)
    write_run_files(run, tmp_path)
    first = (tmp_path / "predictions.csv").read_bytes()
    again = load_run(tmp_path)
    assert again.predictions is not None
    for name in ("row", "step", "target"):
        assert again.predictions[name].tolist() == table[name].tolist()
    for name in names[4:]:
        np.testing.assert_array_equal(again.predictions[name], table[name].astype(float))
    write_run_files(again, tmp_path)
    assert (tmp_path / "predictions.csv").read_bytes() == first


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
@given(st.floats(), st.floats())
def test_any_metric_survives(kind: str, train: float, val: float) -> None:
    run = make_task_run(kind, rows=2)
    with tempfile.TemporaryDirectory() as folder:
        results = run.results.assign(train_mape=train, val_mape=val)
        write_run_files(dataclasses.replace(run, results=results), folder)
        again = load_run(folder).results
    np.testing.assert_array_equal(again["train_mape"], results["train_mape"])
    np.testing.assert_array_equal(again["val_mape"], results["val_mape"])
    assert again["val_mape"].dtype == float


@pytest.mark.parametrize(
    ("kind", "old", "new", "sentence"),
    [
        ("regression", "500,", "500,high", "line 2, column 'true': 'high"),
        ("multilabel", "row,target", "row,label", "column 'target' is missing"),
        ("multilabel", "jazz,1", "jazz,2", "column 'true': '2' found, 0 or 1 is needed"),
        ("steps", "row,step", "row,time", "the column 'step' is missing"),
        ("steps", "300,0,", "300,zero,", "line 2, column 'step': 'zero' found"),
    ],
)
def test_damaged_predictions_give_one_sentence(
    tmp_path: Path, kind: str, old: str, new: str, sentence: str
) -> None:
    write_run_files(make_task_run(kind), tmp_path)
    path = tmp_path / "predictions.csv"
    path.write_text(edit(old, new)(path.read_text()), encoding="utf-8")
    with pytest.raises(ValueError, match=r"predictions\.csv") as caught:
        load_run(tmp_path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_predictions_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = make_task_run("multilabel")
    assert run.predictions is not None
    wrong = dataclasses.replace(run, predictions=run.predictions.assign(predicted=0.5))
    with pytest.raises(ValueError, match=r"run\.predictions\['predicted'\] holds 0\.5; 0 or 1"):
        write_run_files(wrong, tmp_path)
    wrong = dataclasses.replace(run, curves=run.curves.drop(columns="train_accuracy"))
    with pytest.raises(ValueError, match=r"run\.curves: the column 'train_accuracy' is missing"):
        write_run_files(wrong, tmp_path)
    wrong = dataclasses.replace(run, config={"data": {"task": "sorting"}})
    with pytest.raises(ValueError, match=r"run\.config: data\.task is 'sorting'"):
        write_run_files(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_other_bytes_gives_one_sentence(folder: Path) -> None:
    data = (folder / "results.csv").read_bytes()
    (folder / "results.csv").write_bytes(data.replace(b"adam", b"ad\xe4m", 1))
    with pytest.raises(ValueError, match=r"results\.csv: line 2 is not UTF-8 text"):
        load_run(folder)


def test_json_files_are_for_people_too(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


@given(
    st.lists(st.text("=+-@\t\r\n'0.5e,\" aß", max_size=5), min_size=1), st.text("=@a'", min_size=1)
)
def test_no_cell_is_a_formula(texts: list[str], name: str) -> None:
    frame = pd.DataFrame({name: texts, "-number": np.linspace(-1, 1, len(texts))})
    content = csv_text(frame, {}, "table")
    rows = list(csv.reader(io.StringIO(content, newline="")))
    for row in rows:
        for cell in row:
            if cell[:1] in tuple("=+-@\t\r\n"):
                float(cell)  # or it is text, and the spreadsheet would run it
    assert [float(row[1]) for row in rows[1:]] == frame["-number"].tolist()
    kinds = {name: TEXT, "-number": NUMBER}
    back = parse_csv(content, Path("x.csv"), lambda names: kinds)
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
