"""The page of a study: a published report's figures beside ours, then tables and pictures."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from jaxlstm.report.draw import KINDS, PHONE, Drawn, finish_figures
from jaxlstm.report.files import check_inside, csv_text, json_text, sorted_sections, write_atomic
from jaxlstm.report.page import VISIBLE_ROWS, Image, class_names, date_text, fill, pairs
from jaxlstm.report.problem import section
from jaxlstm.report.study_tables import cell_text, comparison_rows, table_columns

WIDE = 10.0  # inches
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table of a study.

    Attributes:
        name: Of its file, `tables/<name>.csv`, which has every digit.
        frame: Columns of numbers and texts; its index is not shown.
        caption: What it holds, in a sentence; may be empty.
    """

    name: str
    frame: pd.DataFrame
    caption: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A figure of a study.

    Attributes:
        name: Of its files, `figures/<name>.png` and `.svg`.
        draw: Draws it to a width in inches; called once for a wide page and once for a phone's.
        alt: What it shows, for those who do not see it.
        caption: How to read it; may be empty.
    """

    name: str
    draw: Callable[[float], Figure]
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Section:
    """A part of a study's page.

    Attributes:
        heading: Its heading, and its link at the top of the page.
        text: Its paragraphs.
        content: Its tables and pictures, below the text.
    """

    heading: str
    text: Sequence[str] = ()
    content: Sequence[Table | Picture] = ()


def save_study(
    folder: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    headline: str,
    tiles: Sequence[tuple[str, Any, str]],
    comparison: pd.DataFrame,
    sections: Sequence[Section],
    notes: Sequence[str],
) -> Path:
    """Write a study's page, its figures and its tables.

    Everything is drawn before the first file is touched, each file is written whole or not at
    all, and the page comes last. Figures and tables that an earlier study left in the same folder
    are removed where they are not this one's; `study.json` says which ones it left.

    Args:
        folder: Where to; made if it does not exist.
        config: As a run's: name, title, command, config, versions, device, data, created; any may
            be missing. Dictionaries within config and data, such as one a split, are shown each by
            itself.
        headline: The first paragraph.
        tiles: The main numbers: a label, a value (a text, or a number) and a note.
        comparison: A row a figure of the paper, columns `what`, `paper`, `ours`, `std`, `seeds`,
            `note`; figures are numbers or texts, and NaN where the paper or we have none.
        sections: The parts of the page, in order.
        notes: What else a reader must know, a sentence each.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: A name is no file's name or is given twice, a frame has two columns of the
            same name, `comparison` lacks a column, or a file of the folder is a link out of it.
        TypeError: A section holds something else than tables and pictures.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    contents = list(_contents(sections))
    tables = _by_name([part for part in contents if isinstance(part, Table)])
    pictures = _by_name([part for part in contents if isinstance(part, Picture)])
    texts = {
        "config.json": json_text(sorted_sections(config, "config", "versions"), "config"),
        "comparison.csv": csv_text(_named(comparison, "comparison"), {}, "comparison"),
        **{
            f"tables/{name}.csv": csv_text(_named(table.frame, name), {}, name)
            for name, table in tables.items()
        },
    }
    beside = comparison_rows(comparison)
    wide, narrow = (
        {name: _draw(picture, width) for name, picture in pictures.items()}
        for width in (WIDE, PHONE)
    )
    figures, images = finish_figures(wide, narrow)
    page = _render(config, headline, tiles, beside, sections, images, notes)
    made = [f"figures/{name}.{kind}" for name in figures for kind in KINDS]
    made += [name for name in texts if name.startswith("tables/")]
    words = {
        "headline": headline,
        "tiles": [list(tile) for tile in tiles],
        "sections": [
            {
                "heading": part.heading,
                "text": list(part.text),
                "content": [_described(item) for item in part.content],
            }
            for part in sections
        ],
        "notes": list(notes),
    }
    check_inside(folder, ["report.html", "study.json", "figures", "tables", *texts, *made])
    before = _made_before(folder)
    # First with both, so that no interruption leaves a file that nobody knows of.
    first = json_text({**words, "files": sorted({*before, *made})}, "study")
    last = json_text({**words, "files": made}, "study")

    try:
        for place in (folder, folder / "figures", folder / "tables"):
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the results folder {folder} cannot be written: {error}") from error
    write_atomic(folder / "study.json", first)
    for file, text in texts.items():
        write_atomic(folder / file, text)
    for name, kinds in figures.items():
        for kind, content in kinds.items():
            write_atomic(folder / "figures" / f"{name}.{kind}", content)
    for file in {*before} - {*made}:
        (folder / file).unlink(missing_ok=True)
    write_atomic(folder / "study.json", last)
    path = folder / "report.html"
    write_atomic(path, page)
    return path


def _contents(sections: Sequence[Section]) -> Iterator[Table | Picture]:
    for number, part in enumerate(sections):
        if isinstance(part.text, str):
            raise TypeError(f"sections[{number}].text is one text; a sequence of them is needed")
        for place, item in enumerate(part.content):
            if not isinstance(item, Table | Picture):
                raise TypeError(
                    f"sections[{number}].content[{place}] is {item!r}; "
                    "a Table or a Picture is needed"
                )
            yield item


def _by_name(contents: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in contents:
        if not _NAME.fullmatch(item.name):
            raise ValueError(
                f"the name {item.name!r} is no file's name; "
                "letters, digits, dots, dashes and underscores are allowed"
            )
        # Some file systems do not tell large letters from small ones.
        if item.name.lower() in {name.lower() for name in found}:
            raise ValueError(f"two {type(item).__name__.lower()}s have the name {item.name!r}")
        found[item.name] = item
    return found


def _named(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    names = [str(column) for column in frame.columns]
    for column in names:
        if names.count(column) > 1:
            raise ValueError(f"the table {name!r} has {names.count(column)} columns {column!r}")
    return frame


def _draw(picture: Picture, width: float) -> Drawn:
    try:
        figure = picture.draw(width)
    except Exception as error:
        error.add_note(f"while drawing the picture {picture.name!r}")
        raise
    return figure, picture.alt, picture.caption


def _described(item: Table | Picture) -> dict[str, str]:
    kind = "table" if isinstance(item, Table) else "picture"
    return {"kind": kind, "name": item.name, "caption": item.caption}


def _made_before(folder: Path) -> list[str]:
    """Return the figures and tables which the study left that is in the folder now."""
    try:
        files = json.loads((folder / "study.json").read_text(encoding="utf-8"))["files"]
        return [file for file in files if _is_ours(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none, or no study's: then nothing in the folder is known to be ours


def _is_ours(file: Any) -> bool:
    if not isinstance(file, str):
        return False
    place, _, name = file.partition("/")
    kinds = {"figures": KINDS, "tables": ("csv",)}.get(place, ())
    return bool(_NAME.fullmatch(name)) and name.rpartition(".")[2] in kinds


def _render(
    config: Mapping[str, Any],
    headline: str,
    tiles: Sequence[tuple[str, Any, str]],
    beside: Sequence[Mapping[str, str]],
    sections: Sequence[Section],
    images: Mapping[str, Image],
    notes: Sequence[str],
) -> str:
    context = {
        "title": str(config.get("title") or config.get("name") or "A study"),
        "name": str(config.get("name") or ""),
        "created": date_text(config.get("created")),
        "headline": headline,
        "tiles": [
            {"label": label, "value": cell_text(value), "note": note or "", "bad": False}
            for label, value, note in tiles
        ],
        "comparison": beside,
        "sections": [
            {
                "heading": part.heading,
                "text": list(part.text),
                "content": [_shown(item, images) for item in part.content],
            }
            for part in sections
        ],
        "command": str(config.get("command") or ""),
        "panels": [
            *_panels("Configuration", section(config, "config")),
            *_panels("Data", section(config, "data")),
            ("Machine", pairs(section(config, "device"))),
            ("Versions", pairs(section(config, "versions"))),
        ],
        "notes": list(notes),
        "visible": VISIBLE_ROWS,
    }
    return fill("study.html.jinja", context)


def _shown(item: Table | Picture, images: Mapping[str, Image]) -> dict[str, Any]:
    if isinstance(item, Picture):
        return {"image": images[item.name]}
    columns = table_columns(item.frame)
    rows = list(zip(*(column.texts for column in columns), strict=True))
    return {
        "image": None,
        "file": f"tables/{item.name}.csv",
        "caption": item.caption,
        "columns": columns,
        "rows": rows,
    }


def _panels(name: str, settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return a dictionary's panel, and one for each dictionary in it."""
    panels: list[tuple[str, Mapping[str, Any]]] = [
        (name, {key: value for key, value in settings.items() if not isinstance(value, Mapping)}),
        *(
            (f"{name}, {key}", value)
            for key, value in settings.items()
            if isinstance(value, Mapping)
        ),
    ]
    return [
        (heading, pairs({**part, "classes": class_names(part["classes"])}))
        if isinstance(part.get("classes"), list | tuple)
        else (heading, pairs(part))
        for heading, part in panels
    ]
