"""scikit-learn's own checks of an estimator."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from jaxlstm import LSTMClassifier

# The checks pass float64.
pytestmark = pytest.mark.filterwarnings("ignore:X was converted")


@parametrize_with_checks([LSTMClassifier(units=4, epochs=20, learning_rate=0.1, batch_size=64)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
def test_scikit_learns_checks_of_the_defaults() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each check sets its own
        results = check_estimator(LSTMClassifier(), on_fail=None, on_skip=None)
    assert len(results) > 50
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
