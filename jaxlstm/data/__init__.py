"""Raw files -> arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxlstm._lazy import attach

if TYPE_CHECKING:
    from jaxlstm.data.airline import load_airline
    from jaxlstm.data.arrays import from_arrays, load_arrays
    from jaxlstm.data.audio import MFCC, mfcc
    from jaxlstm.data.digits import load_digits
    from jaxlstm.data.duplicates import find_duplicates
    from jaxlstm.data.emnist import load_emnist
    from jaxlstm.data.faces import load_faces
    from jaxlstm.data.forecast import ForecastWindows, forecast_windows
    from jaxlstm.data.forecast_measures import (
        forecast_errors,
        mase,
        naive_forecast,
        rmse,
        seasonal_naive_forecast,
        smape,
    )
    from jaxlstm.data.forecast_split import ForecastSplit
    from jaxlstm.data.images import load_image_folder
    from jaxlstm.data.ravdess import load_ravdess
    from jaxlstm.data.recordings import load_audio_folder
    from jaxlstm.data.sequences import SequenceData
    from jaxlstm.data.tables import load_table
    from jaxlstm.data.tfds import from_tfds
    from jaxlstm.data.ts import load_ts
    from jaxlstm.data.windows import sliding_windows
    from jaxlstm.data.wisdm import load_wisdm, read_wisdm

# Read on first use: a process that decodes sound needs no scikit-learn.
_HOMES = {
    "MFCC": "jaxlstm.data.audio",
    "ForecastSplit": "jaxlstm.data.forecast_split",
    "ForecastWindows": "jaxlstm.data.forecast",
    "SequenceData": "jaxlstm.data.sequences",
    "find_duplicates": "jaxlstm.data.duplicates",
    "forecast_errors": "jaxlstm.data.forecast_measures",
    "forecast_windows": "jaxlstm.data.forecast",
    "from_arrays": "jaxlstm.data.arrays",
    "from_tfds": "jaxlstm.data.tfds",
    "load_airline": "jaxlstm.data.airline",
    "load_arrays": "jaxlstm.data.arrays",
    "load_audio_folder": "jaxlstm.data.recordings",
    "load_digits": "jaxlstm.data.digits",
    "load_emnist": "jaxlstm.data.emnist",
    "load_faces": "jaxlstm.data.faces",
    "load_image_folder": "jaxlstm.data.images",
    "load_ravdess": "jaxlstm.data.ravdess",
    "load_table": "jaxlstm.data.tables",
    "load_ts": "jaxlstm.data.ts",
    "load_wisdm": "jaxlstm.data.wisdm",
    "mase": "jaxlstm.data.forecast_measures",
    "mfcc": "jaxlstm.data.audio",
    "naive_forecast": "jaxlstm.data.forecast_measures",
    "read_wisdm": "jaxlstm.data.wisdm",
    "rmse": "jaxlstm.data.forecast_measures",
    "seasonal_naive_forecast": "jaxlstm.data.forecast_measures",
    "sliding_windows": "jaxlstm.data.windows",
    "smape": "jaxlstm.data.forecast_measures",
}

__all__ = [
    "MFCC",
    "ForecastSplit",
    "ForecastWindows",
    "SequenceData",
    "find_duplicates",
    "forecast_errors",
    "forecast_windows",
    "from_arrays",
    "from_tfds",
    "load_airline",
    "load_arrays",
    "load_audio_folder",
    "load_digits",
    "load_emnist",
    "load_faces",
    "load_image_folder",
    "load_ravdess",
    "load_table",
    "load_ts",
    "load_wisdm",
    "mase",
    "mfcc",
    "naive_forecast",
    "read_wisdm",
    "rmse",
    "seasonal_naive_forecast",
    "sliding_windows",
    "smape",
]


__getattr__, __dir__ = attach(__name__, _HOMES)
