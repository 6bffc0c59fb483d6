"""scikit-learn's own checks of an estimator."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)

from jaxlstm import FlaxClassifier, FlaxRegressor, GridSearch, LSTMClassifier, LSTMRegressor
from jaxlstm.nn import MLP

FAST = LSTMClassifier(units=4, epochs=20, learning_rate=0.1, batch_size=64)
ALL = [
    FAST,
    LSTMRegressor(units=8, epochs=100, learning_rate=0.03, batch_size=64),
    FlaxClassifier(MLP(classes=None, units=(4,)), epochs=20, learning_rate=0.1, batch_size=64),
    FlaxRegressor(MLP(classes=None, units=(4,)), epochs=100, learning_rate=0.1, batch_size=64),
]

# Rows summed in another order differ in the last digits of float32; the check wants 1e-7.
IN_FLOAT64 = {
    "check_sample_weight_equivalence_on_dense_data": "sums of float32 differ by rounding",
}

# The checks pass float64.
pytestmark = pytest.mark.filterwarnings("ignore:X was converted")


def _by_precision(estimator: Any) -> dict[str, str]:
    return IN_FLOAT64


@parametrize_with_checks(ALL, expected_failed_checks=_by_precision)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("estimator", ALL, ids=lambda one: type(one).__name__)
def test_weights_are_repetitions(estimator: Any) -> None:
    """In float64, with all rows in one batch, as scikit-learn checks it."""
    check_sample_weight_equivalence_on_dense_data(type(estimator).__name__, estimator)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [LSTMClassifier(), GridSearch(FAST, {"l2": [0.0, 0.001]}, cv=2, random_state=0)],
    ids=["defaults", "search"],
)
def test_all_of_scikit_learns_checks(estimator: Any) -> None:
    """Of the defaults, and of a search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each check sets its own
        results = check_estimator(
            estimator, on_fail=None, on_skip=None, expected_failed_checks=IN_FLOAT64
        )
    assert len(results) > 50
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
