"""What a plan says, and how memory cuts it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlstm import GridSearch
from jaxlstm.grid import measure
from jaxlstm.grid.describe import human_bytes, human_seconds
from jaxlstm.grid.machine import available_cores, resolve_workers
from jaxlstm.grid.outcome import curve_names
from jaxlstm.grid.plan import make_plan
from jaxlstm.grid.run import execute
from jaxlstm.grid.space import Fold, pad_rows


def problem_of(search: GridSearch, X: Any, y: Any) -> Any:
    candidates = search._candidates()
    return search._problem(search._prepare(X, y, None, candidates), candidates)


def test_plan_says_what_will_run(data: Any, classifier: Any) -> None:
    X, y = data
    grid = [
        {"units": [4, (5, 3)], "dropout": [0.0, 0.2]},
        {"batch_size": [16], "epochs": [1, 3]},
    ]
    search = GridSearch(classifier, grid, cv=3, n_jobs=2)
    plan = search.plan(X, y)
    lines = str(plan).splitlines()
    assert lines[0] == (
        "18 fits (6 cells x 3 folds) as 15 lanes of 3 programs, one lane at a time on each of"
        " 2 CPU cores"
    )
    assert lines[1].split() == [
        *("group", "network", "fits", "lanes", "at", "once", "padding", "memory")
    ]
    assert "LSTMClassifierNetwork(classes=3, units=(4,)), batch 8 " in lines[2]
    assert "units=(5, 3)), batch 8 " in lines[3]
    assert "units=(4,)), batch 16, epochs 1, 3 in one run " in lines[4]
    assert [line.split()[-6:-3] for line in lines[2:5]] == [
        ["6", "6", "1"],
        ["6", "6", "1"],
        ["6", "3", "1"],
    ]
    # Two folds of 17 rows and one of 18, in batches of 8 and of 16.
    shares = [1 - 52 / (3 * 24), 1 - 52 / (3 * 24), 1 - 52 / (3 * 32)]
    assert [group.padding for group in plan.groups] == pytest.approx(shares)
    assert [line.split()[-3] for line in lines[2:5]] == [f"{share:.0%}" for share in shares]
    assert plan.padding == pytest.approx((12 * shares[0] + 3 * shares[2]) / 15)
    assert all(line.endswith("kB") for line in lines[2:5])
    assert plan.data_bytes == X.nbytes + 4 * len(y)
    assert lines[5].startswith("memory: ")
    assert f"{human_bytes(plan.data_bytes)} of it the data" in lines[5]
    assert lines[6] == f"time: about {human_seconds(plan.seconds)} of training, as timed just now"
    assert (plan.fits, plan.cells, plan.folds, plan.lanes, plan.programs) == (18, 6, 3, 15, 3)
    assert plan.workers == 2
    largest = max(group.bytes for group in plan.groups)
    assert plan.bytes == plan.data_bytes + 2 * largest

    facts = plan.to_dict()
    assert (facts["fits"], facts["lanes"], facts["programs"]) == (18, 15, 3)
    assert [group["fits"] for group in facts["groups"]] == [6, 6, 6]
    assert [group["lanes"] for group in facts["groups"]] == [6, 6, 3]
    assert facts["layout"] == "one lane at a time"
    assert facts["estimated_seconds"] == plan.seconds
    assert facts["padding"] == plan.padding
    json.dumps(facts)

    unmeasured = search.plan(X, y, measure=False)
    assert str(unmeasured).count("not measured") == 3
    assert unmeasured.seconds is None
    assert "time:" not in str(unmeasured)
    one = str(GridSearch(classifier, {"l2": [0]}, cv=2, n_jobs=1).plan(X, y))
    assert one.startswith(
        "2 fits (1 cell x 2 folds) as 2 lanes of 1 program, one lane at a time on 1 CPU core\n"
    )
    side = str(GridSearch(classifier, {"l2": [0]}, cv=2, layout="vmap").plan(X, y, measure=False))
    assert "lanes side by side on 1 x cpu" in side
    seeds = GridSearch(classifier, {"l2": [0]}, cv=2, n_seeds=3).plan(X, y, measure=False)
    assert str(seeds).startswith("6 fits (1 cell x 2 folds x 3 seeds) as 6 lanes of 1 program")


@pytest.mark.parametrize("layout", ["loop", "vmap"])
def test_time_is_estimated_from_timed_micro_batches(
    layout: str, data: Any, classifier: Any
) -> None:
    """In proportion to the epochs, which is what can be said without a clock."""
    X, y = data
    problem = problem_of(GridSearch(classifier, {"epochs": [40], "l2": [0, 0.1]}, cv=3), X, y)
    plan = make_plan(problem, layout=layout, n_jobs=1)
    assert all(0 < group.seconds < 60 for group in plan.groups)
    assert 0 < plan.seconds < 3600
    (group,) = plan.groups
    folds = [(len(fold.train), len(fold.validation)) for fold in problem.folds]
    walks = [40 * 3 for _ in folds]  # 17 or 18 rows in batches of 8
    validation = [round(40 * rows / 8 / 3) for _, rows in folds]
    wanted = 2 * (sum(walks) + sum(validation)) / group.slots
    assert plan.seconds == pytest.approx(group.seconds * max(wanted, max(walks)))


def test_a_clock_that_stands_still_gives_no_time_of_0(
    data: Any, classifier: Any, monkeypatch: Any
) -> None:
    """Noise may make five micro-batches look shorter than one."""
    X, y = data
    ticks = iter(np.cumsum([0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3]).tolist())
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(ticks))
    search = GridSearch(classifier, {"l2": [0]}, cv=2)
    assert make_plan(problem_of(search, X, y)).groups[0].seconds > 0


def test_memory_caps_the_lanes_of_a_program(data: Any, classifier: Any, x64: None) -> None:
    X, y = data
    grid = {"dropout": [0.0, 0.2, 0.4], "l2": [0.0, 0.1], "epochs": [1, 2]}
    search = GridSearch(classifier, grid, cv=3, random_state=0)
    problem = problem_of(search, X.astype(float), y)
    free = make_plan(problem, layout="vmap")
    assert (free.fits, free.lanes, free.groups[0].slots) == (36, 18, 18)
    limit = free.data_bytes + free.groups[0].bytes // 2
    capped = make_plan(problem, layout="vmap", memory_limit=limit)
    assert capped.bytes <= limit
    assert 1 < capped.groups[0].slots < 18
    for plan in (free, capped):  # lanes that find no slot wait for one
        (chunk,) = plan.chunks
        assert sorted(t for lane in chunk.lanes for t in lane.trials) == list(range(36))

    for one, other in zip(execute(free, problem), execute(capped, problem), strict=True):
        assert one.trial == other.trial
        for name in curve_names(problem.task):
            np.testing.assert_allclose(one.curves[name], other.curves[name], rtol=1e-11)
        for name in ("kernel", "bias"):
            np.testing.assert_allclose(
                one.params["logits"][name], other.params["logits"][name], rtol=1e-9, atol=1e-12
            )
    with pytest.raises(ValueError, match=r"one lane of LSTMClassifierNetwork needs .* kB beside"):
        make_plan(problem, layout="vmap", memory_limit=free.data_bytes + 1)
    with pytest.raises(ValueError, match="more than the 5 B at hand"):
        make_plan(problem, layout="vmap", memory_limit=5)


@pytest.mark.parametrize("layout", ["auto", "loop", "stream"])
@pytest.mark.parametrize("limit", [1, 100])
def test_a_limit_below_one_lane_is_refused_with_the_least_that_does(
    layout: str, limit: int, data: Any, classifier: Any
) -> None:
    X, y = data
    search = GridSearch(classifier, {"dropout": [0.0, 0.2]}, cv=3, memory_limit=limit)
    search.layout = layout
    with pytest.raises(ValueError, match=rf"memory_limit={limit} is less than one lane") as caught:
        search.plan(X, y, measure=False)
    found = re.search(r"give (\d+) bytes \(\d.* at the least", str(caught.value))
    assert found
    least = int(found[1])
    assert least >= (0 if layout == "stream" else X.nbytes)
    again = search.set_params(memory_limit=least)
    if layout != "auto":  # that may then have to stream, in chunks larger than these data
        assert again.plan(X, y, measure=False).layout == layout
    with pytest.raises(ValueError, match="is less than one lane"):
        search.set_params(memory_limit=least - 1).plan(X, y, measure=False)


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (100, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (3660, "1 h 1 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_human_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@given(st.floats(0, 1e7))
def test_human_seconds_is_near(seconds: float) -> None:
    words = human_seconds(seconds).split()
    units = {"s": 1, "min": 60, "h": 3600}
    pairs = list(zip(words[::2], words[1::2], strict=True))
    total = sum(float(number) * units[unit] for number, unit in pairs)
    step = units[pairs[-1][1]] if seconds >= 9.95 else 0.1
    assert abs(total - seconds) <= step  # minutes are cut off, seconds rounded


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
