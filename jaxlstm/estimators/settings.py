"""What an estimator's parameters mean for rows and targets: checked data and a network."""

from __future__ import annotations

import dataclasses
import functools
import re
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from jaxlstm import forks
from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.inputs import (
    Sequences,
    check_kind,
    first_not_finite,
    is_dict,
    is_sequence_data,
    read_padding,
    read_rows,
    targets_of,
)
from jaxlstm.estimators.targets import Targets
from jaxlstm.estimators.training import CLASSIFIER, DATA, REGRESSOR, TRAINING
from jaxlstm.grid import programs
from jaxlstm.grid.mixing import find as find_mixing
from jaxlstm.grid.space import Network
from jaxlstm.train import augment, hyperparameters, optimizers, standardization
from jaxlstm.train.data import Data, Input, network_input, with_mass
from jaxlstm.train.hyperparameters import OPTIMIZERS
from jaxlstm.train.standardization import Units
from jaxlstm.train.trial import Structure, call_arguments, takes_lengths

_TRAINING = (*TRAINING, *CLASSIFIER, *REGRESSOR, *DATA)


class Settings(BaseEstimator):
    """The parameters of all estimators, and what they make of a data set."""

    loss: Any
    return_sequences: bool
    augment: Any
    standardize: bool
    batch_size: int
    validation_fraction: float
    warm_start: bool
    random_state: Any
    verbose: int

    # -- what a subclass says ---------------------------------------------------------------------

    def _module(self, outputs: int) -> nn.Module:
        raise NotImplementedError

    def _as_input(self, x: Any) -> Any:
        """Rows as the network takes them."""
        return x

    def _inputs(self, module: nn.Module, x: np.ndarray) -> tuple[Input, ...]:
        """What columns of checked rows are to the network; empty: rows are its input."""
        return ()

    def _check_targets(
        self,
        y: Any,
        rows: Sequences,
        classes: Any = None,
        is_matrix: bool = False,
        center: Any = None,
    ) -> Targets:
        """Targets checked and encoded; one column stays one with ``is_matrix``."""
        raise NotImplementedError

    def _task_numbers(self, data: Data, rows: np.ndarray, targets: Targets) -> dict[str, Any]:
        """Traced numbers of the task that depend on the training rows."""
        return {}

    def _row_numbers_matter(self) -> bool:
        """Whether `_task_numbers` differ from split to split."""
        return False

    def _standardizes_targets(self) -> bool:
        return False

    def _adopt_targets(self, targets: Targets) -> None:
        """Sets what a fitted estimator tells of its targets."""

    # -- parameters -------------------------------------------------------------------------------

    @classmethod
    @functools.cache  # scikit-learn reads the signature anew for each of a search's thousands of clones
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()
        return names

    def set_params(self, **params: Any) -> Any:
        """Sets parameters by name.

        Raises:
          ValueError: an unknown name; the message has the nearest right one.
        """
        self._check_names(params)
        return super().set_params(**params)

    def _check_names(self, params: Iterable[str]) -> None:
        allowed = self.get_params(deep=True)
        for name in params:
            if name not in allowed:
                raise ValueError(
                    f"{name!r} is not a parameter of {type(self).__name__}."
                    f"{hyperparameters.nearest(name, allowed)}"
                    f" Its parameters: {', '.join(sorted(allowed))}."
                )

    def _settings(self) -> dict[str, Any]:
        """Training parameters by name; a subclass's own constructor may name fewer."""
        return {name: getattr(self, name) for name in _TRAINING if hasattr(self, name)}

    def _per_step(self) -> bool:
        if not isinstance(self.return_sequences, bool | np.bool_):
            raise TypeError(
                f"return_sequences must be True or False, got {self.return_sequences!r}."
            )
        return bool(self.return_sequences)

    # -- data -------------------------------------------------------------------------------------

    def _check_rows(
        self, X: Any, *, reset: bool = False, units: Units | None = None, by: Any = None
    ) -> Sequences:
        """Returns finite rows in the type of computation, padding cut and filled with 0.

        Args:
          X: rows as the user has them.
          reset: whether they are trained on, and say what later ones must be like.
          units: what their features are written in; None: what standardising rows that are trained
            on needs, else as they are.
          by: the row numbers that say what it needs; None: all.
        """
        forks.check()
        if is_dict(X):
            raise TypeError(
                f"{type(self).__name__} takes one array; a dict of arrays is for a Flax module of your"
                " own, in FlaxClassifier or FlaxRegressor."
            )
        rows = read_rows(X)
        if rows is None:
            rows = read_padding(self._checked_array(X, reset=reset))
        elif reset:
            self.n_features_in_ = rows.x.shape[-1] if rows.x.ndim > 2 else 1
        # The type of loaded data was not the user's choice.
        said = not reset or is_sequence_data(X)
        if reset and units is None and self.standardize:
            numbers = np.arange(len(rows.x)) if by is None else by
            dtype = jax.dtypes.canonicalize_dtype(float)
            x = self._as_input(rows.x)
            units = standardization.units_of(x, numbers, rows.lengths, dtype) if x.size else None
        return rows._replace(x=self._convert(rows.x, units, said=said), units=units)

    def _checked_array(self, X: Any, *, reset: bool) -> np.ndarray:
        options: Any = {"allow_nd": True, "dtype": "numeric", "ensure_all_finite": False}
        if getattr(X, "ndim", None) is None:
            X = np.asarray(X) if hasattr(X, "__array__") or isinstance(X, list | tuple) else X
        check_kind("X", X)
        shape: tuple[int, ...] = getattr(self, "sample_shape_", ())
        # To a network of sequences of several features a table is rows of another shape.
        is_other = not reset and len(shape) > 1 and self.n_features_in_ == shape[-1]
        if getattr(X, "ndim", 2) < 3 and not is_other:
            try:
                return np.asarray(validate_data(self, X, reset=reset, **options))
            except ValueError as error:
                if reset or shape[1:] != (1,) or "features as input" not in str(error):
                    raise
                raise ValueError(
                    f"{error} Rows [N, T] are sequences of one feature, so these are steps: for"
                    " another number of steps give them as [N, T, 1], X[:, :, None]."
                ) from error
        x = np.asarray(check_array(X, estimator=self, **options))
        if reset:
            self.n_features_in_ = x.shape[-1]
        return x

    def _convert(self, X: np.ndarray, units: Units | None, *, said: bool) -> np.ndarray:
        if not X.size:
            raise ValueError(f"X must have rows of at least one number, got shape {X.shape}.")
        dtype = jax.dtypes.canonicalize_dtype(float)
        with np.errstate(over="ignore"):
            if units is None:
                converted = X.astype(dtype, copy=False)
            else:
                converted = units.written(self._as_input(X), dtype).reshape(X.shape)
        place = first_not_finite(converted)
        if place is not None:
            value = X[place]
            more = "" if self.standardize else ", or set standardize=True"
            reason = f"{value}, too large for {dtype}: scale X first{more}"
            if not np.isfinite(value):
                reason = "NaN" if np.isnan(value) else "infinity"
            raise ValueError(
                f"X must hold finite numbers, but X[{', '.join(map(str, place))}] is {reason}."
            )
        if X.dtype != dtype and not said:
            warnings.warn(
                f"X was converted from {X.dtype} to {dtype}, the type that jaxlstm computes in.",
                DataConversionWarning,
                stacklevel=2,
            )
        return self._as_input(converted)

    def _check_data(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        classes: Any = None,
        reset: bool = True,
        units: Units | None = None,
        center: Any = None,
        by: Any = None,
    ) -> tuple[Data, Targets, Sequences]:
        """Returns the data set, and what its targets mean; see `_check_rows`.

        ``center`` is what targets are written from, see `Targets`; None: what standardising needs.
        """
        rows = self._check_rows(X, reset=reset, units=units, by=by)
        y = targets_of(X, y)
        # A forecast of one step is a matrix of one column, as its data set says.
        is_matrix = is_sequence_data(X) and y is X.targets
        targets = self._check_targets(y, rows, classes, is_matrix, center)
        weight = reading.weights(sample_weight, rows, targets.task.per_step)
        data = Data(rows.x, targets.y, rows.lengths, weight)
        return with_mass(data, targets.task.per_step), targets.without_y(), rows

    # -- the network ------------------------------------------------------------------------------

    def _network(self, data: Data, rows: np.ndarray, targets: Targets) -> Network:
        """What these settings mean for a data set of which ``rows`` are trained on.

        Raises:
          TypeError, ValueError: a bad value of a parameter, or a module that does not fit the data.
        """
        params = self._settings()
        task = targets.task.with_loss(targets.task.loss_of(self.loss))
        hyperparameters.check(params, task.monitors)
        fraction = self.validation_fraction
        hyperparameters.check_number("validation_fraction", fraction, hyperparameters.RATE)
        seed = self.random_state
        if isinstance(seed, int | np.integer) and not 0 <= seed < 2**32:
            raise ValueError(f"random_state must be in [0, 2**32), got {seed!r}.")
        own = self.get_params(deep=False)
        hyperparameters.check({name: own[name] for name in own if name.endswith("dropout")})
        for name in ("standardize", "warm_start"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        module = self._module(targets.outputs)
        names = tuple(getattr(module, "traced_fields", ()))
        fields = {name: getattr(module, name) for name in names}
        hyperparameters.check(fields)
        # Modules which differ in traced fields alone are equal.
        placeholders: dict[str, Any] = dict.fromkeys(names, 0.0)
        # A batch of more than all rows is all of them.
        params["batch_size"] = batch_size = int(params["batch_size"])
        is_ragged = data.lengths is not None
        rule = hyperparameters.rule_of(params)
        structure = Structure(
            module.clone(**placeholders),
            min(batch_size, len(rows)),
            names,
            optimizers=OPTIMIZERS if rule in OPTIMIZERS else (rule,),
            undecayed=hyperparameters.patterns(params.get("exclude_from_weight_decay", ())),
            augment=augment.checked(self.augment, data.x.shape[1:], data.x.dtype, is_ragged),
            standardizes=bool(self.standardize),
            task=task,
            inputs=self._inputs(module, data.x),
        )
        try:
            hash(module)
        except TypeError as error:
            raise TypeError(
                "the module's fields must be hashable, so that trials can share a program"
                f"{_unhashable(module)}: numbers of an array can be a tuple."
            ) from error
        _check_traced(module, names, structure.inputs, data)
        self._check_outputs(structure, data, targets)
        mixing = find_mixing(structure, data)
        structure = dataclasses.replace(structure, mixing=mixing)
        self._check_undecayed(structure, data.x)
        if callable(task.losses[0]):
            task.check_own_loss(data.y[:1], targets.outputs, data.x.dtype)
        numbers = task.numbers(params, data.x.dtype) | self._task_numbers(data, rows, targets)
        watches = hyperparameters.needs_validation(params)
        return Network(
            structure,
            hyperparameters.trace(params, numbers, fields, task.monitors),
            int(params["epochs"]),
            holds_out=float(fraction) if watches else 0.0,
            keeps_best=bool(params["restore_best_weights"]),
            counts_epochs=hyperparameters.uses_total_epochs(params),
            watches_validation=watches,
            standardizes_targets=self._standardizes_targets(),
        )

    @staticmethod
    def _check_undecayed(structure: Structure, x: np.ndarray) -> None:
        """Raises ValueError for a name in ``exclude_from_weight_decay`` that no parameter has."""
        if not structure.undecayed:
            return
        row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
        names = optimizers.names_of(programs.weights_shape(structure, row).params)
        for pattern in structure.undecayed:
            if not any(re.search(pattern, name) for name in names):
                raise ValueError(
                    f"exclude_from_weight_decay has {pattern!r}, which is in the name of no parameter:"
                    f" {', '.join(names)}."
                )

    @staticmethod
    def _check_outputs(structure: Structure, data: Data, targets: Targets) -> None:
        module, own = structure.module, data.x.shape[1:]
        if data.lengths is not None and not takes_lengths(module):
            row = int(np.argmin(data.lengths))
            raise ValueError(
                f"{type(module).__name__} does not take lengths, so its rows must be equally long, but"
                f" X[{row}] has {data.lengths[row]} steps and others have {own[0]}."
            )
        if targets.task.per_step and len(own) < 2:
            raise ValueError("return_sequences=True needs rows of several steps, X [N, T, F].")
        shape = _output_shape(structure, (1, *own), data.x.dtype, data.lengths is not None)
        steps = own[:1] if targets.task.per_step else ()
        if shape != (1, *steps, targets.outputs):
            wanted = "[B, T, " if targets.task.per_step else "[B, "
            kind, what = "logits", "a column for each class in y"
            if targets.classes is None:
                kind, what = "outputs", "a column for each number of a target"
            raise ValueError(
                f"{type(module).__name__} must return {kind} of shape {wanted}{targets.outputs}],"
                f" {what}; for one row of shape {own} it returns {shape}."
            )


def _output_shape(structure: Structure, shape: tuple[int, ...], dtype: Any, is_ragged: bool) -> Any:
    """What a module returns for one row: a shape, or its type where that is no array."""
    module = structure.module
    try:
        return programs.output_shape(structure, jax.ShapeDtypeStruct(shape, dtype), is_ragged)
    except TypeError as error:
        held = {field.name: getattr(module, field.name, 0) for field in dataclasses.fields(module)}
        unset = [name for name in held if held[name] is None and name not in ("parent", "name")]
        if "None)" not in str(error) or not unset:
            raise
        raise TypeError(
            f"{type(module).__name__} has None for a size ({', '.join(unset)}): give the number; a"
            " field named classes, num_classes or outputs that is None becomes that of y."
        ) from error


def _unhashable(module: nn.Module) -> str:
    for field in dataclasses.fields(module):
        held = getattr(module, field.name, None)
        try:
            hash(held)
        except TypeError:
            return f", but {field.name} of {type(module).__name__} holds {type(held).__name__}"
    return ""


def _check_traced(
    module: nn.Module, names: tuple[str, ...], inputs: tuple[Input, ...], data: Data
) -> None:
    """Raises TypeError where a module needs to know the value of one of its traced fields."""
    if not names or type(module).__module__.startswith("jaxlstm."):
        return
    row = jax.ShapeDtypeStruct((1, *data.x.shape[1:]), data.x.dtype)
    lengths = None if data.lengths is None else jax.ShapeDtypeStruct((1,), np.int32)
    key = jax.eval_shape(lambda: programs.random_key(0))

    def run(traced: dict[str, Any]) -> None:
        def call(row: Any, key: Any, lengths: Any, traced: Any) -> Any:
            x, one = network_input(inputs, row), module.clone(**traced)
            for train in (False, True):
                given = call_arguments(one, train, lengths, x)
                one.init_with_output({"params": key, "dropout": key}, x, **given)

        jax.eval_shape(call, row, key, lengths, traced)

    number = jax.ShapeDtypeStruct((), data.x.dtype)
    for name in names:
        try:
            run({name: number})
        except Exception as error:
            run({})  # what fails anyhow has another cause
            raise TypeError(
                f"{type(module).__name__} lists {name!r} in its traced_fields, so the program has it as"
                f" a traced number, but the module needs to know its value{_where(error)}"
            ) from error


def _where(error: Exception) -> str:
    """Where a value was wanted, and what helps."""
    frames = [Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)]
    if any(parts[-3:] == ("flax", "linen", "stochastic.py") for parts in frames):
        return ": flax.linen.Dropout takes no traced rate, jaxlstm.Dropout does."
    return (
        " (a Python if, float() or a shape). Use jax.numpy, such as jnp.where, or leave it out of"
        " traced_fields: each value is then a program of its own."
    )
