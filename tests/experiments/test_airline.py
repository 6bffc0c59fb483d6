"""The airline experiment: what it trains on, what it forecasts, and how good that is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import airline
from jaxlstm.data import load_airline

PASSENGERS = load_airline().to_numpy()


def test_no_month_of_the_last_24_is_trained_on() -> None:
    search, train, test = airline.build(airline.Config())
    growth = airline.growth(load_airline()).to_numpy()
    np.testing.assert_allclose(growth, np.log(PASSENGERS[12:] / PASSENGERS[:-12]))
    seen = set(growth[:108].tolist())  # of 1950 to 1958
    assert not seen & set(growth[108:].tolist())
    assert {*train.x.ravel().tolist(), *train.y.ravel().tolist()} <= seen
    np.testing.assert_allclose(test.y[0], growth[-24:])
    np.testing.assert_allclose(test.x[0, :, 0], growth[-48:-24])
    for fitted, tested in search.cv.split(train):
        unseen = set(train.y[tested].ravel().tolist()) - set(train.x[tested].ravel().tolist())
        used = {*train.x[fitted].ravel().tolist(), *train.y[fitted].ravel().tolist()}
        assert not used & unseen


def test_growth_becomes_passengers() -> None:
    """A forecast that is right is right in passengers, too, the second year by the first."""
    growth = airline.growth(load_airline()).to_numpy()[-24:]
    predictions = pd.DataFrame({"true": growth, "predicted": growth})
    scores: dict[str, Any] = {}
    found = airline.in_passengers(None, predictions, scores)
    np.testing.assert_allclose(predictions["predicted"], PASSENGERS[-24:])
    np.testing.assert_array_equal(predictions["true"], PASSENGERS[-24:])
    np.testing.assert_array_equal(predictions["naive"], [PASSENGERS[119]] * 24)
    np.testing.assert_array_equal(predictions["seasonal_naive"], [*PASSENGERS[108:120]] * 2)
    assert scores["mase"] == pytest.approx(0, abs=1e-12)
    scale = np.abs(PASSENGERS[12:120] - PASSENGERS[:108]).mean()
    error = np.abs(np.tile(PASSENGERS[108:120], 2) - PASSENGERS[120:]).mean()
    assert found["baselines"]["seasonal_naive"]["mase"] == pytest.approx(error / scale)


def test_run_beats_the_seasonal_naive_forecast(tmp_path: Path, monkeypatch: Any) -> None:
    """With one cell of the grid, as it is by default otherwise."""
    arguments = ["--units", "4", "--dropouts", "0.3", "--l2", "0.03", "--losses", "mse"]
    monkeypatch.setattr(
        sys, "argv", ["airline", *arguments, "--seeds", "1", "--results", str(tmp_path)]
    )
    airline.main()
    summary = json.loads((tmp_path / "airline" / "summary.json").read_text())
    assert 0 < summary["test"]["mase"] < 1 < summary["baselines"]["seasonal_naive"]["mase"]
    table = pd.read_csv(tmp_path / "airline" / "predictions.csv")
    assert len(table) == 24
    assert "thousand passengers" in (tmp_path / "airline" / "report.html").read_text()
