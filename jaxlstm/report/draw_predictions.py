"""The figures of a run's predictions, by task, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from jaxlstm.report.errors import (
    Errors,
    choose_rows,
    regression_errors,
    row_losses,
    scores_by,
)
from jaxlstm.report.figure_along import (
    MOST_TARGETS,
    SERIES_ROWS,
    error_along,
    forecast_series,
    row_lines,
    series_part,
)
from jaxlstm.report.figure_bars import bars
from jaxlstm.report.figure_confusion import confusion_matrix
from jaxlstm.report.figure_errors import (
    MOST_PANELS,
    is_dense,
    predicted_against_true,
    residuals,
    shown_targets,
)
from jaxlstm.report.figure_steps import MOST_LABELS, label_bands, step_bands
from jaxlstm.report.labels import label_scores, mistake_shares
from jaxlstm.report.problem import Problem
from jaxlstm.report.text import count_text, exact_text

#: All figures that predictions may have.
FIGURES = (
    "confusion_matrix",
    "predicted_true",
    "residuals",
    "errors_by_target",
    "errors_by_group",
    "error_along",
    "forecasts",
    "rows",
    "label_scores",
)
#: Rows that make a series to draw; fewer are drawn one by one.
LEAST_SERIES = 3
#: Bars beyond these are left to the table.
MOST_BARS = 20
STANDARDIZED = "Each target is in standard deviations of its true values, from their mean."
_CHOSEN = {
    "smallest": "fewest mistakes",
    "median": "median share of mistakes",
    "largest": "most mistakes",
}

#: A figure, the words for those who do not see it, and its caption.
Drawn = tuple[Figure, str, str]


def draw_predictions(
    predictions: pd.DataFrame, problem: Problem, width: float | None
) -> dict[str, Drawn]:
    """Draw all figures of a run's predictions.

    Args:
        predictions: The run's, with at least one line.
        problem: Its task.
        width: Inches, for a phone; None for the wide page.

    Returns:
        The figures by name, of those in `FIGURES` that the task has.
    """
    if problem.task == "multilabel":
        return _labels(predictions, problem, width or 10.0)
    if problem.task == "regression":
        errors = regression_errors(predictions, problem)
        return {} if errors.table.empty else _regression(errors, width or 10.0)
    figures = {"confusion_matrix": _confusion(predictions, problem, width)}
    if problem.per_step:
        figures["rows"] = _bands(predictions, problem, width or 10.0)
    return figures


def _confusion(predictions: pd.DataFrame, problem: Problem, width: float | None) -> Drawn:
    many = len(problem.classes or predictions["true"].unique()) > 12
    figure = confusion_matrix(
        predictions["true"].tolist(),
        predictions["predicted"].tolist(),
        problem.classes,
        width=width or (8.5 if many else 5.4),
        noun=problem.noun,
    )
    held_out = f"held-out {problem.noun}s"
    return (
        figure,
        f"Confusion matrix of the {held_out}, true classes down, predicted ones across",
        "A row holds one true class; its colours are shares of that row, on a square-root "
        "scale that lets few mistakes show.",
    )


def _bands(predictions: pd.DataFrame, problem: Problem, width: float) -> Drawn:
    chosen = choose_rows(mistake_shares(predictions))
    rows = {_CHOSEN[name]: row for name, row in chosen.items()}
    return (
        step_bands(predictions, rows, problem.classes, width=width),
        "True and predicted class of every step of a few rows, and their mistakes",
        f"{_chosen_words(chosen, 'share of wrong steps')} The lowest band marks the steps on "
        "which the upper two differ.",
    )


def _chosen_words(chosen: Mapping[str, int], measure: str) -> str:
    if len(chosen) == 1:
        return "The only held-out row."
    names = [name for name in ("smallest", "median", "largest") if name in chosen]
    words = ", ".join(names[:-1]) + " and " + names[-1]
    return f"The held-out rows with the {words} {measure}; of equal ones the first."


def _labels(predictions: pd.DataFrame, problem: Problem, width: float) -> dict[str, Drawn]:
    table = label_scores(predictions, problem).table
    worst = table.sort_values("f1", kind="stable").index
    shown = table.loc[sorted(worst[:MOST_BARS])]
    long = shown.melt("name", ["precision", "recall", "f1"], "series").rename(
        columns={"name": "group"}
    )
    long["series"] = long["series"].replace({"f1": "F1"})
    caption = "Precision, recall and F1 of each label, as fractions."
    if len(shown) < len(table):
        caption += f" Of {len(table)} labels, the {len(shown)} with the lowest F1."
    figures = {
        "label_scores": (
            bars(long.assign(std=float("nan")), value_label="score", width=width, limit=1.0),
            "Bars of each label's precision, recall and F1",
            caption,
        )
    }
    if problem.per_step:
        predictions = predictions.assign(target=predictions["target"].map(exact_text))
        chosen = choose_rows(mistake_shares(predictions))
        rows = {_CHOSEN[name]: row for name, row in chosen.items()}
        lanes = table.loc[sorted(worst[:MOST_LABELS]), "name"].tolist()
        caption = f"{_chosen_words(chosen, 'share of wrong labels')} A band marks the steps on "
        caption += "which a label is true (above) and predicted (below)."
        if len(lanes) < len(table):
            caption += f" Of {len(table)} labels, the {len(lanes)} with the lowest F1."
        figures["rows"] = (
            label_bands(predictions, rows, lanes, width=width),
            "True and predicted labels at every step of a few rows",
            caption,
        )
    return figures


def _regression(errors: Errors, width: float) -> dict[str, Drawn]:
    problem = errors.problem
    names = shown_targets(errors)
    caption = "On the line, prediction and true value are equal."
    if is_dense(errors):
        caption += " The colours count predictions, on a logarithmic scale."
    if problem.horizon and len(errors.targets) > 1:
        caption += " All steps of the forecasts together."
    if names and len(names) < len(errors.targets):
        caption += f" Of {len(errors.targets)} targets, the {MOST_PANELS} with the lowest R²."
    if errors.standardized:
        caption += " " + STANDARDIZED
    figures: dict[str, Drawn] = {
        "predicted_true": (
            predicted_against_true(errors, width=width if width < 5 or names else 6.0),
            "Predicted against true values of the held-out rows",
            caption,
        ),
        "residuals": (
            residuals(errors, width=width),
            "Histogram of the residuals, and residuals against the predicted value",
            "Predicted minus true: how often (dashed: the mean), and against the predicted "
            "value, with the median of each twentieth of the predictions.",
        ),
    }
    if len(errors.targets) > 1 and not problem.horizon:
        figures["errors_by_target"] = _bars(errors, "target", width)
    if "group" in errors.table and errors.table["group"].nunique() > 1:
        figures["errors_by_group"] = _bars(errors, "group", width)
    chosen = choose_rows(row_losses(errors))
    words = _chosen_words(chosen, "root mean squared error")
    if problem.per_step:
        figures["error_along"] = (
            error_along(errors, "step", width=width),
            "Absolute error against the step",
            "The median over the held-out rows in a band from the lower to the upper quartile."
            + _fewer_rows(errors),
        )
        if len(errors.targets) > MOST_TARGETS:
            words += (
                f" Of {len(errors.targets)} targets, the {MOST_TARGETS} with the largest "
                "mean absolute errors."
            )
        figures["rows"] = (
            row_lines(errors, chosen, width=width),
            "True and predicted values of a few rows against the step",
            words,
        )
    elif problem.horizon:
        figures |= _forecast(errors, chosen, words, width)
    return figures


def _fewer_rows(errors: Errors) -> str:
    """Return a warning where the last steps have far fewer rows than the first, else nothing."""
    counts = errors.table.groupby("step")["row"].nunique()
    if counts.iloc[-1] > counts.iloc[0] / 2:
        return ""
    return f" {count_text(int(counts.iloc[-1]), 'row reaches', 'rows reach')} the last step."


def _forecast(
    errors: Errors, chosen: Mapping[str, int], words: str, width: float
) -> dict[str, Drawn]:
    figures = {}
    if len(errors.targets) > 1:
        figures["error_along"] = (
            error_along(errors, "target", width=width),
            "Absolute error against the number of steps ahead",
            "Of the only held-out row."
            if len(chosen) == 1
            else "The median over the held-out rows in a band from the lower to the upper quartile.",
        )
    table, group = series_part(errors)
    count = table["row"].nunique()
    caption = "The forecasts of successive rows against the true values"
    if group is not None:
        caption += f" of the group {exact_text(group)}, which has the most rows"
    caption += f"; the first {SERIES_ROWS} rows." if count == SERIES_ROWS else "."
    if count >= LEAST_SERIES:
        figures["forecasts"] = (
            forecast_series(errors, width=width),
            "Forecasts of successive rows against the true series",
            caption,
        )
    if len(errors.targets) > 1:
        figures["rows"] = (
            row_lines(errors, chosen, width=width),
            "True values and forecasts of a few rows against the steps ahead",
            words,
        )
    return figures


def _bars(errors: Errors, column: str, width: float) -> Drawn:
    table = scores_by(errors, column)
    shown = table
    caption = f"Root mean squared and mean absolute error of each {column}."
    if len(table) > MOST_BARS:
        worst = table.sort_values("rmse", ascending=False, kind="stable").index[:MOST_BARS]
        shown = table.loc[sorted(worst)]
        caption += f" Of {len(table)} {column}s, the {MOST_BARS} with the largest."
    if errors.standardized:
        caption += " " + STANDARDIZED
    long = shown.melt("name", ["rmse", "mae"], "series").rename(columns={"name": "group"})
    long["series"] = long["series"].str.upper()
    unit = "error (standard deviations)" if errors.standardized else None
    figure = bars(
        long.assign(std=float("nan")),
        value_label=unit or errors.problem.with_units("error"),
        width=width,
    )
    return figure, f"Bars of the errors of each {column}", caption
