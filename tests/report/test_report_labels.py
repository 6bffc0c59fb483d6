"""The scores of labels against scikit-learn, and what a task's page calls things."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, hamming_loss, precision_recall_fscore_support
from task_runs import LABELS, make_task_run

from jaxlstm.report.labels import label_names, label_scores, mistake_shares
from jaxlstm.report.problem import Problem, problem_of


@pytest.mark.parametrize("kind", ["multilabel", "multilabel_steps"])
def test_label_scores_are_scikit_learns(kind: str) -> None:
    run = make_task_run(kind)
    assert run.predictions is not None
    problem = problem_of(run.config)
    found = label_scores(run.predictions.sample(frac=1, random_state=0), problem)
    keys = ["row", "step"] if problem.per_step else ["row"]
    true, predicted = (
        run.predictions.pivot(index=keys, columns="target", values=name)[LABELS].to_numpy()
        for name in ("true", "predicted")
    )
    expected = precision_recall_fscore_support(true, predicted, zero_division=0.0)
    assert found.table["name"].tolist() == LABELS
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(found.table[name], values, rtol=1e-12, err_msg=name)
    assert found.subset_accuracy == pytest.approx(accuracy_score(true, predicted), rel=1e-12)
    assert found.hamming_loss == pytest.approx(hamming_loss(true, predicted), rel=1e-9)
    assert found.count == len(true)


def test_a_label_that_is_never_predicted_scores_zero() -> None:
    table = pd.DataFrame({"row": [0, 1], "target": "a", "true": [1, 0], "predicted": [0, 0]})
    row = label_scores(table, Problem("multilabel")).table.iloc[0]
    assert (row["precision"], row["recall"], row["f1"], row["support"]) == (0, 0, 0, 1)


def test_labels_have_the_tasks_order() -> None:
    table = pd.DataFrame({"target": ["b", "a", "b"]})
    assert label_names(table, Problem("multilabel", targets=("a", "b", "c"))) == ["a", "b"]
    assert label_names(table, Problem("multilabel", classes=("a", "b"))) == ["a", "b"]
    assert label_names(table, Problem("multilabel", targets=("a",))) == ["b", "a"]


def test_mistakes_are_counted_per_row() -> None:
    run = make_task_run("steps")
    assert run.predictions is not None
    found = mistake_shares(run.predictions)
    for row, part in run.predictions.groupby("row"):
        wrong = sum(a != b for a, b in zip(part["true"], part["predicted"], strict=True))
        assert found[row] == pytest.approx(wrong / len(part))


def test_the_task_is_read_from_the_configuration() -> None:
    assert problem_of({}) == problem_of({"data": None}) == Problem()
    data = {"task": "regression", "targets": ["t+1", "t+2"], "horizon": True, "units": "kWh"}
    problem = problem_of({"data": data})
    assert problem == Problem("regression", False, (), ("t+1", "t+2"), True, "kWh")
    assert problem.with_units("error") == "error (kWh)"
    assert problem.held_out({"rows": 1200}) == "1,200 held-out rows"
    steps = Problem(per_step=True)
    assert steps.held_out({"rows": 3, "steps": 1}) == "1 held-out step"
    assert steps.held_out({}) == "the held-out steps"
    with pytest.raises(ValueError, match=r"config: data\.task is 'ranking'; allowed: "):
        problem_of({"data": {"task": "ranking"}})
