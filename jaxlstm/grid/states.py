"""A lane's state at its network's own width, and as wide as a program wants it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxlstm.grid.lanes import first_state
from jaxlstm.grid.space import Trial
from jaxlstm.nn import padding
from jaxlstm.train.trial import State, Structure


def slot_state(states: State, slot: int) -> State:
    """One slot's state of those with a leading lane axis, as copies."""

    def own(leaf: Any) -> Any:
        # A view would keep the states of all slots alive.
        return np.array(leaf[slot]) if isinstance(leaf, np.ndarray) else leaf[slot]

    state: State = jax.tree.map(own, states)
    return state


def own_state(state: State, trial: Trial, structure: Structure, row: np.ndarray) -> State:
    """A state in a program of this structure, at the trial's own width."""
    own, wide = trial.network.structure.module, structure.module
    if own == wide:
        return state
    narrow: State = padding.extract(own, wide, state, row.shape)
    return narrow


def wide_state(state: State, trial: Trial, structure: Structure, row: np.ndarray) -> State:
    """A state for a program of this structure; one that is as wide already stays.

    Where a lane is padded, weights stay 0 and an optimizer's slots what they began with.
    """
    own, wide = trial.network.structure.module, structure.module
    if own == wide:
        return state
    first = first_state(trial, structure, row)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(first)]
    if shapes == [np.shape(leaf) for leaf in jax.tree.leaves(state)]:
        return state
    embedded: State = padding.embed(own, wide, state, row.shape)
    ones = jax.tree.map(lambda leaf: np.ones(np.shape(leaf), bool), state.slots)
    owned = padding.embed(own, wide, ones, row.shape)
    slots = jax.tree.map(
        lambda mine, ours, began: np.where(np.asarray(mine, bool), ours, began),
        owned,
        embedded.slots,
        first.slots,
    )
    return embedded._replace(slots=slots)
