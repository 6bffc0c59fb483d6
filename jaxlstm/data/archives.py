"""Files of a folder or an archive, read in memory: nothing is ever unpacked to disk."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

_BROKEN = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError)

#: Larger members are refused: no image or recording of these data sets comes near.
MEMBER_BYTES = 256 << 20


def read_gzip(path: Path, limit: int) -> bytes:
    """Reads a gzip file, or a plain one.

    Args:
      path: of the file.
      limit: most bytes that its content may have.

    Raises:
      ValueError: damaged, cut off, or longer than the limit.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(limit + 1)
    except _BROKEN as error:
        raise ValueError(f"{path} is not a whole gzip file: {_said(error)}.") from error
    if len(content) > limit:
        raise ValueError(f"{path} holds more than the {limit:,} bytes that it can need.")
    return content


def members(
    path: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Names and contents of the files in a folder, a zip or a (compressed) tar.

    A folder's and a zip's files come in the order of their names, a tar's as they lie in it. Links
    in an archive are passed over.

    Args:
      path: of the folder or archive.
      wanted: says of a file's relative name whether to read it.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: a damaged archive; a name in it that leads outside; a file over 256 MB.
    """
    if path.is_dir():
        yield from _in_folder(path, wanted)
    elif not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    elif zipfile.is_zipfile(path):
        yield from _in_zip(path, wanted)
    else:
        yield from _in_tar(path, wanted)


def _in_folder(
    path: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    for file in sorted(path.rglob("*")):
        name = PurePosixPath(file.relative_to(path).as_posix())
        if wanted(name) and file.is_file():
            _check_size(path, name, file.stat().st_size)
            yield name, file.read_bytes()


def _in_zip(
    path: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    name = PurePosixPath()
    try:
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                name = _checked(path, info.filename)
                if info.is_dir() or not wanted(name):
                    continue
                _check_size(path, name, info.file_size)
                with archive.open(info) as stream:
                    content = stream.read(info.file_size + 1)
                yield name, content
    except (*_BROKEN, RuntimeError) as error:
        raise ValueError(f"{path} is damaged at {name}: {_said(error)}.") from error


def _in_tar(
    path: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    name = PurePosixPath()
    try:
        with tarfile.open(path, "r|*") as archive:
            for info in archive:
                name = _checked(path, info.name)
                if not info.isreg() or not wanted(name):
                    continue
                _check_size(path, name, info.size)
                stream = archive.extractfile(info)
                content = stream.read() if stream else b""
                if len(content) != info.size:
                    raise ValueError(f"{path} ends within {name}.")
                yield name, content
    except _BROKEN as error:
        where = f" after {name}" if name.parts else ""
        raise ValueError(
            f"{path} is not a whole zip or tar archive{where}: {_said(error)}."
        ) from error


def _checked(path: Path, name: str) -> PurePosixPath:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and ":" in parts.parts[0]):
        raise ValueError(f"{path} holds a file with a name that leads outside of it: {name!r}.")
    return parts


def _check_size(path: Path, name: PurePosixPath, size: int) -> None:
    if size > MEMBER_BYTES:
        raise ValueError(f"{path}: {name} has {size:,} bytes; no file here may exceed 256 MB.")


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().rstrip(".")
