"""A regression's predictions against the true values, and the residuals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlstm.report import figure_style as style
from jaxlstm.report.errors import Errors, round_like, scores_by
from jaxlstm.report.text import count_text, number_text

#: Targets that have a panel of their own.
MOST_PANELS = 6
#: Points beyond these are drawn as their density.
MOST_POINTS = 3000
# Without its palest end, in which a single point would not show on white.
_DENSITY: Colormap = ListedColormap(style.SCORES(np.linspace(0.15, 1, 256)))
_BINS = 20


def shown_targets(errors: Errors) -> list[str]:
    """Return the targets with a panel: all, or those predicted worst by R² where there are many."""
    if errors.problem.horizon or len(errors.targets) == 1:
        return []
    if len(errors.targets) <= MOST_PANELS:
        return errors.targets
    worst = scores_by(errors, "target").sort_values("r2", kind="stable").head(MOST_PANELS)
    return [name for name in errors.targets if name in set(worst["name"])]


def is_dense(errors: Errors) -> bool:
    """Return whether a panel of `predicted_against_true` has too many points to draw each."""
    table = errors.table
    names = shown_targets(errors)
    most = table["target"].value_counts()[names].max() if names else len(table)
    return bool(most > MOST_POINTS)


@style.drawing()
def predicted_against_true(errors: Errors, *, width: float = 10.0) -> Figure:
    """Draw the predicted against the true values, with the line on which they are equal.

    Args:
        errors: The errors of at least one prediction.
        width: Inches, at most.

    Returns:
        The figure: one panel per target (the six predicted worst, where there are more), one for
        all steps of a forecast together.
    """
    table = errors.table
    names = shown_targets(errors)
    parts = [table[table["target"] == name] for name in names] if names else [table]
    narrow = width < 5
    across = min(len(parts), 2 if narrow else 3)
    side = min((width - 0.6 - (1.0 if not names else 0.0)) / across - 0.25, 4.2)
    down = math.ceil(len(parts) / across)
    bar = 0.95 if is_dense(errors) and not names else 0.0
    size = across * (side + 0.3) + 0.5 + bar, down * (side + (0.35 if names else 0.1)) + 0.55
    figure = style.new_figure(*size)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(parts) :]:
        axes.set_visible(False)
    for number, (axes, part) in enumerate(zip(panels, parts, strict=False)):
        dense = _draw_points(axes, part["true"].to_numpy(), part["predicted"].to_numpy())
        outside = _square(axes, part)
        axes.axline((0, 0), slope=1, color=style.HIGHLIGHT, linewidth=1.1, zorder=3)
        if outside:
            _remark(axes, _not_shown(outside), left=True)
        axes.grid(True)
        _few_ticks(axes, 4 if side < 2.4 else 6)
        if names:
            title = style.fit(names[number], 0.9 * side, 1.15 * style.FONT_SIZE)
            axes.set_title(title, size=style.FONT_SIZE, pad=5)
        if dense is not None and not names:
            colours = figure.colorbar(dense, ax=axes, fraction=0.05, aspect=24, pad=0.03)
            colours.set_label("predictions per cell", color=style.QUIET)
            colours.outline.set_visible(False)
    look = {"color": style.QUIET, "size": style.FONT_SIZE}
    figure.supxlabel(style.fit(_value_label("true value", errors), size[0] - 0.6), **look)
    figure.supylabel(style.fit(_value_label("predicted value", errors), size[1] - 0.4), **look)
    return figure


@style.drawing()
def residuals(errors: Errors, *, width: float = 10.0) -> Figure:
    """Draw how the residuals (predicted minus true) spread, and how they depend on the prediction.

    Args:
        errors: The errors of at least one prediction.
        width: Inches; below 6.5 the two panels stand one above the other.

    Returns:
        The figure: a histogram, and the residual against the predicted value with the median of
        each twentieth of the predictions.
    """
    table = errors.table
    stacked = width < 6.5
    figure = style.new_figure(width, 6.2 if stacked else 3.9)
    left, right = figure.subplots(*((2, 1) if stacked else (1, 2)))
    wide, tall = (width - 0.9, 2.1) if stacked else (width / 2 - 0.9, 3.0)
    name = _value_label("predicted minus true", errors)
    error = table["error"].to_numpy()
    low, high = _span(error)
    counts, edges = np.histogram(np.clip(error, low, high), bins=40, range=(low, high))
    left.stairs(counts, edges, color=style.VALIDATION, fill=True, alpha=0.85)
    left.axvline(0, color=style.INK, linewidth=0.9)
    unit = f" {errors.problem.units}" if errors.problem.units else ""
    bias = round_like(float(error.mean()), float(np.sqrt(np.mean(error**2))))
    left.axvline(bias, color=style.HIGHLIGHT, linewidth=1.3, linestyle=(0, (4, 2.2)))
    left.set_title(
        style.fit(f"Mean {number_text(bias)}{unit}", wide),
        size=style.FONT_SIZE,
        weight="normal",
        pad=6,
    )
    left.set_xlabel(style.fit(name, wide))
    left.set_xlim(low, high)
    left.set_ylabel("predictions")
    left.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    left.grid(axis="y")
    _few_ticks(left, 6)
    beyond = int(((error < low) | (error > high)).sum())
    if beyond:
        _remark(left, f"{beyond:,} beyond the ends, in the last bars")
    predicted = table["predicted"].to_numpy()
    near, far = _span(predicted)
    shown = (error >= low) & (error <= high) & (predicted >= near) & (predicted <= far)
    _draw_points(right, predicted[shown], error[shown])
    right.axhline(0, color=style.INK, linewidth=0.9, zorder=3)
    _draw_medians(right, table[shown])
    if not shown.all():
        _remark(right, _not_shown(int((~shown).sum())))
    right.set_xlabel(style.fit(_value_label("predicted value", errors), wide))
    right.set_ylabel(style.fit(name, tall))
    sides = 0.04 * (far - near), 0.04 * (high - low)
    right.set_xlim(near - sides[0], far + sides[0])
    right.set_ylim(low - sides[1], high + sides[1])
    right.grid(True)
    _few_ticks(right, 6)
    return figure


def _draw_points(axes: Axes, x: np.ndarray, y: np.ndarray) -> PolyCollection | None:
    """Draw points, or their density where they are many; return what a colour bar explains."""
    if len(x) <= MOST_POINTS:
        size = float(np.clip(2500 / max(len(x), 1), 5, 22))
        alpha = float(np.clip(220 / max(len(x), 1), 0.25, 0.75))
        axes.scatter(x, y, s=size, color=style.VALIDATION, alpha=alpha, linewidths=0, zorder=2)
        return None
    low, high = zip(_span(x), _span(y), strict=True)
    inside = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
    return axes.hexbin(
        x[inside], y[inside], gridsize=48, mincnt=1, norm=LogNorm(vmin=1), cmap=_DENSITY,
        linewidths=0.1, zorder=2,
    )  # fmt: skip


def _draw_medians(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the median residual of equally many predictions each, as a line."""
    count = min(_BINS, len(table) // 20)
    if count < 3 or table["predicted"].nunique() < 2 * count:
        return
    bins = pd.qcut(table["predicted"], count, labels=False, duplicates="drop")
    medians = table[["predicted", "error"]].groupby(bins).median()
    axes.plot(
        medians["predicted"], medians["error"], color=style.HIGHLIGHT, linewidth=1.6, zorder=4,
        label="median",
    )  # fmt: skip


def _span(values: np.ndarray) -> tuple[float, float]:
    """Return a range to draw in, which a few values far from all others do not stretch."""
    low, high = float(values.min()), float(values.max())
    inner = np.quantile(values, [0.005, 0.995])
    spread = float(inner[1] - inner[0])
    if spread > 0 and high - low > 3 * spread:
        low, high = max(low, inner[0] - 0.5 * spread), min(high, inner[1] + 0.5 * spread)
    size = max(abs(low), abs(high))
    # Values that differ by rounding alone would have an axis of meaningless digits.
    room = 1e-9 * (high - low) if high - low > 1e-9 * size else 0.05 * (size or 1.0)
    return low - room, high + room


def _square(axes: Axes, part: pd.DataFrame) -> int:
    """Give both axes the same limits; return how many points lie outside."""
    ends = [_span(part[name].to_numpy()) for name in ("true", "predicted")]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    room = 0.04 * (high - low)
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
    values = part[["true", "predicted"]].to_numpy()
    return int(((values < low) | (values > high)).any(axis=1).sum())


def _value_label(text: str, errors: Errors) -> str:
    if errors.standardized:
        return f"{text} (standard deviations)"
    return errors.problem.with_units(text)


def _few_ticks(axes: Axes, most: int) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(most))
    if axes.get_ylabel() != "predictions":
        axes.yaxis.set_major_locator(MaxNLocator(most))


def _not_shown(count: int) -> str:
    return f"{count_text(count, 'prediction')} not shown"


def _remark(axes: Axes, text: str, left: bool = False) -> None:
    place, side = (0.015, "left") if left else (0.99, "right")
    axes.annotate(
        text, (place, 0.985), xycoords="axes fraction", ha=side, va="top", size=7.5,
        color=style.QUIET, zorder=5,
    )  # fmt: skip
