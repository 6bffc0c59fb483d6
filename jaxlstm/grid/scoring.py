"""Scores of finished trials, by scikit-learn's scorers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from sklearn import config_context, get_config
from sklearn.metrics import check_scoring

from jaxlstm.grid.outcome import Outcome
from jaxlstm.grid.prepare import Prepared
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
    ):
        self.keeps_weights = keeps_weights
        self.prepared, self.refit, self.error_score = prepared, refit, error_score
        self.return_train_score = return_train_score
        self.validation_freq = validation_freq
        self.config = get_config()  # scikit-learn's settings are a thread's own
        self.scorer = _scorers(prepared.base, scoring)
        if isinstance(self.scorer, dict):
            self._check_refit(self.scorer)
        # Accuracy on the validation rows is counted in the program itself.
        self._is_counted = scoring in (None, "accuracy") and not return_train_score

    def needs_weights(self, trial: Trial) -> bool:
        """Whether the trial's weights are looked at, or its curve says all."""
        return self.keeps_weights or self._looks_at_weights(trial)

    def _looks_at_weights(self, trial: Trial) -> bool:
        best_may_lack_it = trial.network.keeps_best and self.validation_freq > 1
        return not self._is_counted or trial.rows != trial.fold or best_may_lack_it

    def __call__(self, trial: Trial, outcome: Outcome) -> dict[str, Any]:
        """Returns test and train scores and the seconds they took."""
        start = time.perf_counter()
        scores: dict[str, Any] = {}
        if outcome.failed is None and not self._looks_at_weights(trial):
            scores["test"] = outcome.curves["val_accuracy"][outcome.last]
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
        return scores | {"seconds": time.perf_counter() - start}

    def _score_parts(self, trial: Trial, outcome: Outcome) -> dict[str, Any]:
        fold = self.prepared.folds[trial.fold]
        parts = {"test": fold.validation}
        if self.return_train_score:
            parts["train"] = fold.train
        estimator = self.prepared.fitted(trial, outcome)
        scores = {}
        for part, numbers in parts.items():
            X, y = self.prepared.part(numbers)
            if isinstance(self.scorer, dict):
                scores[part] = {name: one(estimator, X, y) for name, one in self.scorer.items()}
            else:
                scores[part] = self.scorer(estimator, X, y)
        return scores

    def _check_refit(self, metrics: Iterable[str]) -> None:
        refit = self.refit
        if refit is False or callable(refit) or (isinstance(refit, str) and refit in metrics):
            return
        raise ValueError(
            "with several metrics, refit must be False, a callable or one of"
            f" {', '.join(metrics)}; got {refit!r}."
        )
