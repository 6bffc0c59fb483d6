"""The learning rate finder: each rate is a classifier fitted by hand on the same split."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxlstm import LearningRates, find_learning_rate
from jaxlstm.grid.finder import suggested

COLUMNS = ["rate", "epoch", "train_loss", "val_loss", "val_accuracy"]


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"low": 1e-3, "high": 1e-1, "n": 3, "epochs": 2, "validation_fraction": 0.3}


def test_every_rate_is_a_fit_of_its_own(data: Any, classifier: Any, settings: Any) -> None:
    X, y = data
    # What the estimator says of schedules and stopping does not matter here.
    classifier.set_params(
        random_state=3, schedule="cosine", warmup_epochs=1, early_stopping=True, patience=0
    )
    found = find_learning_rate(classifier, X, y, random_state=5, **settings)
    assert list(found.table) == COLUMNS
    assert found.table["epoch"].tolist() == [1, 2] * 3
    np.testing.assert_allclose(found.last["rate"], [1e-3, 1e-2, 1e-1])
    split = StratifiedShuffleSplit(1, test_size=0.3, random_state=5)
    train, validation = next(split.split(X, y))
    classifier.set_params(schedule="constant", warmup_epochs=0, early_stopping=False, epochs=2)
    for _, row in found.last.iterrows():
        model = classifier.set_params(learning_rate=row["rate"]).fit(X[train], y[train])
        expected = log_loss(y[validation], model.predict_proba(X[validation]))
        np.testing.assert_allclose(row["val_loss"], expected, rtol=1e-5)
        assert row["val_accuracy"] == model.score(X[validation], y[validation])
        assert row["train_loss"] == model.history_["loss"][-1]


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_a_rate_that_diverges_is_nan(
    layout: str, data: Any, classifier: Any, settings: Any
) -> None:
    settings |= {"low": 1e-2, "high": 1e30, "n": 2}
    classifier.set_params(optimizer="sgd")
    found = find_learning_rate(classifier, *data, random_state=0, layout=layout, **settings)
    table = found.table
    assert table[["rate", "epoch"]].notna().all(axis=None)
    measures = ["train_loss", "val_loss", "val_accuracy"]
    assert table[measures].isna().all(axis=1).tolist() == [False] * 2 + [True] * 2
    assert table[measures][:2].notna().all(axis=None)
    assert found.suggestion == 1e-2


def test_a_pipelines_rate(data: Any, classifier: Any, settings: Any) -> None:
    pipeline = make_pipeline(FunctionTransformer(np.tanh), classifier)
    X, y = data
    piped = find_learning_rate(pipeline, X, y, random_state=0, **settings)
    plain = find_learning_rate(classifier, np.tanh(X), y, random_state=0, **settings)
    pd.testing.assert_frame_equal(piped.table, plain.table)
    assert piped.suggestion == plain.suggestion


def losses(*values: float) -> pd.DataFrame:
    rates = 10.0 ** np.arange(-len(values), 0)
    return pd.DataFrame({"rate": rates, "epoch": 1, "val_loss": values})


def test_the_suggestion_is_the_largest_rate_near_the_lowest_loss() -> None:
    nan = math.nan
    # Medians of three: 1.0, 1.0, 0.5, 0.5, 0.51, 0.9, 2.0, 2.0.
    assert suggested(losses(1.0, 1.1, 0.3, 0.5, 0.51, 0.9, 2.0, 2.1)) == pytest.approx(1e-4)
    # A lucky rate among diverged ones is not looked at.
    assert suggested(losses(1.0, 0.9, 0.8, nan, 0.1, nan)) == pytest.approx(1e-4)
    assert suggested(losses(nan, 0.3, nan)) == pytest.approx(1e-2)
    assert math.isnan(suggested(losses(nan, nan)))


def many(diverged: int) -> LearningRates:
    rates = np.geomspace(1e-6, 1.0, 64)
    middle = np.log10(rates) + 2.5
    val = 1.1 - 0.9 * np.exp(-(middle**2)) + 0.2 * np.maximum(middle - 1.5, 0) ** 3
    val[64 - diverged :] = np.nan
    table = pd.DataFrame({"rate": rates, "epoch": 3, "train_loss": val * 0.9, "val_loss": val})
    return LearningRates(table.assign(val_accuracy=0.5), suggested(table))


def test_the_figure(tmp_path: Path) -> None:
    found = many(9)
    before = dict(matplotlib.rcParams)
    figure = found.plot(tmp_path / "rates.png")
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    training, validation, suggestion = axes.lines
    np.testing.assert_array_equal(training.get_ydata(), found.last["train_loss"])
    np.testing.assert_array_equal(validation.get_ydata(), found.last["val_loss"])
    assert suggestion.get_xdata() == [found.suggestion] * 2
    assert len(axes.patches) == 9
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    found.plot(tmp_path / "rates.SVG")
    assert b"<svg" in (tmp_path / "rates.SVG").read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_figures_where_all_or_none_diverged() -> None:
    assert not many(0).plot().axes[0].patches
    (axes,) = many(64).plot().axes
    assert "has diverged" in " ".join(text.get_text().replace("\n", " ") for text in axes.texts)


def test_another_suffix_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in .png or .svg, got '.*rates.pdf'"):
        many(0).plot(tmp_path / "rates.pdf")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"low": 0.0}, ValueError, r"low must be .*got 0\.0"),
        ({"low": "small"}, TypeError, "low must be .*got 'small'"),
        ({"low": 0.2}, ValueError, "low must be less than high"),
        ({"n": 1}, ValueError, "n must be 2 or more, got 1"),
        ({"epochs": 0}, ValueError, "epochs must be .*got 0"),
        ({"validation_fraction": 1.0}, ValueError, r"between 0 and 1, got 1\.0"),
        ({"estimator": FunctionTransformer()}, TypeError, "estimator must be one of jaxlstm"),
    ],
)
def test_mistakes(
    change: Any, kind: Any, message: str, data: Any, classifier: Any, settings: Any
) -> None:
    settings = {"estimator": classifier} | settings | change
    with pytest.raises(kind, match=message):
        find_learning_rate(settings.pop("estimator"), *data, **settings)
