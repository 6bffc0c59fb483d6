"""Files by download: checked before they are believed, kept for the next time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds to wait for a connection, and for the next bytes on one.
TIMEOUT = (10.0, 30.0)


def data_folder(folder: str | Path | None = None) -> Path:
    """Folder that downloads are kept in.

    Args:
      folder: this one; by default the one that the environment variable JAXLSTM_DATA names, else
        the operating system's folder for caches.
    """
    named = folder or os.environ.get("JAXLSTM_DATA")
    return Path(named).expanduser() if named else Path(_pooch().os_cache("jaxlstm"))


def fetch(
    name: str,
    url: str,
    known_hash: str | None,
    *,
    folder: str | Path | None = None,
    size: int | None = None,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Returns a file, downloaded unless it is there already.

    A download goes to a temporary name and gets its own only when it is whole and right; one that
    is there with another checksum is replaced.

    Args:
      name: of the file in the folder.
      url: ``https://...``, or ``doi:10.5281/zenodo.<record>/<file>`` for a file of a repository.
      known_hash: ``sha256:...`` or ``md5:...`` of the content. None where nobody publishes one; then
        ``size`` or ``check`` must tell a whole file from half of one.
      folder: see ``data_folder``.
      size: of the file, in bytes.
      check: raises a ValueError for a file that is not whole.

    Raises:
      ImportError: pooch is not installed.
      OSError: the file cannot be had. The sentence says how to place it by hand.
      ValueError: nothing tells a whole file; or one is there without a checksum to know it by and
        it is not whole.
    """
    if known_hash is None and size is None and check is None:
        raise ValueError(f"{name}: give known_hash, size or check, or half a file may be believed.")
    pooch = _pooch()
    place = data_folder(folder)

    def inspect(path: Path) -> None:
        if size is not None and path.stat().st_size != size:
            raise ValueError(f"{name} has {path.stat().st_size:,} bytes, {size:,} are expected")
        if check is not None:
            check(path)

    def download(address: str, output: Any, registry: Any) -> None:
        downloader = pooch.downloaders.choose_downloader(address)
        downloader.chunk_size = 1 << 18  # pooch's 1 kB costs more than the network
        if hasattr(downloader, "timeout"):
            downloader.timeout = TIMEOUT
        else:
            downloader.kwargs["timeout"] = TIMEOUT
        downloader(address, output, registry)
        inspect(Path(output))

    if known_hash is None and (place / name).is_file():
        try:
            inspect(place / name)
        except ValueError as error:
            raise ValueError(
                f"{place / name} is not the whole file ({_said(error)}): remove it to have it"
                " downloaded again."
            ) from error
    try:
        return Path(pooch.retrieve(url, known_hash, name, place, downloader=download))
    except (OSError, ValueError, KeyError) as error:  # KeyError: a DOI's answer without files
        raise OSError(
            f"{name} could not be downloaded from {_page(url)} ({_said(error)}): put it into"
            f" {place} under the name {name}, or name the place where you have it with path=."
        ) from error


def _page(url: str) -> str:
    """What a person can open."""
    if not url.startswith("doi:"):
        return url
    doi, _, file = url.removeprefix("doi:").rpartition("/")
    return f"https://doi.org/{doi}, file {file}"


def _said(error: Exception) -> str:
    from requests.exceptions import ConnectionError, Timeout

    if isinstance(error, Timeout):
        return "no answer in time"
    # Their own words are lines of nested objects.
    text = "no connection" if isinstance(error, ConnectionError) else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            'Downloads need pooch: pip install "jaxlstm[data]", or name the files with path=.'
        ) from error
    return pooch
