"""Grouped bars with error bars, and a paper's own values beside them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import column_texts, is_missing, shorten, value_text

_TEXT = 7.5
#: Bars beyond these are too thin for their values.
_MOST_WRITTEN = 120


@style.drawing()
def bars(
    table: pd.DataFrame,
    *,
    value_label: str,
    width: float = 10.0,
    log: bool = False,
    limit: float | tuple[float, float] | None = None,
    paper_label: str = "the report",
) -> Figure:
    """Draw a bar for each row of a table, the groups side by side, a colour a series.

    The bars stand where their values fit above them; on a narrow page, or with many or long
    groups, they lie.

    Args:
        table: Columns `group`, `series`, `value`, `std` and, optionally, `paper`; the last three
            are numbers or NaN. At most one row a group and series.
        value_label: What the values are, with their unit.
        width: Inches, at most; a few bars take less.
        log: A logarithmic axis; values that are not positive then have no bar.
        limit: The upper end of the axis, or both its ends.
        paper_label: What the column `paper` holds, which is drawn as diamonds.

    Returns:
        The figure.

    Raises:
        ValueError: A column is missing, or two rows have the same group and series.
    """
    for name in ("group", "series", "value", "std"):
        if name not in table:
            found = ", ".join(map(repr, table.columns)) or "none"
            raise ValueError(f"table lacks the column {name!r}; columns found: {found}")
    groups = list(dict.fromkeys(map(value_text, table["group"])))
    series = list(dict.fromkeys(map(value_text, table["series"])))
    numbers = _numbers(table, groups, series)
    if log:
        numbers = np.where(numbers > 0, numbers, np.nan)
    values, _, papers = numbers
    if not np.isfinite(values).any() and not np.isfinite(papers).any():
        return style.statement("No values", f"nothing to draw of {value_label}", width)
    texts = _texts(values)
    widest = max(style.text_width(text, _TEXT) for text in texts.ravel())
    pitch = (width - 0.8) / (len(groups) * (len(series) + 0.6))
    longest = max(map(style.text_width, groups))
    standing = (
        width >= 6.5 and widest + 0.04 <= pitch and longest + 0.15 <= pitch * (len(series) + 0.6)
    )
    if standing:
        pitch = min(pitch, 0.75)
        room = pitch * (len(series) + 0.6)
        size = (max(len(groups) * room + 0.8, min(width, 4.6)), 3.7)
        names = [style.label(name) for name in groups]
    else:
        names = [style.label(shorten(name, 20 if width < 5 else 28)) for name in groups]
        longest = max(map(style.text_width, names))
        pitch = 0.21 if len(series) == 1 else 0.175
        if values.size > _MOST_WRITTEN:
            pitch *= 0.6
        room = pitch * (len(series) + 0.75)
        size = (width, len(groups) * room + 0.95)
    figure = style.new_figure(*size)
    axes = figure.add_subplot()
    if log:
        (axes.set_yscale if standing else axes.set_xscale)("log")
    thickness = pitch / room
    handles: dict[str, Any] = {}
    for number, name in enumerate(series):
        places = _places(len(groups), len(series), number, thickness)
        handle = _draw_series(axes, places, numbers[:2, :, number], thickness, number, standing)
        if len(series) > 1:
            handles[style.label(shorten(name, 30))] = handle
        drawn = np.isfinite(papers[:, number])
        if drawn.any():
            points = places[drawn], papers[drawn, number]
            handles[style.label(paper_label)] = axes.plot(
                *(points if standing else points[::-1]), "D", color=style.INK, markersize=5,
                markeredgecolor="white", markeredgewidth=0.8, zorder=4,
            )[0]  # fmt: skip
    _scale(axes, numbers, log, limit, standing)
    if values.size <= _MOST_WRITTEN:
        inches = size[1] - 1.1 if standing else size[0] - longest - 0.3
        for number in range(len(series)):
            places = _places(len(groups), len(series), number, thickness)
            own, words = numbers[:, :, number], texts[:, number].tolist()
            _write(axes, places, own, words, _colour(number), inches, standing)
    across, along = (axes.xaxis, axes.yaxis) if standing else (axes.yaxis, axes.xaxis)
    across.set_ticks(range(len(groups)), names)
    across.set_tick_params(length=0)
    (axes.set_xlim if standing else axes.set_ylim)(
        *((-0.5, len(groups) - 0.5) if standing else (len(groups) - 0.5, -0.5))
    )
    axes.spines["left" if standing else "bottom"].set_visible(False)
    along.set_tick_params(length=0)
    letters = int((size[1] if standing else size[0] - longest) * 0.75 / style.text_width("x", 9.5))
    title = value_label + (", logarithmic" if log else "")
    lines = textwrap.wrap(shorten(title, 2 * max(letters, 16) - 8), max(letters, 16))
    along.set_label_text("\n".join(map(style.label, lines)))
    axes.grid(axis="y" if standing else "x")
    if handles:
        # The diamonds are read last.
        order = sorted(handles, key=lambda text: text == style.label(paper_label))
        widest = max(map(style.text_width, order)) + 0.6
        figure.legend(
            [handles[text] for text in order], order, loc="outside upper left",
            ncols=max(1, min(len(order), int(size[0] / widest))), borderaxespad=0.3,
        )  # fmt: skip
    return figure


def _numbers(table: pd.DataFrame, groups: list[str], series: list[str]) -> np.ndarray:
    """Return value, std and paper as `[3, groups, series]`, NaN where there is none."""
    numbers = np.full((3, len(groups), len(series)), np.nan)
    seen = set()
    for row in table.to_dict("records"):
        place = groups.index(value_text(row["group"])), series.index(value_text(row["series"]))
        if place in seen:
            raise ValueError(
                f"table has two rows of the group {row['group']!r} and series {row['series']!r}"
            )
        seen.add(place)
        for number, name in enumerate(("value", "std", "paper")):
            value: Any = row.get(name)
            if not is_missing(value) and math.isfinite(value):
                numbers[number, *place] = value
    return numbers


def _colour(number: int) -> str:
    return style.CATEGORIES[number % len(style.CATEGORIES)]


def _places(groups: int, series: int, number: int, thickness: float) -> np.ndarray:
    return np.arange(groups) + (number - (series - 1) / 2) * thickness


def _draw_series(
    axes: Axes,
    places: np.ndarray,
    numbers: np.ndarray,
    thickness: float,
    number: int,
    standing: bool,
) -> Any:
    values, spreads = numbers
    colour = _colour(number)
    hatch = "///" if number >= len(style.CATEGORIES) else None
    draw = axes.bar if standing else axes.barh
    handle = draw(
        places, values, 0.88 * thickness, color=colour, hatch=hatch, edgecolor="white", linewidth=0
    )
    known = np.isfinite(values) & np.isfinite(spreads)
    if known.any():
        # A logarithmic axis has no place for what reaches down to 0.
        down = np.where(values > 0, np.minimum(spreads, 0.999 * values), spreads)
        spread = np.stack([down, spreads])[:, known]
        middle, ends = places[known], values[known]
        look: dict[str, Any] = {"ecolor": style.INK, "elinewidth": 1.0, "capsize": 2.0, "zorder": 3}
        if standing:
            axes.errorbar(middle, ends, yerr=spread, fmt="none", **look)
        else:
            axes.errorbar(ends, middle, xerr=spread, fmt="none", **look)
    return handle


def _scale(
    axes: Axes,
    numbers: np.ndarray,
    log: bool,
    limit: float | tuple[float, float] | None,
    standing: bool,
) -> None:
    read, write = (axes.get_ylim, axes.set_ylim) if standing else (axes.get_xlim, axes.set_xlim)
    low, high = read()
    if log:
        least, most = np.nanmin(numbers[[0, 2]]), np.nanmax(numbers[[0, 2]])
        # The shortest bar still has a length.
        low, high = 10.0 ** math.floor(math.log10(0.7 * least)), max(high, 1.1 * most)
    if isinstance(limit, tuple):
        low, high = limit
    elif limit is not None:
        high = limit
    write(low, high)


def _write(
    axes: Axes,
    places: np.ndarray,
    numbers: np.ndarray,
    texts: Sequence[str],
    colour: str,
    inches: float,
    standing: bool,
) -> None:
    """Write each value beyond its bar and error bar, or inside where the paper's diamond is."""
    low, high = sorted(axes.get_ylim() if standing else axes.get_xlim())
    log = (axes.get_yscale() if standing else axes.get_xscale()) == "log"
    scale = math.log10 if log else float
    inch = inches / (scale(high) - scale(low))
    for place, (value, spread, paper), text in zip(places, numbers.T, texts, strict=True):
        needed = 0.2 if standing else style.text_width(text, _TEXT) + 0.1
        spread = np.nan_to_num(spread)
        end = min(float(np.nanmax([value + spread, low, low if log else 0.0])), high)
        side, gap, ink = 1, 3.0, style.INK
        away = (scale(paper) - scale(end)) * inch if np.isfinite(paper) else np.inf
        if -0.08 < away < needed + 0.05:
            begin = float(np.nanmax([value - spread, low]))
            if away > 0 and (scale(begin) - scale(low)) * inch > needed:
                # Beyond a diamond it would be taken for the diamond's own value.
                end, side, ink = begin, -1, style.on_colour(to_rgba(colour))
            else:
                end, gap = min(max(end, paper), high), 6.5
        look: dict[str, Any] = {"ha": "center", "va": "bottom" if side > 0 else "top"}
        if not standing:
            look = {"ha": "left" if side > 0 else "right", "va": "center_baseline"}
        axes.annotate(
            text, (place, end) if standing else (end, place), textcoords="offset points",
            xytext=(0, side * gap) if standing else (side * gap, 0), size=_TEXT, color=ink,
            annotation_clip=False, zorder=4, **look,
        )  # fmt: skip


def _texts(values: np.ndarray) -> np.ndarray:
    return np.array(column_texts(values.ravel().tolist()), dtype=object).reshape(values.shape)
