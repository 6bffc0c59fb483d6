"""Faces as image files and as a csv file, and the images that are there more than once."""

from __future__ import annotations

import gzip
import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxlstm.data.duplicates import find_duplicates
from jaxlstm.data.faces import CLASSES, load_faces
from jaxlstm.data.sequences import SequenceData

RNG = np.random.default_rng(0)


def face() -> np.ndarray:
    return RNG.integers(0, 256, (48, 48), np.uint8)


def write(folder: Path, files: dict[str, np.ndarray]) -> None:
    for name, pixels in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        place.write_bytes(buffer.getvalue())


def some_faces() -> dict[str, np.ndarray]:
    files = {
        f"images/{part}/{label}/{number}.png": face()
        for part in ("train", "validation")
        for label in ("sad", "happy", "neutral")
        for number in range(3)
    }
    files["images/train/sad/0 again.png"] = files["images/train/sad/0.png"]
    files["images/train/happy/leaks.png"] = files["images/validation/happy/1.png"]
    files["images/train/happy/other label.png"] = files["images/validation/sad/2.png"]
    files["images/validation/sad/twice.png"] = files["images/validation/sad/2.png"]
    return files


def test_a_folder(tmp_path: Path) -> None:
    files = some_faces()
    write(tmp_path, files)
    parts = load_faces(tmp_path, size=(48, 48))
    assert list(parts) == ["train", "validation"]
    for part, data in parts.items():
        names = sorted(name for name in files if f"/{part}/" in name)
        np.testing.assert_allclose(data.x, np.stack([files[name] / 255 for name in names]), 1e-6)
        assert list(data.labels) == [name.split("/")[2] for name in names]
        assert data.classes == CLASSES == tuple(sorted(CLASSES))
        assert data.name == "faces"
    small = load_faces(tmp_path)["train"]
    assert small.x.shape == (12, 32, 32)
    assert small.x.dtype == np.float32
    assert 0 < small.x.min() < small.x.max() < 1  # of noise, an average has no extremes


def count(table: pd.DataFrame) -> dict[str, int]:
    sets = table.groupby("set")
    return {
        "sets": sets.ngroups,
        "surplus": len(table) - sets.ngroups,
        "across": int((sets["split"].nunique() > 1).sum()),
        "conflicting": int((sets["class"].nunique() > 1).sum()),
    }


def test_duplicates(tmp_path: Path) -> None:
    write(tmp_path, some_faces())
    parts = load_faces(tmp_path)
    table = find_duplicates(parts)
    assert count(table) == {"sets": 3, "surplus": 4, "across": 2, "conflicting": 1}
    # Every pair of rows, compared value by value.
    rows = [(part, row) for part, data in parts.items() for row in range(len(data))]
    pairs = {
        (one, two)
        for one, two in itertools.combinations(rows, 2)
        if np.array_equal(parts[one[0]].x[one[1]], parts[two[0]].x[two[1]])
    }
    found = {
        (one, two)
        for _, same in table.groupby("set")
        for one, two in itertools.combinations(zip(same["split"], same["row"], strict=True), 2)
    }
    assert found == pairs
    for split, row, label in zip(table["split"], table["row"], table["class"], strict=True):
        assert label == parts[split].labels[row]


def test_dropping_duplicates(tmp_path: Path) -> None:
    write(tmp_path, some_faces())
    parts = load_faces(tmp_path, drop_duplicates=True)
    whole = load_faces(tmp_path)
    assert parts["validation"].sha256 == whole["validation"].sha256
    assert parts["train"].dropped == {"also in another part": 2, "repeated in train": 1}
    assert len(parts["train"]) == 9
    left = find_duplicates(parts)
    assert set(left["split"]) == {"validation"}
    # What is left keeps its order.
    kept = [any((row == other).all() for other in parts["train"].x) for row in whole["train"].x]
    first = np.unique(whole["train"].x[kept], axis=0, return_index=True)[1]
    np.testing.assert_array_equal(
        parts["train"].x, whole["train"].x[np.flatnonzero(kept)[np.sort(first)]]
    )
    del whole["validation"]
    assert not len(find_duplicates({"a": whole["train"].take(np.arange(1))}))


def test_no_duplicates_at_all() -> None:
    data = SequenceData(np.eye(3), np.arange(3), ("a", "b", "c"), "x", "x")
    table = find_duplicates({"train": data})
    assert list(table.columns) == ["set", "split", "row", "class"]
    assert not len(table)


def line(pixels: np.ndarray, emotion: int, usage: str) -> str:
    return f"{emotion},{' '.join(map(str, pixels.ravel()))},{usage}"


EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


@pytest.mark.parametrize("name", ["fer2013.csv", "any.CSV", "fer2013.csv.gz"])
def test_csv(name: str, tmp_path: Path) -> None:
    rows = [
        (face(), emotion, usage)
        for usage in ("Training", "PublicTest", "PrivateTest")
        for emotion in (6, 0, 4, 3, 5, 1, 2)
    ]
    text = "emotion,pixels,Usage\n" + "".join(line(*row) + "\n" for row in rows)
    content = text.encode()
    (tmp_path / name).write_bytes(
        gzip.compress(content, mtime=0) if name.endswith("gz") else content
    )
    parts = load_faces(tmp_path / name, size=(48, 48))
    assert list(parts) == ["train", "validation", "test"]
    for part, usage in zip(parts.values(), ("Training", "PublicTest", "PrivateTest"), strict=True):
        mine = [row for row in rows if row[2] == usage]
        np.testing.assert_allclose(part.x, np.stack([row[0] / 255 for row in mine]), 1e-6)
        assert list(part.labels) == [EMOTIONS[row[1]] for row in mine]
        assert part.classes == CLASSES


def test_csv_and_files_give_the_same(tmp_path: Path) -> None:
    pixels = {name: face() for name in ("train/angry/1.png", "train/sad/2.png", "val/fear/3.png")}
    write(tmp_path / "files", pixels)
    one, two, three = pixels.values()
    lines = ["Usage, pixels, emotion", *(
        ",".join(reversed(line(*row).split(",")))
        for row in ((one, 0, "Training"), (two, 4, "Training"), (three, 2, "PublicTest"))
    )]  # fmt: skip
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "fer2013.csv").write_text("\r\n".join(lines))
    tables, files = load_faces(folder), load_faces(tmp_path / "files")
    assert {part: data.sha256 for part, data in tables.items()} == {
        part: data.sha256 for part, data in files.items()
    }


def test_bad_lines_are_listed_and_the_rest_is_kept(tmp_path: Path) -> None:
    good = [line(face(), 3, "Training"), line(face(), 2, "PrivateTest")]
    short, large, word = face(), line(face(), 1, "Training"), line(face(), 1, "Training")
    lines = [
        "emotion,pixels,Usage",
        good[0],
        line(short[:-1], 3, "Training"),
        "",
        large.replace(" ", " 256 ", 1).replace(" 0 ", " ", 1),
        word.replace(" ", " x", 1),
        line(face(), 7, "PrivateTest"),
        line(face(), 1, "Testing"),
        "1",
        good[1],
    ]
    path = tmp_path / "x.csv"
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe,\xff,Training\n")
    parts = load_faces(path)
    assert [len(data) for data in parts.values()] == [1, 1]
    assert parts["train"].dropped == {"corrupt line": 6}
    assert parts["test"].skipped == ("x.csv, line 7: emotion must be 0 to 6, got '7'.",)
    said = parts["train"].skipped
    assert said[0] == "x.csv, line 3: 2304 pixels are expected, got 2256."
    assert said[2] == "x.csv, line 6: its pixels must be whole numbers from 0 to 255."
    assert said[3].startswith("x.csv, line 8: Usage must be one of Training, PublicTest, Private")
    assert [sentence.split(":")[0] for sentence in said] == [
        f"x.csv, line {number}" for number in (3, 5, 6, 8, 9, 11)
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no emotion, pixels, usage"),
        (b"emotion,pixels\n", "no usage"),
        (b"emotion,pixels,Usage\n", "holds no images"),
        (b"emotion,pixels,Usage\n1,2,Training\n", "no image of train can be read.*line 2: 2304"),
        (b'emotion,pixels,Usage\n1,"2,Training\n', "x.csv is not a readable csv file"),
        (b"emotion,pixels,Usage\n" + b"1" * 70_000, "line 2 has more than 65,536 characters"),
        (
            gzip.compress(b"emotion,pixels,Usage\n" * 50, mtime=0)[:-9],
            "x.csv is not a readable csv file",
        ),
        (b"\0\0\0", "x.csv is not a readable csv file"),
    ],
)
def test_bad_csv(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        load_faces(path)


TABLE = ("emotion,pixels,Usage\n" + line(face() % 10, 1, "Training") + "\n").encode()


@settings(max_examples=150)
@given(st.data())
def test_damage_is_a_value_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    content = bytearray(data.draw(st.sampled_from([TABLE, gzip.compress(TABLE, mtime=0)])))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_bytes(content)
    said = str(path)
    try:
        load_faces(path)
    except ValueError as error:
        said = str(error)
    assert str(path) in said


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"none is not there.*kaggle\.com/datasets/msambare"
    ):
        load_faces(tmp_path / "none")
    write(tmp_path, {"train/angry/1.png": face(), "train/bored/1.png": face()})
    write(tmp_path, {"test/angry/1.png": face()})
    with pytest.raises(
        ValueError, match=r"train/bored/1\.png lies in a folder of an unknown class"
    ):
        load_faces(tmp_path)
    (tmp_path / "train" / "bored").rename(tmp_path / "train" / "SAD")
    assert list(load_faces(tmp_path)["train"].labels) == ["sad", "angry"]
    with pytest.raises(ValueError, match="must hold folders train and validation"):
        load_faces(tmp_path / "train")
    with pytest.raises(ValueError, match="size must be"):
        load_faces(tmp_path, size=(0, 1))
    (tmp_path / "test" / "angry" / "2.png").write_bytes(b"")
    parts = load_faces(tmp_path)
    assert parts["test"].dropped == {"corrupt image": 1}
    assert parts["test"].skipped == ("test/angry/2.png: the file is empty.",)


@pytest.mark.slow
def test_real_faces(shared_data: Path) -> None:
    path = shared_data / "fer2013" / "fer2013_images.tar.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    parts = load_faces(path)
    assert {part: len(data) for part, data in parts.items()} == {
        "train": 28_709, "validation": 7_178,
    }  # fmt: skip
    for data in parts.values():
        assert data.x.shape[1:] == (32, 32)
        assert not data.dropped
    assert list(np.bincount(parts["train"].y)) == [3995, 436, 4097, 7215, 4965, 4830, 3171]
    counts = count(find_duplicates(parts))
    assert (counts["sets"], counts["across"], counts["conflicting"]) == (1516, 531, 57)
