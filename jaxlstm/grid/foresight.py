"""What can be known before anything is trained: whether scikit-learn's metrics fit the targets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from jaxlstm.grid.pipelines import estimator_of, is_as_written
from jaxlstm.grid.prepare import Prepared
from jaxlstm.train.task import Classification, Multilabel


class _Likely(BaseEstimator):
    """Answers as a fitted estimator could: even probabilities, and what it is given to predict."""

    def __init__(self, estimator: Any, y: np.ndarray, predicted: np.ndarray, classes: Any):
        self.estimator, self.y, self.predicted = estimator, y, predicted
        if classes is not None:
            self.classes_ = classes

    def __sklearn_tags__(self) -> Any:
        return self.estimator.__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> np.ndarray:
        return self.predicted

    def __getattr__(self, name: str) -> Any:
        estimator = self.__dict__.get("estimator")
        if name not in ("predict_proba", "predict_log_proba", "decision_function"):
            raise AttributeError(name)
        getattr(estimator, name)  # raises where it has none

        def answers(X: Any) -> np.ndarray:
            count = self.y.shape[1] if self.y.ndim == 2 else len(self.classes_)
            even = np.full((len(self.y), count), 0.5 if self.y.ndim == 2 else 1 / count)
            if name == "decision_function":
                return np.zeros(len(self.y)) if even.shape[1] == 2 and self.y.ndim == 1 else even
            return np.log(even) if name == "predict_log_proba" else even

        answers.__name__ = name  # scikit-learn asks for it
        return answers


def _is_known(scorer: Any) -> bool:
    """Whether a scorer is of one of scikit-learn's metrics; a user's function is not called in vain."""
    module = getattr(getattr(scorer, "_score_func", None), "__module__", None) or ""
    return module.startswith("sklearn.metrics")


def _targets(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Targets of rows, or of all their steps in turn, as scorers get them."""
    whole, targets = prepared.whole, prepared.targets
    y = np.asarray(whole.y)[rows]
    if targets.task.per_step:
        steps = y.shape[1]
        lengths = np.full(len(y), steps) if whole.lengths is None else whole.lengths[rows]
        y = y[np.arange(steps) < np.asarray(lengths)[:, None]]
    if isinstance(targets.task, Classification):
        assert targets.classes is not None
        return np.asarray(targets.classes[y])
    if isinstance(targets.task, Multilabel):
        return y.astype(np.int64)
    y = y + np.asarray(targets.center)
    return y[:, 0] if targets.is_flat else y


def failing_scorers(prepared: Prepared, scorers: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Scorers which raise whatever is trained, with the error on each split.

    Args:
      prepared: rows and splits.
      scorers: by name; those of scikit-learn's metrics are tried with likely predictions.
    """
    failing: dict[str, dict[int, str]] = {}
    known = {name: scorer for name, scorer in scorers.items() if _is_known(scorer)}
    if not known or not is_as_written(prepared.base):
        return failing
    for number, fold in enumerate(prepared.folds):
        y = _targets(prepared, fold.validation)
        estimator = estimator_of(prepared.base)
        classes = prepared.targets.classes
        # The right labels; the last ones alone, as some metrics want no 0; positive numbers.
        if classes is None:
            answers = [np.abs(y) + 1.0]
        else:
            answers = [y, np.full_like(y, np.unique(y, axis=0)[-1])]
        likely = [_Likely(estimator, y, predicted, classes) for predicted in answers]
        for name, scorer in known.items():
            errors = [error for one in likely if (error := _error_of(scorer, one))]
            if len(errors) == len(likely):
                message = str(errors[0]).replace(_Likely.__name__, type(estimator).__name__)
                failing.setdefault(name, {})[number] = f"{type(errors[0]).__name__}: {message}"
    return failing


def _error_of(scorer: Any, likely: _Likely) -> Exception | None:
    """What a scorer raises on likely answers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(likely, np.zeros((len(likely.y), 1)), likely.y)
    except Exception as error:
        return error
    return None
