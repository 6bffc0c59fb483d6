"""A run as files: two or three csv tables and two JSON files, written atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxlstm.report.csv_tables import (
    FLAG,
    NUMBER,
    STATUS,
    TEXT,
    WHOLE,
    Kind,
    csv_text,
    parse_csv,
)
from jaxlstm.report.fields import CONFIG, SUMMARY, check_fields
from jaxlstm.report.problem import Problem, problem_of
from jaxlstm.report.tables import count_confusion
from jaxlstm.report.text import exact_text, is_missing

RESULT_COLUMNS: dict[str, Kind] = {
    "trial": WHOLE,
    "cell": WHOLE,
    "fold": WHOLE,
    "seed": WHOLE,
    "group": WHOLE,
    "status": STATUS,
    "epochs": WHOLE,
    "train_loss": NUMBER,
    "val_loss": NUMBER,
    "score": NUMBER,
}
CURVE_COLUMNS: dict[str, Kind] = {
    "trial": WHOLE,
    "cell": WHOLE,
    "fold": WHOLE,
    "epoch": WHOLE,
    "learning_rate": NUMBER,
    "train_loss": NUMBER,
    "val_loss": NUMBER,
}
#: Columns that predictions may have beside `row`, `true` and `predicted`.
PREDICTION_COLUMNS: dict[str, Kind] = {
    "probability": NUMBER,
    "step": WHOLE,
    "target": TEXT,
    "naive": NUMBER,
    "seasonal_naive": NUMBER,
}
PARTS = ("train_", "val_")
RUN_FILES = ("results.csv", "curves.csv", "predictions.csv", "config.json", "summary.json")
_SCHEMAS = {"config.json": CONFIG, "summary.json": SUMMARY}


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What one search did, as plain tables and dictionaries.

    Attributes:
        results: One row per trial (cell x fold x seed): the columns of `RESULT_COLUMNS`, one
            column `param_<name>` for each searched hyperparameter, and for each metric of the
            task the columns `train_<metric>` and `val_<metric>`: accuracy as a fraction, mse and
            mae in the target's units.
        curves: One row per trial and epoch, the columns of `CURVE_COLUMNS` and those of the
            metrics; losses in the loss's own units. Trial -1 is the refit on all training rows.
        config: Everything needed to repeat the run: name, title, command, config, versions,
            device, data, created. `data` says which task it is, see `Problem`.
        summary: The outcome: best, scoring, plan, test, baselines, seconds, comparison, notes.
            Any key may be missing; the report then lacks that section.
        predictions: The held-out rows, one line per row, step and target, or None: `row`, `true`,
            `predicted`, and any of `PREDICTION_COLUMNS` and `group`. Labels for classification,
            0 or 1 for each label (`target`) for multilabel, numbers for regression.
    """

    results: pd.DataFrame
    curves: pd.DataFrame
    config: dict[str, Any]
    summary: dict[str, Any]
    predictions: pd.DataFrame | None = None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: The file, in an existing folder.
        content: Bytes, or text that is written as UTF-8.

    Raises:
        OSError: The folder is missing, full or not writable, which names the file; the old file is
            then untouched.
    """
    # A text from the user may hold what UTF-8 cannot (a lone surrogate): escape, do not fail.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    # Not tempfile: it makes files that only their owner can read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # The system names the temporary file, or none where the disk is full.
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_inside(folder: Path, names: Iterable[str]) -> None:
    """Check that no file of a folder leads out of it.

    A folder may come from elsewhere: a link in it, of a file or of a folder of files, could show
    another file's content on the page, or have another file written or removed.

    Args:
        folder: A results folder; may be a link itself, and need not exist.
        names: Its files and folders, `"figures/grid.png"`, whether they exist or not.

    Raises:
        ValueError: One is, or stands behind, a link out of the folder; the sentence names it.
    """
    root = os.path.realpath(folder)
    for name in names:
        target = os.path.realpath(folder / name)
        if not Path(target).is_relative_to(root):
            raise ValueError(
                f"{folder / name} leads out of the results folder, to {target}: "
                "remove that link, which is neither read nor written through"
            )


def write_run_files(run: Run, folder: str | os.PathLike[str]) -> None:
    """Write the tables and the settings of a run, without figures and page.

    Everything is checked and turned into text before the first file is touched.

    Args:
        run: The run.
        folder: Where to; made if it does not exist.

    Raises:
        ValueError: A table lacks a column; a column or a field holds something of another kind; a
            file of the folder is a link out of it.
    """
    texts: dict[str, str | None] = {
        "config.json": json_text(sorted_sections(run.config, "config", "versions"), "config"),
        "summary.json": json_text(run.summary, "summary"),
        "predictions.csv": None,
    }
    for name, schema in _SCHEMAS.items():
        check_fields(json.loads(texts[name] or ""), schema, f"run.{name.removesuffix('.json')}")
    problem = problem_of(run.config, "run.config")
    for name, frame, required in (
        ("results", run.results, RESULT_COLUMNS),
        ("curves", run.curves, CURVE_COLUMNS),
    ):
        names = [str(column) for column in frame.columns]
        texts[f"{name}.csv"] = csv_text(frame, metric_columns(names, required), name)
    if run.predictions is not None:
        names = [str(column) for column in run.predictions.columns]
        columns = prediction_columns(names, problem)
        texts["predictions.csv"] = csv_text(run.predictions, columns, "predictions")
        _check_labels(run.predictions, problem, "run.predictions")
    folder = Path(folder)
    check_inside(folder, texts)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if text is None:  # predictions of an earlier run in this folder are not this run's
            (folder / name).unlink(missing_ok=True)
        else:
            write_atomic(folder / name, text)


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run back from its files.

    Numbers come back exactly; a tuple among the hyperparameters comes back as its text,
    `"(150, 75)"`.

    Args:
        folder: A folder that `save_run` wrote.

    Returns:
        The run.

    Raises:
        FileNotFoundError: A file is missing; the sentence names it.
        ValueError: A file is damaged or is a link out of the folder; the sentence names the file,
            and its line, column or field.
    """
    folder = Path(folder)
    check_inside(folder, RUN_FILES)
    results, curves, predictions = (
        folder / f"{name}.csv" for name in ("results", "curves", "predictions")
    )
    config = _read_json(folder / "config.json")
    problem = problem_of(config, str(folder / "config.json"))
    predicted = None
    if predictions.exists():
        predicted = parse_csv(
            _read_text(predictions), predictions, lambda names: prediction_columns(names, problem)
        )
        _check_labels(predicted, problem, str(predictions))
    return Run(
        results=parse_csv(
            _read_text(results), results, lambda names: metric_columns(names, RESULT_COLUMNS)
        ),
        curves=parse_csv(
            _read_text(curves), curves, lambda names: metric_columns(names, CURVE_COLUMNS)
        ),
        config=config,
        summary=_read_json(folder / "summary.json"),
        predictions=predicted,
    )


def metric_columns(names: Sequence[str], required: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the columns that results or curves must have: a metric is in both parts or in none.

    Args:
        names: The table's columns.
        required: Those it must have whatever the metrics are.
    """
    metrics = dict.fromkeys(
        name.removeprefix(part) for name in names for part in PARTS if name.startswith(part)
    )
    return dict(required) | {part + metric: NUMBER for metric in metrics for part in PARTS}


def prediction_columns(names: Sequence[str], problem: Problem) -> dict[str, Kind | None]:
    """Return the columns that predictions must have, and the optional ones they do have.

    Args:
        names: The table's columns.
        problem: What was learned, which decides what a label is.
    """
    # A class may be of any kind.
    label = {"multilabel": FLAG, "regression": NUMBER}.get(problem.task)
    required: dict[str, Kind | None] = {"row": WHOLE, "true": label, "predicted": label}
    if problem.task == "multilabel":
        required["target"] = TEXT
    if problem.per_step:
        required["step"] = WHOLE
    return required | {name: kind for name, kind in PREDICTION_COLUMNS.items() if name in names}


def _check_labels(predictions: pd.DataFrame, problem: Problem, where: str) -> None:
    """Check that the labels are classes of the task, where it names them."""
    if problem.task == "classification" and problem.classes:
        true, predicted = (predictions[name].tolist() for name in ("true", "predicted"))
        try:
            count_confusion(true, predicted, problem.classes)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe, which would wait for ever
            raise ValueError(f"{path} is not a file; a run's folder holds it as one")
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing; a run's folder holds results.csv, curves.csv, config.json and "
            "summary.json, as save_run writes them"
        ) from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}: line {line} is not UTF-8 text") from None


def sorted_sections(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return settings with the keys of the named dictionaries inside them sorted."""
    return {
        key: dict(sorted(value.items(), key=lambda item: str(item[0])))
        if key in names and isinstance(value, Mapping)
        else value
        for key, value in settings.items()
    }


def json_text(value: Mapping[str, Any], argument: str) -> str:
    """Return a dictionary as JSON, NaN and infinity as null, other objects as their text."""
    if not isinstance(value, Mapping):
        raise ValueError(f"run.{argument} is {value!r}; a dict is needed")
    text = json.dumps(_jsonable(value), indent=2, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def _jsonable(value: Any) -> Any:
    """Return `value` in JSON's types: NaN and infinity as null, tuples and arrays as lists."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else exact_text(key): _jsonable(value[key]) for key in value
        }
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return [_jsonable(item) for item in sorted(value, key=repr)]
    if isinstance(value, np.generic) or hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    if isinstance(value, date):  # a datetime is a date, too
        return value.isoformat()
    # A callable, a path, a dtype: its name is worth more than a crash after hours of training.
    return None if is_missing(value) else str(value)


def _read_json(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    try:
        value = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deep to be read") from None
    except ValueError as error:  # NaN, which is not JSON, or a number of thousands of digits
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}; an object is needed")
    check_fields(value, _SCHEMAS[path.name], str(path))
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number there; null is one that is missing")
