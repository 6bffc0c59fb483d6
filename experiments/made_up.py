"""Made-up data in the studies' raw formats, for `--preset smoke`: files that the loaders read.

Classes differ enough for a small network to learn something in an epoch or two; nothing else about
them is like the real ones. Each maker writes into a new temporary folder, which goes when the process
ends, and returns what the loader takes as its path.
"""

from __future__ import annotations

import atexit
import io
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SUNG = ("01", "02", "03", "04", "05", "06")  # neutral, calm, happy, sad, angry, fearful


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="jaxlstm-made-up-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def wisdm(people: int = 6, seconds: int = 20) -> Path:
    """A raw text of WISDM 1.1: each activity is a sine of its own frequency on a person's own axis."""
    rng = np.random.default_rng(0)
    steps = 20 * seconds
    activities = ("Walking", "Jogging", "Upstairs", "Downstairs", "Sitting", "Standing")
    lines, clock = [], 49_105_962_326_000
    for user in range(1, people + 1):
        for number, activity in enumerate(activities):
            phase = 2 * np.pi * (0.4 + 0.6 * number) * np.arange(steps) / 20 + rng.uniform(0, 6)
            values = np.stack([np.sin(phase), np.cos(phase), number + 0 * phase], axis=1)
            for x, y, z in values + rng.normal(0, 0.3, values.shape):
                clock += 50_000_000
                lines.append(f"{user},{activity},{clock},{x:.4f},{y:.4f},{z:.4f};\n")
            clock += 10_000_000_000
    path = _folder() / "WISDM_ar_v1.1_raw.txt"
    path.write_text("".join(lines))
    return path


def emnist(classes: int = 62, train: int = 4, test: int = 2) -> Path:
    """The idx files of EMNIST ByClass: each class is a bar of its own place and slope."""
    rng = np.random.default_rng(0)
    folder = _folder()
    rows, columns = np.mgrid[:28, :28]
    for part, count in (("train", train), ("test", test)):
        labels = np.repeat(np.arange(classes), count)
        images = np.zeros((len(labels), 28, 28), np.uint8)
        for place, label in enumerate(labels):
            angle, offset = np.pi * (label % 8) / 8, 2.5 * (label // 8) - 9
            away = np.cos(angle) * (rows - 14) + np.sin(angle) * (columns - 14) - offset
            bar = np.exp(-((away + rng.normal(0, 0.2)) ** 2) / 3)
            images[place] = 255 * bar * rng.uniform(0.8, 1)
        for kind, magic, array in (("images-idx3", 2051, images), ("labels-idx1", 2049, labels)):
            header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            content = header + array.astype(np.uint8).tobytes()
            (folder / f"emnist-byclass-{part}-{kind}-ubyte").write_bytes(content)
    return folder


def faces(train: int = 24, validation: int = 8) -> Path:
    """A folder of 48x48 JPEGs by split and class; one image is in both splits, as in FER2013."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = _folder()
    rows, columns = np.mgrid[:48, :48] / 47
    for split, count in (("train", train), ("validation", validation)):
        for number, name in enumerate(EMOTIONS):
            place = folder / "images" / split / name
            place.mkdir(parents=True)
            for image in range(count):
                wave = np.sin(2 * np.pi * (1 + number) * (rows if number % 2 else columns))
                grey = 128 + 70 * wave + rng.normal(0, 20, rows.shape)
                content = io.BytesIO()
                Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(content, "JPEG")
                (place / f"{split}_{image}.jpg").write_bytes(content.getvalue())
    copy = folder / "images" / "train" / "happy" / "train_0.jpg"
    shutil.copy(copy, folder / "images" / "validation" / "happy" / "copy.jpg")
    return folder


def ravdess(actors: int = 4, takes: int = 2) -> Path:
    """Wav files named as RAVDESS Song's: each emotion is a tone of its own pitch and vibrato."""
    import soundfile

    rng = np.random.default_rng(0)
    folder = _folder()
    rate = 22_050
    seconds = np.arange(rate) / rate
    for actor in range(1, actors + 1):
        place = folder / f"Actor_{actor:02d}"
        place.mkdir()
        for number, emotion in enumerate(SUNG):
            for take in range(1, takes + 1):
                pitch = 220 * 1.3**number * rng.uniform(0.97, 1.03)
                phase = 2 * np.pi * pitch * seconds + number * np.sin(2 * np.pi * 6 * seconds)
                wave = 0.5 * np.sin(phase) + 0.25 * np.sin(2 * phase)
                wave += rng.normal(0, 0.01, wave.shape)
                name = f"03-02-{emotion}-01-01-{take:02d}-{actor:02d}.wav"
                soundfile.write(place / name, wave, rate, subtype="PCM_16")
    return folder
