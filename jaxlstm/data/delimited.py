"""Tables from files as pandas, R, spreadsheets and people write them: text with separators, parquet."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxlstm.data.archives import members
from jaxlstm.data.columns import check_columns, is_number
from jaxlstm.data.packed import read_packed

#: Endings of the files that are read as tables, and what separates the values of a line.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".parquet": ""}

_PACKED = (".gz", ".bz2", ".xz", ".zip")
_TABLE_BYTES = 8 << 30
_MARKS: dict[bytes, str] = {
    b"PK\x03\x04": "an Excel workbook or another zip archive: save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV UTF-8",
    b"PAR1": "a parquet file: let its name end in .parquet",
}
_DECIMAL_COMMA = re.compile(r"[+-]?(\d*,\d+|\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


class _Form(NamedTuple):
    """How a text file writes a table."""

    content: bytes
    encoding: str
    separator: str
    names: list[str]  # of its columns, as they are written
    first: int  # line of the header, from 0


def table_suffix(path: Path) -> str:
    """The ending of a table's file, ``.csv``, ``.tsv`` or ``.parquet``, packed or not; "" of others."""
    suffix = Path(_unpacked_name(path)).suffix.lower()
    return suffix if suffix in SEPARATORS else ""


def table_name(path: Path) -> str:
    """The name of a table's file without its endings."""
    return Path(_unpacked_name(path)).stem


def read_header(path: Path) -> list[str]:
    """Names of the columns of a table, none where they cannot be read.

    Args:
      path: of a file with one of the endings of ``SEPARATORS``.
    """
    try:
        if table_suffix(path) == ".parquet":
            return [str(name) for name in _read_parquet(path).columns]
        return [name.strip() for name in _form(path, ()).names]
    except (ValueError, ImportError):
        return []


def read_frame(path: Path, text: Iterable[str]) -> pd.DataFrame:
    """Reads a table with a header.

    A separator other than the ending's, decimal commas, UTF-16 and marks of a byte order are found
    out. The index of the table counts the lines of a text file, from 1, and the rows of a parquet
    file, from 0.

    Args:
      path: of a ``.csv``, ``.tsv`` or ``.parquet`` file; text may be packed by gzip, bzip2, xz or zip.
      text: columns that it must have, with a value in every row, and that stay as they are written.

    Raises:
      FileNotFoundError: no such file.
      ImportError: a parquet file, and nothing to read it with.
      ValueError: another kind of file, a damaged one, one without a header or the columns, or with a
        missing value in one.
    """
    text = list(text)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the path of a .csv or .tsv file.")
    suffix = table_suffix(path)
    if not suffix:
        raise ValueError(
            f"{path} must end in .csv, .tsv or .parquet, got {path.suffix or 'no ending'!r}."
        )
    if suffix != ".parquet":
        return _read_text(path, text)
    table = _read_parquet(path)
    check_columns(path, table, text)
    for column in text:
        if not pd.api.types.is_datetime64_any_dtype(table[column]):
            table[column] = table[column].astype(str)
    return table


def _unpacked_name(path: Path) -> str:
    name = path.name
    for ending in _PACKED:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow: pip install pyarrow.") from error
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{path} is not a readable parquet file: {reason}.") from error
    # The levels of its index that have a name are columns like others.
    unnamed = [level for level, name in enumerate(table.index.names) if name is None]
    return table.reset_index(level=unnamed, drop=True).reset_index(
        drop=len(unnamed) == table.index.nlevels
    )


def _read_text(path: Path, text: list[str]) -> pd.DataFrame:
    form = _form(path, text)
    _check_header(path, form, text)
    written = {name: name.strip() for name in form.names}
    options: dict[str, Any] = {
        "sep": form.separator,
        "header": 0,
        "skiprows": form.first,
        "encoding": form.encoding,
        "skipinitialspace": True,
        "low_memory": False,  # else a column may be text in one part and numbers in another
        "index_col": False,
        "keep_default_na": False,  # "NA" and "None" may be labels
        "dtype": {name: str for name in form.names if written[name] in text},
        "na_values": {name: [""] for name in form.names if written[name] in text},
    }
    try:
        with warnings.catch_warnings():
            # A line with more values than the header must not lose its last ones, nor its first.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(io.BytesIO(form.content), **options)
    except UnicodeDecodeError as error:
        raise ValueError(f"{_unreadable(path)}: {_said(error)}; save it as UTF-8.") from error
    except (pd.errors.ParserWarning, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        _check_widths(path, form)
        raise ValueError(f"{_unreadable(path)}: {_said(error)}.") from error
    table.columns = [str(name).strip() for name in table.columns]
    for column in text:
        if column in table:
            table[column] = table[column].str.strip()
    table.index = pd.Index(_lines(form, len(table)))
    if form.separator != "," or b'"' in form.content:
        table = _with_decimal_points(path, table, form.separator)
    check_columns(path, table, text)
    return table


def _unreadable(path: Path) -> str:
    return f"{path} is not a readable {table_suffix(path).removeprefix('.')} file"


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _form(path: Path, needed: Iterable[str]) -> _Form:
    content = _content(path)
    for mark, kind in _MARKS.items():
        if content.startswith(mark):
            raise ValueError(f"{path} is no text but {kind}.")
    encoding = "utf-8-sig"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in content[:4096]:
        raise ValueError(f"{_unreadable(path)}: it holds zero bytes; save it as UTF-8.")
    try:
        lines = re.split("\r\n|\r|\n", _decoded(content[: 1 << 20], encoding))
    except UnicodeDecodeError as error:
        raise ValueError(f"{_unreadable(path)}: {_said(error)}; save it as UTF-8.") from error
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        raise ValueError(f"{_unreadable(path)}: No columns to parse from file: it is empty.")
    needed = list(needed)
    first = filled[0]
    if lines[first].startswith("#") and not _holds(path, lines[first], needed):  # a remark
        first = next((number for number in filled if not lines[number].startswith("#")), first)
    # Spreadsheets say the separator in a line of its own.
    said = re.fullmatch(r'"?sep=(.)"?', lines[first].strip())
    if said and filled[-1] > first:
        separator, first = said[1], filled[filled.index(first) + 1]
    else:
        separator = _separator(path, lines[first], needed)
    return _Form(content, encoding, separator, _fields(lines[first], separator), first)


def _content(path: Path) -> bytes:
    if path.suffix.lower() != ".zip":
        return read_packed(path, _TABLE_BYTES)
    # What macOS puts beside each file is none of the tables.
    shown = members(path, lambda name: not name.name.startswith("._"), _TABLE_BYTES)
    files = list(itertools.islice(shown, 2))
    if len(files) != 1:
        raise ValueError(f"{path} must hold one table and nothing else: unpack it and name a file.")
    return files[0][1]


def _decoded(content: bytes, encoding: str) -> str:
    """The text of a file's beginning, the last character of which may be cut."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(content) - 4:
            raise
        return content[: error.start].decode(encoding)


def _fields(line: str, separator: str) -> list[str]:
    with contextlib.suppress(csv.Error):  # a name of more than 131,072 characters
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return line.split(separator)


def _separator(path: Path, header: str, needed: list[str]) -> str:
    """What separates the names of a header: what the ending says, unless only another fits."""
    usual = SEPARATORS.get(table_suffix(path)) or ","
    counts = {
        separator: len(_fields(header, separator))
        for separator in dict.fromkeys((usual, ",", ";", "\t", "|"))
    }
    for separator, count in counts.items():
        names = [name.strip() for name in _fields(header, separator)]
        if needed and count > 1 and set(needed) <= set(names):
            return separator
    if counts[usual] > 1:
        return usual
    return max(counts, key=lambda separator: counts[separator])  # the first of equal ones


def _holds(path: Path, header: str, needed: list[str]) -> bool:
    names = _fields(header, _separator(path, header, needed))
    return bool(needed) and set(needed) <= {name.strip() for name in names}


def _check_header(path: Path, form: _Form, needed: list[str]) -> None:
    names = [name.strip() for name in form.names]
    for name in needed:
        if names.count(name) > 1:
            raise ValueError(f"{path}: {names.count(name)} columns are called {name!r}.")
    numbers = [name for name in names if is_number(name)]
    columns = [str(number) for number in range(len(numbers))]  # as pandas calls them
    values = 2 * len(numbers) >= len(names) and numbers != columns
    if values and not set(needed) <= set(names):
        raise ValueError(
            f"{path} has no column {next(iter(set(needed) - set(names)))!r}: its first line,"
            f" {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}, holds values and no names;"
            " put a line with the names of the columns above it."
        )


def _records(form: _Form) -> list[tuple[int, list[str]]]:
    """The line of each record that is not empty, from 1, and its values."""
    text = form.content.decode(form.encoding, "replace")
    stream = io.StringIO(text, newline="")
    for _ in range(form.first):
        stream.readline()
    reader = csv.reader(stream, delimiter=form.separator, skipinitialspace=True)
    found, line = [], form.first + 1
    with contextlib.suppress(csv.Error):  # a value of more than 131,072 characters
        for record in reader:
            if len(record) > 1 or "".join(record).strip():
                found.append((line, record))
            line = form.first + reader.line_num + 1
    return found


def _lines(form: _Form, rows: int) -> Sequence[int]:
    """The line of each row of a table, from 1."""
    simple = range(form.first + 2, form.first + 2 + rows)
    ends = form.content.count(b"\n") + (not form.content.endswith(b"\n"))
    if b'"' not in form.content and ends == form.first + 1 + rows:  # no blank lines, none in quotes
        return simple
    lines = [line for line, _ in _records(form)][1:]
    return lines if len(lines) == rows else simple


def _check_widths(path: Path, form: _Form) -> None:
    """Raises a ValueError that names the first line with more values than the header."""
    records = _records(form)
    width = len(form.names)
    longer = [(line, record) for line, record in records if len(record) > width]
    if not longer:
        return
    line, count = longer[0][0], len(longer[0][1])
    cure = "quote values that hold the separator"
    if form.separator == ",":
        cure += ", and write decimal points instead of commas"
    if not any("".join(record[width:]).strip() for _, record in longer):
        cure = f"leave out the {form.separator!r} at the end of its lines"
    elif len(longer) == len(records) - 1 and all(len(found) == width + 1 for _, found in longer):
        cure = "name the column of row names that comes first, or write the file without it"
    raise ValueError(
        f"{path}, line {line}: it has more values than the header, {count} instead of {width}:"
        f" {cure}."
    )


def _with_decimal_points(path: Path, table: pd.DataFrame, separator: str) -> pd.DataFrame:
    """The table with decimal points in columns that have decimal commas.

    Raises:
      ValueError: 1,234 alone, which may mean thousands.
    """
    commas = {}
    for column in table.columns:
        values = table[column]
        if not pd.api.types.is_string_dtype(values):
            continue
        filled = [value for value in values if isinstance(value, str) and value]
        if any("," in value for value in filled) and all(map(_DECIMAL_COMMA.fullmatch, filled)):
            commas[column] = [value for value in filled if "," in value]
    if not commas:
        return table
    every = [value for values in commas.values() for value in values]
    if separator != ";" and all(map(_THOUSANDS.fullmatch, every)):
        raise ValueError(
            f"{path}, column {next(iter(commas))!r}: {every[0]!r} may be a number of thousands or"
            " have a decimal comma: write it without the comma, or with a decimal point."
        )
    table = table.copy()
    for column in commas:
        table[column] = table[column].str.replace(",", ".", regex=False)
    return table
