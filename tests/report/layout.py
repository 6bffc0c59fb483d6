"""What a figure looks like once it is laid out: nothing cut off, no labels over each other."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxlstm.report.figure_style import drawing


def check_layout(figure: Figure) -> None:
    """Fails where a text sticks out of the figure, or two labels of an axis overlap."""
    with drawing():
        figure.canvas.draw()
    box, hidden = figure.bbox.padded(1), hidden_labels(figure)
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip():
            continue
        if text.axes is not None and not text.axes.get_visible():
            continue
        extent = text.get_window_extent()
        inside = box.x0 <= extent.x0 and extent.x1 <= box.x1
        inside &= box.y0 <= extent.y0 and extent.y1 <= box.y1
        shown = text not in hidden
        assert inside or not shown, f"{text.get_text()!r} sticks out: {extent} of {box}"
    for axes in figure.axes:
        for ticks, low, high in (
            (axes.get_xticklabels(), "x0", "x1"),
            (axes.get_yticklabels(), "y0", "y1"),
        ):
            boxes = [
                text.get_window_extent() for text in ticks if text.get_text() and text not in hidden
            ]
            boxes.sort(key=lambda extent: getattr(extent, low))
            for first, second in itertools.pairwise(boxes):
                assert getattr(first, high) <= getattr(second, low) + 1.5


def hidden_labels(figure: Figure) -> set[Text]:
    """Return the tick labels that are not drawn: of a shared axis, outside of the limits."""
    hidden: set[Text] = set()
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(limits)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                seen = low - 1e-9 <= tick.get_loc() <= high + 1e-9 and axes.axison
                for text in (tick.label1, tick.label2):
                    if not seen or not text.get_visible() or not axes.get_visible():
                        hidden.add(text)
    return hidden
