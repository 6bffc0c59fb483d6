"""Whether the rows of a batch depend on each other in a network.

Programs cut batches into pieces, and fill the last one of an epoch up with rows that count for
nothing. To most networks that is nothing: what they make of a row depends on that row alone. To one
that normalises by statistics of its batch it is another batch. Such a network gets batches of exactly
their rows. How it is known: it is run on a few rows, and on the same with others beside them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError
from jax import lax

from jaxlstm.grid import programs
from jaxlstm.grid.program_cache import compiled
from jaxlstm.train import trial
from jaxlstm.train.data import Data, Input, take
from jaxlstm.train.trial import Mixing, Structure, Weights

# Rows that a network is run on, and how often: at each draw with other weights, rows and random bits.
_ROWS, _DRAWS = 4, 4

# Arithmetic of other sizes rounds otherwise, in 16 bits too; other rows or random bits show by more.
_TOLERANCE = 0.02


def find(structure: Structure, data: Data) -> Mixing:
    """How rows depend on each other in the network of a structure.

    One that keeps other variables than parameters, such as statistics of batches, updates them by all
    rows of a batch.

    Args:
      structure: the network.
      data: what it is to be trained on: shapes, types, and the range of integers.
    """
    module = structure.module
    if type(module).__module__.startswith("jaxlstm."):  # a test has them all
        return Mixing()
    x = jax.ShapeDtypeStruct(data.x.shape[1:], data.x.dtype)
    bounds = tuple(
        (int(part.min()), int(part.max())) for part in _whole_numbers(structure.inputs, data.x)
    )
    names = structure.traced_fields
    return _found(module, names, structure.inputs, x, bounds, data.lengths is not None)


def _whole_numbers(inputs: tuple[Input, ...], x: np.ndarray) -> Iterator[np.ndarray]:
    """Those parts of rows that are whole numbers to the network, as views."""
    start = 0
    for one in inputs:
        size = math.prod(one.shape) if one.name is not None else x.shape[1]
        if one.dtype is not None:
            yield x[:, start : start + size]
        start += size


@functools.lru_cache(maxsize=1024)
def _found(
    module: nn.Module,
    names: tuple[str, ...],
    inputs: tuple[Input, ...],
    x: Any,
    bounds: tuple[tuple[int, int], ...],
    is_ragged: bool,
) -> Mixing:
    structure = Structure(module, _ROWS, names, inputs=inputs)
    # One answer whatever the values of traced fields: lanes of one program differ in them.
    fields = dict.fromkeys(names, np.asarray(0.5, jax.dtypes.canonicalize_dtype(float)))
    row = jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    keeps = bool(jax.tree.leaves(programs.weights_shape(structure, row).collections))
    args = [_draw(number, inputs, x, bounds, is_ragged) for number in range(_DRAWS)]

    def run(rows: Data, other: Data, key: Any, fields: Any) -> Any:
        return _differences(structure, rows, other, key, fields)

    options = {"xla_backend_optimization_level": 0}
    try:
        program = compiled("mixing", (module, names, inputs), run, (*args[0], fields), options)
    except InvalidRngError as error:
        raise ValueError(
            f"{type(module).__name__} draws random numbers also where it does not train, so predictions"
            " would be random: let __call__ take train (or training, deterministic), and draw by it."
        ) from error
    except (TypeError, ValueError):  # so few rows are none of its batches
        return Mixing(True, True, True)
    with jax.debug_nans(False):  # of numbers that are nobody's
        differ = [np.asarray(program(*arg, fields)) for arg in args]
    whole, training, evaluation = np.any(differ, axis=0)
    return Mixing(bool(whole | training | keeps), bool(training | keeps), bool(evaluation))


def _draw(number: int, inputs: tuple[Input, ...], x: Any, bounds: Any, is_ragged: bool) -> Any:
    rng = np.random.default_rng(number)

    def rows(count: int) -> np.ndarray:
        drawn = (rng.normal(size=(count, *x.shape)) * 10 ** (number % 2)).astype(x.dtype)
        parts = _whole_numbers(inputs, drawn)
        for part, (least, most) in zip(parts, bounds, strict=True):
            part[...] = rng.integers(least, most, part.shape, endpoint=True)
        return drawn

    own = other = None
    if is_ragged:  # the other row is the longest
        own = rng.integers(1, max(2, x.shape[0]), _ROWS).astype(np.int32)
        other = np.full(1, x.shape[0], np.int32)
    return Data(rows(_ROWS), None, own), Data(rows(1), None, other), programs.random_key(number)


def _differences(structure: Structure, rows: Data, other: Data, key: Any, fields: Any) -> Any:
    """Whether outputs differ: of pieces, beside another row in training, and without; ``[3]``."""
    init, noise, key = jax.random.split(key, 3)
    weights = trial.init_weights(structure, rows.x[:1], init)
    leaves, treedef = jax.tree.flatten(weights.params)
    # What starts as 0 hides what it is multiplied by.
    noisy = [
        leaf + 0.1 * jax.random.normal(jax.random.fold_in(noise, place), leaf.shape, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        else leaf
        for place, leaf in enumerate(leaves)
    ]
    weights = Weights(jax.tree.unflatten(treedef, noisy), weights.collections)

    def outputs(key: Any, first: int = 0) -> Any:
        def of(rows: Data) -> Any:
            return trial.apply(structure, fields, weights, rows.x, key, first, rows.lengths)[0]

        return of

    both = jax.tree.map(lambda a, b: jnp.stack([a, a.at[-1:].set(b)]), rows, other)
    beside = []
    for one in (key, None):
        first, second = lax.map(outputs(one), both)[:, :-1]
        beside.append(~jnp.array_equal(first, second, equal_nan=True))
        if one is not None:
            trained = first
    half = _ROWS // 2
    piece = outputs(key, half)(take(rows, slice(half, None)))[:-1]
    scale = jnp.max(jnp.abs(trained))
    whole = ~jnp.allclose(piece, trained[half:], rtol=0, atol=_TOLERANCE * scale, equal_nan=True)
    return jnp.stack([whole, *beside])
