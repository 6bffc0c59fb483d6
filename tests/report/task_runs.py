"""Made-up runs of every task: regression, multilabel and per-step targets."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from jaxlstm.report import Run

GRID = {"units": [16, 32, 64], "dropout": [0.0, 0.2]}
ERRORS = ("mse", "mae")
#: What the targets are called where there are several.
TARGETS = ["knee angle", "hip angle"]
LABELS = ["jazz", "rock", "vocals", "a label with quite a long name"]
CLASSES = ["walk", "run", "sit", "stand"]


def make_task_run(kind: str, seed: int = 0, rows: int = 60, **data: Any) -> Run:
    """Return a run of one kind, whose predictions differ in every row.

    Args:
        kind: "regression" (with groups), "targets" (two, without a common unit), "forecast"
            (six steps, with baselines), "multilabel", "multilabel_steps", "steps" (classes) or
            "regression_steps" (two targets, unequal lengths).
        seed: Of the random numbers.
        rows: Held-out rows.
        data: More entries of the configuration's data.
    """
    rng = np.random.default_rng(seed)
    predictions, described = _MAKERS[kind](rng, rows)
    classes = kind in ("steps", "multilabel", "multilabel_steps")
    results, curves = _search(rng, ("accuracy",) if classes else ERRORS)
    summary: dict[str, Any] = {"scoring": "accuracy" if classes else "neg_mean_squared_error"}
    if not classes:
        results["score"] = -results["val_mse"]
    summary["test"] = _test(predictions, described, rows)
    if described.get("horizon"):
        summary["test"] |= {"mase": 0.61, "smape": 3.2}
        summary["baselines"] = {
            "naive": {"rmse": 9.1, "mase": 2.9, "smape": 19.1},
            "seasonal_naive": {"rmse": 2.1, "mase": 1.02, "smape": 4.9},
        }
    config = {"name": kind, "title": f"A run of {kind}", "data": {**described, **data}}
    return Run(results, curves, config, summary, predictions)


def _search(
    rng: np.random.Generator, metrics: tuple[str, ...], folds: int = 2, epochs: int = 15
) -> tuple[pd.DataFrame, pd.DataFrame]:
    cells = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    results, curves = [], []
    for trial, (cell, fold) in enumerate(itertools.product(range(len(cells)), range(folds))):
        epoch = np.arange(1, epochs + 1)
        size = 0.01 * rng.lognormal(0, 0.4)
        table = pd.DataFrame(
            {"trial": trial, "cell": cell, "fold": fold, "epoch": epoch, "learning_rate": 1e-3}
        )
        for part, floor in (("train", 0.7), ("val", 1.0)):
            loss = (floor * size + 4 * np.exp(-0.6 * epoch)) * rng.lognormal(0, 0.03, epochs)
            table[f"{part}_loss"] = loss * 1.1
            for metric in metrics:
                values = {"mse": loss, "mae": 0.8 * np.sqrt(loss), "accuracy": np.exp(-loss)}
                table[f"{part}_{metric}"] = values[metric]
        curves.append(table)
        last = table.iloc[-1]
        results.append(
            {
                **{"trial": trial, "cell": cell, "fold": fold, "seed": 0, "group": 0},
                "status": "ok",
                **{f"param_{name}": value for name, value in cells[cell].items()},
                "epochs": epochs,
                **{name: last[name] for name in table.columns[5:]},
                "score": last[f"val_{metrics[0]}"],
            }
        )
    refit = curves[0].assign(trial=-1, cell=-1, fold=-1)
    refit[[name for name in refit if str(name).startswith("val_")]] = np.nan
    return pd.DataFrame(results), pd.concat([*curves, refit], ignore_index=True)


def _test(predictions: pd.DataFrame, data: dict[str, Any], rows: int) -> dict[str, Any]:
    true, predicted = predictions["true"], predictions["predicted"]
    test: dict[str, Any] = {"rows": rows}
    if data.get("per_step"):
        test["steps"] = len(predictions[["row", "step"]].drop_duplicates())
    if data["task"] == "regression":
        return test | {
            "r2": r2_score(true, predicted) if len(true) > 1 else np.nan,
            "rmse": root_mean_squared_error(true, predicted),
            "mae": mean_absolute_error(true, predicted),
        }
    right = true == predicted
    if data["task"] == "classification":
        return test | {"accuracy": right.mean()}
    keys = [predictions[name] for name in ("row", "step") if name in predictions]
    accuracy = right.groupby(keys).all().mean()
    return test | {"accuracy": accuracy, "f1_macro": 0.71, "hamming_loss": 1 - right.mean()}


def _regression(rng: np.random.Generator, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    true = rng.gamma(3, 12, rows)
    table = {
        "row": np.arange(rows) + 500,
        "true": true,
        "predicted": 0.9 * true + 3 + rng.normal(0, 4, rows),
        "group": rng.choice(["north", "south", "west harbour"], rows),
    }
    return pd.DataFrame(table), {"task": "regression", "units": "kWh"}


def _targets(rng: np.random.Generator, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    parts = []
    for number, name in enumerate(TARGETS):
        true = rng.normal(10 + 5000 * number, 1 + 300 * number, rows)
        predicted = true + rng.normal(0.1, (0.3 + 0.4 * number) * true.std(), rows)
        parts.append(
            pd.DataFrame({"row": range(rows), "target": name, "true": true, "predicted": predicted})
        )
    return pd.concat(parts, ignore_index=True), {"task": "regression", "targets": TARGETS}


def _forecast(rng: np.random.Generator, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    series = 30 + 8 * np.sin(np.arange(rows + 20) / 2) + rng.normal(0, 1, rows + 20).cumsum()
    names = [f"t+{ahead}" for ahead in range(1, 7)]
    parts = [
        pd.DataFrame(
            {
                "row": np.arange(rows) + 4000,
                "target": name,
                "true": series[12 + ahead : 12 + ahead + rows],
                "predicted": series[12 + ahead : 12 + ahead + rows] + rng.normal(0, ahead, rows),
                "naive": series[12 : 12 + rows],
                "seasonal_naive": series[ahead : ahead + rows],
            }
        )
        for ahead, name in enumerate(names, start=1)
    ]
    data = {"task": "regression", "targets": names, "horizon": True, "units": "MW"}
    return pd.concat(parts, ignore_index=True), data


def _multilabel(
    rng: np.random.Generator, rows: int, steps: int = 0
) -> tuple[pd.DataFrame, dict[str, Any]]:
    parts = []
    for number, name in enumerate(LABELS):
        latent = rng.normal(size=(rows, max(steps, 1))).cumsum(axis=1) - 0.3 * number
        noisy = latent + rng.normal(0, 0.3 + 0.2 * number, latent.shape)
        part = pd.DataFrame(
            {
                "row": np.repeat(np.arange(rows), max(steps, 1)),
                "target": name,
                "true": (latent > 0).astype(int).ravel(),
                "predicted": (noisy > 0).astype(int).ravel(),
                "probability": (1 / (1 + np.exp(-noisy))).ravel(),
            }
        )
        if steps:
            part.insert(1, "step", np.tile(np.arange(steps), rows))
        parts.append(part)
    data = {"task": "multilabel", "targets": LABELS, "per_step": bool(steps)}
    return pd.concat(parts, ignore_index=True), data


def _steps(rng: np.random.Generator, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    parts = []
    for row in range(rows):
        length = int(rng.integers(20, 50))
        true = rng.integers(0, len(CLASSES), length)[np.arange(length) // 7 * 7]
        wrong = rng.random(length) < 0.3 * rng.random()
        predicted = np.where(wrong, rng.integers(0, len(CLASSES), length), true)
        parts.append(
            pd.DataFrame(
                {
                    "row": row + 300,
                    "step": np.arange(length),
                    "true": np.array(CLASSES)[true],
                    "predicted": np.array(CLASSES)[predicted],
                }
            )
        )
    data = {
        "task": "classification",
        "per_step": True,
        "classes": CLASSES,
        "lengths": [20, 34, 49],
    }
    return pd.concat(parts, ignore_index=True), data


def _regression_steps(rng: np.random.Generator, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    parts = []
    for row, (number, name) in itertools.product(range(rows), enumerate(TARGETS)):
        step = np.arange(20 + row % 30)
        true = 30 * np.sin(step / (4 + number) + row) + rng.normal(0, 1, len(step)).cumsum()
        noise = rng.normal(0, rng.lognormal(0, 0.5), len(step))
        parts.append(
            pd.DataFrame(
                {
                    "row": row,
                    "step": step,
                    "target": name,
                    "true": true,
                    "predicted": true + noise + 9 * np.exp(-step / 4),
                    "group": f"person {row % 4}",
                }
            )
        )
    data = {"task": "regression", "per_step": True, "targets": TARGETS, "units": "°"}
    return pd.concat(parts, ignore_index=True), data


_MAKERS = {
    "regression": _regression,
    "targets": _targets,
    "forecast": _forecast,
    "multilabel": _multilabel,
    "multilabel_steps": lambda rng, rows: _multilabel(rng, rows, 40),
    "steps": _steps,
    "regression_steps": _regression_steps,
}
KINDS = tuple(_MAKERS)
