"""Raw files -> arrays."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxlstm.data.arrays import from_arrays, load_arrays
    from jaxlstm.data.audio import MFCC, mfcc
    from jaxlstm.data.digits import load_digits
    from jaxlstm.data.duplicates import find_duplicates
    from jaxlstm.data.emnist import load_emnist
    from jaxlstm.data.faces import load_faces
    from jaxlstm.data.images import load_image_folder
    from jaxlstm.data.ravdess import load_ravdess
    from jaxlstm.data.recordings import load_audio_folder
    from jaxlstm.data.sequences import SequenceData
    from jaxlstm.data.tables import load_table
    from jaxlstm.data.tfds import from_tfds
    from jaxlstm.data.windows import sliding_windows
    from jaxlstm.data.wisdm import load_wisdm, read_wisdm

# Read on first use: a process that decodes sound needs no scikit-learn.
_HOMES = {
    "MFCC": "audio",
    "SequenceData": "sequences",
    "find_duplicates": "duplicates",
    "from_arrays": "arrays",
    "from_tfds": "tfds",
    "load_arrays": "arrays",
    "load_audio_folder": "recordings",
    "load_digits": "digits",
    "load_emnist": "emnist",
    "load_faces": "faces",
    "load_image_folder": "images",
    "load_ravdess": "ravdess",
    "load_table": "tables",
    "load_wisdm": "wisdm",
    "mfcc": "audio",
    "read_wisdm": "wisdm",
    "sliding_windows": "windows",
}

__all__ = [
    "MFCC",
    "SequenceData",
    "find_duplicates",
    "from_arrays",
    "from_tfds",
    "load_arrays",
    "load_audio_folder",
    "load_digits",
    "load_emnist",
    "load_faces",
    "load_image_folder",
    "load_ravdess",
    "load_table",
    "load_wisdm",
    "mfcc",
    "read_wisdm",
    "sliding_windows",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"jaxlstm.data.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'jaxlstm.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
