"""Human activity from a phone's accelerometer: stacked LSTMs of 2, 4 and 6 layers (2020).

    python -m experiments.har_wisdm --preset smoke|cpu|paper [--data PATH] [--field value ...]

Every setting of the report's tables, three seeds each, on two splits side by side: windows drawn at
random, as there, and people kept apart. The runs of 200, 300, 350 and 400 epochs are one run, read
four times. Afterwards a random search does what the report names as its aim.

The report states neither window, stride, units, learning rate nor L2 weight. The paper preset has
those of the most used public recipe for this file: windows of 200 samples (10 s) every 20, 64 units,
Adam 0.0025, and 0.0015 on half the sum of squares, which is 0.00075 of Keras's L2. The cpu preset
reads 5 samples (0.25 s) a step, has a stride of 40, a twentieth of the epochs, and learns faster with
less L2, as it has less time. In both a window is of one activity alone; the recipe's may hold two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import loguniform
from sklearn.model_selection import GroupShuffleSplit

from experiments import made_up
from experiments.pages.har_wisdm import find
from jaxlstm import LSTMClassifier, RandomSearch
from jaxlstm.data import SequenceData, load_wisdm
from jaxlstm.replication import (
    Part,
    Replication,
    run_replication,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """Stacked LSTMs on windows of a phone's accelerometer: layers, epochs, batch size, two splits."""

    window: int = 200
    """Samples of a window; 20 are a second."""
    stride: int = 20
    """Samples from one window's start to the next one's."""
    frame: int = 1
    """Samples that the network reads in a step; they divide the window."""
    units: int = 64
    """Units of each LSTM layer."""
    learning_rate: float = 0.0025
    """Adam's."""
    l2: float = 0.00075
    """Weight of the sum of squared weights in the loss."""
    epoch_scale: float = 1.0
    """Share of the report's 200 to 400 epochs to train."""
    test_size: float = 0.3
    """Share of the windows, or of the people, that is tested on."""
    search_cells: int = 32
    """Draws of the random search."""
    search_epochs: int = 100
    """Epochs of each of its fits."""


PRESETS = {
    "smoke": Config(
        window=40,
        stride=40,
        frame=5,
        units=8,
        epoch_scale=0.01,
        seeds=2,
        search_cells=2,
        search_epochs=1,
    ),
    "cpu": Config(
        stride=40,
        frame=5,
        epoch_scale=0.05,
        learning_rate=0.005,
        l2=2e-5,
        search_cells=6,
        search_epochs=5,
    ),
    "paper": Config(),
}


def main() -> None:
    """Runs the study from the command line."""
    run_replication(
        PRESETS, load, parts, find, name="har_wisdm", title="Activity from a phone's accelerometer"
    )


def load(config: Config) -> Mapping[str, SequenceData]:
    """Windows ``[N, window / frame, 3 frame]``, whose steps are ``frame`` samples each."""
    if config.frame < 1 or config.window % config.frame:
        raise ValueError(f"--frame must divide the window of {config.window}, got {config.frame}.")
    path: Path | None = config.data
    if config.preset == "smoke" and path is None:
        path = made_up.wisdm()
    data = load_wisdm(path, window=config.window, stride=config.stride)
    names = tuple(f"{name}, sample {n}" for n in range(config.frame) for name in data.feature_names)
    x = data.x.reshape(len(data), config.window // config.frame, 3 * config.frame)
    data = dataclasses.replace(
        data, x=x, feature_names=names, rate=(data.rate or 20.0) / config.frame
    )
    return {"windows": data}


def parts(config: Config, data: Mapping[str, SequenceData]) -> list[Part]:
    """The report's settings, and the search that it asks for."""
    windows = data["windows"]
    base = LSTMClassifier(
        units=(config.units,) * 2,
        learning_rate=config.learning_rate,
        l2=config.l2,
        standardize=True,
    )
    splits = [
        windows.split_rows(config.test_size, by=by, seed=config.seed) for by in ("sample", "group")
    ]
    search = RandomSearch(
        base.set_params(epochs=config.search_epochs),
        {
            "learning_rate": loguniform(5e-4, 2e-2),
            "l2": loguniform(1e-6, 1e-3),
            "dropout": [0.0, 0.2, 0.4],
            "units": [(config.units,), (config.units,) * 2],
        },
        n_iter=config.search_cells,
        # People of the test part above stay out of the search.
        cv=_people(windows.take(splits[1][0]), config.seed),
        random_state=config.seed,
        refit=False,
    )
    return [
        Part.of_settings(
            "tables",
            "The settings of Tables 2 to 4, on both splits",
            base,
            _cells(config),
            windows,
            splits,
            seeds=config.seeds,
            seed=config.seed,
        ),
        Part("search", "Random search, folds by person", search, windows.take(splits[1][0])),
    ]


def _people(data: SequenceData, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    splitter = GroupShuffleSplit(2, test_size=1 / 3, random_state=seed)
    return list(splitter.split(data.x, data.y, data.groups))


def _cells(config: Config) -> dict[str, dict[str, Any]]:
    def setting(layers: int = 2, epochs: int = 200, batch: int = 32) -> dict[str, Any]:
        return {
            "units": (config.units,) * layers,
            "epochs": max(1, round(epochs * config.epoch_scale)),
            "batch_size": batch,
        }

    return {
        "2 layers": setting(),
        "4 layers": setting(layers=4),
        "6 layers": setting(layers=6),
        "300 epochs": setting(epochs=300),
        "350 epochs": setting(epochs=350),
        "400 epochs": setting(epochs=400),
        "batch 64": setting(batch=64),
        "batch 128": setting(batch=128),
        "best setting": setting(layers=4, epochs=400, batch=128),
    }


if __name__ == "__main__":
    main()
