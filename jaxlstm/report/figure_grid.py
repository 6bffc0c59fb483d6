"""The grid as a picture: a heat map, dots where that says more, or a ranking of many cells."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxlstm.report.figure_ranking import draw_ranking, limit_scores
from jaxlstm.report.figure_style import (
    EMPTY,
    FONT_SIZE,
    HIGHLIGHT,
    QUIET,
    SCORES,
    VALIDATION,
    bare,
    drawing,
    label,
    new_figure,
    on_colour,
    statement,
    text_width,
)
from jaxlstm.report.tables import (
    PREFIX,
    best_cell,
    independent_parameters,
    parameter_values,
    rank_cells,
    score_range,
)
from jaxlstm.report.text import (
    count_text,
    exact_text,
    python_value,
    score_digits,
    score_text,
    shorten,
    value_text,
)

_MOST_FACETS = 6
_MOST_COLUMNS = 24
_MOST_DOTS = 30
_ROW = 0.4


@drawing()
def grid_map(
    results: pd.DataFrame,
    *,
    scoring: str = "score",
    winner: int | None = None,
    winner_name: str = "best cell",
    width: float = 10.0,
) -> Figure:
    """Draw every cell's mean score.

    Two parameters, those with the most values, span a heat map, and the others repeat it as
    small multiples; parameters that always change together count as one. Cells that failed or are
    not in the grid are hatched, the winner is outlined. One parameter gives dots with error bars.
    More than six small multiples, or a grid with more holes than cells (a random search), give the
    best 40 cells as a ranking.

    Args:
        results: A run's results, one row a trial.
        scoring: What the scores are, for the labels.
        winner: The cell to bring out; by default that with the best mean score. For scores such as
            the gap between training and test accuracy, of which the largest is not the best, name
            the winner by what is.
        winner_name: What the winner is, for the legends of dots and of a ranking.
        width: Inches to fit into, where the grid allows.

    Returns:
        The figure.
    """
    cells = rank_cells(results)
    winner = best_cell(results, winner)
    values = {name: found for name, found in parameter_values(cells).items() if len(found) > 1}
    if not np.isfinite(cells["mean"].to_numpy(dtype=float)).any():
        what = count_text(len(cells), "cell")
        return statement("No cell has a score", f"{what} tried, none with a finite mean", width)
    if len(cells) == 1:
        row = cells.iloc[0]
        folds = count_text(len(row["scores"]), "fold")
        digits = score_digits([row["mean"]])
        spread = f" ± {score_text(row['std'], digits)}" if row["fits"] > 1 else ""
        return statement(
            f"{score_text(row['mean'], digits)}{spread}",
            f"mean {shorten(scoring, 40)} over {folds}: one cell, no grid",
            width,
        )
    if not values:
        return draw_ranking(cells, [], scoring, winner, width, winner_name)
    tied = independent_parameters(cells, values)
    values = {name: values[name] for name in tied}
    if len(values) == 1 and len(cells) <= _MOST_DOTS:
        return _draw_dots(cells, next(iter(values)), scoring, winner, width, winner_name)
    if len(values) == 1:
        return draw_ranking(cells, list(values), scoring, winner, width, winner_name)
    # sorted is stable: equally many values keep the order of the columns.
    x, y, *rest = sorted(values, key=lambda name: -len(values[name]))
    if width < 6.5 and len(values[x]) > 6:  # a narrow page has more room downwards
        x, y = y, x
    facets = _facets(cells, {name: values[name] for name in rest})
    filled = len(cells) / (len(facets) * len(values[x]) * len(values[y]))
    if len(facets) > _MOST_FACETS or len(values[x]) > _MOST_COLUMNS or filled < 0.5:
        return draw_ranking(cells, list(values), scoring, winner, width, winner_name)
    names = {name: ", ".join(map(_bare_name, (name, *tied[name]))) for name in (x, y)}
    return _draw_heat_maps(
        cells, (x, values[x]), (y, values[y]), names, facets, scoring, winner, width
    )


def _facets(
    cells: pd.DataFrame, rest: dict[str, list[str]]
) -> list[tuple[list[tuple[str, str]], pd.DataFrame]]:
    """Split the cells by the parameters that are on no axis, whose names and values are titles."""
    facets = []
    for texts in itertools.product(*rest.values()):
        here = np.ones(len(cells), dtype=bool)
        title = []
        for name, text in zip(rest, texts, strict=True):
            same = [exact_text(value) == text for value in cells[name]]
            here &= same
            shown = value_text(_rounded(python_value(cells[name].to_numpy()[same][0])))
            title.append((_bare_name(name), shown))
        if here.any():
            facets.append((title, cells[here]))
    return facets


def _title(lines: list[tuple[str, str]], width: float) -> str:
    """Return a panel's title, cut to its width in inches: the name gives way before the value."""
    room = max(int(width / text_width("x", FONT_SIZE)), 12)
    texts = []
    for name, value in lines:
        value = shorten(value, max(room - 2 - len(name), room // 2))
        texts.append(label(f"{shorten(name, room - 2 - len(value))}: {value}"))
    return "\n".join(texts)


def _draw_heat_maps(
    cells: pd.DataFrame,
    x: tuple[str, list[str]],
    y: tuple[str, list[str]],
    names: dict[str, str],
    facets: list[tuple[list[tuple[str, str]], pd.DataFrame]],
    scoring: str,
    winner: int | None,
    width: float,
) -> Figure:
    x_names = _shown(cells, x[0], x[1], 16)
    y_names = _shown(cells, y[0], y[1], 16)
    left = max(map(text_width, y_names)) + 0.45
    bar = 1.0
    across = _facets_in_a_row(len(facets), len(x_names), width - left - bar)
    down = math.ceil(len(facets) / across)
    cell_width = float(np.clip((width - left - bar) / (across * len(x_names)) - 0.05, 0.3, 1.15))
    longest = max(map(text_width, x_names))
    flat = longest < cell_width - 0.08
    below = 0.3 if flat else longest + 0.1
    title = 0.2 * len(facets[0][0])
    # One row of panels is high enough for the label beside the colours.
    panel = max(_ROW * len(y_names), 1.2 if down == 1 else 0.8)
    height = down * (panel + title + 0.15) + below + 0.35
    figure = new_figure(left + bar + across * (len(x_names) * cell_width + 0.15), height)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    digits = score_digits(cells["mean"], 3)
    low, high, cut = score_range(cells["mean"].to_numpy(dtype=float))
    norm, extend = Normalize(low, high), "min" if cut else "neither"
    image = None
    for axes in panels.ravel()[len(facets) :]:
        axes.set_visible(False)
    for position, (axes, (lines, part)) in enumerate(zip(panels.ravel(), facets, strict=False)):
        means, best = _means(part, x, y, winner)
        image = axes.imshow(
            means, cmap=SCORES, norm=norm, interpolation="none", aspect="auto", label="means"
        )
        bare(axes)
        for i, j in np.argwhere(~np.isfinite(means)):
            axes.add_patch(
                Rectangle(
                    (j - 0.5, i - 0.5),
                    1,
                    1,
                    facecolor=EMPTY,
                    edgecolor="#a3abb5",
                    hatch="////",
                    lw=0,
                )
            )
        if cell_width >= 0.42:
            for (i, j), mean in np.ndenumerate(means):
                if np.isfinite(mean):
                    colour = on_colour(SCORES(norm(mean)))
                    text = score_text(mean, digits)
                    size = min(9.0, 72 * (cell_width - 0.1) / (0.62 * len(text)))
                    axes.text(j, i, text, ha="center", va="center", color=colour, size=size)
        axes.set_xticks(np.arange(1, len(x_names)) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, len(y_names)) - 0.5, minor=True)
        axes.tick_params(which="minor", length=0)
        axes.grid(which="minor", color="white", linewidth=1.5)
        if best is not None:
            axes.add_patch(
                Rectangle(
                    (best[1] - 0.5, best[0] - 0.5),
                    1,
                    1,
                    fill=False,
                    edgecolor=HIGHLIGHT,
                    linewidth=2.8,
                    joinstyle="round",
                    clip_on=False,
                    zorder=5,
                )
            )
        axes.set_title(
            _title(lines, len(x_names) * cell_width), size=FONT_SIZE, weight="normal", pad=6
        )
        axes.set_xticks(range(len(x_names)), x_names, rotation=0 if flat else 90)
        axes.set_yticks(range(len(y_names)), y_names)
        # A panel above an empty place is the lowest of its column, and names the columns there.
        lowest = position + across >= len(facets)
        axes.tick_params(labelbottom=lowest)
        if lowest:
            room = int(len(x_names) * cell_width / text_width("x", FONT_SIZE))
            axes.set_xlabel(label(shorten(names[x[0]], max(room, 8))))
    # Upright labels are no longer than what they stand beside is high.
    room = int((height - 0.3) / text_width("x", FONT_SIZE))
    figure.supylabel(label(shorten(names[y[0]], room)), size=FONT_SIZE, color=QUIET)
    if image is not None:
        colour_bar = figure.colorbar(
            image, ax=panels, extend=extend, aspect=18, fraction=0.04, pad=0.02
        )
        room = int(down * (panel + title) / text_width("x", FONT_SIZE))
        colour_bar.set_label(label(shorten(f"mean {scoring}", room)), color=QUIET)
        colour_bar.outline.set_visible(False)
    return figure


def _facets_in_a_row(facets: int, columns: int, available: float) -> int:
    """Return how many small multiples stand side by side: three at most, two rows of two of 4."""
    fit = max(1, int(available / (columns * 0.48)))
    across = min(facets, fit, 3)
    return 2 if facets == 4 and across == 3 else across


def _means(
    part: pd.DataFrame, x: tuple[str, list[str]], y: tuple[str, list[str]], winner: int | None
) -> tuple[np.ndarray, tuple[int, int] | None]:
    means = np.full((len(y[1]), len(x[1])), np.nan)
    best = None
    # From the worst to the best, so that of two cells with the same parameters the better shows.
    for _, row in part.iloc[::-1].iterrows():
        place = y[1].index(exact_text(row[y[0]])), x[1].index(exact_text(row[x[0]]))
        means[place] = row["mean"] if np.isfinite(row["mean"]) else means[place]
        if row["cell"] == winner:
            best = place
    return means, best


def _draw_dots(
    cells: pd.DataFrame,
    name: str,
    scoring: str,
    winner: int | None,
    width: float,
    winner_name: str,
) -> Figure:
    texts = parameter_values(cells)[name]
    place = cells[name].map(exact_text).map(texts.index).to_numpy()
    means = cells["mean"].to_numpy(dtype=float)
    spreads = cells["std"].to_numpy(dtype=float)
    names = _shown(cells, name, texts, 20)
    longest = max(map(text_width, names))
    wide = min(width, max(4.2, 1.4 + 0.75 * len(names)))
    flat = longest < (wide - 1.2) / len(names) - 0.1
    figure = new_figure(wide, 3.3 + (0 if flat else longest))
    axes = figure.add_subplot()
    for at, scores in zip(place, cells["scores"], strict=True):
        axes.plot([at] * len(scores), list(scores.values()), "o", color="#aab2bc", ms=3.5, zorder=1)
    best = (cells["cell"] == winner).to_numpy()
    finite = np.isfinite(means)
    for chosen, colour, text in (
        (finite & ~best, VALIDATION, "mean ± std"),
        (finite & best, HIGHLIGHT, label(winner_name)),
    ):
        if chosen.any():
            axes.errorbar(
                place[chosen],
                means[chosen],
                np.nan_to_num(spreads[chosen]),
                fmt="o",
                color=colour,
                ms=6.5,
                lw=1.5,
                capsize=3,
                label=text,
            )
    for number, at in enumerate(place[~finite]):
        span = axes.axvspan(
            at - 0.4, at + 0.4, facecolor=EMPTY, edgecolor="#a3abb5", hatch="////", lw=0
        )
        span.set_label("failed" if number == 0 else "_")
    axes.set_xticks(range(len(names)), names, rotation=0 if flat else 90)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xlabel(label(shorten(_bare_name(name), 40)))
    axes.set_ylabel(label(shorten(scoring, 28)))
    limit_scores(axes, cells, upright=True)
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=3, borderaxespad=0.3)
    return figure


def _shown(cells: pd.DataFrame, name: str, texts: list[str], length: int) -> list[str]:
    """Return a parameter's values as labels, floats with three digits where that tells them apart."""
    found = dict(zip(cells[name].map(exact_text), cells[name], strict=True))
    values = [python_value(found[text]) for text in texts]
    names = [value_text(_rounded(value)) for value in values]
    if len(set(names)) < len(names):
        names = [value_text(value) for value in values]
    return [label(shorten(name, length)) for name in names]


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_rounded(item) for item in value)
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _bare_name(column: str) -> str:
    return column.removeprefix(PREFIX)
