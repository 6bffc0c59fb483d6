"""Searches over regressors, targets per step and several labels, on rows of unequal length."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxlstm import (
    GridSearch,
    HalvingSearch,
    LSTMClassifier,
    LSTMRegressor,
    RandomSearch,
    find_learning_rate,
)
from jaxlstm.data import SequenceData
from jaxlstm.grid.prepare import Prepared
from jaxlstm.grid.store import Store
from jaxlstm.train.augment import Jitter, TimeMask

N, FEATURES = 26, 3
LENGTHS = np.random.default_rng(2).integers(1, 7, N)
LONGEST = int(LENGTHS.max())
RNG = np.random.default_rng(3)
ROWS = [RNG.normal(size=(length, FEATURES)).astype(np.float32) for length in LENGTHS]
SUMS = [np.cumsum(row[:, 0] - row[:, 2]).astype(np.float32) for row in ROWS]
LAST = np.array([own[-1] for own in SUMS])
GROUPS = np.random.default_rng(4).integers(0, 5, N)
# Uneven: 26 rows are 9, 9 and 8.
FOLDS = KFold(3, shuffle=True, random_state=1)

STEPS = [np.where(own > 0.2, "up", "down") for own in SUMS]
SEVERAL = np.stack([LAST > 0, LAST > 0.8, LAST < -0.3], axis=-1).astype(int)
TRAINING: dict[str, Any] = {"units": 3, "batch_size": 7, "epochs": 2, "learning_rate": 0.03}

TASKS: dict[str, tuple[Any, Any]] = {
    "regressor": (
        LSTMRegressor(loss="huber", standardize=True, standardize_targets=True, **TRAINING),
        LAST,
    ),
    "steps": (
        LSTMClassifier(
            return_sequences=True,
            class_weight="balanced",
            dropout=0.2,
            recurrent_dropout=0.1,
            augment=(Jitter(0.1), TimeMask(2)),
            **TRAINING,
        ),
        STEPS,
    ),
    "labels": (LSTMClassifier(label_smoothing=0.1, bidirectional=True, **TRAINING), SEVERAL),
}
GRID = {"learning_rate": [0.01, 0.1], "epochs": [1, 3]}
of_each = pytest.mark.parametrize("task", TASKS)
SLOW: Any = pytest.mark.slow


def thinned(*fast: str) -> Any:
    """All tasks, of which some take part in the short tests."""
    return pytest.mark.parametrize(
        "task", [pytest.param(task, marks=() if task in fast else SLOW) for task in TASKS]
    )


def padded(rows: Any, steps: int, fill: Any = np.nan, dtype: Any = None) -> Any:
    rows = [np.asarray(row) for row in rows]
    whole = np.full((len(rows), steps, *rows[0].shape[1:]), fill, dtype or rows[0].dtype)
    for place, row in enumerate(rows):
        whole[place, : len(row)] = row
    return whole


def picked(rows: Any, numbers: Any) -> Any:
    return [rows[n] for n in numbers] if isinstance(rows, list) else rows[numbers]


def tables(search: Any) -> dict[str, Any]:
    """All that a search found out, times aside."""
    results = {
        name: list(column) if name.startswith("param") else np.asarray(column)
        for name, column in search.cv_results_.items()
        if "time" not in name
    }
    return {"cv_results_": results, "curves_": search.curves_, "best": search.best_index_}


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def assert_same_tables(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["best"] == other["best"]
    assert list(one["cv_results_"]) == list(other["cv_results_"])
    for name, column in one["cv_results_"].items():
        theirs = other["cv_results_"][name]
        if isinstance(column, list):
            assert column == theirs, name
        else:
            assert column.tobytes() == theirs.tobytes(), name
    pd.testing.assert_frame_equal(one["curves_"], other["curves_"], check_exact=True)


def search_of(task: str, grid: Any = None, **settings: Any) -> GridSearch:
    settings = {"cv": FOLDS, "random_state": 5, "refit": False} | settings
    return GridSearch(TASKS[task][0], grid or GRID, **settings)


# -- every search ---------------------------------------------------------------------------------


@thinned("regressor")
def test_fused_is_alone_bit_for_bit(
    task: str, optimised: None, monkeypatch: pytest.MonkeyPatch, assert_same_weights: Any
) -> None:
    kept: dict[int, Any] = {}
    fitted = Prepared.fitted

    def keep(prepared: Prepared, trial: Any, outcome: Any) -> Any:
        kept[trial.index] = fitted(prepared, trial, outcome)
        return kept[trial.index]

    monkeypatch.setattr(Prepared, "fitted", keep)
    estimator, y = TASKS[task]
    grid = GRID | {"batch_size": [4, 7]}
    scoring = "r2" if task == "regressor" else "f1_macro"
    search = search_of(task, grid, scoring=scoring, layout="loop").fit(ROWS, y)
    splits = list(FOLDS.split(ROWS))
    rows = list(search.results_.itertuples())
    for row in [rows[n] for n in np.random.default_rng(6).permutation(len(rows))[:5]]:
        train, test = splits[row.fold]
        settings = search.cv_results_["params"][row.cell]
        model = clone(estimator).set_params(**settings, random_state=row.seed)
        model.fit(picked(ROWS, train), picked(y, train))
        lane = kept[row.trial]
        assert_same_weights(lane.params_, model.params_)
        curves = search.curves_[search.curves_["trial"] == row.trial]
        names = [name for name in model.history_ if not name.startswith("val_")]
        for name in names:
            column = name if name == "learning_rate" else f"train_{name}"
            assert curves[column].tolist() == model.history_[name]
        ours, theirs = (one.predict(picked(ROWS, test)) for one in (lane, model))
        if task != "steps":
            assert_same(ours, theirs)
            continue
        for a, b in zip(ours, theirs, strict=True):
            assert_array_equal(a, b)


@thinned("regressor")
def test_what_is_added_to_a_grid_changes_no_other_cell(task: str, optimised: None) -> None:
    y = TASKS[task][1]
    few = search_of(task, {"learning_rate": [0.01, 0.1]}, layout="loop").fit(ROWS, y)
    more = {"learning_rate": [0.01, 0.05, 0.1], "batch_size": [4, 7], "l2": [0.0, 0.01]}
    many = search_of(task, more, layout="loop").fit(ROWS, y)
    for cell, params in enumerate(few.cv_results_["params"]):
        place = many.cv_results_["params"].index(params | {"batch_size": 7, "l2": 0.0})
        for fold in range(3):
            name = f"split{fold}_test_score"
            assert few.cv_results_[name][cell] == many.cv_results_[name][place]
        ours, theirs = (
            search.curves_[search.curves_["cell"] == number].drop(columns=["trial", "cell"])
            for search, number in ((few, cell), (many, place))
        )
        pd.testing.assert_frame_equal(
            ours.reset_index(drop=True), theirs.reset_index(drop=True), check_exact=True
        )


class Broken(Exception):
    """Ends a search as a kill would, but that the process lives."""


@thinned("steps")
def test_a_search_that_broke_off_goes_on_to_the_same_tables(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = TASKS[task][1]
    weight = np.random.default_rng(7).uniform(0, 2, N)
    stopping = {
        "early_stopping": [True],
        "monitor": ["val_loss" if task == "steps" else "loss"],
        "restore_best_weights": [True],
        "validation_fraction": [0.25],
        "epochs": [4],
        "learning_rate": [0.3],
    }
    settings: dict[str, Any] = {"grid": [GRID, stopping], "layout": "loop", "n_jobs": 1}
    expected = tables(search_of(task, **settings).fit(ROWS, y, sample_weight=weight))
    save, count = Store.save, [0]

    def counted(store: Store, *args: Any) -> None:
        save(store, *args)
        count[0] += 1
        if count[0] in (3, 9):
            raise Broken

    monkeypatch.setattr(Store, "save", counted)
    search = search_of(task, checkpoint_dir=tmp_path / "s", checkpoint_every=0, **settings)
    for _ in range(2):
        with pytest.raises(Broken):
            search.fit(ROWS, y, sample_weight=weight)
    assert_same_tables(tables(clone(search).fit(ROWS, y, sample_weight=weight)), expected)
    other = clone(search)
    with pytest.raises(ValueError, match="holds another search: the data differ"):
        other.fit(ROWS, y, sample_weight=weight + 1)
    with pytest.raises(ValueError, match="holds another search: the data differ"):
        other.fit([*ROWS[:-1], ROWS[-1] + 1], y, sample_weight=weight)


@thinned("steps")
@pytest.mark.parametrize("layout", ["vmap", "stream"])
def test_layouts_agree(task: str, layout: str) -> None:
    """Rounding alone: batched products, and sums of chunks, in float32."""
    if layout == "stream":
        pytest.importorskip("grain")
    y = TASKS[task][1]
    weight = np.random.default_rng(8).uniform(0.2, 2, N)
    found, expected = (
        search_of(task, layout=one).fit(ROWS, y, sample_weight=weight) for one in (layout, "loop")
    )
    assert found.plan_.layout == layout
    own = ["loss", *(["mse", "mae"] if task == "regressor" else ["accuracy"])]
    columns = [f"{part}_{name}" for part in ("train", "val") for name in own]
    assert set(columns) <= set(found.curves_)
    pd.testing.assert_frame_equal(
        found.curves_[columns], expected.curves_[columns], rtol=1e-5, atol=1e-6
    )
    for fold in range(3):
        name = f"split{fold}_test_score"
        assert_allclose(found.cv_results_[name], expected.cv_results_[name], rtol=1e-4, atol=1e-5)


@of_each
def test_padding_changes_no_bit(task: str) -> None:
    """Of tables, curves and predictions: lists, NaN, more NaN, `SequenceData`."""
    y = TASKS[task][1]
    expected = search_of(task, refit=True, scoring=None).fit(ROWS, y)
    predicted = expected.predict(ROWS)
    steps = task == "steps"
    classes = {"regressor": (), "steps": ("down", "up"), "labels": ("a", "b", "c")}[task]
    encoded = (
        padded([np.searchsorted(classes, own) for own in STEPS], LONGEST + 2, 0) if steps else y
    )
    x = padded(ROWS, LONGEST + 2, 1e5)
    kept = SequenceData(x, encoded, classes, "some", "some", lengths=LENGTHS, per_step=steps)
    for rows, given in (
        (padded(ROWS, LONGEST), y),
        (padded(ROWS, LONGEST + 3), padded(y, LONGEST + 3, "", "<U4") if steps else y),
        (kept, None),
    ):
        found = search_of(task, refit=True).fit(rows, given)
        assert_same_tables(tables(found), tables(expected))
        assert_same(found.best_estimator_.params_, expected.best_estimator_.params_)
        own = found.predict(rows)
        if steps:
            own = [list(row)[:n] for row, n in zip(own, LENGTHS, strict=True)]
            assert own == [list(row) for row in predicted]
        else:
            assert_same(own, predicted)


@of_each
def test_other_searches_agree_with_the_grid(task: str) -> None:
    """The cells that they try have the scores of the same cells of a grid."""
    estimator, y = TASKS[task]
    settings: dict[str, Any] = {"cv": FOLDS, "random_state": 5, "refit": False, "layout": "loop"}
    values = [0.01, 0.03, 0.1]
    grid = GridSearch(estimator, {"learning_rate": values, "epochs": [1, 2]}, **settings)
    grid.fit(ROWS, y)
    known = {
        (params["learning_rate"], params["epochs"]): score
        for params, score in zip(
            grid.cv_results_["params"], grid.cv_results_["mean_test_score"], strict=True
        )
    }
    drawn = RandomSearch(estimator, {"learning_rate": values}, n_iter=2, **settings).fit(ROWS, y)
    for params, score in zip(
        drawn.cv_results_["params"], drawn.cv_results_["mean_test_score"], strict=True
    ):
        assert score == known[params["learning_rate"], 2]
    halving = HalvingSearch(
        estimator, {"learning_rate": values}, factor=2, max_resources=2, **settings
    ).fit(ROWS, y)
    assert halving.n_candidates_ == [3, 2]
    for params, score in zip(
        halving.cv_results_["params"], halving.cv_results_["mean_test_score"], strict=True
    ):
        assert score == known[params["learning_rate"], params["epochs"]]
    first = {rate: known[rate, 1] for rate in values}
    assert sorted(values, key=lambda rate: -first[rate])[:2] == sorted(
        (params["learning_rate"] for params in halving.cv_results_["params"][3:]),
        key=lambda rate: -first[rate],
    )


@of_each
def test_optuna_is_told_the_grids_scores(task: str) -> None:
    pytest.importorskip("optuna")
    from optuna.distributions import CategoricalDistribution

    from jaxlstm import OptunaSearch

    estimator, y = TASKS[task]
    settings: dict[str, Any] = {"cv": FOLDS, "random_state": 5, "refit": False, "layout": "loop"}
    space = {"learning_rate": CategoricalDistribution([0.01, 0.1])}
    found = OptunaSearch(estimator, space, n_trials=3, batch=2, **settings).fit(ROWS, y)
    grid = GridSearch(estimator, {"learning_rate": [0.01, 0.1]}, **settings).fit(ROWS, y)
    known = dict(zip([0.01, 0.1], grid.cv_results_["mean_test_score"], strict=True))
    for trial in found.study_.trials:
        assert trial.value == known[trial.params["learning_rate"]]


@of_each
def test_learning_rates_are_fits_of_their_own(task: str) -> None:
    estimator, y = TASKS[task]
    settings: dict[str, Any] = {"low": 1e-3, "high": 1e-1, "n": 3, "epochs": 2}
    found = find_learning_rate(
        clone(estimator).set_params(random_state=3, augment=()), ROWS, y, random_state=4, **settings
    )
    names = ["val_mse", "val_mae"] if task == "regressor" else ["val_accuracy"]
    assert list(found.table) == ["rate", "epoch", "train_loss", "val_loss", *names]
    train, test = next(ShuffleSplit(1, test_size=0.2, random_state=4).split(ROWS))
    for _, row in found.last.iterrows():
        model = clone(estimator).set_params(random_state=3, learning_rate=row["rate"], augment=())
        model.fit(
            picked(ROWS, train),
            picked(y, train),
            validation_data=(picked(ROWS, test), picked(y, test)),
        )
        for name in ("val_loss", *names):
            assert_allclose(row[name], model.history_[name][-1], rtol=1e-5)
        assert_allclose(row["train_loss"], model.history_["loss"][-1], rtol=1e-5)


# -- scorers --------------------------------------------------------------------------------------


NUMBERS = [np.stack([own, own**2], axis=-1) for own in SUMS]
LABELS = [np.stack([own > 0, own > 0.7, own < -0.1], axis=-1).astype(int) for own in SUMS]
PER_STEP: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "labels": (
        LSTMClassifier(return_sequences=True, **TRAINING),
        STEPS,
        {
            "accuracy": lambda y, p, q: metrics.accuracy_score(y, p),
            "f1_macro": lambda y, p, q: metrics.f1_score(y, p, average="macro"),
            "neg_log_loss": lambda y, p, q: -metrics.log_loss(y, q, labels=["down", "up"]),
            "roc_auc": lambda y, p, q: metrics.roc_auc_score(y, q[:, 1]),
        },
    ),
    "numbers": (
        LSTMRegressor(return_sequences=True, **TRAINING),
        NUMBERS,
        {
            "r2": lambda y, p, q: metrics.r2_score(y, p),
            "neg_mean_squared_error": lambda y, p, q: -metrics.mean_squared_error(y, p),
            "neg_mean_absolute_error": lambda y, p, q: -metrics.mean_absolute_error(y, p),
        },
    ),
    "several labels": (
        LSTMClassifier(return_sequences=True, **TRAINING),
        LABELS,
        {
            "accuracy": lambda y, p, q: metrics.accuracy_score(y, p),
            "f1_macro": lambda y, p, q: metrics.f1_score(y, p, average="macro"),
            "roc_auc": lambda y, p, q: metrics.roc_auc_score(y, q),
        },
    ),
}


@pytest.mark.parametrize("form", ["list", "NaN"])
@pytest.mark.parametrize("case", PER_STEP)
def test_scorers_see_the_own_steps(case: str, form: str) -> None:
    """Several at once, by their names, and on the training rows, too."""
    estimator, y, scorers = PER_STEP[case]
    rows, given = ROWS, y
    if form == "NaN":
        rows = padded(ROWS, LONGEST + 1)
        given = padded(y, LONGEST + 1, *(["", "<U4"] if case == "labels" else [0]))
    first = next(iter(scorers))
    search = GridSearch(
        estimator,
        {"learning_rate": [0.01, 0.1]},
        **{"cv": FOLDS, "random_state": 5, "layout": "loop"},
        scoring=list(scorers),
        refit=first,
        return_train_score=True,
        return_estimator=True,
        error_score="raise",
    ).fit(rows, given)
    splits = list(FOLDS.split(ROWS))
    for row, model in zip(search.results_.itertuples(), search.estimators_, strict=True):
        for part, numbers in zip(("train", "test"), splits[row.fold], strict=True):
            true = np.concatenate(picked(y, numbers))
            predicted = np.concatenate(list(model.predict(picked(ROWS, numbers))))
            chances = None
            if hasattr(model, "predict_proba"):
                chances = np.concatenate(list(model.predict_proba(picked(ROWS, numbers))))
            for name, metric in scorers.items():
                found = search.cv_results_[f"split{row.fold}_{part}_{name}"][row.cell]
                # Rows in other company are rounded otherwise.
                assert_allclose(found, metric(true, predicted, chances), rtol=1e-5, atol=1e-6)
    true = np.concatenate(y)
    predicted = np.concatenate(list(search.predict(ROWS)))
    chances = None
    if hasattr(search.best_estimator_, "predict_proba"):
        chances = np.concatenate(list(search.predict_proba(ROWS)))
    assert_allclose(search.score(rows, given), scorers[first](true, predicted, chances), rtol=1e-5)


def test_the_default_score_is_the_estimators() -> None:
    for task, (_, y) in TASKS.items():
        search = search_of(task, {"l2": [0.0]}, return_estimator=True).fit(ROWS, y)
        for fold, (_, test) in enumerate(FOLDS.split(ROWS)):
            wanted = search.estimators_[fold].score(picked(ROWS, test), picked(y, test))
            assert_allclose(search.cv_results_[f"split{fold}_test_score"][0], wanted, rtol=1e-6)


# -- scikit-learn's own tools ---------------------------------------------------------------------


SPLITTERS: dict[str, Any] = {
    "KFold": KFold(3),
    "GroupKFold": GroupKFold(3),
    "ShuffleSplit": ShuffleSplit(2, random_state=0),
    "TimeSeriesSplit": TimeSeriesSplit(2),
    "LeaveOneGroupOut": LeaveOneGroupOut(),
    "PredefinedSplit": PredefinedSplit(np.arange(N) % 3 - 1),
    "RepeatedKFold": RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
    "StratifiedKFold": StratifiedKFold(3, shuffle=True, random_state=0),
    "StratifiedGroupKFold": StratifiedGroupKFold(2, shuffle=True, random_state=0),
}


@pytest.mark.parametrize("name", SPLITTERS)
def test_splitters_take_lists(name: str) -> None:
    """The scores of `cross_val_score`, fold by fold, are those of the search."""
    cv = SPLITTERS[name]
    estimator, y = LSTMRegressor(random_state=2, **TRAINING), LAST
    if name.startswith("Stratified"):
        estimator, y = LSTMClassifier(random_state=2, **TRAINING), np.where(LAST > 0, "u", "d")
    groups = GROUPS if "Group" in name else None
    scores = cross_val_score(estimator, ROWS, y, cv=cv, groups=groups)
    search = GridSearch(estimator, {"l2": [0.0]}, cv=cv, refit=False).fit(ROWS, y, groups=groups)
    assert search.n_splits_ == len(scores)
    found = [search.cv_results_[f"split{fold}_test_score"][0] for fold in range(len(scores))]
    assert_allclose(found, scores, rtol=1e-5, atol=1e-6)


@of_each
def test_cross_val_predict_is_fold_by_fold(task: str) -> None:
    estimator, y = clone(TASKS[task][0]).set_params(random_state=2), TASKS[task][1]
    found = cross_val_predict(estimator, ROWS, y, cv=FOLDS)
    assert len(found) == N
    for train, test in FOLDS.split(ROWS):
        model = clone(estimator).fit(picked(ROWS, train), picked(y, train))
        for place, one in zip(test, model.predict(picked(ROWS, test)), strict=True):
            assert_array_equal(found[place], one)


@of_each
def test_results_are_those_of_gridsearchcv(task: str) -> None:
    """The same estimator, seed and folds, fitted one after another by scikit-learn."""
    estimator, y = clone(TASKS[task][0]).set_params(random_state=2), TASKS[task][1]
    grid = {"learning_rate": [0.01, 0.1]}
    ours = GridSearch(estimator, grid, cv=FOLDS, layout="loop").fit(ROWS, y)
    theirs = GridSearchCV(estimator, grid, cv=FOLDS, n_jobs=1).fit(ROWS, y)
    for fold in range(3):
        name = f"split{fold}_test_score"
        assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5, atol=1e-6)
    assert ours.best_params_ == theirs.best_params_
    assert_same(ours.best_estimator_.params_, theirs.best_estimator_.params_)
    assert_allclose(ours.score(ROWS, y), theirs.score(ROWS, y), rtol=1e-6)


def doubled(rows: Any) -> Any:
    """Each row's features and their squares."""
    return [np.concatenate([row, row**2], axis=1) for row in rows]


@of_each
def test_a_pipeline_whose_step_maps_each_row(task: str) -> None:
    estimator, y = clone(TASKS[task][0]).set_params(random_state=2), TASKS[task][1]
    pipeline = Pipeline([("square", FunctionTransformer(doubled)), ("net", estimator)])
    weight = np.random.default_rng(9).uniform(0.1, 2, N)
    grid = {"net__learning_rate": [0.01, 0.1]}
    found = GridSearch(pipeline, grid, cv=FOLDS, layout="loop")
    found.fit(ROWS, y, net__sample_weight=weight)
    plain = GridSearch(estimator, {"learning_rate": [0.01, 0.1]}, cv=FOLDS, layout="loop")
    plain.fit(doubled(ROWS), y, sample_weight=weight)
    for fold in range(3):
        name = f"split{fold}_test_score"
        assert_allclose(found.cv_results_[name], plain.cv_results_[name], rtol=1e-5, atol=1e-6)
    model = found.best_estimator_["net"]
    assert_same(model.params_, plain.best_estimator_.params_)
    for one, other in zip(found.predict(ROWS), plain.predict(doubled(ROWS)), strict=True):
        assert_array_equal(one, other)


def test_a_step_that_changes_how_long_rows_are() -> None:
    """Fine with a target per row; with one per step it is said."""
    halve = FunctionTransformer(lambda rows: [row[: max(1, len(row) // 2)] for row in rows])
    rows = [row[: max(1, len(row) // 2)] for row in ROWS]
    estimator = LSTMRegressor(random_state=2, **TRAINING)
    found = GridSearch(Pipeline([("h", halve), ("net", estimator)]), {"net__l2": [0.0]}, cv=FOLDS)
    plain = GridSearch(estimator, {"l2": [0.0]}, cv=FOLDS).fit(rows, LAST)
    assert_same(found.fit(ROWS, LAST).best_estimator_["net"].params_, plain.best_estimator_.params_)
    each = LSTMRegressor(return_sequences=True, random_state=2, **TRAINING)
    found = GridSearch(Pipeline([("h", halve), ("net", each)]), {"net__l2": [0.0]}, cv=FOLDS)
    with pytest.raises(ValueError, match="changes how many steps rows have, but there is a target"):
        found.fit(ROWS, SUMS)


# -- weights --------------------------------------------------------------------------------------


WEIGHT = np.random.default_rng(10).uniform(0, 3, N) * (np.arange(N) % 7 > 0)


@of_each
def test_weights_go_to_fits_and_to_the_scorers_that_take_them(task: str) -> None:
    """Without metadata routing: each score by hand, with the weights of the validation rows."""
    estimator, y = clone(TASKS[task][0]).set_params(random_state=2), TASKS[task][1]
    name, metric = {
        "regressor": (
            "neg_mean_absolute_error",
            lambda *a, **k: -metrics.mean_absolute_error(*a, **k),
        ),
        "steps": ("accuracy", metrics.accuracy_score),
        "labels": ("accuracy", metrics.accuracy_score),
    }[task]
    found = GridSearch(
        estimator, {"l2": [0.0]}, cv=FOLDS, scoring=name, return_estimator=True, layout="loop"
    ).fit(ROWS, y, sample_weight=WEIGHT)
    for fold, (train, test) in enumerate(FOLDS.split(ROWS)):
        model = clone(estimator).set_params(l2=0.0)
        model.fit(picked(ROWS, train), picked(y, train), sample_weight=WEIGHT[train])
        assert_same(found.estimators_[fold].params_, model.params_)
        true, predicted = picked(y, test), model.predict(picked(ROWS, test))
        weight = WEIGHT[test]
        if task == "steps":
            true, predicted = np.concatenate(true), np.concatenate(list(predicted))
            weight = np.repeat(weight, LENGTHS[test])
        wanted = metric(true, predicted, sample_weight=weight)
        assert_allclose(found.cv_results_[f"split{fold}_test_score"][0], wanted, rtol=1e-5)
    whole = clone(estimator).set_params(l2=0.0).fit(ROWS, y, sample_weight=WEIGHT)
    assert_same(found.best_estimator_.params_, whole.params_)


def test_weights_without_routing_are_fits_of_gridsearchcv() -> None:
    """It does not weigh scores, so the fits are compared; all weights of 1 are none."""
    estimator = LSTMRegressor(random_state=2, **TRAINING)
    grid = {"learning_rate": [0.01, 0.1]}
    ours = GridSearch(estimator, grid, cv=FOLDS, layout="loop")
    ours.fit(ROWS, LAST, sample_weight=WEIGHT)
    theirs = GridSearchCV(estimator, grid, cv=FOLDS, n_jobs=1)
    theirs.fit(ROWS, LAST, sample_weight=WEIGHT)
    learning_rate = ours.best_params_["learning_rate"]
    model = clone(estimator).set_params(learning_rate=learning_rate)
    model.fit(ROWS, LAST, sample_weight=WEIGHT)
    assert_same(ours.best_estimator_.params_, model.params_)
    if theirs.best_params_ == ours.best_params_:
        assert_same(theirs.best_estimator_.params_, model.params_)
    ones, none = (
        GridSearch(estimator, grid, cv=FOLDS, layout="loop").fit(ROWS, LAST, **more)
        for more in ({"sample_weight": np.ones(N)}, {})
    )
    for fold in range(3):
        name = f"split{fold}_test_score"
        assert_allclose(ones.cv_results_[name], none.cv_results_[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("scores", [True, False])
def test_weights_with_routing_are_gridsearchcvs(fits: bool, scores: bool) -> None:
    """Whoever asked gets them: fits, the estimator's own score, and scorers by name."""
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LSTMRegressor(random_state=2, **TRAINING)
        estimator.set_fit_request(sample_weight=fits).set_score_request(sample_weight=scores)
        scorer = metrics.get_scorer("neg_mean_absolute_error")
        scorer = scorer.set_score_request(sample_weight=scores)
        grid = {"learning_rate": [0.01, 0.1]}
        weight = {"sample_weight": WEIGHT} if fits or scores else {}
        for scoring in (None, scorer):
            settings: dict[str, Any] = {"cv": FOLDS, "scoring": scoring}
            ours = GridSearch(estimator, grid, layout="loop", **settings)
            theirs = GridSearchCV(estimator, grid, n_jobs=1, **settings)
            for search in (ours, theirs):
                search.fit(ROWS, LAST, **weight)
            for fold in range(3):
                name = f"split{fold}_test_score"
                assert_allclose(
                    ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5, atol=1e-6
                )
            assert ours.best_params_ == theirs.best_params_
            assert_same(ours.best_estimator_.params_, theirs.best_estimator_.params_)
            if scores:
                one, other = (s.score(ROWS, LAST, **weight) for s in (ours, theirs))
                assert_allclose(one, other, rtol=1e-5)


def test_groups_with_routing_are_gridsearchcvs() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LSTMRegressor(random_state=2, **TRAINING).set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=False)
        grid, cv = {"l2": [0.0, 0.1]}, GroupKFold(3)
        ours = GridSearch(estimator, grid, cv=cv, layout="loop")
        theirs = GridSearchCV(estimator, grid, cv=cv, n_jobs=1)
        for search in (ours, theirs):
            search.fit(ROWS, LAST, groups=GROUPS, sample_weight=WEIGHT)
        for fold in range(3):
            name = f"split{fold}_test_score"
            assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5, atol=1e-6)


def test_weights_that_nobody_asked_for_are_refused_as_by_scikit_learn() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LSTMRegressor(random_state=2, **TRAINING)
        said = []
        for make in (GridSearch, GridSearchCV):
            search = make(estimator, {"l2": [0.0]}, cv=FOLDS)
            with pytest.raises(Exception, match="sample_weight") as caught:
                search.fit(ROWS, LAST, sample_weight=WEIGHT)
            said.append(type(caught.value))
        assert said[0] is said[1]


def test_weights_of_steps() -> None:
    """A list ``[T_i]`` or an array ``[N, T]``; scores by hand."""
    parts = [np.random.default_rng(n).uniform(0, 2, length) for n, length in enumerate(LENGTHS)]
    estimator = LSTMRegressor(return_sequences=True, random_state=2, **TRAINING)
    settings: dict[str, Any] = {"cv": FOLDS, "scoring": "neg_mean_squared_error", "layout": "loop"}
    found = GridSearch(estimator, {"l2": [0.0]}, return_estimator=True, **settings)
    found.fit(ROWS, SUMS, sample_weight=parts)
    for fold, (_, test) in enumerate(FOLDS.split(ROWS)):
        predicted = np.concatenate(list(found.estimators_[fold].predict(picked(ROWS, test))))
        wanted = -metrics.mean_squared_error(
            np.concatenate(picked(SUMS, test)),
            predicted,
            sample_weight=np.concatenate(picked(parts, test)),
        )
        assert_allclose(found.cv_results_[f"split{fold}_test_score"][0], wanted, rtol=1e-5)
    other = GridSearch(estimator, {"l2": [0.0]}, **settings)
    other.fit(
        padded(ROWS, LONGEST + 1),
        padded(SUMS, LONGEST + 1, 0),
        sample_weight=padded(parts, LONGEST + 1, 5.0),
    )
    assert_same_tables(tables(other), tables(found))


def test_a_split_whose_weights_are_all_0_is_named() -> None:
    train, _ = next(FOLDS.split(ROWS))
    weight = np.ones(N)
    weight[train] = 0
    with (
        pytest.raises(ValueError, match=r"training rows of split 0 of cv"),
        warnings.catch_warnings(),
    ):
        search_of("regressor").fit(ROWS, LAST, sample_weight=weight)
