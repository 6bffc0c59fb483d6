"""A data set's page: its counts are the data's, its figures hold the rows, it is whole or not."""

from __future__ import annotations

import dataclasses
import gzip
import io
import itertools
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.patches
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout import check_layout
from matplotlib.figure import Figure
from rich.console import Console
from test_report_page import Page

from jaxlstm.data import SequenceData, find_duplicates, load_ts
from jaxlstm.exploration import load_named, run_exploration
from jaxlstm.report import draw
from jaxlstm.report.data_tables import (
    Exploration,
    choose_samples,
    count_classes,
    count_duplicates,
    count_people,
    explore,
    measure,
    people_in_several,
    sample_groups,
)
from jaxlstm.report.explore import save_exploration
from jaxlstm.report.explore_page import render_exploration
from jaxlstm.report.figure_counts import (
    MOST_PEOPLE,
    class_counts,
    length_histogram,
    people_map,
    target_histograms,
)
from jaxlstm.report.figure_samples import Sample, image_sheet, spectrum_sheet, trace_sheet
from jaxlstm.report.target_tables import bin_targets

LETTERS = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
STRANGE = ("<script>alert(1)</script>", "日本語", "$x^2$", "[red]a\nb", "x" * 90, " ")
ACTIVITIES = ("Walking", "Jogging", "Upstairs")


def explored(splits: dict[str, SequenceData]) -> Exploration:
    return explore(splits, find_duplicates(splits))


def make(
    rows: int = 60,
    shape: tuple[int, ...] = (6, 3),
    classes: tuple[str, ...] = ACTIVITIES,
    seed: int = 0,
    people: int = 0,
    **fields: Any,
) -> SequenceData:
    """Rows that all differ, each class with another number of them."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, len(classes) + 1) / np.arange(1, len(classes) + 1).sum()
    y = np.concatenate([np.arange(len(classes)), rng.choice(len(classes), rows, p=share)])[:rows]
    if people:
        fields["groups"] = rng.integers(1, people + 1, rows)
    x = rng.normal(size=(rows, *shape)).astype(np.float32)
    return SequenceData(x, rng.permutation(y).astype(np.int32), classes, "made", "a test", **fields)


def recordings(rows: int = 40, seed: int = 0) -> SequenceData:
    data = make(rows, (20, 32), seed=seed, people=5)
    lengths = np.random.default_rng(seed).integers(8, 21, rows)
    for row, length in enumerate(lengths):
        data.x[row, length:] = 0
    names = tuple(f"MFCC {number} (dB)" for number in range(32))
    return dataclasses.replace(data, lengths=lengths, rate=10.0, feature_names=names)


def tasks(
    task: str, per_step: bool = False, columns: int = 0, rows: int = 50, seed: int = 0
) -> SequenceData:
    """Rows of unequal length with another kind of target, and weights."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, rows)
    padding = np.arange(8) >= lengths[:, None]
    shape = (rows, 8) if per_step else (rows,)
    if task == "classification":
        y: np.ndarray = rng.choice(3, shape, p=[0.2, 0.5, 0.3]).astype(np.int32)
    elif task == "multilabel":
        y = rng.integers(0, 2, (*shape, 3)).astype(np.int32)
    else:
        y = rng.normal(3, 2, (*shape, columns) if columns else shape)
    x = rng.normal(size=(rows, 8, 2))
    x[padding] = 0
    if per_step:
        y[padding] = 0
    return SequenceData(
        x,
        y,
        () if task == "regression" else ACTIVITIES,
        "made",
        "a test",
        groups=rng.integers(1, 6, rows),
        lengths=lengths,
        weight=rng.random(rows) + 0.5,
        per_step=per_step,
    )


def row_of(data: SequenceData, values: np.ndarray) -> int:
    """The one row of the data that begins with these values."""
    same = (data.x[:, : len(values)] == values).reshape(len(data), -1).all(axis=1)
    assert same.sum() == 1
    return int(same.argmax())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


# -- tables ---------------------------------------------------------------------------------------


def test_counts_are_the_datas() -> None:
    splits = {"train": make(90, people=7), "test": make(31, seed=1, people=4)}
    table = count_classes(splits)
    assert table["split"].tolist() == ["train"] * 3 + ["test"] * 3
    for line in table.itertuples():
        data = splits[line.split]
        own = [row for row in range(len(data)) if data.labels[row] == line[2]]
        assert line.rows == len(own)
        assert line.percent == pytest.approx(100 * len(own) / len(data))
        assert line.groups == len({data.groups[row] for row in own})


def test_people_are_the_datas() -> None:
    splits = {"train": make(90, people=7), "test": make(31, seed=1, people=4)}
    people = count_people(splits)
    assert people is not None
    expected: dict[tuple[str, int, str], int] = {}
    for split, data in splits.items():
        for person, name in zip(data.groups, data.labels, strict=True):
            expected[split, person, name] = expected.get((split, person, name), 0) + 1
    found = {tuple(line[:3]): line[3] for line in people.itertuples(index=False)}
    assert found == expected
    assert sorted(people_in_several(people)) == sorted(
        set(splits["train"].groups) & set(splits["test"].groups)
    )
    assert count_people({"all": make()}) is None


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 1])), max_size=8
        ),
        min_size=1,
        max_size=3,
    )
)
def test_duplicates_are_those_of_a_slow_search(parts: list[list[tuple[int, int, int]]]) -> None:
    splits = {
        f"part{number}": SequenceData(
            np.array([[a, b] for a, b, _ in rows], np.float32).reshape(-1, 2),
            np.array([label for *_, label in rows], np.int32),
            ("no", "yes"),
            "made",
            "a test",
        )
        for number, rows in enumerate(parts)
    }
    everything = [
        (split, row, "yes" if label else "no", (a, b))
        for (split, _), rows in zip(splits.items(), parts, strict=True)
        for row, (a, b, label) in enumerate(rows)
    ]
    sets: list[list[tuple[str, int, str]]] = []
    for values in dict.fromkeys(found[3] for found in everything):
        same = [found[:3] for found in everything if found[3] == values]
        if len(same) > 1:
            sets.append(same)
    table = find_duplicates(splits)
    assert table.to_numpy().tolist() == [
        [number, *place] for number, same in enumerate(sets, 1) for place in same
    ]
    counted = count_duplicates(table, splits)
    assert counted.sets == len(sets)
    assert counted.rows == sum(map(len, sets))
    assert counted.across == sum(len({place[0] for place in same}) > 1 for same in sets)
    assert counted.conflicting == sum(len({place[2] for place in same}) > 1 for same in sets)
    for split in splits:
        twice = [same for same in sets if sum(place[0] == split for place in same) > 1]
        assert counted.within[split] == len(twice)


def test_rows_of_another_type_are_no_duplicates() -> None:
    zeros = make(2, (3,), ("a", "b"))
    parts = {
        "a": dataclasses.replace(zeros, x=np.array([[0] * 3, [1] * 3], np.float32)),
        "b": dataclasses.replace(zeros, x=np.zeros((2, 3), np.int32)),
    }
    assert find_duplicates(parts)["split"].tolist() == ["b", "b"]


def test_sizes_are_numpys() -> None:
    data = make(50, (4, 3))
    data = dataclasses.replace(
        data, x=data.x.astype(float) * 1e-2 + 1e6
    )  # a sum of squares would lose the deviation
    data.x[7, 2, 1] = np.nan
    data.x[9] = np.inf
    data.x[11] = 4.0
    size = measure(data, block=8)
    values = data.x[np.isfinite(data.x)].astype(float)
    assert (size.rows, size.shape, size.dtype) == (50, (4, 3), "float64")
    assert size.bytes == 50 * 4 * 3 * 8
    assert (size.low, size.high) == (values.min(), values.max())
    assert size.mean == pytest.approx(values.mean(), rel=1e-12)
    assert size.std == pytest.approx(values.std(), rel=1e-9)
    assert (size.broken, size.constant) == (2, 2)
    assert size.lengths is None
    assert measure(recordings()).lengths == (8, np.median(recordings().lengths), 20)


def test_sizes_leave_padding_aside() -> None:
    data = tasks("regression")
    data.x[:, :, 0] += 50
    data.x[3, : data.lengths[3]] = 7.5
    data.x[4, data.lengths[4] :] = np.nan
    size = measure(data, block=7)
    values = np.concatenate(data.as_list()).ravel()
    assert (size.low, size.high) == (values.min(), values.max())
    assert size.mean == pytest.approx(values.mean())
    assert size.std == pytest.approx(values.std())
    assert (size.constant, size.broken) == (1, 0)
    assert size.lengths == (3, np.median(data.lengths), 8)
    assert size.weights == (data.weight.min(), data.weight.max())
    steps = tasks("regression", per_step=True)
    padded = np.where(np.arange(8) < steps.lengths[:, None], steps.weight[:, None], 0)
    weighted = dataclasses.replace(steps, weight=padded)
    assert measure(weighted).weights == (steps.weight.min(), steps.weight.max())


@pytest.mark.parametrize("columns", [0, 2])
@pytest.mark.parametrize("per_step", [False, True])
def test_numbers_fall_into_their_bins(per_step: bool, columns: int) -> None:
    splits = {
        "train": tasks("regression", per_step, columns),
        "a test": tasks("regression", per_step, columns, rows=13, seed=1),
    }
    table = bin_targets(splits)
    names = [f"target {number}" for number in range(columns)] or ["target"]
    assert table["target"].unique().tolist() == names
    assert table["split"].unique().tolist() == list(splits)
    for number, name in enumerate(names):
        edges = set()
        for split, data in splits.items():
            values = []
            for row in range(len(data)):
                own = data.y[row] if not columns else data.y[row][..., number]
                values += own[: data.lengths[row]].tolist() if per_step else [float(own)]
            bins = table[(table["split"] == split) & (table["target"] == name)]
            assert bins["count"].sum() == len(values)
            for line in bins.iloc[:-1].itertuples():
                assert line.count == sum(line.low <= value < line.high for value in values)
            edges.add((*bins["low"], bins["high"].iloc[-1]))
        assert len(edges) == 1
    figure = target_histograms(table, unit="steps" if per_step else "rows")
    for axes, name in zip(figure.axes, names, strict=False):
        assert (axes.get_xlabel(), axes.get_ylabel()) == (name, "steps" if per_step else "rows")
        for (heights, _), split in zip(stairs(axes), splits, strict=True):
            own = table[(table["split"] == split) & (table["target"] == name)]
            assert heights.tolist() == own["count"].tolist()


def test_whole_numbers_have_a_bin_each() -> None:
    data = tasks("regression")
    ages = np.random.default_rng(2).integers(3, 12, 50).astype(float)
    table = bin_targets({"all": dataclasses.replace(data, y=ages)})
    for line in table.itertuples():
        assert line.high - line.low == 1
        assert line.count == (ages == (line.low + line.high) / 2).sum()
    constant = bin_targets({"all": dataclasses.replace(data, y=np.full(50, 0.25))})
    assert constant["count"].sum() == 50
    assert (constant["low"] < constant["high"]).all()


def test_steps_are_counted_without_padding() -> None:
    data = tasks("classification", per_step=True)
    table = count_classes({"all": data}).set_index("class")
    figure = class_counts(count_classes({"all": data}), unit="steps")
    for label, name in enumerate(ACTIVITIES):
        own = [(data.y[row, : data.lengths[row]] == label).sum() for row in range(len(data))]
        assert table.loc[name, "steps"] == sum(own)
        assert table.loc[name, "rows"] == sum(count > 0 for count in own)
        assert figure.axes[0].containers[0][label].get_width() == sum(own)


def test_rows_without_one_class_count_as_a_person_has_them() -> None:
    for data in (tasks("multilabel"), tasks("regression"), tasks("classification", True)):
        people = count_people({"all": data})
        assert people is not None
        assert people["class"].unique().tolist() == ["all rows"]
        assert people["rows"].sum() == len(data)


def test_samples_of_numbers_are_of_each_third() -> None:
    data = tasks("regression", rows=50)
    groups = sample_groups(data)
    assert sorted(np.concatenate([rows for _, rows in groups])) == list(range(50))
    for (_, lower), (_, higher) in itertools.pairwise(groups):
        assert data.y[lower].max() <= data.y[higher].min()
        assert abs(len(lower) - len(higher)) <= 1
    low = data.y[groups[0][1]]
    assert groups[0][0].startswith("target ")
    assert groups[0][0].endswith(f" to {low.max():.4g}")
    for (_, own), rows in zip(groups, choose_samples(data, 4), strict=True):
        assert set(rows) <= set(own)
    labels = tasks("multilabel")
    for label, (name, rows) in enumerate(sample_groups(labels)):
        assert name == ACTIVITIES[label]
        assert rows.tolist() == [row for row in range(50) if labels.y[row, label]]
    assert [len(rows) for _, rows in sample_groups(tasks("multilabel", True))] == [50]


def test_identical_rows_with_other_targets() -> None:
    data = tasks("regression", rows=6)
    data.x[4], data.x[5] = data.x[1], data.x[1]
    data.y[5] = data.y[1]
    table = find_duplicates({"all": data})
    assert table["row"].tolist() == [1, 4, 5]
    assert table["target"].tolist() == [str(value) for value in data.y[[1, 4, 5]]]
    assert count_duplicates(table, {"all": data}).conflicting == 1
    labels = tasks("multilabel", rows=4)
    labels.x[3] = labels.x[0]
    wanted = [", ".join(np.array(ACTIVITIES)[labels.y[row] == 1]) for row in (0, 3)]
    assert find_duplicates({"all": labels})["target"].tolist() == wanted
    steps = tasks("classification", True, rows=4)
    steps.x[2], steps.lengths[2], steps.lengths[0] = steps.x[0], 3, 3
    wanted = [" ".join(ACTIVITIES[label] for label in steps.y[row, :3]) for row in (0, 2)]
    assert find_duplicates({"all": steps})["target"].tolist() == wanted


def test_sizes_without_a_finite_value() -> None:
    data = make(2, (3,), ("a", "b"))
    data.x[:] = np.nan
    size = measure(data)
    assert size.broken == 2
    assert np.isnan([size.low, size.high, size.mean, size.std]).all()


def test_samples_are_of_their_class_and_of_different_people() -> None:
    data = make(200, people=6)
    chosen = choose_samples(data, 5, seed=3)
    for label, rows in enumerate(chosen):
        assert set(data.y[rows]) == {label}
        assert len(set(rows)) == 5
        assert len(set(data.groups[rows])) == min(5, len(set(data.groups[data.y == label])))
    fewer = choose_samples(data, 2, seed=3)
    assert all((rows[:2] == few).all() for rows, few in zip(chosen, fewer, strict=True))
    other = choose_samples(data, 5, seed=4)
    assert any((a != b).any() for a, b in zip(chosen, other, strict=True))


# -- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [ACTIVITIES, LETTERS])
@pytest.mark.parametrize("count", [1, 2])
def test_bars_are_the_counts(classes: tuple[str, ...], count: int) -> None:
    splits = {f"part{number}": make(400, classes=classes, seed=number) for number in range(count)}
    table = count_classes(splits)
    figure = class_counts(table)
    names: list[str] = []
    widths: dict[str, list[float]] = {split: [] for split in splits}
    for axes in figure.axes:
        names += [text.get_text() for text in axes.get_yticklabels()]
        for split, bars in zip(splits, axes.containers, strict=True):
            widths[split] += [bar.get_width() for bar in bars]
            for bar in bars:
                assert bar.get_width() <= axes.get_xlim()[1]
    assert names == list(classes)
    for split, own in widths.items():
        assert own == table.loc[table["split"] == split, "rows"].tolist()
    written = sorted(texts(figure))
    assert written == sorted(f"{line.rows:,}  {line.percent:.1f} %" for line in table.itertuples())
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert legends == (list(splits) if count > 1 else [])


def test_images_stand_upright_in_their_classs_line() -> None:
    rng = np.random.default_rng(0)
    names = ["cat", "dog", "hen"]
    images = [[rng.random((5, 7)) for _ in range(number + 1)] for number in range(3)]
    samples = [
        (name, [Sample(image, 5) for image in own]) for name, own in zip(names, images, strict=True)
    ]
    figure = image_sheet(samples)
    (axes,) = figure.axes
    sheet = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert axes.images[0].origin == "upper"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    for row, own in enumerate(images):
        for number, image in enumerate(own):
            part = sheet[6 * row : 6 * row + 5, 8 * number : 8 * number + 7]
            np.testing.assert_array_equal(part, image)
        label = axes.get_yticklabels()[row]
        assert label.get_text() == names[row]
        assert 6 * row <= label.get_position()[1] <= 6 * row + 4
    assert np.isnan(sheet[:5, 8:]).all()


def test_traces_are_the_rows_over_seconds() -> None:
    data = make(60, (40, 3), people=9)
    samples = [
        (name, [Sample(data.x[row], 40) for row in rows])
        for name, rows in zip(data.classes, choose_samples(data, 2), strict=True)
    ]
    figure = trace_sheet(samples, ("x (m/s²)", "y (m/s²)", "z (m/s²)"), 20.0)
    for place, (name, own) in enumerate(samples):
        for number, sample in enumerate(own):
            axes = figure.axes[2 * place + number]
            assert axes.get_title(loc="left") == ("" if number else name)
            assert len(axes.lines) == 3
            for feature, line in enumerate(axes.lines):
                np.testing.assert_array_equal(line.get_xdata(), np.arange(40) / 20)
                np.testing.assert_array_equal(line.get_ydata(), sample.values[:, feature])
                assert line.get_label() == "xyz"[feature]
    assert figure.get_supxlabel() == "time (s)"
    assert figure.get_supylabel() == "m/s²"
    without = trace_sheet(samples)
    assert without.get_supxlabel() == "step"
    assert [text.get_text() for text in without.legends[0].get_texts()] == [
        "feature 0",
        "feature 1",
        "feature 2",
    ]


def test_spectra_are_the_rows_without_their_padding() -> None:
    data = recordings()
    chosen = choose_samples(data, 2)
    samples = [
        (name, [Sample(data.x[row][: data.lengths[row]], 20) for row in rows])
        for name, rows in zip(data.classes, chosen, strict=True)
    ]
    figure = spectrum_sheet(samples, data.feature_names, 10.0, what="MFCC number", first=1)
    drawn = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(drawn) == 6
    limits = set()
    for image, row in zip(drawn, np.concatenate(chosen), strict=True):
        length = data.lengths[row]
        np.testing.assert_array_equal(image.get_array(), data.x[row, :length].T)
        assert image.get_extent() == pytest.approx([0, length / 10, -0.5, 31.5])
        assert image.axes.get_xlim() == (0, 2)
        limits.add(image.get_clim())
    shown = np.concatenate(
        [data.x[row, : data.lengths[row], 1:] for rows in chosen for row in rows]
    )
    assert limits == {tuple(np.percentile(shown, [1, 99]))}
    assert figure.axes[-1].get_ylabel() == "dB"


def test_a_waveform_spans_its_own_seconds() -> None:
    wave = np.sin(np.arange(3000) / 7) * np.linspace(0, 1, 3000)
    sample = Sample(np.random.default_rng(0).normal(size=(15, 9)), 20, (wave, 2000.0))
    figure = spectrum_sheet([("sung", [sample])], (), 10.0)
    above, below = figure.axes[0].child_axes
    envelope = above.collections[0].get_paths()[0].vertices
    assert envelope[:, 1].min() == wave.min()
    assert envelope[:, 1].max() == wave.max()
    assert envelope[:, 0].max() <= 1.5
    assert above.get_xlim() == below.get_xlim()


def test_people_are_coloured_by_their_rows() -> None:
    data = make(300, people=12)
    people = count_people({"all": data})
    assert people is not None
    figure = people_map(people, data.classes)
    axes = figure.axes[0]
    expected = [
        [((data.groups == person) & (data.y == label)).sum() for person in range(1, 13)]
        for label in range(3)
    ]
    np.testing.assert_array_equal(np.ma.filled(axes.images[0].get_array(), 0), expected)
    assert [text.get_text() for text in axes.get_xticklabels()] == list(map(str, range(1, 13)))
    assert [text.get_text() for text in axes.get_yticklabels()] == list(data.classes)
    assert sorted(texts(figure)) == sorted(str(n) for line in expected for n in line if n)


def test_very_many_people_are_a_histogram() -> None:
    data = make(4000, (1, 1), people=MOST_PEOPLE + 40)
    people = count_people({"all": data})
    assert people is not None
    axes = people_map(people, data.classes).axes[0]
    heights = stairs(axes)[0][0]
    assert heights.sum() == len(set(data.groups))
    assert axes.get_ylabel() == "people"


def stairs(axes: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [patch for patch in axes.patches if isinstance(patch, matplotlib.patches.StepPatch)]
    return [(patch.get_data().values, patch.get_data().edges) for patch in found]


@pytest.mark.parametrize("rate", [None, 43.07])
def test_lengths_fall_into_their_bins(rate: float | None) -> None:
    rng = np.random.default_rng(1)
    lengths = {"train": rng.integers(20, 257, 300), "test": rng.integers(5, 100, 70)}
    axes = length_histogram(lengths, rate).axes[0]
    assert axes.get_xlabel() == ("length (s)" if rate else "length (steps)")
    assert len(stairs(axes)) == 2
    for (heights, edges), own in zip(stairs(axes), lengths.values(), strict=True):
        assert len(heights) <= 41
        for height, low, high in zip(heights, edges[:-1], edges[1:], strict=True):
            assert height == sum(low < length / (rate or 1) < high for length in own)
        assert heights.sum() == len(own)


CASES: dict[str, Callable[[], dict[str, SequenceData]]] = {
    "traces": lambda: {"train": make(90, (40, 3), people=30)},
    "letters": lambda: {"all": make(300, (7, 7), LETTERS)},
    "strange": lambda: {
        "all": make(40, (5, 2), STRANGE, groups=np.array([*STRANGE, "b"] * 6)[:40])
    },
    "recordings": lambda: {"all": recordings()},
    "scalars": lambda: {"all": make(40, (1,), ("a", "b"))},
    "one row": lambda: {"all": make(1, (3, 20), ("only",), people=1)},
    "empty class": lambda: {"all": make(3, (4, 2)).take(np.array([0, 1]))},
    "empty split": lambda: {"train": make(), "test": make().take(np.arange(0))},
    "many classes": lambda: {"all": make(300, (4, 1), tuple(f"class {i}" for i in range(101)))},
    "labels": lambda: {"train": tasks("multilabel"), "test": tasks("multilabel", seed=1)},
    "numbers": lambda: {"train": tasks("regression"), "test": tasks("regression", seed=1)},
    "many numbers": lambda: {"all": tasks("regression", columns=14)},
    "one number": lambda: {"all": tasks("regression", rows=1)},
    "classes of steps": lambda: {"all": tasks("classification", per_step=True)},
    "labels of steps": lambda: {"all": tasks("multilabel", per_step=True)},
    "numbers of steps": lambda: {"all": tasks("regression", per_step=True, columns=2)},
    "empty split of numbers": lambda: {
        "train": tasks("regression"),
        "test": tasks("regression").take(np.arange(0)),
    },
    "broken": lambda: {"all": dataclasses.replace(make(9), x=np.full((9, 6, 3), np.nan))},
}
KINDS = {"letters": "image", "recordings": "audio"}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_figure_is_laid_out_well(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(folder: Path, names: Any, wide: Any, narrow: Any) -> dict[str, Any]:
        drawn.extend(figure for figure, *_ in [*wide.values(), *narrow.values()])
        raise InterruptedError

    monkeypatch.setattr("jaxlstm.report.explore.write_figures", keep)
    with pytest.raises(InterruptedError):
        save_exploration(explored(CASES[case]()), "unused", kind=KINDS.get(case, "sequence"))  # type: ignore[arg-type]
    assert len(drawn) >= 4
    for figure in drawn:
        check_layout(figure)


def letters() -> dict[str, SequenceData]:
    return {"train": make(900, (9, 9), LETTERS), "test": make(70, (9, 9), LETTERS)}


# -- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = letters()
    splits["test"].x[:4] = splits["train"].x[:4]
    splits["train"] = dataclasses.replace(
        splits["train"],
        dropped={"unreadable": 1, "blank": 24},
        skipped=tuple(f"train/{number}.png: cut off." for number in range(25)),
    )
    config = {"name": "data-x", "title": "Data: x", "command": "jaxlstm data x --seed 0"}
    return save_exploration(
        explored(splits), tmp_path_factory.mktemp("page"), kind="image", config=config
    )


def test_the_page_has_every_class_and_count(saved: Path) -> None:
    words = Page(saved.read_text(encoding="utf-8")).words
    splits = letters()
    for number, name in enumerate(LETTERS):
        cells = [name]
        for data in splits.values():
            count = int((data.y == number).sum())
            cells += [f"{count:,}", f"{100 * count / len(data):.1f}"]
        assert " ".join(cells) in words
    assert "all 900 100.0 70 100.0" in words
    for part in (
        "970 rows of 62 classes (train 900, test 70), each 9 × 9 values.",
        "sets of identical rows 4",
        "sets with rows in several splits 4",
        "unreadable 1 0 blank 24 0",
        "train/19.png: cut off. and 5 more, in data.json.",
        "source a test",
        f"sha256 of train {splits['train'].sha256}",
        "$ jaxlstm data x --seed 0",
        "counts.csv, duplicates.csv and data.json",
    ):
        assert part in words, part
    assert "train/20.png" not in words


def test_the_page_fetches_nothing_and_its_links_lead_somewhere(saved: Path) -> None:
    html = saved.read_text(encoding="utf-8")
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert not {"script", "iframe", "object", "embed", "base"} & set(tags)
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert "url(" not in html
    links = [attributes["href"][1:] for tag, attributes in page.elements if tag == "a"]
    assert links == [attributes["id"] for _, attributes in page.elements if "id" in attributes]


def test_the_files_hold_the_figures_numbers(saved: Path) -> None:
    folder = saved.parent
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    figures = [
        f"figures/{name}.{kind}"
        for name in ("class_counts", "samples_test", "samples_train")
        for kind in ("png", "svg")
    ]
    assert names == sorted(["counts.csv", "data.json", "duplicates.csv", "report.html", *figures])
    counts = pd.read_csv(folder / "counts.csv", keep_default_na=False, dtype={"class": str})
    for split, data in letters().items():
        own = counts[counts["split"] == split]
        assert own["rows"].tolist() == np.bincount(data.y, minlength=62).tolist()
    twins = pd.read_csv(folder / "duplicates.csv")
    assert twins["set"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert len(facts["splits"]["train"]["skipped"]) == 25
    assert facts["duplicates"]["across"] == 4


def words_of(splits: dict[str, SequenceData]) -> str:
    return Page(render_exploration(explored(splits), {}, {}, ["data.json", "counts.csv"], {})).words


def test_people_and_lengths_are_told() -> None:
    data = recordings()
    parts = dict(zip(("train", "test"), data.split(0.4), strict=True))
    words = words_of(parts)
    both = len(set(parts["train"].groups) & set(parts["test"].groups))
    assert both > 1
    assert f"{both} people have rows in more than one split: 1, " in words
    assert "10 steps are a second, so a row of 20 lasts 2 s." in words
    lowest = [part.lengths.min() for part in parts.values()]
    shortest = " ".join(f"{steps} ({steps / 10:.3g} s)" for steps in lowest)
    assert f"shortest row, steps {shortest}" in words
    parts = dict(zip(("train", "test"), data.split(0.4, by="group"), strict=True))
    assert "Nobody has rows in more than one split." in words_of(parts)
    assert "person" not in words_of({"all": make()})


def test_numbers_are_told(tmp_path: Path) -> None:
    splits = {"train": tasks("regression"), "test": tasks("regression", rows=13, seed=1)}
    page = save_exploration(explored(splits), tmp_path)
    words = Page(page.read_text(encoding="utf-8")).words
    assert "63 rows with 1 number to predict (train 50, test 13) from 5 people" in words
    assert "each 3 to 8 steps of 2 values." in words
    for split, data in splits.items():
        y = data.y
        assert f"target, {split} {len(y)} {y.mean():.4g}" in words
    assert "Rows drawn at random (seed 0) from each third of the target" in words
    names = {path.name for path in tmp_path.rglob("*.*")}
    assert {"targets.csv", "targets.png", "lengths.png", "people.png"} <= names
    assert not {"counts.csv", "class_counts.png"} & names
    table = pd.read_csv(tmp_path / "targets.csv")
    pd.testing.assert_frame_equal(table, bin_targets(splits))
    facts = json.loads((tmp_path / "data.json").read_text(encoding="utf-8"))["splits"]["test"]
    assert (facts["task"], facts["per_step"]) == ("regression", False)
    assert facts["targets"][0]["mean"] == pytest.approx(splits["test"].y.mean())
    save_exploration(explored({"all": make()}), tmp_path)
    names = {path.name for path in tmp_path.rglob("*.*")}
    assert not {"targets.csv", "targets.png", "targets.svg"} & names


def test_labels_and_steps_are_told() -> None:
    words = words_of({"all": tasks("multilabel")})
    assert "50 rows with any of 3 labels from 5 people" in words
    assert "A row may have several labels, or none." in words
    assert "Guessing" not in words
    data = tasks("classification", per_step=True)
    words = words_of({"all": data})
    assert "50 rows with one of 3 classes at each step, from 5 people" in words
    counts = [
        int((data.y == label)[np.arange(8) < data.lengths[:, None]].sum()) for label in range(3)
    ]
    best = int(np.argmax(counts))
    share = 100 * counts[best] / data.lengths.sum()
    assert (
        f"Guessing {ACTIVITIES[best]} every time would be right for {share:.1f} % of the steps"
        in words
    )
    assert f"all {data.lengths.sum()} 100.0 50 5" in words
    words = words_of({"all": tasks("regression", True, 2)})
    assert "50 rows with 2 numbers to predict at each step, from 5 people" in words
    assert "one for each step that is not padding" in words


def test_a_ts_file_has_its_page(tmp_path: Path) -> None:
    path = tmp_path / "walks_TRAIN.ts"
    path.write_text("@targetLabel true\n@data\n1,2,3:4,5,6:0.5\n7,?:8,9:-2\n1:2:3.25\n")
    console = Console(file=io.StringIO(), width=120)
    page = run_exploration(
        str(path), options={"missing": "interpolate"}, results=tmp_path, console=console
    )
    assert page == tmp_path / "data-walks_TRAIN" / "report.html"
    words = Page(page.read_text(encoding="utf-8")).words.replace(" ,", ",")
    assert "3 rows with 1 number to predict, each 1 to 3 steps of 2 values." in words
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Numbers to predict" in printed
    assert "1 to 3" in printed
    numbers = "│ target │    3 │ 0.5833 │ 2.144 │  -2 │ 3.25 │"
    assert numbers in printed
    facts = json.loads((page.parent / "data.json").read_text(encoding="utf-8"))["splits"]["all"]
    assert facts["sha256"] == load_ts(path, missing="interpolate").sha256
    packed = tmp_path / "walks.ts.gz"
    packed.write_bytes(gzip.compress(b"@classLabel true a b\n@data\n1,2:a\n3:b\n"))
    assert load_named(str(packed), None, {}).splits["all"].labels.tolist() == ["a", "b"]


def test_splits_of_several_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="of the same kind, got regression in a, multilabel in b"):
        explored({"a": tasks("regression"), "b": tasks("multilabel")})


def test_other_data_take_nothing_over(tmp_path: Path) -> None:
    page = save_exploration(explored({"all": recordings()}), tmp_path, kind="audio", samples=1)
    assert "the recordings are not at hand" in page.read_text(encoding="utf-8")
    extra = {"people.csv", "people.png", "people.svg", "lengths.png", "lengths.svg"}
    assert extra < {path.name for path in tmp_path.rglob("*.*")}
    (tmp_path / "figures" / "samples_train.svg").touch()
    save_exploration(explored({"all": make()}), tmp_path, kind="image")
    names = {path.name for path in tmp_path.rglob("*.*")}
    assert not (extra | {"samples_train.svg"}) & names


def test_waveforms_are_asked_for_once_and_shown(tmp_path: Path) -> None:
    asked: list[tuple[str, list[int]]] = []

    def waves(split: str, rows: Any) -> dict[int, tuple[np.ndarray, float]]:
        asked.append((split, list(rows)))
        return {row: (np.sin(np.arange(900.0)), 1000.0) for row in rows}

    data = recordings()
    found = explored({"all": data})
    page = save_exploration(found, tmp_path, kind="audio", samples=1, waves=waves)
    chosen = [int(row) for rows in choose_samples(data, 1) for row in rows]
    assert asked == [("all", chosen)]
    assert "the waveform they come from" in page.read_text(encoding="utf-8")


def test_the_names_of_the_data_are_escaped(tmp_path: Path) -> None:
    data = CASES["strange"]()["all"]
    data = dataclasses.replace(
        data,
        source="<b>bold</b>",
        dropped={"<i>why": 2},
        skipped=("<img src=x onerror=alert(1)>: broken.",),
        feature_names=("<u>", "a (\N{DEGREE SIGN})"),
    )
    page = save_exploration(explored({"<p>": data, "../up": data}), tmp_path, kind="image")
    html = page.read_text(encoding="utf-8")
    found = Page(html)
    assert not {"script", "u"} & {tag for tag, _ in found.elements}
    assert not any("onerror" in attributes for _, attributes in found.elements)
    for text in (*STRANGE[:3], "<i>why", "<p>", "../up", "<b>bold</b>"):
        assert text in found.words
    assert {path.parent.name for path in tmp_path.rglob("*.png")} == {"figures"}
    assert list(tmp_path.parent.glob("up*")) == []


@pytest.mark.parametrize("step", ["figure_bytes", "write_atomic"])
def test_a_failure_leaves_the_earlier_page(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_exploration(explored({"all": make()}), tmp_path, kind="image")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}

    def fail(*arguments: Any) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(draw, step, fail)
    with pytest.raises(OSError, match="no space"):
        save_exploration(explored({"all": make(seed=1)}), tmp_path, kind="image")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_the_same_data_give_the_same_page(tmp_path: Path) -> None:
    found = explored({"all": make()})
    pages = [
        save_exploration(found, tmp_path / str(number), kind="image", seed=seed).read_bytes()
        for number, seed in enumerate([0, 0, 1])
    ]
    assert pages[0] == pages[1] != pages[2]


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples must be 1 or more, got 0"):
        save_exploration(explored({"all": make()}), tmp_path, samples=0)
    with pytest.raises(ValueError, match="no rows"):
        explored({"all": make().take(np.arange(0))})
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/x cannot be written"):
        save_exploration(explored({"all": make()}), tmp_path / "file" / "x")
