"""Scores of finished trials, by scikit-learn's scorers."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _check_multimetric_scoring
from sklearn.utils.validation import _check_method_params, has_fit_parameter

from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.inputs import Sequences, by_step, read_steps, rows_of
from jaxlstm.grid import program_cache
from jaxlstm.grid.foresight import failing_scorers
from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.pipelines import estimator_of, is_as_written
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.space import Trial


def _scorers(estimator: Any, scoring: Any) -> Any:
    """A scorer, or a dict of them where several are named."""
    if isinstance(scoring, list | tuple | Mapping):
        if not scoring:
            raise ValueError("scoring must name at least one metric, got an empty collection.")
        try:
            return _check_multimetric_scoring(estimator, scoring)
        except ValueError as error:
            raise ValueError(f"scoring: {error}") from error
    return check_scoring(estimator, scoring)


def _number(score: Any, scorer: Any) -> Any:
    """A score as a plain number; it may come as an array of one number.

    Raises:
      ValueError: something else.
    """
    number = score
    if hasattr(score, "item"):
        with contextlib.suppress(ValueError, TypeError):
            number = score.item()
    if not isinstance(number, Number):
        raise ValueError(
            f"scoring must return a number, got {score} ({type(score)}) instead. (scorer={scorer})"
        )
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


def call_scorer(
    scorer: Any, estimator: Any, X: Any, y: Any, *, sample_weight: Any = None, **more: Any
) -> Any:
    """A scorer's score; one of scikit-learn's metrics sees targets of steps one after another.

    Args:
      scorer: as `check_scoring` gives it: of a metric, an estimator's own, or a user's function.
      estimator: fitted, one of ours or a pipeline that ends in one.
      X: rows as the user gave them.
      y: their targets, likewise.
      sample_weight: for the scorer; None: not passed on.
      **more: other metadata that it asks for.
    """
    if estimator_of(estimator).return_sequences and hasattr(scorer, "_score_func"):
        rows = rows_of(X)
        sample_weight = by_step(reading.weights(sample_weight, rows, True), rows)
        estimator, y = _OfSteps(estimator, rows), read_steps("y", y, rows)
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    return scorer(estimator, X, y, **weight, **more)


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
      arguments: what goes to each scorer with metadata routing, by metric; None: weights go to the
        scorers that take them.
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
        arguments: Mapping[str, dict[str, Any]] | None = None,
    ):
        self.sample_weight, self.arguments = sample_weight, arguments
        self.keeps_weights = keeps_weights
        self.prepared, self.refit, self.error_score = prepared, refit, error_score
        self.return_train_score = return_train_score
        self.validation_freq = validation_freq
        self.scoring = scoring
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
        if self._counted is None or trial.rows != trial.fold:
            return True
        best_may_lack_it = trial.network.keeps_best and self.validation_freq > 1
        return best_may_lack_it or not is_as_written(self.prepared.estimators[trial.cell])

    def __call__(self, trial: Trial, outcome: Outcome) -> dict[str, Any]:
        """Returns test and train scores, the seconds they took, and the errors of scorers.

        A part that the only scorer raised for is missing; one of several metrics is None.
        """
        start = program_cache.clock()
        scores: dict[str, Any] = {}
        if outcome.failed is None and not self._looks_at_weights(trial):
            scores["test"] = outcome.curves[str(self._counted)][outcome.last]
        elif outcome.failed is None:
            with config_context(**self.config):
                scores = self._score_parts(trial, outcome)
        elif self.error_score == "raise":
            raise ValueError(
                f"The fit of {trial.params}, fold {trial.fold} failed: {outcome.failed}."
            )
        return scores | {"seconds": program_cache.clock() - start}

    def _score_parts(self, trial: Trial, outcome: Outcome) -> dict[str, Any]:
        fold = self.prepared.folds[trial.fold]
        parts = {"test": fold.validation}
        if self.return_train_score:
            parts["train"] = fold.train
        estimator = self.prepared.fitted(trial, outcome)
        scores: dict[str, Any] = {}
        errors: dict[str, str] = {}

        def score(name: str, scorer: Any, numbers: Any, X: Any, y: Any) -> Any:
            given = self._arguments(name, scorer)
            given = _check_method_params(self.prepared.X, given, indices=numbers)
            try:
                return call_scorer(scorer, estimator, X, y, **given)
            except Exception as error:
                if self.error_score == "raise":
                    raise
                errors.setdefault(name, f"{type(error).__name__}: {error}")
                return None

        for part, numbers in parts.items():
            X, y = self.prepared.part(numbers)
            if isinstance(self.scorer, dict):
                scores[part] = {}
                for name, scorer in self.scorer.items():
                    found = score(name, scorer, numbers, X, y)
                    has_failed = found is None and name in errors
                    scores[part][name] = None if has_failed else _number(found, name)
                continue
            found = score("score", self.scorer, numbers, X, y)
            if isinstance(found, dict):
                self._check_refit(found)
                scores[part] = {name: _number(one, name) for name, one in found.items()}
            elif found is not None or "score" not in errors:
                scores[part] = _number(found, self.scorer)
        return scores | ({"errors": errors} if errors else {})

    def _arguments(self, name: str, scorer: Any) -> dict[str, Any]:
        """Of a scorer's call, for all rows."""
        if self.arguments is not None:
            return self.arguments[name]
        is_weighted = self.sample_weight is not None and accepts_weight(scorer)
        return {"sample_weight": self.sample_weight} if is_weighted else {}

    def look_ahead(self) -> None:
        """Says which metrics do not look at weights, and which will not be computed.

        Raises:
          ValueError: the metric that decides cannot be computed on any split.
        """
        several = isinstance(self.scorer, dict)
        scorers = self.scorer if several else {"score": self.scorer}
        for name, scorer in scorers.items():
            is_weighted = self.sample_weight is not None and self.arguments is None
            if is_weighted and not accepts_weight(scorer):
                warnings.warn(
                    f"The scoring {f'{name}=' if several else ''}{scorer} does not support"
                    " sample_weight, which may lead to statistically incorrect results when fitting"
                    " with sample_weight.",
                    UserWarning,
                    stacklevel=3,
                )
        for name, errors in failing_scorers(self.prepared, scorers).items():
            called = repr(name) if several else repr(self.scoring)
            splits, message = list(errors), next(iter(errors.values()))
            is_everywhere = len(splits) == len(self.prepared.folds)
            decides = self.refit == name if several else self.refit is True
            if self.error_score == "raise" or (is_everywhere and decides):
                raise ValueError(
                    f"scoring {called} cannot be computed on split {splits[0]}: {message}"
                )
            warnings.warn(
                f"Scoring will fail for {called} on split {', '.join(map(str, splits))}, whatever is"
                f" trained: its score there will be {self.error_score}. Details: {message}",
                UserWarning,
                stacklevel=3,
            )

    def _check_refit(self, metrics: Iterable[str]) -> None:
        refit = self.refit
        if refit is False or callable(refit) or (isinstance(refit, str) and refit in metrics):
            return
        raise ValueError(
            "with several metrics, refit must be False, a callable or one of"
            f" {', '.join(metrics)}; got {refit!r}."
        )
