"""Handwritten characters of 62 classes: LSTM against CNN and MLP, each with its grid (2024).

    python -m experiments.emnist --preset smoke|cpu|paper [--data FOLDER] [--field value ...]

The three grids of the report (18, 48 and 36 cells, 3 folds), each in a few compiled programs; then the
best setting of each network as the report prints it, and the same network as we would train it
(augmented images, a cosine schedule), three seeds each; and the CNN that feeds an LSTM which the report
names as its future work.

The report's grids train one epoch a fit unless a grid says otherwise; its CNN listing has softmax as
the convolutions' activation, so both are trained. Where it holds out a fifth of the training rows for
validation without using it to choose anything, the cpu preset trains on them: there are few.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments import made_up
from jaxlstm import FlaxClassifier, GridSearch, LSTMClassifier
from jaxlstm.data import SequenceData, load_emnist
from jaxlstm.evaluation import prediction_times, scores
from jaxlstm.nn import CNN, CNNLSTM, MLP
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
    run_replication,
    sample_picture,
    time_table,
)
from jaxlstm.report import Picture, Section, Table
from jaxlstm.report.text import count_text
from jaxlstm.train.augment import RandomRotation, RandomShift, RandomZoom

# accuracy, macro precision, recall, F1, seconds of training and of inference
REPORT = {
    "LSTM": (0.8363, 0.7360, 0.7016, 0.7030, 176.85, 2.01),
    "CNN": (0.8291, 0.7199, 0.6833, 0.6876, 77.60, 1.36),
    "MLP": (0.8174, 0.6872, 0.6751, 0.6720, 80.88, 1.09),
}
BEST = {
    "LSTM": "n 150, dropout 0.2, adam",
    "CNN": "batch 32, dropout 0.3, 10 epochs, adam (rate 0.01)",
    "MLP": "784, 392, tanh, adam, rate 0.05, 15 epochs",
}
METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
MLP_GRID_SECONDS = 9 * 3600
AUGMENT = (RandomShift(0.08, 0.08), RandomRotation(10.0), RandomZoom(0.1))
WHOSE = {"report": "the report's setting", "ours": "trained as we would"}
NOTES = {
    "ours": "cosine schedule, augmented images",
    "report, softmax": "softmax after the convolutions, as in the report's listing",
    "rate 0.001": "the report's setting but for Adam's usual rate",
}
MODELS = ("LSTM", "CNN", "MLP", "CNN+LSTM")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Replication):
    """Settings of the handwriting study."""

    samples: int | None = None
    """Training characters to draw; all by default."""
    holdout: float = 0.0
    """Share of them that the report's settings do not train on."""
    widths: tuple[int, ...] = (50, 100, 150)
    """n of the LSTM grid; the network has n, n // 2 and a dense layer of n // 2 units."""
    lstm_grid_epochs: int = 1
    """Epochs of each fit of the LSTM grid."""
    cnn_grid_epochs: tuple[int, ...] = (10, 20)
    """Epochs that the CNN grid varies."""
    mlp_widths: tuple[tuple[int, ...], tuple[int, ...]] = ((500, 784), (392, 261, 196))
    """Units of the first and of the second layer that the MLP grid varies."""
    mlp_grid_epochs: int = 15
    """Epochs of each fit of the MLP grid."""
    lstm_epochs: int = 30
    """Epochs of the report's LSTM, which does not state them."""
    our_epochs: int = 40
    """Epochs of the networks as we would train them."""


PRESETS = {
    "smoke": Config(
        widths=(4,),
        cnn_grid_epochs=(1, 2),
        mlp_widths=((8,), (4,)),
        mlp_grid_epochs=1,
        lstm_epochs=1,
        our_epochs=1,
        seeds=2,
    ),
    "cpu": Config(cnn_grid_epochs=(2, 4), mlp_grid_epochs=5, our_epochs=25),
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
    return load_emnist("byclass", samples=config.samples, seed=config.seed, path=path)


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
                validation_freq=1,
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
    classifier = FlaxClassifier(CNN(len(train.classes)))
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
        "module__units": list(itertools.product(*config.mlp_widths)),
        "module__activation": ["relu", "sigmoid", "tanh"],
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
    few, ten, fifteen = (min(epochs, config.our_epochs) for epochs in (config.lstm_epochs, 10, 15))
    cnn = FlaxClassifier(CNN(classes, dropout=0.3))
    cnn_lstm = CNNLSTM(classes, units=(n,), dropout=0.3)
    return {
        "LSTM": (lstm, {"report": {"epochs": few}, "ours": ours}),
        "CNN": (
            cnn,
            {
                "report": {"epochs": ten, "learning_rate": 0.01},
                "report, softmax": {
                    "epochs": ten,
                    "learning_rate": 0.01,
                    "module__activation": "softmax",
                },
                "rate 0.001": {"epochs": ten, "learning_rate": 0.001},
                "ours": ours | {"learning_rate": 0.002},
            },
        ),
        "MLP": (
            FlaxClassifier(MLP(classes, units=(784, 392), activation="tanh")),
            {
                "report": {"epochs": fifteen, "learning_rate": 0.05},
                "rate 0.001": {"epochs": fifteen, "learning_rate": 0.001},
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


def find(
    config: Config, data: Mapping[str, SequenceData], trained: Mapping[str, Trained]
) -> Findings:
    """Grids, the table of the best models, bars, curves, confusions."""
    train, test = data["train"], data["test"]
    table = pd.concat([_measured(name, trained[_key(name)]) for name in MODELS])
    accuracy = table.set_index(["model", "setting"])["accuracy"]
    std = table.set_index(["model", "setting"])["std"]
    grid = trained["mlp_grid"]
    headline = (
        f"On {len(train):,} training characters the report's best settings reach "
        + ", ".join(f"{accuracy[name, 'report']:.4f} ({name})" for name in REPORT)
        + " of the test characters; the networks as we would train them "
        + ", ".join(f"{accuracy[name, 'ours']:.4f} ({name})" for name in MODELS)
        + "."
    )
    tiles = [
        *(
            (name, f"{accuracy[name, 'ours']:.4f}", f"± {std[name, 'ours']:.4f}, ours")
            for name in MODELS
        ),
        ("MLP grid", grid.time, f"{len(grid.results)} fits; the report: more than 9 hours"),
    ]
    ours = {name: trained[_key(name)].models("ours")[0] for name in MODELS}
    last = MODELS[-1]
    return Findings(
        headline,
        tiles,
        _comparison(trained, table),
        [
            Section(
                "The best models",
                [
                    f"{len(train):,} characters to learn from, {len(test):,} to be tested on,"
                    f" {len(train.classes)} classes. The diamonds are the report's."
                ],
                [
                    Table(
                        "models",
                        table,
                        "Means over the seeds on the test set; training is one fit on one core,"
                        " inference the whole test set.",
                    ),
                    *_bar_charts(table),
                ],
            ),
            grid_section(
                "The LSTM grid",
                trained["lstm_grid"],
                [f"{count_text(config.lstm_grid_epochs, 'epoch')} a fit."],
            ),
            grid_section(
                "The CNN grid",
                trained["cnn_grid"],
                [
                    f"{' and '.join(map(str, config.cnn_grid_epochs))} epochs; the shorter runs are"
                    " read off the longer ones."
                ],
            ),
            grid_section(
                "The MLP grid",
                grid,
                [
                    f"{count_text(config.mlp_grid_epochs, 'epoch')} a fit. The report's 108 fits took"
                    " more than 9 hours on an A100."
                ],
            ),
            Section(
                "Learning curves",
                (),
                [
                    curve_picture(
                        f"curves_{_key(name)}",
                        trained[_key(name)],
                        f"Loss and accuracy of the {name} by epoch",
                        f"{name}: mean over the seeds in a band from the lowest to the highest.",
                    )
                    for name in MODELS
                ],
            ),
            Section(
                "Characters",
                (),
                [
                    sample_picture("samples", train, "Sample characters of every class"),
                    confusion_picture(
                        "confusion",
                        test,
                        ours[last].predict(test.x),
                        f"Confusion matrix of the {last}",
                        f"{last}, first seed, test set.",
                    ),
                ],
            ),
            Section("Prediction time", (), [time_table(ours, test.x)]),
        ],
        _notes(config, data),
    )


def _key(model: str) -> str:
    return model.lower().replace("+", "_")


def _measured(name: str, trained: Trained) -> pd.DataFrame:
    """A row a setting: scores on the test set over the seeds, and times."""
    test = trained.test()
    rows = []
    for cell in trained.part.cells:
        models = trained.models(cell)
        found = pd.DataFrame([scores(test.labels, model.predict(test.x)) for model in models])
        seconds = prediction_times(models[0], test.x, batch_sizes=(len(test),), repeats=5)
        rows.append(
            {
                "model": name,
                "setting": cell,
                **{metric: found[metric].mean() for metric in METRICS},
                "std": found["accuracy"].std(ddof=0),
                **{f"{metric} std": found[metric].std(ddof=0) for metric in METRICS[1:]},
                "seeds": len(models),
                "training s": trained.score(cell, column="fit_seconds").mean,
                "inference s": seconds["p50_ms"].iloc[0] / 1000,
            }
        )
    return pd.DataFrame(rows)


def _comparison(trained: Mapping[str, Trained], table: pd.DataFrame) -> Comparison:
    comparison = Comparison()
    for _, row in table.iterrows():
        name, setting = row["model"], row["setting"]
        is_report = setting == "report"
        printed = REPORT[name] if is_report else (None,) * 6
        note = BEST[name] if is_report else NOTES.get(setting, "")
        for metric, paper in zip(METRICS, printed, strict=False):
            deviation = row["std" if metric == "accuracy" else f"{metric} std"]
            comparison.add(
                f"{name}, {WHOSE.get(setting, setting)}: {metric.replace('_', ' ')}",
                paper,
                Score(row[metric], deviation, int(row["seeds"])),
                note,
            )
        for what, paper in zip(("training", "inference"), printed[4:], strict=True):
            comparison.add(
                f"{name}, {WHOSE.get(setting, setting)}: {what}, s",
                paper,
                float(row[f"{what} s"]),
                "the report: an A100; ours: one core" if is_report else "one core",
            )
    comparison.add(
        f"MLP grid, {len(trained['mlp_grid'].results)} fits, s",
        f"> {MLP_GRID_SECONDS:,}",
        trained["mlp_grid"].seconds,
        "the report: more than 9 hours on an A100; ours: all cores, compilation included",
    )
    for name in REPORT:
        grid = trained[f"{_key(name)}_grid"].by_cell().sort_values("mean", ascending=False)
        best = grid.iloc[0]
        words = ", ".join(
            f"{key.removeprefix('module__')} {value}"
            for key, value in best.items()
            if key not in ("mean", "std", "seconds a fit")
        )
        note = f"accuracy {best['mean']:.4f}, mean of 3 folds"
        comparison.add(f"{name} grid, best cell", BEST[name], words, note)
    return comparison


def _bar_charts(table: pd.DataFrame) -> list[Picture]:
    shown = table[table["setting"].isin(["report", "ours"])]

    def rows(metrics: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            {
                "group": " ".join([row["model"], words]).strip(),
                "series": WHOSE[row["setting"]],
                "value": row[metric],
                "std": row["std" if metric == "accuracy" else f"{metric} std"],
                "paper": REPORT[row["model"]][METRICS.index(metric)]
                if row["setting"] == "report"
                else np.nan,
            }
            for metric, words in metrics.items()
            for _, row in shown.iterrows()
        ]

    averages = {"macro_precision": "precision", "macro_recall": "recall", "macro_f1": "F1"}
    times = [
        {
            "group": row["model"],
            "series": what,
            "value": row[f"{what} s"],
            "std": np.nan,
            "paper": REPORT[row["model"]][place] if row["model"] in REPORT else np.nan,
        }
        for place, what in ((4, "training"), (5, "inference"))
        for _, row in shown.iterrows()
        if row["setting"] == "report" or row["model"] not in REPORT
    ]
    return [
        bar_picture("accuracy", rows({"accuracy": ""}), "test accuracy", "Accuracy of each model"),
        bar_picture(
            "metrics", rows(averages), "macro average", "Precision, recall and F1 of each model"
        ),
        bar_picture(
            "times",
            times,
            "seconds",
            "Seconds of training and of inference",
            "Ours: one fit on one core of this machine; the report's: an A100. A logarithmic axis.",
            log=True,
        ),
    ]


def _notes(config: Config, data: Mapping[str, SequenceData]) -> list[str]:
    notes = [
        "Training times are of one fit among others on one core, compilation aside.",
        "The CNN's report setting is outside its own grid (batch 32).",
    ]
    rows = len(data["train"])
    if rows != 100_000:
        notes.append(
            f"The report trains on 100,000 characters of EMNIST ByClass; these are {rows:,}"
            f" ({rows // len(data['train'].classes)} a class): figures cannot be compared one to one."
        )
    if not config.holdout:
        notes.append("Nothing is held out of the training rows: no figure was chosen by it.")
    return notes


if __name__ == "__main__":
    main()
