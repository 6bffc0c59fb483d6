"""The tables of the report, computed from a run's rows: cells by rank, classes, confusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxlstm.report.text import exact_text, shorten, sort_values

PREFIX = "param_"


def rank_cells(results: pd.DataFrame) -> pd.DataFrame:
    """Average the trials of each cell and rank the cells, best first.

    As in scikit-learn a cell's mean is NaN as soon as one of its scores is not finite: a mean
    over the folds that happened to work does not compare with the others'. Equal means keep
    the order of the grid.

    Args:
        results: A run's results, one row a trial.

    Returns:
        One row a cell, columns `cell`, the `param_` columns, `mean`, `std` (over folds and
        seeds, divided by their number), `fits`, `failed`, `epochs` (mean), `scores` (a dict of
        each fold's mean score over its seeds).
    """
    parameters = parameter_columns(results)
    rows = []
    cells: Any = results.groupby("cell", sort=True)
    for cell, trials in cells:
        scores = trials["score"].to_numpy(dtype=float)
        row: dict[str, Any] = {"cell": int(cell)}
        row.update({name: trials[name].iloc[0] for name in parameters})
        finite = np.isfinite(scores).all()
        row["mean"] = float(scores.mean()) if finite else np.nan
        row["std"] = float(scores.std()) if finite else np.nan
        row["fits"] = len(trials)
        row["failed"] = int((trials["status"] != "ok").sum())
        row["epochs"] = float(trials["epochs"].mean())
        row["scores"] = {
            int(fold): float(part["score"].mean()) for fold, part in trials.groupby("fold")
        }
        rows.append(row)
    columns = ["cell", *parameters, "mean", "std", "fits", "failed", "epochs", "scores"]
    table = pd.DataFrame(rows, columns=columns)
    order = np.argsort(-table["mean"].to_numpy(dtype=float), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def best_cell(results: pd.DataFrame, claimed: Any = None) -> int | None:
    """Return the winning cell: the search's own claim, else the best mean score, else None.

    Args:
        results: A run's results, one row a trial.
        claimed: The cell which the search calls its best, if it says so.

    Returns:
        The cell's index, or None where no cell has a finite mean score.
    """
    if claimed is not None and int(claimed) in set(results["cell"]):
        return int(claimed)
    cells = rank_cells(results)
    finite = cells[np.isfinite(cells["mean"].to_numpy(dtype=float))]
    return int(finite["cell"].iloc[0]) if len(finite) else None


def score_range(scores: np.ndarray) -> tuple[float, float, bool]:
    """Return a range to draw scores in, which a few far below all others do not stretch.

    Args:
        scores: Scores, of which at least one is finite.

    Returns:
        The lower and the upper end, never equal, and whether scores lie below the lower end.
    """
    scores = scores[np.isfinite(scores)]
    low, quarter, high = float(scores.min()), float(np.quantile(scores, 0.25)), float(scores.max())
    fence = quarter - 1.5 * (high - quarter)
    cut = low < fence
    if cut:
        low = float(scores[scores >= fence].min())
    if high - low < 1e-12 * max(abs(high), 1.0):
        room = 0.005 * max(abs(high), 1.0)
        low, high = low - room, high + room
    return low, high, cut


def parameter_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that hold hyperparameters."""
    return [name for name in table.columns if str(name).startswith(PREFIX)]


def parameter_values(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return each hyperparameter's distinct values, sorted, as their exact text.

    Args:
        table: A table with `param_` columns and, for the order of the user's grid, `cell`.

    Returns:
        From column name to the values' texts; a parameter with one text does not vary.
    """
    table = table.sort_values("cell", kind="stable")
    values = {}
    for name in parameter_columns(table):
        distinct = {exact_text(value): value for value in table[name]}
        values[name] = [exact_text(value) for value in sort_values(distinct.values())]
    return values


def independent_parameters(
    table: pd.DataFrame, values: dict[str, list[str]]
) -> dict[str, tuple[str, ...]]:
    """Group hyperparameters that always change together, such as two widths set as one.

    Args:
        table: A table with `param_` columns.
        values: The parameters to look at, with their values' texts.

    Returns:
        From the parameter that says most, the one with the longest values, to those tied to it.
    """
    texts = {name: table[name].map(exact_text).to_numpy() for name in values}
    groups: list[list[str]] = []
    for name, own in texts.items():
        for group in groups:
            pairs = len(set(zip(own, texts[group[0]], strict=True)))
            if pairs == len(values[name]) == len(values[group[0]]):
                group.append(name)
                break
        else:
            groups.append([name])
    tied = {}
    for group in groups:
        first, *rest = sorted(group, key=lambda name: -max(map(len, values[name])))
        tied[first] = tuple(rest)
    return tied


@dataclasses.dataclass(frozen=True)
class Confusion:
    """True against predicted classes of the held-out rows.

    Attributes:
        classes: The classes' names, `C` of them.
        counts: `[C, C]` integers, true class by row, predicted class by column.
    """

    classes: list[str]
    counts: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """The counts over their row's sum, `[C, C]`; a class without rows has zeros."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return self.counts / np.maximum(totals, 1)


def count_confusion(
    true: Sequence[Any], predicted: Sequence[Any], classes: Sequence[Any] | None = None
) -> Confusion:
    """Count how often each class was taken for each.

    Args:
        true: The true labels: the classes' names or their indices.
        predicted: The predicted labels, likewise.
        classes: The classes' names, in order; by default the labels that occur, sorted.

    Returns:
        The counts with the classes' names.

    Raises:
        ValueError: The two differ in length, or a label is neither a class nor an index of one.
    """
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} true labels, but {len(predicted)} predicted ones")
    true_texts = [exact_text(label) for label in true]
    predicted_texts = [exact_text(label) for label in predicted]
    seen = {**dict.fromkeys(true_texts), **dict.fromkeys(predicted_texts)}
    if classes is None or len(classes) == 0:
        occurring = {exact_text(label): label for label in [*true, *predicted]}
        names = [exact_text(label) for label in sort_values(sorted(occurring.values(), key=str))]
    else:
        names = [exact_text(name) for name in classes]
    index = {name: position for position, name in enumerate(names)}
    # Labels may be indices: only where they are not all names themselves, as digits' names are.
    if not all(text in index for text in seen):
        index = {str(position): position for position in range(len(names))}
    for text in seen:
        if text not in index:
            raise ValueError(
                f"the label {shorten(repr(text), 60)} is neither one of the {len(names)} classes "
                f"{shorten(repr(names[:8]), 200)}{' …' if len(names) > 8 else ''} nor an index of one"
            )
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(
        counts,
        ([index[text] for text in true_texts], [index[text] for text in predicted_texts]),
        1,
    )
    return Confusion(names, counts)


def class_scores(confusion: Confusion) -> pd.DataFrame:
    """Return each class's precision, recall, F1 and support, by scikit-learn.

    Args:
        confusion: The counts.

    Returns:
        One row a class, columns `name`, `precision`, `recall`, `f1`, `support`; a score that
        would divide by zero is 0.
    """
    # Imported here: it takes a second, which a run without predictions need not wait.
    from sklearn.metrics import precision_recall_fscore_support

    size = len(confusion.classes)
    true, predicted = np.divmod(np.arange(size * size), size)
    precision, recall, f1, support = precision_recall_fscore_support(
        true,
        predicted,
        labels=np.arange(size),
        sample_weight=confusion.counts.ravel(),
        zero_division=0.0,
    )
    return pd.DataFrame(
        {
            "name": confusion.classes,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": support.astype(int),
        }
    )


def worst_confusions(confusion: Confusion, count: int) -> list[tuple[str, str, int, float]]:
    """Return the most frequent mistakes.

    Args:
        confusion: The counts.
        count: At most how many.

    Returns:
        (true class, predicted class, rows, fraction of the true class's rows), most rows first.
    """
    mistakes = confusion.counts.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = [divmod(int(flat), len(confusion.classes)) for flat in order]
    return [
        (
            confusion.classes[i],
            confusion.classes[j],
            int(mistakes[i, j]),
            float(confusion.fractions[i, j]),
        )
        for i, j in pairs
        if mistakes[i, j]
    ]
