"""Programs compile once a structure, and never again."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold

from jaxlstm import FlaxClassifier, GridSearch
from jaxlstm.grid import base, program_cache
from jaxlstm.grid import run as running
from jaxlstm.nn import MLP

BACKEND_COMPILE = "/jax/core/compile/backend_compile_duration"
_events: Counter[str] = Counter()
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: _events.update([event])
)


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    program_cache.clear()  # other tests, in any order, may have had the same shapes


@pytest.fixture
def backend_compiles() -> Callable[[], int]:
    """Counts what XLA compiles, JAX's own small programs included."""
    start = _events[BACKEND_COMPILE]
    return lambda: _events[BACKEND_COMPILE] - start


def compiled() -> Counter[str]:
    return Counter(program_cache.compilations)


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
    before, seconds = compiled(), program_cache.compile_seconds()
    x = np.arange(3, dtype=np.float32)
    start = threading.Barrier(8)
    found: list[Any] = []

    def work(number: int) -> None:
        start.wait(60)
        key = ("test", number % 2)
        found.append(program_cache.compiled("test", key, lambda x: x * 2 + number % 2, (x,))(x))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert (compiled() - before) == {"test": 2}
    assert program_cache.compile_seconds() > seconds


def test_clear_forgets_programs(data: Any, classifier: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(program_cache, "_held", OrderedDict())
    x = np.arange(3, dtype=np.float32)
    before = compiled()
    for _ in range(2):
        program_cache.compiled("test", "clear", lambda x: x + 1, (x,))
    program_cache.clear()
    program_cache.compiled("test", "clear", lambda x: x + 1, (x,))
    assert (compiled() - before)["test"] == 2


def test_programs_used_longest_ago_go_when_memory_is_full(monkeypatch: Any) -> None:
    monkeypatch.setattr(program_cache, "_held", OrderedDict())
    monkeypatch.setattr(program_cache, "_mapped", lambda: len(program_cache._held) / 8)
    x = np.arange(3, dtype=np.float32)

    def run(number: int) -> Any:
        return program_cache.compiled("test", f"room {number}", lambda x: x + number, (x,))

    for number in range(5):
        run(number)
    run(0)  # used again: the oldest is 1 now
    for number in range(5, 12):
        np.testing.assert_array_equal(run(number)(x), x + number)
        assert len(program_cache._held) <= 6
    names = [key[1] for key in program_cache._held]
    assert names[-1] == "room 11"
    assert "room 1" not in names
    before = compiled()
    run(11)
    run(1)
    assert (compiled() - before)["test"] == 1


def test_programs_used_longest_ago_go_when_their_bytes_are_many(monkeypatch: Any) -> None:
    x = np.arange(3, dtype=np.float32)

    def run(number: int) -> None:
        program = program_cache.compiled(
            "test", f"bytes {number}", lambda x: jax.numpy.sort(x) + (number + 1), (x,)
        )
        np.testing.assert_array_equal(program(x), x + number + 1)

    def held() -> list[int]:
        return [int(key[1].split()[1]) for key in program_cache._held]

    run(0)
    (first,) = program_cache._held.values()
    assert first.nbytes > 0
    monkeypatch.setattr(program_cache, "MOST_BYTES", int(4.5 * first.nbytes))
    before = compiled()
    for number in range(1, 12):
        run(number)
        assert sum(one.nbytes for one in program_cache._held.values()) <= 4.5 * first.nbytes
    assert held() == [8, 9, 10, 11]
    assert program_cache._compiling == {}  # nor do locks pile up
    assert (compiled() - before)["test"] == 11
    for _ in range(3):  # whoever goes to and fro among a few compiles nothing
        for number in (9, 11, 8, 10):
            run(number)
    assert (compiled() - before)["test"] == 11
    assert program_cache.memory_of("test", "bytes 0", (x,)) is not None  # known for good
    monkeypatch.setattr(program_cache, "MOST_BYTES", 1)  # one that is too large stays while it runs
    run(12)
    run(12)
    assert held() == [12]
    assert (compiled() - before)["test"] == 12


def test_a_search_of_more_structures_than_memory_holds_compiles_each_once(
    data: Any, monkeypatch: Any
) -> None:
    """And reports the memory of all."""
    X, y = data
    options: Any = {"cv": 2, "random_state": 0, "layout": "loop", "n_jobs": 1, "refit": False}

    def fitted(widths: range) -> GridSearch:
        network = FlaxClassifier(MLP(classes=3), epochs=1, batch_size=8)
        grid = {"module__units": [(width,) for width in widths]}
        return GridSearch(network, grid, **options).fit(X[:, 0], y)

    fitted(range(1, 2))
    taken = sum(one.nbytes for one in program_cache._held.values())
    monkeypatch.setattr(running, "MOST_OPEN", 1)
    monkeypatch.setattr(program_cache, "MOST_BYTES", int(1.5 * taken))
    before = compiled()
    search = fitted(range(2, 5))
    assert (compiled() - before)["train"] == 3
    assert all(group.bytes > 0 for group in search.plan_.groups)


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_compiling_is_a_time_of_its_own(layout: str, data: Any, monkeypatch: Any) -> None:
    """By a clock on which every program takes a thousand seconds more: fits and scores do not."""
    X, y = data
    compile_one, offset = program_cache._compile, [0.0]

    def slowly(*args: Any) -> Any:
        program = compile_one(*args)
        offset[0] += 1000
        program_cache._seconds[args[0]] += 1000
        return program

    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + offset[0])
    monkeypatch.setattr(program_cache, "_compile", slowly)
    monkeypatch.setattr(program_cache, "_seconds", dict(program_cache._seconds))
    monkeypatch.setattr(program_cache, "time", clock)
    monkeypatch.setattr(base, "time", clock)
    before = compiled()
    search = GridSearch(
        FlaxClassifier(MLP(classes=3), batch_size=8),
        {"module__units": [(1,), (2,)], "epochs": [1, 2]},
        scoring=lambda estimator, X, y: float((estimator.predict(X) == y).mean()),
        **{"cv": 2, "random_state": 0, "layout": layout, "n_jobs": 1},
    )
    search.fit(X[:, 0], y)
    new = compiled() - before
    planned, refitted = (search.plan_.programs, 1) if layout == "vmap" else (0, 0)
    assert new["train"] == search.plan_.programs + refitted
    table = search.results_
    assert table["fit_seconds"].between(1e-6, 900).all()
    for name in ("mean_fit_time", "std_fit_time", "mean_score_time"):
        assert (search.cv_results_[name] < 900).all(), name
    assert search.refit_time_ < 900
    # Every program has made somebody wait; epochs 1 and 2 are one run, whose first fit did.
    total = sum(new.values())
    assert search.compile_time_ / 1000 == pytest.approx(total, abs=0.5)
    waited = table.groupby("epochs")["compile_seconds"].sum() / 1000
    assert waited.sum() == pytest.approx(total - planned - refitted, abs=0.5)
    assert waited[1] > waited[2] - 1e-3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory on Linux alone")
def test_three_hundred_structures_take_less_than_one_and_a_half_gigabytes() -> None:
    script = """
import numpy as np
from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier
from jaxlstm.nn import MLP

X = np.random.default_rng(0).normal(size=(12, 4, 1)).astype("f4")
y = (X[:, 0, 0] > 0).astype(int)
y[:2] = 0, 1
options = {"epochs": 1, "batch_size": 4, "random_state": 0}
grid = {"module__units": [(width,) for width in range(1, 291)]}
search = GridSearch(FlaxClassifier(MLP(classes=2), **options), grid, cv=2, refit=False, n_jobs=2)
search.fit(X[:, :, 0], y)
for units in range(1, 11):
    LSTMClassifier(units=units, **options).fit(X, y).predict(X)
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=3600
    )
    assert int(ran.stdout) < 1_500_000  # kB at most at any time


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts pieces on Linux alone")
def test_forgotten_programs_give_their_memory_back() -> None:
    def pieces() -> float:
        gc.collect()
        return program_cache._mapped()

    def run(number: int) -> None:
        program = program_cache.compiled(
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
    program_cache.clear()
    assert 0 < start < full < 1
    assert pieces() < start + (full - start) / 4
