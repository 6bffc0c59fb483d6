"""Where in an image a network looks: pairs of an image and the same one below a map of heat."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import shorten

#: Classes beyond these are not on a sheet.
MOST_CLASSES = 100
# Without its black end, which would darken what a map leaves out.
_HEAT: Colormap = ListedColormap(matplotlib.colormaps["inferno"](np.linspace(0.3, 1, 256)))
_PERCENTILE = 99
_LEAST = 0.34


@style.drawing()
def saliency_sheet(
    images: np.ndarray,
    maps: np.ndarray,
    classes: Sequence[str],
    *,
    width: float = 10.0,
) -> Figure:
    """Draw each image in grey, and beside it the same image below its map as heat.

    Black is the smallest value of all images, white the largest. Each map is scaled by its own
    99th percentile (its maximum, where that is 0), and what lies above it is drawn as it.

    Args:
        images: `[C, n, H, W]`, n images of each class.
        maps: `[C, n, H, W]`, not negative.
        classes: The C classes' names.
        width: Inches; as many of a class's images are drawn as fit, one at least.

    Returns:
        The figure.

    Raises:
        ValueError: The shapes do not agree, or a map holds something negative.
    """
    images, maps = np.asarray(images, dtype=float), np.asarray(maps, dtype=float)
    if images.ndim != 4 or images.shape != maps.shape or 0 in images.shape:
        raise ValueError(
            f"images and maps must both be [classes, images, height, width], not empty; "
            f"got {images.shape} and {maps.shape}"
        )
    if len(classes) != len(images):
        raise ValueError(f"{len(images)} classes of images, but {len(classes)} names in classes")
    if np.nanmin(maps) < 0:
        raise ValueError(f"maps holds {np.nanmin(maps):.4g}; it must not be negative")
    count = min(len(images), MOST_CLASSES)
    names = [style.label(shorten(name, 12 if width < 5 else 24)) for name in classes[:count]]
    margin = max(map(style.text_width, names)) + 0.2
    bar = 0.95
    each = int(np.clip((width - bar - margin) / (2 * _LEAST), 1, images.shape[1]))
    columns = int((width - bar) / (margin + 2 * each * _LEAST))
    columns = int(np.clip(columns, 1, max(1, count // 6)))
    lines = -(-count // columns)
    high, wide = images.shape[2:]
    gap = max(1, round(0.06 * max(high, wide)))
    shape = lines * (high + gap) - gap, each * (2 * wide + 3 * gap) - 2 * gap
    room = (width - bar) / columns - margin - 0.1
    tile = min(room / (2 * each), 0.62 if width < 5 else 1.0)
    tall = shape[0] * 2 * each * tile / shape[1]
    across = columns * (margin + 0.1 + 2 * each * tile)
    figure = style.new_figure(across + bar, max(tall, 1.6) + 0.2)
    low, top = np.nanmin(images), np.nanmax(images)
    grey = np.nan_to_num((images - low) / ((top - low) or 1.0))
    heat = _scaled(maps)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for column, axes in enumerate(panels):
        sheet = np.ones((*shape, 3))
        rows = range(column * lines, min((column + 1) * lines, count))
        for line, row in enumerate(rows):
            for number in range(each):
                y, x = line * (high + gap), number * (2 * wide + 3 * gap)
                plain = np.repeat(grey[row, number][..., None], 3, axis=-1)
                strength = heat[row, number][..., None]
                # Dimmed, so that the heat shows on white, too.
                below = _overlay(0.75 * plain, strength)
                sheet[y : y + high, x : x + wide] = plain
                sheet[y : y + high, x + wide + gap : x + 2 * wide + gap] = below
        axes.imshow(sheet, interpolation="nearest", aspect="auto")
        style.bare(axes)
        axes.set_xticks([])
        places = [line * (high + gap) + high / 2 - 0.5 for line in range(len(rows))]
        axes.set_yticks(places, [names[row] for row in rows])
    colours = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _HEAT), ax=panels.tolist(), fraction=0.04, pad=0.02,
        aspect=18, shrink=min(1.0, 2.2 / max(tall, 1.6)), extend="max", ticks=[0, 0.5, 1],
    )  # fmt: skip
    colours.set_label("share of the map's\n99th percentile", color=style.QUIET, size=style.SMALL)
    colours.outline.set_visible(False)
    return figure


def _scaled(maps: np.ndarray) -> np.ndarray:
    """Return each map over its 99th percentile, from 0 to 1."""
    flat = np.nan_to_num(maps).reshape(*maps.shape[:2], -1)
    top = np.percentile(flat, _PERCENTILE, axis=-1)
    top = np.where(top > 0, top, flat.max(axis=-1))[..., None]
    return np.clip(flat / np.where(top > 0, top, 1.0), 0, 1).reshape(maps.shape)


def _overlay(grey: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return (1 - strength) * grey + strength * _HEAT(strength[..., 0])[..., :3]
