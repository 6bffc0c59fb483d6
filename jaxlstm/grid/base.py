"""What searches share: scikit-learn's interface, with fits as lanes of compiled programs."""

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


class Session:
    """One call of `fit`: what has been tried so far, and how to try more."""

    def __init__(self, search: LaneSearch, prepared: Prepared, scoring: Scoring):
        self.search, self.prepared, self.scoring = search, prepared, scoring
        self.store: Store | None = None
        self.trials: list[Trial] = []
        self.outcomes: list[Outcome] = []
        #: How lanes run, once that is settled: the same way in all calls of `execute`.
        self.layout: str | None = None
        self.executions = 0
        self.plan: Plan | None = None
        self.trained = False  # whether a fit was not on the disk already
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
        # Memory matters before the run where lanes share a device.
        measure = None if where is None else False
        plan = search._plan(problem, measure, store=self.store, layout=self.layout)
        self.layout, self.executions, self.plan = plan.layout, self.executions + 1, plan
        if self.store:
            self.store.require(state_bytes(plan))
        known = self.store.finished() if self.store else {}
        self.trained |= any(trial.index not in known for trial in problem.trials)
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
                keep_weights=search.return_estimator,
            )


class LaneSearch(BaseSearchCV):
    """What the searches share: a subclass says which candidates to try.

    Its parameters and attributes are `GridSearch`'s, which see.
    """

    # A parameter of the searches whose trials are all trained to their end.
    return_estimator: bool = False

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

    def _try(self, session: Session) -> None:
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
        measure: bool | None,
        store: Store | None = None,
        layout: str | None = None,
    ) -> Plan:
        layout = layout or self.layout
        if store and layout == "auto":
            layout = store.notes.get("layout", layout)  # a search goes on as it began
        memory_limit = self.memory_limit
        if jax.process_count() > 1:
            if layout in ("loop", "stream"):
                raise ValueError(
                    f"layout={layout!r} trains each lane in one process; where JAX runs over"
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
            keeps_weights=self.return_estimator,
        )
        if jax.process_count() > 1:
            if self.return_estimator:
                raise ValueError(
                    "return_estimator needs one process; here JAX runs over"
                    f" {jax.process_count()} (jax.distributed)."
                )
            processes.check_same(_data_digests(prepared))
        session = Session(self, prepared, scoring)
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

    def _collect(self, session: Session) -> None:
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
        is_one = session.executions == 1 and cluster.active_cluster(self.n_jobs) is None
        plan = session.plan
        if plan is None or session.executions > 1:
            plan = self._plan(problem, False, store=session.store, layout=session.layout)
        elif is_one and plan.layout == "loop" and session.trained and not self.interrupted_:
            plan = self._plan(problem, True, store=session.store, layout="loop")
        groups = {
            problem.trials[place].index: number
            for number, group in enumerate(plan.groups)
            for place in group.trials
        }
        self.results_ = trial_table(problem, outcomes, scores["test"], groups)
        self.curves_ = curve_table(problem, outcomes)
        if self.return_estimator:
            self.estimators_ = [
                prepared.fitted(trial, outcome) if outcome.status == "ok" else None
                for trial, outcome in zip(problem.trials, outcomes, strict=True)
            ]
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

    def _report_failures(self, session: Session) -> None:
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
