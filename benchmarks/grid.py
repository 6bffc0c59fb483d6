"""Study 3's LSTM grid by jaxlstm, a loop of Flax fits, and GridSearchCV + PyTorch or Keras, in one run.

    python -m benchmarks.grid --peers PEERS/bin/python     (or: make bench)
    python -m benchmarks.grid --rows 200 --epochs 1 --repeats 1     (to see that it works)

18 cells (n 50, 100, 150 x dropout 0.1, 0.2, 0.3 x adam, rmsprop) x 3 folds = 54 fits and the refit of
the winner, batch 32, on 6,000 images of 28x28 pixels and 62 classes. The images are random: time does
not depend on what they show. Each search runs in a fresh process without any compilation cache; the
clock starts after the imports, so compilation and tracing count.

    jaxlstm        as it comes: validating after each epoch, for the learning curves
    jaxlstm-last   with validation_freq=epochs: validating at the end alone, as all others do
    flax           a plain loop of jitted Flax fits; `grid_peers.run_flax` says how it is written
    skorch         GridSearchCV around skorch (PyTorch), with PyTorch's own number of threads
    skorch-jobs    the same with n_jobs=-1: joblib's processes, one a core
    keras          GridSearchCV around scikeras (Keras on TensorFlow)
    keras-jobs     the same with n_jobs=-1

Because machines drift, the searches take turns: a round is ours, then every peer, ``--repeats``
rounds, every second one with the peers in reverse order, and ours once more at the end. The table has
medians, and in brackets the ratio's range over all pairs of runs. A peer that is missing or fails is
reported and left out. Memory is the process's largest resident set, libraries included; that of
joblib's processes is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.grid_peers import CLASSES, FOLDS, RUNS

OURS = tuple(name for name in RUNS if name.startswith("jaxlstm"))


class RunError(Exception):
    """A search can't be measured; says why."""


class Row(NamedTuple):
    """What was measured of one implementation at one number of epochs."""

    epochs: int
    name: str
    seconds: list[float]  # of each run
    refit: list[float]  # of each run, part of the seconds
    peak_mb: float | None  # the largest resident set of the process

    def median(self) -> float:
        """Median over the runs, in seconds."""
        return statistics.median(self.seconds)


def search_once(name: str, rows: int, epochs: int) -> dict[str, Any]:
    """Runs one search in this process."""
    _, packages, run = RUNS[name]
    answer = run(rows, epochs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    return {
        **answer,
        "peak_mb": None if name.endswith("-jobs") else round(peak_mb),
        "versions": {"python": platform.python_version(), **machine.versions(packages)},
    }


def measure(python: str, name: str, rows: int, epochs: int) -> dict[str, Any]:
    """Runs one search in a fresh process and returns what it printed.

    Raises:
      RunError: the process failed.
    """
    command = [python, "-m", "benchmarks.grid", "--run", name]
    command += ["--rows", str(rows), "--epochs", str(epochs)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RunError(str(error)) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RunError(f"exit status {done.returncode}, {lines[-1][:300]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def turns(names: Sequence[str], repeats: int) -> list[str]:
    """The order of the runs: see the module's text."""
    ours = [name for name in names if name in OURS]
    peers = [name for name in names if name not in OURS]
    order: list[str] = []
    for number in range(repeats):
        order += ours + (peers[::-1] if number % 2 else peers)
    return order + (ours if peers else [])


def compare(
    names: Sequence[str],
    epochs: int,
    repeats: int,
    once: Callable[[str, int], dict[str, Any]],
    facts: dict[str, Any],
) -> list[Row]:
    """Measures the searches at one number of epochs.

    Args:
      names: which of `RUNS`.
      epochs: epochs of a fit.
      repeats: rounds.
      once: runs a search: name, epochs -> what `search_once` returns; may raise RunError.
      facts: gets each implementation's versions and device, and why one failed.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for name in turns(names, repeats):
        if name in facts["failed"]:
            continue
        try:
            answer = once(name, epochs)
        except RunError as error:
            print(f"{epochs} epochs, {name} is left out: {error}", flush=True)
            facts["failed"][name] = str(error)
            continue
        print(f"{epochs} epochs, {name}: {answer['seconds']:.1f} s", flush=True)
        facts["versions"][name] = answer["versions"]
        facts["device"][name] = answer["device"]
        found[name].append(answer)
    rows = []
    for name, answers in found.items():
        if answers and name not in facts["failed"]:
            peaks = [answer["peak_mb"] for answer in answers if answer["peak_mb"]]
            seconds, refit = ([answer[key] for answer in answers] for key in ("seconds", "refit"))
            rows.append(Row(epochs, name, seconds, refit, max(peaks, default=None)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Table of all rows; each implementation's seconds by those of both of ours."""
    lines = [
        f"{'epochs':>6}  {'implementation':<14} {'median s':>9}  {'each run, s':<25} {'MB':>6}"
        + "".join(f"  {'/ ' + name:<21}" for name in OURS).rstrip()
    ]
    for row in rows:
        each = " ".join(f"{seconds:.1f}" for seconds in row.seconds)
        memory = "-" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        line = f"{row.epochs:>6}  {row.name:<14} {row.median():>9.1f}  {each:<25} {memory:>6}"
        for name in OURS:
            ours = next((r for r in rows if r.name == name and r.epochs == row.epochs), None)
            ratio = ""
            if ours:
                low, high = ratio_range(row, ours)
                ratio = f"{row.median() / ours.median():.2f} ({low:.2f} - {high:.2f})"
            line += f"  {ratio:<21}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def ratio_range(row: Row, ours: Row) -> tuple[float, float]:
    """The least and the largest ratio of any run to any of ours."""
    return min(row.seconds) / max(ours.seconds), max(row.seconds) / min(ours.seconds)


def write_json(path: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Writes facts and rows; a row's ratios are to ours of the same number of epochs."""
    entries = []
    for row in rows:
        ratios = {
            ours.name: row.median() / ours.median()
            for ours in rows
            if ours.name in OURS and ours.epochs == row.epochs
        }
        entries.append({**row._asdict(), "median": row.median(), "ratio_to": ratios})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "table": entries}, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--peers", default=sys.executable, help="Python of Keras and PyTorch; this one by default")
    add("--rows", type=int, default=6000, help="images")
    add("--epochs", type=int, nargs="+", default=[1, 5], help="epochs of a fit")
    add("--repeats", type=int, default=2, help="rounds")
    add("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="which implementations")
    add("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of results")
    add("--run", choices=list(RUNS), help=argparse.SUPPRESS)  # one search, in this process
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    least = CLASSES * FOLDS  # a row of each class in each fold
    if options.rows < least:
        parser.error(f"--rows must be at least {least}, got {options.rows}")
    if min(options.epochs) < 1:
        parser.error(f"--epochs must be at least 1, got {min(options.epochs)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares, prints a table and writes grid.json."""
    options = parse(arguments)
    if options.run:
        print(json.dumps(search_once(options.run, options.rows, options.epochs[0])))
        return
    names = [name for name in RUNS if name in options.only]
    facts: dict[str, Any] = {
        "command": machine.command("benchmarks.grid", arguments),
        "date": machine.today(),
        "processor": machine.processor(),
        "cores": machine.cores(),
        "rows": options.rows,
        "versions": {},
        "device": {},
        "failed": {},
    }

    def once(name: str, epochs: int) -> dict[str, Any]:
        python = options.peers if RUNS[name][0] == "peers" else sys.executable
        return measure(python, name, options.rows, epochs)

    rows: list[Row] = []
    for epochs in options.epochs:
        rows += compare(names, epochs, options.repeats, once, facts)
        write_json(options.out / "grid.json", rows, facts)  # what is measured so far
    print(f"\n{facts['processor']}, {facts['cores']} cores, {options.rows} images")
    print(table(rows))
    print(f"\nresults in {options.out}")


if __name__ == "__main__":
    main()
