"""What a search writes so that it can go on after a kill: finished trials and states in training.

The folder holds ``search.json`` (whose search it is), ``finished.jsonl`` (one line a finished trial,
only ever appended to) and ``states/<key>/<number>`` (Orbax saves). At every moment what is there is
whole, or recognised as torn and left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import operator
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from jaxlstm.grid import saves
from jaxlstm.grid.fingerprint import code_version, digest

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: two searches in one folder are not noticed
    fcntl = None

_log = logging.getLogger("jaxlstm")

__all__ = ["Store", "code_version", "digest"]

_OTHERS = "Choose another folder for this search, or delete that one."


class Store:
    """A search's folder: opened or created, and this process's alone until it is closed.

    A write that fails in mid-run (full disk, folder gone) does not raise: it is logged once, `broken`
    says what happened, and the search goes on without it. All methods may be called from any thread.
    States are not saved where JAX runs over several processes (`jax.distributed`): there Orbax would
    wait for all of them.

    Args:
      folder: where; created with its parents if it is not there.
      fingerprint: what must be the same for a search to go on here: part ("data") to description or
        digest.
      every: seconds between two saves of one key.

    Raises:
      ValueError: the folder belongs to another search, to something else or to a live process, its
        files are damaged, or ``every`` is not a number of seconds.
      OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, str],
        *,
        every: float = 60.0,
    ):
        if isinstance(every, str) or not every >= 0:
            raise ValueError(f"every must be seconds, 0 or more, got {every!r}.")
        self.folder = Path(folder).absolute()
        self.every = every
        self._name = f"checkpoint_dir {os.fspath(folder)!r}"
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._finished: dict[int, dict[str, Any]] = {}
        self._failures: dict[str, str] = {}  # "records" or "states" -> what happened
        self._synced = -math.inf
        self._claim: int | None = None
        self._journal: int | None = None
        try:
            self._check_ours()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim = self._claim_folder()
            self._check_fingerprint({part: str(text) for part, text in fingerprint.items()})
            self._journal = self._open_journal()
            self._clean_states()
        except OSError as error:
            self.close()
            raise OSError(f"{self._name} cannot be written: {error}") from error
        except BaseException:
            self.close()
            raise

    # -- whose folder it is

    def _check_ours(self) -> None:
        """Refuses a folder with other things in it, before anything is touched."""
        if self.folder.is_dir():
            names = set(os.listdir(self.folder))
            # A kill before search.json was written leaves the others.
            if "search.json" in names or names <= {"lock", "search.json.new"}:
                return
            raise ValueError(
                f"{self._name} is a folder with other files in it, such as {min(names)!r}. Choose an"
                " empty or a new folder."
            )
        if self.folder.exists():
            raise ValueError(f"{self._name} is a file. Choose an empty or a new folder.")

    def _claim_folder(self) -> int:
        claim = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is not None:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(claim, 32).decode("ascii", "replace").strip()
                os.close(claim)
                raise ValueError(
                    f"{self._name} is in use by another search that is running"
                    f"{f' (process {holder})' if holder else ''}. Wait until it ends, stop it, or"
                    " choose another folder."
                ) from None
            except OSError:  # a file system without locks
                return claim
        os.ftruncate(claim, 0)
        os.write(claim, f"{os.getpid()}\n".encode())
        return claim

    def _check_fingerprint(self, fingerprint: dict[str, str]) -> None:
        path = self.folder / "search.json"
        if not path.exists():
            text = json.dumps({"fingerprint": fingerprint}, indent=1)
            _write_atomically(path, text.encode())
            return
        try:
            there = json.loads(path.read_bytes())["fingerprint"]
            parts = sorted(
                part
                for part in there.keys() | fingerprint.keys()
                if there.get(part) != fingerprint.get(part)
            )
        except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError):
            raise ValueError(
                f"{self._name} cannot be used: its search.json is damaged, so nothing says which"
                f" search it holds. {_OTHERS}"
            ) from None
        if parts:
            one = len(parts) == 1 and not parts[0].endswith(("a", "s"))  # "the data differ"
            details = "; ".join(
                f"{part}: {there[part]} there, {fingerprint[part]} here"
                for part in parts
                if _is_readable(there.get(part)) and _is_readable(fingerprint.get(part))
            )
            raise ValueError(
                f"{self._name} holds another search: the {' and the '.join(parts)}"
                f" differ{'s' * one}{f' ({details})' if details else ''}. {_OTHERS}"
            )

    # -- finished trials

    def _open_journal(self) -> int:
        path = self.folder / "finished.jsonl"
        journal = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].split(b"\n")[:-1]
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                trial, record = operator.index(entry["trial"]), dict(entry["record"])
            except (ValueError, TypeError, KeyError):
                if number == len(
                    lines
                ):  # a power cut may keep the end of a write without its start
                    whole -= len(line) + 1
                    break
                os.close(journal)
                raise ValueError(
                    f"{self._name} cannot be used: line {number} of its finished.jsonl is damaged."
                    " Delete that line to train its trial again, or choose another folder."
                ) from None
            self._finished.setdefault(trial, record)
        if whole < len(content):
            os.ftruncate(journal, whole)
        return journal

    def finished(self) -> dict[int, dict[str, Any]]:
        """The records of all finished trials, of earlier runs too: trial to record."""
        with self._lock:
            return {trial: dict(record) for trial, record in self._finished.items()}

    def add(self, trial: int, record: Mapping[str, Any]) -> None:
        """Keeps the record of a finished trial; once this returns, a kill does not lose it.

        A power cut may lose those of the last second. If a trial comes twice, the first record stays.

        Args:
          trial: its number.
          record: names to str, bool, int, float, None, NumPy scalars and arrays, or lists and dicts of
            those; NumPy's become Python's, tuples lists. Floats come back exactly, nan and inf too.

        Raises:
          TypeError: the record holds something else.
        """
        trial, plain = operator.index(trial), _plain(dict(record), f"record of trial {trial}")
        line = json.dumps({"trial": trial, "record": plain}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if trial in self._finished:
                return
            self._finished[trial] = plain
            if self._journal is None or "records" in self._failures:
                return
            try:
                self._append(self._journal, line)
            except OSError as error:
                self._fail("records", "finished trials", error)

    def _append(self, journal: int, line: bytes) -> None:
        if os.fstat(journal).st_nlink == 0:
            raise FileNotFoundError("finished.jsonl was deleted")
        while line:
            line = line[os.write(journal, line) :]
        if time.monotonic() - self._synced >= 1:
            os.fsync(journal)
            self._synced = time.monotonic()

    def _fail(self, what: str, words: str, error: Exception) -> None:
        if what not in self._failures:
            self._failures[what] = (
                f"{self._name}: saving {words} failed ({saves.one_line(error)})."
                " The search goes on without it; if it is killed, what was not saved is trained again."
            )
            _log.warning("%s", self._failures[what])

    @property
    def broken(self) -> str | None:
        """What stopped the saving, in a sentence; None while all went well."""
        return " ".join(self._failures.values()) or None

    # -- states in training

    def begin(self, key: str) -> None:
        """Starts the clock of a key: its first save is due in ``every`` seconds."""
        with self._lock:
            self._since[key] = time.monotonic()

    def is_due(self, key: str) -> bool:
        """Whether ``every`` seconds have passed since the key began or was last saved."""
        with self._lock:
            since = self._since.setdefault(key, time.monotonic())
            return "states" not in self._failures and time.monotonic() - since >= self.every

    def save(self, key: str, tree: Any, meta: Mapping[str, Any] | None = None) -> None:
        """Saves a state in place of the key's last one, which goes once the new one is complete.

        Args:
          key: what it belongs to, such as a chunk's name.
          tree: any pytree of JAX or NumPy arrays, typed random keys, and Python numbers.
          meta: what to keep beside it, as `add` takes it.

        Raises:
          TypeError: a leaf or ``meta`` holds something else.
        """
        if "states" in self._failures:
            return
        arrays = saves.to_arrays(tree, _plain(dict(meta or {}), "meta"))
        with saves.lock:  # `close` waits for it
            if self._claim is None or "states" in self._failures:
                return
            try:
                if not (self.folder / "search.json").exists():
                    raise FileNotFoundError("the folder was deleted")
                saves.save(self._folder_of(key), arrays)
            except Exception as error:  # Orbax raises whatever its threads ran into
                with self._lock:
                    self._fail("states", "networks in training", error)
        with self._lock:
            self._since[key] = time.monotonic()

    def load(self, key: str, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest complete state of a key, bit for bit, and its meta; None if there is none.

        Args:
          key: as for `save`.
          like: a tree of the same structure, shapes and types; a leaf comes back as a JAX array (on
            the same devices), NumPy array or number as it is here. Abstract leaves
            (`jax.ShapeDtypeStruct`) give NumPy arrays, or random keys.

        Raises:
          ValueError: the saved state has another structure, shape or type.
        """

        def damaged(sentence: str) -> None:
            _log.warning("%s: %s.", self._name, sentence)

        try:
            return saves.load(self._folder_of(key), like, damaged)
        except ValueError as error:
            raise ValueError(f"{self._name} holds another state of {key!r}: {error}") from None

    def drop(self, key: str) -> None:
        """Removes what is saved of a key: its trials are finished."""
        with saves.lock:
            if self._claim is not None:
                saves.drop(self._folder_of(key))
        with self._lock:
            self._since.pop(key, None)

    def saved(self) -> list[str]:
        """Keys that something is saved of."""
        folders = (self.folder / "states").glob("*")
        return sorted(unquote(folder.name) for folder in folders if saves.numbers(folder))

    @property
    def notes(self) -> dict[str, Any]:
        """What `note` has kept."""
        path = self.folder / "notes.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def note(self, name: str, value: Any) -> None:
        """Keeps a decision that a search has to stay with when it goes on."""
        content = json.dumps(self.notes | {name: value}).encode()
        try:
            _write_atomically(self.folder / "notes.json", content)
        except OSError as error:
            with self._lock:
                self._fail("notes", "notes", error)

    def _folder_of(self, key: str) -> Path:
        name = quote(key, safe="").replace(".", "%2E")
        if len(name) > 200:
            name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / "states" / (name or "%")

    def _clean_states(self) -> None:
        """Removes what a kill left: half-written saves and half-removed ones."""
        for folder in (self.folder / "states").glob("*"):
            saves.clean(folder)

    # -- the rest

    def require(self, nbytes: int) -> None:
        """Makes sure before hours are spent that the folder can be written and has the space.

        Raises:
          OSError: it cannot be written, or the disk has fewer than ``nbytes`` bytes free.
        """
        probe = self.folder / "search.json.new"
        try:
            try:
                probe.write_bytes(b"\0" * 4096)
            finally:
                probe.unlink(missing_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise OSError(f"{self._name} cannot be written: {error}") from error
        if free < nbytes:
            from jaxlstm.grid.describe import human_bytes  # imports JAX

            raise OSError(
                f"{self._name} has too little space: the search may need {human_bytes(nbytes)},"
                f" {human_bytes(free)} are free. Make room, or choose another folder."
            )

    def close(self) -> None:
        """Writes everything through to the disk and lets another process have the folder."""
        with saves.lock, self._lock:
            if self._journal is not None:
                with contextlib.suppress(OSError):
                    os.fsync(self._journal)
                os.close(self._journal)
            if self._claim is not None:
                os.close(self._claim)
            self._journal = self._claim = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _is_readable(description: str | None) -> bool:
    """Whether a person can make something of it: one line, no digest."""
    return description is not None and bool(re.fullmatch(r"(?![0-9a-f]{32,}$).{1,80}", description))


def _write_atomically(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def _plain(value: Any, where: str) -> Any:
    """The value in JSON's types."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(item, f"{where}, {name!r}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    raise TypeError(f"{where}: cannot keep {value!r} of type {type(value).__name__}.")
