"""A process forked from one that has used JAX says so instead of hanging; others train."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone

from jaxlstm import FlaxClassifier, GridSearch, find_learning_rate
from jaxlstm.nn import MLP

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks on Unix alone")

MESSAGE = r"forked from one in which JAX had already run.*'spawn'.*'loky'"


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, Any, Any]:
    X = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    y = np.arange(12) % 2
    return FlaxClassifier(MLP(classes=2), epochs=1, random_state=0).fit(X, y), X, y


def calls(classifier: Any, X: Any, y: Any) -> dict[str, Callable[[], Any]]:
    new = clone(classifier)
    search = GridSearch(new, {"learning_rate": [0.1]}, cv=2)
    return {
        "fit": lambda: new.fit(X, y),
        "partial_fit": lambda: new.partial_fit(X, y),
        "predict": lambda: classifier.predict(X),
        "predict_proba": lambda: classifier.predict_proba(X),
        "score": lambda: classifier.score(X, y),
        "apply": lambda: classifier.apply(X),
        "decision_function": lambda: classifier.decision_function(X),
        "input_gradients": lambda: classifier.input_gradients(X),
        "search": lambda: search.fit(X, y),
        "plan": lambda: search.plan(X, y),
        "plan unmeasured": lambda: search.plan(X, y, measure=False),
        "find_learning_rate": lambda: find_learning_rate(new, X, y),
    }


def _said(call: Callable[[], Any]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "ran"


def test_everything_says_that_the_process_was_forked(fitted: Any) -> None:
    by_name = calls(*fitted)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child() -> None:
        there.send({name: _said(call) for name, call in by_name.items()})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of forks themselves
        process = context.Process(target=child)
        process.start()
    try:
        assert here.poll(120), "the child hangs"
        said = here.recv()
    finally:
        process.kill()
        process.join()
    assert said.keys() == by_name.keys()
    for name, words in said.items():
        assert re.search(MESSAGE, words), name
    assert calls(*fitted)["predict"]() is not None  # the parent goes on


def test_joblib_s_forks_raise_it_here(fitted: Any) -> None:
    classifier, X, _ = fitted
    pool = Parallel(n_jobs=2, backend="multiprocessing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=MESSAGE):
            pool(delayed(classifier.predict)(X) for _ in range(2))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_before_jax_ran_or_of_their_own_train(start: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing
import numpy as np
from jaxlstm import FlaxClassifier
from jaxlstm.nn import MLP

def train(seed):
    X = np.random.default_rng(0).normal(size=(12, 2)).astype("f4")
    model = FlaxClassifier(MLP(classes=2), epochs=1, random_state=seed).fit(X, np.arange(12) % 2)
    return float(model.history_["loss"][0])

if __name__ == "__main__":
    if {start!r} == "spawn":
        here = train(0)
    with multiprocessing.get_context({start!r}).Pool(1) as pool:
        print(pool.map(train, [0]) == [train(0)])
"""
    )
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=300, check=True
    )
    assert ran.stdout.split() == ["True"]
