"""Pipelines whose last step trains as a lane: where that step is, and what rows come to it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _num_samples

from jaxlstm.estimators.inputs import DictRows, Sequences, is_list, widened
from jaxlstm.grid.space import Fold
from jaxlstm.train.data import Data, with_mass


def prefix_of(estimator: Any) -> str:
    """What precedes the parameters of the estimator that trains: "" or ``step__``, of each pipeline."""
    return "".join(f"{pipeline.steps[-1][0]}__" for pipeline in pipelines_of(estimator))


def pipelines_of(estimator: Any) -> list[Pipeline]:
    """The pipeline, the one that it ends in, and so on; none for an estimator."""
    found = []
    while isinstance(estimator, Pipeline):
        found.append(estimator)
        estimator = estimator.steps[-1][1]
    return found


def last_of(estimator: Any) -> Any:
    """The estimator itself, or the last step of a pipeline, of one in a pipeline too."""
    pipelines = pipelines_of(estimator)
    return pipelines[-1].steps[-1][1] if pipelines else estimator


def is_nothing(step: Any) -> bool:
    """Whether a step of a pipeline does nothing; a last one is for the candidates to fill."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def estimator_of(estimator: Any) -> Any:
    """The estimator itself, or a pipeline's last step.

    Raises:
      TypeError: neither.
    """
    last = last_of(estimator)
    if not hasattr(last, "_network"):
        given = f"{last!r}, which no candidate fills" if is_nothing(last) else type(last).__name__
        raise TypeError(
            "estimator must be one of jaxlstm (LSTMClassifier, LSTMRegressor, FlaxClassifier,"
            f" FlaxRegressor) or a scikit-learn Pipeline that ends in one, got {given}."
        )
    return last


def is_as_written(estimator: Any) -> bool:
    """Whether scores and predictions are this package's own, through scikit-learn's own pipelines.

    A subclass, a mixin or the instance itself may have others.
    """
    read = inspect.getattr_static
    are_plain = [
        read(pipeline, name) is read(Pipeline, name)
        for pipeline in pipelines_of(estimator)
        for name in ("score", "predict", "predict_proba")
    ]
    return all(are_plain) and all(_is_ours(last_of(estimator), name) for name in _ANSWERS)


_ANSWERS = ("score", "predict", "predict_proba", "_scored", "_predictions", "_per_step_")


def _is_ours(estimator: Any, name: str) -> bool:
    method = inspect.getattr_static(estimator, name, None)
    method = getattr(method, "fget", method)
    return method is None or getattr(method, "__module__", "").split(".")[0] == "jaxlstm"


def check_fit(estimator: Any) -> None:
    """Raises an error for a subclass that trains in its own way, which lanes would not.

    Raises:
      TypeError: it has its own ``fit``.
    """
    if not _is_ours(estimator, "fit"):
        raise TypeError(
            f"{type(estimator).__name__} has its own fit, which a search does not call, as it trains"
            " all fits as lanes of one program; scikit-learn's GridSearchCV calls it."
        )


def with_last(estimator: Any, last: Any) -> Any:
    """A copy of a pipeline, of the same other steps, that ends in ``last``; else ``last`` itself."""
    if not isinstance(estimator, Pipeline):
        return last
    pipeline = copy.copy(estimator)
    name, step = estimator.steps[-1]
    pipeline.steps = [*estimator.steps[:-1], (name, with_last(step, last))]
    return pipeline


class _Taker(BaseEstimator):
    """A last step that takes what the others make of the training rows."""

    def fit(self, X: Any, y: Any = None) -> Any:
        self.X_, self.y_ = X, y
        return self


class Transformed(NamedTuple):
    """What comes to a pipeline's last step."""

    train: Any
    validation: Any
    pipeline: Any  # its other steps are fitted


def transformed(pipeline: Any, train: Any, y: Any, validation: Any) -> Transformed:
    """Fits all steps but the last on training rows, as the pipeline's own `fit` does.

    Args:
      pipeline: not fitted; becomes the result's.
      train: training rows.
      y: their targets.
      validation: rows that the fitted steps transform, one step after another.

    Raises:
      ValueError: a step changes how many rows there are, or the targets.
    """
    fitted = clone(with_last(pipeline, _Taker()))  # a pipeline fits its steps in place
    taker = last_of(fitted)
    try:
        fitted.fit(train, y)
    except (TypeError, ValueError, AttributeError) as error:
        names = ", ".join(map(repr, _names(pipeline)))
        is_rows = not is_list(train) and not isinstance(train, DictRows)
        if is_rows and np.ndim(train) > 2 and "with dim" in str(error):
            raise ValueError(
                f"a step before the estimator ({names}) takes tables [N, F], not X of shape"
                f" {np.shape(train)}: use standardize=True, which scales each feature of"
                f" [N, T, F], or a step that takes such rows ({error})"
            ) from error
        if is_rows:
            raise
        what = "list" if is_list(train) else "dict"
        raise ValueError(
            f"a step before the estimator ({names}) does not take a {what} of arrays: use"
            " standardize=True, or a step that maps each row."
        ) from error
    _check_rows(taker.X_, len(y))
    if taker.y_ is not y and not np.array_equal(np.asarray(taker.y_), np.asarray(y)):
        raise ValueError("a step of the pipeline changes the targets; it may change rows alone.")
    count = _num_samples(validation)
    validation = _through(fitted, validation)
    _check_rows(validation, count)
    return Transformed(taker.X_, validation, fitted)


def _names(pipeline: Any) -> list[str]:
    return [name for each in pipelines_of(pipeline) for name, _ in each.steps[:-1]]


def _through(pipeline: Any, rows: Any) -> Any:
    for each in pipelines_of(pipeline):
        for _, step in each.steps[:-1]:
            rows = _by(step, rows)
    return rows


def _by(step: Any, rows: Any) -> Any:
    """What a step makes of rows: a pipeline's steps one by one, as the last may have no state."""
    if is_nothing(step):
        return rows
    if not isinstance(step, Pipeline):
        return step.transform(rows)
    for _, inner in step.steps:
        rows = _by(inner, rows)
    return rows


def _check_rows(rows: Any, count: int) -> None:
    """Raises scikit-learn's error where a step has changed the number of rows."""
    made = _num_samples(rows)
    if made != count:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[made, count]}; a step of"
            f" the pipeline made {made} rows of {count}, but it must keep their number."
        )


def put_together(whole: Data, per_step: bool, fold: Fold, parts: Sequence[Sequences]) -> Data:
    """A pipeline's training and validation rows in their places of the whole data set.

    Args:
      whole: the data set that the pipeline was given; targets and weights are its.
      per_step: whether each step has a target.
      fold: the split.
      parts: training and validation rows as they come to the last step.

    Raises:
      ValueError: rows that are not alike, or of other steps than the targets.
    """
    for numbers, part in zip((fold.train, fold.validation), parts, strict=True):
        _check_rows(part.x, len(numbers))
    if parts[0].x.shape[2:] != parts[1].x.shape[2:] or parts[0].x.ndim != parts[1].x.ndim:
        raise ValueError(
            f"a step of the pipeline made training rows of shape {parts[0].x.shape[1:]} and"
            f" validation rows of shape {parts[1].x.shape[1:]}."
        )
    steps = max(part.x.shape[1] for part in parts)
    is_ragged = any(part.lengths is not None or part.x.shape[1] != steps for part in parts)
    if is_ragged and parts[0].x.ndim < 3:
        raise ValueError(
            f"a step of the pipeline made training rows of {parts[0].x.shape[1]} features and"
            f" validation rows of {parts[1].x.shape[1]}."
        )
    x = np.zeros((len(whole.y), steps, *parts[0].x.shape[2:]), parts[0].x.dtype)
    lengths = np.full(len(whole.y), steps, np.int32) if is_ragged else None
    for numbers, part in zip((fold.train, fold.validation), parts, strict=True):
        part = widened(part, steps)
        x[numbers] = part.x
        if lengths is not None and part.lengths is not None:
            lengths[numbers] = part.lengths
    if per_step:
        before = whole.x.shape[1] if whole.lengths is None else whole.lengths
        own = steps if lengths is None else lengths
        used = np.union1d(fold.train, fold.validation)
        if whole.y.shape[1] != steps or (np.broadcast_to(before, len(x)) != own)[used].any():
            raise ValueError(
                "a step of the pipeline changes how many steps rows have, but there is a target"
                " for each step."
            )
    return with_mass(Data(x, whole.y, lengths, whole.weight), per_step)
