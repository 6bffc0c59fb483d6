"""The tables of a data set's page: counts of classes and people, sizes, identical rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd


class Sequences(Protocol):
    """What a page needs of a labelled data set: the fields of `jaxlstm.data.SequenceData`."""

    @property
    def x(self) -> np.ndarray: ...  # noqa: D102
    @property
    def y(self) -> np.ndarray: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def groups(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def lengths(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def dropped(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def skipped(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def feature_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def rate(self) -> float | None: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    def summary(self) -> pd.DataFrame: ...  # noqa: D102


Splits = Mapping[str, Sequences]


def count_classes(splits: Splits) -> pd.DataFrame:
    """Count the rows of each class in each split.

    Args:
        splits: The data by the splits' names.

    Returns:
        One line a split and class, in their order: columns `split`, `class`, `rows`, `percent`
        (of the split's rows) and, where people are known, `groups` (how many have such rows).
    """
    parts = []
    for split, data in splits.items():
        table = data.summary().iloc[:-1].reset_index()  # the last line is all classes together
        table.insert(0, "split", split)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def count_people(splits: Splits) -> pd.DataFrame | None:
    """Count the rows of each person and class.

    Args:
        splits: The data by the splits' names.

    Returns:
        One line a split, person and class that occur together: columns `split`, `group`, `class`,
        `rows`; or None where no split says who its rows are from.
    """
    parts = []
    for split, data in splits.items():
        if data.groups is None:
            continue
        names = np.asarray(data.classes, dtype=object)[data.y]
        pairs = pd.DataFrame({"split": split, "group": data.groups, "class": names})
        parts.append(pairs.value_counts(sort=False).rename("rows").reset_index())
    return pd.concat(parts, ignore_index=True) if parts else None


def people_in_several(people: pd.DataFrame) -> list[object]:
    """Return the people with rows in more than one split."""
    splits = people.groupby("group")["split"].nunique()
    return splits.index[splits > 1].tolist()


@dataclasses.dataclass(frozen=True)
class Size:
    """What a split's values take up and look like.

    Attributes:
        rows: How many there are.
        shape: Of one row, `(T, F)` or `(T,)`.
        dtype: The values' type.
        bytes: All values together.
        low: The smallest finite value; NaN without one.
        high: The largest.
        mean: Of the finite values.
        std: Their standard deviation.
        broken: Rows with a value that is NaN or infinite.
        constant: Rows whose values are all the same: a black image, silence.
        lengths: Shortest, median and longest row in steps, or None where all are full.
    """

    rows: int
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    low: float
    high: float
    mean: float
    std: float
    broken: int
    constant: int
    lengths: tuple[int, float, int] | None


def measure(data: Sequences, block: int = 4096) -> Size:
    """Measure a split's values, a block of rows at a time: copies of all would not fit twice.

    Args:
        data: One split.
        block: Rows looked at together.
    """
    low, high = np.inf, -np.inf
    broken = constant = count = 0
    mean = squares = 0.0
    for start in range(0, len(data.x), block):
        rows = data.x[start : start + block].reshape(len(data.x[start : start + block]), -1)
        constant += int((rows == rows[:, :1]).all(axis=1).sum())
        finite = np.isfinite(rows)
        broken += int((~finite.all(axis=1)).sum())
        values = rows[finite].astype(np.float64)
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            # Chan, Golub and LeVeque's update: a sum of squares would cancel.
            step = float(values.mean()) - mean
            share = values.size / (count + values.size)
            squares += float(values.var()) * values.size + step**2 * count * share
            mean += step * share
            count += values.size
    lengths = None
    if data.lengths is not None and len(data.lengths):
        lengths = (
            int(data.lengths.min()),
            float(np.median(data.lengths)),
            int(data.lengths.max()),
        )
    return Size(
        rows=len(data.x),
        shape=data.x.shape[1:],
        dtype=str(data.x.dtype),
        bytes=data.x.nbytes,
        low=low if count else np.nan,
        high=high if count else np.nan,
        mean=mean if count else np.nan,
        std=float(np.sqrt(squares / count)) if count else np.nan,
        broken=broken,
        constant=constant,
        lengths=lengths,
    )


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Identical rows, counted.

    Attributes:
        sets: How many sets of identical rows there are.
        rows: How many rows are in them.
        within: From each split to the sets with two rows or more in it.
        across: Sets with rows in more than one split.
        conflicting: Sets whose rows do not all have the same class.
    """

    sets: int
    rows: int
    within: dict[str, int]
    across: int
    conflicting: int


def count_duplicates(table: pd.DataFrame, splits: Splits) -> Duplicates:
    """Count rows that have twins."""
    sets = table.groupby("set")
    each = table.groupby(["set", "split"]).size().unstack(fill_value=0)
    return Duplicates(
        sets=len(sets),
        rows=len(table),
        within={split: int((each[split] > 1).sum()) if split in each else 0 for split in splits},
        across=int((sets["split"].nunique() > 1).sum()),
        conflicting=int((sets["class"].nunique() > 1).sum()),
    )


def choose_samples(data: Sequences, count: int, seed: int = 0) -> list[np.ndarray]:
    """Draw rows of each class to show, of different people first where people are known.

    Args:
        data: One split.
        count: Rows of each class; fewer where it has fewer.
        seed: Of the draw.

    Returns:
        From each class the rows' indices.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for label in range(len(data.classes)):
        rows = rng.permutation(np.flatnonzero(data.y == label))
        if data.groups is not None and len(rows):
            turn = pd.Series(data.groups[rows]).groupby(data.groups[rows]).cumcount()
            rows = rows[np.argsort(turn.to_numpy(), kind="stable")]
        chosen.append(rows[:count])
    return chosen


@dataclasses.dataclass(frozen=True)
class Exploration:
    """What a data set holds.

    Attributes:
        splits: The data by the splits' names.
        counts: As `count_classes` returns them.
        people: As `count_people` returns them; None where people are not known.
        sizes: Each split's.
        twins: As `jaxlstm.data.find_duplicates` returns them.
        duplicates: Those, counted.
    """

    splits: Splits
    counts: pd.DataFrame
    people: pd.DataFrame | None
    sizes: dict[str, Size]
    twins: pd.DataFrame
    duplicates: Duplicates

    @property
    def first(self) -> Sequences:
        """The first split, whose names and units are all splits'."""
        return next(iter(self.splits.values()))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, of the split that has most."""
        return max((data.classes for data in self.splits.values()), key=len)

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(size.rows for size in self.sizes.values())

    @property
    def left_out(self) -> int:
        """Rows and files that were left out of all splits."""
        return sum(sum(data.dropped.values()) for data in self.splits.values())


def explore(splits: Splits, twins: pd.DataFrame) -> Exploration:
    """Count and measure a data set.

    Args:
        splits: The data by the splits' names; one that is not split has one name, such as "all".
        twins: Its identical rows, as `jaxlstm.data.find_duplicates` returns them.

    Returns:
        The counts.

    Raises:
        ValueError: No split, or no rows in any.
    """
    if not any(len(data.x) for data in splits.values()):
        raise ValueError("there are no rows to look at.")
    return Exploration(
        splits=splits,
        counts=count_classes(splits),
        people=count_people(splits),
        sizes={split: measure(data) for split, data in splits.items()},
        twins=twins,
        duplicates=count_duplicates(twins, splits),
    )
