"""Folders of images: what is decoded, how it is ordered, what a bad file is answered with."""

from __future__ import annotations

import io
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxlstm.data.images import decode_image, load_image_folder
from jaxlstm.data.sequences import SequenceData

RNG = np.random.default_rng(0)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def triangle(pixels: np.ndarray, size: int) -> np.ndarray:
    """Shrinks the first axis: each new pixel is a mean under a triangle two new pixels wide."""
    scale = len(pixels) / size
    rows = []
    for place in range(size):
        middle = (place + 0.5) * scale
        weights = np.array(
            [max(0, 1 - abs((old + 0.5 - middle) / scale)) for old in range(len(pixels))]
        )
        rows.append(np.tensordot(weights / weights.sum(), pixels, 1))
    return np.array(rows)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_formats_without_loss(kind: str) -> None:
    pixels = noise(7, 5)
    np.testing.assert_array_equal(decode_image(encode(pixels, kind)), pixels)


def test_grey_and_colour() -> None:
    pixels = noise(6, 9, 3)
    np.testing.assert_array_equal(decode_image(encode(pixels), grayscale=False), pixels)
    grey = pixels @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    np.testing.assert_allclose(decode_image(encode(pixels)), grey, atol=1)
    np.testing.assert_allclose(
        decode_image(encode(np.full((16, 16, 3), 77, np.uint8), "JPEG", quality=95)), 77, atol=2
    )


@pytest.mark.parametrize("shape", [(48, 48), (50, 33), (200, 37, 3)])
def test_shrinking_averages(shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    shrunk = triangle(triangle(pixels.astype(float), 16).swapaxes(0, 1), 12).swapaxes(0, 1)
    read = decode_image(encode(pixels), (16, 12), grayscale=len(shape) == 2)
    np.testing.assert_allclose(read, shrunk, atol=1.5)  # two roundings


def test_sixteen_bits_are_not_clipped() -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    np.testing.assert_array_equal(decode_image(encode(values)), np.arange(256).reshape(16, 16))


def test_transparent_becomes_white() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, :, 3] = 255
    np.testing.assert_array_equal(decode_image(encode(pixels)), [[0, 0], [255, 255]])


def test_a_photo_on_its_side_is_turned_upright() -> None:
    pixels = noise(8, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    content = encode(pixels, "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(content), np.rot90(pixels, -1))


def png_of(width: int, height: int) -> bytes:
    """A PNG that says that it is as large as this, and holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"no image", "it is none of JPEG, PNG"),
        (encode(noise(30, 30))[:300], "truncated"),
        (encode(noise(30, 30), "JPEG")[:500], "truncated"),
        (png_of(8200, 8200), "8200 x 8200 pixels are too many"),
        (png_of(2**31 - 1, 2**31 - 1), "."),
        (encode(noise(30, 30).astype(np.float32), "TIFF"), "its pixels are floats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of"),  # runs programs
    ],
)
def test_bad_images(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode_image(content)


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (3, 5000), (3, 2.5), (3,), (3, 3, 3)])
def test_bad_sizes(size: Any) -> None:
    with pytest.raises(ValueError, match="size must be height and width"):
        decode_image(encode(noise(4, 4)), size)


@settings(max_examples=300)
@given(st.data())
def test_damage_is_a_value_error(data: st.DataObject) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"]))
    content = bytearray(encode(pixels, kind))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    try:
        read = decode_image(bytes(content), (8, 8))
    except ValueError:
        return
    assert read.shape == (8, 8)


FILES = {
    f"{label}/{number}.{ending}": noise(9, 7)
    for label in ("cat", "ant", "bee")
    for number, ending in ((2, "png"), (10, "PNG"), (1, "bmp"))
}


def write(folder: Path, files: dict[str, np.ndarray]) -> None:
    for name, pixels in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode(pixels, place.suffix[1:].upper()))


def check(data: SequenceData | dict[str, SequenceData], files: dict[str, np.ndarray]) -> None:
    assert isinstance(data, SequenceData)
    names = sorted(files)
    np.testing.assert_allclose(data.x, np.stack([files[name] / 255 for name in names]), rtol=1e-6)
    assert list(data.labels) == [name.split("/")[0] for name in names]
    assert data.x.dtype == np.float32


def test_a_folder_a_zip_and_a_tar(tmp_path: Path) -> None:
    write(tmp_path / "mine", FILES)
    data = load_image_folder(tmp_path / "mine", size=(9, 7))
    check(data, FILES)
    assert isinstance(data, SequenceData)
    assert (data.classes, data.name) == (("ant", "bee", "cat"), "mine")
    assert data.source == f"{tmp_path / 'mine'} (9 images of 7 x 9 pixels)"
    assert not data.dropped
    assert not data.skipped
    names = sorted(FILES)
    RNG.shuffle(names)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "mine" / name, f"around/all/{name}")
            archive.writestr(f"__MACOSX/around/{name}", b"")
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as archive:
        for name in names:
            archive.add(tmp_path / "mine" / name, name)
    for name in ("mine.zip", "mine.tar.gz"):
        packed = load_image_folder(tmp_path / name, size=(9, 7))
        assert isinstance(packed, SequenceData)
        assert (packed.sha256, packed.name) == (data.sha256, "mine")


def test_colour_rows(tmp_path: Path) -> None:
    pixels = {"a/1.png": noise(3, 4, 3), "b/1.png": noise(3, 4, 3)}
    write(tmp_path, pixels)
    data = load_image_folder(tmp_path, size=(3, 4), grayscale=False)
    assert isinstance(data, SequenceData)
    assert data.x.shape == (2, 3, 12)
    np.testing.assert_allclose(data.x[1, 2, 3:6], pixels["b/1.png"][2, 1] / 255, rtol=1e-6)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
@pytest.mark.parametrize("around", ["", "images/"])
def test_splits(names: tuple[str, ...], around: str, tmp_path: Path) -> None:
    files = {f"{around}{name}/{label}/{name}.png": noise(4, 4) for name in names for label in "ab"}
    files[f"{around}{names[0]}/c/only here.png"] = noise(4, 4)
    write(tmp_path, files)
    parts = load_image_folder(tmp_path, size=(4, 4))
    assert isinstance(parts, dict)
    assert list(parts) == ["train", "validation", "test"]
    for name, part in zip(names, parts.values(), strict=True):
        mine = {file: pixels for file, pixels in files.items() if f"{name}/" in file}
        np.testing.assert_allclose(
            part.x, np.stack([mine[file] / 255 for file in sorted(mine)]), rtol=1e-6
        )
        assert part.classes == ("a", "b", "c")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path, {f"{label}/1.png": noise(4, 4) for label in ("bus", "train", "test")})
    data = load_image_folder(tmp_path)
    assert isinstance(data, SequenceData)
    assert data.classes == ("bus", "test", "train")


def test_bad_files_are_listed_and_the_rest_is_kept(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "ant" / "0.png").write_bytes(b"")
    (tmp_path / "bee" / "5.jpg").write_bytes(encode(noise(30, 30), "JPEG")[:400])
    (tmp_path / "bee" / "x.heic").write_bytes(b"a phone's")
    (tmp_path / "top.png").write_bytes(encode(noise(9, 7)))
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "bee" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git" / "cat").mkdir(parents=True)
    (tmp_path / ".git" / "cat" / "1.png").write_bytes(b"")
    data = load_image_folder(tmp_path, size=(9, 7))
    check(data, FILES)
    assert isinstance(data, SequenceData)
    assert data.dropped == {
        "corrupt image": 2, "outside of the classes' folders": 1, "not an image": 1,
    }  # fmt: skip
    assert data.skipped[0] == "ant/0.png: the file is empty."
    assert data.skipped[1].startswith("bee/5.jpg: ")
    assert data.skipped[2:] == (
        "top.png: outside of the classes' folders.",
        "bee/x.heic: not an image, by its ending.",
    )


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none is not there"):
        load_image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no images \(\.bmp, "):
        load_image_folder(tmp_path)
    write(tmp_path, {"a/1.png": noise(4, 4), "a/2.png": noise(4, 4)})
    with pytest.raises(
        ValueError, match=r"must hold a folder .* found none \(2 images, .* a/1\.png"
    ):
        load_image_folder(tmp_path)
    for file in (tmp_path / "a").iterdir():
        file.write_bytes(b"1")
    with pytest.raises(ValueError, match=r"none of the 2 images can be read; a/1\.png: it is none"):
        load_image_folder(tmp_path)
    shutil.rmtree(tmp_path / "a")
    write(tmp_path, {"train/a/1.png": noise(4, 4), "train/b/1.png": noise(4, 4)})
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no image of test can be read"):
        load_image_folder(tmp_path)
    (tmp_path / "README.txt").write_text("text " * 500)
    with pytest.raises(ValueError, match=r"README\.txt is not a whole zip or tar"):
        load_image_folder(tmp_path / "README.txt")


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    """More than are decoded at a time, on several threads."""
    files = {f"{'ab'[n % 2]}/{n:04}.png": np.full((2, 3), n % 256, np.uint8) for n in range(700)}
    write(tmp_path, files)
    check(load_image_folder(tmp_path, size=(2, 3)), files)
