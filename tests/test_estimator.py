"""LSTMClassifier and FlaxClassifier as estimators: parameters, data, prediction, mistakes."""

from __future__ import annotations

import inspect
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from jaxlstm import CNN, MLP, FlaxClassifier, GridSearch, LSTMClassifier


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    y = rng.permutation(np.repeat(["a", "b", "c"], [9, 8, 5]))
    X = rng.normal(size=(22, 4, 2)) + (np.unique(y, return_inverse=True)[1] - 1)[:, None, None]
    return X.astype(np.float32), y


@pytest.fixture
def lstm() -> LSTMClassifier:
    return LSTMClassifier(units=3, batch_size=8, epochs=2, learning_rate=0.02, random_state=0)


@pytest.fixture
def flax() -> FlaxClassifier:
    return FlaxClassifier(
        MLP(classes=3, units=(4,)), batch_size=8, epochs=2, learning_rate=0.02, random_state=0
    )


def assert_same_weights(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.tobytes() == b.tobytes()


# -- parameters -----------------------------------------------------------------------------------


def test_parameters_are_the_constructors(lstm: LSTMClassifier) -> None:
    names = inspect.signature(LSTMClassifier).parameters
    assert list(lstm.get_params()) == sorted(names)
    changed = clone(lstm).set_params(units=(5, 2), l2=0.5)
    assert (changed.units, changed.l2, lstm.units, lstm.l2) == ((5, 2), 0.5, 3, 0.0)
    assert clone(changed).get_params() == changed.get_params()
    assert repr(LSTMClassifier(units=3)) == "LSTMClassifier(units=3)"
    assert is_classifier(lstm)
    for name, parameter in names.items():
        assert f"\n  {name}: " in (inspect.getdoc(LSTMClassifier) or ""), name
        if name in inspect.signature(FlaxClassifier).parameters:
            default = inspect.signature(FlaxClassifier).parameters[name].default
            assert parameter.default == default, name


def test_fields_of_a_module_are_parameters(flax: FlaxClassifier) -> None:
    params = flax.get_params()
    assert params["module__units"] == (4,)
    assert params["module__dropout"] == 0.0
    assert not {"module__parent", "module__name"} & set(params)
    assert "module__units" not in flax.get_params(deep=False)
    module = flax.module
    changed = clone(flax).set_params(module__units=(5, 6), epochs=7, module__dropout=0.25)
    assert changed.module == MLP(classes=3, units=(5, 6), dropout=0.25)
    assert changed.epochs == 7
    assert flax.module is module
    # A module and its own fields at once, as in a grid over networks.
    swapped = changed.set_params(module__channels=(3,), module=CNN(classes=3))
    assert swapped.module == CNN(classes=3, channels=(3,))
    assert clone(swapped).module == swapped.module


def test_search_over_fields_and_modules(flax: FlaxClassifier, data: Any) -> None:
    X, y = data
    grid: list[dict[str, list[Any]]] = [
        {"module__units": [(4,)], "module__dropout": [0.0, 0.3]},
        {"module": [MLP(classes=3, units=(5,))], "module__activation": ["tanh"]},
    ]
    ours = GridSearch(flax, grid, cv=2).fit(X, y)
    theirs = GridSearchCV(flax, grid, cv=2).fit(X, y)
    assert ours.plan_.programs == 2  # dropout is traced, units are not
    for fold in range(2):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


class Normed(nn.Module):
    """Batch statistics, Flax's own dropout, a deterministic argument and a traced field."""

    classes: int
    scale: Any = 1.0

    traced_fields: ClassVar[tuple[str, ...]] = ("scale",)

    @nn.compact
    def __call__(self, x: Any, deterministic: bool) -> Any:
        x = x.reshape(len(x), -1) * self.scale
        x = nn.BatchNorm(use_running_average=deterministic, momentum=0.5)(x)
        x = nn.Dropout(0.2)(x, deterministic=deterministic)
        return nn.Dense(self.classes)(x)


@pytest.mark.parametrize("width", ["float32", "float64"])
def test_a_module_of_ones_own(width: str, data: Any, request: Any) -> None:
    if width == "float64":
        request.getfixturevalue("x64")
    X, y = data[0].astype(width), data[1]
    model = FlaxClassifier(Normed(classes=3), batch_size=8, epochs=3, random_state=0)
    search = GridSearch(model, {"module__scale": [1.0, 3.0]}, cv=2).fit(X, y)
    assert search.plan_.programs == 1
    best = search.best_estimator_
    statistics = best.collections_["batch_stats"]["BatchNorm_0"]
    assert statistics["mean"].dtype == width
    assert np.abs(statistics["mean"]).min() > 0
    alone = clone(best).fit(X, y)
    np.testing.assert_array_equal(best.predict_proba(X), alone.predict_proba(X))
    # By hand: what the module itself says in evaluation mode.
    logits = best.module.apply({"params": best.params_, **best.collections_}, X, True)
    np.testing.assert_allclose(best.predict_proba(X), nn.softmax(logits), rtol=1e-5)


# -- fitting and predicting -----------------------------------------------------------------------


def test_same_seed_same_model(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    one, other = clone(lstm).fit(X, y), clone(lstm).fit(X, y)
    assert_same_weights(one.params_, other.params_)
    again = one.fit(X, y)  # nothing is carried over from an earlier fit
    assert_same_weights(again.params_, other.params_)
    different = clone(lstm).set_params(random_state=1).fit(X, y)
    assert different.history_["loss"] != one.history_["loss"]
    for state in (None, np.random.RandomState(0)):
        lstm.set_params(random_state=state)
        assert lstm.fit(X, y).history_["loss"] != lstm.fit(X, y).history_["loss"]
    largest = clone(lstm).set_params(random_state=np.uint32(2**32 - 1)).fit(X, y)
    assert len(largest.history_["loss"]) == 2


def test_two_dimensions_are_sequences_of_scalars(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    flat = X[:, :, 0]
    one, other = clone(lstm).fit(flat, y), clone(lstm).fit(flat[:, :, None], y)
    assert_same_weights(one.params_, other.params_)
    np.testing.assert_array_equal(one.predict_proba(flat), other.predict_proba(flat[:, :, None]))
    assert one.n_features_in_ == 4
    named = clone(lstm).fit(pd.DataFrame(flat, columns=list("wxyz")), y)
    assert named.feature_names_in_.tolist() == list("wxyz")
    assert_same_weights(named.params_, one.params_)


@pytest.mark.parametrize(
    ("units", "dense", "kernels"),
    [(3, (), 1), ((3,), (), 1), ([4, 3], 2, 2), (np.array([4, 3]), np.array([2]), 2)],
)
def test_sizes_in_any_form(
    units: Any, dense: Any, kernels: int, lstm: LSTMClassifier, data: Any
) -> None:
    X, y = data
    lstm.set_params(units=units, dense=dense, epochs=1).fit(X, y)
    assert len(lstm.params_["StackedLSTM_0"]) == kernels
    assert ("dense_0" in lstm.params_) == (not np.array_equal(dense, ()))


def test_predictions_are_probabilities_of_the_classes(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    lstm.set_params(epochs=60, learning_rate=0.05).fit(X, y)
    probabilities = lstm.predict_proba(X)
    assert probabilities.shape == (22, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert lstm.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(lstm.predict(X), lstm.classes_[probabilities.argmax(1)])
    assert lstm.score(X, y) > 0.9
    assert list(lstm.history_) == [
        "learning_rate",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
    ]
    assert all(len(values) == 60 for values in lstm.history_.values())
    assert all(type(value) is float for value in lstm.history_["loss"])
    assert np.isnan(lstm.history_["val_loss"]).all()


def test_validation_data_changes_nothing_but_the_history(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    plain = clone(lstm).fit(X, y)
    watched = clone(lstm).fit(X, y, validation_data=(X[:9], list(y[:9])))
    assert_same_weights(plain.params_, watched.params_)
    assert plain.history_["loss"] == watched.history_["loss"]
    assert watched.history_["val_accuracy"][-1] == watched.score(X[:9], y[:9])
    with pytest.raises(
        ValueError, match="validation_data: y has the class 'z', which is not one of 'a', 'b', 'c'"
    ):
        lstm.fit(X, y, validation_data=(X[:2], ["a", "z"]))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[9, 8\]"):
        lstm.fit(X, y, validation_data=(X[:9], y[:8]))
    with pytest.raises(ValueError, match=r"the shape \(4, 2\) .* got \(4, 1\)"):
        lstm.fit(X, y, validation_data=(X[:9, :, :1], y[:9]))


def test_class_weights_are_scikit_learns(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    balanced = clone(lstm).set_params(class_weight="balanced").fit(X, y)
    weights = {name: 22 / (3 * count) for name, count in (("a", 9), ("b", 8), ("c", 5))}
    by_hand = clone(lstm).set_params(class_weight=weights).fit(X, y)
    assert_same_weights(balanced.params_, by_hand.params_)
    some = clone(lstm).set_params(class_weight={"c": 4}).fit(X, y)
    full = clone(lstm).set_params(class_weight={"a": 1, "b": 1.0, "c": np.float32(4)}).fit(X, y)
    assert_same_weights(some.params_, full.params_)
    for given, message in (
        ("balance", "None, 'balanced' or a dict of class: weight, got 'balance'"),
        ({"d": 1}, "names the class 'd', which y does not have; its classes: 'a', 'b', 'c'"),
        ({"a": -1}, r"class_weight\['a'\] must be a number of at least 0, got -1"),
        ({"a": "x"}, r"class_weight\['a'\] must be a number of at least 0, got 'x' \(str\)"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            clone(lstm).set_params(class_weight=given).fit(X, y)


def test_verbose_shows_a_bar(lstm: LSTMClassifier, data: Any, capsys: Any) -> None:
    X, y = data
    quiet = clone(lstm).fit(X, y)
    assert capsys.readouterr().out == ""
    shown = lstm.set_params(verbose=1).fit(X, y)
    assert "fits 1/1, epochs 2/2" in capsys.readouterr().out
    assert_same_weights(quiet.params_, shown.params_)


def test_cross_validation_and_gridsearchcv_of_scikit_learn(
    lstm: LSTMClassifier, flax: FlaxClassifier, data: Any
) -> None:
    X, y = data
    for model, grid in ((lstm, {"l2": [0.0, 0.1]}), (flax, {"module__dropout": [0.0, 0.2]})):
        scores = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss")
        assert np.isfinite(scores).all()
        search = GridSearchCV(model, grid, cv=2, scoring="neg_log_loss").fit(X, y)
        np.testing.assert_array_equal(
            [search.cv_results_[f"split{fold}_test_score"][0] for fold in range(2)], scores
        )
        assert search.predict(X).shape == (22,)


def test_fits_in_threads_are_fits(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    expected = cross_val_score(lstm, X, y, cv=2, scoring="neg_log_loss")
    with joblib.parallel_config(backend="threading", n_jobs=4):
        found = cross_val_score(lstm, X, y, cv=2, scoring="neg_log_loss")
    np.testing.assert_array_equal(found, expected)


def test_pickle_and_joblib(
    lstm: LSTMClassifier, flax: FlaxClassifier, data: Any, tmp_path: Path
) -> None:
    X, y = data
    for model in (lstm, flax):
        model.fit(X, y)
        expected = model.predict_proba(X)
        joblib.dump(model, tmp_path / "model.joblib")
        for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
            np.testing.assert_array_equal(copy.predict_proba(X), expected)
            assert copy.history_["loss"] == model.history_["loss"]
            assert_same_weights(clone(copy).fit(X, y).params_, model.params_)
        unfitted = pickle.loads(pickle.dumps(clone(model)))
        with pytest.raises(NotFittedError):
            unfitted.predict(X)


def test_another_process_predicts_the_same(lstm: LSTMClassifier, data: Any, tmp_path: Path) -> None:
    X, y = data
    joblib.dump(lstm.fit(X, y), tmp_path / "model.joblib")
    np.save(tmp_path / "x.npy", X)
    program = (
        "import joblib, numpy, sys; folder = sys.argv[1]\n"
        "model = joblib.load(folder + '/model.joblib')\n"
        "numpy.save(folder + '/p.npy', model.predict_proba(numpy.load(folder + '/x.npy')))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), lstm.predict_proba(X))


def test_float64_where_jax_is_set_so(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data[0].astype(np.float64), data[1]
    with jax.enable_x64(True):
        double = clone(lstm).set_params(optimizer="rmsprop", l2=0.01, epochs=5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            double.fit(X, y)
        assert {leaf.dtype for leaf in jax.tree.leaves(double.params_)} == {np.dtype(np.float64)}
        probabilities = double.predict_proba(X)
    single = clone(double).fit(X.astype(np.float32), y)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(single.predict_proba(X), probabilities, rtol=1e-4)


# -- conversion and mistakes ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float64", "float16", "int8", "uint64", "bool"])
def test_conversion_is_said_once_a_fit(kind: str, lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    X = X > 0 if kind == "bool" else np.abs(np.round(4 * X))
    with pytest.warns(DataConversionWarning) as caught:
        lstm.fit(X.astype(kind), y, validation_data=(X[:9].astype(kind), y[:9]))
    assert [str(warning.message) for warning in caught] == [
        f"X was converted from {kind} to float32, the type that jaxlstm computes in."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = clone(lstm).fit(X.astype(np.float32), y)
        found = lstm.predict_proba(X.astype(kind))
    assert_same_weights(lstm.params_, expected.params_)
    np.testing.assert_array_equal(found, expected.predict_proba(X.astype(np.float32)))


@pytest.mark.filterwarnings("ignore:X was converted")
def test_bad_data_is_one_sentence(lstm: LSTMClassifier, data: Any) -> None:
    X, y = data
    lstm.fit(X, y)
    for value, name in ((np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")):
        broken = X.copy()
        broken[5, 2, 1] = value
        message = rf"X must hold finite numbers, but X\[5, 2, 1\] is {name}\."
        for call in (lambda X: lstm.fit(X, y), lstm.predict, lstm.predict_proba):
            with pytest.raises(ValueError, match=f"^{message}$"):
                call(broken)
        with pytest.raises(ValueError, match=message):
            lstm.fit(X, y, validation_data=(broken, y))
    with pytest.raises(ValueError, match=r"X\[5, 2, 1\] is -1e\+300, too large for float32: scale"):
        lstm.fit(np.where(np.arange(176).reshape(22, 4, 2) == 45, -1e300, X.astype(float)), y)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        lstm.fit(X[:, 0, 0], y)
    with pytest.raises(
        ValueError, match=r"X of shape \[N, T, F\] or \[N, T\], got \(22, 4, 2, 1\)"
    ):
        lstm.fit(X[..., None], y)
    with pytest.raises(ValueError, match=r"rows of at least one number, got shape \(22, 0, 2\)"):
        lstm.fit(X[:, :0], y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        lstm.predict(X[:0])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[22, 21\]"):
        lstm.fit(X, y[1:])
    with pytest.raises(ValueError, match="two classes in y; all 22 labels are the one class 'q'"):
        lstm.fit(X, ["q"] * 22)
    with pytest.raises(ValueError, match=r"all 22 labels are the one class 7\."):
        lstm.fit(X, np.full(22, 7))
    with pytest.raises(ValueError, match="Input y contains NaN"):
        lstm.fit(X, np.r_[np.nan, np.zeros(10), np.ones(11)])
    with pytest.raises(ValueError, match="requires y to be passed"):
        lstm.fit(X, None)
    with pytest.raises(ValueError, match="Complex data not supported"):
        lstm.fit(X.astype(complex), y)
    for rows, got in ((X[:, :, :1], r"\(4, 1\)"), (X[:, :, 0], r"\(4, 1\)")):
        with pytest.raises(
            ValueError,
            match=rf"must have the shape \(any number of steps, 2\) that LSTMClassifier .* got {got}",
        ):
            lstm.predict(rows)
    assert lstm.predict(X[:, :3]).shape == (22,)  # rows may be of another length


def test_an_unknown_parameter_is_named(lstm: LSTMClassifier, flax: FlaxClassifier) -> None:
    with pytest.raises(ValueError, match=r"'unit' .*LSTMClassifier\. Did you mean 'units'\? Its"):
        lstm.set_params(unit=3)
    assert lstm.units == 3
    with pytest.raises(ValueError, match="'module' is not a parameter of LSTMClassifier"):
        lstm.set_params(module=MLP(classes=3))
    with pytest.raises(ValueError, match=r"Did you mean 'module__units'\?"):
        flax.set_params(module__unit=(3,))
    with pytest.raises(ValueError, match="'module__units' is not a parameter"):
        FlaxClassifier().set_params(module__units=(3,))
    with pytest.raises(TypeError, match="unit"):
        LSTMClassifier(unit=3)  # type: ignore[call-arg]


class Listed(nn.Module):
    classes: int
    weights: Any = None

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


class Two(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3)(x.reshape(len(x), -1)), x


class Branch(nn.Module):
    classes: int = 3

    @nn.compact
    def __call__(self, x: Any) -> Any:
        if x.sum() > 0:
            x = x + 1
        return nn.Dense(self.classes)(x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (None, TypeError, "module must be a flax.linen module, made but not bound, got None"),
        (MLP, TypeError, "module must be a flax.linen module, made but not bound, got <class"),
        (nn.relu, TypeError, "module must be a flax.linen module"),
        (MLP(classes=2), ValueError, r"MLP must return logits of shape \[B, 3\].*returns \(1, 2\)"),
        (nn.Dense(3), ValueError, r"Dense must return .*row of shape \(4, 2\) it .* \(1, 4, 3\)"),
        (Two(), ValueError, "Two must return logits .* it returns tuple"),
        (Listed(3, np.ones(3)), TypeError, "the module's fields must be hashable"),
        (MLP(classes=3, dropout=1.5), ValueError, r"dropout must be .* got 1\.5"),
        (Branch(), TypeError, "boolean conversion of traced array"),
    ],
)
def test_a_module_that_does_not_fit(
    module: Any, error: type[Exception], message: str, flax: FlaxClassifier, data: Any
) -> None:
    X, y = data
    flax.set_params(module=module)
    with pytest.raises(error, match=message):
        flax.fit(X, y)
    with pytest.raises(error, match=rf"(?s){message}.*\(in the cell \{{'epochs': 2\}}\)"):
        GridSearch(flax, {"epochs": [2]}, cv=2).fit(X, y)


def test_joblib_of_a_search_of_modules(flax: FlaxClassifier, data: Any) -> None:
    X, y = data
    search = GridSearch(flax, {"module__units": [(4,), (5,)]}, cv=2).fit(X, y)
    file = io.BytesIO()
    joblib.dump(search, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(X), search.predict_proba(X))
