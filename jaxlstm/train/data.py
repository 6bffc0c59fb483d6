"""The data set that trials share, and which of its steps and rows count."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Input(NamedTuple):
    """One of the arrays that rows are to a network; the device has all of them as columns of one."""

    name: str | None  # its key in a dict of arrays; None: rows are one array
    shape: tuple[int, ...]  # of a row, in a dict
    dtype: str | None = None  # of whole numbers, such as token ids; None: numbers as they are


#: Whole numbers that float32 holds are below this in size.
LARGEST_ID = 1 << 24


def network_input(inputs: tuple[Input, ...], x: Array) -> Any:
    """Rows ``[B, ...]`` as a network takes them: as they are, whole numbers, or a dict of arrays."""

    def typed(part: Array, one: Input) -> Array:
        return part if one.dtype is None else part.astype(one.dtype)

    if not inputs:
        return x
    if inputs[0].name is None:
        return typed(x, inputs[0])
    ends = np.cumsum([math.prod(one.shape) for one in inputs])[:-1].tolist()
    parts = jnp.split(x, ends, axis=1)
    return {
        one.name: typed(part.reshape(len(x), *one.shape), one)
        for one, part in zip(inputs, parts, strict=True)
    }


class Data(NamedTuple):
    """Rows, their targets, and what each row weighs; on the device once.

    What is None is the same for all rows and no part of a program.
    """

    x: Any  # shape=(N, ...); steps past a row's length are 0
    y: Any  # shape=(N,) or (N, D), per step (N, T) or (N, T, D)
    lengths: Any = None  # shape=(N,), dtype=int32, in 1..T; None: every row fills its steps
    weight: Any = None  # shape=(N,), per step also (N, T); None: 1
    mass: Any = None  # shape=(N,), what a row counts for in a mean, see `with_mass`; None: 1


def with_mass(data: Data, per_step: bool) -> Data:
    """Fills in what each row counts for: its weight or, with targets per step, its steps' weights."""
    if not per_step:
        return data._replace(mass=data.weight)
    counts = step_weights(data.lengths, data.weight, *np.shape(data.y)[:2])
    return data._replace(mass=counts.sum(axis=1).astype(data.x.dtype))


def step_weights(lengths: Any, weight: Any, rows: int, steps: int) -> np.ndarray:
    """What each step counts for, ``[rows, steps]`` in float64: 0 past a row's length."""
    counts = np.ones((rows, steps))
    if lengths is not None:
        counts *= np.arange(steps) < np.asarray(lengths)[:, None]
    if weight is not None:
        weight = np.asarray(weight, np.float64)
        counts *= weight if weight.ndim == 2 else weight[:, None]
    return counts


def take(data: Data, rows: Any) -> Data:
    """These rows of every part."""
    taken: Data = jax.tree.map(lambda part: part[rows], data)
    return taken


def valid_steps(lengths: Array, steps: int) -> Array:
    """Which steps are a row's own: ``[B] -> [B, steps]``, dtype bool."""
    return jnp.arange(steps, dtype=lengths.dtype)[None, :] < lengths[:, None]


def without_padding(x: Array, lengths: Array | None) -> Array:
    """Rows ``[B, T, ...]`` with zeros past each row's length."""
    if lengths is None:
        return x
    valid = valid_steps(lengths, x.shape[1])
    return jnp.where(valid.reshape(*valid.shape, *[1] * (x.ndim - 2)), x, 0)


def counted_rows(data: Data, rows: np.ndarray) -> np.ndarray:
    """Those of the row numbers whose rows count for anything."""
    if data.mass is None:
        return rows
    return rows[np.asarray(data.mass)[rows] > 0]


def joined(first: Data, second: Data, per_step: bool) -> Data:
    """Rows of both, one after the other, padded to the longer steps."""
    steps = max(first.x.shape[1], second.x.shape[1]) if first.x.ndim > 1 else 1
    is_ragged = first.lengths is not None or second.lengths is not None
    is_ragged = is_ragged or first.x.shape[1:2] != second.x.shape[1:2]

    def padded(part: Any, have: int) -> Any:
        return np.pad(part, [(0, 0), (0, steps - have), *[(0, 0)] * (part.ndim - 2)])

    parts = []
    for data in (first, second):
        have = data.x.shape[1] if data.x.ndim > 1 else 1
        rows = len(data.x)
        x = data.x if have == steps else padded(data.x, have)
        y = padded(data.y, have) if per_step and have != steps else data.y
        lengths = data.lengths
        if is_ragged and lengths is None:
            lengths = np.full(rows, have, np.int32)
        weight = data.weight
        if weight is None and (first.weight is not None or second.weight is not None):
            weight = np.ones(rows, x.dtype)
        parts.append(Data(x, y, lengths, weight))
    weights = [part.weight for part in parts]
    if weights[0] is not None and {weight.ndim for weight in weights} != {1}:
        counts = [weight[:, None] if weight.ndim == 1 else weight for weight in weights]
        parts = [
            part._replace(weight=np.broadcast_to(_to(count, steps), (len(part.x), steps)))
            for part, count in zip(parts, counts, strict=True)
        ]
    both = Data(
        *(
            None if own is None else np.concatenate([own, other])
            for own, other in zip(*parts, strict=True)
        )
    )
    return with_mass(both, per_step)


def _to(weight: np.ndarray, steps: int) -> np.ndarray:
    if weight.shape[1] in (1, steps):
        return weight
    return np.pad(weight, [(0, 0), (0, steps - weight.shape[1])])
