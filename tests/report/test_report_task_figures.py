"""Figures of regressions, labels and steps: their numbers, and that nothing in them is cut."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from layout import check_layout
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from task_runs import CLASSES, ERRORS, KINDS, TARGETS, make_task_run

from jaxlstm.report import Run, grid_map, learning_curves
from jaxlstm.report.draw import PHONE
from jaxlstm.report.draw_predictions import FIGURES, draw_predictions
from jaxlstm.report.errors import choose_rows, regression_errors, row_losses
from jaxlstm.report.figure_along import error_along, forecast_series, row_lines
from jaxlstm.report.figure_errors import MOST_POINTS, predicted_against_true, residuals
from jaxlstm.report.figure_steps import class_colour, step_bands
from jaxlstm.report.problem import problem_of
from jaxlstm.report.tables import rank_cells

EXPECTED = {
    "regression": {"predicted_true", "residuals", "errors_by_group"},
    "targets": {"predicted_true", "residuals", "errors_by_target"},
    "forecast": {"predicted_true", "residuals", "error_along", "forecasts", "rows"},
    "multilabel": {"label_scores"},
    "multilabel_steps": {"label_scores", "rows"},
    "steps": {"confusion_matrix", "rows"},
    "regression_steps": {
        *("predicted_true", "residuals", "errors_by_target", "errors_by_group"),
        *("error_along", "rows"),
    },
}
UNBROKEN = "a_name_without_a_single_place_to_break_it_" * 3


def draw(run: Run, width: float | None) -> dict[str, tuple[Figure, str, str]]:
    assert run.predictions is not None
    return draw_predictions(run.predictions, problem_of(run.config), width)


def errors_of(kind: str, **data: Any) -> Any:
    run = make_task_run(kind, **data)
    assert run.predictions is not None
    return regression_errors(run.predictions, problem_of(run.config))


@pytest.mark.parametrize("width", [None, PHONE])
@pytest.mark.parametrize("kind", KINDS)
def test_every_task_has_its_figures(kind: str, width: float | None) -> None:
    figures = draw(make_task_run(kind), width)
    assert set(figures) == EXPECTED[kind] <= set(FIGURES)
    for figure, alt, caption in figures.values():
        check_layout(figure)
        assert alt
        assert caption.endswith(".")
        assert figure.get_figwidth() <= (width or 10.0) + 0.01


def long_names(kind: str) -> Run:
    """Return a run with names that are too long, and too many of them."""
    run = make_task_run(kind)
    assert run.predictions is not None
    table, data = run.predictions.copy(), dict(run.config["data"])
    for column in {"target", "group", "true"} & set(table):
        if column == "true" and kind != "steps":
            continue
        columns = ["true", "predicted"] if column == "true" else [column]
        table[columns] = table[columns].map(lambda name: f"$x^2$ 日本語 {name} {UNBROKEN}")
    if kind == "regression":
        table["group"] = [f"group {row % 50}" for row in table["row"]]
    data.pop("targets", None)
    data.pop("classes", None)
    return dataclasses.replace(
        run, predictions=table, config={"data": {**data, "units": UNBROKEN[:30]}}
    )


@pytest.mark.parametrize("width", [None, PHONE])
@pytest.mark.parametrize("kind", KINDS)
def test_long_names_are_cut_not_drawn_over(kind: str, width: float | None) -> None:
    for figure, _, _ in draw(long_names(kind), width).values():
        check_layout(figure)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_or_two_still_draw(kind: str, rows: int) -> None:
    for figure, _, caption in draw(make_task_run(kind, rows=rows), None).values():
        check_layout(figure)
        assert "median root" not in caption


def test_points_are_the_predictions_in_the_targets_units() -> None:
    errors = errors_of("regression")
    axes = predicted_against_true(errors).axes[0]
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, errors.table[["true", "predicted"]])
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.figure.get_supxlabel() == "true value (kWh)"


def test_many_points_are_counted() -> None:
    run = make_task_run("regression", rows=MOST_POINTS + 500)
    assert run.predictions is not None
    figure = predicted_against_true(regression_errors(run.predictions, problem_of(run.config)))
    (counts,) = [part for part in figure.axes[0].collections if isinstance(part, PolyCollection)]
    assert counts.get_array().sum() == MOST_POINTS + 500


def test_one_wild_prediction_does_not_squeeze_the_others() -> None:
    run = make_task_run("regression", rows=400)
    assert run.predictions is not None
    table = run.predictions.copy()
    table.loc[7, "predicted"] = 1e6
    errors = regression_errors(table, problem_of(run.config))
    axes = predicted_against_true(errors).axes[0]
    assert axes.get_xlim()[1] < 1000
    assert "1 prediction not shown" in [text.get_text() for text in axes.texts]
    left, right = residuals(errors).axes
    assert left.get_xlim()[1] < 1000
    assert right.get_ylim()[1] < 1000
    # Nothing is lost from the histogram: what lies beyond is in its last bar.
    assert left.patches[0].get_data().values.sum() == 400


def test_error_along_has_median_quartiles_and_baselines() -> None:
    errors = errors_of("forecast")
    axes = error_along(errors, "target").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"median", "naive, median", "seasonal naive, median"}
    table = errors.table
    for ahead, name in enumerate(errors.targets):
        part = table[table["target"] == name]
        expected = np.median((part["predicted"] - part["true"]).abs())
        assert lines["median"].get_ydata()[ahead] == pytest.approx(expected)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steps ahead", "absolute error (MW)")
    assert error_along(errors_of("regression_steps"), "step").axes[0].get_xlabel() == "step"


def test_the_chosen_rows_are_drawn_whole() -> None:
    errors = errors_of("regression_steps")
    chosen = choose_rows(row_losses(errors))
    figure = row_lines(errors, chosen)
    for column, (words, row) in enumerate(chosen.items()):
        for line, target in enumerate(TARGETS):
            axes = figure.axes[line * len(chosen) + column]
            assert axes.get_title(loc="left") == f"{target}: row {row}, {words} error"
            own = errors.table.query("row == @row and target == @target")
            lines = {part.get_label(): part for part in axes.lines}
            np.testing.assert_allclose(lines["true"].get_ydata(), own["true"])
            np.testing.assert_allclose(lines["predicted"].get_xdata(), own["step"])


def test_a_series_breaks_where_rows_are_missing() -> None:
    errors = errors_of("forecast")
    table = errors.table[~errors.table["row"].between(4020, 4029)]
    figure = forecast_series(dataclasses.replace(errors, table=table))
    for axes, target in zip(figure.axes, ("t+1", "t+6"), strict=True):
        line = axes.lines[0]
        assert np.isnan(line.get_ydata()).sum() == 1
        own = table[table["target"] == target]
        found = line.get_ydata()[~np.isnan(line.get_ydata())]
        np.testing.assert_allclose(found, own["true"])


def test_bands_are_the_classes_of_each_step() -> None:
    table = pd.DataFrame(
        {
            "row": 4,
            "step": range(6),
            "true": ["walk", "walk", "sit", "sit", "sit", "run"],
            "predicted": ["walk", "run", "sit", "sit", "walk", "run"],
        }
    )
    axes = step_bands(table, {"most mistakes": 4}, CLASSES).axes[0]
    found: dict[int, list[tuple[float, float, Any]]] = {0: [], 1: [], 2: []}
    for part in axes.collections:
        box = part.get_paths()[0].get_extents()
        found[round(box.y0 + 0.4)].append((box.x0, box.x1, tuple(part.get_facecolor()[0])))
    walk, run, sit = (to_rgba(class_colour(number)) for number in range(3))
    assert found[0] == [(-0.5, 1.5, walk), (1.5, 4.5, sit), (4.5, 5.5, run)]
    assert [colour for *_, colour in found[1]] == [walk, run, sit, walk, run]
    assert [(begin, end) for begin, end, _ in found[2]] == [(0.5, 1.5), (3.5, 4.5)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["true", "predicted", "mistakes"]


def test_many_classes_have_different_colours() -> None:
    colours = {class_colour(number) for number in range(35)}
    assert len(colours) == 35


def test_curves_have_a_panel_per_metric() -> None:
    run = make_task_run("regression")
    loss, mse, mae = learning_curves(run.curves, 0).axes
    assert [axes.get_title(loc="left") for axes in (loss, mse, mae)] == [
        *("Loss", "Mean squared error", "Mean absolute error")
    ]
    assert (loss.get_yscale(), mse.get_yscale(), mae.get_yscale()) == ("log", "log", "linear")
    for axes, metric in zip((mse, mae), ERRORS, strict=True):
        line = {line.get_label(): line for line in axes.lines}["best cell, validation"]
        own = run.curves[run.curves["cell"] == 0].groupby("epoch")[f"val_{metric}"].mean()
        np.testing.assert_allclose(line.get_ydata(), own)
    check_layout(loss.figure)
    check_layout(learning_curves(run.curves, 0, width=PHONE))
    # A classifier's loss stays linear, however far it falls.
    assert learning_curves(make_task_run("steps").curves, 0).axes[0].get_yscale() == "linear"


def test_a_loss_that_is_the_squared_error_is_drawn_once() -> None:
    curves = make_task_run("regression").curves
    curves = curves.assign(train_loss=curves["train_mse"], val_loss=curves["val_mse"])
    loss, mae = learning_curves(curves, 0).axes
    assert loss.get_ylabel() == "loss (mean squared error)"
    assert mae.get_title(loc="left") == "Mean absolute error"


@pytest.mark.parametrize("width", [10.0, PHONE])
@pytest.mark.parametrize(
    "scores",
    [[-1e-5, -2e-5], [-0.031, -0.052], [-12345.6, -9999.0], [0.93, -412.7], [-1e9, -1e3]],
)
@pytest.mark.parametrize("cells", [2, 6])
def test_scores_below_zero_are_readable(scores: list[float], width: float, cells: int) -> None:
    results = make_task_run("regression").results
    results = results[results["cell"] < 6].drop(columns="param_dropout" if cells == 2 else [])
    results["score"] = np.interp(results["cell"] + 0.1 * results["fold"], [0, 6], scores)
    figure = grid_map(results, scoring="neg_mean_squared_error", width=width)
    check_layout(figure)
    written = [text.get_text() for axes in figure.axes for text in axes.texts if axes.images]
    assert len(set(written)) == len(written) == (6 if cells == 6 else 0)
    assert not any("e" in text for text in written if min(scores) > -1e9)


def test_ranking_and_dots_leave_out_what_is_far_below() -> None:
    results = make_task_run("regression").results
    results["score"] = np.where(results["cell"] == 3, -4000.0, 0.5 + results["cell"] / 100)
    random = results.assign(param_units=results["cell"] * 1.5, param_dropout=-results["cell"] % 5)
    ranked = grid_map(random, scoring="r2")
    dots = grid_map(results.drop(columns="param_units").assign(param_dropout=results["cell"]))
    assert len(rank_cells(results)) == 6
    assert not list(ranked.axes[0].images)
    assert ranked.axes[1].get_xlim()[0] > -1
    assert dots.axes[0].get_ylim()[0] > -1
    for axes in (ranked.axes[1], dots.axes[0]):
        assert "lower scores not shown" in [text.get_text() for text in axes.texts]
