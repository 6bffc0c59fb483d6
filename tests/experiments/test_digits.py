"""The digits experiment's command, from its help to the model it leaves."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from experiments import digits
from jaxlstm.cli import Experiment
from jaxlstm.data import load_digits


def field_help(config: type) -> dict[str, str]:
    """The string under each field of a dataclass."""
    (body,) = ast.parse(inspect.getsource(config)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(field.target, ast.Name)
            assert isinstance(text, ast.Expr), f"{field.target.id} has no help"
            found[field.target.id] = str(ast.literal_eval(text.value))
    return found


def command(monkeypatch: Any, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["digits", *map(str, arguments)])
    digits.main()


def test_help_lists_every_field(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, "--help")
    assert not caught.value.code
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    helps = field_help(digits.Config) | field_help(Experiment)
    assert set(helps) == {field.name for field in dataclasses.fields(digits.Config)}
    for name, text in helps.items():
        assert f"--{name.replace('_', '-')}" in printed
        assert " ".join(text.split()) in printed
    assert "python -m experiments.digits" in printed


def test_grid_is_the_studys() -> None:
    search, train, test = digits.build(digits.Config())
    cells = search._candidates()
    assert len(cells) == 18
    assert {(cell["units"], cell["dense"]) for cell in cells} == {
        ((16, 8), (8,)),
        ((32, 16), (16,)),
        ((64, 32), (32,)),
    }
    assert (len(train), len(test)) == (1437, 360)
    assert not set(map(bytes, train.x)) & set(map(bytes, test.x))


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        command(
            patch,
            *("--widths", 6, "--dropouts", 0.1, 0.2, "--optimizers", "adam", "--folds", 2),
            *("--epochs", 3, "--batch-size", 64, "--seed", 5, "--results", folder),
        )
    return folder / "digits"


def test_run_leaves_everything(run: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    figures = {
        f"figures/{name}.{kind}"
        for name in ("learning_curves", "grid", "confusion_matrix")
        for kind in ("png", "svg")
    }
    assert names == figures | {
        "results.csv",
        "curves.csv",
        "config.json",
        "summary.json",
        "predictions.csv",
        "report.html",
        "checkpoints/best_estimator.joblib",
    }
    assert all((run / name).stat().st_size for name in names)
    table = pd.read_csv(run / "results.csv")
    assert len(table) == 4
    assert set(table["param_dropout"]) == {0.1, 0.2}
    curves = pd.read_csv(run / "curves.csv")
    assert len(curves) == 4 * 3 + 3  # and the refit's, as trial -1
    assert (curves["trial"] == -1).sum() == 3
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["widths"] == [6]
    assert config["config"]["seed"] == 5
    assert not {"plan", "results"} & set(config["config"])
    assert config["data"]["sha256"]
    assert {"python", "jax", "numpy"} <= set(config["versions"])
    assert config["device"]["platform"]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["plan"]["lanes"] == 4
    assert summary["plan"]["programs"] == 1
    best = table.groupby("cell")["score"].mean()
    assert summary["best"]["cell"] == best.argmax()
    assert summary["best"]["mean_score"] == pytest.approx(best.max())
    assert "Handwritten digits" in (run / "report.html").read_text()


def test_model_predicts_what_the_table_says(run: Path) -> None:
    _, test = load_digits().split(0.2, seed=5)
    predictions = pd.read_csv(run / "predictions.csv")
    model = joblib.load(run / "checkpoints" / "best_estimator.joblib")
    probabilities = model.predict_proba(test.x)
    np.testing.assert_array_equal(predictions["true"], test.y)
    np.testing.assert_array_equal(predictions["predicted"], model.predict(test.x).astype(int))
    np.testing.assert_array_equal(
        predictions["probability"].to_numpy(np.float32), probabilities.max(axis=1)
    )
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test"]["rows"] == 360
    assert summary["test"]["accuracy"] == (predictions["true"] == predictions["predicted"]).mean()


def test_mistakes_are_one_sentence(monkeypatch: Any, capsys: Any) -> None:
    for arguments, message in (
        (["--optimizers", "adm"], "Did you mean 'adam'?"),
        (["--widths", "1"], "units must name"),
        (["--test-size", "2"], "test_size"),
    ):
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, *arguments, "--plan")
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
