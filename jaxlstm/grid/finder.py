"""Which learning rates work: many constant ones, each a lane of its own."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from jaxlstm.estimators.inputs import targets_of
from jaxlstm.grid.pipelines import estimator_of, prefix_of
from jaxlstm.grid.search import GridSearch
from jaxlstm.train.hyperparameters import NUMBERS, check_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How much higher than the lowest loss that of the suggested rate may be.
TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """What came of each learning rate.

    Attributes:
      table: one row a rate and epoch: ``rate``, ``epoch``, ``train_loss``, ``val_loss`` and the
        task's metrics (``val_accuracy``, or ``val_mse`` and ``val_mae``), NaN from the epoch on in
        which the loss was no longer finite.
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
        from jaxlstm.report import figure_rates, figure_style  # Matplotlib, which is slow to import

        figure = figure_rates.learning_rates(self.last, self.suggestion, width=width)
        if path is not None:
            Path(path).write_bytes(figure_style.figure_bytes(figure, kind))
        return figure

    @property
    def last(self) -> pd.DataFrame:
        """The last epoch, one row a rate, the smallest first."""
        return self.table[self.table["epoch"] == self.table["epoch"].max()].reset_index(drop=True)


def find_learning_rate(
    estimator: Any,
    X: Any,
    y: Any = None,
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
      estimator: an `LSTMClassifier`, `LSTMRegressor`, `FlaxClassifier` or `FlaxRegressor`, or a
        Pipeline that ends in one.
      X: rows, as for `GridSearch.fit`.
      y: their targets; None for those of a `jaxlstm.data.SequenceData`.
      low: smallest rate.
      high: largest rate.
      n: how many rates, at equal ratios.
      epochs: for which each trains.
      validation_fraction: share of the rows that the validation loss is computed on, stratified
        where a row has one label.
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
    y = targets_of(X, y)
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
    estimator_of(estimator)
    name = prefix_of(estimator)
    settings = {
        "schedule": "constant",
        "warmup_epochs": 0,
        "early_stopping": False,
        "restore_best_weights": False,
        "epochs": int(epochs),
    }
    plain = clone(estimator).set_params(**{name + key: value for key, value in settings.items()})
    rates = np.geomspace(low, high, int(n)).tolist()
    per_step = estimator_of(estimator).return_sequences
    is_stratified = is_classifier(estimator) and not per_step and np.ndim(y) == 1
    splitter: Any = StratifiedShuffleSplit if is_stratified else ShuffleSplit
    search = GridSearch(
        plain,
        {f"{name}learning_rate": rates},
        cv=splitter(1, test_size=float(validation_fraction), random_state=random_state),
        refit=False,
        random_state=random_state,
        layout=layout,
        n_jobs=n_jobs,
    )
    with warnings.catch_warnings():
        # The table shows it.
        warnings.simplefilter("ignore", FitFailedWarning)
        warnings.filterwarnings("ignore", message="One or more of the test scores are non-finite")
        search.fit(X, y)
    table = _table(search.curves_, rates, int(epochs))
    return LearningRates(table, suggested(table))


def _table(curves: pd.DataFrame, rates: list[float], epochs: int) -> pd.DataFrame:
    columns = ["train_loss", *(name for name in map(str, curves) if name.startswith("val_"))]
    every = pd.MultiIndex.from_product([range(len(rates)), range(1, epochs + 1)])
    table = curves.set_index(["cell", "epoch"])[columns].reindex(every)
    # What comes after a loss that is not finite means nothing, its metrics included.
    is_finite = pd.Series(np.isfinite(table[["train_loss", "val_loss"]]).all(axis=1), table.index)
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
