"""The learning rate finder's picture: loss against the rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxlstm.report import figure_style as style
from jaxlstm.report.text import count_text


@style.drawing()
def learning_rates(last: pd.DataFrame, suggestion: float, *, width: float = 7.0) -> Figure:
    """Draw the loss against the learning rate, on a logarithmic axis.

    Args:
        last: The last epoch: columns `rate` (ascending), `epoch`, `train_loss`, `val_loss`; NaN
            for a rate that has diverged.
        suggestion: The rate to mark; NaN for none.
        width: Inches.

    Returns:
        The figure.
    """
    rates = last["rate"].to_numpy()
    diverged = last["val_loss"].isna().to_numpy()
    if diverged.all():
        return style.statement("No learning rate", "the loss of every rate has diverged", width)
    figure = style.new_figure(width, 3.8)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for part, colour, name in (
        ("train_loss", style.TRAINING, "training"),
        ("val_loss", style.VALIDATION, "validation"),
    ):
        axes.plot(
            rates, last[part], color=colour, linewidth=1.7, marker="o", markersize=2.6, label=name
        )
    losses = last[["train_loss", "val_loss"]].to_numpy()
    # Some rates fail without diverging: their losses would flatten all others.
    start, lowest = np.nanmedian(losses[~diverged][:3]), np.nanmin(losses)
    top = min(np.nanmax(losses), start + 0.6 * max(start - lowest, 0.05 * start))
    room = 0.08 * (top - lowest) or 1.0
    axes.set_ylim(lowest - room, top + room)
    if diverged.any():
        # Half a step to the left of the rates that have.
        half = float(np.sqrt(rates[1] / rates[0]))
        for place in np.flatnonzero(diverged):
            axes.axvspan(
                rates[place] / half, rates[place] * half, color=style.EMPTY, linewidth=0,
                label="_" if place != np.flatnonzero(diverged)[0] else "diverged",
            )  # fmt: skip
    if np.isfinite(suggestion):
        axes.axvline(
            suggestion, color=style.INK, linewidth=1.0, linestyle=(0, (4, 2.2)),
            label=f"suggestion {suggestion:.2g}",
        )  # fmt: skip
    axes.set_xlim(rates[0] / 1.15, rates[-1] * 1.15)
    axes.grid(axis="y")
    axes.set_xlabel("learning rate")
    epochs = int(last["epoch"].iloc[0])
    axes.set_ylabel(f"loss after {count_text(epochs, 'epoch')}")
    figure.legend(loc="outside upper left", ncols=4, borderaxespad=0.3)
    return figure
