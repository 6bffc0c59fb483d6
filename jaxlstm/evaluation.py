"""What a trained estimator is worth beyond its score: rates of each class, times, maps."""

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
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from jaxlstm.estimators.inputs import read_rows


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
    """Times predictions as a program that serves them asks for them, compiled before.

    Args:
      estimator: fitted; `predict_proba` is called where it has one, else `predict`.
      X: rows to take batches from, again from the start where they end; as for `predict`.
      batch_sizes: rows of a call.
      repeats: calls of each size.

    Returns:
      A row a size: ``batch``, ``p50_ms`` and ``p95_ms`` of a call, ``rows_per_second`` at p50.
    """
    rows = []
    predict = getattr(estimator, "predict_proba", estimator.predict)
    for size in batch_sizes:
        batches = [
            _safe_indexing(X, np.arange(call * size, (call + 1) * size) % _num_samples(X))
            for call in range(repeats)
        ]
        for batch in batches:  # lists of other lengths may need other programs
            predict(batch)
        seconds = []
        for batch in batches:
            start = time.perf_counter()
            predict(batch)
            seconds.append(time.perf_counter() - start)
        median, slow = np.quantile(seconds, [0.5, 0.95])
        rows.append((size, 1000 * median, 1000 * slow, size / median))
    return pd.DataFrame(rows, columns=["batch", "p50_ms", "p95_ms", "rows_per_second"])


def saliency(
    estimator: Any, X: Any, y: Any, *, per_class: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Absolute input gradients of rows that are classified right, the surest of each class.

    Args:
      estimator: fitted, an `LSTMClassifier` or a `FlaxClassifier` of one label per row.
      X: rows, as for `predict`.
      y: their labels ``[M]``.
      per_class: rows to show of each class.

    Returns:
      Numbers of the chosen rows ``[C, per_class]``, -1 where a class has too few that are right;
      the gradients' absolute values there, ``[C, per_class, ...]``, 0 where there is none and past a
      row's length; and their mean over all rows of each class that are right, ``[C, ...]``.
    """
    probabilities = estimator.predict_proba(X)
    classes = estimator.classes_
    predicted = classes[probabilities.argmax(axis=1)]
    chosen = np.full((len(classes), per_class), -1)
    rows = read_rows(X)
    shape = rows.x.shape[1:] if rows is not None and rows.steps is None else np.shape(X)[1:]
    maps = np.zeros((len(classes), per_class, *shape), np.float32)
    means = np.zeros((len(classes), *shape), np.float32)
    for number, name in enumerate(classes):
        right = np.flatnonzero((predicted == name) & (np.asarray(y) == name))
        if not len(right):
            continue
        right = right[np.argsort(-probabilities[right, number], kind="stable")]
        found = estimator.input_gradients(_safe_indexing(X, right), predicted[right])
        gradients = np.zeros((len(right), *shape), np.float32)
        for place, gradient in enumerate(found):
            own = np.abs(gradient).reshape(-1, *shape[1:])
            gradients[place, : len(own)] = own
        means[number] = gradients.mean(axis=0)
        first = right[:per_class]
        chosen[number, : len(first)] = first
        maps[number, : len(first)] = gradients[: len(first)]
    return chosen, maps, means
