"""A run as files: two or three csv tables and two JSON files, written atomically.

The csv files are written and read here rather than by pandas: a float must come back bit for
bit, `01` must stay text, and a damaged file must be refused with its line and column.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxlstm.report.text import exact_text, is_missing, python_value

RESULT_COLUMNS: dict[str, type] = {
    "trial": int,
    "cell": int,
    "fold": int,
    "seed": int,
    "group": int,
    "status": str,
    "epochs": int,
    "train_loss": float,
    "train_accuracy": float,
    "val_loss": float,
    "val_accuracy": float,
    "score": float,
}
CURVE_COLUMNS: dict[str, type] = {
    "trial": int,
    "cell": int,
    "fold": int,
    "epoch": int,
    "learning_rate": float,
    "train_loss": float,
    "train_accuracy": float,
    "val_loss": float,
    "val_accuracy": float,
}
PREDICTION_COLUMNS: dict[str, type] = {
    "row": int,
    "true": object,
    "predicted": object,
    "probability": float,
}
STATUSES = ("ok", "failed")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What one search did, as plain tables and dictionaries.

    Attributes:
        results: One row a trial (cell x fold x seed): the columns of `RESULT_COLUMNS`, and one
            column `param_<name>` for each searched hyperparameter.
        curves: One row a trial and epoch, columns `CURVE_COLUMNS`; losses in the loss's own
            units, accuracies as fractions. Trial -1 is the refit on all training rows.
        config: Everything needed to repeat the run: name, title, command, config, versions,
            device, data, created.
        summary: What came out: best, scoring, plan, test, seconds, comparison, notes. Any key
            may be missing; the report then lacks that section.
        predictions: The held-out test rows, columns `PREDICTION_COLUMNS`, or None.
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
        OSError: The folder is missing, full or not writable; the old file is then untouched.
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
    finally:
        temporary.unlink(missing_ok=True)


def write_run_files(run: Run, folder: str | os.PathLike[str]) -> None:
    """Write the tables and the settings of a run, without figures and page.

    Everything is checked and turned into text before the first file is touched.

    Args:
        run: The run.
        folder: Where to; made if it does not exist.

    Raises:
        ValueError: A table lacks a column, or a column holds something of another kind.
    """
    texts: dict[str, str | None] = {
        "results.csv": csv_text(run.results, RESULT_COLUMNS, "results"),
        "curves.csv": csv_text(run.curves, CURVE_COLUMNS, "curves"),
        "predictions.csv": None,
        "config.json": json_text(sorted_sections(run.config, "config", "versions"), "config"),
        "summary.json": json_text(run.summary, "summary"),
    }
    if run.predictions is not None:
        texts["predictions.csv"] = csv_text(run.predictions, PREDICTION_COLUMNS, "predictions")
    folder = Path(folder)
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
        ValueError: A file is damaged; the sentence names the file and the line or column.
    """
    folder = Path(folder)
    predictions = folder / "predictions.csv"
    return Run(
        results=_read_csv(folder / "results.csv", RESULT_COLUMNS),
        curves=_read_csv(folder / "curves.csv", CURVE_COLUMNS),
        config=_read_json(folder / "config.json"),
        summary=_read_json(folder / "summary.json"),
        predictions=_read_csv(predictions, PREDICTION_COLUMNS) if predictions.exists() else None,
    )


def csv_text(frame: pd.DataFrame, columns: Mapping[str, type], argument: str) -> str:
    """Return a table as csv, each value as its exact text.

    Args:
        frame: The table.
        columns: The columns that it must have and what they hold; any other holds anything.
        argument: What the table is, for an error.

    Raises:
        ValueError: A column is missing, or holds something of another kind.
    """
    names = [str(name) for name in frame.columns]
    _check_header(names, columns, f"run.{argument}")
    texts = []
    for position, name in enumerate(names):
        values = frame.iloc[:, position].tolist()
        kind = columns.get(name, object)
        texts.append([_field(value, kind, f"run.{argument}[{name!r}]") for value in values])
    rows = [names, *zip(*texts, strict=True)]
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows)


def _quoted(field: str) -> str:
    # Python's csv writer leaves a lone carriage return bare, which its reader takes for a line end.
    if any(mark in field for mark in ',"\r\n'):
        return '"' + field.replace('"', '""') + '"'
    return field


def _field(value: Any, kind: type, where: str) -> str:
    value = python_value(value)
    if kind is object:
        return exact_text(value)
    if kind is str:
        if value not in STATUSES:
            raise ValueError(f"{where} holds {value!r}; allowed: {' or '.join(STATUSES)}")
        return str(value)
    try:
        if kind is int:
            if int(value) == value:
                return repr(int(value))
        else:
            return "" if is_missing(value) else repr(float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{where} holds {value!r}; {_KINDS[kind]} is needed")


_KINDS = {int: "a whole number", float: "a number"}


def _check_header(names: list[str], columns: Mapping[str, type], where: str) -> None:
    for name in columns:
        if name not in names:
            found = ", ".join(map(repr, names)) or "none"
            raise ValueError(f"{where}: the column {name!r} is missing; columns found: {found}")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: the column {name!r} appears {names.count(name)} times")


def _read_text(path: Path) -> str:
    try:
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


def _read_csv(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    text = _read_text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty; a header line with the columns' names is needed")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        header = next(reader)
        _check_header(header, columns, str(path))
        for row in reader:
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: line {reader.line_num} has {len(row)} values, "
                    f"the header names {len(header)} columns"
                )
            lines.append(reader.line_num)
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num} is not valid csv: {error}") from None
    if not text.endswith("\n"):
        raise ValueError(f"{path}: line {reader.line_num} is cut short: it has no line end")
    table: dict[str, pd.Series] = {}
    for position, name in enumerate(header):
        fields = [row[position] for row in rows]
        kind = columns.get(name, object)
        if kind is object:
            table[name] = _guess_series(fields)
            continue
        values = []
        for line, field in zip(lines, fields, strict=True):
            try:
                values.append(_PARSERS[kind](field))
            except ValueError:
                needed = _KINDS.get(kind) or " or ".join(map(repr, STATUSES))
                raise ValueError(
                    f"{path}: line {line}, column {name!r}: {field!r} found, {needed} is needed"
                ) from None
        table[name] = pd.Series(values, dtype=None if values else kind)
    return pd.DataFrame(table, columns=header)


def _float(field: str) -> float:
    return float(field) if field else math.nan


def _status(field: str) -> str:
    if field not in STATUSES:
        raise ValueError(field)
    return field


_PARSERS: dict[type, Callable[[str], Any]] = {int: int, float: _float, str: _status}
_BOOLEANS = {"True": True, "False": False}


def _guess_series(fields: list[str]) -> pd.Series:
    """Make numbers or booleans of a column only where writing them again gives the same text."""
    present = [field for field in fields if field]
    values: list[Any] = [field if field else math.nan for field in fields]
    if present and all(field in _BOOLEANS for field in present):
        values = [_BOOLEANS.get(field, math.nan) for field in fields]
    elif present and all(_number(field) is not None for field in present):
        values = [_number(field) if field else math.nan for field in fields]
    kinds = {type(value) for value in values}
    # pandas would make floats of mixed integers and NaN, which are then another text.
    return pd.Series(values, dtype=object if len(kinds) > 1 or not values else None)


def _number(field: str) -> int | float | None:
    for kind in (int, float):
        try:
            number = kind(field)
        except ValueError:
            continue
        if repr(number) == field:
            return number
    return None


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
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}; an object is needed")
    return value
