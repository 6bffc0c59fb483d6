"""Downloads from a server of our own that answers rightly, wrongly, by halves and not at all."""

from __future__ import annotations

import gc
import hashlib
import re
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pooch = pytest.importorskip("pooch")

from jaxlstm.data import download  # noqa: E402
from jaxlstm.data.download import data_folder, fetch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # see the server below

CONTENT = np.random.default_rng(3).bytes(700_001)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Counts requests; the first part of the path says how to answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.done = threading.Event()

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/file.bin"

    def handle_error(self, *_: Any) -> None:
        pass  # the client hung up


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        self.server.asked.append(how)
        if how == "missing":
            self.send_error(404)
            return
        if how == "silent":
            self.server.done.wait(20)
            return
        self.send_response(200)
        if how != "unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        half = how in ("half", "unsized", "stall")
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)
        if how == "stall":
            self.wfile.flush()
            self.server.done.wait(20)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()
    with (
        warnings.catch_warnings()
    ):  # pooch leaves the connection of a failed answer to be collected
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("known_hash", [SHA256, MD5, SHA256.removeprefix("sha256:").upper(), None])
def test_downloaded_once(server: Server, tmp_path: Path, known_hash: str | None) -> None:
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        path = fetch("a.bin", server.url("good"), known_hash, folder=folder, size=len(CONTENT))
        assert path == folder / "a.bin"
        assert path.read_bytes() == CONTENT
    assert server.asked == ["good"]
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("how", ["half", "unsized", "stall", "silent", "missing", "closed"])
@pytest.mark.parametrize("sure", ["hash", "size", "check"])
def test_not_whole(
    server: Server, tmp_path: Path, how: str, sure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks, nothing is left; the sentence names file, address and folder."""
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))

    def check(path: Path) -> None:
        if path.read_bytes() != CONTENT:
            raise ValueError("half of it")

    url = server.url(how) if how != "closed" else "http://127.0.0.1:9/file.bin"
    options: dict[str, Any] = {"size": {"size": len(CONTENT)}, "check": {"check": check}}.get(
        sure, {}
    )
    known_hash = SHA256 if sure == "hash" else None
    with pytest.raises(OSError, match="could not be downloaded from") as caught:
        fetch("a.bin", url, known_hash, folder=tmp_path, **options)
    said = str(caught.value)
    for part in (url, f"put it into {tmp_path} under the name a.bin", "path="):
        assert part in said
    assert "\n" not in said
    assert len(said) < 700
    assert list(tmp_path.iterdir()) == []
    # And the next try is not misled.
    path = fetch("a.bin", server.url("good"), known_hash, folder=tmp_path, **options)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not match the known hash"):
        fetch("a.bin", server.url("good"), "md5:" + "0" * 32, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=f"has {len(CONTENT):,} bytes, 5 are expected"):
        fetch("a.bin", server.url("good"), SHA256, folder=tmp_path, size=5)
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_there(server: Server, tmp_path: Path) -> None:
    """Right: no network. Wrong: replaced, once the right one has come whole."""
    place = tmp_path / "a.bin"
    place.write_bytes(CONTENT)
    assert fetch("a.bin", server.url("missing"), SHA256, folder=tmp_path) == place
    assert server.asked == []
    place.write_bytes(CONTENT[:-1])
    with pytest.raises(OSError, match="404"):
        fetch("a.bin", server.url("missing"), SHA256, folder=tmp_path)
    assert place.read_bytes() == CONTENT[:-1]
    fetch("a.bin", server.url("good"), SHA256, folder=tmp_path)
    assert place.read_bytes() == CONTENT
    # Without a checksum it may be the user's own: it is not believed, and not overwritten.
    place.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"a\.bin is not the whole file \(.* remove it to have it"):
        fetch("a.bin", server.url("good"), None, folder=tmp_path, size=len(CONTENT))
    assert place.read_bytes() == CONTENT[:-1]


def test_something_must_tell_a_whole_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give known_hash, size or check"):
        fetch("a.bin", "http://127.0.0.1:9/", None, folder=tmp_path)


def test_doi(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository's file by its DOI: our server stands in for the repository."""
    import pooch.downloaders

    class Repository:
        def download_url(self, name: str) -> str:
            assert name == "songs.zip"
            return server.url("good")

    def repository(doi: str, **options: Any) -> Repository:
        assert doi == "10.5281/zenodo.1188976"
        assert options["timeout"] == download.TIMEOUT
        return Repository()

    monkeypatch.setattr(pooch.downloaders, "doi_to_repository", repository)
    url = "doi:10.5281/zenodo.1188976/songs.zip"
    assert fetch("songs.zip", url, MD5, folder=tmp_path).read_bytes() == CONTENT

    for error in (KeyError("files"), ValueError("File 'songs.zip' not found"), OSError("offline")):

        def failing(doi: str, error: Exception = error, **options: Any) -> Repository:
            raise error

        monkeypatch.setattr(pooch.downloaders, "doi_to_repository", failing)
        page = re.escape("from https://doi.org/10.5281/zenodo.1188976, file songs.zip (")
        with pytest.raises(OSError, match=page):
            fetch("songs.zip", url, MD5, folder=tmp_path / "other")


def test_folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAXLSTM_DATA", raising=False)
    assert data_folder() == Path(pooch.os_cache("jaxlstm"))
    monkeypatch.setenv("JAXLSTM_DATA", str(tmp_path / "mine"))
    assert data_folder() == tmp_path / "mine"
    assert data_folder(tmp_path) == tmp_path
    assert fetch("a", server.url("good"), MD5) == tmp_path / "mine" / "a"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"put it into .*file under the name a"):
        fetch("a", server.url("good"), MD5, folder=tmp_path / "file")


def test_without_pooch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "jaxlstm\[data\]"'):
        fetch("a", "http://127.0.0.1:9/", MD5, folder=tmp_path)
