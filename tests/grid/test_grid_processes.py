"""One search in two JAX processes of two devices each, against the same in one process."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from jaxlstm.grid import processes

PROGRAM = """
import json, sys, warnings
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time
folder, count = Path(sys.argv[1]), int(sys.argv[2])
if count > 1:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(sys.argv[4], count, int(sys.argv[3]), initialization_timeout=60)
import numpy as np
from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid import plan, program_cache, run
from jaxlstm.grid.lanes import Lanes

process = jax.process_index()
assert jax.process_count() == count and jax.device_count() == 2 * count - (count == 1)
rng = np.random.default_rng(7)
X, y = rng.normal(size=(26, 5, 2)), np.arange(26) % 3
classifier = LSTMClassifier(units=4, batch_size=8, learning_rate=0.02)

# A device holds two lanes, so that waiting lanes take freed slots, and the last ones move together.
# The processes' clocks disagree on whether that pays.
plan.MOST_LANES["cpu"] = 2 if count > 1 else 16
program_cache.seconds_a_program = lambda: 1e9 if process else 0.0
puts, widths = [], set()
put, train_epoch = Lanes.put, Lanes.train_epoch
def spy_put(self, entries):
    entries = list(entries)
    puts.append(len(entries))
    put(self, entries)
def spy_train(self, *flags):
    widths.add((self.slots, len(self._state.step.sharding.device_set)))
    return train_epoch(self, *flags)
Lanes.put, Lanes.train_epoch = spy_put, spy_train

scored = []
def scoring(estimator, X, y):
    scored.append(1)
    return float(estimator.predict_proba(X)[:, 0].sum())

def search(grid, X=X, y=y, **settings):
    settings = dict(cv=2, random_state=0, refit=False, scoring=scoring) | settings
    return GridSearch(classifier, grid, **settings).fit(X, y)

def keep(found, name):
    found.curves_.to_pickle(folder / f"{name}-{count}-{process}.curves")
    found.results_.to_pickle(folder / f"{name}-{count}-{process}.results")

grid = [
    {"dropout": [0.0, 0.2, 0.4], "epochs": [2, 7], "optimizer": ["adam"]},
    {"dropout": [0.0, 0.2, 0.4], "epochs": [9], "optimizer": ["sgd"]},
    {"epochs": [3], "learning_rate": [1e200], "optimizer": ["sgd"]},
]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    whole = search(grid, layout="auto" if count > 1 else "vmap", refit=True)
keep(whole, "grid")
facts = {"puts": puts, "widths": sorted(widths), "slots": [g.slots for g in whole.plan_.groups],
         "prediction": whole.predict_proba(X).tolist()}

if count > 1:
    def error(function):
        try:
            function()
        except ValueError as found:
            return str(found)
    facts["loop"] = error(lambda: search({"epochs": [2]}, layout="loop"))
    facts["data"] = error(lambda: search({"epochs": [2]}, X=X + process))
    facts["seed"] = error(lambda: search({"epochs": [2]}, random_state=process))
    # Goes on where a killed search was: after some of its trials.
    small = {"dropout": [0.0, 0.2, 0.4], "epochs": [3]}
    store = folder / "search"
    settings = dict(checkpoint_dir=store, checkpoint_every=0, random_state=1)
    first = search(small, **settings)
    journal = store / "finished.jsonl"
    if process == 0:
        lines = journal.read_text().splitlines()
        journal.write_text("\\n".join(lines[:2]) + "\\n")
    scored.clear()
    second = search(small, **settings)
    facts["scored"] = len(scored)
    facts["lines"] = len(journal.read_text().splitlines())
    keep(first, "first")
    keep(second, "second")
    facts["store"] = error(lambda: search(small, **settings | {"checkpoint_dir": folder}))
(folder / f"facts-{count}-{process}.json").write_text(json.dumps(facts))
"""


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_dead_peer_is_named(is_kept: bool, monkeypatch: Any, caplog: Any) -> None:
    lost = "UNKNOWN: Gloo AllReduce failed: Connection closed by peer [127.0.0.1]:9"
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    message = "another of the 3 JAX processes has died.*start all of them again.*checkpoint_dir"

    def fails(words: str) -> None:
        with processes.naming_dead_peers(is_kept):
            raise jax.errors.JaxRuntimeError(words)

    with (
        caplog.at_level(logging.ERROR, "jaxlstm"),
        pytest.raises(RuntimeError, match=message) as caught,
    ):
        fails(lost)
    assert caplog.messages == [str(caught.value)]
    assert ("the same search goes on" in str(caught.value)) == is_kept
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fails("INTERNAL: something else")
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):
        fails(lost)


@pytest.mark.slow  # one of the processes finds no compiled program in the cache
def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    running = [start(tmp_path, "2", str(number), address) for number in range(2)]
    running.append(start(tmp_path, "1"))
    try:
        texts = [one.communicate(timeout=240)[0] for one in running]
    finally:
        for one in running:
            one.kill()
    assert [one.returncode for one in running] == [0, 0, 0], "\n\n".join(t[-3000:] for t in texts)

    def read(name: str, kind: str, count: int, process: int = 0) -> pd.DataFrame:
        table: pd.DataFrame = pd.read_pickle(tmp_path / f"{name}-{count}-{process}.{kind}")
        return table[[column for column in table if "seconds" not in column]]

    facts = [json.loads((tmp_path / f"facts-2-{process}.json").read_text()) for process in (0, 1)]
    alone = json.loads((tmp_path / "facts-1-0.json").read_text())
    for kind in ("curves", "results"):
        for name in ("grid", "first", "second"):
            one, other = (read(name, kind, 2, process) for process in (0, 1))
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        ours, theirs = read("grid", kind, 2), read("grid", kind, 1)
        pd.testing.assert_frame_equal(
            ours.drop(columns="group", errors="ignore"),
            theirs.drop(columns="group", errors="ignore"),
            rtol=1e-6,
        )
        first, second = read("first", kind, 2), read("second", kind, 2)
        pd.testing.assert_frame_equal(first, second, rtol=1e-9)
    for own in facts:
        np.testing.assert_allclose(own["prediction"], alone["prediction"], rtol=1e-6)
        # 14 lanes on four devices: eight slots, filled again, and four for the last.
        assert own["slots"] == [8]
        assert own["widths"] == [[1, 1], [4, 4], [8, 4]]  # the refit is one process's own
        assert own["puts"][0] == 8
        assert len(own["puts"]) > 2
        assert "layout='loop'" in own["loop"]
        assert "2 JAX processes must search the same, but data differ" in own["data"]
        assert "but the candidates or seeds differ" in own["seed"]
        assert (own["scored"], own["lines"]) == (4, 6)
        assert "is a folder with other files in it" in own["store"]
    assert facts[0]["puts"] == facts[1]["puts"]
    assert facts[0]["widths"] == facts[1]["widths"]
