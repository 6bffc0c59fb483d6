"""Files of a folder or an archive, read in memory: nothing is ever unpacked to disk."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from jaxlstm.data.packed import (
    MEMBER_BYTES,
    PIECE,
    check_ratio,
    damage,
    open_packed,
    read_bytes,
    reason,
)

#: Archives that unpack to more are refused: a few kilobytes can claim petabytes.
ARCHIVE_BYTES = 64 << 30

# A tar's headers for long names and the like are held in memory by tarfile, whatever size they say.
_HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def members(
    path: Path,
    wanted: Callable[[PurePosixPath], bool],
    limit: int = MEMBER_BYTES,
    inner: str | None = None,
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Names and contents of the files in a folder, a zip or a (compressed) tar.

    A folder's and a zip's files come in the order of their names, a tar's and an inner zip's as
    they lie in it. Of two files of a name in a zip the last one counts, as when it is unpacked. A
    folder's links are followed, an archive's are passed over. Bytes of a name that are not UTF-8
    become the replacement character.

    Args:
      path: of the folder or archive.
      wanted: says of a file's relative name whether to read it.
      limit: most bytes that one file may have.
      inner: name of a zip within the zip, which is read in its place if it is there.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: a damaged, cut off or encrypted archive; a name in it that is empty or leads
        outside; a file over the limit; an archive of more than 64 GB, or of far more than its
        packed size can honestly hold.
    """
    if path.is_dir():
        yield from _in_folder(path, wanted, limit)
        return
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    with damage(f"{path} cannot be read"), path.open("rb") as file:
        head = file.read(6)
    # Not zipfile.is_zipfile: it takes a tar that holds a zip for one.
    if head.startswith(b"PK"):
        yield from _in_zip(path, wanted, limit, inner)
    else:
        yield from _in_tar(path, wanted, limit)


def is_archive(path: Path) -> bool:
    """Tells a file that holds files from a text, plain or packed."""
    with damage(f"{path} cannot be read"), path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return True
    with contextlib.suppress(Exception), open_packed(path) as stream:
        head = stream.read(512)
    return head[257:262] == b"ustar"


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
            with damage(f"{file} cannot be read"), file.open("rb") as stream:
                content = read_bytes(stream, limit + 1)
            _check_size(path, name, len(content), limit)  # one that grows while it is read
            yield name, content


def _unreadable(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be read: {reason(error)}.") from error


def _in_zip(
    path: Path, wanted: Callable[[PurePosixPath], bool], limit: int, inner: str | None
) -> Iterator[tuple[PurePosixPath, bytes]]:
    with contextlib.ExitStack() as stack:
        with damage(f"{path} is not a whole zip archive"):
            archive = stack.enter_context(zipfile.ZipFile(path))
            packed = path.stat().st_size
        entries = _entries(path, str(path), archive)
        within = entries.get(PurePosixPath(inner)) if inner else None
        if within is None:
            yield from _from_zip(str(path), archive, entries, wanted, limit, packed)
            return
        place = f"{path}: {inner}"
        _check_packing(str(path), PurePosixPath(str(inner)), within)
        with damage(f"{place} is not a whole zip archive"):
            stream = stack.enter_context(archive.open(within))
            archive = stack.enter_context(zipfile.ZipFile(stream))
        entries = _entries(path, place, archive)
        # The outer zip can only be read forwards.
        places = {name: info.header_offset for name, info in entries.items()}
        entries = {name: entries[name] for name in sorted(entries, key=lambda name: places[name])}
        yield from _from_zip(place, archive, entries, wanted, limit, packed)


def _entries(
    path: Path, place: str, archive: zipfile.ZipFile
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """A zip's files by name, in the order of the names."""
    _check_total(path, sum(info.file_size for info in archive.infolist()))
    entries = {_checked(place, info.filename): info for info in archive.infolist()}
    return {name: entries[name] for name in sorted(entries) if not entries[name].is_dir()}


def _from_zip(
    place: str,
    archive: zipfile.ZipFile,
    entries: dict[PurePosixPath, zipfile.ZipInfo],
    wanted: Callable[[PurePosixPath], bool],
    limit: int,
    packed: int,
) -> Iterator[tuple[PurePosixPath, bytes]]:
    total = 0
    for name, info in entries.items():
        # Links are kept as files that hold the place they lead to.
        if stat.S_ISLNK(info.external_attr >> 16) or not wanted(name):
            continue
        _check_size(place, name, info.file_size, limit)
        _check_packing(place, name, info)
        check_ratio(place, total := total + info.file_size, packed)
        broken = damage(f"{place} is not a whole zip archive, at {name}")
        with broken, archive.open(info) as stream:
            content = read_bytes(stream, info.file_size + 1)
            if len(content) != info.file_size:
                raise EOFError(f"{len(content):,} bytes instead of {info.file_size:,}")
        yield name, content


def _check_packing(place: str, name: PurePosixPath, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        raise ValueError(f"{place}: {name} is encrypted: unpack the archive and name its folder.")
    # The others' decompressors know no bound: a kilobyte of bzip2 may fill the memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"{place}: {name} is packed by method {info.compress_type}; only 0 (stored) and"
            " 8 (deflated) are read: unpack the archive and name its folder."
        )


def check_npz(path: Path) -> None:
    """Raises a ValueError where reading an npz file's arrays could fill the memory.

    Args:
      path: of the file, a whole zip archive.
    """
    with (
        damage(f"{path} is not a readable npz file"),
        path.open("rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        pass
    entries = _entries(path, str(path), archive)
    for name, info in entries.items():
        _check_packing(str(path), name, info)
    check_ratio(str(path), sum(info.file_size for info in entries.values()), path.stat().st_size)


class _Header(tarfile.TarInfo):
    """Headers whose sizes can be true, and a damaged one that is not taken for the end."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.InvalidHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"a header is wrong ({reason(error)})") from error
        most = PIECE if header.type in _HEADER_TYPES else ARCHIVE_BYTES
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
    wanted: Callable[[PurePosixPath], bool],
    limit: int,
) -> Iterator[tuple[PurePosixPath, bytes]]:
    message = f"{path} is not a whole zip or tar archive"
    total = read = 0
    with contextlib.ExitStack() as stack:
        with damage(message):
            packed = stack.enter_context(open_packed(path))
            source: Any = _Stream(packed)
            archive: Any = stack.enter_context(
                tarfile.open(fileobj=source, mode="r|", tarinfo=_Header, errors="replace")
            )
        while True:
            with damage(message):
                info = archive.next()
            archive.members = []  # else it keeps every header
            if info is None:
                break
            name = _checked(str(path), info.name)
            message = f"{path} is not a whole zip or tar archive, after {name}"
            # A size in an extended header passes _Header by.
            _check_total(path, total := total + abs(info.size))
            if not info.isreg() or not wanted(name):
                continue
            _check_size(path, name, info.size, limit)
            # A sparse file is mostly zeros that are not in the tar.
            check_ratio(str(path), read := read + info.size, path.stat().st_size)
            with damage(f"{path} is not a whole zip or tar archive, at {name}"):
                stream = archive.extractfile(info)
                content = read_bytes(stream, info.size) if stream else b""
                if len(content) != info.size:
                    raise EOFError("it ends within this file")
            yield name, content
        with damage(message):
            while piece := packed.read(PIECE):  # the checksum of a compressed file comes last
                _check_total(path, total := total + len(piece))


def _checked(place: str, name: str) -> PurePosixPath:
    if not name:
        raise ValueError(f"{place} holds a file without a name.")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise ValueError(f"{place} holds a file with a name that leads outside of it: {name!r}.")
    return parts


def _check_size(place: object, name: PurePosixPath, size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(
            f"{place}: {name} has {size:,} bytes; no file here may exceed {limit >> 20} MB."
        )


def _check_total(path: Path, size: int) -> None:
    if size > ARCHIVE_BYTES:
        raise ValueError(f"{path} unpacks to more than {ARCHIVE_BYTES >> 30} GB.")
