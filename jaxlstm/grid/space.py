"""Trials: what a search is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlstm.train.hyperparameters import Hyperparameters
from jaxlstm.train.trial import Data, Rows, Structure


@dataclasses.dataclass(frozen=True)
class Network:
    """What an estimator's settings mean for one fit, whatever the rows."""

    structure: Structure
    hyperparameters: Hyperparameters
    epochs: int


@dataclasses.dataclass(frozen=True)
class Trial:
    """One fit: one lane of a program."""

    index: int
    cell: int  # which candidate of the search
    fold: int  # which split
    seed: int
    variant: int  # which version of the data set (a pipeline transforms it fold by fold)
    network: Network
    params: dict[str, Any]  # the candidate as the user wrote it


@dataclasses.dataclass(frozen=True)
class Fold:
    """Row numbers of one split."""

    train: np.ndarray
    validation: np.ndarray


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
    folds: Sequence[Fold]
    datasets: Sequence[Data]  # one a variant
