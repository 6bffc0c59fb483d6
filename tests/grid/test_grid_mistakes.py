"""Lanes that fail fail alone, and a user's mistake is answered by one clear sentence."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, FitFailedWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold

from jaxlstm import GridSearch

DIVERGE = {"optimizer": ["sgd"], "learning_rate": [1e30]}


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_a_lane_that_diverges_fails_alone(layout: str, data: Any, classifier: Any) -> None:
    X, y = data
    settings: dict[str, Any] = {"cv": 3, "random_state": 0, "refit": False}
    good = {"dropout": [0.0, 0.3], "epochs": [3]}
    alone = GridSearch(classifier, good, **settings).fit(X, y)
    search = GridSearch(classifier, [good, DIVERGE], error_score=-1.0, layout=layout, **settings)
    with pytest.warns(FitFailedWarning) as caught:
        search.fit(X, y)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "3 of 9 fits failed" in message
    assert "loss is not finite after epoch 1" in message
    assert "'learning_rate': 1e+30" in message
    assert "fold 2" in message
    assert "Their score is -1.0." in message
    assert caught[0].filename == __file__

    for fold in range(3):
        assert search.cv_results_[f"split{fold}_test_score"][2] == -1
    assert search.results_["status"].tolist() == ["ok"] * 6 + ["failed"] * 3
    assert search.results_["epochs"].tolist() == [3] * 6 + [1] * 3
    columns = ["train_loss", "val_loss", "val_accuracy"]
    # Lanes side by side round differently.
    close = {"check_exact": True} if layout == "loop" else {"rtol": 1e-4}
    pd.testing.assert_frame_equal(
        search.curves_[search.curves_["cell"] < 2][columns], alone.curves_[columns], **close
    )


def test_nan_ranks_last_and_is_the_default(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, [DIVERGE, {"dropout": [0.0, 0.1]}], cv=2, random_state=0)
    with (
        pytest.warns(FitFailedWarning, match="Their score is nan"),
        pytest.warns(UserWarning, match=r"test scores are non-finite: \[ *nan"),
    ):
        search.fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False, False]
    assert search.cv_results_["rank_test_score"][0] == 3
    assert search.best_index_ > 0
    assert search.results_["score"].isna().tolist() == [True] * 2 + [False] * 4


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_weights_that_end_as_nan_are_never_a_fitted_model(
    optimizer: str, data: Any, classifier: Any
) -> None:
    """Also where only the last step broke them, which no training loss shows."""
    X, y = data
    classifier.set_params(optimizer=optimizer, learning_rate=1e38, epochs=1, batch_size=32)
    with pytest.raises(ValueError, match=r"training failed: the loss is not finite after epoch 1"):
        classifier.fit(X, y)


def test_all_failed(data: Any, classifier: Any) -> None:
    X, y = data
    with pytest.raises(ValueError, match=r"4 of 4 fits failed .* Nothing is left to choose from"):
        GridSearch(classifier, {**DIVERGE, "momentum": [0.0, 0.9]}, cv=2).fit(X, y)
    with pytest.raises(ValueError, match=r"The fit of \{.*1e\+30.*\}, fold \d failed: the loss"):
        GridSearch(classifier, DIVERGE, cv=2, error_score="raise").fit(X, y)


def test_error_score_raise_stops_the_search(data: Any, classifier: Any) -> None:
    """Lanes that wait are not trained any more."""
    X, y = data
    scored: list[Any] = []

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        scored.append(threading.get_ident())
        raise ArithmeticError("no score")

    search = GridSearch(
        classifier, {"dropout": np.linspace(0, 0.5, 30).tolist()}, cv=2, scoring=scorer, n_jobs=1
    )
    with pytest.raises(ArithmeticError, match="no score"):
        search.set_params(error_score="raise").fit(X, y)
    assert len(scored) == 1
    search.set_params(error_score=-1.0, param_grid={"dropout": [0.0, 0.1]}, refit=False)
    with pytest.warns(UserWarning, match=r"Scoring failed.* 4 of 4 fits .*ArithmeticError: no"):
        search.fit(X, y)
    assert search.cv_results_["mean_test_score"].tolist() == [-1.0, -1.0]


def test_a_scorer_that_fails_for_some(data: Any, classifier: Any) -> None:
    X, y = data

    def scorer(estimator: Any, X: Any, y: Any) -> dict[str, float]:
        if estimator.dropout == 0.1:
            raise ZeroDivisionError("by zero")
        return {"a": accuracy_score(y, estimator.predict(X)), "b": 1.0}

    search = GridSearch(
        classifier, {"dropout": [0.1, 0.2]}, cv=2, scoring=scorer, refit="a", random_state=0
    )
    with (
        pytest.warns(
            UserWarning, match=r"Scoring failed.* 2 of 4 fits .*ZeroDivisionError: by zero"
        ),
        pytest.warns(UserWarning, match="test scores are non-finite"),
    ):
        search.fit(X, y)
    assert np.isnan(search.cv_results_["split1_test_b"]).tolist() == [True, False]
    assert search.best_params_ == {"dropout": 0.2}


MISTAKES: list[tuple[Any, Any, type[Exception], str]] = [
    # grid, settings of the search, error, its message
    ([], {}, ValueError, "param_grid is empty: give a dict of parameters"),
    ({"units": []}, {}, ValueError, "parameter 'units' need to be a non-empty sequence, got"),
    ({"units": 4}, {}, TypeError, "'units' needs to be a list .* got 4"),
    (None, {}, TypeError, "param_grid: .*got: None"),
    ({"unitz": [4]}, {}, ValueError, r"'unitz' in the grid .*Did you mean 'units'\?"),
    ({"units": ["big"]}, {}, TypeError, r"units must be an integer or .* got 'big'.*in the cell"),
    ({"dropout": ["a"]}, {}, TypeError, r"dropout must be a number in \[0, 1\), got 'a' \(str\)"),
    ({"dropout": [1.0]}, {}, ValueError, r"dropout must be a number in \[0, 1\), got 1\.0"),
    ({"epochs": [2.5]}, {}, TypeError, r"epochs must be an integer .* got 2\.5 \(float\)"),
    ({"epochs": [2, -1]}, {}, ValueError, r"epochs must be an .* got -1.*cell \{'epochs': -1\}"),
    ({"optimizer": ["adm"]}, {}, ValueError, r"got 'adm'\. Did you mean 'adam'\?"),
    ({"l2": [0]}, {"cv": 1}, ValueError, r"'cv' .* an int in the range \[2, inf\).* Got 1"),
    ({"l2": [0]}, {"cv": 20}, ValueError, "class with at least 20 rows; .*'low', has 11"),
    ({"l2": [0]}, {"cv": "3"}, ValueError, "'cv' parameter of GridSearch .* Got '3'"),
    ({"l2": [0]}, {"cv": []}, ValueError, r"cv=\[\] makes no split"),
    ({"l2": [0]}, {"cv": [([0, 1], [])]}, ValueError, "split 0 of cv leaves one part empty"),
    ({"l2": [0]}, {"cv": [([0, 1], [26])]}, ValueError, "split 0 of cv names row 26, X has 26"),
    ({"l2": [0]}, {"cv": [([0, 9], [-27])]}, ValueError, "split 0 of cv names row -27"),
    ({"l2": [0]}, {"cv": [([0.5], [1.0])]}, TypeError, "row numbers or a mask, got float64"),
    ({"l2": [0]}, {"cv": [([True], [False])]}, ValueError, r"a mask of shape \(1,\), X has 26"),
    ({"l2": [0]}, {"cv": [([[0]], [[1]])]}, TypeError, r"int64 of shape \(1, 1\)"),
    (
        {"l2": [0]},
        {"layout": "rows"},
        ValueError,
        "layout must be auto, loop, vmap or stream, got 'rows'",
    ),
    ({"l2": [0]}, {"n_jobs": 0}, ValueError, "n_jobs must not be 0"),
    ({"l2": [0]}, {"n_jobs": "two"}, TypeError, "'n_jobs' parameter .* 'int' or None. Got 'two'"),
    ({"l2": [0]}, {"validation_freq": 0}, ValueError, "validation_freq must be .* got 0"),
    ({"l2": [0]}, {"error_score": "ignore"}, ValueError, "number or 'raise', got 'ignore'"),
    ({"l2": [0]}, {"scoring": "acuracy"}, ValueError, "'acuracy'"),
    ({"l2": [0]}, {"scoring": []}, ValueError, "at least one metric"),
    ({"l2": [0]}, {"scoring": lambda *_: None}, ValueError, "must return a number, got None"),
    (
        {"l2": [0]},
        {"scoring": ["accuracy", "f1_macro"]},
        ValueError,
        "refit must be False, a callable or one of accuracy, f1_macro; got True",
    ),
    (
        {"l2": [0]},
        {"scoring": lambda *_: {"a": 1.0, "b": 2.0}, "refit": "c"},
        ValueError,
        "refit must be False, a callable or one of a, b; got 'c'",
    ),
    ({"l2": [0]}, {"refit": lambda _: "x"}, TypeError, "refit must return an index, got 'x'"),
    ({"l2": [0]}, {"refit": lambda _: 7}, IndexError, "refit returned 7"),
    ({"l2": [0]}, {"random_state": "x"}, ValueError, "'random_state' parameter .*Got 'x'"),
    ({"random_state": [-1]}, {}, ValueError, r"random_state must be in \[0, 2\*\*32\), got -1"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_in_the_search_is_one_sentence(number: int, data: Any, classifier: Any) -> None:
    X, y = data
    grid, settings, error, message = MISTAKES[number]
    with pytest.raises(error, match=message) as caught:
        GridSearch(classifier, grid, **{"cv": 2, **settings}).fit(X, y)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_data_is_one_sentence(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"l2": [0.0]}, cv=2)
    hole = X.copy()
    hole[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match=r"finite numbers, but X\[3, 4, 1\] is NaN"):
        search.fit(hole, y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[26, 25\]"):
        search.fit(X, y[:-1])
    with pytest.raises(ValueError, match="all 26 labels are the one class 'a'"):
        search.fit(X, ["a"] * 26)
    with pytest.raises(ValueError, match="y is missing"):
        search.fit(X)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[26, 26, 2\]"):
        search.fit(X, y, groups=[1, 2])


def test_a_class_with_fewer_rows_than_folds_is_named(data: Any, classifier: Any) -> None:
    X, _ = data
    y = np.array(["many"] * 20 + ["few"] * 4 + ["two"] * 2)
    search = GridSearch(classifier, {"l2": [0.0]}, cv=5, random_state=0, refit=False)
    with pytest.warns(UserWarning, match="Fewer rows than the 5 folds") as caught:
        search.fit(X, y)
    assert len(caught) == 1
    assert "'few' (4), 'two' (2)" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert search.n_splits_ == 5


@pytest.mark.parametrize("kind", ["float64", "int16", "object", "bool", "list"])
def test_conversion_is_said_once_and_changes_nothing(kind: str, data: Any, classifier: Any) -> None:
    X, y = data
    X = (X > 0) if kind == "bool" else np.round(X * 4)
    given = X.tolist() if kind == "list" else X.astype(kind)
    search = GridSearch(classifier, {"l2": [0.0, 0.1]}, cv=3, random_state=0, scoring="f1_macro")
    with pytest.warns(DataConversionWarning, match="X was converted from .* to float32") as caught:
        search.fit(given, y)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = clone(search).fit(X.astype(np.float32), y)
        found = search.predict_proba(given)
    np.testing.assert_array_equal(found, expected.predict_proba(X.astype(np.float32)))
    assert search.results_["score"].tolist() == expected.results_["score"].tolist()


def test_labels_of_any_kind(data: Any, classifier: Any) -> None:
    """Only the order of the classes counts."""
    X, y = data
    number = np.unique(y, return_inverse=True)[1]
    expected: Any = None
    for labels in (
        y,
        y.astype(object),
        list(y),
        pd.Series(y, dtype="category"),
        pd.Series(y, dtype="string"),
        number * 10 - 7,
        number.astype(np.uint8),
        number.astype(float),
    ):
        search = GridSearch(classifier, {"l2": [0.0]}, cv=KFold(3), random_state=0).fit(X, labels)
        loss = search.results_["val_loss"].tolist(), search.results_["score"].tolist()
        expected = expected or loss
        assert loss == expected
        assert set(search.predict(X)) <= set(np.asarray(labels))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        search.fit(X, X[:, 0, 0])
