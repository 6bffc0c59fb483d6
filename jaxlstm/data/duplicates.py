"""Identical rows: a data set's own repetitions, and what leaks from one of its splits to another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from jaxlstm.data.sequences import SequenceData


def find_duplicates(splits: Mapping[str, SequenceData]) -> pd.DataFrame:
    """Finds rows of ``x`` that are the same, byte for byte, within a split and across splits.

    Args:
      splits: the data by the splits' names.

    Returns:
      One line a row that has a twin: columns ``set`` (equal for the same rows, counted from 1 in the
      order of their first rows), ``split``, ``row`` (its index in the split) and ``class``; of data
      without one class per row ``target``, the text of the row's targets, in its place.
    """
    digests: list[bytes] = []
    places = []
    for split, data in splits.items():
        kind = f"{data.x.dtype}{data.x.shape[1:]}".encode()
        for values in data.x:
            digest = hashlib.blake2b(kind, digest_size=16)
            digest.update(np.ascontiguousarray(values).data)
            digests.append(digest.digest())
        places.append(pd.DataFrame({"split": split, "row": np.arange(len(data))}))
    table = pd.concat(places, ignore_index=True)
    codes, _ = pd.factorize(np.array(digests, dtype=object))
    twins = np.bincount(codes)[codes] > 1 if len(codes) else np.zeros(0, bool)
    numbers, _ = pd.factorize(codes[twins])
    table = table[twins].reset_index(drop=True)
    table.insert(0, "set", numbers + 1)
    one_class = all(_has_one_class(data) for data in splits.values())
    table["class" if one_class else "target"] = [
        _target_text(splits[split], row)
        for split, row in zip(table["split"], table["row"], strict=True)
    ]
    return table.sort_values("set", kind="stable", ignore_index=True)


def _has_one_class(data: SequenceData) -> bool:
    return data.task == "classification" and not data.per_step


def _target_text(data: SequenceData, row: int) -> str:
    """A row's targets as text, equal where they are; padding aside."""
    y = data.y[row]
    if data.per_step and data.lengths is not None:
        y = y[: data.lengths[row]]
    if data.task == "multilabel" and not data.per_step:
        return ", ".join(np.asarray(data.classes)[y != 0].tolist())
    if data.task == "classification":
        y = np.asarray(data.classes, dtype=object)[y]
    return " ".join(map(str, np.ravel(y).tolist()))


def unseen_rows(train: SequenceData, test: SequenceData) -> np.ndarray:
    """Which rows of ``test`` no row of ``train`` equals, byte for byte: True or False, ``[N]``."""
    twins = find_duplicates({"train": train, "test": test})
    known = twins.loc[twins["split"] == "train", "set"]
    copies = twins[(twins["split"] == "test") & twins["set"].isin(known)]
    unseen = np.ones(len(test), bool)
    unseen[copies["row"].to_numpy(int)] = False
    return unseen
