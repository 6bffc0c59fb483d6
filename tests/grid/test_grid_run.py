"""How a run hands out its chunks, what it tells while it goes on, and how it ends on an error."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm import GridSearch
from jaxlstm.grid import run as running
from jaxlstm.grid.groups import Lane
from jaxlstm.grid.plan import Chunk, make_plan
from jaxlstm.grid.progress import LiveProgress
from jaxlstm.grid.run import _Queue, execute


def problem_of(search: GridSearch, X: Any, y: Any) -> Any:
    candidates = search._candidates()
    return search._problem(search._prepare(X, y, None, candidates), candidates)


def chunk_of(group: int, index: int) -> Chunk:
    return Chunk(group, (Lane((index,)),))


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
    lambda groups: [chunk_of(group, index) for index, group in enumerate(groups)]
)


@given(CHUNKS, st.integers(1, 4))
def test_queue_hands_out_every_chunk_once(chunks: list[Chunk], workers: int) -> None:
    taken = drain(chunks, workers)
    places = [chunk.lanes[0].trials for chunk in taken]
    assert sorted(places) == [chunk.lanes[0].trials for chunk in chunks]


@given(CHUNKS, st.integers(1, 4), st.integers(0, 3))
def test_queue_stops_when_a_worker_does(chunks: list[Chunk], workers: int, broken: int) -> None:
    taken = drain(chunks, workers, broken)
    assert len({chunk.lanes for chunk in taken}) == len(taken)
    if any(chunk.group == broken for chunk in chunks):
        assert any(chunk.group == broken for chunk in taken)


def test_queue_begins_each_program_first_then_the_longest_that_is_ready() -> None:
    a0, a1, b0, b1 = chunk_of(0, 0), chunk_of(0, 1), chunk_of(1, 2), chunk_of(1, 3)
    queue = _Queue((a0, a1, b0, b1))
    assert queue.take() is a0
    assert queue.take() is b0  # not a1: group 0 still compiles
    queue.is_ready(1)
    assert queue.take() is b1
    queue.is_ready(0)
    assert queue.take() is a1
    assert queue.take() is None


def test_queue_ends_programs_before_it_begins_more_than_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "MOST_OPEN", 2)
    chunks = tuple(chunk_of(group, 2 * group + place) for group in range(3) for place in range(2))
    queue = _Queue(chunks)
    taken = []
    for _ in chunks:
        chunk = queue.take()
        assert chunk is not None
        taken.append(chunk.group)
        queue.is_ready(chunk.group)
    assert taken == [0, 1, 0, 2, 1, 2]
    assert queue.take() is None


class Watch:
    """What a run reports, and what was still running when it stopped."""

    def __init__(self, stop_after: int | None = None):
        self.epochs: list[int] = []
        self.done: list[Any] = []
        self.stop_after = stop_after
        self.threads: set[int] = set()

    def epoch(self, trial: int, curves: Any) -> None:
        self.threads.add(threading.get_ident())
        self.epochs.append(trial)
        if self.stop_after is not None and len(self.epochs) >= self.stop_after:
            raise RuntimeError("the display broke")

    def finished(self, outcome: Any) -> None:
        self.done.append(dataclasses.replace(outcome))


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_progress_is_told_every_epoch_and_fit(layout: str, data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"epochs": [1, 2, 3], "l2": [0.0, 0.1]}, cv=3)
    problem = problem_of(search, X, y)
    watch = Watch()
    outcomes = execute(make_plan(problem, layout=layout, n_jobs=2), problem, progress=watch)
    assert [outcome.trial for outcome in outcomes] == list(range(18))
    for trial in problem.trials:  # a run that several share is told as its longest trial's
        told = 3 if trial.network.epochs == 3 else 0
        assert watch.epochs.count(trial.index) == told
        assert outcomes[trial.index].epochs == trial.network.epochs
    assert sorted(outcome.trial for outcome in watch.done) == list(range(18))
    assert threading.get_ident() not in watch.threads


def test_weights_are_dropped_once_a_lane_is_scored(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"dropout": [0.0, 0.2]}, cv=2)
    problem = problem_of(search, X, y)
    plan = make_plan(problem, measure=False)
    kept = execute(plan, problem)
    assert all(outcome.params is not None for outcome in kept)
    seen: list[Any] = []
    dropped = execute(
        plan,
        problem,
        on_finish=lambda trial, outcome: seen.append(outcome.params) or trial.index,
    )
    assert all(params is not None for params in seen)
    assert all(outcome.params is None for outcome in dropped)
    assert [outcome.scores for outcome in dropped] == [0, 1, 2, 3]
    some = execute(plan, problem, needs_weights=lambda trial: trial.index == 2)
    assert [outcome.params is not None for outcome in some] == [False, False, True, False]


def test_an_error_in_a_worker_ends_the_run(data: Any, classifier: Any) -> None:
    X, y = data
    search = GridSearch(classifier, {"l2": [0.0, 0.1, 0.2], "epochs": [50]}, cv=3)
    problem = problem_of(search, X, y)
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
    problem = problem_of(GridSearch(classifier, grid, cv=3), X, y)
    plan = make_plan(problem, layout=layout, n_jobs=2)
    text = io.StringIO()
    with LiveProgress(plan, problem, Console(file=text, width=160)) as progress:
        outcomes = execute(plan, problem, progress=progress)
    best = max(
        np.mean([outcomes[3 * cell + fold].curves["val_accuracy"][-1] for fold in range(3)])
        for cell in range(2)
    )
    assert f"fits 9/9, epochs 21/21, best {best:.4f}" in text.getvalue()
    assert "100%" in text.getvalue()
