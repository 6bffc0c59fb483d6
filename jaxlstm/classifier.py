"""What all classifiers share: a fit is one lane of the same programs that a search runs."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from jaxlstm.grid import programs
from jaxlstm.grid.outcome import INTERRUPTED, Outcome
from jaxlstm.grid.plan import default_layout, make_plan
from jaxlstm.grid.run import execute
from jaxlstm.grid.space import Fold, Network, Problem, Trial, hold_out
from jaxlstm.train import augment, hyperparameters, standardization
from jaxlstm.train.trial import Data, Structure, Weights, mode_argument


class Classifier(ClassifierMixin, BaseEstimator):
    """What all classifiers share: training, prediction, names of parameters."""

    optimizer: str
    learning_rate: float | None
    class_weight: Any
    augment: Any
    standardize: bool
    batch_size: int
    epochs: int
    validation_fraction: float
    random_state: Any
    verbose: int

    # -- what a subclass says ---------------------------------------------------------------------

    def _module(self, classes: int) -> nn.Module:
        raise NotImplementedError

    def _as_input(self, x: np.ndarray) -> np.ndarray:
        """Rows as the network takes them."""
        return x

    # -- parameters -------------------------------------------------------------------------------

    @classmethod
    @functools.cache  # scikit-learn reads the signature anew for each of a search's thousands of clones
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()
        return names

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name; with ``deep``, a module's fields too, as ``module__field``."""
        params = super().get_params(deep=deep)
        module = params.get("module")
        if deep and isinstance(module, nn.Module):
            for field in dataclasses.fields(module):
                if field.name not in ("parent", "name"):
                    params[f"module__{field.name}"] = getattr(module, field.name)
        return params

    def set_params(self, **params: Any) -> Any:
        """Sets parameters by name, a module's fields as ``module__field``.

        Raises:
          ValueError: an unknown name; the message has the nearest right one.
        """
        if isinstance(params.get("module"), nn.Module) and hasattr(self, "module"):
            self.module = params.pop("module")  # first: the fields named beside it are its own
        allowed = self.get_params(deep=True)
        for name in params:
            if name not in allowed:
                raise ValueError(
                    f"{name!r} is not a parameter of {type(self).__name__}."
                    f"{hyperparameters.nearest(name, allowed)}"
                    f" Its parameters: {', '.join(sorted(allowed))}."
                )
        fields = {
            name.removeprefix("module__"): params.pop(name)
            for name in list(params)
            if name.startswith("module__")
        }
        super().set_params(**params)
        if fields:
            self.module = self.module.clone(**fields)
        return self

    # -- data -------------------------------------------------------------------------------------

    def _check_x(self, X: Any, *, reset: bool = False) -> np.ndarray:
        """Returns finite rows ``[N, ...]`` in the type of computation."""
        X = validate_data(
            self, X, reset=reset, allow_nd=True, dtype="numeric", ensure_all_finite=False
        )
        return self._convert(X, said=not reset)

    def _convert(self, X: np.ndarray, *, said: bool) -> np.ndarray:
        if not X.size:
            raise ValueError(f"X must have rows of at least one number, got shape {X.shape}.")
        dtype = jax.dtypes.canonicalize_dtype(float)
        with np.errstate(over="ignore"):
            converted = X.astype(dtype, copy=False)
        place = _first_not_finite(converted)
        if place is not None:
            value = X[place]
            reason = f"{value}, too large for {dtype}: scale X first"
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

    def _check_shape(self, x: np.ndarray, shape: tuple[int, ...]) -> None:
        if x.shape[1:] != shape:
            raise ValueError(
                f"each row of X must have the shape {shape} that {type(self).__name__} was fitted on,"
                f" got {x.shape[1:]}."
            )

    def _check_xy(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows, labels as integers, and the classes."""
        X, y = validate_data(self, X, y, allow_nd=True, dtype="numeric", ensure_all_finite=False)
        check_classification_targets(y)
        encoder = LabelEncoder()
        labels = encoder.fit_transform(column_or_1d(y, warn=True)).astype(np.int32)
        if len(encoder.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two classes in y; all {len(y)} labels are the"
                f" one class {encoder.classes_.tolist()[0]!r}."
            )
        return self._convert(X, said=False), labels, encoder.classes_

    # -- one fit ----------------------------------------------------------------------------------

    def _network(self, x: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> Network:
        """What these settings mean for rows ``x [N, ...]`` with training labels ``labels``.

        Raises:
          TypeError, ValueError: a bad value of a parameter, or a module that does not fit the data.
        """
        params = self.get_params(deep=False)
        hyperparameters.check(params)
        fraction = self.validation_fraction
        hyperparameters.check_number("validation_fraction", fraction, hyperparameters.RATE)
        seed = self.random_state
        if isinstance(seed, int | np.integer) and not 0 <= seed < 2**32:
            raise ValueError(f"random_state must be in [0, 2**32), got {seed!r}.")
        hyperparameters.check({name: params[name] for name in params if name.endswith("dropout")})
        module = self._module(len(classes))
        names = tuple(getattr(module, "traced_fields", ()))
        fields = {name: getattr(module, name) for name in names}
        hyperparameters.check(fields)
        # Modules which differ in traced fields alone are equal.
        placeholders: dict[str, Any] = dict.fromkeys(names, 0.0)
        # A batch of more than all rows is all of them.
        batch_size = min(int(params["batch_size"]), len(labels))
        if not isinstance(self.standardize, bool | np.bool_):
            raise TypeError(f"standardize must be True or False, got {self.standardize!r}.")
        structure = Structure(
            module.clone(**placeholders),
            batch_size,
            names,
            augment=augment.checked(self.augment, x.shape[1:], x.dtype),
            standardizes=bool(self.standardize),
        )
        try:
            hash(module)
        except TypeError as error:
            raise TypeError(
                f"the module's fields must be hashable, so that trials can share a program: {error}."
            ) from error
        shape = _logits_shape(structure.module, (1, *x.shape[1:]), x.dtype)
        if shape != (1, len(classes)):
            raise ValueError(
                f"{type(module).__name__} must return logits of shape [B, {len(classes)}], a column"
                f" for each class in y; for one row of shape {x.shape[1:]} it returns {shape}."
            )
        watches = hyperparameters.needs_validation(params)
        return Network(
            structure,
            hyperparameters.trace(params, self._class_weights(labels, classes), fields),
            int(params["epochs"]),
            holds_out=float(fraction) if watches else 0.0,
            keeps_best=bool(params["restore_best_weights"]),
            counts_epochs=hyperparameters.uses_total_epochs(params),
            watches_validation=watches,
        )

    def _class_weights(self, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        if self.class_weight is None:
            return np.ones(len(classes))
        weights = np.ones(len(classes))
        present = np.unique(labels)
        given = self.class_weight
        if isinstance(given, dict):
            unknown = [label for label in given if label not in set(classes.tolist())]
            if unknown:
                raise ValueError(
                    f"class_weight names the class {unknown[0]!r}, which y does not have;"
                    f" its classes: {', '.join(map(repr, classes.tolist()))}."
                )
            for label, weight in given.items():
                hyperparameters.check_number(
                    f"class_weight[{label!r}]", weight, hyperparameters.NUMBERS["l2"]
                )
            known = classes.tolist()
            given = {index: given.get(label, 1.0) for index, label in enumerate(known)}
            given = {index: given[index] for index in present.tolist()}
        elif given != "balanced":
            raise ValueError(
                f"class_weight must be None, 'balanced' or a dict of class: weight, got {given!r}."
            )
        weights[present] = compute_class_weight(given, classes=present, y=labels)
        return weights

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def fit(self, X: Any, y: Any, *, validation_data: tuple[Any, Any] | None = None) -> Any:
        """Trains on rows ``X [N, ...]`` with labels ``y [N]``.

        Args:
          X: rows, numbers; converted to float32 (float64 where JAX is set so).
          y: labels of any type that scikit-learn takes, two classes or more.
          validation_data: ``(X, y)`` to evaluate on after each epoch, for `history_` alone.

        Returns:
          self, with `classes_`, `history_` (Keras's names: loss, accuracy, val_loss, val_accuracy
          and learning_rate, one value an epoch), `best_epoch_` (the place in it of the epoch whose
          weights were kept, the last one unless ``restore_best_weights``) and `params_`, the Flax
          parameters.

        Raises:
          TypeError, ValueError: bad data, or a bad value of a parameter.
        """
        x, labels, classes = self._check_xy(X, y)
        network = self._network(x, labels, classes)
        seed = self._seed()
        rows = np.arange(len(x))
        fold = Fold(rows, rows[:0])
        if validation_data is not None:
            val_X, val_y = validation_data
            check_consistent_length(val_X, val_y)
            val_x = self._check_x(val_X)
            self._check_shape(val_x, x.shape[1:])
            unknown = np.setdiff1d(val_y, classes).tolist()
            if unknown:
                raise ValueError(f"validation_data has the class {unknown[0]!r}, which y has not.")
            x = np.concatenate([x, val_x])
            labels = np.concatenate([labels, np.searchsorted(classes, val_y).astype(np.int32)])
            fold = Fold(rows, np.arange(len(rows), len(x)))
        elif network.holds_out:
            fold = hold_out(fold, labels, network.holds_out, seed)
        elif network.watches_validation:
            raise ValueError(
                "a metric of validation rows is watched (early stopping, restore_best_weights or the"
                " plateau schedule), but there are none: give validation_data, a"
                " validation_fraction above 0, or watch 'loss' or 'accuracy'."
            )
        if network.structure.standardizes:
            network = network.standardized(standardization.fit(x, fold.train))
        trial = Trial(0, 0, 0, seed, 0, 0, network, {})
        problem = Problem([trial], [fold], [Data(x, labels)])
        plan = make_plan(problem, layout=default_layout(problem), measure=False)
        if self.verbose:
            from jaxlstm.grid.progress import LiveProgress

            with LiveProgress(plan, problem) as progress:
                (outcome,) = execute(plan, problem, progress=progress)
        else:
            (outcome,) = execute(plan, problem)
        if outcome.failed == INTERRUPTED:
            raise KeyboardInterrupt
        if outcome.failed:
            rate = float(network.hyperparameters.learning_rate)
            raise ValueError(
                f"training failed: {outcome.failed}. A smaller learning_rate than {rate:g} or scaled"
                " inputs usually help."
            )
        return self._adopt(outcome, network, classes, x.shape[1:])

    def _adopt(
        self, outcome: Outcome, network: Network, classes: np.ndarray, shape: tuple[int, ...]
    ) -> Any:
        """Becomes the fitted classifier that a finished trial stands for."""
        self.classes_ = classes
        self.network_ = network
        self.params_, self.collections_ = outcome.params, outcome.collections
        self.sample_shape_ = shape
        names = {
            "train_loss": "loss",
            "train_accuracy": "accuracy",
            "val_loss": "val_loss",
            "val_accuracy": "val_accuracy",
            "learning_rate": "learning_rate",
        }
        self.history_ = {names[name]: list(values) for name, values in outcome.curves.items()}
        self.best_epoch_ = outcome.last
        return self

    # -- prediction -------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities ``[M, C]`` of rows ``X [M, ...]``, columns as in `classes_`."""
        check_is_fitted(self)
        x = self._check_x(X)
        self._check_shape(x, self.sample_shape_)
        return programs.predict(
            self.network_.structure,
            self.network_.hyperparameters,
            Weights(self.params_, self.collections_),
            x,
        )

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each row, ``[M]``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def input_gradients(self, X: Any, y: Any = None) -> np.ndarray:
        """Gradients of a class's logit by the inputs: what of each row speaks for the class.

        Their absolute values are the saliency maps of Simonyan et al., arXiv:1312.6034.

        Args:
          X: rows ``[M, ...]``, as for `predict`.
          y: a class of `classes_` for each row, ``[M]``; None for the predicted one.

        Returns:
          Gradients of the shape of the network's input rows, in logits a unit of X.

        Raises:
          ValueError: a label in y that is not a class.
        """
        check_is_fitted(self)
        x = self._check_x(X)
        self._check_shape(x, self.sample_shape_)
        y = self.predict(X) if y is None else np.asarray(y)
        check_consistent_length(x, y)
        unknown = np.setdiff1d(y, self.classes_).tolist()
        if unknown:
            raise ValueError(
                f"y has the class {unknown[0]!r}, which {type(self).__name__} has not."
            )
        return programs.input_gradients(
            self.network_.structure,
            self.network_.hyperparameters,
            Weights(self.params_, self.collections_),
            x,
            np.searchsorted(self.classes_, y),
        )


def _first_not_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """Where the first number is that is not finite; looks piece by piece, as x may be on disk."""
    at_once = max(1, standardization.PIECE // x[0].size)
    for start in range(0, len(x), at_once):
        finite = np.isfinite(x[start : start + at_once])
        if not finite.all():
            row, *rest = np.argwhere(~finite)[0].tolist()
            return (start + row, *rest)
    return None


@functools.lru_cache(maxsize=256)
def _logits_shape(module: nn.Module, shape: tuple[int, ...], dtype: Any) -> Any:
    """What a module returns for one row: a shape, or its type where that is no array."""
    key = jax.eval_shape(lambda: programs.random_key(0))

    def call(row: Any, key: Any) -> Any:
        streams = {"params": key, "dropout": key}
        return module.init_with_output(streams, row, **mode_argument(module, train=False))[0]

    logits = jax.eval_shape(call, jax.ShapeDtypeStruct(shape, dtype), key)
    return getattr(logits, "shape", type(logits).__name__)
