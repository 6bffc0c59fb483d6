"""How many rows: of each class, of each person, of each length, of each value of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import shorten, sort_values

#: Classes and people beyond these are in the csv files alone.
MOST_CLASSES = 100
MOST_PEOPLE = 160
#: Numeric targets beyond these, too.
MOST_TARGETS = 12
# Training and validation as on a run's page.
_COLOURS = (style.TRAINING, style.VALIDATION, style.REFIT, "#009e73", "#cc79a7")
_TEXT = 7.5


def _colour(split: int, splits: int) -> str:
    return _COLOURS[split % len(_COLOURS)] if splits > 1 else style.VALIDATION


@style.drawing()
def class_counts(counts: pd.DataFrame, *, unit: str = "rows", width: float = 10.0) -> Figure:
    """Draw a bar for each class and split, with its rows and their share of the split.

    Args:
        counts: Columns `split`, `class`, `rows`, `percent`, as `count_classes` returns them.
        unit: What is counted, the column "rows" or "steps".
        width: Inches.

    Returns:
        The figure.
    """
    splits = list(counts["split"].unique())
    parts = [counts[counts["split"] == split].head(MOST_CLASSES) for split in splits]
    names = max((part["class"].tolist() for part in parts), key=len)
    thickness = 0.2 if len(splits) == 1 else 0.15
    room = len(splits) * thickness + 0.1
    most = 3 if width > 7 else 2
    columns = min(most, max(1, round(len(names) * room / 4.6)))
    per_column = -(-len(names) // columns)
    figure = style.new_figure(
        width, max(per_column * room, 0.4) + (0.5 if len(splits) > 1 else 0.2)
    )
    largest = max(1, int(counts[unit].max()))
    texts = [
        [
            f"{count:,}  {share:.1f} %"
            for count, share in zip(part[unit], part["percent"], strict=True)
        ]
        for part in parts
    ]
    shown = [style.label(shorten(name, 12 if width < 5 else 24)) for name in names]
    beside = max(style.text_width(text, _TEXT) for part in texts for text in part)
    panel = width / columns - max(style.text_width(name) for name in shown) - 0.3
    # The axis goes on beyond the longest bar as far as the text after it needs.
    limit = largest * max(panel / max(panel - beside, 0.25 * panel), 1.1)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for column, axes in enumerate(panels):
        rows = range(column * per_column, min((column + 1) * per_column, len(names)))
        for number, (part, words) in enumerate(zip(parts, texts, strict=True)):
            own = [row for row in rows if row < len(part)]
            places = np.array([room * (row - rows.start) + thickness * number for row in own])
            values = part[unit].to_numpy()[own]
            axes.barh(
                places, values, 0.82 * thickness, align="edge", color=_colour(number, len(splits)),
                label=style.label(splits[number]),
            )  # fmt: skip
            for place, value, row in zip(places, values, own, strict=True):
                axes.text(
                    value + 0.012 * limit, place + 0.41 * thickness, words[row],
                    va="center", size=_TEXT,
                )  # fmt: skip
        middle = (len(splits) * thickness - 0.18 * thickness) / 2
        axes.set_yticks(
            [room * (row - rows.start) + middle for row in rows], [shown[row] for row in rows]
        )
        axes.set(xlim=(0, limit), ylim=(per_column * room - 0.05, -0.05))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
    if len(splits) > 1:
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper left", ncols=len(splits))
    return figure


@style.drawing()
def people_map(people: pd.DataFrame, classes: Sequence[str], *, width: float = 10.0) -> Figure:
    """Draw how many rows each person has of each class, or only how many where people are many.

    Args:
        people: Columns `group`, `class`, `rows`, as `count_people` returns them.
        classes: The classes' names, in order.
        width: Inches.

    Returns:
        The figure: classes down, people across, no rows in grey.
    """
    table = people.pivot_table(
        index="class", columns="group", values="rows", aggfunc="sum", fill_value=0
    )
    if table.shape[1] > MOST_PEOPLE or len(classes) > MOST_CLASSES:
        return _people_histogram(table.sum().to_numpy(), width)
    order = sort_values(table.columns.tolist())
    counts = table.reindex(index=list(classes), columns=order, fill_value=0).to_numpy()
    names = [style.label(shorten(name, 12 if width < 5 else 24)) for name in classes]
    longest = max(style.text_width(name) for name in names)
    cell = min((width - longest - 1.3) / len(order), 0.55)
    height = 0.3 if len(classes) <= 20 else 0.15
    people_names = [style.label(shorten(str(name), 12)) for name in order]
    widest = max(style.text_width(name) for name in people_names)
    flat = widest < max(cell, 0.3)
    figure = style.new_figure(
        max(cell * len(order) + longest + 1.3, 3.2),
        max(height * len(classes), 0.9) + (0.6 if flat else 0.5 + widest),
    )
    axes = figure.add_subplot()
    image = axes.imshow(
        np.ma.masked_equal(counts, 0), cmap=style.SCORES, vmin=0, vmax=counts.max(),
        interpolation="none", aspect="auto",
    )  # fmt: skip
    axes.set_facecolor(style.EMPTY)
    style.bare(axes)
    step = max(1, int(np.ceil((widest + 0.08 if flat else 0.16) / cell)))
    ticks = np.arange(0, len(order), step)
    axes.set_xticks(ticks, [people_names[i] for i in ticks], rotation=0 if flat else 90)
    axes.set_yticks(np.arange(len(classes)), names)
    if height < 0.2:
        axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("person")
    axes.set_xticks(np.arange(1, len(order)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(classes)) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="white", linewidth=1.0 if cell > 0.1 else 0.4)
    if style.text_width(str(counts.max()), 7) < cell - 0.05 and height >= 0.2:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    j, i, str(count), ha="center", va="center", size=7,
                    color=style.on_colour(style.SCORES(count / counts.max())),
                )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, aspect=14)
    bar.set_label("rows", color=style.QUIET)
    bar.locator = MaxNLocator(4, integer=True)
    bar.update_ticks()
    bar.outline.set_visible(False)
    return figure


def _people_histogram(rows: np.ndarray, width: float) -> Figure:
    figure = style.new_figure(width, 3.0)
    axes = figure.add_subplot()
    edges = whole_bins(rows, 40)
    axes.stairs(np.histogram(rows, edges)[0], edges, color=style.VALIDATION, fill=True)
    axes.set(xlabel="rows of a person", ylabel="people")
    _whole(axes)
    return figure


@style.drawing()
def length_histogram(
    lengths: Mapping[str, np.ndarray], rate: float | None, *, width: float = 10.0
) -> Figure:
    """Draw how long the rows are.

    Args:
        lengths: Valid steps of each row, `[N]`, by the splits' names.
        rate: Steps a second, in Hz; None for lengths in steps.
        width: Inches.

    Returns:
        The figure: the first split filled, further ones as outlines.
    """
    figure = style.new_figure(width, 2.8)
    axes = figure.add_subplot()
    together = np.concatenate(list(lengths.values()))
    edges = whole_bins(together, 40)
    for number, (split, values) in enumerate(lengths.items()):
        axes.stairs(
            np.histogram(values, edges)[0], edges / (rate or 1),
            color=_colour(number, len(lengths)), label=style.label(split),
            fill=number == 0, linewidth=1.6,
        )  # fmt: skip
    axes.set(xlabel="length (s)" if rate else "length (steps)", ylabel="rows")
    _whole(axes, across=not rate)
    if len(lengths) > 1:
        figure.legend(loc="outside upper left", ncols=len(lengths))
    return figure


@style.drawing()
def target_histograms(bins: pd.DataFrame, *, unit: str = "rows", width: float = 10.0) -> Figure:
    """Draw the values of each numeric target.

    Args:
        bins: Columns `split`, `target`, `low`, `high`, `count`, as `bin_targets` returns them.
        unit: What is counted, "rows" or "steps".
        width: Inches.

    Returns:
        The figure: a panel a target, the first split filled, further ones as outlines.
    """
    splits = list(bins["split"].unique())
    names = list(bins["target"].unique())[:MOST_TARGETS]
    across = min(len(names), 1 if width < 5 else 3)
    lines = -(-len(names) // across)
    figure = style.new_figure(width, 2.8 if lines == 1 else 0.4 + 2.1 * lines)
    panels = figure.subplots(lines, across, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for number, split in enumerate(splits):
            own = bins[(bins["split"] == split) & (bins["target"] == name)]
            edges = np.append(own["low"].to_numpy(), own["high"].to_numpy()[-1])
            axes.stairs(
                own["count"].to_numpy(), edges, color=_colour(number, len(splits)),
                label=style.label(split), fill=number == 0, linewidth=1.6,
            )  # fmt: skip
        axes.set(xlabel=style.label(shorten(name, 40 // across + 8)), ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _whole(axes, across=False)
    for axes in panels[len(names) :]:
        axes.axis("off")
    if len(splits) > 1:
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper left", ncols=len(splits))
    return figure


def whole_bins(values: np.ndarray, most: int) -> np.ndarray:
    """Return edges of at most `most` equal bins for whole numbers, half beside whole numbers."""
    low, high = int(values.min()), int(values.max())
    step = -(-(high - low + 1) // most)
    return np.arange(low - 0.5, high + 0.5 + step, step)


def _whole(axes: Axes, across: bool = True) -> None:
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if across:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
