"""A resident LSTM for CUDA GPUs: the recurrent matrix stays on a multiprocessor for all T steps.

An XLA scan launches kernels in every step and reads the recurrent matrix again. Here one block of
threads takes 16 rows of the batch through all T steps: it reads the recurrent matrix once, into
shared memory and registers, and in a step only what belongs to the step. Under `jax.vmap` every
lane, with weights of its own, is further blocks of the same launch: the grid is lanes x batch tiles,
so that a GPU runs as many tiles at a time as it has multiprocessors.

What is not sequential stays outside as single matrix products: ``x K`` before the forward kernel,
the weights' gradients after the backward kernel, which writes the gates' gradient dz.

Shapes: ``B`` batch, ``T`` time, ``F`` features, ``H`` units; gate order i, f, g, o. Rows are padded
to a multiple of 16 and units to ``U``, a power of two of at least 16, with zeros. That is exact: a
unit whose kernel column, recurrent row and column and bias are 0 keeps c = h = 0.

Written in Pallas for its Triton lowering, which has float32 products at full precision; JAX 0.12
still has it but calls it deprecated.

**No speed has been measured on a GPU yet**, nor has the kernel run on one. Its results are tested in
Pallas' interpreter, on a CPU. Compiled for an H100 ahead of time (JAX 0.9.2), no size it supports
spills registers, and what a step reads from global memory is the step's own blocks alone.

Reference:
    Diamos et al., "Persistent RNNs: Stashing Recurrent Weights On-Chip", ICML 2016.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Carry = tuple[Array, Array]

PRECISIONS = ("float32", "tf32x3", "tf32")
TILE = 16  # rows of a block of threads: the fewest a product takes in Triton


class _Options(NamedTuple):
    """What shapes the program."""

    reverse: bool
    precision: str
    interpret: bool

    def products(self) -> lax.Precision:
        """Of the products outside; on a GPU DEFAULT is TF32 for float32 operands."""
        return lax.Precision.DEFAULT if self.precision == "tf32" else lax.Precision.HIGHEST

    def kernel(self, dtype: Any) -> dict[str, Any]:
        """Arguments of `blocks.call`; tanh is approximate where products are no finer than it."""
        precision: Any = self.products()
        if self.precision == "tf32x3" and dtype == jnp.float32 and not self.interpret:
            precision = lax.DotAlgorithmPreset.TF32_TF32_F32_X3
        return {
            "reverse": self.reverse,
            "precision": precision,
            "approximate": dtype == jnp.bfloat16 or self.precision == "tf32",
            "interpret": self.interpret,
        }


class _Weights(NamedTuple):
    """Weights with gates on an axis of their own and units padded."""

    kernel: Array  # shape=(F, 4, U)
    recurrent_kernel: Array  # shape=(U, 4, U)
    bias: Array  # shape=(4, U)


def _padded(units: int) -> int:
    return max(16, 1 << (units - 1).bit_length())


def _wide(dtype: Any) -> Any:
    """The type of the carry and of sums: float32 for bfloat16."""
    return jnp.promote_types(dtype, jnp.float32)


def _gpu() -> Any:
    """The first CUDA GPU of JAX's default backend, or None."""
    for device in jax.devices():
        # ROCm's GPUs are of the platform "gpu", too, but their capability is a name: gfx942.
        capability = str(getattr(device, "compute_capability", ""))
        if device.platform == "gpu" and capability[:1].isdigit():
            return device
    return None


def unavailable() -> str | None:
    """Says in a sentence why the kernel cannot run here; None where it can."""
    gpu = _gpu()
    if gpu is None:
        return f"The kernel runs on CUDA GPUs, and JAX runs on {jax.default_backend()} here."
    if float(gpu.compute_capability) < 8:
        return (
            "The kernel runs on CUDA GPUs of compute capability 8.0 (A100) or higher, and"
            f" {gpu.device_kind} has {gpu.compute_capability}."
        )
    try:
        from jax.experimental.pallas import triton  # noqa: F401
    except ImportError:
        return f"The kernel needs Pallas' Triton lowering, which JAX {jax.__version__} lacks."
    return None


def _shared_memory() -> int:
    """Bytes of shared memory a block may have: on the GPU here, or else on an H100."""
    gpu = _gpu()
    capability = "9.0" if gpu is None else str(gpu.compute_capability)
    if capability in ("8.0", "8.7"):
        return 163 * 1024
    return 227 * 1024 if capability.split(".")[0] in ("9", "10") else 99 * 1024


def supports(units: int, dtype: Any, precision: str = "float32") -> str | None:
    """Says in a sentence why the kernel cannot hold a recurrent matrix; None where it can.

    The matrix, padded, has to fit a block's shared memory: on an H100 up to 64 units in float32, at
    any precision, and 128 in bfloat16.

    Args:
      units: H.
      dtype: the type sequences and weights are stored in.
      precision: of float32 products, as for `lstm_resident`.

    Raises:
      ValueError: an unknown precision.

    Example:
      >>> supports(50, "bfloat16"), supports(1, "int8")
      (None, 'The kernel computes in float32 or bfloat16, not in int8.')
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    dtype = jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.bfloat16):
        return f"The kernel computes in float32 or bfloat16, not in {dtype}."

    copies = 2 if precision == "tf32x3" and dtype == jnp.float32 else 1  # high and low bits

    def needed(padded: int) -> int:  # the matrix, and two tiles that change hands among warps
        return (4 * copies * padded + 2 * TILE) * padded * dtype.itemsize

    limit = _shared_memory()
    if needed(_padded(units)) <= limit:
        return None
    most = max(padded for padded in (16, 32, 64, 128, 256) if needed(padded) <= limit)
    return (
        f"The kernel holds at most {most} units in {dtype}, not {units}, as their recurrent matrix"
        f" takes {needed(_padded(units)) // 1024} KiB of the {limit // 1024} KiB a block may have."
    )


def _forward(
    options: _Options,
    weights: _Weights,
    x: Array,
    carry: Carry,
    lengths: Array,
    mask: Array | None,
    *,
    keep: bool,
) -> tuple[tuple[Array, Carry], Any]:
    """Outputs, and the gates and c of each step if ``keep``."""
    from jaxlstm.nn.kernels import blocks  # here, as Pallas takes half a second to import

    rows, steps, _ = x.shape
    units, dtype, wide = weights.bias.shape[-1], x.dtype, _wide(x.dtype)
    scale = jnp.array([0.5, 0.5, 1, 0.5], dtype)[:, None]  # exact, as powers of two
    half_z = jnp.einsum(
        "btf,fgu->btgu",
        x,
        weights.kernel * scale[None],
        precision=options.products(),
        preferred_element_type=dtype,
    )
    shapes = [((rows, steps, units), dtype), ((rows, units), wide), ((rows, units), wide)]
    if keep:
        shapes += [((rows, steps, 4, units), dtype), ((rows, steps, units), dtype)]
    hs, c, h, *kept = blocks.call(
        blocks.forward,
        [
            half_z,
            (weights.recurrent_kernel * scale[None]).transpose(1, 0, 2),
            # Added in the kernel: XLA would take another pass over half_z for it.
            (weights.bias * scale).astype(wide),
            carry[0].astype(wide),
            carry[1].astype(wide),
            lengths[:, None],
            jnp.ones((rows, units), wide) if mask is None else mask.astype(wide),
        ],
        [jax.ShapeDtypeStruct(shape, kind) for shape, kind in shapes],
        **options.kernel(dtype),
    )
    return (hs, (c.astype(carry[0].dtype), h.astype(carry[1].dtype))), kept


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _resident(
    options: _Options,
    weights: _Weights,
    x: Array,
    carry: Carry,
    lengths: Array,
    mask: Array | None,
) -> tuple[Array, Carry]:
    return _forward(options, weights, x, carry, lengths, mask, keep=False)[0]


def _resident_forward(
    options: _Options,
    weights: _Weights,
    x: Array,
    carry: Carry,
    lengths: Array,
    mask: Array | None,
) -> Any:
    out, kept = _forward(options, weights, x, carry, lengths, mask, keep=True)
    return out, (weights, x, carry, lengths, mask, out[0], kept)


def _resident_backward(options: _Options, residuals: Any, cotangents: Any) -> Any:
    from jaxlstm.nn.kernels import blocks

    weights, x, carry, lengths, mask, hs, (gates, cs) = residuals
    d_hs, (d_c_last, d_h_last) = cotangents
    rows, steps, units = hs.shape
    dtype, wide = x.dtype, _wide(x.dtype)
    state = jax.ShapeDtypeStruct((rows, units), wide)
    dz, dc, dh = blocks.call(
        blocks.backward,
        [
            gates,
            cs,
            d_hs,
            weights.recurrent_kernel.transpose(1, 2, 0),
            carry[0].astype(wide),
            lengths[:, None],
            jnp.ones((rows, units), wide) if mask is None else mask.astype(wide),
            d_c_last.astype(wide),
            d_h_last.astype(wide),
        ],
        [jax.ShapeDtypeStruct((rows, steps, 4, units), dtype), state, state],
        **options.kernel(dtype),
    )

    def product(subscripts: str, a: Array, b: Array, kind: Any) -> Array:
        return jnp.einsum(
            subscripts, a, b, precision=options.products(), preferred_element_type=kind
        )

    # h before each step. Where a step is not valid any number does, as dz is 0 there.
    first = lengths[:, None] - 1 if options.reverse else 0
    h_before = jnp.where(
        (jnp.arange(steps)[None, :] == first)[..., None],
        carry[1].astype(dtype)[:, None, :],
        jnp.roll(hs, -1 if options.reverse else 1, axis=1),
    )
    sent, d_mask = h_before, None
    if mask is not None:
        sent = h_before * mask.astype(dtype)[:, None, :]
        d_sent = product("btgu,vgu->btv", dz, weights.recurrent_kernel, wide)
        d_mask = (d_sent * h_before.astype(wide)).sum(1).astype(mask.dtype)
    d_weights = _Weights(
        product("btf,btgu->fgu", x, dz, wide).astype(dtype),
        product("btv,btgu->vgu", sent, dz, wide).astype(dtype),
        dz.sum((0, 1), dtype=wide).astype(dtype),
    )
    d_x = product("btgu,fgu->btf", dz, weights.kernel, dtype)
    d_carry = (dc.astype(carry[0].dtype), dh.astype(carry[1].dtype))
    return d_weights, d_x, d_carry, None, d_mask


_resident.defvjp(_resident_forward, _resident_backward)


def lstm_resident(
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array,
    x: Array,
    initial_carry: Carry,
    lengths: Array | None = None,
    recurrent_mask: Array | None = None,
    *,
    reverse: bool = False,
    precision: str = "float32",
    interpret: bool = False,
) -> tuple[Array, Carry]:
    """Runs an LSTM over a batch of sequences, all steps in one kernel.

    Means the same as `jaxlstm.nn.recurrence.lstm`. Differentiable once, in reverse mode, in every
    argument but ``lengths``; the gradient has no gradient.

    Args:
      kernel: ``[F, 4H]``.
      recurrent_kernel: ``[H, 4H]``.
      bias: ``[4H]``.
      x: sequences, ``[B, T, F]``.
      initial_carry: ``(c, h)``, each ``[B, H]``, in types of their own.
      lengths: valid steps of each row, integers ``[B]`` in ``0..T``; all T by default.
      recurrent_mask: ``[B, H]``, multiplies h where it enters z in every step: z = x K + (m h) R + b.
      reverse: whether to run backwards in time.
      precision: of products in float32: "float32"; "tf32x3", where the recurrent product is three
        TF32 ones, right to about 21 bits, on the tensor cores, which have no float32; or "tf32",
        right to 11 bits, as is tanh then. In bfloat16, whatever it says, sums and the carry are in
        float32 and tanh is right to 11 bits.
      interpret: whether to run in Pallas' interpreter: on any device, slowly, also in float64 and
        with any number of units; products are at full precision and tanh is exact.

    Returns:
      ``(hs, (c, h))``: outputs ``[B, T, H]`` in the type of sequences and weights, and the last carry
      in the types of the initial one.

    Raises:
      ValueError: an unknown precision, or what `supports` says.

    Example:
      >>> import jax
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> kernel = jax.random.normal(keys[0], (3, 16))
      >>> recurrent_kernel = jax.random.normal(keys[1], (4, 16))
      >>> x, zeros = jax.random.normal(keys[2], (2, 5, 3)), jnp.zeros((2, 4))
      >>> hs, (c, h) = lstm_resident(
      ...     kernel, recurrent_kernel, kernel[0], x, (zeros, zeros), interpret=True
      ... )
      >>> hs.shape, bool((hs[:, -1] == h).all())
      ((2, 5, 4), True)
    """
    batch, steps, _ = x.shape
    units = recurrent_kernel.shape[0]
    dtype = jnp.result_type(x, kernel, recurrent_kernel, bias)
    reason = supports(units, dtype, precision)
    if reason is not None and not interpret:
        raise ValueError(reason)
    if batch == 0 or steps == 0:
        return jnp.zeros((batch, steps, units), dtype), initial_carry
    kernel, recurrent_kernel, bias, x = (
        jnp.asarray(array, dtype) for array in (kernel, recurrent_kernel, bias, x)
    )
    if lengths is None:
        lengths = jnp.full(batch, steps, jnp.int32)
    else:
        lengths = jnp.clip(jnp.asarray(lengths, jnp.int32), 0, steps)
        valid = jnp.arange(steps)[None, :] < lengths[:, None]
        x = jnp.where(valid[..., None], x, 0)  # dz is 0 there, but 0 * nan is not
    more_rows, more_units = -batch % TILE, _padded(units) - units

    def gates(weights: Array) -> Array:
        weights = weights.reshape(*weights.shape[:-1], 4, units)
        return jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, more_units)])

    def rows(states: Array) -> Array:
        return jnp.pad(states, [(0, more_rows), (0, more_units)])

    hs, (c, h) = _resident(
        _Options(bool(reverse), precision, bool(interpret)),
        _Weights(
            gates(kernel),
            jnp.pad(gates(recurrent_kernel), [(0, more_units), (0, 0), (0, 0)]),
            gates(bias),
        ),
        jnp.pad(x, [(0, more_rows), (0, 0), (0, 0)]),
        (rows(initial_carry[0]), rows(initial_carry[1])),
        jnp.pad(lengths, (0, more_rows)),  # rows of length 0
        None if recurrent_mask is None else rows(recurrent_mask),
    )
    return hs[:batch, :, :units], (c[:batch, :units], h[:batch, :units])
