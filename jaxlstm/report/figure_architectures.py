"""Networks as boxes: layer below layer, with its output's shape and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import count_text, python_value, shorten, value_text

_BOX = 0.52
_ARROW = 0.24
_HEAD = 0.42
_TOTAL = 0.42
_LEARNS = "#e3f0f7"
_FIXED = "#f1f3f5"


@style.drawing()
def architectures(
    networks: Mapping[str, Sequence[tuple[str, Any, int]]], *, width: float = 10.0
) -> Figure:
    """Draw networks side by side, each layer a box, from the input down.

    Args:
        networks: Each network's name and its layers: a layer's name, the shape of its output (a
            text, or a tuple of sizes) and the number of its parameters. Layers without any are
            grey.
        width: Inches; networks that do not fit beside each other go below.

    Returns:
        The figure.

    Raises:
        ValueError: There are no networks.
    """
    if not networks:
        raise ValueError("networks is empty; at least one is needed")
    across = max(1, min(len(networks), int((width - 0.2) / 2.3)))
    lane = min((width - 0.2) / across, 3.6)
    names = list(networks)
    lines = [names[start : start + across] for start in range(0, len(names), across)]
    heights = [max(_height(networks[name]) for name in line) for line in lines]
    wide, high = across * lane + 0.2, sum(heights) + 0.1
    figure = style.new_figure(wide, high)
    # One unit is an inch, so that boxes and letters fit each other.
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.axis("off")
    top = 0.05
    for line, height in zip(lines, heights, strict=True):
        for number, name in enumerate(line):
            _draw_network(axes, name, networks[name], 0.1 + number * lane, top, lane)
        top += height
    return figure


def _height(layers: Sequence[Any]) -> float:
    return _HEAD + len(layers) * (_BOX + _ARROW) - _ARROW + _TOTAL


def _draw_network(
    axes: Any,
    name: str,
    layers: Sequence[tuple[str, Any, int]],
    left: float,
    top: float,
    lane: float,
) -> None:
    box, middle = min(lane - 0.3, 2.7), left + lane / 2
    room = box - 0.16

    def write(x: float, y: float, text: str, size: float, **look: Any) -> None:
        # Bold letters are a tenth wider.
        letter = style.text_width("x", size) * (1.1 if "weight" in look else 1.0)
        text = style.label(shorten(text, max(int(look.pop("room", room) / letter), 4)))
        axes.text(x, y, text, size=size, va="center", **look)

    write(middle, top + 0.2, name, 10.5, weight="bold", ha="center", room=lane - 0.1)
    y = top + _HEAD
    for number, (layer, shape, parameters) in enumerate(layers):
        if number:
            arrow = FancyArrowPatch(
                (middle, y - _ARROW + 0.02), (middle, y - 0.02), arrowstyle="-|>",
                mutation_scale=8, color=style.QUIET, linewidth=1.0, shrinkA=0, shrinkB=0,
            )  # fmt: skip
            axes.add_patch(arrow)
        axes.add_patch(
            FancyBboxPatch(
                (middle - box / 2, y),
                box,
                _BOX,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=_LEARNS if parameters else _FIXED,
                edgecolor=style.VALIDATION if parameters else style.HAIRLINE,
                linewidth=0.9,
            )
        )
        write(middle, y + 0.17, layer, 9.0, weight="bold", ha="center")
        counted = count_text(parameters, "parameter") if parameters else ""
        if counted and style.text_width(f"{_shape(shape)}  {counted}", 8) > room:
            counted = f"{parameters:,}"
        texts = [text for text in (_shape(shape), counted) if text]
        separator = "  \N{MIDDLE DOT}  "
        write(middle, y + 0.37, separator.join(texts), 8.0, ha="center", color=style.QUIET)
        y += _BOX + _ARROW
    total = sum(parameters for *_, parameters in layers)
    write(
        middle, y - _ARROW + 0.2, count_text(total, "parameter"), 9.0, ha="center", weight="bold",
        color=style.VALIDATION,
    )  # fmt: skip


def _shape(shape: Any) -> str:
    shape = python_value(shape)
    if isinstance(shape, tuple | list):
        return " \N{MULTIPLICATION SIGN} ".join(map(value_text, shape))
    return "" if shape is None else str(shape)
