"""RAVDESS: emotions in speech and song, a person's by name of the file."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from jaxlstm.data.audio import DEFAULT, MFCC
from jaxlstm.data.download import fetch
from jaxlstm.data.recordings import counts, extract, is_recording
from jaxlstm.data.sequences import SequenceData

#: The emotions in the order of their numbers in a file's name; nobody sings the last two.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
CLASSES = {"song": EMOTIONS[:6], "speech": EMOTIONS}

#: The seven fields of a file's name, and the largest number of each; the least is 1.
FIELDS = {
    "modality": 3,
    "vocal channel": 2,
    "emotion": 8,
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": 24,
}
VOCAL = {"speech": 1, "song": 2}


class Archive(NamedTuple):
    """A file of the publisher's."""

    name: str
    md5: str
    size: int  # bytes


RECORD = "10.5281/zenodo.1188976"
ARCHIVES = {
    "song": Archive("Audio_Song_Actors_01-24.zip", "5411230427d67a21e18aa4d466e6d1b9", 225_505_317),
    "speech": Archive(
        "Audio_Speech_Actors_01-24.zip", "bc696df654c87fed845eb13823edef8a", 208_468_073
    ),
}


def load_ravdess(
    path: str | Path | None = None,
    *,
    features: MFCC = DEFAULT,
    kind: Literal["song", "speech"] = "song",
    cache: bool | str | Path = True,
    folder: str | Path | None = None,
    n_jobs: int | None = None,
) -> SequenceData:
    """Loads the sung or spoken recordings of RAVDESS as MFCC, with its actors as groups.

    Song has 1,012 recordings by 23 actors, of neutral (92), calm, happy, sad, angry and fearful
    (184 each); speech has 1,440 by 24 actors, with disgust and surprised as well. The features are
    raw, not standardised: means and deviations are for the training part alone to give, and the
    estimators' ``standardize=True`` takes them there.

    Args:
      path: a folder, zip or tar of the files, ``[Actor_XX/]03-02-..-..-..-..-XX.wav`` (or flac,
        ogg, mp3); by default the publisher's archive, downloaded once.
      features: what to compute.
      kind: "song" or "speech"; recordings of the other are counted in ``dropped``.
      cache: True keeps the features in the folder of downloads, which the environment variable
        JAXLSTM_DATA names; or a folder for them; False for none. They are found again by the
        files' content, the options and the libraries' versions.
      folder: for the download.
      n_jobs: processes; by default one a core where there are enough files to pay for their start.

    Returns:
      ``x [N, length, n_mfcc]``, with ``lengths`` in frames and ``rate`` in frames a second. Files
      with a wrong name or that could not be read are in ``skipped`` and counted in ``dropped``.

    Raises:
      ImportError: librosa or soundfile is not installed.
      FileNotFoundError: nothing is at ``path``.
      OSError: the archive can't be downloaded.
      ValueError: another ``kind``; a damaged archive; no such recordings, or none that can be read.

    References:
      S. R. Livingstone, F. A. Russo (2018), The Ryerson Audio-Visual Database of Emotional Speech
      and Song, doi:10.1371/journal.pone.0196391. Data: doi:10.5281/zenodo.1188976, CC BY-NC-SA 4.0.
    """
    if kind not in CLASSES:
        raise ValueError(f"kind must be 'song' or 'speech', got {kind!r}.")
    archive = ARCHIVES[kind]
    if path is None:
        path = fetch(
            archive.name,
            f"doi:{RECORD}/{archive.name}",
            f"md5:{archive.md5}",
            folder=folder,
            size=archive.size,
        )
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: download {archive.name} from https://doi.org/{RECORD} and give"
            " its path, or give none to have it downloaded."
        )
    found = extract(path, is_recording, features, cache=cache, n_jobs=n_jobs)
    skipped = [f"{name}: {reason}." for name, reason in found.bad.items()]
    rows, labels, actors = [], [], []
    wrong = other = 0
    for row, name in enumerate(found.names):
        try:
            fields = parse_name(PurePosixPath(name))
        except ValueError as error:
            skipped.append(f"{name}: {error}.")
            wrong += 1
            continue
        if fields["vocal channel"] != VOCAL[kind]:
            other += 1
            continue
        rows.append(row)
        labels.append(fields["emotion"] - 1)
        actors.append(fields["actor"])
    if not rows:
        said = f"; the first, {skipped[0]}" if skipped else ""
        raise ValueError(
            f"{path} holds no {kind} of RAVDESS: {len(found.names) + len(found.bad)} recordings,"
            f" {other} of the other kind, {wrong} with a wrong name{said}"
        )
    return SequenceData(
        found.x[rows] if len(rows) < len(found.x) else found.x,
        np.asarray(labels, np.int32),
        CLASSES[kind],
        f"ravdess_{kind}",
        str(path),
        groups=np.asarray(actors, np.int32),
        lengths=found.lengths[rows],
        dropped=counts({"unreadable": len(found.bad), "wrong name": wrong, f"not {kind}": other}),
        skipped=tuple(skipped),
        feature_names=features.names,
        rate=features.frame_rate,
    )


def parse_name(path: PurePosixPath) -> dict[str, int]:
    """Reads the fields of a file's name.

    Args:
      path: with the seven fields as its name, and the actor's folder where it lies in one.

    Returns:
      The fields by name.

    Raises:
      ValueError: not seven fields of two digits; one out of its range; the emotion isn't sung, or
        neutral and strong; another actor than the folder's. The sentence names the field.
    """
    values = path.stem.split("-")
    if len(values) != len(FIELDS):
        raise ValueError(f"its name has {len(values)} fields, not the 7 of RAVDESS")
    fields = {}
    for (field, most), value in zip(FIELDS.items(), values, strict=True):
        if not re.fullmatch("[0-9]{2}", value):
            raise ValueError(f"the {field} is {value!r}, not two digits")
        fields[field] = int(value)
        if not 1 <= fields[field] <= most:
            raise ValueError(f"the {field} is {value}, not from 01 to {most:02}")
    if fields["modality"] == 2:
        raise ValueError("the modality is 02, video without sound")
    if fields["vocal channel"] == VOCAL["song"] and fields["emotion"] > len(CLASSES["song"]):
        raise ValueError(f"the emotion is {fields['emotion']:02}, and nobody sings it")
    if fields["emotion"] == 1 and fields["intensity"] == 2:
        raise ValueError("the intensity is 02, strong, of emotion 01, neutral")
    for part in path.parts[:-1]:
        of = re.fullmatch("actor_?([0-9]+)", part, re.IGNORECASE)
        if of and int(of[1]) != fields["actor"]:
            raise ValueError(f"the actor is {fields['actor']:02}, in the folder {part}")
    return fields
