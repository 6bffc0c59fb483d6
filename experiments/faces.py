"""Emotion from face images with a stacked row/column BiLSTM (2023).

    python -m experiments.faces --data FOLDER_OR_ARCHIVE --preset smoke|cpu|paper [--field value ...]

The 3 x 3 grid of row and column widths with 3 folds, under SGD and under Adam, as the thesis names
each in one chapter; the final network with its augmentation and its three callbacks (the best
weights, early stopping, a cut of the learning rate on a plateau); a CNN and a CNN that feeds an LSTM
beside it; and what the thesis asks of a classifier: rates of each class, saliency maps, prediction
time. FER2013 holds hundreds of images in both parts, so every test figure is given twice: on all test
images, and on those that no training image equals.

The callbacks watch a tenth of the training images, never the test images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments import made_up
from jaxlstm import FlaxClassifier, GridSearch
from jaxlstm.data import SequenceData, load_faces
from jaxlstm.evaluation import saliency, scores
from jaxlstm.nn import CNN, CNNLSTM, RowColumnBiLSTM
from jaxlstm.replication import (
    Comparison,
    Findings,
    Part,
    Replication,
    Score,
    Trained,
    bar_picture,
    confusion_picture,
    curve_picture,
    grid_section,
    mean_rates,
    run_replication,
    sample_picture,
    time_table,
)
from jaxlstm.report import Picture, Section, Table, saliency_sheet
from jaxlstm.report.text import count_text
from jaxlstm.train.augment import RandomFlip, RandomShear, RandomZoom

# (row, col) -> mean, std of the thesis's grid
GRID = {
    (32, 16): (0.258214, 0.005861), (64, 16): (0.248569, 0.002285), (128, 16): (0.248569, 0.002285),
    (32, 32): (0.263003, 0.019706), (64, 32): (0.259845, 0.011933), (128, 32): (0.248569, 0.002285),
    (32, 64): (0.264217, 0.000644), (64, 64): (0.255508, 0.015667), (128, 64): (0.248569, 0.002285),
}  # fmt: skip
# precision, recall, F1
CLASSES = {
    "angry": (0.32, 0.27, 0.29), "disgust": (0.67, 0.04, 0.07),
    "fear": (0.29, 0.02, 0.03), "happy": (0.52, 0.74, 0.61),
    "neutral": (0.39, 0.42, 0.40), "sad": (0.31, 0.33, 0.32),
    "surprise": (0.45, 0.58, 0.50),
}  # fmt: skip
AVERAGES = {
    "macro_precision": 0.42, "macro_recall": 0.34, "macro_f1": 0.32,
    "weighted_precision": 0.40, "weighted_recall": 0.42, "weighted_f1": 0.38,
}  # fmt: skip
TEST_ACCURACY, CNN_ACCURACY = 0.4213, 0.53
VALIDATION = {1: 0.2622, 10: 0.3581}  # after the epoch
BILSTM = "row/column BiLSTM"
ENSEMBLES = {
    f"{BILSTM}, ours: the seeds' mean": ["ours"],
    "BiLSTM, CNN and CNN+LSTM: all seeds' mean": ["ours", "CNN", "CNN+LSTM"],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """Settings of the face study."""

    row_hidden: tuple[int, ...] = (32, 64, 128)
    """Row widths of the grid."""
    col_hidden: tuple[int, ...] = (16, 32, 64)
    """Column widths of the grid."""
    grid_rows: int | None = None
    """Training images that the grid uses; all by default."""
    grid_epochs: int = 1
    """Epochs of each of its fits."""
    widths: tuple[int, int] = (64, 64)
    """Row and column width of the final network."""
    epochs: int = 32
    """Epochs of the final networks."""
    batch_size: int = 300
    """Their batch size; the thesis has 96 batches an epoch."""
    our_epochs: int = 40
    """Epochs of the BiLSTM as we would train it."""
    cnn_epochs: int = 32
    """Epochs of the CNN and of the CNN+LSTM."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Channels of their convolutions."""
    balanced: bool = True
    """Whether to train the BiLSTM with balanced class weights, too."""


PRESETS = {
    "smoke": Config(
        row_hidden=(4, 6),
        col_hidden=(4,),
        widths=(4, 4),
        epochs=1,
        our_epochs=1,
        cnn_epochs=1,
        channels=(4, 4),
        batch_size=32,
        seeds=2,
        balanced=False,
    ),
    "cpu": Config(
        grid_rows=6000, widths=(32, 64), epochs=10, our_epochs=15, cnn_epochs=6, balanced=False
    ),
    "paper": Config(),
}


def main() -> None:
    """Runs the study from the command line."""
    run_replication(PRESETS, load, parts, find, name="faces", title="Emotion from face images")


def load(config: Config) -> Mapping[str, SequenceData]:
    """Train and test images ``[N, 32, 32]``, grey, in [0, 1]."""
    path = config.data
    if config.preset == "smoke" and path is None:
        path = made_up.faces()
    data = load_faces(path)
    tests = [part for name, part in data.items() if name != "train"]
    test = dataclasses.replace(
        tests[0], x=np.concatenate([t.x for t in tests]), y=np.concatenate([t.y for t in tests])
    )
    return {"train": data["train"], "test": test}


def parts(config: Config, data: Mapping[str, SequenceData]) -> list[Part]:
    """The grid, then the final networks."""
    train, test = data["train"], data["test"]
    together = dataclasses.replace(
        train, x=np.concatenate([train.x, test.x]), y=np.concatenate([train.y, test.y])
    )
    split = np.arange(len(train)), np.arange(len(train), len(together))
    some = train
    if config.grid_rows and config.grid_rows < len(train):
        _, some = train.split(config.grid_rows / len(train), seed=config.seed)
    both: dict[str, Any] = {"seeds": config.seeds, "seed": config.seed}
    bilstm = FlaxClassifier(
        RowColumnBiLSTM(len(train.classes), *config.widths),
        standardize=True,
        augment=(RandomFlip(), RandomShear(0.2), RandomZoom(0.2)),
    )
    convolutions = FlaxClassifier(
        epochs=config.cnn_epochs,
        batch_size=64,
        learning_rate=0.002,
        schedule="onecycle",
        standardize=True,
        augment=(RandomFlip(),),
    )
    return [
        Part("grid", "Row x column widths x optimizer, 3 folds", _grid(config, some), some),
        Part.of_settings(
            "bilstm", f"The {BILSTM}", bilstm, _bilstm_cells(config), together, [split], **both
        ),
        Part.of_settings(
            "cnn",
            "CNN and CNN+LSTM",
            convolutions,
            _cnn_cells(config, train),
            together,
            [split],
            **both,
        ),
    ]


def _grid(config: Config, some: SequenceData) -> GridSearch:
    grid = {
        "module__row_hidden": list(config.row_hidden),
        "module__col_hidden": list(config.col_hidden),
        "optimizer": ["adam", "sgd"],
    }
    classifier = FlaxClassifier(
        RowColumnBiLSTM(len(some.classes)),
        epochs=config.grid_epochs,
        learning_rate=0.001,
        batch_size=min(config.batch_size, len(some) // 3),
    )
    return GridSearch(classifier, grid, cv=3, random_state=config.seed, refit=False)


def _bilstm_cells(config: Config) -> dict[str, dict[str, Any]]:
    """The thesis's training under each optimizer that it names, and ours."""
    thesis = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": 0.001,
        "schedule": "plateau",
        "plateau_patience": max(2, config.epochs // 8),
        "early_stopping": True,
        "patience": max(3, config.epochs // 4),
        "restore_best_weights": True,
        "best_monitor": "val_accuracy",
    }
    cells = {
        "Adam": thesis,
        "SGD": thesis | {"optimizer": "sgd"},
        "ours": {
            "epochs": config.our_epochs,
            "batch_size": 64,
            "learning_rate": 0.001,
            "schedule": "cosine",
        },
    }
    if config.balanced:
        cells["Adam, balanced classes"] = thesis | {"class_weight": "balanced"}
    return cells


def _cnn_cells(config: Config, train: SequenceData) -> dict[str, dict[str, Any]]:
    classes, channels = len(train.classes), config.channels
    cnn = CNN(classes, channels, padding="same", dropout=0.2, dense=(128,), dense_dropout=0.2)
    cnn_lstm = CNNLSTM(classes, channels[:2], units=(128,), dropout=0.2)
    return {"CNN": {"module": cnn}, "CNN+LSTM": {"module": cnn_lstm}}


def find(
    config: Config, data: Mapping[str, SequenceData], trained: Mapping[str, Trained]
) -> Findings:
    """The grid, the final networks on both test sets, rates, maps and times."""
    bilstm, cnn, test = trained["bilstm"], trained["cnn"], data["test"]
    fresh = ~np.isin(_keys(test.x), _keys(data["train"].x))
    cells = {cell: part for part in (bilstm, cnn) for cell in part.part.cells}
    models = {cell: part.models(cell) for cell, part in cells.items()}
    chances = {
        cell: np.stack([model.predict_proba(test.x) for model in own])
        for cell, own in models.items()
    }
    names = models["ours"][0].classes_
    predicted = {cell: names[chance.argmax(axis=2)] for cell, chance in chances.items()}
    finals = [_final(cells[cell], cell, predicted[cell], test, fresh) for cell in cells]
    for title, members in ENSEMBLES.items():
        mean = np.concatenate([chances[cell] for cell in members]).mean(axis=0)
        finals.append(_measured(title, names[mean.argmax(axis=1)][None], test, fresh))
    best = max(("Adam", "SGD", "ours"), key=lambda cell: bilstm.score(cell).mean)
    rates = mean_rates(list(predicted[best]), test)
    score = {cell: part.score(cell) for cell, part in cells.items()}
    times = time_table(
        {BILSTM: models[best][0], **{c: models[c][0] for c in cnn.part.cells}}, test.x
    )
    one = times.frame.iloc[0]
    copies = int((~fresh).sum())
    headline = (
        f"The {BILSTM} gets {score[best].mean:.4f} of the test images right ({best}; the thesis:"
        f" {TEST_ACCURACY}), the CNN {score['CNN'].mean:.4f} ({CNN_ACCURACY}), the CNN+LSTM"
        f" {score['CNN+LSTM'].mean:.4f}. {copies:,} of {len(test):,} test images are in the training"
        " part, too."
    )
    tiles = [
        *(
            (name, f"{score[cell].mean:.4f}", f"± {score[cell].std:.4f}, {score[cell].fits} seeds")
            for name, cell in ((BILSTM, best), ("CNN", "CNN"), ("CNN+LSTM", "CNN+LSTM"))
        ),
        ("One image", f"{one['p50_ms']:.1f} ms", f"p95 {one['p95_ms']:.1f} ms, {BILSTM}"),
    ]
    return Findings(
        headline,
        tiles,
        _comparison(config, trained, pd.DataFrame(finals), rates, predicted[best], test),
        [
            Section(
                "The final networks",
                [
                    "Accuracy on all test images, and on those that no training image equals, byte"
                    " for byte."
                ],
                [
                    Table(
                        "networks",
                        pd.DataFrame(finals),
                        "Mean and deviation over the seeds; seconds of one fit on one core.",
                    )
                ],
            ),
            _grid_section(trained["grid"], config),
            _curve_section(bilstm, cnn),
            _class_section(best, rates, predicted[best][0], test),
            _saliency_section(models[best][0], test),
            Section(
                "Prediction time: does it work in real time?",
                [
                    f"One image takes the {BILSTM} {one['p50_ms']:.1f} ms (median):"
                    f" {one['rows_per_second']:,.0f} images a second, one by one."
                ],
                [times],
            ),
            Section("Samples", (), [sample_picture("samples", data["train"], "Training images")]),
        ],
        _notes(config, data, copies, best),
    )


def _keys(x: np.ndarray) -> np.ndarray:
    return np.array([hash(row.tobytes()) for row in x])


def _measured(
    name: str, predicted: np.ndarray, test: SequenceData, fresh: np.ndarray
) -> dict[str, Any]:
    """Scores of predictions ``[seeds, N]``, on all test images and on those not in train."""
    right = predicted == test.labels
    found = pd.DataFrame([scores(test.labels, own) for own in predicted])
    return {
        "network": name,
        "accuracy": right.mean(),
        "std": right.mean(axis=1).std(),
        "without copies": right[:, fresh].mean(),
        "without copies, std": right[:, fresh].mean(axis=1).std(),
        "macro F1": found["macro_f1"].mean(),
        "weighted F1": found["weighted_f1"].mean(),
        "seeds": len(predicted),
    }


def _final(
    part: Trained, cell: str, predicted: np.ndarray, test: SequenceData, fresh: np.ndarray
) -> dict[str, Any]:
    name = f"{BILSTM}, {cell}" if part.part.name == "bilstm" else cell
    return _measured(name, predicted, test, fresh) | {
        "epochs": part.score(cell, column="epochs").mean,
        "training s": part.score(cell, column="fit_seconds").mean,
    }


def _comparison(
    config: Config,
    trained: Mapping[str, Trained],
    finals: pd.DataFrame,
    rates: pd.DataFrame,
    predicted: np.ndarray,
    test: SequenceData,
) -> Comparison:
    comparison = Comparison()
    grid = trained["grid"]
    for _, row in finals.iterrows():
        name, count = row["network"], int(row["seeds"])
        paper = CNN_ACCURACY if name == "CNN" else TEST_ACCURACY if BILSTM in name else None
        comparison.add(f"{name}: test accuracy", paper, Score(row["accuracy"], row["std"], count))
        comparison.add(
            f"{name}: on test images that are not in train",
            None,
            Score(row["without copies"], row["without copies, std"], count),
        )
    curves = trained["bilstm"].curves
    curves = curves[curves["cell"] == trained["bilstm"].cell("Adam")]
    for epoch, paper in VALIDATION.items():
        at = curves.loc[curves["epoch"] == epoch, "val_accuracy"].dropna()
        comparison.add(
            f"{BILSTM}, Adam: validation accuracy after epoch {epoch}",
            paper,
            Score.of(at) if len(at) else None,
            "ours on images held out of train",
        )
    found = pd.DataFrame([scores(test.labels, own) for own in predicted])
    for metric, paper in AVERAGES.items():
        comparison.add(f"{BILSTM}: {metric.replace('_', ' ')}", paper, Score.of(found[metric]))
    for _, row in rates.iterrows():
        for words, paper in zip(
            ("precision", "sensitivity", "F1"), CLASSES[row["class"]], strict=True
        ):
            ours = Score(row[words], row[f"{words}, std"], len(predicted))
            comparison.add(f"{row['class']}: {words}", paper, ours)
    cells = grid.by_cell().set_index(["module__row_hidden", "module__col_hidden", "optimizer"])
    for (row_hidden, col_hidden), (paper, _) in GRID.items():
        for optimizer in ("adam", "sgd"):
            key = row_hidden, col_hidden, optimizer
            known = key in cells.index
            comparison.add(
                f"grid: row {row_hidden}, column {col_hidden}, {optimizer}",
                paper,
                Score(cells.loc[key, "mean"], cells.loc[key, "std"], 0) if known else None,
                f"{count_text(config.grid_epochs, 'epoch')}, {len(grid.part.data):,} images; mean and"
                " deviation over 3 folds",
            )
    return comparison


def _grid_section(grid: Trained, config: Config) -> Section:
    cells = grid.by_cell()
    widths = zip(cells["module__row_hidden"], cells["module__col_hidden"], strict=True)
    paper = [GRID.get(pair, (np.nan, np.nan)) for pair in widths]
    cells["thesis"], cells["thesis, std"] = zip(*paper, strict=True)
    largest = np.bincount(grid.part.data.y).max() / len(grid.part.data)
    words = (
        f"{len(grid.part.data):,} training images, {count_text(config.grid_epochs, 'epoch')} a fit,"
        f" inputs in [0, 1] as in the thesis. Guessing the largest class every time would be right for"
        f" {largest:.4f} of them; most of the thesis's cells were (0.2486)."
    )
    return grid_section("The grid of row and column widths", grid, [words], cells)


def _curve_section(bilstm: Trained, cnn: Trained) -> Section:
    names = ("training", "validation")
    return Section(
        "Accuracy and loss by epoch",
        [
            "Validation is what each fit watches: a tenth of the training images under the callbacks,"
            " else the test images, by which nothing is chosen."
        ],
        [
            curve_picture("curves_bilstm", bilstm, f"Curves of the {BILSTM}", names=names),
            curve_picture("curves_cnn", cnn, "Curves of the CNN and the CNN+LSTM", names=names),
        ],
    )


def _class_section(
    best: str, rates: pd.DataFrame, predicted: np.ndarray, test: SequenceData
) -> Section:
    wrong = [
        {
            "group": row["class"],
            "series": "ours",
            "value": row["miss rate"],
            "std": row["miss rate, std"],
            "paper": 1 - CLASSES[row["class"]][1],
        }
        for _, row in rates.iterrows()
    ]
    return Section(
        f"Each emotion ({BILSTM}, {best})",
        (),
        [
            Table(
                "class_rates",
                rates,
                "Each class against the others, mean and deviation over the seeds; the miss rate is"
                " the fraction of wrong predictions.",
            ),
            confusion_picture(
                "confusion", test, predicted, "Row-normalised confusion matrix", "First seed."
            ),
            bar_picture(
                "wrong",
                wrong,
                "fraction of wrong predictions",
                "Fraction of wrong predictions of each true class",
            ),
        ],
    )


def _saliency_section(model: Any, test: SequenceData) -> Section:
    chosen, maps, means = saliency(model, test.x, test.labels, per_class=3)
    right = [place for place in range(len(means)) if (chosen[place] >= 0).any()]
    names = [str(model.classes_[place]) for place in right]
    images = np.where((chosen >= 0)[:, :, None, None], test.x[chosen], 0)[right]
    # Last the class's mean image under its mean map.
    average = np.stack([test.x[test.labels == name].mean(axis=0) for name in names or test.classes])
    words = (
        "Absolute gradients of the class's logit by the pixels, over images that are classified right:"
        " the surest three of each class, and last the class's mean image under its mean map."
    )
    if not right:
        return Section("What the network looks at", ["No image is classified right."])
    images = np.concatenate([images, average[:, None]], axis=1)
    shown = np.concatenate([maps[right], means[right][:, None]], axis=1)
    picture = Picture(
        "saliency",
        lambda width: saliency_sheet(images, shown, names, width=width),
        "Saliency maps over faces of each emotion",
    )
    return Section("What the network looks at", [words], [picture])


def _notes(config: Config, data: Mapping[str, SequenceData], copies: int, best: str) -> list[str]:
    return [
        f"The thesis has 28,821 training and 7,066 test images of the same pool; this run has"
        f" {len(data['train']):,} and {len(data['test']):,}, of which {copies:,} equal a training"
        " image once both are 32x32.",
        f"Row {config.widths[0]}, column {config.widths[1]}, {config.epochs} epochs at most in batches"
        f" of {config.batch_size} (the thesis: 32 of 300); ours: {config.our_epochs} epochs in batches"
        " of 64, cosine schedule.",
        "The final networks standardise the pixels by the training images: with pixels in [0, 1] this"
        " stack of seven layers often stays at the largest class, as most cells of the grid do.",
        "Shear 0.2 is in degrees, as in the Keras generator that the thesis uses.",
        f"Class figures are of the variant {best}, the one with the best test accuracy.",
    ]


if __name__ == "__main__":
    main()
