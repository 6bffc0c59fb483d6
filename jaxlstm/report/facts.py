"""What a report says first: the counts behind a run, its headline and its tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from jaxlstm.report.files import Run
from jaxlstm.report.outcome import outcome, outcome_tiles
from jaxlstm.report.problem import Problem, is_number, problem_of, section
from jaxlstm.report.tables import (
    PREFIX,
    best_cell,
    parameter_columns,
    parameter_values,
    rank_cells,
)
from jaxlstm.report.text import (
    bytes_text,
    count_text,
    duration_text,
    is_missing,
    score_digits,
    score_note,
    score_text,
    value_text,
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """A run, counted once for all sections of its report.

    Attributes:
        run: The run.
        cells: Its cells by rank, as `rank_cells` returns them.
        winner: The best cell's index, or None where no cell has a score.
        params: The best cell's hyperparameters, name to value.
        mean: The best cell's mean score; NaN without a winner.
        std: The standard deviation over its folds and seeds.
        varied: The `param_` columns with more than one value.
        fits: How many trials there are.
        failed: How many of them failed.
        folds: How many folds there are.
        seeds: How many seeds there are.
        scoring: What the scores are.
        digits: Decimals of the scores.
        problem: The task.
    """

    run: Run
    cells: pd.DataFrame
    winner: int | None
    params: dict[str, Any]
    mean: float
    std: float
    varied: list[str]
    fits: int
    failed: int
    folds: int
    seeds: int
    scoring: str
    digits: int
    problem: Problem

    @property
    def score_note(self) -> str:
        """A sentence on how to read the scores, or an empty text."""
        return score_note(self.scoring, self.run.results["score"])

    @property
    def fits_text(self) -> str:
        """How the fits come about, cells by folds by seeds."""
        parts = [count_text(len(self.cells), "cell"), count_text(self.folds, "fold")]
        if self.seeds > 1:
            parts.append(count_text(self.seeds, "seed"))
        return " \N{MULTIPLICATION SIGN} ".join(parts)

    @property
    def total_seconds(self) -> float | None:
        """The sum of all times that were taken, or None."""
        times = [
            value for value in section(self.run.summary, "seconds").values() if is_number(value)
        ]
        return float(sum(times)) if times else None


def count_facts(run: Run) -> Facts:
    """Count a run once for all sections.

    Args:
        run: The run.

    Returns:
        The facts.
    """
    results = run.results
    cells = rank_cells(results)
    best = section(run.summary, "best")
    winner = best_cell(results, best.get("cell"))
    params: dict[str, Any] = dict(section(best, "params"))
    mean, std = best.get("mean_score"), best.get("std_score")
    row = cells[cells["cell"] == winner]
    if len(row):
        first = row.iloc[0]
        mean = first["mean"] if not is_number(mean) else mean
        std = first["std"] if not is_number(std) else std
        params = params or {
            name.removeprefix(PREFIX): first[name] for name in parameter_columns(cells)
        }
    return Facts(
        run=run,
        cells=cells,
        winner=winner,
        params=params,
        mean=float(mean) if is_number(mean) else np.nan,
        std=float(std) if is_number(std) else np.nan,
        varied=[name for name, values in parameter_values(cells).items() if len(values) > 1],
        fits=len(results),
        failed=int((results["status"] != "ok").sum()),
        folds=int(results["fold"].nunique()),
        # Folds may have seeds of their own: what counts is how many share a cell and a fold.
        seeds=int(results.groupby(["cell", "fold"])["seed"].nunique().max()) if len(results) else 0,
        scoring=str(run.summary.get("scoring") or "score"),
        digits=score_digits(results["score"]),
        problem=problem_of(run.config),
    )


def params_text(params: Mapping[str, Any]) -> str:
    """Return hyperparameters in one line, `units (150, 75), dropout 0.2`."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in params.items())


def device_text(device: Mapping[str, Any]) -> str:
    """Return the machine in a few words, `2 cores of an AMD EPYC`, or an empty text."""
    kind, count = device.get("kind"), device.get("count")
    if device.get("platform") in (None, "cpu"):
        cores, cpu = device.get("cores"), device.get("cpu") or kind
        if cpu in (None, "cpu"):
            return count_text(cores, "CPU core") if is_number(cores) and cores else ""
        return f"{count_text(cores, 'core')} of {cpu}" if is_number(cores) and cores else str(cpu)
    name = str(kind or device["platform"])
    return f"{count} \N{MULTIPLICATION SIGN} {name}" if is_number(count) and count != 1 else name


def headline(facts: Facts) -> Markup:
    """Return the report's first paragraph: how much was trained, what won, how good it is."""
    plan = section(facts.run.summary, "plan")
    bold = Markup("<b>{}</b>").format
    sentence = Markup("{} ({})").format(bold(count_text(facts.fits, "fit")), facts.fits_text)
    if is_number(plan.get("programs")):
        programs = bold(count_text(plan["programs"], "compiled program"))
        sentence += Markup(" trained as {} of {}").format(
            "one lane" if facts.fits == 1 else "lanes", programs
        )
    else:
        sentence += Markup(" trained")
    if facts.total_seconds is not None:
        sentence += Markup(" in {}").format(bold(duration_text(facts.total_seconds)))
    machine = device_text(section(facts.run.config, "device"))
    if machine:
        sentence += Markup(" on {}").format(machine)
    parts = [sentence + Markup(".")]
    if facts.winner is None:
        parts.append(Markup("<b>No cell has a score</b>, so there is no winner."))
    else:
        text = params_text(
            {
                name: value
                for name, value in facts.params.items()
                if not facts.varied or PREFIX + name in facts.varied
            }
        )
        name = Markup("The best cell, <code>{}</code>,").format(text) if text else "The best cell"
        over = Markup(" over {}").format(
            "its one fold" if facts.folds == 1 else f"the {facts.folds} folds"
        )
        parts.append(
            Markup("{} reaches a mean {} of {}{}.").format(
                name, facts.scoring, bold(_plus_minus(facts)), over
            )
        )
        if facts.score_note:
            parts.append(Markup("{}").format(facts.score_note))
    parts += outcome(facts.problem, facts.run.summary)
    if facts.failed == facts.fits:
        parts.append(Markup('<b class="bad">Every fit failed.</b>'))
    elif facts.failed:
        parts.append(
            Markup('<b class="bad">{} failed.</b>').format(count_text(facts.failed, "fit"))
        )
    return Markup(" ").join(parts)


def tiles(facts: Facts) -> list[dict[str, Any]]:
    """Return the main numbers: each a label, a value, a note, and whether it is bad news."""
    summary = facts.run.summary
    plan, seconds = section(summary, "plan"), section(summary, "seconds")
    found: list[dict[str, Any]] = []

    def add(label: str, value: str, note: str = "", bad: bool = False) -> None:
        found.append({"label": label, "value": value, "note": note, "bad": bad})

    found += outcome_tiles(facts.problem, summary)
    if facts.winner is not None:
        spread = "" if is_missing(facts.std) else f"± {score_text(facts.std, facts.digits)}, "
        note = f"{spread}{count_text(facts.folds, 'fold')}"
        add(f"Best mean {facts.scoring}", score_text(facts.mean, facts.digits), note)
    add(
        "Fits",
        f"{facts.fits:,}",
        f"{facts.failed:,} failed" if facts.failed else facts.fits_text,
        bool(facts.failed),
    )
    if is_number(plan.get("programs")):
        compile_time = seconds.get("compile")
        note = f"{duration_text(compile_time)} to compile" if is_number(compile_time) else ""
        add("Compiled programs", f"{plan['programs']:,}", note)
    if facts.total_seconds is not None:
        search = seconds.get("search")
        note = f"{duration_text(search / facts.fits)} a fit" if is_number(search) else ""
        add("Time", duration_text(facts.total_seconds), note)
    if is_number(plan.get("bytes")):
        add("Memory planned", bytes_text(plan["bytes"]), "on the device")
    return found


def _plus_minus(facts: Facts) -> str:
    if is_missing(facts.std):
        return score_text(facts.mean, facts.digits)
    return f"{score_text(facts.mean, facts.digits)} ± {score_text(facts.std, facts.digits)}"
