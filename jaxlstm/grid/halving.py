"""Successive halving and Hyperband on lanes: whoever is good enough goes on from where it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from jaxlstm.grid.base import LaneSearch
from jaxlstm.grid.outcome import INTERRUPTED, LaneRun, Outcome
from jaxlstm.grid.pipelines import prefix_of
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.rungs import Bracket, best, hyperband, successive_halving
from jaxlstm.grid.search import drawn, draws_widths, listed
from jaxlstm.grid.session import Session
from jaxlstm.grid.space import Problem

Candidates = list[dict[str, Any]]


class HalvingSearch(LaneSearch):
    """Trains all candidates for few epochs, the best of them for more, and so on.

    The interface is scikit-learn's `HalvingGridSearchCV` and `HalvingRandomSearchCV`, with epochs as
    the resource. A candidate that survives goes on from its state: nothing is trained twice, and in the
    "loop" layout it ends with the same bits as a trial of that many epochs by itself. For that, a
    schedule that looks at the number of epochs plans for those of the last iteration from the start.
    With a ``validation_freq`` above 1 an iteration's end is validated in any case, which early
    stopping sees. A candidate that early stopping has ended stays as it is in later iterations.

    Args:
      estimator: see `GridSearch`.
      param_grid: a dict of name: values, or a list of such dicts; with ``n_candidates`` or Hyperband,
        SciPy distributions too.
      n_candidates: None tries the whole grid; a number draws so many candidates, and "exhaust" as many
        as let the last iteration have all resources.
      factor: the best 1 / factor of the candidates go on, to factor times as many epochs.
      resource: "epochs" is all there is.
      max_resources: epochs of the last iteration, at most; "auto" for the estimator's own.
      min_resources: epochs of the first iteration; "smallest" for 1, "exhaust" for as many as let the
        last iteration have all resources (for Hyperband both are 1).
      aggressive_elimination: whether to repeat the first iteration's epochs where there are too many
        candidates for what the resources allow.
      brackets: 1, or "hyperband" for Hyperband (arXiv:1603.06560): several brackets, one after
        another, from many candidates that begin with few epochs to few that train in full at once.
        Each draws its own candidates, so ``n_candidates`` must be None.
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
      checkpoint_dir: see `GridSearch`. The survivors' states are saved when an iteration ends. Those
        of an iteration that a kill has cut short are lost for the candidates that were finished in
        it; such a survivor trains from its beginning: the same result, later.
      checkpoint_every: see `GridSearch`.
      verbose: see `GridSearch`.

    Attributes:
      cv_results_: one row a candidate and iteration, with columns ``iter``, ``n_resources`` (epochs so
        far) and ``bracket``. Times are those of all its epochs so far.
      best_index_: the best of the last iteration, of every bracket's with Hyperband; of all where
        none of those has a score.
      n_resources_: epochs of each iteration; with Hyperband this and all below are lists, one value a
        bracket.
      n_candidates_: candidates of each iteration.
      n_remaining_candidates_: how many the last iteration leaves.
      n_iterations_: iterations run.
      n_required_iterations_: iterations that end with fewer than ``factor`` candidates.
      n_possible_iterations_: iterations that the resources allow.
      min_resources_: epochs of the first iteration.
      max_resources_: the most epochs; always one number.

    Raises:
      TypeError, ValueError: by `fit` and `plan`, for a bad parameter.

    Example:
      >>> import numpy as np
      >>> from jaxlstm import LSTMClassifier
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = np.where(X[:, :, 0].sum(1) > 0, "up", "down")
      >>> search = HalvingSearch(
      ...     LSTMClassifier(units=8, epochs=36),
      ...     {"learning_rate": [1e-5, 1e-4, 0.02]},
      ...     cv=3,
      ...     random_state=0,
      ... )
      >>> search.fit(X, y).best_params_
      {'learning_rate': 0.02, 'epochs': 36}
      >>> search.n_candidates_, search.n_resources_
      ([3, 1], [12, 36])
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_candidates: int | str | None = None,
        factor: float = 3,
        resource: str = "epochs",
        max_resources: int | str = "auto",
        min_resources: int | str = "exhaust",
        aggressive_elimination: bool = False,
        brackets: int | str = 1,
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
        self.n_candidates = n_candidates
        self.factor = factor
        self.resource = resource
        self.max_resources = max_resources
        self.min_resources = min_resources
        self.aggressive_elimination = aggressive_elimination
        self.brackets = brackets

    @property
    def _draws(self) -> bool:
        return self.n_candidates is not None or self.brackets == "hyperband"

    @property
    def _draws_widths(self) -> bool:
        return self._draws and draws_widths(self.param_grid)

    # -- parameters -------------------------------------------------------------------------------

    def _check(self) -> None:
        super()._check()
        _check_count("n_candidates", self.n_candidates, None, "exhaust")
        _check_count("max_resources", self.max_resources, "auto")
        _check_count("min_resources", self.min_resources, "smallest", "exhaust")
        if isinstance(self.factor, bool) or not isinstance(self.factor, Real):
            raise TypeError(f"factor must be a number above 1, got {self.factor!r}.")
        if not 1 < self.factor < math.inf:
            raise ValueError(f"factor must be a number above 1, got {self.factor!r}.")
        if self.resource != "epochs":
            raise ValueError(
                f"resource must be 'epochs', which lanes can go on with, got {self.resource!r}."
            )
        if self.brackets != "hyperband" and (isinstance(self.brackets, bool) or self.brackets != 1):
            raise ValueError(f"brackets must be 1 or 'hyperband', got {self.brackets!r}.")
        if self.brackets == "hyperband" and self.n_candidates is not None:
            raise ValueError(
                "Hyperband says itself how many candidates each bracket draws: n_candidates must be"
                f" None, got {self.n_candidates!r}."
            )
        if self.brackets == "hyperband" and self.aggressive_elimination:
            raise ValueError("Hyperband has no aggressive_elimination: it must be False.")
        if self.n_candidates == self.min_resources == "exhaust":
            raise ValueError(
                "n_candidates and min_resources cannot both be 'exhaust': one follows from the other."
            )

    def _epochs_name(self) -> str:
        """What the epochs are called as a parameter of the estimator."""
        return f"{prefix_of(self.estimator)}epochs"

    def _most(self) -> int:
        """Epochs that a lane may have."""
        if self.max_resources != "auto":
            return int(self.max_resources)
        name = self._epochs_name()
        params = self.estimator.get_params()
        if name not in params:
            raise ValueError(
                "max_resources='auto' takes the estimator's epochs, but the pipeline has no last step"
                " yet: give a number."
            )
        _check_count(name, params[name])
        return int(params[name])

    def _candidates(self) -> list[tuple[Bracket, Candidates]]:
        """The brackets and their first candidates; draws those that are drawn."""
        name = self._epochs_name()
        most = self._most()
        least = 1 if isinstance(self.min_resources, str) else int(self.min_resources)
        if least > most:
            raise ValueError(f"min_resources={least} is more than max_resources, {most}.")
        limits: dict[str, Any] = {
            "min_resources": least,
            "max_resources": most,
            "factor": self.factor,
        }
        found = []
        if self.brackets == "hyperband":
            source = check_random_state(self.random_state)
            for bracket in hyperband(**limits):
                found.append((bracket, self._drawn(bracket.rungs[0].candidates, source)))
        else:
            candidates = self._first_candidates(most // least)
            bracket = successive_halving(
                len(candidates),
                exhausts=self.min_resources == "exhaust",
                aggressive=self.aggressive_elimination,
                **limits,
            )
            found.append((bracket, candidates))
        if any(name in candidate for _, candidates in found for candidate in candidates):
            raise ValueError(
                f"{name!r} is the resource, so it cannot be searched: take it out of param_grid, or"
                " use GridSearch, where trials that differ in epochs alone share one run."
            )
        return found

    def _first_candidates(self, exhausting: int) -> Candidates:
        if self.n_candidates is not None:
            count = exhausting if self.n_candidates == "exhaust" else self.n_candidates
            return self._drawn(int(count), self.random_state)
        grids = [self.param_grid] if isinstance(self.param_grid, Mapping) else self.param_grid
        for grid in grids if isinstance(grids, Sequence) else []:
            for name, values in grid.items() if isinstance(grid, Mapping) else []:
                if hasattr(values, "rvs"):
                    raise ValueError(
                        f"param_grid has a distribution for {name!r}: say with n_candidates how many"
                        " candidates to draw, or give a list of values."
                    )
        return listed(self.param_grid)

    def _drawn(self, count: int, random_state: Any) -> Candidates:
        try:
            return drawn(self.param_grid, count, random_state)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("param_distributions", "param_grid", 1)) from error

    # -- training ---------------------------------------------------------------------------------

    def _example(self, candidates: list[tuple[Bracket, Candidates]]) -> dict[str, Any]:
        return candidates[0][1][0]

    def _problem(self, prepared: Prepared, candidates: list[tuple[Bracket, Candidates]]) -> Problem:
        """The first iteration of the first bracket."""
        bracket, first_candidates = candidates[0]
        first, last = bracket.rungs[0], bracket.rungs[-1]
        return self._rung(prepared, first_candidates, first.epochs, last.epochs)

    def _try(self, session: Session, candidates: list[tuple[Bracket, Candidates]]) -> None:
        self.max_resources_ = self._most()
        self._ends: list[int] = []  # rows of `cv_results_` that the best may come from
        found = []
        columns = session.columns
        columns |= {"iter": [], "n_resources": [], "bracket": []}
        for number, (bracket, first_candidates) in enumerate(candidates):
            done = list(self._train(session, bracket, first_candidates))
            found.append((bracket, done))
            for iteration, (count, epochs) in enumerate(done):
                columns["iter"] += [iteration] * count
                columns["n_resources"] += [epochs] * count
                columns["bracket"] += [number] * count
            rows = len(columns["iter"])
            self._ends += range(rows - done[-1][0], rows)
            if session.is_interrupted:
                break
        each: dict[str, list[Any]] = {
            "n_resources_": [[epochs for _, epochs in done] for _, done in found],
            "n_candidates_": [[count for count, _ in done] for _, done in found],
            "n_remaining_candidates_": [math.ceil(done[-1][0] / self.factor) for _, done in found],
            "n_iterations_": [len(done) for _, done in found],
            "n_required_iterations_": [bracket.required for bracket, _ in found],
            "n_possible_iterations_": [bracket.possible for bracket, _ in found],
            "min_resources_": [bracket.start for bracket, _ in found],
        }
        for name, values in each.items():
            setattr(self, name, values if self.brackets == "hyperband" else values[0])

    def _train(
        self, session: Session, bracket: Bracket, candidates: Candidates
    ) -> Iterator[tuple[int, int]]:
        """Trains one bracket; gives candidates and epochs of each iteration as it ends."""
        prepared, last = session.prepared, bracket.rungs[-1]
        before: list[Outcome] = []
        for place, rung in enumerate(bracket.rungs):
            problem = self._rung(prepared, candidates, rung.epochs, last.epochs)
            outcomes = _go_on(session, problem, before, keep_runs=rung is not last)
            scores = session.keep(problem.trials, outcomes)
            yield len(candidates), rung.epochs
            count = 0 if rung is last else bracket.rungs[place + 1].candidates
            chosen = best(scores, count)
            size = len(problem.trials) // len(candidates)
            places = [cell * size + one for cell in chosen for one in range(size)]
            before = [dataclasses.replace(outcomes[one]) for one in places]
            for outcome in outcomes:
                outcome.run = None  # the others' states are not needed any more
            if rung is last or session.is_interrupted:
                return
            candidates = [candidates[cell] for cell in chosen]

    def _rung(
        self, prepared: Prepared, candidates: Candidates, epochs: int, planned: int
    ) -> Problem:
        """Trials that end after ``epochs``, with schedules that plan for ``planned``."""
        name = self._epochs_name()
        problem = prepared.problem([candidate | {name: planned} for candidate in candidates])
        for cell in dict.fromkeys(trial.cell for trial in problem.trials):
            prepared.candidates[cell][name] = epochs
            prepared.estimators[cell].set_params(**{name: epochs})
        trials = [
            dataclasses.replace(trial, network=dataclasses.replace(trial.network, epochs=epochs))
            for trial in problem.trials
        ]
        return Problem(trials, problem.folds, problem.datasets)

    def _best(self, metric: str) -> int:
        if np.isnan(self.cv_results_[f"mean_test_{metric}"][self._ends]).all():
            return super()._best(metric)  # the last iteration was interrupted, or all of it failed
        ranks = self.cv_results_[f"rank_test_{metric}"][self._ends]
        return self._ends[int(ranks.argmin())]


def _go_on(
    session: Session, problem: Problem, before: list[Outcome], keep_runs: bool
) -> list[Outcome]:
    """Trains trials on from what the iteration before left of each; from the beginning without."""
    done: dict[int, Outcome] = {}
    begun: dict[int, LaneRun] = {}
    for trial, outcome in zip(problem.trials, before, strict=bool(before)):
        run, most = outcome.run, trial.network.epochs
        has_ended = outcome.stopped_early or (run is not None and run.stopped)
        if has_ended or outcome.epochs == most:
            is_early = outcome.failed is None and outcome.epochs < most
            done[trial.index] = dataclasses.replace(
                outcome, trial=trial.index, stopped_early=is_early and has_ended
            )
        elif run is not None:
            begun[trial.index] = dataclasses.replace(run, read=0)
    rest = [trial for trial in problem.trials if trial.index not in done]
    if rest:
        some, checkpoint = Problem(rest, problem.folds, problem.datasets), session.checkpoint
        if checkpoint:
            # A search that goes on must plan for the same trials here, whatever it knows of them.
            some = problem
            for trial in problem.trials:
                if trial.index in done:
                    checkpoint.add(problem, trial, done[trial.index])
            begun |= checkpoint.begun(problem, begun) if before else {}
        outcomes = session.execute(some, begun=begun, keep_runs=keep_runs)
        done = {outcome.trial: outcome for outcome in outcomes} | done
        if checkpoint and not any(one.status == INTERRUPTED for one in outcomes):
            checkpoint.drop_begun(problem)
    return [done[trial.index] for trial in problem.trials]


def _check_count(name: str, value: Any, *words: str | None) -> None:
    """Raises an error for anything but a whole number above 0 and these words."""
    if value is None and None in words:
        return
    allowed = "".join(f", {word!r}" for word in words)
    sentence = f"{name} must be a whole number above 0{allowed}, got {value!r}."
    if isinstance(value, str):
        if value not in words:
            raise ValueError(sentence)
    elif isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(sentence)
    elif value < 1:
        raise ValueError(sentence)
