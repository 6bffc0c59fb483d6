"""The one type that every data set is loaded into."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from sklearn.model_selection import train_test_split


@dataclasses.dataclass(frozen=True)
class SequenceData:
    """Labelled sequences.

    Attributes:
      x: sequences ``[N, T, F]``, or rows ``[N, T]`` of scalars.
      y: index of each row's class, ``[N]``.
      classes: names of the classes.
      name: of the data set.
      source: where the data came from.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    name: str
    source: str

    def __len__(self) -> int:
        return len(self.y)

    @property
    def sha256(self) -> str:
        """A hash of the rows, the labels and the classes' names."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for array in (self.x, self.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def take(self, rows: np.ndarray) -> SequenceData:
        """Returns these rows."""
        return dataclasses.replace(self, x=self.x[rows], y=self.y[rows])

    def split(self, test_size: float, seed: int) -> tuple[SequenceData, SequenceData]:
        """Splits into train and test at random, each class in the same proportions.

        Args:
          test_size: share of the rows that go to the test part, in (0, 1).
          seed: of the draw.

        Raises:
          ValueError: a class with fewer than two rows, or a part too small to hold every class.
        """
        counts = np.bincount(self.y, minlength=len(self.classes))
        if counts.min() < 2:
            raise ValueError(
                f"class {self.classes[counts.argmin()]!r} has {counts.min()} row: a split into train"
                " and test needs at least two of each class."
            )
        train, test = train_test_split(
            np.arange(len(self)), test_size=test_size, random_state=seed, stratify=self.y
        )
        return self.take(train), self.take(test)
