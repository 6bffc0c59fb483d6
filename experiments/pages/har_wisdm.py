"""What the activity study shows: its four tables and figures, and both splits beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxlstm.data import SequenceData, read_wisdm
from jaxlstm.evaluation import class_rates
from jaxlstm.replication import (
    Comparison,
    Findings,
    Trained,
    bar_picture,
    confusion_picture,
    curve_picture,
    split_bars,
)
from jaxlstm.report import Section, Table
from jaxlstm.report.text import count_text

if TYPE_CHECKING:
    from experiments.har_wisdm import Config

# Rows and per cent as printed; WISDM 1.1 itself has 122,869 Upstairs and 48,395 Standing.
CLASSES = {
    "Walking": (424_400, 38.6),
    "Jogging": (342_177, 31.2),
    "Upstairs": (122_689, 11.2),
    "Downstairs": (100_427, 9.1),
    "Sitting": (59_939, 5.5),
    "Standing": (48_397, 4.4),
}  # fmt: skip
# Accuracy in per cent and loss of each table, as printed.
TABLES = {
    "2": {"2 layers": (95.99, 0.2733), "4 layers": (97.18, 0.2733), "6 layers": (95.66, 0.3029)},
    "3": {"300 epochs": (96.30, 0.2667), "350 epochs": (96.54, 0.2593), "400 epochs": (96.57, 0.2553)},
    "4": {"2 layers": (96.30, 0.2667), "batch 64": (96.54, 0.2593), "batch 128": (96.57, 0.2553)},
    "best": {"best setting": (97.18, 0.2733)},
}  # fmt: skip
VARIED = {"2": "LSTM layers", "3": "epochs", "4": "batch size", "best": "best setting"}
SPLITS = ("random windows", "other people")
FILES = ("random", "people")  # in their names
WORDS = {"2 layers": "2 layers, 200 epochs, batch 32"}


def find(
    config: Config, data: Mapping[str, SequenceData], trained: Mapping[str, Trained]
) -> Findings:
    """The four tables, the figures, and the two splits beside each other."""
    tables, search = trained["tables"], trained["search"]
    windows = data["windows"]
    balance = _balance(windows)
    comparison = Comparison()
    for name, (_, percent) in CLASSES.items():
        found = balance.loc[balance["class"] == name, "percent"]
        comparison.add(
            f"Table 1: rows of {name}, %",
            percent,
            float(found.iloc[0]) if len(found) else None,
            "" if len(found) else "not a class of these data",
        )
    for table, rows in TABLES.items():
        for cell, (accuracy, loss) in rows.items():
            what = f"Table {table}" if table != "best" else "Best"
            words = WORDS.get(cell, cell)
            for fold, split in enumerate(SPLITS):
                note = _note(config, tables, table, cell) if not fold else "not in the report"
                comparison.add(
                    f"{what}: {words}, accuracy, {split}",
                    accuracy / 100 if not fold else None,
                    tables.score(cell, fold),
                    note,
                )
                comparison.add(
                    f"{what}: {words}, loss with L2, {split}",
                    loss if not fold else None,
                    tables.score(cell, fold, "val_loss"),
                    f"{note}; L2 {config.l2:g}",
                )
    best = "best setting"
    random, people = (tables.score(best, fold) for fold in (0, 1))
    cells = search.by_cell().sort_values("mean", ascending=False)
    headline = (
        f"On windows drawn at random the report's best setting (4 layers, batch 128) reaches"
        f" {random.mean:.4f}; with people kept apart the same network reaches {people.mean:.4f}."
    )
    tiles = [
        ("Random windows", f"{random.mean:.4f}", f"± {random.std:.4f}, {random.fits} seeds"),
        ("Other people", f"{people.mean:.4f}", f"± {people.std:.4f}, {people.fits} seeds"),
        ("Windows", f"{len(windows):,}", f"{len(set(_who(windows)))} people"),
        ("Training", tables.time, f"{len(tables.results)} fits"),
    ]
    return Findings(
        headline,
        tiles,
        comparison,
        [
            Section(
                "Table 1: the classes",
                [
                    "The report prints 122,689 rows of Upstairs and 48,397 of Standing, where WISDM 1.1"
                    " has 122,869 and 48,395."
                ],
                [Table("classes", balance, "Rows of the raw file.")],
            ),
            *(_section(config, tables, table) for table in TABLES),
            _curves(tables),
            _both_splits(tables),
            _confusions(tables, best),
            Section(
                "Beyond the report: a search by itself",
                [
                    f"{len(cells)} random draws of learning rate, L2, dropout and depth,"
                    f" {config.search_epochs} epochs each, scored on people that their fit has not"
                    f" seen, in {search.time}. The people of the test part above are in neither; the"
                    " winner was not trained again on all others."
                ],
                [Table("search", cells, "Mean and deviation of the accuracy over two folds.")],
            ),
        ],
        _notes(config, windows),
    )


def _who(windows: SequenceData) -> list[Any]:
    return [] if windows.groups is None else windows.groups.tolist()


def _balance(windows: SequenceData) -> pd.DataFrame:
    table, _ = read_wisdm(windows.source)
    counts = table["activity"].value_counts()
    counts = counts[counts > 0]
    return pd.DataFrame(
        {
            "class": list(counts.index),
            "rows": counts.to_numpy(),
            "percent": 100 * counts.to_numpy() / counts.sum(),
            "report's rows": [CLASSES.get(name, (np.nan,))[0] for name in counts.index],
            "report's percent": [CLASSES.get(name, (0, np.nan))[1] for name in counts.index],
        }
    )


def _note(config: Config, tables: Trained, table: str, cell: str) -> str:
    """What differs from the report's row of a table."""
    notes = []
    if table == "4":
        notes.append("the report prints Table 3's figures here")
    if table == "best":
        notes.append(
            "4 layers, 400 epochs, batch 128 (its caption says 32); Table 2's figures again"
        )
    epochs = tables.search.cv_results_["params"][tables.cell(cell)]["epochs"]
    notes.append(f"{count_text(epochs, 'epoch')} here")
    return "; ".join(notes)


def _section(config: Config, tables: Trained, table: str) -> Section:
    rows = []
    for cell, (accuracy, loss) in TABLES[table].items():
        row = {
            VARIED[table]: WORDS.get(cell, cell),
            "report, accuracy": accuracy / 100,
            "report, loss": loss,
        }
        for fold, split in enumerate(SPLITS):
            score, penalised = tables.score(cell, fold), tables.score(cell, fold, "val_loss")
            row |= {
                f"{split}: accuracy": score.mean,
                f"{split}: std": score.std,
                f"{split}: loss": penalised.mean,
            }
        rows.append(row)
    name = f"Table {table}" if table != "best" else "The best setting"
    text = []
    if table == "4":
        text.append("The report prints the figures of its Table 3 here again, so they are suspect.")
    if config.epoch_scale != 1:
        text.append(f"Trained for {config.epoch_scale:g} of the report's epochs.")
    caption = "Accuracy, and loss with the L2 term, on the test part; mean over the seeds."
    return Section(
        f"{name}: {VARIED[table]}" if table != "best" else name,
        text,
        [Table(f"table_{table}", pd.DataFrame(rows), caption)],
    )


def _curves(tables: Trained) -> Section:
    cells = {name: name for name in ("4 layers", "400 epochs", "best setting")}
    cells |= {"batch 32": "2 layers"}
    return Section(
        "The report's four figures: loss and accuracy by epoch",
        (),
        [
            curve_picture(
                f"curves_{FILES[fold]}",
                tables,
                f"Loss and accuracy against the epoch of four settings, {split}",
                f"{split.capitalize()}: mean over the seeds in a band from the lowest to the highest.",
                cells=cells,
                fold=fold,
            )
            for fold, split in enumerate(SPLITS)
        ],
    )


def _both_splits(tables: Trained) -> Section:
    papers = {
        cell: row[0] / 100 for rows in reversed(TABLES.values()) for cell, row in rows.items()
    }
    return Section(
        "Random windows against other people",
        [
            "Windows overlap, so a random split puts the same second of the same person into train"
            " and test. The second bar is what is left when nobody is in both."
        ],
        [
            bar_picture(
                "splits",
                split_bars(tables, SPLITS, papers),
                "test accuracy",
                "Accuracy of every setting on both splits",
            )
        ],
    )


def _confusions(tables: Trained, cell: str) -> Section:
    content: list[Any] = []
    for fold, split in enumerate(SPLITS):
        test = tables.test(fold)
        predicted = tables.models(cell, fold)[0].predict(test.x)
        words = f"{split.capitalize()}, {cell}, first seed."
        content += [
            confusion_picture(
                f"confusion_{FILES[fold]}", test, predicted, f"Confusion matrix, {split}", words
            ),
            Table(f"rates_{FILES[fold]}", class_rates(test.labels, predicted, test.classes), words),
        ]
    return Section("Which activities are confused", (), content)


def _notes(config: Config, windows: SequenceData) -> list[str]:
    notes = [
        "Not stated in the report and chosen here: windows of"
        f" {config.window} samples every {config.stride}, {config.frame} samples a step,"
        f" {config.units} units, Adam with {config.learning_rate:g}, L2 {config.l2:g}; inputs are"
        " standardised. Weights start as Keras's, where the report draws them from a normal"
        " distribution.",
        "The loss contains the L2 term, as the report's does.",
    ]
    notes.append(
        "A window is of one activity alone; the recipe's may hold the end of one and the next."
    )
    if config.epoch_scale != 1:
        notes.append(f"Epochs are {config.epoch_scale:g} of the report's.")
    if set(windows.classes) != set(CLASSES):
        notes.append(
            f"These are not the report's data (WISDM 1.1) but {len(windows)} windows of the classes"
            f" {', '.join(windows.classes)}: figures cannot be compared one to one."
        )
    return notes
