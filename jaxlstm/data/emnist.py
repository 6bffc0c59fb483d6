"""EMNIST: handwritten digits and letters."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxlstm.data.archives import members
from jaxlstm.data.download import data_folder, fetch
from jaxlstm.data.idx import parse_idx, read_idx
from jaxlstm.data.images import scaled
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.tfds import examples, import_tfds, prepare

URL = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"
ARCHIVE = "gzip.zip"
SHA256 = "sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"

_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MERGED = _DIGITS + _UPPER + "abdefghnqrt"  # the other small letters look like their capitals
#: Names of each split's classes, in the order of its labels.
CLASSES: Mapping[str, str] = {
    "byclass": _DIGITS + _UPPER + _UPPER.lower(),
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": _UPPER,
    "digits": _DIGITS,
    "mnist": _DIGITS,
}
PARTS = ("train", "test")
_MEMBER = 1 << 30  # bytes; the largest file of the archive is half of it unpacked

#: How many rows each part has, and what returns the images and labels of some of them.
Data = dict[str, tuple[int, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]]


def load_emnist(
    split: str = "byclass",
    *,
    samples: int | None = None,
    seed: int = 0,
    path: str | Path | None = None,
    folder: str | Path | None = None,
) -> dict[str, SequenceData]:
    """Loads handwritten characters of 28 x 28 pixels, as sequences of their rows.

    Images are upright (the files hold them transposed), with ink 1 on 0.

    Args:
      split: byclass (62 classes: 0-9, A-Z, a-z), bymerge or balanced (47: small letters that look
        like their capitals are merged with them), letters (26, a small and its capital letter being
        one class), digits or mnist (10).
      samples: how many rows to draw of train, at random without replacement, every row with the
        same chance whatever its class; they keep the order of the file. The same seed draws the
        same rows on every machine, and fewer samples are a part of more. None takes all.
      seed: of the draw.
      path: a folder with the original ``emnist-<split>-{train,test}-{images-idx3,labels-idx1}-ubyte``
        files, plain or with ``.gz``, perhaps in a folder ``gzip`` in it, or the archive
        ``gzip.zip``.
      folder: without a path, where the archive is downloaded to (or was placed by hand) and where
        TensorFlow Datasets keeps what it prepares of it. None: the folder of all downloads, see
        ``download.data_folder``.

    Returns:
      ``train`` and ``test``, each with ``x [N, 28, 28]`` float32 in [0, 1].

    Raises:
      ImportError: without a path: tensorflow-datasets or pooch is not installed.
      OSError: nothing is at the path, or the archive cannot be had; the sentence says what to put
        where.
      ValueError: an unknown split, more samples than rows, or a damaged file.

    References:
      Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", arXiv:1702.05373.
    """
    if split not in CLASSES:
        raise ValueError(f"split must be one of {', '.join(CLASSES)}, got {split!r}.")
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    parts, source = {}, f"EMNIST {split}, {URL}"
    if path is None:
        data = _prepared(split, data_folder(folder))
        classes = tuple(CLASSES[split])
    else:
        source = str(path)
        arrays, classes = read_files(split, Path(path))
        data = {
            part: (len(labels), functools.partial(_rows, images, labels))
            for part, (images, labels) in arrays.items()
        }
    for part, (count, take) in data.items():
        rows = _drawn(count, samples if part == "train" else None, seed, split)
        images, labels = take(rows)
        parts[part] = SequenceData(
            x=scaled(images),
            y=labels.astype(np.int32),
            classes=classes,
            name=f"emnist/{split}",
            source=source,
        )
    return parts


def _rows(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return images[rows], labels[rows]


def _drawn(count: int, samples: int | None, seed: int, split: str) -> np.ndarray:
    """Which rows, in their order."""
    if samples is None:
        return np.arange(count)
    if samples > count:
        raise ValueError(
            f"samples must be at most the {count:,} of {split}'s train, got {samples}."
        )
    # NumPy promises the same raw numbers for ever, which it does not of its shuffles.
    numbers = np.random.PCG64(seed).random_raw(count)
    return np.sort(np.argsort(numbers, kind="stable")[:samples])


def read_files(
    split: str, path: Path
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Upright images ``[N, 28, 28]``, uint8, and labels from 0 ``[N]`` of each part; the classes."""
    arrays: dict[str, np.ndarray] = {}
    mapping = None
    for name, content in _found(split, path):
        if name.endswith("mapping.txt"):
            mapping = _mapping(content, f"{path}: {name}")
        else:
            array = (
                read_idx(content)
                if isinstance(content, Path)
                else parse_idx(content, f"{path}: {name}")
            )
            arrays[PurePosixPath(name).name.removesuffix(".gz")] = array
    if missing := [name for name in _names(split) if name not in arrays]:
        raise FileNotFoundError(
            f"{path} has no {', '.join(name + '.gz' for name in missing)}: give a folder with"
            f" EMNIST's idx files or its archive {ARCHIVE}, from {URL}."
        )
    if mapping is None:
        first = 1 if split == "letters" else 0
        mapping = dict(enumerate(CLASSES[split], first))
    parts = {}
    for part in PARTS:
        images_name, labels_name = _names(split, part)
        images, labels = arrays.pop(images_name), arrays.pop(labels_name)
        if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
            raise ValueError(
                f"{path}: {images_name} must hold images of 28 x 28 bytes, got"
                f" {images.dtype} of shape {images.shape}."
            )
        if labels.shape != images.shape[:1] or not len(labels):
            raise ValueError(
                f"{path}: {images_name} has {len(images):,} images, {labels_name} has labels of"
                f" shape {labels.shape}; there must be one for each, and at least one."
            )
        known = np.isin(labels, list(mapping))
        if not known.all():
            row = int((~known).argmax())
            raise ValueError(
                f"{path}: {labels_name} has the label {labels[row]} in row {row}; {split} has"
                f" {min(mapping)} to {max(mapping)}."
            )
        parts[part] = images.transpose(0, 2, 1), np.searchsorted(sorted(mapping), labels)
    return parts, tuple(mapping[label] for label in sorted(mapping))


def _names(split: str, part: str = "") -> list[str]:
    return [
        f"emnist-{split}-{name}-{kind}-ubyte"
        for name in ([part] if part else PARTS)
        for kind in ("images-idx3", "labels-idx1")
    ]


def _found(split: str, path: Path) -> Iterator[tuple[str, Any]]:
    """Names of the split's files, with their content or their place."""
    mapping = f"emnist-{split}-mapping.txt"
    wanted = {name + ending for name in _names(split) for ending in ("", ".gz")} | {mapping}
    if path.is_dir():
        for folder in (path / "gzip", path):  # of two files of a name the last one counts
            for name in sorted(wanted):
                if (folder / name).is_file():
                    yield name, (folder / name).read_bytes() if name == mapping else folder / name
    else:
        for file, content in members(path, lambda name: name.name in wanted, limit=_MEMBER):
            yield str(file), content


def _mapping(content: bytes, name: str) -> dict[int, str]:
    """Names of the classes by their labels: lines of a label and its characters' codes."""
    mapping = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            label, code, *_ = map(int, line.split())
            if not (0 <= label <= 255 and 32 < code < 0x110000):
                raise ValueError(line)
            mapping[label] = chr(code)
        except ValueError as error:
            raise ValueError(
                f"{name}, line {number}: a label and its character's code are expected, got"
                f" {line[:40]!r}."
            ) from error
    if not mapping:
        raise ValueError(f"{name} is empty.")
    return mapping


@functools.cache
def builder_class() -> Any:
    """The data set ``jaxlstm_emnist`` for TensorFlow Datasets, one config a split.

    TFDS's own builder of EMNIST unpacks the archive with TensorFlow. This one reads it as it is,
    from the manual folder, keeps the order of the files, and its images are upright.
    """
    tfds: Any = import_tfds()
    base: Any = tfds.core.GeneratorBasedBuilder

    class JaxlstmEmnist(base, skip_registration=True):  # type: ignore[call-arg]
        """EMNIST with upright images."""

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=split) for split in CLASSES]  # noqa: RUF012
        MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {ARCHIVE} from {URL} into the folder."

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description="EMNIST: handwritten digits and letters, upright.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(28, 28, 1)),
                        "label": tfds.features.ClassLabel(
                            names=list(CLASSES[self.builder_config.name])
                        ),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="https://www.nist.gov/itl/products-and-services/emnist-dataset",
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            split = self.builder_config.name
            arrays, classes = read_files(split, Path(dl_manager.manual_dir) / ARCHIVE)
            if classes != tuple(CLASSES[split]):
                raise ValueError(f"{ARCHIVE} names other classes than EMNIST's: {classes}.")
            return {part: self._generate_examples(*data) for part, data in arrays.items()}

        def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Any:
            from PIL import Image

            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                png = io.BytesIO()  # TFDS would encode an array with TensorFlow
                Image.fromarray(image).save(png, "png", compress_level=1)
                png.seek(0)
                yield row, {"image": png, "label": int(label)}

    return JaxlstmEmnist


def _prepared(split: str, folder: Path) -> Data:
    """What TensorFlow Datasets has prepared, or prepares now; images are read as asked for."""
    builder = builder_class()(config=split, data_dir=folder / "tensorflow_datasets")
    if not builder.is_prepared():
        fetch(ARCHIVE, URL, SHA256, folder=folder)
        prepare(builder, manual_dir=folder)

    def take(part: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((len(rows), 28, 28), np.uint8)
        labels = np.empty(len(rows), np.int64)
        for place, example in enumerate(examples(builder, part, rows)):
            images[place], labels[place] = example["image"][..., 0], example["label"]
        return images, labels

    splits = builder.info.splits
    return {part: (splits[part].num_examples, functools.partial(take, part)) for part in PARTS}
