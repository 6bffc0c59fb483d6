"""Raw files -> arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxlstm._lazy import attach

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
    "MFCC": "jaxlstm.data.audio",
    "SequenceData": "jaxlstm.data.sequences",
    "find_duplicates": "jaxlstm.data.duplicates",
    "from_arrays": "jaxlstm.data.arrays",
    "from_tfds": "jaxlstm.data.tfds",
    "load_arrays": "jaxlstm.data.arrays",
    "load_audio_folder": "jaxlstm.data.recordings",
    "load_digits": "jaxlstm.data.digits",
    "load_emnist": "jaxlstm.data.emnist",
    "load_faces": "jaxlstm.data.faces",
    "load_image_folder": "jaxlstm.data.images",
    "load_ravdess": "jaxlstm.data.ravdess",
    "load_table": "jaxlstm.data.tables",
    "load_wisdm": "jaxlstm.data.wisdm",
    "mfcc": "jaxlstm.data.audio",
    "read_wisdm": "jaxlstm.data.wisdm",
    "sliding_windows": "jaxlstm.data.windows",
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


__getattr__, __dir__ = attach(__name__, _HOMES)
