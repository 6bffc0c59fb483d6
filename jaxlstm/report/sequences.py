"""What a page needs of a labelled data set, whatever loaded it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd


class Sequences(Protocol):
    """What a page needs of a labelled data set: the fields of `jaxlstm.data.SequenceData`."""

    @property
    def x(self) -> np.ndarray: ...  # noqa: D102
    @property
    def y(self) -> np.ndarray: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def groups(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def lengths(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def dropped(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def skipped(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def feature_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def rate(self) -> float | None: ...  # noqa: D102
    @property
    def weight(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def target_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def per_step(self) -> bool: ...  # noqa: D102
    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    def summary(self) -> pd.DataFrame: ...  # noqa: D102


Splits = Mapping[str, Sequences]


def valid_steps(data: Sequences) -> np.ndarray:
    """Return which steps of each row are not padding, `[N, T]`."""
    if data.lengths is None:
        return np.ones(data.x.shape[:2], bool)
    return np.arange(data.x.shape[1]) < data.lengths[:, None]
