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

from experiments import made_up
from experiments.pages.faces import BILSTM, find
from jaxlstm import FlaxClassifier, GridSearch
from jaxlstm.data import SequenceData, load_faces
from jaxlstm.nn import CNN, CNNLSTM, RowColumnBiLSTM
from jaxlstm.replication import (
    Part,
    Replication,
    run_replication,
)
from jaxlstm.train.augment import RandomFlip, RandomShear, RandomZoom


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """A stacked row/column BiLSTM, a CNN and a CNN+LSTM on images of seven emotions."""

    row_hidden: tuple[int, ...] = (32, 64, 128)
    """Row widths of the grid."""
    col_hidden: tuple[int, ...] = (16, 32, 64)
    """Column widths of the grid."""
    grid_rows: int | None = None
    """Training images that the grid uses; all by default."""
    grid_epochs: int = 1
    """Epochs of each of its fits."""
    widths: tuple[int, int] = (32, 64)
    """Row and column width of the final network: the best cell of the thesis's grid."""
    first_widths: tuple[int, ...] = (64, 64)
    """Those that the thesis had before its search; none to leave them out."""
    epochs: int = 32
    """Epochs of the final networks."""
    batch_size: int = 300
    """Their batch size; the thesis has 96 batches an epoch."""
    short_epochs: int = 32
    """Epochs of the BiLSTM with a cosine schedule in place of the callbacks."""
    our_epochs: int = 64
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
        first_widths=(4, 6),
        epochs=1,
        short_epochs=1,
        our_epochs=1,
        cnn_epochs=1,
        channels=(4, 4),
        batch_size=32,
        seeds=2,
        balanced=False,
    ),
    "cpu": Config(
        grid_rows=3000,
        first_widths=(),
        epochs=10,
        short_epochs=13,
        our_epochs=20,
        cnn_epochs=6,
        balanced=False,
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
    if not tests:
        raise ValueError(f"{path} has no part named validation or test to test on.")
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
    ours = {
        "ours": {
            "epochs": config.our_epochs,
            "batch_size": 64,
            "learning_rate": 0.003,
            "schedule": "cosine",
            "augment": (RandomFlip(),),
        }
    }
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
            "ours", f"The {BILSTM} as we would train it", bilstm, ours, together, [split], **both
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
        "cosine": {
            "epochs": config.short_epochs,
            "batch_size": 64,
            "learning_rate": 0.001,
            "schedule": "cosine",
        },
    }
    if config.first_widths:
        row, col = config.first_widths
        first = {"module__row_hidden": row, "module__col_hidden": col}
        cells["Adam, before the search"] = thesis | first
    if config.balanced:
        cells["Adam, balanced classes"] = thesis | {"class_weight": "balanced"}
    return cells


def _cnn_cells(config: Config, train: SequenceData) -> dict[str, dict[str, Any]]:
    classes, channels = len(train.classes), config.channels
    cnn = CNN(classes, channels, padding="same", dropout=0.2, dense=(128,), dense_dropout=0.2)
    cnn_lstm = CNNLSTM(classes, channels[:2], units=(128,), dropout=0.2)
    return {"CNN": {"module": cnn}, "CNN+LSTM": {"module": cnn_lstm}}


if __name__ == "__main__":
    main()
