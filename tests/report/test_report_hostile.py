"""A run's folder from elsewhere: names that act, links out of it, fields of every wrong kind."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from task_runs import make_task_run

from jaxlstm.report import Run, Section, Table, load_run, redraw, save_run, save_study
from jaxlstm.report.draw import _figures
from jaxlstm.report.files import RUN_FILES, write_run_files
from jaxlstm.report.page import render

ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
EVIL = ["\x1b[2J\x00", "exe\u202egnp.", "\x9b31m", "a\u2066b\x00", "bell\x07", "\x7f\x08del"]


def evil_run(run_maker: Callable[..., Run]) -> Run:
    """A run with characters that act in every text it has."""
    grid = {"optimizer\x1b": ["adam", EVIL[0]], "dropout": [0.1, 0.2], "kind": [EVIL[1], "x\x00"]}
    run = run_maker(grid=grid, epochs=2, classes=EVIL, predictions=60)
    config, summary = copy.deepcopy(run.config), copy.deepcopy(run.summary)
    config |= dict.fromkeys(("name", "title", "command", "created"), EVIL[0])
    config["device"] = {"cpu": EVIL[2], "cores": 2}
    config["config"] = {EVIL[0]: EVIL[1], "list": [EVIL[3]]}
    config["versions"] = {"python\x1b": EVIL[4]}
    summary |= {"scoring": "accuracy\x1b", "notes": EVIL}
    summary["comparison"] = [{"what": EVIL[0], "paper": EVIL[1], "ours": 1, "note": EVIL[2]}]
    summary["plan"]["groups"][0]["structure"] = summary["plan"]["layout"] = EVIL[3]
    return Run(run.results, run.curves, config, summary, run.predictions)


def test_no_character_acts_on_the_page(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    html = save_run(evil_run(run_maker), tmp_path).read_bytes().decode()
    assert not ACTING.findall(html)
    for shown in (r"\x1b[2J\x00", r"exe\u202egnp.", r"\x9b31m", r"bell\x07"):
        assert shown in html
    for figure in (tmp_path / "figures").glob("*.svg"):
        assert not ACTING.findall(figure.read_text(encoding="utf-8"))
    # The files keep the texts as they are.
    run = load_run(tmp_path)
    assert run.predictions is not None
    assert set(run.predictions["true"]) == set(EVIL)


def figure_texts(run: Run) -> list[str]:
    texts = []
    for figure, _, _ in _figures(run, None).values():
        figure.canvas.draw()
        texts += [text.get_text() for text in figure.findobj(Text)]  # type: ignore[attr-defined]
    return texts


@pytest.mark.parametrize("kind", [None, "steps", "targets"])
def test_no_character_acts_in_a_figure(
    kind: str | None, run_maker: Callable[..., Run], tmp_path: Path
) -> None:
    run = evil_run(run_maker)
    if kind is not None:
        made = make_task_run(kind, rows=12)
        config = json.loads(json.dumps(made.config))
        names = config["data"].get("classes") or config["data"]["targets"]
        swap = dict(zip(names, EVIL, strict=False))
        config["data"] |= {
            key: [swap.get(name, name) for name in config["data"].get(key, ())]
            for key in ("classes", "targets")
        } | {"units": "k\x1b"}
        assert made.predictions is not None
        predictions = made.predictions.replace(swap)
        run = Run(made.results, made.curves, config, made.summary, predictions)
    texts = figure_texts(run)
    assert not [text for text in texts if ACTING.search(text)]
    assert any(r"\x1b" in text for text in texts)


def test_a_study_shows_what_acts(tmp_path: Path) -> None:
    table = pd.DataFrame([dict.fromkeys(("what", "paper", "ours", "note"), EVIL[0])])
    page = save_study(
        tmp_path,
        config={"title": EVIL[1], "data": {EVIL[2]: {"classes": EVIL}}},
        headline=EVIL[3],
        tiles=[(EVIL[0], EVIL[1], EVIL[2])],
        comparison=table.assign(std=float("nan"), seeds=1),
        sections=[Section(EVIL[4], [EVIL[5]])],
        notes=EVIL,
    )
    html = page.read_bytes().decode()
    assert not ACTING.findall(html)
    assert html.count(r"\x1b[2J") >= 4


# Links.


@pytest.fixture
def folder(run_maker: Callable[..., Run], tmp_path: Path) -> Path:
    """The files of a run, beside a folder that is none of its business."""
    path = tmp_path / "run"
    write_run_files(run_maker(grid={"units": [1, 2]}, epochs=2, predictions=20), path)
    (path / "figures").mkdir()
    (path / "report.html").write_text("old")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "grid.png").write_text("mine")
    return path


@pytest.mark.parametrize("name", [*RUN_FILES, "report.html", "figures", "figures/grid.png"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    path, other = folder / name, folder.parent / "other"
    moved = other / path.name
    if path.exists():
        path.rename(moved)
    path.symlink_to(moved)
    before = {file: file.read_bytes() for file in other.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=f"{name}.* leads out of the results folder") as caught:
        redraw(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="leads out of the results folder"):
        save_run(make_task_run("regression", rows=4), folder)
    assert {file: file.read_bytes() for file in other.rglob("*") if file.is_file()} == before


def test_links_within_the_folder_and_to_it_are_followed(folder: Path) -> None:
    (folder / "figures").rename(folder / "drawn")
    (folder / "figures").symlink_to("drawn")
    (folder.parent / "link").symlink_to(folder)
    assert redraw(folder.parent / "link").exists()
    assert (folder / "drawn" / "grid.png").exists()


@pytest.mark.parametrize("name", ["figures", "tables", "tables/plan.csv", "study.json"])
def test_a_study_refuses_links_out_of_its_folder(tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "study" / name).parent.mkdir(parents=True)
    (tmp_path / "study" / name).symlink_to(other)
    columns = ["what", "paper", "ours", "std", "seeds", "note"]
    with pytest.raises(ValueError, match=f"{name}.*leads out of the results folder"):
        save_study(
            tmp_path / "study",
            config={},
            headline="",
            tiles=[],
            comparison=pd.DataFrame(columns=columns),
            sections=[Section("The plan", [], [])]
            if name != "tables/plan.csv"
            else [Section("The plan", [], [_plan_table()])],
            notes=[],
        )
    assert not list(other.iterdir())


def _plan_table() -> Any:
    return Table("plan", pd.DataFrame({"a": [1]}))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_no_file(folder: Path) -> None:
    (folder / "results.csv").unlink()
    os.mkfifo(folder / "results.csv")
    with pytest.raises(ValueError, match=r"results\.csv is not a file"):
        load_run(folder)


# Fields of every wrong kind.

WRONG: list[Any] = [
    None, "text", "", 5, -3, 1.5, 10**30, 10**400, 1e308, True, [], [1], ["a"], [None], {},
    {"a": 1}, [[1]], [{}], "\x1b\x00", float("nan"), ...,
]  # fmt: skip
FIELDS = [
    "", "text", "5", "-3", "1.5", "1e308", "inf", "nan", "True", "None", "[]", "{}", "0", "1e-320",
    str(2**63 - 1), str(-(2**63)), "1" + "0" * 30, "9" * 5000, "\x1b\x00", " 5", "1_0", "٣", ...,
]  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a JSON value; of a list the first item stands for all."""
    if place:
        yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*place, 0))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with one field changed, or gone where `new` is the ellipsis."""
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return value


def attempt(folder: Path, name: str, draws: bool) -> bool:
    """Whether a page can be made; else one sentence that names the file."""
    try:
        run = load_run(folder)
    except (ValueError, OSError) as error:
        sentence = str(error)
    else:
        sentence = ""
    if sentence:
        assert str(folder / name) in sentence
        assert "\n" not in sentence
        assert len(sentence) < 700
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # as where it is drawn
        assert render(run, {})
        if draws:
            _figures(run, None)
    return True


@pytest.mark.parametrize("kind", ["digits", "forecast"])
def test_json_fields_of_any_kind(kind: str, run_maker: Callable[..., Run], tmp_path: Path) -> None:
    """A drawn share of all fields x wrong kinds; what is not refused makes a page."""
    if kind == "digits":
        run = run_maker(grid={"units": [(2,), (4, 2)]}, epochs=1, predictions=12)
    else:
        run = make_task_run(kind, rows=3)
    write_run_files(run, tmp_path)
    outcomes = []
    for name in ("config.json", "summary.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        value = json.loads(text)
        cases = [(place, new) for place in places(value) for new in WRONG]
        for place, new in random.Random(f"fields of {kind}").sample(cases, 40):
            (tmp_path / name).write_text(json.dumps(changed(value, place, new)))
            outcomes.append(attempt(tmp_path, name, draws=False))
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert 0.3 < sum(outcomes) / len(outcomes) < 0.7


@pytest.mark.parametrize(
    ("name", "place", "new", "sentence"),
    [
        ("summary.json", ("best", "params"), 7, "the field best.params is 7; an object is needed"),
        ("summary.json", ("best", "cell"), "0", "best.cell is '0'; a whole number from 0 on"),
        ("summary.json", ("best", "mean_score"), "high", "best.mean_score is 'high'; a finite"),
        ("summary.json", ("seconds", "search"), -1, "seconds.search is -1; a number from 0 on"),
        ("summary.json", ("comparison", 0), 3, "comparison[0] is 3; an object is needed"),
        ("summary.json", ("comparison",), {}, "comparison is {}; a list is needed"),
        ("summary.json", ("notes", 0), {}, "notes[0] is {}; a text is needed"),
        ("summary.json", ("plan", "groups", 0, "lanes"), True, "groups[0].lanes is True; a whole"),
        ("summary.json", ("test", "accuracy"), float("nan"), "not valid JSON: NaN is no number"),
        ("summary.json", ("test", "rows"), "BIG", "not valid JSON"),
        ("config.json", ("data",), ["x"], "the field data is ['x']; an object is needed"),
        ("config.json", ("data", "classes"), "abc", "data.classes is 'abc'; a list is needed"),
        ("config.json", ("device", "cores"), "two", "device.cores is 'two'; a whole number"),
        ("config.json", ("title",), 5, "the field title is 5; a text is needed"),
    ],
)
def test_a_wrong_field_is_named(
    folder: Path, name: str, place: tuple[Any, ...], new: Any, sentence: str
) -> None:
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    text = json.dumps(changed(value, place, new))
    (folder / name).write_text(text.replace('"BIG"', "1" + "0" * 5000))
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        load_run(folder)
    assert str(folder / name) in str(caught.value)


def test_nesting_has_an_end(folder: Path) -> None:
    for deep, sentence in ((100, "nested at most 32 deep"), (10**6, "nested too deep")):
        text = '{"config": {"x": ' + "[" * deep + "]" * deep + "}}"
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            load_run(folder)


def test_a_wrong_field_is_refused_before_anything_is_written(
    run_maker: Callable[..., Run], tmp_path: Path
) -> None:
    run = run_maker(epochs=1, predictions=5)
    run.summary["best"]["cell"] = "first"
    with pytest.raises(ValueError, match=r"run\.summary: the field best\.cell is 'first'"):
        save_run(run, tmp_path)
    assert not list(tmp_path.iterdir())


def test_labels_that_are_no_class_name_the_file(folder: Path) -> None:
    path = folder / "predictions.csv"
    header, first, rest = path.read_text(encoding="utf-8").split("\n", 2)
    row, _, others = first.split(",", 2)
    path.write_text(f"{header}\n{row},elf,{others}\n{rest}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"predictions\.csv: the label 'elf' is neither"):
        redraw(folder)


@pytest.mark.parametrize("kind", ["regression", "multilabel_steps", "steps"])
def test_table_fields_of_any_kind(kind: str, tmp_path: Path) -> None:
    """A drawn share of all columns x wrong texts, in one line or in all: a page or a sentence."""
    write_run_files(make_task_run(kind, rows=4), tmp_path)
    rng = random.Random(f"fields of {kind}")
    outcomes = []
    for name in ("results.csv", "curves.csv", "predictions.csv"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text)))
        cases = [(column, new) for column in range(len(rows[0])) for new in FIELDS]
        for number, (column, new) in enumerate(rng.sample(cases, 12)):
            table = copy.deepcopy(rows)
            for row in table if new is ... else table[1 : None if rng.random() < 0.5 else 2]:
                row[column : column + 1] = [] if new is ... else [new]
            with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(table)
            outcomes.append(attempt(tmp_path, name, draws=number == 0))
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert 0.1 < sum(outcomes) / len(outcomes) < 0.9
