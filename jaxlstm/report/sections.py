"""The tables of a report's section on the predictions of the held-out rows, by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxlstm.report.errors import (
    BASELINES,
    Errors,
    largest_errors,
    regression_errors,
    regression_scores,
    round_like,
    scores_by,
)
from jaxlstm.report.labels import label_scores
from jaxlstm.report.problem import Problem, is_number
from jaxlstm.report.tables import class_scores, count_confusion, worst_confusions
from jaxlstm.report.text import (
    column_texts,
    count_text,
    exact_text,
    number_text,
    percent_text,
)

LARGEST = 10


def prediction_section(
    predictions: pd.DataFrame | None, problem: Problem, baselines: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the section of a task as its template shows it.

    Args:
        predictions: A run's, or None.
        problem: Its task.
        baselines: The scores of other forecasts, by their name.

    Returns:
        One of `classes`, `labels` and `errors`; all three are None without predictions.
    """
    found: dict[str, Any] = {"classes": None, "labels": None, "errors": None}
    if predictions is None or predictions.empty:
        return found
    if problem.task == "multilabel":
        found["labels"] = _labels(predictions, problem)
    elif problem.task == "regression":
        found["errors"] = _errors(predictions, problem, baselines)
    else:
        found["classes"] = _classes(predictions, problem)
    return found


def _classes(predictions: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    confusion = count_confusion(
        predictions["true"].tolist(), predictions["predicted"].tolist(), problem.classes
    )
    scores = class_scores(confusion)
    right = np.trace(confusion.counts) / max(confusion.counts.sum(), 1)
    return {
        "noun": problem.noun,
        "heading": "class",
        "rows": _score_rows(scores),
        "mean": {name: percent_text(scores[name].mean()) for name in ("precision", "recall", "f1")},
        "support": f"{int(scores['support'].sum()):,}",
        "accuracy": percent_text(right),
        "many": len(scores) > 12,
        "worst": [
            {
                "true": true,
                "predicted": predicted,
                "count": f"{count:,}",
                "share": percent_text(share),
            }
            for true, predicted, count, share in worst_confusions(confusion, 6)
        ],
    }


def _score_rows(scores: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "name": row["name"],
            "precision": percent_text(row["precision"]),
            "recall": percent_text(row["recall"]),
            "f1": percent_text(row["f1"]),
            "bar": round(100 * row["f1"], 1),
            "support": f"{row['support']:,}",
        }
        for row in scores.to_dict("records")
    ]


def _labels(predictions: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    scores = label_scores(predictions, problem)
    table = scores.table
    return {
        "noun": problem.noun,
        "heading": "label",
        "rows": _score_rows(table),
        "mean": {name: percent_text(table[name].mean()) for name in ("precision", "recall", "f1")},
        "support": f"{int(table['support'].sum()):,}",
        "about": (
            f"Every label right for {percent_text(scores.subset_accuracy)} of "
            f"{count_text(scores.count, problem.noun)} (subset accuracy); "
            f"{percent_text(scores.hamming_loss)} of the single labels wrong (Hamming loss). "
            f"A label's support is the {problem.noun}s that have it."
        ),
    }


def _errors(
    predictions: pd.DataFrame, problem: Problem, baselines: Mapping[str, Any]
) -> dict[str, Any]:
    errors = regression_errors(predictions, problem)
    table = errors.table
    found: dict[str, Any] = {
        "about": _about(errors),
        "skipped": count_text(errors.skipped, "prediction") if errors.skipped else "",
        "tables": [],
        "largest": None,
        "baselines": _baselines(baselines),
        "horizon": problem.horizon,
    }
    if table.empty:
        return found
    if len(errors.targets) > 1:
        name = "Errors by steps ahead" if problem.horizon else "Errors by target"
        found["tables"].append(_score_table(errors, "target", name))
    if "group" in table and table["group"].nunique() > 1:
        found["tables"].append(_score_table(errors, "group", "Errors by group"))
    found["largest"] = _largest(errors, predictions)
    return found


def _about(errors: Errors) -> str:
    table = errors.table
    problem = errors.problem
    parts = [count_text(table["row"].nunique(), "held-out row")]
    if problem.per_step:
        parts.append(count_text(len(table.groupby(["row", "step"])), "step"))
    if len(errors.targets) > 1:
        parts.append(
            count_text(len(errors.targets), "step ahead", "steps ahead")
            if problem.horizon
            else count_text(len(errors.targets), "target")
        )
    words = ", ".join(parts)
    if table.empty:
        return f"{words}, none with a finite prediction."
    scores = regression_scores(table["true"].to_numpy(), table["predicted"].to_numpy())
    unit = f" {problem.units}" if problem.units else ""
    if errors.standardized:
        unit = " standard deviations"
    words += (
        f": root mean squared error {number_text(scores['rmse'])}{unit}, "
        f"mean absolute error {number_text(scores['mae'])}{unit}"
    )
    if np.isfinite(scores["r2"]):
        words += f", R² {number_text(scores['r2'])}"
    bias = number_text(round_like(scores["bias"], scores["rmse"]))
    words += f", bias (mean of predicted minus true) {bias}{unit}."
    if errors.standardized:
        words += " The targets have no common unit: each is in standard deviations of its own."
    return words


def _score_table(errors: Errors, column: str, name: str) -> dict[str, Any]:
    """Return the scores of targets or groups as texts."""
    table = scores_by(errors, column)
    heads = ["RMSE", "MAE", "R²", "bias"]
    bias = [round_like(*pair) for pair in zip(table["bias"], table["rmse"], strict=True)]
    columns = [column_texts(table[key]) for key in ("rmse", "mae", "r2")] + [column_texts(bias)]
    for baseline in errors.baselines:
        heads.append(f"MAE, {BASELINES[baseline]}")
        columns.append(column_texts(table[f"mae_{baseline}"]))
    heads.append("steps" if errors.problem.per_step else "rows")
    columns.append([f"{count:,}" for count in table["count"]])
    first = "step ahead" if column == "target" and errors.problem.horizon else column
    return {
        "name": name,
        "column": column,
        "head": [first, *heads],
        "rows": list(zip(table["name"], *columns, strict=True)),
    }


def _largest(errors: Errors, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the predictions with the largest errors, in the target's own units."""
    shown = largest_errors(errors, LARGEST)
    keys = [name for name in ("row", "step") if name in shown]
    if len(errors.targets) > 1:
        keys.append("target")
    if "group" in shown:
        keys.append("group")
    # Where targets are standardized, the table still shows what was measured.
    own = predictions[np.isfinite(predictions[["true", "predicted"]].astype(float)).all(axis=1)]
    own = own.reset_index(drop=True).loc[shown.index]
    true, predicted = own["true"].astype(float), own["predicted"].astype(float)
    columns = [
        [f"{value:,}" if name in ("row", "step") else exact_text(value) for value in shown[name]]
        for name in keys
    ]
    columns += [column_texts(values) for values in (true, predicted, predicted - true)]
    names = {"target": "step ahead"} if errors.problem.horizon else {}
    return {
        "head": [*(names.get(key, key) for key in keys), "true", "predicted", "error"],
        "words": [names.get(key, key) for key in keys if key in ("target", "group")],
        "rows": list(zip(*columns, strict=True)),
        "unit": errors.problem.units,
        "standardized": errors.standardized,
    }


def _baselines(baselines: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the model's and other forecasts' scores side by side, None without others."""
    rows = {
        name.replace("_", " "): scores
        for name, scores in baselines.items()
        if isinstance(scores, Mapping)
    }
    if len(rows) < 2:
        return None
    keys = [
        key
        for key in ("rmse", "mae", "mase", "smape")
        if any(is_number(scores.get(key)) for scores in list(rows.values())[1:])
    ]
    columns = [
        column_texts(
            [float(scores[key]) if is_number(scores.get(key)) else None for scores in rows.values()]
        )
        for key in keys
    ]
    names = {"rmse": "RMSE", "mae": "MAE", "mase": "MASE", "smape": "sMAPE"}
    return {
        "head": ["forecast", *(names[key] for key in keys)],
        "rows": list(zip(rows, *columns, strict=True)),
    }
