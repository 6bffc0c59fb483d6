"""Sound -> features: one recording's bytes to samples, and its samples to MFCC."""

from __future__ import annotations

import dataclasses
import io
import warnings
from typing import Any, Literal

import numpy as np

#: A longer recording is refused: a few bytes may claim, or hold, hours of silence.
MINUTES = 10
#: Sampling rates beyond these are damage, in Hz.
RATES = (1_000, 192_000)


def _check(name: str, value: Any, good: bool, allowed: str) -> None:
    if not good:
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_window(name: str) -> bool:
    if name == "hann":
        return True
    from scipy.signal import get_window

    try:
        get_window(name, 8)
    except ValueError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class MFCC:
    """How mel-frequency cepstral coefficients are computed: librosa's names and defaults.

    A recording of ``n`` samples has ``1 + n // hop_length`` frames.

    Attributes:
      n_mfcc: how many coefficients.
      dct_type: 1, 2 or 3.
      length: frames; a longer recording is cut, a shorter one padded with zeros.
      rate: sampling rate that a recording is brought to before anything else, in Hz.
      hop_length: samples from one frame to the next.
      n_fft: samples of a frame.
      win_length: samples of the window, ``n_fft`` by default.
      window: its name in ``scipy.signal.get_window``.
      center: a frame is centred at its sample; if False it begins there.
      power: of the spectrum's magnitude.
      n_mels: mel bands.
      fmin: the lowest frequency, in Hz.
      fmax: the highest, in Hz; ``rate / 2`` by default.
      htk: HTK's mel scale instead of Slaney's.
      mel_norm: "slaney": bands of equal area; None: of height 1.
      norm: "ortho": an orthonormal DCT; None: scipy's plain one.
      lifter: liftering where it is above 0.

    References:
      B. McFee et al. (2015), librosa: audio and music signal analysis in Python,
      doi:10.25080/Majora-7b98e3ed-003.
    """

    n_mfcc: int = 32
    dct_type: int = 2
    length: int = 256
    rate: int = 22_050
    hop_length: int = 512
    n_fft: int = 2048
    win_length: int | None = None
    window: str = "hann"
    center: bool = True
    power: float = 2.0
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    mel_norm: Literal["slaney"] | None = "slaney"
    norm: Literal["ortho"] | None = "ortho"
    lifter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_mfcc", "length", "rate", "hop_length", "n_fft", "n_mels"):
            _check(name, getattr(self, name), _whole(getattr(self, name)), "a whole number above 0")
        _check("n_mfcc", self.n_mfcc, self.n_mfcc <= self.n_mels, f"at most n_mels = {self.n_mels}")
        _check("dct_type", self.dct_type, self.dct_type in (1, 2, 3), "1, 2 or 3")
        low, high = RATES
        _check("rate", self.rate, low <= self.rate <= high, f"from {low} to {high} Hz")
        win = self.win_length
        fits = win is None or (_whole(win) and win <= self.n_fft)
        _check("win_length", win, fits, f"None or a whole number from 1 to n_fft = {self.n_fft}")
        _check("window", self.window, _is_window(self.window), "a window of scipy.signal")
        _check("power", self.power, self.power > 0, "above 0")
        _check("fmin", self.fmin, 0 <= self.fmin < self.rate / 2, "at least 0 and below rate / 2")
        top = self.rate / 2
        inside = self.fmax is None or self.fmin < self.fmax <= top
        _check("fmax", self.fmax, inside, f"None or above fmin and at most rate / 2 = {top:g}")
        _check("mel_norm", self.mel_norm, self.mel_norm in ("slaney", None), "'slaney' or None")
        _check("norm", self.norm, self.norm in ("ortho", None), "'ortho' or None")
        _check("lifter", self.lifter, self.lifter >= 0, "at least 0")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients, ``[n_mfcc]``."""
        return tuple(f"MFCC {index} (dB)" for index in range(self.n_mfcc))

    @property
    def frame_rate(self) -> float:
        """Frames a second, in Hz."""
        return self.rate / self.hop_length


DEFAULT = MFCC()


def decode(content: bytes) -> tuple[np.ndarray, int]:
    """Decodes a sound file.

    Args:
      content: of a wav, flac, ogg or mp3 file.

    Returns:
      The mean of its channels, ``[n]`` as float32 in [-1, 1], and the sampling rate in Hz.

    Raises:
      ImportError: soundfile is not installed.
      ValueError: not sound, damaged, cut off, empty, longer than 10 minutes, or of a sampling rate
        that nothing records at.
    """
    soundfile = _soundfile()
    _check_whole(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, frames = file.samplerate, file.frames
            low, high = RATES
            if not low <= rate <= high:
                raise ValueError(f"its sampling rate is {rate} Hz, not from {low} to {high}")
            # Read in blocks: memory is taken for what is there, not for what the header claims.
            blocks, held = [], 0
            while len(block := file.read(1 << 16, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1, dtype=np.float32))
                held += len(block)
                if held > MINUTES * 60 * rate:
                    raise ValueError(f"it is longer than {MINUTES} minutes: cut it into parts")
    except soundfile.LibsndfileError as error:
        raise ValueError(error.error_string.removeprefix("Error : ").rstrip(".")) from error
    if not held:
        raise ValueError("it is empty")
    if held != frames:
        raise ValueError(f"it ends after {held:,} of {frames:,} samples")
    signal = np.concatenate(blocks)
    if not np.isfinite(signal).all():
        raise ValueError("it holds samples that are not finite")
    return signal, rate


def mfcc(signal: np.ndarray, rate: int, options: MFCC = DEFAULT) -> tuple[np.ndarray, int]:
    """Computes a recording's mel-frequency cepstral coefficients, by librosa.

    Loudness is floored at 80 dB under the loudest place of the whole recording, the part that is
    cut off included, as librosa does.

    Args:
      signal: samples, ``[n]``.
      rate: sampling rate, in Hz; another than the options' is brought to theirs by soxr.
      options: what to compute.

    Returns:
      The coefficients, ``[length, n_mfcc]`` as float32, in dB, and how many of the frames are the
      recording's, the rest being zeros.

    Raises:
      ImportError: librosa is not installed.
      ValueError: samples that are not one row of finite numbers, or fewer than a frame's where
        frames are not centred.
    """
    librosa = _librosa()
    signal = np.asarray(signal, np.float32)
    if signal.ndim != 1 or not len(signal) or not np.isfinite(signal).all():
        raise ValueError(f"signal must be one row of finite numbers, got shape {signal.shape}")
    if rate != options.rate:
        signal = librosa.resample(signal, orig_sr=rate, target_sr=options.rate, res_type="soxr_hq")
    if not options.center and len(signal) < options.n_fft:
        raise ValueError(f"it has {len(signal):,} samples, fewer than a frame's {options.n_fft:,}")
    given = dataclasses.asdict(options)
    length, sr = given.pop("length"), given.pop("rate")
    with warnings.catch_warnings():
        # A recording shorter than a frame is padded with zeros like the ends of any other.
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        coefficients = librosa.feature.mfcc(y=signal, sr=sr, **given).T[:length]
    features = np.zeros((length, options.n_mfcc), np.float32)
    features[: len(coefficients)] = coefficients
    return features, len(coefficients)


def _check_whole(content: bytes) -> None:
    """Finds the cut ends that libsndfile passes over: it reads what is left."""
    if content[:4] == b"RIFF":
        said = int.from_bytes(content[4:8], "little") + 8
        # A program that writes into a pipe can't know the size, and says 0 or the most there is.
        if len(content) < said < 0x7FFFF000:
            raise ValueError(f"it ends after {len(content):,} of {said:,} bytes")
    elif content[:4] == b"OggS":
        last = content.rfind(b"OggS")
        if not content[last + 5 : last + 6] or not content[last + 5] & 4:
            raise ValueError("it is cut off: its last page is missing")


def _librosa() -> Any:
    try:
        import librosa
        import librosa.feature
    except ImportError as error:
        raise ImportError('Audio features need librosa: pip install "jaxlstm[audio]".') from error
    return librosa


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: there is no libsndfile
        raise ImportError(
            'Sound files are read by soundfile: pip install "jaxlstm[audio]".'
        ) from error
    return soundfile
