"""A plan on a cluster: its lanes as joblib tasks, with Dask, Ray or processes of this machine.

A task is some lanes of one group, trained and scored in the worker by `jaxlstm.grid.run.execute`; what
comes back are outcomes without weights. A task leaves nothing behind but its result, so that a backend
may run it again where a worker has died.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import pickle
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import joblib
import numpy as np
from joblib._parallel_backends import LokyBackend
from joblib.parallel import MultiprocessingBackend, get_active_backend

from jaxlstm.grid import programs, run
from jaxlstm.grid.checkpoint import Checkpoint
from jaxlstm.grid.groups import Lane, lane_cost
from jaxlstm.grid.outcome import INTERRUPTED, LaneRun, Outcome, Progress
from jaxlstm.grid.plan import Chunk, Plan
from jaxlstm.grid.space import Problem, Trial

logger = logging.getLogger("jaxlstm")

# Tasks a worker: several, so that none waits long for the last; where lanes run side by side a task
# should hold many.
TASKS_A_WORKER = {"loop": 4, "vmap": 1, "stream": 4}

# Without these a Ray pool does not survive the death of a worker.
RAY_RESTARTS = {"max_restarts": 2, "max_task_retries": 2}

# How often loky's workers are started anew where one has died.
LOKY_RESTARTS = 2


# Errors of loky, Dask and Ray by which they say that a worker has died, once too often.
DEATHS = {
    *("BrokenProcessPool", "BrokenExecutor", "TerminatedWorkerError", "KilledWorker"),
    *("RayActorError", "ActorDiedError", "WorkerCrashedError", "OutOfMemoryError"),
}


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The joblib backend that a search runs on."""

    backend: Any
    n_jobs: int


def active_cluster(n_jobs: int | None = None) -> Cluster | None:
    """The backend that somebody has chosen with `joblib.parallel_config`; None for threads, as usual.

    Args:
      n_jobs: how many workers; by default what `joblib.parallel_config` says, or all there are.

    Raises:
      ValueError: a backend that JAX does not work with.
    """
    # Asked to prefer threads, joblib names another backend only where it was chosen.
    backend, configured = get_active_backend(prefer="threads")
    if getattr(backend, "uses_threads", False):
        return None
    if type(backend) is MultiprocessingBackend:
        raise ValueError(
            "joblib's backend 'multiprocessing' forks the process, and JAX hangs in the copies; choose"
            " 'loky', 'dask' or 'ray', or none to train in this process."
        )
    if jax.process_count() > 1:
        raise ValueError(
            f"joblib's backend {type(backend).__name__} cannot be used where JAX itself runs over"
            f" {jax.process_count()} processes (jax.distributed); use one of the two."
        )
    known = [count for count in (n_jobs, configured) if count is not None]
    # A backend's own default may be one worker, that is none.
    return Cluster(backend, known[0] if known else -1)


def execute(
    cluster: Cluster,
    plan: Plan,
    problem: Problem,
    *,
    on_finish: Callable[[Trial, Outcome], Any],
    needs_weights: Callable[[Trial], bool],
    progress: Progress | None = None,
    validation_freq: int = 1,
    checkpoint: Checkpoint | None = None,
    begun: Mapping[int, LaneRun] | None = None,
    keep_runs: bool = False,
    keep_weights: bool = False,
) -> list[Outcome]:
    """Trains every trial of a plan on a cluster.

    The arguments are those of `jaxlstm.grid.run.execute`; ``on_finish`` and ``needs_weights`` are
    called in the workers. Finished trials are stored as their task comes back, lanes in work are not.
    """
    outcomes, runs = run.taken_up(
        plan,
        problem,
        on_finish=on_finish,
        needs_weights=needs_weights,
        progress=progress,
        checkpoint=checkpoint,
        begun=begun,
        keep_weights=keep_weights,
    )
    trials = {trial.index: trial for trial in problem.trials}
    shared = _Shared(
        plan,
        problem,
        on_finish,
        needs_weights,
        validation_freq,
        keep_runs,
        keep_weights,
        programs.settings(),
    )
    is_kept = checkpoint is not None
    with contextlib.suppress(KeyboardInterrupt), _naming_deaths(outcomes, problem, is_kept):
        for found in _results(cluster, shared, outcomes, runs):
            for outcome in found:
                # A task may run twice, and Ctrl-C reaches workers of this machine, too.
                if outcome.trial in outcomes or outcome.status == INTERRUPTED:
                    continue
                outcome.run = _with_key(outcome.run)
                outcomes[outcome.trial] = outcome
                if checkpoint:
                    checkpoint.add(problem, trials[outcome.trial], outcome, keep_weights)
                if progress:
                    progress.finished(outcome)
    if checkpoint:
        checkpoint.drop_finished(problem, outcomes)  # lanes in work in a run without a cluster
    return run.in_order(problem, outcomes)


def _results(
    cluster: Cluster,
    shared: _Shared,
    done: Mapping[int, Outcome],
    begun: Mapping[int, LaneRun],
) -> Iterator[list[Outcome]]:
    """Runs the tasks of all trials that are not done, and gives what comes back of each.

    Where a worker dies, Dask and Ray do its task again; for loky, whose other workers end with it,
    that happens here.
    """
    plan, problem = shared.plan, shared.problem
    key, content = uuid.uuid4().hex, _pack(shared)
    for restarts in itertools.count():
        with _parallel(cluster) as parallel:
            packed = _published(cluster.backend, content)
            wanted = TASKS_A_WORKER[plan.layout] * cluster.backend.effective_n_jobs(cluster.n_jobs)
            tasks = (
                joblib.delayed(_train)(key, packed, chunk, _begun(problem, chunk, begun))
                for chunk in cut(plan, problem, set(done), wanted)
            )
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=r"\d+ tasks (which were|have been)")
                    yield from parallel(tasks)
                return
            except Exception as error:
                is_again = isinstance(cluster.backend, LokyBackend) and restarts < LOKY_RESTARTS
                if not _is_death(error) or not is_again:
                    raise
                logger.warning(
                    "a worker process has died, perhaps for lack of memory: fits in work begin again"
                )


def _is_death(error: Exception) -> bool:
    return bool({cls.__name__ for cls in type(error).__mro__} & DEATHS)


@contextlib.contextmanager
def _naming_deaths(done: Mapping[int, Outcome], problem: Problem, is_kept: bool) -> Iterator[None]:
    """Says of a worker that has died what is left of the search."""
    try:
        yield
    except Exception as error:
        if not _is_death(error):
            raise
        way_on = "Give checkpoint_dir to keep them another time."
        if is_kept:
            way_on = (
                "They are kept in checkpoint_dir: call fit again, and it goes on with the rest."
            )
        raise RuntimeError(
            "a worker process has died, most likely because memory ran out: use fewer n_jobs, a smaller"
            f" batch_size or a machine with more memory. {len(done)} of {len(problem.trials)} fits were"
            f" finished. {way_on}"
        ) from error


def cut(plan: Plan, problem: Problem, done: set[int], tasks: int) -> list[Chunk]:
    """Lanes that are not done, in about so many chunks of similar cost; longest first.

    Args:
      plan: its chunks are cut, or joined where they are of one group and read the same data.
      problem: what the plan was made from.
      done: indices of finished trials.
      tasks: how many are wanted; there are at least as many as groups.
    """
    kinds: dict[tuple[int, int], list[Lane]] = {}
    for chunk in plan.chunks:
        for lane in chunk.lanes:
            if any(problem.trials[place].index not in done for place in lane.trials):
                variant = problem.trials[lane.trials[0]].variant
                kinds.setdefault((chunk.group, variant), []).append(lane)
    costs = {lane: lane_cost(problem, lane) for lanes in kinds.values() for lane in lanes}
    total = sum(costs.values())
    chunks = []
    for (group, _), lanes in kinds.items():
        share = sum(costs[lane] for lane in lanes) / total
        parts: list[list[Lane]] = [[] for _ in range(min(len(lanes), max(1, round(share * tasks))))]
        loads = [0.0] * len(parts)
        for lane in sorted(lanes, key=lambda lane: -costs[lane]):
            least = loads.index(min(loads))
            parts[least].append(lane)
            loads[least] += costs[lane]
        chunks += [
            (load, Chunk(group, tuple(part))) for load, part in zip(loads, parts, strict=True)
        ]
    return [chunk for _, chunk in sorted(chunks, key=lambda one: -one[0])]


@contextlib.contextmanager
def _parallel(cluster: Cluster) -> Iterator[joblib.Parallel]:
    """A `joblib.Parallel` on a cluster; its results come as they finish where the backend can."""
    backend, options = cluster.backend, {}
    if _is_ray(backend) and backend.ray_remote_args is None:
        options["ray_remote_args"] = RAY_RESTARTS
    as_they_finish = backend.supports_return_generator
    with joblib.Parallel(
        n_jobs=cluster.n_jobs,
        batch_size=1,
        pre_dispatch="all",  # workers that come later find tasks
        return_as="generator_unordered" if as_they_finish else "list",
        **options,
    ) as parallel:
        yield parallel


def _is_ray(backend: Any) -> bool:
    return hasattr(backend, "ray_remote_args")


def _published(backend: Any, packed: np.ndarray) -> Any:
    """Bytes as an argument of many tasks that reaches each worker once."""
    if _is_ray(backend):
        import ray

        return ray.put(packed)
    client = getattr(backend, "client", None)
    if client is None:
        return packed  # loky maps a large array into its processes
    import dask

    # Scattered data, which joblib's own way is, dies with the workers that hold it; a task's result
    # is made again.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": len(packed) + 10**7}):
        return client.submit(_same, packed, pure=False)


def _same(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True)
class _Shared:
    """What all tasks of a run need."""

    plan: Plan
    problem: Problem
    on_finish: Callable[[Trial, Outcome], Any]
    needs_weights: Callable[[Trial], bool]
    validation_freq: int
    keep_runs: bool
    keep_weights: bool
    settings: dict[str, Any]


def _pack(shared: _Shared) -> np.ndarray:
    """Pickled by value where need be: scorers may be lambdas, networks classes of a notebook.

    Raises:
      TypeError: something that cannot be sent.
    """
    try:
        content = pickle.dumps(joblib.wrap_non_picklable_objects(shared, keep_wrapper=False))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise TypeError(
            f"the search cannot be sent to joblib's workers: {error}. Look at estimator and scoring."
        ) from error
    return np.frombuffer(content, np.uint8)


_opened: dict[str, _Shared] = {}
_opening = threading.Lock()


def _open(key: str, packed: Any) -> _Shared:
    """Unpacks once a process; the last two runs are kept, as two searches may share the workers."""
    with _opening:
        if key not in _opened:
            if not isinstance(packed, np.ndarray):
                import ray

                packed = ray.get(packed)
            while len(_opened) > 1:
                del _opened[next(iter(_opened))]
            _opened[key] = pickle.loads(packed)
        return _opened[key]


def _train(key: str, packed: Any, chunk: Chunk, begun: Mapping[int, LaneRun]) -> list[Outcome]:
    """A task: trains and scores the lanes of a chunk."""
    shared = _open(key, packed)
    with programs.settings_of(shared.settings):
        plan, problem = _only(shared.plan, shared.problem, chunk)
        original = {
            trial.index: trial
            for trial in (shared.problem.trials[p] for lane in chunk.lanes for p in lane.trials)
        }
        outcomes = run.execute(
            plan,
            problem,
            on_finish=lambda trial, outcome: shared.on_finish(original[trial.index], outcome),
            needs_weights=lambda trial: shared.needs_weights(original[trial.index]),
            validation_freq=shared.validation_freq,
            begun={first: _with_key(one) for first, one in begun.items()},
            keep_runs=shared.keep_runs,
            keep_weights=shared.keep_weights,
        )
    for outcome in outcomes:
        outcome.run = _without_key(outcome.run)
    return outcomes


def _only(plan: Plan, problem: Problem, chunk: Chunk) -> tuple[Plan, Problem]:
    """A plan and a problem of one chunk alone, with the data that it reads and no other."""
    places = [place for lane in chunk.lanes for place in lane.trials]
    new = {place: number for number, place in enumerate(places)}
    lanes = tuple(Lane(tuple(new[place] for place in lane.trials)) for lane in chunk.lanes)
    variant = problem.trials[places[0]].variant
    trials = [dataclasses.replace(problem.trials[place], variant=0) for place in places]
    group, slots = plan.groups[chunk.group], 1
    if plan.layout == "vmap":
        # The plan was made for the devices of another machine.
        devices = jax.device_count()
        wanted = min(len(lanes), max(group.slots, devices))
        slots = -(-wanted // devices) * devices
    own = dataclasses.replace(
        plan,
        groups=(dataclasses.replace(group, lanes=lanes, slots=slots),),
        chunks=(Chunk(0, lanes),),
        descriptions=(plan.descriptions[chunk.group],),
        workers=1,
    )
    return own, Problem(trials, problem.folds, [problem.datasets[variant]])


def _begun(problem: Problem, chunk: Chunk, runs: Mapping[int, LaneRun]) -> dict[int, LaneRun]:
    """The lanes of a chunk that go on, by their first trial, as they can be sent."""
    firsts: Sequence[int] = [problem.trials[lane.trials[0]].index for lane in chunk.lanes]
    return {first: _without_key(runs[first]) for first in firsts if first in runs}


def _without_key(lane_run: Any) -> Any:
    """A run whose random key is plain data: JAX's cannot be pickled."""
    if lane_run is None or lane_run.state is None:
        return lane_run
    key = np.asarray(jax.random.key_data(lane_run.state.key))
    return dataclasses.replace(lane_run, state=lane_run.state._replace(key=key))


def _with_key(lane_run: Any) -> Any:
    """The reverse of `_without_key`."""
    if lane_run is None or lane_run.state is None:
        return lane_run
    key = jax.random.wrap_key_data(jnp.asarray(lane_run.state.key), impl="threefry2x32")
    return dataclasses.replace(lane_run, state=lane_run.state._replace(key=key))
