"""The programs that searches and fits run: initialisation, training, prediction.

Layouts say how lanes run. "loop": the program trains one lane, and every CPU core runs it on lane
after lane; XLA's batched matrix products on CPU cost 1.6 to 3 times more a lane. "vmap": the program
trains P lanes side by side, sharded over all devices; on an accelerator one small network leaves
most of the chip idle. "stream": as "loop", with data that stays on the host and comes to the device
in chunks (`jaxlstm.grid.stream`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlstm.grid.machine import saying
from jaxlstm.grid.program_cache import Memory, compiled, memory_of
from jaxlstm.train import epoch, optimizers, standardization, trial
from jaxlstm.train.data import Data, take, without_padding
from jaxlstm.train.trial import Rows, State, Structure, Weights

LAYOUTS = ("loop", "vmap", "stream")

_KEYS = "threefry2x32"


def settings() -> dict[str, Any]:
    """JAX's settings in this thread, as far as they change numbers."""
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_rank_promotion")
    return {name: getattr(jax.config, name) for name in names}


@contextlib.contextmanager
def settings_of(caller: dict[str, Any]) -> Iterator[None]:
    """JAX's context managers act on one thread: other threads and processes take over `settings`."""
    with (
        jax.enable_x64(caller["jax_enable_x64"]),
        jax.default_matmul_precision(caller["jax_default_matmul_precision"]),
        jax.numpy_rank_promotion(caller["jax_numpy_rank_promotion"]),
    ):
        yield


def random_key(seed: int) -> jax.Array:
    """The random key of a trial; the same whatever generator the process prefers."""
    return jax.random.key(seed, impl=_KEYS)


def wrap_key(data: Any) -> jax.Array:
    """Random keys from their words."""
    return jax.random.wrap_key_data(data, impl=_KEYS)


def init_state(structure: Structure, hyperparameters: Any, x: Any, seed: int) -> State:
    """First state of a trial; ``x [1, ...]`` is one row.

    One lane at a time: a batched orthogonal initialisation can deadlock in some versions of jaxlib.
    """
    args = (hyperparameters, x, random_key(seed))
    # Drawing weights takes milliseconds, so the compiler's optimisations cost more than they save.
    options = {"xla_backend_optimization_level": 0}

    def init(hyperparameters: Any, x: Any, key: Any) -> State:
        return trial.init(structure, hyperparameters, x, key)

    key = structure.module, structure.inputs, optimizers.has_third(structure.optimizers)
    return compiled("init", key, init, args, options)(*args)


def state_shape(structure: Structure, hyperparameters: Any, x: Any) -> State:
    """Shapes and types of a trial's state, without computing it."""

    def begin(weights: Weights, hyperparameters: Any, key: Any) -> State:
        dtype = jnp.result_type(x.dtype, float)
        return trial.begin(weights, hyperparameters, dtype, key, structure.optimizers)

    return jax.eval_shape(begin, weights_shape(structure, x), hyperparameters, _key_shape())


def weights_shape(structure: Structure, x: Any) -> Weights:
    """Shapes and types of a network's weights, without computing them."""
    weights: Weights = _network_shapes(structure, x, False)[1]
    return weights


def output_shape(structure: Structure, x: Any, is_ragged: bool) -> Any:
    """What a network returns for rows ``x``: a shape, or its type where that is no array."""
    outputs = _network_shapes(structure, x, is_ragged)[0]
    return getattr(outputs, "shape", type(outputs).__name__)


def _network_shapes(structure: Structure, x: Any, is_ragged: bool) -> Any:
    one = Structure(structure.module, 1, inputs=structure.inputs)
    return _traced_shapes(one, tuple(x.shape), np.dtype(x.dtype), is_ragged)


@functools.lru_cache(maxsize=1024)
def _traced_shapes(one: Structure, shape: tuple[int, ...], dtype: Any, is_ragged: bool) -> Any:
    """Shapes of a network's outputs and weights: to trace it is most of what a plan takes."""
    x = jax.ShapeDtypeStruct(shape, dtype)
    lengths = jax.ShapeDtypeStruct(shape[:1], np.int32) if is_ragged else None
    draw = functools.partial(trial.init_with_output, one)
    return jax.eval_shape(draw, x, _key_shape(), lengths)


def _key_shape() -> Any:
    return jax.eval_shape(lambda: random_key(0))


def lanes_mesh(devices: Sequence[Any]) -> Mesh:
    """A mesh with one axis, "lanes", over these devices."""
    return Mesh(np.asarray(devices), ("lanes",))


def train_program(structure: Structure, layout: str, args: Any, mesh: Mesh | None = None) -> Any:
    """The program that trains one epoch.

    Args:
      structure: what shapes it.
      layout: "loop": args are those of `epoch.train_epoch`; "vmap": states, hyperparameters,
        ``active`` and ``validate`` have a leading lane axis P, rows are tables with a leading axis,
        and a last argument ``rows [P]`` says which of them a lane uses.
      args: arguments, or their shapes.
      mesh: for "vmap", the devices that share the lanes.

    Returns:
      A compiled program; its first argument, the state, is donated.
    """
    key, function, jit = _training(structure, layout, mesh)
    return compiled("train", key, function, args, **jit)


def train_memory(
    structure: Structure, layout: str, args: Any, mesh: Mesh | None = None
) -> Memory | None:
    """Memory of a program that `train_program` has compiled; None where it has not."""
    key, _, _ = _training(structure, layout, mesh)
    return memory_of("train", key, args)


def _training(structure: Structure, layout: str, mesh: Mesh | None) -> tuple[Any, Any, Any]:
    """A training program's key, its function, and the options of `jax.jit`."""
    if layout == "loop":

        def train_lane(
            state: State, hp: Any, data: Data, rows: Rows, active: Any, validate: Any
        ) -> Any:
            return epoch.train_epoch(structure, state, hp, data, rows, active, validate)

        return (structure, layout), train_lane, {"donate_argnums": 0}

    if mesh is None:
        raise ValueError("layout 'vmap' needs a mesh")

    def train_lanes(
        states: State, hp: Any, data: Data, tables: Rows, active: Any, validate: Any, rows: Any
    ) -> Any:
        def train(state: State, hp: Any, active: Any, validate: Any, rows: Any) -> Any:
            own = jax.tree.map(lambda table: table[rows], tables)
            return epoch.train_epoch(structure, state, hp, data, own, active, validate)

        return jax.vmap(train)(states, hp, active, validate, rows)

    lanes, whole = PartitionSpec("lanes"), PartitionSpec()
    specs = (lanes, lanes, whole, whole, lanes, lanes, lanes)
    sharded = jax.shard_map(
        train_lanes, mesh=mesh, in_specs=specs, out_specs=lanes, check_vma=False
    )
    # Said once more: a number that the program does not look at would be taken as replicated.
    shardings = tuple(NamedSharding(mesh, spec) for spec in specs)
    key = (structure, layout, tuple(mesh.devices.flat))
    return key, sharded, {"donate_argnums": 0, "in_shardings": shardings}


def _put(tree: Any, sharding: NamedSharding) -> Any:
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Any:  # each process has the whole, and places its devices' part
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return wrap_key(put(jax.random.key_data(leaf)))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(put, tree)


def on_lanes(mesh: Mesh, tree: Any) -> Any:
    """Puts arrays with a leading lane axis on the mesh, sharded over it."""
    return _put(tree, NamedSharding(mesh, PartitionSpec("lanes")))


def on_all(mesh: Mesh, tree: Any) -> Any:
    """Puts arrays on every device of the mesh."""
    return _put(tree, NamedSharding(mesh, PartitionSpec()))


def replace_lanes(mesh: Mesh, states: Any, others: Any, new: np.ndarray) -> Any:
    """Lanes of ``others`` where ``new [P]``, else of ``states``, which is given up."""

    def replace(states: Any, others: Any, new: Any) -> Any:
        def choose(ours: Any, theirs: Any) -> Any:
            return jnp.where(new.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)

        return jax.tree.map(choose, states, others)

    args = states, others, on_lanes(mesh, new)
    key = tuple(mesh.devices.flat)
    return compiled("replace", key, replace, args, donate_argnums=0)(*args)


PREDICTION_BATCH = 256


class _Applied(NamedTuple):
    """The traced numbers that a prediction depends on."""

    fields: Any
    standardization: Any
    task: Any


def predict(
    structure: Structure, hyperparameters: Any, weights: Weights, x: Any, lengths: Any = None
) -> np.ndarray:
    """The task's predictions of rows ``x [M, ...]``, standardised where the trial's were.

    Probabilities ``[M, C]`` or numbers ``[M, D]``, per step with an axis T after M.

    Rows go in batches of 256, the last one filled up to a power of two, so that few programs serve
    every number of rows; not where other rows would change a row's prediction.
    """

    def predictions(numbers: Any, weights: Weights, rows: Data) -> Any:
        outputs = _outputs(structure, numbers, weights, rows.x, rows.lengths)
        return structure.task.predictions(outputs, numbers.task)

    rows = Data(x, None, lengths)
    return _in_batches("predict", predictions, structure, hyperparameters, weights, rows)


def outputs(
    structure: Structure, hyperparameters: Any, weights: Weights, x: Any, lengths: Any = None
) -> np.ndarray:
    """The network's own outputs of rows, as `predict` gives the task's predictions: logits."""

    def of_network(numbers: Any, weights: Weights, rows: Data) -> Any:
        return _outputs(structure, numbers, weights, rows.x, rows.lengths)

    rows = Data(x, None, lengths)
    return _in_batches("outputs", of_network, structure, hyperparameters, weights, rows)


def _outputs(structure: Structure, numbers: Any, weights: Weights, x: Any, lengths: Any) -> Any:
    x = without_padding(standardization.apply(numbers.standardization, x), lengths)
    return trial.apply(structure, numbers.fields, weights, x, lengths=lengths)[0]


def input_gradients(
    structure: Structure,
    hyperparameters: Any,
    weights: Weights,
    x: Any,
    choice: Any,
    lengths: Any = None,
) -> np.ndarray:
    """Gradient of each row's output of its choice, ``[M]``, by that row: shaped as ``x [M, ...]``.

    Outputs of several steps are summed over the row's own.
    """

    def gradients(numbers: Any, weights: Weights, rows: Data) -> Any:
        def total(x: Any) -> Any:
            outputs = _outputs(structure, numbers, weights, x, rows.lengths)
            evidence = structure.task.evidence(outputs, rows.y)
            if structure.task.per_step:
                evidence = without_padding(evidence, rows.lengths)
            return evidence.sum()

        return jax.grad(total)(rows.x)  # a row's output depends on that row alone

    rows = Data(x, np.asarray(choice, np.int32), lengths)
    return _in_batches("gradients", gradients, structure, hyperparameters, weights, rows)


def _in_batches(
    kind: str,
    function: Any,
    structure: Structure,
    hyperparameters: Any,
    weights: Weights,
    rows: Data,
) -> np.ndarray:
    # Numbers that predictions do not depend on are no part of the program.
    h = hyperparameters
    scale = {name: number for name, number in h.task.items() if name.startswith("target_")}
    known = jax.device_put((_Applied(h.fields, h.standardization, scale), weights))
    parts = []
    for start in range(0, len(rows.x), PREDICTION_BATCH):
        batch = take(rows, slice(start, start + PREDICTION_BATCH))
        count = len(batch.x)
        size = min(PREDICTION_BATCH, 1 << (count - 1).bit_length())
        if structure.mixing.evaluation:
            size = count
        filled = jax.tree.map(
            lambda part, more=size - count: np.concatenate([part, np.repeat(part[:1], more, 0)]),
            batch,
        )
        args = (*known, filled)
        key = (
            structure.module,
            structure.inputs,
            structure.traced_fields,
            type(structure.task),
            structure.task.per_step,
        )
        with saying("one batch of rows needs more than there is; free some, or predict elsewhere"):
            program = compiled(kind, key, function, args)
            parts.append(np.asarray(program(*args))[:count])
    return np.concatenate(parts)
