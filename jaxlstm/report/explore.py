"""A data set's page: counts, samples, sizes, what is missing, what is there twice."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxlstm.report.data_tables import (
    Exploration,
    choose_samples,
    sample_groups,
)
from jaxlstm.report.draw import PHONE, Drawn, write_figures
from jaxlstm.report.explore_page import render_exploration
from jaxlstm.report.figure_counts import (
    MOST_CLASSES,
    MOST_TARGETS,
    class_counts,
    length_histogram,
    people_map,
    target_histograms,
)
from jaxlstm.report.figure_samples import (
    MOST_IMAGES,
    MOST_LINES,
    MOST_PANELS,
    Sample,
    image_sheet,
    spectrum_sheet,
    trace_sheet,
)
from jaxlstm.report.files import check_inside, csv_text, json_text, write_atomic
from jaxlstm.report.sequences import Sequences
from jaxlstm.report.target_tables import bin_targets

Kind = Literal["image", "audio", "sequence"]
#: Reads the recordings behind some of a split's rows: each row's samples and their rate in Hz.
Waves = Callable[[str, Sequence[int]], Mapping[int, tuple[np.ndarray, float]]]

#: Of any page in the same folder before: they are not this one's.
_SHEETS = ("samples", "samples_train", "samples_test", "samples_validation")


def save_exploration(
    found: Exploration,
    folder: str | os.PathLike[str],
    *,
    kind: Kind = "sequence",
    config: Mapping[str, Any] | None = None,
    samples: int = 8,
    seed: int = 0,
    waves: Waves | None = None,
) -> Path:
    """Write a data set's page, its figures and their numbers.

    Everything is drawn before the first file is touched, each file is written whole or not at
    all, and the page comes last.

    Args:
        found: The data set, counted.
        folder: Where to; made if it does not exist, and what it held of an earlier page replaced.
        kind: What a row is: an image, the coefficients of a recording, or a sequence.
        config: As a run's: name, title, command, config, versions, created; any may be missing.
        samples: Rows of each class on the sheets; fewer of them where they are large.
        seed: Of the draw of those rows.
        waves: Reads a recording again.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: `samples` is below 1, or a file of the folder is a link out of it.
    """
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, got {samples}.")
    folder, config = Path(folder), dict(config or {})
    shown = {
        split: _samples(data, split, kind, samples, seed, waves)
        for split, data in found.splits.items()
        if len(data.x)
    }
    bins = None if found.targets is None else bin_targets(found.splits)
    words = f"Rows drawn at random (seed {seed}){_drawn_from(found)}"
    wide, narrow = (_figures(found, bins, kind, width, shown, words) for width in (10.0, PHONE))
    texts = {
        "counts.csv": None if found.counts is None else csv_text(found.counts, {}, "counts"),
        "targets.csv": None if bins is None else csv_text(bins, {}, "targets"),
        "people.csv": None if found.people is None else csv_text(found.people, {}, "people"),
        "duplicates.csv": csv_text(found.twins, {}, "duplicates"),
        "data.json": json_text(_facts(found, config), "config"),
    }
    sheets = _sheet_names(found)
    names = dict.fromkeys(
        ["class_counts", "targets", *_SHEETS, *sheets.values(), "people", "lengths"]
    )
    check_inside(folder, [*texts, "report.html"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the results folder {folder} cannot be written: {error}") from error
    images = write_figures(folder, names, wide, narrow)
    for name, text in texts.items():
        if text is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_atomic(folder / name, text)
    path = folder / "report.html"
    files = [name for name, text in texts.items() if text is not None]
    write_atomic(path, render_exploration(found, images, sheets, files, config))
    return path


def _drawn_from(found: Exploration) -> str:
    """Returns what the rows on the sheets are drawn from, as the end of a sentence."""
    if found.classes and not found.first.per_step:
        return f" from each {_noun(found)}"
    return " from each third of the target" if len(sample_groups(found.first)) > 1 else ""


def _noun(found: Exploration) -> str:
    return "label" if found.first.task == "multilabel" else "class"


def _sheet_names(found: Exploration) -> dict[str, str]:
    """Returns the files' names of the splits' sheets; a split may be called anything."""
    if len(found.splits) == 1:
        return dict.fromkeys(found.splits, "samples")
    return {
        split: f"samples_{split}" if split.isidentifier() else f"samples_{number}"
        for number, split in enumerate(found.splits)
    }


def _samples(
    data: Sequences, split: str, kind: Kind, count: int, seed: int, waves: Waves | None
) -> list[tuple[str, list[Sample]]]:
    """Returns the rows of each class that the widest sheet shows."""
    x = data.x if data.x.ndim > 2 else data.x[:, :, None]
    names = [name for name, _ in sample_groups(data)]
    many = len(names) > 12
    most = 12 if kind == "image" else 1 if many else 3
    chosen = choose_samples(data, min(count, most), seed)
    drawn = [int(row) for rows in chosen[:MOST_PANELS] for row in rows]
    found = waves(split, drawn) if waves else {}
    shown = []
    for name, rows in zip(names, chosen, strict=True):
        own = []
        for row in rows:
            steps = x.shape[1] if data.lengths is None or kind == "image" else data.lengths[row]
            own.append(Sample(x[row][:steps], x.shape[1], found.get(int(row))))
        shown.append((name, own))
    return shown


def _figures(
    found: Exploration,
    bins: pd.DataFrame | None,
    kind: Kind,
    width: float,
    shown: Mapping[str, list[tuple[str, list[Sample]]]],
    words: str,
) -> dict[str, Drawn]:
    figures: dict[str, Drawn] = {}
    if found.counts is not None:
        figures["class_counts"] = (
            class_counts(found.counts, unit=found.unit, width=width),
            f"{found.unit.capitalize()} of each {_noun(found)} in each split",
            _only(found, MOST_CLASSES, "; counts.csv has all"),
        )
    if bins is not None:
        count = bins["target"].nunique()
        figures["targets"] = (
            target_histograms(bins, unit=found.unit, width=width),
            f"How many {found.unit} have which target",
            f"The first {MOST_TARGETS} of {count} targets; targets.csv has all."
            if count > MOST_TARGETS
            else "",
        )
    for split, name in _sheet_names(found).items():
        if split in shown:
            figures[name] = _sheet(found, split, kind, width, shown[split], words)
    if found.people is not None:
        one_class = found.first.task == "classification" and not found.first.per_step
        figures["people"] = (
            people_map(found.people, found.classes if one_class else ("all rows",), width=width),
            "Rows of each class from each person" if one_class else "Rows from each person",
            "Grey: this person has no rows of this class." if one_class else "",
        )
    lengths = {
        split: data.lengths
        for split, data in found.splits.items()
        if data.lengths is not None and len(data.lengths)
    }
    if lengths and len(np.unique(np.concatenate(list(lengths.values())))) > 1:
        figures["lengths"] = (
            length_histogram(lengths, found.first.rate, width=width),
            "How long the rows are",
            "Shorter rows are padded, and longer ones may be cut, to the same number of steps; "
            "padding does not count here.",
        )
    return figures


def _sheet(
    found: Exploration,
    split: str,
    kind: Kind,
    width: float,
    shown: list[tuple[str, list[Sample]]],
    words: str,
) -> Drawn:
    data = found.splits[split]
    if width <= PHONE:
        shown = [(name, own[: 5 if kind == "image" else 1]) for name, own in shown]
    caption = words
    if data.groups is not None:
        one_group = not _drawn_from(found)
        caption += ", of different people" + ("" if one_group else " where it has several")
    figure: Figure
    if kind == "image":
        figure = image_sheet(shown, width=width)
        caption += ". Black is the smallest value, white the largest. "
        caption += _only(found, MOST_IMAGES)
        return figure, f"Sample images{_drawn_from(found)}, {split}", caption.strip()
    caption += ". "
    if kind == "audio" or (data.x.ndim > 2 and data.x.shape[2] > MOST_LINES):
        audio = kind == "audio"
        figure = spectrum_sheet(
            shown,
            data.feature_names,
            data.rate,
            what="MFCC number" if audio else "feature",
            first=1 if audio else 0,
            width=width,
        )
        caption += "Colours span the 1st to the 99th percentile of the values shown"
        caption += ", coefficient 0, the loudness, aside; " if audio else "; "
        caption += "grey is padding. "
        if audio:
            caption += (
                "Above the coefficients, the waveform they come from, each to its own scale. "
                if any(sample.wave is not None for _, own in shown for sample in own)
                else "Without waveforms: the recordings are not at hand. "
            )
    else:
        figure = trace_sheet(shown, data.feature_names, data.rate, width=width)
    caption += _only(found, MOST_PANELS)
    return figure, f"Samples{_drawn_from(found)}, {split}", caption.strip()


def _only(found: Exploration, most: int, where: str = "") -> str:
    count = len(found.classes)
    nouns = "labels" if found.first.task == "multilabel" else "classes"
    return f"The first {most} of {count} {nouns}{where}." if count > most else ""


def _facts(found: Exploration, config: Mapping[str, Any]) -> dict[str, Any]:
    splits = {}
    for split, data in found.splits.items():
        splits[split] = {
            **dataclasses.asdict(found.sizes[split]),
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "task": data.task,
            "per_step": data.per_step,
            "classes": list(data.classes),
            "targets": data.summary().reset_index().to_dict("records")
            if data.task == "regression"
            else [],
            "feature_names": list(data.feature_names),
            "rate": data.rate,
            "dropped": dict(data.dropped),
            "skipped": list(data.skipped),
        }
    return {**config, "splits": splits, "duplicates": dataclasses.asdict(found.duplicates)}
