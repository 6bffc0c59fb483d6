"""Windows against a reference that walks through the rows one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlstm.data.windows import sliding_windows


def reference(
    values: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    time: np.ndarray,
    *,
    window: int,
    stride: int,
    max_gap: float,
    label: str,
    across_labels: bool,
) -> list[tuple[Any, int, list[int]]]:
    """Group, label and rows of each window."""
    of_group: dict[Any, list[int]] = defaultdict(list)
    for row, group in enumerate(groups.tolist()):
        of_group[group].append(row)
    found = []
    for group in sorted(of_group):
        runs: list[list[int]] = []
        for row in of_group[group]:
            if runs:
                last = runs[-1][-1]
                elapsed = time[row].item() - time[last].item()  # Python's integers have no end
                same = across_labels or labels[row] == labels[last]
                if 0 <= elapsed <= max_gap and same:
                    runs[-1].append(row)
                    continue
            runs.append([row])
        for run in runs:
            begin = 0
            while begin + window <= len(run):
                rows = run[begin : begin + window]
                if label == "last":
                    y = int(labels[rows[-1]])
                else:
                    counts = Counter(labels[rows].tolist())
                    y = min(counts, key=lambda name: (-counts[name], name))
                found.append((group, y, rows))
                begin += stride
    return found


@settings(max_examples=300)
@given(data=st.data())
def test_windows_equal_the_reference(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 60), label="rows")
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, data.draw(st.integers(1, 3)))).astype(np.float32)
    kinds = data.draw(st.integers(1, 3))
    labels = random.integers(kinds, size=rows).astype(data.draw(st.sampled_from([np.int8, int])))
    if data.draw(st.booleans()):
        labels = np.sort(labels)
    groups = random.integers(data.draw(st.integers(1, 3)), size=rows) * 7 - 3
    if data.draw(st.booleans()):
        groups = np.array([f"p{group}" for group in groups], "U4")
    steps = random.choice([0, 1, 2, 3, -5, 9], rows, p=[0.05, 0.6, 0.2, 0.05, 0.05, 0.05])
    time = np.cumsum(steps)
    if data.draw(st.booleans()):
        time = time.astype(np.float64) / 4
    elif data.draw(st.booleans()):
        time[random.random(rows) < 0.1] = random.choice([-(2**63), 2**63 - 1])
    options: dict[str, Any] = {
        "window": data.draw(st.integers(1, 8)),
        "stride": data.draw(st.integers(1, 10)),
        "max_gap": data.draw(st.sampled_from([0, 0.5, 1, 2, 4.0, np.inf])),
        "label": data.draw(st.sampled_from(["majority", "last"])),
        "across_labels": data.draw(st.booleans()),
    }
    cut = sliding_windows(values, labels, groups, time, **options)
    wanted = reference(values, labels, groups, time, **options)
    assert cut.x.shape == (len(wanted), options["window"], values.shape[1])
    assert cut.x.dtype == values.dtype
    used = np.zeros(rows, bool)
    for number, (group, y, members) in enumerate(wanted):
        np.testing.assert_array_equal(cut.x[number], values[members])
        assert (cut.groups[number], cut.y[number], cut.rows[number]) == (group, y, members[0])
        used[members] = True
    np.testing.assert_array_equal(cut.used, used)


def test_windows_are_copies() -> None:
    values = np.arange(12.0).reshape(6, 2)
    zeros = np.zeros(6, int)
    options: dict[str, Any] = {"window": 3, "stride": 1, "max_gap": 1}
    cut = sliding_windows(values, zeros, zeros, np.arange(6), **options)
    cut.x[0] = -1
    assert values.min() == 0
    assert cut.x[1].min() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be at least 1 row, got 0"),
        ({"stride": -2}, "stride must be at least 1 row, got -2"),
        ({"max_gap": -1}, "max_gap must not be negative, got -1"),
        ({"max_gap": np.nan}, "max_gap must not be negative, got nan"),
        ({"label": "first"}, "label must be 'majority' or 'last', got 'first'"),
    ],
)
def test_options_outside_their_range(options: dict[str, Any], message: str) -> None:
    zeros = np.zeros(4, int)
    with pytest.raises(ValueError, match=message):
        sliding_windows(
            np.zeros((4, 1)),
            zeros,
            zeros,
            zeros,
            **{"window": 2, "stride": 1, "max_gap": 1.0, **options},
        )
