"""Random draws: scikit-learn's RandomizedSearchCV is the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import loguniform, randint, uniform
from sklearn.model_selection import KFold, ParameterSampler, RandomizedSearchCV

from jaxlstm import HalvingSearch, LSTMClassifier, RandomSearch
from jaxlstm.grid.search import drawn

SPACES: dict[str, Any] = {
    "distributions": {"learning_rate": loguniform(1e-3, 1e-1), "dropout": uniform(0, 0.5)},
    "whole numbers": {"units": randint(2, 9), "optimizer": ["adam", "sgd"]},
    "lists": {"dropout": [0.0, 0.1, 0.2], "learning_rate": [0.01, 0.02], "units": [(3,), (2, 3)]},
    "a list of dicts": [
        {"dropout": [0.0, 0.1], "learning_rate": loguniform(1e-3, 1e-1)},
        {"optimizer": ["sgd"], "momentum": uniform(0, 0.9)},
    ],
}


@given(st.sampled_from(sorted(SPACES)), st.integers(1, 12), st.integers(0, 2**31))
def test_draws_are_scikit_learns(name: str, count: int, seed: int) -> None:
    found = drawn(SPACES[name], count, seed)
    assert found == list(ParameterSampler(SPACES[name], count, random_state=seed))
    for candidate in found:
        for value in candidate.values():
            assert not isinstance(value, np.generic)


@pytest.mark.parametrize("state", [3, "instance"])
def test_results_are_scikit_learns(state: Any, data: Any, classifier: Any) -> None:
    space = [
        {"learning_rate": loguniform(1e-2, 1e-1), "dropout": [0.0, 0.3]},
        {"optimizer": ["rmsprop", "adam"]},
    ]
    X, y = data

    def seed() -> Any:
        return np.random.RandomState(5) if state == "instance" else state

    settings: dict[str, Any] = {"n_iter": 4, "cv": KFold(2), "return_train_score": True}
    classifier.set_params(random_state=1)
    ours = RandomSearch(classifier, space, random_state=seed(), **settings).fit(X, y)
    theirs = RandomizedSearchCV(classifier, space, random_state=seed(), **settings).fit(X, y)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, values in theirs.cv_results_.items():
        assert type(ours.cv_results_[name]) is type(values)
        assert getattr(ours.cv_results_[name], "dtype", None) == getattr(values, "dtype", None)
        if "score" in name and "time" not in name:
            np.testing.assert_array_equal(ours.cv_results_[name], values)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_fewer_than_asked_for_where_lists_have_no_more(data: Any, classifier: Any) -> None:
    search = RandomSearch(classifier, {"dropout": [0.0, 0.3]}, n_iter=9, cv=2, random_state=0)
    with pytest.warns(UserWarning, match="smaller than n_iter=9"):
        plan = search.plan(*data, measure=False)
    assert plan.fits == 4


@pytest.mark.parametrize(
    ("space", "change", "kind", "message"),
    [
        ([], {}, ValueError, "param_distributions is empty: give a dict"),
        ({"dropout": []}, {}, ValueError, "param_distributions: .*dropout"),
        ({"dropout": 0.3}, {}, TypeError, "param_distributions: .*dropout"),
        ("dropout", {}, TypeError, "param_distributions: .*not a dict"),
        ({"dropout": uniform(0, -1)}, {}, ValueError, "param_distributions: 'dropout' cannot be"),
        ({"droput": uniform()}, {}, ValueError, "'droput' in the grid.*'dropout'"),
        ({"dropout": uniform(2, 3)}, {}, ValueError, r"dropout must be .*in the cell"),
        ({"dropout": [0.1]}, {"n_iter": 0}, ValueError, "n_iter must be .*got 0"),
        ({"dropout": [0.1]}, {"n_iter": 2.5}, TypeError, r"n_iter must be .*got 2\.5"),
    ],
)
def test_mistakes(
    space: Any, change: Any, kind: Any, message: str, data: Any, classifier: Any
) -> None:
    search = RandomSearch(classifier, space, cv=2, random_state=0).set_params(**change)
    with pytest.raises(kind, match=message):
        search.fit(*data)


def test_draws_need_a_seed_to_go_on_with(data: Any, classifier: Any, tmp_path: Path) -> None:
    """The estimator's own seed says nothing of what is drawn."""
    classifier.set_params(random_state=1)
    space = {"dropout": uniform(0, 0.5)}
    with pytest.raises(ValueError, match="checkpoint_dir needs a random_state that is an integer"):
        RandomSearch(classifier, space, checkpoint_dir=tmp_path / "s").fit(*data)
    again = {"n_iter": 2, "cv": 2, "random_state": 0, "refit": False}
    runs = [
        RandomSearch(classifier, space, checkpoint_dir=tmp_path / "s", **again).fit(*data)
        for _ in range(2)
    ]
    assert runs[0].cv_results_["params"] == runs[1].cv_results_["params"]
    np.testing.assert_array_equal(
        *(run.cv_results_["mean_fit_time"] for run in runs)
    )  # of the folder


# -- widths ---------------------------------------------------------------------------------------


def test_drawn_widths_share_a_program(data: Any) -> None:
    """Compiling one more takes longer than the padding of a few short fits; results are the same."""
    model = LSTMClassifier(epochs=3, batch_size=8)
    settings: dict[str, Any] = {"n_iter": 4, "cv": KFold(2), "random_state": 1, "layout": "loop"}
    search = RandomSearch(model, {"units": randint(2, 20)}, **settings).fit(*data)
    widths = [candidate["units"] for candidate in search.cv_results_["params"]]
    assert len(set(widths)) > 2
    assert search.plan_.programs == 1
    assert search.plan_.padding > 0
    listed = RandomSearch(
        model, [{"units": [width]} for width in dict.fromkeys(widths)], **settings
    )
    listed.set_params(n_iter=len(set(widths)), refit=False).fit(*data)
    assert listed.plan_.programs == len(set(widths))
    own = {row["param_units"]: row for _, row in listed.results_.query("fold == 0").iterrows()}
    for _, row in search.results_.query("fold == 0").iterrows():
        for name in ("train_loss", "val_loss"):
            np.testing.assert_allclose(row[name], own[row["param_units"]][name], rtol=1e-5)
    alone = model.set_params(
        **search.best_params_, random_state=search.best_estimator_.random_state
    )
    assert np.array_equal(search.predict_proba(data[0]), alone.fit(*data).predict_proba(data[0]))


def test_long_fits_keep_their_width(data: Any) -> None:
    long = LSTMClassifier(epochs=1_000_000)
    space = {"units": randint(8, 64), "learning_rate": [0.1, 0.01]}
    search = RandomSearch(long, space, n_iter=5, cv=KFold(2), random_state=0, layout="loop")
    plan = search.plan(*data, measure=False)
    widths = {group.structure.module.units for group in plan.groups}
    assert plan.programs == len(widths) > 2


def test_other_micro_batches_keep_programs_of_their_own(data: Any) -> None:
    space = {"units": randint(4, 9), "batch_size": [8, 16]}
    search = RandomSearch(
        LSTMClassifier(epochs=2), space, n_iter=8, cv=KFold(2), random_state=0, layout="loop"
    )
    assert search.plan(*data, measure=False).programs == 2  # one for each micro-batch


def test_drawn_widths_of_halving_share_a_program(data: Any) -> None:
    search = HalvingSearch(
        LSTMClassifier(epochs=4),
        {"units": randint(2, 20)},
        n_candidates=4,
        factor=2,
        min_resources=1,
        cv=KFold(2),
        random_state=0,
        layout="loop",
    )
    assert search.plan(*data, measure=False).programs == 1
