"""The benchmark of loading: what it measures, leaves out and writes."""

from __future__ import annotations

import csv
import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxlstm.data
from benchmarks import data
from benchmarks.data import Case, LoadError, Run


def test_lines_again_as_other_peoples(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "in.gz", "wb") as file:
        file.write(b"33,Walking\n34,Jogging\n")
    data.lengthen(tmp_path / "in.gz", tmp_path / "out", 5)
    assert (tmp_path / "out").read_text().split() == [
        "33,Walking", "34,Jogging", "133,Walking", "134,Jogging", "233,Walking",
    ]  # fmt: skip
    with gzip.open(tmp_path / "empty.gz", "wb"):
        pass
    with pytest.raises(LoadError, match="has no lines"):
        data.lengthen(tmp_path / "empty.gz", tmp_path / "out", 5)


def test_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    """Each case runs once a round after one unmeasured; one that fails or changes is left out."""
    calls: dict[str, int] = dict.fromkeys(["faces", "wisdm", "ravdess"], 0)

    def load(name: str, path: Path) -> Run:
        calls[name] += 1
        if name == "wisdm":
            raise LoadError("no such loader")
        return Run(calls[name], 0.5, 100, 7 if name == "faces" or calls[name] < 4 else 8, 0)

    found = data.measure({name: Path(name) for name in calls}, 3, load)
    assert calls == {"faces": 4, "wisdm": 1, "ravdess": 4}
    assert [run.seconds for run in found["faces"]] == [2, 3, 4]
    assert list(found) == ["faces"]
    said = capsys.readouterr().out
    assert "wisdm is left out: no such loader" in said
    assert "ravdess is left out: 8 items, 7 the first time" in said


def test_table_and_file(tmp_path: Path) -> None:
    found = {
        "ravdess": [Run(8, 1, 400, 1012, 0), Run(6, 2, 420, 1012, 0), Run(7, 3, 410, 1012, 0)],
        "ravdess-cached": [Run(0.1, 1, 200, 1012, 0)],
    }
    assert data.ratio(found) == pytest.approx(70)
    assert data.ratio({"ravdess": found["ravdess"]}) is None
    text = data.table(found)
    assert "7.000  6.500 - 7.500" in text
    assert "found again 70 times faster" in text
    data.write_csv(tmp_path / "data.csv", found, {"machine": "m"})
    with (tmp_path / "data.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["case"] == "ravdess"
    assert [float(first[key]) for key in ("median_s", "peak_mb", "aim_s")] == [7, 420, 60]
    assert second["aim_s"] == ""
    assert second["machine"] == "m"


def test_one_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted over the parts of a data set that comes split."""
    part = jaxlstm.data.SequenceData(
        np.zeros((3, 2, 1)), np.zeros(3, int), ("a",), "name", "", dropped={"bad": 2}
    )

    def load(path: Path, scratch: Path) -> Any:
        return {"train": part, "test": part}

    monkeypatch.setitem(data.CASES, "faces", Case("x", load))
    run = data.load_once("faces", tmp_path, tmp_path)
    assert (run.items, run.skipped) == (6, 4)
    assert run.megabytes > 10


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a song or two, in processes of their own; what is not there is said."""
    pytest.importorskip("librosa", reason="no librosa: pip install jaxlstm[audio]")
    if not hasattr(jaxlstm.data, "load_ravdess"):
        pytest.skip("no load_ravdess yet")
    import soundfile

    place = tmp_path / "songs" / "Actor_01"
    place.mkdir(parents=True)
    for emotion in (1, 2):
        signal = np.random.default_rng(emotion).uniform(-0.1, 0.1, 9000)
        soundfile.write(place / f"03-02-{emotion:02}-01-01-01-01.flac", signal, 22_050)
    file = tmp_path / data.RAVDESS
    file.parent.mkdir()
    shutil.make_archive(str(file.with_suffix("")), "tar", tmp_path / "songs")
    cases = ["ravdess", "ravdess-cached", "faces"]
    data.main(
        [
            "--data",
            str(tmp_path),
            "--rounds",
            "1",
            "--out",
            str(tmp_path / "out"),
            "--cases",
            *cases,
        ]
    )
    said = capsys.readouterr().out
    assert "faces is left out: " in said
    assert "times faster than computed" in said
    with (tmp_path / "out" / "data.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["case"]: row["items"] for row in rows} == {"ravdess": "2", "ravdess-cached": "2"}
    assert rows[0]["command"].startswith("python -m benchmarks.data --data FOLDER --rounds 1")


def test_a_load_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"not there|cannot import name"):
        data.load_in_a_process("faces", tmp_path / "gone", tmp_path)


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        data.parse(["--data", ".", "--rounds", "0"])
    assert "--rounds must be at least 1, got 0" in capsys.readouterr().err
