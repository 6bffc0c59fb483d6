"""What a benchmark states beside its figures: the machine, versions and the command; and quartiles."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def processor() -> str:
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the installed packages among these."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def command(module: str, arguments: Sequence[str] | None) -> str:
    """The command line that repeats a run; a Python is named by its file's name alone."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words = [Path(word).name if word.endswith("/python") else word for word in words]
    return shlex.join(["python", "-m", module, *words])


def today() -> str:
    """The date, as 2026-01-31."""
    return datetime.date.today().isoformat()


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile; of one value, itself."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third
