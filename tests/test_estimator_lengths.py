"""Estimators on rows of unequal length: all forms of them, what goes on, what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score

from jaxlstm import FlaxClassifier, FlaxRegressor, LSTMClassifier, LSTMRegressor
from jaxlstm.data import SequenceData
from jaxlstm.nn import MLP, LSTMClassifierNetwork
from jaxlstm.train.augment import RandomCrop, RandomFlip, RandomShift

N, FEATURES = 18, 3
LENGTHS = np.random.default_rng(0).integers(2, 7, N)
LONGEST = int(LENGTHS.max())
RNG = np.random.default_rng(1)
ROWS = [RNG.normal(size=(length, FEATURES)).astype(np.float32) for length in LENGTHS]
SUMS = [np.cumsum(row[:, 0] - row[:, 1]) for row in ROWS]

TRAINING: dict[str, Any] = {"batch_size": 7, "epochs": 2, "learning_rate": 0.03, "random_state": 3}


def network(outputs: int, steps: bool) -> Any:
    return LSTMClassifierNetwork(
        outputs, units=(3,), dense=(4,), bidirectional=True, return_sequences=steps
    )


def estimator(kind: str, steps: bool, outputs: int = 2) -> Any:
    """One of the four, with all on that looks at steps."""
    settings = TRAINING | {"return_sequences": steps, "standardize": True}
    if kind == "LSTMClassifier":
        return LSTMClassifier(4, class_weight="balanced", **settings)
    if kind == "LSTMRegressor":
        return LSTMRegressor((3, 2), dropout=0.2, standardize_targets=True, **settings)
    if kind == "FlaxClassifier":
        return FlaxClassifier(network(outputs, steps), **settings)
    return FlaxRegressor(network(1, steps), loss="huber", **settings)


def targets(kind: str, steps: bool) -> Any:
    """Of rows ``[N]``, or of steps, a list."""
    names = np.array(["down", "up"])
    if "Classifier" in kind:
        each = [names[(own > 0).astype(int)] for own in SUMS]
    else:
        each = [own.astype(np.float32) for own in SUMS]
    return each if steps else np.array([own[-1] for own in each])


def padded(rows: Any, steps: int, fill: Any, dtype: Any = None) -> Any:
    rows = [np.asarray(row) for row in rows]
    whole = np.full((len(rows), steps, *rows[0].shape[1:]), fill, dtype or rows[0].dtype)
    for place, row in enumerate(rows):
        whole[place, : len(row)] = row
    return whole


def vector(rows: Any) -> Any:
    found = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        found[place] = row
    return found


def sequences(rows: Any, kind: str, steps: bool, fill: float, longest: int) -> SequenceData:
    """With garbage in the padding of x."""
    y = targets(kind, steps)
    classes: tuple[str, ...] = ()
    if "Classifier" in kind:
        classes = ("down", "up")
        y = [np.searchsorted(classes, own) for own in y] if steps else np.searchsorted(classes, y)
    y = padded(y, longest, 0) if steps else y
    x = padded(rows, longest, fill)
    return SequenceData(x, y, classes, "some", "some", lengths=LENGTHS, per_step=steps)


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def assert_close(one: Any, other: Any) -> None:
    """But for rounding: other numbers of rows or steps are other programs."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


def flat(values: Any) -> Any:
    """Own steps of rows, one after another."""
    return np.concatenate(
        [np.asarray(list(row)[:n]) for row, n in zip(values, LENGTHS, strict=True)]
    )


KINDS = ["LSTMClassifier", "LSTMRegressor", "FlaxClassifier", "FlaxRegressor"]
EACH = [(kind, steps) for kind in KINDS for steps in (False, True)]
of_each = pytest.mark.parametrize(
    ("kind", "steps"), EACH, ids=[f"{kind}-{'steps' if steps else 'rows'}" for kind, steps in EACH]
)


# -- forms of rows --------------------------------------------------------------------------------


@of_each
def test_all_forms_are_one_fit(kind: str, steps: bool) -> None:
    """Weights, history and predictions, bit for bit."""
    model = estimator(kind, steps)
    y = targets(kind, steps)
    expected = clone(model).fit(ROWS, y)
    predicted = flat(expected.predict(ROWS)) if steps else expected.predict(ROWS)
    fill: Any = None if "Classifier" in kind else np.nan
    dtype = object if "Classifier" in kind else None
    for rows, given in {
        "vector": (vector(ROWS), vector(y) if steps else y),
        "NaN": (padded(ROWS, LONGEST, np.nan), y),
        "more NaN": (
            padded(ROWS, LONGEST + 3, np.nan),
            padded(y, LONGEST + 3, fill, dtype) if steps else y,
        ),
        "garbage": (sequences(ROWS, kind, steps, 7.5, LONGEST), None),
        "other garbage": (sequences(ROWS, kind, steps, -1e6, LONGEST + 2), None),
        "NaN in SequenceData": (sequences(ROWS, kind, steps, np.nan, LONGEST), None),
    }.values():
        found = clone(model).fit(rows, given)
        assert_same(found.params_, expected.params_)
        assert_same(found.history_, expected.history_)
        other = found.predict(rows)
        assert_array_equal(flat(other) if steps else other, predicted)
        assert found.score(rows, given) == expected.score(ROWS, y)


@of_each
def test_a_prediction_is_the_networks_of_the_row_alone(kind: str, steps: bool) -> None:
    """In what company it comes, and how much padding there is, changes nothing but rounding."""
    model = estimator(kind, steps).fit(ROWS, targets(kind, steps))
    method = model.predict_proba if "Classifier" in kind else model.predict
    whole = method(ROWS)
    scale = model.network_.hyperparameters.standardization
    numbers = model.network_.hyperparameters
    module = model.network_.structure.module.clone(**numbers.fields)
    for place, row in enumerate(ROWS):
        x = jnp.asarray((row - scale.mean) / scale.scale)[None]
        outputs = module.apply({"params": model.params_}, x)
        by_hand = np.asarray(model.network_.structure.task.predictions(outputs, numbers.task))[0]
        assert_allclose(
            whole[place],
            np.squeeze(by_hand, -1) if by_hand.shape[-1] == 1 else by_hand,
            rtol=1e-5,
            atol=1e-6,
        )
    for rows in (ROWS[:1], [ROWS[0], np.ones((LONGEST, FEATURES), np.float32)], ROWS[:5]):
        assert_close(method(rows)[0], whole[0])
    alone = method(ROWS[0][None])  # an array, of no padding
    assert_close(alone[0], whole[0])
    more = method(padded(ROWS[:4], 2 * LONGEST + 1, np.nan))
    for place in range(4):
        own = more[place][: LENGTHS[place]] if steps else more[place]
        assert_close(np.asarray(own, whole[place].dtype), whole[place])
    if steps:
        assert more.shape[:2] == (4, 2 * LONGEST + 1)
        assert all(np.isnan(more[place, LENGTHS[place] :]).all() for place in range(4))


@of_each
def test_rows_longer_than_any_trained_on(kind: str, steps: bool) -> None:
    model = estimator(kind, steps).fit(ROWS, targets(kind, steps))
    method = model.predict_proba if "Classifier" in kind else model.predict
    rng = np.random.default_rng(5)
    long = [rng.normal(size=(n, FEATURES)).astype(np.float32) for n in (3 * LONGEST, LONGEST + 1)]
    found = method([*long, ROWS[1]])
    assert_close(found[2], method([ROWS[1]])[0])
    if steps:
        assert [len(row) for row in found] == [3 * LONGEST, LONGEST + 1, LENGTHS[1]]
    scale, numbers = (
        model.network_.hyperparameters.standardization,
        model.network_.hyperparameters,
    )
    module = model.network_.structure.module.clone(**numbers.fields)
    x = (long[0] - scale.mean) / scale.scale
    outputs = module.apply({"params": model.params_}, jnp.asarray(x)[None])
    wanted = np.asarray(model.network_.structure.task.predictions(outputs, numbers.task))[0]
    wanted = wanted if "Classifier" in kind else wanted[..., 0]
    assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-6)


@of_each
def test_scores_are_scikit_learns(kind: str, steps: bool) -> None:
    """Of all own steps; weights of rows count for each of their steps."""
    y = targets(kind, steps)
    model = estimator(kind, steps).fit(ROWS, y)
    metric = accuracy_score if "Classifier" in kind else r2_score
    predicted = flat(model.predict(ROWS)) if steps else model.predict(ROWS)
    true = np.concatenate(y) if steps else y
    weight = np.random.default_rng(6).uniform(0, 3, N)
    each = np.repeat(weight, LENGTHS) if steps else weight
    assert_allclose(model.score(ROWS, y), metric(true, predicted), rtol=1e-6)
    found = model.score(ROWS, y, sample_weight=weight)
    assert_allclose(found, metric(true, predicted, sample_weight=each), rtol=1e-5)
    if steps:
        parts = np.split(np.random.default_rng(7).uniform(0, 3, len(true)), np.cumsum(LENGTHS)[:-1])
        found = model.score(ROWS, y, sample_weight=parts)
        wanted = metric(true, predicted, sample_weight=np.concatenate(parts))
        assert_allclose(found, wanted, rtol=1e-5)


def test_several_labels_and_several_numbers() -> None:
    """Of each step, as lists, and as arrays with NaN past a row's length."""
    labels = [np.stack([own > 0, own > 0.6, own < -0.2], -1).astype(int) for own in SUMS]
    numbers = [np.stack([own, own**2], -1) for own in SUMS]
    for model, y in (
        (LSTMClassifier(3, return_sequences=True, **TRAINING), labels),
        (LSTMRegressor(3, return_sequences=True, **TRAINING), numbers),
    ):
        one = clone(model).fit(ROWS, y)
        wide = padded(y, LONGEST + 1, np.nan, float)
        other = clone(model).fit(padded(ROWS, LONGEST + 1, np.nan), wide)
        assert_same(other.params_, one.params_)
        assert_same(other.history_, one.history_)
        predicted = one.predict(ROWS)
        assert [part.shape for part in predicted] == [part.shape for part in y]
        metric = accuracy_score if y is labels else r2_score
        wanted = metric(np.concatenate(y), np.concatenate(list(predicted)))
        assert_allclose(one.score(ROWS, y), wanted, rtol=1e-12)


@pytest.mark.parametrize("kind", ["strings", "integers", "numbers", "labels"])
def test_predictions_may_be_targets(kind: str) -> None:
    """What `predict` says of an array, padding included, is a y of `score` and `fit`."""
    make, y = {
        "strings": (LSTMClassifier, targets("LSTMClassifier", True)),
        "integers": (LSTMClassifier, [(own > 0).astype(int) for own in SUMS]),
        "numbers": (LSTMRegressor, SUMS),
        "labels": (LSTMClassifier, [np.stack([own > 0, own > 1], -1).astype(int) for own in SUMS]),
    }[kind]
    model = make(3, return_sequences=True, **TRAINING | {"epochs": 9}).fit(ROWS, y)
    rows = padded(ROWS, LONGEST + 1, np.nan)
    assert model.score(ROWS, model.predict(ROWS)) == 1.0
    given = model.predict(rows)
    assert model.score(rows, given) == 1.0
    assert_same(
        clone(model).fit(rows, given).params_, clone(model).fit(ROWS, model.predict(ROWS)).params_
    )


def test_validation_rows_may_be_longer_and_change_nothing() -> None:
    """But for rounding, as all rows are padded to the longest."""
    rng = np.random.default_rng(8)
    long = [rng.normal(size=(n, FEATURES)).astype(np.float32) for n in (2 * LONGEST, 3, 1)]
    y = [np.cumsum(row[:, 1]) for row in long]
    model = LSTMRegressor(3, return_sequences=True, standardize=True, **TRAINING)
    plain = clone(model).fit(ROWS, SUMS)
    weight = [np.linspace(0, 2, len(row)) for row in long]
    watched = clone(model).fit(ROWS, SUMS, validation_data=(long, y, weight))
    assert_close(watched.params_, plain.params_)
    assert_close(watched.history_["loss"], plain.history_["loss"])
    error = np.concatenate(y) - np.concatenate(list(watched.predict(long)))
    each = np.concatenate(weight)
    for name, values in (("val_mse", error**2), ("val_mae", np.abs(error))):
        assert_allclose(watched.history_[name][-1], np.average(values, weights=each), rtol=1e-5)


# -- gradients by the inputs ----------------------------------------------------------------------


@of_each
def test_input_gradients_are_finite_differences(kind: str, steps: bool, x64: None) -> None:
    rows = [row.astype(np.float64) for row in ROWS]
    model = estimator(kind, steps).fit(rows, targets(kind, steps))
    is_classifier = "Classifier" in kind
    choice = np.where(np.arange(N) % 2, "up", "down") if is_classifier else None
    gradients = model.input_gradients(rows, choice)
    assert [part.shape for part in gradients] == [row.shape for row in rows]
    numbers = model.network_.hyperparameters
    scale = numbers.standardization
    module = model.network_.structure.module.clone(**numbers.fields)

    @jax.jit
    def evidence(row: Any, column: Any) -> Any:
        x = (row - scale.mean) / scale.scale
        return module.apply({"params": model.params_}, x[None])[0][..., column].sum()

    for place in (0, 1, 4):
        column = int(choice[place] == "up") if is_classifier else 0
        for step, feature in np.ndindex(rows[place].shape):
            change = np.zeros_like(rows[place])
            change[step, feature] = 1e-5
            above, below = (evidence(rows[place] + d, column) for d in (change, -change))
            assert_allclose(
                gradients[place][step, feature], (above - below) / 2e-5, rtol=1e-5, atol=1e-8
            )


def test_input_gradients_keep_the_form_of_the_rows() -> None:
    """0 past a row's length; one row's do not depend on the others."""
    model = LSTMRegressor(3, **TRAINING).fit(ROWS, targets("LSTMRegressor", False))
    listed = model.input_gradients(ROWS)
    assert isinstance(listed, np.ndarray)
    assert listed.dtype == object
    assert_close(model.input_gradients(ROWS[:1])[0], listed[0])
    array = model.input_gradients(padded(ROWS, LONGEST + 2, np.nan))
    assert array.shape == (N, LONGEST + 2, FEATURES)
    for own, row, length in zip(array, listed, LENGTHS, strict=True):
        assert_close(own[:length], row)
        assert_array_equal(own[length:], 0)


def test_input_gradients_of_a_list_are_a_list() -> None:
    """Also where its rows happen to be equally long, as predictions of their steps are."""
    model = LSTMRegressor(3, **TRAINING).fit(ROWS, targets("LSTMRegressor", False))
    for rows in ([ROWS[0]], [ROWS[0], ROWS[0] + 1]):
        found = model.input_gradients(rows)
        assert found.dtype == object
        assert [part.shape for part in found] == [row.shape for row in rows]


# -- going on -------------------------------------------------------------------------------------


def plain(kind: str, steps: bool, **settings: Any) -> Any:
    return estimator(kind, steps).set_params(**settings)


def assert_same_state(one: Any, other: Any) -> None:
    """Weights, the optimizer's slots, steps, epochs and random key."""
    assert_same(one.params_, other.params_)
    for name in ("slots", "step", "epoch", "key"):
        assert_same(getattr(one._state, name), getattr(other._state, name))


@of_each
def test_fits_that_go_on_are_one_fit(kind: str, steps: bool) -> None:
    """A fit of 2 epochs and a warm start of 3 are one of 5, as are 5 calls of `partial_fit`.

    An epoch's order is drawn from the trial's key and the epoch's number, both part of the state.
    """
    y = targets(kind, steps)
    whole = plain(kind, steps, epochs=5).fit(ROWS, y)
    assert whole._state.step == 5 * 3
    begun = plain(kind, steps, epochs=2, warm_start=True).fit(ROWS, y)
    begun = pickle.loads(pickle.dumps(begun)).set_params(epochs=3).fit(ROWS, y)
    assert_same_state(begun, whole)
    assert_same(begun.history_["loss"], whole.history_["loss"][2:])
    little = plain(kind, steps, epochs=99)
    for epoch in range(5):
        if epoch == 2:
            little = pickle.loads(pickle.dumps(little))
        little.partial_fit(ROWS, y)
    assert_same_state(little, whole)


def test_parts_may_be_longer_or_shorter() -> None:
    """Rows of other lengths than the first ones; the widest part decides nothing."""
    model = LSTMClassifier(3, return_sequences=True, **TRAINING)
    rng = np.random.default_rng(9)
    long = [rng.normal(size=(3 * LONGEST, FEATURES)).astype(np.float32)]
    runs = []
    for order in ("list", "NaN"):
        one = clone(model).partial_fit(
            ROWS[:6], targets("LSTMClassifier", True)[:6], ["down", "up"]
        )
        given = long if order == "list" else padded(long, 4 * LONGEST, np.nan)
        y = [np.where(long[0][:, 0] > 0, "up", "down")]
        one.partial_fit(given, y if order == "list" else padded(y, 4 * LONGEST, "down"))
        one.partial_fit([ROWS[7][:1]], [np.array(["up"])])
        assert one.sample_shape_ == (max(LENGTHS[:6]), FEATURES)
        runs.append(one)
    assert_same_state(*runs)
    assert_close(runs[0].predict_proba(ROWS)[3], runs[1].predict_proba(ROWS[3:4])[0])


def test_a_step_of_partial_fit_is_a_step_of_the_optimizer(x64: None) -> None:
    """One batch of rows of unequal length: the gradient by `jax.grad` of the rows alone."""
    rows = [row.astype(float) for row in ROWS[:5]]
    y = np.array([own[-1] for own in SUMS[:5]])
    weight = np.array([0.5, 2, 0, 1, 3])
    model = LSTMRegressor(3, optimizer="sgd", learning_rate=0.2, batch_size=5, random_state=0)
    before = clone(model).set_params(learning_rate=1e-300).partial_fit(rows, y).params_
    after = clone(model).partial_fit(rows, y, sample_weight=weight).params_
    module = model._module(1)

    def loss(params: Any) -> Any:
        outputs = [module.apply({"params": params}, row[None])[0, 0] for row in rows]
        return (weight * (jnp.stack(outputs) - y) ** 2).sum() / weight.sum()

    grads = jax.grad(loss)(before)
    wanted = jax.tree.map(lambda p, g: p - 0.2 * g, before, grads)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(wanted), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-13)


# -- mistakes -------------------------------------------------------------------------------------


def changed(rows: Any, place: int, row: Any) -> Any:
    return [*rows[:place], row, *rows[place + 1 :]]


def with_nan(row: Any, step: Any) -> Any:
    row = row.copy()
    row[step, 1] = np.nan
    return row


def messages() -> dict[str, tuple[Any, Any, Any, dict[str, Any], str]]:
    """An estimator, rows, targets, further arguments of `fit`, and what it says."""
    regressor, classifier = LSTMRegressor(3, **TRAINING), LSTMClassifier(3, **TRAINING)
    each = LSTMRegressor(3, return_sequences=True, **TRAINING)
    labels = LSTMClassifier(3, return_sequences=True, **TRAINING)
    y, names = targets("LSTMRegressor", False), targets("LSTMClassifier", False)
    steps = targets("LSTMClassifier", True)
    empty = padded(ROWS, LONGEST, np.nan)
    empty[5] = np.nan
    hole = padded(ROWS, LONGEST, np.nan)
    hole[3, 0] = np.nan
    flax = FlaxRegressor(MLP(classes=1, units=(3,)), **TRAINING)
    flattened = FlaxRegressor(LSTMClassifierNetwork(1, units=(3,), flatten=True), **TRAINING)
    short = int(np.argmin(LENGTHS))
    return {
        "NaN in a list": (
            *(regressor, changed(ROWS, 3, with_nan(ROWS[3], 1)), y, {}),
            r"X must hold finite numbers, but X\[3\]\[1, 1\] is NaN\.",
        ),
        "NaN in an array": (
            *(regressor, padded(changed(ROWS, 3, with_nan(ROWS[3], 1)), LONGEST, np.nan), y, {}),
            r"X must hold finite numbers, but X\[3, 1, 1\] is NaN\.",
        ),
        "a step of NaN": (regressor, hole, y, {}, r"X must .*, but X\[3, 0, 0\] is NaN\."),
        "an empty row": (
            *(regressor, changed(ROWS, 4, ROWS[4][:0]), y, {}),
            r"X\[4\] is empty: every row needs at least one step\.",
        ),
        "a row of NaN": (regressor, empty, y, {}, r"X\[5\] is empty: every row needs .* step\."),
        "other features": (
            *(regressor, changed(ROWS, 2, ROWS[2][:, :2]), y, {}),
            r"rows of X must have the same features .* X\[0\] .* \(3,\) .* X\[2\] \(2,\)\.",
        ),
        "strings as rows": (
            *(regressor, changed(ROWS, 2, ROWS[2].astype(str)), y, {}),
            r"X must hold numbers, but X\[2\] is of type <U\d+\.",
        ),
        "steps too few": (
            *(each, ROWS, changed(SUMS, 6, SUMS[6][:-1]), {}),
            rf"y must have one entry for each step of X: X\[6\] has {LENGTHS[6]} steps, y\[6\] has"
            rf" {LENGTHS[6] - 1} entries\.",
        ),
        "rows too few": (each, ROWS, SUMS[1:], {}, rf"X has {N} rows, y has {N - 1}\."),
        "one of each row": (
            each,
            ROWS,
            y,
            {},
            r"y must have one entry for each step .*got \(18,\)\.",
        ),
        "one of each step": (
            *(regressor, ROWS, SUMS, {}),
            r"y has entries of different shapes: .* set return_sequences=True\.",
        ),
        "labels of each step": (
            *(classifier, ROWS, steps, {}),
            r"y has entries of different shapes: .* set return_sequences=True\.",
        ),
        "a class of validation": (
            *(classifier, ROWS, names, {"validation_data": (ROWS[:2], ["up", "left"])}),
            r"validation_data: y has the class 'left', which is not one of 'down', 'up'\.",
        ),
        "a class of a step of validation": (
            *(labels, ROWS, steps, {"validation_data": (ROWS[:1], [["left"] * LENGTHS[0]])}),
            r"validation_data: y has the class 'left', which is not one of 'down', 'up'\.",
        ),
        "strings as numbers": (
            *(regressor, ROWS, names, {}),
            r"LSTMRegressor predicts numbers, but y holds the text '(up|down)': for labels",
        ),
        "strings as numbers of steps": (
            *(each, ROWS, steps, {}),
            r"LSTMRegressor predicts numbers, but y holds the text '(up|down)': for labels",
        ),
        "numbers as labels": (
            *(classifier, ROWS, y, {}),
            "Unknown label type: continuous",
        ),
        "NaN in y": (
            *(regressor, ROWS, changed(y.tolist(), 2, np.nan), {}),
            r"y must hold finite numbers, but y\[2\] is NaN\.",
        ),
        "NaN in a step of y": (
            *(each, ROWS, changed(SUMS, 2, np.r_[SUMS[2][:1], np.nan, SUMS[2][2:]]), {}),
            r"y must hold finite numbers, but y\[2\]\[1\] is NaN\.",
        ),
        "a negative weight": (
            *(regressor, ROWS, y, {"sample_weight": changed([1.0] * N, 4, -2.0)}),
            r"sample_weight must not be negative, got -2 at 4\.",
        ),
        "a negative weight of a step": (
            *(each, ROWS, SUMS),
            {"sample_weight": changed([np.ones(n) for n in LENGTHS], 4, -np.ones(LENGTHS[4]))},
            r"sample_weight must not be negative, got -1 at \[4\]\[0\]\.",
        ),
        "weights of NaN": (
            *(regressor, ROWS, y, {"sample_weight": changed([1.0] * N, 4, np.nan)}),
            r"sample_weight must hold finite numbers, got nan at 4\.",
        ),
        "weights of 0": (
            *(regressor, ROWS, y, {"sample_weight": np.zeros(N)}),
            "weight.*: at least one row must count",
        ),
        "weights of 0 but in the padding": (
            *(each, padded(ROWS, LONGEST, np.nan), padded(SUMS, LONGEST, 0.0)),
            {"sample_weight": 1.0 * (np.arange(LONGEST) >= LENGTHS[:, None])},
            "weight.*: at least one row must count",
        ),
        "weights too few": (
            *(regressor, ROWS, y, {"sample_weight": np.ones(N - 1)}),
            r"sample_weight\.shape == \(17,\), expected \(18,\)!",
        ),
        "a module without lengths": (
            *(flax, ROWS, y, {}),
            rf"MLP does not take lengths, so its rows must be equally long, but X\[{short}\] has 2"
            rf" steps and others have {LONGEST}\.",
        ),
        "flatten": (
            *(flattened, ROWS, y, {}),
            "flatten=True joins the outputs of all steps, so rows must be equally long",
        ),
        **{
            repr(image): (
                *(clone(regressor).set_params(augment=(image,)), ROWS, y, {}),
                rf"{type(image).__name__}\(.*\) in augment is for images of one size; rows of unequal"
                r" length are none\.",
            )
            for image in (RandomFlip(), RandomShift(0.1, 0.1), RandomCrop(0.5))
        },
    }


MESSAGES = messages()


@pytest.mark.filterwarnings("ignore:X was converted")
@pytest.mark.parametrize("case", MESSAGES)
def test_a_mistake_is_one_sentence(case: str) -> None:
    model, rows, y, more, message = MESSAGES[case]
    with pytest.raises(ValueError, match=message) as caught:
        model.fit(rows, y, **more)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_mistakes_of_predictions() -> None:
    model = LSTMRegressor(3, **TRAINING).fit(ROWS, targets("LSTMRegressor", False))
    with pytest.raises(ValueError, match=r"X\[1\] is empty"):
        model.predict([ROWS[0], ROWS[1][:0]])
    with pytest.raises(ValueError, match=r"\(any number of steps, 3\) that .* got \(4, 2\)"):
        model.predict(np.ones((3, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"X must hold finite numbers, but X\[0\]\[0, 1\] is NaN"):
        model.predict([with_nan(ROWS[0], 0)])
    flat = FlaxRegressor(MLP(classes=1, units=(3,)), **TRAINING)
    equal = np.ones((4, 3, 2), np.float32) * np.arange(4, dtype=np.float32)[:, None, None]
    flat.fit(equal, np.arange(4.0))
    with pytest.raises(ValueError, match=r"each row of X must have the shape \(3, 2\)"):
        flat.predict(equal[:, :2])
    with pytest.raises(ValueError, match=r"equally long|must have the shape \(3, 2\)"):
        flat.predict([equal[0], equal[1][:2]])


def test_a_constant_target_is_scikit_learns_r2() -> None:
    """Not perfect: 0, by scikit-learn's definition."""
    y = np.full(N, 3.0)
    for scaled in (False, True):
        model = LSTMRegressor(3, standardize_targets=scaled, **TRAINING).fit(ROWS, y)
        predicted = model.predict(ROWS)
        assert np.isfinite(predicted).all()
        assert model.score(ROWS, y) == r2_score(y, predicted) == 0.0
        assert np.isfinite(model.history_["loss"]).all()


class Pooled(nn.Module):
    """A module of ones own that is told how long its rows are."""

    outputs: int

    @nn.compact
    def __call__(self, x: Any, lengths: Any = None) -> Any:
        steps = x.shape[1]
        counts = jnp.full((len(x),), steps) if lengths is None else lengths
        own = (jnp.arange(steps) < counts[:, None])[..., None]
        return nn.Dense(self.outputs)(jnp.where(own, x, 0).sum(1) / counts[:, None])


def test_a_module_of_ones_own() -> None:
    y = np.array([row.mean() for row in ROWS])
    model = FlaxRegressor(Pooled(1), **TRAINING | {"epochs": 100, "learning_rate": 0.1}).fit(
        ROWS, y
    )
    assert model.score(ROWS, y) > 0.99
    dense = model.params_["Dense_0"]
    wanted = np.stack([row.mean(0) for row in ROWS]) @ dense["kernel"][:, 0] + dense["bias"]
    assert_allclose(model.predict(ROWS), wanted, rtol=1e-4, atol=1e-5)
