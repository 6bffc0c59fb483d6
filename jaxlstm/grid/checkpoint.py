"""A search's trials in its folder, known by what they are: results, weights, lanes in work.

A trial is a run (estimator, data, rows, seed, scoring, code) that is read after some epochs. Whatever
search of the folder it was trained in, it is taken from there; a shorter trial of a finished run is
read from its curve, where that says all. What the present search does not ask for is left alone.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlstm.grid import programs
from jaxlstm.grid.fingerprint import digest
from jaxlstm.grid.groups import Lane, shares_run
from jaxlstm.grid.measure import lane_shapes
from jaxlstm.grid.outcome import LaneRun, Outcome
from jaxlstm.grid.plan import Group, Plan
from jaxlstm.grid.processes import FirstStore
from jaxlstm.grid.space import Network, Problem, Trial
from jaxlstm.grid.states import slot_state
from jaxlstm.grid.store import Store
from jaxlstm.train.trial import State, Structure, Weights

_log = logging.getLogger("jaxlstm")


class Checkpoint:
    """The trials of a search in a store.

    Args:
      store: opened.
      common: what all trials depend on, as `digest` takes it.
      describe: of a trial, what else its results depend on beside its network, data, rows and seed,
        as a string.
      validation_freq: see `jaxlstm.grid.run.execute`.
      reads_only: whether nothing may be trained, as the trials are of another version of the code.
    """

    def __init__(
        self,
        store: Store | FirstStore,
        common: Any,
        describe: Callable[[Trial], str] = lambda trial: "",
        validation_freq: int = 1,
        reads_only: bool = False,
    ):
        self._reads_only = reads_only
        self.store = store
        self._common, self._describe = digest(common, programs.settings()), describe
        self._validation_freq = validation_freq
        self._digests: dict[int, tuple[Any, str]] = {}  # by id, which stays its own meanwhile
        self._runs: dict[int, tuple[Trial, str]] = {}
        self._memo: dict[Any, Any] = {}
        self._chunks: dict[str, set[str]] = {}  # what saves of lanes in work hold

    # -- what a trial is

    def _digest(self, value: Any) -> str:
        if id(value) not in self._digests:
            self._digests[id(value)] = value, digest(value, memo=self._memo)
        return self._digests[id(value)][1]

    def _numbers(self, network: Network) -> str:
        """Digest of a network's hyperparameters; of its epochs where they are a schedule's."""
        numbers = network.hyperparameters
        if id(numbers) not in self._digests:
            counted = numbers
            if not network.counts_epochs:
                counted = numbers._replace(epochs=np.zeros_like(numbers.epochs))
            leaves, treedef = jax.tree.flatten(counted)
            arrays = [np.asarray(leaf) for leaf in leaves]
            kinds = " ".join(f"{array.dtype.str}{array.shape}" for array in arrays)
            content = b"".join(array.tobytes() for array in arrays)
            self._digests[id(numbers)] = numbers, digest(str(treedef), kinds, content)
        return self._digests[id(numbers)][1]

    def run_of(self, problem: Problem, trial: Trial) -> str:
        """What identifies the run that a trial is read from."""
        if id(trial) not in self._runs:
            network = trial.network
            facts = {
                field.name: getattr(network, field.name)
                for field in dataclasses.fields(network)
                if field.name not in ("structure", "hyperparameters")
            }
            if shares_run(network, self._validation_freq):
                del facts["epochs"]  # where it ends changes nothing before
            run = digest(
                self._common,
                self._validation_freq,
                self._describe(trial),
                self._digest(network.structure),
                self._numbers(network),
                facts,
                self._digest(problem.datasets[trial.variant]),
                self._digest(problem.folds[trial.rows]),
                trial.seed,
            )
            self._runs[id(trial)] = trial, run[:32]
        return self._runs[id(trial)][1]

    def name_of(self, problem: Problem, trial: Trial) -> str:
        """What identifies a trial."""
        return f"{self.run_of(problem, trial)}-{trial.network.epochs}"

    # -- finished trials

    def outcomes(
        self,
        problem: Problem,
        on_finish: Callable[[Trial, Outcome], Any] | None,
        needs_weights: Callable[[Trial], bool],
        keep_weights: bool,
    ) -> dict[int, Outcome]:
        """What came of the trials that are finished, by their index; arguments as `execute`'s."""
        found: dict[int, Outcome] = {}
        known = self.store.finished()
        longest: dict[str, int] = {}
        for name in known:
            run, _, epochs = name.rpartition("-")
            longest[run] = max(longest.get(run, 0), int(epochs))
        for trial in problem.trials:
            name, run = self.name_of(problem, trial), self.run_of(problem, trial)
            if name in known:
                outcome = Outcome.from_record(trial.index, known[name])
            elif (
                on_finish is not None
                and longest.get(run, 0) > trial.network.epochs
                and self._tells_shorter(trial.network)
                and not needs_weights(trial)
            ):
                whole = Outcome.from_record(trial.index, known[f"{run}-{longest[run]}"])
                outcome = _shorter(trial, whole)
                outcome.scores = on_finish(trial, outcome)
            else:
                continue
            if keep_weights and not outcome.failed and not self._load(problem, trial, outcome):
                continue
            found[trial.index] = outcome
        missing = len(problem.trials) - len(found)
        if missing and self._reads_only:
            raise ValueError(
                f"{self.store.name} was written by another version of the code, and {missing} of its"
                f" {len(problem.trials)} fits are missing or damaged. Remove it to train all again."
            )
        return found

    def _tells_shorter(self, network: Network) -> bool:
        """Whether the curve of a run of more epochs says all of this shorter one."""
        is_validated = network.epochs % self._validation_freq == 0
        is_same = shares_run(network, self._validation_freq)
        return is_validated and is_same and not network.keeps_best

    def add(
        self, problem: Problem, trial: Trial, outcome: Outcome, keep_weights: bool = False
    ) -> None:
        """Keeps a finished trial, its weights first and the state that it could go on from."""
        name = self.name_of(problem, trial)
        if keep_weights and outcome.failed is None:
            state = outcome.run.state if outcome.run is not None else None
            tree = Weights(outcome.params, outcome.collections), state
            self.states.save(f"weights-{name}", tree, {"trial": name, "goes_on": state is not None})
        self.store.add(name, outcome.to_record())

    def _load(self, problem: Problem, trial: Trial, outcome: Outcome) -> bool:
        """Gives an outcome the weights that are saved of it; False where there are none."""
        name = self.name_of(problem, trial)

        def like(meta: Mapping[str, Any]) -> Any:
            if meta.get("trial") != name:
                return None
            state = state_shape(problem, trial) if meta["goes_on"] else None
            row = _row(problem, trial)
            return programs.weights_shape(trial.network.structure, row), state

        found = self.states.load(f"weights-{name}", like)
        if found is None:
            return False
        weights, state = found[0]
        outcome.params, outcome.collections = weights
        if state is not None:
            place = problem.trials.index(trial)
            outcome.run = LaneRun(Lane((place,)), outcome.curves, state=state)
        return True

    @property
    def states(self) -> Store:
        """The store, where it saves states."""
        if not isinstance(self.store, Store):
            raise TypeError("several JAX processes save no states")
        return self.store

    def count(self, problem: Problem, *, is_first: bool) -> int:
        """How many of these trials are finished; of a search's first says so if none of any is."""
        known = self.store.finished()
        count = sum(self.name_of(problem, trial) in known for trial in problem.trials)
        runs = {name.rpartition("-")[0] for name in known}
        if (
            known
            and is_first
            and not any(self.run_of(problem, one) in runs for one in problem.trials)
        ):
            _log.warning(
                "%s: none of its %d finished fits is one of this search's, which has other candidates,"
                " seeds or scoring, or whose estimator's or scorer's code has changed: all are"
                " trained.",
                self.store.name,
                len(known),
            )
        return count

    # -- lanes in work

    def chunk_name(self, problem: Problem, lanes: Sequence[Lane]) -> str:
        """Name for the saves of some lanes."""
        firsts = [self.run_of(problem, problem.trials[lane.trials[0]]) for lane in lanes]
        return f"chunk-{digest(firsts)[:32]}"

    def save_lanes(
        self,
        name: str,
        problem: Problem,
        structure: Structure,
        states: State,
        lane_runs: Sequence[LaneRun | None],
    ) -> None:
        """Saves lanes in work in place of those saved under this name.

        Args:
          name: see `chunk_name`.
          problem: the lanes' trials.
          structure: of their program.
          states: with a leading lane axis.
          lane_runs: one a slot.
        """
        lanes = [
            None if one is None else one.to_meta() | {"run": self._lane_name(problem, one.lane)}
            for one in lane_runs
        ]
        module = self._digest(structure.module)
        self.states.save(name, states, {"slots": len(lanes), "module": module, "lanes": lanes})
        self._chunks[name] = {one["run"] for one in lanes if one is not None}

    def _lane_name(self, problem: Problem, lane: Lane) -> str:
        return self.run_of(problem, problem.trials[lane.trials[0]])

    def drop_finished(self, problem: Problem, outcomes: Mapping[int, Outcome]) -> None:
        """Removes saves whose lanes are all finished, under whatever name."""
        left = {
            self.run_of(problem, trial) for trial in problem.trials if trial.index not in outcomes
        }
        done = {self.run_of(problem, trial) for trial in problem.trials} - left
        for key in self.store.saved():
            if key in self._chunks and self._chunks[key] <= done:
                self.states.drop(key)

    def lane_runs(
        self, plan: Plan, problem: Problem, outcomes: Mapping[int, Outcome]
    ) -> dict[int, LaneRun]:
        """The lanes that were in work when a process died, by their first trial's index."""
        lanes: dict[str, list[tuple[Group, Lane]]] = {}
        for group in plan.groups:
            for lane in group.lanes:
                lanes.setdefault(self._lane_name(problem, lane), []).append((group, lane))
        runs: dict[int, LaneRun] = {}
        for key in self.store.saved():
            if key.startswith("chunk-"):
                for saved, run in self._saved_lanes(key, problem, lanes):
                    for _, lane in lanes[saved]:
                        own = _gone_on(problem, lane, run, outcomes)
                        first = problem.trials[lane.trials[0]].index
                        if own and (first not in runs or runs[first].epochs < own.epochs):
                            runs[first] = own
        return runs

    def _saved_lanes(
        self, key: str, problem: Problem, lanes: Mapping[str, Sequence[tuple[Group, Lane]]]
    ) -> list[tuple[str, LaneRun]]:
        """The lanes of a save that are asked for, where their program is as wide as it was."""

        def groups(meta: Mapping[str, Any]) -> dict[str, Group]:
            self._chunks[key] = {lane["run"] for lane in meta["lanes"] if lane is not None}
            return {
                run: group
                for run in self._chunks[key]
                for group, _ in lanes.get(run, [])
                if self._digest(group.structure.module) == meta["module"]
            }

        def like(meta: Mapping[str, Any]) -> Any:
            for group in groups(meta).values():
                trial = problem.trials[group.lanes[0].trials[0]]
                numbers, row = trial.network.hyperparameters, _row(problem, trial)
                shape = programs.state_shape(group.structure, numbers, row)
                return lane_shapes(shape, meta["slots"])
            return None

        try:
            found = self.states.load(key, like)
        except ValueError:  # of another layout and other widths: its lanes begin again
            return []
        if found is None:
            return []
        states, meta = found
        wanted = groups(meta)
        return [
            (lane["run"], LaneRun.from_meta(lane, slot_state(states, slot)))
            for slot, lane in enumerate(meta["lanes"])
            if lane is not None and lane["run"] in wanted
        ]

    # -- lanes that go on in another problem

    def begun(self, problem: Problem, begun: Mapping[int, LaneRun]) -> dict[int, LaneRun]:
        """Saves lanes to go on with; where a kill has lost them, gives those saved before.

        Args:
          problem: whose trials go on, a lane each.
          begun: the lanes that are at hand, by the trial's index; states at their own width.
        """
        if not isinstance(self.store, Store):
            return {}
        runs = {trial.index: self.run_of(problem, trial) for trial in problem.trials}
        key = self._begun_key(problem)
        if key not in self.store.saved():
            kept = {runs[index]: run for index, run in begun.items()}
            if kept:
                states = {name: run.state for name, run in kept.items()}
                self.states.save(key, states, {name: run.to_meta() for name, run in kept.items()})
            return {}
        shapes = {runs[trial.index]: trial for trial in problem.trials}

        def like(meta: Mapping[str, Any]) -> Any:
            return {name: state_shape(problem, shapes[name]) for name in meta if name in shapes}

        found = self.states.load(key, like)
        if found is None:
            return {}
        states, meta = found
        return {
            index: LaneRun.from_meta(meta[name], states[name])
            for index, name in runs.items()
            if name in states
        }

    def drop_begun(self, problem: Problem) -> None:
        """Removes what `begun` has saved: the trials are finished."""
        if isinstance(self.store, Store):
            self.store.drop(self._begun_key(problem))

    def _begun_key(self, problem: Problem) -> str:
        names = [self.name_of(problem, trial) for trial in problem.trials]
        return f"rung-{digest(names)[:32]}"


def _shorter(trial: Trial, whole: Outcome) -> Outcome:
    """A trial's outcome, not scored yet, from that of one of its run of more epochs."""
    epochs = trial.network.epochs
    if whole.epochs < epochs:  # it ended early, as the shorter one does
        return dataclasses.replace(whole, scores=None)
    return Outcome(
        trial.index,
        {column: values[:epochs] for column, values in whole.curves.items()},
        fit_seconds=whole.fit_seconds * epochs / whole.epochs,
        failed=whole.failed if whole.epochs == epochs else None,
        last=epochs - 1,
    )


def _gone_on(
    problem: Problem, lane: Lane, run: LaneRun, outcomes: Mapping[int, Outcome]
) -> LaneRun | None:
    """A run as a lane's; None where a trial of the lane ends before it and is not known."""
    trials = [problem.trials[place] for place in lane.trials]
    over = [trial for trial in trials if trial.network.epochs <= run.epochs]
    if any(trial.index not in outcomes for trial in over):
        return None
    curves = {name: list(values) for name, values in run.curves.items()}
    return dataclasses.replace(run, lane=lane, curves=curves, read=len(over))


def state_shape(problem: Problem, trial: Trial) -> Any:
    """Shapes of a trial's state at its own width."""
    network = trial.network
    return programs.state_shape(network.structure, network.hyperparameters, _row(problem, trial))


def _row(problem: Problem, trial: Trial) -> np.ndarray:
    x = problem.datasets[trial.variant].x
    return np.zeros((1, *x.shape[1:]), x.dtype)
