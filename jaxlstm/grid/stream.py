"""Epochs over data that does not fit on the device: it stays on the host and comes in chunks.

A chunk holds whole micro-batches, their rows gathered in the order in which they are trained on, by
the same rules and on the same random streams as for data on the device: the numbers do not change.
Grain reads the next chunk while the device trains on the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlstm.grid.program_cache import compiled
from jaxlstm.train import epoch
from jaxlstm.train.data import Data, take
from jaxlstm.train.epoch import Pass, Totals, Walk
from jaxlstm.train.trial import Metrics, Rows, State, Structure

#: Bytes of a chunk's rows; one is in use while others are read.
CHUNK_BYTES = 64 << 20

#: Chunks that are on the host or the device at a time.
CHUNKS_HELD = 4


def _row_bytes(data: Data) -> int:
    return sum(part[:1].nbytes for part in data if part is not None)


def chunk_length(data: Data, rows: int) -> int:
    """How many micro-batches of so many rows a chunk holds."""
    return int(max(1, CHUNK_BYTES // (rows * max(1, _row_bytes(data)))))


def chunk_bytes(data: Data, rows: int) -> int:
    """Bytes of the chunks that one lane holds at a time."""
    return CHUNKS_HELD * chunk_length(data, rows) * rows * _row_bytes(data)


class _Chunks:
    """A source of chunks, as Grain reads them."""

    def __init__(self, data: Data, rows: Sequence[np.ndarray]):
        self._data, self._rows = data, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Data:
        return take(self._data, self._rows[int(index)])


def _read_ahead(data: Data, rows: Sequence[np.ndarray]) -> Iterator[Data]:
    """The chunks of these row numbers. Grain's threads only read: JAX's settings are a thread's own."""
    try:
        import grain
    except ImportError as error:
        raise ImportError(
            "data that does not fit on the device is read through Grain, which is not installed:"
            ' pip install "jaxlstm[data]".'
        ) from error
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    return iter(grain.MapDataset.source(_Chunks(data, rows)).to_iter_dataset(options))


class Stream:
    """Trains one lane epoch by epoch on data that stays on the host.

    Args:
      structure: what shapes the programs.
      data: the data set, NumPy arrays; ``x`` may be a `numpy.memmap`.
    """

    def __init__(self, structure: Structure, data: Data):
        self._structure, self._data = structure, data
        self._length = chunk_length(data, structure.micro_batch)
        self._evaluated = chunk_length(data, epoch.EVALUATION_BATCH)

    def train_epoch(
        self, state: State, numbers: Any, rows: Rows, active: Any, validate: Any
    ) -> tuple[State, Metrics]:
        """One epoch, as `jaxlstm.train.epoch.train_epoch`; ``state`` is given up."""
        one, walk = self._begin(state, numbers, rows, active)
        walk = self._walk(numbers, one, walk)
        is_evaluated = bool(validate) and int(one.walks) > 0
        totals = self._evaluate(numbers, walk, rows, is_evaluated)
        return self._finish(state, numbers, walk, totals, rows, active, validate)

    def _program(self, name: str, function: Any, args: Any, **jit: Any) -> Any:
        kind = "train" if name == "walk" else name
        key = (self._structure, "stream", name, self._length, self._evaluated)
        return compiled(kind, key, function, args, **jit)

    def _begin(self, state: State, numbers: Any, rows: Rows, active: Any) -> tuple[Pass, Walk]:
        dtype = self._data.x.dtype

        def begin(state: State, numbers: Any, rows: Rows, active: Any, mass: Any) -> Any:
            active = active & ~state.stopping.stopped
            return epoch.begin_pass(self._structure, state, numbers, rows, active, dtype, mass)

        args = state, numbers, rows, active, self._data.mass
        result: tuple[Pass, Walk] = self._program("begin", begin, args)(*args)
        return result

    def _walk(self, numbers: Any, one: Pass, walk: Walk) -> Walk:
        structure, length = self._structure, self._length

        def rows_of(numbers: Any, one: Pass, first: Any) -> Any:
            def of(index: Any) -> Any:
                return epoch.micro_batch_rows(structure, numbers, one, index)

            return jax.vmap(of)(first + jnp.arange(length))

        def train(numbers: Any, one: Pass, walk: Walk, first: Any, end: Any, chunk: Data) -> Walk:
            def body(index: Any, walk: Walk) -> Walk:
                own = take(chunk, index - first)
                return epoch.walk_micro_batch(structure, numbers, one, index, walk, own)

            return lax.fori_loop(first, end, body, walk)

        def rows_from(first: int) -> np.ndarray:
            args = numbers, one, np.int32(first)
            return np.asarray(self._program("rows", rows_of, args)(*args))

        walks, size = int(one.walks), structure.micro_batch
        whole = int(epoch.whole_batches(int(one.n_train), walks, size, structure.tails))
        starts = range(0, whole, length)
        chunks = _read_ahead(self._data, [rows_from(first) for first in starts])
        for first, chunk in zip(starts, chunks, strict=True):
            end = min(first + length, whole)
            args = numbers, one, walk, np.int32(first), np.int32(end), chunk
            walk = self._program("walk", train, args, donate_argnums=2)(*args)
        if whole < walks:
            rest = rows_from(whole)[:1, : int(one.n_train) - whole * size]
            args = numbers, one, walk, np.int32(whole), np.int32(walks), take(self._data, rest)
            walk = self._program("walk", train, args, donate_argnums=2)(*args)
        return walk

    def _evaluate(self, numbers: Any, walk: Walk, rows: Rows, is_evaluated: bool) -> Totals:
        length = self._evaluated
        structure = self._structure

        def rows_of(rows: Rows, first: Any) -> Any:
            def of(batch: Any) -> Any:
                return epoch.evaluation_rows(rows.validation, rows.n_validation, batch)[0]

            return jax.vmap(of)(first + jnp.arange(length))

        def evaluate(
            numbers: Any,
            weights: Any,
            rows: Rows,
            totals: Totals,
            first: Any,
            end: Any,
            chunk: Data,
        ) -> Totals:
            def body(index: Any, totals: Totals) -> Totals:
                own = take(chunk, index - first)
                _, valid = epoch.evaluation_rows(
                    rows.validation, rows.n_validation, index, len(own.x)
                )
                return epoch.evaluate_batch(structure, weights, numbers, totals, own, valid)

            return lax.fori_loop(first, end, body, totals)

        def rows_from(first: int) -> np.ndarray:
            args = rows, np.int32(first)
            return np.asarray(self._program("evaluation rows", rows_of, args)(*args))

        totals = epoch.no_totals(structure.task, self._data.x.dtype)
        count, size = int(rows.n_validation), epoch.EVALUATION_BATCH
        batches = -(-count // size) if is_evaluated else 0
        whole = int(epoch.whole_batches(count, batches, size, structure.evaluation_tails))
        starts = range(0, whole, length)
        chunks = _read_ahead(self._data, [rows_from(first) for first in starts])
        for first, chunk in zip(starts, chunks, strict=True):
            end = min(first + length, whole)
            args = numbers, walk.weights, rows, totals, np.int32(first), np.int32(end), chunk
            totals = self._program("evaluate", evaluate, args)(*args)
        if whole < batches:
            rest = take(self._data, rows_from(whole)[:1, : count - whole * size])
            args = numbers, walk.weights, rows, totals, np.int32(whole), np.int32(batches), rest
            totals = self._program("evaluate", evaluate, args)(*args)
        return totals

    def _finish(self, *args: Any) -> tuple[State, Metrics]:
        def finish(
            state: State,
            numbers: Any,
            walk: Walk,
            totals: Totals,
            rows: Rows,
            active: Any,
            validate: Any,
        ) -> Any:
            active = active & ~state.stopping.stopped
            done = walk, totals, rows, active, validate
            return epoch.finish_epoch(self._structure, state, numbers, *done)

        result: tuple[State, Metrics] = self._program("finish", finish, args)(*args)
        return result
