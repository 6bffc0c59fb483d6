"""Flax modules as people write them: fields, variables, random streams, ids, dicts of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxlstm import FlaxClassifier, FlaxRegressor, GridSearch, LSTMClassifier
from jaxlstm.nn import CNNLSTM, MLP, StackedLSTM

_rng = np.random.default_rng(0)
X = _rng.normal(size=(30, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
IDS = _rng.integers(0, 9, (30, 5))
BOTH = {"numbers": X.astype(np.float64), "ids": IDS, "on": X[:, 1] > 0}


def fitted(module: nn.Module, X: Any = X, **settings: Any) -> FlaxClassifier:
    settings = {"epochs": 2, "batch_size": 16, "random_state": 0} | settings
    model: FlaxClassifier = FlaxClassifier(module, **settings).fit(X, Y)
    return model


class Layers(nn.Module):
    """Units in a list, a tuple or a dict; told what to leave for its caller."""

    units: Any
    sows: bool = False

    @nn.compact
    def __call__(self, x: Any) -> Any:
        units = self.units["all"] if hasattr(self.units, "keys") else self.units
        for width in units:
            x = nn.tanh(nn.Dense(width)(x))
        if self.sows:
            x = self.perturb("h", x)
            self.sow("intermediates", "h", x)
            self.sow("losses", "rows", (x**2).sum(-1))
            self.sow("losses", "all", (x**2).mean())
        return nn.Dense(2)(x)


def assert_same(model: Any, other: Any) -> None:
    assert jax.tree.structure(model.params_) == jax.tree.structure(other.params_)
    jax.tree.map(np.testing.assert_array_equal, model.params_, other.params_)


def test_what_a_module_leaves_for_its_caller_is_no_state() -> None:
    model = fitted(Layers((4,), sows=True))
    assert model.collections_ == {}
    assert_same(model, fitted(Layers((4,))))


def test_fields_are_lists_and_dicts() -> None:
    wanted = fitted(Layers((4, 3)))
    for units in ([4, 3], {"all": [4, 3]}):
        model = fitted(Layers(units))
        assert model.module.units is units
        assert model.get_params()["module__units"] is units
        assert_same(model, wanted)
    search = GridSearch(
        FlaxClassifier(Layers([4]), epochs=1), {"module__units": [[4], [3, 2]]}, cv=2
    )
    assert search.fit(X, Y).best_params_["module__units"] in ([4], [3, 2])
    sequential = fitted(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)]))
    shapes = [leaf.shape for leaf in jax.tree.leaves(sequential.params_)]
    assert shapes == [(4,), (4, 4), (2,), (4, 2)]
    with pytest.raises(
        TypeError, match=r"must be hashable.* units of Layers holds ndarray: .* a tuple"
    ):
        fitted(Layers(np.ones(2)))


@pytest.mark.parametrize(
    "name", ["classes", "num_classes", "n_classes", "out_features", "n_outputs"]
)
def test_the_number_of_classes_is_filled_in(name: str) -> None:
    kind = type(
        "Head", (nn.Module,), {"__annotations__": {name: Any}, name: None, "__call__": _head(name)}
    )
    model = FlaxClassifier(kind(), epochs=1, random_state=0).fit(X, np.arange(30) % 3)
    assert model.predict_proba(X).shape == (30, 3)
    assert getattr(model.module, name) is None


def _head(name: str) -> Any:
    return nn.compact(lambda self, x: nn.Dense(getattr(self, name))(x))


def test_a_size_that_nobody_fills_in_is_named() -> None:
    with pytest.raises(TypeError, match=r"Dense has None for a size \(features.*named classes"):
        fitted(nn.Dense(None))  # type: ignore[arg-type]


class Noisy(nn.Module):
    always: bool = False

    @nn.compact
    def __call__(self, x: Any, training: bool) -> Any:
        if training or self.always:
            x = x + 10 * jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(2)(x)


def test_random_streams_have_any_name() -> None:
    one, other = (fitted(Noisy(), random_state=seed) for seed in (0, 0))
    assert_same(one, other)
    logits = Noisy().apply({"params": one.params_}, X, False)
    np.testing.assert_allclose(one.predict_proba(X), nn.softmax(logits), rtol=1e-5)
    with pytest.raises(ValueError, match="Noisy draws random numbers also where it does not train"):
        fitted(Noisy(always=True))


# -- ids --------------------------------------------------------------------------------------------


class Embedded(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        assert jnp.issubdtype(x.dtype, jnp.integer)
        return nn.Dense(2)(nn.Embed(9, 3)(x).mean(1))


@pytest.mark.filterwarnings("error")
def test_ids_stay_integers() -> None:
    model = fitted(Embedded(), IDS)
    logits = Embedded().apply({"params": model.params_}, IDS)
    np.testing.assert_allclose(model.predict_proba(IDS), nn.softmax(logits), rtol=1e-5)
    np.testing.assert_array_equal(model.predict(IDS.astype(np.float32)), model.predict(IDS))
    search = GridSearch(clone(model), {"learning_rate": [0.001, 0.1]}, cv=KFold(2)).fit(IDS, Y)
    train, test = next(KFold(2).split(IDS))
    alone = clone(model).fit(IDS[train], Y[train]).score(IDS[test], Y[test])
    assert search.cv_results_["split0_test_score"][0] == alone
    for wrong, problem in [
        (IDS + 0.5, "is 0.5|is 1.5|is [0-9].5"),
        (IDS + 2**24, "below 16777216"),
    ]:
        with pytest.raises(ValueError, match=rf"X must hold whole numbers.*({problem})"):
            model.predict(wrong)
    with pytest.raises(ValueError, match="standardize is for one array of numbers, but X is ids"):
        clone(model).set_params(standardize=True).fit(IDS, Y)


# -- several inputs -----------------------------------------------------------------------------------


class Several(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        assert x["ids"].dtype == jnp.int32
        assert x["on"].dtype == bool
        parts = [x["numbers"], nn.Embed(9, 3)(x["ids"]).mean(1), x["on"][:, None]]
        return nn.Dense(2)(jnp.concatenate(parts, axis=-1))


class AsItIs(TransformerMixin, BaseEstimator):
    """A step that takes dicts."""

    def fit(self, X: Any, y: Any = None) -> Any:
        self.rows_ = len(next(iter(X.values())))
        return self

    def transform(self, X: Any) -> Any:
        return X


def part(rows: Any) -> dict[str, Any]:
    return {name: array[rows] for name, array in BOTH.items()}


def test_a_dict_of_arrays() -> None:
    model = fitted(Several(), BOTH, learning_rate=0.1)
    x = BOTH | {"numbers": X, "ids": IDS.astype(np.int32)}
    logits = Several().apply({"params": model.params_}, x)
    np.testing.assert_allclose(model.predict_proba(BOTH), nn.softmax(logits), rtol=1e-5)
    swapped = dict(reversed(BOTH.items()))
    np.testing.assert_array_equal(model.predict(swapped), model.predict(BOTH))
    assert model.score(BOTH, Y) == (model.predict(BOTH) == Y).mean()
    with pytest.raises(ValueError, match=r"X must be a dict with 'numbers' of shape \[N, 4\]"):
        model.predict({"numbers": X, "ids": IDS})
    with pytest.raises(ValueError, match="X must be a dict of arrays, as in fit, got ndarray"):
        model.predict(X)


@pytest.mark.parametrize("through", ["alone", "pipeline"])
def test_a_search_over_a_dict_of_arrays(through: str, tmp_path: Path) -> None:
    model: Any = FlaxClassifier(Several(), epochs=2, batch_size=16, random_state=0)
    grid = {"learning_rate": [0.001, 0.1]}
    if through == "pipeline":
        model = make_pipeline(AsItIs(), model)
        grid = {"flaxclassifier__learning_rate": [0.001, 0.1]}
    search = GridSearch(model, grid, cv=KFold(2), checkpoint_dir=tmp_path).fit(BOTH, Y)
    for split, (train, test) in enumerate(KFold(2).split(X)):
        alone = clone(model).set_params(**{name: 0.1 for name in grid}).fit(part(train), Y[train])
        assert search.cv_results_[f"split{split}_test_score"][1] == alone.score(part(test), Y[test])
    assert search.predict(BOTH).shape == (30,)
    assert search.score(BOTH, Y) == search.best_estimator_.score(BOTH, Y)
    again = GridSearch(model, grid, cv=KFold(2), checkpoint_dir=tmp_path).fit(BOTH, Y)
    np.testing.assert_array_equal(again.predict_proba(BOTH), search.predict_proba(BOTH))


@pytest.mark.parametrize(
    ("settings", "X", "problem"),
    [
        ({"standardize": True}, BOTH, "standardize is for one array of numbers, but X is a dict"),
        ({}, {}, "X is an empty dict"),
        ({}, {"a": X, "b": X[:5]}, "as many rows each, got 30 in 'a', 5 in 'b'"),
        ({}, {"a": np.full((30, 1), np.nan)}, r"X\['a'\]\[0, 0\] is nan"),
        ({}, {"a": [[1.0]] * 29 + [[2.0, 3.0]]}, "inhomogeneous|unequal length"),
        ({}, {"a": np.full((30, 2), "b")}, "an array .* of numbers, got <U1"),
    ],
)
def test_dicts_that_cannot_be(settings: Any, X: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        fitted(Several(), X, **settings)


def test_what_takes_no_dict_says_so() -> None:
    with pytest.raises(TypeError, match="LSTMClassifier takes one array; a dict of arrays is for"):
        LSTMClassifier().fit(BOTH, Y)
    model = make_pipeline(StandardScaler(), FlaxClassifier(Several(), epochs=1))
    with pytest.raises(ValueError, match=r"does not take a dict of arrays"):
        GridSearch(model, {"flaxclassifier__l2": [0.0]}, cv=2).fit(BOTH, Y)


# -- traced fields ------------------------------------------------------------------------------------


class Traced(nn.Module):
    of: Any
    rate: Any = 0.5

    traced_fields: ClassVar[tuple[str, ...]] = ("rate",)

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        return nn.Dense(2)(self.of(x, self.rate, train))


@pytest.mark.parametrize(
    ("of", "cure"),
    [
        (
            lambda x, rate, train: nn.Dropout(rate, deterministic=not train)(x),
            "jaxlstm.Dropout does",
        ),
        (lambda x, rate, train: x if rate > 0 else 2 * x, "jnp.where"),
        (lambda x, rate, train: x * float(rate), "jnp.where"),
        (lambda x, rate, train: x * np.sqrt(rate), "jnp.where"),
        (lambda x, rate, train: nn.Dense(int(4 * rate))(x), "jnp.where"),
        (lambda x, rate, train: x[:, : rate > 0], "jnp.where"),
    ],
)
def test_a_traced_field_whose_value_a_module_needs(of: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=rf"Traced lists 'rate' in its traced_fields.*{cure}"):
        fitted(Traced(of))


# -- JAX's settings for finding mistakes --------------------------------------------------------------


@pytest.mark.parametrize("layout", ["loop", "vmap"])
@pytest.mark.parametrize("name", ["jax_disable_jit", "jax_debug_nans", "jax_check_tracer_leaks"])
def test_under_debugging_settings(name: str, layout: str) -> None:
    model = FlaxClassifier(MLP(2, (3,)), epochs=1, batch_size=16, random_state=0)
    search = GridSearch(model, {"learning_rate": [0.01, 0.1]}, cv=2, layout=layout)
    wanted = clone(search).fit(X, Y)
    jax.config.update(name, True)
    try:
        assert search.plan(X, Y).fits == 4
        search.fit(X, Y)
        model.fit(X, Y).input_gradients(X)
        np.testing.assert_array_equal(search.predict_proba(X), wanted.predict_proba(X))
    finally:
        jax.config.update(name, False)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], wanted.cv_results_["mean_test_score"]
    )


# -- convolutions over sequences ----------------------------------------------------------------------


@pytest.mark.parametrize("features", [1, 3])
def test_convolutions_pool_few_features_to_one(features: int) -> None:
    x = np.random.default_rng(1).normal(size=(5, 8, features)).astype(np.float32)
    network = CNNLSTM(2, (3, 2), units=(4,))
    params = network.init(jax.random.key(0), x)["params"]
    h = x[..., None]
    for name, channels in [("conv_0", 3), ("conv_1", 2)]:
        h = nn.relu(nn.Conv(channels, (3, 3)).apply({"params": params[name]}, h))
        h = h.reshape(5, h.shape[1] // 2, 2, -1, channels).max(2)
        h = h[:, :, :2].max(2, keepdims=True)  # three columns pool to one as one does
    stack = StackedLSTM((4,))
    _, last = stack.apply({"params": params["StackedLSTM_0"]}, h.reshape(5, 2, -1))
    wanted = nn.Dense(2).apply({"params": params["logits"]}, last)
    np.testing.assert_allclose(network.apply({"params": params}, x), wanted, rtol=1e-5, atol=1e-6)


def test_regression_on_a_dict() -> None:
    model = FlaxRegressor(Several(), epochs=1, random_state=0).fit(BOTH, X[:, :2])
    assert model.predict(BOTH).shape == (30, 2)
