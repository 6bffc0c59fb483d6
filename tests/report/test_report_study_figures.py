"""A study's figures hold their numbers, and nothing in them is cut off or overlaps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from layout import check_layout
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from jaxlstm.report import (
    Run,
    architectures,
    bars,
    confusion_matrix,
    curve_panels,
    grid_map,
    image_sheet,
    saliency_sheet,
)
from jaxlstm.report.figure_saliency import _HEAT
from jaxlstm.report.figure_style import CATEGORIES, figure_bytes

STRANGE = ("<script>", "日本語", "$x^2$", "a\nb", "x" * 90)
WIDTHS = (10.0, 4.2)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def bytes_twice(draw: Callable[[], Figure]) -> None:
    assert figure_bytes(draw(), "svg") == figure_bytes(draw(), "svg")


# -- bars -----------------------------------------------------------------------------------------


def bar_table(
    groups: int = 4, series: int = 2, seed: int = 0, scale: float = 1.0, names: Any = None
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = names or [f"group {i}" for i in range(groups)]
    rows = [
        {
            "group": name,
            "series": f"series {number}",
            "value": scale * rng.uniform(0.3, 0.9),
            "std": scale * rng.uniform(0.01, 0.1),
            "paper": scale * rng.uniform(0.3, 0.9) if number == 0 else np.nan,
        }
        for name, number in itertools.product(names, range(series))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_hold_the_values(width: float) -> None:
    table = bar_table()
    table.loc[3, ["value", "std"]] = np.nan
    table.loc[4, "std"] = np.nan
    figure = bars(table, value_label="accuracy", width=width)
    axes = figure.axes[0]
    standing = width == 10.0
    parts = [part for part in axes.containers if isinstance(part, BarContainer)]
    for part, (_, own) in zip(parts, table.groupby("series"), strict=True):
        found = [bar.get_height() if standing else bar.get_width() for bar in part]
        np.testing.assert_array_equal(found, own["value"])
    spreads = [part for part in axes.containers if isinstance(part, ErrorbarContainer)]
    ends = np.concatenate([np.array(part.lines[2][0].get_segments()) for part in spreads])
    lows, highs = ends[:, 0, int(standing)], ends[:, 1, int(standing)]
    known = table.dropna(subset=["std"])
    np.testing.assert_allclose(np.sort((highs - lows) / 2), np.sort(known["std"]))
    np.testing.assert_allclose(np.sort((highs + lows) / 2), np.sort(known["value"]))
    diamonds = np.concatenate(
        [line.get_xydata()[:, int(standing)] for line in axes.lines if line.get_marker() == "D"]
    )
    np.testing.assert_array_equal(diamonds, table["paper"].dropna())
    assert sorted(texts(figure)) == sorted(
        f"{value:.4f}" if np.isfinite(value) else "–" for value in table["value"]
    )
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["series 0", "series 1", "the report"]


def test_few_bars_stand_and_many_lie() -> None:
    def lies(table: pd.DataFrame, width: float = 10.0) -> bool:
        axes = bars(table, value_label="accuracy", width=width).axes[0]
        return "group" in axes.get_yticklabels()[0].get_text()

    assert not lies(bar_table())
    assert lies(bar_table(), 4.2)
    assert lies(bar_table(groups=20))
    assert lies(bar_table(names=["group with a name that is much too long", "group 2", *"bcde"]))


def test_logarithmic_bars_begin_below_the_least() -> None:
    table = bar_table(scale=1e3).assign(std=1e3)
    table.loc[0, "value"] = 0.0
    axes = bars(table, value_label="time (s)", log=True).axes[0]
    low, high = axes.get_ylim()
    assert 0 < low < table["value"][1:].min()
    assert high > table["value"].max()
    assert axes.get_ylabel() == "time (s), logarithmic"
    heights = [bar.get_height() for part in axes.containers[:1] for bar in part]
    assert math.isnan(heights[0])


def test_limits_are_kept() -> None:
    assert bars(bar_table(), value_label="a", limit=1.0).axes[0].get_ylim()[1] == 1.0
    assert bars(bar_table(), value_label="a", limit=(0.2, 2)).axes[0].get_ylim() == (0.2, 2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "table",
    [
        bar_table(),
        bar_table(groups=1, series=1),
        bar_table(groups=14, series=3),
        bar_table(groups=30, series=5),
        bar_table(series=9),
        bar_table(names=list(STRANGE)),
        bar_table(scale=1e6),
        bar_table(scale=-1.0).assign(std=np.nan),
    ],
    ids=["few", "one", "many", "most", "series", "strange", "large", "negative"],
)
@pytest.mark.parametrize("log", [False, True])
def test_bars_fit(table: pd.DataFrame, width: float, log: bool) -> None:
    label = "time of the whole search, training and prediction (s)"
    check_layout(bars(table, value_label=label, width=width, log=log))


def test_wrong_bars_are_refused() -> None:
    with pytest.raises(ValueError, match="lacks the column 'std'"):
        bars(bar_table().drop(columns="std"), value_label="a")
    with pytest.raises(ValueError, match="two rows of the group 'group 1'"):
        bars(pd.concat([bar_table(), bar_table()[2:3]]), value_label="a")
    table = bar_table().assign(value=np.nan, paper=np.nan)
    assert "No values" in texts(bars(table, value_label="a"))


def test_the_palette_has_no_colour_twice() -> None:
    assert len(set(CATEGORIES)) == len(CATEGORIES) == 7


# -- curves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_curve_panels_are_the_trials_means(run_maker: Callable[..., Run], width: float) -> None:
    curves = run_maker(epochs=9, predictions=0).curves
    cells = {"first": 4, "second $": 11}
    figure = curve_panels(curves, cells, width=width)
    check_layout(figure)
    panels = np.array(figure.axes).reshape(2, 2)
    for (name, cell), row in zip(cells.items(), panels, strict=True):
        assert row[0].get_title(loc="left") == name.replace("$", r"\$")
        own = curves[curves["cell"] == cell]
        for axes, measure in zip(row, ("loss", "accuracy"), strict=True):
            bands = axes.collections
            for line, band, part in zip(axes.lines, bands, ("train", "val"), strict=True):
                trials = own.groupby("epoch")[f"{part}_{measure}"]
                np.testing.assert_allclose(line.get_ydata(), trials.mean())
                edge = band.get_paths()[0].vertices[:, 1]
                assert edge.min() == pytest.approx(trials.min().min())
                assert edge.max() == pytest.approx(trials.max().max())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["training", "test"]
    same = {axes.get_ylim() for axes in panels[:, 1]}
    assert len(same) == 1
    bytes_twice(lambda: curve_panels(curves, cells, width=width))


def test_curves_that_failed_or_differ_by_far(run_maker: Callable[..., Run]) -> None:
    curves = run_maker(epochs=3, predictions=0).curves
    curves.loc[curves["cell"] == 2, ["train_loss", "val_loss"]] *= 1e3
    failing = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]
    curves.loc[curves["cell"] == 3, failing] = np.nan
    figure = curve_panels(curves, {"usual": 1, "far": 2}, names=("a", "b"))
    assert figure.axes[0].get_ylim()[1] < 10 < 100 < figure.axes[2].get_ylim()[1]
    figure = curve_panels(curves, {"failed": 3})
    assert texts(figure) == ["no finite values"] * 2
    with pytest.raises(ValueError, match=r"cells\['x'\] is 99, which has no curves"):
        curve_panels(curves, {"x": 99})
    with pytest.raises(ValueError, match="cells is empty"):
        curve_panels(curves, {})


# -- confusions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 12])
def test_confusions_in_per_cent_are_scikit_learns(size: int) -> None:
    rng = np.random.default_rng(size)
    classes = [f"class {i}" for i in range(size)]
    true = rng.choice(classes, 900)
    predicted = np.where(rng.random(900) < 0.7, true, rng.choice(classes, 900))
    figure = confusion_matrix(true, predicted, classes, normalize=True)
    check_layout(figure)
    shares = sklearn.metrics.confusion_matrix(true, predicted, labels=classes, normalize="true")
    found = np.zeros((size, size))
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        found[int(y), int(x)] = float(text.get_text())
    np.testing.assert_allclose(found, 100 * shares, atol=0.0501)


def test_no_per_cent_is_0_or_100_that_is_not() -> None:
    true = ["a"] * 5000 + ["b"] * 3
    predicted = ["a"] * 4999 + ["b"] * 4
    figure = confusion_matrix(true, predicted, ["a", "b", "c"], normalize=True)
    assert sorted(texts(figure)) == sorted(["99.9", "<0.1", "100", "–"])


# -- saliency -------------------------------------------------------------------------------------


def faces(classes: int = 3, each: int = 2, side: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    shape = (classes, each, side, side + 1)
    return rng.normal(size=shape), rng.exponential(size=shape)


def test_a_saliency_sheet_holds_images_and_maps() -> None:
    images, maps = faces()
    maps[1, 0] = 0
    maps[2, 1] = 0
    maps[2, 1, 4, 4] = 7.0  # its 99th percentile is 0
    sheet = np.asarray(saliency_sheet(images, maps, list("abc")).axes[0].images[0].get_array())
    low, high = images.min(), images.max()
    for row, number in itertools.product(range(3), range(2)):
        y, x = row * 10, number * (2 * 10 + 3)
        grey = (images[row, number] - low) / (high - low)
        np.testing.assert_allclose(sheet[y : y + 9, x : x + 10, 1], grey)
        top = np.percentile(maps[row, number], 99) or maps[row, number].max() or 1.0
        strength = np.minimum(maps[row, number] / top, 1.0)[..., None]
        heat = np.asarray(_HEAT(strength[..., 0]))[..., :3]
        expected = (1 - strength) * 0.75 * grey[..., None] + strength * heat
        np.testing.assert_allclose(sheet[y : y + 9, x + 11 : x + 21], expected)
    assert sheet.shape == (29, 44, 3)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("classes", "each"), [(1, 1), (5, 6), (40, 3), (120, 1)])
def test_saliency_sheets_fit(classes: int, each: int, width: float) -> None:
    names = [STRANGE[i % 5] if classes == 5 else f"class {i}" for i in range(classes)]
    figure = saliency_sheet(*faces(classes, each), names, width=width)
    assert figure.get_figwidth() <= width + 0.3
    check_layout(figure)


def test_wrong_maps_are_refused() -> None:
    images, maps = faces()
    with pytest.raises(ValueError, match=r"got \(3, 2, 9, 10\) and \(3, 1, 9, 10\)"):
        saliency_sheet(images, maps[:, :1], list("abc"))
    with pytest.raises(ValueError, match="3 classes of images, but 2 names"):
        saliency_sheet(images, maps, list("ab"))
    maps[0, 0, 0, 0] = -0.5
    with pytest.raises(ValueError, match=r"maps holds -0\.5; it must not be negative"):
        saliency_sheet(images, maps, list("abc"))


def test_plain_images_are_as_samples() -> None:
    images, _ = faces()
    figure = image_sheet([(name, list(own)) for name, own in zip("abc", images, strict=True)])
    sheet = np.asarray(figure.axes[0].images[0].get_array().filled(np.nan))
    np.testing.assert_array_equal(sheet[:9, :10], images[0, 0])
    np.testing.assert_array_equal(sheet[20:29, 11:21], images[2, 1])


# -- networks -------------------------------------------------------------------------------------

NETWORKS: dict[str, list[tuple[str, Any, int]]] = {
    "dense $": [("Input", (784,), 0), ("Dense, ReLU", (256,), 200960), ("Dense", "10", 2570)],
    "LSTM": [
        ("Input", (28, 28), 0),
        ("LSTM " + "x" * 60, (64,) * 9, 23808),
        STRANGE[:1] * 2 + (1,),
    ],
    "one": [("Input", None, 0)],
    "none": [],
}


@pytest.mark.parametrize("width", WIDTHS)
def test_networks_hold_their_layers(width: float) -> None:
    figure = architectures(NETWORKS, width=width)
    check_layout(figure)
    words = texts(figure)
    for part in (
        r"dense \$", "784", "256  ·  200,960 parameters", "10  ·  2,570 parameters",
        "203,530 parameters", "28 × 28", "23,809 parameters", "0 parameters",
    ):  # fmt: skip
        assert part in words, part
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 7
    with_parameters = [
        patch for patch in boxes if patch.get_facecolor() != boxes[0].get_facecolor()
    ]
    assert len(with_parameters) == 4
    # No letter leaves its box.
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    extents = [patch.get_window_extent(renderer) for patch in boxes]
    for text in figure.axes[0].texts:
        inside = text.get_window_extent()
        for box in extents:
            if box.contains(*inside.get_points().mean(axis=0)):
                assert box.x0 <= inside.x0 <= inside.x1 <= box.x1, text.get_text()
                assert box.y0 <= inside.y0 <= inside.y1 <= box.y1, text.get_text()
    bytes_twice(lambda: architectures(NETWORKS, width=width))


def test_networks_go_below_each_other_where_narrow() -> None:
    wide, narrow = (architectures(NETWORKS, width=width) for width in WIDTHS)
    assert wide.get_figwidth() <= 10
    assert narrow.get_figwidth() <= 4.2
    assert narrow.get_figheight() > 1.5 * wide.get_figheight()
    with pytest.raises(ValueError, match="networks is empty"):
        architectures({})


# -- the gap map ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_a_gap_map_outlines_the_winner_it_is_given(
    run_maker: Callable[..., Run], width: float
) -> None:
    grid = {
        "learning_rate": list(np.logspace(-3.5, 0, 8)),
        "schedule": ["constant", "linear", "cosine", "step", "warm-up"],
        "dropout": [0.0, 0.5],
        "layers": [(64,), (64, 64)],
    }
    results = run_maker(grid=grid, epochs=2, predictions=0).results
    cells = results.groupby("cell").first()
    winner = 57
    assert results.groupby("cell")["score"].mean().idxmax() != winner
    results["score"] = results["train_accuracy"] - results["val_accuracy"]
    figure = grid_map(results, scoring="train - test accuracy", winner=winner, width=width)
    check_layout(figure)
    maps = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in maps] == [
        f"dropout: {dropout}\nlayers: {layers}"
        for dropout, layers in itertools.product(("0", "0.5"), ("(64,)", "(64, 64)"))
    ]
    rates = ["0.000316", "0.001", "0.00316", "0.01", "0.0316", "0.1", "0.316", "1"]
    across = [text.get_text() for text in maps[-1].get_xticklabels()]
    down = [text.get_text() for text in maps[0].get_yticklabels()]
    assert (across if width == 10.0 else down) == rates
    outlines = {
        axes.get_title(loc="left"): patch.get_xy()
        for axes in maps
        for patch in axes.patches
        if not patch.get_fill() and not patch.get_hatch()
    }
    row: Any = cells.loc[winner]
    place = grid["learning_rate"].index(row["param_learning_rate"]) - 0.5
    other = grid["schedule"].index(row["param_schedule"]) - 0.5
    title = f"dropout: {row['param_dropout']:g}\nlayers: {row['param_layers']}"
    assert outlines == {title: (place, other) if width == 10.0 else (other, place)}
    written = {text for text in texts(figure) if text}
    assert bool(written) == (width == 10.0)


def test_floats_that_three_digits_do_not_tell_apart_have_more(
    run_maker: Callable[..., Run],
) -> None:
    run = run_maker(grid={"rate": [0.10001, 0.10002], "b": [1, 2, 3]}, epochs=1, predictions=0)
    axes = grid_map(run.results).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0.10001", "0.10002"]


def test_the_winner_has_its_own_name(run_maker: Callable[..., Run]) -> None:
    run = run_maker(grid={"rate": [1, 2, 3]}, epochs=1, predictions=0)
    figure = grid_map(run.results, winner=2, winner_name="best test accuracy")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "best test accuracy" in names
