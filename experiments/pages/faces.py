"""What the face study shows: networks, grid, rates of each emotion, saliency, prediction time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxlstm.data import SequenceData
from jaxlstm.data.duplicates import unseen_rows
from jaxlstm.evaluation import saliency, scores
from jaxlstm.replication import (
    Comparison,
    Findings,
    Score,
    Trained,
    bar_picture,
    confusion_picture,
    curve_picture,
    grid_section,
    mean_rates,
    sample_picture,
    time_table,
)
from jaxlstm.report import Picture, Section, Table, saliency_sheet
from jaxlstm.report.text import count_text

if TYPE_CHECKING:
    from experiments.faces import Config

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
SUPPORT = {
    "angry": 960, "disgust": 111, "fear": 1018, "happy": 1825, "neutral": 1216, "sad": 1139,
    "surprise": 797,
}  # fmt: skip
AVERAGES = {
    "macro_precision": 0.42, "macro_recall": 0.34, "macro_f1": 0.32,
    "weighted_precision": 0.40, "weighted_recall": 0.42, "weighted_f1": 0.38,
}  # fmt: skip
TEST_ACCURACY, CNN_ACCURACY = 0.4213, 0.53
FIRST_ACCURACY = 0.34  # of row 64, column 64, before the search
VALIDATION = {1: 0.2622, 10: 0.3581}  # after the epoch
BILSTM = "row/column BiLSTM"
ENSEMBLES = {
    f"{BILSTM}, ours: the seeds' mean": ["ours"],
    "BiLSTM, CNN and CNN+LSTM: all seeds' mean": ["ours", "CNN", "CNN+LSTM"],
}


def find(
    config: Config, data: Mapping[str, SequenceData], trained: Mapping[str, Trained]
) -> Findings:
    """The grid, the final networks on both test sets, rates, maps and times."""
    bilstm, ours, cnn, test = trained["bilstm"], trained["ours"], trained["cnn"], data["test"]
    fresh = unseen_rows(data["train"], test)
    cells = {cell: part for part in (bilstm, ours, cnn) for cell in part.part.cells}
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
    best = "ours"
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
            _data_section(data),
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
                        "Mean and deviation over the seeds; seconds of one fit among others.",
                    )
                ],
            ),
            _grid_section(trained["grid"], config),
            _curve_section(bilstm, ours, cnn),
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
        ],
        _notes(config, data, copies, best),
    )


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
    name = cell if part.part.name == "cnn" else f"{BILSTM}, {cell}"
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
        paper, note = _printed(config, name)
        comparison.add(
            f"{name}: test accuracy", paper, Score(row["accuracy"], row["std"], count), note
        )
        comparison.add(
            f"{name}: on test images that are not in train",
            None,
            Score(row["without copies"], row["without copies, std"], count),
        )
    if not config.first_widths:
        note = "row 64, column 64; not run in this preset"
        comparison.add(f"{BILSTM}, before the search: test accuracy", FIRST_ACCURACY, None, note)
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
        what = f"{BILSTM}, ours: {metric.replace('_', ' ')}"
        comparison.add(what, paper, Score.of(found[metric]))
    for _, row in rates.iterrows():
        for words, paper in zip(
            ("precision", "sensitivity", "F1"), CLASSES[row["class"]], strict=True
        ):
            ours = Score(row[words], row[f"{words}, std"], len(predicted))
            comparison.add(f"{BILSTM}, ours: {words} of {row['class']}", paper, ours)
    names = ["module__row_hidden", "module__col_hidden", "optimizer"]
    cells: Any = grid.by_cell().set_index(names)
    for (row_hidden, col_hidden), (paper, spread) in GRID.items():
        for optimizer in ("adam", "sgd"):
            key = row_hidden, col_hidden, optimizer
            known = key in cells.index
            comparison.add(
                f"grid: row {row_hidden}, column {col_hidden}, {optimizer}",
                paper,
                Score(cells.loc[key, "mean"], cells.loc[key, "std"], 0) if known else None,
                f"{count_text(config.grid_epochs, 'epoch')}, {len(grid.part.data):,} images; mean and"
                f" deviation over 3 folds, the thesis's {spread:.6f}",
            )
    return comparison


def _printed(config: Config, name: str) -> tuple[float | None, str]:
    """The thesis's accuracy that belongs to a network, and what differs."""
    epochs = count_text(config.epochs, "epoch")
    if name in (f"{BILSTM}, Adam", f"{BILSTM}, SGD"):
        return TEST_ACCURACY, f"{epochs} at most, the thesis 32; standardised pixels"
    if name == f"{BILSTM}, Adam, before the search":
        return (
            FIRST_ACCURACY,
            f"widths {config.first_widths}; {epochs} at most; standardised pixels",
        )
    if name == f"{BILSTM}, ours":
        own = count_text(config.our_epochs, "epoch")
        return (
            TEST_ACCURACY,
            f"{own}, batches of 64, rate 0.003, cosine, flips; standardised pixels",
        )
    if name == f"{BILSTM}, cosine":
        own = count_text(config.short_epochs, "epoch")
        return TEST_ACCURACY, f"{own}, batches of 64, rate 0.001, cosine; standardised pixels"
    if name == "CNN":
        return CNN_ACCURACY, f"{count_text(config.cnn_epochs, 'epoch')}; the thesis quotes a CNN"
    if name == "CNN+LSTM":
        return None, f"{count_text(config.cnn_epochs, 'epoch')}; asked for by the thesis"
    return None, "mean of the networks' probabilities" if "mean" in name else ""


def _data_section(data: Mapping[str, SequenceData]) -> Section:
    rows = [
        {"group": kind, "series": name, "value": int((part.y == y).sum()), "std": np.nan}
        for name, part in data.items()
        for y, kind in enumerate(part.classes)
    ]
    counts = pd.DataFrame({"class": data["train"].classes})
    for name, part in data.items():
        counts[name] = np.bincount(part.y, minlength=len(part.classes))
    counts["thesis's test images"] = [SUPPORT[name] for name in counts["class"]]
    broken = sum(sum(part.dropped.values()) for part in data.values())
    sizes = {" × ".join(map(str, part.x.shape[1:])) for part in data.values()}
    return Section(
        "The images",
        [
            f"{broken:,} files could not be read or were left out; all others are resized to"
            f" {', '.join(sorted(sizes))} grey pixels."
        ],
        [
            bar_picture("classes", rows, "images", "Images of each class in both parts"),
            Table("classes", counts),
            sample_picture("samples", data["train"], "Training images of each class"),
        ],
    )


def _grid_section(grid: Trained, config: Config) -> Section:
    cells = grid.by_cell()
    widths = zip(cells["module__row_hidden"], cells["module__col_hidden"], strict=True)
    paper = [GRID.get(pair, (np.nan, np.nan)) for pair in widths]
    cells["thesis"], cells["thesis, std"] = zip(*paper, strict=True)
    largest = np.bincount(grid.part.data.y).max() / len(grid.part.data)
    stuck = int((cells["mean"] <= largest + 0.002).sum())
    words = (
        f"{len(grid.part.data):,} training images, {count_text(config.grid_epochs, 'epoch')} a fit,"
        f" inputs in [0, 1] as in the thesis. Guessing the largest class every time would be right for"
        f" {largest:.4f} of them; {stuck} of these {len(cells)} cells are no better, as were four of"
        " the thesis's nine (0.2486)."
    )
    return grid_section("The grid of row and column widths", grid, [words], cells)


def _curve_section(bilstm: Trained, ours: Trained, cnn: Trained) -> Section:
    names = ("training", "validation")
    return Section(
        "Accuracy and loss by epoch",
        [
            "Validation is what each fit watches: a tenth of the training images under the callbacks,"
            " else the test images, by which nothing is chosen."
        ],
        [
            curve_picture("curves_bilstm", bilstm, f"Curves of the {BILSTM}", names=names),
            curve_picture("curves_ours", ours, f"Curves of the {BILSTM}, ours", names=names),
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
        " of 64, learning rate 0.003 with a cosine schedule, flips alone.",
        "The final networks standardise the pixels by the training images, which the thesis does not:"
        " with pixels in [0, 1] this stack can stay at the largest class for many epochs.",
        "Shear 0.2 is in degrees, as in the Keras generator that the thesis uses.",
        f"Class figures, saliency maps and times are of the variant {best}.",
        "Rotation, cropping and scaling, which the thesis names in one chapter only, are not used; nor"
        " is the merge mode varied, which it names as a hyperparameter.",
    ]
