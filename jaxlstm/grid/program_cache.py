"""Compiled programs of a process: each compiled once, shared by all searches and fits.

A program takes memory of its own (30 MB and 700 pieces of the memory map for a training program on
a CPU), so that those used longest ago are forgotten once all together take too much.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gc
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlstm import forks

#: Most bytes of host memory that programs take together; the one used last always stays.
MOST_BYTES = 400_000_000

#: Host memory of a program on CPU by the length of its text. Measured: 26 for one that draws weights,
#: 36 to 38 for those that train.
BYTES_PER_CHARACTER = 38

#: Share of the pieces of memory that Linux lets a process map (65,530 as a rule) beyond which the
#: programs used longest ago are forgotten. A training program on CPU takes up to a thousand, and at
#: the limit the compiler crashes.
MOST_MAPPED = 0.5

#: Programs forgotten until JAX's own caches are emptied: they keep what each program was traced from,
#: some 3 MB for one that trains. Functions that the user has jitted are then compiled anew as well.
SWEPT_EVERY = 12

#: Programs whose running memory is remembered after they are forgotten themselves.
MOST_REMEMBERED = 4096


class Memory(NamedTuple):
    """Bytes that a program takes on its device as it runs."""

    arguments: int
    outputs: int
    temporary: int
    shared: int  # of outputs that take an argument's place

    @classmethod
    def of(cls, program: Any) -> Memory | None:
        """What XLA says of a compiled program."""
        known = program.memory_analysis()
        if known is None:
            return None
        return cls(
            known.argument_size_in_bytes,
            known.output_size_in_bytes,
            known.temp_size_in_bytes,
            known.alias_size_in_bytes,
        )


@dataclasses.dataclass(frozen=True)
class _Held:
    """A program and the host memory that it takes itself."""

    program: Any
    nbytes: int


_held: OrderedDict[Any, _Held] = OrderedDict()  # the one used last comes last
_memory: OrderedDict[Any, Memory | None] = OrderedDict()
_compiling: dict[Any, threading.Lock] = {}  # of programs that somebody waits for
_forgotten = 0  # how many so far
_lock = threading.RLock()
_tracing = threading.Lock()  # JAX's rules of custom gradients are not safe to trace in two threads

#: How many programs of each kind ("train", "init", "predict") this process has compiled.
compilations: Counter[str] = Counter()

_seconds: dict[str, float] = {}  # spent on compiling, by kind


class _Thread(threading.local):
    seconds = 0.0


_thread = _Thread()


def _signature(tree: Any) -> Any:
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, tuple(
        (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        for leaf in leaves
    )


def _key(kind: str, key: Hashable, args: Any) -> Any:
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return kind, key, _signature(args), precision


def compiled(
    kind: str,
    key: Hashable,
    function: Callable[..., Any],
    args: Any,
    options: dict[str, Any] | None = None,
    **jit: Any,
) -> Any:
    """Returns the program for this key and these arguments' shapes, compiling it the first time.

    Args:
      kind: what it does, for `compilations`.
      key: what tells it from others of its kind, beside its arguments' shapes.
      function: what is compiled.
      args: its arguments, or their shapes.
      options: of the compiler.
      **jit: options of `jax.jit`.

    Raises:
      RuntimeError: in a forked process, see `jaxlstm.forks.check`.
    """
    forks.check()
    key = _key(kind, key, args)
    program = _known(key)
    if program is not None:
        return _callable(program)
    start = time.perf_counter()
    with _lock:
        lock = _compiling.setdefault(key, threading.Lock())
    try:
        with lock:  # one lock a program: different programs compile side by side
            program = _known(key)
            if program is None:
                program = _compile(kind, key, function, args, options, jit)
    finally:
        with _lock:
            _compiling.pop(key, None)
        _thread.seconds += time.perf_counter() - start
    return _callable(program)


def _callable(program: Any) -> Any:
    is_disabled = jax.config.jax_disable_jit  # type: ignore[attr-defined]
    return _StillCompiled(program) if is_disabled else program


class _StillCompiled:
    """A program for a caller under `jax.disable_jit`, where JAX would refuse to call it."""

    def __init__(self, program: Any):
        self._program = program

    def __call__(self, *args: Any) -> Any:
        with jax.disable_jit(False):
            return self._program(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def _known(key: Any) -> Any:
    with _lock:
        if key not in _held:
            return None
        _held.move_to_end(key)
        return _held[key].program


def _compile(
    kind: str, key: Any, function: Any, args: Any, options: Any, jit: dict[str, Any]
) -> Any:
    _make_room(0)
    start = time.perf_counter()
    # Random streams must not depend on the sizes that they are drawn for.
    with jax.threefry_partitionable(True), jax.disable_jit(False):
        with _tracing:
            lowered = jax.jit(function, **jit).lower(*args)
        program = lowered.compile(options)
    del lowered  # its text is as long as the program's
    nbytes = BYTES_PER_CHARACTER * len(program.as_text() or "")
    _make_room(nbytes)
    with _lock:
        _held[key] = _Held(program, nbytes)
        _memory[key] = Memory.of(program)
        while len(_memory) > MOST_REMEMBERED:
            _memory.popitem(last=False)
        compilations[kind] += 1
        _seconds[kind] = _seconds.get(kind, 0.0) + time.perf_counter() - start
    _give_back()  # the compiler leaves ten times what the program takes
    return program


def memory_of(kind: str, key: Hashable, args: Any) -> Memory | None:
    """Memory of a program that this process has compiled, also where it was forgotten since.

    Takes `compiled`'s arguments; None where it was not compiled, or XLA does not say.
    """
    with _lock:
        return _memory.get(_key(kind, key, args))


def _make_room(nbytes: int) -> None:
    """Forgets the programs used longest ago where memory, or its map, is near its limit."""
    global _forgotten
    before = _forgotten
    with _lock:
        held = sum(one.nbytes for one in _held.values())
        while _held and held + nbytes > MOST_BYTES:
            held -= _held.popitem(last=False)[1].nbytes
            _forgotten += 1
    while _held and _mapped() > MOST_MAPPED:
        with _lock:
            for _ in range(max(1, len(_held) // 4)):
                if _held:
                    _held.popitem(last=False)
                    _forgotten += 1
    if _forgotten // SWEPT_EVERY > before // SWEPT_EVERY:
        with _tracing:
            jax.clear_caches()
    if _forgotten > before:
        gc.collect()  # an executable is part of cycles


def _mapped() -> float:
    """Share of the pieces of memory that this process may map which it has; 0 but on Linux."""
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps", "rb") as pieces:
            return sum(1 for _ in pieces) / limit
    except OSError:
        return 0.0


@functools.cache
def _trim() -> Any:
    """The C library's `malloc_trim`; None where it has none (it is glibc's)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return None


def _give_back() -> None:
    """Gives freed memory back to the system, which the C library else keeps for itself."""
    trim = _trim()
    if trim is not None:
        trim(0)


def compile_seconds() -> float:
    """Seconds spent on compiling so far, summed over threads."""
    return sum(_seconds.values())


def seconds_a_program() -> float:
    """Mean seconds that a program has taken to compile so far."""
    return compile_seconds() / max(1, sum(compilations.values()))


def waited_seconds() -> float:
    """Seconds for which this thread has waited for programs so far, whoever compiled them."""
    return _thread.seconds


def clock() -> float:
    """Seconds of a clock that stands still while this thread waits for a program."""
    return time.perf_counter() - _thread.seconds


def clear() -> None:
    """Forgets all compiled programs."""
    with _lock:
        _held.clear()
        _memory.clear()
    gc.collect()
    _give_back()
