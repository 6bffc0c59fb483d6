"""What a fitted estimator predicts for held-out rows, as a table, and how good it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    hamming_loss,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    root_mean_squared_error,
)

from jaxlstm.data import SequenceData
from jaxlstm.estimators.inputs import by_step, cut, read_steps
from jaxlstm.estimators.targets import weights


def predict_held_out(estimator: Any, test: SequenceData) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predicts held-out rows and scores the predictions.

    Args:
      estimator: fitted on rows of the same kind.
      test: the rows with their targets.

    Returns:
      A table with a line for each row (and step, and label or number of a target): ``row``, its
      number in the data set's source from 0, ``id``, ``step``, ``target``, ``group``, ``true``,
      ``predicted``, ``probability``, as far as they are there; and scikit-learn's scores by name, by
      the rows' weights if they have some, with the number of ``rows`` and of ``steps``.
    """
    lengths = np.full(len(test), test.x.shape[1]) if test.lengths is None else test.lengths
    rows = cut(np.asarray(test.x), lengths)

    def flat(values: Any) -> np.ndarray:
        return read_steps("predictions", values, rows) if test.per_step else np.asarray(values)

    true, predicted = flat(test.targets), flat(estimator.predict(test))
    place = np.repeat(np.arange(len(test)), lengths if test.per_step else 1)
    columns: dict[str, Any] = {"row": place if test.rows is None else test.rows[place]}
    if test.ids is not None:
        columns["id"] = test.ids[place]
    if test.per_step:
        columns["step"] = np.concatenate([np.arange(length) for length in lengths])
    if test.groups is not None:
        columns["group"] = np.asarray(test.groups)[place]
    probability = None if test.task == "regression" else flat(estimator.predict_proba(test))
    weight = (
        by_step(weights(test.weight, rows, test.per_step), rows) if test.per_step else test.weight
    )
    scores = _SCORES[test.task](true, predicted, weight)
    scores["rows"] = len(test)
    if test.per_step:
        scores["steps"] = len(true)
    if true.ndim == 1:
        columns |= {"true": true, "predicted": predicted}
        if probability is not None:
            columns["probability"] = probability.max(axis=1)
        return pd.DataFrame(columns), scores
    # A line for each label or number of a target.
    count, width = true.shape
    names = test.classes if test.task == "multilabel" else test.target_names
    names = names or tuple(map(str, range(width)))
    table = pd.DataFrame({name: np.repeat(values, width) for name, values in columns.items()})
    table["target"] = np.tile(np.asarray(names, object), count)
    table["true"], table["predicted"] = true.ravel(), predicted.ravel()
    if probability is not None:
        table["probability"] = probability.ravel()
    return table, scores


def _label_scores(true: np.ndarray, predicted: np.ndarray, weight: Any) -> dict[str, Any]:
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0, sample_weight=weight
    )
    return {
        "accuracy": accuracy_score(true, predicted, sample_weight=weight),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
    }


def _multilabel_scores(true: np.ndarray, predicted: np.ndarray, weight: Any) -> dict[str, Any]:
    return {
        "accuracy": accuracy_score(true, predicted, sample_weight=weight),
        "f1_macro": f1_score(
            true, predicted, average="macro", zero_division=0, sample_weight=weight
        ),
        "hamming_loss": hamming_loss(true, predicted, sample_weight=weight),
    }


def _number_scores(true: np.ndarray, predicted: np.ndarray, weight: Any) -> dict[str, Any]:
    return {
        "r2": r2_score(true, predicted, sample_weight=weight) if len(true) > 1 else float("nan"),
        "rmse": root_mean_squared_error(true, predicted, sample_weight=weight),
        "mae": mean_absolute_error(true, predicted, sample_weight=weight),
    }


_SCORES = {
    "classification": _label_scores,
    "multilabel": _multilabel_scores,
    "regression": _number_scores,
}
