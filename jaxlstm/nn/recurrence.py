"""`lstm`: the recurrence over whole sequences, checked, on the backend that suits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.nn import kernels
from jaxlstm.nn.cell import Array, Carry, LSTMParams, lstm_step
from jaxlstm.nn.scan import lstm_autodiff, lstm_scan

__all__ = ["BACKENDS", "Carry", "LSTMParams", "lstm", "lstm_step"]

BACKENDS = ("auto", "xla", "pallas", "autodiff")


def lstm(
    params: LSTMParams,
    x: Array,
    *,
    initial_carry: Carry | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    recurrent_mask: Array | None = None,
    backend: str = "auto",
) -> tuple[Array, Carry]:
    """Runs an LSTM over a batch of sequences.

    Steps past a row's length change nothing: its carry is frozen and its outputs are 0. A row of
    length 0 returns the initial carry. ``reverse`` walks the valid part of each row from its last
    step to its first; output t still belongs to input t, so the last state is ``hs[:, 0]``.

    Numbers of 16 bits are computed in float32 and rounded at the end (on "pallas", each step's).

    Args:
      params: weights; kernel ``[F, 4H]``, recurrent_kernel ``[H, 4H]``, bias ``[4H]`` or None,
        peephole ``[3, H]`` (rows i, f, o) or None.
      x: sequences, ``[B, T, F]``.
      initial_carry: ``(c, h)``, each ``[B, H]``; zeros by default.
      lengths: valid steps of each row, integers ``[B]`` in ``0..T``; all T by default.
      reverse: whether to run backwards in time.
      recurrent_mask: factors ``[B, H]`` of h on its way into the recurrent product, the same in
        every step: variational dropout (Gal and Ghahramani, arXiv:1512.05287).
      backend: one of

        - "xla": a scan with a gradient of its own, everywhere;
        - "pallas": one kernel for all steps, on CUDA GPUs, which takes the lanes of `jax.vmap` as
          further blocks; "xla" where H is more than fits it (64 in float32 on an H100, 128 in
          bfloat16). Products in float32 are of `jax.default_matmul_precision`, which counts as
          "float32" where it is not set;
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
    params = LSTMParams(*params)
    x = jnp.asarray(x)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend == "auto":
        backend = "xla" if params.peephole is None else "autodiff"
    if params.peephole is not None and backend != "autodiff":
        raise ValueError(f"backend {backend!r} has no peepholes: use 'autodiff' or 'auto'.")
    if backend == "pallas" and (reason := kernels.unavailable()):
        raise ValueError(f"backend 'pallas' cannot run here: {reason}")
    _check_params(params, x)
    batch, steps, _ = x.shape
    units = params.recurrent_kernel.shape[0]
    dtype = jnp.result_type(*jax.tree.leaves((params, x)))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"params and x must be floating-point numbers, got {dtype}.")
    if initial_carry is None:
        zeros = jnp.zeros((batch, units), dtype)
        initial_carry = (zeros, zeros)
    if len(initial_carry) != 2:
        raise ValueError(f"initial_carry must be a pair (c, h), got {len(initial_carry)} arrays.")
    for name, state in [
        ("initial_carry's c", initial_carry[0]),
        ("initial_carry's h", initial_carry[1]),
        ("recurrent_mask", recurrent_mask),
    ]:
        if state is not None and jnp.shape(state) != (batch, units):
            raise ValueError(f"{name} must have shape {(batch, units)}, got {jnp.shape(state)}.")
    if lengths is not None:
        lengths = _checked_lengths(lengths, batch, steps)

    bias = jnp.zeros(4 * units, dtype) if params.bias is None else params.bias
    if backend == "pallas" and kernels.supports(units, dtype) is None:
        return kernels.lstm_resident(
            params.kernel,
            params.recurrent_kernel,
            bias,
            x,
            initial_carry,
            lengths,
            recurrent_mask,
            reverse=bool(reverse),
            precision=_kernel_precision(),
        )
    # Sums over many steps need more than the 8 or 11 bits of a 16-bit number.
    wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    params, x, carry, recurrent_mask = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, wide),
        (params._replace(bias=bias), x, tuple(initial_carry), recurrent_mask),
    )
    arguments = _varying((params, x.swapaxes(0, 1), carry, lengths, recurrent_mask))
    run: Any = lstm_autodiff if backend == "autodiff" else lstm_scan
    hs, last = run(*arguments, bool(reverse))
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
        return getattr(jax.typeof(array), "vma", frozenset())

    every: frozenset[str] = frozenset().union(*map(axes, jax.tree.leaves(arguments)))

    def mark(array: Any) -> Any:
        missing = tuple(every - axes(array))
        return jax.lax.pcast(array, missing, to="varying") if missing else array

    return jax.tree.map(mark, arguments)


def _check_params(params: LSTMParams, x: Array) -> None:
    if x.ndim != 3:
        raise ValueError(f"x must have shape [B, T, F], got {x.shape}.")
    features = x.shape[-1]
    units = jnp.shape(params.recurrent_kernel)[0] if jnp.ndim(params.recurrent_kernel) else 0
    for name, shape in [
        ("kernel", (features, 4 * units)),
        ("recurrent_kernel", (units, 4 * units)),
        ("bias", (4 * units,)),
        ("peephole", (3, units)),
    ]:
        weights: Any = getattr(params, name)
        if weights is not None and jnp.shape(weights) != shape:
            raise ValueError(
                f"params.{name} must have shape {shape} for {features} features and {units} units,"
                f" got {jnp.shape(weights)}."
            )


def _checked_lengths(lengths: Any, batch: int, steps: int) -> Array:
    if jnp.shape(lengths) != (batch,) or not jnp.issubdtype(
        jnp.asarray(lengths).dtype, jnp.integer
    ):
        raise ValueError(
            f"lengths must be integers of shape {(batch,)}, got {jnp.asarray(lengths).dtype}"
            f" {jnp.shape(lengths)}."
        )
    if not isinstance(lengths, jax.core.Tracer):
        known = np.asarray(lengths)
        wrong = np.flatnonzero((known < 0) | (known > steps))
        if wrong.size:
            raise ValueError(
                f"lengths must lie in 0..{steps}, the steps of x, got {known[wrong[0]]} in row"
                f" {wrong[0]}."
            )
    return jnp.asarray(lengths)
