"""Searches that Optuna leads: it asks for a batch of candidates, which train as lanes, and learns."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from jaxlstm.grid.base import LaneSearch
from jaxlstm.grid.session import Session
from jaxlstm.train.hyperparameters import NUMBERS, check_number


class OptunaSearch(LaneSearch):
    """Searches what Optuna suggests; needs the extra, ``pip install 'jaxlstm[optuna]'``.

    A batch of candidates is asked for at a time and trained on all folds as lanes; then Optuna is told
    their mean scores, which it maximizes, and asked for the next batch. A candidate with a failed fit
    is told as failed.

    Args:
      estimator: see `GridSearch`.
      space: a dict of name: Optuna distribution, or a callable that takes an Optuna trial, calls its
        ``suggest_*`` methods and returns a dict of parameters.
      n_trials: how many candidates to try.
      batch: how many are asked for and trained at a time. The larger, the better the device is used
        and the less Optuna knows when it is asked.
      study: an Optuna study to go on with, which maximizes; a new one in memory by default.
      sampler: Optuna's sampler for the new study, of which a copy is used; by default
        ``TPESampler(constant_liar=True)``, made for batches, with a seed from ``random_state``.
      scoring: this and all that follow are `GridSearch`'s; of several metrics, Optuna is told the
        one that ``refit`` names, or else the first.
      refit: see `GridSearch`.
      cv: see `GridSearch`.
      error_score: see `GridSearch`.
      return_train_score: see `GridSearch`.
      validation_freq: see `GridSearch`.
      n_seeds: see `GridSearch`.
      random_state: seed of the default sampler, too.
      n_jobs: see `GridSearch`.
      layout: see `GridSearch`.
      memory_limit: see `GridSearch`.
      checkpoint_dir: see `GridSearch`. A search that goes on asks for the same candidates again, of
        which the finished ones cost nothing; so it takes no ``study``, and a ``sampler`` must have a
        seed.
      checkpoint_every: see `GridSearch`.
      verbose: see `GridSearch`.

    Attributes:
      cv_results_: as `GridSearch`'s, with a column ``trial``: Optuna's number of it.
      study_: the Optuna study.

    Raises:
      ImportError: by `fit` and `plan`, without Optuna.
      TypeError, ValueError: by `fit` and `plan`, for a bad parameter.

    Example:
      >>> import numpy as np
      >>> from optuna.distributions import FloatDistribution
      >>> from jaxlstm import LSTMClassifier
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = np.where(X[:, :, 0].sum(1) > 0, "up", "down")
      >>> search = OptunaSearch(
      ...     LSTMClassifier(units=8, epochs=20),
      ...     {"learning_rate": FloatDistribution(1e-5, 0.1, log=True)},
      ...     n_trials=6, batch=3, cv=2, random_state=0,
      ... )
      >>> search.fit(X, y).best_params_ == search.study_.best_params
      True
    """

    def __init__(
        self,
        estimator: Any,
        space: Any,
        *,
        n_trials: int = 20,
        batch: int = 8,
        study: Any = None,
        sampler: Any = None,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        validation_freq: int = 1,
        n_seeds: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
        layout: str = "auto",
        memory_limit: int | None = None,
        checkpoint_dir: Any = None,
        checkpoint_every: float = 60.0,
        verbose: int = 0,
    ):
        super().__init__(
            estimator,
            scoring=scoring,
            refit=refit,
            cv=cv,
            error_score=error_score,
            return_train_score=return_train_score,
            validation_freq=validation_freq,
            n_seeds=n_seeds,
            random_state=random_state,
            n_jobs=n_jobs,
            layout=layout,
            memory_limit=memory_limit,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            verbose=verbose,
        )
        self.space = space
        self.n_trials = n_trials
        self.batch = batch
        self.study = study
        self.sampler = sampler

    @property
    def _draws(self) -> bool:
        return self.sampler is None

    def _check(self) -> None:
        super()._check()
        optuna = _optuna()
        check_number("n_trials", self.n_trials, NUMBERS["epochs"])
        check_number("batch", self.batch, NUMBERS["epochs"])
        self._check_space(optuna)
        study, sampler = self.study, self.sampler
        if sampler is not None and not isinstance(sampler, optuna.samplers.BaseSampler):
            raise TypeError(f"sampler must be an Optuna sampler or None, got {sampler!r}.")
        if study is None:
            return
        if not isinstance(study, optuna.Study):
            raise TypeError(f"study must be an Optuna study or None, got {study!r}.")
        if sampler is not None:
            raise ValueError("a study has its own sampler: give study or sampler, not both.")
        if [one.name for one in study.directions] != ["MAXIMIZE"]:
            given = ", ".join(one.name.lower() for one in study.directions)
            raise ValueError(
                "study must maximize one score: optuna.create_study(direction='maximize'); got"
                f" {given}."
            )
        if self.checkpoint_dir is not None:
            raise ValueError(
                "checkpoint_dir needs a study of the search's own, which asks for the same candidates"
                " when it goes on: study must be None."
            )

    def _check_space(self, optuna: Any) -> None:
        hint = (
            "such as {'learning_rate': optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)}"
        )
        if callable(self.space):
            return
        if not isinstance(self.space, Mapping):
            raise TypeError(
                f"space must be a dict of Optuna distributions, {hint}, or a callable that takes a"
                f" trial, got {self.space!r}."
            )
        if not self.space:
            raise ValueError(f"space is empty: give at least one distribution, {hint}.")
        for name, one in self.space.items():
            if not isinstance(one, optuna.distributions.BaseDistribution):
                raise TypeError(f"space[{name!r}] must be an Optuna distribution, got {one!r}.")

    def _new_study(self, sampler: Any) -> Any:
        optuna = _optuna()
        with _without_the_news():
            return optuna.create_study(direction="maximize", sampler=sampler)

    def _own_sampler(self) -> Any:
        if self.sampler is not None:
            return copy.deepcopy(self.sampler)
        optuna, seed = _optuna(), self.random_state
        if seed is not None and not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        with warnings.catch_warnings():
            # In Optuna 4 the constant liar counts as an experiment.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                constant_liar=True, seed=None if seed is None else int(seed)
            )

    def _ask(self, study: Any, count: int, asked: list[Any]) -> list[dict[str, Any]]:
        """Adds so many trials to those asked for; returns their parameters."""
        candidates = []
        for _ in range(count):
            asked.append(study.ask() if callable(self.space) else study.ask(dict(self.space)))
            if callable(self.space):
                candidates.append(self._called(self.space, asked[-1]))
            else:
                candidates.append(dict(asked[-1].params))
        return candidates

    @staticmethod
    def _called(space: Callable[[Any], Any], trial: Any) -> dict[str, Any]:
        params = space(trial)
        if not isinstance(params, Mapping) or not params:
            raise TypeError(f"space must return a dict of parameters, got {params!r}.")
        return dict(params)

    def _candidates(self) -> list[dict[str, Any]]:
        """The first batch, asked of a copy of the study."""
        if self.study is None:
            study = self._new_study(self._own_sampler())
        else:
            study = self._new_study(copy.deepcopy(self.study.sampler))
            study.add_trials(self.study.get_trials())
        return self._ask(study, min(self.batch, self.n_trials), [])

    def _try(self, session: Session) -> None:
        optuna = _optuna()
        study = self.study if self.study is not None else self._new_study(self._own_sampler())
        self.study_ = study
        numbers = session.columns["trial"] = []
        failed = optuna.trial.TrialState.FAIL
        while len(numbers) < self.n_trials and not session.is_interrupted:
            asked: list[Any] = []
            told = 0
            try:
                count = min(self.batch, self.n_trials - len(numbers))
                scores = session.evaluate(self._ask(study, count, asked))
                numbers += [trial.number for trial in asked]
                for trial, score in zip(asked, scores.tolist(), strict=True):
                    if np.isfinite(score):
                        study.tell(trial, score)
                    else:
                        study.tell(trial, state=failed)
                    told += 1
            finally:
                # No trial of a study that others share is left running.
                for trial in asked[told:]:
                    study.tell(trial, state=failed)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "OptunaSearch needs Optuna, which is not installed: pip install 'jaxlstm[optuna]'"
        ) from error
    return optuna


@contextlib.contextmanager
def _without_the_news() -> Iterator[None]:
    """Optuna says of every study that it was created, on the screen; the rest is left as it is."""

    def is_other(record: logging.LogRecord) -> bool:
        return "new study created" not in record.getMessage()

    logger = logging.getLogger("optuna.storages._in_memory")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
