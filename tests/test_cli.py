"""The `jaxlstm` command: its grammar, its files, its mistakes, Ctrl-C."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from jaxlstm import cli, exploration
from jaxlstm.data import SequenceData, load_arrays, load_digits
from jaxlstm.report import load_run
from jaxlstm.search_command import Search

FILES = {
    "results.csv",
    "curves.csv",
    "config.json",
    "summary.json",
    "predictions.csv",
    "report.html",
    "checkpoints/best_estimator.joblib",
    *(
        f"figures/{name}.{kind}"
        for name in ("learning_curves", "grid", "confusion_matrix")
        for kind in ("png", "svg")
    ),
}
KINDS = ("png", "svg")
# The same structures as the finished run's, so that few programs compile.
FAST = ["--cv", "3", "--set", "epochs=2", "batch_size=16"]


def files(folder: Path) -> dict[str, str]:
    """A hash of every file under a folder, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def jaxlstm(monkeypatch: Any, capsys: Any) -> Any:
    """Runs the command in this process; returns its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jaxlstm", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as error:
            code = error.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: Any) -> Path:
    """60 sequences [5, 2] of two classes with names."""
    rng = np.random.default_rng(5)
    y = rng.permutation(np.repeat(["fast", "slow"], 30))
    x = rng.normal(size=(60, 5, 2)) + (y == "slow")[:, None, None] * 2
    path = tmp_path_factory.mktemp("data") / "motion.npz"
    np.savez(path, x=x.astype(np.float32), y=y)
    return path


@pytest.fixture(scope="module")
def finished(sequences: Path, tmp_path_factory: Any) -> tuple[Path, str]:
    """The results folder of a run of the real command, and what it printed."""
    results = tmp_path_factory.mktemp("finished")
    done = subprocess.run(
        [
            *("jaxlstm", "search", str(sequences), "--grid", "units=4,8", "dropout=0.1,0.3"),
            *(*FAST, "learning_rate=0.03", "--results", str(results)),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return results, done.stdout


# -- running --------------------------------------------------------------------------------------


def test_search_end_to_end(finished: tuple[Path, str], sequences: Path) -> None:
    results, printed = finished
    folder = results / "motion"
    assert set(files(results)) == {f"motion/{name}" for name in FILES}
    assert "Test accuracy of the refitted winner" in printed
    assert "12 fits in" in printed
    assert str(folder / "report.html") in printed
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == 12
    assert sorted(set(table["param_units"])) == [4, 8]
    assert set(table["epochs"]) == {2}
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["set"] == ["epochs=2", "batch_size=16", "learning_rate=0.03"]
    assert config["command"].startswith("jaxlstm search ")
    assert "--grid units=4,8 dropout=0.1,0.3" in config["command"]
    assert config["data"]["classes"] == ["fast", "slow"]
    assert (config["data"]["train_rows"], config["data"]["test_rows"]) == (48, 12)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["plan"]["programs"] == 2
    assert set(summary["best"]["params"]) == {"units", "dropout"}

    predictions = pd.read_csv(folder / "predictions.csv")
    right = (predictions["true"] == predictions["predicted"]).mean()
    assert summary["test"]["accuracy"] == pytest.approx(right)
    model = joblib.load(folder / "checkpoints" / "best_estimator.joblib")
    assert model.get_params()["learning_rate"] == 0.03
    assert model.classes_.tolist() == ["fast", "slow"]
    with np.load(sequences) as arrays:
        assert model.predict(arrays["x"]).shape == (60,)


def test_report_draws_again(finished: tuple[Path, str], jaxlstm: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished[0] / "motion", folder)
    before = files(folder)
    shutil.rmtree(folder / "figures")
    (folder / "report.html").unlink()
    code, printed, error = jaxlstm("report", folder)
    assert (code, error) == (0, "")
    assert str(folder / "report.html") in printed
    again = files(folder)
    assert set(again) == set(before)
    kept = [name for name in before if not name.startswith("figures") and name != "report.html"]
    assert {name: again[name] for name in kept} == {name: before[name] for name in kept}


def test_csv_with_names_and_no_test_rows(jaxlstm: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(30, 4)).round(3), columns=list("abcd"))
    frame.insert(1, "kind", np.where(frame["a"] > 0, "über", "unter"))
    frame.to_csv(tmp_path / "own.csv", index=False)
    code, printed, _ = jaxlstm(
        *("search", tmp_path / "own.csv", "--grid", "optimizer=adam,rmsprop"),
        *("--label", "kind", "--test-size", "0", "--cv", "2", "--set", "epochs=1", "units=3"),
        *("--scoring", "f1_macro", "--seed", "4", "--results", tmp_path / "results"),
    )
    assert code == 0
    assert "held-out" not in printed
    found = files(tmp_path / "results" / "own")
    assert "predictions.csv" not in found
    assert "figures/confusion_matrix.png" not in found
    summary = json.loads((tmp_path / "results" / "own" / "summary.json").read_text())
    assert summary["scoring"] == "f1_macro"
    assert summary["test"] is None


def summary_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    texts = [(folder / name).read_text() for name in ("summary.json", "config.json")]
    summary, config = map(json.loads, texts)
    return summary, config["data"]


def test_numbers_of_a_table_with_weights_and_people(jaxlstm: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(40, 4)).round(3), columns=list("abcd"))
    frame["sum"], frame["spread"] = frame.sum(axis=1), frame.std(axis=1)
    frame["who"], frame["counts"] = np.arange(40) % 8, rng.integers(1, 4, 40)
    frame.to_csv(tmp_path / "own.csv", index=False)
    code, printed, error = jaxlstm(
        *("search", tmp_path / "own.csv", "--label", "sum,spread", "--group", "who", "--weight"),
        *("counts", "--grid", "loss=mse,mae", "--set", "units=3", "epochs=2", "--cv", "2"),
        *("--results", tmp_path / "results"),
    )
    assert (code, error) == (0, "")
    assert "Test R2 of the refitted winner" in printed
    summary, data = summary_of(tmp_path / "results" / "own")
    assert summary["scoring"] == "r2"
    assert (data["task"], data["targets"]) == ("regression", ["sum", "spread"])
    results = pd.read_csv(tmp_path / "results" / "own" / "results.csv")
    assert {"train_mse", "val_mae", "param_loss"} <= set(results)
    predictions = pd.read_csv(tmp_path / "results" / "own" / "predictions.csv")
    assert predictions.groupby("group")["row"].nunique().eq(5).all()  # of a person all rows


def test_steps_of_unequal_rows(jaxlstm: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, 6, 30)
    x = rng.normal(size=(30, 5, 2)).astype(np.float32)
    y = np.where(x[..., 0] > 0, "up", "down")
    np.savez(tmp_path / "own.npz", x=x, y=y, lengths=lengths)
    code, printed, error = jaxlstm(
        *("search", tmp_path / "own.npz", "--grid", "dropout=0.1,0.2", "--set", "units=3"),
        *("epochs=2", "--cv", "2", "--results", tmp_path / "results"),
    )
    assert (code, error) == (0, "")
    summary, data = summary_of(tmp_path / "results" / "own")
    assert (data["task"], data["per_step"]) == ("classification", True)
    assert data["lengths"][0] == lengths.min()
    assert f"{summary['test']['steps']} steps of 6 held-out rows" in printed


def test_official_splits_of_ts_files(jaxlstm: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    head = (
        "@problemName own\n@univariate false\n@equalLength false\n@classLabel true up down\n@data\n"
    )

    def write(name: str, rows: int) -> Path:
        lines = []
        for row in range(rows):
            values = rng.normal(size=(2, rng.integers(3, 7))) + (row % 2)
            parts = [",".join(f"{value:.4f}" for value in part) for part in values]
            lines.append(":".join([*parts, "up" if row % 2 else "down"]))
        path = tmp_path / name
        path.write_text(head + "\n".join(lines) + "\n")
        return path

    train, test = write("own_TRAIN.ts", 20), write("own_TEST.ts", 9)
    code, printed, error = jaxlstm(
        *("search", train, "--test", test, "--grid", "dropout=0.1,0.2", "--set", "units=3"),
        *("epochs=2", "--cv", "2", "--results", tmp_path / "results"),
    )
    assert (code, error) == (0, "")
    assert "on 9 held-out rows" in printed
    (folder,) = (tmp_path / "results").iterdir()
    assert summary_of(folder)[1]["train_rows"] == 20
    code, _, error = jaxlstm(
        *("search", train, "--test", test, "--grid", "l2=0", "--task", "regression"),
        *("--results", tmp_path / "results"),
    )
    assert code == 2
    assert error.count("\n") == 1


def test_plan_stops_before_training(jaxlstm: Any, sequences: Path, tmp_path: Path) -> None:
    code, printed, error = jaxlstm(
        *("search", sequences, "--grid", "units=4,8", "dropout=0.1,0.3", *FAST, "--plan"),
        *("--results", tmp_path / "results"),
    )
    assert (code, error) == (0, "")
    assert "12 fits (4 cells x 3 folds) as 12 lanes of 2 programs" in printed
    assert "memory: " in printed
    assert "time: about " in printed
    assert not (tmp_path / "results").exists()


def test_help_names_every_option(jaxlstm: Any) -> None:
    code, printed, _ = jaxlstm("--help")
    assert code == 0
    for command in ("search", "data", "report"):
        assert f" {command} " in printed
    code, printed, _ = jaxlstm("search", "--help")
    for option in ("grid", "set", "cv", "scoring", "test-size", "label", "seed", "results"):
        assert f"--{option}" in printed
    assert "Folds of the cross-validation" in printed
    code, printed, _ = jaxlstm("data", "--help")
    for option in ("path", "set", "kind", "samples", "seed", "results"):
        assert f"--{option}" in printed
    for name in exploration.NAMED:
        assert name in printed


# -- the rows of a search -------------------------------------------------------------------------


def table(rows: int = 24, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)).round(3), columns=list("abc"))
    return frame.assign(label=np.arange(rows) % 3)


@pytest.fixture
def two(tmp_path: Path) -> Any:
    """Loads two tables as `jaxlstm search FILE --test FILE` does."""

    def load(train: pd.DataFrame, test: pd.DataFrame | None, **options: Any) -> Any:
        train.to_csv(tmp_path / "train.csv", index=options.pop("index", False))
        if test is not None:
            test.to_csv(tmp_path / "test.csv", index=False)
            options["test"] = tmp_path / "test.csv"
        return Search(tmp_path / "train.csv", (), **options)._load()

    return load


def test_a_test_file_in_another_order_and_with_fewer_classes(two: Any) -> None:
    other = table(8, seed=1)
    other = other[other["label"] != 0]
    shuffled = other.assign(extra="text")[["c", "label", "extra", "b", "a"]]
    with pytest.warns(UserWarning, match="'Unnamed: 0' is an index") as caught:
        train, test = two(table(), shuffled, index=True)
    assert len(caught) == 1  # the test file has none
    assert train.step_names == test.step_names == ("a", "b", "c")
    np.testing.assert_array_equal(test.x, other[["a", "b", "c"]])
    assert test.targets.tolist() == other["label"].tolist()
    assert test.classes == train.classes == ("0", "1", "2")
    with pytest.raises(ValueError, match=r"test\.csv has the class '7', which .*train\.csv lacks"):
        two(table(), other.assign(label=7))
    with pytest.raises(ValueError, match=r"test\.csv has no column 'c'"):
        two(table(), other.drop(columns="c"))


def test_a_test_file_of_whole_numbers_is_of_the_same_task(two: Any) -> None:
    train, test = two(table().assign(label=np.arange(24) / 4), table(8).assign(label=[*range(8)]))
    assert train.task == test.task == "regression"
    assert test.y.tolist() == [*range(8)]


def test_held_out_rows_have_the_numbers_of_the_file(two: Any) -> None:
    frame = table()
    train, test = two(frame, None)
    assert sorted([*train.rows, *test.rows]) == [*range(24)]
    for part in (train, test):
        np.testing.assert_array_equal(part.x, frame[["a", "b", "c"]].to_numpy()[part.rows])
        np.testing.assert_array_equal(part.targets, frame["label"][part.rows])
        assert part.targets.dtype.kind == "i"
    chosen, _ = two(frame, None, features="c,a")
    assert chosen.step_names == ("c", "a")


def test_a_long_table_with_columns_of_other_names(two: Any) -> None:
    long = pd.DataFrame(
        {
            "who": np.repeat([f"s{k}" for k in range(8)], 3),
            "t": [2, 0, 1] * 8,
            "v": np.arange(24) * 1.5,
            "label": np.repeat([*"xy"] * 4, 3),
        }
    )
    train, test = two(long, None, id="who", time="t")
    assert train.x.shape[1:] == (3, 1)
    for part in (train, test):
        assert part.ids.tolist() == [f"s{row}" for row in part.rows]
    with pytest.raises(
        ValueError, match=r"'s0' is not a number; .*say that it is the id, and which"
    ):
        two(long, None)
    with pytest.raises(ValueError, match=r"'id' looks like the name of a row, .*the id of a long"):
        two(long.rename(columns={"who": "id"}).assign(id=np.repeat(np.arange(8), 3)), None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "lr=loguniform(1,2),3"], "--grid takes one distribution or values for 'lr'"),
        (["--grid", "augment=Jiter(1)"], "there is no 'Jiter' to call; did you mean 'Jitter'"),
        (["--grid", "l2=0", "--id", "who"], "whole.npz has no option 'id'"),
        (["--grid", "l2=0", "--test", "wide.npz"], "wide.npz has rows of shape (3, 2), whole.npz"),
    ],
)
def test_mistakes_of_other_options(
    arguments: list[str], message: str, jaxlstm: Any, bad: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(bad)
    code, printed, error = jaxlstm("search", "whole.npz", *arguments)
    assert (code, printed) == (2, "")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("default")
def test_random_cells_of_an_indexed_table(jaxlstm: Any, tmp_path: Path) -> None:
    table(30).assign(label=np.where(np.arange(30) % 2, "\x1b[2Jup", "=1+[red]x")).to_csv(
        tmp_path / "own.csv"
    )
    code, printed, error = jaxlstm(
        *("search", tmp_path / "own.csv", "--grid", "learning_rate=loguniform(1e-3,1e-1)"),
        *("--n-iter", "1", "--set", "units=3", "epochs=1", "early_stopping=True"),
        *("augment=Jitter(0.1)", "--cv", "2", "--results", tmp_path / "results"),
    )
    assert code == 0
    assert error == (
        f"warning: {tmp_path / 'own.csv'}: the column 'Unnamed: 0' is left out: 'Unnamed: 0' is an"
        " index without a name. To keep it, name the columns to use in features.\n"
    )
    assert "The best cell" in printed
    assert "\x1b[2J" not in printed
    folder = tmp_path / "results" / "own"
    text = (folder / "predictions.csv").read_text()
    assert "'=1+[red]x" in text
    assert ",=" not in text
    assert load_run(folder).predictions["true"].isin(["\x1b[2Jup", "=1+[red]x"]).all()  # type: ignore[index]


def test_names_cannot_act_in_the_terminal(jaxlstm: Any, tmp_path: Path) -> None:
    names = ["\x1b]0;title\x07", "[red]a\u202eb[/red]"]
    np.savez(tmp_path / "own.npz", x=np.eye(8)[:, :, None], y=np.repeat(names, 4))
    code, printed, _ = jaxlstm("data", tmp_path / "own.npz", "--results", tmp_path)
    assert code == 0
    assert r"\x1b]0;title\x07" in printed
    assert r"[red]a\u202eb[/red]" in printed
    for name in ("x\x1b[2J.npz", "[red]\x07.csv", "a\x9bb", "a\nerror: b"):
        code, printed, error = jaxlstm("data", tmp_path / "none" / name, "--results", tmp_path)
        assert (code, error.count("\n")) == (2, 1)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", printed + error)
        code, printed, error = jaxlstm(name, "--results", tmp_path)
        assert code == 2
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", printed + error)


def test_version(jaxlstm: Any) -> None:
    code, printed, _ = jaxlstm("--version")
    assert (code, printed) == (0, f"jaxlstm {importlib.metadata.version('jaxlstm')}\n")


# -- looking at data ------------------------------------------------------------------------------


def test_data_end_to_end_on_digits(jaxlstm: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, printed, error = jaxlstm("data", "digits", "--samples", 2, "--results", tmp_path)
    assert (code, error) == (0, "")
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    folder = tmp_path / "data-digits"
    assert f"Report: {folder / 'report.html'}" in printed
    figures = [f"figures/{name}.{kind}" for name in ("class_counts", "samples") for kind in KINDS]
    assert set(files(tmp_path)) == {
        f"data-digits/{name}"
        for name in ("counts.csv", "duplicates.csv", "data.json", "report.html", *figures)
    }
    digits = load_digits()
    table = pd.read_csv(folder / "counts.csv")
    assert table["rows"].tolist() == np.bincount(digits.y).tolist()
    for name, count in enumerate(np.bincount(digits.y)):
        row = next(line for line in printed.splitlines() if line.startswith(f"│ {name} "))
        assert f" {count} " in row
    facts = json.loads((folder / "data.json").read_text())
    assert facts["splits"]["all"]["sha256"] == digits.sha256
    assert facts["command"] == f"jaxlstm data digits --samples 2 --results {tmp_path}"
    assert "[1m" not in printed


def test_data_of_ones_own(jaxlstm: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    y = rng.permutation(np.repeat(["[red]", "slow"], 15))
    np.savez(
        tmp_path / "own.npz",
        x=rng.normal(size=(30, 6, 2)),
        y=y,
        groups=rng.integers(1, 5, 30),
        lengths=rng.integers(2, 7, 30),
    )
    code, printed, error = jaxlstm("data", tmp_path / "own.npz", "--results", tmp_path)
    assert (code, error) == (0, "")
    assert "[red]" in printed
    folder = tmp_path / "data-own"
    facts = json.loads((folder / "data.json").read_text())["splits"]["all"]
    assert facts["shape"] == [6, 2]
    data = load_arrays(tmp_path / "own.npz")
    assert facts["sha256"] == data.sha256
    assert (folder / "people.csv").exists() == (data.groups is not None)
    assert (folder / "figures" / "lengths.png").exists() == (data.lengths is not None)


def test_data_hands_the_loader_its_options(jaxlstm: Any, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Any] = []

    def load_wisdm(path: Any = None, *, window: int = 200, label: str = "majority") -> SequenceData:
        asked.append((path, window, label))
        data = load_digits().take(np.arange(40))
        groups = np.repeat(["a", "b"], 20)
        return dataclasses.replace(data, groups=groups, dropped={"[b]empty[/b] line": 7})

    monkeypatch.setattr("jaxlstm.data.load_wisdm", load_wisdm, raising=False)
    common = ("data", "wisdm", "--results", tmp_path, "--samples", 1)
    code, printed, error = jaxlstm(
        *common, "--path", "raw.txt", "--set", "window=100", "label=last", "--kind", "image"
    )
    assert (code, error) == (0, "")
    assert asked == [(Path("raw.txt"), 100, "last")]
    assert "People: 2" in printed
    assert "Left out: 7 ([b]empty[/b] line 7)" in printed
    code, _, error = jaxlstm(*common, "--set", "windows=3")
    assert code == 2
    assert "wisdm has no option 'windows'; it has label, window. Did you mean 'window'?" in error


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("rows.csv", "a,b,label\n1,2,x\n", {}, "load_arrays"),
        ("rows.csv", "id,b,label\n1,2,x\n", {"label": "b"}, "load_arrays"),
        ("long.csv", '"id",time,v,label\n1,2,3,x\n', {}, "load_table"),
        ("long.csv", "who,when,v,label\n1,2,3,x\n", {"id": "who", "time": "when"}, "load_table"),
        ("long.tsv", "time\tid\tv\tlabel\n", {}, "load_table"),
        ("rows.tsv", "a\tid\tv\tlabel\n", {}, "load_arrays"),
        ("long.csv", "time;id;v;label\n", {}, "load_table"),
        ("own.npz", "", {}, "load_arrays"),
        ("pictures/cat/1.JPG", "", {}, "load_image_folder"),
        ("songs/sad/1.flac", "", {}, "load_audio_folder"),
    ],
)
def test_ones_own_data_find_their_loader(
    name: str, content: str, options: dict[str, str], expected: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    assert exploration._own(str(tmp_path / Path(name).parts[0]), options).function == expected


def test_a_loader_that_fails_leaves_nothing(jaxlstm: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for failure in (
        FileNotFoundError("raw/WISDM.txt is not there: download it from ..."),
        ValueError("raw/WISDM.txt, line 7: not a number."),
        ImportError('librosa is missing: pip install "jaxlstm[audio]"'),
    ):

        def load_ravdess(path: Any = None, failure: Any = failure) -> SequenceData:
            raise failure

        monkeypatch.setattr("jaxlstm.data.load_ravdess", load_ravdess, raising=False)
        code, printed, error = jaxlstm("data", "ravdess", "--results", tmp_path / "results")
        assert (code, printed, error) == (2, "", f"error: {failure}\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "'digit' is neither a data set (digits, wisdm, emnist, faces, ravdess) nor"),
        (["digit"], "Did you mean 'digits'?"),
        (["nothing/here.npz"], "nothing/here.npz is not there"),
        (["digits", "--path", "x"], "digits has no raw files to place"),
        (["digits", "--set", "size=3"], "--set: digits has no option 'size'"),
        (["digits", "--samples", "0"], "--samples must be 1 or more, got 0"),
        (["whole.npz", "--path", "x"], "--path goes with a name (digits, "),
        (["whole.npz", "--set", "label=3,4"], "--set takes one value for 'label'"),
        (["whole.npz", "--results", "file"], "file/data-whole cannot be written"),
        (["cut.npz"], "cut.npz is not a readable npz file"),
        (["file"], "file is not a whole zip or tar archive"),
        (
            ["."],
            ". must be an .npz, .csv, .tsv, .parquet or .ts file, or a folder or archive of images (",
        ),
    ],
)
def test_mistakes_with_data(
    arguments: list[str], message: str, jaxlstm: Any, bad: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(bad)
    code, printed, error = jaxlstm("data", *arguments)
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (bad / "results").exists()


# -- mistakes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    np.savez(folder / "whole.npz", x=np.zeros((8, 3, 1), np.float32), y=np.arange(8) % 2)
    (folder / "cut.npz").write_bytes((folder / "whole.npz").read_bytes()[:300])
    np.savez(folder / "objects.npz", x=np.zeros((8, 3)), y=np.array(["a", 1] * 4, object))
    np.savez(folder / "wide.npz", x=np.zeros((8, 3, 2), np.float32), y=np.arange(8) % 2)
    hole = np.zeros((8, 3, 1), np.float32)
    hole[2, 1, 0] = np.nan
    np.savez(folder / "hole.npz", x=hole, y=np.arange(8) % 2)
    np.savez(folder / "one.npz", x=np.ones((8, 3, 1), np.float32), y=np.zeros(8, int))
    (folder / "nolabel.csv").write_text("a,b\n1,2\n")
    (folder / "word.csv").write_text("a,b,label\n1,2,x\n3,oops,y\n")
    (folder / "few.csv").write_text("a,b,label\n1,2,x\n3,4,x\n5,6,y\n")
    (folder / "file").touch()
    return folder


MISTAKES: list[tuple[list[str], str]] = [
    (["missing.npz", "--grid", "units=4"], "missing.npz is not there"),
    (["cut.npz", "--grid", "units=4"], "cut.npz is not a readable npz file"),
    (["objects.npz", "--grid", "units=4"], "objects.npz holds an array of Python objects"),
    (["nolabel.csv", "--grid", "units=4"], "has no column 'label'; its columns"),
    (["word.csv", "--grid", "units=4"], "word.csv, line 3, column 'b': 'oops' is not a number"),
    (["file", "--grid", "units=4"], "file is not a whole zip or tar archive"),
    (["few.csv", "--grid", "units=4"], "class 'y' has 1 row: a split into train and test"),
    (["one.npz", "--grid", "units=4", "--test-size", "0"], "the one class 0"),
    (
        ["hole.npz", "--grid", "units=4", "--test-size", "0"],
        "hole.npz: x is NaN at row 2, step 1, feature 0",
    ),
    (["whole.npz", "--grid", "unit=4"], "'unit' in the grid .* Did you mean 'units'?"),
    (["whole.npz", "--grid", "units=(4"], "the brackets in '(4' do not match"),
    (["whole.npz", "--grid", "units"], "--grid takes name=value entries, got 'units'"),
    (["whole.npz", "--grid", "units=big"], "got 'big'"),
    (["whole.npz", "--grid", "optimizer=adm"], "Did you mean 'adam'?"),
    (["whole.npz", "--grid", "l2=0", "--set", "epoch=3"], "Did you mean 'epochs'?"),
    (["whole.npz", "--grid", "l2=0", "--set", "epochs=3,4"], "--set takes one value for 'epochs'"),
    (["whole.npz", "--grid", "l2=0", "--set", "epochs"], "--set takes name=value"),
    (["whole.npz", "--grid", "l2=0", "--test-size", "1"], "--test-size must be in [0, 1), got 1"),
    (["whole.npz", "--grid", "l2=0", "--cv", "9"], "cv=9 folds need a class with at least 9"),
    (["whole.npz", "--grid", "l2=0", "--scoring", "f1_macr"], "Did you mean 'f1_macro'?"),
    (["whole.npz", "--grid", "l2=loguniform(1,0)"], "'l2' cannot be drawn"),
    (["whole.npz", "--grid", "l2=0", "--results", "file"], "file/whole cannot be written"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_is_one_sentence_and_exit_2(
    number: int, jaxlstm: Any, bad: Path, monkeypatch: Any
) -> None:
    arguments, message = MISTAKES[number]
    monkeypatch.chdir(bad)
    code, printed, error = jaxlstm("search", *arguments)
    assert code == 2
    assert printed == ""
    assert error.startswith("error: ")
    for part in message.split(".*"):
        assert part in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "nowhere/config.json is missing"),
        (["search", "whole.npz"], "--grid"),
        (["serch"], "serch"),
        (["search", "whole.npz", "--grid", "l2=0", "--cv", "three"], "three"),
    ],
)
def test_other_mistakes(
    arguments: list[str], message: str, jaxlstm: Any, bad: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(bad)
    code, _, error = jaxlstm(*arguments)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


# -- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from jaxlstm.grid.progress import LiveProgress
plain = LiveProgress.epoch
def epoch(self, trial, curves):
    print("training", flush=True)
    plain(self, trial, curves)
LiveProgress.epoch = epoch
from jaxlstm.cli import main
main()
"""


def test_interrupt_leaves_the_earlier_run(
    finished: tuple[Path, str], sequences: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished[0], results)
    before = files(results)
    child = subprocess.Popen(
        [
            *(sys.executable, "-c", INTERRUPTED, "search", str(sequences)),
            *("--grid", "units=4,8", "dropout=0.1,0.3", "--set", "epochs=1000000"),
            *("batch_size=16", "--cv", "3", "--results", str(results)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if "training" in line:
                break
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=60)  # not 12 million epochs
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130, error
    assert "interrupted: no results were written" in error
    assert "Traceback" not in error
    assert files(results) == before
