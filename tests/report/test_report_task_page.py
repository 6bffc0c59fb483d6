"""The pages of regressions, labels and steps say what happened, in their own words."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import root_mean_squared_error
from task_runs import CLASSES, KINDS, LABELS, make_task_run
from test_report_page import Page

from jaxlstm.report import redraw, save_run
from jaxlstm.report.page import render
from jaxlstm.report.text import number_text

SECTIONS = {
    "steps": "Classes on the held-out steps",
    "multilabel": "Labels on the held-out rows",
    "multilabel_steps": "Labels on the held-out steps",
}


def words_of(kind: str, **data: object) -> str:
    return Page(render(make_task_run(kind, **data), {})).words


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_has_its_section_and_its_words(kind: str) -> None:
    words = words_of(kind)
    assert SECTIONS.get(kind, "Predictions on the held-out rows") in words
    regression = kind not in SECTIONS
    assert regression != bool(re.search(r"\bright\b", words))
    assert regression != ("accuracy" in words.lower())
    assert ("RMSE" in words) == regression
    assert "None" not in words
    assert "nan" not in words.lower()
    assert ("held-out steps" in words) == ("steps" in kind)


@pytest.mark.parametrize("kind", ["regression", "regression_steps", "steps"])
def test_redrawing_gives_the_same_page(kind: str, tmp_path: Path) -> None:
    page = save_run(make_task_run(kind), tmp_path)
    before = {path: path.read_bytes() for path in [page, *(tmp_path / "figures").iterdir()]}
    redraw(tmp_path)
    for path, content in before.items():
        assert path.read_bytes() == content, path.name
    tags = Page(page.read_text(encoding="utf-8")).elements
    assert [tag for tag, _ in tags].count("img") == len(before) // 2
    for tag, attributes in tags:
        if tag == "img":
            assert attributes["alt"]


def test_a_regression_says_its_errors() -> None:
    run = make_task_run("regression")
    assert run.predictions is not None
    table = run.predictions
    words = words_of("regression")
    rmse = number_text(float(root_mean_squared_error(table["true"], table["predicted"])))
    assert f"it predicts 60 held-out rows with an RMSE of {rmse} kWh and an R² of" in words
    assert f"60 held-out rows: root mean squared error {rmse} kWh, mean absolute error" in words
    assert "Scores are the mean squared error with a minus sign" in words
    assert "reaches a mean neg_mean_squared_error of −0.0" in words
    for group, part in table.groupby("group"):
        own = number_text(float(root_mean_squared_error(part["true"], part["predicted"])))
        assert re.search(rf"{group} {re.escape(own)}0* ", words), group
    worst = table.loc[(table["predicted"] - table["true"]).abs().idxmax()]
    largest = words.partition("Largest errors")[2]
    assert f"error {worst['row']} {worst['group']}" in largest


def test_a_forecast_is_set_beside_the_baselines() -> None:
    words = words_of("forecast")
    for part in (
        "Its mean absolute scaled error is 0.61 , that of the naive forecast 2.9, "
        "that of the seasonal naive forecast 1.02.",
        "forecast RMSE MASE sMAPE this model",
        "seasonal naive 2.100 1.02 4.9",
        "Errors by steps ahead step ahead RMSE MAE R² bias MAE, naive MAE, seasonal naive rows t+1",
        "60 held-out rows, 6 steps ahead:",
    ):
        assert part in words, part


def test_targets_without_a_unit_say_what_they_are_measured_in() -> None:
    words = words_of("targets")
    assert "The targets have no common unit: each is in standard deviations of its own." in words
    assert "in standard deviations of their target" in words
    # The largest errors stand in the table as they were measured.
    assert "5,0" in words.partition("Largest errors")[2].partition("Repeat it")[0]


def test_labels_and_steps_say_their_scores() -> None:
    run = make_task_run("multilabel")
    words = words_of("multilabel")
    share = 100 * run.summary["test"]["accuracy"]
    assert f"it gets every label of {share:.1f} % of 60 held-out rows right and" in words
    assert f"Every label right for {share:.1f} % of 60 rows (subset accuracy);" in words
    for label in LABELS:
        assert f"{label} " in words
    run = make_task_run("steps")
    assert run.predictions is not None
    words = words_of("steps")
    share = 100 * run.summary["test"]["accuracy"]
    assert f"it gets {share:.1f} % of {len(run.predictions):,} held-out steps right." in words
    assert "class precision recall F1 steps" in words
    for name in CLASSES:
        assert f"{name} " in words
    assert "lengths 20 to 49 steps, median 34" in words


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_without_predictions_or_test_stands(kind: str, tmp_path: Path) -> None:
    run = make_task_run(kind)
    bare = dataclasses.replace(run, predictions=None, summary={})
    words = Page(save_run(bare, tmp_path).read_text(encoding="utf-8")).words
    assert "held-out" not in words
    assert sorted(path.stem for path in (tmp_path / "figures").glob("*.png")) == [
        *("grid", "learning_curves")
    ]


def test_predictions_that_are_not_finite_are_said(tmp_path: Path) -> None:
    run = make_task_run("regression")
    assert run.predictions is not None
    some = run.predictions.assign(predicted=run.predictions["predicted"].where(lambda x: x > 12))
    lost = int(some["predicted"].isna().sum())
    run.summary["test"] |= {"rmse": np.nan, "r2": np.nan}
    words = Page(render(dataclasses.replace(run, predictions=some), {})).words
    assert f"{lost} prediction{'s' * (lost > 1)} left out, not finite." in words
    none = dataclasses.replace(run, predictions=some.assign(predicted=np.nan))
    words = Page(save_run(none, tmp_path).read_text(encoding="utf-8")).words
    assert "none with a finite prediction" in words


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    for kind in ("targets", "multilabel_steps", "regression"):
        run = make_task_run(kind, rows=8, units=evil)
        assert run.predictions is not None
        column = "group" if kind == "regression" else "target"
        names = run.predictions[column].replace(run.predictions[column].iloc[0], evil)
        table = run.predictions.assign(**{column: names})
        html = save_run(dataclasses.replace(run, predictions=table), tmp_path).read_text("utf-8")
        assert "script" not in {tag for tag, _ in Page(html).elements}
        assert "&lt;script&gt;" in html
