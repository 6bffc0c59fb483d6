"""TensorFlow Datasets without TensorFlow, by small data sets that the tests prepare themselves."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxlstm.data import tfds as ours
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.tfds import from_tfds

tfds = pytest.importorskip("tensorflow_datasets")

ROWS = {"train": 9, "test": 4}
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


def png(pixels: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def content(part: str) -> list[dict[str, Any]]:
    """What the data set holds, in its order."""
    rng = np.random.default_rng(len(part))
    return [
        {
            "colour": rng.integers(0, 256, (5, 4, 3), np.uint8),
            "odd": rng.integers(0, 256, (3 + row % 3, 6, 3), np.uint8),
            "grey": rng.integers(0, 256, (5, 4, 1), np.uint8),
            "label": int(rng.integers(3)),
            "number": int(rng.integers(3)) * 10,
            "word": ["yes", "no", "perhaps"][int(rng.integers(3))],
            "track": rng.normal(size=(6, 2)).astype(np.float32),
            "ragged": rng.normal(size=(1 + row % 4, 2)).astype(np.float32),
            "film": rng.integers(0, 9, (2, 3, 4, 1)).astype(np.int64),
        }
        for row in range(ROWS[part])
    ]


class JaxlstmTestSet(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        feature = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            features=feature.FeaturesDict(
                {
                    "colour": feature.Image(shape=(5, 4, 3)),
                    "odd": feature.Image(shape=(None, 6, 3)),
                    "grey": feature.Image(shape=(5, 4, 1)),
                    "label": feature.ClassLabel(names=["b", "a", "c"]),
                    "number": feature.Scalar(dtype=np.int64),
                    "word": feature.Text(),
                    "track": feature.Tensor(shape=(6, 2), dtype=np.float32),
                    "ragged": feature.Tensor(shape=(None, 2), dtype=np.float32),
                    "film": feature.Tensor(shape=(2, 3, 4, 1), dtype=np.int64),
                }
            ),
            supervised_keys=("colour", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {part: self._generate_examples(part) for part in ROWS}

    def _generate_examples(self, part: str) -> Any:
        for row, example in enumerate(content(part)):
            for key in ("colour", "odd"):
                example[key] = png(example[key])
            example["grey"] = png(example["grey"][..., 0])
            yield row, example


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    from_tfds("jaxlstm_test_set", data_dir=folder)
    return folder


def load(data_dir: Path, split: str = "train", **options: Any) -> SequenceData:
    data = from_tfds("jaxlstm_test_set", split=split, data_dir=data_dir, **options)
    assert isinstance(data, SequenceData)
    return data


def test_all_splits(data_dir: Path) -> None:
    parts = from_tfds("jaxlstm_test_set", data_dir=str(data_dir))
    assert isinstance(parts, dict)
    assert list(parts) == ["test", "train"] or list(parts) == ["train", "test"]
    for part, data in parts.items():
        rows = content(part)
        seen = np.stack([row["colour"].reshape(5, 12) / 255 for row in rows])
        np.testing.assert_allclose(data.x, seen, rtol=1e-6)
        assert data.x.dtype == np.float32
        assert list(data.y) == [row["label"] for row in rows]
        assert data.classes == ("b", "a", "c")
        assert data.source == f"TensorFlow Datasets, jaxlstm_test_set/1.0.0, {part}"


def test_from_its_folder(data_dir: Path) -> None:
    folder = data_dir / "jaxlstm_test_set" / "1.0.0"
    data = from_tfds(str(folder), split="test")
    assert isinstance(data, SequenceData)
    assert data.sha256 == load(data_dir, "test").sha256


def test_a_part_of_a_split(data_dir: Path) -> None:
    part = load(data_dir, "train[2:5]")
    np.testing.assert_array_equal(part.x, load(data_dir).x[2:5])


def test_images(data_dir: Path) -> None:
    rows = content("train")
    grey = load(data_dir, x="grey")
    np.testing.assert_allclose(
        grey.x, np.stack([row["grey"][..., 0] / 255 for row in rows]), rtol=1e-6
    )
    made = load(data_dir, grayscale=True)
    weighed = np.stack([row["colour"] @ [0.299, 0.587, 0.114] / 255 for row in rows])
    np.testing.assert_allclose(made.x, weighed, atol=1 / 255)
    with pytest.raises(ValueError, match=r"have 3 shapes, .*\(3, 6, 3\).*give size=\(height"):
        load(data_dir, x="odd")
    same = load(data_dir, x="odd", size=(8, 6))
    assert same.x.shape == (9, 8, 18)
    means = [row["odd"].mean() / 255 for row in rows]
    np.testing.assert_allclose(same.x.mean((1, 2)), means, atol=0.1)


def test_sequences(data_dir: Path) -> None:
    rows = content("train")
    track = load(data_dir, x="track", y="number")
    np.testing.assert_array_equal(track.x, np.stack([row["track"] for row in rows]))
    assert track.lengths is None
    assert list(track.labels) == [str(row["number"]) for row in rows]
    ragged = load(data_dir, x="ragged", y="word")
    assert ragged.x.shape == (9, 4, 2)
    assert ragged.lengths is not None
    for row, length, expected in zip(ragged.x, ragged.lengths, rows, strict=True):
        np.testing.assert_array_equal(row[:length], expected["ragged"])
        assert not row[length:].any()
        assert length == len(expected["ragged"])
    assert list(ragged.labels) == [row["word"] for row in rows]
    film = load(data_dir, x="film")
    np.testing.assert_array_equal(film.x, np.stack([row["film"].reshape(2, 12) for row in rows]))


def test_what_is_wrong_is_named(data_dir: Path, tmp_path: Path) -> None:
    for options, said in [
        ({"x": "colours"}, "has no feature 'colours'; it has .*colour"),
        ({"y": "track"}, r"feature 'track' must hold one whole number or name a row"),
        ({"x": "word"}, "feature 'word' holds text, no sequences of numbers"),
        ({"x": "number"}, "feature 'number' holds single values"),
        ({"size": (0, 3)}, "size must be height and width"),
        ({"split": "valid"}, r"jaxlstm_test_set/1\.0\.0, split 'valid', in .* cannot be read"),
        ({"split": "train[:0]"}, "split 'train.:0.'"),
    ]:
        with pytest.raises(ValueError, match=said):
            load(data_dir, **options)
    with pytest.raises(ValueError, match=r"knows no 'mnits'; near: .*mnist"):
        from_tfds("mnits", data_dir=tmp_path)
    with pytest.raises(ValueError, match="cannot open emnist/none"):
        from_tfds("emnist/none", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"mnist is not prepared in .*download=False"):
        from_tfds("mnist", data_dir=tmp_path, download=False)


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")
def test_what_needs_tensorflow_is_said_at_once(tmp_path: Path) -> None:
    for name in ("mnist", "emnist/letters", "cifar10"):
        with pytest.raises(ImportError, match=f"needs TensorFlow to prepare {name}"):
            from_tfds(name, data_dir=tmp_path)
    assert not list(tmp_path.rglob("*.gz"))


def test_no_network_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TFDS itself would try for minutes."""
    monkeypatch.setattr(ours.urllib.request, "getproxies", dict)
    monkeypatch.setattr(
        JaxlstmTestSet, "url_infos", {"http://127.0.0.1:9/data.bin": None}, raising=False
    )
    with pytest.raises(OSError, match=r"not prepared in .*and 127\.0\.0\.1, from where .*data_dir"):
        from_tfds("jaxlstm_test_set", data_dir=tmp_path)


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")
def test_other_formats_need_tensorflow(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "jaxlstm_test_set" / "1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    for file in folder.iterdir():
        (tmp_path / file.name.replace("array_record", "tfrecord")).write_bytes(file.read_bytes())
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(ImportError, match="stored as tfrecord, which TFDS does not read without"):
        from_tfds(str(tmp_path))


@pytest.mark.parametrize(
    "damage", ["dataset_info.json", "features.json", "cut", "flipped", "empty"]
)
def test_damaged_files(damage: str, data_dir: Path, tmp_path: Path) -> None:
    for file in (data_dir / "jaxlstm_test_set" / "1.0.0").iterdir():
        content = bytearray(file.read_bytes())
        if "array_record" in file.name:
            if damage == "cut":
                content = content[: len(content) // 2]
            elif damage == "empty":
                content = bytearray()
            elif damage == "flipped":
                for place in range(100, len(content), 97):
                    content[place] ^= 0xFF
        elif damage == file.name:
            content = content[: len(content) // 2]
        (tmp_path / file.name).write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        from_tfds(str(tmp_path))
