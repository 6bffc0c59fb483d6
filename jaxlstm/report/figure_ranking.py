"""The best cells one below the other: their parameters as a table, their scores as dots."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlstm.report.figure_style import (
    HIGHLIGHT,
    INK,
    QUIET,
    SMALL,
    VALIDATION,
    label,
    new_figure,
    text_width,
)
from jaxlstm.report.tables import PREFIX, score_range
from jaxlstm.report.text import shorten, value_text

MOST_ROWS = 40
_ROW = 0.235
_PLOT = 3.4


def draw_ranking(
    cells: pd.DataFrame,
    parameters: list[str],
    scoring: str,
    winner: int | None,
    width: float,
    winner_name: str = "best cell",
) -> Figure:
    """Draw the best cells, a row each; call it inside `drawing()`.

    Args:
        cells: The cells by rank, as `rank_cells` returns them.
        parameters: The parameters' columns that are worth showing.
        scoring: What the scores are, for the label.
        winner: The cell that is brought out by colour.
        width: Inches; the figure takes at least what its plot needs.
        winner_name: What the winner is, for the legend.

    Returns:
        The figure.
    """
    finite = cells[np.isfinite(cells["mean"].to_numpy(dtype=float))]
    shown = finite.head(MOST_ROWS)
    columns = _columns(shown, parameters, max(width - _PLOT - 0.6, 4.2))
    table = sum(wide for _, _, wide in columns)
    height = _ROW * len(shown) + 1.1
    figure = new_figure(max(width, table + _PLOT + 0.6), height)
    left, right = figure.subplots(
        1, 2, sharey=True, width_ratios=[table, max(figure.get_figwidth() - table - 0.4, _PLOT)]
    )
    rows = np.arange(len(shown))
    best = (shown["cell"] == winner).to_numpy()
    for axes in (left, right):
        axes.barh(
            rows[::2], 1, left=0, height=1, color="#f4f6f8", transform=axes.get_yaxis_transform()
        )
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelleft=False)
        axes.spines["left"].set_visible(False)
    left.set_xlim(0, table)
    left.axis("off")
    at = 0.0
    for title, texts, wide in columns:
        left.annotate(
            title,
            (at + 0.06, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            size=SMALL,
            color=QUIET,
            va="bottom",
        )
        for row, text in zip(rows, texts, strict=True):
            left.text(
                at + 0.06,
                row,
                text,
                size=SMALL,
                va="center",
                color=HIGHLIGHT if best[row] else INK,
                weight="bold" if best[row] else "normal",
            )
        at += wide
    folds = [list(scores.values()) for scores in shown["scores"]]
    right.plot(
        np.concatenate(folds),
        np.repeat(rows, [len(scores) for scores in folds]),
        "o",
        color="#aab2bc",
        markersize=3,
        label="each fold",
    )
    means = shown["mean"].to_numpy(dtype=float)
    spreads = np.nan_to_num(shown["std"].to_numpy(dtype=float))
    for chosen, colour, text in (
        (~best, VALIDATION, "mean ± std"),
        (best, HIGHLIGHT, label(winner_name)),
    ):
        if chosen.any():
            right.errorbar(
                means[chosen],
                rows[chosen],
                xerr=spreads[chosen],
                fmt="o",
                color=colour,
                markersize=5.5,
                linewidth=1.3,
                label=text,
            )
    right.set_xlabel(label(shorten(scoring, 40)))
    limit_scores(right, shown, upright=False)
    right.grid(axis="x")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, borderaxespad=0.3)
    if len(shown) < len(cells):
        text = f"best {len(shown)} of {len(cells)} cells"
        if len(finite) < min(MOST_ROWS, len(cells)):
            text = f"{len(shown)} of {len(cells)} cells; the others failed"
        left.annotate(
            text,
            (0, 0),
            xycoords="axes fraction",
            xytext=(4, -8),
            textcoords="offset points",
            va="top",
            size=SMALL,
            color=QUIET,
        )
    return figure


def limit_scores(axes: Axes, cells: pd.DataFrame, *, upright: bool) -> None:
    """Keep a few scores far below 0 from squeezing all the others together.

    Args:
        axes: The axes with the scores.
        cells: The cells that are drawn.
        upright: Whether scores rise upwards; else to the right.
    """
    scores = np.concatenate([list(folds.values()) for folds in cells["scores"]])
    if not np.isfinite(scores).any() or np.nanmin(scores) >= 0:
        return
    means = cells["mean"].to_numpy(dtype=float)
    low, high, _ = score_range(means if np.isfinite(means).any() else scores)
    room = max(high - low, 0.05 * abs(high))
    floor = low - 0.5 * room
    if np.nanmin(scores) >= floor - room:
        return
    (axes.set_ylim if upright else axes.set_xlim)(floor, np.nanmax(scores) + 0.1 * room)
    axes.annotate(
        "lower scores not shown", (0.01, 0.01), xycoords="axes fraction", size=7.5, color=QUIET,
        va="bottom",
    )  # fmt: skip


def _columns(
    shown: pd.DataFrame, parameters: list[str], available: float
) -> list[tuple[str, list[str], float]]:
    """Return each column's title, texts and inches, cut until they fit together."""
    ranks = [str(row + 1) for row in range(len(shown))]
    names = [name.removeprefix(PREFIX) for name in parameters]
    values = [[value_text(value) for value in shown[name]] for name in parameters]
    if not parameters:
        names, values = ["cell"], [[str(cell) for cell in shown["cell"]]]
    columns: list[tuple[str, list[str], float]] = []
    for length in (24, 20, 16, 12, 10, 8):
        columns = []
        for name, texts in zip(["#", *names], [ranks, *values], strict=True):
            cut = [label(shorten(text, length)) for text in texts]
            title = label(shorten(name, length))
            # The best row is bold, which takes a tenth more.
            wide = max(text_width(text) for text in [title, *cut]) * 1.1 + 0.2
            columns.append((title, cut, wide))
        if sum(wide for _, _, wide in columns) <= available:
            break
    return columns
