"""The tables of a data set's page: counts of classes and people, sizes, identical rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from jaxlstm.report.sequences import Sequences, Splits, valid_steps
from jaxlstm.report.target_tables import measure_targets, of_each
from jaxlstm.report.text import number_text


def count_classes(splits: Splits) -> pd.DataFrame:
    """Count the rows of each class in each split.

    Args:
        splits: The data by the splits' names.

    Returns:
        One line a split and class, in their order: columns `split`, `class`, `rows`, `percent`
        (of the split's rows) and, where people are known, `groups` (how many have such rows).
        With a target for each step `steps` and `percent` of the steps come before `rows`.
    """
    # The last line is all classes together.
    return of_each(splits, {split: data.summary().iloc[:-1] for split, data in splits.items()})


def count_people(splits: Splits) -> pd.DataFrame | None:
    """Count the rows of each person and class.

    Args:
        splits: The data by the splits' names.

    Returns:
        One line a split, person and class that occur together: columns `split`, `group`, `class`
        ("all rows" of data without one class per row), `rows`; or None where no split says who its
        rows are from.
    """
    parts = []
    for split, data in splits.items():
        if data.groups is None:
            continue
        names: str | np.ndarray = "all rows"
        if data.task == "classification" and not data.per_step:
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
        low: The smallest finite value; NaN without one. Padding counts nowhere.
        high: The largest.
        mean: Of the finite values.
        std: Their standard deviation.
        broken: Rows with a value that is NaN or infinite.
        constant: Rows whose values are all the same: a black image, silence.
        lengths: Shortest, median and longest row in steps, or None where all are full.
        weights: The smallest and the largest weight, or None where all rows count the same.
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
    weights: tuple[float, float] | None = None


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
        part = data.x[start : start + block]
        rows = part.reshape(len(part), -1)
        valid = np.ones(rows.shape, bool)
        if data.lengths is not None:
            steps = np.arange(part.shape[1]) < data.lengths[start : start + block, None]
            valid = np.repeat(steps, rows.shape[1] // part.shape[1], axis=1)
        constant += int(((rows == rows[:, :1]) | ~valid).all(axis=1).sum())
        finite = np.isfinite(rows)
        broken += int((~finite & valid).any(axis=1).sum())
        values = rows[finite & valid].astype(np.float64)
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
        weights=(
            None
            if data.weight is None or not data.weight.size
            else (float(_weights(data.weight, data).min()), float(data.weight.max()))
        ),
    )


def _weights(weight: np.ndarray, data: Sequences) -> np.ndarray:
    return weight[valid_steps(data)] if weight.ndim == 2 else weight


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Identical rows, counted.

    Attributes:
        sets: How many sets of identical rows there are.
        rows: How many rows are in them.
        within: From each split to the sets with two rows or more in it.
        across: Sets with rows in more than one split.
        conflicting: Sets whose rows do not all have the same class, or targets.
    """

    sets: int
    rows: int
    within: dict[str, int]
    across: int
    conflicting: int


def count_duplicates(table: pd.DataFrame, splits: Splits) -> Duplicates:
    """Count rows that have twins."""
    sets = table.groupby("set")
    target = "class" if "class" in table else "target"
    each = table.groupby(["set", "split"]).size().unstack(fill_value=0)
    return Duplicates(
        sets=len(sets),
        rows=len(table),
        within={split: int((each[split] > 1).sum()) if split in each else 0 for split in splits},
        across=int((sets["split"].nunique() > 1).sum()),
        conflicting=int((sets[target].nunique() > 1).sum()),
    )


def sample_groups(data: Sequences) -> list[tuple[str, np.ndarray]]:
    """Sort rows into those that samples are drawn from.

    Args:
        data: One split.

    Returns:
        Names and rows: of each class or label; of the lowest, middle and highest third of a
        single number; else of all rows together.
    """
    if data.per_step or (data.task == "regression" and data.y.ndim > 1):
        return [("any row", np.arange(len(data.y)))]
    if data.task == "regression":
        thirds = [
            rows for rows in np.array_split(np.argsort(data.y, kind="stable"), 3) if len(rows)
        ]
        name = data.summary().index[0]
        return [
            (
                f"{name} {number_text(float(data.y[rows[0]]))} to"
                f" {number_text(float(data.y[rows[-1]]))}",
                np.sort(rows),
            )
            for rows in thirds
        ]
    held = data.y != 0 if data.y.ndim > 1 else data.y[:, None] == np.arange(len(data.classes))
    return [(name, np.flatnonzero(own)) for name, own in zip(data.classes, held.T, strict=True)]


def choose_samples(data: Sequences, count: int, seed: int = 0) -> list[np.ndarray]:
    """Draw rows to show, of different people first where people are known.

    Args:
        data: One split.
        count: Rows of each of its `sample_groups`; fewer where one has fewer.
        seed: Of the draw.

    Returns:
        From each of the groups the rows' indices.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for _, own in sample_groups(data):
        rows = rng.permutation(own)
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
        counts: As `count_classes` returns them; None where targets are numbers.
        targets: As `measure_targets` returns them; None where targets are classes or labels.
        people: As `count_people` returns them; None where people are not known.
        sizes: Each split's.
        twins: As `jaxlstm.data.find_duplicates` returns them.
        duplicates: Those, counted.
    """

    splits: Splits
    counts: pd.DataFrame | None
    targets: pd.DataFrame | None
    people: pd.DataFrame | None
    sizes: dict[str, Size]
    twins: pd.DataFrame
    duplicates: Duplicates

    @property
    def first(self) -> Sequences:
        """The first split, whose names and units are all splits'."""
        return next(iter(self.splits.values()))

    @property
    def unit(self) -> str:
        """What has a target of its own: "rows" or "steps"."""
        return "steps" if self.first.per_step else "rows"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, of the split that has most; none where targets are numbers."""
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
        ValueError: No split, no rows in any, or splits with targets of different kinds.
    """
    if not any(len(data.x) for data in splits.values()):
        raise ValueError("there are no rows to look at.")
    kinds = {(data.task, data.per_step) for data in splits.values()}
    if len(kinds) > 1:
        raise ValueError(
            "the splits must have targets of the same kind, got "
            + ", ".join(f"{data.task} in {split}" for split, data in splits.items())
            + "."
        )
    numbers = kinds.pop()[0] == "regression"
    return Exploration(
        splits=splits,
        counts=None if numbers else count_classes(splits),
        targets=measure_targets(splits) if numbers else None,
        people=count_people(splits),
        sizes={split: measure(data) for split, data in splits.items()},
        twins=twins,
        duplicates=count_duplicates(twins, splits),
    )
