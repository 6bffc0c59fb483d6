"""Which learning rates work: many constant ones, each a lane of its own."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline

from jaxlstm.grid.prepare import classifier_of
from jaxlstm.grid.search import GridSearch
from jaxlstm.report import figure_style as style
from jaxlstm.report.text import count_text
from jaxlstm.train.hyperparameters import NUMBERS, check_number

#: How much higher than the lowest loss that of the suggested rate may be.
TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """What came of each learning rate.

    Attributes:
      table: one row a rate and epoch: ``rate``, ``epoch``, ``train_loss``, ``val_loss`` and
        ``val_accuracy``, NaN from the epoch on in which the loss was no longer finite.
      suggestion: the largest rate whose loss is near the lowest; NaN if all have diverged. See
        `find_learning_rate`.
    """

    table: pd.DataFrame
    suggestion: float

    def plot(self, path: str | os.PathLike[str] | None = None, *, width: float = 7.0) -> Figure:
        """Draws the loss of the last epoch against the rate.

        Args:
          path: where to save it, as PNG or SVG by its suffix.
          width: inches.

        Raises:
          ValueError: another suffix.
        """
        kind = "" if path is None else Path(path).suffix.lower().removeprefix(".")
        if path is not None and kind not in ("png", "svg"):
            raise ValueError(f"path must end in .png or .svg, got {os.fspath(path)!r}.")
        figure = _draw(self.last, self.suggestion, width)
        if path is not None:
            Path(path).write_bytes(style.figure_bytes(figure, kind))
        return figure

    @property
    def last(self) -> pd.DataFrame:
        """The last epoch, one row a rate, the smallest first."""
        return self.table[self.table["epoch"] == self.table["epoch"].max()].reset_index(drop=True)


def find_learning_rate(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    n: int = 64,
    epochs: int = 3,
    validation_fraction: float = 0.2,
    random_state: Any = None,
    layout: str = "auto",
    n_jobs: int | None = None,
) -> LearningRates:
    """Trains with constant learning rates from low to high, all at once.

    All rates begin with the same weights and see the same rows in the same order. Warm-up, schedule and
    early stopping of the estimator are off.

    The suggestion is the largest rate whose validation loss after the last epoch is at most 5 % above
    the lowest, after each loss was replaced by the median of its own and its two neighbours' (a
    diverged one counts as infinite), so that one lucky rate at the edge does not decide. The largest,
    because the best rate is usually close to the largest that does not diverge (Bengio, "Practical
    recommendations for gradient-based training of deep architectures", arXiv:1206.5533, section
    3.1.1). Smith's range test (arXiv:1506.01186) raises the rate within one run instead, where each
    rate inherits what those before it have done to the weights.

    Args:
      estimator: an `LSTMClassifier`, a `FlaxClassifier`, or a Pipeline that ends in one.
      X: rows ``[N, ...]``.
      y: labels ``[N]``.
      low: smallest rate.
      high: largest rate.
      n: how many rates, at equal ratios.
      epochs: for which each trains.
      validation_fraction: share of the rows that the validation loss is computed on, stratified.
      random_state: seed of the split, and of an estimator that has none of its own.
      layout: see `GridSearch`.
      n_jobs: see `GridSearch`.

    Raises:
      TypeError, ValueError: a bad parameter or bad data.

    Example:
      >>> import numpy as np
      >>> from jaxlstm import LSTMClassifier
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = np.where(X[:, :, 0].sum(1) > 0, "up", "down")
      >>> rates = find_learning_rate(LSTMClassifier(units=8), X, y, low=1e-5, n=6, random_state=0)
      >>> 1e-3 < rates.suggestion < 1
      True
    """
    for name, value in (("low", low), ("high", high)):
        check_number(name, value, NUMBERS["learning_rate"])
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value!r}.")
    if not low < high:
        raise ValueError(f"low must be less than high, got low={low!r} and high={high!r}.")
    check_number("n", n, NUMBERS["epochs"])
    if n < 2:
        raise ValueError(f"n must be 2 or more, got {n!r}.")
    check_number("epochs", epochs, NUMBERS["epochs"])
    if isinstance(validation_fraction, str) or not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction must be between 0 and 1, got {validation_fraction!r}."
        )
    classifier_of(estimator)
    name = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    settings = {
        "schedule": "constant",
        "warmup_epochs": 0,
        "early_stopping": False,
        "restore_best_weights": False,
        "epochs": int(epochs),
    }
    plain = clone(estimator).set_params(**{name + key: value for key, value in settings.items()})
    rates = np.geomspace(low, high, int(n)).tolist()
    search = GridSearch(
        plain,
        {f"{name}learning_rate": rates},
        cv=StratifiedShuffleSplit(
            1, test_size=float(validation_fraction), random_state=random_state
        ),
        refit=False,
        random_state=random_state,
        layout=layout,
        n_jobs=n_jobs,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)  # the table shows it
        search.fit(X, y)
    table = _table(search.curves_, rates, int(epochs))
    return LearningRates(table, suggested(table))


def _table(curves: pd.DataFrame, rates: list[float], epochs: int) -> pd.DataFrame:
    columns = ["train_loss", "val_loss", "val_accuracy"]
    every = pd.MultiIndex.from_product([range(len(rates)), range(1, epochs + 1)])
    table = curves.set_index(["cell", "epoch"])[columns].reindex(every)
    # What comes after a loss that is not finite means nothing, its accuracy included.
    is_finite = np.isfinite(table[["train_loss", "val_loss"]]).all(axis=1)
    alive = is_finite.groupby(level=0).cummin()
    table[~alive] = np.nan
    places, numbers = zip(*every, strict=True)
    table.insert(0, "rate", [rates[place] for place in places])
    table.insert(1, "epoch", numbers)
    return table.reset_index(drop=True)


def suggested(table: pd.DataFrame) -> float:
    """The rate that `find_learning_rate` suggests for a table of its kind."""
    last = table[table["epoch"] == table["epoch"].max()]
    losses = last["val_loss"].fillna(np.inf).to_numpy()
    around = np.concatenate([losses[:1], losses, losses[-1:]])
    smooth = np.median([around[:-2], around[1:-1], around[2:]], axis=0)
    smooth[np.isinf(losses)] = np.inf
    if not np.isfinite(smooth).any():
        smooth = losses
    if not np.isfinite(smooth).any():
        return float("nan")
    near = np.isfinite(smooth) & (smooth <= smooth.min() * (1 + TOLERANCE))
    return float(last["rate"].to_numpy()[near].max())


@style.drawing()
def _draw(last: pd.DataFrame, suggestion: float, width: float) -> Figure:
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
