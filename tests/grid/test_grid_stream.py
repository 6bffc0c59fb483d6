"""Data that stays on the host: chunks of an epoch give the same numbers as all of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold

from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier
from jaxlstm.grid import stream
from jaxlstm.train.augment import Jitter

pytest.importorskip("grain", reason="Grain is not installed: pip install 'jaxlstm[data]'")

FOLDS = KFold(2, shuffle=True, random_state=1)


class Normed(nn.Module):
    """Its statistics are of batches, and of a last one of the rows left over."""

    classes: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
        return nn.Dense(self.classes)(x)


SEARCHES: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "batches": (
        LSTMClassifier(3, dropout=0.3, recurrent_dropout=0.2, l2=0.01),
        {"batch_size": [7, 40], "epochs": [1, 3]},
    ),
    "stopping": (
        LSTMClassifier(3, epochs=6, learning_rate=0.2, early_stopping=True, patience=1),
        {"restore_best_weights": [True, False], "validation_fraction": [0.25]},
    ),
    "inputs": (
        LSTMClassifier(3, epochs=2, batch_size=7, augment=Jitter(0.5), standardize=True),
        {"l2": [0.0, 0.1]},
    ),
    "batch statistics": (FlaxClassifier(Normed(3), epochs=2), {"batch_size": [7, 40]}),
}


def search(data: Any, name: str, layout: str, **settings: Any) -> tuple[GridSearch, list[Any]]:
    estimator, grid = SEARCHES[name]
    weights: list[Any] = []

    def score(model: Any, X: Any, y: Any) -> float:
        weights.append((model.get_params(), jax.tree.leaves((model.params_, model.collections_))))
        return float(model.score(X, y))

    settings = {"random_state": 3, "refit": False, "n_jobs": 1} | settings
    found = GridSearch(estimator, grid, cv=FOLDS, scoring=score, layout=layout, **settings)
    return found.fit(*data), weights


# One micro-batch a chunk, or several; never all of them.
@pytest.mark.parametrize(
    ("name", "chunk"),
    [("batches", 2000), ("stopping", 2000), ("inputs", 1), ("batch statistics", 1)],
)
def test_equals_data_on_the_device(
    name: str, chunk: int, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, weights = search(data, name, "loop")
    monkeypatch.setattr(stream, "CHUNK_BYTES", chunk)
    found, others = search(data, name, "stream")
    assert found.plan_.layout == "stream"
    assert len(weights) == len(others)
    for (params, ours), (theirs_params, theirs) in zip(weights, others, strict=True):
        assert str(params) == str(theirs_params)
        for a, b in zip(ours, theirs, strict=True):
            # The same sums in the same order; only the compiler may fuse them otherwise.
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    numbers = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"]
    pd.testing.assert_frame_equal(found.curves_[numbers], expected.curves_[numbers], rtol=1e-5)


def test_float64(data: Any, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX's settings are a thread's own, and Grain reads in other threads."""
    double = data[0].astype(np.float64), data[1]
    monkeypatch.setattr(stream, "CHUNK_BYTES", 2000)
    found, expected = (search(double, "inputs", layout)[0] for layout in ("stream", "loop"))
    losses = found.curves_["train_loss"].to_numpy(), expected.curves_["train_loss"].to_numpy()
    np.testing.assert_allclose(*losses, rtol=1e-12)
    assert (losses[0] != losses[0].astype(np.float32)).any()


def test_data_beyond_the_limit_streams(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 2000)
    X, y = (np.repeat(part, 20, axis=0) for part in data)
    path = tmp_path / "x.npy"
    np.save(path, X)
    lazy = np.load(path, mmap_mode="r")
    seen: list[str] = []
    classifier = LSTMClassifier(3, epochs=1)
    for limit in (X.nbytes // 2, 1 << 30):
        found = GridSearch(classifier, {"l2": [0.0, 0.1]}, cv=FOLDS, memory_limit=limit)
        plan = found.plan(lazy, y)
        seen.append(plan.layout)
    assert seen == ["stream", "loop"]
    found = GridSearch(
        classifier, {"l2": [0.0]}, cv=FOLDS, memory_limit=X.nbytes // 2, random_state=0
    ).fit(lazy, y)
    assert found.plan_.layout == "stream"
    assert "its data in chunks from the host" in str(found.plan_)
    expected = GridSearch(classifier, {"l2": [0.0]}, cv=FOLDS, random_state=0).fit(X, y)
    assert found.best_score_ == pytest.approx(expected.best_score_)


def test_without_grain_it_says_what_to_install(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(
        ImportError, match=r"read through Grain, .* pip install \"jaxlstm\[data\]\""
    ):
        search(data, "batches", "stream")
