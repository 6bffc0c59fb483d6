"""The one type that every data set is loaded into."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split


@dataclasses.dataclass(frozen=True)
class SequenceData:
    """Labelled sequences.

    Attributes:
      x: sequences ``[N, T, F]``, or rows ``[N, T]`` of scalars. An image is ``T`` rows of ``F``
        pixels.
      y: index of each row's class, ``[N]``.
      classes: names of the classes.
      name: of the data set.
      source: where the data came from.
      groups: who each row is from (user, actor, writer), ``[N]``, or None where that is not known.
      lengths: valid steps of each row, ``[N]``, the rest being padding, or None where all are.
      dropped: how many rows or files of the source were left out, by reason.
      skipped: the files left out and why, one sentence each.
      feature_names: names of the features, ``[F]``, with their units; empty where they have none.
      rate: steps a second, in Hz, where a step is a moment in time.
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

    def __post_init__(self) -> None:
        for field in ("y", "groups", "lengths"):
            array = getattr(self, field)
            if array is not None and array.shape != self.x.shape[:1]:
                raise ValueError(
                    f"{field} must have one entry for each of the {len(self.x)} rows of x, got"
                    f" shape {array.shape}."
                )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def sha256(self) -> str:
        """A hash of the content: rows, labels, classes' names, groups and lengths."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for array in (self.x, self.y, self.groups, self.lengths):
            if array is None:
                digest.update(b"None")
                continue
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @property
    def labels(self) -> np.ndarray:
        """Name of each row's class, ``[N]``."""
        return np.asarray(self.classes)[self.y]

    def take(self, rows: np.ndarray) -> SequenceData:
        """Returns these rows."""
        parts: dict[str, Any] = {
            field: None if (array := getattr(self, field)) is None else array[rows]
            for field in ("x", "y", "groups", "lengths")
        }
        return dataclasses.replace(self, **parts)

    def split(
        self, test_size: float, by: Literal["sample", "group"] = "sample", seed: int = 0
    ) -> tuple[SequenceData, SequenceData]:
        """Splits into train and test at random.

        Args:
          test_size: share that goes to the test part, in (0, 1): of the rows, or of the groups.
          by: "sample": rows are drawn, each class in the same proportions; windows of one person
            that overlap may then be in both parts. "group": people are drawn, nobody is in both.
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
        counts = np.bincount(self.y, minlength=len(self.classes))
        if counts.min() < 2:
            raise ValueError(
                f"class {self.classes[counts.argmin()]!r} has {counts.min()} row: a split into train"
                " and test needs at least two of each class."
            )
        train, test = train_test_split(
            np.arange(len(self)), test_size=test_size, random_state=seed, stratify=self.y
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
        """Rows and their share of each class, a line a class and one for all.

        Returns:
          A table with the columns ``rows``, ``percent`` and, where groups are known, ``groups``:
          how many people have rows of the class.
        """
        counts = np.bincount(self.y, minlength=len(self.classes))
        table = pd.DataFrame({"rows": counts}, index=pd.Index(self.classes, name="class"))
        if self.groups is not None:
            table["groups"] = [
                len(np.unique(self.groups[self.y == label])) for label in range(len(self.classes))
            ]
        table.loc["all"] = [
            len(self),
            *([] if self.groups is None else [len(np.unique(self.groups))]),
        ]
        table.insert(1, "percent", 100 * table["rows"] / max(1, len(self)))
        return table
