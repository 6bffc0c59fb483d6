"""Handwritten characters of 62 classes: LSTM against CNN and MLP, each with its grid (2024).

    python -m experiments.emnist --preset smoke|cpu|paper [--data FOLDER] [--field value ...]

The three grids of the report (18, 48 and 36 cells, 3 folds), each in a few compiled programs; then the
best setting of each network as the report prints it, and the same network as we would train it
(augmented images, a cosine schedule), three seeds each; and the CNN that feeds an LSTM which the report
names as its future work.

The report's grids train one epoch a fit where nothing else is said (the default of its library); the
MLP's, whose time it gives as more than 9 hours, has the 15 epochs of its best setting here in the paper
preset and 5 in the cpu preset. Its CNN listing has softmax as the convolutions' activation, so both are
trained. Where it holds out a fifth of the training rows for validation without using it to choose
anything, the cpu preset trains on them: there are few.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import made_up
from experiments.pages.emnist import find
from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier
from jaxlstm.data import SequenceData, load_emnist
from jaxlstm.nn import CNN, CNNLSTM, MLP
from jaxlstm.replication import (
    Part,
    Replication,
    run_replication,
)
from jaxlstm.train.augment import RandomRotation, RandomShift, RandomZoom

AUGMENT = (RandomShift(0.08, 0.08), RandomRotation(10.0), RandomZoom(0.1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """LSTM, CNN and MLP on handwritten characters of 62 classes, each with its grid."""

    samples: int | None = None
    """Training characters to draw; all by default."""
    most: int | None = None
    """Characters of each part to keep at most, each class in its share; all by default."""
    holdout: float = 0.0
    """Share of the training characters that the final models do not train on."""
    widths: tuple[int, ...] = (50, 100, 150)
    """n of the LSTM grid; the network has n, n // 2 and a dense layer of n // 2 units."""
    lstm_grid_epochs: int = 1
    """Epochs of each fit of the LSTM grid."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of the CNN's convolutions."""
    cnn_grid_epochs: tuple[int, ...] = (10, 20)
    """Epochs that the CNN grid varies."""
    mlp_first: tuple[int, ...] = (500, 784)
    """Units of the first layer that the MLP grid varies."""
    mlp_second: tuple[int, ...] = (392, 261, 196)
    """Units of the second one."""
    mlp_activations: tuple[str, ...] = ("relu", "sigmoid", "tanh")
    """Activations that it varies."""
    mlp_grid_epochs: int = 15
    """Epochs of each fit of the MLP grid."""
    lstm_epochs: int = 30
    """Epochs of the report's LSTM, which it does not state."""
    cnn_epochs: int = 10
    """Epochs of the report's CNN."""
    mlp_epochs: int = 15
    """Epochs of the report's MLP."""
    our_epochs: int = 40
    """Epochs of the networks as we would train them."""


PRESETS = {
    "smoke": Config(
        widths=(4,),
        channels=(2, 4),
        cnn_grid_epochs=(1, 2),
        mlp_first=(8,),
        mlp_second=(4,),
        mlp_activations=("relu",),
        mlp_grid_epochs=1,
        lstm_epochs=1,
        cnn_epochs=1,
        mlp_epochs=1,
        our_epochs=1,
        seeds=2,
    ),
    "cpu": Config(most=5000, cnn_grid_epochs=(2, 4), mlp_grid_epochs=5, our_epochs=25),
    "paper": Config(samples=100_000, holdout=0.2),
}


def main() -> None:
    """Runs the study from the command line."""
    run_replication(
        PRESETS, load, parts, find, name="emnist", title="Handwritten characters: LSTM, CNN and MLP"
    )


def load(config: Config) -> Mapping[str, SequenceData]:
    """Train and test images ``[N, 28, 28]``, upright, in [0, 1]."""
    path = config.data
    if config.preset == "smoke" and path is None:
        path = made_up.emnist()
    data = load_emnist("byclass", samples=config.samples, seed=config.seed, path=path)
    if config.most is None:
        return data
    return {
        name: part
        if len(part) <= config.most
        else part.split(config.most / len(part), seed=config.seed)[1]
        for name, part in data.items()
    }


def parts(config: Config, data: Mapping[str, SequenceData]) -> list[Part]:
    """Three grids, then the final models."""
    train, test = data["train"], data["test"]
    together = dataclasses.replace(
        train, x=np.concatenate([train.x, test.x]), y=np.concatenate([train.y, test.y])
    )
    rows = np.arange(len(train))
    if config.holdout:
        rows, _ = train.split_rows(config.holdout, seed=config.seed)
    split = rows, np.arange(len(train), len(together))
    cells = _models(config, len(train.classes))
    return [
        Part("lstm_grid", "LSTM grid: n x dropout x optimizer, 3 folds", _lstm_grid(config), train),
        Part(
            "cnn_grid",
            "CNN grid: batch x epochs x optimizer x dropout, 3 folds",
            _cnn_grid(config, train),
            train,
        ),
        Part(
            "mlp_grid",
            "MLP grid: widths x activation x optimizer, 3 folds",
            _mlp_grid(config, train),
            train,
        ),
        *(
            Part.of_settings(
                name.lower().replace("+", "_"),
                f"{name}, tested on the test set",
                base,
                settings,
                together,
                [split],
                seeds=config.seeds,
                seed=config.seed,
            )
            for name, (base, settings) in cells.items()
        ),
    ]


def _lstm_grid(config: Config) -> GridSearch:
    grid = [
        {
            "units": [(n, n // 2)],
            "dense": [(n // 2,)],
            "dropout": [0.1, 0.2, 0.3],
            "optimizer": ["adam", "rmsprop"],
        }
        for n in config.widths
    ]
    classifier = LSTMClassifier(epochs=config.lstm_grid_epochs)
    return GridSearch(classifier, grid, cv=3, random_state=config.seed, refit=False)


def _cnn_grid(config: Config, train: SequenceData) -> GridSearch:
    grid = {
        "batch_size": [64, 128],
        "epochs": list(config.cnn_grid_epochs),
        "optimizer": ["adam", "sgd", "rmsprop", "adadelta", "nadam", "ftrl"],
        "module__dropout": [0.3, 0.5],
    }
    classifier = FlaxClassifier(CNN(len(train.classes), config.channels))
    return GridSearch(
        classifier,
        grid,
        cv=3,
        random_state=config.seed,
        refit=False,
        validation_freq=max(config.cnn_grid_epochs),
    )


def _mlp_grid(config: Config, train: SequenceData) -> GridSearch:
    grid = {
        "module__units": list(itertools.product(config.mlp_first, config.mlp_second)),
        "module__activation": list(config.mlp_activations),
        "optimizer": ["adam", "sgd"],
    }
    classifier = FlaxClassifier(MLP(len(train.classes)), epochs=config.mlp_grid_epochs)
    return GridSearch(
        classifier,
        grid,
        cv=3,
        random_state=config.seed,
        refit=False,
        validation_freq=config.mlp_grid_epochs,
    )


def _models(config: Config, classes: int) -> dict[str, tuple[Any, dict[str, dict[str, Any]]]]:
    """From each model to its estimator and settings: the report's, and ours."""
    n = max(config.widths)
    lstm = LSTMClassifier(units=(n, n // 2), dense=(n // 2,), dropout=0.2)
    ours = {
        "epochs": config.our_epochs,
        "schedule": "cosine",
        "augment": AUGMENT,
        "learning_rate": 0.003,
    }
    cnn = FlaxClassifier(CNN(classes, config.channels, dropout=0.3), epochs=config.cnn_epochs)
    mlp = FlaxClassifier(
        MLP(classes, units=(784, 392), activation="tanh"), epochs=config.mlp_epochs
    )
    cnn_lstm = CNNLSTM(classes, config.channels, units=(n,), dropout=0.3)
    return {
        "LSTM": (lstm, {"report": {"epochs": config.lstm_epochs}, "ours": ours}),
        "CNN": (
            cnn,
            {
                "report": {"learning_rate": 0.01},
                "report, softmax": {"learning_rate": 0.01, "module__activation": "softmax"},
                "rate 0.001": {"learning_rate": 0.001},
                "ours": ours | {"learning_rate": 0.002},
            },
        ),
        "MLP": (
            mlp,
            {
                "report": {"learning_rate": 0.05},
                "rate 0.001": {"learning_rate": 0.001},
                "ours": ours
                | {
                    "learning_rate": 0.001,
                    "module__activation": "relu",
                    "module__dropout": 0.2,
                },
            },
        ),
        "CNN+LSTM": (FlaxClassifier(cnn_lstm), {"ours": ours | {"learning_rate": 0.002}}),
    }


if __name__ == "__main__":
    main()
