"""The idx format of MNIST and EMNIST."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxlstm.data.packed import check_ratio

_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_DIMENSIONS = 8
_PIECE = 1 << 20


def read_idx(path: str | Path) -> np.ndarray:
    """Reads an array from an idx file, plain or gzipped.

    Args:
      path: of the file.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: see ``parse_idx``.

    References:
      LeCun, Cortes and Burges, "The MNIST database of handwritten digits": two bytes of zero, a
      type's code, the number of dimensions, each dimension as a big-endian 4-byte integer, then
      the values in C order.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    return parse_idx(content, str(path))


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Reads an array from an idx file's content, plain or gzipped.

    No memory is taken for what the header claims before the values are there.

    Args:
      content: of the file.
      name: that errors call it by.

    Returns:
      The array, in the machine's own byte order.

    Raises:
      ValueError: no idx file, a damaged or cut off one, or one with bytes left over.
    """
    packed = content[:2] == b"\x1f\x8b"
    stream: Any = gzip.GzipFile(fileobj=io.BytesIO(content)) if packed else io.BytesIO(content)
    try:
        return _parse(stream, name, len(content))
    except ValueError:
        raise  # more than a packed file can hold
    except _Wrong as error:
        raise ValueError(f"{name} {error}.") from None
    except Exception as error:  # damaged bytes make gzip and zlib raise several kinds
        said = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"{name} is not a whole gzip file: {said}.") from error


class _Wrong(Exception):
    """What a file is, in place of an idx file."""


def _parse(stream: Any, name: str, packed: int) -> np.ndarray:
    magic = _read(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise _Wrong(
            f"is not an idx file: it must begin with two zero bytes, a type (8, 9, 11, 12, 13 or 14)"
            f" and the number of dimensions, got {list(magic)}"
        )
    dtype, ndim = _TYPES[magic[2]], magic[3]
    if not 1 <= ndim <= _DIMENSIONS:
        raise _Wrong(f"claims {ndim} dimensions at byte 3; 1 to {_DIMENSIONS} are read")
    header = _read(stream, 4 * ndim)
    if len(header) < 4 * ndim:
        raise _Wrong(f"ends within its header, at byte {4 + len(header)}")
    shape = tuple(int(side) for side in np.frombuffer(header, ">u4"))
    size = math.prod(shape) * dtype.itemsize
    values = _read(stream, size, lambda read: check_ratio(name, read, packed))
    if len(values) < size:
        raise _Wrong(
            f"is cut off: its header claims {' x '.join(map(str, shape))} values, {size:,} bytes,"
            f" of which {len(values):,} are there"
        )
    if stream.read(1):
        raise _Wrong(f"goes on after the {size:,} bytes of values that its header claims")
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read(stream: Any, size: int, check: Callable[[int], None] | None = None) -> bytearray:
    """So many bytes, or those that are there, taken as they come."""
    content = bytearray()
    while len(content) < size and (piece := stream.read(min(_PIECE, size - len(content)))):
        content += piece
        if check is not None:
            check(len(content))
    return content
