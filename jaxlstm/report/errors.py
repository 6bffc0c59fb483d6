"""The errors of a regression on the held-out rows: by target, group and step, and the largest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxlstm.report.problem import Problem
from jaxlstm.report.text import exact_text

#: Other forecasts that predictions may hold beside the model's.
BASELINES = {"naive": "naive", "seasonal_naive": "seasonal naive"}


@dataclasses.dataclass(frozen=True, eq=False)
class Errors:
    """Predictions of a regression with their errors.

    Attributes:
        table: One row per finite prediction: `row`, `target` (text), `true`, `predicted`, `error`
            (predicted minus true), `size` (absolute error) and, where known, `step`, `group`,
            and of each baseline in `BASELINES` its forecast.
        targets: The names of the target's columns in order, `[""]` for one without a name.
        standardized: Whether `true`, `predicted` and the errors are in standard deviations of
            their target, from its mean, because the targets have no common unit.
        skipped: Predictions that are not finite, or whose true value is not.
        problem: The task.
    """

    table: pd.DataFrame
    targets: list[str]
    standardized: bool
    skipped: int
    problem: Problem

    @property
    def baselines(self) -> list[str]:
        """The baselines with at least one finite forecast."""
        return [name for name in BASELINES if name in self.table and self.table[name].notna().any()]

    @property
    def size_label(self) -> str:
        """The label of an axis of absolute errors."""
        if self.standardized:
            return "absolute error (standard deviations)"
        return self.problem.with_units("absolute error")


def regression_errors(predictions: pd.DataFrame, problem: Problem) -> Errors:
    """Return the errors of a regression's predictions.

    Targets share a unit where there is one target, where its columns are the steps of a forecast,
    or where the unit is given. Otherwise each is standardized by the mean and the standard
    deviation of its true values.

    Args:
        predictions: A run's predictions, one line per row, step and target.
        problem: The task.

    Returns:
        The errors of the finite predictions.
    """
    table = predictions.reset_index(drop=True).copy()
    if "target" in table:
        table["target"] = table["target"].map(exact_text)
    else:
        table["target"] = problem.targets[0] if len(problem.targets) == 1 else ""
    numbers = ["true", "predicted", *(name for name in BASELINES if name in table)]
    table[numbers] = table[numbers].astype(float)
    table[numbers] = table[numbers].where(np.isfinite(table[numbers]))
    finite = table[["true", "predicted"]].notna().all(axis=1)
    skipped = int((~finite).sum())
    table = table[finite].reset_index(drop=True)
    present = list(dict.fromkeys(table["target"]))
    known = [name for name in problem.targets if name in present]
    targets = known if len(known) == len(present) else present
    standardized = len(targets) > 1 and not problem.horizon and not problem.units
    if standardized:
        true = table.groupby("target")["true"]
        # A constant target has no spread to divide by.
        spread = true.transform("std", ddof=0).replace(0.0, 1.0)
        center = true.transform("mean")
        for name in numbers:
            table[name] = (table[name] - center) / spread
    table["error"] = table["predicted"] - table["true"]
    table["size"] = table["error"].abs()
    return Errors(table, targets, standardized, skipped, problem)


def regression_scores(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return root mean squared error, mean absolute error, R² and bias, by scikit-learn.

    Args:
        true: The true values, `[N]`.
        predicted: The predicted values, `[N]`.

    Returns:
        `rmse`, `mae`, `r2`, `bias` (mean of predicted minus true), `count`; NaN where there are
        no values, and R² also where the true values are all the same.
    """
    # Imported here: it takes a second, which a run without predictions need not wait.
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    if not len(true):
        return {"rmse": np.nan, "mae": np.nan, "r2": np.nan, "bias": np.nan, "count": 0}
    return {
        "rmse": float(root_mean_squared_error(true, predicted)),
        "mae": float(mean_absolute_error(true, predicted)),
        "r2": float(r2_score(true, predicted)) if np.ptp(true) > 0 else np.nan,
        "bias": float(np.mean(predicted - true)),
        "count": len(true),
    }


def round_like(value: float, size: float) -> float:
    """Return a value rounded to the fourth significant digit of another.

    A bias far below the error is noise, whose own digits would say otherwise.
    """
    if not np.isfinite(value) or not np.isfinite(size) or size <= 0:
        return value
    return round(value, 3 - math.floor(math.log10(size)))


def scores_by(errors: Errors, column: str) -> pd.DataFrame:
    """Return the scores of each value of a column.

    Args:
        errors: The errors.
        column: `"target"`, `"group"` or `"step"`.

    Returns:
        One row per value, columns `name` (text), `rmse`, `mae`, `r2`, `bias`, `count`, and
        `mae_<baseline>` for each baseline; targets in their order, other values sorted.
    """
    parts = dict(iter(errors.table.groupby(column, sort=True)))
    names = errors.targets if column == "target" else list(parts)
    rows = []
    for name in names:
        part = parts[name]
        scores = regression_scores(part["true"].to_numpy(), part["predicted"].to_numpy())
        for baseline in errors.baselines:
            misses = (part[baseline] - part["true"]).abs()
            scores[f"mae_{baseline}"] = float(misses.mean())
        rows.append({"name": exact_text(name), **scores})
    return pd.DataFrame(rows)


def size_quartiles(errors: Errors, column: str) -> pd.DataFrame:
    """Return the quartiles of the absolute error along the steps of rows or of a forecast.

    Args:
        errors: The errors.
        column: `"step"`, or `"target"` for the steps of a forecast, counted from 1.

    Returns:
        Indexed by step: `low`, `median`, `high`, and the median absolute error of each baseline
        by its name.
    """
    table = errors.table
    place = table["step"] if column == "step" else table["target"].map(_ahead(errors.targets))
    sizes = table["size"].groupby(place)
    found = sizes.quantile(np.array([0.25, 0.5, 0.75])).unstack()
    found.columns = pd.Index(["low", "median", "high"])
    for name in errors.baselines:
        found[name] = (table[name] - table["true"]).abs().groupby(place).median()
    return found


def _ahead(targets: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(targets, start=1)}


def choose_rows(losses: pd.Series) -> dict[str, int]:
    """Choose a good, a typical and a bad row to draw.

    Args:
        losses: How bad each row's prediction is, indexed by row number.

    Returns:
        From `"smallest"`, `"median"` and `"largest"` to the row with that loss, the lower row
        number of equal ones; fewer where there are fewer rows.
    """
    # Sorted by row number first, so that ties do not depend on the order of the file.
    ranked = losses.dropna().sort_index(kind="stable").sort_values(kind="stable").index
    if not len(ranked):
        return {}
    worst = losses.dropna().sort_index(kind="stable").idxmax()
    places = {"median": ranked[(len(ranked) - 1) // 2], "smallest": ranked[0], "largest": worst}
    if len(ranked) < 3:
        places = {"smallest": ranked[0], "largest": worst}
    unique = {row: name for name, row in places.items()}
    return {
        name: int(places[name])
        for name in ("smallest", "median", "largest")
        if name in places and unique[places[name]] == name
    }


def row_losses(errors: Errors) -> pd.Series:
    """Return each row's root mean squared error over its steps and targets, by row number."""
    return errors.table["error"].pow(2).groupby(errors.table["row"]).mean().pow(0.5)


def largest_errors(errors: Errors, count: int) -> pd.DataFrame:
    """Return the predictions with the largest absolute errors, largest first.

    Args:
        errors: The errors.
        count: At most how many.

    Returns:
        Rows of the errors' table.
    """
    return errors.table.sort_values(["size", "row"], ascending=[False, True], kind="stable").head(
        count
    )
