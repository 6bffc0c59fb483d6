"""Folders and archives: what is read, and what a damaged or malicious one is answered with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlstm.data import archives, packed
from jaxlstm.data.archives import members
from jaxlstm.data.packed import read_packed, unpack

BYTES = np.random.default_rng(0)
FILES = {
    "b/one.txt": BYTES.bytes(700),
    "a/two.txt": b"",
    "a/deep/three.txt": BYTES.bytes(3000),
    "four.txt": b"words " * 400,
}


def everything(name: PurePosixPath) -> bool:
    return True


def tar_bytes(files: dict[str, bytes], **header: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in header.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Entry(zipfile.ZipInfo):
    """An entry whose name may be empty."""

    def is_dir(self) -> bool:
        return self.filename.endswith("/")


def zip_bytes(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            info = Entry(name)
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


PACKED: dict[str, Callable[[], bytes]] = {
    "plain.tar": lambda: tar_bytes(FILES),
    "packed.tar.gz": lambda: gzip.compress(tar_bytes(FILES), mtime=0),
    "packed.tar.bz2": lambda: bz2.compress(tar_bytes(FILES)),
    "packed.tar.xz": lambda: lzma.compress(tar_bytes(FILES)),
    "deflated.zip": lambda: zip_bytes(FILES),
    "stored.zip": lambda: zip_bytes(FILES, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("name", PACKED)
def test_every_archive_gives_the_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[name]())
    found = list(members(path, everything))
    assert {str(name): content for name, content in found} == FILES
    order = list(FILES) if "tar" in name else sorted(FILES, key=PurePosixPath)
    assert [str(name) for name, _ in found] == order
    assert [str(name) for name, _ in members(path, lambda name: name.stem == "one")] == [
        "b/one.txt"
    ]


def test_a_folder(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    found = [(str(name), content) for name, content in members(tmp_path, everything)]
    assert found == [(name, FILES[name]) for name in sorted(FILES, key=PurePosixPath)]


def test_a_folder_of_links(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x.txt").write_bytes(b"x")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "cats").symlink_to(tmp_path / "store", target_is_directory=True)
    assert [str(name) for name, _ in members(tmp_path / "shown", everything)] == ["cats/x.txt"]


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes({"inner.zip": zip_bytes({"a": b"1"})}))
    assert [str(name) for name, _ in members(path, everything)] == ["inner.zip"]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "..\\x", "a\\..\\..\\x", "C:\\x", "c:x", "\\\\host\\x"]
)
@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_names_that_lead_outside(
    name: str, pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.archive"
    path.write_bytes(pack({"good": b"1", name: b"2"}))
    with pytest.raises(ValueError, match=r"x\.archive holds a file with a name that leads outside"):
        list(members(path, everything))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_passed_over(kind: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("good")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"ok"))
    path = tmp_path / "x.tar"
    path.write_bytes(buffer.getvalue())
    assert [(str(name), content) for name, content in members(path, everything)] == [
        ("good", b"ok")
    ]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes({"caf?.txt": b"1"}).replace(b"caf?.txt", b"caf\xe9.txt"))
    with pytest.raises(ValueError, match="a header is wrong"):  # its checksum
        list(members(path, everything))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding="latin-1", format=tarfile.GNU_FORMAT) as f:
        f.addfile(tarfile.TarInfo("café.txt"))
    path.write_bytes(buffer.getvalue())
    assert [str(name) for name, _ in members(path, everything)] == ["caf\ufffd.txt"]
    odd = zip_bytes({"café.txt": b"1"}).replace("é".encode(), b"\xff\xfe")
    path.write_bytes(odd)
    with pytest.raises(ValueError, match=r"x\.tar is not a whole zip"):
        list(members(path, everything))
    folder = tmp_path / "folder"
    folder.mkdir()
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt"))).write_bytes(b"1")
    assert [str(name) for name, _ in members(folder, everything)] == ["caf\ufffd.txt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends without"),
        (b"just some text, longer than a header of a tar would be\n" * 20, "header is wrong"),
        (b"PK", "zip"),
        (b"\x1f\x8b", "ended before"),
        (gzip.compress(b"only text", mtime=0), "end mark|wrong"),
        (b"BZh9", "ended before"),
        (b"\xfd7zXZ\x00", "ended before"),
    ],
)
def test_what_is_not_an_archive(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s)^{path} is not a whole zip.*({said}|end mark)"):
        list(members(path, everything))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="x is not there"):
        list(members(tmp_path / "x", everything))
    with pytest.raises(FileNotFoundError, match="x is not there"):
        read_packed(tmp_path / "x", 10)


@pytest.mark.parametrize("name", PACKED)
def test_an_archive_cut_off_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    whole = PACKED[name]()
    # A tar ends with blocks of zeros; all but the first of them are padding.
    last = len(tar_bytes(FILES).rstrip(b"\0")) if name == "plain.tar" else len(whole) - 1
    path = tmp_path / name
    for cut in {*range(0, last, 211), last, 512, 1024, 2048} - {len(whole)}:
        path.write_bytes(whole[: min(cut, last)])
        with pytest.raises(ValueError, match=f"^{path} "):
            list(members(path, everything))


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path: Path) -> None:
    content = bytearray(tar_bytes(FILES))
    start = content.index(b"a/deep/three.txt")
    content[start] ^= 1
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"after a/two\.txt: a header is wrong \(bad checksum\)"):
        list(members(path, everything))


def test_a_wrong_checksum_at_the_end_of_a_gzip(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(tar_bytes(FILES), mtime=0))
    content[-6] ^= 1
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CRC"):
        list(members(path, everything))


@pytest.mark.parametrize("claim", [2 << 30, 1 << 50])
def test_a_header_that_claims_gigabytes(claim: int, tmp_path: Path) -> None:
    info = tarfile.TarInfo("big.jpg")
    info.size = claim
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"some bytes")
    with pytest.raises(ValueError, match=rf"x\.tar.* {claim:,} bytes"):
        list(members(path, everything))
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    with pytest.raises(ValueError, match=rf"x\.tar.* {claim:,} bytes"):
        list(members(path, everything))


@pytest.mark.parametrize("size", [str(1 << 60), "-512", str(3 << 30)])
def test_a_size_in_an_extended_header(size: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("big.jpg")
        info.pax_headers = {"size": size}
        archive.addfile(info)
        archive.addfile(tarfile.TarInfo("next.jpg"))
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    for wanted in (everything, lambda name: False):
        with pytest.raises(ValueError, match=rf"^{path}"):
            list(members(path, wanted))


def test_a_name_of_megabytes(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 << 30
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"a" * 2048)
    with pytest.raises(ValueError, match="a header claims 2,147,483,648 bytes"):
        list(members(path, everything))


def test_a_zip_that_claims_gigabytes(tmp_path: Path) -> None:
    content = zip_bytes({"big.jpg": b"x" * 5000})
    path = tmp_path / "x.zip"
    claim = struct.pack("<L", (2 << 30) - 1)
    path.write_bytes(content.replace(struct.pack("<L", 5000), claim))
    with pytest.raises(ValueError, match=r"big\.jpg has 2,147,483,647 bytes; .* exceed 256 MB"):
        list(members(path, everything))
    path.write_bytes(content.replace(struct.pack("<L", 5000), struct.pack("<L", 5001)))
    with pytest.raises(ValueError, match=r"at big\.jpg"):
        list(members(path, everything))


def test_a_zip_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ARCHIVE_BYTES", 1 << 16)
    files = {f"{number}.txt": bytes(20_000) for number in range(4)}
    for content in (zip_bytes(files), gzip.compress(tar_bytes(files), mtime=0)):
        path = tmp_path / "x"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="x unpacks to more than"):
            list(members(path, everything))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_without_a_bound_is_refused(method: int, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zip_bytes({"a.txt": b"1" * 99}, method))
    with pytest.raises(ValueError, match=f"a.txt is packed by method {method}; only 0"):
        list(members(path, everything))


def test_an_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"secret.txt": b"1"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip: secret\.txt is encrypted: unpack"):
        list(members(path, everything))


def test_an_entry_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zip_bytes({"": b"1", "good": b"2"}))
    with pytest.raises(ValueError, match=r"x\.zip holds a file without a name\.$"):
        list(members(path, everything))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_of_a_name_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for content in (b"first", b"last"):
            archive.writestr("a", content)
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert [(str(name), content) for name, content in members(path, everything)] == [("a", b"last")]


def test_a_zip_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"

    def read(content: bytes) -> dict[str, bytes]:
        path.write_bytes(zip_bytes({"in.zip": content, "note": b"n"}))
        return {str(name): content for name, content in members(path, everything, inner="in.zip")}

    assert read(zip_bytes(FILES)) == FILES
    path.write_bytes(zip_bytes(FILES))
    assert len(list(members(path, everything, inner="in.zip"))) == len(FILES)
    for bad, said in (
        (zip_bytes({"a": bytes(9)}, zipfile.ZIP_BZIP2), "in.zip: a is packed by method 12"),
        (zip_bytes({"../a": b"1"}), "in.zip holds a file with a name that leads outside"),
        (zip_bytes({"": b"1"}), "in.zip holds a file without a name"),
        (zip_bytes(FILES)[:-30], "in.zip is not a whole zip archive"),
    ):
        with pytest.raises(ValueError, match=rf"x\.zip: {re.escape(said)}"):
            read(bad)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz", "zip in zip"])
def test_what_fills_the_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MEMBER_BYTES", 1 << 18)
    path = tmp_path / "x"
    files = {f"{number}.txt": bytes(200_000) for number in range(4)}  # each is small enough
    if kind.startswith("zip"):
        content = zip_bytes(files)
        path.write_bytes(zip_bytes({"in": content}) if kind == "zip in zip" else content)
    else:
        pack = {"gz": gzip, "bz2": bz2, "xz": lzma}[kind.removeprefix("tar.")]
        path.write_bytes(pack.compress(tar_bytes(files)))
    with pytest.raises(ValueError, match=r"x(: in)? unpacks to [0-9,]+ bytes or more, over 200 ti"):
        list(members(path, everything, inner="in"))
    for pack in (gzip, bz2, lzma):
        path.write_bytes(pack.compress(bytes(1 << 20)))
        with pytest.raises(ValueError, match=r"x unpacks to [0-9,]+ bytes or more, over 200 times"):
            read_packed(path, 1 << 30)
    with pytest.raises(ValueError, match=r"there unpacks to [0-9,]+ bytes or more"):
        unpack(gzip.compress(bytes(1 << 20)), "there", 1 << 30)


def test_a_sparse_tar_that_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "MEMBER_BYTES", 1 << 18)
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(9):
            info = tarfile.TarInfo(f"{number}.txt")
            info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "2000000"}
            archive.addfile(info)
    with pytest.raises(
        ValueError, match=r"x\.tar unpacks to [0-9,]+ bytes or more, over 200 times"
    ):
        list(members(path, everything))


def test_a_limit_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ValueError, match="a has 1,048,577 bytes; no file here may exceed 1 MB"):
        list(members(tmp_path, everything, limit=1 << 20))


def test_read_packed(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    text = BYTES.bytes(5000)
    for content in (
        text,
        gzip.compress(text, mtime=0),
        gzip.compress(text[:9], mtime=0) + gzip.compress(text[9:], mtime=0),
    ):
        path.write_bytes(content)
        assert read_packed(path, 5000) == text
        with pytest.raises(ValueError, match=r"x\.gz holds more than the 4,999 bytes"):
            read_packed(path, 4999)
    for pack, kind in ((bz2, "bzip2"), (lzma, "xz")):
        path.write_bytes(pack.compress(text))
        assert read_packed(path, 5000) == text
        path.write_bytes(pack.compress(text)[:-1])
        with pytest.raises(ValueError, match=f"is not a whole {kind} file"):
            read_packed(path, 5000)
    for bad in (
        gzip.compress(text, mtime=0)[:-1],
        gzip.compress(text, mtime=0) + b"tail",
        b"\x1f\x8bno",
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"x\.gz is not a whole gzip file"):
            read_packed(path, 5000)
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        read_packed(tmp_path, 5000)  # a folder
    path.write_bytes(b"")
    assert read_packed(path, 0) == b""


@settings(max_examples=150)
@given(st.data())
def test_damage_is_a_value_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Whatever happens to the bytes, the answer is files or a ValueError that names the file."""
    name = data.draw(st.sampled_from(sorted(PACKED)))
    content = bytearray(PACKED[name]())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    path = tmp_path_factory.getbasetemp() / f"fuzzed-{name}"
    path.write_bytes(content)
    said, found = "", FILES
    try:
        found = {str(name): content for name, content in members(path, everything)}
    except ValueError as error:
        said = str(error)
    assert not said or str(path) in said
    if name.endswith((".gz", ".bz2", ".xz")):  # which have a checksum of the whole
        assert found == FILES
