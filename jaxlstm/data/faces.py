"""Faces and the emotions they show: FER2013, as image files or as its csv file."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from jaxlstm.data.duplicates import find_duplicates
from jaxlstm.data.images import assemble, check_size, read_images, resize, scaled
from jaxlstm.data.packed import open_packed
from jaxlstm.data.sequences import SequenceData

CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

#: What the csv file's numbers mean.
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
_SIDE = 48
_LINE = 1 << 16  # characters; 48 x 48 values take a seventh of it


def load_faces(
    path: str | Path | None = None,
    *,
    size: tuple[int, int] = (32, 32),
    drop_duplicates: bool = False,
) -> dict[str, SequenceData]:
    """Loads faces in grey, as sequences of their rows with values in [0, 1].

    FER2013 holds hundreds of images twice or more, some of them in train and again in validation,
    some with two labels: ``find_duplicates`` lists them.

    Args:
      path: a folder, zip or (compressed) tar with ``train/<class>/*.jpg``,
        ``validation/<class>/*.jpg`` and perhaps ``test``, the classes being angry, disgust, fear,
        happy, neutral, sad and surprise; or the file ``fer2013.csv`` (also as ``.csv.gz``, or a
        folder with it) with the columns emotion, pixels and Usage, whose PublicTest becomes
        validation and PrivateTest test. It cannot be downloaded without an account: None gives the
        sentence that says where to get it.
      size: height and width that all are resized to, see ``decode_image``.
      drop_duplicates: leaves out of train what is in another part, too, and all but the first of
        equal images; ``dropped`` counts them.

    Returns:
      The parts by their names, each with ``x [N, H, W]`` float32. Images that cannot be read are
      listed in ``skipped`` and counted in ``dropped``.

    Raises:
      FileNotFoundError: nothing is there; the sentence says where to get it.
      ValueError: no images, no parts, an unknown class; a damaged archive or csv file.

    References:
      Goodfellow et al., "Challenges in Representation Learning", arXiv:1307.0414.
    """
    check_size(size)
    if path is None or not Path(path).exists():
        found = "No path is given" if path is None else f"{path} is not there"
        raise FileNotFoundError(
            f"{found}. FER2013 needs an account: download it from"
            " https://www.kaggle.com/datasets/msambare/fer2013 (folders of images) or"
            " https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-"
            "recognition-challenge (fer2013.csv) and give the path of the folder, archive or csv file."
        )
    path = Path(path)
    table = path / "fer2013.csv"
    if path.is_dir() and table.is_file():
        path = table
    if path.name.lower().endswith((".csv", ".csv.gz")):
        parts = _from_csv(path, size)
    else:
        files, others = read_images(path, size, grayscale=True)
        parts = assemble(files, others, path, "faces", CLASSES)
    if "train" not in parts:
        raise ValueError(
            f"{path} must hold folders train and validation, each with one folder a class; found no"
            f" train{', but ' + ', '.join(parts) if '' not in parts else ''}."
        )
    return without_duplicates(parts) if drop_duplicates else parts


def without_duplicates(parts: dict[str, SequenceData]) -> dict[str, SequenceData]:
    """Leaves out of train what other parts hold, too, and all but the first of equal rows."""
    table = find_duplicates(parts)
    train = table[table["split"] == "train"]
    elsewhere = set(table["set"][table["split"] != "train"])
    leaked = train["set"].isin(elsewhere)
    repeated = ~leaked & train["set"].duplicated()
    data = parts["train"]
    kept = np.ones(len(data), bool)
    kept[train["row"][leaked | repeated]] = False
    counts = {
        "also in another part": int(leaked.sum()),
        "repeated in train": int(repeated.sum()),
    }
    counts = {reason: count for reason, count in counts.items() if count}
    unique = dataclasses.replace(
        data.take(np.flatnonzero(kept)), dropped={**data.dropped, **counts}
    )
    return {**parts, "train": unique}


def _from_csv(path: Path, size: tuple[int, int]) -> dict[str, SequenceData]:
    rows: dict[str, list[np.ndarray]] = {part: [] for part in USAGES.values()}
    labels: dict[str, list[int]] = {part: [] for part in USAGES.values()}
    skipped: dict[str, list[str]] = collections.defaultdict(list)
    for line, emotion, pixels, usage in _records(path):
        part = USAGES.get(usage, "train")  # one that does not say is most likely one of train's
        try:
            if usage not in USAGES:
                raise ValueError(f"Usage must be one of {', '.join(USAGES)}, got {usage[:20]!r}")
            if emotion not in "0123456" or len(emotion) != 1:
                raise ValueError(f"emotion must be 0 to 6, got {emotion[:20]!r}")
            image = _pixels(pixels)
        except ValueError as error:
            skipped[part].append(f"{path.name}, line {line}: {error}.")
            continue
        rows[part].append(resize(image, size))
        labels[part].append(CLASSES.index(EMOTIONS[int(emotion)]))
    for part, sentences in skipped.items():
        if not rows[part]:
            raise ValueError(f"{path}: no image of {part} can be read. {sentences[0]}")
    if not any(rows.values()):
        raise ValueError(f"{path} holds no images.")
    return {
        part: SequenceData(
            x=scaled(np.stack(rows[part])),
            y=np.array(labels[part], np.int32),
            classes=CLASSES,
            name="faces",
            source=f"{path} ({len(rows[part]):,} images of {_SIDE} x {_SIDE} pixels)",
            dropped={"corrupt line": len(skipped[part])} if skipped[part] else {},
            skipped=tuple(skipped[part]),
        )
        for part in rows
        if rows[part]
    }


def _pixels(text: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of what is no number
            values = np.fromstring(text, np.int64, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise ValueError("its pixels must be whole numbers from 0 to 255") from error
    if len(values) != _SIDE**2:
        raise ValueError(f"{_SIDE**2} pixels are expected, got {len(values)}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels must be 0 to 255, got {values.min()} to {values.max()}")
    return values.astype(np.uint8).reshape(_SIDE, _SIDE)


def _records(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line number, emotion, pixels and usage of each line."""
    try:
        with (
            open_packed(path) as file,
            io.TextIOWrapper(
                io.BufferedReader(file), encoding="utf-8-sig", errors="replace", newline="\n"
            ) as stream,
        ):
            reader = csv.reader(_lines(stream), skipinitialspace=True, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            missing = [name for name in ("emotion", "pixels", "usage") if name not in header]
            if missing:
                raise ValueError(
                    f"line 1 must name the columns emotion, pixels and Usage, it has"
                    f" no {', '.join(missing)}"
                )
            places = [header.index(name) for name in ("emotion", "pixels", "usage")]
            for record in reader:
                if not any(record):
                    continue
                cells = [*record, *[""] * len(header)]
                emotion, pixels, usage = (cells[place].strip() for place in places)
                yield reader.line_num, emotion, pixels, usage
    except Exception as error:  # a damaged file makes gzip, zlib and csv raise anything
        said = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"{path} is not a readable csv file of faces: {said}.") from error


def _lines(stream: IO[str]) -> Iterator[str]:
    number = 0
    while line := stream.readline(_LINE):
        number += 1
        if len(line) == _LINE:
            raise ValueError(f"line {number} has more than {_LINE:,} characters")
        yield line
