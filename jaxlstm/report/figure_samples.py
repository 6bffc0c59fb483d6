"""Sheets of samples: images, traces over time, spectra with their waveforms; classes down."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import shorten

#: Classes beyond these are not on a sheet of images, or of panels.
MOST_IMAGES = 100
MOST_PANELS = 24
#: Features beyond these are drawn as colours, not as lines.
MOST_LINES = 8
_LINES = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1d2329", "#8c6d1f",
)  # fmt: skip
_UNIT = re.compile(r"^(.*\S)\s*[(\[]([^()\[\]]+)[)\]]$")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One row as it is drawn.

    Attributes:
        values: Its valid steps, `[T, F]`.
        steps: How many steps its row has, padding included.
        wave: The recording behind it, `[samples]`, and its rate in Hz, or None.
    """

    values: np.ndarray
    steps: int
    wave: tuple[np.ndarray, float] | None = None


Samples = Sequence[tuple[str, Sequence[Sample]]]
#: Each class's name and its images, `[H, W]`.
Images = Sequence[tuple[str, Sequence[Sample | np.ndarray]]]


@style.drawing()
def image_sheet(images: Images, *, width: float = 10.0) -> Figure:
    """Draw images, a line a class, in grey from the smallest value (black) to the largest.

    Args:
        images: Each class's name and its images, `[H, W]` each, of any sizes; of a `Sample`,
            a row of its image is a step.
        width: Inches.

    Returns:
        The figure; Matplotlib's images in it hold the images' own values, gaps as NaN.
    """
    samples = [(name, [_sample(image) for image in own]) for name, own in images[:MOST_IMAGES]]
    each = max(1, max(len(own) for _, own in samples))
    shapes = [sample.values.shape for _, own in samples for sample in own]
    high, wide = (max(sizes) for sizes in zip(*shapes, strict=True))
    gap = max(1, round(0.06 * max(high, wide)))
    names = [style.label(shorten(name, 12 if width < 5 else 24)) for name, _ in samples]
    margin = max(style.text_width(name) for name in names) + 0.2
    # As many columns of classes as leave a sample at least this wide.
    least = 0.24 if width < 5 else 0.36
    columns = int(np.clip(width / (margin + each * least), 1, max(1, len(samples) // 6)))
    per_column = -(-len(samples) // columns)
    largest = 0.62 if width < 5 else 0.8
    cell = min((width / columns - margin - 0.1) / each, largest)
    line = cell * (high + gap) / (wide + gap)
    figure = style.new_figure(columns * (margin + 0.1 + each * cell), per_column * line + 0.2)
    lows = [np.nanmin(sample.values) for _, own in samples for sample in own]
    highs = [np.nanmax(sample.values) for _, own in samples for sample in own]
    for column, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        own = samples[column * per_column : (column + 1) * per_column]
        sheet = np.full((per_column * (high + gap) - gap, each * (wide + gap) - gap), np.nan)
        for row, (_, parts) in enumerate(own):
            for number, sample in enumerate(parts):
                top, left = row * (high + gap), number * (wide + gap)
                t, f = sample.values.shape
                sheet[top : top + t, left : left + f] = sample.values
        axes.imshow(
            sheet, cmap="gray", vmin=min(lows), vmax=max(highs), interpolation="nearest",
            aspect="auto",
        )  # fmt: skip
        style.bare(axes)
        axes.set_xticks([])
        start = column * per_column
        axes.set_yticks(
            [row * (high + gap) + high / 2 - 0.5 for row in range(len(own))],
            names[start : start + per_column],
        )
    return figure


def _sample(image: Sample | np.ndarray) -> Sample:
    return image if isinstance(image, Sample) else Sample(np.asarray(image), len(image))


@style.drawing()
def trace_sheet(
    samples: Samples,
    feature_names: Sequence[str] = (),
    rate: float | None = None,
    *,
    width: float = 10.0,
) -> Figure:
    """Draw sequences as lines, a panel a sample, one scale for all.

    Args:
        samples: Each class's name and its samples, of at most 8 features.
        feature_names: The features' names, units in brackets behind them.
        rate: Steps a second, in Hz; None for steps that are no moments.
        width: Inches.

    Returns:
        The figure.
    """
    features = max(sample.values.shape[1] for _, own in samples for sample in own)
    names, unit = _features(feature_names, features)
    values = np.concatenate([s.values[np.isfinite(s.values)] for _, own in samples for s in own])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5

    def draw(axes: Axes, sample: Sample) -> None:
        time = np.arange(len(sample.values)) / (rate or 1)
        for feature in range(sample.values.shape[1]):
            axes.plot(
                time, sample.values[:, feature], color=_LINES[feature], linewidth=0.9,
                marker="o" if len(time) < 12 else "", markersize=2.5, label=names[feature],
            )  # fmt: skip
        axes.set(xlim=_span(sample, rate), ylim=(low - room, high + room))
        axes.grid(axis="y")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if not rate:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    figure, panels = _panels(samples, width, 1.05, draw)
    _name_axes(figure, panels, rate, unit or "value")
    handles, words = panels[0, 0].get_legend_handles_labels()
    if features > 1:
        figure.legend(handles, words, loc="outside upper left", ncols=min(features, 4))
    return figure


@style.drawing()
def spectrum_sheet(
    samples: Samples,
    feature_names: Sequence[str] = (),
    rate: float | None = None,
    *,
    what: str = "feature",
    first: int = 0,
    width: float = 10.0,
) -> Figure:
    """Draw sequences of many features as colours, the recording above where it is at hand.

    Args:
        samples: Each class's name and its samples.
        feature_names: The features' names, units in brackets behind them.
        rate: Steps a second, in Hz; None for steps that are no moments.
        what: A feature is, on the axis that counts them from 0.
        first: The first feature that the scale of colours is made for; those before it, such as
            a loudness far from all else, may lie beyond it.
        width: Inches.

    Returns:
        The figure: one scale of colours for all, from the 1st to the 99th percentile of the
        values drawn; grey where a row is padding.
    """
    features = max(sample.values.shape[1] for _, own in samples for sample in own)
    _, unit = _features(feature_names, features)
    parts = [sample.values[:, first:].ravel() for _, own in samples for sample in own]
    values = np.concatenate([part[np.isfinite(part)] for part in parts])
    low, high = np.percentile(values, [1, 99]) if values.size else (0.0, 1.0)
    if not low < high:
        low, high = low - 0.5, low + 0.5
    images = []

    def draw(axes: Axes, sample: Sample) -> None:
        steps, features = sample.values.shape
        below = axes
        if sample.wave is not None:
            above = axes.inset_axes((0, 0.68, 1, 0.32))
            below = axes.inset_axes((0, 0, 1, 0.64))
            axes.axis("off")
            wave, frequency = sample.wave
            _draw_wave(above, wave, frequency, sample.steps / (rate or 1))
        seconds = steps / (rate or 1)
        images.append(
            below.imshow(
                sample.values.T,
                cmap="viridis",
                vmin=low,
                vmax=high,
                origin="lower",
                aspect="auto",
                interpolation="nearest",
                extent=(0, seconds, -0.5, features - 0.5),
            )
        )
        below.set_facecolor(style.EMPTY)
        below.set(xlim=(0, sample.steps / (rate or 1)), ylim=(-0.5, features - 0.5))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.spines[:].set_visible(False)
        place = axes.get_subplotspec()
        if below is not axes and place is not None:
            last, first = place.is_last_row(), place.is_first_col()
            below.tick_params(labelbottom=last, labelleft=first)

    waves = any(sample.wave is not None for _, own in samples for sample in own)
    figure, panels = _panels(samples, width, 1.75 if waves else 1.15, draw)
    _name_axes(figure, panels, rate, what)
    bar = figure.colorbar(
        images[0],
        ax=panels.ravel().tolist(),
        fraction=0.03,
        pad=0.015,
        shrink=0.5,
        aspect=30,
        extend="both",
    )
    bar.set_label(style.label(unit) or "value", color=style.QUIET)
    bar.outline.set_visible(False)
    return figure


def _draw_wave(axes: Axes, wave: np.ndarray, frequency: float, end: float) -> None:
    """Draws the lowest and highest amplitude of each of at most 400 stretches of a recording."""
    stretch = max(1, -(-len(wave) // 400))
    starts = np.arange(0, len(wave), stretch)
    axes.fill_between(
        starts / frequency,
        np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts),
        color=style.VALIDATION, linewidth=0.3, step="post",
    )  # fmt: skip
    top = float(np.abs(wave).max()) or 1.0
    axes.set(xlim=(0, end), ylim=(-top, top))
    axes.axis("off")


def _panels(
    samples: Samples, width: float, height: float, draw: Callable[[Axes, Sample], None]
) -> tuple[Figure, np.ndarray]:
    """Returns a panel a sample: a line of panels a class, or several classes on a line."""
    samples = samples[:MOST_PANELS]
    each = max(1, max(len(own) for _, own in samples))
    across = max(each, (2 if width < 5 else 4) // each * each if len(samples) > 8 else each)
    beside = across // each  # classes on a line
    lines = -(-len(samples) // beside)
    figure = style.new_figure(width, lines * height + 0.75)
    panels = figure.subplots(lines, across, sharex=True, sharey=True, squeeze=False)
    used = np.zeros(panels.shape, bool)
    for place, (name, own) in enumerate(samples):
        line, first = place // beside, place % beside * each
        room = width / across * each - 0.3
        title = shorten(name, max(8, int(room / style.text_width("x", 1.15 * style.FONT_SIZE))))
        panels[line, first].set_title(style.label(title), size=style.FONT_SIZE, pad=3)
        for number, sample in enumerate(own):
            draw(panels[line, first + number], sample)
            used[line, first + number] = True
        if not own:
            panels[line, first].text(0.02, 0.5, "no rows", color=style.QUIET, size=style.SMALL)
    for axes in panels[~used]:
        axes.axis("off")
    return figure, panels


def _name_axes(figure: Figure, panels: np.ndarray, rate: float | None, values: str) -> None:
    figure.supxlabel("time (s)" if rate else "step", color=style.QUIET, size=style.FONT_SIZE)
    figure.supylabel(style.label(values), color=style.QUIET, size=style.FONT_SIZE)


def _span(sample: Sample, rate: float | None) -> tuple[float, float]:
    end = (sample.steps - 1) / (rate or 1)
    return (0.0, end) if end else (-0.5, 0.5)


def _features(names: Sequence[str], count: int) -> tuple[list[str], str]:
    """Returns the features' names for a legend and their unit, where all have the same one."""
    if len(names) != count:
        return [f"feature {number}" for number in range(count)], ""
    matches = [_UNIT.match(name) for name in names]
    units = {match[2] for match in matches if match}
    if all(matches) and len(units) == 1:
        return [style.label(match[1]) for match in matches if match], units.pop()
    return [style.label(name) for name in names], ""
