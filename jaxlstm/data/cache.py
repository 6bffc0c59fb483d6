"""What took long to compute, kept in files: found again by content, never believed when damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from jaxlstm.data.archives import check_npz, members
from jaxlstm.data.download import data_folder


def cache_folder(cache: bool | str | Path) -> Path | None:
    """Folder of a cache.

    Args:
      cache: True: ``cache`` within the folder that downloads are kept in (the environment variable
        JAXLSTM_DATA names another); a folder; False: none.
    """
    if cache is False:
        return None
    return data_folder() / "cache" if cache is True else Path(cache).expanduser()


def content_hash(path: Path, wanted: Callable[[PurePosixPath], bool]) -> str:
    """Hashes an archive's bytes, or the names and contents of a folder's files.

    Args:
      path: of the archive or folder.
      wanted: says of a file's name, relative to the folder, whether it counts.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name, content in members(path, wanted):  # the files that are read, behind links too
        # A name has any length; its hash, like the content's, has one.
        for part in (str(name).encode(), content):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def load(folder: Path, key: str) -> dict[str, np.ndarray] | None:
    """Reads arrays back; None where there are none of this key, or the file is damaged.

    Args:
      folder: of the cache.
      key: that they were stored under.
    """
    try:
        check_npz(folder / f"{key}.npz")
        # The context closes the file, too, where it is no npz.
        with (folder / f"{key}.npz").open("rb") as file, np.load(file) as arrays:
            # zipfile compares each array's checksum as it is read to its end.
            held = {name: arrays[name] for name in arrays.files}
    except Exception:  # a damaged file makes zipfile, zlib and numpy raise anything
        return None
    if str(held.pop("key", "")) != key:
        return None
    return held


def store(folder: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under a temporary name, and gives the file its own when it is whole.

    A folder that can't be written to is a warning: the data is there, it will only take as long
    the next time.

    Args:
      folder: of the cache, made where it is missing.
      key: a file name without an ending.
      arrays: by name; none may be called "key".
    """
    temporary = folder / f".unfinished-{uuid.uuid4().hex}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            np.savez(file, allow_pickle=False, **{"key": np.array(key), **arrays})
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / f"{key}.npz")
    except OSError as error:
        warnings.warn(
            f"the features are not kept for the next time: {folder} can't be written to ({error}).",
            stacklevel=2,
        )
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
