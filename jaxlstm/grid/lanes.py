"""The lanes of one program on its devices; the two layouts differ only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxlstm.grid import programs
from jaxlstm.grid.plan import Group
from jaxlstm.grid.space import Problem, Trial, pad_rows
from jaxlstm.grid.stream import Stream
from jaxlstm.nn import padding
from jaxlstm.train.data import Data
from jaxlstm.train.trial import Metrics, Rows, State, Structure, Weights


class Devices:
    """What all programs of a run share: the data set and the row tables, on the devices."""

    def __init__(self, problem: Problem, layout: str, devices: Sequence[Any]):
        self.streams = layout == "stream"
        self.mesh = programs.lanes_mesh(devices) if layout == "vmap" else None
        tables = pad_rows(problem.folds, len(problem.datasets[0].y))
        self.tables: Any = None
        if self.mesh is None:
            self.data = list(problem.datasets)
            if layout == "loop":
                self.data = [Data(*jax.device_put(data, devices[0])) for data in self.data]
            self.rows = [
                jax.device_put(Rows(*(table[fold] for table in tables)), devices[0])
                for fold in range(len(problem.folds))
            ]
        else:
            self.data = [Data(*programs.on_all(self.mesh, data)) for data in problem.datasets]
            self.tables = programs.on_all(self.mesh, tables)


def fetch(tree: Any) -> Any:
    """Arrays on the host, whole; of a mesh of several processes they are gathered."""

    def get(leaf: Any) -> Any:
        if _is_key(leaf):
            return programs.wrap_key(get(_data(leaf)))
        if getattr(leaf, "is_fully_addressable", True):
            return np.asarray(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(get, tree)


def _with_params(state: State, change: Any) -> State:
    """Applies ``change`` to every tree of a state that is like the parameters."""
    weights, best, slots = state.weights, state.best, state.slots
    return state._replace(
        weights=weights._replace(params=change(weights.params)),
        best=best._replace(params=change(best.params)),
        slots=slots._replace(
            first=change(slots.first),
            second=change(slots.second),
            third=None if slots.third is None else change(slots.third),
        ),
    )


def first_state(trial: Trial, structure: Structure, row: np.ndarray) -> State:
    """First state of a trial in a program of this structure, as wide or wider than its own.

    Weights are drawn at the trial's own width. A slot of the optimizer starts with one value
    everywhere, padding included.
    """
    network = trial.network
    state = programs.init_state(network.structure, network.hyperparameters, row, trial.seed)
    own, wide = network.structure.module, structure.module
    if own == wide:
        return state

    def embed(tree: Any) -> Any:
        return padding.embed(own, wide, jax.tree.map(np.asarray, tree), row.shape)

    def fill(slot: Any, like: Any) -> Any:
        return jax.tree.map(
            lambda one, shaped: np.full(shaped.shape, np.asarray(one).flat[0], one.dtype),
            slot,
            like,
        )

    slots = state.slots
    state = _with_params(state, embed)
    params = state.weights.params
    return state._replace(
        slots=slots._replace(
            first=fill(slots.first, params),
            second=fill(slots.second, params),
            third=None if slots.third is None else fill(slots.third, params),
        )
    )


class Lanes:
    """The slots of one running program: their states, numbers and rows.

    Args:
      problem: its data.
      group: structure and number of slots.
      devices: what is on the devices already.
      variant: which version of the data the lanes read.
    """

    def __init__(self, problem: Problem, group: Group, devices: Devices, variant: int, slots: int):
        self.structure, self.slots = group.structure, slots
        self._devices, self._mesh = devices, devices.mesh
        self._data = devices.data[variant]
        x = problem.datasets[variant].x
        self._row = np.zeros((1, *x.shape[1:]), x.dtype)
        self._state: Any = None
        self._numbers: Any = None
        self._rows: Any = None
        self._folds = np.zeros(slots, np.int32)
        self._program: Any = None

    def first_state(self, trial: Trial) -> State:
        """First state of a trial in these lanes."""
        return first_state(trial, self.structure, self._row)

    def put(self, entries: Iterable[tuple[int, Trial, State]]) -> None:
        """Puts trials and their states into slots; ``entries`` may make them one by one."""
        if self._mesh is None:
            ((_, trial, state),) = entries
            self._numbers, self._state = trial.network.hyperparameters, state
            self._rows = self._devices.rows[trial.rows]
            return
        states, numbers = _Stack(self.slots), _Stack(self.slots)
        new = np.zeros(self.slots, bool)
        for slot, trial, state in entries:
            states.put(slot, state)
            numbers.put(slot, trial.network.hyperparameters)
            self._folds[slot] = trial.rows
            new[slot] = True
        if self._state is None:
            self._numbers = numbers.tree
            self._state = programs.on_lanes(self._mesh, states.tree)
        else:
            self._numbers = jax.tree.map(
                lambda ours, theirs: np.where(_lead(new, ours), theirs, ours),
                self._numbers,
                numbers.tree,
            )
            self._state = programs.replace_lanes(
                self._mesh, self._state, programs.on_lanes(self._mesh, states.tree), new
            )
        self._rows = programs.on_lanes(self._mesh, self._folds)
        self._placed = programs.on_lanes(self._mesh, self._numbers)

    def train_epoch(self, active: np.ndarray, validate: np.ndarray) -> Metrics:
        """Starts one epoch of the active slots; does not wait for it.

        Args:
          active: ``[slots]``, which slots train.
          validate: ``[slots]``, which are evaluated on their validation rows.
        """
        args: tuple[Any, ...]
        if self._devices.streams:
            if self._program is None:
                self._program = Stream(self.structure, self._data).train_epoch
            args = (self._state, self._numbers, self._rows)
            args = (*args, np.asarray(active[0]), np.asarray(validate[0]))
        elif self._mesh is None:
            args = (self._state, self._numbers, self._data, self._rows)
            args = (*args, np.asarray(active[0]), np.asarray(validate[0]))
        else:
            flags = (programs.on_lanes(self._mesh, flag.copy()) for flag in (active, validate))
            args = (self._state, self._placed, self._data, self._devices.tables)
            args = (*args, *flags, self._rows)
        if self._program is None:
            layout = "loop" if self._mesh is None else "vmap"
            self._program = programs.train_program(self.structure, layout, args, self._mesh)
        self._state, metrics = self._program(*args)
        return metrics

    def fetched(self, metrics: Metrics) -> Metrics:
        """What `train_epoch` gave, on the host, with a leading axis of slots."""
        return Metrics(*self._by_slot(fetch(tuple(metrics))))

    def states(self) -> State:
        """States of all slots on the host, with a leading lane axis."""
        states: State = self._by_slot(fetch(self._state))
        return states

    def _by_slot(self, tree: Any) -> Any:
        return tree if self._mesh is not None else jax.tree.map(lambda leaf: leaf[None], tree)

    def own_weights(self, states: State, slot: int, trial: Trial) -> Weights:
        """A slot's last or best weights, at the trial's own width; ``states`` as `states` gives."""
        kept = states.best if trial.network.keeps_best else states.weights
        weights: Weights = jax.tree.map(lambda leaf: np.array(leaf[slot]), kept)
        own, wide = trial.network.structure.module, self.structure.module
        if own == wide:
            return weights
        params = padding.extract(own, wide, weights.params, self._row.shape)
        return weights._replace(params=params)

    def narrowed(self, problem: Problem, group: Group, variant: int, slots: list[int]) -> Lanes:
        """As few lanes, side by side, as hold these slots, in their order."""
        mesh: Any = self._mesh
        size = -(-len(slots) // mesh.size) * mesh.size
        lanes = Lanes(problem, group, self._devices, variant, size)
        order = np.asarray(slots + [slots[0]] * (size - len(slots)))
        states = jax.tree.map(lambda leaf: leaf[order], self.states())
        lanes._state = programs.on_lanes(mesh, states)
        lanes._numbers = jax.tree.map(lambda leaf: leaf[order], self._numbers)
        lanes._placed = programs.on_lanes(mesh, lanes._numbers)
        lanes._folds = self._folds[order]
        lanes._rows = programs.on_lanes(mesh, lanes._folds)
        return lanes


def _lead(mask: np.ndarray, like: Any) -> np.ndarray:
    return mask.reshape(-1, *[1] * (np.ndim(like) - 1))


class _Stack:
    """Trees one after another in arrays with a leading axis; what is not put is left at 0."""

    def __init__(self, slots: int):
        self._slots = slots
        self._arrays: list[np.ndarray] = []
        self._like: Any = None

    def put(self, slot: int, tree: Any) -> None:
        leaves, treedef = jax.tree.flatten(tree)
        parts = [np.asarray(_data(leaf)) for leaf in leaves]
        if not self._arrays:
            self._like = leaves, treedef
            self._arrays = [np.zeros((self._slots, *part.shape), part.dtype) for part in parts]
        for array, part in zip(self._arrays, parts, strict=True):
            array[slot] = part

    @property
    def tree(self) -> Any:
        leaves, treedef = self._like
        pairs = zip(self._arrays, leaves, strict=True)
        return jax.tree.unflatten(
            treedef,
            [programs.wrap_key(array) if _is_key(leaf) else array for array, leaf in pairs],
        )


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf
