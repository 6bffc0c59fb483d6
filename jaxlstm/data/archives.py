"""Files of a folder or an archive, read in memory: nothing is ever unpacked to disk."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

#: Larger members are refused: no image or recording of these data sets comes near.
MEMBER_BYTES = 256 << 20

#: Archives that unpack to more are refused: a few kilobytes can claim petabytes.
ARCHIVE_BYTES = 64 << 30

_PIECE = 1 << 20
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
# A tar's headers for long names and the like are held in memory by tarfile, whatever size they say.
_HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def read_gzip(path: Path, limit: int) -> bytes:
    """Reads a gzip file, or a plain one.

    Args:
      path: of the file.
      limit: most bytes that its content may have.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: damaged, cut off, or longer than the limit.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    with _damage(f"{path} is not a whole gzip file"), path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = _read(gzip.GzipFile(fileobj=file) if packed else file, limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} holds more than the {limit:,} bytes that it can need.")
    return content


def members(
    path: Path, wanted: Callable[[PurePosixPath], bool], limit: int = MEMBER_BYTES
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Names and contents of the files in a folder, a zip or a (compressed) tar.

    A folder's and a zip's files come in the order of their names, a tar's as they lie in it. A
    folder's links are followed, an archive's are passed over. Bytes of a name that are not UTF-8
    become the replacement character.

    Args:
      path: of the folder or archive.
      wanted: says of a file's relative name whether to read it.
      limit: most bytes that one file may have.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: a damaged or cut off archive; a name in it that leads outside; a file over the
        limit; an archive of more than 64 GB.
    """
    if path.is_dir():
        yield from _in_folder(path, wanted, limit)
        return
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    with _damage(f"{path} cannot be read"), path.open("rb") as file:
        head = file.read(6)
    # Not zipfile.is_zipfile: it takes a tar that holds a zip for one.
    if head.startswith(b"PK"):
        yield from _in_zip(path, wanted, limit)
    else:
        opener = next((_OPENERS[start] for start in _OPENERS if head.startswith(start)), None)
        yield from _in_tar(path, opener, wanted, limit)


def _in_folder(
    path: Path, wanted: Callable[[PurePosixPath], bool], limit: int
) -> Iterator[tuple[PurePosixPath, bytes]]:
    files: list[tuple[PurePosixPath, Path]] = []
    seen: set[str] = set()
    for folder, inner, names in os.walk(path, followlinks=True, onerror=_unreadable):
        inner.sort()
        if (real := os.path.realpath(folder)) in seen:  # a link to where we have been: no circles
            inner.clear()
            continue
        seen.add(real)
        for found in names:
            file = Path(folder, found)
            shown = os.fsencode(file.relative_to(path).as_posix()).decode("utf-8", "replace")
            files.append((PurePosixPath(shown), file))
    for name, file in sorted(files):
        if wanted(name) and file.is_file():
            _check_size(path, name, file.stat().st_size, limit)
            with _damage(f"{file} cannot be read"), file.open("rb") as stream:
                content = _read(stream, limit + 1)
            _check_size(path, name, len(content), limit)  # one that grows while it is read
            yield name, content


def _unreadable(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be read: {_said(error)}.") from error


def _in_zip(
    path: Path, wanted: Callable[[PurePosixPath], bool], limit: int
) -> Iterator[tuple[PurePosixPath, bytes]]:
    damage = f"{path} is not a whole zip archive"
    with contextlib.ExitStack() as stack:
        with _damage(damage):
            archive = stack.enter_context(zipfile.ZipFile(path))
        _check_total(path, sum(info.file_size for info in archive.infolist()))
        entries = [(_checked(path, info.filename), info) for info in archive.infolist()]
        for name, info in sorted(entries, key=lambda entry: entry[0]):
            if info.is_dir() or not wanted(name):
                continue
            _check_size(path, name, info.file_size, limit)
            # The others' decompressors know no bound: a kilobyte of bzip2 may fill the memory.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"{path}: {name} is packed by method {info.compress_type}; only 0 (stored) and"
                    " 8 (deflated) are read: unpack the archive and name its folder."
                )
            with _damage(f"{damage}, at {name}"), archive.open(info) as stream:
                content = _read(stream, info.file_size + 1)
                if len(content) != info.file_size:
                    raise EOFError(f"{len(content):,} bytes instead of {info.file_size:,}")
            yield name, content


class _Header(tarfile.TarInfo):
    """Headers whose sizes can be true, and a damaged one that is not taken for the end."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.InvalidHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"a header is wrong ({_said(error)})") from error
        most = _PIECE if header.type in _HEADER_TYPES else ARCHIVE_BYTES
        if not 0 <= header.size <= most:
            raise tarfile.ReadError(f"a header claims {header.size:,} bytes")
        return header


class _Stream:
    """A file in which nobody reads past the end: tarfile would, for as long as a header claims."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int) -> bytes:
        if not (piece := self.file.read(size)):
            raise EOFError("it ends without the end mark of a tar")
        return piece


def _in_tar(
    path: Path,
    opener: Callable[[Path], Any] | None,
    wanted: Callable[[PurePosixPath], bool],
    limit: int,
) -> Iterator[tuple[PurePosixPath, bytes]]:
    damage = f"{path} is not a whole zip or tar archive"
    total = 0
    with contextlib.ExitStack() as stack:
        with _damage(damage):
            packed = stack.enter_context(opener(path) if opener else path.open("rb"))
            source: Any = _Stream(packed)
            archive: Any = stack.enter_context(
                tarfile.open(fileobj=source, mode="r|", tarinfo=_Header, errors="replace")
            )
        while True:
            with _damage(damage):
                info = archive.next()
            archive.members = []  # else it keeps every header
            if info is None:
                break
            name = _checked(path, info.name)
            damage = f"{path} is not a whole zip or tar archive, after {name}"
            # A size in an extended header passes _Header by.
            _check_total(path, total := total + abs(info.size))
            if not info.isreg() or not wanted(name):
                continue
            _check_size(path, name, info.size, limit)
            with _damage(f"{path} is not a whole zip or tar archive, at {name}"):
                stream = archive.extractfile(info)
                content = _read(stream, info.size) if stream else b""
                if len(content) != info.size:
                    raise EOFError("it ends within this file")
            yield name, content
        with _damage(damage):
            while piece := packed.read(_PIECE):  # the checksum of a compressed file comes last
                _check_total(path, total := total + len(piece))


def _read(stream: Any, size: int) -> bytes:
    """At most so many bytes, in pieces: a claimed size takes no memory until it proves true."""
    pieces = []
    while size > 0 and (piece := stream.read(min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextlib.contextmanager
def _damage(message: str) -> Iterator[None]:
    """Anything that a library makes of bad bytes, as one sentence."""
    try:
        yield
    except Exception as error:  # damaged files make zipfile, tarfile, zlib and lzma raise anything
        raise ValueError(f"{message}: {_said(error)}.") from error


def _checked(path: Path, name: str) -> PurePosixPath:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise ValueError(f"{path} holds a file with a name that leads outside of it: {name!r}.")
    return parts


def _check_size(path: Path, name: PurePosixPath, size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(
            f"{path}: {name} has {size:,} bytes; no file here may exceed {limit >> 20} MB."
        )


def _check_total(path: Path, size: int) -> None:
    if size > ARCHIVE_BYTES:
        raise ValueError(f"{path} unpacks to more than {ARCHIVE_BYTES >> 30} GB.")


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().rstrip(".")
