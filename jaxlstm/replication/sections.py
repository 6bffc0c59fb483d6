"""Pictures, tables and sections that several studies show of what they have trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxlstm.data import SequenceData
from jaxlstm.evaluation import class_rates, prediction_times
from jaxlstm.replication.parts import Trained
from jaxlstm.report import (
    Picture,
    Section,
    Table,
    bars,
    confusion_matrix,
    curve_panels,
    grid_map,
    image_sheet,
)
from jaxlstm.report.text import count_text

#: Columns of `class_rates` and their names in a table.
RATES = {
    "precision": "precision",
    "recall": "sensitivity",
    "f1": "F1",
    "specificity": "specificity",
    "false_positive_rate": "false-positive rate",
    "miss_rate": "miss rate",
}


def curve_picture(
    name: str,
    trained: Trained,
    alt: str,
    caption: str = "",
    *,
    cells: Mapping[str, str] | None = None,
    fold: int | None = None,
    names: tuple[str, str] = ("training", "test"),
) -> Picture:
    """Loss and accuracy by epoch of a part's cells.

    Args:
      name: of the picture's files.
      trained: the part.
      alt: what it shows.
      caption: how to read it.
      cells: titles of the panels to the names of their cells; all cells by default.
      fold: the split; all by default.
      names: what the two lines are.
    """
    curves = trained.curves if fold is None else trained.curves[trained.curves["fold"] == fold]
    wanted = cells or {cell: cell for cell in trained.part.cells}
    places = {title: trained.cell(cell) for title, cell in wanted.items()}

    def draw(width: float) -> Figure:
        return curve_panels(curves, places, width=width, names=names)

    return Picture(name, draw, alt, caption)


def bar_picture(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    value_label: str,
    alt: str,
    caption: str = "",
    *,
    log: bool = False,
) -> Picture:
    """Grouped bars; each row has group, series, value, std and perhaps paper, see `bars`."""
    table = pd.DataFrame(rows)

    def draw(width: float) -> Figure:
        return bars(table, value_label=value_label, width=width, log=log)

    return Picture(name, draw, alt, caption)


def split_bars(
    trained: Trained, splits: Sequence[str], papers: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Rows for `bar_picture`: the score of every cell on every split, the paper's at the first.

    Args:
      trained: the part.
      splits: what its splits are called, in their order.
      papers: the paper's figure of some cells.
    """
    return [
        {
            "group": cell,
            "series": split,
            "value": trained.score(cell, fold).mean,
            "std": trained.score(cell, fold).std,
            "paper": np.nan if fold else papers.get(cell, np.nan),
        }
        for cell in trained.part.cells
        for fold, split in enumerate(splits)
    ]


def confusion_picture(
    name: str, test: SequenceData, predicted: np.ndarray, alt: str, caption: str = ""
) -> Picture:
    """A confusion matrix of predicted labels ``[N]``, each row in per cent of its class."""
    many = len(test.classes) > 12

    def draw(width: float) -> Figure:
        return confusion_matrix(
            test.labels.tolist(),
            predicted.astype(str).tolist(),
            test.classes,
            width=min(width, 8.5 if many else 5.4),
            normalize=not many,
        )

    return Picture(name, draw, alt, caption)


def sample_picture(name: str, data: SequenceData, alt: str, *, count: int = 8) -> Picture:
    """The first images of each class."""
    images = [(kind, list(data.x[data.y == y][:count])) for y, kind in enumerate(data.classes)]

    def draw(width: float) -> Figure:
        shown = count if width > 5 else max(1, count // 2)
        return image_sheet([(kind, own[:shown]) for kind, own in images], width=width)

    return Picture(name, draw, alt)


def grid_section(
    heading: str, trained: Trained, words: Sequence[str], table: pd.DataFrame | None = None
) -> Section:
    """A grid as a map and as a table of its cells, best first.

    Args:
      heading: of the section.
      trained: the part.
      words: paragraphs; how many fits there were and how long they took is added.
      table: instead of `Trained.by_cell`'s.
    """
    cells = trained.by_cell() if table is None else table
    name, fits, folds = trained.part.name, len(trained.results), trained.results["fold"].nunique()

    def draw(width: float) -> Figure:
        return grid_map(trained.results, scoring="accuracy", width=width)

    return Section(
        heading,
        [
            *words,
            f"{count_text(len(cells), 'cell')} x {count_text(folds, 'fold')}:"
            f" {count_text(fits, 'fit')} in {trained.time}.",
        ],
        [
            Picture(name, draw, f"Mean accuracy of each cell: {heading}"),
            Table(
                name,
                cells.sort_values("mean", ascending=False),
                "Mean and standard deviation of the accuracy over"
                f" {count_text(folds, 'fold')}; seconds on one core.",
            ),
        ],
    )


def mean_rates(predicted: Sequence[np.ndarray], test: SequenceData) -> pd.DataFrame:
    """Every rate of every class, mean and deviation over predictions ``[N]`` of several seeds."""
    tables = [class_rates(test.labels, own.astype(str), test.classes) for own in predicted]
    means = pd.DataFrame({"class": tables[0]["class"]})
    for column, words in RATES.items():
        values = np.stack([table[column] for table in tables])
        means[words], means[f"{words}, std"] = values.mean(axis=0), values.std(axis=0)
    return means.assign(support=tables[0]["support"])


def time_table(models: Mapping[str, Any], x: np.ndarray) -> Table:
    """Prediction times of batches of 1 and of 256 rows, a row a model and size."""
    tables = [prediction_times(model, x).assign(model=name) for name, model in models.items()]
    frame = pd.concat(tables)[["model", "batch", "p50_ms", "p95_ms", "rows_per_second"]]
    return Table(
        "prediction_times",
        frame,
        "Milliseconds of a call on this machine, compiled before: median and 95th percentile of 50"
        " calls.",
    )
