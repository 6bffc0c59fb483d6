"""Folders and archives of recordings -> features, in several processes and kept by content."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxlstm.data import cache as store
from jaxlstm.data.archives import members
from jaxlstm.data.audio import DEFAULT, MFCC, decode, mfcc
from jaxlstm.data.sequences import SequenceData

#: Endings of the files that are taken for recordings.
ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
#: Whatever could change a number of the features; FORMAT counts the changes of this file and audio.py.
LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "soxr")
FORMAT = 1
#: A process takes about 2.5 s to start, as long as 400 recordings of 5 s take: each gets so many bytes.
BYTES_A_PROCESS = 64 << 20
MOST_PROCESSES = 8


class Recordings(NamedTuple):
    """Features of the recordings that could be read, in the order of their names."""

    names: tuple[str, ...]  # of the files, relative to the folder or archive
    x: np.ndarray  # [N, length, n_mfcc], float32
    lengths: np.ndarray  # [N], int32: frames that are not padding
    bad: dict[str, str]  # name of a file that could not be read -> why


def is_recording(name: PurePosixPath) -> bool:
    """Tells a recording by its ending; a Mac's "._" companions of files are none."""
    return name.suffix.lower() in ENDINGS and not name.name.startswith("._")


def load_audio_folder(
    path: str | Path,
    *,
    features: MFCC = DEFAULT,
    group: Callable[[PurePosixPath], Hashable] | None = None,
    cache: bool | str | Path = True,
    n_jobs: int | None = None,
) -> SequenceData:
    """Loads the user's own recordings: a folder, zip or tar with a sub-folder for each class.

    The features are raw, not standardised: means and deviations are for the training part alone to
    give, and the estimators' ``standardize=True`` takes them there.

    Args:
      path: with files ``<class>/*.wav``, ``.flac``, ``.ogg`` or ``.mp3``, at any depth below the
        class. An archive may hold all of it in one folder more.
      features: what to compute.
      group: says of a file's name, from the class on, who is heard; by default nobody knows.
      cache: True keeps the features in the folder of downloads, which the environment variable
        JAXLSTM_DATA names; or a folder for them; False for none. They are found again by the
        files' content, the options and the libraries' versions.
      n_jobs: processes; by default one a core where there are enough files to pay for their start.

    Returns:
      ``x [N, length, n_mfcc]``, with ``lengths`` in frames and ``rate`` in frames a second. Files
      that could not be read are in ``skipped`` and counted in ``dropped``.

    Raises:
      ImportError: librosa or soundfile is not installed.
      FileNotFoundError: nothing is there.
      ValueError: a damaged archive; no recordings, or none that can be read.
    """
    path = Path(path)
    found = extract(path, is_recording, features, cache=cache, n_jobs=n_jobs)
    inner = _without_top(path, [*found.names, *found.bad])
    keep = [index for index, name in enumerate(found.names) if len(inner[name].parts) > 1]
    homeless = [name for name in found.names if len(inner[name].parts) < 2]
    if not keep:
        raise ValueError(f"{path}: its recordings must lie in a folder for each class.")
    names = [inner[found.names[index]] for index in keep]
    classes, y = np.unique([name.parts[0] for name in names], return_inverse=True)
    return SequenceData(
        found.x[keep],
        y.astype(np.int32),
        tuple(str(name) for name in classes),
        path.resolve().name if path.is_dir() else path.stem.removesuffix(".tar"),
        str(path),
        groups=None if group is None else _groups([group(name) for name in names]),
        lengths=found.lengths[keep],
        dropped=counts({"unreadable": len(found.bad), "in no class's folder": len(homeless)}),
        skipped=(
            *(f"{name}: {reason}." for name, reason in found.bad.items()),
            *(f"{name}: it lies in no class's folder." for name in homeless),
        ),
        feature_names=features.names,
        rate=features.frame_rate,
    )


def extract(
    path: Path,
    wanted: Callable[[PurePosixPath], bool],
    features: MFCC,
    *,
    rule: str = "recordings",
    cache: bool | str | Path = True,
    n_jobs: int | None = None,
) -> Recordings:
    """Computes the features of the wanted recordings of a folder or archive, or finds them again.

    Args:
      path: of the folder, zip or tar.
      wanted: says of a file's relative name whether to read it.
      features: what to compute.
      rule: a name for ``wanted``, by which its choice of files is told from another's.
      cache: see ``load_audio_folder``.
      n_jobs: see ``load_audio_folder``.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: a damaged archive; no such recordings, or none that can be read; ``n_jobs`` below 1.
    """
    if n_jobs is not None and n_jobs < 1:
        raise ValueError(f"n_jobs must be at least 1, or None, got {n_jobs}.")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: give a folder, zip or tar of recordings.")
    folder = store.cache_folder(cache)
    key = ""
    if folder is not None:
        key = _key(store.content_hash(path, wanted), rule, features)
        arrays = store.load(folder, key)
        found = None if arrays is None else _unpack(arrays, features)
        if found is not None:
            return found
    found = _compute(path, wanted, features, n_jobs)
    if folder is not None:
        store.store(folder, key, _pack(found))
    return found


def counts(dropped: dict[str, int]) -> dict[str, int]:
    """The reasons that occurred."""
    return {reason: count for reason, count in dropped.items() if count}


def _compute(
    path: Path, wanted: Callable[[PurePosixPath], bool], features: MFCC, n_jobs: int | None
) -> Recordings:
    names: list[str] = []
    broken: list[Exception] = []

    def contents() -> Iterator[bytes]:
        try:
            for name, content in members(path, wanted):
                names.append(str(name))
                yield content
        except (OSError, ValueError) as error:
            broken.append(error)  # joblib would wait for ever for a task that can't be made

    results = list(_run(contents(), features, n_jobs or _processes(path, wanted)))
    if broken:
        raise broken[0]
    if not names:
        raise ValueError(f"{path} holds no recordings ({', '.join(ENDINGS)}).")
    # A tar may hold a name twice, and then, as when it is unpacked, the last one counts.
    by_name = dict(zip(names, results, strict=True))
    bad = {name: found for name in sorted(by_name) if isinstance(found := by_name[name], str)}
    good = [name for name in sorted(by_name) if name not in bad]
    if not good:
        name, reason = next(iter(bad.items()))
        raise ValueError(
            f"{path}: none of its {len(bad)} recordings can be read; the first, {name}: {reason}."
        )
    x = np.zeros((len(good), features.length, features.n_mfcc), np.float32)
    lengths = np.zeros(len(good), np.int32)
    for row, name in enumerate(good):
        frames = by_name[name]
        lengths[row] = len(frames)
        x[row, : len(frames)] = frames
    return Recordings(tuple(good), x, lengths, bad)


def _run(contents: Iterable[bytes], features: MFCC, n_jobs: int) -> Iterable[np.ndarray | str]:
    """Features of each file, or why there are none; in this process or in ``n_jobs`` others."""
    if n_jobs == 1:
        from threadpoolctl import threadpool_limits

        # Products this small are slower in several threads, and far slower on a busy machine.
        with threadpool_limits(1):
            return [_features(content, features) for content in contents]
    import joblib

    # Not forks: JAX may have started its threads. Workers leave soon: each holds 0.3 GB.
    with joblib.parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=20):
        # A batch of a set size: joblib's own would grow until it holds much of the archive.
        return joblib.Parallel(n_jobs, batch_size=8, pre_dispatch="2*n_jobs")(
            joblib.delayed(_features)(content, features) for content in contents
        )


def _features(content: bytes, features: MFCC) -> np.ndarray | str:
    """A recording's frames, at most ``length``, without padding; or why there are none."""
    try:
        found, frames = mfcc(*decode(content), features)
    except ValueError as error:
        return str(error)
    return found[:frames]


def _processes(path: Path, wanted: Callable[[PurePosixPath], bool]) -> int:
    import joblib

    if path.is_dir():
        size = sum(
            file.stat().st_size
            for file in path.rglob("*")
            if wanted(PurePosixPath(file.relative_to(path).as_posix())) and file.is_file()
        )
    else:
        size = path.stat().st_size
    return max(1, min(joblib.cpu_count(), MOST_PROCESSES, size // BYTES_A_PROCESS))


def _key(content: str, rule: str, features: MFCC) -> str:
    versions = []
    for library in LIBRARIES:
        try:
            versions.append(importlib.metadata.version(library))
        except importlib.metadata.PackageNotFoundError:
            versions.append("none")
    said = json.dumps([FORMAT, content, rule, dataclasses.asdict(features), versions])
    return hashlib.sha256(said.encode()).hexdigest()


def _pack(found: Recordings) -> dict[str, np.ndarray]:
    texts = json.dumps([found.names, found.bad])
    return {"x": found.x, "lengths": found.lengths, "texts": np.frombuffer(texts.encode(), "u1")}


def _unpack(arrays: dict[str, np.ndarray], features: MFCC) -> Recordings | None:
    try:
        names, bad = json.loads(arrays["texts"].tobytes())
        x, lengths = arrays["x"], arrays["lengths"]
    except (KeyError, ValueError):
        return None
    if x.shape != (len(names), features.length, features.n_mfcc) or lengths.shape != (len(names),):
        return None
    return Recordings(tuple(names), x, lengths, bad)


def _without_top(path: Path, names: list[str]) -> dict[str, PurePosixPath]:
    """Names from the class on: an archive may hold all classes in one folder."""
    parts = {name: PurePosixPath(name) for name in names}
    while (
        not path.is_dir()
        and all(len(part.parts) > 2 for part in parts.values())
        and len({part.parts[0] for part in parts.values()}) == 1
    ):
        parts = {name: PurePosixPath(*part.parts[1:]) for name, part in parts.items()}
    return parts


def _groups(found: list[Hashable]) -> np.ndarray:
    count = collections.Counter(type(value) for value in found)
    if len(count) > 1:
        raise ValueError(
            "group must give one type for all files, got "
            + ", ".join(sorted(kind.__name__ for kind in count))
        )
    return np.asarray(found)
