"""What a plan says, how it is cut by memory, and how its chunks are handed out."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm import GridSearch
from jaxlstm.grid.plan import (
    Chunk,
    available_cores,
    human_bytes,
    make_plan,
    resolve_workers,
    trial_cost,
)
from jaxlstm.grid.progress import LiveProgress
from jaxlstm.grid.run import CURVES, _Queue, execute
from jaxlstm.grid.space import Fold, pad_rows


def test_plan_says_what_will_run(data: Any, classifier: Any) -> None:
    X, y = data
    grid = [
        {"units": [4, (5, 3)], "dropout": [0.0, 0.2]},
        {"batch_size": [16]},
    ]
    search = GridSearch(classifier, grid, cv=3, n_jobs=2)
    plan = search.plan(X, y)
    lines = str(plan).splitlines()
    assert lines[0] == (
        "15 fits (5 cells x 3 folds) as lanes of 3 programs, one lane at a time on each of"
        " 2 CPU cores"
    )
    assert lines[1].split() == [
        *("group", "network", "lanes", "a", "program", "programs", "memory")
    ]
    assert "LSTMClassifierNetwork(classes=3, units=(4,)), batch 8" in lines[2]
    assert "units=(5, 3)), batch 8" in lines[3]
    assert "units=(4,)), batch 16" in lines[4]
    assert [line.split()[-5] for line in lines[2:5]] == ["6", "6", "3"]
    assert all(line.endswith("kB") for line in lines[2:5])
    assert plan.data_bytes == X.nbytes + 4 * len(y)
    assert lines[5].startswith("memory: ")
    assert f"{human_bytes(plan.data_bytes)} of it the data" in lines[5]
    assert (plan.fits, plan.cells, plan.folds, plan.programs, plan.workers) == (15, 5, 3, 3, 2)
    largest = max(group.bytes for group in plan.groups)
    assert plan.bytes == plan.data_bytes + 2 * largest

    facts = plan.to_dict()
    assert facts["lanes"] == 15
    assert [group["lanes"] for group in facts["groups"]] == [6, 6, 3]
    assert facts["layout"] == "one lane at a time"
    assert sorted(t for chunk in plan.chunks for t in chunk.trials) == list(range(15))

    unmeasured = str(search.plan(X, y, measure=False))
    assert unmeasured.count("not measured") == 3
    one = str(GridSearch(classifier, {"l2": [0]}, cv=2, n_jobs=1).plan(X, y))
    assert one.startswith(
        "2 fits (1 cells x 2 folds) as lanes of 1 program, one lane at a time on 1 "
    )
    side = str(GridSearch(classifier, {"l2": [0]}, cv=2, layout="vmap").plan(X, y, measure=False))
    assert "lanes side by side on 1 x cpu" in side


def test_longest_trials_start_first(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"units": [4, 8], "epochs": [3, 1, 9]}, cv=2)
    problem = search._problem(search._prepare(X, y, None))
    plan = make_plan(problem, measure=False)
    costs = [trial_cost(problem, chunk.trials[0]) for chunk in plan.chunks]
    assert costs == sorted(costs, reverse=True)
    first = problem.trials[plan.chunks[0].trials[0]].params
    assert first == {"epochs": 9, "units": 8}


def test_memory_caps_the_lanes_of_a_program(data: Any, classifier: Any, x64: None) -> None:
    X, y = data
    grid = {"dropout": [0.0, 0.2, 0.4], "l2": [0.0, 0.1], "epochs": [1, 2]}
    search = GridSearch(classifier, grid, cv=3, random_state=0)
    problem = search._problem(search._prepare(X.astype(float), y, None))
    free = make_plan(problem, layout="vmap")
    assert [len(chunk.trials) for chunk in free.chunks] == [36]
    limit = free.data_bytes + free.groups[0].bytes // 2
    capped = make_plan(problem, layout="vmap", memory_limit=limit)
    assert capped.bytes <= limit
    assert 1 < len(capped.chunks) < 36
    assert max(len(chunk.trials) for chunk in capped.chunks) == capped.groups[0].lanes < 36
    assert sorted(t for chunk in capped.chunks for t in chunk.trials) == list(range(36))

    for one, other in zip(execute(free, problem), execute(capped, problem), strict=True):
        assert one.trial == other.trial
        for name in CURVES:
            np.testing.assert_allclose(one.curves[name], other.curves[name], rtol=1e-11)
        for name in ("kernel", "bias"):
            np.testing.assert_allclose(
                one.params["logits"][name], other.params["logits"][name], rtol=1e-9, atol=1e-12
            )
    with pytest.raises(ValueError, match=r"one lane of LSTMClassifierNetwork needs .* kB beside"):
        make_plan(problem, layout="vmap", memory_limit=free.data_bytes + 1)
    with pytest.raises(ValueError, match="more than the 5 B at hand"):
        make_plan(problem, layout="vmap", memory_limit=5)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1536, "1.5 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (10**9, "1.0 GB"),
        (999_960_000_000, "1.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@given(st.integers(0, 10**15))
def test_human_bytes_is_near(count: int) -> None:
    number, unit = human_bytes(count).split()
    factor = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert float(number) < 1000 or unit == "TB"
    assert abs(float(number) * factor - count) <= 0.0501 * factor


def test_workers() -> None:
    cores = available_cores()
    assert resolve_workers(None) == resolve_workers(-1) == cores
    assert resolve_workers(np.int64(3)) == 3
    assert resolve_workers(-cores - 5) == 1


@st.composite
def folds(draw: Any) -> tuple[int, list[Fold]]:
    size = draw(st.integers(1, 12))
    rows = st.lists(st.integers(0, size - 1), max_size=2 * size)
    pairs = draw(st.lists(st.tuples(rows, rows), min_size=1, max_size=5))
    return size, [Fold(np.array(a, np.int64), np.array(b, np.int64)) for a, b in pairs]


@given(folds())
def test_pad_rows_keeps_every_row_in_order(case: tuple[int, list[Fold]]) -> None:
    size, splits = case
    tables = pad_rows(splits, size)
    lengths = [len(part) for fold in splits for part in (fold.train, fold.validation)]
    width = max([size, *lengths])
    assert tables.train.shape == tables.validation.shape == (len(splits), width)
    assert all(table.dtype == np.int32 for table in tables)
    for number, fold in enumerate(splits):
        for table, counts, part in (
            (tables.train, tables.n_train, fold.train),
            (tables.validation, tables.n_validation, fold.validation),
        ):
            assert counts[number] == len(part)
            np.testing.assert_array_equal(table[number, : len(part)], part)
            assert not table[number, len(part) :].any()


def drain(chunks: list[Chunk], workers: int, broken: int | None = None) -> list[Chunk]:
    """Takes all chunks with some threads; checks that nobody gets one that is not ready."""
    queue = _Queue(tuple(chunks))
    lock, taken, ready, errors = threading.Lock(), [], set(), []

    def work() -> None:
        try:
            begun: set[int] = set()
            while (chunk := queue.take()) is not None:
                with lock:
                    first = chunk.group not in {other.group for other in taken}
                    assert first or chunk.group in ready, "would wait for another's program"
                    taken.append(chunk)
                    if chunk.group == broken:
                        queue.stop()
                        return
                    ready.add(chunk.group)
                begun.add(chunk.group)
                queue.is_ready(chunk.group)
        except BaseException as error:
            errors.append(error)
            queue.stop()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    return taken


CHUNKS = st.lists(st.integers(0, 3), max_size=12).map(
    lambda groups: [Chunk(group, (index,)) for index, group in enumerate(groups)]
)


@given(CHUNKS, st.integers(1, 4))
def test_queue_hands_out_every_chunk_once(chunks: list[Chunk], workers: int) -> None:
    taken = drain(chunks, workers)
    assert sorted(chunk.trials for chunk in taken) == [chunk.trials for chunk in chunks]


@given(CHUNKS, st.integers(1, 4), st.integers(0, 3))
def test_queue_stops_when_a_worker_does(chunks: list[Chunk], workers: int, broken: int) -> None:
    taken = drain(chunks, workers, broken)
    assert len({chunk.trials for chunk in taken}) == len(taken)
    if any(chunk.group == broken for chunk in chunks):
        assert any(chunk.group == broken for chunk in taken)


def test_queue_begins_each_program_first_then_the_longest_that_is_ready() -> None:
    a0, a1, b0, b1 = Chunk(0, (0,)), Chunk(0, (1,)), Chunk(1, (2,)), Chunk(1, (3,))
    queue = _Queue((a0, a1, b0, b1))
    assert queue.take() is a0
    assert queue.take() is b0  # not a1: group 0 still compiles
    queue.is_ready(1)
    assert queue.take() is b1
    queue.is_ready(0)
    assert queue.take() is a1
    assert queue.take() is None


class Watch:
    """What a run reports, and what was still running when it stopped."""

    def __init__(self, stop_after: int | None = None):
        self.epochs: list[int] = []
        self.done: list[Any] = []
        self.stop_after = stop_after
        self.threads: set[int] = set()

    def epoch(self, trial: int) -> None:
        self.threads.add(threading.get_ident())
        self.epochs.append(trial)
        if self.stop_after is not None and len(self.epochs) >= self.stop_after:
            raise RuntimeError("the display broke")

    def finished(self, outcome: Any) -> None:
        self.done.append(dataclasses.replace(outcome))


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_progress_is_told_every_epoch_and_fit(layout: str, data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"epochs": [1, 2, 3]}, cv=3)
    problem = search._problem(search._prepare(X, y, None))
    watch = Watch()
    outcomes = execute(make_plan(problem, layout=layout, n_jobs=2), problem, progress=watch)
    assert [outcome.trial for outcome in outcomes] == list(range(9))
    for trial in problem.trials:
        assert watch.epochs.count(trial.index) == trial.network.epochs
    assert sorted(outcome.trial for outcome in watch.done) == list(range(9))
    assert threading.get_ident() not in watch.threads


def test_weights_are_dropped_once_a_lane_is_scored(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"dropout": [0.0, 0.2]}, cv=2)
    problem = search._problem(search._prepare(X, y, None))
    plan = make_plan(problem, measure=False)
    kept = execute(plan, problem)
    assert all(outcome.params is not None for outcome in kept)
    seen: list[Any] = []
    dropped = execute(
        plan, problem, on_finish=lambda outcome: seen.append(outcome.params) or outcome.trial
    )
    assert all(params is not None for params in seen)
    assert all(outcome.params is None for outcome in dropped)
    assert [outcome.scores for outcome in dropped] == [0, 1, 2, 3]


def test_an_error_in_a_worker_ends_the_run(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"l2": [0.0, 0.1, 0.2], "epochs": [50]}, cv=3)
    problem = search._problem(search._prepare(X, y, None))
    watch = Watch(stop_after=5)
    with pytest.raises(RuntimeError, match="the display broke"):
        execute(make_plan(problem, n_jobs=2), problem, progress=watch)
    assert len(watch.epochs) < 20  # of 450
    assert not watch.done


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_display_counts_to_the_end(layout: str, data: Any, classifier: Any) -> None:
    import io

    from rich.console import Console

    X, y = data
    grid = [{"epochs": [2, 3]}, {"optimizer": ["sgd"], "learning_rate": [1e30], "epochs": [4]}]
    problem = _problem_of(GridSearch(classifier, grid, cv=3), X, y)
    plan = make_plan(problem, layout=layout, n_jobs=2)
    text = io.StringIO()
    with LiveProgress(plan, problem, Console(file=text, width=160)) as progress:
        outcomes = execute(plan, problem, progress=progress)
    best = max(
        np.mean([outcomes[3 * cell + fold].curves["val_accuracy"][-1] for fold in range(3)])
        for cell in range(2)
    )
    assert f"fits 9/9, epochs 27/27, best {best:.4f}" in text.getvalue()
    assert "100%" in text.getvalue()
