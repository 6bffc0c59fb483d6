"""Searches with scikit-learn's interface whose fits are lanes of compiled programs."""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import jax
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.model_selection._search import BaseSearchCV

from jaxlstm.grid import cluster, processes
from jaxlstm.grid.outcome import INTERRUPTED, LaneRun, Outcome
from jaxlstm.grid.plan import Plan, make_plan
from jaxlstm.grid.prepare import Prepared, classifier_of
from jaxlstm.grid.progress import LiveProgress
from jaxlstm.grid.results import curve_table, cv_results, trial_table
from jaxlstm.grid.run import execute
from jaxlstm.grid.scoring import Scoring
from jaxlstm.grid.space import Problem, Trial
from jaxlstm.grid.store import Store, code_version, digest
from jaxlstm.train.hyperparameters import NUMBERS, check_number


class _Session:
    """One call of `fit`: what has been tried so far, and how to try more."""

    def __init__(self, search: LaneSearch, prepared: Prepared, scoring: Scoring):
        self.search, self.prepared, self.scoring = search, prepared, scoring
        self.store: Store | None = None
        self.trials: list[Trial] = []
        self.outcomes: list[Outcome] = []
        #: How lanes run, once that is settled: the same way in all calls of `execute`.
        self.layout: str | None = None
        self.executions = 0
        #: Columns that a search adds to `cv_results_`, one value a cell.
        self.columns: dict[str, list[Any]] = {}

    @property
    def problem(self) -> Problem:
        """All trials so far."""
        some = self.prepared.problem([])
        return Problem(self.trials, some.folds, some.datasets)

    @property
    def is_interrupted(self) -> bool:
        """Whether the user has broken the search off."""
        return any(outcome.status == INTERRUPTED for outcome in self.outcomes)

    def evaluate(self, candidates: Sequence[dict[str, Any]]) -> np.ndarray:
        """Trains candidates on all splits; returns their mean test scores, NaN where a fit failed."""
        problem = self.prepared.problem(candidates)
        outcomes = self.execute(problem)
        return self.keep(problem.trials, outcomes)

    def keep(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> np.ndarray:
        """Adds trials to the results; returns the mean score of each of their cells."""
        self.trials += trials
        self.outcomes += outcomes
        return self.scores(trials, outcomes).mean(axis=(1, 2))

    def scores(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> np.ndarray:
        """Scores ``[cells, folds, n_seeds]`` by the metric that decides; NaN where there is none."""
        refit = self.search.refit
        values = []
        for outcome in outcomes:
            score = (outcome.scores or {}).get("test", np.nan)
            if isinstance(score, Mapping):
                score = score[refit if isinstance(refit, str) else next(iter(score))]
            values.append(score)
        shape = -1, len(self.prepared.folds), self.prepared.n_seeds
        return np.asarray(values, float).reshape(shape)

    def execute(
        self,
        problem: Problem,
        *,
        begun: Mapping[int, LaneRun] | None = None,
        keep_runs: bool = False,
    ) -> list[Outcome]:
        """Plans and trains trials, with the search's settings."""
        search = self.search
        if jax.process_count() > 1:
            trials = [(trial.params, trial.seed, trial.rows) for trial in problem.trials]
            processes.check_same({"the candidates or seeds": digest(trials)})
        where = cluster.active_cluster(search.n_jobs)
        plan = search._plan(problem, measure=False, store=self.store, layout=self.layout)
        self.layout, self.executions = plan.layout, self.executions + 1
        if plan.layout == "vmap" and where is None:
            # Memory matters before the run where lanes share a device.
            plan = search._plan(problem, measure=True, store=self.store, layout="vmap")
        if self.store:
            self.store.require(state_bytes(plan))
        display: Any = contextlib.nullcontext()
        if search.verbose and jax.process_index() == 0:
            display = LiveProgress(plan, problem)
        train = functools.partial(cluster.execute, where) if where else execute
        with display as progress:
            return train(
                plan,
                problem,
                on_finish=self.scoring,
                needs_weights=self.scoring.needs_weights,
                progress=progress,
                validation_freq=search.validation_freq,
                store=self.store,
                begun=begun,
                keep_runs=keep_runs,
            )


class LaneSearch(BaseSearchCV):
    """What the searches share: a subclass says which candidates to try.

    Its parameters and attributes are `GridSearch`'s, which see.
    """

    def __init__(
        self,
        estimator: Any,
        *,
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
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.validation_freq = validation_freq
        self.n_seeds = n_seeds
        self.random_state = random_state
        self.layout = layout
        self.memory_limit = memory_limit
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    # -- what a subclass says ---------------------------------------------------------------------

    @property
    def _draws(self) -> bool:
        """Whether the candidates depend on `random_state`."""
        return False

    def _candidates(self) -> list[dict[str, Any]]:
        """All candidates, where they are known before anything is trained."""
        raise NotImplementedError

    def _try(self, session: _Session) -> None:
        """Trains the candidates."""
        session.evaluate(self._candidates())

    def _problem(self, prepared: Prepared) -> Problem:
        """What `plan` shows."""
        return prepared.problem(self._candidates())

    # -- fitting ----------------------------------------------------------------------------------

    def _check(self) -> None:
        check_number("validation_freq", self.validation_freq, NUMBERS["epochs"])
        check_number("n_seeds", self.n_seeds, NUMBERS["epochs"])
        if self.memory_limit is not None:
            check_number("memory_limit", self.memory_limit, NUMBERS["epochs"])
        if self.error_score != "raise" and not isinstance(self.error_score, Real):
            raise ValueError(f"error_score must be a number or 'raise', got {self.error_score!r}.")

    def _prepare(self, X: Any, y: Any, groups: Any) -> Prepared:
        self._check()
        return Prepared(
            self.estimator,
            X,
            y,
            groups,
            cv=self.cv,
            random_state=self.random_state,
            n_seeds=self.n_seeds,
        )

    def plan(self, X: Any, y: Any, groups: Any = None, *, measure: bool = True) -> Plan:
        """Returns what `fit` would compile and run; print it.

        Args:
          X: rows, as for `fit`.
          y: labels.
          groups: for the splitter.
          measure: whether to compile the programs, read their memory and time some steps; a later
            `fit` finds them compiled.
        """
        return self._plan(self._problem(self._prepare(X, y, groups)), measure)

    def _plan(
        self,
        problem: Problem,
        measure: bool,
        store: Store | None = None,
        layout: str | None = None,
    ) -> Plan:
        layout = layout or self.layout
        if store and layout == "auto":
            layout = store.notes.get("layout", layout)  # a search goes on as it began
        memory_limit = self.memory_limit
        if jax.process_count() > 1:
            if layout == "loop":
                raise ValueError(
                    "layout='loop' trains each lane in one process; where JAX runs over"
                    f" {jax.process_count()} processes (jax.distributed) it must be 'vmap' or 'auto'."
                )
            memory_limit = processes.least_memory(memory_limit)
        plan = make_plan(
            problem,
            layout=layout,
            n_jobs=self.n_jobs,
            measure=measure,
            memory_limit=memory_limit,
            validation_freq=self.validation_freq,
        )
        if store and "layout" not in store.notes:
            store.note("layout", plan.layout)
        return plan

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        """Trains every candidate on every split, then the best one on all rows.

        Ctrl-C returns what is finished, with the rest marked, a warning and no refit.

        Args:
          X: rows ``[N, ...]``.
          y: labels ``[N]``.
          groups: for the splitter, ``[N]``.

        Returns:
          self.

        Raises:
          TypeError, ValueError: bad data, candidates or parameters; every fit failed.
          OSError: ``checkpoint_dir`` cannot be written or its disk is too full.
        """
        prepared = self._prepare(X, y, groups)
        scoring = Scoring(
            prepared,
            scoring=self.scoring,
            refit=self.refit,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
            validation_freq=self.validation_freq,
        )
        if jax.process_count() > 1:
            processes.check_same(_data_digests(prepared))
        session = _Session(self, prepared, scoring)
        with self._opened_store(prepared) as session.store:
            self._try(session)
            broken = session.store.broken if session.store else None
        if broken:
            warnings.warn(broken, RuntimeWarning, stacklevel=2)
        self.interrupted_ = session.is_interrupted
        self._collect(session)
        if self.refit and not self.interrupted_:
            self._refit(prepared, X, y)
        return self

    @contextlib.contextmanager
    def _opened_store(self, prepared: Prepared) -> Iterator[Store | None]:
        if self.checkpoint_dir is None:
            yield None
            return
        own = None if self._draws else classifier_of(prepared.base).random_state
        if not isinstance(self.random_state, Integral) and not isinstance(own, Integral):
            raise ValueError(
                "checkpoint_dir needs a random_state that is an integer, so that a search that goes on"
                f" draws what it drew before; got {self.random_state!r}."
            )
        settings = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in _FREE and name != "estimator"
        }
        fingerprint = _data_digests(prepared) | {
            "settings": digest(type(self).__name__, settings, prepared.base),
            "code": code_version(),
        }

        def opened() -> Store:
            return Store(self.checkpoint_dir, fingerprint, every=self.checkpoint_every)

        several = jax.process_count() > 1
        with processes.FirstStore(opened) if several else opened() as store:
            yield cast(Store, store)

    def _collect(self, session: _Session) -> None:
        """Sets the fitted attributes from the trials' outcomes."""
        prepared, outcomes = session.prepared, session.outcomes
        self._report_failures(session)
        shape = len(prepared.candidates), len(prepared.folds), prepared.n_seeds
        done = [outcome.scores or {} for outcome in outcomes]
        first = next(scores["test"] for scores in done if "test" in scores)
        self.multimetric_ = isinstance(first, Mapping)
        metrics = list(first) if self.multimetric_ else ["score"]

        def value(outcome: Outcome, part: str, metric: str) -> Any:
            found = (outcome.scores or {}).get(part)
            if found is None:
                is_failure = outcome.status == "failed" and self.error_score != "raise"
                return self.error_score if is_failure else np.nan
            return found[metric] if self.multimetric_ else found

        def table(values: Sequence[Any]) -> np.ndarray:
            """Means over the seeds, ``[cells, folds]``."""
            return np.asarray(values, float).reshape(shape).mean(axis=2)

        parts = ["test", "train"] if self.return_train_score else ["test"]
        scores = {
            part: {metric: [value(one, part, metric) for one in outcomes] for metric in metrics}
            for part in parts
        }
        self.cv_results_ = cv_results(
            prepared.candidates,
            {
                part: {metric: table(values) for metric, values in scores[part].items()}
                for part in parts
            },
            table([outcome.fit_seconds for outcome in outcomes]),
            table([found.get("seconds", 0.0) for found in done]),
        )
        self.cv_results_ |= {name: np.asarray(values) for name, values in session.columns.items()}
        problem = session.problem
        # What was trained here is compiled, so that reading the programs' memory costs nothing;
        # trials that were trained in several calls may be grouped otherwise here.
        measure = session.executions <= 1 and cluster.active_cluster(self.n_jobs) is None
        measure = measure and not self.interrupted_
        plan = self._plan(problem, measure, store=session.store, layout=session.layout)
        groups = {
            problem.trials[place].index: number
            for number, group in enumerate(plan.groups)
            for place in group.trials
        }
        self.results_ = trial_table(problem, outcomes, scores["test"], groups)
        self.curves_ = curve_table(problem, outcomes)
        self.plan_ = plan
        self.n_splits_ = len(prepared.folds)
        self.scorer_ = session.scoring.scorer
        if self.refit or not self.multimetric_:
            self._choose(
                self.refit if isinstance(self.refit, str) and self.multimetric_ else "score"
            )

    def _choose(self, metric: str) -> None:
        if callable(self.refit):
            index = self.refit(self.cv_results_)
            if not isinstance(index, int | np.integer):
                raise TypeError(f"refit must return an index, got {index!r}.")
            if not 0 <= index < len(self.cv_results_["params"]):
                raise IndexError(f"refit returned {index}, which is no index of a cell.")
            self.best_index_ = int(index)
        else:
            self.best_index_ = int(self._best(metric))
            self.best_score_ = float(self.cv_results_[f"mean_test_{metric}"][self.best_index_])
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _best(self, metric: str) -> int:
        return int(self.cv_results_[f"rank_test_{metric}"].argmin())

    def _report_failures(self, session: _Session) -> None:
        outcomes = session.outcomes
        trials = {trial.index: trial for trial in session.trials}
        interrupted = [one for one in outcomes if one.status == INTERRUPTED]
        if not any("test" in (one.scores or {}) for one in outcomes) and interrupted:
            raise KeyboardInterrupt("interrupted before a fit was finished")
        if interrupted:
            warnings.warn(
                f"Interrupted: {len(outcomes) - len(interrupted)} of {len(outcomes)} fits are"
                " finished, the rest are marked and have no score. There is no refit.",
                RuntimeWarning,
                stacklevel=4,
            )
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        if not failed:
            return
        named = "; ".join(
            f"{t.params}, fold {t.fold}" for t in (trials[one.trial] for one in failed[:5])
        )
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        message = (
            f"{len(failed)} of {len(outcomes)} fits failed ({failed[0].failed}): {named}{more}."
        )
        if len(failed) == len(outcomes):
            raise ValueError(f"{message} Nothing is left to choose from.")
        warnings.warn(
            f"{message} Their score is {self.error_score}.", FitFailedWarning, stacklevel=4
        )

    def _refit(self, prepared: Prepared, X: Any, y: Any) -> None:
        estimator = clone(prepared.estimators[self.best_index_])
        classifier = classifier_of(estimator)
        if not isinstance(classifier.random_state, Integral):
            # The winner can be trained again by anybody.
            classifier.random_state = prepared.refit_seed
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X was converted")  # said by the search
            self.best_estimator_ = estimator.fit(X, y)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


# Parameters of a search that may change when it goes on: they do not touch its numbers.
_FREE = ("n_jobs", "layout", "memory_limit", "checkpoint_dir", "checkpoint_every", "verbose")


def _data_digests(prepared: Prepared) -> dict[str, str]:
    datasets = prepared.problem([]).datasets
    return {
        "data": digest([(data.x, data.y) for data in datasets] or [prepared.labels]),
        "splits": digest([(fold.train, fold.validation) for fold in prepared.folds]),
    }


def state_bytes(plan: Plan) -> int:
    """Most bytes that the lanes in work take on the disk at a time, old and new saves."""
    largest = sorted((group.state_bytes * group.slots for group in plan.groups), reverse=True)
    return 2 * sum((largest * plan.workers)[: plan.workers]) + 4096 * plan.fits


class GridSearch(LaneSearch):
    """Searches a parameter grid, with all cells and folds trained as lanes of compiled programs.

    The interface is scikit-learn's `GridSearchCV`; so are the meaning and the defaults of what both
    have. Cells that differ in the network's shape are programs of their own, unless padding their
    widths is cheaper; all others share one, and those that differ in epochs alone one run.

    On a cluster: inside ``with joblib.parallel_config(backend="dask")`` (or ``"ray"``, after Ray's own
    `register_ray`; or ``"loky"``, processes of this machine) `fit` sends lanes to the workers in a few
    tasks each, and takes the results as they come. A worker that dies loses nothing with Dask and Ray;
    loky raises. Results equal those without a cluster bit for bit where lanes run one at a time on
    processors of one kind. ``checkpoint_dir`` keeps the fits that came back; lanes in work on a worker
    are not saved. Workers with an accelerator should have one thread each, and ``layout="vmap"``. The
    data set is sent once a `fit`, or once a round where a search has several.

    In several JAX processes: each calls `jax.distributed.initialize` and then runs the same script. The
    lanes run side by side on all devices of all processes, and each process gets the whole result.
    Process 0 alone writes ``checkpoint_dir``, finished fits only. Data, splits and seeds must be the
    same everywhere, which is checked.

    Args:
      estimator: an `LSTMClassifier`, a `FlaxClassifier`, or a Pipeline that ends in one. The
        pipeline's other steps are fitted on each fold's training rows.
      param_grid: a dict of name: values, or a list of such dicts.
      scoring: None (accuracy), a scorer's name, a callable ``(estimator, X, y)``, or several as a
        list or dict.
      refit: whether to train the best cell on all rows; a metric's name where there are several, or
        a callable that picks the best index from `cv_results_`.
      cv: number of stratified folds (5 by default), a splitter, or an iterable of splits.
      error_score: the score of a lane that diverged or could not be scored, or "raise".
      return_train_score: whether to score on the training rows as well.
      validation_freq: validate every so many epochs (Keras's name and meaning), and after the last
        one in any case; a large number saves time and leaves gaps in `curves_`.
      n_seeds: fits of each cell and fold that differ in their seed alone; `cv_results_` has their
        mean, `results_` each.
      random_state: seed for an estimator whose own ``random_state`` is None: an integer, a
        RandomState or None. Folds get different seeds, cells the same ones.
      n_jobs: CPU cores to use; None or -1 for all. An accelerator does not look at it. On a cluster,
        how many workers; None for what `joblib.parallel_config` says, or all.
      layout: how lanes run: "loop" (one after another on each CPU core), "vmap" (side by side), or
        "auto", which picks by the device and, for long searches, by timing both.
      memory_limit: bytes that the lanes of a program and the data may take on one device; 80 % of
        what is free by default. With "vmap" fewer lanes run at a time for it.
      checkpoint_dir: a folder to save finished fits and lanes in work in. A search that was killed
        goes on there when `fit` is called again with the same data and settings.
      checkpoint_every: seconds between two saves of the lanes in work.
      verbose: 1 shows a progress bar.

    Attributes:
      cv_results_: scikit-learn's table.
      best_index_: the best cell.
      best_params_: its parameters.
      best_score_: its mean test score.
      best_estimator_: the refitted winner.
      refit_time_: seconds of the refit.
      n_splits_: number of folds.
      scorer_: the scorer, or a dict of them.
      multimetric_: whether there are several metrics.
      plan_: the `Plan` that was run.
      results_: one row a trial, a pandas table.
      curves_: one row a trial and epoch.
      interrupted_: whether Ctrl-C ended it before all fits were done.

    Example:
      >>> import numpy as np
      >>> from jaxlstm import LSTMClassifier
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = np.where(X[:, :, 0].sum(1) > 0, "up", "down")
      >>> search = GridSearch(
      ...     LSTMClassifier(units=8, epochs=40), {"learning_rate": [1e-5, 0.02]}, cv=3, random_state=0
      ... )
      >>> search.fit(X, y).best_params_
      {'learning_rate': 0.02}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
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
        self.param_grid = param_grid

    def _candidates(self) -> list[dict[str, Any]]:
        try:
            candidates = list(ParameterGrid(self.param_grid))
        except (TypeError, ValueError) as error:
            raise type(error)(f"param_grid: {error}") from error
        grids = [self.param_grid] if isinstance(self.param_grid, Mapping) else self.param_grid
        if not candidates or not any(grids):
            raise ValueError(
                "param_grid is empty: give at least one parameter with at least one value, such as"
                " {'units': [32, 64]}."
            )
        return candidates


class RandomSearch(LaneSearch):
    """Searches random draws from distributions; see `GridSearch` for all that both have.

    The interface is scikit-learn's `RandomizedSearchCV`, and the same ``random_state`` draws the same
    candidates.

    Args:
      estimator: see `GridSearch`.
      param_distributions: a dict of name: values or a SciPy distribution, or a list of such dicts.
      n_iter: how many candidates to draw.
      scoring: this and all that follow are `GridSearch`'s.
      refit: see `GridSearch`.
      cv: see `GridSearch`.
      error_score: see `GridSearch`.
      return_train_score: see `GridSearch`.
      validation_freq: see `GridSearch`.
      n_seeds: see `GridSearch`.
      random_state: seed of the draws, too.
      n_jobs: see `GridSearch`.
      layout: see `GridSearch`.
      memory_limit: see `GridSearch`.
      checkpoint_dir: see `GridSearch`.
      checkpoint_every: see `GridSearch`.
      verbose: see `GridSearch`.
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
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
        self.param_distributions = param_distributions
        self.n_iter = n_iter

    @property
    def _draws(self) -> bool:
        return True

    def _candidates(self) -> list[dict[str, Any]]:
        check_number("n_iter", self.n_iter, NUMBERS["epochs"])
        return drawn(self.param_distributions, self.n_iter, self.random_state)


def drawn(distributions: Any, count: int, random_state: Any) -> list[dict[str, Any]]:
    """Draws candidates as scikit-learn does, NumPy's numbers as Python's.

    Raises:
      TypeError, ValueError: distributions that scikit-learn does not take, or none.
    """
    if not distributions:
        raise ValueError(
            "param_distributions is empty: give at least one parameter, such as"
            " {'learning_rate': scipy.stats.loguniform(1e-4, 1e-1)}."
        )
    try:
        sampler = ParameterSampler(distributions, count, random_state=random_state)
        candidates = list(sampler)
    except (TypeError, ValueError) as error:
        raise type(error)(f"param_distributions: {error}") from error
    return [
        {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in candidate.items()
        }
        for candidate in candidates
    ]
