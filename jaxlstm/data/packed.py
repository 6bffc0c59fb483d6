"""Packed files, read in memory: no more comes out of one than its size can honestly hold."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Larger members are refused: no image or recording of these data sets comes near.
MEMBER_BYTES = 256 << 20

#: What unpacks to more than 256 MB must be no more than so many times its packed size. Text packs
#: to a tenth, a table of zeros to a thousandth.
RATIO = 200

PIECE = 1 << 20
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_KINDS = {"BZ2File": "bzip2", "LZMAFile": "xz"}


def open_packed(path: Path) -> Any:
    """Opens a gzip, bzip2 or xz file, or a plain one, for reading.

    Reading raises a ValueError where a packed file unpacks to more than its size can honestly hold.

    Args:
      path: of the file.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: it cannot be opened.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    with damage(f"{path} is not a whole gzip file"):
        with path.open("rb") as file:
            opener = _opener(file.read(6))
        return path.open("rb") if opener is None else _Bounded(path, opener(path))


def read_packed(path: Path, limit: int) -> bytes:
    """Reads a gzip, bzip2 or xz file, or a plain one.

    Args:
      path: of the file.
      limit: most bytes that its content may have.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: damaged, cut off, longer than the limit or than its packed size can honestly hold.
    """
    with open_packed(path) as file:
        kind = _KINDS.get(getattr(file, "kind", ""), "gzip")
        with damage(f"{path} is not a whole {kind} file"):
            content = read_bytes(file, limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} holds more than the {limit:,} bytes that it can need.")
    return content


def unpack(content: bytes, place: str, limit: int = MEMBER_BYTES) -> bytes:
    """Unpacks the content of a gzip file that was a file of an archive.

    Args:
      content: of the gzip file.
      place: the archive and the file's name in it; errors begin with it.
      limit: most bytes that it may hold.

    Raises:
      ValueError: damaged, cut off, longer than the limit or than its packed size can honestly hold.
    """
    with damage(f"{place} is not a whole gzip file"), gzip.open(io.BytesIO(content)) as stream:
        text = read_bytes(stream, limit + 1)
    if len(text) > limit:
        raise ValueError(f"{place} holds more than the {limit:,} bytes allowed.")
    check_ratio(place, len(text), len(content))
    return text


def check_ratio(place: str, size: int, packed: int) -> None:
    """Raises a ValueError where so few packed bytes can only be meant to fill the memory.

    Args:
      place: the file; the error begins with it.
      size: bytes that come out of it.
      packed: bytes that it has.
    """
    if size > MEMBER_BYTES and size > RATIO * packed:
        raise _Refusal(
            f"{place} unpacks to {size:,} bytes or more, over {RATIO} times its own {packed:,}: no"
            " data is packed so tightly; unpack it yourself if you trust it."
        )


def _opener(head: bytes) -> Callable[[Path], Any] | None:
    """What opens a packed file, by its first bytes."""
    return next((_OPENERS[start] for start in _OPENERS if head.startswith(start)), None)


class _Bounded(io.RawIOBase):
    """A packed file's content, of which no more comes than its size can honestly hold."""

    def __init__(self, path: Path, stream: Any) -> None:
        self.path, self.stream, self.total = path, stream, 0
        self.packed = path.stat().st_size

    @property
    def kind(self) -> str:
        return type(self.stream).__name__

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self.stream.readinto(buffer)
        self.total += count
        check_ratio(str(self.path), self.total, self.packed)
        return count

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Refusal(ValueError):
    """Too much comes out of a packed file, though it may be whole."""


def read_bytes(stream: Any, size: int) -> bytes:
    """Reads at most so many bytes, in pieces: a claimed size takes no memory until it proves true."""
    pieces = []
    while size > 0 and (piece := stream.read(min(size, PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextlib.contextmanager
def damage(message: str) -> Iterator[None]:
    """Makes one sentence of anything that a library makes of bad bytes.

    Args:
      message: what the sentence begins with; why follows.
    """
    try:
        yield
    except _Refusal:
        raise
    except Exception as error:  # damaged files make zipfile, tarfile, zlib and lzma raise anything
        raise ValueError(f"{message}: {reason(error)}.") from error


def reason(error: BaseException) -> str:
    """What an error says, without the full stop."""
    return (str(error) or type(error).__name__).strip().rstrip(".")
