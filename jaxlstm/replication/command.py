"""A study's command line: its searches one after another, resumable, and one page of them all."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import pandas as pd
import tyro
from rich.console import Console

from jaxlstm.cli import FLAGS, parse_arguments, settings, user_errors
from jaxlstm.data import SequenceData
from jaxlstm.grid import program_cache
from jaxlstm.grid.base import LaneSearch
from jaxlstm.grid.describe import human_bytes, human_seconds
from jaxlstm.grid.fingerprint import code_version, digest
from jaxlstm.grid.journal import sealed, unsealed
from jaxlstm.grid.plan import LAYOUT_NAMES, Plan
from jaxlstm.plain_text import shown
from jaxlstm.replication.findings import Findings
from jaxlstm.replication.parts import Part, Trained
from jaxlstm.report import Section, Table, save_study
from jaxlstm.report.files import csv_text, write_atomic
from jaxlstm.report.text import count_text
from jaxlstm.study import check_writable, device, say_report, versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replication:
    """Options that every study's command has; a study's configuration extends it."""

    preset: str = "cpu"
    """smoke: made-up data, under a minute; cpu: real data, reduced to minutes on two cores; paper: the
    report's own sizes, for an accelerator. It sets the defaults of all other options."""
    data: Path | None = None
    """The raw data, a file or a folder; without it they are downloaded, where that can be done."""
    seeds: int = 3
    """Seeds of each final model, 1 or more."""
    seed: int = 0
    """Seed of splits, initial weights, shuffling, dropout and augmentation."""
    results: Path = Path("results")
    """Folder for the results; the study goes into one of its own in it."""
    plan: bool = False
    """Print what would be compiled and run, and about how long it takes, and stop."""


Config = TypeVar("Config", bound=Replication)


def run_replication(
    presets: Mapping[str, Config],
    load: Callable[[Config], Mapping[str, SequenceData]],
    parts: Callable[[Config, Mapping[str, SequenceData]], Sequence[Part]],
    find: Callable[[Config, Mapping[str, SequenceData], Mapping[str, Trained]], Findings],
    *,
    name: str,
    title: str,
) -> None:
    """A study's command line: each field of its configuration is an option.

    It leaves ``results/<name>/``: ``report.html``, ``figures/``, ``tables/``, ``comparison.csv``,
    ``results.csv`` (every fit), ``curves.csv`` (every epoch), ``config.json`` and ``checkpoints/``,
    from which the same command goes on after a kill; once all is finished it draws the page again.

    Args:
      presets: a configuration for each word of ``--preset``, "cpu" among them.
      load: gets the data.
      parts: says what to train.
      find: says what came out.
      name: of the module in ``experiments``, and of its folder of results.
      title: of the page.
    """
    with user_errors(), contextlib.ExitStack() as stack:
        config = _configuration(presets, name)
        if config.preset == "smoke":
            stack.enter_context(_compiled_quickly())
        console = Console()
        folder = config.results / name
        if not config.plan:
            check_writable(folder)
        data = load(config)
        every = list(parts(config, data))
        if config.plan:
            _print_plan(every, console)
            return
        start = time.perf_counter()
        # The data are known by their content, not by their place.
        chosen = {name: value for name, value in settings(config).items() if name != "data"}
        saves = folder / "checkpoints" / f"{config.preset}-{digest(chosen)[:8]}"
        try:
            trained = {
                part.name: _train(part, saves, f"{number}/{len(every)}", console)
                for number, part in enumerate(every, 1)
            }
        except KeyboardInterrupt:
            console.print("Interrupted. The same command goes on from here.")
            raise SystemExit(130) from None
        console.print("Writing the report ...")
        findings = find(config, data, trained)
        page = _save(findings, config, data, trained, folder, title)
        console.print(shown(findings.headline), highlight=False)
        spent = sum(one.seconds for one in trained.values())
        console.print(
            f"{count_text(sum(len(one.results) for one in trained.values()), 'fit')} in"
            f" {human_seconds(spent)}; this command {human_seconds(time.perf_counter() - start)}."
        )
        say_report(console, page)


@contextlib.contextmanager
def _compiled_quickly() -> Iterator[None]:
    """Leaves out most of XLA's optimisations: a few steps are not worth their time to compile.

    Compiling takes less than half the time then. The flag is read when JAX's backend starts; a jaxlib
    that does not know it stops.
    """
    if importlib.metadata.version("jaxlib").startswith("0.9."):
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
        if not before:
            program_cache.clear()


def _configuration(presets: Mapping[str, Config], name: str) -> Config:
    """The preset that the command line names, with the options it gives."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default="cpu")
    try:
        preset = first.parse_known_args()[0].preset
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}.") from None
    if preset not in presets:
        raise ValueError(f"--preset must be one of {', '.join(presets)}, got {preset!r}.")
    default = dataclasses.replace(presets[preset], preset=preset)
    program = f"python -m experiments.{name}"
    config = parse_arguments(
        lambda given: tyro.cli(
            type(default), default=default, prog=program, args=given, config=FLAGS
        )
    )
    if config.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {config.seeds}.")
    return config


def _print_plan(every: Sequence[Part], console: Console) -> None:
    total = 0.0
    for part in every:
        plan = part.search.plan(part.data)
        title = shown(f"{part.name}: {part.title}")
        console.print(title, style="bold", soft_wrap=True, highlight=False)
        console.print(shown(f"{plan}\n"), soft_wrap=True, highlight=False)
        total += plan.seconds or 0.0
    console.print(f"All together: about {human_seconds(total)} of training on this machine.")


def _train(part: Part, saves: Path, place: str, console: Console) -> Trained:
    """Fits a part, from where a sitting before left it; what is finished is read."""
    title = shown(f"{place} {part.title}")
    console.print(title, style="bold", soft_wrap=True, highlight=False)
    trained = _fit(part, saves, console)
    if trained.code != code_version():
        console.print(shown(f"   as trained by {trained.code}; remove {saves} to train it again"))
    failed = int((trained.results["status"] == "failed").sum())
    diverged = f", {failed} diverged" if failed else ""
    console.print(f"   {count_text(len(trained.results), 'fit')} in {trained.time}{diverged}")
    return trained


@dataclasses.dataclass(frozen=True)
class _Sittings:
    """What is known of a part's training beside its fits; plain data in a file."""

    seconds: float = 0.0
    state: str = "new"  # "running", "interrupted", "finished"
    whole: bool = True  # False: a sitting was killed, whose seconds nobody has counted
    code: str = ""
    plan: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, console: Console) -> _Sittings:
        """What a file says; nothing where there is none, or it is damaged, which is said."""
        if not path.exists():
            return cls()
        try:
            found = cls(**unsealed(f"sittings of {path.stem}", path.read_bytes()))
        except (ValueError, TypeError):
            console.print(
                shown(f"   {path} is damaged: how long it took before is not known"), soft_wrap=True
            )
            return cls(whole=False)
        # A sitting that did not say how it ended was killed.
        return dataclasses.replace(found, whole=found.whole and found.state != "running")

    def write(self, path: Path) -> None:
        write_atomic(path, sealed(f"sittings of {path.stem}", dataclasses.asdict(self)))


def _fit(part: Part, saves: Path, console: Console) -> Trained:
    clock = saves / f"{part.name}.json"
    clock.parent.mkdir(parents=True, exist_ok=True)
    before = _Sittings.read(clock, console)
    done = before.state == "finished"
    search = part.search
    search.set_params(checkpoint_dir=saves / part.name, verbose=0 if done else 1)
    # A finished part is read whatever code has trained it.
    search._trained_by = before.code if done else None

    def note(state: str, seconds: float) -> _Sittings:
        now = dataclasses.replace(
            before, state=state, seconds=before.seconds + seconds, code=code_version()
        )
        if state == "finished":
            now = dataclasses.replace(now, plan=_plan_row(search))
        now.write(clock)
        return now

    if not done:
        note("running", 0.0)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Interrupted: ")  # said below
        try:
            search.fit(part.data)
        except KeyboardInterrupt:
            if not done:
                note("interrupted", time.perf_counter() - start)
            raise
    spent = time.perf_counter() - start
    if search.interrupted_:
        if not done:
            note("interrupted", spent)
        finished = int((search.results_["status"] != "interrupted").sum())
        console.print(f"   {finished} of {count_text(len(search.results_), 'fit')} are finished")
        raise KeyboardInterrupt
    now = before if done else note("finished", spent)
    return Trained(part, search, now.seconds, now.whole, now.code, now.plan)


def _save(
    findings: Findings,
    config: Replication,
    data: Mapping[str, SequenceData],
    trained: Mapping[str, Trained],
    folder: Path,
    title: str,
) -> Path:
    for file, tables in (
        ("results.csv", {name: one.results for name, one in trained.items()}),
        ("curves.csv", {name: one.curves for name, one in trained.items()}),
    ):
        table = pd.concat([table.assign(part=name) for name, table in tables.items()])
        table.insert(0, "part", table.pop("part"))
        write_atomic(folder / file, csv_text(table, {}, file))
    seconds = {name: one.seconds for name, one in trained.items()}
    config_json = {
        "name": folder.name,
        "title": title,
        "command": shlex.join(["python", "-m", f"experiments.{folder.name}", *sys.argv[1:]]),
        "config": settings(config),
        "versions": versions(),
        "device": device(),
        "data": {split: _described(part) for split, part in data.items()},
        "seconds": seconds,
        # False: a sitting was killed, and its seconds are not counted.
        "seconds_are_whole": {name: one.is_whole for name, one in trained.items()},
        "code": {name: one.code for name, one in trained.items()},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return save_study(
        folder,
        config=config_json,
        headline=findings.headline,
        tiles=findings.tiles,
        comparison=findings.comparison.table,
        sections=[*findings.sections, _plan_section(trained)],
        notes=findings.notes,
    )


def _plan_row(search: LaneSearch) -> dict[str, Any]:
    plan: Plan = search.plan_
    # Programs compile in the workers, side by side; those of all sittings are counted.
    compiling = float(search.results_["compile_seconds"].sum()) / plan.workers
    return {
        "fits": plan.fits,
        "lanes": plan.lanes,
        "programs": plan.programs,
        "how lanes run": LAYOUT_NAMES[plan.layout],
        "workers": plan.workers,
        "memory": human_bytes(plan.bytes) if plan.bytes else "not measured",
        "compiling": human_seconds(compiling),
    }


def _plan_section(trained: Mapping[str, Trained]) -> Section:
    rows = [{"part": one.part.title, **one.plan, "time": one.time} for one in trained.values()]
    words = (
        "A lane is a training run; fits that differ in epochs alone share one. Each program is compiled"
        " once and trains all lanes of its network's shape. The time holds the compiling; seconds of a"
        " fit elsewhere on this page do not."
    )
    return Section("The plan", [words], [Table("plan", pd.DataFrame(rows))])


def _described(data: SequenceData) -> dict[str, Any]:
    return {
        "name": data.name,
        "rows": len(data),
        "shape": list(data.x.shape[1:]),
        "classes": list(data.classes),
        "left_out": sum(data.dropped.values()),
        "sha256": data.sha256,
    }
