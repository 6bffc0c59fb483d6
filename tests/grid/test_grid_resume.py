"""A search that was killed goes on where it was, to the same tables, byte for byte."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import random
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold

from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid import plan as planning
from jaxlstm.grid import search as searching
from jaxlstm.grid.outcome import LaneRun
from jaxlstm.grid.scoring import Scoring
from jaxlstm.grid.store import Store

FOLDS = KFold(3, shuffle=True, random_state=1)
EPOCHS = {"optimizer": ["adam", "sgd"], "epochs": [2, 6]}  # one run, read twice
STOPPING = {
    "early_stopping": [True],
    "patience": [0, 1],
    "restore_best_weights": [True],
    "validation_fraction": [0.25],
    "learning_rate": [0.3],
    "epochs": [8],
}
# Kept by tests that need a killed process: one that only forks is there in no time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jaxlstm", "jaxlstm.grid.search", "optax", "orbax.checkpoint"])


def make_search(folder: Any, **settings: Any) -> GridSearch:
    """Lanes that save after every epoch; their weights are looked at."""
    classifier = LSTMClassifier(
        units=4, batch_size=8, dropout=0.2, recurrent_dropout=0.1, learning_rate=0.03
    )
    settings = {"param_grid": [EPOCHS, STOPPING], "layout": "loop"} | settings
    return GridSearch(
        classifier,
        cv=FOLDS,
        scoring="f1_macro",
        refit=False,
        random_state=3,
        checkpoint_dir=folder,
        checkpoint_every=0,
        **settings,
    )


def tables(search: GridSearch) -> dict[str, Any]:
    """All that a search found out, times aside."""
    results = {name: column for name, column in search.cv_results_.items() if "time" not in name}
    return {
        "cv_results_": {
            name: column.tolist() if name == "params" or name.startswith("param_") else column
            for name, column in ((name, np.ma.asarray(column)) for name, column in results.items())
        },
        "results_": search.results_.drop(columns="fit_seconds"),
        "curves_": search.curves_,
        "best": (search.best_index_, search.best_params_, search.best_score_),
    }


def assert_same_tables(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert one["best"] == other["best"]
    assert list(one["cv_results_"]) == list(other["cv_results_"])
    for name, column in one["cv_results_"].items():
        if isinstance(column, list):
            assert column == other["cv_results_"][name], name
        else:
            assert column.tobytes() == other["cv_results_"][name].tobytes(), name
    for name in ("results_", "curves_"):
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


def run_search(data: Any, folder: Path, out: Path, layout: str) -> None:
    """A process of its own: writes down what it does, and what it found."""
    warnings.simplefilter("error")
    planning.MOST_LANES["cpu"] = 5  # some lanes wait for a slot
    log = open(out / "log", "a", buffering=1)  # noqa: SIM115
    score, record = Scoring.__call__, LaneRun.record

    def logged_score(scoring: Any, trial: Any, outcome: Any) -> Any:
        log.write(f"scored {trial.index}\n")
        return score(scoring, trial, outcome)

    def logged_record(run: LaneRun, *args: Any) -> None:
        log.write(f"epoch {run.lane.trials[0]} {run.epochs}\n")
        record(run, *args)

    Scoring.__call__ = logged_score  # type: ignore[method-assign]
    LaneRun.record = logged_record  # type: ignore[method-assign]
    (out / "begun").touch()
    search = make_search(folder, layout=layout).fit(*data)
    (out / "tables.new").write_bytes(pickle.dumps(tables(search)))
    (out / "tables.new").rename(out / "tables")


class Runs:
    """Starts processes that search, one after another, and reads what they wrote."""

    def __init__(self, data: Any, folder: Path, layout: str):
        self.data, self.folder, self.layout = data, folder / "search", layout
        self.out = folder / "out"

    def start(self, kill_after: float | None = None) -> bool:
        """Whether it came to its end before it was killed."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        process = FORKS.Process(
            target=run_search, args=(self.data, self.folder, self.out, self.layout)
        )
        process.start()
        try:
            while process.is_alive() and not (self.out / "begun").exists():
                time.sleep(0.01)
            process.join(240 if kill_after is None else kill_after)
        finally:
            process.kill()
            process.join()
        if kill_after is None:
            assert process.exitcode == 0
        assert process.exitcode in (0, -9)
        return process.exitcode == 0

    def finished(self) -> set[int]:
        """Trials whose results are on the disk, whole."""
        path = self.folder / "finished.jsonl"
        text = path.read_text() if path.exists() else ""
        return {json.loads(line)["trial"] for line in text.split("\n")[:-1]}

    def log(self) -> list[list[str]]:
        path = self.out / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def tables(self) -> dict[str, Any]:
        found: dict[str, Any] = pickle.loads((self.out / "tables").read_bytes())
        return found


@pytest.mark.parametrize("layout", ["loop", "vmap"])
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_resumed(
    kills: int, layout: str, data: Any, tmp_path: Path
) -> None:
    whole = Runs(data, tmp_path / "whole", layout)
    start = time.monotonic()
    whole.start()
    seconds = time.monotonic() - start
    expected = whole.tables()
    assert len(expected["results_"]) == 18
    assert set(expected["results_"]["status"]) == {"ok", "stopped early"}

    rng = random.Random(f"{kills} {layout}")
    done = continued = 0
    round_number = 0
    while done < kills:
        round_number += 1
        runs = Runs(data, tmp_path / f"{round_number}", layout)
        before: set[int] = set()
        ended = False
        while not ended:
            last = done >= kills
            # A moment of a whole run's time, so that few rounds see many kills.
            ended = runs.start(None if last else rng.uniform(0.1, 0.7) * seconds)
            log = runs.log()
            scored = [int(entry[1]) for entry in log if entry[0] == "scored"]
            assert len(set(scored)) == len(scored)
            assert not before & set(scored)
            epochs: dict[str, int] = {}
            for entry in log:
                if entry[0] == "epoch":
                    assert int(entry[2]) == epochs.get(entry[1], int(entry[2]) - 1) + 1
                    continued += entry[1] not in epochs and int(entry[2]) > 0
                    epochs[entry[1]] = int(entry[2])
            done += not ended
            assert before <= runs.finished()
            before = runs.finished()
        assert_same_tables(runs.tables(), expected)
        assert before == set(range(18))
        assert Store(runs.folder, json.loads((runs.folder / "search.json").read_text())[
            "fingerprint"
        ]).keys() == []
    print(f"{done} kills, {continued} lanes went on from a save")
    if kills > 2:
        assert continued > 0
