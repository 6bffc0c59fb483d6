"""Emotion of sung phrases from MFCC: a small learning rate against overfitting (2023).

    python -m experiments.ravdess --preset smoke|cpu|paper [--data PATH] [--field value ...]

Phase 1 (two LSTM layers, which overfit) and phase 2 (one layer, dropout, more epochs) with their
curves; a Conv1D and a Conv2D network beside them; each with three seeds on two splits: recordings
drawn at random, as there, and singers kept apart. Then what the report only argues, as one grid:
learning rate x schedule x dropout x layers, and the gap between training and test accuracy as a map.

The report can be read in two ways. Its kernel of 256 x 1,024 says that a step is one of the 32
coefficients with its 256 frames, and its dense kernel of 256 x 128 that phase 2 takes the last state.
Its list of layers has a flattening between the LSTM and the dense layer, which does something only to
the outputs of all steps. Phase 1 and "phase 2, last state" are the first reading; "phase 2" is the
second, the LSTM going through the 256 frames. MFCC are standardised by the training rows, which the
report does not mention. The cpu preset trains the second reading for 15 of the 50 epochs on every
fourth frame, and the grid with narrower layers and fewer epochs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import made_up
from experiments.pages.ravdess import find
from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier
from jaxlstm.data import MFCC, SequenceData, load_ravdess
from jaxlstm.nn import CNN, Conv1D, LSTMClassifierNetwork
from jaxlstm.replication import (
    Part,
    Replication,
    run_replication,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """LSTMs on MFCC of sung phrases: two phases, and a grid of learning rates."""

    units: int = 256
    """Units of the phases' LSTM layers."""
    phase_epochs: tuple[int, int] = (10, 50)
    """Epochs of phase 1 and of phase 2 with its last state."""
    longer_epochs: int = 30
    """Epochs of phase 1 until it has learned its training songs by heart."""
    flat_epochs: int = 50
    """Epochs of phase 2 with its flattened outputs."""
    every: int = 1
    """It and the Conv networks read every so many frames."""
    baseline_epochs: int = 30
    """Epochs of the convolutional networks."""
    test_size: float = 0.4
    """Share of the recordings, or of the singers, that is tested on."""
    rates: int = 8
    """Learning rates of the grid, from 0.0001 to 0.03 in equal factors."""
    schedules: tuple[str, ...] = ("constant", "step", "exponential", "cosine", "plateau")
    """Its learning-rate schedules."""
    dropouts: tuple[float, ...] = (0.0, 0.25)
    """Its dropout rates."""
    grid_units: int = 256
    """Units of its LSTM layers."""
    grid_epochs: int = 50
    """Epochs of each of its fits."""


PRESETS = {
    "smoke": Config(
        units=8,
        phase_epochs=(1, 2),
        longer_epochs=2,
        flat_epochs=1,
        baseline_epochs=1,
        rates=2,
        schedules=("constant", "plateau"),
        grid_units=4,
        grid_epochs=1,
        seeds=2,
    ),
    "cpu": Config(flat_epochs=15, every=4, baseline_epochs=15, grid_units=32, grid_epochs=6),
    "paper": Config(),
}


def main() -> None:
    """Runs the study from the command line."""
    run_replication(PRESETS, load, parts, find, name="ravdess", title="Emotion of sung phrases")


def load(config: Config) -> Mapping[str, SequenceData]:
    """MFCC ``[N, 256, 32]``: 32 coefficients of 256 frames, the singers as groups."""
    path = config.data
    smoke = config.preset == "smoke" and path is None
    features = MFCC(n_mfcc=32, length=64 if smoke else 256)
    source = made_up.ravdess() if smoke else path
    return {"songs": load_ravdess(source, features=features, cache=not smoke)}


def parts(config: Config, data: Mapping[str, SequenceData]) -> list[Part]:
    """The phases in both readings, the baselines, the grid."""
    songs = data["songs"]
    splits = [
        songs.split_rows(config.test_size, by=by, seed=config.seed) for by in ("sample", "group")
    ]
    by_frame = dataclasses.replace(
        songs, x=np.ascontiguousarray(songs.x[:, :: config.every]), lengths=None
    )
    by_coefficient = dataclasses.replace(
        songs,
        x=np.ascontiguousarray(songs.x.transpose(0, 2, 1)),
        lengths=None,
        feature_names=(),
        rate=None,
    )
    classes, units = len(songs.classes), config.units
    drops: dict[str, Any] = {"dropout": 0.25, "dense_dropout": 0.25}
    last_state: dict[str, dict[str, Any]] = {
        "phase 1": {"units": (units, units), "dense": (64, 16), "epochs": config.phase_epochs[0]},
        "phase 2, last state": {
            "units": (units,),
            "dense": (128,),
            "epochs": config.phase_epochs[1],
            **drops,
        },
    }
    flat = LSTMClassifierNetwork(classes, (units,), (128,), flatten=True, **drops)
    convolutions: dict[str, dict[str, Any]] = {
        "Conv1D": {"module": Conv1D(classes, dropout=0.25, dense=(128,))},
        "Conv2D": {
            "module": CNN(classes, channels=(16, 32, 64), dropout=0.25, dense=(64,)),
        },
    }
    common: dict[str, Any] = {"learning_rate": 0.001, "standardize": True}
    both: dict[str, Any] = {"splits": splits, "seeds": config.seeds, "seed": config.seed}
    return [
        Part.of_settings(
            "last_state",
            "Phase 1, and phase 2 with its last state, both splits",
            LSTMClassifier(**common),
            last_state,
            by_coefficient,
            **both,
        ),
        Part.of_settings(
            "longer",
            "Phase 1 for longer, both splits",
            LSTMClassifier(**common),
            {"phase 1, longer": last_state["phase 1"] | {"epochs": config.longer_epochs}},
            by_coefficient,
            **both,
        ),
        Part.of_settings(
            "flattened",
            "Phase 2 with its flattened outputs, both splits",
            FlaxClassifier(flat, **common),
            {"phase 2": {"epochs": config.flat_epochs}},
            by_frame,
            **both,
        ),
        Part.of_settings(
            "baselines",
            "Conv1D and Conv2D, both splits",
            FlaxClassifier(epochs=config.baseline_epochs, **common),
            convolutions,
            by_frame,
            **both,
        ),
        Part(
            "rates",
            "Learning rate x schedule x dropout x layers, one grid",
            _grid(config, splits),
            by_coefficient,
        ),
    ]


def _grid(config: Config, splits: Any) -> GridSearch:
    epochs = config.grid_epochs
    grid = {
        "learning_rate": np.geomspace(1e-4, 3e-2, config.rates).tolist(),
        "schedule": list(config.schedules),
        "dropout": list(config.dropouts),
        "units": [(config.grid_units,) * layers for layers in (1, 2)],
    }
    classifier = LSTMClassifier(
        dense=(128,),
        epochs=epochs,
        standardize=True,
        decay_epochs=max(1, epochs // 4),
        decay_rate=0.5,
        # "plateau" watches the training loss: the test part is not for training by.
        plateau_monitor="loss",
        plateau_patience=max(1, epochs // 10),
        plateau_factor=0.5,
    )
    return GridSearch(classifier, grid, cv=splits, random_state=config.seed, refit=False)


if __name__ == "__main__":
    main()
