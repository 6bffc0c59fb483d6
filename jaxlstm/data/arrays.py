"""The user's own arrays: as they are, from an npz file, or from a csv file of windows."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxlstm.data.archives import check_npz
from jaxlstm.data.checks import place
from jaxlstm.data.columns import (
    check_columns,
    check_purposes,
    column_names,
    names_of,
    to_labels,
    to_numbers,
    to_targets,
)
from jaxlstm.data.delimited import read_frame, table_name, table_suffix
from jaxlstm.data.ragged import as_ragged, stack_rows
from jaxlstm.data.row_numbers import without_row_numbers
from jaxlstm.data.sequences import SequenceData
from jaxlstm.data.targets import Task, as_text, encode_targets, pad_steps

_NAMES = ("classes", "feature_names", "target_names")
_SETTINGS = ("task", "per_step")
_ARRAYS = ("x", "y", "groups", "lengths", "weight", *_NAMES, *_SETTINGS)


def from_arrays(
    x: ArrayLike | Sequence[ArrayLike],
    y: ArrayLike | Sequence[ArrayLike],
    *,
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    weight: ArrayLike | Sequence[ArrayLike] | None = None,
    task: Task = "auto",
    per_step: bool | None = None,
    classes: Sequence[str] | None = None,
    target_names: Sequence[str] = (),
    name: str = "arrays",
    source: str = "arrays",
    feature_names: Sequence[str] = (),
    step_names: Sequence[str] = (),
    ids: ArrayLike | None = None,
) -> SequenceData:
    """Takes sequences and their targets as they are.

    Args:
      x: sequences ``[N, T, F]``, or rows ``[N, T]`` of scalars; numbers. Rows of unequal length are
        a list of arrays ``[T_i, F]`` or ``[T_i]``, or end with steps whose values are all NaN; they
        are padded with zeros.
      y: target of each row: a label ``[N]``, numbers or strings, or with ``classes`` indices into
        these; 0 or 1 for each of several labels, ``[N, D]``; numbers ``[N]`` or ``[N, D]``. With
        ``per_step`` of each step: ``[N, T]``, ``[N, T, D]``, or a list of arrays as long as the
        rows.
      groups: who each row is from, ``[N]``.
      lengths: valid steps of each row, ``[N]``, in 1..T, the rest being padding.
      weight: how much each row counts, ``[N]``, or with ``per_step`` each step, as y.
      task: "classification", "multilabel" or "regression"; "auto": text is classification; several
        columns are multilabel where they hold nothing but the integers 0 and 1, else regression;
        one column of numbers is regression where they are not all whole or have a name in
        ``target_names``, else classification.
      per_step: whether there is a target for each step; by default where y begins with x's first
        two axes.
      classes: names of the classes, by default the labels that occur, sorted; or names of the
        labels of multilabel targets, by default their numbers.
      target_names: names of the columns of a regression target, ``[D]``, with their units.
      name: of the data set.
      source: where the data came from; errors begin with it.
      feature_names: names of the features, ``[F]``, with their units.
      step_names: names of the steps, ``[T]``, where a table has a column for each.
      ids: name of each row in its source, ``[N]``.

    Raises:
      ValueError: shapes that do not fit together, no rows or an empty one, a missing value, targets
        that are not of the task, weights, lengths or indices outside their range.
    """
    stacked, lengths = stack_rows(source, x, lengths)
    if feature_names and (stacked.ndim < 3 or len(feature_names) != stacked.shape[2]):
        raise ValueError(
            f"{source}: {len(feature_names)} feature names do not fit x of shape {stacked.shape}."
        )
    steps = stacked.shape[1]
    valid = (
        np.arange(steps) < (np.full(len(stacked), steps) if lengths is None else lengths)[:, None]
    )
    targets = encode_targets(
        source,
        y,
        valid,
        task=task,
        per_step=per_step,
        classes=classes,
        named=bool(target_names),
    )
    return SequenceData(
        stacked,
        targets.y,
        targets.classes,
        name,
        source,
        groups=None if groups is None else _groups(source, groups),
        lengths=lengths,
        feature_names=tuple(feature_names),
        weight=None if weight is None else _weight(source, weight, valid, targets.per_step),
        target_names=tuple(str(name) for name in target_names),
        per_step=targets.per_step,
        label_values=targets.label_values,
        step_names=tuple(step_names),
        ids=None if ids is None else np.asarray(ids),
    )


def load_arrays(
    path: str | Path,
    *,
    label: str | Sequence[str] = "label",
    weight: str | None = None,
    group: str | None = None,
    features: str | Sequence[str] | None = None,
    task: Task = "auto",
    per_step: bool | None = None,
) -> SequenceData:
    """Loads sequences and their targets from a file.

    Args:
      path: an ``.npz`` file with arrays ``x`` and ``y``, and those of ``groups``, ``lengths``,
        ``weight``, ``classes``, ``feature_names``, ``target_names``, ``task`` and ``per_step`` that
        ``from_arrays`` shall get, too; or a ``.csv``, ``.tsv`` or ``.parquet`` file (text also packed
        by gzip, bzip2, xz or zip) with a header, one sequence of scalars a line and its targets in
        columns.
      label: name of the table's column of targets. Several, as a sequence of names or as text
        with commas between them, are the labels of a multilabel task or the columns of a regression
        target.
      weight: name of the table's column that says how much each line counts.
      group: name of the table's column that says who each line is from.
      features: names of the table's columns that are the steps of the sequences, in this order, as a
        sequence or as text with commas between them; by default all others but those that only
        number the rows, such as an index, which are left out with a warning.
      task: as in ``from_arrays``; text that reads as numbers which are not all whole is regression.
      per_step: as in ``from_arrays``; several columns of a table are steps only where it is True.

    Raises:
      FileNotFoundError: no such file.
      ImportError: a parquet file, and nothing to read it with.
      ValueError: another kind of file, a damaged one, one without the arrays or the columns, with a
        column that looks like an index and may be none, or what ``from_arrays`` raises.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the path of an .npz or .csv file.")
    if path.suffix == ".npz":
        if weight is not None or group is not None or features is not None:
            raise ValueError(
                f"{path}: weight, group and features name columns of a table; an npz file holds"
                " arrays called weight and groups."
            )
        held = _read_npz(path)
    elif table_suffix(path):
        steps = None if features is None else names_of(features)
        held = _read_table(path, names_of(label), weight, group, steps, task, bool(per_step))
    else:
        raise ValueError(
            f"{path} must end in .npz, .csv, .tsv or .parquet, got {path.suffix or 'no ending'!r}."
        )
    if task != "auto":
        held["task"] = task
    if per_step is not None:
        held["per_step"] = per_step
    return from_arrays(**held, name=table_name(path), source=str(path))


def _groups(source: str, groups: ArrayLike) -> np.ndarray:
    array = as_text(source, "groups", groups)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{source}: groups is NaN at row {int(np.isnan(array).argmax())}.")
    return array


def _weight(source: str, weight: Any, valid: np.ndarray, per_step: bool) -> np.ndarray:
    ragged = as_ragged(weight)
    if ragged is not None and per_step and len(ragged) == len(valid):
        array = pad_steps(source, "weight", ragged, valid)
    else:
        array = as_text(source, "weight", weight)
    if array.dtype.kind in "US":
        index = (0,) * array.ndim
        raise ValueError(
            f"{source}: weight must hold numbers, got {str(array[index])!r} at"
            f" {place(index, ('row', 'step'))}."
        )
    array = array.astype(np.float64) if array.dtype.kind != "f" else array
    return np.where(valid, array, 0) if array.shape == valid.shape and per_step else array


def _read_table(
    path: Path,
    label: list[str],
    weight: str | None,
    group: str | None,
    steps: list[str] | None,
    task: Task,
    per_step: bool,
) -> dict[str, Any]:
    keys = [*label, *(column for column in (weight, group) if column is not None)]
    check_purposes([*keys, *(steps or ())])
    table = read_frame(path, keys)
    if not len(table):
        raise ValueError(f"{path} has no rows.")
    if steps is None:
        table = without_row_numbers(path, table, keys)
        steps = [column for column in table.columns if column not in keys]
    check_columns(path, table, [column for column in steps if column not in table])
    if not steps:
        raise ValueError(f"{path} has no columns of numbers beside {', '.join(keys)}.")
    values = np.zeros((len(table), len(steps)))
    for number, column in enumerate(steps):
        values[:, number] = to_numbers(path, table[column])
    held: dict[str, Any] = {
        "x": values,
        "y": to_targets(path, table[label], task, per_step),
        "weight": None if weight is None else to_numbers(path, table[weight]),
        "groups": None if group is None else to_labels(table[group]),
        "per_step": per_step,
        "step_names": steps,
    }
    return held | column_names(held["y"], label, task, per_step)


def _read_npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a readable npz file: it is damaged or of another kind.")
    check_npz(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = list(arrays)
            held: dict[str, Any] = {name: arrays[name] for name in _ARRAYS if name in names}
    except Exception as error:  # a damaged file makes zipfile, zlib and numpy raise anything
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds an array of Python objects: save x as numbers, rows of unequal length"
                " with NaN at their end, and y as numbers or strings of a fixed length"
                " (y.astype(str))."
            ) from error
        raise ValueError(f"{path} is not a readable npz file: {error}.") from error
    for name in ("x", "y"):
        if name not in held:
            raise ValueError(f"{path} has no array {name!r}; it has {', '.join(names) or 'none'}.")
    for name in _NAMES:
        if name in held:
            held[name] = [str(entry) for entry in np.atleast_1d(held[name])]
    for name in _SETTINGS:
        if name in held:
            if held[name].size != 1:
                raise ValueError(f"{path}: {name} must be a single value, got {held[name].shape}.")
            held[name] = held[name].reshape(-1)[0].item()
    return held
