"""What searches share: scikit-learn's interface, with fits as lanes of compiled programs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import jax
import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import check_is_fitted

from jaxlstm.estimators.inputs import DictRows, is_dict, targets_of, weight_of
from jaxlstm.grid import processes, program_cache
from jaxlstm.grid.checkpoint import Checkpoint
from jaxlstm.grid.failures import report_fits, report_non_finite, report_scores
from jaxlstm.grid.html import search_html
from jaxlstm.grid.measure import with_memory
from jaxlstm.grid.pipelines import estimator_of, is_nothing, last_of, pipelines_of
from jaxlstm.grid.plan import Plan, make_plan
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.randomness import untouched
from jaxlstm.grid.results import curve_table, cv_results, score_columns, trial_table
from jaxlstm.grid.routing import Routed, route, scorer_arguments, weight_name
from jaxlstm.grid.scoring import Scoring, accepts_weight, call_scorer
from jaxlstm.grid.session import Session, data_digests
from jaxlstm.grid.space import Problem
from jaxlstm.train.hyperparameters import NUMBERS, check_number


class LaneSearch(BaseSearchCV):
    """What the searches share: a subclass says which candidates to try.

    For its parameters and attributes see `GridSearch`.
    """

    #: The code, as `code_version` says, whose finished fits in ``checkpoint_dir`` are read and none
    #: trained; None: the present one, which trains.
    _trained_by: str | None = None

    # A parameter of the searches whose trials are all trained to their end.
    return_estimator: bool = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        name: allowed
        for name, allowed in BaseSearchCV._parameter_constraints.items()
        if name != "pre_dispatch"
    } | {"return_estimator": ["boolean"], "random_state": ["random_state"]}

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

    @property
    def _draws_widths(self) -> bool:
        """Whether integers, such as units, are drawn from a distribution: they may be many."""
        return False

    def _candidates(self) -> Any:
        """What is tried first, drawn before the splits are: as a rule all candidates."""
        raise NotImplementedError

    def _try(self, session: Session, candidates: Any) -> None:
        """Trains the candidates."""
        session.evaluate(candidates)

    def _problem(self, prepared: Prepared, candidates: Any) -> Problem:
        """What `plan` shows."""
        return prepared.problem(candidates)

    def _example(self, candidates: Any) -> dict[str, Any] | None:
        """One of the candidates, where there is one already."""
        return candidates[0] if candidates else None

    # -- in a notebook ----------------------------------------------------------------------------

    def _repr_html_inner(self) -> str:
        """scikit-learn's diagram, and the best cells once fitted."""
        return str(super()._repr_html_inner()) + search_html(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += search_html(self)
        return bundle

    # -- fitting ----------------------------------------------------------------------------------

    def _check(self) -> None:
        check_number("validation_freq", self.validation_freq, NUMBERS["epochs"])
        check_number("n_seeds", self.n_seeds, NUMBERS["epochs"])
        if self.memory_limit is not None:
            check_number("memory_limit", self.memory_limit, NUMBERS["epochs"])
        if self.error_score != "raise" and not isinstance(self.error_score, Real):
            raise ValueError(f"error_score must be a number or 'raise', got {self.error_score!r}.")
        if not is_nothing(last_of(self.estimator)):
            estimator_of(self.estimator)
        if type(self)._run_search is not BaseSearchCV._run_search:
            raise TypeError(
                f"{type(self).__name__} has a _run_search of its own, which is scikit-learn's way to"
                " choose candidates and is not called here; call fit with one grid after another."
            )
        if any(vars(one).get("_skl_callbacks") for one in pipelines_of(self.estimator)):
            self.set_callbacks("those of the pipeline")
        self._validate_params()

    def set_callbacks(self, *callbacks: Any) -> Any:
        """Refuses scikit-learn's callbacks: fits are lanes of one program, which has no such hooks.

        Raises:
          NotImplementedError: callbacks are given.
        """
        if callbacks:
            raise NotImplementedError(
                f"{type(self).__name__} does not call scikit-learn's callbacks, as its fits train as"
                " lanes of one program; verbose=1 shows progress, curves_ has every epoch."
            )
        return self

    def _prepare(
        self, X: Any, y: Any, groups: Any, candidates: Any, routed: Routed | None = None
    ) -> Prepared:
        more: dict[str, Any] = {}
        if routed is not None:
            more = {"sample_weight": routed.weight, "split_params": routed.split}
        return Prepared(
            self.estimator,
            X,
            y,
            groups,
            cv=self._splits(),
            random_state=self.random_state,
            n_seeds=self.n_seeds,
            refits=self.refit is not False,
            example=self._example(candidates),
            **more,
        )

    def _splits(self) -> Any:
        """``cv``; of an iterator the splits, which are kept, as it gives them once."""
        if not isinstance(self.cv, Iterator):
            return self.cv
        known = getattr(self, "_given_splits", None)
        if known is None or known[0] is not self.cv:
            self._given_splits = self.cv, list(self.cv)
        return self._given_splits[1]

    def plan(self, X: Any, y: Any = None, groups: Any = None, *, measure: bool = True) -> Plan:
        """Returns what `fit` would compile and run; print it. No random state is moved on.

        Args:
          X: rows, as for `fit`.
          y: their targets; None for those of a `jaxlstm.data.SequenceData`.
          groups: for the splitter.
          measure: whether to compile the programs, read their memory and time some steps; a later
            `fit` finds them compiled.
        """
        self._check()
        self._splits()
        with untouched(self) as search:
            candidates = search._candidates()
            problem = search._problem(search._prepare(X, y, groups, candidates), candidates)
        return self._plan(problem, measure)

    def _plan(
        self,
        problem: Problem,
        measure: bool | None,
        checkpoint: Checkpoint | None = None,
        layout: str | None = None,
    ) -> Plan:
        layout = layout or self.layout
        notes = checkpoint.store.notes if checkpoint else {}
        if layout == "auto":
            layout = notes.get("layout", layout)  # a search goes on as it began
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
            shares_widths=self._draws_widths,
        )
        if checkpoint and "layout" not in notes:
            checkpoint.store.note("layout", plan.layout)
        return plan

    def fit(self, X: Any, y: Any = None, groups: Any = None, **params: Any) -> Any:
        """Trains every candidate on every split, then the best one on all rows.

        Ctrl-C returns what is finished, with the rest marked, a warning and no refit; in the refit,
        all but ``best_estimator_``.

        Args:
          X: rows: an array ``[N, ...]``, whose sequences ``[N, T, F]`` may end in steps of NaN; a list
            of arrays ``[T_i, F]``; or a `jaxlstm.data.SequenceData`.
          y: a target per row, or per step where the estimator has ``return_sequences``; None for
            those of a `jaxlstm.data.SequenceData`.
          groups: for the splitter, ``[N]``.
          **params: ``sample_weight``, what each row or step counts for in training and, with scorers
            that take it, in scores (for a pipeline ``step__sample_weight``); with scikit-learn's
            metadata routing, what was asked for.

        Returns:
          self.

        Raises:
          TypeError, ValueError: bad data, candidates or parameters; every fit failed.
          OSError: ``checkpoint_dir`` cannot be written or its disk is too full.
        """
        self._check()
        y = targets_of(X, y)
        if is_dict(X):
            X = DictRows(X)
        if not get_config()["enable_metadata_routing"]:  # else it goes where it was asked for
            name = weight_name(self.estimator)
            params = params | {name: weight_of(X, params.get(name))}
        if get_config()["enable_metadata_routing"] and groups is not None:
            params = params | {"groups": groups}
        routed = route(self, params)
        groups = routed.split.pop("groups", groups)
        candidates = self._candidates()
        prepared = self._prepare(X, y, groups, candidates, routed)
        scoring = Scoring(
            prepared,
            scoring=self.scoring,
            refit=self.refit,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
            validation_freq=self.validation_freq,
            keeps_weights=self.return_estimator,
            sample_weight=routed.score_weight,
            arguments=routed.scores,
        )
        scoring.look_ahead()
        if jax.process_count() > 1:
            if self.return_estimator:
                raise ValueError(
                    "return_estimator needs one process; here JAX runs over"
                    f" {jax.process_count()} (jax.distributed)."
                )
            processes.check_same(data_digests(prepared, routed.score_weight))
        session = Session(self, prepared, scoring)
        for name in ("best_estimator_", "refit_time_"):
            self.__dict__.pop(name, None)  # of an earlier fit, which this one may not come to
        compiled = program_cache.compile_seconds()
        with session.opened_checkpoint(routed):
            self._try(session, candidates)
            self.interrupted_ = session.is_interrupted
            self._collect(session)
            compiled = program_cache.compile_seconds() - compiled
            self.compile_time_ = session.compile_time(compiled)
            if self.refit and not self.interrupted_:
                self._refit(session, X, y, routed.fit)
            broken = session.checkpoint.store.broken if session.checkpoint else None
        if broken:
            warnings.warn(broken, RuntimeWarning, stacklevel=2)
        return self

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """The refitted winner's score on other rows, by `scorer_`.

        Args:
          X: rows, as for `fit`.
          y: their targets.
          **params: with scikit-learn's metadata routing, ``sample_weight``.
        """
        if not self.refit:
            raise AttributeError(
                f"This {type(self).__name__} instance was initialized with `refit=False`. score is"
                " available only after refitting on the best parameters."
            )
        check_is_fitted(self, "best_estimator_")
        y = targets_of(X, y)
        scorer: Any = self.scorer_
        name = "score"
        if isinstance(scorer, dict):
            name = self.refit
            scorer = scorer[name]
        if params and get_config()["enable_metadata_routing"]:
            params = dict(process_routing(self, "score", **params).scorer["score"])
            params = scorer_arguments(self, params)[name]
        elif params:
            raise ValueError(
                f"{', '.join(params)} of score is only supported if scikit-learn's metadata routing is"
                " enabled: sklearn.set_config(enable_metadata_routing=True)."
            )
        if not get_config()["enable_metadata_routing"] and accepts_weight(scorer):
            params = {"sample_weight": weight_of(X, None)}
        score = call_scorer(scorer, self.best_estimator_, X, y, **params)
        return float(score[self.refit] if isinstance(score, Mapping) else score)

    def _collect(self, session: Session) -> None:
        """Sets the fitted attributes from the trials' outcomes."""
        prepared, outcomes = session.prepared, session.outcomes
        report_fits(session.trials, outcomes, self.error_score)
        report_scores(session.trials, outcomes, self.error_score)
        shape = len(prepared.candidates), len(prepared.folds), prepared.n_seeds
        parts = ["test", "train"] if self.return_train_score else ["test"]
        scores = {part: score_columns(outcomes, part, self.error_score) for part in parts}
        given = [(one.scores or {}).get("test") for one in outcomes]
        self.multimetric_ = any(isinstance(found, Mapping) for found in given)

        def table(values: Sequence[Any]) -> np.ndarray:
            """Means over the seeds, ``[cells, folds]``."""
            return np.asarray(values, float).reshape(shape).mean(axis=2)

        self.cv_results_ = cv_results(
            prepared.candidates,
            {
                part: {metric: table(values) for metric, values in scores[part].items()}
                for part in parts
            },
            table([outcome.fit_seconds for outcome in outcomes]),
            table([(one.scores or {}).get("seconds", 0.0) for one in outcomes]),
        )
        self.cv_results_ |= {name: np.asarray(values) for name, values in session.columns.items()}
        if not self.interrupted_:
            report_non_finite(self.cv_results_, parts)
        problem = session.problem
        plan = session.plan
        # Trials that were trained in several calls may be grouped otherwise here.
        if plan is None or session.executions > 1:
            plan = self._plan(problem, False, layout=session.layout)
        if plan.layout == "loop":
            plan = with_memory(plan, problem)
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
            if not isinstance(index, Integral):
                raise TypeError(f"refit must return an index, got {index!r}.")
            if not 0 <= int(index) < len(self.cv_results_["params"]):
                raise IndexError(f"refit returned {index}, which is no index of a cell.")
            self.best_index_ = int(index)
        else:
            self.best_index_ = int(self._best(metric))
            self.best_score_ = float(self.cv_results_[f"mean_test_{metric}"][self.best_index_])
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _best(self, metric: str) -> int:
        return int(self.cv_results_[f"rank_test_{metric}"].argmin())

    def _refit(self, session: Session, X: Any, y: Any, params: Mapping[str, Any]) -> None:
        prepared = session.prepared
        estimator = clone(prepared.estimators[self.best_index_])
        last = estimator_of(estimator)
        if not isinstance(last.random_state, Integral):
            # The winner can be trained again by anybody.
            last.random_state = prepared.refit_seed
        start, compiled = time.perf_counter(), program_cache.compile_seconds()
        last._checkpoint = checkpoint = session.refit_checkpoint()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="X was converted")  # said by the search
                self.best_estimator_ = estimator.fit(X, y, **params)
        except KeyboardInterrupt:
            self.interrupted_ = True
            way_on = "is saved, and the same fit goes on with it" if checkpoint else "is lost"
            warnings.warn(
                f"Interrupted: all {len(session.outcomes)} fits are finished, the refit is not and"
                f" {way_on}. There is no best_estimator_.",
                RuntimeWarning,
                stacklevel=3,
            )
            return
        finally:
            last.__dict__.pop("_checkpoint", None)
            compiling = program_cache.compile_seconds() - compiled
            self.compile_time_ += compiling
        self.refit_time_ = time.perf_counter() - start - compiling
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
