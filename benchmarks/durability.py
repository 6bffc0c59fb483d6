"""What checkpoints and the progress bar cost: the same search with and without them.

    python -m benchmarks.durability                       (or: make bench-durability)
    python -m benchmarks.durability --rounds 2 --rows 64 --epochs 2     (to see that it works)

    plain            verbose=0, no checkpoints
    progress         verbose=1, drawn on a pseudo-terminal that a thread reads
    checkpoint-60    checkpoint_dir=, checkpoint_every=60, the default, into a new folder each time
    checkpoint-5     the same every 5 s (--every)

The search has 24 lanes (an LSTM of 64 units on 64 steps of 8 features, 4 learning rates x 2 dropout
rates x 3 folds). Its number of epochs is chosen, by a search of 2 epochs, so that it lasts about 75 s
(``--seconds``) and an interval of 60 s passes once. All variants run in one process that has compiled
the program before; in each round all of them run, in an order drawn anew. A variant's overhead is its
time by the plain search's of the same round; medians and quartiles are over the rounds. Its scores must
be the plain search's: a variant that gives others, or that this jaxlstm does not have, is reported and
left out.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import pty
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks import machine

PLAIN, PROGRESS = "plain", "progress"
STEPS, FEATURES, CLASSES = 64, 8, 4


class VariantError(Exception):
    """A variant can't be measured; says why."""


class Run(NamedTuple):
    """One search."""

    seconds: float
    scores: np.ndarray  # of the cells
    written: int = 0  # bytes left in the checkpoint folder, or drawn on the terminal


Variant = Callable[[], Run]


@contextlib.contextmanager
def terminal() -> Iterator[list[int]]:
    """Standard output becomes a pseudo-terminal of 120 columns; counts the bytes drawn on it."""
    import fcntl
    import struct
    import termios

    drawn = [0]
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def read() -> None:
        # Linux says that nothing will come any more with an error, other systems with no bytes.
        with contextlib.suppress(OSError):
            while received := os.read(reading, 1 << 16):
                drawn[0] += len(received)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(writing, "w") as file, contextlib.redirect_stdout(file):
            yield drawn
    finally:
        reader.join()
        os.close(reading)


def variants(
    search_class: Any, estimator: Any, x: Any, y: Any, every: Sequence[float], folder: Path | None
) -> dict[str, Variant]:
    """The variants by name, each a function that searches once.

    Args:
      search_class: `jaxlstm.GridSearch`.
      estimator: the classifier.
      x: rows.
      y: labels.
      every: intervals of checkpoints, in seconds.
      folder: where the checkpoints' folders are made; None for the system's temporary folder.
    """
    grid = {"learning_rate": [5e-4, 1e-3, 2e-3, 4e-3], "dropout": [0.1, 0.3]}

    def search(**settings: Any) -> Run:
        searching = search_class(estimator, grid, cv=3, refit=False, random_state=0, **settings)
        start = time.perf_counter()
        searching.fit(x, y)
        seconds = time.perf_counter() - start
        return Run(seconds, np.asarray(searching.cv_results_["mean_test_score"]))

    def progress() -> Run:
        with terminal() as drawn:
            run = search(verbose=1)
        return run._replace(written=drawn[0])

    def checkpoint(seconds: float) -> Run:
        if "checkpoint_dir" not in inspect.signature(search_class).parameters:
            raise VariantError("this jaxlstm's GridSearch has no checkpoint_dir")
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            run = search(checkpoint_dir=empty, checkpoint_every=seconds)
            left = sum(path.stat().st_size for path in Path(empty).rglob("*") if path.is_file())
        return run._replace(written=left)

    found: dict[str, Variant] = {PLAIN: search, PROGRESS: progress}
    for seconds in every:
        found[f"checkpoint-{seconds:g}"] = lambda seconds=seconds: checkpoint(seconds)
    return found


def measure(variants: Mapping[str, Variant], rounds: int) -> dict[str, list[Run]]:
    """Runs all variants in rounds; one that fails or finds other scores is left out."""
    found: dict[str, list[Run]] = {name: [] for name in variants}
    expected: np.ndarray | None = None
    order = random.Random(0)
    for index in range(rounds):
        names = list(found)
        if index == 0:  # the plain search says what the scores are
            names.remove(PLAIN)
            names = [PLAIN, *order.sample(names, len(names))]
        else:
            names = order.sample(names, len(names))
        for name in names:
            try:
                run = variants[name]()
                if expected is None:
                    expected = run.scores
                if not np.array_equal(run.scores, expected, equal_nan=True):
                    raise VariantError("its scores are not the plain search's")
            except Exception as error:
                if name == PLAIN:
                    raise
                kind = "" if isinstance(error, VariantError) else f"{type(error).__name__}: "
                print(f"{name} is left out: {kind}{error}", flush=True)
                del found[name]
                continue
            found[name].append(run)
            print(f"round {index + 1} of {rounds}, {name}: {run.seconds:.2f} s", flush=True)
    return found


def epochs_for(seconds: float, epoch: float) -> int:
    """How many epochs last so long, 1 at least."""
    return max(1, round(seconds / epoch))


def overhead(runs: Sequence[Run], plain: Sequence[Run]) -> tuple[float, float, float]:
    """Quartiles over the rounds of the time beyond the plain search's, in percent of it."""
    return machine.quartiles(
        [100 * (a.seconds / b.seconds - 1) for a, b in zip(runs, plain, strict=True)]
    )


def table(found: Mapping[str, Sequence[Run]]) -> str:
    """Table of all variants."""
    lines = [f"{'variant':<16} {'s':>8}  {'quartiles':<19} {'overhead, %':<24} {'KB':>8}"]
    for name, runs in found.items():
        low, middle, high = machine.quartiles([run.seconds for run in runs])
        percent = ""
        if name != PLAIN:
            below, median, above = overhead(runs, found[PLAIN])
            percent = f"{median:+.2f} ({below:+.2f} to {above:+.2f})"
        written = max(run.written for run in runs) / 1e3
        lines.append(
            f"{name:<16} {middle:>8.2f}  {f'{low:.2f} - {high:.2f}':<19} {percent:<24}"
            f" {written:>8.1f}"
        )
    return "\n".join(lines)


def write_csv(path: Path, found: Mapping[str, Sequence[Run]], facts: Mapping[str, Any]) -> None:
    """Writes one row a variant; each repeats the facts about the run."""
    rows = []
    for name, runs in found.items():
        low, middle, high = machine.quartiles([run.seconds for run in runs])
        below, percent, above = overhead(runs, found[PLAIN])
        figures = {
            "median_s": middle,
            "q1_s": low,
            "q3_s": high,
            "overhead_percent": percent,
            "overhead_q1": below,
            "overhead_q3": above,
        }
        rows.append(
            {
                "variant": name,
                "rounds": len(runs),
                **{key: f"{figure:.5g}" for key, figure in figures.items()},
                "written_bytes": max(run.written for run in runs),
                **facts,
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds")
    add("--every", type=float, nargs="*", default=[60, 5], help="intervals of checkpoints, seconds")
    add("--rows", type=int, default=960, help="rows of the data set")
    add("--seconds", type=float, default=75, help="about how long a search is to last")
    add("--epochs", type=int, help="epochs of a lane, instead of --seconds")
    add("--folder", type=Path, help="where checkpoints are written; the system's temporary folder")
    add("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of results")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes durability.csv."""
    options = parse(arguments)
    os.environ.setdefault(
        "TERM", "xterm-256color"
    )  # a bar is not drawn on a terminal without a name
    import jax

    from jaxlstm import GridSearch, LSTMClassifier

    x = np.random.default_rng(0).normal(size=(options.rows, STEPS, FEATURES)).astype(np.float32)
    y = np.arange(options.rows) % CLASSES

    def made(epochs: int) -> dict[str, Variant]:
        estimator = LSTMClassifier(units=64, epochs=epochs, batch_size=32)
        return variants(GridSearch, estimator, x, y, options.every, options.folder)

    made(1)[PLAIN]()  # compiles
    epochs = options.epochs or epochs_for(options.seconds, made(2)[PLAIN]().seconds / 2)
    print(f"{epochs} epochs a lane", flush=True)
    found = measure(made(epochs), options.rounds)
    device = jax.devices()[0]
    facts = {
        "machine": f"{machine.processor()}, {machine.cores()} cores",
        "device": "cpu" if device.platform == "cpu" else device.device_kind,
        "rows": options.rows,
        "epochs": epochs,
        "date": machine.today(),
        "versions": ", ".join(
            f"{name}={number}" for name, number in machine.versions(["jaxlstm", "jax"]).items()
        ),
        "command": machine.command("benchmarks.durability", arguments),
    }
    print(f"\n{facts['machine']}\n{facts['versions']}\n\n{table(found)}")
    write_csv(options.out / "durability.csv", found, facts)
    print(f"\nresults in {options.out}")


if __name__ == "__main__":
    main()
