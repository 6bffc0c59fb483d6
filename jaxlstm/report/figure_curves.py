"""Learning curves: the loss and the task's metrics against the epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlstm.report.figure_style import (
    FONT_SIZE,
    QUIET,
    REFIT,
    TRAINING,
    VALIDATION,
    drawing,
    label,
    new_figure,
    statement,
    text_width,
)
from jaxlstm.report.text import count_text, shorten

_OTHERS = "#8b95a1"
_OTHERS_LABEL = ", mean validation"
_NAMES = {"mse": "mean squared error", "mae": "mean absolute error"}
_LABELS = {"accuracy": "accuracy (fraction right)", "mse": "loss (mean squared error)"}
#: Bounded by 0 and 1.
_FRACTIONS = ("accuracy",)
_LOG_RANGE = 100


def metric_names(curves: pd.DataFrame) -> list[str]:
    """Return the metrics that curves hold beside the loss, in the order of their columns."""
    names = [str(name) for name in curves.columns]
    metrics = dict.fromkeys(name.removeprefix("val_") for name in names if name.startswith("val_"))
    return [name for name in metrics if name != "loss" and f"train_{name}" in names]


def curve_measures(curves: pd.DataFrame) -> list[str]:
    """Return what the learning curves show: the loss, and the metrics with a finite value.

    A mean squared error that is the loss itself has no panel of its own.
    """
    return [
        name
        for name in ("loss", *metric_names(curves))
        if np.isfinite(_values(curves[[f"train_{name}", f"val_{name}"]])).any()
        and not (name == "mse" and _is_loss(curves, name))
    ]


def _is_loss(curves: pd.DataFrame, metric: str) -> bool:
    if metric not in metric_names(curves):
        return False
    values, losses = (
        _values(curves[[f"train_{name}", f"val_{name}"]]) for name in (metric, "loss")
    )
    return np.isfinite(losses).any() and np.allclose(values, losses, 1e-5, equal_nan=True)


def measure_name(measure: str) -> str:
    """Return a measure's name in words, `mean squared error`."""
    return _NAMES.get(measure, measure.replace("_", " "))


@drawing()
def learning_curves(
    curves: pd.DataFrame, best_cell: int | None = None, *, width: float = 10.0
) -> Figure:
    """Draw loss and metrics against the epoch, the best cell in colour, the others faint.

    The best cell's lines are means over its folds and seeds, inside a band from the smallest
    to the largest; each other cell is one thin line, its mean on the validation rows. Losses and
    errors of a regression have a logarithmic axis where they span more than two decades.

    Args:
        curves: A run's curves, one row per trial and epoch; trial -1 is the refit.
        best_cell: The cell to bring out; None leaves all cells faint.
        width: Inches; below 6.5 the panels stand one above the other.

    Returns:
        The figure.
    """
    measures = curve_measures(curves)
    if not measures:
        return statement("No learning curves", "no trial finished an epoch", width)
    stacked = width < 6.5
    shape = (len(measures), 1) if stacked else (1, len(measures))
    figure = new_figure(width, 2.6 * len(measures) + 0.9 if stacked else 4.1)
    panels = figure.subplots(*shape, squeeze=False).ravel()
    errors = "mse" in metric_names(curves)
    for axes, measure in zip(panels, measures, strict=True):
        _draw_measure(axes, curves, measure, best_cell, errors)
        if measure == "loss" and _is_loss(curves, "mse"):
            axes.set_ylabel(_LABELS["mse"])
    entries = {}
    for axes in panels:
        entries.update(
            {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
        )
    # The other cells were drawn first, to lie below, but are read last.
    labels = sorted(entries, key=lambda text: text.endswith(_OTHERS_LABEL))
    handles = [entries[text] for text in labels]
    if handles:
        figure.legend(
            handles, labels, loc="outside upper left", ncols=2 if stacked else 4, borderaxespad=0.3
        )
    return figure


@drawing()
def curve_panels(
    curves: pd.DataFrame,
    cells: Mapping[str, int],
    *,
    width: float = 10.0,
    names: tuple[str, str] = ("training", "test"),
) -> Figure:
    """Draw the curves of some cells one below the other, the loss left and the accuracy right.

    A line is the mean over the cell's trials (folds and seeds) that have reached an epoch, inside
    a band from the smallest to the largest. The panels of a measure share their scale; losses do
    not where one cell's are more than five times another's.

    Args:
        curves: One row a trial and epoch, columns `CURVE_COLUMNS`.
        cells: The rows of panels: what each is called, and its number in the column `cell`.
        width: Inches; below 6.5 a cell's two panels stand one above the other.
        names: What the columns `train_` and `val_` hold.

    Returns:
        The figure.

    Raises:
        ValueError: There are no cells, or one has no curves.
    """
    if not cells:
        raise ValueError("cells is empty; at least one name and cell is needed")
    known = set(curves["cell"])
    for name, cell in cells.items():
        if cell not in known:
            raise ValueError(
                f"cells[{name!r}] is {cell!r}, which has no curves; cells that do: "
                f"{', '.join(map(str, sorted(known)[:20]))}"
            )
    stacked = width < 6.5
    shape = (2 * len(cells), 1) if stacked else (len(cells), 2)
    figure = new_figure(width, shape[0] * (1.75 if stacked else 2.1) + 0.5)
    panels = figure.subplots(*shape, squeeze=False).reshape(len(cells), 2)
    room = int(width / (1 if stacked else 2) / text_width("x", FONT_SIZE * 1.15)) - 8
    for number, (name, cell) in enumerate(cells.items()):
        own = curves[curves["cell"] == cell]
        for axes, measure in zip(panels[number], ("loss", "accuracy"), strict=True):
            _draw_cell(axes, own, measure, names)
            if stacked or number == len(cells) - 1:
                axes.set_xlabel("epoch")
        panels[number, 0].set_title(label(shorten(name, room)), pad=7)
    for measure, column in zip(("loss", "accuracy"), panels.T, strict=True):
        tops = [axes.get_ylim()[1] for axes in column]
        if measure == "accuracy" or max(tops) <= 5 * min(tops):
            low = min(axes.get_ylim()[0] for axes in column)
            for axes in column:
                axes.set_ylim(low, max(tops))
    handles = {
        text: handle
        for axes in panels.ravel()
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        # The name of every row stands left: there the legend would be taken for the first's.
        figure.legend(
            list(handles.values()),
            [label(text) for text in handles],
            loc="outside upper right",
            ncols=2,
            borderaxespad=0.3,
        )
    return figure


def _draw_cell(axes: Axes, own: pd.DataFrame, measure: str, names: tuple[str, str]) -> None:
    single = own["epoch"].nunique() == 1
    for part, colour, name in zip(("train", "val"), (TRAINING, VALIDATION), names, strict=True):
        column = f"{part}_{measure}"
        finite = own[np.isfinite(_values(own[column]))]
        if finite.empty:
            continue
        trials = finite.groupby("epoch")[column]
        mean, low, high = trials.mean(), trials.min(), trials.max()
        axes.fill_between(
            mean.index, _values(low), _values(high), color=colour, alpha=0.18, linewidth=0
        )
        axes.plot(
            mean.index, _values(mean), color=colour, linewidth=1.7, marker="o" if single else "",
            markersize=4, label=name,
        )  # fmt: skip
    if not axes.lines:
        axes.text(
            0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=QUIET,
        )  # fmt: skip
    if measure == "accuracy":
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
    axes.set_ylabel(measure)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))
    axes.margins(x=0.02)
    axes.grid(axis="y")


def _draw_measure(
    axes: Axes, curves: pd.DataFrame, measure: str, best: int | None, errors: bool
) -> None:
    search = curves[curves["trial"] >= 0]
    refit = curves[curves["trial"] < 0]
    single = curves["epoch"].nunique() == 1  # a line through one point is invisible
    marker = "o" if single else ""
    others = search[search["cell"] != best].pivot_table(
        index="epoch", columns="cell", values=f"val_{measure}", aggfunc="mean"
    )
    others = others.dropna(axis="columns", how="all")
    seen: list[np.ndarray] = []
    if others.shape[1]:
        count = others.shape[1]
        lines = axes.plot(
            others.index,
            _values(others),
            color=_OTHERS,
            alpha=float(np.clip(12 / count, 0.18, 0.6)),
            linewidth=0.8,
            marker=marker,
            markersize=3,
            zorder=1.5,
        )
        noun = "other cell" if best is not None else "cell"
        lines[0].set_label(f"{count_text(count, noun)}{_OTHERS_LABEL}")
    winner = search[search["cell"] == best]
    for part, colour, name in (
        ("train", TRAINING, "best cell, training"),
        ("val", VALIDATION, "best cell, validation"),
    ):
        column = f"{part}_{measure}"
        finite = winner[np.isfinite(_values(winner[column]))]
        if finite.empty:
            continue
        folds = finite.groupby("epoch")[column]
        mean, low, high = folds.mean(), folds.min(), folds.max()
        axes.fill_between(
            mean.index, _values(low), _values(high), color=colour, alpha=0.16, linewidth=0
        )
        axes.plot(mean.index, _values(mean), color=colour, linewidth=1.9, marker=marker, label=name)
        seen += [_values(low), _values(high)]
    if np.isfinite(_values(refit[f"train_{measure}"])).any():
        refit = refit.sort_values("epoch")
        values = _values(refit[f"train_{measure}"])
        axes.plot(
            refit["epoch"],
            values,
            color=REFIT,
            linewidth=1.2,
            linestyle=(0, (4, 2.2)),
            marker=marker,
            markersize=4,
            label="refit on all rows, training",
        )
        seen.append(values)
    # The cross-entropy of a classifier is read against its accuracy, on a linear axis.
    log = errors and measure not in _FRACTIONS and _spans_decades(_values(others), seen)
    if log:
        axes.set_yscale("log")
    _limit(axes, measure, _values(others), seen)
    if errors and axes.get_ylim()[0] < 0 and axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)
    name = measure_name(measure)
    axes.set_title(name[:1].upper() + name[1:], pad=8)
    axes.set_xlabel("epoch")
    axes.set_ylabel(_LABELS["accuracy"] if measure == "accuracy" else name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))
    axes.margins(x=0.02)
    axes.grid(axis="y")


def _spans_decades(others: np.ndarray, winner: list[np.ndarray]) -> bool:
    """Return whether positive values differ so much that a linear axis would hide the small."""
    values = np.concatenate([others.ravel(), *winner])
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        return False
    return bool(np.percentile(values, 98) > _LOG_RANGE * values.min())


def _limit(axes: Axes, measure: str, others: np.ndarray, winner: list[np.ndarray]) -> None:
    """Keep a cell that diverged from squeezing all the other lines flat."""
    if measure in _FRACTIONS:
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
        return
    finite = others[np.isfinite(others)]
    values = np.concatenate([np.zeros(0), *winner])
    values = values[np.isfinite(values)]
    if not len(finite) or not len(values):
        return
    top = max(values.max(), float(np.percentile(finite, 95)), 0.0)
    factor, room = (100, 2.0) if axes.get_yscale() == "log" else (3, 1.1)
    if finite.max() > factor * top > 0:
        axes.set_ylim(top=room * top)
        axes.annotate(
            "higher losses not shown" if measure == "loss" else "higher values not shown",
            (0.99, 0.985),
            xycoords="axes fraction",
            ha="right",
            va="top",
            size=7.5,
            color="#5d6772",
        )


def _values(table: pd.DataFrame | pd.Series) -> np.ndarray:
    values = table.to_numpy(dtype=float)
    return np.where(np.isfinite(values), values, np.nan)
