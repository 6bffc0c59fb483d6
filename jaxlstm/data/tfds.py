"""Data sets of TensorFlow Datasets, read without TensorFlow."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import inspect
import io
import logging
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlstm.data.images import check_size, resize
from jaxlstm.data.sequences import SequenceData

FORMAT = "array_record"  # the one that TFDS reads without TensorFlow
_SECONDS = 10.0
_PIECE = 1024  # examples read at a time


def from_tfds(
    name: str,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    download: bool = True,
    x: str | None = None,
    y: str | None = None,
    size: tuple[int, int] | None = None,
    grayscale: bool = False,
) -> SequenceData | dict[str, SequenceData]:
    """Loads a data set of TensorFlow Datasets.

    Images ``[H, W, C]`` become sequences of their rows, ``x [N, H, W * C]`` float32 in [0, 1].
    Other features become ``[N, T]`` or ``[N, T, F]``; where their lengths differ they are padded
    with zeros and ``lengths`` holds them.

    Args:
      name: of the data set, as ``"mnist"`` or ``"emnist/letters"``, or a folder in which TFDS has
        prepared one.
      split: as ``"train"`` or ``"train[:10%]"``; None loads all.
      data_dir: where prepared data sets are kept; None takes TFDS's own, ``~/tensorflow_datasets``.
      download: whether to download and prepare what is not there. TensorFlow is needed for that by
        most data sets of the catalogue (TFDS unpacks archives with it); not for reading.
      x: name of the feature to read; None takes the first of the data set's supervised keys.
      y: name of the labels' feature; None takes the second one.
      size: height and width to resize images to.
      grayscale: one channel, by the ITU-R 601 weights.

    Returns:
      The data of the split, or of all splits by their names.

    Raises:
      ImportError: tensorflow-datasets is not installed, or this data set needs TensorFlow.
      OSError: it is not there and cannot be downloaded.
      ValueError: an unknown data set, split or feature, or features that are no sequences.
    """
    check_size(size)
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        if not download:
            raise FileNotFoundError(
                f"{name} is not prepared in {builder.data_dir}, and download=False."
            )
        _check_preparable(builder, name)
        prepare(builder)
    x, y = _keys(builder, name, x, y)
    parts = {}
    for part in list(builder.info.splits) if split is None else [split]:
        skip = import_tfds().decode.SkipDecoding()
        decoders = {key: skip for key in builder.info.features.keys() - {x, y}}
        pairs = [(row[x], row[y]) for row in examples(builder, part, decoders=decoders)]
        if not pairs:
            raise ValueError(f"{name}, split {part!r}, has no examples.")
        features, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        image = type(builder.info.features[x]).__name__ == "Image"
        place = f"{name}, feature {x!r}"
        lengths = None
        if image:
            rows = _images(place, features, size, grayscale)
        else:
            rows, lengths = _sequences(place, features)
        index, classes = _labels(f"{name}, feature {y!r}", builder.info.features[y], labels)
        parts[part] = SequenceData(
            x=rows,
            y=index,
            classes=classes,
            name=name,
            source=f"TensorFlow Datasets, {builder.info.full_name}, {part}",
            lengths=lengths,
        )
    return parts if split is None else parts[split]


def import_tfds() -> Any:
    """The package tensorflow_datasets."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            'TensorFlow Datasets is not installed: pip install "jaxlstm[data]".'
        ) from error
    return tensorflow_datasets


def prepare(builder: Any, manual_dir: Path | None = None) -> None:
    """Downloads and prepares a data set, in the format that can be read without TensorFlow.

    Args:
      builder: TFDS's builder of it.
      manual_dir: where its files lie that were placed by hand.

    Raises:
      ImportError: the builder needs TensorFlow.
      OSError: a file is missing, or cannot be downloaded.
      ValueError: anything else that stops it.
    """
    config = import_tfds().download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        # TFDS has a banner for TensorFlow's absence.
        with _quiet(), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config, file_format=FORMAT)
    except (ValueError, OSError):
        raise
    except Exception as error:
        if _lacks_tensorflow(error):
            raise ImportError(_needs_tensorflow(builder.info.full_name)) from error
        place = f"TensorFlow Datasets cannot prepare {builder.info.full_name}"
        kind = (
            OSError if isinstance(error, AssertionError) or "ownload" in str(error) else ValueError
        )
        raise kind(f"{place}: {_said(error)}.") from error


def _builder(name: str, data_dir: str | Path | None) -> Any:
    tfds = import_tfds()
    prepared = Path(name).expanduser()
    try:
        with _quiet():
            if (prepared / "dataset_info.json").is_file():
                return tfds.builder_from_directory(prepared)
            return tfds.builder(name, data_dir=data_dir, file_format=FORMAT)
    except tfds.core.registered.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)  # those need a network
        near = difflib.get_close_matches(name.split("/")[0], known, 3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ValueError(
            f"TensorFlow Datasets knows no {name!r}{hint}. A folder in which one is prepared has a"
            " file dataset_info.json."
        ) from None  # TFDS's own sentence has 700 lines
    except Exception as error:  # a damaged folder, an unknown config, a builder that needs more
        if _lacks_tensorflow(error):
            raise ImportError(_needs_tensorflow(name)) from error
        raise ValueError(f"TensorFlow Datasets cannot open {name}: {_said(error)}.") from error


def _check_preparable(builder: Any, name: str) -> None:
    """Fails at once where TFDS would after a long download, or after minutes without a network."""
    try:
        source = inspect.getsource(inspect.getmodule(type(builder)) or type(builder))
    except (OSError, TypeError):
        source = ""
    if importlib.util.find_spec("tensorflow") is None and re.search(
        r"\b(download_and_extract|extract|iter_archive)\(", source
    ):
        raise ImportError(_needs_tensorflow(name))
    url = next(iter(builder.url_infos or {}), "")
    parts = urllib.parse.urlsplit(url)
    if parts.hostname and not urllib.request.getproxies():
        port = parts.port or (80 if parts.scheme == "http" else 443)
        try:
            socket.create_connection((parts.hostname, port), timeout=_SECONDS).close()
        except OSError as error:
            raise OSError(
                f"{name} is not prepared in {builder.data_dir}, and {parts.hostname}, from where its"
                f" files come ({url}), cannot be reached: {_said(error)}. Copy the prepared folder"
                " from a machine with a network and name its parent as data_dir."
            ) from error


def _lacks_tensorflow(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ImportError) and "tensorflow" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _needs_tensorflow(name: str) -> str:
    return (
        f"TensorFlow Datasets needs TensorFlow to prepare {name}. Where that is installed, run"
        f" tfds.builder({name!r}, data_dir=FOLDER, file_format={FORMAT!r}).download_and_prepare()"
        " once and give that folder as data_dir; reading it needs none. Or pip install tensorflow."
    )


def _keys(builder: Any, name: str, x: str | None, y: str | None) -> tuple[str, str]:
    features = builder.info.features
    known = list(features.keys()) if hasattr(features, "keys") else []
    keys: Any = builder.info.supervised_keys or ()
    if len(keys) == 2 and all(isinstance(key, str) for key in keys):
        x, y = x or keys[0], y or keys[1]
    if x is None or y is None:
        raise ValueError(
            f"{name} does not say which of its features are rows and labels: give x= and y= out of"
            f" {', '.join(known)}."
        )
    for key in (x, y):
        if key not in known:
            raise ValueError(f"{name} has no feature {key!r}; it has {', '.join(known)}.")
    return x, y


def examples(
    builder: Any, split: str, rows: np.ndarray | None = None, **decoders: Any
) -> Iterator[Any]:
    """Examples of a split that is prepared, decoded.

    Args:
      builder: TFDS's builder of the data set.
      split: of it.
      rows: indices of the examples; None takes all.
      **decoders: for ``as_data_source``.

    Raises:
      ImportError: they are stored in a way that needs TensorFlow.
      ValueError: an unknown split; damaged files.
    """
    name = builder.info.full_name
    try:
        with _quiet():
            source = builder.as_data_source(split=split, **decoders)
            rows = np.arange(len(source)) if rows is None else rows
            for start in range(0, len(rows), _PIECE):
                yield from source.__getitems__(rows[start : start + _PIECE].tolist())
    except NotImplementedError as error:
        raise ImportError(
            f"{name} in {builder.data_dir} is stored as {builder.info.file_format.value}, which TFDS"
            f" does not read without TensorFlow. {_needs_tensorflow(name)}"
        ) from error
    except Exception as error:  # a damaged file makes TFDS raise anything
        if _lacks_tensorflow(error):
            raise ImportError(_needs_tensorflow(name)) from error
        raise ValueError(
            f"{name}, split {split!r}, in {builder.data_dir} cannot be read: {_said(error)}."
        ) from error


def _images(
    place: str, images: list[np.ndarray], size: tuple[int, int] | None, grayscale: bool
) -> np.ndarray:
    """Images as rows ``[N, H, W * C]`` in [0, 1]."""
    from PIL import Image

    if images[0].dtype != np.uint8:
        if size is not None or grayscale:
            raise ValueError(
                f"{place}: images of {images[0].dtype} are neither resized nor made grey."
            )
    else:
        images = [image[..., 0] if image.shape[-1] == 1 else image for image in images]
        if grayscale:
            images = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
        if size is not None:
            images = [resize(image, size) for image in images]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        shown = ", ".join(map(str, sorted(shapes)[:3]))
        hint = "" if grayscale else ", or grayscale=True, or both"
        raise ValueError(
            f"{place}: its images have {len(shapes)} shapes, such as {shown}: give"
            f" size=(height, width){hint}."
        )
    pixels = np.stack(images)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype.kind == "u":
        return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)
    return pixels.astype(np.float32)


def _sequences(place: str, values: list[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Sequences ``[N, T]`` or ``[N, T, F]``, padded with zeros, and their lengths if they differ."""
    rows = [np.asarray(value) for value in values]
    if rows[0].dtype.kind not in "buif" or rows[0].ndim == 0:
        raise ValueError(
            f"{place} holds {'text' if rows[0].dtype.kind in 'OSU' else 'single values'}, no"
            f" sequences of numbers, such as {str(values[0])[:40]}."
        )
    rows = [row if row.ndim < 3 else row.reshape(len(row), -1) for row in rows]
    if len({row.shape[1:] for row in rows}) > 1:
        raise ValueError(f"{place}: its sequences differ in their number of features.")
    lengths = np.array([len(row) for row in rows], np.int32)
    padded = np.zeros((len(rows), lengths.max(), *rows[0].shape[1:]), np.float32)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded, None if (lengths == lengths[0]).all() else lengths


def _labels(place: str, feature: Any, labels: list[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Index of each label's class ``[N]``, and the classes' names."""
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "biuSUO":
        raise ValueError(
            f"{place} must hold one whole number or name a row, got"
            f" {values.dtype} of shape {values.shape[1:]} a row."
        )
    if names := getattr(feature, "names", None):
        if values.min() < 0:
            raise ValueError(f"{place}: row {int(values.argmin())} has no label.")
        return values.astype(np.int32), tuple(names)
    if values.dtype.kind in "SO":
        values = np.array(
            [
                value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                for value in labels
            ]
        )
    classes, index = np.unique(values, return_inverse=True)
    return index.astype(np.int32), tuple(str(label) for label in classes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's remarks on folders that are not there yet and on OpenCV."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
