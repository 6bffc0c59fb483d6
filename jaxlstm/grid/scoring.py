"""Scores of finished trials, by scikit-learn's scorers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.inputs import Sequences, by_step, read_steps, rows_of
from jaxlstm.grid import program_cache
from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.prepare import Prepared, estimator_of
from jaxlstm.grid.space import Trial


def _scorers(estimator: Any, scoring: Any) -> Any:
    """A scorer, or a dict of them where several are named."""
    if isinstance(scoring, list | tuple | set):
        scoring = {name: name for name in scoring}
    if isinstance(scoring, Mapping):
        if not scoring:
            raise ValueError("scoring must name at least one metric, got an empty collection.")
        return {name: check_scoring(estimator, one) for name, one in scoring.items()}
    return check_scoring(estimator, scoring)


def _number(score: Any) -> Any:
    """A score as a plain number; it may come as an array of NumPy or JAX without axes.

    Raises:
      TypeError: something else.
    """
    number = score.item() if getattr(score, "shape", None) == () else score
    if not isinstance(number, Real):
        raise TypeError(f"scoring must return numbers, got {score!r}.")
    return number


class _OfSteps(BaseEstimator):
    """A fitted estimator whose predictions come step by step, as scikit-learn's metrics want them."""

    def __init__(self, estimator: Any, rows: Sequences):
        self.estimator, self.rows = estimator, rows
        if hasattr(estimator, "classes_"):
            self.classes_ = estimator.classes_

    def __sklearn_tags__(self) -> Any:
        return self.estimator.__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> np.ndarray:
        return read_steps("predict", self.estimator.predict(X), self.rows)

    def __getattr__(self, name: str) -> Any:
        if name not in ("predict_proba", "predict_log_proba", "decision_function"):
            raise AttributeError(name)
        method = getattr(self.estimator, name)

        def of_steps(X: Any) -> np.ndarray:
            return read_steps(name, method(X), self.rows)

        of_steps.__name__ = name  # scikit-learn asks for it
        return of_steps


def call_scorer(scorer: Any, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
    """A scorer's score; one of scikit-learn's metrics sees targets of steps one after another.

    Args:
      scorer: as `check_scoring` gives it: of a metric, an estimator's own, or a user's function.
      estimator: fitted, one of ours or a pipeline that ends in one.
      X: rows as the user gave them.
      y: their targets, likewise.
      sample_weight: for the scorer; None: not passed on.
    """
    if estimator_of(estimator).return_sequences and hasattr(scorer, "_score_func"):
        rows = rows_of(X)
        sample_weight = by_step(reading.weights(sample_weight, rows, True), rows)
        estimator, y = _OfSteps(estimator, rows), read_steps("y", y, rows)
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    return scorer(estimator, X, y, **weight)


def accepts_weight(scorer: Any) -> bool:
    """Whether a scorer takes ``sample_weight``, as scikit-learn asks."""
    accepts = getattr(scorer, "_accept_sample_weight", None)
    if accepts is not None:
        return bool(accepts())
    if hasattr(scorer, "_score_func"):
        return has_fit_parameter(_Named(scorer._score_func), "sample_weight")
    return has_fit_parameter(_Named(scorer), "sample_weight")


class _Named:
    """A function where scikit-learn expects a method ``fit``."""

    def __init__(self, function: Any):
        self.fit = function


class Scoring:
    """Scores finished trials, in the workers' threads.

    Args:
      prepared: what the trials were made from.
      scoring: as scikit-learn's searches take it.
      refit: theirs; where there are several metrics it must name one.
      error_score: the score of a trial that failed, or "raise".
      return_train_score: whether to score on the training rows as well.
      validation_freq: every how many epochs the trials are validated.
      keeps_weights: whether every trial's weights are wanted for something else.
      sample_weight: what rows, or steps, count for in scores; None: nothing is said to scorers.
      is_routed: whether the user asked that weights go to the scorers; else those get them that
        take them.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        scoring: Any,
        refit: Any,
        error_score: Any,
        return_train_score: bool,
        validation_freq: int = 1,
        keeps_weights: bool = False,
        sample_weight: Any = None,
        is_routed: bool = False,
    ):
        self.sample_weight, self.is_routed = sample_weight, is_routed
        self.keeps_weights = keeps_weights
        self.prepared, self.refit, self.error_score = prepared, refit, error_score
        self.return_train_score = return_train_score
        self.validation_freq = validation_freq
        self.config = get_config()  # scikit-learn's settings are a thread's own
        self.scorer = _scorers(prepared.base, scoring)
        if isinstance(self.scorer, dict):
            self._check_refit(self.scorer)
        # A metric of the validation rows that the program sums itself, where it is the score.
        counted = prepared.targets.task.COUNTED
        is_named = scoring is None or isinstance(scoring, str)
        name = counted.get(scoring) if is_named else None
        is_plain = prepared.weight is None and not return_train_score
        self._counted = f"val_{name}" if name and is_plain else None

    def needs_weights(self, trial: Trial) -> bool:
        """Whether the trial's weights are looked at, or its curve says all."""
        return self.keeps_weights or self._looks_at_weights(trial)

    def _looks_at_weights(self, trial: Trial) -> bool:
        best_may_lack_it = trial.network.keeps_best and self.validation_freq > 1
        return self._counted is None or trial.rows != trial.fold or best_may_lack_it

    def __call__(self, trial: Trial, outcome: Outcome) -> dict[str, Any]:
        """Returns test and train scores and the seconds they took."""
        start = program_cache.clock()
        scores: dict[str, Any] = {}
        if outcome.failed is None and not self._looks_at_weights(trial):
            scores["test"] = outcome.curves[str(self._counted)][outcome.last]
        elif outcome.failed is None:
            try:
                with config_context(**self.config):
                    scores = self._score_parts(trial, outcome)
            except Exception as error:
                if self.error_score == "raise":
                    raise
                outcome.failed = f"scoring raised {type(error).__name__}: {error}"
        elif self.error_score == "raise":
            raise ValueError(
                f"The fit of {trial.params}, fold {trial.fold} failed: {outcome.failed}."
            )
        for part, found in scores.items():
            if isinstance(found, Mapping):
                self._check_refit(found)
                scores[part] = {name: _number(score) for name, score in found.items()}
            else:
                scores[part] = _number(found)
        return scores | {"seconds": program_cache.clock() - start}

    def _score_parts(self, trial: Trial, outcome: Outcome) -> dict[str, Any]:
        fold = self.prepared.folds[trial.fold]
        parts = {"test": fold.validation}
        if self.return_train_score:
            parts["train"] = fold.train
        estimator = self.prepared.fitted(trial, outcome)
        scores = {}
        for part, numbers in parts.items():
            X, y = self.prepared.part(numbers)

            def score(scorer: Any, X: Any = X, y: Any = y, numbers: Any = numbers) -> Any:
                weight = None
                if self.sample_weight is not None and (self.is_routed or accepts_weight(scorer)):
                    weight = _safe_indexing(self.sample_weight, numbers)
                return call_scorer(scorer, estimator, X, y, weight)

            if isinstance(self.scorer, dict):
                scores[part] = {name: score(one) for name, one in self.scorer.items()}
            else:
                scores[part] = score(self.scorer)
        return scores

    def _check_refit(self, metrics: Iterable[str]) -> None:
        refit = self.refit
        if refit is False or callable(refit) or (isinstance(refit, str) and refit in metrics):
            return
        raise ValueError(
            "with several metrics, refit must be False, a callable or one of"
            f" {', '.join(metrics)}; got {refit!r}."
        )
