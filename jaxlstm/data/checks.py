"""Checks of a data set's arrays against each other; every error names its place."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Fields(Protocol):
    """The fields of `SequenceData` that are checked."""

    @property
    def x(self) -> np.ndarray: ...  # noqa: D102
    @property
    def y(self) -> np.ndarray: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def groups(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def lengths(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def weight(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def target_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def per_step(self) -> bool: ...  # noqa: D102
    @property
    def label_values(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def step_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def ids(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def rows(self) -> np.ndarray | None: ...  # noqa: D102


def check_fields(data: Fields) -> None:
    """Raises a ValueError, a sentence that begins with the source, unless the fields fit together."""
    if data.x.ndim < 2:
        raise ValueError(
            f"{data.source}: x must have shape [N, T, F] or [N, T], got {data.x.shape}."
        )
    _check_y(data)
    if data.groups is not None:
        _check_one_each(data.source, "groups", data.groups, len(data.x))
    for name, array in (("ids", data.ids), ("rows", data.rows)):
        if array is not None:
            _check_one_each(data.source, name, array, len(data.x))
    if data.label_values is not None and len(data.label_values) != len(data.classes):
        raise ValueError(
            f"{data.source}: {len(data.label_values)} label_values do not fit"
            f" {len(data.classes)} classes."
        )
    if data.step_names and len(data.step_names) != data.x.shape[1]:
        raise ValueError(
            f"{data.source}: {len(data.step_names)} step names do not fit x of shape"
            f" {data.x.shape}."
        )
    if data.lengths is not None:
        check_lengths(data.source, data.lengths, *data.x.shape[:2])
    if data.weight is not None:
        _check_weight(data, data.weight)


def check_lengths(source: str, lengths: np.ndarray, rows: int, steps: int) -> None:
    """Raises a ValueError unless there is a length in 1..steps for each row."""
    _check_one_each(source, "lengths", lengths, rows)
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"{source}: lengths must be integers, got values of type {lengths.dtype}.")
    if (lengths == 0).any():
        raise ValueError(f"{source}: row {int((lengths == 0).argmax())} is empty: its length is 0.")
    outside = (lengths < 0) | (lengths > steps)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"{source}: the length of row {row} is {lengths[row]}; it must be in 1..{steps}, as x"
            f" has {steps} steps per row."
        )


def valid_steps(data: Fields) -> np.ndarray:
    """Tells the steps of each row from its padding: True or False, ``[N, T]``."""
    if data.lengths is None:
        return np.ones(data.x.shape[:2], bool)
    return np.arange(data.x.shape[1]) < data.lengths[:, None]


def place(index: tuple[int, ...], axes: tuple[str, ...]) -> str:
    """An entry of an array in words: ``row 3, step 2``."""
    return ", ".join(f"{axis} {number}" for axis, number in zip(axes, index, strict=False))


def first(mask: np.ndarray) -> tuple[int, ...]:
    """The index of the first True of a mask."""
    return tuple(int(number) for number in np.unravel_index(int(mask.argmax()), mask.shape))


def _check_y(data: Fields) -> None:
    source, y = data.source, data.y
    shape = data.x.shape[: 2 if data.per_step else 1]
    if y.shape[: len(shape)] != shape or y.ndim > len(shape) + 1 or 0 in y.shape[len(shape) :]:
        each = "step" if data.per_step else "row"
        sizes = ", ".join(map(str, shape))
        raise ValueError(
            f"{source}: y must have shape [{sizes}], one target for each {each} of x, or"
            f" [{sizes}, D], got {y.shape}."
        )
    several = y.ndim > len(shape)
    axes = ("row", *(["step"] if data.per_step else []), *(["column"] if several else []))
    if data.classes and data.target_names:
        raise ValueError(
            f"{source}: target_names name the columns of a regression target; the names of the"
            " labels are classes."
        )
    if not data.classes:
        if y.dtype.kind != "f":
            raise ValueError(
                f"{source}: y must hold floats where there are no classes, got values of type"
                f" {y.dtype}."
            )
        if not np.isfinite(y).all():
            index = first(~np.isfinite(y))
            raise ValueError(f"{source}: the target of {place(index, axes)} of y is {y[index]}.")
        columns = y.shape[-1] if several else 1
        if data.target_names and len(data.target_names) != columns:
            raise ValueError(
                f"{source}: {len(data.target_names)} target names do not fit y of shape {y.shape}."
            )
        return
    if several and y.shape[-1] != len(data.classes):
        raise ValueError(
            f"{source}: y of shape {y.shape} must have a column for each of the"
            f" {len(data.classes)} classes."
        )
    if several:
        outside = np.ones(y.shape, bool)
        if y.dtype.kind in "biu" or (y.dtype.kind == "f" and not np.isin(y, (0, 1)).all()):
            outside = ~np.isin(y, (0, 1))
        wanted = "y must be 0 or 1 for each label"
    else:
        most = len(data.classes) - 1
        outside = (y < 0) | (y > most) if y.dtype.kind in "iu" else np.ones(y.shape, bool)
        wanted = f"y must be indices of the {most + 1} classes, integers in 0..{most}"
    if outside.any():
        index = first(outside)
        raise ValueError(f"{source}: {wanted}, got {y[index]} at {place(index, axes)}.")


def _check_one_each(source: str, name: str, array: np.ndarray, rows: int) -> None:
    if array.shape != (rows,):
        raise ValueError(
            f"{source}: {name} must have shape [{rows}], one entry for each row of x, got"
            f" {array.shape}."
        )


def _check_weight(data: Fields, weight: np.ndarray) -> None:
    rows, steps = data.x.shape[:2]
    allowed = f"[{rows}] or [{rows}, {steps}]" if data.per_step else f"[{rows}]"
    shapes = [(rows,), *([(rows, steps)] if data.per_step else [])]
    if weight.shape not in shapes:
        raise ValueError(f"{data.source}: weight must have shape {allowed}, got {weight.shape}.")
    if weight.dtype.kind not in "biuf":
        raise ValueError(
            f"{data.source}: weight must hold numbers, got values of type {weight.dtype}."
        )
    bad = ~np.isfinite(weight) | (weight < 0)
    if bad.any():
        index = first(bad)
        raise ValueError(
            f"{data.source}: the weight of {place(index, ('row', 'step'))} is {weight[index]}; it"
            " must be a finite number and not negative."
        )
    counted = weight[valid_steps(data)] if weight.ndim == 2 else weight
    if weight.size and not counted.any():
        raise ValueError(f"{data.source}: all weights are 0: no row would count.")
