"""The recordings behind some rows of MFCC, read again to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxlstm.data import SequenceData
from jaxlstm.data.archives import members


def waveform_reader(
    data: SequenceData, path: Path, features: Any = None
) -> Callable[[Sequence[int]], Mapping[int, tuple[np.ndarray, float]]]:
    """Returns a function that reads the recordings behind some rows.

    A row does not say which file it is from: it is the one at the row's place among the readable
    files by name. What is read must give the row's own coefficients again, or it is not returned.

    Args:
      data: rows ``[N, T, n_mfcc]``, as the loaders of recordings give them.
      path: of the folder or archive that they are from.
      features: the ``MFCC`` options that they were computed with; by default the loaders' own.

    Returns:
      From some rows to each one's samples ``[n]`` and their rate in Hz.
    """
    from jaxlstm.data.audio import DEFAULT, decode, mfcc
    from jaxlstm.data.recordings import is_recording

    options = DEFAULT if features is None else features

    def read(rows: Sequence[int]) -> dict[int, tuple[np.ndarray, float]]:
        unread = {sentence.partition(": ")[0] for sentence in data.skipped}
        names: set[str] = set()

        def collect(name: PurePosixPath) -> bool:
            if is_recording(name) and str(name) not in unread:
                names.add(str(name))
            return False

        for _ in members(path, collect):
            pass
        if len(names) != len(data):
            return {}
        places = dict(enumerate(sorted(names)))
        wanted = {places[row]: row for row in rows}
        found = {}
        for name, content in members(path, lambda name: str(name) in wanted):
            row = wanted[str(name)]
            signal, rate = decode(content)
            again, _ = mfcc(signal, rate, options)
            if again.shape == data.x[row].shape and np.allclose(again, data.x[row], atol=1e-2):
                found[row] = (signal, float(rate))
        return found

    return read
