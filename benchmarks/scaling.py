"""The time of a search against its number of lanes and the CPU cores it may use.

    python -m benchmarks.scaling                          (or: make bench-scaling)
    python -m benchmarks.scaling --lanes 1 2 4 --rounds 2 --rows 64     (to see that it works)

The lanes are one small network (LSTM of 32 units on 16 steps of 4 features, 4 classes, batch 32, 4
epochs) at 1 to 4 cross-validation splits and as many learning rates and dropout rates as are needed:
lane numbers are powers of two. A search is `jaxlstm.GridSearch.fit` without the refit, so that it
scales with the lanes alone.

On a CPU each number of cores has a process of its own, bound to cores 0, 1, ... before JAX starts, and
lanes run by layout "loop". On a GPU there is no axis of cores; layouts "vmap" and "loop" are compared.
Before a lane number is measured, a search of one epoch compiles what it needs, which is not in the
figures but stated as "compile s" ("loop" uses one program for every number of lanes, "vmap" compiles
one each). In each round every process measures every lane number, by turns, lane number by lane
number, in an order drawn anew; the others block on stdin meanwhile. Medians and quartiles are over the
rounds; a speed-up is the first process's time by another's in the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.scaling_report import Setting, Timing, draw_figure, table, write_csv

SPLITS, MOST_LANES = 4, 512
STEPS, FEATURES, CLASSES = 16, 4, 4


class WorkerError(Exception):
    """A process can't measure; says why."""


def sequences(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise ``[N, 16, 4]``; the label says which feature has the largest mean."""
    x = np.random.default_rng(0).normal(size=(rows, STEPS, FEATURES)).astype(np.float32)
    return x, x.mean(1).argmax(1)


def grid_of(lanes: int) -> tuple[dict[str, list[float]], int]:
    """A grid and a number of splits that make so many lanes.

    Raises:
      ValueError: not a power of two up to 512.
    """
    if not 1 <= lanes <= MOST_LANES or lanes & (lanes - 1):
        raise ValueError(f"lanes must be a power of two from 1 to {MOST_LANES}, got {lanes}")
    splits = min(lanes, SPLITS)
    cells = lanes // splits
    rates = min(cells, 16)
    grid = {
        "learning_rate": np.geomspace(1e-3, 1e-2, rates).tolist(),
        "dropout": np.linspace(0.1, 0.4, cells // rates).tolist(),
    }
    return grid, splits


def search(lanes: int, rows: int, epochs: int, setting: Setting) -> float:
    """Searches once; returns the seconds."""
    from sklearn.model_selection import StratifiedKFold

    from jaxlstm import GridSearch, LSTMClassifier

    x, y = sequences(rows)
    grid, splits = grid_of(lanes)
    searching = GridSearch(
        LSTMClassifier(units=32, epochs=epochs, batch_size=32),
        grid,
        cv=list(StratifiedKFold(SPLITS).split(x, y))[:splits],
        refit=False,
        random_state=0,
        layout=setting.layout,
        n_jobs=setting.cores or None,
    )
    start = time.perf_counter()
    searching.fit(x, y)
    seconds = time.perf_counter() - start
    assert len(searching.results_) == lanes
    return seconds


def serve(setting: Setting, rows: int, epochs: int) -> None:
    """Answers lane numbers, one a line on stdin, with a JSON object a line; the first is unasked."""
    if setting.cores:
        os.sched_setaffinity(0, range(setting.cores))
    import jax

    from jaxlstm.grid import program_cache

    device = jax.devices()[0]
    name = "cpu" if device.platform == "cpu" else device.device_kind
    versions = machine.versions(["jaxlstm", "jax", "jaxlib", "flax"])
    print(json.dumps({"device": name, "versions": versions}), flush=True)
    warm: set[int] = set()
    for line in sys.stdin:
        lanes = int(line)
        before = program_cache.compile_seconds()
        # A program of "loop" trains one lane; two of them warm up both of the threads.
        first = lanes if setting.layout == "vmap" else min(lanes, 2)
        if first not in warm:
            search(first, rows, 1, setting)
            warm.add(first)
        compiling = program_cache.compile_seconds() - before
        answer = {"seconds": search(lanes, rows, epochs, setting), "compile": compiling}
        if program_cache.compile_seconds() - before > compiling:
            answer["error"] = f"{lanes} lanes: compiled while the clock ran"
        print(json.dumps(answer), flush=True)


class Worker:
    """A process that searches with one setting."""

    def __init__(self, setting: Setting, options: argparse.Namespace) -> None:
        self.setting = setting
        command = [sys.executable, "-m", "benchmarks.scaling", "--rows", str(options.rows)]
        command += ["--epochs", str(options.epochs), "--serve", str(setting.cores), setting.layout]
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            # Several processes share one GPU: none may take all of its memory.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if options.cpu:
            environment["JAX_PLATFORMS"] = "cpu"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in close()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.hello = self._answer()
        except WorkerError:
            self.close()
            raise

    def ask(self, lanes: int) -> dict[str, Any]:
        """Measures one search.

        Raises:
          WorkerError: the process has ended or says why it can't.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{lanes}\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            reason = (lines or ["no message"])[-1][:300]
            raise WorkerError(f"{self.setting.label()}: its process has ended: {reason}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.setting.label()}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextlib.contextmanager
def workers(options: argparse.Namespace) -> Iterator[list[Worker]]:
    """Starts a process a setting: numbers of cores on a CPU, layouts on a GPU."""
    started: list[Worker] = []
    try:
        if options.cpu:
            settings = [Setting(cores, "loop") for cores in options.cores]
        else:
            started.append(Worker(Setting(0, "loop"), options))
            settings = [Setting(0, "vmap")]
            if started[0].hello["device"] == "cpu":
                started.pop().close()
                settings = [Setting(cores, "loop") for cores in options.cores]
        for setting in settings:
            started.append(Worker(setting, options))
        yield started
    finally:
        for worker in started:
            worker.close()


def measure(crew: Sequence[Any], lanes: Sequence[int], rounds: int) -> list[Timing]:
    """Measures every number of lanes with every process, in rounds."""
    timings = {
        (worker.setting, number): Timing(worker.setting, number, [], [])
        for number in lanes
        for worker in crew
    }
    order = random.Random(0)
    for index in range(rounds):
        for number in lanes:
            for worker in order.sample(list(crew), len(crew)):
                answer = worker.ask(number)
                timing = timings[worker.setting, number]
                timing.seconds.append(answer["seconds"])
                timing.compile.append(answer["compile"])
        print(f"round {index + 1} of {rounds} is done", flush=True)
    return list(timings.values())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    doubling = [2**power for power in range(MOST_LANES.bit_length())]
    add("--lanes", type=int, nargs="+", default=doubling, help="numbers of lanes, powers of two")
    add("--cores", type=int, nargs="+", help="numbers of CPU cores (1 and 2)")
    add("--rounds", type=int, default=5, help="rounds")
    add("--rows", type=int, default=640, help="rows of the data set")
    add("--epochs", type=int, default=4, help="epochs of a lane")
    add("--cpu", action="store_true", help="leave a GPU alone")
    add("--machine", help="the machine's name in the figure; processor and cores by default")
    add("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of results")
    add("--serve", nargs=2, help=argparse.SUPPRESS)  # cores and layout of this process
    options = parser.parse_args(arguments)
    for number in options.lanes:
        try:
            grid_of(number)
        except ValueError as error:
            parser.error(f"--{error}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    least = 8 * SPLITS
    if options.rows < least:
        parser.error(f"--rows must be at least {least}, got {options.rows}")
    there = machine.cores()
    if options.cores is None:
        options.cores = [number for number in (1, 2) if number <= there]
    for number in options.cores:
        if not 1 <= number <= there:
            parser.error(f"--cores must be from 1 to {there}, the cores there are, got {number}")
    if not hasattr(os, "sched_setaffinity"):
        options.cores = [0]  # no way to bind a process: all cores
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes scaling.csv and scaling.png."""
    options = parse(arguments)
    if options.serve:
        cores, layout = options.serve
        serve(Setting(int(cores), layout), options.rows, options.epochs)
        return
    try:
        with workers(options) as crew:
            hello = crew[0].hello
            timings = measure(crew, sorted(set(options.lanes)), options.rounds)
    except WorkerError as error:
        raise SystemExit(str(error)) from None
    here = f"{machine.processor()}, {machine.cores()} cores"
    here = options.machine or (here if hello["device"] == "cpu" else f"{hello['device']}; {here}")
    facts = {
        "machine": here,
        "device": hello["device"],
        "rows": options.rows,
        "epochs": options.epochs,
        "python": platform.python_version(),
        "date": machine.today(),
        "versions": ", ".join(f"{name}={number}" for name, number in hello["versions"].items()),
        "command": machine.command("benchmarks.scaling", arguments),
    }
    print(f"\n{here}\n{facts['versions']}\n\n{table(timings)}")
    write_csv(options.out / "scaling.csv", timings, facts)
    draw_figure(options.out / "scaling.png", timings, f"{here}, {facts['date']}")
    print(f"\nresults in {options.out}")


if __name__ == "__main__":
    main()
