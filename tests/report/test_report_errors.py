"""The errors of a regression against scikit-learn and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from task_runs import TARGETS, make_task_run

from jaxlstm.report.errors import (
    Errors,
    choose_rows,
    largest_errors,
    regression_errors,
    regression_scores,
    round_like,
    row_losses,
    scores_by,
    size_quartiles,
)
from jaxlstm.report.problem import problem_of


def errors_of(kind: str, **data: object) -> tuple[Errors, pd.DataFrame]:
    run = make_task_run(kind, **data)
    assert run.predictions is not None
    # The order of the file must not matter.
    shuffled = run.predictions.sample(frac=1, random_state=0)
    return regression_errors(shuffled, problem_of(run.config)), run.predictions


@pytest.mark.parametrize(
    ("kind", "column"),
    [("regression", "group"), ("forecast", "target"), ("regression_steps", "step")],
)
def test_scores_are_scikit_learns(kind: str, column: str) -> None:
    errors, table = errors_of(kind)
    found = scores_by(errors, column)
    assert len(found) == table[column].nunique()
    for row in found.to_dict("records"):
        part = table[table[column].astype(str) == row["name"]]
        true, predicted = part["true"].to_numpy(), part["predicted"].to_numpy()
        assert row["rmse"] == pytest.approx(root_mean_squared_error(true, predicted), rel=1e-12)
        assert row["mae"] == pytest.approx(mean_absolute_error(true, predicted), rel=1e-12)
        assert row["r2"] == pytest.approx(r2_score(true, predicted), rel=1e-9)
        assert row["bias"] == pytest.approx(math.fsum(predicted - true) / len(true), rel=1e-9)
        assert row["count"] == len(part)


def test_targets_keep_their_order_and_have_the_baselines_errors() -> None:
    errors, table = errors_of("forecast")
    found = scores_by(errors, "target")
    assert found["name"].tolist() == [f"t+{ahead}" for ahead in range(1, 7)]
    for name in ("naive", "seasonal_naive"):
        expected = [
            mean_absolute_error(part["true"], part[name])
            for _, part in table.groupby("target", sort=False)
        ]
        np.testing.assert_allclose(found[f"mae_{name}"], expected, rtol=1e-12)


def test_targets_without_a_common_unit_are_standardized() -> None:
    errors, table = errors_of("targets")
    assert errors.standardized
    for name in TARGETS:
        own = errors.table[errors.table["target"] == name]
        np.testing.assert_allclose(own["true"].mean(), 0, atol=1e-9)
        np.testing.assert_allclose(own["true"].std(ddof=0), 1, rtol=1e-9)
        # R² does not depend on the unit.
        part = table[table["target"] == name]
        score = regression_scores(own["true"].to_numpy(), own["predicted"].to_numpy())["r2"]
        assert score == pytest.approx(r2_score(part["true"], part["predicted"]), rel=1e-9)
    same, _ = errors_of("targets", units="°")
    assert not same.standardized
    np.testing.assert_allclose(same.table["error"], same.table["predicted"] - same.table["true"])


def test_quartiles_along_the_steps_are_numpys() -> None:
    errors, table = errors_of("regression_steps")
    found = size_quartiles(errors, "step")
    for step, part in table.groupby("step"):
        sizes = (part["predicted"] - part["true"]).abs()
        expected = np.quantile(sizes, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(found.loc[step, ["low", "median", "high"]], expected)
    errors, table = errors_of("forecast")
    found = size_quartiles(errors, "target")
    assert found.index.tolist() == [1, 2, 3, 4, 5, 6]
    for ahead, (_, part) in enumerate(table.groupby("target", sort=False), start=1):
        expected = np.median((part["naive"] - part["true"]).abs())
        assert found.loc[ahead, "naive"] == pytest.approx(expected)


def test_rows_are_chosen_by_their_error_alone() -> None:
    losses = pd.Series({7: 2.0, 3: 0.5, 9: 0.5, 1: 8.0, 4: 3.0, 2: 8.0})
    expected = {"smallest": 3, "median": 7, "largest": 1}
    assert choose_rows(losses) == expected
    assert choose_rows(losses.sample(frac=1, random_state=1)) == expected
    assert choose_rows(losses[[4]]) == {"largest": 4}
    assert choose_rows(losses[[4, 7]]) == {"smallest": 7, "largest": 4}
    assert choose_rows(pd.Series({5: 1.0, 6: 1.0, 8: 1.0})).keys() <= expected.keys()
    assert choose_rows(pd.Series(dtype=float)) == {}
    errors, table = errors_of("regression_steps")
    for row, loss in row_losses(errors).items():
        part = table[table["row"] == row]
        assert loss == pytest.approx(root_mean_squared_error(part["true"], part["predicted"]))


def test_the_largest_errors_come_first() -> None:
    errors, table = errors_of("regression")
    sizes = sorted((table["predicted"] - table["true"]).abs(), reverse=True)[:7]
    np.testing.assert_allclose(largest_errors(errors, 7)["size"], sizes, rtol=1e-12)


def test_predictions_that_are_not_finite_are_counted_and_left_out() -> None:
    run = make_task_run("regression")
    assert run.predictions is not None
    table = run.predictions.copy()
    table.loc[[3, 5], "predicted"] = [np.nan, np.inf]
    errors = regression_errors(table, problem_of(run.config))
    assert errors.skipped == 2
    assert len(errors.table) == len(table) - 2
    table["predicted"] = np.nan
    assert regression_errors(table, problem_of(run.config)).table.empty


def test_scores_that_are_not_defined_are_nan() -> None:
    alone = regression_scores(np.array([2.0]), np.array([3.5]))
    assert (alone["rmse"], alone["bias"]) == (1.5, 1.5)
    assert math.isnan(alone["r2"])
    assert math.isnan(regression_scores(np.array([2.0, 2.0]), np.array([3.0, 4.0]))["r2"])
    assert regression_scores(np.zeros(0), np.zeros(0))["count"] == 0


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [(0.00294321, 0.6506, 0.0029), (12.345678, 1234.5, 12.0), (1e-9, 1.0, 0.0), (3.0, 0.0, 3.0)],
)
def test_a_bias_has_the_errors_digits(value: float, size: float, expected: float) -> None:
    assert round_like(value, size) == expected
    assert math.isnan(round_like(math.nan, 1.0))
