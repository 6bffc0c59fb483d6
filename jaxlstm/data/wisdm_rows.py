"""WISDM's raw text, row by row: what is clean at once, what is odd line by line."""

from __future__ import annotations

import csv
import io
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxlstm.data.archives import is_archive, members
from jaxlstm.data.packed import MEMBER_BYTES, read_packed, unpack

#: Activities of release 1.1 in the order of its own counts, then the others of the 2019 release.
ACTIVITIES = (
    *("Walking", "Jogging", "Upstairs", "Downstairs", "Sitting", "Standing"),
    *("Stairs", "Typing", "Teeth", "Soup", "Chips", "Pasta", "Drinking", "Sandwich", "Kicking"),
    *("Catch", "Dribbling", "Writing", "Clapping", "Folding"),
)
#: The 2019 release's activity_key.txt; it has no N.
LETTERS = dict(
    zip(
        "ABCDEFGHIJKLMOPQRS",
        ("Walking", "Jogging", "Stairs", "Sitting", "Standing", *ACTIVITIES[7:]),
        strict=True,
    )
)
COLUMNS = ("user", "activity", "timestamp", "x", "y", "z")

_NUMBERS = {name: code for code, name in enumerate(ACTIVITIES)}
_BLOCK = 1 << 23
_INNER = "wisdm-dataset.zip"
_SEPARATORS = bytes.maketrans(b";\r", b"\n\n")
# Weights of bytes, whose sum tells a clean line: 1 for a letter, 2 where it may be in a number, too.
_LETTERS = string.ascii_letters.encode()
_POINT = 50
_KINDS = (
    (b"0123456789+-,\n", 0),
    (b".", _POINT),
    (b"eE", 2),
    (_LETTERS, 1),
    (bytes(range(256)), 255),
)
_WEIGHTS = bytes(next(weight for kind, weight in _KINDS if char in kind) for char in range(256))
_LARGEST = float(np.finfo(np.float32).max)
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_CLEAN = re.compile(
    rb"^[+-]?[0-9]{1,18},[A-Za-z]+,[+-]?[0-9]{1,18}(?:,[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE]-[0-9]+)?){3}$",
    re.MULTILINE,
)


def read_wisdm(
    path: str | Path,
    *,
    device: Literal["phone", "watch"] = "phone",
    sensor: Literal["accel", "gyro"] = "accel",
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Reads WISDM's raw text row by row, in the order of the file.

    A record is ``user,activity,timestamp,x,y,z``, ended by a semicolon, a line's end or both. Empty
    fields after the sixth are overlooked, and so are empty lines.

    Args:
      path: the raw text, plain or gzipped; an archive or a folder of release 1.1 or 2019.
      device: of the 2019 release.
      sensor: of the 2019 release.

    Returns:
      A table with the columns ``user`` (int64), ``activity`` (categories: ``ACTIVITIES``),
      ``timestamp`` (int64, ns), ``x``, ``y`` and ``z`` (float32, m/s2 or rad/s); and how many
      records were dropped, by reason.

    Raises:
      FileNotFoundError: nothing is there, or no raw text of WISDM in it.
      ValueError: a damaged file, or one without a readable row.
    """
    path = Path(path)
    if device not in ("phone", "watch"):
        raise ValueError(f"device must be 'phone' or 'watch', got {device!r}.")
    if sensor not in ("accel", "gyro"):
        raise ValueError(f"sensor must be 'accel' or 'gyro', got {sensor!r}.")
    dropped: Counter[str] = Counter()
    parts = [
        _parse(block, dropped)
        for content in _texts(path, device, sensor)
        for block in _blocks(content.translate(_SEPARATORS))
    ]
    columns = {
        name: np.concatenate([part[place] for part in parts])
        for place, name in enumerate(COLUMNS)
        if parts
    }
    if not parts or not len(columns["user"]):
        raise ValueError(
            f"{path} has no row that reads user,activity,timestamp,x,y,z;"
            f" dropped: {listed(dropped) or 'none, it is empty'}."
        )
    codes: Any = columns.pop("activity")
    activity = pd.Categorical.from_codes(codes, pd.Index(ACTIVITIES))
    table = pd.DataFrame(columns)
    table.insert(1, "activity", pd.Series(activity))
    return table, {reason: count for reason, count in dropped.items() if count}


def _texts(path: Path, device: str, sensor: str) -> Iterator[bytes]:
    """Contents of the raw files that are meant."""
    if path.is_file() and not is_archive(path):
        yield read_packed(path, MEMBER_BYTES)
        return
    single = re.compile(r"wisdm.*raw\.txt(\.gz)?", re.IGNORECASE)
    one_of_many = re.compile(rf"data_[0-9]+_{sensor}_{device}\.txt")
    found: list[PurePosixPath] = []

    def wanted(name: PurePosixPath) -> bool:
        return bool(single.fullmatch(name.name) or one_of_many.fullmatch(name.name))

    for name, content in members(path, wanted, inner=_INNER):
        if name in found:
            raise ValueError(f"{path} holds {name} twice.")
        found.append(name)
        if len(found) > 1 and (single.fullmatch(name.name) or single.fullmatch(found[0].name)):
            raise ValueError(f"{path} holds {found[0]} and {name}: give the path of one of them.")
        if name.suffix == ".gz":
            content = unpack(content, f"{path}: {name}")
        yield content
    if not found:
        raise FileNotFoundError(
            f"{path} holds neither WISDM_ar_v1.1_raw.txt nor files like"
            f" raw/{device}/{sensor}/data_1600_{sensor}_{device}.txt."
        )


def _blocks(content: bytes) -> Iterator[bytes]:
    """Pieces that end where a record does: what is made of them stays in the processor's cache."""
    begin = 0
    while begin < len(content):
        end = content.find(b"\n", begin + _BLOCK) + 1 or len(content)
        yield content[begin:end]
        begin = end


def _parse(block: bytes, dropped: Counter[str]) -> tuple[np.ndarray, ...]:
    """Columns of a block's rows in its order: the clean lines at once, the odd ones one by one."""
    # An empty field after the last one says nothing.
    text = (block if block.endswith(b"\n") else block + b"\n").replace(b",\n", b"\n")
    begins, ends, odd = _odd_lines(text)
    try:
        clean = _read(_without(text, begins, ends, odd), int((~odd).sum()))
    except (ValueError, OverflowError):  # a number such as 1.2.3
        known = np.array([match.start() for match in _CLEAN.finditer(text)], np.int64)
        odd |= ~np.isin(begins, known)
        clean = _read(_without(text, begins, ends, odd), int((~odd).sum()))
    places = np.flatnonzero(~odd)
    codes = np.array([*map(_code, clean["activity"].cat.categories), -1], np.int8)
    columns = [clean[name].to_numpy() for name in COLUMNS if name != "activity"]
    columns.insert(1, codes[clean["activity"].cat.codes])
    named = columns[1] >= 0
    dropped["unknown activity"] += int((~named).sum())
    rows, lines = [], []
    for line in np.flatnonzero(odd).tolist():
        row = _row(text[begins[line] : ends[line]], dropped)
        if row:
            rows.append(row)
            lines.append(line)
    if not rows and named.all():
        return tuple(columns)
    more = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    order = np.argsort(np.concatenate([places[named], np.array(lines, np.int64)]))
    return tuple(
        np.concatenate([column[named], np.array(values, column.dtype)])[order]
        for column, values in zip(columns, more, strict=True)
    )


def _odd_lines(text: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the filled lines begin and end, and which do not look like a clean row.

    A clean row has six fields, none empty or too long for a float32, letters alone in the second and
    digits, signs, negative exponents and three points at most in the others.
    """
    characters = np.frombuffer(text, np.uint8)
    separators = np.flatnonzero((characters == ord(",")) | (characters == ord("\n")))
    line_ends = np.flatnonzero(characters[separators] == ord("\n"))
    ends = separators[line_ends]
    begins = np.concatenate([[0], ends[:-1] + 1])
    weights = np.array(np.frombuffer(text.translate(_WEIGHTS), np.uint8))
    either = np.flatnonzero(weights == 2)
    # As in 4.1E-4; of positive exponents some are too large for a float32.
    exponent = (weights[either - 1] == 0) & (characters[either - 1] >= ord("0"))
    exponent &= characters[either + 1] == ord("-")
    weights[either] = ~exponent
    weight = np.add.reduceat(weights, begins, dtype=np.int64)
    commas = np.diff(line_ends, prepend=-1) - 1
    odd = commas != 5
    fields = np.where(odd, 5, line_ends)[:, None] - np.arange(5, -1, -1)
    if len(separators) < 6:
        fields = np.zeros_like(fields)
    widths = np.diff(separators[fields], axis=1, prepend=begins[:, None] - 1) - 1
    odd |= (widths < 1).any(1) | (widths > 38).any(1)
    points, rest = np.divmod(weight - widths[:, 1], _POINT)
    odd |= (rest != 0) | (points > 3)
    filled = ends > begins
    return begins[filled], ends[filled], odd[filled]


def _without(text: bytes, begins: np.ndarray, ends: np.ndarray, odd: np.ndarray) -> bytes:
    """The text with empty lines in the place of odd ones."""
    if not odd.any():
        return text
    kept = bytearray(text)
    for begin, end in zip(begins[odd].tolist(), ends[odd].tolist(), strict=True):
        kept[begin:end] = b"\n" * (end - begin)
    return bytes(kept)


def _read(text: bytes, rows: int) -> pd.DataFrame:
    integers = ["user", "timestamp"]
    types: dict[Any, Any] = {"activity": "category", **dict.fromkeys("xyz", np.float32)}
    table = pd.read_csv(
        io.BytesIO(text),
        header=None,
        names=list(COLUMNS),
        dtype=types,
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        low_memory=False,
        engine="c",
    )
    if len(table) != rows:
        raise ValueError(f"{rows} lines became {len(table)} rows")
    # Asked for integers, pandas would take 3.0 and round a whole column on the way.
    if rows and not (table.dtypes[integers] == np.int64).all():
        raise ValueError("a user or a timestamp is not an integer")
    return table.astype(dict.fromkeys(integers, np.int64))


def _row(line: bytes, dropped: Counter[str]) -> tuple[int, int, int, float, float, float] | None:
    """One line's row, or None with a reason counted; a blank line counts for nothing."""
    try:
        fields = [field.strip() for field in line.decode().split(",")]
    except UnicodeDecodeError:
        dropped["not UTF-8"] += 1
        return None
    if fields == [""]:
        return None
    while len(fields) > 6 and not fields[-1]:
        fields.pop()
    if len(fields) > 6:
        reason = "more than six fields"
    elif len(fields) < 6 or not all(fields):
        reason = "missing value"
    elif any(_NOT_FINITE.fullmatch(field) for field in fields[3:]):
        reason = "not finite"
    elif not (
        all(_INTEGER.fullmatch(fields[place]) for place in (0, 2))
        and all(_NUMBER.fullmatch(field) for field in fields[3:])
    ):
        reason = "not a number"
    elif _code(fields[1]) < 0:
        reason = "unknown activity"
    else:
        user, time = int(fields[0]), int(fields[2])
        x, y, z = map(float, fields[3:])
        if max(abs(user), abs(time)) >= 1 << 63:
            reason = "not a number"
        elif max(abs(x), abs(y), abs(z)) > _LARGEST:
            reason = "not finite"
        else:
            return user, _code(fields[1]), time, x, y, z
    dropped[reason] += 1
    return None


def _code(name: str) -> int:
    """Place in ACTIVITIES of a name or of a letter of the 2019 release, or -1."""
    return _NUMBERS.get(LETTERS.get(name, name.capitalize()), -1)


def listed(counts: Mapping[str, int]) -> str:
    """Counts in a sentence."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
