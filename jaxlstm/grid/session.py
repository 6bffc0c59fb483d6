"""One call of a search's `fit`: what has been tried so far, and how to try more."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import jax
import numpy as np
from sklearn.base import clone

from jaxlstm.estimators.inputs import is_sequence_data
from jaxlstm.grid import cluster, processes
from jaxlstm.grid.checkpoint import Checkpoint
from jaxlstm.grid.fingerprint import code_version, digest
from jaxlstm.grid.outcome import INTERRUPTED, LaneRun, Outcome
from jaxlstm.grid.pipelines import estimator_of
from jaxlstm.grid.plan import Plan
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.progress import LiveProgress
from jaxlstm.grid.results import score_columns
from jaxlstm.grid.routing import Routed
from jaxlstm.grid.run import execute
from jaxlstm.grid.scoring import Scoring
from jaxlstm.grid.space import Problem, Trial
from jaxlstm.grid.store import Store


class Session:
    """One call of `fit`: what has been tried so far, and how to try more."""

    def __init__(self, search: Any, prepared: Prepared, scoring: Scoring):
        self.search, self.prepared, self.scoring = search, prepared, scoring
        self.checkpoint: Checkpoint | None = None
        self.trials: list[Trial] = []
        self.outcomes: list[Outcome] = []
        #: How lanes run, once that is settled: the same way in all calls of `execute`.
        self.layout: str | None = None
        self.executions = 0
        self.plan: Plan | None = None
        self.where: cluster.Cluster | None = None  # None: in this process
        #: Columns that a search adds to `cv_results_`, one value a cell.
        self.columns: dict[str, list[Any]] = {}

    @property
    def problem(self) -> Problem:
        """All trials so far."""
        some = self.prepared.problem([])
        return Problem(self.trials, some.folds, some.datasets)

    def compile_time(self, here: float) -> float:
        """Seconds that compiling has cost: programs compile in the workers, side by side.

        Args:
          here: seconds spent on it in this process, summed over threads.
        """
        if self.where is not None:
            workers = self.where.backend.effective_n_jobs(self.where.n_jobs)
            return here + sum(outcome.compile_seconds for outcome in self.outcomes) / workers
        return here / (self.plan.workers if self.plan else 1)

    @property
    def is_interrupted(self) -> bool:
        """Whether the user has broken the search off."""
        return any(outcome.status == INTERRUPTED for outcome in self.outcomes)

    @contextlib.contextmanager
    def opened_checkpoint(self, routed: Routed) -> Iterator[None]:
        """Opens the search's folder, if it has one, and closes it.

        Args:
          routed: what `fit` got for scores and training.

        Raises:
          ValueError, OSError: as `Store`; a search that does not draw the same again.
        """
        search, prepared = self.search, self.prepared
        if search.checkpoint_dir is None:
            yield
            return
        own = None if search._draws else estimator_of(prepared.base).random_state
        if not isinstance(search.random_state, Integral) and not isinstance(own, Integral):
            raise ValueError(
                "checkpoint_dir needs a random_state that is an integer, so that a search that goes on"
                f" draws what it drew before; got {search.random_state!r}."
            )
        code = search._trained_by or code_version()
        fingerprint = data_digests(prepared, routed.score_weight) | {"code": code}
        scores = digest(search.scoring, search.return_train_score, routed.scores is not None)
        memo: dict[Any, Any] = {}
        cells: dict[int, str] = {}

        def describe(trial: Trial) -> str:
            """A cell's estimator, but for what its trials say themselves, and how it is scored."""
            if trial.cell not in cells:
                estimator = clone(prepared.estimators[trial.cell])
                last = estimator_of(estimator)
                last.set_params(**dict.fromkeys(_OF_TRIALS & last.get_params(deep=False).keys()))
                cells[trial.cell] = digest(estimator, memo=memo)
            fold = prepared.folds[trial.fold]
            return digest(cells[trial.cell], scores, fold.train, fold.validation)

        def opened() -> Store:
            return Store(search.checkpoint_dir, fingerprint, every=search.checkpoint_every)

        several = jax.process_count() > 1
        with processes.FirstStore(opened) if several else opened() as store:
            common = fingerprint["data"], fingerprint["code"]
            self.checkpoint = Checkpoint(
                store,
                common,
                describe,
                search.validation_freq,
                reads_only=code != code_version(),
            )
            yield

    def refit_checkpoint(self) -> Checkpoint | None:
        """Where the refit is saved and taken from; several JAX processes save none."""
        if self.checkpoint is None or not isinstance(self.checkpoint.store, Store):
            return None
        code = self.search._trained_by or code_version()
        reads_only = code != code_version()
        return Checkpoint(self.checkpoint.store, ("refit", code), reads_only=reads_only)

    def evaluate(self, candidates: Sequence[dict[str, Any]]) -> np.ndarray:
        """Trains candidates on all splits; returns their mean test scores."""
        problem = self.prepared.problem(candidates)
        outcomes = self.execute(problem)
        return self.keep(problem.trials, outcomes)

    def keep(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> np.ndarray:
        """Adds trials to the results; returns the mean score of each of their cells."""
        self.trials += trials
        self.outcomes += outcomes
        return self.scores(trials, outcomes).mean(axis=(1, 2))

    def have_failed(self, cells: int) -> list[bool]:
        """Whether a fit of each of the last so many cells has failed."""
        size = len(self.prepared.folds) * self.prepared.n_seeds
        failed = [outcome.status == "failed" for outcome in self.outcomes[-cells * size :]]
        return [any(failed[first : first + size]) for first in range(0, len(failed), size)]

    def scores(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> np.ndarray:
        """Scores ``[cells, folds, n_seeds]`` by the metric that decides; see `score_columns`."""
        columns = score_columns(outcomes, "test", self.search.error_score)
        refit = self.search.refit
        name = refit if isinstance(refit, str) and refit in columns else next(iter(columns))
        shape = -1, len(self.prepared.folds), self.prepared.n_seeds
        return np.asarray(columns[name], float).reshape(shape)

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
        self.where = where = cluster.active_cluster(search.n_jobs)
        # Memory matters before the run where lanes share a device.
        measure = None if where is None else False
        checkpoint, left = self.checkpoint, len(problem.trials)
        if checkpoint:
            left -= checkpoint.count(problem, is_first=not self.executions)
        if not left:
            measure = False  # no program is needed
        plan = search._plan(problem, measure, checkpoint=checkpoint, layout=self.layout)
        self.layout, self.executions, self.plan = plan.layout, self.executions + 1, plan
        if checkpoint:
            checkpoint.store.require(state_bytes(plan))
        display: Any = contextlib.nullcontext()
        if search.verbose and jax.process_index() == 0:
            display = LiveProgress(plan, problem, verbose=search.verbose)
        train = functools.partial(cluster.execute, where) if where else execute
        with display as progress, processes.naming_dead_peers(checkpoint is not None):
            return train(
                plan,
                problem,
                on_finish=self.scoring,
                needs_weights=self.scoring.needs_weights,
                progress=progress,
                validation_freq=search.validation_freq,
                checkpoint=checkpoint,
                begun=begun,
                keep_runs=keep_runs,
                keep_weights=search.return_estimator,
            )


def state_bytes(plan: Plan) -> int:
    """Most bytes that the lanes in work take on the disk at a time, old and new saves."""
    largest = sorted((group.state_bytes * group.slots for group in plan.groups), reverse=True)
    return 2 * sum((largest * plan.workers)[: plan.workers]) + 4096 * plan.fits


# Parameters of an estimator that its trials know better, or that do not touch their numbers.
_OF_TRIALS = {"epochs", "random_state", "verbose"}


def data_digests(prepared: Prepared, score_weight: Any) -> dict[str, str]:
    """What was given to `fit`, in a few letters; a pipeline's steps have not made their data yet."""
    datasets = prepared.problem([]).datasets
    given = [prepared.y, prepared.weight, score_weight]
    rows = prepared.X.as_list() if is_sequence_data(prepared.X) else prepared.X
    same = [(data.x.dtype, data.x.shape) for data in datasets[:1]]
    if not isinstance(rows, np.ndarray) or (rows.dtype, rows.shape) not in same:
        given.append(rows)  # a scorer sees them as they are
    return {
        "data": digest(*map(tuple, datasets), *given),
        "splits": digest([(fold.train, fold.validation) for fold in prepared.folds]),
    }
