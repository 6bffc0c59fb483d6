"""The words and tables of a data set's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from jaxlstm.report.data_tables import Exploration, Size, people_in_several
from jaxlstm.report.facts import section
from jaxlstm.report.page import VISIBLE_ROWS, Image, class_names, date_text, fill, pairs
from jaxlstm.report.text import bytes_text, column_texts, count_text, number_text, shorten

SKIPPED_SHOWN = 20


def render_exploration(
    found: Exploration,
    images: Mapping[str, Image],
    sheets: Mapping[str, str],
    files: Sequence[str],
    config: Mapping[str, Any],
) -> str:
    """Write a data set's HTML.

    Args:
        found: The data set, counted.
        images: The figures by name.
        sheets: From each split to the name of its sheet of samples.
        files: Names of the files with the figures' numbers.
        config: As for `save_exploration`.

    Returns:
        The page: no script, nothing to fetch, every text of the data escaped.
    """
    several = len(found.splits) > 1
    data = found.first
    hashes = {
        f"sha256 of {split}" if several else "sha256": part.sha256
        for split, part in found.splits.items()
    }
    sources = {
        f"source of {split}" if several else "source": part.source
        for split, part in found.splits.items()
    }
    if len(set(sources.values())) == 1:
        sources = {"source": data.source}
    about = {
        "name": data.name,
        **sources,
        "features": class_names(data.feature_names),
        "rate": f"{data.rate:.4g} steps a second" if data.rate else None,
        **hashes,
    }
    context = {
        "title": str(config.get("title") or data.name),
        "name": str(config.get("name") or data.name),
        "created": date_text(config.get("created")),
        "headline": _headline(found),
        "tiles": _tiles(found),
        "images": images,
        "sheets": [
            (split if several else "", images[name])
            for split, name in sheets.items()
            if name in images
        ],
        "splits": list(found.splits) if several else [""],
        "heading": _nouns(found)[1].capitalize(),
        "unit": found.unit,
        "counts": None if found.counts is None else _counts(found, found.counts),
        "targets": None if found.targets is None else _targets(found, found.targets),
        "people": _people(found),
        "sizes": _sizes(found),
        "left_out": _left_out(found),
        "duplicates": _duplicates(found),
        "command": str(config.get("command") or ""),
        "panels": [
            ("Data", pairs(about)),
            ("Configuration", pairs(section(config, "config"))),
            ("Versions", pairs(section(config, "versions"))),
        ],
        "notes": [],
        "files": ", ".join(files[:-1]) + " and " + files[-1],
        "visible": VISIBLE_ROWS,
    }
    return fill("data.html.jinja", context)


def _headline(found: Exploration) -> Markup:
    bold = Markup("<b>{}</b>").format
    step = " at each step" if found.first.per_step else ""
    if found.targets is not None:
        joint = "with"
        kinds = count_text(found.targets["target"].nunique(), "number") + " to predict"
    else:
        joint = (
            "with any of" if found.first.task == "multilabel" else "with one of" if step else "of"
        )
        kinds = count_text(len(found.classes), *_nouns(found))
    sentence = Markup("{} {} {}{}").format(
        bold(count_text(found.rows, "row")), joint, bold(kinds), step
    )
    if len(found.splits) > 1:
        parts = ", ".join(f"{split} {size.rows:,}" for split, size in found.sizes.items())
        sentence += Markup(" ({})").format(parts)
    if found.people is not None:
        people = found.people["group"].nunique()
        sentence += Markup(", from {}" if step else " from {}").format(
            bold(count_text(people, "person", "people"))
        )
    sentence += Markup(", each {}.").format(_extent(found))
    if found.counts is not None and found.first.task == "classification":
        name, share = _largest(found, found.counts)
        sentence += Markup(
            " Guessing <code>{}</code> every time would be right for {} of {}."
        ).format(name, bold(f"{share:.1f} %"), "the steps" if found.first.per_step else "them")
    if found.targets is not None and len(found.targets) == 1:
        sentence += Markup(
            " Guessing its mean, {}, would have a root mean squared error of {}."
        ).format(
            number_text(float(found.targets["mean"].iloc[0])),
            bold(number_text(float(found.targets["std"].iloc[0]))),
        )
    return sentence


def _nouns(found: Exploration) -> tuple[str, str]:
    """Returns what the rows have, one and several of it."""
    if found.targets is not None:
        return "target", "targets"
    return ("label", "labels") if found.first.task == "multilabel" else ("class", "classes")


def _extent(found: Exploration) -> str:
    """Returns how large a row is: `28 × 28 values`, or `7 to 29 steps of 12 values`."""
    shape = found.first.x.shape[1:]
    spans = [size.lengths for size in found.sizes.values() if size.lengths]
    if not spans or min(span[0] for span in spans) == max(span[2] for span in spans):
        return " \N{MULTIPLICATION SIGN} ".join(map(str, shape)) + " values"
    steps = f"{min(span[0] for span in spans)} to {max(span[2] for span in spans)} steps"
    return (
        steps if len(shape) == 1 else f"{steps} of {count_text(int(np.prod(shape[1:])), 'value')}"
    )


def _largest(found: Exploration, counts: pd.DataFrame) -> tuple[str, float]:
    """Returns the most frequent class of all splits together, and its share in per cent."""
    each = counts.groupby("class", sort=False)[found.unit].sum()
    total = found.rows if found.unit == "rows" else float(each.sum())
    return str(each.idxmax()), 100 * float(each.max()) / max(total, 1)


def _tiles(found: Exploration) -> list[dict[str, Any]]:
    tiles = []

    def add(label: str, value: str, note: str = "", bad: bool = False) -> None:
        tiles.append({"label": label, "value": value, "note": note, "bad": bad})

    memory = sum(size.bytes for size in found.sizes.values())
    add("Rows", f"{found.rows:,}", bytes_text(memory))
    if found.counts is not None:
        name, share = _largest(found, found.counts)
        noun, nouns = _nouns(found)
        each = found.counts.groupby("class", sort=False)[found.unit].sum()
        add(nouns.capitalize(), f"{len(found.classes):,}", f"{_span(each)} {found.unit} each")
        largest = "Most frequent" if noun == "label" else "Largest"
        note = "of the labels given, " if noun == "label" and found.unit == "steps" else ""
        add(f"{largest} {noun}", f"{share:.1f} %", note + shorten(name, 24))
    if found.targets is not None:
        names = found.targets["target"].unique()
        add("Targets", f"{len(names):,}", shorten(", ".join(map(str, names)), 24))
        if len(names) == 1:
            low, high = found.targets["min"].min(), found.targets["max"].max()
            add(
                "Range", f"{number_text(float(low))} to {number_text(float(high))}", "of the target"
            )
    if found.people is not None:
        both = len(people_in_several(found.people))
        note = f"{both:,} in several splits" if both else ""
        if len(found.splits) > 1 and not both:
            note = "none in two splits"
        add("People", f"{found.people['group'].nunique():,}", note, bool(both))
    twins = found.duplicates
    note = f"{twins.across:,} across splits" if len(found.splits) > 1 and twins.sets else ""
    add("Sets of identical rows", f"{twins.sets:,}", note, bool(twins.across))
    add("Left out", f"{found.left_out:,}", "rows or files" if found.left_out else "")
    return tiles


def _counts(found: Exploration, counts: pd.DataFrame) -> dict[str, Any]:
    columns = [name for name in ("steps", "rows", "groups") if name in counts]
    columns.insert(1, "percent")
    rows = []
    for name in found.classes:
        cells: list[str] = []
        for split in found.splits:
            own = counts[(counts["split"] == split) & (counts["class"] == name)]
            cells += _cells(own.iloc[0] if len(own) else None, columns)
        rows.append({"name": name, "cells": cells})
    totals: list[str] = []
    for data in found.splits.values():
        totals += _cells(data.summary().iloc[-1], columns)
    noun, nouns = _nouns(found)
    share = "the split's" if len(found.splits) > 1 else "all"
    about = f"The {found.unit} of each {noun} and their share of {share} {found.unit}."
    if noun == "label":
        about += f" A {found.unit[:-1]} may have several labels, or none."
    if found.unit == "steps":
        about += " Padding does not count; rows are those with at least one such step."
    return {
        "noun": noun,
        "nouns": nouns,
        "columns": [{"percent": "%", "groups": "people"}.get(name, name) for name in columns],
        "rows": rows,
        "all": totals,
        "about": about,
    }


def _cells(row: pd.Series | None, columns: Sequence[str]) -> list[str]:
    cells = []
    for name in columns:
        value = np.nan if row is None else row.get(name, np.nan)
        if pd.isna(value):
            cells.append("–")
        else:
            cells.append(f"{value:.1f}" if name == "percent" else f"{int(value):,}")
    return cells


def _targets(found: Exploration, targets: pd.DataFrame) -> dict[str, Any]:
    several = len(found.splits) > 1
    columns = [name for name in targets if name not in ("split", "target")]
    texts = {
        name: [f"{count:,}" for count in targets[name]]
        if name in ("rows", "steps")
        else column_texts(targets[name].tolist())
        for name in columns
    }
    rows = []
    for number, (split, target) in enumerate(zip(targets["split"], targets["target"], strict=True)):
        name = f"{target}, {split}" if several else str(target)
        rows.append([name, *(texts[column][number] for column in columns)])
    about = "The numbers to predict, in their own units"
    about += ", one for each step that is not padding." if found.first.per_step else "."
    return {"about": about, "head": ["target", *columns], "rows": rows}


def _people(found: Exploration) -> dict[str, str] | None:
    if found.people is None:
        return None
    each = found.people.groupby("group")["rows"].sum()
    about = f"{count_text(len(each), 'person', 'people')}, {_span(each)} rows each"
    about += f" (median {each.median():,.0f})." if each.nunique() > 1 else "."
    both = people_in_several(found.people)
    several = ""
    if both:
        names = ", ".join(map(str, both[:8])) + (", …" if len(both) > 8 else "")
        several = (
            f"{count_text(len(both), 'person has', 'people have')} rows in more than one split:"
            f" {names}{'' if len(both) > 8 else '.'}"
        )
    elif len(found.splits) > 1:
        about += " Nobody has rows in more than one split."
    return {"about": about, "several": several}


def _sizes(found: Exploration) -> dict[str, Any]:
    rate = found.first.rate
    sizes = list(found.sizes.values())

    def seconds(steps: float) -> str:
        return f"{steps:,g}" + (f" ({steps / rate:.3g} s)" if rate else "")

    lines: list[tuple[str, Callable[[Size], str]]] = [
        ("rows", lambda size: f"{size.rows:,}"),
        ("shape of a row", lambda size: " × ".join(map(str, size.shape))),
        ("type", lambda size: size.dtype),
        ("memory", lambda size: bytes_text(size.bytes)),
        ("smallest value", lambda size: _number(size.low)),
        ("largest value", lambda size: _number(size.high)),
        ("mean", lambda size: _number(size.mean)),
        ("standard deviation", lambda size: _number(size.std)),
        ("rows with NaN or infinity", lambda size: f"{size.broken:,}"),
        ("rows of one value alone", lambda size: f"{size.constant:,}"),
    ]
    table = [[name, *(text(size) for size in sizes)] for name, text in lines]
    if any(size.weights for size in sizes):
        for place, name in enumerate(("smallest weight", "largest weight")):
            weights = [number_text(size.weights[place]) if size.weights else "–" for size in sizes]
            table.append([name, *weights])
    if any(size.lengths for size in sizes):
        for place, name in enumerate(("shortest row", "median length", "longest row")):
            steps = [seconds(size.lengths[place]) if size.lengths else "–" for size in sizes]
            table.append([f"{name}, steps", *steps])
    about = "A row is a sequence of steps (or an image's lines) of features (or pixels)."
    if rate:
        about += f" {rate:.4g} steps are a second, so a row of {sizes[0].shape[0]} lasts "
        about += f"{sizes[0].shape[0] / rate:.3g} s."
    several = len(found.splits) > 1
    return {
        "about": about,
        "head": ["", *(found.splits if several else ["value"])],
        "rows": table,
    }


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _left_out(found: Exploration) -> dict[str, Any]:
    reasons = list(dict.fromkeys(r for data in found.splits.values() for r in data.dropped))
    skipped = [sentence for data in found.splits.values() for sentence in data.skipped]
    several = len(found.splits) > 1
    return {
        "head": ["reason", *(found.splits if several else ["rows or files"])],
        "rows": [
            [reason, *(f"{data.dropped.get(reason, 0):,}" for data in found.splits.values())]
            for reason in reasons
        ],
        "skipped": skipped[:SKIPPED_SHOWN],
        "more": max(len(skipped) - SKIPPED_SHOWN, 0),
    }


def _has_one_class(found: Exploration) -> bool:
    return found.first.task == "classification" and not found.first.per_step


def _duplicates(found: Exploration) -> dict[str, Any]:
    twins = found.duplicates
    if not twins.sets:
        return {"about": "No two rows are the same.", "rows": []}
    several = len(found.splits) > 1
    rows = [["sets of identical rows", f"{twins.sets:,}"], ["rows in them", f"{twins.rows:,}"]]
    if several:
        for split, count in twins.within.items():
            rows.append([f"sets with two rows or more in {split}", f"{count:,}"])
        rows.append(["sets with rows in several splits", f"{twins.across:,}"])
    different = "classes" if _has_one_class(found) else "targets"
    rows.append([f"sets whose rows have different {different}", f"{twins.conflicting:,}"])
    about = "Rows whose values are the same, byte for byte; duplicates.csv names them."
    if twins.across:
        about += " Those in several splits let a model be tested on what it was trained on."
    return {"about": about, "head": ["", "count"], "rows": rows}
