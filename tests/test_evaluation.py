"""Rates of classes, prediction times and saliency, against sums done by hand."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from jaxlstm import FlaxClassifier, LSTMClassifier, LSTMRegressor
from jaxlstm.evaluation import class_rates, prediction_times, saliency, scores
from jaxlstm.nn import MLP

CLASSES = ("a", "b", "c")


def test_class_rates_are_counts() -> None:
    true = np.array(list("aaaabbbccc"))
    predicted = np.array(list("aabcbbaccc"))
    table = class_rates(true, predicted, CLASSES).set_index("class")
    for name in CLASSES:
        own, said = true == name, predicted == name
        row = table.loc[name]
        assert row["support"] == own.sum()
        assert row["recall"] == pytest.approx((own & said).sum() / own.sum())
        assert row["miss_rate"] == pytest.approx(1 - row["recall"])
        assert row["precision"] == pytest.approx((own & said).sum() / said.sum())
        assert row["specificity"] == pytest.approx((~own & ~said).sum() / (~own).sum())
        assert row["false_positive_rate"] == pytest.approx(1 - row["specificity"])
    assert scores(true, predicted)["accuracy"] == pytest.approx(0.7)
    assert scores(true, predicted)["macro_recall"] == pytest.approx(table["recall"].mean())


def test_a_class_without_rows_has_rates_of_0() -> None:
    table = class_rates(["a", "a"], ["a", "a"], CLASSES).set_index("class")
    assert table.loc["a", "specificity"] == 0  # no row is of another class
    assert table.loc["b", ["precision", "recall", "f1", "miss_rate"]].tolist() == [0, 0, 0, 0]


def test_unequal_rows() -> None:
    rng = np.random.default_rng(2)
    rows = [rng.normal(size=(length, 2)).astype(np.float32) for length in rng.integers(2, 7, 40)]
    y = np.array(["ab"[int(row[:, 0].sum() > 0)] for row in rows])
    model = LSTMClassifier(units=6, epochs=30, learning_rate=0.03, random_state=0).fit(rows, y)
    chosen, maps, means = saliency(model, rows, y, per_class=2)
    longest = max(map(len, rows))
    assert maps.shape == (2, 2, longest, 2)
    for number, places in enumerate(chosen):
        for place, row in enumerate(places):
            wanted = np.abs(model.input_gradients([rows[row]], y[row : row + 1])[0])
            np.testing.assert_allclose(
                maps[number, place, : len(rows[row])], wanted, rtol=1e-4, atol=1e-6
            )
            assert not maps[number, place, len(rows[row]) :].any()
    assert means.shape == (2, longest, 2)
    times = prediction_times(model, rows, batch_sizes=(1, 5), repeats=3)
    assert (times["p50_ms"] > 0).all()
    regressor = LSTMRegressor(units=2, epochs=1).fit(rows, [row.sum() for row in rows])
    assert len(prediction_times(regressor, rows, batch_sizes=(2,), repeats=2)) == 1


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4, 3)).astype(np.float32)
    y = np.array(CLASSES)[x[:, -1].argmax(axis=1)]
    model = LSTMClassifier(units=8, epochs=40, learning_rate=0.03, random_state=0, standardize=True)
    return model.fit(x, y), x, y


def test_input_gradients_are_differences(fitted: Any) -> None:
    model, x, _ = fitted
    rows, names = x[:5], np.array(list("abcab"))
    gradients = model.input_gradients(rows, names)
    assert gradients.shape == rows.shape
    places = np.searchsorted(model.classes_, names)

    def logits(rows: np.ndarray) -> np.ndarray:
        # Softmax loses a constant, which differences against the last class do not see.
        log = np.log(model.predict_proba(rows).astype(float))
        return log[np.arange(len(rows)), places] - log[:, 2]

    other = model.input_gradients(rows, ["c"] * 5)
    step = 0.01
    for place in np.ndindex(rows.shape[1:]):
        up, down = rows.copy(), rows.copy()
        up[:, *place] += step
        down[:, *place] -= step
        expected = (logits(up) - logits(down)) / (2 * step)
        found = (gradients - other)[:, *place]
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-2)


def test_input_gradients_of_a_linear_network_are_its_weights() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 5)).astype(np.float32)  # more than one batch of predictions
    y = (x.sum(axis=1) > 0).astype(int)
    model = FlaxClassifier(MLP(2, units=()), epochs=2, random_state=0).fit(x, y)
    kernel = np.asarray(jax.tree.leaves(model.params_)[1])
    assert kernel.shape == (5, 2)
    np.testing.assert_allclose(model.input_gradients(x, y), kernel.T[y], rtol=1e-6)
    with pytest.raises(ValueError, match="y has the class 7, which FlaxClassifier has not"):
        model.input_gradients(x[:1], [7])


def test_saliency_is_of_rows_that_are_right(fitted: Any) -> None:
    model, x, y = fitted
    right = model.predict(x) == y
    chosen, maps, means = saliency(model, x, y, per_class=2)
    assert chosen.shape == (3, 2)
    assert maps.shape == (3, 2, 4, 3)
    assert means.shape == (3, 4, 3)
    chances = model.predict_proba(x)
    for place, name in enumerate(model.classes_):
        own = np.flatnonzero(right & (y == name))
        assert set(chosen[place]) <= set(own)
        assert chances[chosen[place], place].min() >= np.sort(chances[own, place])[-2]
        gradients = np.abs(model.input_gradients(x[own]))
        np.testing.assert_allclose(means[place], gradients.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            maps[place], np.abs(model.input_gradients(x[chosen[place]])), rtol=1e-5
        )
    wrong = np.roll(model.classes_, 1)[np.searchsorted(model.classes_, model.predict(x))]
    none, maps, means = saliency(model, x, wrong)
    assert (none == -1).all()
    assert not maps.any()
    assert not means.any()


def test_prediction_times_count_rows(fitted: Any) -> None:
    model, x, _ = fitted
    table = prediction_times(model, x, batch_sizes=(1, 100), repeats=3)
    assert table["batch"].tolist() == [1, 100]
    assert (table["p95_ms"] >= table["p50_ms"]).all()
    expected = table["batch"] * 1000 / table["p50_ms"]
    np.testing.assert_allclose(table["rows_per_second"], expected)
