"""The recordings behind rows of MFCC: the right ones or none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("librosa", reason="needs librosa: pip install 'jaxlstm[audio]'")
soundfile = pytest.importorskip("soundfile")

from jaxlstm.data import audio, recordings  # noqa: E402
from jaxlstm.waveforms import waveform_reader  # noqa: E402

OPTIONS = audio.MFCC(n_mfcc=5, length=12, rate=8000, n_mels=20)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of two classes, each of another pitch, and a file that is none."""
    folder = tmp_path_factory.mktemp("songs")
    for number in range(6):
        file = folder / ("sad" if number % 2 else "glad") / f"{number}.wav"
        file.parent.mkdir(exist_ok=True)
        tone = np.sin(np.arange(3000 + 500 * number) * 0.05 * (number + 1)) * 0.5
        soundfile.write(file, tone, 8000)
    (folder / "sad" / "broken.wav").write_bytes(b"RIFF")
    return folder


def test_rows_get_their_own_recordings(songs: Path) -> None:
    data = recordings.load_audio_folder(songs, features=OPTIONS, cache=False)
    assert len(data) == 6
    found = waveform_reader(data, songs, OPTIONS)([4, 0, 3])
    assert sorted(found) == [0, 3, 4]
    files = sorted(file for file in songs.rglob("?.wav"))
    for row, (signal, rate) in found.items():
        expected, _ = soundfile.read(files[row], dtype="float32")
        np.testing.assert_array_equal(signal, expected)
        assert rate == 8000


def test_rows_of_another_order_or_other_options_get_none(songs: Path) -> None:
    data = recordings.load_audio_folder(songs, features=OPTIONS, cache=False)
    order = np.array([1, 0, 2, 3, 4, 5])
    assert sorted(waveform_reader(data.take(order), songs, OPTIONS)(range(6))) == [2, 3, 4, 5]
    assert waveform_reader(data.take(order[:4]), songs, OPTIONS)([0]) == {}
    other = dataclasses.replace(OPTIONS, n_mels=24)
    assert waveform_reader(data, songs, other)([0, 1]) == {}
