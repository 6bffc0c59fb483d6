"""What a study trains: searches with names, and what one is when it has run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxlstm.data import SequenceData
from jaxlstm.grid.base import LaneSearch
from jaxlstm.grid.describe import human_seconds
from jaxlstm.grid.search import GridSearch

Split = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One search of a study.

    Attributes:
      name: a word, unique in the study.
      title: what it trains.
      search: not fitted; its splits, if fixed, number rows of ``data``.
      data: what it is fitted on.
      cells: names of its cells, in order, where they have some.
    """

    name: str
    title: str
    search: LaneSearch
    data: SequenceData
    cells: tuple[str, ...] = ()

    @classmethod
    def of_settings(
        cls,
        name: str,
        title: str,
        estimator: Any,
        cells: Mapping[str, Mapping[str, Any]],
        data: SequenceData,
        splits: Sequence[Split],
        *,
        seeds: int,
        seed: int,
        keep: bool = True,
        **settings: Any,
    ) -> Part:
        """Named settings, each trained on fixed splits with several seeds.

        Args:
          name: a word.
          title: what it trains.
          estimator: what all have in common.
          cells: parameters of each by its name.
          data: all rows.
          splits: row numbers of train and test, as often as there are splits.
          seeds: lanes of each that differ in their seed alone.
          seed: of the first.
          keep: whether to keep the trained models, for predictions.
          **settings: of the `GridSearch`.
        """
        search = GridSearch(
            estimator,
            [{key: [value] for key, value in params.items()} for params in cells.values()],
            cv=list(splits),
            n_seeds=seeds,
            random_state=seed,
            refit=False,
            return_estimator=keep,
            **settings,
        )
        return cls(name, title, search, data, tuple(cells))


class Score(NamedTuple):
    """A mean over fits, its standard deviation and their number."""

    mean: float
    std: float
    fits: int

    @classmethod
    def of(cls, values: Any) -> Score:
        """Of numbers, one a fit; those of fits that diverged, NaN, are left out."""
        values = np.asarray(list(values), float)
        values = values[np.isfinite(values)] if np.isfinite(values).any() else values
        return cls(float(values.mean()), float(values.std()), len(values))


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A part that has run.

    Attributes:
      part: what it was.
      search: fitted.
      seconds: wall clock of its training, compilation included, all sittings together.
      is_whole: False where a sitting was killed, whose seconds nobody has counted.
      code: versions of the code that trained it.
      plan: what was planned, a row for a table.
    """

    part: Part
    search: Any
    seconds: float
    is_whole: bool
    code: str
    plan: Mapping[str, Any]

    @property
    def results(self) -> pd.DataFrame:
        """One row a fit, see `GridSearch`."""
        table: pd.DataFrame = self.search.results_
        return table

    @property
    def curves(self) -> pd.DataFrame:
        """One row a fit and epoch."""
        table: pd.DataFrame = self.search.curves_
        return table

    def cell(self, name: str) -> int:
        """Number of a named cell."""
        return self.part.cells.index(name)

    def fits(self, cell: str | int | None = None, fold: int | None = None) -> pd.DataFrame:
        """Rows of `results` of a cell, a split."""
        table = self.results
        if cell is not None:
            table = table[table["cell"] == (self.cell(cell) if isinstance(cell, str) else cell)]
        return table if fold is None else table[table["fold"] == fold]

    def score(
        self, cell: str | int | None = None, fold: int | None = None, column: str = "score"
    ) -> Score:
        """Mean and deviation of a column over a cell's fits."""
        return Score.of(self.fits(cell, fold)[column])

    def models(self, cell: str | int, fold: int = 0) -> list[Any]:
        """The trained models of a cell on a split, one a seed; a fit that diverged has none.

        Raises:
          ValueError: all have diverged.
        """
        models = [self.search.estimators_[trial] for trial in self.fits(cell, fold).index]
        models = [model for model in models if model is not None]
        if not models:
            raise ValueError(f"every fit of {self.part.title}: {cell!r} has diverged.")
        return models

    def rows(self, fold: int = 0) -> Split:
        """Row numbers of train and test."""
        split: Split = self.search.cv[fold]
        return split

    def test(self, fold: int = 0) -> SequenceData:
        """The rows that a split's fits were not trained on."""
        return self.part.data.take(self.rows(fold)[1])

    def by_cell(self) -> pd.DataFrame:
        """A row a cell: its parameters, mean and deviation of its score, epochs, seconds of a fit."""
        table = self.results
        parameters = [name for name in map(str, table) if name.startswith("param_")]
        cells = table.groupby("cell", sort=True)
        found = cells[parameters].first()
        found.columns = [name.removeprefix("param_") for name in parameters]
        found["mean"] = cells["score"].mean()
        found["std"] = cells["score"].std(ddof=0)
        found["seconds a fit"] = cells["fit_seconds"].mean()
        return found.reset_index(drop=True)

    @property
    def time(self) -> str:
        """How long it took, in words."""
        return ("" if self.is_whole else "more than ") + human_seconds(self.seconds)
