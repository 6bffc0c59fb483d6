"""Inputs and targets that float32 cannot tell apart, standardised as scikit-learn's scalers do."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import LeaveOneGroupOut, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from jaxlstm import FlaxClassifier, FlaxRegressor, GridSearch, LSTMRegressor
from jaxlstm.nn import MLP
from jaxlstm.train import standardization

pytestmark = pytest.mark.filterwarnings("ignore:X was converted")

Z = np.random.default_rng(0).normal(size=(40, 3))
Y = (Z[:, 0] > 0).astype(int)

GIVEN: dict[str, Any] = {
    "Unix times": 1.7e9 + 10 * Z,
    "pressure": 101325 + 0.01 * Z,
    "milliseconds": (1.7e12 + 1e4 * Z).astype(np.int64),
    "nanoseconds": (1.7e18 + 1e7 * Z).astype(np.uint64),
    "next to nothing": 1e-42 * Z,
    "next to nothing, in float32": (1e-42 * Z).astype(np.float32),
    "beyond float32": 1e50 * (1e4 + Z),
    "one of three": np.c_[Z[:, :1] + 5, 1e10 + Z[:, 1:2], np.full((40, 1), 1e9 + 0.3)],
}


def make(**params: Any) -> FlaxClassifier:
    module = MLP(classes=2, units=(4,))
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "random_state": 0}
    return FlaxClassifier(module, **settings | params)


@pytest.mark.parametrize("kind", GIVEN)
def test_equals_a_scaler_before_it(kind: str) -> None:
    x = GIVEN[kind]
    train, new = x[:30], x[30:]
    wanted = make_pipeline(StandardScaler(), make()).fit(train, Y[:30])
    own = make(standardize=True).fit(train, Y[:30], validation_data=(new, Y[30:]))
    for rows in (train, new):
        np.testing.assert_allclose(
            own.predict_proba(rows), wanted.predict_proba(rows), rtol=2e-3, atol=1e-5
        )
    assert own.history_["val_accuracy"][-1] == pytest.approx(wanted.score(new, Y[30:]))
    again = pickle.loads(pickle.dumps(own))
    np.testing.assert_array_equal(again.predict_proba(new), own.predict_proba(new))
    # It goes on in the units of the first rows.
    own.set_params(warm_start=True, epochs=1, learning_rate=1e-6).fit(new, Y[30:])
    np.testing.assert_allclose(own.predict_proba(new), again.predict_proba(new), atol=1e-3)


def test_numbers_that_float32_holds_stay_as_they_are() -> None:
    x = (Z * [1, 1e-3, 1e4] + [500, 0, -3e4]).astype(np.float32)
    for given in (x, np.c_[x[:, :2], np.full(40, 2020)], x * np.array([1, 1e-25, 1e20])):
        assert standardization.units_of(given, np.arange(40), None, np.float32) is None
    far = x + np.array([0, 1e6, 0])
    units = standardization.units_of(far, np.arange(40), None, np.float32)
    assert units is not None
    np.testing.assert_allclose(units.center, [0, far[:, 1].mean(), 0], rtol=1e-14)
    np.testing.assert_array_equal(units.unit, 1)
    written = units.written(far, np.float32)
    assert written[:, 0].tobytes() == far[:, 0].astype(np.float32).tobytes()
    assert standardization.units_of(far, np.arange(40), None, np.float64) is None


def test_a_search_and_a_pipeline_tell_them_apart() -> None:
    x = GIVEN["Unix times"]
    cv = PredefinedSplit(np.repeat([0, 1], 20))
    grid = {"standardize": [False, True], "learning_rate": [0.05, 0.01]}
    search = GridSearch(make(), grid, cv=cv, return_estimator=True).fit(x, Y)
    assert search.plan_.programs == 2
    for cell, params in enumerate(search.cv_results_["params"]):
        scaler = StandardScaler() if params["standardize"] else FunctionTransformer()
        by_hand = make_pipeline(scaler, make(learning_rate=params["learning_rate"]))
        by_hand.fit(x[20:], Y[20:])
        got = search.estimators_[2 * cell].predict_proba(x[:20])
        np.testing.assert_allclose(got, by_hand.predict_proba(x[:20]), rtol=1e-3, atol=1e-5)
        score = search.cv_results_["split0_test_score"][cell]
        assert score == pytest.approx(by_hand.score(x[:20], Y[:20]))
    steps = make_pipeline(FunctionTransformer(), make())
    steps_grid = {f"flaxclassifier__{name}": values for name, values in grid.items()}
    piped = GridSearch(steps, steps_grid, cv=cv).fit(x, Y)
    np.testing.assert_allclose(
        piped.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )
    assert piped.predict_proba(x).shape == (40, 2)


def test_a_split_of_rows_far_from_the_others() -> None:
    groups = np.repeat([0, 1], 20)
    x = np.where(groups[:, None], 1.7e9, 0.0) + Z
    search = GridSearch(make(standardize=True), {"batch_size": [8]}, cv=LeaveOneGroupOut())
    search.set_params(return_train_score=True, return_estimator=True).fit(x, Y, groups=groups)
    for fold, model in enumerate(search.estimators_):
        train = x[groups != fold]
        wanted = make_pipeline(StandardScaler(), make()).fit(train, Y[groups != fold])
        np.testing.assert_allclose(
            model.predict_proba(train), wanted.predict_proba(train), rtol=1e-3, atol=1e-5
        )


def test_rows_of_unequal_length_and_targets() -> None:
    rng = np.random.default_rng(1)
    rows = [1.7e9 + 10 * rng.normal(size=(length, 1)) for length in rng.integers(2, 6, 30)]
    y = np.array([row.sum() for row in rows]) - 5e9
    y = 3e8 + (y - y.mean()) / y.std()
    model = LSTMRegressor(
        units=4, standardize=True, standardize_targets=True, epochs=2, random_state=0
    )
    flat = StandardScaler().fit(np.concatenate(rows))
    plain = clone(model).set_params(standardize=False, standardize_targets=False)
    by_hand = TransformedTargetRegressor(plain, transformer=StandardScaler())
    by_hand.check_inverse = False
    scaled = [flat.transform(row) for row in rows]
    plain.fit(scaled, StandardScaler().fit_transform(y[:, None]).ravel())
    wanted = plain.predict(scaled) * y.std() + y.mean()
    np.testing.assert_allclose(model.fit(rows, y).predict(rows) - 3e8, wanted - 3e8, atol=1e-4)
    residual = np.square(wanted - y).mean()
    history = model.set_params(warm_start=True, epochs=1, learning_rate=1e-9).fit(rows, y).history_
    assert history["mse"][-1] == pytest.approx(residual, rel=1e-2)


def test_targets_of_a_search() -> None:
    y = 1e9 + Z[:, 0]
    settings = {"epochs": 60, "batch_size": 8, "learning_rate": 0.05, "random_state": 0}
    model = FlaxRegressor(MLP(classes=1, units=(4,)), **settings)
    grid = {"standardize_targets": [False, True]}
    for estimator, name in (
        (model, ""),
        (make_pipeline(StandardScaler(), model), "flaxregressor__"),
    ):
        own = {name + key: values for key, values in grid.items()}
        search = GridSearch(estimator, own, cv=2, scoring="neg_mean_squared_error").fit(Z, y)
        scores = search.cv_results_["mean_test_score"]
        assert scores[0] < -1e10
        assert scores[1] > -0.6
        assert search.best_estimator_.score(Z, y) > 0.8
    with pytest.raises(ValueError, match="column 0 varies by 1e-40 alone: scale y first"):
        model.set_params(standardize_targets=True).fit(Z, 1e-40 * y / y.std())


def test_gradients_are_by_the_unit_of_x() -> None:
    model = make(standardize=True).fit(GIVEN["beyond float32"], Y)
    got = model.input_gradients(GIVEN["beyond float32"], np.ones(40, int))
    near = make(standardize=True).fit(Z, Y)
    scale = GIVEN["beyond float32"].std(0) / Z.std(0)
    np.testing.assert_allclose(
        got.astype(float) * scale, near.input_gradients(Z, np.ones(40, int)), atol=1e-4
    )
