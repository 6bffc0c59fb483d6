"""How many candidates train for how many epochs: successive halving and Hyperband."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rung:
    """Candidates that train until each has had so many epochs."""

    candidates: int
    epochs: int


@dataclasses.dataclass(frozen=True)
class Bracket:
    """Rungs, one after another, that the best of the one before go on to."""

    rungs: tuple[Rung, ...]
    start: int  # epochs of the first rung; aggressive elimination may begin with more
    required: int  # iterations that leave fewer than `factor` candidates
    possible: int  # iterations that the resources allow


def floor_log(number: float, base: float) -> int:
    """The largest whole k with ``base**k <= number``, exactly: a quotient of logarithms is not."""
    power = 0
    while base ** (power + 1) <= number:
        power += 1
    return power


def successive_halving(
    candidates: int,
    *,
    min_resources: int,
    max_resources: int,
    factor: float,
    exhausts: bool = False,
    aggressive: bool = False,
) -> Bracket:
    """The rungs of successive halving, as scikit-learn's `HalvingGridSearchCV` lays them out.

    Where the number of candidates or of epochs is a power of the factor, scikit-learn's logarithm may
    fall just short of it (``math.log(243, 3) < 5``), which costs it a rung; here it does not.

    Args:
      candidates: how many there are to begin with.
      min_resources: epochs of the first rung, at least.
      max_resources: epochs of the last rung, at most.
      factor: the share 1 / factor goes on, to factor times the epochs.
      exhausts: whether to begin with as many epochs as let the last rung have the most.
      aggressive: whether to repeat the first rung's epochs until few enough candidates are left.
    """
    required = 1 + floor_log(candidates, factor)
    if exhausts:
        min_resources = max(min_resources, int(max_resources // factor ** (required - 1)))
    possible = 1 + floor_log(max_resources // min_resources, factor)
    rungs = []
    for iteration in range(required if aggressive else min(required, possible)):
        power = max(0, iteration - required + possible) if aggressive else iteration
        rungs.append(Rung(candidates, min(int(factor**power * min_resources), max_resources)))
        candidates = math.ceil(candidates / factor)
    return Bracket(tuple(rungs), min_resources, required, possible)


def hyperband(*, min_resources: int, max_resources: int, factor: float) -> list[Bracket]:
    """The brackets of Hyperband, the one with most candidates first.

    Algorithm 1 of Li et al., "Hyperband: a novel bandit-based approach to hyperparameter
    optimization", arXiv:1603.06560, whose R is ``max_resources / min_resources``.
    """
    largest = floor_log(max_resources / min_resources, factor)
    brackets = []
    for s in range(largest, -1, -1):
        # A quotient that is whole but for rounding stays what it is.
        count = math.ceil(round((largest + 1) * factor**s / (s + 1), 9))
        rungs = tuple(
            Rung(
                max(1, math.floor(round(count / factor**i, 9))),
                max(min_resources, math.floor(round(max_resources / factor ** (s - i), 9))),
            )
            for i in range(s + 1)
        )
        brackets.append(Bracket(rungs, rungs[0].epochs, s + 1, s + 1))
    return brackets


def best(scores: Any, count: int) -> list[int]:
    """Places of the ``count`` best scores, ascending; NaN is worst, of equal ones the first wins."""
    worst_last = np.argsort(-np.asarray(scores, float), kind="stable")
    return sorted(worst_last[:count].tolist())
