"""Augmentation of training rows on the device: another change for every row, epoch and trial.

Estimators take them as ``augment=(RandomFlip(), RandomZoom(0.2))``, or any hashable callable of your
own that maps a random key and one row to a row.
"""

from jaxlstm.train.augment.audio import FrequencyMask, Noise, TimeMask
from jaxlstm.train.augment.base import (
    Affine,
    Augmentation,
    Augmentations,
    augment_row,
    augment_rows,
    checked,
)
from jaxlstm.train.augment.images import (
    RandomBrightness,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomShear,
    RandomShift,
    RandomZoom,
)
from jaxlstm.train.augment.sensors import Jitter, Rotation, Scaling, TimeWarp, WindowSlice

__all__ = [
    "Affine",
    "Augmentation",
    "Augmentations",
    "FrequencyMask",
    "Jitter",
    "Noise",
    "RandomBrightness",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomShear",
    "RandomShift",
    "RandomZoom",
    "Rotation",
    "Scaling",
    "TimeMask",
    "TimeWarp",
    "WindowSlice",
    "augment_row",
    "augment_rows",
    "checked",
]
