"""What a search writes so that it can go on after a kill: finished trials and states in training.

The folder holds ``search.json`` (what data, splits and code its trials are of), ``finished.jsonl``
(`jaxlstm.grid.journal`), ``notes.json`` and ``states/<key>/<number>`` (`jaxlstm.grid.saves`), all of
them with digests. At every moment what is there is whole, or recognised as torn or damaged and left
out. Nothing in it is ever run as code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

from jaxlstm.grid import saves
from jaxlstm.grid.fingerprint import code_version, digest
from jaxlstm.grid.journal import Journal, plain, sealed, unsealed, write_atomically

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
      fingerprint: what must be the same for a search to keep its trials here: part ("data") to
        description or digest.
      every: seconds between two saves of one key.

    Raises:
      ValueError: the folder belongs to another search, to something else or to a live process, its
        search.json is damaged, or ``every`` is not a number of seconds.
      OSError: the folder cannot be written.

    Warns:
      RuntimeWarning: damaged lines of finished.jsonl, or a damaged notes.json, are left out.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, str],
        *,
        every: float = 60.0,
    ):
        if isinstance(every, str) or not every >= 0:
            raise ValueError(f"checkpoint_every must be seconds, 0 or more, got {every!r}.")
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"checkpoint_dir must be the path of a folder or None, got {folder!r}.")
        self.folder = Path(folder).absolute()
        self.every = every
        self._name = f"checkpoint_dir {os.fspath(folder)!r}"
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._failures: dict[str, str] = {}  # "records" or "states" -> what happened
        self._claim: int | None = None
        self._journal: Journal | None = None
        try:
            self._check_ours()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim = self._claim_folder()
            parts = {part: str(text) for part, text in fingerprint.items()}
            self._check_fingerprint(parts)
            self._seal = digest(parts)
            self._journal = self._open_journal(self._seal)
            self._finished = self._journal.records
            self._notes = self._read_notes()
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
            for pattern in ("*", "states/*", "states/*/*"):  # what is written and removed here
                for path in self.folder.glob(pattern):
                    if path.is_symlink():
                        raise ValueError(
                            f"{self._name} cannot be used: {str(path.relative_to(self.folder))!r} in"
                            " it is a link, which is neither read nor written through. Remove it."
                        )
            names = set(os.listdir(self.folder))
            # A kill before search.json was written leaves the others.
            if "search.json" in names or names <= {"lock", "search.json.new"}:
                return
            if names & {"finished.jsonl", "notes.json"}:
                raise ValueError(
                    f"{self._name} cannot be used: its search.json is missing, so nothing says which"
                    f" search it holds. {_OTHERS}"
                )
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
            write_atomically(path, sealed("search", {"fingerprint": fingerprint}))
            return
        text = path.read_bytes()
        try:
            there = unsealed("search", text)["fingerprint"]
        except ValueError:
            if re.match(rb'\s*{\s*"fingerprint": *{[^{}]*}\s*}\s*$', text):
                raise ValueError(
                    f"{self._name} was written by an earlier version of jaxlstm, whose records are"
                    f" of another form (search.json). {_OTHERS}"
                ) from None
            raise ValueError(
                f"{self._name} cannot be used: its search.json is damaged, so nothing says which"
                f" search it holds. {_OTHERS}"
            ) from None
        parts = sorted(
            part
            for part in there.keys() | fingerprint.keys()
            if there.get(part) != fingerprint.get(part)
        )
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

    def _open_journal(self, seal: str) -> Journal:
        journal = Journal(self.folder / "finished.jsonl", seal)
        if lines := journal.rejected:
            named = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
            several = len(lines) > 1
            self._warn(
                f"{'lines' if several else 'line'} {named} of its finished.jsonl"
                f" {'are' if several else 'is'} damaged or of another search and left out; what"
                f" {'they' if several else 'it'} told is trained again"
            )
        return journal

    def _warn(self, what: str) -> None:
        # The place that is named is the call of a search's `fit`.
        warnings.warn(f"{self._name}: {what}.", RuntimeWarning, stacklevel=8)

    def finished(self) -> dict[str, dict[str, Any]]:
        """The records of all finished trials, of earlier runs too: trial to record."""
        with self._lock:
            return {trial: dict(record) for trial, record in self._finished.items()}

    def add(self, trial: str, record: Mapping[str, Any]) -> None:
        """Keeps the record of a finished trial; once this returns, a kill does not lose it.

        A power cut may lose those of the last second. If a trial comes twice, the first record stays.

        Args:
          trial: what identifies it.
          record: names to str, bool, int, float, None, NumPy scalars and arrays, or lists and dicts of
            those; NumPy's become Python's, tuples lists. Floats come back exactly, nan and inf too.

        Raises:
          TypeError: the record holds something else.
        """
        own = plain(dict(record), f"record of trial {trial}")
        with self._lock:
            if trial in self._finished:
                return
            self._finished[trial] = own
            if self._journal is None or "records" in self._failures:
                return
            try:
                self._journal.append(trial, own)
            except OSError as error:
                self._fail("records", "finished trials", error)

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
        arrays = saves.to_arrays(tree, plain(dict(meta or {}), "meta"))
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

    def load(
        self, key: str, like: Any | Callable[[dict[str, Any]], Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest complete state of a key, bit for bit, and its meta; None if there is none.

        Args:
          key: as for `save`.
          like: a tree of the same structure, shapes and types; a leaf comes back as a JAX array (on
            the same devices), NumPy array or number as it is here. Abstract leaves
            (`jax.ShapeDtypeStruct`) give NumPy arrays, or random keys. Or a function that makes it
            from the meta, and returns None where the state is not wanted.

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

    def _read_notes(self) -> dict[str, Any]:
        path = self.folder / "notes.json"
        if not path.exists():
            if self._finished:
                self._warn("its notes.json is missing, so how its lanes run is decided anew")
            return {}
        try:
            return dict(unsealed(f"notes of {self._seal}", path.read_bytes()))
        except (ValueError, TypeError):
            self._warn(
                "its notes.json is damaged and left out, so how its lanes run is decided anew"
            )
            return {}

    @property
    def notes(self) -> dict[str, Any]:
        """What `note` has kept."""
        return dict(self._notes)

    def note(self, name: str, value: Any) -> None:
        """Keeps a decision that a search has to stay with when it goes on."""
        self._notes[name] = value
        try:
            content = sealed(f"notes of {self._seal}", self._notes)
            write_atomically(self.folder / "notes.json", content)
        except OSError as error:
            with self._lock:
                self._fail("notes", "notes", error)

    @property
    def name(self) -> str:
        """The folder, for messages."""
        return self._name

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
                self._journal.close()
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
