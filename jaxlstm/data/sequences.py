"""The one type that every data set is loaded into."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from jaxlstm.data.checks import check_fields
from jaxlstm.data.summaries import summarise

Task = Literal["classification", "multilabel", "regression"]

_BY_ROW = ("x", "y", "groups", "lengths", "weight", "ids")


@dataclasses.dataclass(frozen=True)
class SequenceData:
    """Sequences with a target for each row or, with ``per_step``, for each step.

    It may stand for X in an estimator's ``fit``, in searches and in scikit-learn's splitters:
    ``data[rows]`` is the data set of these rows.

    Attributes:
      x: sequences ``[N, T, F]``, or rows ``[N, T]`` of scalars. An image is ``T`` rows of ``F``
        pixels. Steps past a row's length are padding.
      y: classification: index of each row's class, ``[N]``; multilabel: 0 or 1 for each label,
        ``[N, D]``; regression: floats ``[N]`` or ``[N, D]``. Per step: ``[N, T]`` or
        ``[N, T, D]``, with 0 at padding.
      classes: names of the classes, or of the ``D`` labels; none for regression.
      name: of the data set.
      source: where the data came from.
      groups: who each row is from (user, actor, writer), ``[N]``, or None where that is not known.
      lengths: valid steps of each row, ``[N]``, in 1..T, the rest being padding, or None where all
        are.
      dropped: how many rows or files of the source were left out, by reason.
      skipped: the files left out and why, one sentence each.
      feature_names: names of the features, ``[F]``, with their units; empty where they have none.
      rate: steps a second, in Hz, where a step is a moment in time.
      weight: how much each row counts, ``[N]``, or per step also ``[N, T]``; None: all the same.
      target_names: names of the ``D`` columns of a regression target; empty where they have none.
      per_step: whether there is a target for each step.
      label_values: the labels that ``targets`` hold where they are numbers, ``[C]``; None: they are
        ``classes``.
      step_names: names of the ``T`` steps, where a table has a column for each.
      ids: name of each row in its source, ``[N]``, where it has one.
      rows: number of each row in its source, ``[N]``, from 0; None: all of its rows, in order.

    Raises:
      ValueError: fields that do not fit together; an empty row; a target that is no class of
        ``classes``, not 0 or 1, or not finite; a negative weight, or none above 0.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    name: str
    source: str
    groups: np.ndarray | None = None
    lengths: np.ndarray | None = None
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    rate: float | None = None
    weight: np.ndarray | None = None
    target_names: tuple[str, ...] = ()
    per_step: bool = False
    label_values: np.ndarray | None = None
    step_names: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    rows: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Any) -> SequenceData:
        """Returns these rows: an index array, a mask or a slice."""
        if isinstance(rows, tuple) and len(rows) == 2 and rows[1] is Ellipsis:
            rows = rows[0]  # scikit-learn asks for X[rows, ...]
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows.astype(np.int64) if not rows.size else rows
            if rows.ndim != 1 or rows.dtype.kind not in "biu":
                raise TypeError(
                    "rows must be an array of row numbers, a mask or a slice, got"
                    f" {rows.dtype} of shape {rows.shape}."
                )
        return self.take(rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``x``."""
        return self.x.shape

    @property
    def task(self) -> Task:
        """The kind of target: "classification", "multilabel" or "regression"."""
        if not self.classes:
            return "regression"
        return "multilabel" if self.y.ndim > 1 + self.per_step else "classification"

    @property
    def sha256(self) -> str:
        """A hash of the content: rows, targets and their names, groups, lengths and weights."""
        digest = hashlib.sha256(repr(self.classes).encode())

        def add(array: np.ndarray | None) -> None:
            if array is None:
                digest.update(b"None")
                return
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

        for array in (self.x, self.y, self.groups, self.lengths):
            add(array)
        # Data without these keep the hash that they had before these existed.
        if self.weight is not None or self.target_names or self.per_step:
            add(self.weight)
            digest.update(repr((self.target_names, self.per_step)).encode())
        return digest.hexdigest()

    @property
    def labels(self) -> np.ndarray:
        """Name of each row's class, ``[N]``, or per step of each step's, ``[N, T]``."""
        if self.task != "classification":
            raise ValueError(f"{self.name} has no classes' names as targets: use targets.")
        return np.asarray(self.classes)[self.y]

    @property
    def targets(self) -> np.ndarray:
        """What an estimator's ``fit`` takes as y: labels, 0 and 1, or floats."""
        if self.task != "classification":
            return self.y
        return self.labels if self.label_values is None else self.label_values[self.y]

    def as_list(self) -> list[np.ndarray]:
        """Returns each row without its padding: ``[T_i, F]``, or ``[T_i]`` of scalars."""
        if self.lengths is None:
            return list(self.x)
        return [row[:length] for row, length in zip(self.x, self.lengths, strict=True)]

    def take(self, rows: np.ndarray | slice) -> SequenceData:
        """Returns these rows, numbers, a mask or a slice."""
        # The rows of checked data are fine, a fold whose weights are all 0 included.
        part = copy.copy(self)
        for field in _BY_ROW:
            if (array := getattr(self, field)) is not None:
                object.__setattr__(part, field, array[rows])
        numbers = np.arange(len(self)) if self.rows is None else self.rows
        object.__setattr__(part, "rows", numbers[rows])
        return part

    def split(
        self, test_size: float, by: Literal["sample", "group"] = "sample", seed: int = 0
    ) -> tuple[SequenceData, SequenceData]:
        """Splits into train and test at random.

        Args:
          test_size: share that goes to the test part, in (0, 1): of the rows, or of the groups.
          by: "sample": rows are drawn, each class in the same proportions where every row has one
            class; windows of one person that overlap may then be in both parts. "group": people are
            drawn, nobody is in both.
          seed: of the draw.

        Raises:
          ValueError: an unknown ``by``; data without groups or with one only; a class with fewer
            than two rows; a part too small to hold every class.
        """
        train, test = self.split_rows(test_size, by, seed)
        return self.take(train), self.take(test)

    def split_rows(
        self, test_size: float, by: Literal["sample", "group"] = "sample", seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The row numbers of `split`, one of a search's ``cv``; it raises what that does."""
        if not 0 < test_size < 1:
            raise ValueError(f"test_size must be in (0, 1), got {test_size}.")
        if by == "group":
            return self._split_by_group(test_size, seed)
        if by != "sample":
            raise ValueError(f"by must be 'sample' or 'group', got {by!r}.")
        stratify = self.y if self.task == "classification" and not self.per_step else None
        if stratify is not None:
            counts = np.bincount(stratify, minlength=len(self.classes))
            if counts.min() < 2:
                few = f"class {self.classes[counts.argmin()]!r} has {counts.min()} row"
                hint = ""
                if self.label_values is not None:
                    hint = " If these are numbers to predict, say that the task is regression."
                raise ValueError(
                    f"{few}: a split into train and test needs at least two of each class.{hint}"
                )
        train, test = train_test_split(
            np.arange(len(self)), test_size=test_size, random_state=seed, stratify=stratify
        )
        return train, test

    def _split_by_group(self, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if self.groups is None:
            raise ValueError(f"{self.name} does not say who its rows are from: split by='sample'.")
        if len(np.unique(self.groups)) < 2:
            raise ValueError(
                f"{self.name} has one group only, {self.groups[:1]}: split by='sample'."
            )
        splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
        train, test = next(splitter.split(self.x, self.y, self.groups))
        return train, test

    def summary(self) -> pd.DataFrame:
        """Counts the rows of each class, or measures each numeric target.

        Returns:
          Classification and multilabel: a line for each class or label and one for all, with the
          columns ``rows``, ``percent`` and, where groups are known, ``groups``: how many people
          have rows of the class. Per step: ``steps``, ``percent`` (of the steps), ``rows`` (those
          with such a step) and ``groups``. Regression: a line for each target with the columns
          ``rows``, per step also ``steps``, ``mean``, ``std`` (the root of the mean squared
          distance from the mean), ``min`` and ``max``. Padding counts nowhere.
        """
        return summarise(self)
