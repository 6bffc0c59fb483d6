"""`lstm`: the recurrence over whole sequences, checked, on the backend that suits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.nn import kernels, scan
from jaxlstm.nn.cell import Array, Carry, LSTMParams, check_params, lstm_step

__all__ = ["BACKENDS", "Carry", "LSTMParams", "checked_sequences", "lstm", "lstm_step"]

BACKENDS = ("auto", "xla", "pallas", "autodiff")


def lstm(
    params: LSTMParams,
    x: Array,
    *,
    initial_carry: Carry | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    reverse: bool = False,
    time_major: bool = False,
    recurrent_mask: Array | None = None,
    backend: str = "auto",
) -> tuple[Array, Carry]:
    """Runs an LSTM over a batch of sequences.

    Steps past a row's length change nothing: its carry is frozen and its outputs are 0. A row of
    length 0 returns the initial carry. ``reverse`` walks the valid part of each row from its last
    step to its first; output t still belongs to input t, so the last state is ``hs[:, 0]``.

    On a mesh whose axes are `jax.sharding.AxisType.Explicit` the gradient needs `jax.shard_map`; with
    axes of type Auto, JAX divides the work itself.

    Numbers of 16 bits are computed in float32 and rounded at the end (on "pallas", each step's).

    Args:
      params: weights; kernel ``[F, 4H]``, recurrent_kernel ``[H, 4H]``, bias ``[4H]`` or None,
        peephole ``[3, H]`` (rows i, f, o) or None; or a dict of these, as Flax has them.
      x: sequences, ``[B, T, F]``; B may be several axes, as in `flax.linen.RNN`, here and below.
      initial_carry: ``(c, h)``, each ``[B, H]``; zeros by default.
      lengths: valid steps of each row, integers ``[B]`` in ``0..T``; all T by default.
      mask: instead of lengths which steps are valid, ``[B, T]``, with gaps where there are some: a
        step that is not leaves the carry as it is and repeats the output before it (0 before the
        first one), as Keras's ``mask`` does.
      reverse: whether to run backwards in time.
      time_major: whether x, mask and hs have their axis T first.
      recurrent_mask: factors ``[B, H]`` of h on its way into the recurrent product, the same in
        every step: variational dropout (Gal and Ghahramani, arXiv:1512.05287).
      backend: one of

        - "xla": a scan with a gradient of its own, everywhere;
        - "pallas": one kernel for all steps, on CUDA GPUs, which takes the lanes of `jax.vmap` as
          further blocks; "xla" where H is more than fits it (64 in float32 on an H100, 128 in
          bfloat16), and in other types. Products in float32 are of
          `jax.default_matmul_precision`, which counts as "float32" where it is not set;
        - "autodiff": a scan that JAX differentiates, slower: the one for `jax.jvp` and for
          peepholes;
        - "auto": "autodiff" with peepholes, else "xla" (on GPUs, too, as long as no measurement of
          "pallas" stands in benchmarks/NOTES.md).

    Returns:
      ``(hs, (c, h))``: outputs ``[B, T, H]`` and the last carry, each ``[B, H]``.

    Raises:
      ValueError: shapes that do not fit together; lengths outside ``0..T``, where they are known
        (inside `jax.jit` they are not, and count as 0 or T); an unknown backend, or one that lacks
        what is asked of it.
      TypeError: from JAX, in forward-mode differentiation (`jax.jvp`) of "xla" or "pallas", and in
        second derivatives of "pallas". Second derivatives of "xla" work, `jax.hessian` included.

    Example:
      >>> import jax
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> kernel = jax.random.normal(keys[0], (3, 16))
      >>> params = LSTMParams(kernel, jax.random.normal(keys[1], (4, 16)), kernel[0])
      >>> hs, (c, h) = lstm(params, jax.random.normal(keys[2], (2, 5, 3)))
      >>> hs.shape, bool((hs[:, -1] == h).all())
      ((2, 5, 4), True)
    """
    if time_major or mask is not None or getattr(x, "ndim", 3) > 3:
        options: Any = {"initial_carry": initial_carry, "lengths": lengths, "mask": mask}
        options |= {"reverse": reverse, "recurrent_mask": recurrent_mask, "backend": backend}
        return _laid_out(params, _array("x", x), time_major, options)
    params = _checked_params(params)
    x = checked_sequences(x)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend == "auto":
        backend = "xla" if params.peephole is None else "autodiff"
    if params.peephole is not None and backend != "autodiff":
        raise ValueError(f"backend {backend!r} has no peepholes: use 'autodiff' or 'auto'.")
    if backend == "pallas" and (reason := kernels.unavailable()):
        raise ValueError(f"backend 'pallas' cannot run here: {reason}")
    if not isinstance(reverse, bool | np.bool_):
        raise ValueError(f"reverse must be True or False, got {reverse!r}.")
    batch, steps, features = x.shape
    check_params(params, features)
    units = len(params.recurrent_kernel)
    dtype = jnp.result_type(*jax.tree.leaves((params, x)))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"params and x must be floating-point numbers, got {dtype}.")
    bias = jnp.zeros(4 * units, dtype) if params.bias is None else params.bias
    carry = _checked_carry(initial_carry, (batch, units), dtype)
    if recurrent_mask is not None:
        recurrent_mask = _array("recurrent_mask", recurrent_mask, (batch, units))
    if lengths is not None:
        lengths = _checked_lengths(lengths, batch, steps)

    initial = carry
    if lengths is not None:
        # A row without steps takes part in products all the same, and 0 * nan is not 0.
        carry = _where_any(lengths, carry, jax.tree.map(jnp.zeros_like, carry))
    precision = _kernel_precision()
    if backend == "pallas" and kernels.supports(units, dtype, precision) is None:
        hs, last = kernels.lstm_resident(
            params.kernel,
            params.recurrent_kernel,
            bias,
            x,
            carry,
            lengths,
            recurrent_mask,
            reverse=bool(reverse),
            precision=precision,
        )
    else:
        # Sums over many steps need more than the 8 or 11 bits of a 16-bit number.
        wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
        keep = None if backend == "autodiff" else scan.keeps_gates(steps, batch, wide)
        params = params._replace(bias=bias)
        hs, last = _scan(
            params, x, carry, lengths, recurrent_mask, bool(reverse), keep, dtype, wide
        )
    if lengths is not None:
        last = _where_any(lengths, last, jax.tree.map(lambda leaf: leaf.astype(dtype), initial))
    return hs, last


def _laid_out(
    params: Any, x: Array, time_major: bool, options: dict[str, Any]
) -> tuple[Array, Carry]:
    """`lstm` of sequences in another layout, or with gaps."""
    mask = options.pop("mask")
    if mask is not None:
        mask = _array("mask", mask, x.shape[:-1]).astype(bool)
        if options["lengths"] is not None:
            raise ValueError("mask and lengths say the same: give one of them.")
    if time_major:
        x = jnp.moveaxis(x, 0, -2)
        mask = None if mask is None else jnp.moveaxis(mask, 0, -1)
    if x.ndim < 3:
        raise ValueError(f"x must have shape [B, T, F], got {x.shape}.")
    lead = x.shape[:-2]

    def flat(array: Any) -> Any:
        array = jnp.asarray(array)
        if array.shape[: len(lead)] != lead:
            return array  # which is said where it is checked
        return array.reshape(-1, *array.shape[len(lead) :])

    def back(array: Array) -> Array:
        return array.reshape(*lead, *array.shape[1:])

    names = ("initial_carry", "lengths", "recurrent_mask")
    options |= {name: jax.tree.map(flat, options[name]) for name in names}
    if mask is None:
        hs, last = lstm(params, flat(x), **options)
    else:
        hs, last = _with_gaps(params, flat(x), flat(mask), options)
    hs = back(hs)
    return (jnp.moveaxis(hs, -2, 0) if time_major else hs), jax.tree.map(back, last)


def _with_gaps(params: Any, x: Array, mask: Array, options: dict[str, Any]) -> tuple[Array, Carry]:
    """`lstm` of each row's valid steps on end, whose outputs are then put in their places."""
    lengths = mask.sum(axis=1, dtype=jnp.int32)
    order = jnp.argsort(~mask, axis=1, stable=True)
    options = options | {"lengths": lengths}
    hs, last = lstm(params, jnp.take_along_axis(x, order[..., None], axis=1), **options)
    # The place among the valid steps of the last one walked so far.
    walked = jnp.cumsum(mask, axis=1)
    place = walked - mask if options["reverse"] else walked - 1
    is_walked = (place >= 0) & (place < lengths[:, None])
    place = jnp.clip(place, 0, max(0, x.shape[1] - 1))[..., None]
    return jnp.where(is_walked[..., None], jnp.take_along_axis(hs, place, axis=1), 0), last


def _where_any(lengths: Array, carry: Carry, otherwise: Carry) -> Carry:
    """The first carry in rows that have steps, else the other one."""
    moves = (lengths > 0)[:, None]
    return jnp.where(moves, carry[0], otherwise[0]), jnp.where(moves, carry[1], otherwise[1])


# Compiled once for each shape, also where the caller does not compile: a scan by itself would be
# compiled in every call, as its step is a new function each time.
@functools.partial(jax.jit, static_argnums=(5, 6, 7, 8))
def _scan(
    params: LSTMParams,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    recurrent_mask: Array | None,
    reverse: bool,
    keep: bool | None,
    dtype: Any,
    wide: Any,
) -> tuple[Array, Carry]:
    """Computes in ``wide``, returns ``dtype``; JAX differentiates it where ``keep`` is None."""
    params, x, carry, recurrent_mask = jax.tree.map(
        lambda leaf: leaf.astype(wide), (params, x.swapaxes(0, 1), carry, recurrent_mask)
    )
    arguments = [*_varying((params, x, carry, lengths, recurrent_mask)), reverse]
    if keep is None:
        hs, last = scan.lstm_autodiff(*arguments)
    else:
        hs, last = scan.lstm_scan(*arguments, keep)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), (hs.swapaxes(0, 1), last))


def _kernel_precision() -> str:
    """The kernel's name for `jax.default_matmul_precision`."""
    config: Any = jax.config
    wanted = str(config.jax_default_matmul_precision).lower()
    if wanted in ("tensorfloat32", "high", "tf32_tf32_f32", "default", "fastest", "bfloat16"):
        return "tf32"
    return "tf32x3" if wanted == "tf32_tf32_f32_x3" else "float32"


def _varying(arguments: Any) -> Any:
    """Inside `jax.shard_map`, marks all arguments as differing between devices where one does.

    A scan's carry and a hand-written gradient have to agree with the inputs on that; the gradient
    of the mark is the sum over devices that a replicated argument's gradient needs.
    """

    def axes(array: Any) -> frozenset[str]:
        kind: Any = jax.typeof(array)
        if hasattr(kind, "manual_axis_type"):  # JAX 0.12
            return kind.manual_axis_type.varying
        return getattr(kind, "vma", frozenset())

    every: frozenset[str] = frozenset().union(*map(axes, jax.tree.leaves(arguments)))

    def mark(array: Any) -> Any:
        missing = tuple(every - axes(array))
        return jax.lax.pcast(array, missing, to="varying") if missing else array

    return jax.tree.map(mark, arguments)


def _array(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """The value as an array of real numbers, of that shape.

    Raises:
      ValueError: it is something else; the message has the name.
    """
    try:
        if value is None:
            raise TypeError
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be an array of numbers, got {type(value).__name__}."
        ) from None
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool) or jnp.issubdtype(
        array.dtype, jnp.complexfloating
    ):
        raise ValueError(f"{name} must be an array of real numbers, got {array.dtype}.")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}.")
    return array


def checked_sequences(x: Any) -> Array:
    """Returns x as an array ``[B, T, F]``.

    Raises:
      ValueError: it is something else.
    """
    array = _array("x", x)
    if array.ndim != 3:
        raise ValueError(f"x must have shape [B, T, F], got {array.shape}.")
    return array


def _checked_params(given: Any) -> LSTMParams:
    try:
        params = LSTMParams(**given) if isinstance(given, Mapping) else LSTMParams(*given)
    except TypeError:
        raise ValueError(
            f"params must be LSTMParams(kernel, recurrent_kernel, bias, peephole), got"
            f" {type(given).__name__}."
        ) from None
    optional = ("bias", "peephole")
    checked: dict[str, Any] = {
        name: None if weights is None and name in optional else _array(f"params.{name}", weights)
        for name, weights in params._asdict().items()
    }
    return LSTMParams(**checked)


def _checked_carry(carry: Any, shape: tuple[int, int], dtype: Any) -> Carry:
    if carry is None:
        zeros = jnp.zeros(shape, dtype)
        return zeros, zeros
    try:
        c, h = carry
    except (TypeError, ValueError):
        raise ValueError(
            f"initial_carry must be a pair (c, h) of arrays, got {type(carry).__name__}"
            f"{f' of {len(carry)}' if hasattr(carry, '__len__') else ''}."
        ) from None
    return _array("initial_carry's c", c, shape), _array("initial_carry's h", h, shape)


def _checked_lengths(lengths: Any, batch: int, steps: int) -> Array:
    given = _array("lengths", lengths)
    if given.shape != (batch,) or not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(
            f"lengths must be integers of shape {(batch,)}, got {given.dtype} {given.shape}."
        )
    if not isinstance(given, jax.core.Tracer):
        known = np.asarray(lengths)
        wrong = np.flatnonzero((known < 0) | (known > steps))
        if wrong.size:
            raise ValueError(
                f"lengths must lie in 0..{steps}, the steps of x, got {known[wrong[0]]} in row"
                f" {wrong[0]}."
            )
    return jnp.clip(given.astype(jnp.int32), 0, steps)
