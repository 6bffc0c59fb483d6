"""Made-up runs, as like real ones as a report needs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxlstm.report import Run, save_run

GRID = {
    "units": [(50, 25), (100, 50), (150, 75)],
    "dropout": [0.1, 0.2, 0.3],
    "optimizer": ["adam", "rmsprop"],
}


def make_run(
    grid: dict[str, list[Any]] | None = None,
    folds: int = 3,
    seeds: int = 1,
    epochs: int = 30,
    classes: list[str] | None = None,
    failed: set[int] | str = frozenset(),
    predictions: int = 1000,
    seed: int = 0,
) -> Run:
    """Return a run whose cells differ and whose trials `failed` (or "all") have no score."""
    rng = np.random.default_rng(seed)
    grid = GRID if grid is None else grid
    classes = [f"{digit}" for digit in range(10)] if classes is None else classes
    cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    quality = rng.normal(0.0, 0.4, len(cells))
    results, curves = [], []
    trials = itertools.product(enumerate(cells), range(folds), range(seeds))
    for trial, ((cell, params), fold, run_seed) in enumerate(trials):
        broken = failed == "all" or trial in failed
        rate = 0.14 * np.exp(quality[cell] + rng.normal(0, 0.08))
        steps = np.arange(1, epochs + 1)
        train_loss = 0.02 + 2.3 * np.exp(-1.25 * rate * steps) + rng.normal(0, 0.01, epochs)
        val_loss = 0.09 + 2.2 * np.exp(-rate * steps) + rng.normal(0, 0.02, epochs)
        train, val = np.exp(-0.55 * train_loss), np.exp(-0.5 * val_loss)
        if broken:
            train_loss, val_loss, train, val = np.full((4, epochs), np.nan)
        results.append(
            {
                "trial": trial,
                "cell": cell,
                "fold": fold,
                "seed": run_seed,
                "group": cell % 2,
                "status": "failed" if broken else "ok",
                **{f"param_{name}": value for name, value in params.items()},
                "epochs": 2 if broken else epochs,
                "train_loss": train_loss[-1],
                "train_accuracy": train[-1],
                "val_loss": val_loss[-1],
                "val_accuracy": val[-1],
                "score": val[-1],
            }
        )
        curves.append(_curve(trial, cell, fold, train_loss, train, val_loss, val))
    table = pd.DataFrame(results)
    means = table.groupby("cell")["score"].mean()
    best = int(means.argmax()) if np.isfinite(means).any() else None
    if best is not None:
        loss = 0.02 + 2.3 * np.exp(-0.2 * np.arange(1, epochs + 1))
        nothing = np.full(epochs, np.nan)
        curves.append(_curve(-1, -1, -1, loss, np.exp(-0.5 * loss), nothing, nothing))
    summary = _summary(table, cells, folds, best)
    rows = None
    if predictions:
        rows = _predictions(rng, classes, predictions)
        right = float((rows["true"] == rows["predicted"]).mean())
        summary["test"] = {
            "accuracy": right,
            "macro_precision": right - 0.002,
            "macro_recall": right - 0.003,
            "macro_f1": right - 0.0025,
            "rows": predictions,
        }
    config = {
        "name": "digits",
        "title": "Handwritten digits, row by row",
        "command": "jaxlstm run digits --units '[(50, 25), (100, 50), (150, 75)]' --folds 3",
        "config": {"batch_size": 128, "dense": (75,), "epochs": epochs, "learning_rate": 1e-3},
        "versions": {"python": "3.11.9", "jax": "0.7.2", "flax": "0.11.0", "numpy": "2.4.6"},
        "device": {
            "platform": "cpu",
            "kind": "cpu",
            "count": 2,
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "memory_bytes": 16 * 2**30,
        },
        "data": {
            "name": "MNIST",
            "rows": 10000,
            "shape": (28, 28),
            "classes": classes,
            "sha256": "9f2a" * 16,
            "source": "https://example.org/mnist.npz",
        },
        "created": "2025-11-21T14:03:22+00:00",
    }
    return Run(table, pd.concat(curves, ignore_index=True), config, summary, rows)


def _curve(
    trial: int,
    cell: int,
    fold: int,
    train_loss: np.ndarray,
    train: np.ndarray,
    val_loss: np.ndarray,
    val: np.ndarray,
) -> pd.DataFrame:
    epochs = len(train)
    return pd.DataFrame(
        {
            "trial": trial,
            "cell": cell,
            "fold": fold,
            "epoch": np.arange(1, epochs + 1),
            "learning_rate": 1e-3 * 0.97 ** np.arange(epochs),
            "train_loss": train_loss,
            "train_accuracy": train,
            "val_loss": val_loss,
            "val_accuracy": val,
        }
    )


def _summary(
    table: pd.DataFrame, cells: list[dict[str, Any]], folds: int, best: int | None
) -> dict[str, Any]:
    groups = [
        {
            "group": group,
            "structure": f"LSTM {'150 > 75' if group else '100 > 50'}, input 28 x 28, dense 75",
            "lanes": int((table["group"] == group).sum()),
            "programs": 1,
            "bytes": 181_403_648 * (group + 1),
            "seconds": 21.4 + 9 * group,
        }
        for group in sorted(set(table["group"]))
    ]
    summary: dict[str, Any] = {
        "scoring": "accuracy",
        "plan": {
            "lanes": len(table),
            "cells": len(cells),
            "folds": folds,
            "programs": len(groups),
            "groups": groups,
            "bytes": 362_807_296,
            "workers": 2,
            "layout": "one lane at a time",
        },
        "seconds": {"compile": 6.1, "search": 42.7, "refit": 3.2, "predict": 0.18},
        "comparison": [
            {"what": "Test accuracy", "paper": 0.9812, "ours": 0.9743, "note": "10 epochs fewer"},
            {"what": "Fits", "paper": 54, "ours": 54, "note": ""},
            {"what": "Training time", "paper": "3 h 12 min", "ours": "52 s", "note": "one GPU"},
            {"what": "Macro F1", "paper": None, "ours": 0.9739, "note": "not reported"},
        ],
        "notes": [
            "The paper does not give its learning rate; Keras's default of 0.001 is used.",
            "Validation rows are drawn from the training set, stratified by class.",
        ],
    }
    if best is not None:
        scores = table.loc[table["cell"] == best, "score"]
        summary["best"] = {
            "params": cells[best],
            "mean_score": float(scores.mean()),
            "std_score": float(scores.std(ddof=0)),
            "cell": best,
        }
    return summary


def _predictions(rng: np.random.Generator, classes: list[str], count: int) -> pd.DataFrame:
    true = rng.integers(0, len(classes), count)
    near = (true + rng.choice([1, 2, 5], count, p=[0.7, 0.2, 0.1])) % len(classes)
    predicted = np.where(rng.random(count) < 0.93, true, near)
    return pd.DataFrame(
        {
            "row": np.arange(count) + 60000,
            "true": [classes[i] for i in true],
            "predicted": [classes[i] for i in predicted],
            "probability": rng.uniform(0.4, 1.0, count),
        }
    )


@pytest.fixture(scope="session")
def run_maker() -> Callable[..., Run]:
    """Return the maker of made-up runs."""
    return make_run


@pytest.fixture(scope="session")
def digits_run() -> Run:
    """Return 18 cells x 3 folds on ten classes."""
    return make_run()


@pytest.fixture(scope="session")
def saved(digits_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the ten classes, in the folder where it was written."""
    return save_run(digits_run, tmp_path_factory.mktemp("digits"))
