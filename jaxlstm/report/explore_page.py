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
from jaxlstm.report.text import bytes_text, count_text, shorten

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
        "counts": _counts(found),
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
    sentence = Markup("{} of {}").format(
        bold(count_text(found.rows, "row")),
        bold(count_text(len(found.classes), "class", "classes")),
    )
    if len(found.splits) > 1:
        parts = ", ".join(f"{split} {size.rows:,}" for split, size in found.sizes.items())
        sentence += Markup(" ({})").format(parts)
    if found.people is not None:
        people = found.people["group"].nunique()
        sentence += Markup(" from {}").format(bold(count_text(people, "person", "people")))
    shape = " \N{MULTIPLICATION SIGN} ".join(map(str, found.first.x.shape[1:]))
    sentence += Markup(", each {} values.").format(shape)
    name, share = _largest(found)
    sentence += Markup(
        " Guessing <code>{}</code> every time would be right for {} of them."
    ).format(name, bold(f"{share:.1f} %"))
    return sentence


def _largest(found: Exploration) -> tuple[str, float]:
    """Returns the class with most rows of all splits together, and its share in per cent."""
    rows = found.counts.groupby("class", sort=False)["rows"].sum()
    return str(rows.idxmax()), 100 * float(rows.max()) / found.rows


def _tiles(found: Exploration) -> list[dict[str, Any]]:
    tiles = []

    def add(label: str, value: str, note: str = "", bad: bool = False) -> None:
        tiles.append({"label": label, "value": value, "note": note, "bad": bad})

    memory = sum(size.bytes for size in found.sizes.values())
    add("Rows", f"{found.rows:,}", bytes_text(memory))
    name, share = _largest(found)
    rows = found.counts.groupby("class", sort=False)["rows"].sum()
    add("Classes", f"{len(found.classes):,}", f"{_span(rows)} rows each")
    add("Largest class", f"{share:.1f} %", shorten(name, 24))
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


def _counts(found: Exploration) -> dict[str, Any]:
    groups = "groups" in found.counts
    columns = ["rows", "%", *(["people"] if groups else [])]
    rows = []
    for name in found.classes:
        cells: list[str] = []
        for split in found.splits:
            counts = found.counts
            own = counts[(counts["split"] == split) & (counts["class"] == name)]
            cells += _cells(own.iloc[0] if len(own) else None, groups)
        rows.append({"name": name, "cells": cells})
    totals: list[str] = []
    for data in found.splits.values():
        totals += _cells(data.summary().iloc[-1], groups)
    several = len(found.splits) > 1
    return {
        "columns": columns,
        "rows": rows,
        "all": totals,
        "about": "The rows of each class and their share of "
        + ("their split." if several else "all rows."),
    }


def _cells(row: pd.Series | None, groups: bool) -> list[str]:
    if row is None:
        return ["–"] * (3 if groups else 2)
    cells = [f"{int(row['rows']):,}", f"{row['percent']:.1f}"]
    if groups:
        people = row.get("groups", np.nan)
        cells.append("–" if pd.isna(people) else f"{int(people):,}")
    return cells


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
    rows.append(["sets whose rows have different classes", f"{twins.conflicting:,}"])
    about = "Rows whose values are the same, byte for byte; duplicates.csv names them."
    if twins.across:
        about += " Those in several splits let a model be tested on what it was trained on."
    return {"about": about, "head": ["", "count"], "rows": rows}
