"""One trial as pure functions: state in, state out.

Shapes: ``N`` rows of the data set, ``B`` rows of a micro-batch. Everything that a
trial needs to go on is in its state, its random key included; the data set is shared and a trial
holds row numbers.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxlstm.nn.layers import BATCH, FIRST_ROW
from jaxlstm.train import optimizers, stopping
from jaxlstm.train.augment import Augmentations
from jaxlstm.train.data import Input, network_input
from jaxlstm.train.hyperparameters import OPTIMIZERS, Hyperparameters
from jaxlstm.train.task import Classification, Task

Array = jax.Array


class Mixing(NamedTuple):
    """How the rows of a batch depend on each other in a network, see `jaxlstm.grid.mixing`."""

    whole: bool = False  # in training a batch cannot come in pieces
    training: bool = False  # rows that only fill a batch up would change the others
    evaluation: bool = False  # the same where the network does not train


@dataclasses.dataclass(frozen=True)
class Structure:
    """What shapes a program: trials of equal structure share it. Hashable."""

    module: nn.Module  # its traced fields hold placeholders
    micro_batch: int  # rows of a forward and backward pass
    traced_fields: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = OPTIMIZERS  # that the program has
    undecayed: tuple[str, ...] = ()  # in the names of parameters without weight decay
    augment: Augmentations = ()  # what training rows go through
    standardizes: bool = False  # whether its hyperparameters have a standardization
    task: Task = dataclasses.field(default_factory=Classification)  # what the targets mean
    inputs: tuple[Input, ...] = ()  # what columns of x are to the network; empty: x itself
    mixing: Mixing = dataclasses.field(default_factory=Mixing)
    #: Rows of a trial's last, short batch, and of its last one in evaluation, where nothing may fill
    #: them up: one for each number of rows that the program serves.
    tails: tuple[int, ...] = ()
    evaluation_tails: tuple[int, ...] = ()


class Rows(NamedTuple):
    """Which rows a trial trains on and is validated on; each list is padded to N."""

    train: Any  # shape=(N,), dtype=int32
    n_train: Any  # shape=(), dtype=int32
    validation: Any  # shape=(N,), dtype=int32
    n_validation: Any  # shape=(), dtype=int32


class Weights(NamedTuple):
    """What a network is made of."""

    params: Any
    collections: Any  # its other variables, such as batch statistics


class State(NamedTuple):
    """State of a trial between epochs."""

    weights: Weights
    best: Weights  # those of the best epoch so far
    slots: optimizers.Slots
    step: Array  # shape=(), dtype=int32, optimizer steps done
    epoch: Array  # shape=(), dtype=int32, epochs done
    stopping: stopping.Stopping
    key: Array  # shape=(), the trial's own random key


class Metrics(NamedTuple):
    """What one epoch gave, shape=() but for the task's metrics ``[metrics]``.

    Loss and metrics are sums over rows or steps by their weights, which the host divides by the sum
    of the weights, in float64.
    """

    train_loss: Array
    train_metrics: Array
    train_mass: Array  # the sum of weights
    validation_loss: Array
    validation_metrics: Array
    validation_mass: Array
    penalty: Array  # the L2 term at the end of the epoch
    learning_rate: Array  # at the last step
    trained: Array  # dtype=bool, False for an epoch that a stopped trial sat out
    improved: Array  # dtype=bool, whether the weights of this epoch are the best so far
    stopped: Array  # dtype=bool, whether it trains no further


def takes_lengths(module: nn.Module) -> bool:
    """Whether a network is told how long its rows are: its ``__call__`` takes ``lengths``."""
    return "lengths" in inspect.signature(type(module).__call__).parameters


def call_arguments(
    module: nn.Module, train: bool, lengths: Any = None, x: Any = None
) -> dict[str, Any]:
    """What a network is called with beside its rows ``x [B, ...]``, by name.

    Whether it trains as ``train``, ``training`` or ``deterministic``, as it takes it; and ``lengths
    [B]`` where rows are of unequal length, or where it cannot do without.
    """
    names = inspect.signature(type(module).__call__).parameters
    given: dict[str, Any] = {}
    for name in ("train", "training"):
        if name in names:
            given[name] = train
            break
    else:
        if "deterministic" in names:
            given["deterministic"] = not train
    if lengths is None and hasattr(x, "shape") and "lengths" in names:
        parameter = names["lengths"]
        if parameter.default is parameter.empty and len(x.shape) > 1:
            lengths = jnp.full(x.shape[:1], x.shape[1], jnp.int32)
    if lengths is not None:
        if "lengths" not in names:
            raise ValueError(
                f"{type(module).__name__} does not take lengths, so its rows must be equally long."
            )
        given["lengths"] = lengths
    return given


def init_weights(structure: Structure, x: Array, key: Array) -> Weights:
    """Draws a network's first weights; see `init`."""
    return init_with_output(structure, x, key)[1]


def init_with_output(
    structure: Structure, x: Array, key: Array, lengths: Array | None = None
) -> tuple[Any, Weights]:
    """Draws a network's first weights, see `init`, and computes its outputs for ``x``."""
    module, dtype = structure.module, jnp.result_type(x, float)
    x = network_input(structure.inputs, x)
    streams = {"params": key, "dropout": key}
    given = call_arguments(module, False, lengths, x)
    outputs, variables = module.init_with_output(streams, x, **given)
    variables = dict(variables)
    variables = jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        variables,
    )
    params = variables.pop("params", {})
    variables.pop("perturbations", None)  # a caller's, to differentiate by
    lasting = _lasting(module, params, variables, x, key) if variables else {}
    return outputs, Weights(params, lasting)


def _lasting(module: nn.Module, params: Any, collections: Any, x: Any, key: Array) -> Any:
    """Those variables beside the parameters that a step of training leaves as large as they are.

    What a module sows for its caller grows with every call, or with the rows of a batch.
    """

    def step(variables: Any, x: Any, key: Any) -> Any:
        rows = jax.tree.map(lambda part: jnp.concatenate([part, part]), x)
        streams = {"dropout": key, "params": key}
        given = call_arguments(module, train=True, x=rows)
        return module.apply(variables, rows, **given, rngs=streams, mutable=list(collections))[1]

    def shape(leaf: Any) -> Any:
        return jax.tree.map(jnp.shape, leaf)

    after = flatten_dict(jax.eval_shape(step, {"params": params, **collections}, x, key))
    before = flatten_dict(collections)
    known = {path: leaf for path, leaf in before.items() if path in after}
    return unflatten_dict(
        {path: leaf for path, leaf in known.items() if shape(leaf) == shape(after[path])}
    )


def begin(
    weights: Weights,
    hyperparameters: Hyperparameters,
    dtype: Any,
    key: Array,
    among: tuple[str, ...] = OPTIMIZERS,
) -> State:
    """State before the first epoch, of a trial with these weights in a program of these rules."""
    zero = jnp.zeros((), jnp.int32)
    return State(
        weights,
        weights,
        optimizers.init(weights.params, hyperparameters, among),
        zero,
        zero,
        stopping.init(hyperparameters, dtype),
        key,
    )


def init(structure: Structure, hyperparameters: Hyperparameters, x: Array, key: Array) -> State:
    """Draws a trial's first state.

    Args:
      structure: the network.
      hyperparameters: the trial's traced numbers.
      x: one row of the data set, ``[1, ...]``; only shape and type matter. The state is of its
        type, whatever type the network draws its weights in.
      key: the trial's random key.

    Returns:
      The state before the first epoch.
    """
    init_key, key = jax.random.split(key)
    weights = init_weights(structure, x, init_key)
    dtype = jnp.result_type(x, float)
    return begin(weights, hyperparameters, dtype, key, structure.optimizers)


def apply(
    structure: Structure,
    fields: Any,
    weights: Weights,
    x: Array,
    key: Any = None,
    first_row: Array | int = 0,
    lengths: Array | None = None,
) -> tuple[Array, Any]:
    """Outputs of the network and the updated collections; in training mode when given a key.

    ``first_row`` is the place in its batch of the first row of ``x``: dropout draws by it, so that
    a batch gets the same masks in however many pieces it comes.
    """
    module = structure.module.clone(**{name: fields[name] for name in structure.traced_fields})
    x = network_input(structure.inputs, x)
    variables = {"params": weights.params, **weights.collections}
    if key is None:
        outputs: Any = module.apply(variables, x, **call_arguments(module, False, lengths, x))
        return outputs, weights.collections
    variables[BATCH] = {FIRST_ROW: jnp.asarray(first_row, jnp.int32)}
    outputs, collections = module.apply(
        variables,
        x,
        **call_arguments(module, True, lengths, x),
        # A stream of another name comes from that of "params", as in `flax.linen.Module.make_rng`.
        rngs={"dropout": key, "params": jax.random.fold_in(key, 0)},
        mutable=list(weights.collections),
    )
    updated, before = flatten_dict(collections), flatten_dict(weights.collections)
    kept = {
        path: jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), updated[path], leaf)
        for path, leaf in before.items()
    }
    return outputs, unflatten_dict(kept)
