"""One search in several JAX processes (`jax.distributed`): what all of them must agree on.

Every process runs the same script. The lanes of a program are sharded over the devices of all; what
the host decides must come out the same everywhere, or the processes wait for each other for ever.
So nothing that a clock, the free memory or a file says is decided in more than one of them.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxlstm.grid.machine import memory_at_hand
from jaxlstm.grid.store import Store

logger = logging.getLogger("jaxlstm")


def gathered(value: Any) -> list[Any]:
    """The values that the processes call this with, in their order; all must call it.

    Args:
      value: anything that can be pickled.
    """
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray([content.size], np.int32)).ravel()
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: content.size] = content
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [
        pickle.loads(row[:size].tobytes())
        for row, size in zip(rows.reshape(len(sizes), -1), sizes, strict=True)
    ]


def from_first(make: Callable[[], Any]) -> Any:
    """What ``make`` returns or raises in process 0, in all of them; the others do not call it."""
    if jax.process_count() == 1:
        return make()
    result, failure = None, None
    if jax.process_index() == 0:
        try:
            result = make()
        except Exception as error:
            failure = error
    result, failure = gathered((result, failure))[0]
    if failure is not None:
        raise failure
    return result


#: Words by which a broken connection is told from other errors of JAX's runtime.
_CONNECTION = ("gloo", "nccl", "connection", "heartbeat", "coordination service", "unavailable")


@contextlib.contextmanager
def naming_dead_peers(is_kept: bool) -> Iterator[None]:
    """Says that another process has died where an error of the runtime means it.

    Args:
      is_kept: whether finished fits are saved.

    Raises:
      RuntimeError: the same, with what to do. It is logged at once as well: where the first process
        has died, JAX ends the others soon after.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        words = str(error).lower()
        if jax.process_count() == 1 or not any(word in words for word in _CONNECTION):
            raise
        way_on = "give checkpoint_dir to keep what is finished"
        if is_kept:
            way_on = (
                "what is finished is kept in checkpoint_dir, and the same search goes on from there"
            )
        message = (
            f"another of the {jax.process_count()} JAX processes has died or is out of reach, so that"
            f" this one cannot go on: start all of them again; {way_on}."
        )
        logger.error(message)
        raise RuntimeError(message) from error


def check_same(parts: Mapping[str, str]) -> None:
    """Makes sure that the processes search the same.

    Args:
      parts: what is searched, such as "the data", to its digest.

    Raises:
      ValueError: a part differs; in all processes.
    """
    every = gathered(dict(parts))
    differing = [name for name in parts if len({one[name] for one in every}) > 1]
    if differing:
        raise ValueError(
            f"the {len(every)} JAX processes must search the same, but {' and '.join(differing)}"
            " differ between them: read the same files in the same order, and give random_state and"
            " shuffling splitters an integer."
        )


def least_memory(limit: int | None) -> int | None:
    """The bytes that a program may take on each device of all processes.

    Args:
      limit: the user's own limit, if any.
    """
    if limit is None:
        limit = memory_at_hand(jax.local_devices())
    return min((one for one in gathered(limit) if one is not None), default=None)


class FirstStore:
    """A `Store` that process 0 has open, as all processes see it.

    Finished trials are recorded there, and known everywhere. Lanes in work are not saved: they are
    spread over the processes, and Orbax would wait for all of them.

    Args:
      opened: opens it; called in process 0.

    Raises:
      ValueError, OSError: as `Store`; in all processes.
    """

    def __init__(self, opened: Callable[[], Store]):
        self._store: Store | None = None

        def start() -> tuple[str, dict[str, dict[str, Any]], dict[str, Any]]:
            self._store = opened()
            return self._store.name, self._store.finished(), self._store.notes

        self.name, self._finished, self._notes = from_first(start)

    def finished(self) -> dict[str, dict[str, Any]]:
        """As `Store.finished`."""
        return dict(self._finished)

    def add(self, trial: str, record: Mapping[str, Any]) -> None:
        """As `Store.add`; every process adds every trial."""
        self._finished.setdefault(trial, dict(record))
        if self._store:
            self._store.add(trial, record)

    @property
    def notes(self) -> dict[str, Any]:
        """As `Store.notes`."""
        return dict(self._notes)

    def note(self, name: str, value: Any) -> None:
        """As `Store.note`; every process notes the same."""
        self._notes[name] = value
        if self._store:
            self._store.note(name, value)

    def require(self, nbytes: int) -> None:
        """As `Store.require`; in all processes."""
        from_first(lambda: self._store.require(nbytes) if self._store else None)

    def saved(self) -> list[str]:
        """Nothing: no lanes in work are saved."""
        return []

    @property
    def broken(self) -> str | None:
        """As `Store.broken`; process 0 alone knows."""
        return self._store.broken if self._store else None

    def close(self) -> None:
        """As `Store.close`."""
        if self._store:
            self._store.close()

    def __enter__(self) -> FirstStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
