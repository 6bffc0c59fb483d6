"""WISDM: activities of people who carry a phone or wear a watch, at 20 Hz."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from jaxlstm.data.download import fetch
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.windows import sliding_windows
from jaxlstm.data.wisdm_rows import ACTIVITIES, listed, read_wisdm

__all__ = ["ACTIVITIES", "load_wisdm", "read_wisdm"]

UNITS = {"accel": "m/s2", "gyro": "rad/s"}
URL_1_1 = "https://www.cis.fordham.edu/wisdm/includes/datasets/latest/WISDM_ar_latest.tar.gz"
# Its authors publish none; two independent studies that name theirs agree on this one.
SHA256_1_1 = "sha256:e573791269aab4a629721cf04b6031b7cbf8e14261cd2bc86e65887a2bc592d7"
BYTES_1_1 = 11_404_612
URL_2019 = (
    "https://archive.ics.uci.edu/static/public/507/"
    "wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip"
)


def load_wisdm(
    path: str | Path | None = None,
    *,
    window: int = 200,
    stride: int = 20,
    label: Literal["majority", "last"] = "majority",
    max_gap: float = 1.0,
    across_activities: bool = False,
    release: Literal["1.1", "2019"] = "1.1",
    device: Literal["phone", "watch"] = "phone",
    sensor: Literal["accel", "gyro"] = "accel",
    folder: str | Path | None = None,
) -> SequenceData:
    """Loads WISDM's raw text as labelled windows ``[N, window, 3]``, grouped by person.

    A person's rows are taken in the order of the file, those of others aside. They are one
    recording as long as the clock goes on: where it goes back, or leaps by more than ``max_gap``,
    another begins, and no window holds rows of two. Neither, unless ``across_activities``, does one
    hold two activities: such a window has no right label. A clock that stands still for a row is
    kept; a row that repeats an earlier one of the same person whole, time included, is a copy and is
    dropped; so is one with a timestamp of 0, which nobody can place in time. What ``read_wisdm``
    drops leaves a hole of one step, which a recording survives.

    ``dropped`` counts every row that is in no window, by reason; with the rows that are in one
    these are all rows of the file.

    Args:
      path: the raw text, plain or gzipped; ``WISDM_ar_latest.tar.gz``; the 2019 release's zip; or a
        folder with either release. None: download it.
      window: rows in a window; 20 are one second.
      stride: rows from one window's start to the next one's.
      label: of a window with several activities: the most frequent (of equally frequent ones the
        first in ``ACTIVITIES``), or the last row's.
      max_gap: longest time from one row to the next within a recording, in seconds.
      across_activities: whether a window may hold several activities.
      release: which to download. For 1.1, the archive's SHA-256 is the one that two independent
        studies report, its authors publishing none; for 2019 no checksum is published, and the
        archive's own ones are relied on.
      device: of the 2019 release, which has both.
      sensor: of the 2019 release, which has both: acceleration in m/s2, or turning in rad/s.
      folder: that downloads are kept in; see ``jaxlstm.data.download.data_folder``.

    Raises:
      FileNotFoundError: nothing is there, or no raw text of WISDM in it.
      ValueError: a damaged file, one without a readable row, one without a window, or an option
        outside its range.
      OSError: no download; the sentence says how to place the file by hand.

    References:
      Kwapisz, Weiss and Moore, "Activity Recognition using Cell Phone Accelerometers", SensorKDD
      2010 (release 1.1). Weiss, Yoneda and Hayajneh, "Smartphone and Smartwatch-Based Biometrics
      Using Activities of Daily Living", IEEE Access 7, 2019, doi 10.24432/C5HK59 (2019).
    """
    path = _download(release, folder) if path is None else Path(path)
    table, dropped = read_wisdm(path, device=device, sensor=sensor)
    left_out = Counter(dropped)
    timeless = (table["timestamp"] == 0).to_numpy()
    copies = _copies(table, timeless)
    left_out["timestamp of 0"] = int(timeless.sum())
    left_out["copy of an earlier row"] = int(copies.sum())
    keep = ~(timeless | copies)
    if not keep.all():
        table = table[keep]
    cut = sliding_windows(
        table[["x", "y", "z"]].to_numpy(),
        table["activity"].cat.codes.to_numpy(),
        table["user"].to_numpy(),
        table["timestamp"].to_numpy(),
        window=window,
        stride=stride,
        max_gap=max_gap * 1e9,
        label=label,
        across_labels=across_activities,
    )
    left_out["in no window"] = int((~cut.used).sum())
    if not len(cut.y):
        raise ValueError(
            f"{path}: no recording of one person is {window} rows long; rows left out:"
            f" {listed(left_out)}."
        )
    present, y = np.unique(cut.y, return_inverse=True)
    return SequenceData(
        cut.x,
        y.astype(np.int32),
        tuple(ACTIVITIES[code] for code in present),
        "wisdm",
        str(path),
        groups=cut.groups,
        dropped={reason: count for reason, count in left_out.items() if count},
        feature_names=tuple(f"{axis} ({UNITS[sensor]})" for axis in "xyz"),
        rate=20.0,
    )


def _download(release: str, folder: str | Path | None) -> Path:
    if release == "1.1":
        return fetch("WISDM_ar_latest.tar.gz", URL_1_1, SHA256_1_1, folder=folder, size=BYTES_1_1)
    if release == "2019":
        return fetch("wisdm_2019.zip", URL_2019, None, folder=folder, check=_check_zip)
    raise ValueError(f"release must be '1.1' or '2019', got {release!r}.")


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):  # its directory is at the end
        raise ValueError("not a whole zip archive")


def _copies(table: pd.DataFrame, timeless: np.ndarray) -> np.ndarray:
    """Rows that repeat an earlier one of the same person; none where the clock only goes on."""
    copies = np.zeros(len(table), bool)
    user, time = table["user"].to_numpy(), table["timestamp"].to_numpy()
    order = np.argsort(user, kind="stable")
    order = order[~timeless[order]]
    user, time = user[order], time[order]
    halts = (user[1:] == user[:-1]) & (time[1:] <= time[:-1])
    if halts.any():
        rows = np.sort(order[np.isin(user, user[1:][halts])])
        copies[rows] = table.iloc[rows].duplicated().to_numpy()
    return copies
