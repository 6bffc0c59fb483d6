"""The scores of a multilabel run on the held-out rows: of each label, and of all together."""

from __future__ import annotations

import dataclasses

import pandas as pd

from jaxlstm.report.problem import Problem
from jaxlstm.report.text import exact_text


@dataclasses.dataclass(frozen=True, eq=False)
class LabelScores:
    """How well the labels are predicted.

    Attributes:
        table: One row per label, columns `name`, `precision`, `recall`, `f1` (of value 1, a score
            that would divide by zero is 0) and `support` (rows, or steps, with the label).
        subset_accuracy: The share of rows, or steps, with every label right.
        hamming_loss: The share of single labels that are wrong.
        count: Rows, or steps.
    """

    table: pd.DataFrame
    subset_accuracy: float
    hamming_loss: float
    count: int


def label_names(predictions: pd.DataFrame, problem: Problem) -> list[str]:
    """Return the labels in the task's order where it names all that occur, else as they occur."""
    present = list(dict.fromkeys(predictions["target"].map(exact_text)))
    for names in (problem.targets, tuple(map(exact_text, problem.classes))):
        if set(present) <= set(names):
            return [name for name in names if name in present]
    return present


def label_scores(predictions: pd.DataFrame, problem: Problem) -> LabelScores:
    """Return the scores of each label, by scikit-learn, and of all together.

    Args:
        predictions: A run's predictions, one line per row, step and label.
        problem: The task.

    Returns:
        The scores.
    """
    # Imported here: it takes a second, which a run without predictions need not wait.
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    target = predictions["target"].map(exact_text)
    rows = []
    for name in label_names(predictions, problem):
        part = predictions[target == name]
        precision, recall, f1, _ = precision_recall_fscore_support(
            part["true"], part["predicted"], average="binary", zero_division=0.0
        )
        support = int(part["true"].sum())
        rows.append((name, float(precision), float(recall), float(f1), support))
    right = predictions["true"] == predictions["predicted"]
    each = right.groupby([predictions[name] for name in row_columns(problem)]).all()
    return LabelScores(
        pd.DataFrame(rows, columns=["name", "precision", "recall", "f1", "support"]),
        float(each.mean()),
        1 - float(accuracy_score(predictions["true"], predictions["predicted"])),
        len(each),
    )


def row_columns(problem: Problem) -> list[str]:
    """Return the columns that number what has one set of labels: rows, or steps of rows."""
    return ["row", "step"] if problem.per_step else ["row"]


def mistake_shares(predictions: pd.DataFrame) -> pd.Series:
    """Return the share of wrong predictions among each row's steps (and labels), by row number."""
    true, predicted = (predictions[name].map(exact_text) for name in ("true", "predicted"))
    return (true != predicted).groupby(predictions["row"]).mean()
