"""What the sung emotion study shows: phases, splits, confusions, the map of gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxlstm.data import SequenceData
from jaxlstm.replication import (
    Comparison,
    Findings,
    Score,
    Trained,
    bar_picture,
    confusion_picture,
    curve_picture,
    mean_rates,
    split_bars,
)
from jaxlstm.report import Picture, Section, Table, architectures, grid_map
from jaxlstm.report.text import count_text

if TYPE_CHECKING:
    from experiments.ravdess import Config

# train, test accuracy
PHASES = {
    "phase 1": (0.9735, 0.5630),
    "phase 1, longer": (0.9735, 0.5630),
    "phase 2": (0.8583, 0.7580),
    "phase 2, last state": (0.8583, 0.7580),
}
PARTS = {
    "phase 1": "last_state",
    "phase 1, longer": "longer",
    "phase 2": "flattened",
    "phase 2, last state": "last_state",
}
LOSSES = (0.3653, 0.6370)  # of phase 2: train, test
BASELINES = {"Conv1D": 0.8395, "Conv2D": 0.8247}
CLASS_ACCURACY = {
    "neutral": 0.81, "calm": 0.76, "happy": 0.76, "sad": 0.63, "angry": 0.83, "fearful": 0.76,
}  # fmt: skip
RECORDINGS = {
    "neutral": 92, "calm": 184, "happy": 184, "sad": 184, "angry": 184, "fearful": 184, "all": 1012,
}  # fmt: skip
EPOCHS = {"phase 1": 10, "phase 1, longer": 10, "phase 2": 50, "phase 2, last state": 50}
SPLITS = ("random split", "other singers")
FILES = ("random", "singers")  # in their names


def find(
    config: Config, data: Mapping[str, SequenceData], trained: Mapping[str, Trained]
) -> Findings:
    """Phases, baselines, the map of gaps."""
    songs, rates = data["songs"], trained["rates"]
    test = {name: trained[part].score(name, 0) for name, part in PARTS.items()}
    train = {name: trained[part].score(name, 0, "train_accuracy") for name, part in PARTS.items()}
    gap = {name: train[name].mean - test[name].mean for name in PARTS}
    singers = trained["flattened"].score("phase 2", 1)
    classes = {fold: _class_accuracy(trained["flattened"], fold) for fold in (0, 1)}
    headline = (
        f"Phase 1, trained for {config.longer_epochs} epochs, learns its training songs to"
        f" {train['phase 1, longer'].mean:.4f} and the others to"
        f" {test['phase 1, longer'].mean:.4f}; phase 2 {train['phase 2'].mean:.4f} and"
        f" {test['phase 2'].mean:.4f}. Of singers it has never heard, phase 2 gets"
        f" {singers.mean:.4f} of the songs right."
    )
    tiles = [
        (
            "Phase 2, random split",
            f"{test['phase 2'].mean:.4f}",
            f"± {test['phase 2'].std:.4f}; the report: 0.7580",
        ),
        ("Phase 2, other singers", f"{singers.mean:.4f}", f"± {singers.std:.4f}"),
        *(
            (f"Gap of {name}", f"{gap[name]:.4f}", "train less test accuracy")
            for name in ("phase 1, longer", "phase 2")
        ),
        ("Rate grid", rates.time, f"{len(rates.results)} fits, one grid"),
    ]
    return Findings(
        headline,
        tiles,
        _comparison(config, trained, classes),
        [
            _data_section(songs, trained["flattened"]),
            _architecture_section(config, songs),
            _curve_section(trained),
            _split_section(trained),
            _confusion_section(trained["flattened"], classes),
            _rate_section(config, rates),
        ],
        _notes(config, songs),
    )


def _class_accuracy(flattened: Trained, fold: int) -> dict[str, Score]:
    """Recall of each class over the seeds of phase 2."""
    test, models = flattened.test(fold), flattened.models("phase 2", fold)
    rates = mean_rates([model.predict(test.x) for model in models], test)
    return {
        row["class"]: Score(row["sensitivity"], row["sensitivity, std"], len(models))
        for _, row in rates.iterrows()
    }


def _data_section(songs: SequenceData, phases: Trained) -> Section:
    counts = songs.summary().reset_index()
    counts["report's recordings"] = [RECORDINGS.get(name, np.nan) for name in counts["class"]]
    train, test = phases.rows(0)
    steps = -(-len(train) // 32)
    return Section(
        "The recordings",
        [
            f"{len(train)} recordings to train on ({steps} batches of 32) and {len(test)} to test on in"
            " the random split; the report: 607 (19 batches) and 405. It cuts or pads to a maximum"
            " length of 256 frames in one place and 1,200 in another; here it is"
            f" {songs.x.shape[1]}."
        ],
        [Table("recordings", counts, "Recordings and singers of each emotion.")],
    )


def _comparison(
    config: Config, trained: Mapping[str, Trained], classes: Mapping[int, Mapping[str, Score]]
) -> Comparison:
    comparison = Comparison()
    for name, part in PARTS.items():
        for column, paper, what in zip(
            ("train_accuracy", "score"), PHASES[name], ("training", "test"), strict=True
        ):
            for fold, split in enumerate(SPLITS):
                comparison.add(
                    f"{name}, {what} accuracy, {split}",
                    None if fold else paper,
                    trained[part].score(name, fold, column),
                    _epochs(config, name),
                )
    for column, paper, what in zip(
        ("train_loss", "val_loss"), LOSSES, ("training", "test"), strict=True
    ):
        for name in ("phase 2", "phase 2, last state"):
            comparison.add(
                f"{name}, {what} loss, random split",
                paper,
                trained[PARTS[name]].score(name, 0, column),
                _epochs(config, name),
            )
    for name, accuracy in BASELINES.items():
        for fold, split in enumerate(SPLITS):
            comparison.add(
                f"{name}, test accuracy, {split}",
                None if fold else accuracy,
                trained["baselines"].score(name, fold),
                "the report does not give its layers",
            )
    for name, accuracy in CLASS_ACCURACY.items():
        what = f"phase 2, accuracy on {name}, random split"
        comparison.add(what, accuracy, classes[0].get(name))
    comparison.add("SVM, test accuracy", 0.64, None, "quoted by the report; not run here")
    comparison.add("CNN + BiLSTM, test accuracy", 0.73, None, "quoted by the report; not run here")
    return comparison


def _epochs(config: Config, name: str) -> str:
    one, two = config.phase_epochs
    epochs = {
        "phase 1": one,
        "phase 1, longer": config.longer_epochs,
        "phase 2": config.flat_epochs,
        "phase 2, last state": two,
    }[name]
    return f"{count_text(epochs, 'epoch')}; the report {EPOCHS[name]}"


def _architecture_section(config: Config, songs: SequenceData) -> Section:
    frames, features = songs.x.shape[1:]
    read = -(-frames // config.every)
    units, classes = config.units, len(songs.classes)

    def lstm(inputs: int) -> int:
        return 4 * units * (inputs + units + 1)

    def head(inputs: int) -> list[tuple[str, str, int]]:
        return [
            ("dropout 0.25", f"{inputs:,}", 0),
            ("dense, relu", "128", 128 * (inputs + 1)),
            ("dropout 0.25", "128", 0),
            ("softmax", f"{classes}", classes * 129),
        ]

    networks = {
        "phase 1": [
            ("MFCC", f"{features} × {frames}", 0),
            ("LSTM", f"{features} × {units}", lstm(frames)),
            ("LSTM, last state", f"{units}", lstm(units)),
            ("dense, relu", "64", 64 * (units + 1)),
            ("dense, relu", "16", 16 * 65),
            ("softmax", f"{classes}", classes * 17),
        ],
        "phase 2, last state": [
            ("MFCC", f"{features} × {frames}", 0),
            ("LSTM, last state", f"{units}", lstm(frames)),
            *head(units),
        ],
        "phase 2": [
            ("MFCC", f"{read} × {features}", 0),
            ("LSTM, flattened", f"{read} × {units}", lstm(features)),
            *head(read * units),
        ],
    }
    return Section(
        "The architectures",
        [
            "The report states an LSTM kernel of 256 × 1,024 with 1,024 biases, and dense kernels of"
            " 256 × 64 and 16 × 6 in phase 1, 256 × 128 and 128 × 6 in phase 2: those of the first two"
            " networks, whose step is one coefficient with all its frames. Its list of layers also has"
            " a flattening after phase 2's LSTM, which is the third network's, whose step is a frame."
        ],
        [
            Picture(
                "architectures",
                lambda width: architectures(networks, width=width),
                "Layers of phase 1 and phase 2 with their shapes and parameters",
            )
        ],
    )


def _curve_section(trained: Mapping[str, Trained]) -> Section:
    return Section(
        "Learning curves",
        ["The logs of every epoch are in curves.csv."],
        [
            curve_picture(
                f"curves_{part}_{FILES[fold]}",
                trained[part],
                f"Loss and accuracy by epoch of {' and '.join(trained[part].part.cells)}, {split}",
                f"{split.capitalize()}: mean over the seeds in a band from the lowest to the highest.",
                fold=fold,
            )
            for fold, split in enumerate(SPLITS)
            for part in ("last_state", "longer", "flattened", "baselines")
        ],
    )


def _split_section(trained: Mapping[str, Trained]) -> Section:
    papers = {name: printed[1] for name, printed in PHASES.items()} | BASELINES
    rows = [
        row
        for part in ("last_state", "longer", "flattened", "baselines")
        for row in split_bars(trained[part], SPLITS, papers)
    ]
    return Section(
        "Random recordings against other singers",
        [
            "Every singer sings each phrase more than once, so a random split tests on voices that"
            " were trained on. The second bar is of singers who were not."
        ],
        [
            bar_picture("splits", rows, "test accuracy", "Accuracy of each network on both splits"),
            Table(
                "splits",
                pd.DataFrame(rows).rename(columns={"group": "network", "series": "split"}),
                "Test accuracy, mean and deviation over the seeds.",
            ),
        ],
    )


def _confusion_section(phases: Trained, classes: Mapping[int, Mapping[str, Score]]) -> Section:
    content: list[Any] = []
    for fold, split in enumerate(SPLITS):
        test = phases.test(fold)
        content.append(
            confusion_picture(
                f"confusion_{FILES[fold]}",
                test,
                phases.models("phase 2", fold)[0].predict(test.x),
                f"Row-normalised confusion matrix of phase 2, {split}",
                f"{split.capitalize()}, first seed.",
            )
        )
    rows = [
        {
            "emotion": name,
            "report": CLASS_ACCURACY.get(name, np.nan),
            **{split: classes[fold][name].mean for fold, split in enumerate(SPLITS)},
            "std, random split": score.std,
        }
        for name, score in classes[0].items()
    ]
    caption = "Accuracy of phase 2 on each emotion, mean over the seeds."
    content.append(Table("class_accuracy", pd.DataFrame(rows), caption))
    return Section("Which emotions are confused (phase 2)", (), content)


def _rate_cells(rates: Trained, fold: int) -> pd.DataFrame:
    """A row a cell of the grid on a split: test and training accuracy and their gap, best first."""
    fits = rates.fits(fold=fold)
    names = [name for name in map(str, fits) if name.startswith("param_")]
    table = fits.set_index("cell")[[*names, "score", "train_accuracy"]]
    table.columns = [
        *(name.removeprefix("param_") for name in names),
        "test accuracy",
        "train accuracy",
    ]
    table["gap"] = table["train accuracy"] - table["test accuracy"]
    return table.sort_values("test accuracy", ascending=False)


def _rate_section(config: Config, rates: Trained) -> Section:
    text = [
        f"{len(rates.fits(fold=0))} cells, {count_text(config.grid_epochs, 'epoch')} each, one seed, on"
        f" both splits: {len(rates.results)} fits in {rates.time}. Dropout acts between the layers,"
        " with one layer on its last state."
    ]
    content: list[Picture | Table] = []
    for fold, split in enumerate(SPLITS):
        cells = _rate_cells(rates, fold)
        text += [_best(cells, split), _thesis(cells, split)]
        content += _rate_maps(rates.fits(fold=fold), int(cells.index[0]), fold)
        caption = f"Every cell on the {split}, best first."
        content.append(Table(f"rates_{FILES[fold]}", cells.reset_index(drop=True), caption))
    return Section("Learning rate, schedule, dropout and depth as one grid", text, content)


def _best(cells: pd.DataFrame, split: str) -> str:
    best = cells.iloc[0]
    return (
        f"Best on the {split}: learning rate {best['learning_rate']:.2g}, {best['schedule']}, dropout"
        f" {best['dropout']:g}, {count_text(len(best['units']), 'layer')}, with"
        f" {best['test accuracy']:.4f} of the test songs right and a gap of {best['gap']:.4f}. It is"
        " chosen by these same songs, so this is optimistic."
    )


def _rate_maps(fits: pd.DataFrame, winner: int, fold: int) -> list[Picture]:
    split = SPLITS[fold]
    gaps = fits.assign(score=fits["train_accuracy"] - fits["score"])

    def draw(results: pd.DataFrame, scoring: str) -> Callable[[float], Figure]:
        return lambda width: grid_map(
            results,
            scoring=scoring,
            winner=winner,
            winner_name="best test accuracy",
            width=width,
        )

    return [
        Picture(
            f"rate_gap_{FILES[fold]}",
            draw(gaps, "train less test accuracy"),
            f"Gap between training and test accuracy of each cell, {split}",
            f"{split.capitalize()}: the gap of each cell; outlined is the best test accuracy.",
        ),
        Picture(
            f"rate_accuracy_{FILES[fold]}",
            draw(fits, "test accuracy"),
            f"Test accuracy of each cell, {split}",
            f"{split.capitalize()}: test accuracy of each cell.",
        ),
    ]


def _thesis(cells: pd.DataFrame, split: str) -> str:
    """What the grid says to the report's argument, in numbers."""
    learned = cells[cells["train accuracy"] > 0.5]
    if learned.empty:
        return "No cell learned half of its training songs, so the gaps say nothing."
    parts = []
    for words, chosen in (
        ("learning rates below 0.002", learned["learning_rate"] < 0.002),
        ("rates above", learned["learning_rate"] >= 0.002),
        ("no dropout", learned["dropout"] == 0),
        ("dropout", learned["dropout"] > 0),
        ("one layer", learned["units"].map(len) == 1),
        ("two layers", learned["units"].map(len) == 2),
    ):
        if chosen.any():
            rows = learned[chosen]
            gap, accuracy = rows["gap"].mean(), rows["test accuracy"].mean()
            parts.append(f"{words} {gap:.3f} (test accuracy {accuracy:.3f})")
    return (
        "The report argues that a smaller learning rate with more epochs, dropout and one layer less"
        f" close the gap. Mean gaps on the {split}, of the cells that learned more than half of their"
        f" training songs: {'; '.join(parts)}."
    )


def _notes(config: Config, songs: SequenceData) -> list[str]:
    notes = [
        "MFCC by librosa, 32 coefficients, 256 frames, standardised by the training rows of each"
        " fit; Adam, learning rate 0.001, batch 32.",
        *(
            [f"Phase 2 and the Conv networks read every frame in {config.every} only."]
            if config.every > 1
            else []
        ),
        f"The grid's networks are phase 2's with its last state, with LSTM layers of"
        f" {config.grid_units} units and no dropout after the dense layer.",
        "Training accuracy and loss are those of the training steps, with dropout on, as Keras logs"
        " them.",
        "The report gives no layers of its Conv1D and Conv2D; ours are in the experiment's code.",
        "An LSTM that goes through the 256 frames and gives its last state alone hardly learned here:"
        " the last quarter of most recordings is padding.",
    ]
    if len(songs) != 1012:
        notes.append(f"The report has 1,012 recordings, this run {len(songs):,}.")
    return notes
