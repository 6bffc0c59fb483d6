"""A lane among hundreds is the trial that it would be alone: padded, accumulated, shared or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold

from jaxlstm import GridSearch, LSTMClassifier
from jaxlstm.grid.lanes import Lanes
from jaxlstm.grid.prepare import Prepared
from jaxlstm.nn import padding

pytestmark = pytest.mark.usefixtures("optimised")

# Uneven: 26 rows are 9, 9 and 8.
FOLDS = KFold(3, shuffle=True, random_state=1)

BASE = LSTMClassifier(
    dropout=0.2,
    recurrent_dropout=0.2,
    l2=0.01,
    class_weight="balanced",
    label_smoothing=0.1,
    global_clipnorm=0.4,
    learning_rate=0.03,
)

FACTORS: dict[str, list[Any]] = {
    "units": [3, 4, 6],
    "batch_size": [4, 7, 16],
    "optimizer": ["adam", "rmsprop"],
    "schedule": ["constant", "cosine"],
    "epochs": [1, 2, 3],
}
THINNED = {"units": [3, 6], "batch_size": [4, 7], "epochs": [1, 3]}

# Stop after different epochs, and end with the weights of different ones.
STOPPING: dict[str, list[Any]] = {
    "units": [3, 6],
    "batch_size": [4, 7],
    "early_stopping": [True],
    "patience": [0, 1],
    "restore_best_weights": [True],
    "validation_fraction": [0.25],
    "epochs": [3, 8],
    "learning_rate": [0.2],
}
SLOW: Any = pytest.mark.slow
SIZES = [pytest.param(THINNED, id="thinned"), pytest.param({}, id="whole", marks=SLOW)]


class Among:
    """A finished search and the fitted lane of each of its trials."""

    def __init__(self, search: GridSearch, lanes: dict[int, Any]):
        self.search, self.lanes = search, lanes
        self.curves = dict(iter(search.curves_.groupby("trial")))
        self.rows = list(search.results_.itertuples())

    def cell(self, row: Any) -> dict[str, Any]:
        params: dict[str, Any] = self.search.cv_results_["params"][row.cell]
        return params


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a search and keeps its lanes."""
    kept: dict[int, Any] = {}
    fitted = Prepared.fitted

    def keep(prepared: Prepared, trial: Any, outcome: Any) -> Any:
        kept[trial.index] = fitted(prepared, trial, outcome)
        return kept[trial.index]

    monkeypatch.setattr(Prepared, "fitted", keep)

    def run(data: Any, grid: Any, estimator: Any = BASE, **settings: Any) -> Among:
        kept.clear()
        settings = {"cv": FOLDS, "random_state": 3, "n_seeds": 2, "refit": False} | settings
        search = GridSearch(estimator, grid, scoring="f1_macro", **settings).fit(*data)
        assert sorted(kept) == search.results_["trial"].tolist()
        return Among(search, dict(kept))

    return run


def alone(data: Any, among: Among, row: Any) -> Any:
    """The plain estimator's own fit of a trial."""
    X, y = data
    train, _ = list(FOLDS.split(X, y))[row.fold]
    estimator = clone(among.search.estimator).set_params(**among.cell(row))
    return estimator.set_params(random_state=row.seed).fit(X[train], y[train])


def sample(among: Among, count: int) -> list[Any]:
    """Random trials, among them every value of every factor, split and seed."""
    order = np.random.default_rng(5).permutation(len(among.rows))
    seen: set[Any] = set()
    must, others = [], []
    for row in (among.rows[place] for place in order):
        values = {*among.cell(row).items(), ("fold", row.fold), ("seed", row.seed)}
        (must if values - seen else others).append(row)
        seen |= values
    assert len(must) <= count
    return must + others[: count - len(must)]


def assert_equal(data: Any, among: Among, row: Any, model: Any, rtol: float | None) -> None:
    """Weights, curves and predictions; bit for bit without a tolerance."""

    def same(ours: Any, theirs: Any) -> None:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if rtol is None:
            assert ours.tobytes() == theirs.tobytes(), (among.cell(row), np.abs(ours - theirs))
        else:
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)

    lane = among.lanes[row.trial]
    assert jax.tree.structure(lane.params_) == jax.tree.structure(model.params_)
    jax.tree.map(same, lane.params_, model.params_)
    X = data[0]
    same(lane.predict_proba(X), model.predict_proba(X))
    assert lane.best_epoch_ == model.best_epoch_
    assert row.epochs == len(model.history_["loss"])
    # A search's lane has its fold's validation rows; alone there are none, or those held out.
    names = {"loss": "train_loss", "accuracy": "train_accuracy", "learning_rate": "learning_rate"}
    if among.cell(row).get("early_stopping"):
        names |= {"val_loss": "val_loss", "val_accuracy": "val_accuracy"}
    for name, column in names.items():
        same(np.asarray(among.curves[row.trial][column]), np.asarray(model.history_[name]))
        same(np.asarray(lane.history_[name]), np.asarray(model.history_[name]))


@pytest.fixture
def double(data: Any) -> Any:
    return data[0].astype(np.float64), data[1]


def count_fits(factors: dict[str, Sequence[Any]]) -> int:
    cells = int(np.prod([len(values) for values in factors.values()]))
    return cells * FOLDS.get_n_splits() * 2


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("layout", [pytest.param("loop", marks=SLOW), "vmap"])
def test_fused_equals_alone_in_float64(
    layout: str, sizes: Any, double: Any, run: Any, x64: None
) -> None:
    """All that differs is rounding, which 1e-9 leaves no more of than a few thousand steps would."""
    factors = FACTORS | sizes
    among = run(double, [factors, STOPPING], layout=layout)
    plan = among.search.plan_
    assert plan.layout == layout
    assert plan.fits == count_fits(factors) + count_fits(STOPPING)
    assert plan.lanes < plan.fits  # epochs share runs
    if layout == "vmap":
        assert plan.programs == 1
        assert plan.padding > 0.2
        wide = plan.groups[0].structure.module
        assert padding.width_of(wide) == (max(factors["units"]),)
    stopped = among.search.results_["epochs"] < among.search.results_["param_epochs"]
    assert 10 < stopped.sum() < count_fits(STOPPING)
    for row in sample(among, 20 if sizes else 40):
        assert_equal(double, among, row, alone(double, among, row), rtol=1e-9)


@pytest.mark.parametrize("sizes", SIZES)
def test_fused_equals_alone_bit_for_bit(sizes: Any, data: Any, run: Any) -> None:
    # Each width is a program of its own here, so that the short form has one.
    width = {"units": [3]} if sizes else {}
    among = run(data, [FACTORS | sizes | width, STOPPING | width], layout="loop")
    for row in sample(among, 20 if sizes else 40):
        assert_equal(data, among, row, alone(data, among, row), rtol=None)


def test_lanes_side_by_side_in_float32(data: Any, run: Any) -> None:
    """Rounding alone, of some 15 steps of optimizers that divide by small numbers."""
    grid = FACTORS | THINNED
    side, one = (run(data, grid, layout=layout) for layout in ("vmap", "loop"))
    columns = ["train_loss", "val_loss", "learning_rate"]
    # Measured: 2e-7, and 5e-7 of the weights; another CPU may fuse otherwise.
    pd.testing.assert_frame_equal(
        side.search.curves_[columns], one.search.curves_[columns], rtol=2e-5, atol=1e-6
    )
    for trial, lane in side.lanes.items():
        for ours, theirs in zip(
            jax.tree.leaves(lane.params_), jax.tree.leaves(one.lanes[trial].params_), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


MORE: list[dict[str, list[Any]]] = [
    {"batch_size": [4, 16]},
    {"units": [3, 6]},
    {"epochs": [2, 4]},
    {"optimizer": ["adam", "rmsprop"]},
    {"recurrent_dropout": [0.2, 0.5], "l2": [0.0, 0.01]},
    {},  # another seed
]


@pytest.mark.parametrize("more", MORE, ids=lambda more: "+".join(more) or "seeds")
def test_what_is_added_to_a_grid_changes_no_other_trial(more: Any, data: Any, run: Any) -> None:
    base = {"batch_size": [4], "units": [3], "epochs": [2], "optimizer": ["adam"]}
    schedules = {"schedule": ["constant", "cosine"]}
    few = run(data, base | schedules, layout="loop", n_seeds=1)
    many = run(data, base | schedules | more, layout="loop", n_seeds=1 if more else 2)
    assert len(many.rows) >= 2 * len(few.rows)

    def places(among: Among) -> dict[Any, Any]:
        names = ("param_schedule", *(f"param_{name}" for name in base), "fold", "seed")
        defaults = {"param_recurrent_dropout": 0.2, "param_l2": 0.01}
        return {
            tuple(getattr(row, name) for name in names): row
            for row in among.rows
            if all(getattr(row, name, value) == value for name, value in defaults.items())
        }

    found = places(many)
    for place, row in places(few).items():
        other = many.lanes[found[place].trial]
        assert other.history_ == few.lanes[row.trial].history_
        assert found[place].score == row.score
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(a, b),
            other.params_,
            few.lanes[row.trial].params_,
        )


@pytest.mark.slow
def test_a_batch_of_more_than_all_rows_is_a_batch_of_all_rows(data: Any, run: Any) -> None:
    among = run(data, {"units": [3], "batch_size": [17, 26, 1000]}, layout="loop", n_seeds=1)
    for row in among.rows[::2]:
        assert_equal(data, among, row, alone(data, among, row), rtol=1e-5)


def test_padding_stays_zero(double: Any, run: Any, monkeypatch: Any, x64: None) -> None:
    """In the weights, in the best ones, and in what the optimizers keep, to the last bit."""
    seen: list[tuple[Any, Any, list[Any]]] = []
    own_weights = Lanes.own_weights

    def watched(self: Lanes, states: Any, slot: int, trial: Any) -> Any:
        seen.append(
            (
                self,
                jax.tree.map(lambda leaf: np.array(leaf[slot]), states._replace(key=states.step)),
                trial,
            )
        )
        return own_weights(self, states, slot, trial)

    monkeypatch.setattr(Lanes, "own_weights", watched)
    optimizers = ["adam", "adadelta", "lion"]
    grid = {"units": [(3, 5), (6, 2), (4, 4)], "dense": [(2,), (3,)], "optimizer": optimizers}
    run(double, grid | {"epochs": [3], "batch_size": [7]}, layout="vmap", n_seeds=1)
    assert len(seen) == 18 * 3
    for lanes, state, trial in seen:
        own, wide = trial.network.structure.module, lanes.structure.module
        assert padding.width_of(wide) == (6, 5, 3)
        for tree in (
            state.weights.params,
            state.best.params,
            state.slots.first,
            state.slots.second,
        ):
            leaves = jax.tree.leaves(tree)
            if sum(np.size(leaf) for leaf in leaves) <= len(leaves):
                continue  # an optimizer's unused slot
            inner = padding.extract(own, wide, tree, (1, 5, 2))
            again = padding.embed(own, wide, inner, (1, 5, 2))
            for ours, padded in zip(leaves, jax.tree.leaves(again), strict=True):
                assert np.isfinite(ours).all()
                assert (ours == padded).all()
            assert padding.width_of(own) != (6, 5, 3)
