"""Trials -> lanes -> groups: what may share a run, and what should share a program.

Trials equal in all but their epochs are one lane, read at several epochs. Lanes share a program
where batch sizes are a matter of accumulation and widths a matter of padding; whether they should
is a question of cost, see `Costs`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlstm.grid import programs
from jaxlstm.grid.space import Problem
from jaxlstm.nn import padding
from jaxlstm.train.trial import Structure

# Rows of a micro-batch where lanes run one at a time. A core takes no longer for four micro-batches
# of 32 rows than for one of 128, which no longer fits its cache (benchmarks/NOTES.md). The size
# follows from a lane's own batch size alone: whatever else is searched, its bits stay the same.
MICRO_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Lane:
    """Trials that are one run, read at one or several epochs."""

    trials: tuple[int, ...]  # places in the problem's trials, those of fewest epochs first


@dataclasses.dataclass(frozen=True)
class Costs:
    """What decides between one padded program and several: estimates, a kind of device each.

    A program whose lanes run side by side walks its micro-batches in step. One costs at least the
    latency of its operations, and otherwise its arithmetic.
    """

    latency: float  # seconds of a micro-batch, however small, for each step of a sequence
    speed: float  # multiplications and additions a second
    compilation: float  # seconds a program


COSTS = {
    # Measured: an XLA loop's operations take some us a step; two cores' products.
    "cpu": Costs(latency=5e-5, speed=5e10, compilation=4.0),
    # Not measured: published latencies of a small LSTM's step, a tenth of an H100's float32 peak.
    "gpu": Costs(latency=2e-5, speed=5e12, compilation=10.0),
}


def share_runs(problem: Problem, validation_freq: int = 1) -> list[Lane]:
    """Puts trials that differ in their epochs alone on one lane.

    With a ``validation_freq`` above 1, a trial that watches a validation metric keeps a lane of its
    own: where it is validated depends on where it ends.
    """
    members: dict[Any, list[int]] = {}
    for place, trial in enumerate(problem.trials):
        key: Any = place
        network = trial.network
        if not network.counts_epochs and (validation_freq == 1 or not network.watches_validation):
            key = network.run_key, trial.variant, trial.rows, trial.seed
        members.setdefault(key, []).append(place)
    return [
        Lane(tuple(sorted(places, key=lambda place: problem.trials[place].network.epochs)))
        for places in members.values()
    ]


@dataclasses.dataclass(frozen=True)
class Sharing:
    """Lanes that share one program, and the structure they share."""

    structure: Structure
    lanes: tuple[Lane, ...]


def _micro_batch(batch_size: int) -> int:
    parts = -(-batch_size // MICRO_BATCH)
    return -(-batch_size // parts)


def group(problem: Problem, lanes: Sequence[Lane], layout: str, platform: str) -> list[Sharing]:
    """Groups lanes by the program that they share.

    Lanes that run one at a time keep their own width, and a micro-batch that follows from their
    batch size. Lanes side by side are merged as long as that saves time.
    """
    kinds: dict[Any, list[Lane]] = {}
    for lane in lanes:
        trial = problem.trials[lane.trials[0]]
        structure, batch = trial.network.structure, trial.network.batch_size
        shape = problem.datasets[trial.variant].x.shape
        if layout == "loop" and not has_collections(structure, shape[1:]):
            structure = dataclasses.replace(structure, micro_batch=_micro_batch(batch))
            batch = 0
        kinds.setdefault((structure, batch, shape), []).append(lane)
    groups = [Sharing(key[0], tuple(members)) for key, members in kinds.items()]
    if layout == "loop":
        return groups
    return _merge(problem, groups, COSTS["cpu" if platform == "cpu" else "gpu"])


def _merge(problem: Problem, groups: list[Sharing], costs: Costs) -> list[Sharing]:
    """Merges the two groups that save most, until no merger saves anything."""
    seconds = {id(one): _seconds(problem, one, costs) for one in groups}
    while True:
        best: tuple[float, Any] = (0.0, None)
        for i, a in enumerate(groups):
            for b in groups[i + 1 :]:
                if (merged := _merged(problem, a, b, costs)) is not None:
                    saved = seconds[id(a)] + seconds[id(b)] - merged[1]
                    if saved > best[0]:
                        best = saved, (a, b, *merged)
        if best[1] is None:
            return groups
        a, b, both, time = best[1]
        groups = [one for one in groups if one is not a and one is not b] + [both]
        seconds[id(both)] = time


def _merged(
    problem: Problem, a: Sharing, b: Sharing, costs: Costs
) -> tuple[Sharing, float] | None:
    """The cheapest program for both, and its seconds; None if there is none."""
    shape = _row_shape(problem, a)
    if shape != _row_shape(problem, b) or a.structure.traced_fields != b.structure.traced_fields:
        return None
    module = a.structure.module
    if module != b.structure.module:
        if not padding.can_share(module, b.structure.module):
            return None
        module = padding.widest([module, b.structure.module])
    sizes = {a.structure.micro_batch, b.structure.micro_batch}
    if len(sizes) > 1 and has_collections(a.structure, shape):
        return None  # statistics of a batch are not sums over its micro-batches
    options = [
        Sharing(Structure(module, size, a.structure.traced_fields), a.lanes + b.lanes)
        for size in sorted(sizes)
    ]
    timed = [(one, _seconds(problem, one, costs)) for one in options]
    return min(timed, key=lambda pair: pair[1])


def _seconds(problem: Problem, one: Sharing, costs: Costs) -> float:
    """Estimated time of a group whose lanes run side by side, compilation included."""
    size = one.structure.micro_batch
    shape = _row_shape(problem, one)
    steps = shape[0] if len(shape) > 1 else 1
    walks = np.asarray([lane_walks(problem, lane, size) for lane in one.lanes])
    arithmetic = 6 * size * steps * parameter_count(one.structure, shape) / costs.speed
    return costs.compilation + walks.max() * steps * costs.latency + walks.sum() * arithmetic


def _row_shape(problem: Problem, one: Sharing) -> tuple[int, ...]:
    trial = problem.trials[one.lanes[0].trials[0]]
    return tuple(problem.datasets[trial.variant].x.shape[1:])


def lane_epochs(problem: Problem, lane: Lane) -> int:
    """Epochs that a lane trains."""
    return problem.trials[lane.trials[-1]].network.epochs


def lane_walks(problem: Problem, lane: Lane, micro_batch: int) -> int:
    """Micro-batches that a lane walks in all its epochs."""
    trial = problem.trials[lane.trials[-1]]
    rows, batch = len(problem.folds[trial.rows].train), trial.network.batch_size
    whole, rest = divmod(rows, batch)
    return trial.network.epochs * (whole * -(-batch // micro_batch) + -(-rest // micro_batch))


def lane_cost(problem: Problem, lane: Lane) -> float:
    """Relative time of a lane at its own width: epochs x rows x weights."""
    trial = problem.trials[lane.trials[-1]]
    weights = parameter_count(
        trial.network.structure, tuple(problem.datasets[trial.variant].x.shape[1:])
    )
    return float(trial.network.epochs * len(problem.folds[trial.rows].train) * weights)


def padded_share(problem: Problem, one: Sharing) -> float:
    """Share of a group's arithmetic that only pads: widths and micro-batches."""
    shape = _row_shape(problem, one)
    size, wide = one.structure.micro_batch, parameter_count(one.structure, shape)
    own = sum(lane_cost(problem, lane) for lane in one.lanes)
    done = sum(float(lane_walks(problem, lane, size)) * size * wide for lane in one.lanes)
    return max(0.0, 1 - own / done)


@functools.lru_cache(maxsize=1024)
def _weights_of(module: Any, shape: tuple[int, ...]) -> tuple[int, bool]:
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    weights = programs.weights_shape(Structure(module, 1), x)
    size = sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    return size, bool(jax.tree.leaves(weights.collections))


def parameter_count(structure: Structure, shape: tuple[int, ...]) -> int:
    """Weights of a network for rows of this shape."""
    return _weights_of(structure.module, shape)[0]


def has_collections(structure: Structure, shape: tuple[int, ...]) -> bool:
    """Whether a network keeps other variables, such as statistics of its batches."""
    return _weights_of(structure.module, shape)[1]
