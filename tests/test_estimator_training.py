"""What a fit watches: early stopping, the best weights, held-out rows, batches of any size."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold, train_test_split

from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier

FOLDS = KFold(3, shuffle=True, random_state=1)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Weak signal and much noise, so that watched metrics go up and down."""
    rng = np.random.default_rng(11)
    y = rng.permutation(np.repeat(["a", "b", "c"], [15, 14, 11]))
    X = rng.normal(size=(40, 4, 2)) + 0.3 * (np.unique(y, return_inverse=True)[1])[:, None, None]
    return X.astype(np.float32), y


@pytest.fixture
def lstm() -> LSTMClassifier:
    return LSTMClassifier(
        units=3, batch_size=8, epochs=12, learning_rate=0.1, random_state=0, patience=2
    )


def assert_same_weights(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.tobytes() == b.tobytes()


def first_stop(losses: list[float], patience: int) -> tuple[int, int]:
    """The last epoch and the best one, as a loop counts them."""
    best, wait = 0, 0
    for epoch, loss in enumerate(losses):
        if epoch and loss >= losses[best]:
            wait += 1
        else:
            best, wait = epoch, 0
        if wait >= patience and epoch:
            return epoch, best
    return len(losses) - 1, best


def test_validation_fraction_holds_out_what_train_test_split_does(
    lstm: LSTMClassifier, data: Any
) -> None:
    """Stratified, seeded by random_state; the rest is trained on, in that order."""
    X, y = data
    held = clone(lstm).set_params(early_stopping=True, validation_fraction=0.25).fit(X, y)
    train, validation = train_test_split(np.arange(40), test_size=0.25, random_state=0, stratify=y)
    given = clone(lstm).set_params(early_stopping=True)
    given.fit(X[train], y[train], validation_data=(X[validation], y[validation]))
    assert_same_weights(held.params_, given.params_)
    assert held.history_ == given.history_
    assert not np.isnan(held.history_["val_loss"]).any()
    other = clone(held).set_params(random_state=1).fit(X, y)
    assert other.history_["val_loss"] != held.history_["val_loss"]
    # Nothing is held out where nothing of it is watched.
    plain = clone(lstm).set_params(validation_fraction=0.25).fit(X, y)
    assert np.isnan(plain.history_["val_loss"]).all()
    watched = clone(lstm).set_params(early_stopping=True, monitor="loss", patience=99).fit(X, y)
    assert_same_weights(plain.params_, watched.params_)


def test_stops_and_restores_as_its_history_says(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    train, validation = (X[:26], y[:26]), (X[26:], y[26:])
    lstm.set_params(random_state=2, learning_rate=0.03)
    whole = clone(lstm).fit(*train, validation_data=validation)
    last, best = first_stop(whole.history_["val_loss"], patience=2)
    assert 0 < best < last < 11, "the case must stop after its best epoch"
    assert whole.best_epoch_ == 11

    stopped = clone(lstm).set_params(early_stopping=True).fit(*train, validation_data=validation)
    for name, values in stopped.history_.items():
        assert values == whole.history_[name][: last + 1]
    assert stopped.best_epoch_ == last
    shorter = clone(lstm).set_params(epochs=last + 1).fit(*train)
    assert_same_weights(stopped.params_, shorter.params_)

    restored = clone(stopped).set_params(restore_best_weights=True)
    restored.fit(*train, validation_data=validation)
    assert restored.best_epoch_ == best
    assert restored.history_ == stopped.history_
    until_best = clone(lstm).set_params(epochs=best + 1).fit(*train)
    assert_same_weights(restored.params_, until_best.params_)
    np.testing.assert_array_equal(restored.predict_proba(X), until_best.predict_proba(X))
    assert restored.score(*validation) == restored.history_["val_accuracy"][best]


@pytest.mark.parametrize("monitor", ["loss", "accuracy", "val_loss", "val_accuracy"])
def test_best_weights_without_stopping(monitor: str, lstm: LSTMClassifier, data: Any) -> None:
    """Those of the metric's first best epoch."""
    X, y = data
    model = clone(lstm).set_params(restore_best_weights=True, best_monitor=monitor)
    model.fit(X[:26], y[:26], validation_data=(X[26:], y[26:]))
    assert len(model.history_["loss"]) == 12
    values = np.asarray(model.history_[monitor]) * (-1 if "accuracy" in monitor else 1)
    assert model.best_epoch_ == values.argmin()
    same = clone(lstm).set_params(epochs=model.best_epoch_ + 1).fit(X[:26], y[:26])
    assert_same_weights(model.params_, same.params_)


WATCHING: list[dict[str, Any]] = [
    {"early_stopping": True},
    {"restore_best_weights": True},
    {"restore_best_weights": True, "monitor": "loss", "best_monitor": "val_accuracy"},
    {"schedule": "plateau"},
]


@pytest.mark.parametrize("settings", WATCHING, ids=repr)
def test_no_validation_rows_to_watch_is_one_sentence(
    settings: Any, lstm: LSTMClassifier, data: Any
) -> None:
    X, y = data
    lstm.set_params(**settings, validation_fraction=0)
    with pytest.raises(ValueError, match=r"is watched .* but there are none: give val") as caught:
        lstm.fit(X, y)
    assert "\n" not in str(caught.value)
    lstm.set_params(validation_fraction=0.05)
    message = r"validation_fraction=0\.05 of 40 training rows cannot be held out"
    with pytest.raises(ValueError, match=message) as caught:
        lstm.fit(X, y)
    assert "\n" not in str(caught.value)
    metrics = {"monitor": "loss", "best_monitor": "accuracy", "plateau_monitor": "loss"}
    lstm.set_params(**metrics, validation_fraction=0, epochs=2).fit(X, y)


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_searchs_lane_is_the_same_fit(fraction: float, lstm: LSTMClassifier, data: Any) -> None:
    """Bit for bit: what it watches is held out of its fold, or, for a fraction of 0, the fold."""
    X, y = data
    seen = {}

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        seen[estimator.restore_best_weights, X.tobytes()] = estimator
        return estimator.score(X, y)

    lstm.set_params(early_stopping=True, validation_fraction=fraction, random_state=None)
    grid = {"restore_best_weights": [False, True]}
    search = GridSearch(lstm, grid, cv=FOLDS, random_state=3, scoring=scorer, refit=False)
    search.fit(X, y)
    splits = list(FOLDS.split(X, y))
    for row in search.results_.itertuples():
        train, test = splits[row.fold]
        restore = row.param_restore_best_weights
        alone = clone(lstm).set_params(restore_best_weights=restore, random_state=row.seed)
        given = {} if fraction else {"validation_data": (X[test], y[test])}
        alone.fit(X[train], y[train], **given)
        lane = seen[restore, X[test].tobytes()]
        assert_same_weights(lane.params_, alone.params_)
        assert lane.history_ == alone.history_
        assert lane.best_epoch_ == alone.best_epoch_
        assert row.epochs == len(alone.history_["loss"])
        assert row.score == alone.score(X[test], y[test])
        assert row.status == "ok"
    assert (search.results_["epochs"] < 12).any()
    counted = clone(search).set_params(scoring=None).fit(X, y)
    assert counted.results_["score"].tolist() == search.results_["score"].tolist()


class Normed(nn.Module):
    """A batch's statistics see every row of it."""

    classes: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
        return nn.Dense(self.classes)(x)


@pytest.mark.parametrize("kind", [pytest.param("lstm", marks=pytest.mark.slow), "batch statistics"])
def test_a_batch_of_more_than_all_rows_is_all_of_them(kind: str, data: Any) -> None:
    X, y = data
    model: Any = LSTMClassifier(units=3, epochs=2, random_state=0)
    if kind != "lstm":
        model = FlaxClassifier(Normed(classes=3), epochs=2, random_state=0)
    train, test = next(FOLDS.split(X, y))
    exact = clone(model).set_params(batch_size=len(train)).fit(X[train], y[train])
    many = clone(model).set_params(batch_size=10**12).fit(X[train], y[train])
    for a, b in zip(*map(jax.tree.leaves, (exact.params_, many.params_)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(exact.history_["loss"], many.history_["loss"], rtol=1e-6)

    seen = []

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        seen.append((X.tobytes(), estimator))
        return 0.0

    search = GridSearch(model, {"batch_size": [39, 10**12]}, cv=FOLDS, scoring=scorer, refit=False)
    search.fit(X, y)
    for train, test in FOLDS.split(X, y):
        lanes = [lane for rows, lane in seen if rows == X[test].tobytes()]
        assert len(lanes) == 2
        for lane in lanes:
            alone = clone(model).set_params(batch_size=lane.batch_size).fit(X[train], y[train])
            assert_same_weights(lane.params_, alone.params_)
            assert_same_weights(lane.collections_, alone.collections_)


def test_recurrent_dropout(lstm: LSTMClassifier, data: Any) -> None:
    """Acts in training alone; rates above 0 share a program, 0 has one of its own."""
    X, y = data
    lstm.set_params(epochs=2)
    grid = {"recurrent_dropout": [0.0, 0.2, 0.5]}
    search = GridSearch(lstm, grid, cv=FOLDS, refit=False).fit(X, y)
    assert search.plan_.programs == 2
    losses = search.results_.pivot(index="fold", columns="cell", values="train_loss").to_numpy()
    assert len(np.unique(losses)) == 9
    model = clone(lstm).set_params(recurrent_dropout=0.5).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X))
    none = clone(model).set_params(recurrent_dropout=0.0)
    logits = none._module(3).apply({"params": model.params_}, X)
    np.testing.assert_allclose(model.predict_proba(X), nn.softmax(logits), rtol=1e-5)


def test_label_smoothing_and_clipping_act(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    plain = clone(lstm).fit(X, y)
    for settings in ({"label_smoothing": 0.2}, {"clipnorm": 0.05}, {"weight_decay": 0.3}):
        changed = clone(lstm).set_params(**settings).fit(X, y)
        assert changed.history_["loss"][-1] > plain.history_["loss"][-1]


FURTHER: list[dict[str, Any]] = [
    {"optimizer": "adam"},
    {"optimizer": "adam", "amsgrad": True, "weight_decay": 0.1},
    {"optimizer": "rmsprop", "centered": True},
    {"optimizer": "adamax"},
    {"optimizer": "lamb", "exclude_from_weight_decay": "bias", "weight_decay": 0.1},
]


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_further_optimizers_are_lanes_as_each_alone(layout: str, data: Any, tmp_path: Any) -> None:
    """Of two widths, so that some are padded; and again from what a folder keeps."""
    X, y = data
    model = LSTMClassifier(units=2, batch_size=8, epochs=2, learning_rate=0.05, random_state=0)
    grid = [{name: [value] for name, value in one.items()} | {"units": [2, 3]} for one in FURTHER]
    search = GridSearch(
        model, grid, cv=FOLDS, layout=layout, random_state=0, checkpoint_dir=tmp_path
    )
    search.set_params(return_estimator=True).fit(X, y)
    train = next(FOLDS.split(X))[0]
    for cell, params in enumerate(search.cv_results_["params"]):
        alone = clone(model).set_params(**params).fit(X[train], y[train])
        lane = search.estimators_[3 * cell]
        for a, b in zip(jax.tree.leaves(lane.params_), jax.tree.leaves(alone.params_), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    again = clone(search).fit(X, y)
    np.testing.assert_array_equal(
        again.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )


def test_a_third_slot_goes_on(data: Any) -> None:
    whole, parts = (
        LSTMClassifier(units=2, batch_size=8, epochs=epochs, amsgrad=True, random_state=0)
        for epochs in (4, 2)
    )
    parts.set_params(warm_start=True).fit(*data).fit(*data)
    assert_same_weights(parts.params_, whole.fit(*data).params_)
