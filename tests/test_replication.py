"""A small study through its command: what it leaves, how it goes on, what it says."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import joblib
import numpy as np
import pandas as pd
import pytest

from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.data import SequenceData
from jaxlstm.grid import run as running
from jaxlstm.grid.journal import sealed, unsealed
from jaxlstm.replication import (
    Comparison,
    Findings,
    Part,
    Replication,
    Score,
    Trained,
    bar_picture,
    confusion_picture,
    curve_picture,
    grid_section,
    mean_rates,
    run_replication,
    split_bars,
    time_table,
)
from jaxlstm.report import Section, Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """Settings of a small study."""

    epochs: int = 2
    """Epochs of each fit."""


PRESETS = {"smoke": Config(epochs=1), "cpu": Config()}


def load(config: Config) -> Mapping[str, SequenceData]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 5, 2)).astype(np.float32)
    y = (x[:, -1, 0] > 0).astype(np.int32)
    return {"rows": SequenceData(x, y, ("down", "up"), "made up", "here", groups=np.arange(48) % 6)}


def parts(config: Config, data: Mapping[str, SequenceData]) -> list[Part]:
    rows = data["rows"]
    base = LSTMClassifier(units=3, epochs=config.epochs)
    splits = [rows.split_rows(0.25, by=by) for by in ("sample", "group")]  # type: ignore[arg-type]
    cells = {"slow": {"learning_rate": 0.001}, "fast": {"learning_rate": 0.1}}
    return [
        Part(
            "grid",
            "A grid",
            GridSearch(base, {"dropout": [0.1, 0.3]}, cv=2, random_state=0, refit=False),
            rows,
        ),
        Part.of_settings(
            "finals",
            "Two settings",
            base,
            cells,
            rows,
            splits,
            seeds=config.seeds,
            seed=config.seed,
        ),
    ]


def find(
    config: Config, data: Mapping[str, SequenceData], trained: Mapping[str, Trained]
) -> Findings:
    finals, comparison = trained["finals"], Comparison()
    comparison.add("accuracy", 0.9, finals.score("fast", 0), "random rows")
    comparison.add("accuracy of people", None, finals.score("fast", 1))
    comparison.add("hours", "> 9", finals.seconds)
    test, models = finals.test(1), finals.models("fast", 1)
    predicted = [model.predict(test.x) for model in models]
    sections = [
        grid_section("Grid", trained["grid"], ["Words."]),
        Section(
            "Finals",
            (),
            [
                curve_picture("curves", finals, "Curves", fold=0),
                bar_picture(
                    "bars",
                    split_bars(finals, ("rows", "people"), {"fast": 0.9}),
                    "accuracy",
                    "Bars",
                ),
                confusion_picture("confusion", test, predicted[0], "Confusions"),
                Table("rates", mean_rates(predicted, test)),
                time_table({"fast": models[0]}, test.x),
            ],
        ),
    ]
    return Findings("It runs.", [("A", "1", "")], comparison, sections, ["A note."])


def command(monkeypatch: Any, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["small", *map(str, arguments)])
    run_replication(PRESETS, load, parts, find, name="small", title="A small study")


def tables(folder: Path) -> list[pd.DataFrame]:
    results = pd.read_csv(folder / "results.csv").drop(columns=["fit_seconds", "compile_seconds"])
    return [results, pd.read_csv(folder / "curves.csv")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        command(patch, "--results", folder, "--seeds", 2)
    return folder / "small"


def test_run_leaves_everything(run: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    wanted = {"report.html", "results.csv", "curves.csv", "config.json", "comparison.csv"}
    wanted |= {
        f"figures/{name}.{kind}"
        for name in ("grid", "curves", "bars", "confusion")
        for kind in ("png", "svg")
    }
    wanted |= {f"tables/{name}.csv" for name in ("grid", "rates", "prediction_times")}
    assert wanted <= names
    results, curves = tables(run)
    assert results.groupby("part").size().to_dict() == {"finals": 2 * 2 * 2, "grid": 2 * 2}
    assert len(curves) == 2 * len(results)
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["epochs"] == 2
    assert config["config"]["seeds"] == 2
    assert config["seconds"].keys() == {"grid", "finals"}
    assert config["data"]["rows"]["sha256"]
    comparison = pd.read_csv(run / "comparison.csv")
    finals = results[(results["part"] == "finals") & (results["param_learning_rate"] == 0.1)]
    first = finals[finals["fold"] == 0]["score"]
    assert comparison["ours"][0] == pytest.approx(first.mean())
    assert comparison["std"][0] == pytest.approx(first.std(ddof=0))
    assert comparison["seeds"][0] == 2
    assert np.isnan(comparison["paper"].astype(object)[1])
    page = (run / "report.html").read_text()
    assert "A small study" in page
    assert "A note." in page


def test_models_are_those_of_the_table(run: Path) -> None:
    """The predictions behind the rates are of the fits in results.csv."""
    rates = pd.read_csv(run / "tables" / "rates.csv")
    results, _ = tables(run)
    fits = results[(results["part"] == "finals") & (results["param_learning_rate"] == 0.1)]
    mean = fits[fits["fold"] == 1]["score"].mean()
    right = (rates["sensitivity"] * rates["support"]).sum() / rates["support"].sum()
    assert right == pytest.approx(mean)


def test_same_command_reads_what_is_there(
    run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    before, seconds = tables(run), json.loads((run / "config.json").read_text())["seconds"]

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(running.ChunkRun, "_train", fail)
    command(monkeypatch, "--results", run.parent, "--seeds", 2)
    for one, other in zip(before, tables(run), strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert json.loads((run / "config.json").read_text())["seconds"] == seconds
    capsys.readouterr()
    for module in ("replication.command", "grid.session"):
        monkeypatch.setattr(f"jaxlstm.{module}.code_version", lambda: "jaxlstm 99")
    command(monkeypatch, "--results", run.parent, "--seeds", 2)
    assert "as trained by jaxlstm" in " ".join(capsys.readouterr().out.split())
    for one, other in zip(before, tables(run), strict=True):
        pd.testing.assert_frame_equal(one, other)
    # What is missing is not trained by this version and called the other's.
    copy = tmp_path / "copy" / "small"
    shutil.copytree(run, copy)
    (journal,) = copy.glob("checkpoints/*/grid/finished.jsonl")
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(SystemExit):
        command(monkeypatch, "--results", copy.parent, "--seeds", 2)
    assert "1 of its 4 fits are missing or damaged" in capsys.readouterr().err


def test_other_data_are_not_taken_for_these(run: Path, monkeypatch: Any, capsys: Any) -> None:
    def other(config: Config) -> Mapping[str, SequenceData]:
        rows = load(config)["rows"]
        return {"rows": dataclasses.replace(rows, x=rows.x + 1)}

    monkeypatch.setattr(sys, "argv", ["small", "--results", str(run.parent), "--seeds", "2"])
    with pytest.raises(SystemExit):
        run_replication(PRESETS, other, parts, find, name="small", title="A small study")
    assert "holds another search: the data differ" in capsys.readouterr().err


def test_interrupted_study_goes_on(
    run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Ctrl-C in the second part; then a kill, whose seconds nobody counted."""
    finish, left = running.ChunkRun._end_lanes, [14]

    def interrupt(chunk: Any) -> None:
        finish(chunk)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    arguments = ["--results", tmp_path, "--seeds", 2]
    with monkeypatch.context() as patch:
        patch.setattr(running.ChunkRun, "_end_lanes", interrupt)
        with pytest.raises(SystemExit) as caught:
            command(patch, *arguments)
    assert caught.value.code == 130
    (clock,) = (tmp_path / "small" / "checkpoints").glob("*/finals.json")
    state = unsealed("sittings of finals", clock.read_bytes())
    assert state["state"] == "interrupted"
    assert state["seconds"] > 0
    clock.write_bytes(sealed("sittings of finals", state | {"state": "running"}))
    capsys.readouterr()
    command(monkeypatch, *arguments)
    said = " ".join(capsys.readouterr().out.split())
    assert "8 fits in more than" in said
    for one, other in zip(tables(run), tables(tmp_path / "small"), strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.filterwarnings("default:.*its notes.json is damaged:RuntimeWarning")
def test_no_file_of_a_folder_is_run(
    run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """A pickle in the place of any file, or beside them, does not act; damage is said."""

    class Acts:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "acted",)

    copy = tmp_path / "copy" / "small"
    shutil.copytree(run, copy)
    for name in ("grid", "finals", "search"):
        for folder in copy.glob("checkpoints/*"):
            joblib.dump(Acts(), folder / f"{name}.joblib")
    for clock in copy.glob("checkpoints/*/*.json"):
        joblib.dump(Acts(), clock)
    joblib.dump(Acts(), copy / "checkpoints" / "best_estimator.joblib")
    (saved, *_) = copy.glob("checkpoints/*/finals/states/weights-*")
    for file in [*saved.rglob("*"), *copy.glob("checkpoints/*/finals/notes.json")]:
        if file.is_file():
            joblib.dump(Acts(), file)
    command(monkeypatch, "--results", copy.parent, "--seeds", 2)
    assert not (tmp_path / "acted").exists()
    out, err = capsys.readouterr()
    assert "its notes.json is damaged" in err
    said = " ".join(out.split())
    assert "is damaged: how long it took before is not known" in said
    for one, other in zip(tables(run), tables(copy), strict=True):
        pd.testing.assert_frame_equal(one, other)
    joblib.load(copy / "checkpoints" / "best_estimator.joblib")
    assert (tmp_path / "acted").exists()  # it would


def test_plan_trains_nothing(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    command(monkeypatch, "--plan", "--results", tmp_path / "none")
    said = " ".join(capsys.readouterr().out.split())
    assert "4 fits (2 cells x 2 folds)" in said
    assert "12 fits (2 cells x 2 folds x 3 seeds)" in said
    assert "All together: about" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "big"], "--preset must be one of smoke, cpu, got 'big'."),
        (["--seeds", "0"], "--seeds must be at least 1, got 0."),
        (
            ["--results", "/dev/null/here"],
            "the results folder /dev/null/here/small cannot be written",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, monkeypatch: Any, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, *arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_preset_sets_defaults_and_help_says_them(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        command(monkeypatch, "--preset", "smoke", "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Epochs of each fit. (default: 1)" in said


def test_score_of_nothing_known() -> None:
    comparison = Comparison()
    comparison.add("folds", 0.5, Score(0.4, 0.1, 0))
    comparison.add("none", 0.5, None)
    assert comparison.table["seeds"].isna().all()
    assert comparison.table["std"].tolist()[0] == 0.1
    assert comparison.table["ours"].isna().tolist() == [False, True]


@pytest.mark.parametrize("preset", ["smoke", "cpu"])
def test_only_smoke_compiles_quickly(preset: str, tmp_path: Path, monkeypatch: Any) -> None:
    """And leaves JAX's setting as it was; what is loaded and trained lies between."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    seen = []

    def load(config: Config) -> Mapping[str, SequenceData]:
        seen.append(jax.config.read(name))
        raise ValueError("enough")

    monkeypatch.setattr(sys, "argv", ["small", "--preset", preset, "--results", str(tmp_path)])
    jax.config.update(name, False)
    try:
        with pytest.raises(SystemExit):
            run_replication(PRESETS, load, parts, find, name="small", title="A small study")
        assert seen == [preset == "smoke"]
        assert jax.config.read(name) is False
    finally:
        jax.config.update(name, before)
