"""The report in a real browser: nothing sticks out, is missing, or is complained of."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from task_runs import make_task_run

from jaxlstm.data import SequenceData, find_duplicates
from jaxlstm.report import (
    Picture,
    Run,
    Section,
    Table,
    architectures,
    bars,
    save_run,
    save_study,
)
from jaxlstm.report.data_tables import explore
from jaxlstm.report.explore import save_exploration

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the PATH"
)
# The browser reads commands from descriptor 3 and answers on 4, which Popen alone cannot arrange.
_LAUNCHER = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 20) for number in sys.argv[1:3]]
os.dup2(pipes[0], 3)
os.dup2(pipes[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A headless Chromium, spoken to over a pipe in the DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
            "--disable-background-networking --disable-component-update --remote-debugging-pipe "
            "--hide-scrollbars"
        )
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LAUNCHER, str(commands), str(answers), str(CHROMIUM)),
                *(*flags.split(), f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events on the way are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Load a page in a window of that width and wait until it has loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events = []
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(timeout=10)
        except (RuntimeError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("the browser ended or did not answer for 30 seconds")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


CASES: dict[str, dict[str, Any]] = {
    "long": {
        "grid": {
            "units": [(50, 25), (100, 50), (150, 75)],
            "a_very_long_parameter_name_that_someone_chose": ["a" * 60, "two words " * 6],
            "dropout": [0.1, 0.2, 0.3],
            "optimizer": ["adam", "rmsprop"],
        },
        "classes": ["<script>alert(1)</script>", "日本語", "x" * 90, *map(str, range(59))],
        "folds": 5,
        "epochs": 5,
        "failed": {7},
    },
    "failed": {"failed": "all", "predictions": 0, "epochs": 3},
}
UNBROKEN = "a_title_without_a_single_place_to_break_it_" * 3


TASKS = ("regression", "forecast", "steps", "regression_steps", "multilabel")


def make_long_run(kind: str) -> Run:
    """Return a run of a task whose names have no place to break."""
    run = make_task_run(kind, units="MW")
    assert run.predictions is not None
    table = run.predictions
    for column in ("group", "target"):
        if column in table:
            table[column] = table[column].replace(table[column].iloc[0], UNBROKEN)
    if kind == "steps":
        table[["true", "predicted"]] = table[["true", "predicted"]].replace("walk", UNBROKEN)
    run.config["data"].pop("classes", None)
    return run


def two_splits() -> dict[str, SequenceData]:
    rng = np.random.default_rng(0)
    data = SequenceData(
        rng.normal(size=(90, 30, 3)),
        rng.permutation(np.repeat(np.arange(3), 30)),
        ("<script>alert(1)</script>", "Walking", UNBROKEN),
        UNBROKEN,
        UNBROKEN,
        groups=rng.choice([UNBROKEN, "another"], 90),
        dropped={UNBROKEN: 12},
        skipped=(UNBROKEN,),
        feature_names=("x (m/s²)", "y (m/s²)", UNBROKEN),
        rate=20.0,
    )
    return dict(zip(("train", "validation"), data.split(0.4), strict=True))


def save_strange_study(folder: Path) -> Path:
    frame = pd.DataFrame({UNBROKEN: [UNBROKEN, None], "two words " * 9: [0.1, 1e9]})
    table = pd.DataFrame({"group": [UNBROKEN, "b"], "series": "c", "value": [1.0, 2.0], "std": 0.1})
    networks = {UNBROKEN: [(UNBROKEN, (28, 28), 9)], "b": [("Input", (28,), 0)], "c": [], "d": []}
    return save_study(
        folder,
        config={"title": UNBROKEN, "data": {UNBROKEN: {UNBROKEN: UNBROKEN}}},
        headline=UNBROKEN,
        tiles=[(UNBROKEN, 0.9812, UNBROKEN), ("Time", UNBROKEN, "")],
        comparison=pd.DataFrame(
            {
                "what": [UNBROKEN],
                "paper": [0.1],
                "ours": [0.2],
                "std": [0.01],
                "seeds": [3],
                "note": [UNBROKEN],
            }
        ),
        sections=[
            Section(UNBROKEN, [UNBROKEN], [Table("a" * 60, pd.concat([frame] * 15), UNBROKEN)]),
            Section(
                "Pictures",
                [],
                [
                    Picture("bars", lambda w: bars(table, value_label=UNBROKEN, width=w), "bars"),
                    Picture("b" * 60, lambda w: architectures(networks, width=w), "x", UNBROKEN),
                ],
            ),
        ],
        notes=[UNBROKEN],
    )


@pytest.fixture(scope="module", params=["usual", *CASES, *TASKS, "data", "study"])
def page(
    request: pytest.FixtureRequest,
    run_maker: Callable[..., Run],
    saved: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    if request.param == "usual":
        return saved
    if request.param == "data":
        found = explore(two_splits(), find_duplicates(two_splits()))
        return save_exploration(found, tmp_path_factory.mktemp("data"), samples=2)
    if request.param == "study":
        return save_strange_study(tmp_path_factory.mktemp("study"))
    if request.param in TASKS:
        return save_run(make_long_run(request.param), tmp_path_factory.mktemp("task"))
    run = run_maker(**CASES[request.param])
    if request.param == "long":
        run.config.update(title=UNBROKEN, command="jaxlstm " + UNBROKEN)
        run.config["config"][UNBROKEN] = UNBROKEN
        run.summary["notes"].append(UNBROKEN)
        run.summary["comparison"][0]["note"] = UNBROKEN
    return save_run(run, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (390, "dark")])
def test_the_page_stands_in_a_browser(
    browser: Browser, page: Path, width: int, scheme: str
) -> None:
    browser.open(page, width, scheme)
    root = "document.documentElement"
    sizes = browser.evaluate(f"[{root}.scrollWidth, {root}.clientWidth, window.innerWidth]")
    assert sizes[1:] == [width, width]
    assert sizes[0] <= sizes[1], f"the page is {sizes[0]} wide in a window of {sizes[1]}"
    images = browser.evaluate(
        "Array.from(document.images, i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert len(images) >= 2
    for complete, natural, shown in images:
        assert complete
        assert natural > 0
        assert shown > 0
    # Only what scrolls within itself may be wider than the window.
    outside = browser.evaluate(
        "Array.from(document.querySelectorAll('main *'))"
        ".filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.tagName + '.' + e.className)"
    )
    assert outside == []
    paper, ink = browser.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(paper) > brightness(ink)) == (scheme == "light")
    complaints = [
        event
        for event in browser.events
        if event.get("method")
        in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert complaints == []
    fetched = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in fetched if not url.startswith("data:")] == [page.as_uri()]


def brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
