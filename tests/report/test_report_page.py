"""The page: whole in one file, escaped, drawn from files alone, and saying what happened."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jaxlstm.report import Run, load_run, redraw, save_run
from jaxlstm.report.page import render

FIGURES = [
    f"{name}.{kind}"
    for name in ("confusion_matrix", "grid", "learning_curves")
    for kind in ("png", "svg")
]


class Page(HTMLParser):
    """The elements and the words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self._skipped = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._skipped = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.words = " ".join(f"{self.words} {data}".split())


def test_a_run_leaves_its_files(saved: Path) -> None:
    assert saved.name == "report.html"
    names = sorted(path.name for path in saved.parent.iterdir())
    assert names == [
        "config.json",
        "curves.csv",
        "figures",
        "predictions.csv",
        "report.html",
        "results.csv",
        "summary.json",
    ]
    assert sorted(path.name for path in (saved.parent / "figures").iterdir()) == FIGURES


def test_redrawing_gives_the_same_page(saved: Path) -> None:
    before = {path: path.read_bytes() for path in [saved, *(saved.parent / "figures").iterdir()]}
    for path in before:
        path.write_bytes(b"old")
    assert redraw(saved.parent) == saved
    for path, content in before.items():
        assert path.read_bytes() == content, path.name


def test_the_page_fetches_nothing(saved: Path) -> None:
    html = saved.read_text(encoding="utf-8")
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert not {"script", "iframe", "object", "embed", "base"} & set(tags)
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "href", "action", "data", "poster", "background"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:", "#")), f"<{tag} {name}={value[:60]}>"
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            assert attributes["src"].startswith("data:image/")
            assert attributes["alt"]
    assert tags.count("img") == 3
    assert "url(" not in html
    assert "@import" not in html
    links = [attributes["href"][1:] for tag, attributes in page.elements if tag == "a"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert links == ids
    assert len(set(ids)) == len(ids)


def test_the_page_says_what_happened(saved: Path, digits_run: Run) -> None:
    words = Page(saved.read_text(encoding="utf-8")).words
    best, test = digits_run.summary["best"], digits_run.summary["test"]
    for part in (
        "Handwritten digits, row by row",
        "54 fits (18 cells × 3 folds) trained as lanes of 2 compiled programs in 52.2 s",
        "on 2 cores of AMD EPYC 7B13",
        f"{best['mean_score']:.4f} ± {best['std_score']:.4f} over the 3 folds",
        f"{100 * test['accuracy']:.1f} % of 1,000 held-out rows right",
        "54 lanes in 2 compiled programs, one lane at a time, on 2 workers",
        "0.9812 0.9743 −0.0069 10 epochs fewer",
        "173 MiB",
        "$ jaxlstm run digits --units '[(50, 25), (100, 50), (150, 75)]' --folds 3",
        "21 November 2025, 14:03 UTC",
        "Keras's default of 0.001 is used.",
        "The mean accuracy over the folds, the best cell in orange.",
    ):
        assert part in words, part
    order = [words.index(heading) for heading in (
        "Test accuracy", "What the paper reports", "A group is what", "In the picture a dot",
        "The best cell in colour", "the best cell in orange", "of 1,000 rows right", "$ jaxlstm",
    )]  # fmt: skip
    assert order == sorted(order)


def test_every_cell_is_listed_with_its_folds(run_maker: Callable[..., Run]) -> None:
    run = run_maker(grid={"a": list(range(25))}, epochs=2, failed={4})
    html = render(run, {})
    shown, _, hidden = html.partition("<details")
    assert (shown.count('class="strip"'), hidden.count('class="strip"')) == (20, 5)
    assert "The other 5 cells" in hidden
    for score in run.results["score"].dropna():
        assert f"{score:.4f}" in html
    assert "2 of 3 ok" in hidden
    assert "cell 1, fold 1, seed 0" in html
    assert Page(html).words.count("1 fit failed") == 1


@pytest.mark.parametrize(
    "missing",
    ["best", "scoring", "plan", "test", "seconds", "comparison", "notes", "everything"],
)
def test_any_part_of_the_summary_may_be_missing(digits_run: Run, missing: str) -> None:
    summary = {key: value for key, value in digits_run.summary.items() if key != missing}
    config = digits_run.config
    if missing == "everything":
        summary, config = {}, {}
    words = Page(render(dataclasses.replace(digits_run, summary=summary, config=config), {})).words
    assert "54 fits" in words
    assert "None" not in words
    assert ("Against the paper" in words) == ("comparison" in summary)
    assert ("compiled program" in words) == ("plan" in summary)


def nulls(value: Any) -> Any:
    """Return the same dictionaries with each end a null, as NaN becomes in JSON."""
    if isinstance(value, dict):
        return {key: nulls(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [nulls(item) for item in value]
    return None


def test_every_number_may_be_null(digits_run: Run) -> None:
    run = dataclasses.replace(
        digits_run, summary=nulls(digits_run.summary), config=nulls(digits_run.config)
    )
    assert "54 fits" in Page(render(run, {})).words


def test_all_failed_is_said(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    page = save_run(run_maker(failed="all", epochs=3, predictions=0), tmp_path)
    words = Page(page.read_text(encoding="utf-8")).words
    assert "No cell has a score , so there is no winner. Every fit failed." in words
    assert "and 46 more" in words
    assert "best cell" not in words


def test_names_are_escaped(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    grid = {"<img src=x onerror=alert(1)>": ["<b>", "日本語"], "tuple": [("<i>", 1), ("&amp;", 2)]}
    run = run_maker(grid=grid, epochs=2, classes=[evil, "日本語", "a&b", "'\""], predictions=60)
    config = copy.deepcopy(run.config)
    config.update(title=evil, name=evil, command=evil, created=evil)
    config["device"]["cpu"] = config["config"][evil] = config["versions"][evil] = evil
    summary = copy.deepcopy(run.summary)
    summary.update(scoring=evil, notes=[evil], comparison=[{"what": evil, "paper": evil}])
    summary["plan"]["groups"][0]["structure"] = summary["plan"]["layout"] = evil
    page = save_run(dataclasses.replace(run, config=config, summary=summary), tmp_path)
    html = page.read_text(encoding="utf-8")
    tags = {tag for tag, _ in Page(html).elements}
    assert "script" not in tags
    assert "i" in tags  # ours, in the bars; the run's own are text:
    assert "<i>" not in html
    assert "<b>日" not in html
    assert not any("onerror" in attributes for _, attributes in Page(html).elements)
    assert html.count("&lt;script&gt;") > 10
    assert evil in Page(html).words
    assert "日本語" in html


def test_an_earlier_runs_figures_go(digits_run: Run, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "confusion_matrix.png").write_bytes(b"old")
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    keep = digits_run.results["cell"] == 0
    run = dataclasses.replace(digits_run, results=digits_run.results[keep], predictions=None)
    html = save_run(run, tmp_path).read_text(encoding="utf-8")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {
        "grid.png",
        "grid.svg",
        "learning_curves.png",
        "learning_curves.svg",
        "mine.png",
    }
    assert "Classes on the held-out rows" not in html


def test_a_damaged_folder_is_not_redrawn(saved: Path, tmp_path: Path) -> None:
    for name in ("results.csv", "curves.csv", "config.json"):
        (tmp_path / name).write_bytes((saved.parent / name).read_bytes())
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(FileNotFoundError, match=re.escape("summary.json")):
        redraw(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    assert isinstance(load_run(saved.parent), Run)
