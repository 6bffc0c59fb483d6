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
from jaxlstm.grid.space import Network, Problem
from jaxlstm.nn import padding
from jaxlstm.train.data import Input
from jaxlstm.train.epoch import EVALUATION_BATCH
from jaxlstm.train.hyperparameters import RULES
from jaxlstm.train.optimizers import has_third
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
    latency of its operations, and otherwise its arithmetic. Estimates, and not this process's own
    measurements, as the same search is to run in the same way everywhere and whenever it goes on.
    """

    latency: float  # seconds of a micro-batch, however small, for each step of a sequence
    speed: float  # multiplications and additions a second
    compilation: float  # seconds a program
    cuts_alike: bool = False  # whether lanes of other micro-batches need a program of their own


COSTS = {
    # Measured: an XLA loop's operations take some us a step; two cores' products.
    "cpu": Costs(latency=5e-5, speed=5e10, compilation=4.0),
    # Not measured: published latencies of a small LSTM's step, a tenth of an H100's float32 peak.
    "gpu": Costs(latency=2e-5, speed=5e12, compilation=10.0),
}

# Of lanes that run one at a time on a core, whose operations take their time at any width. Measured
# (benchmarks/NOTES.md): what small products reach on one core, an LSTM's training program.
LOOP_COSTS = Costs(latency=0.0, speed=2e10, compilation=4.0, cuts_alike=True)


def shares_run(network: Network, validation_freq: int) -> bool:
    """Whether a run is the same wherever it ends, as far as it is validated on its way.

    With a ``validation_freq`` above 1 it is validated where it ends, too.
    """
    return validation_freq == 1 or not network.watches_validation


def share_runs(problem: Problem, validation_freq: int = 1) -> list[Lane]:
    """Puts trials that differ in their epochs alone on one lane.

    With a ``validation_freq`` above 1, a trial that watches a validation metric keeps a lane of its
    own: where it is validated depends on where it ends.
    """
    members: dict[Any, list[int]] = {}
    run_keys: dict[int, Any] = {}  # of a network, which its folds and seeds mostly share
    for place, trial in enumerate(problem.trials):
        key: Any = place
        network = trial.network
        if not network.counts_epochs and shares_run(network, validation_freq):
            if id(network) not in run_keys:
                run_keys[id(network)] = network.run_key
            key = run_keys[id(network)], trial.variant, trial.rows, trial.seed
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


def group(
    problem: Problem,
    lanes: Sequence[Lane],
    layout: str,
    platform: str,
    shares_widths: bool = False,
) -> list[Sharing]:
    """Groups lanes by the program that they share.

    Lanes side by side are merged as long as that saves time. Those that run one at a time have a
    micro-batch that follows from their batch size, and keep their own width, so that their bits
    are those of a fit alone, unless ``shares_widths``: then widths are merged as long as compiling
    another program would take longer than the padding.
    """
    kinds: dict[Any, list[Lane]] = {}
    for lane in lanes:
        trial = problem.trials[lane.trials[0]]
        structure, batch = trial.network.structure, trial.network.batch_size
        shape = problem.datasets[trial.variant].x.shape
        if layout != "vmap" and not structure.mixing.whole:
            structure = dataclasses.replace(structure, micro_batch=_micro_batch(batch))
            batch = 0
        if layout != "vmap":
            structure = _with_tails(problem, structure, [lane])
        kinds.setdefault((structure, batch, shape), []).append(lane)
    groups = [Sharing(key[0], tuple(members)) for key, members in kinds.items()]
    if layout != "vmap":
        return _merge(problem, groups, LOOP_COSTS) if shares_widths else groups
    merged = _merge(problem, groups, COSTS["cpu" if platform == "cpu" else "gpu"])
    return [_with_used(problem, one) for one in merged]


def _with_used(problem: Problem, one: Sharing) -> Sharing:
    """Only the optimizers, losses and sizes of last batches that the lanes use.

    Side by side, each would compute all.
    """
    networks = [problem.trials[lane.trials[0]].network for lane in one.lanes]
    used = sorted({RULES[int(network.hyperparameters.optimizer)] for network in networks})
    task = one.structure.task
    losses = sorted({int(network.hyperparameters.task["loss"]) for network in networks})
    task = dataclasses.replace(task, losses=tuple(task.losses[place] for place in losses))
    structure = dataclasses.replace(one.structure, optimizers=tuple(used), task=task)
    return Sharing(_with_tails(problem, structure, one.lanes), one.lanes)


def _with_tails(problem: Problem, structure: Structure, lanes: Sequence[Lane]) -> Structure:
    """The structure with the sizes of last batches that nothing may fill up."""
    folds = [problem.folds[problem.trials[lane.trials[0]].rows] for lane in lanes]
    mixing = structure.mixing

    def left_over(counts: list[int], size: int) -> tuple[int, ...]:
        return tuple(sorted({count % size for count in counts} - {0}))

    trained = left_over([len(fold.train) for fold in folds], structure.micro_batch)
    evaluated = left_over([len(fold.validation) for fold in folds], EVALUATION_BATCH)
    return dataclasses.replace(
        structure,
        tails=trained if mixing.training else (),
        evaluation_tails=evaluated if mixing.evaluation else (),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Candidate:
    """A group that may be merged with others, and what its time is estimated from."""

    sharing: Sharing
    shape: tuple[int, ...]  # of a row
    walks: dict[int, tuple[int, int]]  # by micro-batch size: those of its longest lane, and of all
    seconds: float


def _merge(problem: Problem, groups: list[Sharing], costs: Costs) -> list[Sharing]:
    """Merges the two groups that save most, until no merger saves anything."""
    sizes = {one.structure.micro_batch for one in groups}
    left = []
    for one in groups:
        shape, walks = _row_shape(problem, one), {}
        for size in sizes:
            each = [lane_walks(problem, lane, size) for lane in one.lanes]
            walks[size] = max(each), sum(each)
        seconds = _seconds(one.structure, shape, walks, costs)
        left.append(_Candidate(one, shape, walks, seconds))
    tried: dict[tuple[_Candidate, _Candidate], _Candidate | None] = {}
    while True:
        best: tuple[float, Any] = (0.0, None)
        for i, a in enumerate(left):
            for b in left[i + 1 :]:
                if (a, b) not in tried:
                    tried[a, b] = _merged(a, b, costs)
                both = tried[a, b]
                if both is not None and a.seconds + b.seconds - both.seconds > best[0]:
                    best = a.seconds + b.seconds - both.seconds, (a, b, both)
        if best[1] is None:
            return [one.sharing for one in left]
        a, b, both = best[1]
        left = [one for one in left if one is not a and one is not b] + [both]


def _merged(a: _Candidate, b: _Candidate, costs: Costs) -> _Candidate | None:
    """The cheapest program for both; None if there is none."""
    ours, theirs = a.sharing.structure, b.sharing.structure
    if a.shape != b.shape or ours.traced_fields != theirs.traced_fields:
        return None
    if (ours.augment, ours.standardizes) != (theirs.augment, theirs.standardizes):
        return None
    if (ours.task, ours.inputs) != (theirs.task, theirs.inputs):
        return None
    if ours.undecayed != theirs.undecayed:
        return None
    if has_third(ours.optimizers) != has_third(theirs.optimizers):
        return None
    if (ours.tails, ours.evaluation_tails) != (theirs.tails, theirs.evaluation_tails):
        return None
    module = _common(ours.module, theirs.module)
    if module is None:
        return None
    sizes = {ours.micro_batch, theirs.micro_batch}
    if len(sizes) > 1 and costs.cuts_alike:
        return None
    if ours.mixing != theirs.mixing or (len(sizes) > 1 and ours.mixing.whole):
        return None  # statistics of a batch are not sums over its micro-batches
    walks = {
        size: (max(most, b.walks[size][0]), total + b.walks[size][1])
        for size, (most, total) in a.walks.items()
    }
    lanes = a.sharing.lanes + b.sharing.lanes
    options = []
    for size in sorted(sizes):
        structure = dataclasses.replace(ours, module=module, micro_batch=size)
        seconds = _seconds(structure, a.shape, walks, costs)
        options.append(_Candidate(Sharing(structure, lanes), a.shape, walks, seconds))
    return min(options, key=lambda one: one.seconds)


@functools.lru_cache(maxsize=1024)
def _common(a: Any, b: Any) -> Any:
    """The network that two can share; None if there is none."""
    if a == b:
        return a
    return padding.widest([a, b]) if padding.can_share(a, b) else None


def _seconds(
    structure: Structure,
    shape: tuple[int, ...],
    walks: dict[int, tuple[int, int]],
    costs: Costs,
) -> float:
    """Estimated time of a group, compilation included."""
    most, total = walks[structure.micro_batch]
    steps = shape[0] if len(shape) > 1 else 1
    arithmetic = 6 * structure.micro_batch * steps * parameter_count(structure, shape) / costs.speed
    return costs.compilation + most * steps * costs.latency + total * arithmetic


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
def _weights_of(module: Any, inputs: tuple[Input, ...], shape: tuple[int, ...]) -> int:
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    weights = programs.weights_shape(Structure(module, 1, inputs=inputs), x)
    return sum(leaf.size for leaf in jax.tree.leaves(weights.params))


def parameter_count(structure: Structure, shape: tuple[int, ...]) -> int:
    """Weights of a network for rows of this shape."""
    return _weights_of(structure.module, structure.inputs, shape)
