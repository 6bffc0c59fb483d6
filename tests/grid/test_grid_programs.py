"""Programs compile once a structure, and never again."""

from __future__ import annotations

import gc
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold

from jaxlstm import GridSearch
from jaxlstm.grid import programs

BACKEND_COMPILE = "/jax/core/compile/backend_compile_duration"
_events: Counter[str] = Counter()
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: _events.update([event])
)


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    programs.clear()  # other tests, in any order, may have had the same shapes


@pytest.fixture
def backend_compiles() -> Callable[[], int]:
    """Counts what XLA compiles, JAX's own small programs included."""
    start = _events[BACKEND_COMPILE]
    return lambda: _events[BACKEND_COMPILE] - start


def compiled() -> Counter[str]:
    return Counter(programs.compilations)


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_one_training_program_a_structure_and_none_the_second_time(
    layout: str, data: Any, classifier: Any, backend_compiles: Any
) -> None:
    X, y = data
    X = X[:, : {"loop": 5, "vmap": 3}[layout], :1]
    dense = {"loop": [(), (3,)], "vmap": [()]}[layout]
    grid = {"dense": dense, "dropout": [0.0, 0.3], "optimizer": ["adam", "sgd"]}

    def run() -> GridSearch:
        search = GridSearch(classifier, grid, cv=3, random_state=0, layout=layout).fit(X, y)
        search.predict(X)
        return search

    before = compiled()
    search = run()
    new = compiled() - before
    assert search.plan_.programs == len(dense)
    # The refit is one lane, for which lanes side by side have another program.
    assert new["train"] == len(dense) + (layout == "vmap")
    assert new["init"] <= 2
    assert backend_compiles() > 0

    before, count = compiled(), backend_compiles()
    again = run()
    assert compiled() == before
    assert backend_compiles() == count
    assert again.best_index_ == search.best_index_


def test_plan_refit_and_other_numbers_compile_nothing_new(
    data: Any, classifier: Any, backend_compiles: Any
) -> None:
    X, y = data
    X = X[:, :4, :1]
    search = GridSearch(classifier, {"dropout": [0.0, 0.3]}, cv=3, random_state=0, refit=False)
    before = compiled()
    search.plan(X, y)
    assert (compiled() - before)["train"] == 1  # what the plan measured is what runs
    search.fit(X, y)
    assert (compiled() - before)["train"] == 1

    def other() -> None:
        clone(search).set_params(
            param_grid={
                "learning_rate": [0.1],
                "schedule": ["step"],
                "l2": [0.1],
                "class_weight": ["balanced"],
                "epochs": [3],
            },
            cv=KFold(4, shuffle=True, random_state=2),  # folds of another size
            refit=True,
        ).fit(X, y)

    count = backend_compiles()
    other()
    assert (compiled() - before)["train"] == 1
    clone(classifier).fit(X, y)
    assert (compiled() - before)["train"] == 1
    assert backend_compiles() == count


def test_prediction_compiles_once_a_power_of_two(
    data: Any, classifier: Any, backend_compiles: Any
) -> None:
    X, y = data
    classifier.fit(X, y)
    many = np.random.default_rng(0).normal(size=(600, 5, 2)).astype(np.float32)
    whole = classifier.predict_proba(many)
    before = compiled()
    for rows in (1, 2, 5, 7, 8, 100, 127, 128, 129, 255, 256, 257, 513):
        # A row's probabilities do not depend on the rows beside it, up to the matrix product's
        # own rounding for another number of rows.
        np.testing.assert_allclose(
            classifier.predict_proba(many[:rows]), whole[:rows], rtol=2e-6, atol=1e-7
        )
    assert (compiled() - before)["predict"] <= 8  # 1, 2, 8, ... 256: the latter is there
    before, count = compiled(), backend_compiles()
    for rows in (3, 4, 6, 65, 200, 511):
        classifier.predict_proba(many[:rows])
    assert (compiled() - before)["predict"] <= 1  # 4
    assert backend_compiles() - count <= 1


def test_matrix_precision_is_part_of_a_program(data: Any, classifier: Any) -> None:
    X, y = data
    classifier.fit(X, y)
    before = compiled()
    classifier.fit(X, y)
    assert compiled() == before
    with jax.default_matmul_precision("highest"):
        classifier.fit(X, y)
    assert (compiled() - before)["train"] == 1


def test_many_threads_compile_a_program_once() -> None:
    """And each compilation is counted."""
    before, seconds = compiled(), programs.compile_seconds()
    x = np.arange(3, dtype=np.float32)
    start = threading.Barrier(8)
    found: list[Any] = []

    def work(number: int) -> None:
        start.wait(60)
        key = ("test", number % 2)
        found.append(programs._compiled("test", key, lambda x: x * 2 + number % 2, (x,))(x))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert (compiled() - before) == {"test": 2}
    assert programs.compile_seconds() > seconds


def test_clear_forgets_programs(data: Any, classifier: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(programs, "_programs", OrderedDict())
    monkeypatch.setattr(programs, "_locks", {})
    x = np.arange(3, dtype=np.float32)
    before = compiled()
    for _ in range(2):
        programs._compiled("test", "clear", lambda x: x + 1, (x,))
    programs.clear()
    programs._compiled("test", "clear", lambda x: x + 1, (x,))
    assert (compiled() - before)["test"] == 2


def test_programs_used_longest_ago_go_when_memory_is_full(monkeypatch: Any) -> None:
    monkeypatch.setattr(programs, "_programs", OrderedDict())
    monkeypatch.setattr(programs, "_mapped", lambda: len(programs._programs) / 8)
    x = np.arange(3, dtype=np.float32)

    def run(number: int) -> Any:
        return programs._compiled("test", f"room {number}", lambda x: x + number, (x,))

    for number in range(5):
        run(number)
    run(0)  # used again: the oldest is 1 now
    for number in range(5, 12):
        np.testing.assert_array_equal(run(number)(x), x + number)
        assert len(programs._programs) <= 6
    names = [key[1] for key in programs._programs]
    assert names[-1] == "room 11"
    assert "room 1" not in names
    before = compiled()
    run(11)
    run(1)
    assert (compiled() - before)["test"] == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts pieces on Linux alone")
def test_forgotten_programs_give_their_memory_back() -> None:
    def pieces() -> float:
        gc.collect()
        return programs._mapped()

    def run(number: int) -> None:
        program = programs._compiled(
            "test",
            f"memory {number}",
            lambda x: jax.numpy.sort(jax.numpy.tanh(x @ x.T + number)) @ x,
            (np.eye(8, dtype=np.float32),),
        )
        program(np.eye(8, dtype=np.float32))

    run(0)
    start = pieces()
    for number in range(1, 9):
        run(number)
    full = pieces()
    programs.clear()
    assert 0 < start < full < 1
    assert pieces() < start + (full - start) / 4
