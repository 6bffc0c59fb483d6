"""The LSTM implementations that `benchmarks.layer` compares, all behind one interface.

Every one gets the same weights, input ``[B, T, F]`` and output weights ``[B, T, H]`` (`draw`). Mode
"forward" computes the top layer's outputs ``[B, T, H]``; "forward+backward" the gradient of
``sum(outputs * output weights)`` with respect to all weights and the input. A call ends when its
results are ready. A peer's library is imported when its function is called, not before.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.layer_case import MODES, Case, Data, draw


class Run(NamedTuple):
    """One mode of one setting of an implementation, ready to be called."""

    call: Callable[[], Any]  # returns when the results are ready
    read: Callable[[Any, int], dict[str, np.ndarray]]  # results and a lane -> that lane's arrays
    compiled: Any = None  # JAX's compiled program, where it was compiled ahead


# By setting, a function that builds its runs: one that fails must not take the others along.
Settings = Mapping[str, Callable[[], dict[str, Run]]]


class Peer(NamedTuple):
    """An implementation, imported."""

    versions: dict[str, str]
    device: str  # "cpu", or the accelerator's name
    build: Callable[[Case, bool], Settings]  # case, whether to compile ahead
    device_peak: Callable[[], int] | None = None  # bytes an accelerator held at most


class Options(NamedTuple):
    """What the command line settles for all cases."""

    backend: str = "auto"  # ours
    cores: int = 0  # 0: the library's default
    tf32: bool = False


def _gradients(dx: Any, layers: Sequence[Any]) -> dict[str, np.ndarray]:
    names = ("d_kernel", "d_recurrent_kernel", "d_bias")
    named = {
        f"{name}_{index}": np.asarray(array)
        for index, layer in enumerate(layers)
        for name, array in zip(names, layer, strict=True)
    }
    return {"dx": np.asarray(dx), **named}


def _versions(*names: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names}


# --- JAX ------------------------------------------------------------------------------------------


def _jax_device(tf32: bool) -> str:
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return "cpu"
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    return device.device_kind


def _jax_device_peak() -> int:
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _jax_settings(
    applies: Mapping[str, Callable[[Any, Any], Any]],
    params_of: Callable[[Any], Any],
    layers_of: Callable[[Any], Sequence[Any]],
    case: Case,
    ahead: bool,
    can_vmap: bool = True,
) -> Settings:
    """The settings of an implementation on JAX.

    Args:
      applies: by setting, ``(params, x) -> outputs [B, T, H]``; with lanes the first one is used.
      params_of: layers as in `Data` to the implementation's params.
      layers_of: gradient of its params back to layers.
      case: what to build.
      ahead: whether to compile before the first call.
      can_vmap: whether lanes can be vmapped.
    """
    import jax
    import jax.numpy as jnp

    arguments = []
    for lane in range(max(case.lanes, 1)):
        data = draw(case, lane)
        arguments.append(
            jax.device_put((params_of(data.layers), data.x, data.output_weights))  # [params, x, w]
        )

    def read(result: Any, mode: str) -> dict[str, np.ndarray]:
        if mode == "forward":
            return {"output": np.asarray(result)}
        d_params, dx = result[1]
        return _gradients(dx, layers_of(d_params))

    def build(apply: Callable[[Any, Any], Any], how: str) -> dict[str, Run]:
        def forward(params: Any, x: Any, output_weights: Any) -> Any:
            del output_weights
            return apply(params, x)

        def gradient(params: Any, x: Any, output_weights: Any) -> Any:
            def loss(params: Any, x: Any) -> Any:
                return (apply(params, x) * output_weights).sum()

            return jax.value_and_grad(loss, argnums=(0, 1))(params, x)

        runs = {}
        for mode, function in zip(MODES, (forward, gradient), strict=True):
            first = arguments[0]
            if how == "vmap":
                function = jax.vmap(function)
                first = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arguments)
            program: Any = jax.jit(function)
            if ahead:
                program = program.lower(*first).compile()

            def call(program: Any = program, first: Any = first) -> Any:
                if how == "loop":
                    return jax.block_until_ready([program(*each) for each in arguments])
                return jax.block_until_ready(program(*first))

            def read_lane(result: Any, lane: int, mode: str = mode) -> dict[str, np.ndarray]:
                if how == "loop":
                    result = result[lane]
                elif how == "vmap":
                    result = jax.tree.map(lambda leaf: leaf[lane], result)
                return read(result, mode)

            runs[mode] = Run(call, read_lane, program if ahead else None)
        return runs

    if not case.lanes:
        return {name: partial(build, apply, "single") for name, apply in applies.items()}
    apply = next(iter(applies.values()))
    return {how: partial(build, apply, how) for how in (["vmap"] if can_vmap else []) + ["loop"]}


def jaxlstm(options: Options) -> Peer:
    """Ours: `jaxlstm.nn.StackedLSTM`.

    "xla:keep" and "xla:recompute" are the backend "xla" with the gate activations always kept for
    the backward pass, or always computed again: the measurement behind `scan.KEPT_BYTES_PER_UNIT`.
    """
    from jaxlstm.nn import StackedLSTM, scan

    backend, _, gates = options.backend.partition(":")
    if gates:
        scan.KEPT_BYTES_PER_UNIT = {"keep": 1 << 40, "recompute": 0}[gates]

    def build(case: Case, ahead: bool) -> Settings:
        model = StackedLSTM((case.units,) * case.layers, backend=backend)
        names = ("kernel", "recurrent_kernel", "bias")
        return _jax_settings(
            {f"backend={options.backend}": lambda params, x: model.apply({"params": params}, x)[0]},
            lambda layers: {
                f"lstm_{index}": dict(zip(names, layer, strict=True))
                for index, layer in enumerate(layers)
            },
            lambda grads: [
                [grads[f"lstm_{index}"][name] for name in names] for index in range(case.layers)
            ],
            case,
            ahead,
        )

    device = _jax_device(options.tf32)
    return Peer(_versions("jaxlstm", "jax", "flax"), device, build, _jax_device_peak)


def flax(options: Options) -> Peer:
    """`flax.linen.OptimizedLSTMCell` in `flax.linen.RNN`, its scan unrolled or not."""
    import flax.linen as nn

    def params_of(layers: Any) -> Any:
        params = {}
        for index, (kernel, recurrent_kernel, bias) in enumerate(layers):
            cell: dict[str, Any] = {}
            for position, gate in enumerate("ifgo"):
                kernel_of, recurrent_of, bias_of = (
                    np.split(weights, 4, axis=-1)[position]
                    for weights in (kernel, recurrent_kernel, bias)
                )
                cell[f"i{gate}"] = {"kernel": kernel_of}
                cell[f"h{gate}"] = {"kernel": recurrent_of, "bias": bias_of}
            params[f"layers_{index}"] = {"cell": cell}
        return params

    def layers_of(grads: Any) -> list[Any]:
        layers = []
        for index in range(len(grads)):
            cell = grads[f"layers_{index}"]["cell"]
            layers.append(
                [
                    np.concatenate([cell[f"{part}{gate}"][name] for gate in "ifgo"], axis=-1)
                    for part, name in (("i", "kernel"), ("h", "kernel"), ("h", "bias"))
                ]
            )
        return layers

    def build(case: Case, ahead: bool) -> Settings:
        def applied(unroll: int) -> Callable[[Any, Any], Any]:
            cells = [nn.OptimizedLSTMCell(case.units) for _ in range(case.layers)]
            model = nn.Sequential([nn.RNN(cell, unroll=unroll) for cell in cells])
            return lambda params, x: model.apply({"params": params}, x)

        applies = {f"unroll={unroll}": applied(unroll) for unroll in (1, 4)}
        return _jax_settings(applies, params_of, layers_of, case, ahead)

    return Peer(_versions("flax", "jax"), _jax_device(options.tf32), build, _jax_device_peak)


def cudnn(options: Options) -> Peer:
    """`jax.experimental.rnn`: cuDNN's LSTM called from JAX."""
    import jax
    from jax.experimental import rnn

    if jax.devices()[0].platform != "gpu":
        raise RuntimeError("jax.experimental.rnn needs an NVIDIA GPU")

    def params_of(layers: Any) -> np.ndarray:
        # First all matrices, then all biases, of which cuDNN wants two a layer.
        matrices = [w.T.ravel() for kernel, recurrent, _ in layers for w in (kernel, recurrent)]
        biases = [w for _, _, bias in layers for w in (bias, np.zeros_like(bias))]
        return np.concatenate([*matrices, *biases])

    def build(case: Case, ahead: bool) -> Settings:
        sizes = (case.features, case.units, case.layers)

        def apply(weights: Any, x: Any) -> Any:
            zeros = jax.numpy.zeros((case.layers, case.batch, case.units), x.dtype)
            lengths = jax.numpy.full((case.batch,), case.steps, jax.numpy.int32)
            return rnn.lstm(x, zeros, zeros, weights, lengths, *sizes, 0.0, False)[0]

        def layers_of(grads: Any) -> list[Any]:
            kernels, recurrent, biases, _ = rnn.unpack_lstm_weights(grads, *sizes, False)
            return [[kernels[i].T, recurrent[i].T, biases[i]] for i in range(case.layers)]

        return _jax_settings({"cuDNN": apply}, params_of, layers_of, case, ahead, can_vmap=False)

    return Peer(_versions("jax"), _jax_device(options.tf32), build, _jax_device_peak)


# --- Keras and PyTorch ----------------------------------------------------------------------------


def _keras_model(case: Case, data: Data) -> Any:
    import keras

    model = keras.Sequential(
        [
            keras.layers.Input(batch_shape=(case.batch, case.steps, case.features)),
            *(keras.layers.LSTM(case.units, return_sequences=True) for _ in range(case.layers)),
        ]
    )
    model.set_weights([weights for layer in data.layers for weights in layer])
    return model


def _in_threes(arrays: Sequence[Any]) -> list[Any]:
    return [arrays[start : start + 3] for start in range(0, len(arrays), 3)]


def keras_jax(options: Options) -> Peer:
    """Keras's LSTM layers on JAX, through a jitted ``stateless_call``."""
    os.environ["KERAS_BACKEND"] = "jax"
    device = _jax_device(options.tf32)
    import keras  # noqa: F401

    def build(case: Case, ahead: bool) -> Settings:
        model = _keras_model(case, draw(case))
        state = [variable.value for variable in model.non_trainable_variables]

        def apply(params: Any, x: Any) -> Any:
            return model.stateless_call(params, state, x)[0]

        def params_of(layers: Any) -> list[Any]:
            return [weights for layer in layers for weights in layer]

        return _jax_settings({"jit": apply}, params_of, _in_threes, case, ahead)

    return Peer(_versions("keras", "jax"), device, build, _jax_device_peak)


def keras_tf(options: Options) -> Peer:
    """Keras's LSTM layers on TensorFlow, in a ``tf.function``, with and without XLA."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    if options.cores:
        tf.config.threading.set_intra_op_parallelism_threads(options.cores)
        tf.config.threading.set_inter_op_parallelism_threads(options.cores)
    import keras

    gpus = tf.config.list_physical_devices("GPU")
    device = "cpu"
    if gpus:
        tf.config.experimental.enable_tensor_float_32_execution(options.tf32)
        device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")

    def build(case: Case, ahead: bool) -> Settings:
        del ahead  # get_concrete_function traces before the first call anyway
        if case.lanes:
            raise NotImplementedError("lanes are not measured with Keras on TensorFlow")
        data = draw(case)
        model = _keras_model(case, data)
        x, output_weights = tf.constant(data.x), tf.constant(data.output_weights)

        def forward(x: Any, output_weights: Any) -> Any:
            del output_weights
            return model(x)

        def gradient(x: Any, output_weights: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(model(x) * output_weights)
            return loss, tape.gradient(loss, [*model.trainable_variables, x])

        def read(result: Any, lane: int) -> dict[str, np.ndarray]:
            del lane
            if not isinstance(result, tuple | list):
                return {"output": result.numpy()}
            *weights, dx = (tf.convert_to_tensor(part).numpy() for part in result[1])
            return _gradients(dx, _in_threes(weights))

        def runs(xla: bool) -> dict[str, Run]:
            built = {}
            for mode, function in zip(MODES, (forward, gradient), strict=True):
                program = tf.function(function, jit_compile=xla)
                program.get_concrete_function(x, output_weights)

                def call(program: Any = program) -> Any:
                    result = program(x, output_weights)
                    if gpus:
                        tf.test.experimental.sync_devices()
                    return result

                built[mode] = Run(call, read)
            return built

        return {"graph": partial(runs, False), "graph + XLA": partial(runs, True)}

    def device_peak() -> int:
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else 0

    return Peer(
        {"keras": keras.__version__, "tensorflow": tf.__version__}, device, build, device_peak
    )


def torch(options: Options) -> Peer:
    """PyTorch's `nn.LSTM`, eager, as `torch.compile` leaves it: oneDNN or ATen on CPU, cuDNN on GPU."""
    import torch

    if options.cores:
        torch.set_num_threads(options.cores)
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cuda.matmul.allow_tf32 = options.tf32
    device = torch.device("cuda" if has_gpu else "cpu")

    def one(case: Case, data: Data) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
        module = torch.nn.LSTM(case.features, case.units, case.layers, batch_first=True)
        state = {}
        for index, (kernel, recurrent_kernel, bias) in enumerate(data.layers):
            state[f"weight_ih_l{index}"] = torch.tensor(kernel.T.copy())
            state[f"weight_hh_l{index}"] = torch.tensor(recurrent_kernel.T.copy())
            state[f"bias_ih_l{index}"] = torch.tensor(bias)
            state[f"bias_hh_l{index}"] = torch.zeros(bias.shape)
        module.load_state_dict(state)
        module.to(device).flatten_parameters()
        x = torch.tensor(data.x, device=device)
        x_watched = torch.tensor(data.x, device=device, requires_grad=True)
        output_weights = torch.tensor(data.output_weights, device=device)
        names, params = zip(*module.named_parameters(), strict=True)

        def forward() -> Any:
            with torch.inference_mode():
                return module(x)[0]

        def gradient() -> Any:
            loss = (module(x_watched)[0] * output_weights).sum()
            return torch.autograd.grad(loss, [*params, x_watched])

        return forward, gradient, names

    def build(case: Case, ahead: bool) -> Settings:
        del ahead
        functions = [one(case, draw(case, lane)) for lane in range(max(case.lanes, 1))]
        names = functions[0][2]

        def read(result: Any, lane: int) -> dict[str, np.ndarray]:
            if isinstance(result[lane], torch.Tensor):
                return {"output": result[lane].cpu().numpy()}
            *weights, dx = (part.cpu().numpy() for part in result[lane])
            by_name = dict(zip(names, weights, strict=True))
            layers = [
                [by_name[f"{part}_l{i}"].T for part in ("weight_ih", "weight_hh", "bias_ih")]
                for i in range(case.layers)
            ]
            return _gradients(dx, layers)

        def runs() -> dict[str, Run]:
            built = {}
            for position, mode in enumerate(MODES):

                def call(position: int = position) -> Any:
                    results = [each[position]() for each in functions]
                    if has_gpu:
                        torch.cuda.synchronize()
                    return results

                built[mode] = Run(call, read)
            return built

        return {"loop" if case.lanes else "cuDNN" if has_gpu else "eager": runs}

    name = torch.cuda.get_device_name() if has_gpu else "cpu"
    peak = torch.cuda.max_memory_allocated if has_gpu else None
    return Peer({"torch": torch.__version__}, name, build, peak)


PEERS: dict[str, Callable[[Options], Peer]] = {
    "jaxlstm": jaxlstm,
    "flax": flax,
    "keras-jax": keras_jax,
    "keras-tf": keras_tf,
    "torch": torch,
    "cudnn": cudnn,
}
