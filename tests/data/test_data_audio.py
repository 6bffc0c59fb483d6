"""MFCC against one written from the formulas; files that are damaged; folders, and what is kept."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("librosa", reason="no librosa: pip install jaxlstm[audio]")

import scipy.fft
import soundfile

from jaxlstm.data import cache, recordings
from jaxlstm.data.audio import MFCC, decode, mfcc
from jaxlstm.data.recordings import load_audio_folder

RATE = 22_050
SMALL = MFCC(n_mfcc=5, length=6, rate=8000, hop_length=128, n_fft=256, n_mels=20)


def tone(seed: int = 0, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    """A gliding tone that swells, with overtones, silence and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (rng.uniform(150, 500) * time + rng.uniform(200, 900) * time**2)
    signal = sum(rng.uniform(0.05, 0.2) * np.sin(k * phase) for k in (1, 2, 3, 5))
    signal = signal * np.linspace(0.01, 1, len(time)) + 0.003 * rng.normal(size=len(time))
    signal[: len(time) // 8] = 0
    return signal.astype(np.float32)


def sound(signal: np.ndarray, rate: int = RATE, format: str = "WAV", **settings: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=format, **settings)
    return file.getvalue()


# ---------------------------------------------------------------- the features


def hz_to_mel(hz: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 2595 * np.log10(1 + hz / 700)
    log = 15 + 27 * np.log(np.maximum(hz, 1e-9) / 1000) / np.log(6.4)
    return np.where(hz < 1000, 3 * hz / 200, log)


def reference(signal: np.ndarray, options: MFCC) -> np.ndarray:
    """Frames [T, n_mfcc] in float64, each step from its formula."""
    n_fft, hop = options.n_fft, options.hop_length
    signal = signal.astype(np.float64)
    if options.center:
        signal = np.concatenate([np.zeros(n_fft // 2), signal, np.zeros(n_fft // 2)])
    win = options.win_length or n_fft
    window = np.zeros(n_fft)
    before = (n_fft - win) // 2
    window[before : before + win] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win)
    time = np.arange(n_fft)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), time) / n_fft)
    frames = [
        np.abs(basis @ (window * signal[start : start + n_fft])) ** options.power
        for start in range(0, len(signal) - n_fft + 1, hop)
    ]
    top = options.fmax or options.rate / 2
    # Edges equally far in mel, found by bisection of the formula above.
    edges = []
    ends = hz_to_mel(np.array([options.fmin, top]), options.htk)
    for mel in np.linspace(*ends, options.n_mels + 2):
        low, high = 0.0, options.rate
        for _ in range(80):
            middle = (low + high) / 2
            below = hz_to_mel(np.array(middle), options.htk) < mel
            low, high = (middle, high) if below else (low, middle)
        edges.append(low)
    hz = np.arange(n_fft // 2 + 1) * options.rate / n_fft
    filters = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        rise, fall = (hz - left) / (centre - left), (right - hz) / (right - centre)
        height = 2 / (right - left) if options.mel_norm == "slaney" else 1.0
        filters.append(height * np.clip(np.minimum(rise, fall), 0, None))
    mel = np.array(frames) @ np.array(filters).T
    db = 10 * np.log10(np.maximum(mel, 1e-10))
    db = np.maximum(db, db.max() - 80)
    if (options.dct_type, options.norm) == (2, "ortho"):
        n = options.n_mels
        cosines = np.cos(np.pi * np.outer(np.arange(n), 2 * np.arange(n) + 1) / (2 * n))
        scale = np.full(n, np.sqrt(2 / n))
        scale[0] = np.sqrt(1 / n)
        found = db @ (scale[:, None] * cosines).T
    else:
        found = scipy.fft.dct(db, type=options.dct_type, norm=options.norm, axis=1)
    found = found[:, : options.n_mfcc]
    if options.lifter:
        order = np.arange(1, options.n_mfcc + 1)
        found = found * (1 + options.lifter / 2 * np.sin(np.pi * order / options.lifter))
    return found


@pytest.mark.parametrize(
    "options",
    [
        MFCC(length=22),
        MFCC(length=22, n_mfcc=13, dct_type=3, n_mels=40),
        MFCC(length=22, dct_type=1, norm=None, htk=True, n_mels=40),
        MFCC(
            length=80, n_fft=1024, hop_length=160, win_length=400, n_mels=30, n_mfcc=20, lifter=22
        ),
        MFCC(length=40, n_fft=1024, hop_length=300, center=False, power=1.0, n_mels=40),
        MFCC(length=30, fmin=80, fmax=7000, mel_norm=None, n_mels=60, norm=None),
    ],
    ids=["default", "dct3", "htk", "window", "not centred", "band"],
)
def test_mfcc_is_the_formulas(options: MFCC) -> None:
    signal = tone(3)
    found, frames = mfcc(signal, RATE, options)
    expected = reference(signal, options)
    assert frames == min(options.length, len(expected))
    assert found.shape == (options.length, options.n_mfcc)
    assert found.dtype == np.float32
    # librosa works in float32, and a quiet band's logarithm makes much of its rounding.
    size = np.abs(expected).max()
    np.testing.assert_allclose(found[:frames], expected[:frames], rtol=1e-4, atol=1e-5 * size)
    assert not found[frames:].any()


def test_cut_and_padded() -> None:
    signal = tone(1)
    whole, frames = mfcc(signal, RATE, MFCC(length=22))
    assert frames == 1 + len(signal) // 512 == 22
    cut, valid = mfcc(signal, RATE, MFCC(length=9))
    assert valid == 9
    np.testing.assert_array_equal(cut, whole[:9])
    padded, valid = mfcc(signal, RATE, MFCC(length=31))
    assert valid == 22
    np.testing.assert_array_equal(padded[:22], whole)
    assert not padded[22:].any()
    one, valid = mfcc(signal[:100], RATE, MFCC(length=4))  # shorter than a frame
    assert valid == 1
    assert np.isfinite(one).all()
    silent, _ = mfcc(np.zeros(5000), RATE, MFCC(length=4))
    assert np.isfinite(silent).all()


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_a_file_gives_what_librosa_gives(rate: int, tmp_path: Path) -> None:
    import librosa

    stereo = np.stack([tone(1, rate=rate), 0.3 * tone(2, rate=rate)], axis=1)
    path = tmp_path / "stereo.wav"
    path.write_bytes(sound(stereo, rate))
    with warnings.catch_warnings():
        # What librosa.load asks its audioread for, on Python 3.11 and 3.12; decode does not.
        warnings.filterwarnings(
            "ignore", "'(aifc|audioop|sunau)' is deprecated", DeprecationWarning
        )
        signal, sr = librosa.load(path)
    expected = librosa.feature.mfcc(y=signal, sr=sr, n_mfcc=32).T
    found, frames = mfcc(*decode(path.read_bytes()))
    assert frames == len(expected)
    np.testing.assert_allclose(found[:frames], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"format": "WAV", "subtype": "PCM_16"}, 1 / 32768),
        ({"format": "WAV", "subtype": "PCM_24"}, 1 / 2**23),
        ({"format": "WAV", "subtype": "FLOAT"}, 0),
        ({"format": "FLAC", "subtype": "PCM_16"}, 1 / 32768),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.15),
    ],
)
def test_decode(settings: dict[str, Any], error: float) -> None:
    stereo = np.stack([tone(1), 0.5 * tone(2)], axis=1)
    signal, rate = decode(sound(stereo, 32_000, **settings))
    assert rate == 32_000
    assert signal.dtype == np.float32
    np.testing.assert_allclose(signal, stereo.mean(axis=1), rtol=1e-6, atol=1e-7 + error)


def test_many_blocks_are_one_signal() -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    np.testing.assert_array_equal(decode(sound(signal, subtype="FLOAT"))[0], signal)


def mp3() -> bytes:
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile has no mp3")
    return sound(tone(1, 1.0), format="MP3")


def test_mp3() -> None:
    signal, rate = decode(mp3())
    assert (len(signal), rate) == (RATE, RATE)


def flac_of(rate: int, samples: int, signal: np.ndarray) -> bytes:
    """A flac file whose header says otherwise than its content."""
    content = bytearray(sound(signal, format="FLAC"))
    packed = int.from_bytes(content[18:26], "big")
    packed = (rate << 44) | (packed & (0xFF << 36)) | samples
    content[18:26] = packed.to_bytes(8, "big")
    return bytes(content)


WAV, FLAC, OGG = (sound(tone(5), format=format) for format in ("WAV", "FLAC", "OGG"))
BAD: list[tuple[str, bytes, str]] = [
    ("empty file", b"", "Format not recognised"),
    ("text", b"no sound at all\n" * 40, "Format not recognised"),
    ("zeros", bytes(5000), "Format not recognised"),
    ("header alone", WAV[:44], "ends after 44 of"),
    ("cut wav", WAV[:-1], f"ends after {len(WAV) - 1:,} of {len(WAV):,} bytes"),
    ("half a flac", FLAC[: len(FLAC) // 2], "flac"),
    ("flac without its end", FLAC[:-1], "flac"),
    ("flac header", FLAC[:42], "flac|empty|samples|failed"),
    ("half an ogg", OGG[: len(OGG) // 2], "last page is missing"),
    ("ogg's first bytes", OGG[:5], "last page is missing"),
    ("no samples", sound(np.zeros((0, 1), np.float32)), "empty"),
    ("not a number", sound(np.array([0.1, np.nan, 0.2]), subtype="FLOAT"), "not finite"),
    ("infinite", sound(np.array([0.1, -np.inf, 0.2]), subtype="FLOAT"), "not finite"),
    ("1 Hz", sound(tone(1), 1), "sampling rate is 1 Hz"),
    ("4 MHz", sound(tone(1), 4_000_000), "sampling rate is 4000000 Hz"),
    ("11 minutes", sound(np.zeros(11 * 60 * 1000, np.int16), 1000, "FLAC"), "10 minutes"),
    ("claims 2^36 samples", flac_of(RATE, 2**36 - 1, tone(1)), "samples|flac|failed"),
]


@pytest.mark.parametrize(("content", "reason"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_no_whole_recording(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(content)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_written_into_a_pipe_is_whole(size: int) -> None:
    content = bytearray(WAV)
    content[4:8] = size.to_bytes(4, "little")
    np.testing.assert_array_equal(decode(bytes(content))[0], decode(WAV)[0])


@settings(max_examples=150)
@given(st.sampled_from([WAV, FLAC, OGG]), st.data())
def test_any_damage_is_an_error_or_sound(content: bytes, data: st.DataObject) -> None:
    start = data.draw(st.one_of(st.integers(0, 64), st.integers(0, len(content) - 1)))
    junk = data.draw(st.binary(min_size=1, max_size=12))
    keep = data.draw(st.sampled_from([len(content), start + len(junk), len(content) * 2 // 3]))
    damaged = (content[:start] + junk + content[start + len(junk) :])[:keep]
    try:
        signal, rate = decode(damaged)
    except ValueError:
        pass
    else:
        assert signal.ndim == 1
        assert np.isfinite(signal).all()
        assert len(signal) <= 600 * rate


def test_every_flipped_bit_of_a_flac_frame_is_found() -> None:
    """The frames carry checksums; a wrong number of a training set would never be noticed."""
    signal = decode(FLAC)[0]
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(FLAC), 150):
        content = bytearray(FLAC)
        content[place] ^= 1 << rng.integers(8)
        try:
            found = decode(bytes(content))[0]
        except ValueError:
            continue
        np.testing.assert_array_equal(found, signal)  # a bit that no sample depends on


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_mfcc": 0}, "n_mfcc must be a whole number above 0, got 0"),
        ({"n_mfcc": 200}, "n_mfcc must be at most n_mels = 128, got 200"),
        ({"length": 2.5}, "length must be a whole number"),
        ({"hop_length": True}, "hop_length must be a whole number"),
        ({"dct_type": 4}, "dct_type must be 1, 2 or 3, got 4"),
        ({"rate": 100}, "rate must be from 1000"),
        ({"win_length": 4096}, "win_length must be None or a whole number from 1 to n_fft = 2048"),
        ({"window": "hat"}, "window must be a window of scipy.signal, got 'hat'"),
        ({"power": 0}, "power must be above 0"),
        ({"fmin": 12_000}, "fmin must be"),
        ({"fmax": 12_000}, "fmax must be None or above fmin and at most rate / 2 = 11025"),
        ({"mel_norm": "max"}, "mel_norm must be"),
        ({"norm": "orth"}, "norm must be"),
        ({"lifter": -1}, "lifter must be"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MFCC(**options)


@pytest.mark.parametrize("signal", [np.zeros(0), np.zeros((5, 2)), np.array([1.0, np.nan])])
def test_no_signal(signal: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one row of finite numbers"):
        mfcc(signal, RATE)


def test_too_short_for_one_frame() -> None:
    with pytest.raises(ValueError, match="100 samples, fewer than a frame's 2,048"):
        mfcc(np.ones(100), RATE, MFCC(center=False))


@pytest.mark.parametrize("module", ["librosa", "soundfile"])
def test_without_the_library(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install \"jaxlstm\[audio\]\""):
        mfcc(*decode(WAV))


# ---------------------------------------------------------------- folders and archives


def files(count: int = 3) -> dict[str, bytes]:
    """By name, of two classes and two speakers; every one differs."""
    endings = [".wav", ".FLAC", ".ogg"]
    found = {}
    for index in range(count):
        for number, name in enumerate(["sad", "happy"]):
            ending = endings[index % 3]
            signal = tone(10 * index + number, 0.05 + 0.02 * index + 0.01 * number)
            found[f"{name}/speaker_{index % 2}/{index}{ending}"] = sound(
                signal, format=ending[1:].upper()
            )
    return found


Packer = Callable[[Path, dict[str, bytes]], Path]


def as_folder(place: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        path = place / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return place / "mine"


def as_zip(place: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(place / "mine.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return place / "mine.zip"


def as_tar(place: Path, content: dict[str, bytes]) -> Path:
    with tarfile.open(place / "mine.tar.gz", "w:gz") as archive:
        for name, data in reversed(content.items()):
            member = tarfile.TarInfo(f"top/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return place / "mine.tar.gz"


def speaker(name: PurePosixPath) -> int:
    return int(name.parts[1].removeprefix("speaker_"))


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar])
def test_folders(pack: Packer, tmp_path: Path) -> None:
    content = files()
    path = pack(tmp_path, content | {"readme.txt": b"hello", "sad/._0.wav": b"a Mac's"})
    data = load_audio_folder(path, features=SMALL, group=speaker, cache=False)
    names = sorted(content)
    assert data.classes == ("happy", "sad")
    assert [str(label) for label in data.labels] == [name.split("/")[0] for name in names]
    assert data.groups is not None
    assert data.lengths is not None
    assert data.groups.tolist() == [speaker(PurePosixPath(name)) for name in names]
    for row, name in enumerate(names):
        expected, frames = mfcc(*decode(content[name]), SMALL)
        np.testing.assert_array_equal(data.x[row], expected)
        assert data.lengths[row] == frames
    assert len({row.tobytes() for row in data.x}) == len(names)
    assert data.rate == 8000 / 128
    assert data.feature_names == tuple(f"MFCC {k} (dB)" for k in range(5))
    assert (data.name, data.source) == ("mine", str(path))
    assert not data.skipped
    assert not data.dropped


def test_bad_files_are_left_out_and_listed(tmp_path: Path) -> None:
    content = files()
    whole = load_audio_folder(as_zip(tmp_path, content), features=SMALL, cache=False)
    bad = {"sad/cut.wav": WAV[:999], "happy/text.mp3": b"text", "lost.wav": WAV}
    path = as_folder(tmp_path, content | bad)
    data = load_audio_folder(path, features=SMALL, cache=tmp_path / "cache")
    np.testing.assert_array_equal(data.x, whole.x)
    np.testing.assert_array_equal(data.y, whole.y)
    assert data.dropped == {"unreadable": 2, "in no class's folder": 1}
    assert len(data.skipped) == 3
    assert data.skipped[0].startswith("happy/text.mp3: ")
    assert data.skipped[1] == f"sad/cut.wav: it ends after 999 of {len(WAV):,} bytes."
    assert data.skipped[2] == "lost.wav: it lies in no class's folder."
    again = load_audio_folder(path, features=SMALL, cache=tmp_path / "cache")
    assert (again.skipped, again.dropped, again.sha256) == (data.skipped, data.dropped, data.sha256)


def test_nothing_to_read(tmp_path: Path) -> None:
    def load(content: dict[str, bytes], name: str) -> None:
        place = tmp_path / name
        place.mkdir()
        load_audio_folder(as_folder(place, content), features=SMALL, cache=False)

    with pytest.raises(ValueError, match=r"holds no recordings \(\.wav, \.flac, \.ogg, \.mp3\)"):
        load({"sad/a.txt": b"x"}, "none")
    with pytest.raises(ValueError, match=r"none of its 2 recordings can be read; the first, a/1"):
        load({"a/1.wav": b"", "b/2.ogg": OGG[:-5000]}, "corrupt")
    with pytest.raises(ValueError, match="must lie in a folder for each class"):
        load({"1.wav": WAV}, "flat")
    with pytest.raises(FileNotFoundError, match="missing is not there"):
        load_audio_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="n_jobs must be at least 1"):
        load_audio_folder(tmp_path, n_jobs=0)
    with pytest.raises(ValueError, match="group must give one type for all files, got int, str"):
        load_audio_folder(
            as_folder(tmp_path, files()),
            features=SMALL,
            cache=False,
            group=lambda name: "one" if speaker(name) else 0,
        )


def test_what_lies_behind_a_link_is_content(tmp_path: Path) -> None:
    behind = as_folder(tmp_path / "behind", files())
    folder = tmp_path / "linked"
    folder.mkdir()
    for name in ("sad", "happy"):
        (folder / name).symlink_to(behind / name)
    kept: Any = {"features": SMALL, "cache": tmp_path / "cache"}
    first = load_audio_folder(folder, **kept)
    changed = next(file for file in sorted(behind.rglob("*")) if file.suffix == ".wav")
    changed.write_bytes(sound(tone(77, 0.1)))
    second = load_audio_folder(folder, **kept)
    assert first.sha256 != second.sha256
    assert second.sha256 == load_audio_folder(folder, features=SMALL, cache=False).sha256


def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    path = as_zip(tmp_path, files(10) | {"sad/cut.flac": FLAC[:-9]})
    one = load_audio_folder(path, features=SMALL, cache=False, n_jobs=1)
    two = load_audio_folder(path, features=SMALL, cache=False, n_jobs=2)
    assert two.sha256 == one.sha256
    assert two.skipped == one.skipped
    # An archive that breaks off while processes work on it is an error, not a wait for ever.
    content = path.read_bytes()
    at = content.index(FLAC[:-9]) + 50
    path.write_bytes(content[:at] + bytes(20) + content[at + 20 :])
    with pytest.raises(ValueError, match=r"mine\.zip is not a whole zip archive, at sad/cut\.flac"):
        load_audio_folder(path, features=SMALL, cache=False, n_jobs=2)


def test_a_tar_with_a_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.tar"
    with tarfile.open(path, "w") as archive:
        for seed in (1, 2):
            content = sound(tone(seed))
            member = tarfile.TarInfo("sad/a.wav")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data = load_audio_folder(path, features=SMALL, cache=False)
    assert len(data) == 1
    np.testing.assert_array_equal(data.x[0], mfcc(*decode(sound(tone(2))), SMALL)[0])


# ---------------------------------------------------------------- what is kept


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The places that features were computed for."""
    found: list[Path] = []
    compute = recordings._compute

    def counted(path: Path, *rest: Any) -> recordings.Recordings:
        found.append(path)
        return compute(path, *rest)

    monkeypatch.setattr(recordings, "_compute", counted)
    return found


@pytest.mark.parametrize("pack", [as_folder, as_tar])
def test_a_second_load_computes_nothing(
    pack: Packer, computed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXLSTM_DATA", str(tmp_path / "data"))
    content = files()
    path = pack(tmp_path, content)
    first = load_audio_folder(path, features=SMALL)
    assert [file.parent for file in tmp_path.rglob("*.npz")] == [tmp_path / "data" / "cache"]
    monkeypatch.setitem(sys.modules, "librosa", None)  # not needed for it
    second = load_audio_folder(path, features=SMALL)
    assert len(computed) == 1
    assert second.sha256 == first.sha256
    assert second.x.dtype == first.x.dtype
    monkeypatch.undo()
    # At another place the same content is known, whatever its files' dates.
    (tmp_path / "other").mkdir()
    moved = path.rename(tmp_path / "other" / path.name)
    os.utime(moved, (1, 1))
    assert load_audio_folder(moved, features=SMALL, cache=tmp_path / "data" / "cache").sha256
    assert len(computed) == 1


def test_what_is_computed_anew(
    computed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = files()
    path = as_folder(tmp_path, content)
    place = tmp_path / "cache"

    def load(features: MFCC = SMALL) -> np.ndarray:
        return load_audio_folder(path, features=features, cache=place).x

    before = load()
    load(MFCC(n_mfcc=5, length=7, rate=8000, hop_length=128, n_fft=256, n_mels=20))
    assert len(computed) == 2
    name = sorted(content)[0]
    replaced = sound(tone(99, 0.05))
    date = (path / name).stat()
    (path / name).write_bytes(replaced)
    os.utime(path / name, ns=(date.st_atime_ns, date.st_mtime_ns))
    after = load()  # content counts, not the date
    assert len(computed) == 3
    assert not np.array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1:], before[1:])
    (path / name).rename(path / "sad" / "new.wav")  # the name is the label
    assert not np.array_equal(load(), after)
    assert len(computed) == 4
    version = recordings.importlib.metadata.version
    monkeypatch.setattr(
        recordings.importlib.metadata,
        "version",
        lambda library: "99" if library == "numpy" else version(library),
    )
    load()
    assert len(computed) == 5
    load_audio_folder(path, features=SMALL, cache=False)
    assert len(computed) == 6
    assert len(list(place.iterdir())) == 5


def test_a_damaged_file_is_never_believed(tmp_path: Path, computed: list[Path]) -> None:
    path, place = as_zip(tmp_path, files()), tmp_path / "cache"
    right = load_audio_folder(path, features=SMALL, cache=place).sha256
    (kept,) = place.iterdir()
    content = kept.read_bytes()
    rng = np.random.default_rng(0)

    def check(damaged: bytes, *, found: bool = True) -> None:
        kept.write_bytes(damaged)
        before = len(computed)
        assert load_audio_folder(path, features=SMALL, cache=place).sha256 == right
        assert not found or len(computed) == before + 1
        assert kept.read_bytes() == content or not found

    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        check(content[:length])
    check(bytes(len(content)))
    for start in rng.integers(0, len(content), 12):
        junk = rng.bytes(8)
        check(content[:start] + junk + content[start + 8 :], found=False)
    # One bit, anywhere: the same numbers whether or not it is one that matters.
    for start in rng.integers(0, len(content), 60):
        flipped = bytearray(content)
        flipped[start] ^= 1 << rng.integers(8)
        check(bytes(flipped), found=False)
    # Another data set's features under this name, and arrays of Python objects.
    folder = as_folder(tmp_path, files(4))
    load_audio_folder(folder, features=SMALL, cache=place)
    (other,) = set(place.iterdir()) - {kept}
    check(other.read_bytes())
    pickled = io.BytesIO()
    np.savez(pickled, key=np.array(kept.stem), x=np.array([{}], dtype=object))
    check(pickled.getvalue())


def test_a_write_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, place = as_zip(tmp_path, files()), tmp_path / "cache"

    def broken(file: Any, **arrays: np.ndarray) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(KeyboardInterrupt):
        load_audio_folder(path, features=SMALL, cache=place)
    assert not list(place.iterdir())

    def full(file: Any, **arrays: np.ndarray) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match=r"cache can't be written to \(No space left on device\)"):
        data = load_audio_folder(path, features=SMALL, cache=place)
    assert len(data) == 6
    assert not list(place.iterdir())


def test_no_cache_folder_can_be_made(tmp_path: Path) -> None:
    path = as_zip(tmp_path, files())
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="are not kept for the next time"):
        assert len(load_audio_folder(path, features=SMALL, cache=tmp_path / "file" / "cache")) == 6


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.cache_folder(False) is None
    assert cache.cache_folder("~/x") == Path.home() / "x"
    monkeypatch.setenv("JAXLSTM_DATA", str(tmp_path))
    assert cache.cache_folder(True) == tmp_path / "cache"


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.text("ab/", min_size=1, max_size=4), st.binary(max_size=3)), max_size=4)
)
def test_folders_of_other_content_have_other_hashes(content: list[tuple[str, bytes]]) -> None:
    """Names and contents don't run into each other."""
    with tempfile.TemporaryDirectory() as place:
        first, second = Path(place) / "1", Path(place) / "2"
        for folder, shift in ((first, 0), (second, 1)):
            folder.mkdir()
            for index, (name, data) in enumerate(content):
                text = name.replace("/", "-")
                # The second holds the same bytes in a row, parted elsewhere.
                whole = text.encode() + data
                cut = max(1, len(text) - shift)
                (folder / f"{index}{whole[:cut].decode()}").write_bytes(whole[cut:])
        same = [path.name for path in sorted(first.iterdir())] == [
            path.name for path in sorted(second.iterdir())
        ]

        def hashed(folder: Path) -> str:
            return cache.content_hash(folder, lambda name: True)

        assert (hashed(first) == hashed(second)) == same
        assert hashed(first) == hashed(first)


def test_librosa_comes_without_warnings_and_only_when_it_is_needed() -> None:
    program = """
import sys
import numpy as np
from jaxlstm.data.audio import mfcc
from jaxlstm.data.ravdess import load_ravdess
assert not {"librosa", "soundfile", "numba", "pooch", "jax"} & set(sys.modules)
mfcc(np.ones(9), 8000)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
