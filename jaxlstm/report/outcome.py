"""How good the refitted winner is on the held-out rows, in a sentence and as tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from jaxlstm.report.problem import Problem, is_number, section
from jaxlstm.report.text import number_text, percent_text

_BOLD = Markup("<b>{}</b>").format


def outcome(problem: Problem, summary: Mapping[str, Any]) -> list[Markup]:
    """Return sentences on the scores of the refitted winner, none without a test.

    Args:
        problem: The task.
        summary: A run's summary; its `test` holds the scores.
    """
    test = section(summary, "test")
    held_out = problem.held_out(test)
    if problem.task == "regression":
        return _regression(problem, test, section(summary, "baselines"), held_out)
    if not is_number(test.get("accuracy")):
        return []
    share = _BOLD(percent_text(test["accuracy"]))
    if problem.task == "classification":
        sentence = Markup("Refitted on all training rows, it gets {} of {} right.")
        return [sentence.format(share, held_out)]
    sentence = Markup("Refitted on all training rows, it gets every label of {} of {} right")
    words = sentence.format(share, held_out)
    if is_number(test.get("hamming_loss")):
        words += Markup(" and {} of the single labels wrong").format(
            _BOLD(percent_text(test["hamming_loss"]))
        )
    return [words + Markup(".")]


def _regression(
    problem: Problem, test: Mapping[str, Any], baselines: Mapping[str, Any], held_out: str
) -> list[Markup]:
    if not is_number(test.get("rmse")):
        return []
    words = Markup("Refitted on all training rows, it predicts {} with an RMSE of {}").format(
        held_out, _BOLD(_with_unit(test["rmse"], problem))
    )
    if is_number(test.get("r2")):
        words += Markup(" and an R² of {}").format(_BOLD(number_text(float(test["r2"]))))
    sentences = [words + Markup(".")]
    if is_number(test.get("mase")):
        words = Markup("Its mean absolute scaled error is {}").format(
            _BOLD(number_text(float(test["mase"])))
        )
        others = [
            f"that of the {name.replace('_', ' ')} forecast {number_text(float(scores['mase']))}"
            for name, scores in baselines.items()
            if isinstance(scores, Mapping) and is_number(scores.get("mase"))
        ]
        sentences.append(words + "".join(f", {text}" for text in others) + Markup("."))
    return sentences


def outcome_tiles(problem: Problem, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the main scores on the held-out rows: each a label, a value, a note and not bad news.

    Args:
        problem: The task.
        summary: A run's summary.
    """
    test = section(summary, "test")
    count = test.get(f"{problem.noun}s")
    rows = problem.held_out(test) if is_number(count) else f"held-out {problem.noun}s"
    found = []

    def add(label: str, value: str, note: str) -> None:
        found.append({"label": label, "value": value, "note": note, "bad": False})

    if problem.task == "regression":
        if is_number(test.get("rmse")):
            add("Test RMSE", _with_unit(test["rmse"], problem), rows)
        if is_number(test.get("r2")):
            mae = test.get("mae")
            note = f"MAE {_with_unit(mae, problem)}" if is_number(mae) else ""
            add("Test R²", number_text(float(test["r2"])), note)
        if is_number(test.get("mase")):
            smape = test.get("smape")
            note = f"sMAPE {number_text(float(smape))}" if is_number(smape) else ""
            add("Test MASE", number_text(float(test["mase"])), note)
    elif is_number(test.get("accuracy")):
        if problem.task == "classification":
            add("Test accuracy", percent_text(test["accuracy"]), rows)
        else:
            add("All labels right", percent_text(test["accuracy"]), rows)
            if is_number(test.get("f1_macro")):
                add("Test macro F1", percent_text(test["f1_macro"]), "mean over the labels")
    return found


def _with_unit(value: float, problem: Problem) -> str:
    text = number_text(float(value))
    return f"{text} {problem.units}" if problem.units else text
