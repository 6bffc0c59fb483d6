"""What a search shows: a bar, lines where none can be drawn, a line per epoch, HTML."""

from __future__ import annotations

import io
import re
import time
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.base import clone
from test_grid_run import problem_of

from jaxlstm import GridSearch
from jaxlstm.grid import progress as module
from jaxlstm.grid.plan import make_plan
from jaxlstm.grid.progress import LiveProgress
from jaxlstm.grid.run import execute


class File(io.StringIO):
    """A file that may be a terminal, and remembers what was flushed."""

    def __init__(self, is_terminal: bool = False):
        super().__init__()
        self.is_terminal, self.flushed = is_terminal, ""

    def isatty(self) -> bool:
        return self.is_terminal

    def flush(self) -> None:
        self.flushed = self.getvalue()


@pytest.fixture
def search(classifier: Any) -> GridSearch:
    grid = {"learning_rate": [0.01, 0.1], "batch_size": [16, 32], "epochs": [20]}
    return GridSearch(classifier, grid, cv=2, n_jobs=1, random_state=0)


def shown(search: GridSearch, data: Any, console: Console, verbose: int = 1) -> str:
    """What a run of a search's trials prints."""
    problem = problem_of(search, *data)
    plan = make_plan(problem, n_jobs=1, measure=False)
    with LiveProgress(plan, problem, console, verbose=verbose) as progress:
        execute(plan, problem, progress=progress)
    file = console.file
    assert isinstance(file, File)
    assert file.flushed == file.getvalue()
    return file.getvalue()


KINDS: dict[str, dict[str, Any]] = {
    "file": {},
    "dumb terminal": {"is_terminal": True, "environ": {"TERM": "dumb"}},
    "notebook": {"force_jupyter": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_lines_where_no_bar_can_be_drawn(
    kind: str, search: GridSearch, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    options = KINDS[kind]
    environ = {"TERM": "xterm"} | options.get("environ", {})
    console = Console(
        file=File(options.get("is_terminal", False)),
        force_jupyter=options.get("force_jupyter", False),
        _environ=environ,
    )
    text = shown(search, data, console)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert "\r" not in text
    assert lines[0].startswith("  0% compiling: programs 0/2, fits 0/8, epochs 0/160")
    assert re.match(r"100% training: programs 2/2, fits 8/8, epochs 160/160, best 0\.", lines[-1])
    shares = [int(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares)
    # By tenths, and at most a line more for each program.
    assert 10 <= len(lines) <= 14
    assert "left" in lines[5]
    assert "left" not in lines[-1]


def test_a_bar_on_a_terminal(search: GridSearch, data: Any) -> None:
    console = Console(file=File(True), width=120, _environ={"TERM": "xterm"})
    text = shown(search, data, console)
    assert "\x1b[" in text
    assert "━" in text
    assert "fits 8/8, epochs 160/160" in text


@pytest.mark.parametrize("is_terminal", [False, True])
def test_verbose_2_has_a_line_for_each_epoch(
    is_terminal: bool, search: GridSearch, data: Any
) -> None:
    search.set_params(param_grid={"learning_rate": [0.01, 0.1], "epochs": [3], "batch_size": [16]})
    console = Console(file=File(is_terminal), _environ={"TERM": "xterm"})
    lines = [line for line in shown(search, data, console, 2).splitlines() if "Epoch" in line]
    number = r"\d\.\d{4}(e[+-]\d\d)?"
    expected = rf"\[CV ([12])/2; ([12])/2\] Epoch ([123])/3 - loss: {number} - accuracy: {number}"
    expected += rf" - val_loss: {number} - val_accuracy: {number} - learning_rate: ({number})"
    found = [re.fullmatch(expected, line) for line in lines]
    assert all(found)
    places = [match.groups()[:3] for match in found if match]
    assert sorted(places) == [(f, c, e) for f in "12" for c in "12" for e in "123"]
    rates = {match[0].split("/2] ")[0][-1]: match[0].rsplit(" ")[-1] for match in found if match}
    assert rates == {"1": "0.0100", "2": "0.1000"}


def test_epoch_lines_hold_the_curve(classifier: Any, data: Any, capsys: Any) -> None:
    X, y = data
    quiet = clone(classifier).set_params(epochs=3, random_state=0).fit(X, y)
    assert capsys.readouterr() == ("", "")
    model = clone(quiet).set_params(verbose=2).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[:2] for line in lines] == [
        [f"Epoch {number}/3", f"loss: {loss:.4f}"]
        for number, loss in enumerate(model.history_["loss"], 1)
    ]
    assert all("val_loss" not in line for line in lines)  # there are no validation rows
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(model.history_[name], quiet.history_[name])


def test_verbose_of_a_search(search: GridSearch, data: Any, capsys: Any) -> None:
    search.set_params(refit=False)
    quiet = search.fit(*data)
    assert capsys.readouterr() == ("", "")
    loud = clone(search).set_params(verbose=1).fit(*data)
    assert capsys.readouterr().out.splitlines()[-1].startswith("100% training")
    np.testing.assert_array_equal(
        quiet.cv_results_["mean_test_score"], loud.cv_results_["mean_test_score"]
    )


def test_a_reader_who_has_gone_stops_nothing(search: GridSearch, data: Any) -> None:
    class Closed(File):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert shown(search, data, Console(file=Closed(), _environ={})) == ""


def test_a_long_wait_says_that_it_goes_on(
    search: GridSearch, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.02)
    problem = problem_of(search, *data)
    file = File()
    console = Console(file=file, _environ={})
    with LiveProgress(make_plan(problem, n_jobs=1, measure=False), problem, console):
        end = time.monotonic() + 30
        while file.getvalue().count("\n") < 4 and time.monotonic() < end:
            time.sleep(0.01)
    assert file.getvalue().count("  0% compiling: programs 0/2, fits 0/8") >= 4


# HTML.


class Words(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


EVIL = "<img src=x onerror=alert(1)>\x1b[2J"


def test_a_plan_in_a_notebook(search: GridSearch, data: Any) -> None:
    import dataclasses

    plan = search.plan(*data, measure=False)
    page = Words(plan._repr_html_())
    for line in str(plan).splitlines():
        assert set(line.split()) <= set(page.text.split())
    assert {"table", "th", "td"} <= page.tags
    evil = dataclasses.replace(plan, descriptions=(EVIL,) * len(plan.groups))
    assert "img" not in Words(evil._repr_html_()).tags
    assert "\x1b" not in evil._repr_html_()


def test_a_search_in_a_notebook(search: GridSearch, data: Any) -> None:
    diagram = search._repr_html_()
    assert "Best mean" not in diagram
    search.set_params(refit=False).fit(*data)
    for html in (search._repr_html_(), search._repr_mimebundle_()["text/html"]):
        words = Words(html).text
        assert f"Best mean score {search.best_score_:.4f} of 4 cells:" in words
        assert str(search.best_params_) in words
        for score in search.cv_results_["mean_test_score"]:
            assert f"{score:.4f}" in words
    search.cv_results_["param_batch_size"] = np.array([EVIL] * 4, object)
    search.best_params_ = {EVIL: 1}
    html = search._repr_html_()
    assert "<img src=x" not in html
    assert "\x1b" not in html
    assert r"\x1b[2J" in html
