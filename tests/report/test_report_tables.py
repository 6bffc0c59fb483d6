"""The report's tables against scikit-learn and plain loops, and its texts against examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from jaxlstm.report import Run
from jaxlstm.report.tables import (
    best_cell,
    class_scores,
    count_confusion,
    parameter_values,
    rank_cells,
    score_range,
    worst_confusions,
)
from jaxlstm.report.text import (
    bytes_text,
    duration_text,
    percent_text,
    score_digits,
    score_note,
    score_text,
    shorten,
    sort_values,
    value_text,
)

CLASSES = ["walk", "run", "sit", "stand"]


@pytest.fixture
def labels() -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(3)
    true = rng.choice(CLASSES[:3], 200)  # no row of the last class
    predicted = np.where(rng.random(200) < 0.6, true, rng.choice(CLASSES, 200))
    return true.tolist(), predicted.tolist()


def test_cells_rank_by_their_mean(run_maker: Callable[..., Run]) -> None:
    run = run_maker(seeds=2, epochs=3)
    cells = rank_cells(run.results)
    assert len(cells) == 18
    assert (np.diff(cells["mean"]) <= 0).all()
    for row in cells.to_dict("records"):
        trials = run.results[run.results["cell"] == row["cell"]]
        scores = trials["score"].tolist()
        assert row["fits"] == len(scores) == 6
        assert row["mean"] == pytest.approx(sum(scores) / 6, rel=1e-12)
        assert row["std"] == pytest.approx(np.std(scores), rel=1e-9)
        assert row["param_units"] == trials["param_units"].iloc[0]
        for fold, score in row["scores"].items():
            assert score == pytest.approx(trials.loc[trials["fold"] == fold, "score"].mean())
    assert best_cell(run.results) == run.summary["best"]["cell"]


def test_a_cell_with_a_failed_fold_has_no_mean_and_ranks_last(
    run_maker: Callable[..., Run],
) -> None:
    run = run_maker(epochs=3, failed={0, 31, 32})
    cells = rank_cells(run.results)
    assert cells["cell"].tolist()[-2:] == [0, 10]
    assert cells["mean"].isna().tolist() == [False] * 16 + [True] * 2
    assert cells["failed"].tolist()[-2:] == [1, 2]
    assert math.isnan(cells["scores"].iloc[-2][0])
    assert math.isfinite(cells["scores"].iloc[-2][1])


def test_equal_means_keep_the_grids_order(digits_run: Run) -> None:
    cells = rank_cells(digits_run.results.assign(score=0.5))
    assert cells["cell"].tolist() == list(range(18))


def test_the_searchs_own_winner_counts(digits_run: Run, run_maker: Callable[..., Run]) -> None:
    assert best_cell(digits_run.results, 7) == 7
    assert best_cell(digits_run.results, 99) == best_cell(digits_run.results)
    assert best_cell(run_maker(epochs=2, failed="all").results) is None


def test_values_stand_in_a_persons_order(run_maker: Callable[..., Run]) -> None:
    grid = {"units": ["(150, 75)", "(50, 25)", "(100, 50)"], "rate": [0.1, 0.01], "name": "za"}
    values = parameter_values(run_maker(grid=grid, epochs=1).results)
    assert values == {
        "param_units": ["(50, 25)", "(100, 50)", "(150, 75)"],
        "param_rate": ["0.01", "0.1"],
        "param_name": ["z", "a"],
    }
    assert sort_values([(100, 50), 20, (100, 5)]) == [20, (100, 5), (100, 50)]
    assert sort_values(["b", 1, "a"]) == ["b", 1, "a"]


@pytest.mark.parametrize("indices", [False, True])
def test_confusions_are_scikit_learns(labels: tuple[list[str], list[str]], indices: bool) -> None:
    true, predicted = labels
    given = [[CLASSES.index(name) for name in part] if indices else part for part in labels]
    confusion = count_confusion(*given, CLASSES)
    assert confusion.classes == CLASSES
    expected = confusion_matrix(true, predicted, labels=CLASSES)
    np.testing.assert_array_equal(confusion.counts, expected)
    expected = confusion_matrix(true, predicted, labels=CLASSES, normalize="true")
    np.testing.assert_allclose(confusion.fractions, expected, rtol=1e-15)


def test_class_scores_are_scikit_learns(labels: tuple[list[str], list[str]]) -> None:
    table = class_scores(count_confusion(*labels, CLASSES))
    expected = precision_recall_fscore_support(*labels, labels=CLASSES, zero_division=0.0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[name], values, rtol=1e-12, err_msg=name)


def test_names_that_are_digits_are_names_before_indices() -> None:
    confusion = count_confusion([1, 2, 3, 3], [1, 3, 3, 2], [3, 2, 1])
    assert confusion.classes == ["3", "2", "1"]
    np.testing.assert_array_equal(confusion.counts, [[1, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_without_names_the_labels_that_occur_are_the_classes() -> None:
    assert count_confusion([10, 9], [9, 2]).classes == ["2", "9", "10"]
    assert count_confusion(["b", "a"], ["a", "c"]).classes == ["a", "b", "c"]


def test_labels_that_are_no_class_are_refused() -> None:
    with pytest.raises(ValueError, match="the label '7' is neither one of the 2 classes"):
        count_confusion([0, 7], [0, 1], ["cat", "dog"])
    with pytest.raises(ValueError, match="3 true labels, but 2 predicted ones"):
        count_confusion([0, 1, 1], [0, 1])


def test_the_worst_confusions_come_first() -> None:
    confusion = count_confusion(list("aaaabbbc"), list("aabbcccc"))
    assert worst_confusions(confusion, 5) == [("b", "c", 3, 1.0), ("a", "b", 2, 0.5)]
    assert worst_confusions(confusion, 1) == [("b", "c", 3, 1.0)]
    assert worst_confusions(count_confusion([1], [1]), 5) == []


def test_one_diverged_cell_does_not_stretch_the_colours() -> None:
    scores = np.array([0.1, 0.94, 0.95, 0.955, 0.96, np.nan])
    assert score_range(scores) == (0.94, 0.96, True)
    assert score_range(np.linspace(0, 1, 9)) == (0.0, 1.0, False)
    low, high, cut = score_range(np.array([0.5, 0.5]))
    assert low < 0.5 < high
    assert not cut


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (duration_text, 0.00042, "0.42 ms"),
        (duration_text, 0.84, "840 ms"),
        (duration_text, 0.9999, "1 s"),
        (duration_text, 9.949, "9.95 s"),
        (duration_text, 41.23, "41.2 s"),
        (duration_text, 59.96, "1 min"),
        (duration_text, 725, "12 min 5 s"),
        (duration_text, 3599.9, "1 h"),
        (duration_text, 12000, "3 h 20 min"),
        (duration_text, None, "–"),
        (bytes_text, 512, "512 B"),
        (bytes_text, 327155712, "312 MiB"),
        (bytes_text, 1023 * 1024, "0.999 MiB"),
        (bytes_text, math.nan, "–"),
        (percent_text, 0.9734, "97.3 %"),
        (percent_text, 1.0, "100.0 %"),
        (percent_text, 0.99996, "99.99 %"),
        (score_text, 0.97312, "0.9731"),
        (score_text, -0.5, "−0.5000"),
        (score_text, -1234.5, "−1234"),
        (score_text, -24.3, "−24.30"),
        (score_text, -12345.6, "−12,346"),
        (score_text, math.nan, "–"),
        (score_text, math.inf, "inf"),
        (value_text, (150, 75), "(150, 75)"),
        (value_text, [75], "(75,)"),
        (value_text, np.float64(0.001), "0.001"),
        (value_text, 1e-05, "1e-05"),
        (value_text, None, "–"),
        (value_text, True, "True"),
        (value_text, {"a": [1, 2]}, "a: (1, 2)"),
    ],
)
def test_texts(function: Callable[[Any], str], value: Any, text: str) -> None:
    assert function(value) == text


@pytest.mark.parametrize(
    ("scores", "digits", "text"),
    [
        ([0.93, 0.01], 4, "0.0100"),  # accuracies, as ever
        ([-0.42, -0.6], 4, "−0.6000"),
        ([-0.0312, -0.05, -97.0], 4, "−97.00"),
        ([-0.000123, -0.0004, math.nan], 6, "–"),
        ([-1e-12, -2e-12], 9, "−0.000000000"),
        ([-35.2, 0.91], 4, "0.9100"),
        ([math.nan], 4, "–"),
        ([], 4, ""),
    ],
)
def test_small_negative_scores_have_enough_digits(
    scores: list[float], digits: int, text: str
) -> None:
    assert score_digits(scores) == digits
    if scores:
        assert score_text(scores[-1], digits) == text


def test_scores_that_are_negated_errors_say_so() -> None:
    note = score_note("neg_mean_squared_error", [-0.1])
    assert note == (
        "Scores are the mean squared error with a minus sign, so the nearer to 0, the better."
    )
    assert "worse than predicting the mean" in score_note("r2", [0.9, -3.0])
    assert score_note("r2", [0.9]) == score_note("accuracy", [0.9]) == ""


def test_shortened_texts_say_so() -> None:
    assert shorten("walking", 7) == "walking"
    assert shorten("walking upstairs", 9) == "walking…"
    assert len(shorten("x" * 50, 20)) == 20
