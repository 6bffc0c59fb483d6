"""Searches that Optuna leads: it asks for a batch of candidates, which train as lanes, and learns."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from jaxlstm.grid.base import LaneSearch
from jaxlstm.grid.optuna_space import dimensions
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.session import Session
from jaxlstm.grid.space import Problem
from jaxlstm.train.hyperparameters import NUMBERS, check_number


class OptunaSearch(LaneSearch):
    """Searches what Optuna suggests; needs the extra, ``pip install 'jaxlstm[optuna]'``.

    A batch of candidates is asked for at a time and trained on all folds as lanes; then Optuna is told
    their mean scores, which it maximizes, and asked for the next batch. A candidate with a failed fit
    is told as failed. Samplers that try everything once (`GridSampler`, `BruteForceSampler`) end the
    search when they have. A study's pruner has nothing to do, as nothing is reported in between.

    Args:
      estimator: see `GridSearch`.
      space: a dict of name: Optuna distribution, SciPy distribution or list of values; or a callable
        that takes an Optuna trial, calls its ``suggest_*`` methods and returns a dict of parameters,
        or raises `optuna.TrialPruned`. In the study, values of a list that are no numbers, texts or
        None are their texts, and SciPy distributions other than uniform, loguniform and randint are
        quantiles.
      n_trials: how many candidates to try, those that ``space`` prunes included.
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
        self._check_space()
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

    def _check_space(self) -> None:
        hint = "such as {'learning_rate': scipy.stats.loguniform(1e-4, 0.1)}"
        if callable(self.space):
            return
        if not isinstance(self.space, Mapping):
            raise TypeError(
                f"space must be a dict of distributions or lists, {hint}, or a callable that takes a"
                f" trial, got {self.space!r}."
            )
        if not self.space:
            raise ValueError(f"space is empty: give at least one distribution, {hint}.")
        dimensions(self.space)

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

    def _ask(self, study: Any, count: int, batch: list[tuple[Any, dict[str, Any]]]) -> bool:
        """Adds so many trials and their parameters to a batch; returns whether there are no more."""
        optuna = _optuna()
        states = optuna.trial.TrialState
        for _ in range(count):
            if self._has_tried_all(study):
                return True
            trial, params = self._trial(study)
            try:
                batch.append((trial, params()))
            except optuna.TrialPruned:
                _tell(study, trial, state=states.PRUNED)
            except BaseException:
                _tell(study, trial, state=states.FAIL)
                raise
        return False

    def _trial(self, study: Any) -> tuple[Any, Callable[[], dict[str, Any]]]:
        """A trial, and what gives its parameters."""
        if callable(self.space):
            trial = study.ask()
            return trial, functools.partial(self._called, self.space, trial)
        known = dimensions(self.space)
        trial = study.ask({name: one.distribution for name, one in known.items()})
        values = trial.params
        return trial, lambda: {name: one.value(values[name]) for name, one in known.items()}

    @staticmethod
    def _called(space: Callable[[Any], Any], trial: Any) -> dict[str, Any]:
        params = space(trial)
        if not isinstance(params, Mapping) or not params:
            raise TypeError(f"space must return a dict of parameters, got {params!r}.")
        return dict(params)

    def _has_tried_all(self, study: Any) -> bool:
        """Whether a sampler that tries everything once would now repeat itself."""
        optuna = _optuna()
        samplers = optuna.samplers
        if not isinstance(study.sampler, samplers.GridSampler | samplers.BruteForceSampler):
            return False
        tried = study.get_trials(deepcopy=False)
        if any(trial.state == optuna.trial.TrialState.WAITING for trial in tried):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = self._copy_of(study)
            _, params = self._trial(twin)
            try:
                params()
            except Exception:
                return False  # the trial itself will show it
        point = _point(twin.get_trials(deepcopy=False)[-1])
        return any(_point(one) == point for one in tried)

    def _copy_of(self, study: Any) -> Any:
        twin = self._new_study(copy.deepcopy(study.sampler))
        twin.add_trials(study.get_trials())
        return twin

    def _candidates(self) -> Any:
        """None: Optuna is asked when it has been told of those before."""
        return None

    def _problem(self, prepared: Prepared, candidates: Any) -> Problem:
        """The first batch, asked of a copy of the study."""
        own = self._new_study(self._own_sampler()) if self.study is None else self.study
        batch: list[tuple[Any, dict[str, Any]]] = []
        self._ask(self._copy_of(own), min(self.batch, self.n_trials), batch)
        if not batch:
            raise ValueError(_NOTHING)
        return prepared.problem([params for _, params in batch])

    def _try(self, session: Session, candidates: Any) -> None:
        study = self.study if self.study is not None else self._new_study(self._own_sampler())
        self.study_ = study
        numbers = session.columns["trial"] = []
        failed = _optuna().trial.TrialState.FAIL
        left, is_done = self.n_trials, False
        while left and not is_done and not session.is_interrupted:
            count = min(self.batch, left)
            left -= count
            batch: list[tuple[Any, dict[str, Any]]] = []
            told = 0
            try:
                is_done = self._ask(study, count, batch)
                if not batch:
                    continue
                scores = session.evaluate([params for _, params in batch])
                numbers += [trial.number for trial, _ in batch]
                has_failed = session.have_failed(len(batch))
                for (trial, _), score, is_failure in zip(batch, scores, has_failed, strict=True):
                    if is_failure or np.isnan(score):
                        _tell(study, trial, state=failed)
                    else:
                        _tell(study, trial, float(score))
                    told += 1
            finally:
                # No trial of a study that others share is left running.
                for trial, _ in batch[told:]:
                    _tell(study, trial, state=failed)
        if not session.trials:
            raise ValueError(_NOTHING)


def _point(trial: Any) -> Any:
    """What a sampler that tries everything once has tried; enqueued trials are none of a grid's."""
    return trial.system_attrs.get("grid_id", trial.params)


_NOTHING = "there is no candidate: space has pruned every trial, or none is left."


def _tell(study: Any, trial: Any, *score: float, **state: Any) -> None:
    """Tells a study what came of a trial.

    A sampler that has tried everything asks `optimize`, which is not running here, to stop: an error,
    but the study has been told.
    """
    try:
        study.tell(trial, *score, **state)
    except RuntimeError:
        if not study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            raise


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
