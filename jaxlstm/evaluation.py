"""What a trained classifier is worth beyond its accuracy: rates of each class, times, maps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)


def scores(true: Any, predicted: Any) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as macro and weighted averages (scikit-learn's).

    Args:
      true: labels ``[N]``.
      predicted: labels ``[N]``.

    Returns:
      ``accuracy``, ``macro_precision``, ..., ``weighted_f1``, fractions; a class that is never
      predicted has precision 0.
    """
    found = {"accuracy": float(accuracy_score(true, predicted))}
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(true, predicted, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            found[f"{average}_{name}"] = float(value)
    return found


def class_rates(true: Any, predicted: Any, classes: Sequence[Any]) -> pd.DataFrame:
    """Each class against all others.

    Args:
      true: labels ``[N]``.
      predicted: labels ``[N]``.
      classes: the labels, in the order of the table.

    Returns:
      A row a class: ``class``, ``precision``, ``recall`` (sensitivity), ``f1``, ``specificity``,
      ``false_positive_rate``, ``miss_rate`` (the fraction of wrong predictions among the rows of
      the class), all fractions, and ``support``, rows. A rate over no rows is 0.
    """
    names = list(classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=names, zero_division=0
    )
    cells = multilabel_confusion_matrix(true, predicted, labels=names)
    negatives = np.maximum(cells[:, 0].sum(axis=1), 1)
    false_positive = cells[:, 0, 1] / negatives
    return pd.DataFrame(
        {
            "class": names,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "specificity": cells[:, 0, 0] / negatives,
            "false_positive_rate": false_positive,
            "miss_rate": cells[:, 1, 0] / np.maximum(cells[:, 1].sum(axis=1), 1),
            "support": support,
        }
    )


def prediction_times(
    estimator: Any, X: Any, *, batch_sizes: Sequence[int] = (1, 256), repeats: int = 50
) -> pd.DataFrame:
    """Times `predict_proba` as a program that serves predictions calls it, compiled before.

    Args:
      estimator: fitted.
      X: rows ``[M, ...]`` to take batches from, again from the start where they end.
      batch_sizes: rows of a call.
      repeats: calls of each size.

    Returns:
      A row a size: ``batch``, ``p50_ms`` and ``p95_ms`` of a call, ``rows_per_second`` at p50.
    """
    rows = []
    for size in batch_sizes:
        batches = [
            np.take(X, np.arange(call * size, (call + 1) * size), axis=0, mode="wrap")
            for call in range(repeats)
        ]
        estimator.predict_proba(batches[0])
        seconds = []
        for batch in batches:
            start = time.perf_counter()
            estimator.predict_proba(batch)
            seconds.append(time.perf_counter() - start)
        median, slow = np.quantile(seconds, [0.5, 0.95])
        rows.append((size, 1000 * median, 1000 * slow, size / median))
    return pd.DataFrame(rows, columns=["batch", "p50_ms", "p95_ms", "rows_per_second"])


def saliency(
    estimator: Any, X: Any, y: Any, *, per_class: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Absolute input gradients of rows that are classified right, the surest of each class.

    Args:
      estimator: fitted, an `LSTMClassifier` or a `FlaxClassifier`.
      X: rows ``[M, ...]``.
      y: their labels ``[M]``.
      per_class: rows to show of each class.

    Returns:
      Numbers of the chosen rows ``[C, per_class]``, -1 where a class has too few that are right;
      the gradients' absolute values there, ``[C, per_class, ...]``, 0 where there is none; and their
      mean over all rows of each class that are right, ``[C, ...]``.
    """
    probabilities = estimator.predict_proba(X)
    classes = estimator.classes_
    predicted = classes[probabilities.argmax(axis=1)]
    chosen = np.full((len(classes), per_class), -1)
    maps = np.zeros((len(classes), per_class, *np.shape(X)[1:]), np.float32)
    means = np.zeros((len(classes), *np.shape(X)[1:]), np.float32)
    for place, name in enumerate(classes):
        right = np.flatnonzero((predicted == name) & (np.asarray(y) == name))
        if not len(right):
            continue
        right = right[np.argsort(-probabilities[right, place], kind="stable")]
        gradients = np.abs(estimator.input_gradients(np.asarray(X)[right], predicted[right]))
        gradients = gradients.reshape(len(right), *np.shape(X)[1:])
        means[place] = gradients.mean(axis=0)
        first = right[:per_class]
        chosen[place, : len(first)] = first
        maps[place, : len(first)] = gradients[: len(first)]
    return chosen, maps, means
