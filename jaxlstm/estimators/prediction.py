"""What a fitted estimator says of rows: predictions, scores, gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.utils.validation import check_is_fitted

from jaxlstm import forks
from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.inputs import (
    Sequences,
    as_given,
    by_step,
    read_steps,
    targets_of,
    weight_of,
    widened,
)
from jaxlstm.estimators.settings import Settings
from jaxlstm.estimators.targets import Targets
from jaxlstm.grid import programs
from jaxlstm.grid.space import Network
from jaxlstm.train import standardization, trial
from jaxlstm.train.data import without_padding
from jaxlstm.train.trial import Weights, takes_lengths


class Predictor(Settings):
    """Predictions of a network with trained weights."""

    network_: Network
    targets_: Targets  # their meaning alone
    params_: Any  # of the network
    collections_: Any  # its other variables
    sample_shape_: tuple[int, ...]  # of the rows that it was trained on

    def _check_row_shape(self, own: tuple[Any, ...]) -> bool:
        """Whether rows may have another number of steps than those of `fit`.

        Raises:
          ValueError: rows of the shape ``own`` are not what the network was fitted on.
        """
        shape = self.sample_shape_
        is_free = len(shape) > 1 and takes_lengths(self.network_.structure.module)
        if len(own) != len(shape) or own[1:] != shape[1:] or (own != shape and not is_free):
            wanted = (
                f"(any number of steps, {', '.join(map(str, shape[1:]))})" if is_free else shape
            )
            raise ValueError(
                f"each row of X must have the shape {wanted} that {type(self).__name__} was fitted"
                f" on, got {own}."
            )
        return is_free

    def _check_shape(self, rows: Sequences) -> Sequences:
        """Rows as the fitted network takes them: padded to as many steps as it was trained on.

        More steps are padded to a multiple, by twos, so that few programs serve all rows.
        """
        shape, own = self.sample_shape_, rows.x.shape[1:]
        is_free = self._check_row_shape(own)
        if rows.lengths is None and own == shape:
            return rows
        steps = shape[0]
        while steps < own[0]:
            steps *= 2
        return widened(rows, steps) if is_free else rows

    @property
    def _per_step_(self) -> bool:
        return bool(self.targets_.task.per_step)

    def _predictions(
        self, X: Any, what: Callable[..., np.ndarray] = programs.predict
    ) -> tuple[Sequences, np.ndarray]:
        """Rows, and the task's predictions of them or of each of their steps."""
        check_is_fitted(self)
        rows = self._check_rows(X, units=self.network_.units)
        padded = self._check_shape(rows)
        values = what(
            self.network_.structure,
            self.network_.hyperparameters,
            Weights(self.params_, self.collections_),
            padded.x,
            padded.lengths,
        )
        return rows, values[:, : rows.x.shape[1]] if self._per_step_ else values

    def predict(self, X: Any) -> Any:
        """Predictions of rows ``X``, in the form of the targets."""
        rows, values = self._predictions(X)
        decoded = self.targets_.decode(values)
        return as_given(decoded, rows) if self._per_step_ else decoded

    def apply(self, X: Any, *, params: Any = None, lengths: Any = None) -> Any:
        """The network's outputs of rows, to be differentiated, compiled or exported by JAX.

        Rows are standardised where `fit` did so, which `module.apply` with `params_` leaves out.

        Args:
          X: rows as an array ``[M, ...]``, or a dict of arrays where `fit` got one; may be traced.
          params: parameters instead of `params_`.
          lengths: steps of each row, ``[M]``; what lies beyond does not count.

        Returns:
          A JAX array: of a classifier logits ``[M, C]`` (their softmax, of several labels their
          sigmoid, is `predict_proba`), of a regressor numbers ``[M, D]`` in the targets' units; per
          step with an axis T after M.

        Raises:
          RuntimeError: in a forked process, see `jaxlstm.forks.check`.
          ValueError: rows of another shape than those of `fit`; the number of steps is free.
        """
        check_is_fitted(self)
        forks.check()
        structure, h = self.network_.structure, self.network_.hyperparameters
        weights = Weights(self.params_ if params is None else params, self.collections_)
        x: Any
        if structure.inputs:  # X is what the network takes
            structure, x = dataclasses.replace(structure, inputs=()), jax.tree.map(jnp.asarray, X)
        else:
            dtype, units = h.learning_rate.dtype, self.network_.units
            x = self._as_input(X if isinstance(X, jax.Array) else np.asarray(X))
            self._check_row_shape(x.shape[1:])
            if units is not None:
                is_traced = isinstance(x, jax.core.Tracer)
                x = (
                    units.traced(x.astype(dtype))
                    if is_traced
                    else units.written(np.asarray(x), dtype)
                )
            x = jnp.asarray(x, dtype)
            x = without_padding(standardization.apply(h.standardization, x), lengths)
        values, _ = trial.apply(structure, h.fields, weights, x, lengths=lengths)
        is_numbers = self.targets_.classes is None
        return structure.task.predictions(values, h.task) if is_numbers else values

    def _scored(self, metric: Callable[..., Any], X: Any, y: Any, sample_weight: Any) -> Any:
        y, sample_weight = targets_of(X, y), weight_of(X, sample_weight)
        if y is None:
            raise ValueError("score requires y to be passed, but the target y is None.")
        if not self._per_step_:
            return metric(y, self.predict(X), sample_weight=sample_weight)
        true, predicted, weight = self.by_step(X, y, sample_weight)
        return metric(true, predicted, sample_weight=weight)

    def by_step(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        """Targets and predictions of all own steps, one after another, for metrics of scikit-learn.

        Args:
          X: rows, as for `predict`, of an estimator with ``return_sequences``.
          y: a target for each of their steps.
          sample_weight: None, or what each row or step counts for.

        Returns:
          Targets, predictions, and weights or None, each ``[steps]`` or ``[steps, D]``: row 0's steps,
          then row 1's, ...
        """
        rows, values = self._predictions(X)
        predicted = self.targets_.decode(values)[rows.counts]
        weight = by_step(reading.weights(sample_weight, rows, True), rows)
        return read_steps("y", y, rows), predicted, weight

    def input_gradients(self, X: Any, y: Any = None) -> Any:
        """Gradients of an output by the inputs: what of each row speaks for it.

        Their absolute values are the saliency maps of Simonyan et al., arXiv:1312.6034.

        Args:
          X: rows ``[M, ...]``, as for `predict`.
          y: which output of each row, ``[M]``: a class of `classes_`; or of several labels or numbers
            its place. None for the predicted class, the surest label or the first number. Outputs
            of steps are summed over a row's own.

        Returns:
          Gradients of the shape of the network's input rows, 0 past a row's length, in logits (or
          units of the network's output) a unit of X; a vector of arrays for a list of rows.

        Raises:
          ValueError: a label in y that is not a class.
        """
        check_is_fitted(self)
        if self.network_.structure.inputs:
            raise ValueError(
                "input_gradients needs X to be one array of numbers, not ids or a dict."
            )
        rows = self._check_rows(X, units=self.network_.units)
        padded = self._check_shape(rows)
        choice = self._choice(X, y, len(rows.x))
        gradients = programs.input_gradients(
            self.network_.structure,
            self.network_.hyperparameters,
            Weights(self.params_, self.collections_),
            padded.x,
            choice,
            padded.lengths,
        )
        if rows.units is not None and np.any(rows.units.unit != 1):
            gradients = gradients / rows.units.unit  # in float64, which holds them
        if rows.x.ndim < 3:
            return gradients
        return as_given(gradients[:, : rows.x.shape[1]], rows, fill=0)

    def _choice(self, X: Any, y: Any, count: int) -> np.ndarray:
        """The place among the outputs that each row's gradient is of."""
        classes = self.targets_.classes
        if y is None and classes is None:
            return np.zeros(count, np.int32)
        if y is None:
            rows, values = self._predictions(X)
            if self._per_step_:
                values = (values * rows.counts[..., None]).sum(axis=1)
            return values.argmax(axis=-1).astype(np.int32)
        y = np.asarray(y)
        if y.shape != (count,):
            raise ValueError(f"y must name one output for each of {count} rows, got {y.shape}.")
        known = np.arange(self.targets_.outputs) if classes is None else classes
        unknown = np.setdiff1d(y, known).tolist()
        if unknown:
            what = "the class" if classes is not None else "the output"
            raise ValueError(
                f"y has {what} {unknown[0]!r}, which {type(self).__name__} has not; it has"
                f" {', '.join(map(repr, known.tolist()))}."
            )
        return np.searchsorted(known, y).astype(np.int32)
