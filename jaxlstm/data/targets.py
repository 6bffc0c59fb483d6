"""Targets of any kind: which task they are, and their values as a data set holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxlstm.data.checks import first, place
from jaxlstm.data.ragged import as_ragged, pad

Task = Literal["auto", "classification", "multilabel", "regression"]

_TASKS = ("auto", "classification", "multilabel", "regression")


class Targets(NamedTuple):
    """Fields of a `SequenceData`."""

    y: np.ndarray
    classes: tuple[str, ...]
    per_step: bool
    label_values: np.ndarray | None = None


def encode_targets(
    source: str,
    y: ArrayLike | Sequence[ArrayLike],
    valid: np.ndarray,
    *,
    task: Task = "auto",
    per_step: bool | None = None,
    classes: Sequence[str] | None = None,
    named: bool = False,
) -> Targets:
    """Finds out what targets are and encodes them.

    Args:
      source: errors begin with it.
      y: ``[N]``, ``[N, D]``, per step ``[N, T]``, ``[N, T, D]`` or a list of arrays, one for each
        row, as long as the row.
      valid: which steps are not padding, ``[N, T]``.
      task: which one, or "auto": text is classification; several columns are multilabel where they
        hold nothing but the integers 0 and 1, else regression; one column of numbers is regression
        where they are not all whole, else classification.
      per_step: whether there is a target for each step; by default where y begins with the shape of
        ``valid``.
      classes: names of the classes, y being indices into these, or of the labels.
      named: whether the columns have names as columns of a regression target.

    Raises:
      ValueError: values that are not of the task, or a missing one, by its place.
    """
    if task not in _TASKS:
        raise ValueError(
            f"{source}: task must be one of {', '.join(map(repr, _TASKS))}, got {task!r}."
        )
    array, per_step = _array(source, y, valid, per_step)
    several = array.ndim > 1 + per_step
    steps = valid if per_step else np.ones(len(array), bool)
    if array.shape[: steps.ndim] != steps.shape:
        return Targets(array, tuple(classes or ()), per_step)  # which SequenceData refuses
    if task == "auto":
        task = _guess(array[steps], several, classes is not None, named)
    axes = ("row", *(["step"] if per_step else []), *(["column"] if several else []))
    if array.dtype.kind == "f" and np.isnan(array[steps]).any():
        index = first(np.isnan(array) & steps.reshape(*steps.shape, *[1] * several))
        what = "target" if task == "regression" else "label"
        raise ValueError(f"{source}: the {what} of {place(index, axes)} of y is NaN.")
    if task == "regression":
        if classes is not None:
            raise ValueError(f"{source}: classes do not go with a regression target.")
        _check_numbers(source, "a regression target", array, steps, axes)
        if array.dtype.kind != "f":
            array = array.astype(np.float64)
        return Targets(_zero_padding(array, steps), (), per_step)
    if task == "multilabel":
        if not several:
            shape = "[N, T, D]" if per_step else "[N, D]"
            raise ValueError(f"{source}: multilabel needs y of shape {shape}, got {array.shape}.")
        _check_numbers(source, "multilabel targets", array, steps, axes)
        array = _zero_padding(array, steps)
        if ((array == 0) | (array == 1)).all():
            array = array.astype(np.int32)
        names = classes if classes is not None else range(array.shape[-1])
        return Targets(array, tuple(str(name) for name in names), per_step)
    if several:
        held = "text" if array.dtype.kind in "US" else "numbers"
        raise ValueError(
            f"{source}: y of shape {array.shape} holds {held} in several columns; names of classes"
            " need shape [N] or, per step, [N, T]."
        )
    return _classes(array, steps, classes, per_step)


def as_text(source: str, name: str, array: ArrayLike) -> np.ndarray:
    """An array, of text where pandas or a list made objects of text.

    Raises:
      ValueError: an object that is no text.
    """
    array = np.asarray(array)
    if array.dtype.kind == "O":
        numbers = [isinstance(entry, (int, float, np.number)) for entry in array.flat]
        if numbers and all(numbers):
            return np.array(array.tolist())
        odd = [not isinstance(entry, (str, int, float, np.number)) for entry in array.flat]
        odd = odd if any(odd) else numbers  # nothing else, or numbers among text
        if any(odd):
            index = first(np.reshape(odd, array.shape))
            raise ValueError(
                f"{source}: {name} must hold numbers or strings, got {array[index]!r} at"
                f" {place(index, ('row', 'step', 'column'))}."
            )
        array = array.astype(str)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in "biufU":
        raise ValueError(
            f"{source}: {name} must hold numbers or strings, got values of type {array.dtype}."
        )
    return array


def pad_steps(source: str, name: str, rows: list[np.ndarray], valid: np.ndarray) -> np.ndarray:
    """Pads a list of arrays with one entry for each valid step to ``[N, T, ...]``.

    Raises:
      ValueError: an array that is not as long as its row.
    """
    lengths = valid.sum(1)
    for number, row in enumerate(rows[: len(lengths)]):
        if row.ndim and len(row) != lengths[number]:
            raise ValueError(
                f"{source}: row {number} of {name} has {len(row)} steps, that of x"
                f" {lengths[number]}."
            )
    padded, _ = pad(source, name, rows)
    return padded


def _array(
    source: str, y: Any, valid: np.ndarray, per_step: bool | None
) -> tuple[np.ndarray, bool]:
    ragged = None if per_step is False else as_ragged(y)
    if ragged is not None and len(ragged) == len(valid):
        rows = [as_text(source, f"row {number} of y", row) for number, row in enumerate(ragged)]
        return pad_steps(source, "y", rows, valid), True
    try:
        array = as_text(source, "y", y)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{source}: the rows of y must all have the same shape.") from error
    if len(valid) != (len(array) if array.ndim else 0):
        count = len(array) if array.ndim else 0
        raise ValueError(f"{source}: x has {len(valid)} rows, y has {count} targets.")
    if per_step is None:
        per_step = array.ndim > 2 or (array.ndim == 2 and array.shape == valid.shape)
    return array, per_step


def _guess(values: np.ndarray, several: bool, classes: bool, named: bool) -> Task:
    if values.dtype.kind in "US":
        return "classification"
    if classes:
        return "multilabel" if several else "classification"
    if several:
        flags = values.dtype.kind in "biu" and ((values == 0) | (values == 1)).all()
        return "multilabel" if flags and not named else "regression"
    whole = values.dtype.kind != "f" or bool((values[np.isfinite(values)] % 1 == 0).all())
    return "regression" if named or not whole else "classification"


def _check_numbers(
    source: str, what: str, array: np.ndarray, steps: np.ndarray, axes: tuple[str, ...]
) -> None:
    if array.dtype.kind in "US":
        index = (*first(steps), *[0] * (array.ndim - steps.ndim))
        raise ValueError(
            f"{source}: {what} must be numbers, got {str(array[index])!r} at {place(index, axes)}."
        )


def _zero_padding(array: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Returns a copy with zeros where there is padding, or the array where there is none."""
    if steps.all():
        return array
    array = array.copy()
    array[~steps] = 0
    return array


def _classes(
    array: np.ndarray, steps: np.ndarray, classes: Sequence[str] | None, per_step: bool
) -> Targets:
    if classes is None:
        kinds, index = np.unique(array[steps], return_inverse=True)
        y = np.zeros(array.shape, np.int32)
        y[steps] = index
        whole = kinds.dtype.kind in "biu" or (kinds.dtype.kind == "f" and (kinds % 1 == 0).all())
        values = kinds if whole else None  # fractions are no labels in scikit-learn, but names
        return Targets(y, tuple(str(kind) for kind in kinds), per_step, values)
    if array.dtype.kind in "iu":
        array = _zero_padding(array, steps)
        if array.size and array.min() >= 0 and array.max() <= np.iinfo(np.int32).max:
            array = array.astype(np.int32)
    return Targets(array, tuple(str(name) for name in classes), per_step)
