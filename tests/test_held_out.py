"""Predictions of held-out rows as a table, and their scores, against scikit-learn's metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics

from jaxlstm import LSTMClassifier, LSTMRegressor
from jaxlstm.data import SequenceData, from_arrays
from jaxlstm.held_out import predict_held_out

RNG = np.random.default_rng(4)
LENGTHS = RNG.integers(2, 7, 24)
X = [RNG.normal(size=(length, 2)).astype(np.float32) for length in LENGTHS]
SUMS = np.array([row.sum() for row in X])
FAST: dict[str, Any] = {"units": 4, "epochs": 3, "learning_rate": 0.03, "random_state": 0}


def data(y: Any, **more: Any) -> SequenceData:
    return from_arrays(X, y, groups=np.arange(24) % 4, **more)


def test_labels_of_rows() -> None:
    whole = data(np.where(SUMS > 0, "up", "down"))
    model = LSTMClassifier(**FAST).fit(whole)
    table, scores = predict_held_out(model, whole)
    assert_array_equal(table["predicted"], model.predict(X))
    assert_array_equal(table["true"], whole.labels)
    assert_array_equal(table["group"], np.arange(24) % 4)
    assert_allclose(table["probability"], model.predict_proba(X).max(axis=1))
    assert scores["accuracy"] == (table["true"] == table["predicted"]).mean()
    assert scores["rows"] == 24
    assert "steps" not in scores


def test_labels_of_steps() -> None:
    names = np.full((24, 6), "none")
    for row, x in enumerate(X):
        names[row, : len(x)] = np.where(x[:, 0] > 0, "up", "down")
    padded = np.full((24, 6, 2), np.nan, np.float32)
    for row, x in enumerate(X):
        padded[row, : len(x)] = x
    whole = from_arrays(padded, names, per_step=True, task="classification")
    assert whole.classes == ("down", "up")
    model = LSTMClassifier(return_sequences=True, **FAST).fit(whole)
    table, scores = predict_held_out(model, whole)
    assert len(table) == scores["steps"] == LENGTHS.sum()
    steps = [(row, step) for row, length in enumerate(LENGTHS) for step in range(length)]
    assert_array_equal(table[["row", "step"]], steps)
    assert_array_equal(table["predicted"], np.concatenate(model.predict(X)))
    assert_array_equal(table["true"], [names[place] for place in steps])
    assert scores["accuracy"] == metrics.accuracy_score(table["true"], table["predicted"])


def test_several_labels() -> None:
    y = np.stack([SUMS > 0, SUMS > 1, RNG.normal(size=24) > 0], axis=1).astype(int)
    whole = data(y, classes=["positive", "large", "noise"])
    model = LSTMClassifier(**FAST).fit(whole)
    table, scores = predict_held_out(model, whole)
    predicted = model.predict(X)
    assert_array_equal(table["target"], ["positive", "large", "noise"] * 24)
    assert_array_equal(table["predicted"], predicted.ravel())
    assert_array_equal(table["row"], np.repeat(np.arange(24), 3))
    assert scores["accuracy"] == metrics.accuracy_score(y, predicted)
    assert scores["hamming_loss"] == pytest.approx(metrics.hamming_loss(y, predicted))


@pytest.mark.parametrize("width", [1, 2])
def test_numbers(width: int) -> None:
    y = np.stack([SUMS, SUMS**2], axis=1)[:, :width]
    whole = data(y[:, 0] if width == 1 else y, target_names=("sum", "square")[: width - 1 and 2])
    model = LSTMRegressor(standardize_targets=True, **FAST).fit(whole)
    table, scores = predict_held_out(model, whole)
    assert ("target" in table) == (width == 2)
    assert_allclose(table["predicted"], model.predict(X).ravel())
    assert_allclose(table["true"], y.ravel(), rtol=1e-6)
    assert scores["r2"] == pytest.approx(model.score(X, y[:, 0] if width == 1 else y))
