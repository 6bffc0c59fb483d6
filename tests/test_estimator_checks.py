"""scikit-learn's own checks of an estimator."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from jaxlstm import GridSearch, LSTMClassifier

FAST = LSTMClassifier(units=4, epochs=20, learning_rate=0.1, batch_size=64)

# The checks pass float64.
pytestmark = pytest.mark.filterwarnings("ignore:X was converted")


@parametrize_with_checks([FAST])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


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
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 50
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
