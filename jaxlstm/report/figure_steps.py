"""Rows with a class, or with labels, at every step: true and predicted as bands over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import exact_text, shorten

#: Labels that have a lane of their own.
MOST_LABELS = 8
#: Classes that the legend names; the others are named inside the bands, where they fit.
MOST_NAMED = 12
_WRONG = "#c0142c"
_TEXT = 7.5
_BAND = 0.8
#: How strong a hue is, and how much white is added.
_SHADES = ((1.0, 0.0), (0.5, 0.5), (0.55, 0.0), (0.25, 0.75), (0.3, 0.0))


@style.drawing()
def step_bands(
    predictions: pd.DataFrame,
    rows: Mapping[str, int],
    classes: Sequence[Any],
    *,
    width: float = 10.0,
) -> Figure:
    """Draw the true and the predicted class of each step of some rows, and where they differ.

    Args:
        predictions: Columns `row`, `step`, `true`, `predicted`.
        rows: The rows to draw, from words on each (`"fewest mistakes"`) to its number.
        classes: The classes' names in order, whose colours they decide; may be empty.
        width: Inches.

    Returns:
        The figure: one panel per row with three bands.
    """
    table = predictions[predictions["row"].isin(rows.values())]
    true, predicted = (table[name].map(exact_text) for name in ("true", "predicted"))
    table = table.assign(true=_named(true, classes), predicted=_named(predicted, classes))
    counts = pd.concat([table["true"], table["predicted"]]).value_counts(sort=False)
    order = [name for name in map(exact_text, classes) if name in counts.index]
    order += sorted(set(counts.index) - set(order))
    colours = {name: class_colour(number) for number, name in enumerate(order)}
    figure, panels = _panels(rows, 3 * 0.34, width)
    for axes, row in zip(panels, rows.values(), strict=True):
        own = table[table["row"] == row].sort_values("step", kind="stable")
        steps = own["step"].to_numpy()
        inches = (width - 1.3) / max(int(np.ptp(steps)) + 1, 1)
        for place, column in enumerate(("true", "predicted")):
            for start, length, name in _runs(steps, own[column].tolist()):
                _fill(axes, start, length, place, colours[name])
                text = style.label(name)
                if style.text_width(text, _TEXT) < length * inches - 0.06:
                    ink = style.on_colour((*to_rgb(colours[name]), 1.0))
                    axes.text(
                        start + length / 2 - 0.5, place, text, size=_TEXT, color=ink, ha="center",
                        va="center_baseline", clip_on=True,
                    )  # fmt: skip
        wrong = (own["true"] != own["predicted"]).tolist()
        for start, length, is_wrong in _runs(steps, wrong):
            if is_wrong:
                _fill(axes, start, length, 2, _WRONG)
        _finish(axes, ["true", "predicted", "mistakes"], steps)
    frequent = set(counts.sort_values(ascending=False, kind="stable").index[:MOST_NAMED])
    named = [name for name in order if name in frequent]
    texts = [style.label(shorten(name, 22)) for name in named]
    handles = [Patch(facecolor=colours[name]) for name in named]
    if len(order) > len(named):
        texts.append(f"and {len(order) - len(named)} more")
        handles.append(Patch(alpha=0))
    _legend(figure, handles, texts, width)
    return figure


@style.drawing()
def label_bands(
    predictions: pd.DataFrame,
    rows: Mapping[str, int],
    labels: Sequence[str],
    *,
    width: float = 10.0,
) -> Figure:
    """Draw at which steps of some rows each label is true and at which it is predicted.

    Args:
        predictions: Columns `row`, `step`, `target`, `true`, `predicted`, the latter two 0 or 1.
        rows: The rows to draw, from words on each to its number.
        labels: The labels to draw, at most `MOST_LABELS`.
        width: Inches.

    Returns:
        The figure: one panel per row with two bands per label, the true one above.
    """
    names = [style.label(shorten(name, 12 if width < 5 else 22)) for name in labels]
    figure, panels = _panels(rows, len(labels) * 0.36, width)
    for axes, row in zip(panels, rows.values(), strict=True):
        own = predictions[predictions["row"] == row]
        for lane, label in enumerate(labels):
            part = own[own["target"] == label].sort_values("step", kind="stable")
            steps = part["step"].to_numpy()
            for offset, column, colour in (
                (-0.21, "true", style.INK),
                (0.21, "predicted", style.VALIDATION),
            ):
                for start, length, is_on in _runs(steps, part[column].tolist()):
                    if is_on:
                        _fill(axes, start, length, lane + offset, colour, 0.38)
        _finish(axes, names, own["step"].to_numpy())
        axes.set_yticks(np.arange(1, len(labels)) - 0.5, minor=True)
        axes.grid(which="minor", axis="y")
        axes.tick_params(which="minor", length=0)
    handles = [Patch(facecolor=colour) for colour in (style.INK, style.VALIDATION)]
    _legend(figure, handles, ["true", "predicted"], width)
    return figure


def class_colour(number: int) -> tuple[float, float, float]:
    """Return a class's colour: seven hues, then each in four lighter and darker shades.

    From the 36th class on the colours repeat; the names inside the bands tell those apart.
    """
    base = np.array(to_rgb(style.CATEGORIES[number % len(style.CATEGORIES)]))
    strength, white = _SHADES[number // len(style.CATEGORIES) % len(_SHADES)]
    red, green, blue = (strength * base + white).tolist()
    return red, green, blue


def _named(labels: pd.Series, classes: Sequence[Any]) -> pd.Series:
    """Return labels as names, which may be indices where not all are names themselves."""
    names = [exact_text(name) for name in classes]
    if not names or labels.isin(names).all():
        return labels
    return labels.replace({str(number): name for number, name in enumerate(names)})


def _runs(steps: np.ndarray, values: Sequence[Any]) -> Iterator[tuple[int, int, Any]]:
    """Return stretches of successive steps with one value: first step, length and value."""
    begin = 0
    for place in range(1, len(steps) + 1):
        ends = place == len(steps)
        if ends or values[place] != values[begin] or steps[place] != steps[place - 1] + 1:
            yield int(steps[begin]), place - begin, values[begin]
            begin = place


def _fill(
    axes: Axes, start: int, length: int, place: float, colour: Any, height: float = _BAND
) -> None:
    axes.broken_barh(
        [(start - 0.5, length)], (place - height / 2, height), facecolors=colour, linewidth=0
    )


def _panels(rows: Mapping[str, int], height: float, width: float) -> tuple[Figure, list[Axes]]:
    figure = style.new_figure(width, len(rows) * (height + 0.62) + 0.75)
    panels = figure.subplots(len(rows), 1, squeeze=False).ravel().tolist()
    for axes, (words, row) in zip(panels, rows.items(), strict=True):
        axes.set_title(f"Row {row:,}, {words}", size=style.FONT_SIZE, weight="normal", pad=4)
    panels[-1].set_xlabel("step")
    return figure, panels


def _finish(axes: Axes, names: Sequence[str], steps: np.ndarray) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(steps.min() - 0.5, steps.max() + 0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))


def _legend(figure: Figure, handles: list[Any], texts: list[str], width: float) -> None:
    widest = max(map(style.text_width, texts), default=1.0) + 0.55
    columns = max(1, min(len(texts), int((width - 0.2) / widest)))
    figure.legend(
        handles, texts, loc="outside upper left", ncols=columns, borderaxespad=0.3,
        handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip
