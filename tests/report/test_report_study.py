"""A study's page: the paper's figures beside ours, every digit in the files, whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from test_report_page import Page

from jaxlstm.report import Picture, Section, Table, bars, markdown_table, save_study
from jaxlstm.report.study_tables import comparison_rows, table_columns
from jaxlstm.report.text import column_texts, number_text

EVIL = "<script>alert(1)</script>"
MINUS = "\N{MINUS SIGN}"
CONFIG: dict[str, Any] = {
    "name": "practicum",
    "title": "A practicum, run again",
    "command": "python -m experiments.practicum",
    "config": {"search": {"epochs": 60}, "batch_size": 128},
    "versions": {"python": "3.11"},
    "device": {"cpu": "AMD EPYC", "memory_bytes": 2**34},
    "data": {
        "train": {"name": "letters", "rows": 60000, "classes": ["a", "b"]},
        "test": {"name": "letters", "rows": 10000},
    },
    "created": "2025-11-21T14:03:22+00:00",
}
COMPARISON = pd.DataFrame(
    [
        ["accuracy", 0.9812, 0.974312, 0.00123, 3, "60 epochs"],
        ["another", np.nan, 0.9921, np.nan, 1, ""],
        ["missing", 0.5, np.nan, np.nan, np.nan, "not run"],
        ["seconds", 3600, 41.237, 1.2, 5, ""],
        ["best", "Adam", "RMSprop", np.nan, np.nan, None],
    ],
    columns=["what", "paper", "ours", "std", "seeds", "note"],
)
RATE = 0.00031622776601683794
FRAME = pd.DataFrame(
    {
        "optimizer": ["Adam", "SGD", None],
        "rate": [RATE, 0.1, np.nan],
        "units": [(64,), (64, 64), "none"],
        "rows": [12800, 7, 1234567],
        "accuracy": [0.9312345, 0.93, np.nan],
    }
)


def picture(name: str = "speed", value: float = 0.5) -> Picture:
    table = pd.DataFrame([{"group": "a", "series": "b", "value": value, "std": 0.1}])
    return Picture(
        name, lambda width: bars(table, value_label="time (s)", width=width), "alt", "caption"
    )


def save(folder: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {
        "config": CONFIG,
        "headline": "All figures come out again.",
        "tiles": [("Accuracy", 0.974312, "0.9812 there"), ("Fits", 1640, "")],
        "comparison": COMPARISON,
        "sections": [
            Section(
                "Optimizers",
                ["First words.", "Second words."],
                [Table("best", FRAME, "The best."), picture()],
            )
        ],
        "notes": ["No seed is stated."],
    }
    return save_study(folder, **{**given, **changes})


def words_of(page: Path) -> str:
    return Page(page.read_text(encoding="utf-8")).words


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


FILES = [
    "comparison.csv", "config.json", "figures/speed.png", "figures/speed.svg", "report.html",
    "study.json", "tables/best.csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("study"))


# -- the page -------------------------------------------------------------------------------------


def test_a_study_leaves_its_files(study: Path) -> None:
    assert study.name == "report.html"
    assert files_of(study.parent) == FILES
    assert json.loads((study.parent / "config.json").read_text()) == CONFIG


def test_the_page_says_what_came_out(study: Path) -> None:
    words = words_of(study)
    parts = [
        "21 November 2025, 14:03 UTC",
        "A practicum, run again All figures come out again.",
        "Accuracy 0.9743 0.9812 there Fits 1,640",
        "The report's figures beside ours",
        f"accuracy 0.9812 0.9743 ± 0.0012 (3 seeds) {MINUS}0.0069 60 epochs",
        "another not stated 0.9921 (1 seed)",
        "missing 0.5 – not run",
        f"seconds 3,600 41.24 ± 1.20 (5 seeds) {MINUS}3,559",
        "best Adam RMSprop",
        "Optimizers First words. Second words. The best. tables/best.csv",
        "Adam 0.0003162 (64,) 12,800 0.9312",
        "SGD 0.1 (64, 64) 7 0.9300",
        "– – none 1,234,567 –",
        "$ python -m experiments.practicum Configuration batch_size 128",
        "Configuration, search epochs 60 Data, train name letters rows 60,000 classes 2: a, b",
        "Data, test name letters rows 10,000",
        "Machine cpu AMD EPYC memory_bytes 16 GiB Versions python 3.11",
        "No seed is stated.",
    ]
    for part in parts:
        assert part in words, part
    places = [words.index(part) for part in parts]
    assert places == sorted(places)
    assert "None" not in words
    assert "nan" not in words.lower().split()


def test_the_page_fetches_nothing(study: Path) -> None:
    html = study.read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "href"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:", "#")), f"<{tag} {name}={value[:60]}>"
    assert "url(" not in html
    links = [attributes["href"][1:] for tag, attributes in page.elements if tag == "a"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert links == ids
    assert len(set(ids)) == len(ids)


def test_the_files_have_every_digit(study: Path) -> None:
    with (study.parent / "tables" / "best.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["rate"]) == RATE
    assert float(rows[0]["accuracy"]) == 0.9312345
    assert rows[1]["units"] == "(64, 64)"
    with (study.parent / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[0][name]) for name in ("paper", "ours")] == [0.9812, 0.974312]
    assert rows[1]["paper"] == rows[2]["ours"] == ""


def test_the_same_study_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    save(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (study.parent / name).read_bytes(), name


def test_a_page_without_anything(tmp_path: Path) -> None:
    page = save(
        tmp_path, config={}, headline="", tiles=[], comparison=COMPARISON[:0], sections=[], notes=[]
    )
    words = words_of(page)
    assert "A study" in words
    assert "beside ours" not in words
    assert "Notes" not in words
    assert (tmp_path / "comparison.csv").read_text() == "what,paper,ours,std,seeds,note\n"
    page = save(tmp_path, sections=[Section("Nothing", [], [Table("none", FRAME[:0])])])
    assert "tables/none.csv No rows." in words_of(page)
    assert "<img" not in page.read_text(encoding="utf-8")


def test_many_rows_fold(tmp_path: Path) -> None:
    frame = pd.DataFrame({"row": [f"row {i}" for i in range(47)]})
    rows = pd.concat([COMPARISON] * 5, ignore_index=True)
    page = save(tmp_path, comparison=rows, sections=[Section("Many", [], [Table("many", frame)])])
    html = page.read_text(encoding="utf-8")
    assert html.count("<details") == 2
    assert "The other 5 figures" in html
    shown, _, hidden = html[html.index('id="part-1"') :].partition("<details")
    assert (shown.count("<td"), hidden.count("<td")) == (20, 27)
    assert "The other 27 rows" in hidden


def test_texts_are_escaped(tmp_path: Path) -> None:
    frame = pd.DataFrame({EVIL: [EVIL, "日本語"], "b": [1, 2]})
    comparison = COMPARISON.astype(object)
    comparison.loc[0] = [EVIL, EVIL, EVIL, np.nan, np.nan, EVIL]
    draw = dataclasses.replace(picture(), alt=EVIL, caption=EVIL)
    page = save(
        tmp_path,
        config={"title": EVIL, "name": EVIL, "data": {EVIL: {EVIL: EVIL}}, "command": EVIL},
        headline=EVIL,
        tiles=[(EVIL, EVIL, EVIL)],
        comparison=comparison,
        sections=[Section(EVIL, [EVIL], [Table("evil", frame, EVIL), draw])],
        notes=[EVIL],
    )
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 18
    assert EVIL in Page(html).words
    assert any(attributes.get("alt") == EVIL for _, attributes in Page(html).elements)


# -- the folder -----------------------------------------------------------------------------------


def test_what_an_earlier_study_left_goes(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    (tmp_path / "tables" / "mine.csv").write_bytes(b"mine")
    save(tmp_path, sections=[Section("Other", [], [Table("other", FRAME), picture("slow")])])
    left = {"figures/mine.png", "tables/mine.csv"}
    new = {"figures/slow.png", "figures/slow.svg", "tables/other.csv"}
    always = {"comparison.csv", "config.json", "report.html", "study.json"}
    assert set(files_of(tmp_path)) == left | new | always


def test_an_interrupted_study_is_cleared_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    page = (tmp_path / "report.html").read_bytes()
    write = Path.unlink

    def fail(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "tables" and not self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        write(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, sections=[Section("Other", [], [picture("slow"), picture("slower")])])
    assert (tmp_path / "report.html").read_bytes() == page  # the page comes last
    save(tmp_path, sections=[])
    assert files_of(tmp_path) == ["comparison.csv", "config.json", "report.html", "study.json"]


@pytest.mark.parametrize(
    "text",
    ["", "[1]", '{"files": 3}', '{"files": ["../config.json", "figures/../../x.png", 5]}', "{}"],
)
def test_a_strange_list_of_files_removes_nothing(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.json").write_text(text)
    (tmp_path / "config.json").write_text("mine")
    (tmp_path / "x.png").write_text("mine")
    save(folder)
    assert (tmp_path / "config.json").read_text() == (tmp_path / "x.png").read_text() == "mine"


def broken(width: float) -> Figure:
    raise RuntimeError("no data")


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"comparison": COMPARISON.drop(columns="std")}, ValueError, "lacks the column 'std'"),
    (
        {"sections": [Section("a", [], [picture(), picture("Speed")])]},
        ValueError,
        "two pictures have the name 'Speed'",
    ),
    (
        {"sections": [Section("a", [], [Table("../up", FRAME)])]},
        ValueError,
        "the name '../up' is no file's name",
    ),
    (
        {"sections": [Section("a", [], [Table("x", FRAME[["rows", "rows"]])])]},
        ValueError,
        "the table 'x' has 2 columns 'rows'",
    ),
    ({"sections": [Section("a", [], ["text"])]}, TypeError, "sections[0].content[0] is 'text'"),
    ({"sections": [Section("a", "words")]}, TypeError, "sections[0].text is one text"),
    ({"sections": [Section("a", [], [Picture("x", broken, "")])]}, RuntimeError, "no data"),
]


@pytest.mark.parametrize(("changes", "kind", "sentence"), WRONG)
def test_nothing_is_written_where_something_is_wrong(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=re.escape(sentence)) as caught:
        save(tmp_path / "study", **changes)
    if kind is RuntimeError:
        assert caught.value.__notes__ == ["while drawing the picture 'x'"]
    assert not (tmp_path / "study").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file cannot be written"):
        save(tmp_path / "file")


# -- numbers as texts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12800, "12,800"), (-3, f"{MINUS}3"), (0.931234, "0.9312"), (RATE, "0.0003162"),
        (9999.7, "10,000"), (1234.56, "1,235"), (123456.7, "123,457"), (1e-7, f"1e{MINUS}07"),
        (3e20, "3e+20"), (math.nan, "–"), (None, "–"), (-math.inf, f"{MINUS}∞"), (0.0, "0"),
    ],
)  # fmt: skip
def test_a_number_is_read_easily(value: float | None, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-12))
def test_a_number_keeps_four_digits(value: float) -> None:
    for text in (number_text(value), *column_texts([value])):
        read = float(text.replace(",", "").replace(MINUS, "-"))
        assert read == pytest.approx(value, rel=5.001e-4)


def test_a_column_has_as_many_decimals_as_it_needs() -> None:
    assert column_texts([0.9312345, 0.9, math.nan, 1.0]) == ["0.9312", "0.9000", "–", "1.000"]
    assert column_texts([64.0, math.nan]) == ["64", "–"]
    assert column_texts([0.0001, 0.1]) == ["0.0001", "0.1"]  # too far apart to stand in line
    assert column_texts([]) == []


def test_columns_know_their_side() -> None:
    frame = pd.DataFrame(
        {
            "n": [np.int64(3), np.int64(12800)],
            "mixed": ["a", 0.123456],
            "long": ["word " * 9, ""],
            "yes": [True, False],
            "none": [None, np.nan],
        }
    )
    found = {column.name: (column.kind, column.texts) for column in table_columns(frame)}
    assert found == {
        "n": ("number", ["3", "12,800"]),
        "mixed": ("short", ["a", "0.1235"]),
        "long": ("long", ["word " * 9, ""]),
        "yes": ("short", ["yes", "no"]),
        "none": ("number", ["–", "–"]),
    }


def test_markdown_has_the_same_numbers() -> None:
    frame = FRAME.assign(optimizer=["a|b\n<i>", "x\\", None])
    assert markdown_table(frame).split("\n") == [
        "| optimizer | rate | units | rows | accuracy |",
        "| :--- | ---: | :--- | ---: | ---: |",
        "| a\\|b &lt;i> | 0.0003162 | (64,) | 12,800 | 0.9312 |",
        "| x\\\\ | 0.1 | (64, 64) | 7 | 0.9300 |",
        "| – | – | none | 1,234,567 | – |",
    ]
    assert markdown_table(FRAME[:0]).count("\n") == 1


@pytest.mark.parametrize(
    ("paper", "ours", "std", "expected"),
    [
        (0.97, 0.97, 0.00001, ("0.9700", "± 1e-05", "0")),
        (0.5, 0.25, np.nan, ("0.25", "", f"{MINUS}0.25")),
        (100, 120, np.nan, ("120", "", "+20")),
        ("98 %", 0.97, 0.01, ("0.9700", "± 0.0100", "")),
        (2.0, np.nan, 0.1, ("–", "", "")),
        (12345.0, 12000.5, 34.5, ("12,000", "± 34", f"{MINUS}344")),
    ],
)
def test_spread_and_difference(
    paper: Any, ours: Any, std: float, expected: tuple[str, str, str]
) -> None:
    frame = pd.DataFrame(
        [{"what": "x", "paper": paper, "ours": ours, "std": std, "seeds": np.nan, "note": ""}]
    )
    (row,) = comparison_rows(frame)
    assert (row["ours"], row["spread"], row["difference"]) == expected
