"""What this machine has: CPU cores and memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import jax

# Share of a device's memory that a program may take.
MEMORY_SHARE = 0.8


def available_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_workers(n_jobs: int | None) -> int:
    """How many CPU cores to use; scikit-learn's meaning, but None means all of them.

    Raises:
      TypeError: not an integer.
      ValueError: 0.
    """
    cores = available_cores()
    if n_jobs is None:
        return cores
    if not isinstance(n_jobs, Integral):
        raise TypeError(f"n_jobs must be an integer or None, got {n_jobs!r}.")
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0: give a number of cores, or -1 or None for all.")
    return int(max(1, cores + 1 + n_jobs) if n_jobs < 0 else n_jobs)


@contextlib.contextmanager
def saying(cure: str) -> Iterator[None]:
    """Adds to an error of a device that is out of memory what helps.

    Args:
      cure: half a sentence.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error) or "memory ran out" in str(error):
            raise
        raise jax.errors.JaxRuntimeError(f"memory ran out: {cure}. ({error})") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has no memory left."""
    return "RESOURCE_EXHAUSTED" in str(error)


def memory_at_hand(devices: Sequence[Any]) -> int | None:
    """Bytes that a program may take on one device: a share of what it has; of this process's own."""
    own = [device for device in devices if device.process_index == jax.process_index()]
    stats = [device.memory_stats() or {} for device in own]
    limits = [stat["bytes_limit"] for stat in stats if "bytes_limit" in stat]
    if not limits and devices[0].platform == "cpu":
        limits = [free for free in [_free_memory()] if free is not None]
    return int(MEMORY_SHARE * min(limits)) if limits else None


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = dict(line.split(":") for line in lines)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return None
