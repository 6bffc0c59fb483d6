"""Scores of classes, classes fixed beforehand, and the fitted network by itself."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.model_selection import KFold

from jaxlstm import GridSearch, LSTMClassifier, LSTMRegressor


@pytest.mark.parametrize("kind", ["two", "three", "several labels", "per step"])
def test_scores_of_classes(kind: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(2, 5, size=(12, 4, 2)).astype(np.float32)
    y = {
        "two": np.arange(12) % 2,
        "three": np.arange(12) % 3,
        "several labels": np.eye(3, dtype=int)[np.arange(12) % 3],
        "per step": np.arange(48).reshape(12, 4) % 2,
    }[kind]
    settings = {"return_sequences": kind == "per step", "standardize": True, "random_state": 0}
    model = LSTMClassifier(3, epochs=1, **settings).fit(X, y)
    proba, scores = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(proba), rtol=1e-4)
    logits = np.asarray(model.apply(X))
    if kind == "several labels":
        np.testing.assert_allclose(1 / (1 + np.exp(-scores)), proba, rtol=1e-5)
        np.testing.assert_array_equal(scores > 0, model.predict(X))
        np.testing.assert_allclose(scores, logits, rtol=1e-4, atol=1e-6)
    elif kind == "three":
        np.testing.assert_allclose(softmax(scores, -1), proba, rtol=1e-5)
        np.testing.assert_allclose(scores, logits, rtol=1e-4, atol=1e-6)
    else:
        assert scores.shape == np.shape(y)
        np.testing.assert_allclose(1 / (1 + np.exp(-scores)), proba[..., 1], rtol=1e-5)
        np.testing.assert_array_equal(scores > 0, model.predict(X) == 1)
    np.testing.assert_allclose(
        proba, expit(logits) if kind == "several labels" else softmax(logits, -1), rtol=1e-4
    )


@pytest.mark.parametrize("center", [3.0, 1e4])  # the second is stored in units of its own
def test_the_network_by_itself_exports_with_any_number_of_rows(center: float) -> None:
    rng = np.random.default_rng(0)
    X = (center + rng.normal(size=(12, 4, 2))).astype(np.float32)
    model = LSTMRegressor(3, epochs=1, standardize=True, random_state=0).fit(X, 50 * X[:, 0, 0])
    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 4, 2"), np.float32)
    exported = jax.export.export(jax.jit(model.apply))(shape)
    for rows in (1, 5):
        values = exported.call(X[:rows])[:, 0]
        np.testing.assert_allclose(values, model.predict(X[:rows]), rtol=1e-4)
        np.testing.assert_allclose(model.apply(X[:rows])[:, 0], model.predict(X[:rows]), rtol=1e-5)
    shifted = jax.tree.map(lambda leaf: leaf + 0.1, model.params_)
    assert np.abs(model.apply(X, params=shifted) - model.apply(X)).max() > 1e-3
    for wrong in (X[..., :1], X[0], X[..., None]):
        with pytest.raises(ValueError, match="X "):  # as predict says it
            model.apply(wrong)


def test_classes_are_fixed_beforehand() -> None:
    """Also those that y, or a split of a search, lacks."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 4, 2)).astype(np.float32), np.repeat(["a", "b", "c"], 4)
    model = LSTMClassifier(3, epochs=1, random_state=0, classes=["d", "c", "b", "a"])
    fitted = clone(model).fit(X[:4], y[:4])
    assert fitted.classes_.tolist() == ["a", "b", "c", "d"]
    assert fitted.predict_proba(X).shape == (12, 4)
    search = GridSearch(model, {"learning_rate": [0.01]}, cv=KFold(3), return_estimator=True)
    for own in search.fit(X, y).estimators_:
        assert own.classes_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="y has the class 'a', which is not one of 'b', 'c'"):
        clone(model).set_params(classes=["b", "c"]).fit(X, y)
