"""Times LSTM layers, ours beside Flax, Keras, PyTorch and cuDNN, in one run.

    python -m benchmarks.layer --peers PEERS/bin/python     (or: make bench-layer)
    python -m benchmarks.layer --quick                      (a tiny shape, to see that it works)
    python -m benchmarks.layer --cores 1                    (every library on one core)
    python -m benchmarks.layer --shapes none --lanes        (many models side by side)

What is measured: the shapes of four studies, float32, forward alone and forward+backward (the gradient
of a scalar with respect to all weights and the input), on all cores with each library's own number of
threads. Peers: Flax's ``OptimizedLSTMCell`` in ``nn.RNN`` and Keras's LSTM layers on JAX, both jitted;
Keras's on TensorFlow, in a ``tf.function`` with or without XLA; PyTorch's ``nn.LSTM``; on an NVIDIA GPU
cuDNN's LSTM through ``jax.experimental.rnn``, and PyTorch's is cuDNN's, too. An implementation with
several settings is timed with the one that was fastest when it was prepared; the table names it.

How: each implementation lives in a process of its own (`layer_worker`), ours and Flax in this Python,
Keras and PyTorch in ``--peers``'s, which may be another environment (requirements.txt). All get the
same weights and input, and before a shape is timed each peer's outputs and gradients must equal ours
within ``--tolerance``: an array's largest difference, for gradients by the array's largest entry. A
peer that is missing, fails or disagrees is reported and left out. Then in each round every process in
turn, in an order drawn anew, makes one call to warm up and a batch of timed calls (``--seconds`` long,
3 calls at least) while the others block on stdin. Before each turn stands a pause of 50 ms, since
OpenMP's and XLA's threads spin for a few milliseconds after work; their wait policy is left as it comes
(OMP_WAIT_POLICY is not set), because passive waiting would slow down PyTorch itself. What processor
time the idle processes took between their turns is measured and printed at the end. Medians and
quartiles are over the rounds. A "step" in the table is one time step of one layer.

"kernel" is the operating system's share of the processor time. It is large where each call gets its
temporary memory from the system and gives it back, page by page, which the allocator decides and which
a training program may or may not do; ``--keep-heap`` makes glibc keep it, in all processes alike.

On a GPU all compute in full float32, or with ``--tf32`` all may round to TF32 in matrix products.

``--lanes`` also times many small models at once, each with its own weights and input: ours and Flax
under ``jax.vmap`` and one after another, PyTorch (and cuDNN) one after another. ``--memory`` also
measures what one forward+backward call takes, in a fresh process an implementation and shape: how far
the peak of the resident set grows, and for JAX the temporaries and outputs that XLA states.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import layer_report as report
from benchmarks.layer_case import MODES, Case
from benchmarks.layer_processes import PEERS, PeerError, Worker, say, workers
from benchmarks.machine import cores as usable_cores
from benchmarks.machine import processor, today

SHAPES = {
    "B32-T200": Case(32, 200, 3, 64, 2),
    "B128-T200": Case(128, 200, 3, 64, 2),
    "B1024-T200": Case(1024, 200, 3, 64, 2),
    "B32-T28": Case(32, 28, 28, 150, 1),
    "B128-T28": Case(128, 28, 28, 150, 1),
    "B32-T256": Case(32, 256, 32, 256, 1),
    "B300-T32": Case(300, 32, 32, 32, 5),
}
QUICK = {"quick": Case(4, 8, 3, 8, 2)}
LANES = Case(16, 200, 3, 64, 1)
LANE_NUMBERS = {"cpu": (1, 8, 32), "gpu": (1, 8, 64, 132, 512)}
LANE_PEERS = ("flax", "torch", "cudnn")
PAUSE = 0.05


def disagreement(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[float, str]:
    """The largest difference between two results, and in which array.

    Outputs, which lie in (-1, 1), differ absolutely; gradients by the array's largest entry.
    """
    if set(ours) != set(theirs):
        raise PeerError(f"arrays {sorted(theirs)} instead of {sorted(ours)}")
    worst = (0.0, "output")
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            raise PeerError(f"{name} has shape {theirs[name].shape} instead of {array.shape}")
        scale = 1.0 if name.startswith("output") else max(float(np.abs(array).max()), 1e-30)
        difference = float(np.abs(array - theirs[name]).max()) / scale
        if np.isnan(difference):
            difference = float("inf")
        if difference > worst[0]:
            worst = (difference, name)
    return worst


def prepare(
    case: Case, crew: Sequence[Worker], tolerance: float
) -> list[tuple[Worker, str, dict[str, float]]]:
    """Builds a case everywhere and checks that all compute what ours, the first, computes.

    Returns:
      The settings that agree: worker, setting, estimated seconds of a call by mode.
    """
    agreed = []
    expected: dict[str, Any] | None = None
    reference = ""
    for index, worker in enumerate(crew):
        with tempfile.TemporaryDirectory() as folder:
            try:
                prepared = worker.ask("prepare", case=case._asdict(), save=folder)
            except PeerError as error:
                say(f"{case.label()}: {worker.name} is left out: {error}")
                prepared = {"settings": {}, "failed": {}}
            for setting, reason in prepared["failed"].items():
                say(f"{case.label()}: {worker.name} ({setting}) is left out: {reason}")
            for setting, answer in prepared["settings"].items():
                with np.load(answer["arrays"]) as file:
                    arrays = dict(file)
                if expected is None:
                    expected, reference = arrays, worker.name
                try:
                    difference, name = disagreement(expected, arrays)
                    if not difference <= tolerance:
                        raise PeerError(f"differs from {reference} by {difference:.1e} in {name}")
                except PeerError as error:
                    say(f"{case.label()}: {worker.name} ({setting}) is left out: {error}")
                    continue
                agreed.append((worker, setting, answer["estimates"]))
        if expected is None and not any(
            other.name.startswith(report.OURS) for other in crew[index + 1 :]
        ):
            say(f"{case.label()} is skipped: nothing of ours to compare with")
            return []
    return agreed


def measure(
    case: Case, crew: Sequence[Worker], options: argparse.Namespace, limit: float = float("inf")
) -> list[report.Timing]:
    """Times one case in both modes, the implementations interleaved, and prints the tables.

    Without lanes each implementation is timed with its fastest setting, with lanes with all. A
    setting whose call takes longer than ``limit`` seconds is left out.
    """
    settings = prepare(case, crew, options.tolerance)
    measured: list[report.Timing] = []
    for mode in MODES:
        chosen: dict[Any, tuple[Worker, str, float]] = {}
        for worker, setting, estimates in settings:
            key = (worker.name, setting) if case.lanes else worker.name
            if estimates[mode] > limit:
                say(
                    f"{case.label()}, {mode}: {worker.name} ({setting}) is left out: a call takes"
                    f" {estimates[mode]:.1f} s, the limit is {limit:g} s (--limit)"
                )
            elif key not in chosen or estimates[mode] < chosen[key][2]:
                chosen[key] = (worker, setting, estimates[mode])
        timings = {
            key: report.Timing(
                case, mode, worker.name, setting, calls_for(options.seconds, estimate), [], []
            )
            for key, (worker, setting, estimate) in chosen.items()
        }
        order = random.Random(0)
        for _ in range(options.rounds):
            for key in order.sample(list(timings), len(timings)):
                worker, timing = chosen[key][0], timings[key]
                time.sleep(PAUSE)
                try:
                    answer = worker.ask(
                        "time", setting=timing.setting, mode=mode, calls=timing.calls
                    )
                except PeerError as error:
                    say(f"{case.label()}, {mode}: {worker.name} is left out: {error}")
                    del timings[key]
                    continue
                timing.seconds.append(answer["seconds"])
                timing.kernel.append(answer["kernel"])
                worker.idle.append(answer["idle"])
        if timings:
            say(f"\n{report.table(list(timings.values()))}")
        measured.extend(timings.values())
    return measured


def calls_for(seconds: float, estimate: float) -> int:
    """How many calls a batch has."""
    return max(3, min(10_000, round(seconds / max(estimate, 1e-9))))


def measure_lanes(
    numbers: Sequence[int], crew: Sequence[Worker], options: argparse.Namespace
) -> list[report.Timing]:
    """Times the numbers of lanes in turn; what would surely exceed the limit is not tried."""
    measured: list[report.Timing] = []
    base = QUICK["quick"] if options.quick else LANES
    base = Case(*options.lane_case) if options.lane_case else base
    crew = [w for w in crew if w.name in LANE_PEERS or w.name.startswith(report.OURS)]
    for number in numbers:
        case = base._replace(lanes=number)
        trying = []
        for worker in crew:
            rates = [  # seconds a lane of the last number of lanes
                timing.median() / timing.case.lanes
                for timing in measured
                if timing.name == worker.name and timing.case.lanes == measured[-1].case.lanes
            ]
            if rates and min(rates) * number > options.limit:
                say(
                    f"{case.label()}: {worker.name} is skipped: a call would take about"
                    f" {min(rates) * number:.1f} s, the limit is {options.limit:g} s (--limit)"
                )
            else:
                trying.append(worker)
        measured += measure(case, trying, options, options.limit)
    return measured


def measure_memory(case: Case, options: argparse.Namespace, names: Sequence[str]) -> list[Any]:
    """Measures memory, in a fresh process an implementation."""
    memories = []
    for name in names:
        try:
            with workers([name], options) as (worker,):
                answer = worker.ask("memory", case=case._asdict())
        except PeerError as error:
            say(f"{case.label()}, memory: {name} is left out: {error}")
            continue
        memories.append(report.Memory(case, name, **answer))
    if memories:
        say(f"\n{report.memory_table(memories)}")
    return memories


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shapes", nargs="+", choices=[*SHAPES, "none"], help="which shapes; all by default")
    add("--against", nargs="*", choices=list(PEERS), help="which peers; all by default")
    add(
        "--backend",
        nargs="+",
        default=["auto"],
        help="our backends, each timed: those of jaxlstm.lstm, xla:keep and xla:recompute (auto)",
    )
    add("--peers", default=sys.executable, help="Python of Keras and PyTorch; this one by default")
    add("--rounds", type=int, help="rounds (15)")
    add("--seconds", type=float, help="how long a batch of calls takes (0.15)")
    add("--cores", type=int, default=0, help="pin all to so many cores and threads")
    add("--cpu", action="store_true", help="leave a GPU alone")
    add("--tf32", action="store_true", help="on a GPU, let all use TF32")
    add("--keep-heap", action="store_true", help="let glibc keep freed memory, in all processes")
    add("--tolerance", type=float, help="allowed difference from ours (1e-4; with --tf32 2e-2)")
    add("--timeout", type=float, default=600, help="seconds after which a process is given up")
    add("--quick", action="store_true", help="tiny shapes, 3 rounds")
    add("--memory", action="store_true", help="measure memory, too")
    add("--lanes", nargs="?", const="", help="time lanes, too: 1,8,64,132,512 (CPU: 1,8,32)")
    add("--lane-case", type=int, nargs=5, metavar=tuple("BTFHL"),
        help="shape of a lane: batch, time, features, units, layers (16 200 3 64 1)")  # fmt: skip
    add("--limit", type=float, default=2, help="longest call of a lane's case, in seconds")
    add("--machine", help="the machine's name in the figure; processor and cores by default")
    add("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of results")
    options = parser.parse_args(arguments)
    for name, usual, quick in (("rounds", 15, 3), ("seconds", 0.15, 0.01)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else usual)
    if options.tolerance is None:
        options.tolerance = 2e-2 if options.tf32 else 1e-4
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables and writes layer.csv and layer.png."""
    options = parse(arguments)
    try:
        run(options)
    except PeerError as error:
        raise SystemExit(str(error)) from None


def run(options: argparse.Namespace) -> None:
    """Measures what the options ask for."""
    shapes = list((QUICK if options.quick else SHAPES).values())
    if options.shapes:
        shapes = [SHAPES[name] for name in options.shapes if name != "none"]
        shapes = list(QUICK.values()) if options.quick and shapes else shapes
    ours = [report.OURS]
    if len(options.backend) > 1:
        ours = [f"{report.OURS}[{backend}]" for backend in options.backend]
    against = list(PEERS) if options.against is None else options.against
    timings: list[report.Timing] = []
    memories: list[report.Memory] = []
    with workers([*ours, *against], options) as crew:
        cores = options.cores or usable_cores()
        device = crew[0].device
        machine = f"{processor()}, {cores} core{'s' if cores > 1 else ''}"
        machine = options.machine or (machine if device == "cpu" else f"{device}; {machine}")
        versions: dict[str, str] = {}
        for worker in crew:
            for name, number in worker.versions.items():
                if versions.setdefault(name, number) != number:
                    versions[f"{worker.name}'s {name}"] = number
                    say(f"{worker.name} runs on {name} {number}, ours on {versions[name]}")
        facts = {
            "machine": machine,
            "processor": processor(),
            "cores": cores,
            "device": device,
            "tf32": options.tf32,
            "keep_heap": options.keep_heap,
            "python": platform.python_version(),
            "date": today(),
            "versions": ", ".join(f"{name}={number}" for name, number in versions.items()),
        }
        say(f"{machine}\n{facts['versions']}")

        def write() -> None:
            report.write_csv(options.out / "layer.csv", timings, memories, facts)

        for case in shapes:
            timings += measure(case, crew, options)
            write()  # what is measured so far, should the rest fail
        if options.lanes is not None:
            usual = LANE_NUMBERS["cpu" if device == "cpu" else "gpu"]
            numbers = [int(number) for number in options.lanes.split(",") if number] or usual
            timings += measure_lanes(numbers, crew, options)
            write()
        names = [worker.name for worker in crew]
        idle = {worker.name: max(worker.idle) for worker in crew if worker.idle}
    if options.memory:
        for case in shapes:
            memories += measure_memory(case, options, names)
            write()
    say(f"\n{report.summary(timings)}")
    say(
        "\nmost processor time that a process took between two of its turns, in ms: "
        + ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in idle.items())
    )
    title = f"LSTM layers, float32: {machine}, {facts['date']}"
    report.draw_figure(options.out / "layer.png", timings, title)
    say(f"\nresults in {options.out}")


if __name__ == "__main__":
    main()
