"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from jaxlstm.plain_text import visible
from jaxlstm.report.facts import (
    Facts,
    count_facts,
    headline,
    params_text,
    tiles,
)
from jaxlstm.report.figure_style import figure_bytes
from jaxlstm.report.files import Run
from jaxlstm.report.problem import is_number, section
from jaxlstm.report.sections import prediction_section
from jaxlstm.report.tables import (
    PREFIX,
    parameter_columns,
    score_range,
)
from jaxlstm.report.text import (
    bytes_text,
    count_text,
    duration_text,
    score_text,
    value_text,
)

VISIBLE_ROWS = 20
_PIXELS = 96  # an inch in CSS
_LARGEST_SVG = 400_000
_PHONE_INCHES = 4.8
_STAGES = (
    ("compile", "compiling"),
    ("search", "training the grid"),
    ("refit", "refitting the best"),
    ("predict", "predicting the test rows"),
)


@dataclasses.dataclass(frozen=True)
class Image:
    """A figure ready for the page.

    Attributes:
        wide: Its data URI.
        narrow: The data URI of its form for a phone.
        width: Its own width in CSS pixels.
        height: Its own height in CSS pixels.
        least: CSS pixels below which its form for a phone is scrolled instead of shrunk; 0 for
            one that fits.
        alt: What it shows, for those who do not see it.
        caption: How to read it, below it; may be empty.
    """

    wide: str
    narrow: str
    width: int
    height: int
    least: int
    alt: str
    caption: str = ""


def embed(
    figure: Figure, files: Mapping[str, bytes], narrow: Figure, alt: str, caption: str = ""
) -> Image:
    """Turn a figure, and its form for a phone, into an image inside the page.

    Args:
        figure: The figure.
        files: The figure as files, `"svg"` and `"png"`.
        narrow: Its form for a phone.
        alt: What it shows, for those who do not see it.
        caption: How to read it.

    Returns:
        The image: vectors, or dots where there would be too many strokes.
    """
    width, height = (round(_PIXELS * inches) for inches in figure.get_size_inches())
    inches = narrow.get_figwidth()
    least = round(0.8 * _PIXELS * inches) if inches > _PHONE_INCHES else 0
    phone = figure_bytes(narrow, "svg")
    if len(phone) > _LARGEST_SVG:
        phone_uri = _uri(figure_bytes(narrow, "png"), "png")
    else:
        phone_uri = _uri(phone, "svg+xml")
    large = len(files["svg"]) > _LARGEST_SVG
    wide_uri = _uri(files["png"], "png") if large else _uri(files["svg"], "svg+xml")
    return Image(wide_uri, phone_uri, width, height, least, alt, caption)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def render(run: Run, images: Mapping[str, Image]) -> str:
    """Write the report's HTML.

    Args:
        run: The run.
        images: The figures by name: learning_curves, grid, and those of the predictions; those
            missing are left out.

    Returns:
        The page: no script, nothing to fetch, every text of the run escaped.
    """
    facts = count_facts(run)
    config, summary = run.config, run.summary
    data = section(config, "data")
    context = {
        "title": str(config.get("title") or config.get("name") or "A run of jaxlstm"),
        "name": str(config.get("name") or ""),
        "created": date_text(config.get("created")),
        "headline": headline(facts),
        "tiles": tiles(facts),
        "images": images,
        "comparison": _comparison(summary.get("comparison")),
        "plan": _plan(facts),
        "stages": _stages(section(summary, "seconds")),
        "ranking": _ranking(facts),
        **prediction_section(run.predictions, facts.problem, _forecasts(facts)),
        "scoring": facts.scoring,
        "score_note": facts.score_note,
        "command": str(config.get("command") or ""),
        "panels": [
            ("Configuration", pairs(section(config, "config"))),
            ("Data", pairs(_described(data))),
            ("Machine", pairs(section(config, "device"))),
            ("Versions", pairs(section(config, "versions"))),
        ],
        "notes": [str(note) for note in summary.get("notes") or []],
        "visible": VISIBLE_ROWS,
    }
    return fill("report.html.jinja", context)


def _forecasts(facts: Facts) -> dict[str, Any]:
    """Return the scores of the model and of the baselines by name, none without baselines."""
    baselines = section(facts.run.summary, "baselines")
    return {"this model": section(facts.run.summary, "test"), **baselines} if baselines else {}


def _described(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the data, long lists cut and what does not apply left out."""
    found = {name: value for name, value in data.items() if value is not False}
    if found.get("targets") == found.get("classes"):
        found.pop("targets", None)
    for name in ("classes", "targets"):
        if name in found:
            found[name] = class_names(found[name])
    lengths = found.get("lengths")
    if isinstance(lengths, list | tuple) and len(lengths) == 3 and all(map(is_number, lengths)):
        low, middle, high = lengths
        found["lengths"] = f"{low:,g} to {high:,g} steps, median {middle:,g}"
    return found


def fill(template: str, context: Mapping[str, Any]) -> str:
    """Return a template of this package as a page.

    Every text of the context is escaped, and its control characters are shown.

    Args:
        template: The file's name.
        context: What it shows; `page.html.jinja` says what every page needs.

    Returns:
        The HTML.
    """
    return _environment().get_template(template).render(context) + "\n"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("jaxlstm.report", ""),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Return a value of a template with control characters as their escapes; lines stay."""
    if isinstance(value, Markup):
        return Markup(visible(value, keep="\n\t"))
    return visible(value, keep="\n\t") if isinstance(value, str) else value


def date_text(created: Any) -> str:
    """Return an ISO date and time as a reader wants to see it; another text as it is."""
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return str(created or "")
    zone = f" {moment.tzname()}" if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def _comparison(rows: Any) -> list[dict[str, str]]:
    table = []
    for row in rows or []:
        paper, ours = row.get("paper"), row.get("ours")
        difference = ""
        if is_number(paper) and is_number(ours):
            change = f"{ours - paper:+.4g}"
            difference = "0" if float(change) == 0 else change.replace("-", "\N{MINUS SIGN}")
        table.append(
            {
                "what": str(row.get("what") or ""),
                "paper": _figure_text(paper),
                "ours": _figure_text(ours),
                "difference": difference,
                "note": str(row.get("note") or ""),
            }
        )
    return table


def _figure_text(value: Any) -> str:
    if is_number(value):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return value_text(value)


def _plan(facts: Facts) -> dict[str, Any] | None:
    plan = section(facts.run.summary, "plan")
    if not plan:
        return None
    lanes = plan.get("lanes")
    words = count_text(lanes, "lane") if is_number(lanes) else "Lanes"
    if is_number(plan.get("programs")):
        words += f" in {count_text(plan['programs'], 'compiled program')}"
    if plan.get("layout"):
        layout = str(plan["layout"])
        words += ", side by side (vmap)" if layout == "vmap" else f", {layout}"
    if is_number(plan.get("workers")):
        words += f", on {count_text(plan['workers'], 'worker')}"
    groups = [
        {
            "group": _figure_text(group.get("group")),
            "structure": str(group.get("structure") or ""),
            "lanes": _figure_text(group.get("lanes")),
            "programs": _figure_text(group.get("programs")),
            "bytes": bytes_text(group.get("bytes")),
            "seconds": duration_text(group.get("seconds")),
        }
        for group in plan.get("groups") or []
    ]
    return {"words": words, "groups": groups, "bytes": bytes_text(plan.get("bytes"))}


def _stages(seconds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stages that took time, with their share of the whole in per cent."""
    known = [(words, seconds[name]) for name, words in _STAGES if is_number(seconds.get(name))]
    total = sum(value for _, value in known)
    if total <= 0:
        return []
    return [
        {"name": words, "text": duration_text(value), "percent": round(100 * value / total, 2)}
        for words, value in known
    ]


def _ranking(facts: Facts) -> dict[str, Any]:
    """Return the table of cells, with a small picture of each cell's scores."""
    cells = facts.cells
    folds = sorted({fold for scores in cells["scores"] for fold in scores})
    scores = np.array([value for row in cells["scores"] for value in row.values()], dtype=float)
    digits = facts.digits
    low, high, cut = score_range(scores) if np.isfinite(scores).any() else (0.0, 1.0, False)

    def place(value: float) -> float:
        return round(float(np.clip(4 + 142 * (value - low) / (high - low), 2.5, 147.5)), 1)

    rows = []
    for rank, row in enumerate(cells.to_dict("records"), start=1):
        finite = [value for value in row["scores"].values() if np.isfinite(value)]
        mean, std = row["mean"], row["std"]
        ok = row["fits"] - row["failed"]
        rows.append(
            {
                "rank": rank if np.isfinite(mean) else "–",
                "best": row["cell"] == facts.winner,
                "params": [value_text(row[name]) for name in facts.varied],
                "mean": score_text(mean, digits),
                "std": score_text(std, digits),
                "folds": [score_text(row["scores"].get(fold), digits) for fold in folds],
                "dots": [place(value) for value in finite],
                "tick": place(mean) if np.isfinite(mean) else None,
                "whisker": [place(mean - std), place(mean + std)] if np.isfinite(std) else None,
                "spoken": ", ".join(score_text(value, digits) for value in finite) or "no score",
                "epochs": f"{row['epochs']:.4g}",
                "status": "ok" if not row["failed"] else f"{ok} of {row['fits']} ok",
                "failed": bool(row["failed"]),
            }
        )
    constant = [name for name in parameter_columns(cells) if name not in facts.varied]
    first: Any = cells.iloc[0] if len(cells) else {}
    failed = facts.run.results[facts.run.results["status"] != "ok"]
    return {
        "rows": rows,
        "parameters": [name.removeprefix(PREFIX) for name in facts.varied],
        "folds": [f"fold {fold}" for fold in folds],
        "low": ""
        if not np.isfinite(scores).any()
        else ("\N{LESS-THAN OR EQUAL TO} " if cut else "") + score_text(low, digits - 1),
        "high": score_text(high, digits - 1) if np.isfinite(scores).any() else "",
        "same": params_text({name.removeprefix(PREFIX): first[name] for name in constant}),
        "failed": [
            f"cell {row.cell}, fold {row.fold}, seed {row.seed}"
            for row in failed.head(8).itertuples()
        ],
        "more_failed": max(len(failed) - 8, 0),
    }


def class_names(classes: Any) -> str | None:
    """Return how many classes there are, and the first of them, in one line."""
    if not classes:
        return None
    names = [value_text(name) for name in classes]
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{len(names)}: {shown}"


def pairs(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a dictionary as names and texts, sizes in readable units, without empty ones."""
    found = []
    for name, value in settings.items():
        if value is None or value == "" or value == {}:
            continue
        text = value_text(value)
        if is_number(value):
            size = name.endswith("bytes")
            text = bytes_text(value) if size else f"{value:,}" if name == "rows" else text
        found.append((name, text))
    return found
