"""A search of 10,000 lanes: how long it plans, how long it runs, and its memory against the plan's.

    python -m benchmarks.memory                                  (about a minute)
    python -m benchmarks.memory --lanes 300 --units 128          (large programs)

Random draws of learning rate, dropout and optimizer x 5 folds of a tiny LSTM. The process's resident
memory is read every 5 ms while it runs; what it held before planning (libraries, data) is taken off,
and what compiling takes, which goes on before the first lane trains, is warmed up by a search of one
candidate. The plan's figure is that of its programs and their data, and that of settings and curves.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import Any


def resident() -> int:
    """Bytes of memory that this process holds (Linux)."""
    import resource

    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Peak:
    """Most memory held while it is open; a context manager."""

    def __enter__(self) -> Peak:
        self.bytes, self._done = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, resident())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()


def measure(lanes: int, units: int, epochs: int, layout: str, memory_limit: int | None) -> None:
    """Plans, runs and prints."""
    import numpy as np
    from scipy.stats import loguniform

    from jaxlstm import LSTMClassifier, RandomSearch

    rng = np.random.default_rng(7)
    y = rng.integers(0, 3, 100)
    X = rng.normal(size=(100, 8, 2)).astype("float32") + (y - 1)[:, None, None].astype("float32")
    space = {
        "learning_rate": loguniform(1e-4, 1e-1),
        "dropout": [0.0, 0.1, 0.3],
        "optimizer": ["adam", "rmsprop"],
    }

    def search(candidates: int) -> Any:
        return RandomSearch(
            LSTMClassifier(units=units, batch_size=16, epochs=epochs),
            space,
            n_iter=candidates,
            cv=5,
            random_state=0,
            layout=layout,
            memory_limit=memory_limit,
            refit=False,
        )

    start = time.perf_counter()
    plan = search(lanes // 5).plan(X, y, measure=False)
    planned = time.perf_counter() - start
    search(lanes // 5).plan(X, y)  # compiles, and times some steps
    search(2).fit(X, y)
    before = resident()
    start = time.perf_counter()
    with Peak() as peak:
        plan = search(lanes // 5).fit(X, y).plan_
    seconds = time.perf_counter() - start
    promised, held = plan.bytes + plan.host_bytes, peak.bytes - before
    print(f"{lanes} lanes, {units} units, layout {plan.layout}, {plan.groups[0].slots} at a time")
    print(f"planned in {planned:.2f} s (nothing compiled), run in {seconds:.1f} s")
    print(
        f"memory: {promised / 1e6:.1f} MB planned, {held / 1e6:.1f} MB at most"
        f" ({held / promised - 1:+.0%})"
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lanes", type=int, default=10_000, help="fits, 5 a candidate")
    parser.add_argument("--units", type=int, default=8, help="of the LSTM")
    parser.add_argument("--epochs", type=int, default=3, help="of a fit")
    parser.add_argument("--layout", default="vmap", choices=["auto", "loop", "vmap"])
    parser.add_argument("--memory-limit", type=int, help="bytes that a program may take")
    measure(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
