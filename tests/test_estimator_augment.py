"""Augmentation and standardisation as parameters of the estimators and of a search."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import clone
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from jaxlstm import MLP, FlaxClassifier, GridSearch, HalvingSearch, LSTMClassifier
from jaxlstm.train.augment import Jitter, RandomFlip, RandomZoom

pytestmark = pytest.mark.usefixtures("optimised")

FOLDS = KFold(3, shuffle=True, random_state=1)
CHAIN = (RandomZoom(0.2), RandomFlip(), Jitter(0.05))


def double(key: Any, x: Any) -> Any:
    """An augmentation of the user's own."""
    return x * (1 + jax.random.bernoulli(key))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """39 rows [6, 4] whose features differ in place and size; the last is constant."""
    rng = np.random.default_rng(5)
    y = rng.permutation(np.arange(39) % 3)
    x = rng.normal(size=(39, 6, 4)) + y[:, None, None]
    return (x * [1, 5, 0.1, 0] + [0, 20, 1, 3]).astype(np.float32), y


@pytest.fixture
def lstm() -> LSTMClassifier:
    return LSTMClassifier(units=3, batch_size=8, epochs=2, learning_rate=0.05, random_state=0)


def weights_of(model: Any) -> list[Any]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model.params_)]


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit."""
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        assert a.tobytes() == b.tobytes(), np.abs(a - b).max()


class Scorer:
    """Keeps the fitted lanes by the rows that they are scored on and their settings."""

    def __init__(self) -> None:
        self.lanes: dict[Any, Any] = {}

    def __call__(self, model: Any, X: Any, y: Any) -> float:
        self.lanes[repr(model.augment), model.standardize, X[:, 0, 0].tobytes()] = model
        return float(model.score(X, y))

    def lane(self, cell: Any, X: Any) -> Any:
        return self.lanes[repr(cell["augment"]), cell["standardize"], X[:, 0, 0].tobytes()]


GRID = [{"augment": [RandomFlip()]}, {"augment": [CHAIN], "standardize": [True]}]


def test_a_lane_is_the_fit_alone(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    lstm.set_params(random_state=None)
    # Adam would make much of the last bits of a gradient near 0.
    lstm.set_params(optimizer="sgd", learning_rate=0.2)
    scorers, searches = {"loop": Scorer(), "vmap": Scorer()}, {}
    for layout, scorer in scorers.items():
        options: Any = {"cv": FOLDS, "random_state": 3, "refit": False, "layout": layout}
        searches[layout] = GridSearch(lstm, GRID, scoring=scorer, **options).fit(X, y)
        assert searches[layout].plan_.programs == 2
    search, kernels = searches["loop"], []
    assert {repr(one) for one in search.results_["param_augment"]} == {"RandomFlip()", repr(CHAIN)}
    splits = list(FOLDS.split(X, y))
    for row in search.results_.itertuples():
        train, validation = splits[row.fold]
        cell = {"augment": (), "standardize": False} | search.cv_results_["params"][row.cell]
        lane, side_by_side = (one.lane(cell, X[validation]) for one in scorers.values())
        alone = clone(lstm).set_params(**cell, random_state=row.seed).fit(X[train], y[train])
        assert_same(lane, alone)
        assert_array_equal(lane.predict_proba(X), alone.predict_proba(X))
        # Products of several lanes are rounded otherwise.
        for a, b in zip(weights_of(side_by_side), weights_of(alone), strict=True):
            assert_allclose(a, b, atol=2e-5)
        if row.fold == 0:
            kernels.append(weights_of(lane)[0])
    for one, other in itertools.combinations(kernels, 2):
        assert np.abs(one - other).max() > 1e-4


@pytest.mark.usefixtures("x64")
def test_batches_in_pieces_are_batches(data: Any) -> None:
    """Lanes side by side take a batch of 100 whole, one at a time they take it in four."""
    X, y = (np.concatenate([part] * 4) for part in data)
    module = MLP(classes=3, units=(5,), dropout=0.2)
    model = FlaxClassifier(module, batch_size=100, epochs=2, augment=CHAIN, standardize=True)
    curves = []
    for layout, batch in [("vmap", "batch 100,"), ("loop", "batch 100 by 25,")]:
        search = GridSearch(
            model, {"l2": [0.0]}, cv=FOLDS, layout=layout, refit=False, random_state=0
        ).fit(X.astype(float), y)
        assert batch in search.plan_.descriptions[0]
        curves.append(search.curves_[["train_loss", "val_loss"]].to_numpy())
    assert_allclose(*curves, rtol=1e-10)


def test_each_epoch_and_seed_augments_anew(lstm: LSTMClassifier, data: Any) -> None:
    """With a rate too small to learn, losses differ by what the rows went through alone."""
    X, y = data
    still = {"optimizer": "sgd", "learning_rate": 1e-30, "epochs": 3}
    plain = clone(lstm).set_params(**still).fit(X, y)
    assert np.ptp(plain.history_["loss"]) < 1e-6
    moved = clone(lstm).set_params(**still, augment=double).fit(X, y)
    losses = moved.history_["loss"]
    assert min(abs(a - b) for a, b in itertools.pairwise(losses)) > 1e-5
    again = clone(moved).fit(X, y)
    assert again.history_ == moved.history_
    other = clone(moved).set_params(batch_size=39).fit(X, y)  # of a row's place in its epoch alone
    assert_allclose(other.history_["loss"], losses, rtol=1e-5)


def test_only_training_rows_are_augmented(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    still = {"optimizer": "sgd", "learning_rate": 1e-30, "augment": Jitter(3.0)}
    model = clone(lstm).set_params(**still).fit(X, y, validation_data=(X, y))
    probabilities = model.predict_proba(X)
    plain = clone(model).set_params(augment=()).fit(X, y)
    assert_array_equal(probabilities, plain.predict_proba(X))
    loss = -np.log(probabilities[np.arange(len(y)), y]).mean()
    assert_allclose(model.history_["val_loss"], loss, rtol=1e-5)
    assert abs(model.history_["loss"][0] - loss) > 1e-3


def test_nothing_is_what_it_was(lstm: LSTMClassifier, data: Any) -> None:
    """An augmentation that changes nothing leaves every random stream as it is."""
    X, y = data
    lstm.set_params(dropout=0.3)
    plain = clone(lstm).fit(X, y)
    assert_same(plain, clone(lstm).set_params(augment=[lambda key, x: x]).fit(X, y))
    assert_same(plain, clone(lstm).set_params(augment=None, standardize=np.False_).fit(X, y))


def test_standardize_is_a_scaler_before_it(data: Any) -> None:
    X, y = data[0][:, 0], data[1]
    model = FlaxClassifier(MLP(classes=3, units=(4,)), batch_size=8, epochs=5, random_state=0)
    within = clone(model).set_params(standardize=True).fit(X, y)
    pipeline = Pipeline([("scale", StandardScaler()), ("model", model)]).fit(X, y)
    for a, b in zip(weights_of(within), weights_of(pipeline["model"]), strict=True):
        assert_allclose(a, b, atol=1e-4)
    assert_allclose(within.predict_proba(X), pipeline.predict_proba(X), atol=1e-4)
    scores = [
        GridSearch(one, {name: [0.0, 0.1]}, cv=FOLDS, random_state=0).fit(X, y)
        for one, name in [(within, "l2"), (pipeline, "model__l2")]
    ]
    losses = [one.curves_["val_loss"] for one in scores]
    assert_allclose(*losses, rtol=1e-3)
    assert_allclose(*(one.predict_proba(X) for one in scores), atol=1e-4)
    assert scores[0].plan_.programs == 1
    assert not np.allclose(clone(model).fit(X, y).predict_proba(X), within.predict_proba(X), 0.05)


def test_sequences_over_rows_and_steps(lstm: LSTMClassifier, data: Any, tmp_path: Path) -> None:
    X, y = data
    model = clone(lstm).set_params(standardize=True).fit(X, y)
    numbers = model.network_.hyperparameters.standardization
    assert_allclose(numbers.mean, X.mean((0, 1), dtype=float), rtol=1e-6)
    assert_allclose(numbers.scale, [*X[..., :3].std((0, 1), dtype=float), 1], rtol=1e-6)
    by_hand = ((X - numbers.mean) / numbers.scale).astype(np.float32)
    plain = clone(lstm).fit(by_hand, y)
    assert_allclose(model.predict_proba(X), plain.predict_proba(by_hand), atol=1e-5)
    assert_allclose(model.history_["loss"], plain.history_["loss"], rtol=1e-5)
    back = pickle.loads(pickle.dumps(model))
    assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    X = X.copy()
    X[1, 0, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[1, 0, 2\] is NaN"):
        clone(model).fit(X, y)


def test_rows_held_out_are_not_looked_at(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    lstm.set_params(standardize=True, early_stopping=True, validation_fraction=0.25)
    train, held = train_test_split(np.arange(39), test_size=0.25, random_state=0, stratify=y)
    numbers = clone(lstm).fit(X, y).network_.hyperparameters.standardization
    assert_allclose(numbers.mean, X[train].mean((0, 1), dtype=float), rtol=1e-6)
    other = X.copy()
    other[held] = other[held] * 3 + 1
    for a, b in zip(
        numbers, clone(lstm).fit(other, y).network_.hyperparameters.standardization, strict=True
    ):
        assert_array_equal(a, b)
    given = clone(lstm).fit(X[train], y[train], validation_data=(X[held], y[held]))
    for a, b in zip(numbers, given.network_.hyperparameters.standardization, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_nothing_of_the_test_part_reaches_training(
    fraction: float, lstm: LSTMClassifier, data: Any
) -> None:
    """A split's lane is the same whatever the rows are that score it."""
    X, y = data
    lstm.set_params(augment=CHAIN, standardize=True, epochs=3, validation_fraction=fraction)
    lstm.set_params(early_stopping=bool(fraction))
    train, test = next(FOLDS.split(X))
    other = X.copy()
    other[test] = other[test] * 50 + 9
    lanes = []
    for rows in (X, other):
        scorer = Scorer()
        GridSearch(lstm, {"l2": [0.01]}, cv=[(train, test)], scoring=scorer, refit=False).fit(
            rows, y
        )
        lanes.append(scorer.lane({"augment": CHAIN, "standardize": True}, rows[test]))
    assert_same(*lanes)
    assert_array_equal(lanes[0].predict_proba(X), lanes[1].predict_proba(X))


def test_folds_have_numbers_of_their_own(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    scorer = Scorer()
    cell = {"augment": (), "standardize": True}
    search = GridSearch(lstm, {"standardize": [True]}, cv=FOLDS, scoring=scorer, layout="vmap").fit(
        X, y
    )
    assert search.plan_.programs == 1
    assert "standardized" in search.plan_.descriptions[0]
    for train, validation in FOLDS.split(X):
        numbers = scorer.lane(cell, X[validation]).network_.hyperparameters.standardization
        assert_allclose(numbers.mean, X[train].mean((0, 1), dtype=float), rtol=1e-6)
    refitted = search.best_estimator_.network_.hyperparameters.standardization
    assert_allclose(refitted.mean, X.mean((0, 1), dtype=float), rtol=1e-6)


@pytest.mark.parametrize(
    "change", [{"augment": RandomFlip()}, {"augment": RandomZoom(0.3)}, {"standardize": True}]
)
def test_a_run_of_other_settings_is_not_gone_on_with(
    change: Any, lstm: LSTMClassifier, data: Any, tmp_path: Path
) -> None:
    lstm.set_params(augment=RandomZoom(0.2), epochs=1)
    options: Any = {"cv": FOLDS, "checkpoint_dir": tmp_path, "refit": False}
    search = GridSearch(lstm, {"l2": [0.0]}, **options).fit(*data)
    again = GridSearch(clone(lstm), {"l2": [0.0]}, **options).fit(*data)
    assert_array_equal(again.results_["score"], search.results_["score"])
    other = GridSearch(clone(lstm).set_params(**change), {"l2": [0.0]}, **options).fit(*data)
    fresh = clone(other).set_params(checkpoint_dir=None).fit(*data)
    assert_frame_equal(other.curves_, fresh.curves_)
    assert not other.curves_.equals(search.curves_)


def test_halving_goes_on_with_both(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    grid = [{"augment": [CHAIN]}, {"standardize": [True]}]
    options: Any = {"cv": FOLDS, "random_state": 0, "refit": False}
    lstm.set_params(epochs=4)
    halved = HalvingSearch(lstm, grid, factor=2, min_resources=2, **options).fit(X, y)
    whole = GridSearch(lstm, grid, **options).fit(X, y)
    ends = halved.cv_results_["iter"] == halved.cv_results_["iter"].max()
    (best,) = np.flatnonzero(ends)
    cell = int("standardize" in halved.cv_results_["params"][best])
    assert halved.cv_results_["mean_test_score"][best] == whole.cv_results_["mean_test_score"][cell]


def test_a_plan_says_both(lstm: LSTMClassifier, data: Any) -> None:
    lstm.set_params(augment=CHAIN, standardize=True, epochs=1)
    search = GridSearch(lstm, {"l2": [0.0]}, cv=FOLDS, refit=False).fit(*data)
    (line,) = search.plan_.descriptions
    assert "augmented by RandomZoom(), RandomFlip(), Jitter(), standardized" in line
