"""The journal of finished trials: a line each, appended to, believed where its digest is right."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Journal:
    """Records by trial, in a file.

    A line's digest is over ``seal`` and the line, so that neither a damaged line nor one of another
    search is taken for this one's. Such lines are left out and removed; one that a kill has torn at
    the end of the file is removed silently.

    Args:
      path: the file; created if it is not there.
      seal: what identifies the search.

    Attributes:
      records: trial to record.
      rejected: numbers of the lines that are left out, from 1.

    Raises:
      OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, seal: str):
        self._seal = seal
        self.records: dict[str, dict[str, Any]] = {}
        self.rejected: list[int] = []
        self._synced = -float("inf")
        content = path.read_bytes() if path.exists() else b""
        kept = []
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            entry = self._read(line)
            if entry is None:
                self.rejected.append(number)
            else:
                kept.append(line + b"\n")
                self.records.setdefault(*entry)
        whole = b"".join(kept)
        if content.startswith(whole) and content != whole:
            os.truncate(path, len(whole))
        elif content != whole:
            write_atomically(path, whole)
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def _digest(self, trial: str, record: Any) -> str:
        text = json.dumps([self._seal, trial, record], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _read(self, line: bytes) -> tuple[str, dict[str, Any]] | None:
        try:
            entry = json.loads(line)
            trial, record = str(entry["trial"]), dict(entry["record"])
            is_right = entry["sha256"] == self._digest(trial, record)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return (trial, record) if is_right else None

    def append(self, trial: str, record: Mapping[str, Any]) -> None:
        """Writes a record of plain JSON data; on the disk within a second.

        Raises:
          OSError: it cannot be written.
        """
        if self._file is None:
            return
        entry = {"trial": trial, "record": record, "sha256": self._digest(trial, record)}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError("finished.jsonl was deleted")
        while line:
            line = line[os.write(self._file, line) :]
        if time.monotonic() - self._synced >= 1:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Writes everything through to the disk; what comes later is not written."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
        self._file = None


def plain(value: Any, where: str) -> Any:
    """The value in JSON's types: NumPy's become Python's, tuples lists.

    Raises:
      TypeError: it holds something else.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(item, f"{where}, {name!r}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, where) for item in value]
    raise TypeError(f"{where}: cannot keep {value!r} of type {type(value).__name__}.")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole, or not at all."""
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def sealed(kind: str, content: Any) -> bytes:
    """JSON data with a digest of them and of what they are."""
    text = json.dumps([kind, content], sort_keys=True)
    sha = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"sha256": sha, "content": content}, indent=1).encode()


def unsealed(kind: str, text: bytes) -> Any:
    """The reverse of `sealed`.

    Raises:
      ValueError: it is damaged, or of another kind.
    """
    try:
        found = json.loads(text)
        content = found["content"]
        is_right = found["sha256"] == json.loads(sealed(kind, content))["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        is_right = False
    if not is_right:
        raise ValueError("its bytes have changed")
    return content
