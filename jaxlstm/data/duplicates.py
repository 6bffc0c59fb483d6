"""Identical rows: a data set's own repetitions, and what leaks from one of its parts to another."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from jaxlstm.data.sequences import SequenceData


def find_duplicates(parts: Mapping[str, SequenceData]) -> pd.DataFrame:
    """Finds rows of ``x`` that are equal in every value.

    Args:
      parts: of a data set, by their names.

    Returns:
      A line for each row that is not alone, with the columns ``group`` (equal rows have the same
      number), ``part``, ``row`` (its index there) and ``label``.
    """
    places = collections.defaultdict(list)
    for part, data in parts.items():
        for row, digest in enumerate(_digests(data.x)):
            places[digest].append((part, row, data.classes[data.y[row]]))
    groups = [found for found in places.values() if len(found) > 1]
    lines = [(number, *place) for number, found in enumerate(groups) for place in found]
    table = pd.DataFrame(lines, columns=["group", "part", "row", "label"])
    return table.astype({"group": int, "row": int, "part": str, "label": str})


def count_duplicates(table: pd.DataFrame) -> dict[str, int]:
    """Counts what ``find_duplicates`` found.

    Returns:
      How many ``groups`` of equal rows there are, how many rows are in them beyond the first of
      each (``surplus``), how many groups lie ``across`` parts, and how many have ``conflicting``
      labels.
    """
    groups = table.groupby("group")
    return {
        "groups": groups.ngroups,
        "surplus": len(table) - groups.ngroups,
        "across": int((groups["part"].nunique() > 1).sum()),
        "conflicting": int((groups["label"].nunique() > 1).sum()),
    }


def _digests(x: np.ndarray) -> list[bytes]:
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
