"""EMNIST: from its files, its archive, and through TensorFlow Datasets."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxlstm.data import emnist
from jaxlstm.data.emnist import CLASSES, load_emnist

COUNTS = {"train": 70, "test": 13}


def idx(array: np.ndarray) -> bytes:
    sides = b"".join(struct.pack(">I", side) for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sides + array.tobytes()


def write(
    folder: Path, split: str = "byclass", first: int = 0, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The files of a split with images as one sees them; the files hold them transposed."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for part, count in COUNTS.items():
        seen = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, len(CLASSES[split]), count).astype(np.uint8)
        stored = np.stack([image.T for image in seen])
        name = f"emnist-{split}-{part}"
        for kind, array in (("images-idx3", stored), ("labels-idx1", labels + np.uint8(first))):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array), mtime=0))
        parts[part] = seen, labels
    return parts


def archive(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(folder.iterdir()):
            packed.write(file, f"gzip/{file.name}")
            packed.writestr(f"__MACOSX/gzip/._{file.name}", b"junk")
    return path


@pytest.mark.parametrize("split", CLASSES)
def test_every_split(split: str, tmp_path: Path) -> None:
    parts = write(tmp_path / "gzip", split, first=int(split == "letters"))
    data = load_emnist(split, path=tmp_path)
    for part, (seen, labels) in parts.items():
        np.testing.assert_allclose(data[part].x, seen / 255, rtol=1e-6)
        assert data[part].x.dtype == np.float32
        np.testing.assert_array_equal(data[part].y, labels)
        assert data[part].classes == tuple(CLASSES[split])
        assert (data[part].name, data[part].source) == (f"emnist/{split}", str(tmp_path))


def test_classes_are_those_of_the_original() -> None:
    assert {split: len(names) for split, names in CLASSES.items()} == {
        "byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10,
    }  # fmt: skip
    assert CLASSES["byclass"][10] + CLASSES["byclass"][36] + CLASSES["byclass"][61] == "Aaz"
    merged = set("cijklmopsuvwxyz")  # Cohen et al., section II
    assert set(CLASSES["bymerge"]) == set(CLASSES["byclass"]) - merged


def test_a_mapping_names_the_classes(tmp_path: Path) -> None:
    parts = write(tmp_path, "digits", first=3)
    lines = [f"{number + 3} {ord('a') + number} {ord('A') + number}" for number in range(10)]
    mapping = tmp_path / "emnist-digits-mapping.txt"
    mapping.write_text("\r\n".join(lines[::-1]) + "\n\n")
    data = load_emnist("digits", path=tmp_path)
    assert data["test"].classes == tuple("abcdefghij")
    np.testing.assert_array_equal(data["test"].y, parts["test"][1])
    for bad in ("0 48\nx 49\n", "0\n", "0 48\n300 49\n", "0 48\n1 -5\n", "0 48\n\xff\n"):
        mapping.write_bytes(bad.encode("latin-1"))
        with pytest.raises(ValueError, match=r"mapping\.txt, line [12]: a label and"):
            load_emnist("digits", path=tmp_path)
    mapping.write_text(" \n")
    with pytest.raises(ValueError, match=r"mapping\.txt is empty"):
        load_emnist("digits", path=tmp_path)


def test_plain_files_and_archives_give_the_same(tmp_path: Path) -> None:
    write(tmp_path / "packed")
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in (tmp_path / "packed").iterdir():
        (plain / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    packed = archive(tmp_path / "packed", tmp_path / "gzip.zip")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "packed", "any")
    hashes = {
        load_emnist(path=path)["train"].sha256
        for path in (tmp_path / "packed", plain, packed, tmp_path / "x.tar")
    }
    assert len(hashes) == 1


def test_samples(tmp_path: Path) -> None:
    write(tmp_path)
    whole = load_emnist(path=tmp_path)["train"]

    def rows(samples: int, seed: int = 0) -> list[int]:
        data = load_emnist(path=tmp_path, samples=samples, seed=seed)
        assert len(data["test"]) == COUNTS["test"]
        found = [int((whole.x == row).all((1, 2)).argmax()) for row in data["train"].x]
        np.testing.assert_array_equal(whole.y[found], data["train"].y)
        return found

    drawn = rows(20)
    assert drawn == sorted(set(drawn))  # in the file's order, none twice
    assert drawn == rows(20) != rows(20, seed=1)
    assert set(rows(10)) < set(drawn)
    assert rows(70) == list(range(70))
    # For ever the same rows: these must not change with a version of NumPy.
    assert rows(5) == [2, 3, 11, 13, 20]
    with pytest.raises(ValueError, match="samples must be at most the 70 of byclass's train"):
        load_emnist(path=tmp_path, samples=71)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        load_emnist(path=tmp_path, samples=0)
    often = np.bincount(np.concatenate([rows(7, seed) for seed in range(60)]), minlength=70)
    assert often.max() < 20  # 6 expected of each row
    assert (often > 0).sum() > 60


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"split must be one of byclass, .*got 'byclas'"):
        load_emnist("byclas", path=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no emnist-byclass-train-images.*gzip\.zip"):
        load_emnist(path=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        load_emnist(path=tmp_path / "nowhere")
    write(tmp_path)
    images = tmp_path / "emnist-byclass-test-images-idx3-ubyte.gz"
    labels = tmp_path / "emnist-byclass-test-labels-idx1-ubyte.gz"
    good, names = images.read_bytes(), labels.read_bytes()
    images.write_bytes(good[:-20])
    with pytest.raises(ValueError, match=f"{images} is not a whole gzip file"):
        load_emnist(path=tmp_path)
    images.write_bytes(idx(np.zeros((13, 27, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"test-images-idx3-ubyte must hold images of 28 x 28"):
        load_emnist(path=tmp_path)
    images.write_bytes(idx(np.zeros((12, 28, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"has 12 images, .* shape \(13,\)"):
        load_emnist(path=tmp_path)
    images.write_bytes(good)
    labels.write_bytes(idx(np.array([0] * 7 + [62] * 6, np.uint8)))
    with pytest.raises(
        ValueError, match=r"labels-idx1-ubyte has the label 62 in row 7; .* 0 to 61"
    ):
        load_emnist(path=tmp_path)
    labels.write_bytes(names)
    write(tmp_path / "files")
    packed = archive(tmp_path / "files", tmp_path / "gzip.zip")
    packed.write_bytes(packed.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"gzip\.zip is not a whole zip archive"):
        load_emnist(path=packed)


def test_through_tensorflow_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an archive placed by hand, without TensorFlow, into the same rows."""
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("pooch")
    write(tmp_path / "files", "letters", first=1)
    folder = tmp_path / "data"
    folder.mkdir()
    packed = archive(tmp_path / "files", folder / "gzip.zip")
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    monkeypatch.setattr(emnist, "SHA256", f"sha256:{digest}")
    direct = load_emnist("letters", path=packed)
    prepared = load_emnist("letters", folder=folder)
    for part in COUNTS:
        assert prepared[part].sha256 == direct[part].sha256
        assert "nist.gov" in prepared[part].source
    packed.unlink()  # what is prepared needs it no more
    again = load_emnist("letters", folder=folder, samples=9, seed=2)
    assert again["train"].sha256 == (
        load_emnist("letters", path=tmp_path / "files", samples=9, seed=2)["train"].sha256
    )
    for file in folder.rglob("*.array_record*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"jaxlstm_emnist/letters/1\.0\.0, split 'train', in .*"):
        load_emnist("letters", folder=folder)


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("pooch")
    monkeypatch.setattr(emnist, "URL", "http://127.0.0.1:9/gzip.zip")
    with pytest.raises(
        OSError, match=rf"gzip\.zip could not .*127\.0\.0\.1.* into {tmp_path} under"
    ):
        load_emnist(folder=tmp_path)


def test_real_characters(shared_data: Path) -> None:
    path = shared_data / "handwriting62"
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    data = load_emnist(path=path)
    assert [len(part) for part in data.values()] == [4959, 1240]
    assert set(np.bincount(data["test"].y)) == {20}
    # Upright letters: L has its bar below, T above, J's hook to the left of its foot.
    mean = {letter: data["train"].x[data["train"].labels == letter].mean(0) for letter in "LTFE7"}
    assert mean["L"][14:].sum() > 1.3 * mean["L"][:14].sum()
    assert mean["T"][:14].sum() > 1.3 * mean["T"][14:].sum()
    for letter in "LFE":  # their stem is on the left
        assert mean[letter][:, :14].sum() > 1.2 * mean[letter][:, 14:].sum()
