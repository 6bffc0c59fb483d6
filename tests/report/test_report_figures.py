"""The figures hold the tables' numbers, and nothing in them is cut off or overlaps."""

from __future__ import annotations

import ast
import concurrent.futures
import dataclasses
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from layout import check_layout
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

import jaxlstm.report
from jaxlstm.report import Run, confusion_matrix, grid_map, learning_curves
from jaxlstm.report.figure_style import SCORES, figure_bytes, label
from jaxlstm.report.tables import rank_cells

LONG = {
    "units": [(50, 25), (100, 50), (150, 75)],
    "a_very_long_parameter_name_that_someone_chose": [
        "a rather long value of it",
        "another_rather_long_one_without_any_break",
    ],
    "dropout": [0.1, 0.2, 0.30000000000000004],
    "optimizer": ["adam", "rmsprop"],
}
STRANGE = [
    "<script>alert(1)</script>",
    "日本語",
    "$x^2$",
    "Ünïcödé näïve",
    "a\nb\x00\t",
    "\U0001f600",
]


def images(figure: Figure) -> list[Any]:
    return [axes.images[0] for axes in figure.axes if axes.images]


def test_heat_map_holds_the_means(digits_run: Run) -> None:
    figure = grid_map(digits_run.results, scoring="accuracy")
    maps = images(figure)
    table = digits_run.results.groupby(["param_optimizer", "param_dropout", "param_units"])[
        "score"
    ].mean()
    assert len(maps) == 2
    for found, optimizer in zip(maps, ["adam", "rmsprop"], strict=True):
        # Tuples sort as a person expects here, since the first number alone tells them apart.
        expected = table[optimizer].unstack()
        np.testing.assert_allclose(found.get_array(), expected.to_numpy(), rtol=1e-12)
        assert found.axes.get_title(loc="left") == f"optimizer: {optimizer}"
        written = sorted(text.get_text() for text in found.axes.texts)
        assert written == sorted(f"{mean:.3f}" for mean in expected.to_numpy().ravel())
    rows = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert rows == ["0.1", "0.2", "0.3"]
    assert figure.axes[-1].get_ylabel() == "mean accuracy"


def test_heat_map_outlines_the_best_and_hatches_the_failed(run_maker: Callable[..., Run]) -> None:
    run = run_maker(grid={"a": [1, 2, 3], "b": [1, 2]}, epochs=3, failed={3})
    run = dataclasses.replace(run, results=run.results[run.results["cell"] != 4])
    figure = grid_map(run.results)
    axes = figure.axes[0]
    hatched = {patch.get_xy() for patch in axes.patches if patch.get_hatch()}
    # Cells 1 and 4 are (a=1, b=2) and (a=3, b=1): the axes are a across and b down.
    assert hatched == {(-0.5, 0.5), (1.5, -0.5)}
    outlines = [patch for patch in axes.patches if not patch.get_fill()]
    best = rank_cells(run.results).iloc[0]
    place = (best["param_a"] - 1.5, best["param_b"] - 1.5)
    assert [patch.get_xy() for patch in outlines] == [place]


def test_one_parameter_gives_dots(run_maker: Callable[..., Run]) -> None:
    run = run_maker(grid={"learning_rate": [0.1, 0.001, 0.01]}, epochs=3)
    axes = grid_map(run.results, scoring="accuracy").axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    cells = rank_cells(run.results)
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        for x, mean, bar in zip(*line.get_data(), bars.get_segments(), strict=True):
            found[(0.001, 0.01, 0.1)[int(x)]] = (mean, (bar[1][1] - bar[0][1]) / 2)
    expected = {row.param_learning_rate: (row.mean, row.std) for row in cells.itertuples()}
    assert found.keys() == expected.keys()
    for rate, numbers in expected.items():
        assert found[rate] == pytest.approx(numbers)


def test_one_cell_is_said_in_words(run_maker: Callable[..., Run]) -> None:
    run = run_maker(grid={"units": [(50, 25)]}, epochs=3)
    texts = [text.get_text() for text in grid_map(run.results, scoring="accuracy").axes[0].texts]
    mean, std = run.results["score"].mean(), run.results["score"].std(ddof=0)
    assert texts == [f"{mean:.4f} ± {std:.4f}", "mean accuracy over 3 folds: one cell, no grid"]


@pytest.mark.parametrize(
    "grid",
    [
        {"a": [1, 2], "b": [1, 2], "c": [1, 2, 3], "d": [1, 2, 3], "e": [1, 2]},
        {"a": list(range(50))},
    ],
)
def test_many_cells_are_ranked(run_maker: Callable[..., Run], grid: dict[str, list[int]]) -> None:
    run = run_maker(grid=grid, epochs=1)
    figure = grid_map(run.results)
    bars = [part for part in figure.axes[1].containers if isinstance(part, ErrorbarContainer)]
    means = np.concatenate([part.lines[0].get_xdata() for part in bars])
    expected = rank_cells(run.results)["mean"].to_numpy()[:40]
    np.testing.assert_allclose(np.sort(means)[::-1], expected)
    count = len(run.results) // 3
    assert f"best 40 of {count} cells" in [text.get_text() for text in figure.axes[0].texts]


def test_a_random_search_is_ranked_not_mapped(run_maker: Callable[..., Run]) -> None:
    run = run_maker(grid={"a": list(range(12))}, epochs=1)
    rates = 10.0 ** -(1 + run.results["cell"] / 7)
    figure = grid_map(run.results.assign(param_rate=rates))
    assert not images(figure)


@pytest.mark.parametrize("size", [4, 12, 13, 62])
def test_confusion_matrix_is_scikit_learns(size: int) -> None:
    rng = np.random.default_rng(size)
    classes = list((string.digits + string.ascii_letters)[:size])
    true = rng.choice(classes, 900)
    predicted = np.where(rng.random(900) < 0.7, true, rng.choice(classes, 900))
    figure = confusion_matrix(true, predicted, classes)
    axes = figure.axes[0]
    expected = sklearn.metrics.confusion_matrix(true, predicted, labels=classes, normalize="true")
    np.testing.assert_allclose(axes.images[0].get_array(), expected, rtol=1e-14)
    counts = sklearn.metrics.confusion_matrix(true, predicted, labels=classes)
    written = {
        (int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text())
        for text in axes.texts
    }
    nonzero = {
        (i, j): int(count)
        for (i, j), count in np.ndenumerate(counts)
        if (count or i == j) and size <= 12
    }
    assert written == nonzero
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names == classes[:: len(classes) // (len(names) - 1) if size > 12 else 1][: len(names)]


def test_learning_curves_are_the_folds_means(digits_run: Run) -> None:
    best = digits_run.summary["best"]["cell"]
    figure = learning_curves(digits_run.curves, best)
    loss, accuracy = figure.axes
    for axes, measure in ((loss, "loss"), (accuracy, "accuracy")):
        lines = {line.get_label(): line for line in axes.lines}
        curves = digits_run.curves
        for part, name in (("train", "training"), ("val", "validation")):
            own = curves[curves["cell"] == best].groupby("epoch")[f"{part}_{measure}"].mean()
            line = lines[f"best cell, {name}"]
            np.testing.assert_array_equal(line.get_xdata(), own.index)
            np.testing.assert_allclose(line.get_ydata(), own)
        refit = curves[curves["trial"] == -1][f"train_{measure}"]
        np.testing.assert_allclose(lines["refit on all rows, training"].get_ydata(), refit)
        assert len(axes.lines) == 17 + 3
        assert axes.get_xlabel() == "epoch"
        assert all(tick == int(tick) for tick in axes.get_xticks())
    assert len(figure.legends[0].get_texts()) == 4


def test_a_diverged_cell_does_not_flatten_the_others(digits_run: Run) -> None:
    curves = digits_run.curves.copy()
    other = (digits_run.summary["best"]["cell"] + 1) % 18
    curves.loc[curves["cell"] == other, "val_loss"] = 1e9
    curves.loc[(curves["cell"] == other) & (curves["epoch"] > 9), "val_loss"] = np.inf
    axes = learning_curves(curves, digits_run.summary["best"]["cell"]).axes[0]
    assert axes.get_ylim()[1] < 10
    assert "higher losses not shown" in [text.get_text() for text in axes.texts]


def every_figure(run: Run, width: float) -> list[Figure]:
    figures = [
        learning_curves(run.curves, run.summary.get("best", {}).get("cell"), width=width),
        grid_map(run.results, scoring="balanced_accuracy_of_something", width=width),
    ]
    if run.predictions is not None:
        classes = run.config["data"]["classes"]
        labels = run.predictions["true"].tolist(), run.predictions["predicted"].tolist()
        figures.append(confusion_matrix(*labels, classes, width=width))
    return figures


CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "long": {"grid": LONG, "failed": {3, 4}, "classes": STRANGE, "predictions": 90},
    "many": {
        "grid": {**LONG, "width": [1, 2]},
        "classes": [f"a long class name {i}" for i in range(62)],
    },
    "wide": {"grid": {"a": [f"value number {i}" for i in range(20)], "b": [1, 2]}, "epochs": 1},
    "dots": {"grid": {"rate": [f"a long value {i}" for i in range(20)]}, "failed": {3, 4, 5}},
    "one": {"grid": {}, "folds": 1},
    "failed": {"failed": "all"},
}


@pytest.mark.parametrize("width", [10.0, 4.2])
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_cut_off_or_overlaps(
    run_maker: Callable[..., Run], case: str, width: float
) -> None:
    for figure in every_figure(
        run_maker(**{"epochs": 4, "predictions": 200, **CASES[case]}), width
    ):
        check_layout(figure)


def test_the_users_own_style_neither_matters_nor_changes(digits_run: Run) -> None:
    expected = figure_bytes(grid_map(digits_run.results), "svg")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        before = dict(matplotlib.rcParams)
        found = figure_bytes(grid_map(digits_run.results), "svg")
        assert dict(matplotlib.rcParams) == before
    assert found == expected


def test_colours_darken_evenly() -> None:
    red, green, blue = np.array([SCORES(x)[:3] for x in np.linspace(0, 1, 33)]).T
    linear = [
        np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (red, green, blue)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    lightness = 116 * np.cbrt(np.maximum(luminance, 1e-9)) - 16  # CIELAB's L*
    steps = -np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2.5 * steps.min()


def test_labels_are_drawn_as_they_are() -> None:
    assert label("cost $5 and $6") == r"cost \$5 and \$6"
    assert label("a\nb\tc\x00") == r"a b c\x00"
    assert label("\U000f0000") == "\N{WHITE SQUARE}"


def test_empty_tables_still_draw(digits_run: Run) -> None:
    for figure in (
        learning_curves(digits_run.curves[:0]),
        grid_map(digits_run.results[:0]),
        confusion_matrix([], [], ["cat", "dog"]),
    ):
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")
    without = digits_run.curves.assign(val_loss=np.nan, val_accuracy=np.nan, train_accuracy=np.nan)
    assert len(learning_curves(without, 0).axes) == 1
    assert isinstance(without, pd.DataFrame)


def test_the_package_stands_alone() -> None:
    allowed = {"jinja2", "markupsafe", "matplotlib", "numpy", "pandas", "sklearn"}
    folder = Path(jaxlstm.report.__file__).parent
    standard = {"__future__", "ast", "base64", "collections", "contextlib", "csv", "dataclasses"}
    standard |= {
        "datetime",
        "functools",
        "io",
        "itertools",
        "json",
        "math",
        "os",
        "pathlib",
        "re",
    }
    standard |= {"secrets", "sys", "textwrap", "threading", "typing", "unicodedata"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                own = name.startswith("jaxlstm.report") or name == "jaxlstm.plain_text"
                assert own or top in allowed | standard, f"{path.name} imports {name}"
                assert name != "matplotlib.pyplot", f"{path.name} imports pyplot"


def test_figures_drawn_at_once_are_the_same(digits_run: Run) -> None:
    def draw(_: int) -> bytes:
        return figure_bytes(grid_map(digits_run.results), "svg")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(6)))) == 1
