"""How long the data sets take to load, and how much memory: each load in a process of its own.

    python -m benchmarks.data --data FOLDER
    python -m benchmarks.data --data FOLDER --rounds 1 --cases faces ravdess ravdess-cached

FOLDER holds the files under CASES; a data set that is not there is reported and left out. In each
round every case runs once, in an order drawn anew, each in a fresh Python process that has imported
all of `jaxlstm.data` before the clock starts; what the loader itself imports counts. Files are read
once before, so they come from the system's memory.

    wisdm              1,098,207 rows of text, as many as WISDM v1.1 has: the 729,600 rows of the file,
                       and some of them again as other people's
    faces              35,887 JPEG files in a tar.gz, resized to 32 x 32
    handwriting62      6,199 characters in the format of EMNIST
    ravdess            MFCC of 1,012 songs, computed and kept
    ravdess-1, -2      the same in one process, and in two others
    ravdess-new        the same right after librosa was installed: numba compiles it first
    ravdess-cached     the same, found again

Memory is the process's own peak plus, for each process it started, the largest peak among those: more
than was ever held at once. Medians and quartiles are over the rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks import machine

WISDM_ROWS = 1_098_207
RAVDESS = "ravdess_song/ravdess_song_22050hz_flac.tar"


class Case(NamedTuple):
    """A data set to load."""

    file: str  # or folder, within the folder of data
    load: Callable[[Path, Path], Any]  # of its path and a folder to write into
    aim: float | None = None  # seconds
    processes: int = 0  # that are started beside the loading one, where that is fixed
    environment: Mapping[str, str] = {}  # "{empty}" stands for a new, empty folder


class Run(NamedTuple):
    """One load."""

    seconds: float
    importing: float  # seconds, of jaxlstm.data
    megabytes: float
    items: int
    skipped: int


class LoadError(Exception):
    """A case can't be measured; says why."""


def _wisdm(path: Path, scratch: Path) -> Any:
    from jaxlstm.data import load_wisdm

    return load_wisdm(path)


def _faces(path: Path, scratch: Path) -> Any:
    from jaxlstm.data import load_faces

    return load_faces(path)


def _characters(path: Path, scratch: Path) -> Any:
    from jaxlstm.data import load_emnist

    return load_emnist(path=path)


def _songs(n_jobs: int | None, kept: bool = False) -> Callable[[Path, Path], Any]:
    def load(path: Path, scratch: Path) -> Any:
        from jaxlstm.data import load_ravdess

        # Kept features lie in one folder for all rounds; new ones go to one that is empty.
        cache = scratch / "kept" if kept else Path(tempfile.mkdtemp(dir=scratch))
        return load_ravdess(path, cache=cache, n_jobs=n_jobs)

    return load


CASES = {
    "wisdm": Case("wisdm_2019/WISDM_2019_watch_raw.txt.gz", _wisdm, 2),
    "faces": Case("fer2013/fer2013_images.tar.gz", _faces, 20),
    "handwriting62": Case("handwriting62", _characters),
    "ravdess": Case(RAVDESS, _songs(None), 60),
    "ravdess-1": Case(RAVDESS, _songs(1), 60),
    "ravdess-2": Case(RAVDESS, _songs(2), 60, processes=2),
    "ravdess-new": Case(RAVDESS, _songs(None), 60, environment={"NUMBA_CACHE_DIR": "{empty}"}),
    "ravdess-cached": Case(RAVDESS, _songs(None, kept=True)),
}


def lengthen(source: Path, target: Path, rows: int) -> None:
    """Writes so many lines of a gzipped text; from the second time on as other people's."""
    written = turn = 0
    with target.open("wb") as out:
        while written < rows:
            before = written
            with gzip.open(source) as lines:
                for line in lines:
                    if written == rows:
                        break
                    out.write((b"%d" % turn if turn else b"") + line)
                    written += 1
            if written == before:
                raise LoadError(f"{source} has no lines")
            turn += 1


def load_once(name: str, path: Path, scratch: Path) -> Run:
    """Loads a data set in this process and measures it."""
    import resource

    start = time.perf_counter()
    import jaxlstm.data

    for public in jaxlstm.data.__all__:  # read on first use
        getattr(jaxlstm.data, public)
    imported = time.perf_counter()
    case = CASES[name]
    data = case.load(path, scratch)
    seconds = time.perf_counter() - imported
    if case.processes:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)  # their peaks are known once they are gone
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak += case.processes * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    parts = list(data.values()) if isinstance(data, Mapping) else [data]
    return Run(
        seconds,
        imported - start,
        peak / (1e6 if sys.platform == "darwin" else 1e3),
        sum(len(part) for part in parts),
        sum(sum(part.dropped.values()) for part in parts),
    )


def load_in_a_process(name: str, path: Path, scratch: Path) -> Run:
    """The same in a fresh process."""
    empty = tempfile.mkdtemp(dir=scratch)
    environment = {key: value.format(empty=empty) for key, value in CASES[name].environment.items()}
    words = ["--worker", name, "--data", str(path), "--scratch", str(scratch)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise LoadError(lines[-1])
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def prepare(names: Sequence[str], data: Path, scratch: Path) -> dict[str, Path]:
    """Paths to load from, of the cases whose files are there."""
    found = {}
    for name in names:
        path = data / CASES[name].file
        if not path.exists():
            print(f"{name} is left out: {path} is not there", flush=True)
            continue
        if name == "wisdm":
            longer = scratch / "wisdm_raw.txt"
            lengthen(path, longer, WISDM_ROWS)
            path = longer
        found[name] = path
    return found


def measure(
    paths: Mapping[str, Path], rounds: int, load: Callable[[str, Path], Run]
) -> dict[str, list[Run]]:
    """Loads all in rounds; one that fails, or gives another number of items, is left out."""
    found: dict[str, list[Run]] = {name: [] for name in paths}
    order = random.Random(0)

    def attempt(name: str) -> Run | None:
        try:
            run = load(name, paths[name])
            if found[name] and run.items != found[name][0].items:
                raise LoadError(f"{run.items} items, {found[name][0].items} the first time")
        except LoadError as error:
            print(f"{name} is left out: {error}", flush=True)
            del found[name]
            return None
        return run

    for name in paths:  # reads the files, and keeps the features of the case that finds them again
        attempt(name)
    for index in range(rounds):
        for name in order.sample(list(found), len(found)):
            run = attempt(name)
            if run is not None:
                found[name].append(run)
                print(f"round {index + 1} of {rounds}, {name}: {run.seconds:.3f} s", flush=True)
    return {name: runs for name, runs in found.items() if runs}


def ratio(found: Mapping[str, Sequence[Run]]) -> float | None:
    """How many times faster features are found again than computed."""
    if not {"ravdess", "ravdess-cached"} <= set(found):
        return None
    first, again = (
        statistics.median(run.seconds for run in found[name])
        for name in ("ravdess", "ravdess-cached")
    )
    return first / again


def table(found: Mapping[str, Sequence[Run]]) -> str:
    """Table of all cases."""
    lines = [
        f"{'data set':<16} {'items':>7} {'s':>8}  {'quartiles':<17} {'aim, s':>7} {'import, s':>9}"
        f" {'MB':>7} {'left out':>9}"
    ]
    for name, runs in found.items():
        low, middle, high = machine.quartiles([run.seconds for run in runs])
        aim = CASES[name].aim
        lines.append(
            f"{name:<16} {runs[0].items:>7} {middle:>8.3f}  {f'{low:.3f} - {high:.3f}':<17}"
            f" {'' if aim is None else f'{aim:g}':>7}"
            f" {statistics.median(run.importing for run in runs):>9.2f}"
            f" {max(run.megabytes for run in runs):>7.0f} {runs[0].skipped:>9}"
        )
    times = ratio(found)
    if times is not None:
        lines.append(f"features are found again {times:.0f} times faster than computed (aim: 50)")
    return "\n".join(lines)


def write_csv(path: Path, found: Mapping[str, Sequence[Run]], facts: Mapping[str, Any]) -> None:
    """Writes one row a case; each repeats the facts about the run."""
    rows = []
    for name, runs in found.items():
        low, middle, high = machine.quartiles([run.seconds for run in runs])
        figures = {
            "median_s": middle,
            "q1_s": low,
            "q3_s": high,
            "import_s": statistics.median(run.importing for run in runs),
            "peak_mb": max(run.megabytes for run in runs),
        }
        rows.append(
            {
                "case": name,
                "rounds": len(runs),
                "items": runs[0].items,
                "left_out": runs[0].skipped,
                **{key: f"{figure:.5g}" for key, figure in figures.items()},
                "aim_s": CASES[name].aim,
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
    add("--data", type=Path, required=True, help="folder of the data sets")
    add("--rounds", type=int, default=5, help="rounds")
    add("--cases", nargs="*", choices=list(CASES), default=list(CASES), help="which; all")
    add("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of results")
    add("--worker", choices=list(CASES), help=argparse.SUPPRESS)
    add("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes data.csv."""
    options = parse(arguments)
    if options.worker:
        print(json.dumps(load_once(options.worker, options.data, options.scratch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        paths = prepare(options.cases, options.data.absolute(), scratch)
        found = measure(
            paths, options.rounds, lambda name, path: load_in_a_process(name, path, scratch)
        )
    if not found:
        raise SystemExit("nothing was measured")
    libraries = ["jaxlstm", "numpy", "pandas", "librosa", "numba", "soundfile", "pillow", "joblib"]
    facts = {
        "machine": f"{machine.processor()}, {machine.cores()} cores",
        "python": ".".join(map(str, sys.version_info[:3])),
        "date": machine.today(),
        "versions": ", ".join(
            f"{name}={number}" for name, number in machine.versions(libraries).items()
        ),
        # The folder's place says nothing to another reader.
        "command": machine.command("benchmarks.data", arguments).replace(
            str(options.data), "FOLDER"
        ),
    }
    print(f"\n{facts['machine']}\n{facts['versions']}\n\n{table(found)}")
    write_csv(options.out / "data.csv", found, facts)
    print(f"\nresults in {options.out}")


if __name__ == "__main__":
    main()
