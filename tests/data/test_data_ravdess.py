"""RAVDESS: which names are right, whose files they are, and the real ones where they are at hand."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("librosa", reason="no librosa: pip install jaxlstm[audio]")

import soundfile

from jaxlstm.data import ravdess
from jaxlstm.data.audio import MFCC, decode, mfcc
from jaxlstm.data.ravdess import load_ravdess, parse_name

SMALL = MFCC(n_mfcc=4, length=5, rate=8000, hop_length=128, n_fft=256, n_mels=20)
REAL = Path("ravdess_song") / "ravdess_song_22050hz_flac.tar"


def recording(seed: int) -> bytes:
    file = io.BytesIO()
    signal = np.random.default_rng(seed).uniform(-0.5, 0.5, 300 + 40 * seed)
    soundfile.write(file, signal, 8000, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("03-02-01-01-01-01.wav", "has 6 fields, not the 7"),
        ("03-02-01-01-01-01-01-01.wav", "has 8 fields, not the 7"),
        ("song.wav", "has 1 fields, not the 7"),
        ("03-02-1-01-01-01-01.wav", "the emotion is '1', not two digits"),
        ("03-02-01-01-01-01-٠١.wav", "the actor is '٠١', not two digits"),
        ("03-02-01-01-01-01-01 .wav", "the actor is '01 ', not two digits"),
        ("04-02-01-01-01-01-01.wav", "the modality is 04, not from 01 to 03"),
        ("00-02-01-01-01-01-01.wav", "the modality is 00"),
        ("02-02-01-01-01-01-01.wav", "the modality is 02, video without sound"),
        ("03-03-01-01-01-01-01.wav", "the vocal channel is 03"),
        ("03-01-09-01-01-01-01.wav", "the emotion is 09, not from 01 to 08"),
        ("03-02-07-01-01-01-01.wav", "the emotion is 07, and nobody sings it"),
        ("03-02-02-03-01-01-01.wav", "the intensity is 03"),
        ("03-02-01-02-01-01-01.wav", "the intensity is 02, strong, of emotion 01, neutral"),
        ("03-02-01-01-03-01-01.wav", "the statement is 03"),
        ("03-02-01-01-01-00-01.wav", "the repetition is 00"),
        ("03-02-01-01-01-01-25.wav", "the actor is 25, not from 01 to 24"),
        ("a/Actor_07/03-02-01-01-01-01-08.wav", "the actor is 08, in the folder Actor_07"),
    ],
)
def test_wrong_names(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_name(PurePosixPath(name))


def by_hand(name: str) -> dict[str, int] | None:
    """The same rule, as one pattern."""
    right = re.fullmatch(
        "(?P<modality>01|03)-"
        "(?:(?P<song>02)-(?P<sung>0[1-6])|(?P<speech>01)-(?P<spoken>0[1-8]))-"
        "(?P<intensity>01|02)-(01|02)-(01|02)-(?P<actor>0[1-9]|1[0-9]|2[0-4])",
        name,
    )
    if not right or ((right["sung"] or right["spoken"]) == "01" and right["intensity"] == "02"):
        return None
    return {
        "vocal channel": int(right["song"] or right["speech"]),
        "emotion": int(right["sung"] or right["spoken"]),
        "actor": int(right["actor"]),
    }


number = st.one_of(
    st.integers(1, 3).map("{:02}".format),
    st.integers(0, 26).map("{:02}".format),
    st.text(max_size=2),
)


@settings(max_examples=400)
@given(st.lists(number, min_size=6, max_size=8).map("-".join))
def test_names_are_read_as_by_one_pattern(name: str) -> None:
    if "/" in name or name in ("", ".", ".."):
        return
    expected = by_hand(name)
    try:
        fields = parse_name(PurePosixPath(name + ".wav"))
    except ValueError:
        assert expected is None
        return
    assert expected is not None
    assert {field: fields[field] for field in expected} == expected


def test_every_right_name_is_taken() -> None:
    count = 0
    for emotion in range(1, 7):
        for intensity in (1,) if emotion == 1 else (1, 2):
            for statement in (1, 2):
                for repetition in (1, 2):
                    stem = f"03-02-{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}-24"
                    fields = parse_name(PurePosixPath(f"Actor_24/{stem}.flac"))
                    assert list(fields.values()) == [
                        3, 2, emotion, intensity, statement, repetition, 24,
                    ]  # fmt: skip
                    count += 1
    assert count == 1012 / 23


@pytest.fixture
def content() -> dict[str, bytes]:
    """Two actors' songs, one a class, and what else may lie there."""
    found = {}
    for actor in (3, 12):
        for emotion in range(1, 7):
            name = f"songs/Actor_{actor:02}/03-02-{emotion:02}-01-02-01-{actor:02}.flac"
            found[name] = recording(10 * actor + emotion)
    found["songs/Actor_03/03-01-08-01-01-01-03.flac"] = recording(1)  # speech
    found["songs/Actor_03/03-02-02-01-01-01-04.flac"] = recording(2)  # another's
    found["songs/Actor_03/03-02-02-02-01-01-03.flac"] = recording(3)[:-20]
    found["songs/README.txt"] = b"text"
    return found


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_songs(kind: str, content: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "mine"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(path, "w") as tar:
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        for name, data in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    data = load_ravdess(path, features=SMALL, cache=tmp_path / "cache")
    assert data.classes == ("neutral", "calm", "happy", "sad", "angry", "fearful")
    assert data.groups is not None
    assert data.lengths is not None
    assert data.groups.tolist() == [3] * 6 + [12] * 6
    assert data.y.tolist() == [*range(6), *range(6)]
    for row, (group, label) in enumerate(zip(data.groups, data.y, strict=True)):
        expected, frames = mfcc(*decode(recording(10 * int(group) + int(label) + 1)), SMALL)
        np.testing.assert_array_equal(data.x[row], expected)
        assert data.lengths[row] == frames
    assert data.dropped == {"unreadable": 1, "wrong name": 1, "not song": 1}
    cut, other = data.skipped
    assert cut.startswith("songs/Actor_03/03-02-02-02-01-01-03.flac: ")
    assert other == (
        "songs/Actor_03/03-02-02-01-01-01-04.flac: the actor is 04, in the folder Actor_03."
    )
    assert (data.name, data.rate) == ("ravdess_song", 8000 / 128)
    train, test = data.split(0.5, by="group")
    assert not set(train.groups) & set(test.groups)  # type: ignore[arg-type]
    again = load_ravdess(path, features=SMALL, cache=tmp_path / "cache")
    assert (again.sha256, again.skipped) == (data.sha256, data.skipped)
    speech = load_ravdess(path, features=SMALL, kind="speech", cache=tmp_path / "cache")
    assert [str(label) for label in speech.labels] == ["surprised"]
    assert len(speech.classes) == 8
    assert speech.dropped["not speech"] == 12


def test_no_song(tmp_path: Path) -> None:
    (tmp_path / "03-01-01-01-01-01-01.flac").write_bytes(recording(1))
    (tmp_path / "mine.flac").write_bytes(recording(2))
    message = (
        "holds no song of RAVDESS: 2 recordings, 1 of the other kind, 1 with a wrong name;"
        " the first, mine.flac: its name has 1 fields"
    )
    with pytest.raises(ValueError, match=message):
        load_ravdess(tmp_path, features=SMALL, cache=False)
    with pytest.raises(ValueError, match="kind must be 'song' or 'speech', got 'opera'"):
        load_ravdess(tmp_path, kind="opera")  # type: ignore[arg-type]
    with pytest.raises(
        FileNotFoundError,
        match=r"gone is not there: download Audio_Song_Actors_01-24.zip from https://doi.org/10.5281",
    ):
        load_ravdess(tmp_path / "gone")


@pytest.mark.parametrize("kind", ["song", "speech"])
def test_it_is_fetched_from_its_doi(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fetched.zip"
    channel = {"song": "02", "speech": "01"}[kind]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"Actor_01/03-{channel}-03-01-01-01-01.flac", recording(1))
    asked: list[Any] = []

    def fetch(*arguments: Any, **named: Any) -> Path:
        asked.append((arguments, named))
        return path

    monkeypatch.setattr(ravdess, "fetch", fetch)
    data = load_ravdess(kind=kind, features=SMALL, cache=False, folder=tmp_path)
    assert [str(label) for label in data.labels] == ["happy"]
    ((arguments, named),) = asked
    name = f"Audio_{kind.capitalize()}_Actors_01-24.zip"
    assert arguments[:2] == (name, f"doi:10.5281/zenodo.1188976/{name}")
    assert re.fullmatch("md5:[0-9a-f]{32}", arguments[2])
    assert named["folder"] == tmp_path
    assert named["size"] > 200e6


def test_the_real_names(shared_data: Path) -> None:
    """All 1,012 names are right; the features of three recordings are computed."""
    with tarfile.open(shared_data / REAL) as archive:
        members = [member for member in archive if member.isfile()]
        fields = [parse_name(PurePosixPath(member.name)) for member in members]
        for member in members[:1012:500]:
            stream = archive.extractfile(member)
            assert stream is not None
            signal, rate = decode(stream.read())
            assert rate == 22_050
            features, frames = mfcc(signal, rate)
            assert frames == min(256, 1 + len(signal) // 512)
            assert np.isfinite(features).all()
            assert features[:frames, 0].min() < -300  # silence before the song, in dB
    emotions = np.bincount([field["emotion"] for field in fields], minlength=7)
    assert emotions.tolist() == [0, 92, 184, 184, 184, 184, 184]
    assert {field["actor"] for field in fields} == {*range(1, 25)} - {18}


@pytest.mark.slow
def test_the_real_songs(shared_data: Path, tmp_path: Path) -> None:
    data = load_ravdess(shared_data / REAL, cache=tmp_path)
    assert data.x.shape == (1012, 256, 32)
    assert np.isfinite(data.x).all()
    assert data.summary()["rows"].tolist() == [92, 184, 184, 184, 184, 184, 1012]
    assert data.summary()["groups"].tolist() == [23] * 7
    assert not data.skipped
    assert not data.dropped
    assert data.lengths is not None
    assert 100 < data.lengths.min() < data.lengths.max() == 256
    again = load_ravdess(shared_data / REAL, cache=tmp_path)
    assert again.sha256 == data.sha256
