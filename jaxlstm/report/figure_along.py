"""A regression along time: the error per step, and rows and series with their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlstm.report import figure_style as style
from jaxlstm.report.errors import BASELINES, Errors, size_quartiles

#: Targets that have a line of panels of their own.
MOST_TARGETS = 3
#: Forecasts in a row that a series is drawn over.
SERIES_ROWS = 300
_LOOKS: dict[str, dict[str, Any]] = {
    "true": {"color": style.INK, "linewidth": 1.5, "label": "true"},
    "predicted": {"color": style.HIGHLIGHT, "linewidth": 1.5, "label": "predicted"},
    "naive": {"color": "#8b95a1", "linewidth": 1.2, "linestyle": (0, (1, 1.3))},
    "seasonal_naive": {"color": "#009e73", "linewidth": 1.2, "linestyle": (0, (4, 2.2))},
}


@style.drawing()
def error_along(errors: Errors, column: str, *, width: float = 10.0) -> Figure:
    """Draw the absolute error against the step of a row or of a forecast.

    Args:
        errors: The errors of at least one prediction.
        column: `"step"`, or `"target"` for the steps of a forecast.
        width: Inches.

    Returns:
        The figure: the median as a line in a band from the lower to the upper quartile, and the
        baselines' medians.
    """
    sizes = size_quartiles(errors, column)
    figure = style.new_figure(width, 3.6)
    axes = figure.add_subplot()
    marker = "o" if len(sizes) <= 30 else ""
    places = sizes.index.to_numpy()
    axes.fill_between(
        places, sizes["low"], sizes["high"], color=style.VALIDATION, alpha=0.18, linewidth=0,
        label="quartiles",
    )  # fmt: skip
    axes.plot(
        places, sizes["median"], color=style.VALIDATION, linewidth=1.9, marker=marker,
        markersize=3.5, label="median",
    )  # fmt: skip
    for name in errors.baselines:
        look = {**_LOOKS[name], "label": f"{BASELINES[name]}, median"}
        axes.plot(places, sizes[name], marker=marker, markersize=2.5, **look)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step" if column == "step" else "steps ahead")
    axes.set_ylabel(style.fit(errors.size_label, 2.6))
    _whole_steps(axes)
    axes.margins(x=0.02)
    axes.grid(axis="y")
    _legend(figure, [axes], 2 if width < 6.5 else 4)
    return figure


@style.drawing()
def row_lines(errors: Errors, rows: Mapping[str, int], *, width: float = 10.0) -> Figure:
    """Draw the true and the predicted values of some rows along their steps.

    Args:
        errors: The errors.
        rows: The rows to draw, from the words for each row's error (`"smallest"`) to its number.
        width: Inches; below 6.5 the panels stand one above the other.

    Returns:
        The figure: one panel per row and target. Of more than three targets it has those with
        the largest errors.
    """
    problem, table = errors.problem, errors.table
    along = "step" if problem.per_step else "target"
    targets = [None] if along == "target" else _worst_targets(errors)
    stacked = width < 6.5
    shape = (len(rows) * len(targets), 1) if stacked else (len(targets), len(rows))
    height = 1.75 if stacked else (2.9 if len(targets) == 1 else 2.2)
    figure = style.new_figure(width, shape[0] * height + 0.75)
    panels = figure.subplots(*shape, squeeze=False)
    # The panels of one row stand below each other, also in a single column.
    grid = panels.reshape(len(rows), len(targets)).T if stacked else panels
    room = width / shape[1] - (0.8 if stacked else 0.6)
    for column, (words, row) in enumerate(rows.items()):
        own = table[table["row"] == row]
        for line, target in enumerate(targets):
            part = own if target is None else own[own["target"] == target]
            axes = grid[line, column]
            _draw_lines(axes, part, errors, along)
            title = f"Row {row:,}, {words} error"
            if target:
                title = f"{target}: {title[:1].lower()}{title[1:]}" if len(targets) > 1 else title
            axes.set_title(style.fit(title, room), size=style.FONT_SIZE, weight="normal", pad=5)
    look = {"color": style.QUIET, "size": style.FONT_SIZE}
    figure.supxlabel("step" if along == "step" else "steps ahead", **look)
    value = "value (standard deviations)" if errors.standardized else problem.with_units("value")
    figure.supylabel(style.fit(value, figure.get_figheight() - 1.0), **look)
    _legend(figure, panels.ravel().tolist(), 2 if stacked else 4)
    return figure


@style.drawing()
def forecast_series(errors: Errors, *, width: float = 10.0) -> Figure:
    """Draw what was forecast one step and the most steps ahead against what came.

    Args:
        errors: The errors of a forecast.
        width: Inches.

    Returns:
        The figure: a panel for the first and one for the last step ahead, over at most
        `SERIES_ROWS` successive rows. Lines have a gap where row numbers do.
    """
    table, _ = series_part(errors)
    ends = list(dict.fromkeys((errors.targets[0], errors.targets[-1])))
    figure = style.new_figure(width, 2.3 * len(ends) + 0.75)
    panels = figure.subplots(len(ends), 1, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, target in zip(panels, ends, strict=True):
        part = table[table["target"] == target].sort_values("row", kind="stable")
        rows = part["row"].to_numpy()
        gaps = np.flatnonzero(np.diff(rows) > _stride(rows)) + 1
        for name in ("true", "predicted"):
            values = np.insert(part[name].to_numpy(), gaps, np.nan)
            places = np.insert(rows.astype(float), gaps, np.nan)
            alone = len(part) < 2 or len(gaps) > len(part) / 4
            look = {**_LOOKS[name], "linewidth": 1.2}
            axes.plot(places, values, marker="o" if alone else "", markersize=2.2, **look)
        ahead = errors.targets.index(target) + 1
        axes.set_title(f"{ahead} step{'s' if ahead > 1 else ''} ahead", size=style.FONT_SIZE, pad=5)
        axes.grid(axis="y")
        axes.margins(x=0.01)
    panels[-1].set_xlabel("row")
    panels[-1].xaxis.set_major_locator(MaxNLocator(5 if width < 6.5 else 9, integer=True))
    look = {"color": style.QUIET, "size": style.FONT_SIZE}
    value = errors.problem.with_units("value")
    figure.supylabel(style.fit(value, figure.get_figheight() - 1.0), **look)
    _legend(figure, panels.tolist(), 2)
    return figure


def series_part(errors: Errors) -> tuple[pd.DataFrame, Any]:
    """Return the rows of a forecast that are drawn as a series, and their group or None.

    They are the first `SERIES_ROWS` of the group with most rows, the first of equal ones.
    """
    table, group = errors.table, None
    if "group" in table and table["group"].nunique() > 1:
        counts = table.groupby("group", sort=True)["row"].nunique()
        group = counts.idxmax()
        table = table[table["group"] == group]
    rows = np.sort(table["row"].unique())[:SERIES_ROWS]
    return table[table["row"].isin(rows)], group


def _stride(rows: np.ndarray) -> int:
    """Return the usual distance between successive row numbers."""
    steps, counts = np.unique(np.diff(rows), return_counts=True)
    return int(steps[counts.argmax()]) if len(steps) else 1


def _worst_targets(errors: Errors) -> list[str]:
    if len(errors.targets) <= MOST_TARGETS:
        return errors.targets
    sizes = errors.table.groupby("target")["size"].mean()
    worst = set(sizes.sort_values(ascending=False, kind="stable").index[:MOST_TARGETS])
    return [name for name in errors.targets if name in worst]


def _draw_lines(axes: Axes, part: pd.DataFrame, errors: Errors, along: str) -> None:
    if along == "step":
        part = part.sort_values("step", kind="stable")
        places = part["step"].to_numpy()
    else:
        order = {name: number for number, name in enumerate(errors.targets, start=1)}
        part = part.assign(place=part["target"].map(order)).sort_values("place", kind="stable")
        places = part["place"].to_numpy()
    marker = "o" if len(places) <= 30 else ""
    for name in ["true", *errors.baselines, "predicted"]:
        look = {"label": BASELINES.get(name, name), **_LOOKS[name]}
        axes.plot(places, part[name], marker=marker, markersize=2.6, **look)
    _whole_steps(axes)
    axes.margins(x=0.02)
    axes.grid(axis="y")


def _whole_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))


def _legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    handles = {
        text: handle
        for axes in panels
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=columns,
        borderaxespad=0.3,
    )  # fmt: skip
