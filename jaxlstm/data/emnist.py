"""EMNIST: handwritten digits and letters."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxlstm.data.archives import members
from jaxlstm.data.download import data_folder, fetch
from jaxlstm.data.idx import parse_idx, read_idx
from jaxlstm.data.images import scaled
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.tfds import import_tfds

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
    "letters": _UPPER.lower(),
    "digits": _DIGITS,
    "mnist": _DIGITS,
}
PARTS = ("train", "test")
_MEMBER = 1 << 30  # bytes; the largest file of the archive is half of it unpacked


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
    if path is None:
        read, source = _prepared(split, data_folder(folder)), f"EMNIST, {URL}"
    else:
        read, source = _reader(split, Path(path)), str(path)
    return {
        part: _part(split, *read(part, functools.partial(_drawn, samples, seed)), part, source)
        for part in PARTS
    }


Rows = Callable[[int], np.ndarray | slice]
Reader = Callable[[str, Rows], tuple[np.ndarray, np.ndarray, tuple[str, ...]]]
