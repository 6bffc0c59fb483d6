"""Independent LSTMs that run the parameters of `jaxlstm.lstm`, each for what it can do.

| reference   | is                                        | lengths | length 0 | peephole | mask |
|-------------|-------------------------------------------|---------|----------|----------|------|
| `equations` | a NumPy loop                              | yes     | yes      | yes      | yes  |
| `plain_scan`| a `lax.scan` that JAX differentiates      | yes     | yes      | yes      | yes  |
| `keras_layer`| `keras.layers.LSTM` on JAX               | yes     | yes      | no       | no   |
| `flax_layer`| `flax.linen.RNN(OptimizedLSTMCell)`       | yes     | no       | no       | no   |
| `run_jax`   | `jax.experimental.rnn.lstm_ref`           | yes     | no       | no       | no   |
| `run_torch` | `torch.nn.LSTM`, packed                   | yes     | no       | no       | no   |
| `run_onnx`  | `onnx.reference` of nodes made by hand    | no      | no       | yes      | no   |

All of them take an initial carry or none, a bias or none, float32 and float64, both directions and
any number of layers.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import rnn

from jaxlstm.nn.recurrence import LSTMParams

DIRECTIONS = {"forward": (False,), "reverse": (True,), "both": (False, True)}

# References need not run fast; compiling takes more time than running.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Problem(NamedTuple):
    """Layers on top of each other: what a gradient is taken for.

    ``params``, ``carry`` and ``mask`` are tuples over layers of tuples over directions.
    """

    params: Any  # LSTMParams
    x: Any  # shape=(B, T, F)
    carry: Any = None  # (c, h), each of shape=(B, H)
    mask: Any = None  # shape=(B, H), of the recurrent product


def make_problem(
    direction: str = "forward",
    *,
    layers: int = 1,
    batch: int = 5,
    steps: int = 7,
    features: int = 6,
    units: int = 3,
    carry: bool = True,
    bias: bool = True,
    peephole: bool = False,
    mask: bool = False,
    dtype: Any = np.float64,
    seed: int = 0,
) -> Problem:
    """Random numbers, other ones in every row, gate, direction and layer.

    With F = 2 H every layer of a stack of both directions has one shape, so one program serves all.
    """
    rng = np.random.default_rng(seed)
    ways = len(DIRECTIONS[direction])

    def normal(*shape: int) -> Any:
        return (0.7 * rng.normal(size=shape)).astype(dtype)

    def nested(make: Callable[[int], Any]) -> Any:
        return tuple(tuple(make(layer) for _ in range(ways)) for layer in range(layers))

    def params(layer: int) -> LSTMParams:
        return LSTMParams(
            normal(ways * units if layer else features, 4 * units),
            normal(units, 4 * units),
            normal(4 * units) if bias else None,
            normal(3, units) if peephole else None,
        )

    def masks(_: int) -> Any:  # as of a dropout rate near 1/3
        return (rng.integers(0, 3, size=(batch, units)) * 0.75).astype(dtype)

    return Problem(
        nested(params),
        normal(batch, steps, features),
        nested(lambda _: (normal(batch, units), normal(batch, units))) if carry else None,
        nested(masks) if mask else None,
    )


def make_lengths(kind: str, batch: int, steps: int = 7) -> np.ndarray | None:
    """Lengths ``[B]`` of a kind: none, full, ones, zeros, ragged, ragged with 0."""
    lengths = {
        "none": None,
        "full": [steps] * batch,
        "ones": [1] * batch,
        "zeros": [0] * batch,
        "ragged": [steps // 2, steps, 1, steps - 2, 2][:batch],
        "ragged with 0": [steps // 2, 0, steps, 1, steps - 2][:batch],
    }[kind]
    return None if lengths is None else np.array(lengths, np.int32)


def run_stack(layer: Any, problem: Problem, lengths: Any, direction: str, **options: Any) -> Any:
    """Runs ``layer``, which is called as `lstm` is, layer by layer and direction by direction.

    Returns:
      The top layer's outputs, directions concatenated, and the last carries of all layers.
    """
    hs, last = problem.x, []
    for index, directions in enumerate(problem.params):
        out = []
        for way, (params, reverse) in enumerate(
            zip(directions, DIRECTIONS[direction], strict=True)
        ):
            if problem.carry is not None:
                options["initial_carry"] = problem.carry[index][way]
            if problem.mask is not None:
                options["recurrent_mask"] = problem.mask[index][way]
            out.append(layer(params, hs, lengths=lengths, reverse=reverse, **options))
        outputs, carries = zip(*out, strict=True)
        concatenate = np.concatenate if isinstance(outputs[0], np.ndarray) else jnp.concatenate
        hs = outputs[0] if len(outputs) == 1 else concatenate(outputs, axis=-1)
        last.append(carries)
    return hs, tuple(last)


def equations(
    params: Any,
    x: Any,
    *,
    initial_carry: Any = None,
    lengths: Any = None,
    reverse: bool = False,
    recurrent_mask: Any = None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Row by row and step by step in float64, as one reads them."""

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    kernel, recurrent_kernel, bias, peephole = (
        None if weights is None else np.asarray(weights, np.float64) for weights in params
    )
    x = np.asarray(x, np.float64)
    units = len(recurrent_kernel)
    p_i, p_f, p_o = np.zeros((3, units)) if peephole is None else peephole
    bias = np.zeros(4 * units) if bias is None else bias
    masks = np.ones((len(x), units)) if recurrent_mask is None else recurrent_mask
    if initial_carry is None:
        initial_carry = (np.zeros((len(x), units)),) * 2
    c_last, h_last = (np.array(state, np.float64) for state in initial_carry)
    hs = np.zeros((*x.shape[:2], units))
    for row in range(len(x)):
        c, h, mask = c_last[row], h_last[row], np.asarray(masks[row], np.float64)
        steps = range(x.shape[1] if lengths is None else int(lengths[row]))
        for t in reversed(steps) if reverse else steps:
            z = x[row, t] @ kernel + (mask * h) @ recurrent_kernel + bias
            z_i, z_f, z_g, z_o = np.split(z, 4)
            i, f = sigmoid(z_i + p_i * c), sigmoid(z_f + p_f * c)
            c = f * c + i * np.tanh(z_g)
            h = sigmoid(z_o + p_o * c) * np.tanh(c)
            hs[row, t] = h
        c_last[row], h_last[row] = c, h
    return hs, (c_last, h_last)


def plain_scan(
    params: Any,
    x: Any,
    *,
    initial_carry: Any = None,
    lengths: Any = None,
    reverse: bool = False,
    recurrent_mask: Any = None,
) -> Any:
    """A scan whose gradient is JAX's own."""
    kernel, recurrent_kernel, bias, peephole = params
    batch, steps, _ = x.shape
    units = recurrent_kernel.shape[0]
    if initial_carry is None:
        initial_carry = (jnp.zeros((batch, units), x.dtype),) * 2
    p_i, p_f, p_o = jnp.zeros((3, units), x.dtype) if peephole is None else peephole

    def step(carry: Any, inputs: Any) -> Any:
        (c, h), (x_t, t) = carry, inputs
        z = x_t @ kernel + (h if recurrent_mask is None else recurrent_mask * h) @ recurrent_kernel
        z_i, z_f, z_g, z_o = jnp.split(z if bias is None else z + bias, 4, axis=1)
        i, f = jax.nn.sigmoid(z_i + p_i * c), jax.nn.sigmoid(z_f + p_f * c)
        c_next = f * c + i * jnp.tanh(z_g)
        h_next = jax.nn.sigmoid(z_o + p_o * c_next) * jnp.tanh(c_next)
        valid = (t < (steps if lengths is None else lengths[:, None])) & jnp.ones((batch, 1), bool)
        carry = jnp.where(valid, c_next, c), jnp.where(valid, h_next, h)
        return carry, jnp.where(valid, h_next, 0)

    carry, hs = lax.scan(
        step, initial_carry, (x.swapaxes(0, 1), jnp.arange(steps)), reverse=reverse
    )
    return hs.swapaxes(0, 1), carry


def bias_of(params: Any) -> Any:
    """The bias, or the zeros that stand for none where a reference needs one."""
    width = params.recurrent_kernel.shape[1]
    return np.zeros(width, params.kernel.dtype) if params.bias is None else params.bias


def flax_layer(
    params: Any, x: Any, *, initial_carry: Any = None, lengths: Any = None, reverse: bool = False
) -> Any:
    """Flax takes the carry of a row of length 0 from the last step, which is wrong."""
    params = params._replace(bias=bias_of(params))  # fewer programs
    if initial_carry is None:
        initial_carry = (np.zeros((len(x), len(params.recurrent_kernel)), x.dtype),) * 2
    return compiled_flax(params, x, initial_carry, lengths, reverse)


@functools.partial(jax.jit, static_argnames="reverse", compiler_options=QUICK)
def compiled_flax(params: Any, x: Any, initial_carry: Any, lengths: Any, reverse: bool) -> Any:
    kernels, recurrent_kernels, biases = (
        jnp.split(weights, 4, axis=-1) for weights in params if weights is not None
    )
    gates = {f"i{gate}": {"kernel": k} for gate, k in zip("ifgo", kernels, strict=True)}
    for gate, k, b in zip("ifgo", recurrent_kernels, biases, strict=True):
        gates[f"h{gate}"] = {"kernel": k, "bias": b}
    cell = nn.OptimizedLSTMCell(len(params.recurrent_kernel), param_dtype=x.dtype)
    layer = nn.RNN(cell, reverse=reverse, keep_order=True, return_carry=True)
    carry, hs = layer.apply(
        {"params": {"cell": gates}}, x, initial_carry=initial_carry, seq_lengths=lengths
    )
    if lengths is not None:  # Flax leaves something in the padded steps
        hs = jnp.where((jnp.arange(x.shape[1]) < lengths[:, None])[..., None], hs, 0)
    return hs, carry


@functools.cache
def compiled_keras(features: int, units: int, use_bias: bool, reverse: bool, dtype: str) -> Any:
    keras = pytest.importorskip("keras", reason="Keras is an optional reference")
    layer = keras.layers.LSTM(
        units,
        activation=jnp.tanh,  # Keras's own rounds float64 to float32
        use_bias=use_bias,
        go_backwards=reverse,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=True,
        dtype=dtype,
    )
    layer.build((None, None, features))
    others = [variable.value for variable in layer.non_trainable_variables]  # dropout's seed

    def run(weights: Any, x: Any, initial_state: Any, mask: Any) -> Any:
        (hs, h, c), _ = layer.stateless_call(
            weights, others, x, initial_state=initial_state, mask=mask
        )
        return (hs[:, ::-1] if reverse else hs), (c, h)  # Keras gives outputs as it walked

    return jax.jit(run, compiler_options=QUICK)


def keras_layer(
    params: Any, x: Any, *, initial_carry: Any = None, lengths: Any = None, reverse: bool = False
) -> Any:
    units, dtype = params.recurrent_kernel.shape[0], str(params.kernel.dtype)
    run = compiled_keras(x.shape[2], units, params.bias is not None, reverse, dtype)
    mask = None if lengths is None else np.arange(x.shape[1]) < lengths[:, None]
    state = None if initial_carry is None else list(initial_carry[::-1])
    return run([weights for weights in params if weights is not None], x, state, mask)


def second_half(run: Any, problem: Problem, lengths: Any) -> Any:
    """The reverse direction of a library that has it in bidirectional layers only."""
    hs, last = problem.x, []
    for index, (params,) in enumerate(problem.params):
        carry = None if problem.carry is None else (problem.carry[index] * 2,)
        hs, ((_, carry),) = run(Problem(((params, params),), hs, carry), lengths, "both")
        hs = hs[..., params.recurrent_kernel.shape[0] :]
        last.append((carry,))
    return hs, tuple(last)


def unstacked(c: Any, h: Any, problem: Problem) -> Any:
    pairs = list(zip(c, h, strict=True))
    ways = len(problem.params[0])
    return tuple(tuple(pairs[start : start + ways]) for start in range(0, len(pairs), ways))


def run_jax(problem: Problem, lengths: Any, direction: str) -> Any:
    """A row of length 0 gets the carry of its last step, which is wrong."""
    if direction == "reverse":
        return second_half(run_jax, problem, lengths)
    x = problem.x
    ways = [params for directions in problem.params for params in directions]
    kernels, recurrent_kernels, biases = (
        {index: weights.T for index, weights in enumerate(column)}
        for column in zip(*((p.kernel, p.recurrent_kernel, bias_of(p)) for p in ways), strict=True)
    )
    if problem.carry is None:
        c = h = np.zeros((len(ways), len(x), len(ways[0].recurrent_kernel)), x.dtype)
    else:
        c, h = map(np.stack, zip(*itertools.chain(*problem.carry), strict=True))
    lengths = np.full(len(x), x.shape[1], np.int32) if lengths is None else lengths
    nothing = jax.tree.map(np.zeros_like, biases)
    sizes = x.shape[2], h.shape[-1], len(problem.params), 0.0, direction == "both"
    hs, h, c = compiled_jax(x, h, c, kernels, recurrent_kernels, biases, nothing, lengths, *sizes)
    return hs, unstacked(c, h, problem)


compiled_jax = jax.jit(rnn.lstm_ref, static_argnums=range(8, 13), compiler_options=QUICK)


def run_torch(problem: Problem, lengths: Any, direction: str) -> Any:
    """Also for a problem of tensors, so that PyTorch can differentiate it."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional reference")
    problem = jax.tree.map(torch.as_tensor, problem)
    if direction == "reverse":
        return second_half(run_torch, problem, lengths)
    x = problem.x
    has_bias = problem.params[0][0].bias is not None
    features, units = x.shape[2], problem.params[0][0].recurrent_kernel.shape[0]
    settings = {"bias": has_bias, "batch_first": True, "bidirectional": direction == "both"}
    module = torch.nn.LSTM(features, units, len(problem.params), dtype=x.dtype, **settings)
    weights = {}
    for index, directions in enumerate(problem.params):
        for params, way in zip(directions, ("", "_reverse"), strict=False):
            weights[f"weight_ih_l{index}{way}"] = params.kernel.T
            weights[f"weight_hh_l{index}{way}"] = params.recurrent_kernel.T
            if has_bias:  # PyTorch adds two
                weights[f"bias_ih_l{index}{way}"] = 3 * params.bias
                weights[f"bias_hh_l{index}{way}"] = -2 * params.bias
    if lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.as_tensor(lengths), batch_first=True, enforce_sorted=False
        )
    given: Any = ()
    if problem.carry is not None:
        c, h = map(torch.stack, zip(*itertools.chain(*problem.carry), strict=True))
        given = ((h, c),)
    hs, (h, c) = torch.func.functional_call(module, weights, (x, *given))
    if lengths is not None:
        hs, _ = torch.nn.utils.rnn.pad_packed_sequence(
            hs, batch_first=True, total_length=problem.x.shape[1]
        )
    return hs, unstacked(c, h, problem)


def run_onnx(problem: Problem, lengths: Any, direction: str, layout: int = 0) -> Any:
    """One node a layer, with T first (layout 0) or B first (layout 1).

    The reference evaluator (1.23) ignores ``sequence_lens``, so it serves full lengths only.
    """
    onnx = pytest.importorskip("onnx", reason="ONNX is an optional reference")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    axis = 1 if layout else 0  # of the directions in the states

    def by_gate(weights: Any) -> np.ndarray:  # i, o, f, c
        i, f, g, o = np.split(weights, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1).T

    hs, last = problem.x, []
    for index, ways in enumerate(problem.params):
        feeds = {
            "X": hs if layout else hs.swapaxes(0, 1),
            "W": np.stack([by_gate(params.kernel) for params in ways]),
            "R": np.stack([by_gate(params.recurrent_kernel) for params in ways]),
        }
        if ways[0].bias is not None:  # ONNX adds two
            biases = [by_gate(params.bias) for params in ways]
            feeds["B"] = np.stack([np.concatenate([3 * bias, -2 * bias]) for bias in biases])
        if ways[0].peephole is not None:  # i, o, f
            feeds["P"] = np.stack([params.peephole[[0, 2, 1]].reshape(-1) for params in ways])
        if lengths is not None:
            feeds["sequence_lens"] = lengths
        if problem.carry is not None:
            for name, states in zip("ch", zip(*problem.carry[index], strict=True), strict=True):
                feeds[f"initial_{name}"] = np.stack(states, axis)
        names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
        node = onnx.helper.make_node(
            "LSTM",
            [name if name in feeds else "" for name in names],
            ["Y", "Y_h", "Y_c"],
            direction="bidirectional" if direction == "both" else direction,
            hidden_size=len(ways[0].recurrent_kernel),
            layout=layout,
        )
        y, h, c = evaluator(node, opsets={"": 22}).run(None, feeds)
        y = y if layout else np.moveaxis(y, 2, 0)  # [B, T, directions, H]
        hs = y.reshape(*y.shape[:2], -1)
        c, h = np.moveaxis(c, axis, 0), np.moveaxis(h, axis, 0)
        last.append(tuple(zip(c, h, strict=True)))
    return hs, tuple(last)
