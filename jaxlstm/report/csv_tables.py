"""Tables as csv text and back: exact floats, checked columns, one-sentence errors.

Written here rather than by pandas: a float must come back bit for bit, `01` must stay text, and a
damaged file must be refused with its line and column.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from jaxlstm.report.text import exact_text, is_missing, python_value, shorten

STATUSES = ("ok", "failed")
_WHOLE = re.compile(r"-?[0-9]{1,19}")

# A spreadsheet runs cells that begin like these as formulas, unless an apostrophe stands before them.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a column holds.

    Attributes:
        name: What is needed, for an error: `"a number"`.
        write: Returns a value's text; raises ValueError or TypeError where it is another kind.
        read: Returns the value of a text; raises ValueError.
        dtype: Of a column without rows.
    """

    name: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    dtype: type


# Tables hold whole numbers in 64 bits.
_LARGEST = 2**63


def _write_whole(value: Any) -> str:
    if int(value) != value or not -_LARGEST <= value < _LARGEST:
        raise ValueError(value)
    return repr(int(value))


def _read_whole(field: str) -> int:
    # Python's own `int` takes underscores, blanks and any script's digits, and refuses long texts.
    if not _WHOLE.fullmatch(field) or not -_LARGEST <= int(field) < _LARGEST:
        raise ValueError(field)
    return int(field)


def _write_number(value: Any) -> str:
    return "" if is_missing(value) else repr(float(value))


def _read_number(field: str) -> float:
    if not field.isascii() or "_" in field:  # which `float` takes
        raise ValueError(field)
    return float(field) if field else math.nan


def _write_flag(value: Any) -> str:
    if value not in (0, 1):
        raise ValueError(value)
    return repr(int(value))


def _read_flag(field: str) -> int:
    if field not in ("0", "1"):
        raise ValueError(field)
    return int(field)


def _check_status(value: Any) -> str:
    if value not in STATUSES:
        raise ValueError(value)
    return str(value)


WHOLE = Kind("a whole number", _write_whole, _read_whole, int)
NUMBER = Kind("a number", _write_number, _read_number, float)
FLAG = Kind("0 or 1", _write_flag, _read_flag, int)
TEXT = Kind("a text", exact_text, str, str)
STATUS = Kind(" or ".join(map(repr, STATUSES)), _check_status, _check_status, str)


def csv_text(frame: pd.DataFrame, columns: Mapping[str, Kind | None], argument: str) -> str:
    """Return a table as csv, each value as its exact text.

    Text that a spreadsheet would run as a formula has an apostrophe before it, which `parse_csv`
    takes away.

    Args:
        frame: The table.
        columns: The columns that it must have and what they hold, None for anything, as any other
            column may.
        argument: What the table is, for an error.

    Raises:
        ValueError: A column is missing, or holds something of another kind.
    """
    names = [str(name) for name in frame.columns]
    check_header(names, columns, f"run.{argument}")
    texts = []
    for position, name in enumerate(names):
        values = [python_value(value) for value in frame.iloc[:, position].tolist()]
        kind = columns.get(name)
        if kind is None:
            texts.append([exact_text(value) for value in values])
        else:
            texts.append([_field(value, kind, f"run.{argument}[{name!r}]") for value in values])
    rows = [names, *zip(*texts, strict=True)]
    return "".join(",".join(_quoted(_inert(field)) for field in row) + "\n" for row in rows)


def _inert(field: str) -> str:
    return "'" + field if _FORMULA.match(field) and not _is_number(field) else field


def _plain(field: str) -> str:
    """The text that `_inert` was given."""
    return field[1:] if field.startswith("'") and _FORMULA.match(field) else field


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _quoted(field: str) -> str:
    # Python's csv writer leaves a lone carriage return bare, which its reader takes for a line end.
    if any(mark in field for mark in ',"\r\n'):
        return '"' + field.replace('"', '""') + '"'
    return field


def _field(value: Any, kind: Kind, where: str) -> str:
    try:
        return kind.write(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if kind is STATUS:
        raise ValueError(f"{where} holds {value!r}; allowed: {' or '.join(STATUSES)}")
    raise ValueError(f"{where} holds {value!r}; {kind.name} is needed")


def check_header(names: Iterable[str], columns: Iterable[str], where: str) -> None:
    """Check that a table has columns, and each of its own only once.

    Args:
        names: The table's columns.
        columns: Those it must have.
        where: The table, for an error.

    Raises:
        ValueError: A column is missing or appears twice.
    """
    names = list(names)
    for name in columns:
        if name not in names:
            found = ", ".join(map(repr, names)) or "none"
            raise ValueError(
                f"{where}: the column {name!r} is missing; columns found: {shorten(found, 300)}"
            )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: the column {name!r} appears {names.count(name)} times")


def parse_csv(
    text: str, path: Path, columns: Callable[[list[str]], Mapping[str, Kind | None]]
) -> pd.DataFrame:
    """Return the table of a csv file.

    Args:
        text: The file's content.
        path: The file, for an error.
        columns: Returns the columns that the table must have, of those that its header names, and
            what they hold; None for anything.

    Returns:
        The table; columns of any kind hold numbers or booleans where each of
        their texts is one, else text.

    Raises:
        ValueError: The text is damaged; the sentence says in which line and column.
    """
    if not text.strip():
        raise ValueError(f"{path} is empty; a header line with the columns' names is needed")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        header = list(map(_plain, next(reader)))
        kinds = columns(header)
        check_header(header, kinds, str(path))
        for row in reader:
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: line {reader.line_num} has {len(row)} values, "
                    f"the header names {len(header)} columns"
                )
            lines.append(reader.line_num)
            rows.append(list(map(_plain, row)))
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num} is not valid csv: {error}") from None
    if not text.endswith("\n"):
        raise ValueError(f"{path}: line {reader.line_num} is cut short: it has no line end")
    table: dict[str, pd.Series] = {}
    for position, name in enumerate(header):
        fields = [row[position] for row in rows]
        kind = kinds.get(name)
        if kind is None:
            table[name] = _guess_series(fields)
            continue
        values = []
        for line, field in zip(lines, fields, strict=True):
            try:
                values.append(kind.read(field))
            except ValueError:
                raise ValueError(
                    f"{path}: line {line}, column {name!r}: {shorten(repr(field), 60)} found, "
                    f"{kind.name} is needed"
                ) from None
        table[name] = pd.Series(values, dtype=None if values else kind.dtype)
    return pd.DataFrame(table, columns=header)


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
