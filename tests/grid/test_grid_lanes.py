"""A lane is the trial that it would be alone: bit for bit on CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold

from jaxlstm import GridSearch

pytestmark = pytest.mark.usefixtures("optimised")

# Uneven: 26 rows are 9, 9 and 8.
FOLDS = KFold(3, shuffle=True, random_state=1)

MIXED: list[dict[str, list[Any]]] = [
    {
        "units": [4, (5, 3)],
        "optimizer": ["adam", "rmsprop"],
        "schedule": ["constant", "cosine"],
    },
    {"optimizer": ["sgd"], "momentum": [0.9], "nesterov": [True], "dropout": [0.4]},
    {"l2": [0.01], "class_weight": ["balanced", {"low": 2.0}], "epochs": [3]},
    {
        "units": [(5, 3)],
        "dropout": [0.2],
        "schedule": ["exponential"],
        "decay_epochs": [1.5],
        "warmup_epochs": [1],
    },
]


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["fit_seconds", "compile_seconds"])


def test_lane_equals_the_trial_alone(
    data: Any, classifier: Any, recorder: Any, assert_same_weights: Any
) -> None:
    X, y = data
    search = GridSearch(
        classifier, MIXED, cv=FOLDS, scoring=recorder, refit=False, random_state=3
    ).fit(X, y)
    assert search.plan_.programs == 2
    assert len(search.results_) == 3 * len(search.cv_results_["params"]) == 36

    curves = search.curves_.set_index(["cell", "fold"])
    splits = list(FOLDS.split(X, y))
    for row in search.results_.itertuples():
        train, validation = splits[row.fold]
        cell = search.cv_results_["params"][row.cell]
        lane = recorder.lane(clone(classifier).set_params(**cell), X[validation])
        alone = clone(classifier).set_params(**cell, random_state=row.seed)
        alone.fit(X[train], y[train])

        assert_same_weights(lane.params_, alone.params_)
        np.testing.assert_array_equal(
            lane.predict_proba(X[validation]), alone.predict_proba(X[validation])
        )
        curve = curves.loc[(row.cell, row.fold)]
        for name in ("loss", "accuracy", "learning_rate"):
            column = name if name == "learning_rate" else f"train_{name}"
            assert curve[column].tolist() == alone.history_[name] == lane.history_[name]
        assert row.score == (alone.predict(X[validation]) == y[validation]).mean()
        assert row.val_accuracy == row.score


def test_validation_curve_equals_that_of_a_fit_with_validation_data(
    data: Any, classifier: Any
) -> None:
    X, y = data
    search = GridSearch(
        classifier, {"dropout": [0.3], "l2": [0.01]}, cv=FOLDS, refit=False, random_state=3
    ).fit(X, y)
    for row, (train, validation) in zip(
        search.results_.itertuples(), FOLDS.split(X, y), strict=True
    ):
        alone = clone(classifier).set_params(dropout=0.3, l2=0.01, random_state=row.seed)
        alone.fit(X[train], y[train], validation_data=(X[validation], y[validation]))
        curve = search.curves_[search.curves_["fold"] == row.fold]
        assert curve["val_loss"].tolist() == alone.history_["val_loss"]
        assert curve["val_accuracy"].tolist() == alone.history_["val_accuracy"]


def test_curves_say_what_a_loop_in_numpy_says(data: Any, classifier: Any, recorder: Any) -> None:
    """The last validation loss and accuracy, from the lane's own probabilities."""
    X, y = data
    search = GridSearch(
        classifier, {"l2": [0.0, 0.03]}, cv=FOLDS, scoring=recorder, refit=False, random_state=3
    ).fit(X, y)
    splits = list(FOLDS.split(X, y))
    for row in search.results_.itertuples():
        _, validation = splits[row.fold]
        lane = recorder.lane(clone(classifier).set_params(l2=row.param_l2), X[validation])
        probabilities = lane.predict_proba(X[validation]).astype(float)
        own = np.searchsorted(lane.classes_, y[validation])
        loss = -np.log(probabilities[np.arange(len(own)), own]).mean()
        network, logits = lane.params_["StackedLSTM_0"]["lstm_0"], lane.params_["logits"]
        kernels = (network["kernel"], network["recurrent_kernel"], logits["kernel"])
        penalty = row.param_l2 * sum((kernel.astype(float) ** 2).sum() for kernel in kernels)
        # float32 sums of 9 rows
        assert row.val_loss == pytest.approx(loss + penalty, rel=1e-5)
        assert row.val_accuracy == (probabilities.argmax(1) == own).mean()


def test_neighbours_and_workers_change_nothing(data: Any, classifier: Any) -> None:
    X, y = data
    grid = {
        "units": [4, (5, 3)],
        "dropout": [0.0, 0.3],
        "optimizer": ["adam", "rmsprop", "sgd"],
    }

    def run(grid: Any, **settings: Any) -> GridSearch:
        return GridSearch(classifier, grid, cv=FOLDS, refit=False, random_state=3, **settings).fit(
            X, y
        )

    twelve, serial = run(grid), run(grid, n_jobs=1)
    pd.testing.assert_frame_equal(
        without_times(twelve.results_), without_times(serial.results_), check_exact=True
    )
    pd.testing.assert_frame_equal(twelve.curves_, serial.curves_, check_exact=True)

    cell = {"units": [(5, 3)], "dropout": [0.3], "optimizer": ["rmsprop"]}
    one = run(cell)
    place = twelve.cv_results_["params"].index({name: cell[name][0] for name in cell})
    among = twelve.curves_[twelve.curves_["cell"] == place]
    columns = ["fold", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    pd.testing.assert_frame_equal(
        among[columns].reset_index(drop=True), one.curves_[columns], check_exact=True
    )


def test_adding_values_to_the_grid_changes_no_other_cell(data: Any, classifier: Any) -> None:
    X, y = data

    def scores(grid: Any) -> dict[str, list[tuple[Any, ...]]]:
        search = GridSearch(classifier, grid, cv=FOLDS, refit=False, random_state=3).fit(X, y)
        columns = ["epoch", "train_loss", "val_loss", "val_accuracy"]
        return {
            repr(sorted(params.items())): [
                tuple(row)
                for row in search.curves_[search.curves_["cell"] == cell][columns].to_numpy()
            ]
            for cell, params in enumerate(search.cv_results_["params"])
        }

    small = scores({"dropout": [0.0, 0.3], "units": [4]})
    large = scores({"dropout": [0.1, 0.0, 0.3], "units": [(5, 3), 4]})
    assert len(small) == 2
    assert len(large) == 6
    assert {name: large[name] for name in small} == small


def test_folds_have_seeds_of_their_own_and_cells_share_them(data: Any, classifier: Any) -> None:
    X, y = data

    def seeds(classifier: Any, random_state: Any) -> pd.DataFrame:
        search = GridSearch(
            classifier,
            {"dropout": [0.0, 0.3]},
            cv=FOLDS,
            refit=False,
            random_state=random_state,
        ).fit(X, y)
        return search.results_.pivot(index="cell", columns="fold", values="seed").to_numpy()

    drawn = seeds(classifier, 3)
    assert len(set(drawn[0])) == 3
    assert (drawn[0] == drawn[1]).all()
    np.testing.assert_array_equal(seeds(classifier, np.random.RandomState(3)), drawn)
    assert (seeds(classifier, 4) != drawn).all()
    assert (seeds(classifier, None) != seeds(classifier, None)).all()
    # An estimator's own seed is every fold's, as in scikit-learn's GridSearchCV.
    assert (seeds(clone(classifier).set_params(random_state=5), 3) == 5).all()


def test_refit_is_a_fit_that_anybody_can_repeat(
    data: Any, classifier: Any, assert_same_weights: Any
) -> None:
    X, y = data
    search = GridSearch(classifier, {"dropout": [0.0, 0.3]}, cv=FOLDS, random_state=3).fit(X, y)
    again = clone(search.best_estimator_).fit(X, y)
    assert_same_weights(search.best_estimator_.params_, again.params_)
    assert again.history_["loss"] == search.best_estimator_.history_["loss"]


def test_lanes_side_by_side_agree_with_one_at_a_time(data: Any, classifier: Any, x64: None) -> None:
    """Tightly in float64, so that a difference in float32 can only be rounding."""
    X, y = data
    X = X.astype(np.float64)
    grid = {
        "optimizer": ["adam", "sgd"],
        "dropout": [0.0, 0.3],
        "epochs": [1, 3],
        "l2": [0.01],
    }

    def run(layout: str) -> GridSearch:
        return GridSearch(
            classifier, grid, cv=FOLDS, random_state=3, layout=layout, validation_freq=2
        ).fit(X, y)

    loop, vmap = run("loop"), run("vmap")
    assert loop.plan_.layout == "loop"
    assert vmap.plan_.layout == "vmap"
    pd.testing.assert_frame_equal(vmap.curves_, loop.curves_, rtol=1e-11, atol=1e-11)
    pd.testing.assert_frame_equal(
        without_times(vmap.results_), without_times(loop.results_), rtol=1e-11, atol=1e-11
    )
    kernel = loop.best_estimator_.params_["logits"]["kernel"]
    assert kernel.dtype == np.float64
    # Every second epoch and the last are validated, whatever the lanes beside it do.
    epochs = [vmap.cv_results_["params"][cell]["epochs"] for cell in vmap.curves_["cell"]]
    due = (vmap.curves_["epoch"] % 2 == 0) | (vmap.curves_["epoch"] == epochs)
    np.testing.assert_array_equal(vmap.curves_["val_loss"].notna(), due)


def test_float64_draws_the_same_first_weights(data: Any, classifier: Any, x64: None) -> None:
    """The same seed starts from the same weights in either type, up to the type's rounding."""
    import jax

    X, y = data
    settings = {"epochs": 1, "learning_rate": 1e-12, "random_state": 0}
    double = clone(classifier).set_params(**settings).fit(X.astype(np.float64), y).params_
    with jax.enable_x64(False):
        single = clone(classifier).set_params(**settings).fit(X, y).params_
    for a, b in zip(jax.tree.leaves(double), jax.tree.leaves(single), strict=True):
        assert a.dtype == np.float64
        assert b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
