"""The numbers of experiments/README.md are those of the files that are kept beside it."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from experiments import readme

TEXT = readme.README.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("python -m x --data /a/b.txt --seeds 3", "python -m x --data b.txt --seeds 3"),
        ("python -m x '--data=/a b/c d.txt' --results /r", "python -m x --data 'c d.txt'"),
        ("python -m x --results=/r --data /a/folder/", "python -m x --data folder"),
    ],
)
def test_commands_lose_their_places(given: str, kept: str) -> None:
    assert readme.placeless(given) == kept


def test_tables_are_the_kept_files() -> None:
    assert readme.filled(TEXT) == TEXT, "run python -m experiments.readme"
    text = readme.FRONT.read_text(encoding="utf-8")
    assert readme.front(text) == text, "run python -m experiments.readme"
    for study, rows in readme.MAIN.items():
        known = pd.read_csv(readme.KEPT / study / "comparison.csv")["what"]
        assert set(rows) <= set(known)


@pytest.mark.parametrize("study", readme.STUDIES)
def test_kept_files_are_whole_and_of_no_place(study: str) -> None:
    folder = readme.KEPT / study
    text = (folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert config["config"]["seeds"] >= 3
    assert "/" not in config["config"]["data"]
    assert config["config"]["preset"] != "smoke"
    assert "/" not in config["command"]
    results = pd.read_csv(folder / "results.csv")
    assert set(results["part"]) == set(config["seconds"])
    for path in folder.rglob("*"):
        assert path.suffix in ("", ".csv", ".json")
        assert path.is_dir() or path.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("study", "part", "what", "where"),
    [
        ("har_wisdm", "tables", "Best: best setting, accuracy, random windows", {"cell": 8, "fold": 0}),
        ("har_wisdm", "tables", "Best: best setting, accuracy, other people", {"cell": 8, "fold": 1}),
        ("ravdess", "flattened", "phase 2, test accuracy, random split", {"cell": 0, "fold": 0}),
        ("ravdess", "last_state", "phase 1, test accuracy, other singers", {"cell": 0, "fold": 1}),
        ("faces", "cnn", "CNN: test accuracy", {"cell": 0}),
        ("emnist", "lstm", "LSTM, the report's setting: accuracy", {"cell": 0}),
        ("emnist", "cnn_lstm", "CNN+LSTM, trained as we would: accuracy", {"cell": 0}),
    ],
)  # fmt: skip
def test_comparison_is_of_the_fits(study: str, part: str, what: str, where: dict[str, int]) -> None:
    """Every figure comes from the table of fits, not from a hand."""
    results = pd.read_csv(readme.KEPT / study / "results.csv")
    fits = results[results["part"] == part]
    for column, value in where.items():
        fits = fits[fits[column] == value]
    comparison = pd.read_csv(readme.KEPT / study / "comparison.csv").set_index("what")
    assert float(comparison.loc[what, "ours"]) == pytest.approx(fits["score"].mean())
    assert float(comparison.loc[what, "std"]) == pytest.approx(fits["score"].std(ddof=0))
    assert comparison.loc[what, "seeds"] == len(fits) >= 3
