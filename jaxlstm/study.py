"""A search from data to report: what experiments and the command line have in common."""

from __future__ import annotations

import datetime
import importlib.metadata
import io
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from jaxlstm.data import SequenceData
from jaxlstm.grid.base import LaneSearch
from jaxlstm.grid.machine import available_cores
from jaxlstm.held_out import predict_held_out
from jaxlstm.plain_text import shown
from jaxlstm.report import Run, save_run
from jaxlstm.report.files import check_inside, write_atomic
from jaxlstm.report.text import count_text

PACKAGES = ("jaxlstm", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pandas")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def device() -> dict[str, Any]:
    """What the run ran on."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "system": platform.platform(terse=True),
    }


def _cpu_name() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def run_study(
    search: LaneSearch,
    train: SequenceData,
    test: SequenceData | None,
    *,
    folder: Path,
    title: str,
    command: str,
    config: Mapping[str, Any],
    notes: Sequence[str] = (),
    after: Callable[[Any, pd.DataFrame, dict[str, Any]], Mapping[str, Any]] | None = None,
    about: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Run:
    """Searches, refits the best, tests it, and leaves the run in a folder.

    Args:
      search: not fitted yet.
      train: rows that it searches on and refits on.
      test: held-out rows for the refitted winner, if any.
      folder: gets results.csv, curves.csv, config.json, summary.json, predictions.csv, figures,
        report.html and the winner, ``checkpoints/best_estimator.joblib``.
      title: of the report.
      command: shell command that repeats the run.
      config: its settings.
      notes: sentences for the report.
      after: called with the refitted winner and the held-out rows' predictions and scores, both of
        which it may change; what it returns joins the summary.
      about: further facts of the data for the report: ``horizon``, true where the targets are the
        steps of a forecast; ``units`` of the targets.
      console: where to print.

    Returns:
      What was saved.

    Raises:
      OSError: the folder cannot be written; raised before anything is trained.
    """
    console = console or Console()
    check_writable(folder)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Interrupted: ")  # said below, with the way on
        search.fit(train, train.targets, groups_of(search, train))
    if search.interrupted_:
        _say_interrupted(search, console)
        raise KeyboardInterrupt
    wall = time.perf_counter() - start
    compiling = search.compile_time_
    seconds = {
        "compile": compiling,
        "search": max(0.0, wall - search.refit_time_ - compiling),
        "refit": search.refit_time_,
    }
    predictions, scores = None, None
    more: Mapping[str, Any] = {}
    if test is not None:
        start = time.perf_counter()
        predictions, scores = predict_held_out(search.best_estimator_, test)
        seconds["predict"] = time.perf_counter() - start
        more = after(search.best_estimator_, predictions, scores) if after else {}
    best = search.best_index_
    summary = {
        "best": {
            "params": search.best_params_,
            "cell": best,
            "mean_score": search.cv_results_["mean_test_score"][best],
            "std_score": search.cv_results_["std_test_score"][best],
        },
        "scoring": search.scoring or ("r2" if train.task == "regression" else "accuracy"),
        "plan": _plan(search),
        "test": scores,
        "seconds": seconds,
        "notes": list(notes),
        **more,
    }
    data = {
        "name": train.name,
        "source": train.source,
        "rows": len(train) + (len(test) if test else 0),
        "train_rows": len(train),
        "test_rows": len(test) if test else 0,
        "shape": list(train.x.shape[1:]),
        "classes": list(train.classes),
        "sha256": train.sha256,
        **_targets(train, test),
        **(about or {}),
    }
    run = Run(
        results=search.results_,
        curves=_curves(search),
        config={
            "name": folder.name,
            "title": title,
            "command": command,
            "config": dict(config),
            "versions": versions(),
            "device": device(),
            "data": data,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        summary=summary,
        predictions=predictions,
    )
    page = save_run(run, folder)
    _save_estimator(search.best_estimator_, folder / "checkpoints" / "best_estimator.joblib")
    console.print(_table(search))
    if scores:
        name, words = "accuracy", "accuracy"
        if train.task == "regression":
            name, words = ("mase", "MASE") if "mase" in scores else ("r2", "R2")
        of = f"{count_text(scores['steps'], 'step')} of " if "steps" in scores else ""
        console.print(
            f"Test {words} of the refitted winner: [bold]{scores[name]:.4f}[/bold] on"
            f" {of}{count_text(scores['rows'], 'held-out row')}."
        )
    console.print(
        f"{count_text(len(search.results_), 'fit')} in {wall - search.refit_time_:.1f} s, of which"
        f" about {compiling:.1f} s to compile {count_text(search.plan_.programs, 'program')}; refit"
        f" {search.refit_time_:.1f} s."
    )
    say_report(console, page)
    return run


def say_report(console: Console, page: Path) -> None:
    """Prints where a report is."""
    console.print(shown(f"Report: {page}"), soft_wrap=True, highlight=False)


def groups_of(search: LaneSearch, data: SequenceData) -> Any:
    """The groups of a data set where the search's splitter is one that may look at them."""
    return data.groups if hasattr(search.cv, "split") else None


def _say_interrupted(search: LaneSearch, console: Console) -> None:
    console.print(_table(search))
    done = int((search.results_["status"] != "interrupted").sum())
    way_on = "Give --checkpoint-dir to be able to go on another time."
    if search.checkpoint_dir is not None:
        way_on = "The same command goes on from here."
    console.print(f"{done} of {count_text(len(search.results_), 'fit')} are finished. {way_on}")


def _plan(search: LaneSearch) -> dict[str, Any]:
    plan = search.plan_.to_dict()
    spent = search.results_.groupby("group")["fit_seconds"].sum()
    for group in plan["groups"]:
        group["seconds"] = float(spent[group["group"]])
    return plan


def _targets(train: SequenceData, test: SequenceData | None) -> dict[str, Any]:
    """What a report says of targets and lengths."""
    found: dict[str, Any] = {"task": train.task, "per_step": train.per_step}
    names = train.classes if train.task == "multilabel" else train.target_names
    if names:
        found["targets"] = list(names)
    lengths = [part.lengths for part in (train, test) if part is not None]
    if any(part is not None for part in lengths):
        parts = [part for part in (train, test) if part is not None]
        steps = np.concatenate([[len(row) for row in part.as_list()] for part in parts])
        found["lengths"] = [int(steps.min()), float(np.median(steps)), int(steps.max())]
    return found


def _curves(search: LaneSearch) -> pd.DataFrame:
    """The search's curves and, as trial -1, the refit's."""
    last = search.best_estimator_
    history = (last.steps[-1][1] if hasattr(last, "steps") else last).history_
    refit = pd.DataFrame(
        {
            "trial": -1,
            "cell": -1,
            "fold": -1,
            "epoch": np.arange(1, len(history["loss"]) + 1),
            "learning_rate": history["learning_rate"],
        }
    )
    for name in history:
        if name.startswith("val_"):
            own = name.removeprefix("val_")
            refit[f"train_{own}"], refit[name] = history[own], np.nan
    return pd.concat([search.curves_, refit], ignore_index=True)


def check_writable(folder: Path) -> None:
    """Raises OSError where the results folder cannot be made or written, or has links out of it."""
    probe = folder / ".writable"
    try:
        check_inside(folder, [probe.name, "checkpoints", "figures", "tables"])
    except ValueError as error:
        raise OSError(str(error)) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"the results folder {folder} cannot be written: {error}") from error


def _save_estimator(estimator: Any, path: Path) -> None:
    import joblib

    path.parent.mkdir(exist_ok=True)
    content = io.BytesIO()
    joblib.dump(estimator, content)
    write_atomic(path, content.getvalue())


def _table(search: LaneSearch, rows: int = 5) -> Table:
    results = search.cv_results_
    names = [name for name in results if name.startswith("param_")]
    cells = min(rows, len(results["params"]))
    table = Table(title="The best cell" if cells == 1 else f"The best {cells} cells")
    for name in ["rank", *(name.removeprefix("param_") for name in names), "score", "std"]:
        table.add_column(
            shown(name), justify="right" if name in ("rank", "score", "std") else "left"
        )
    for cell in np.argsort(results["rank_test_score"], kind="stable")[:rows]:
        table.add_row(
            str(results["rank_test_score"][cell]),
            *(
                "" if np.ma.is_masked(results[name][cell]) else shown(results[name][cell])
                for name in names
            ),
            f"{results['mean_test_score'][cell]:.4f}",
            f"{results['std_test_score'][cell]:.4f}",
        )
    return table
