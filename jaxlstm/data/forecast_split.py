"""Folds in time order that show training nothing of what they test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import TimeSeriesSplit

from jaxlstm.data.forecast import ForecastWindows


@dataclasses.dataclass(frozen=True, repr=False)
class ForecastSplit:
    """Folds of forecast windows in time order, for ``cv`` of a search or of scikit-learn.

    The distinct times of the windows' first forecast steps are cut by scikit-learn's
    ``TimeSeriesSplit``. A fold tests on all windows, of whichever series, whose first forecast step
    is in its part, and trains on those whose last forecast step is earlier than every first
    forecast step it tests on. So no value that a fold must forecast is in one of its training
    windows, neither as input nor as target, whatever the stride, and with several series no
    training window is of a later time than a tested one.

    Attributes:
      windows: that will be split, all of them and in this order.
      n_splits: folds.
      test_size: distinct first forecast steps in each test part; by default as TimeSeriesSplit's.
      gap: steps to leave out between the last value trained on and the first one tested.
      max_train_size: at most so many of the latest distinct first forecast steps to train on.

    Raises:
      ValueError: a number outside its range, too few windows, or a fold without training windows.
    """

    windows: dataclasses.InitVar[ForecastWindows]
    n_splits: int = 5
    test_size: int | None = None
    gap: int = 0
    max_train_size: int | None = None
    starts: np.ndarray = dataclasses.field(init=False)  # first forecast step of each window, [N]
    ends: np.ndarray = dataclasses.field(init=False)  # last forecast step of each window, [N]

    def __post_init__(self, windows: ForecastWindows) -> None:
        if self.gap < 0:
            raise ValueError(f"gap must not be negative, got {self.gap}.")
        if self.max_train_size is not None and self.max_train_size < 1:
            raise ValueError(f"max_train_size must be at least 1, got {self.max_train_size}.")
        object.__setattr__(self, "starts", windows.first_times)
        object.__setattr__(self, "ends", windows.last_times)
        for number, (train, _) in enumerate(self.split()):
            if not len(train):
                raise ValueError(
                    f"fold {number} has no training windows that end before its test part: use"
                    " fewer folds, a smaller test_size or a shorter horizon."
                )

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("n_splits", "test_size", "gap", "max_train_size")
        )
        return f"ForecastSplit({len(self.starts)} windows, {settings})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Returns the number of folds."""
        return self.n_splits

    def split(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the row numbers of each fold's training and test windows.

        Args:
          X: the windows; only their number is looked at.
          y: not used.
          groups: not used.

        Raises:
          ValueError: another number of rows than there are windows.
        """
        rows = len(self.starts) if X is None else X.shape[0] if hasattr(X, "shape") else len(X)
        if rows != len(self.starts):
            raise ValueError(
                f"ForecastSplit was made for {len(self.starts)} windows, X has {rows} rows: make it"
                " of the windows that are split."
            )
        moments = np.unique(self.starts)
        folds = TimeSeriesSplit(self.n_splits, test_size=self.test_size).split(moments)
        for _, tested in folds:
            first, last = moments[tested[0]], moments[tested[-1]]
            test = (self.starts >= first) & (self.starts <= last)
            train = self.ends < first - self.gap
            if self.max_train_size is not None and train.any():
                latest = np.unique(self.starts[train])[-self.max_train_size :]
                train &= self.starts >= latest[0]
            yield np.flatnonzero(train), np.flatnonzero(test)
