"""Trials: what a search is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from sklearn.model_selection import train_test_split

from jaxlstm.train import standardization
from jaxlstm.train.data import Data
from jaxlstm.train.hyperparameters import Hyperparameters
from jaxlstm.train.standardization import Standardization, Units
from jaxlstm.train.task import Task
from jaxlstm.train.trial import Rows, Structure


@dataclasses.dataclass(frozen=True)
class Network:
    """What an estimator's settings mean for one fit, whatever the rows."""

    structure: Structure  # at the network's own width, its batch a single micro-batch
    hyperparameters: Hyperparameters
    epochs: int
    holds_out: float = 0.0  # share of the training rows to monitor on
    keeps_best: bool = False  # whether it ends with the weights of its best epoch
    counts_epochs: bool = False  # whether its schedule looks at how many epochs there will be
    watches_validation: bool = False  # whether a metric of the validation rows steers it
    standardizes_targets: bool = False  # whether its task's numbers are to have their scale
    units: Units | None = None  # of its inputs; None: as given

    @property
    def batch_size(self) -> int:
        """Rows of an optimizer step."""
        return int(self.hyperparameters.batch_size)

    def standardized(self, standardization: Standardization, units: Units | None) -> Network:
        """The network with what its inputs, written in these units, are standardised by."""
        numbers = self.hyperparameters._replace(standardization=standardization)
        return dataclasses.replace(self, hyperparameters=numbers, units=units)

    def with_targets(self, scale: Standardization) -> Network:
        """The network with what its targets are standardised by."""
        numbers = {"target_mean": scale.mean, "target_scale": scale.scale}
        task = self.hyperparameters.task | numbers
        return dataclasses.replace(self, hyperparameters=self.hyperparameters._replace(task=task))

    @property
    def run_key(self) -> Any:
        """Equal for networks whose runs differ in nothing but where they end.

        A schedule that looks at the total makes every number of epochs a run of its own.
        """
        numbers = self.hyperparameters
        if not self.counts_epochs:
            numbers = numbers._replace(epochs=np.zeros_like(numbers.epochs))
        leaves = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(numbers))
        return self.structure, leaves, self.keeps_best


def fit_scales(
    network: Network, data: Data, rows: np.ndarray, units: Units | None = None
) -> Network:
    """The network with what its inputs and targets are standardised by, unless it has it.

    Args:
      network: of one trial.
      data: the data set.
      rows: the row numbers that it trains on.
      units: what the inputs are written in; None: as given.
    """
    h = network.hyperparameters
    if network.structure.standardizes and h.standardization is None:
        scale = standardization.fit(data.x, rows, data.lengths, data.weight, units)
        network = network.standardized(scale, units)
    if network.standardizes_targets and "target_scale" not in h.task:
        lengths = data.lengths if network.structure.task.per_step else None
        scale = standardization.fit(data.y, rows, lengths, data.weight)
        network = network.with_targets(scale)
    return network


@dataclasses.dataclass(frozen=True)
class Trial:
    """One fit; trials that differ in their epochs alone may share one lane of a program."""

    index: int
    cell: int  # which candidate of the search
    fold: int  # which split
    seed: int
    variant: int  # which version of the data set (a pipeline transforms it fold by fold)
    rows: int  # which of the problem's row lists
    network: Network
    params: dict[str, Any]  # the candidate as the user wrote it


@dataclasses.dataclass(frozen=True)
class Fold:
    """Row numbers of one split."""

    train: np.ndarray
    validation: np.ndarray


def hold_out(fold: Fold, strata: np.ndarray | None, fraction: float, seed: int) -> Fold:
    """Takes a share of the training rows away for monitoring, as scikit-learn does.

    Args:
      fold: a split; its own validation rows are not looked at.
      strata: labels of the whole data set whose proportions both parts keep, or None.
      fraction: share of ``fold.train``.
      seed: of the draw.

    Raises:
      ValueError: too few rows to hold any out of each class.
    """
    try:
        train, validation = train_test_split(
            fold.train,
            test_size=fraction,
            random_state=seed,
            stratify=None if strata is None else strata[fold.train],
        )
    except ValueError as error:
        both = "" if strata is None else " with every class in both parts"
        raise ValueError(
            f"validation_fraction={fraction!r} of {len(fold.train)} training rows cannot be held out"
            f"{both}: {error} Give more rows, another fraction, or 0 and validation data of your own."
        ) from error
    return Fold(train, validation)


def pad_rows(folds: Sequence[Fold], size: int) -> Rows:
    """Tables of row numbers, one row a fold: `Rows` with a leading fold axis.

    Args:
      folds: K splits.
      size: rows of the data set; every list is padded to it, so that one program serves any split.
        A longer one (a split may draw rows more than once) pads all to its own length.
    """
    train, validation = [fold.train for fold in folds], [fold.validation for fold in folds]
    size = max(size, *map(len, train), *map(len, validation))

    def table(lists: list[np.ndarray]) -> np.ndarray:
        padded = np.zeros((len(lists), size), np.int32)
        for row, numbers in zip(padded, lists, strict=True):
            row[: len(numbers)] = numbers
        return padded

    def counts(lists: list[np.ndarray]) -> np.ndarray:
        return np.asarray([len(numbers) for numbers in lists], np.int32)

    return Rows(table(train), counts(train), table(validation), counts(validation))


@dataclasses.dataclass(frozen=True)
class Problem:
    """Everything that a plan is made from: the trials and what they train on."""

    trials: Sequence[Trial]
    folds: Sequence[Fold]  # the splits, then those with rows held out
    datasets: Sequence[Data]  # one a variant

    @property
    def task(self) -> Task:
        """What the targets mean, in all trials."""
        return self.trials[0].network.structure.task
