"""Targets as a user has them -> what the device gets, and predictions back."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, column_or_1d

from jaxlstm.estimators.inputs import Sequences, check_kind, place_of_step, read_steps, spread
from jaxlstm.train import standardization
from jaxlstm.train.task import Classification, Multilabel, Regression, Task


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """Checked targets.

    Attributes:
      task: what they mean.
      y: as the device gets them: integers ``[N]``, 0 and 1 ``[N, D]`` or numbers ``[N, D]``, per
        step with an axis T after N; None where only their meaning is kept.
      outputs: C classes or D labels or numbers, the last axis of the network's outputs.
      classes: names of the classes, or the numbers of the labels; None for numbers.
      is_flat: whether numbers came without an axis D.
      dtype: floating-point type of the user's numbers.
      center: what was subtracted from numbers that the device's type cannot tell apart, ``[D]`` in
        float64; 0.0: nothing.
    """

    task: Task
    y: Any
    outputs: int
    classes: np.ndarray | None = None
    is_flat: bool = False
    dtype: Any = None
    center: Any = 0.0

    def without_y(self) -> Targets:
        """Their meaning alone."""
        return dataclasses.replace(self, y=None)

    def check_folds(self, folds: int, y: np.ndarray) -> str | None:
        """Checks that so many stratified folds can be made of targets ``y``.

        Returns:
          A sentence that names the classes with fewer rows than folds, or None.

        Raises:
          ValueError: every class has fewer.
        """
        strata = self.task.strata(y)
        if strata is None or self.classes is None:
            return None
        counts, names = np.bincount(strata, minlength=len(self.classes)), self.classes.tolist()
        if counts.max() < folds:
            raise ValueError(
                f"cv={folds} folds need a class with at least {folds} rows; the largest,"
                f" {names[counts.argmax()]!r}, has {counts.max()}."
            )
        rare = zip(names, counts.tolist(), strict=True)
        small = [f"{label!r} ({count})" for label, count in rare if 0 < count < folds]
        if not small:
            return None
        return (
            f"Fewer rows than the {folds} folds of cv: class {', '.join(small)}. Some folds are"
            " validated without it."
        )

    def decode(self, predictions: np.ndarray) -> np.ndarray:
        """Labels, 0 and 1, or numbers of predictions ``[..., C]`` or ``[..., D]``."""
        if isinstance(self.task, Classification):
            assert self.classes is not None
            return np.asarray(self.classes[predictions.argmax(axis=-1)])
        if isinstance(self.task, Multilabel):
            return (predictions > 0.5).astype(np.int64)
        numbers = predictions
        if np.any(self.center):
            numbers = predictions.astype(np.float64) + self.center
        return (numbers[..., 0] if self.is_flat else numbers).astype(self.dtype)


def _flat(y: Any, rows: Sequences, per_step: bool, name: str) -> Any:
    """Targets one after another: of rows, or of all steps."""
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    if per_step:
        return read_steps("y", y, rows)
    is_object = isinstance(y, np.ndarray) and y.dtype == object and y.ndim == 1
    if (isinstance(y, list | tuple) or is_object) and len({np.shape(entry) for entry in y}) > 1:
        raise ValueError(
            "y has entries of different shapes: one target per row is wanted; for one per step set"
            " return_sequences=True."
        )
    check_consistent_length(rows.x, y)
    return y


def labels(y: Any, rows: Sequences, per_step: bool, name: str, classes: Any = None) -> Targets:
    """Labels of rows or steps: one each, or with a 0/1 matrix any of several.

    Args:
      y: ``[N]`` or 0/1 ``[N, D]``, per step ``[N, T]`` or ``[N, T, D]`` or a list of arrays.
      rows: what they belong to.
      per_step: whether every step has a label.
      name: of the estimator, for errors.
      classes: all classes, where y may lack some.

    Raises:
      ValueError: targets of another kind, one class alone, or a label that is not among the classes.
    """
    flat = _flat(y, rows, per_step, name)
    if getattr(getattr(flat, "dtype", None), "kind", "") == "O" or isinstance(flat, list):
        missing = [place for place, entry in enumerate(flat) if entry is None]
        if missing:
            raise ValueError(f"the label of row {missing[0]} in y is None.")
    seen = np.asarray(flat)
    if seen.dtype.kind in "Oc":
        check_kind("y", seen)
    if seen.dtype.kind == "f":
        assert_all_finite(flat, input_name="y")
    kind = type_of_target(flat, input_name="y", raise_unknown=True)
    if kind == "multilabel-indicator":
        return _multilabel(flat, rows, per_step)
    if kind in ("multiclass-multioutput", "continuous-multioutput"):
        raise ValueError(
            f"{name} takes one label per {'step' if per_step else 'row'}, or any of several as a"
            f" matrix of 0 and 1; got y of shape {np.shape(y)} with other values."
            + ("" if per_step else " For a label per step set return_sequences=True.")
        )
    check_classification_targets(flat)
    flat = column_or_1d(flat, warn=True)
    encoder = LabelEncoder()
    if classes is None:
        encoder.fit(flat)
    else:
        if isinstance(classes, str) or np.ndim(classes) != 1 or len(set(classes)) < 2:
            raise ValueError(f"classes must be a list of at least two labels, got {classes!r}.")
        encoder.fit(np.asarray(classes))
        unknown = np.setdiff1d(flat, encoder.classes_).tolist()
        if unknown:
            known = ", ".join(map(repr, encoder.classes_.tolist()))
            raise ValueError(f"y has the class {unknown[0]!r}, which is not one of {known}.")
    if len(encoder.classes_) < 2:
        raise ValueError(
            f"{name} needs at least two classes in y; all {len(flat)} labels are the"
            f" one class {encoder.classes_.tolist()[0]!r}."
        )
    encoded = encoder.transform(flat).astype(np.int32)
    task = Classification(per_step)
    encoded = spread(encoded, rows) if per_step else encoded
    return Targets(task, encoded, len(encoder.classes_), encoder.classes_)


def _multilabel(flat: Any, rows: Sequences, per_step: bool) -> Targets:
    if hasattr(flat, "toarray"):
        flat = flat.toarray()
    values = np.asarray(flat)
    other = values[(values != 0) & (values != 1)]
    if other.size:
        raise ValueError(
            f"several labels are a matrix of 0 and 1, but y holds {other.ravel()[0].item()!r}."
        )
    matrix = values.astype(jax.dtypes.canonicalize_dtype(float))
    encoded = spread(matrix, rows) if per_step else matrix
    width = matrix.shape[1]
    return Targets(Multilabel(per_step), encoded, width, np.arange(width))


def numbers(
    y: Any,
    rows: Sequences,
    per_step: bool,
    name: str,
    is_matrix: bool = False,
    center: Any = 0.0,
) -> Targets:
    """Numbers of rows or steps.

    Args:
      y: ``[N]`` or ``[N, D]``, per step ``[N, T]`` or ``[N, T, D]`` or a list of arrays.
      rows: what they belong to.
      per_step: whether every step has a target.
      name: of the estimator, for errors.
      is_matrix: whether one column stays one.
      center: what to subtract, ``[D]``; None: what standardised targets need, see `Units`.

    Raises:
      TypeError, ValueError: no numbers, NaN or infinity, another shape.
    """
    flat = np.asarray(_flat(y, rows, per_step, name))
    check_kind("y", flat)
    texts = [entry for entry in flat.ravel().tolist() if isinstance(entry, str)]
    if flat.dtype.kind in "OUS" and texts:
        raise ValueError(
            f"{name} predicts numbers, but y holds the text {texts[0]!r}: for labels use a classifier."
        )
    if flat.dtype == object:
        try:
            flat = flat.astype(np.float64)
        except (TypeError, ValueError):
            example = next(entry for entry in flat.ravel().tolist() if not _is_number(entry))
            raise ValueError(f"{name} predicts numbers, but y holds {example!r}.") from None
    if flat.dtype.kind not in "biuf":
        raise ValueError(f"{name} predicts numbers, got y of type {flat.dtype}.")
    if flat.ndim > 2 or not flat.size:
        more = "" if per_step else " For a target per step set return_sequences=True."
        raise ValueError(
            f"y must have one number, or a vector of them, for each"
            f" {'step' if per_step else 'row'}, got shape {np.shape(y)}.{more}"
        )
    dtype = jax.dtypes.canonicalize_dtype(float)
    if center is None:
        center = _center(flat.reshape(len(flat), -1), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        given = flat.astype(np.float64) - center if np.any(center) else flat
        converted = given.astype(dtype)
    if not np.isfinite(converted).all():
        place = tuple(np.argwhere(~np.isfinite(converted))[0].tolist())
        value = flat[place]
        reason = f"{value}, too large for {dtype}: scale y first"
        if not np.isfinite(value):
            reason = "NaN" if np.isnan(value) else "infinity"
        where = f"y[{', '.join(map(str, place))}]"
        if per_step:
            where = f"y{place_of_step(place[0], rows)}"
        raise ValueError(f"y must hold finite numbers, but {where} is {reason}.")
    if not per_step and not is_matrix and flat.ndim == 2 and flat.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected; y.ravel() is taken.",
            DataConversionWarning,
            stacklevel=4,
        )
        flat, converted = flat[:, 0], converted[:, 0]
    is_flat = converted.ndim == 1
    matrix = converted[:, None] if is_flat else converted
    encoded = spread(matrix, rows) if per_step else matrix
    own = flat.dtype if flat.dtype.kind == "f" else np.float64
    return Targets(Regression(per_step), encoded, matrix.shape[1], None, is_flat, own, center)


def _center(matrix: np.ndarray, dtype: Any) -> Any:
    """What to subtract from targets ``[N, D]`` that ``dtype`` cannot tell apart, or 0.0."""
    units = standardization.units_of(matrix, np.arange(len(matrix)), None, dtype)
    if units is None:
        return 0.0
    if (units.unit < 1).any():
        place = int(np.flatnonzero(units.unit < 1)[0])
        spread = np.std(matrix[:, place], dtype=np.float64)
        raise ValueError(
            f"y must hold numbers that {dtype} can tell apart, but column {place} varies by"
            f" {spread:.0e} alone: scale y first."
        )
    return units.center


def _is_number(entry: Any) -> bool:
    try:
        float(entry)
    except (TypeError, ValueError):
        return False
    return True


def weights(sample_weight: Any, rows: Sequences, per_step: bool) -> np.ndarray | None:
    """Checked weights of rows ``[N]`` or, with targets per step, of steps ``[N, T]``.

    Raises:
      ValueError: a negative weight, NaN, nothing but zeros, or another shape.
    """
    if sample_weight is None:
        return None
    if getattr(getattr(sample_weight, "dtype", None), "kind", "") in "OMmc":
        check_kind("sample_weight", sample_weight)
    count = len(rows.x)
    if np.isscalar(sample_weight):
        sample_weight = np.full(count, sample_weight)
    is_by_step = per_step and _is_nested(sample_weight)
    if is_by_step:
        flat = np.asarray(read_steps("sample_weight", sample_weight, rows), np.float64)
        if flat.ndim != 1:
            raise ValueError("sample_weight must be one number for each step.")
    else:
        if _is_nested(sample_weight) and not per_step:
            raise ValueError(
                "sample_weight must be one number for each row (Sample weights must be 1D array or"
                " scalar); for one per step set return_sequences=True."
            )
        try:
            flat = np.asarray(sample_weight, np.float64)
        except (TypeError, ValueError):
            raise ValueError("sample_weight must hold numbers, got text or objects.") from None
        if flat.ndim != 1:
            raise ValueError("Sample weights must be 1D array or scalar")
        if flat.shape != (count,):
            raise ValueError(f"sample_weight.shape == {flat.shape}, expected {(count,)}!")
    wrong = np.flatnonzero(~np.isfinite(flat) | (flat < 0))
    if len(wrong):
        value, place = flat[wrong[0]], f"{wrong[0]}"
        if is_by_step:
            place = place_of_step(int(wrong[0]), rows)
        what = "not be negative" if value < 0 else "hold finite numbers"
        raise ValueError(f"sample_weight must {what}, got {value:g} at {place}.")
    if not flat.any():
        raise ValueError("every weight in sample_weight is zero: at least one row must count.")
    dtype = jax.dtypes.canonicalize_dtype(float)
    limits, largest = np.finfo(dtype), flat.max()
    if not limits.tiny <= largest or not flat.sum() < limits.max / 1e3:
        raise ValueError(
            f"sample_weight must hold numbers that {dtype} can add up, but the largest is"
            f" {largest:g}: divide all by it."
        )
    flat = flat.astype(dtype)
    return spread(flat, rows) if is_by_step else flat


def _is_nested(values: Any) -> bool:
    try:
        return len(values) > 0 and any(np.ndim(value) > 0 for value in values)
    except (TypeError, ValueError):
        return False
