"""The four studies, each from its command on made-up data to the page that it leaves."""

from __future__ import annotations

import html
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

# How many of the paper's figures each comparison has, and the figures and tables of its page.
STUDIES: dict[str, dict[str, Any]] = {
    "har_wisdm": {
        "paper": 6 + 2 * (3 + 3 + 3 + 1),
        "figures": {"curves_random", "curves_people", "splits", "confusion_random", "confusion_people"},
        "tables": {"classes", "table_2", "table_3", "table_4", "table_best", "search"},
        "parts": {"tables": 9 * 2 * 2, "search": 2 * 2},
    },
    "faces": {
        "paper": 6 + 2 + 6 + 21 + 18,
        "figures": {
            "classes", "samples", "grid", "curves_bilstm", "curves_ours", "curves_cnn", "confusion",
            "wrong", "saliency",
        },
        "tables": {"classes", "networks", "grid", "class_rates", "prediction_times", "plan"},
        "parts": {"grid": 4 * 3, "bilstm": 4 * 2, "ours": 2, "cnn": 2 * 2},
    },
    "emnist": {
        "paper": 3 * 6 + 1 + 3,
        "figures": {
            "accuracy", "metrics", "times", "lstm_grid", "cnn_grid", "mlp_grid", "samples", "confusion",
            "curves_lstm", "curves_cnn", "curves_mlp", "curves_cnn_lstm",
        },
        "tables": {"models", "lstm_grid", "cnn_grid", "mlp_grid", "prediction_times"},
        "parts": {
            "lstm_grid": 6 * 3, "cnn_grid": 48 * 3, "mlp_grid": 2 * 3, "lstm": 2 * 2, "cnn": 4 * 2,
            "mlp": 3 * 2, "cnn_lstm": 2,
        },
    },
    "ravdess": {
        "paper": 8 + 4 + 2 + 6 + 2,
        "figures": {
            "architectures", "splits", "confusion_random", "confusion_singers",
            "rate_gap_random", "rate_gap_singers", "rate_accuracy_random", "rate_accuracy_singers",
            *(
                f"curves_{part}_{split}"
                for part in ("last_state", "longer", "flattened", "baselines")
                for split in ("random", "singers")
            ),
        },
        "tables": {"recordings", "splits", "class_accuracy", "rates_random", "rates_singers", "plan"},
        "parts": {"last_state": 8, "longer": 4, "flattened": 4, "baselines": 8, "rates": 2**5},
    },
}  # fmt: skip


def command(monkeypatch: Any, study: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [study, *map(str, arguments)])
    importlib.import_module(f"experiments.{study}").main()


@pytest.mark.parametrize("study", STUDIES)
def test_smoke_leaves_every_table_and_figure(
    study: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    if study == "ravdess":
        pytest.importorskip("librosa", reason="the features of recordings need librosa")
        monkeypatch.setenv("JAXLSTM_DATA", str(tmp_path / "cache"))
    expected = STUDIES[study]
    command(monkeypatch, study, "--preset", "smoke", "--results", tmp_path)
    folder = tmp_path / study
    results = pd.read_csv(folder / "results.csv")
    assert results.groupby("part").size().to_dict() == expected["parts"]
    assert (results["status"] == "ok").all()
    comparison = pd.read_csv(folder / "comparison.csv")
    assert comparison["paper"].notna().sum() == expected["paper"]
    assert {path.stem for path in (folder / "figures").glob("*.png")} == expected["figures"]
    assert expected["tables"] <= {path.stem for path in (folder / "tables").glob("*.csv")}
    page = (folder / "report.html").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert config["title"] in html.unescape(page)
    assert config["config"]["preset"] == "smoke"
    assert "Report: " in capsys.readouterr().out


@pytest.mark.parametrize("study", STUDIES)
def test_presets_are_named_and_paper_is_the_reports(study: str) -> None:
    presets = importlib.import_module(f"experiments.{study}").PRESETS
    assert list(presets) == ["smoke", "cpu", "paper"]
    assert presets["cpu"].seeds >= 3
    assert presets["paper"].seeds >= 3


def test_paper_sizes_are_the_reports() -> None:
    def of(study: str) -> Any:
        return importlib.import_module(f"experiments.{study}").PRESETS["paper"]

    har, faces, emnist, ravdess = map(of, STUDIES)
    assert har.epoch_scale == 1
    assert (har.window, har.stride, har.frame) == (200, 20, 1)
    assert (faces.row_hidden, faces.col_hidden) == ((32, 64, 128), (16, 32, 64))
    assert faces.epochs == 32
    assert faces.grid_rows is None
    assert emnist.samples == 100_000
    assert emnist.widths == (50, 100, 150)
    assert emnist.cnn_grid_epochs == (10, 20)
    assert len(emnist.mlp_first) * len(emnist.mlp_second) * 3 * 2 * 3 == 108
    assert emnist.mlp_activations == ("relu", "sigmoid", "tanh")
    assert ravdess.phase_epochs == (10, 50)
    assert (ravdess.units, ravdess.grid_units, ravdess.flat_epochs) == (256, 256, 50)
    assert ravdess.rates >= 8
    assert len(ravdess.schedules) == 5


@pytest.mark.parametrize(
    ("study", "arguments", "message"),
    [
        ("har_wisdm", ["--frame", "7"], "--frame must divide the window of 200, got 7."),
        ("har_wisdm", ["--data", "/nowhere.txt"], "/nowhere.txt"),
        ("faces", [], "FER2013 needs an account"),
        ("emnist", ["--data", "/nowhere"], "/nowhere"),
        ("ravdess", ["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_one_sentence(
    study: str, arguments: list[str], message: str, monkeypatch: Any, capsys: Any, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, study, "--plan", "--results", tmp_path, *arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
