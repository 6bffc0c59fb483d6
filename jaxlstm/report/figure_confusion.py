"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from jaxlstm.report.figure_style import (
    QUIET,
    SCORES,
    SMALL,
    bare,
    drawing,
    label,
    new_figure,
    on_colour,
    text_width,
)
from jaxlstm.report.tables import count_confusion
from jaxlstm.report.text import shorten

_MOST_ANNOTATED = 12


@drawing()
def confusion_matrix(
    true: Sequence[Any],
    predicted: Sequence[Any],
    classes: Sequence[Any] | None = None,
    *,
    normalize: bool = False,
    width: float = 7.0,
    noun: str = "row",
) -> Figure:
    """Draw the confusion matrix: each row is a true class, coloured by its rows' fractions.

    Up to 12 classes have their counts, or percentages, written in, more are colours alone.

    Args:
        true: The true labels: the classes' names or their indices.
        predicted: The predicted labels, likewise.
        classes: The classes' names, in order; by default the labels that occur, sorted.
        normalize: Write each count as a percentage of its row, of the true class, instead.
        width: Inches, at most; a few classes take less.
        noun: The name of what is counted, `"row"` or `"step"`.

    Returns:
        The figure.

    Raises:
        ValueError: The labels differ in number, or one is neither a class nor an index of one.
    """
    confusion = count_confusion(true, predicted, classes)
    size = len(confusion.classes)
    names = [label(shorten(name, 10 if width < 5 else 18)) for name in confusion.classes]
    longest = max((text_width(name) for name in names), default=0.0)
    bar = 0.85
    side = max(min(width - longest - 0.55 - bar, 0.56 * size), 1.6)
    cell = side / max(size, 1)
    # Names lie flat where they fit their column, else they stand.
    flat = longest < cell - 0.06
    below = 0.25 if flat else longest + 0.1
    # The figure's own size makes the cells square: Matplotlib's "equal" aspect loses a label's
    # place in a constrained layout's first drawing.
    figure = new_figure(side + longest + 0.55 + bar, side + below + 0.3)
    axes = figure.add_subplot()
    norm = PowerNorm(0.5, 0, 1)
    image = axes.imshow(
        confusion.fractions,
        cmap=SCORES,
        # With the square root's colours the few mistakes of a good classifier still show.
        norm=norm,
        interpolation="none",
        aspect="auto",
    )
    bare(axes)
    # Below 0.15 inches a label touches the next: name every second or third class instead.
    step = max(1, int(np.ceil(0.15 / cell)))
    ticks = np.arange(0, size, step)
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=0 if flat else 90)
    axes.set_yticks(ticks, [names[i] for i in ticks])
    if size > _MOST_ANNOTATED:
        axes.tick_params(length=2, labelsize=min(SMALL, 72 * cell * step / 1.25))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_xticks(np.arange(1, size) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, size) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    if cell > 0.09:
        axes.grid(which="minor", color="white", linewidth=1.2 if size <= _MOST_ANNOTATED else 0.4)
    if size <= _MOST_ANNOTATED:
        texts = np.vectorize(_percent if normalize else str, otypes=[object])(
            confusion.fractions if normalize else confusion.counts
        )
        if normalize:
            texts[confusion.counts.sum(axis=1) == 0] = "–"
        digits = max(map(len, texts.ravel()), default=0)
        font = min(9.0, 72 * (cell - 0.04) / (0.66 * max(digits, 2)))
        for (i, j), count in np.ndenumerate(confusion.counts):
            if count or i == j:
                colour = on_colour(SCORES(float(norm(confusion.fractions[i, j]))))
                weight = "bold" if i == j else "normal"
                axes.text(
                    j,
                    i,
                    texts[i, j],
                    ha="center",
                    va="center",
                    color=colour,
                    size=font,
                    weight=weight,
                )
    colour_bar = figure.colorbar(
        image,
        ax=axes,
        fraction=0.05,
        aspect=24,
        pad=0.03,
        ticks=[0, 0.01, 0.05, 0.2, 0.5, 1],
        format=PercentFormatter(1, decimals=0),
    )
    colour_bar.set_label(f"share of the true class's {noun}s", color=QUIET)
    colour_bar.outline.set_visible(False)
    return figure


def _percent(fraction: float) -> str:
    """Return per cent with one decimal, no 0 or 100 where it is not quite that."""
    if 0 < fraction < 0.0005:
        return "<0.1"
    if 0.9995 <= fraction < 1:
        return "99.9"
    return f"{100 * fraction:.1f}" if fraction < 1 else "100"
