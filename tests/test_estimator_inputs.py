"""What estimators take for rows, targets and weights, and what they refuse."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from jaxlstm import FlaxRegressor, GridSearch, LSTMClassifier, LSTMRegressor
from jaxlstm.data import forecast_windows, from_arrays
from jaxlstm.nn import MLP

RNG = np.random.default_rng(6)
LENGTHS = RNG.integers(2, 6, 24)
ROWS = [RNG.normal(size=(length, 2)).astype(np.float32) for length in LENGTHS]
EQUAL = RNG.normal(size=(24, 4, 2)).astype(np.float32)
Y = RNG.normal(size=24).astype(np.float32)
WEIGHT = RNG.random(24) + 0.1
LABELS = RNG.integers(0, 2, (24, 3))
FAST: dict[str, Any] = {"units": 3, "epochs": 2, "random_state": 0, "batch_size": 8}
PIPELINE = Pipeline([("same", FunctionTransformer()), ("lstm", LSTMRegressor(**FAST))])


def mean_of_all(targets: Any, outputs: Any) -> Any:
    return jnp.mean((targets - outputs) ** 2)


def square(targets: Any, outputs: Any) -> Any:
    return (targets - outputs) ** 2


class NeedsLengths(nn.Module):
    """Asks for lengths without a default."""

    @nn.compact
    def __call__(self, x: Any, lengths: Any) -> Any:
        return nn.Dense(1)(x.sum(axis=1) / lengths[:, None])


def fit(model: Any, X: Any, y: Any, **more: Any) -> Any:
    return model.fit(X, y, **more)


def regressor(**more: Any) -> LSTMRegressor:
    return LSTMRegressor(**FAST | more)


MISTAKES: dict[str, tuple[Any, str]] = {
    "a loss of all rows": (
        lambda: fit(regressor(loss=mean_of_all), ROWS, Y),
        r"loss must return a value for each row, so its shape must begin with \(3,\)",
    ),
    "a loss of rows for steps": (
        lambda: fit(
            regressor(return_sequences=True, loss=lambda y, z: jnp.mean((y - z) ** 2, (1, 2))),
            ROWS,
            [row[:, 0] for row in ROWS],
        ),
        r"loss must return a value for each row and step",
    ),
    "labels of 1 and 2": (
        lambda: fit(LSTMClassifier(**FAST), ROWS, LABELS + 1),
        "several labels are a matrix of 0 and 1, but y holds 2",
    ),
    "text for numbers": (
        lambda: fit(regressor(), ROWS, np.array(["1.5"] * 24)),
        "predicts numbers, but y holds the text '1.5'",
    ),
    "a label that is None": (
        lambda: fit(LSTMClassifier(**FAST), ROWS, np.array(["a", None] * 12, object)),
        "the label of row 1 in y is None",
    ),
    "a row that is a number": (
        lambda: fit(regressor(), [*ROWS[:-1], 3], Y),
        r"X\[23\] must be a row",
    ),
    "weights too small": (
        lambda: fit(regressor(), ROWS, Y, sample_weight=np.full(24, 1e-50)),
        "numbers that float32 can add up, but the largest is 1e-50: divide all by it",
    ),
    "weights too large": (
        lambda: fit(regressor(), ROWS, Y, sample_weight=WEIGHT * 1e38),
        "numbers that float32 can add up",
    ),
    "weights of steps for rows": (
        lambda: fit(regressor(), ROWS, Y, sample_weight=[np.ones(n) for n in LENGTHS]),
        "for one per step set return_sequences=True",
    ),
    "weights of text": (
        lambda: fit(regressor(), ROWS, Y, sample_weight=["a"] * 24),
        "sample_weight must hold numbers",
    ),
    "targets of steps for rows": (
        lambda: fit(regressor(), ROWS, [row[:, 0] for row in ROWS]),
        "for one per step set return_sequences=True",
    ),
    "other features when it goes on": (
        lambda: fit(fit(regressor(warm_start=True), ROWS, Y), [row[:, :1] for row in ROWS], Y),
        r"cannot go on from the trained weights: they were trained on rows of shape \(5, 2\)",
    ),
    "a scaler of tables before a list": (
        lambda: GridSearch(
            make_pipeline(StandardScaler(), regressor()), {"lstmregressor__l2": [0.0]}, cv=2
        ).fit(ROWS, Y),
        r"\('standardscaler'\) does not take a list of arrays: use standardize=True",
    ),
    "no targets to score": (
        lambda: regressor().fit(ROWS, Y).score(ROWS),
        "requires y to be passed",
    ),
    "an output that is not there": (
        lambda: regressor().fit(ROWS, Y).input_gradients(ROWS, [2] * 24),
        "y has the output 2, which LSTMRegressor has not; it has 0",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_sentence(case: str) -> None:
    run, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_a_function_may_give_a_value_of_each_target() -> None:
    """Its mean over them is "mse"."""
    got = regressor(loss=square).fit(ROWS, Y)
    wanted = regressor(loss="mse").fit(ROWS, Y)
    np.testing.assert_allclose(got.history_["loss"], wanted.history_["loss"], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:X was converted")
@pytest.mark.parametrize("names", [("x", "lengths", "z"), ("weight", "lengths", "targets")])
def test_a_tables_columns_are_columns(names: tuple[str, ...]) -> None:
    """Whatever they are called."""
    table = pd.DataFrame(RNG.normal(size=(24, 3)), columns=list(names))
    wanted = regressor().fit(table.to_numpy(), Y)
    assert_array_equal(regressor().fit(table, Y).predict(table), wanted.predict(table.to_numpy()))
    search = GridSearch(regressor(), {"l2": [0.0]}, cv=2, random_state=0)
    scores = [search.fit(X, Y).best_score_ for X in (table, table.to_numpy())]
    assert scores[0] == scores[1]
    with pytest.raises(ValueError, match="requires y to be passed"):
        regressor().fit(table)


def test_a_series_of_arrays_is_a_list() -> None:
    wanted = regressor().fit(ROWS, Y).predict(ROWS)
    assert_array_equal(
        np.concatenate(regressor().fit(pd.Series(ROWS), Y).predict(ROWS)[:, None]), wanted
    )


def test_weights_of_a_data_set_count_in_its_scores() -> None:
    data = from_arrays(ROWS, Y, weight=WEIGHT)
    model = regressor().fit(data)
    assert model.score(data) == model.score(ROWS, Y, sample_weight=WEIGHT) != model.score(ROWS, Y)
    search = GridSearch(regressor(), {"l2": [0.0]}, cv=2, random_state=0).fit(data)
    assert search.score(data) == search.best_estimator_.score(ROWS, Y, sample_weight=WEIGHT)


@pytest.mark.parametrize("rows", [ROWS, EQUAL], ids=["unequal", "equal"])
def test_a_module_that_needs_lengths_gets_them(rows: Any) -> None:
    model = FlaxRegressor(NeedsLengths(), epochs=3, random_state=0).fit(rows, Y)
    means = np.stack([row.mean(axis=0) for row in rows])
    dense = model.params_["Dense_0"]
    wanted = means @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    np.testing.assert_allclose(model.predict(rows), wanted[:, 0], rtol=1e-4, atol=1e-6)


def test_sparse_labels_in_a_search() -> None:
    search = GridSearch(LSTMClassifier(**FAST), {"l2": [0.0]}, cv=2, random_state=0)
    dense = search.fit(ROWS, LABELS).best_score_
    assert search.fit(ROWS, scipy.sparse.csr_matrix(LABELS)).best_score_ == dense


@pytest.mark.filterwarnings("ignore:X was converted")
def test_steps_of_a_table_behind_a_scaler() -> None:
    pipeline = make_pipeline(StandardScaler(), LSTMClassifier(return_sequences=True, **FAST))
    search = GridSearch(pipeline, {"lstmclassifier__l2": [0.0]}, cv=2, random_state=0)
    search.fit(EQUAL[:, :, 0], EQUAL[:, :, 1] > 0)
    assert np.isfinite(search.best_score_)


def test_a_forecast_of_one_step_is_a_column() -> None:
    windows = forecast_windows(np.sin(np.arange(60.0)).astype(np.float32), 8)
    train, test = windows.split(10)
    assert regressor().fit(train.data).predict(test.data).shape == (10, 1)
    search = GridSearch(regressor(), {"l2": [0.0]}, cv=2, random_state=0).fit(train.data)
    assert search.predict(test.data).shape == (10, 1)


@pytest.mark.parametrize(
    ("X", "weight"), [(EQUAL * 3, None), (EQUAL, WEIGHT), (EQUAL[:, :3], None)]
)
def test_a_pipelines_folder_of_other_data_is_refused(X: Any, weight: Any, tmp_path: Path) -> None:
    def search() -> GridSearch:
        grid = {"lstm__learning_rate": [0.1]}
        return GridSearch(PIPELINE, grid, cv=2, random_state=0, checkpoint_dir=tmp_path / "kept")

    first = search().fit(EQUAL, Y)
    assert search().fit(EQUAL, Y).best_score_ == first.best_score_
    with pytest.raises(ValueError, match="holds another search: the data differ"):
        search().fit(X, Y, lstm__sample_weight=weight)


TIMES = np.datetime64("2020-01-01", "s") + (EQUAL[:, 0] * 1000).astype("m8[s]")
DAYS = [datetime.date(2020, 1, 1 + row) for row in range(24)]
DATES: dict[str, Any] = {
    "an array": TIMES,
    "durations": TIMES - TIMES.min(),
    "sequences": TIMES[:, :, None],
    "objects": TIMES.astype(object),
    "timestamps in lists": [[pd.Timestamp(time) for time in row] for row in TIMES],
    "a list of arrays": [TIMES[row, :, None][: 1 + row % 2] for row in range(24)],
    "a column": pd.DataFrame({"a": Y, "t": TIMES[:, 0]}),
    "a column with a zone": pd.DataFrame({"t": pd.to_datetime(TIMES[:, 0]).tz_localize("UTC")}),
    "a column of days": pd.DataFrame({"a": Y, "t": DAYS}),
    "a column of periods": pd.DataFrame({"t": pd.to_datetime(TIMES[:, 0]).to_period("D")}),
}


@pytest.mark.parametrize("kind", DATES)
def test_dates_are_no_numbers(kind: str) -> None:
    x = DATES[kind]
    message = r"(X|X\[0\]|column 't' of X) holds (dates|durations): turn them into numbers first"
    for model in (regressor(), regressor(standardize=True), GridSearch(regressor(), {}, cv=2)):
        with pytest.raises(ValueError, match=message):
            model.fit(x, Y)
    with pytest.raises(ValueError, match=message):
        regressor(epochs=1).fit(EQUAL[:, :2, :1], Y).predict(x)


@pytest.mark.parametrize(
    "y", [TIMES[:, 0], pd.Series(TIMES[:, 0]), DAYS, TIMES[:, 0].astype(object)]
)
def test_dates_are_no_targets(y: Any) -> None:
    with pytest.raises(ValueError, match="y holds dates: turn them into numbers first"):
        regressor().fit(EQUAL, y)
    with pytest.raises(ValueError, match="sample_weight holds dates"):
        regressor().fit(EQUAL, Y, sample_weight=np.asarray(y))
    if np.asarray(y).dtype == object:
        with pytest.raises(ValueError, match="y holds dates: turn them into numbers first"):
            LSTMClassifier(**FAST).fit(EQUAL, y)


def test_dates_may_name_classes() -> None:
    y = np.array(["2020-01-01", "2021-01-01"], "M8[D]")[np.arange(24) % 2]
    assert set(LSTMClassifier(**FAST).fit(EQUAL, y).predict(EQUAL)) <= set(y)


def test_complex_numbers_are_refused_in_a_sentence() -> None:
    for x, y in ((EQUAL + 1j, Y), (EQUAL, Y + 1j), ([row + 1j for row in ROWS], Y)):
        with pytest.raises(
            ValueError, match=r"Complex data not supported: .* real numbers"
        ) as caught:
            regressor().fit(x, y)
        assert "\n" not in str(caught.value)


class Fewer(LSTMClassifier):
    """Names two parameters of its own and fixes another."""

    def __init__(self, units: Any = 3, epochs: int = 1):
        super().__init__(units, epochs=epochs, batch_size=8, random_state=0)


class NoneCalled(LSTMClassifier):
    """Calls no constructor of its base: the rest is as its base has it."""

    def __init__(self, units: Any = 3, epochs: int = 1):
        self.units, self.epochs = units, epochs


class OwnModule(FlaxRegressor):
    """Makes its module from its own parameters."""

    def __init__(self, width: int = 2, epochs: int = 1):
        super().__init__(epochs=epochs)
        self.width = width

    def _module(self, outputs: int) -> nn.Module:
        return MLP(classes=outputs, units=(self.width,))


@pytest.mark.parametrize("kind", [Fewer, NoneCalled, OwnModule])
def test_a_subclass_with_a_narrower_constructor(kind: Any) -> None:
    x, y = (EQUAL[:, 0], Y) if kind is OwnModule else (EQUAL, LABELS[:, 0])
    (size,) = set(kind().get_params()) - {"epochs"}
    search = GridSearch(kind(), {size: [2, 4], "epochs": [1, 2]}, cv=2, random_state=0).fit(x, y)
    assert search.best_params_ == search.best_estimator_.get_params()
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    model = pickle.loads(pickle.dumps(clone(kind(4)).fit(x, y)))
    assert model.get_params() == {size: 4, "epochs": 1}
    assert len(model.history_["loss"]) == 1
    assert model.network_.batch_size == (8 if kind is Fewer else 32)
    with pytest.raises(ValueError, match=r"'batch_size' is not a parameter of"):
        model.set_params(batch_size=4)


def test_another_number_of_steps() -> None:
    model = regressor().fit(EQUAL[:, :, 0], Y)
    message = r"X has 3 features, but LSTMRegressor is expecting 4 .* steps: .* X\[:, :, None\]"
    with pytest.raises(ValueError, match=message):
        model.predict(EQUAL[:, :3, 0])
    assert model.predict(EQUAL[:, :3, :1]).shape == (24,)
    with pytest.raises(ValueError, match=r"must have the shape \(any number of steps, 2\)"):
        regressor().fit(EQUAL, Y).predict(EQUAL[:, :3, :1])


@pytest.mark.parametrize("step", [StandardScaler(), MinMaxScaler(), PCA(1), SimpleImputer()])
def test_steps_of_tables_before_sequences(step: Any) -> None:
    message = r"takes tables \[N, F\], not X of shape \(12, 4, 2\): use standardize=True"
    with pytest.raises(ValueError, match=message):
        GridSearch(make_pipeline(step, regressor()), {"lstmregressor__epochs": [1]}, cv=2).fit(
            EQUAL, Y
        )
