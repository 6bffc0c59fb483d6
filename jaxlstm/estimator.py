"""Classifiers with scikit-learn's interface: one fit is one lane of the same programs a search runs."""

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
from jaxlstm.grid.plan import make_plan
from jaxlstm.grid.run import Outcome, execute
from jaxlstm.grid.space import Fold, Network, Problem, Trial
from jaxlstm.nn.layers import MERGES
from jaxlstm.nn.networks import ACTIVATIONS, LSTMClassifierNetwork
from jaxlstm.train import hyperparameters
from jaxlstm.train.trial import Data, Structure, mode_argument


class _Classifier(ClassifierMixin, BaseEstimator):
    """What all classifiers share: training, prediction, names of parameters."""

    optimizer: str
    learning_rate: float
    class_weight: Any
    batch_size: int
    epochs: int
    random_state: Any
    verbose: int

    # -- what a subclass says ---------------------------------------------------------------------

    def _module(self, classes: int) -> nn.Module:
        raise NotImplementedError

    def _as_input(self, x: np.ndarray) -> np.ndarray:
        """Rows as the network takes them."""
        return x

    # -- parameters -------------------------------------------------------------------------------

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
        finite = np.isfinite(converted)
        if not finite.all():
            place = tuple(np.argwhere(~finite)[0].tolist())
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
        seed = self.random_state
        if isinstance(seed, int | np.integer) and not 0 <= seed < 2**32:
            raise ValueError(f"random_state must be in [0, 2**32), got {seed!r}.")
        module = self._module(len(classes))
        names = tuple(getattr(type(module), "traced_fields", ()))
        fields = {name: getattr(module, name) for name in names}
        hyperparameters.check(fields)
        # Modules which differ in traced fields alone are equal.
        placeholders: dict[str, Any] = dict.fromkeys(names, 0.0)
        structure = Structure(module.clone(**placeholders), int(params["batch_size"]), names)
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
        weights = self._class_weights(labels, classes)
        return Network(
            structure, hyperparameters.trace(params, weights, fields), int(params["epochs"])
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
          and learning_rate, one value an epoch) and `params_`, the Flax parameters.

        Raises:
          TypeError, ValueError: bad data, or a bad value of a parameter.
        """
        x, labels, classes = self._check_xy(X, y)
        network = self._network(x, labels, classes)
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
        trial = Trial(0, 0, 0, self._seed(), 0, network, {})
        problem = Problem([trial], [fold], [Data(x, labels)])
        plan = make_plan(problem, measure=False)
        if self.verbose:
            from jaxlstm.grid.progress import LiveProgress

            with LiveProgress(plan, problem) as progress:
                (outcome,) = execute(plan, problem, progress=progress)
        else:
            (outcome,) = execute(plan, problem)
        if outcome.failed:
            raise ValueError(
                f"training failed: {outcome.failed}. A smaller learning_rate than"
                f" {self.learning_rate!r} or scaled inputs usually help."
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
        return self

    # -- prediction -------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities ``[M, C]`` of rows ``X [M, ...]``, columns as in `classes_`."""
        check_is_fitted(self)
        x = self._check_x(X)
        self._check_shape(x, self.sample_shape_)
        return programs.predict(
            self.network_.structure,
            self.network_.hyperparameters.fields,
            self.params_,
            self.collections_,
            x,
        )

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each row, ``[M]``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


@functools.lru_cache(maxsize=256)
def _logits_shape(module: nn.Module, shape: tuple[int, ...], dtype: Any) -> Any:
    """What a module returns for one row: a shape, or its type where that is no array."""
    key = jax.eval_shape(lambda: programs.random_key(0))

    def call(row: Any, key: Any) -> Any:
        streams = {"params": key, "dropout": key}
        return module.init_with_output(streams, row, **mode_argument(module, train=False))[0]

    logits = jax.eval_shape(call, jax.ShapeDtypeStruct(shape, dtype), key)
    return getattr(logits, "shape", type(logits).__name__)


class FlaxClassifier(_Classifier):
    """Trains any Flax (linen) module as a classifier.

    The module maps ``[B, ...]`` to logits ``[B, C]``; its ``__call__`` may take ``train``, ``training``
    or ``deterministic``; it may draw from the "dropout" stream and keep batch statistics. Its fields
    are parameters named ``module__field``. Those that it lists in an attribute ``traced_fields`` may
    differ between the lanes of one program; every value of another one is a program of its own.

    Parameters have Keras's names, defaults and numbers where Keras has them.

    Args:
      module: the network, unbound.
      optimizer: "adam", "rmsprop" or "sgd".
      learning_rate: step size, the highest one of a schedule.
      momentum: of sgd and rmsprop.
      nesterov: whether sgd's momentum is Nesterov's.
      beta_1: decay of adam's mean of gradients.
      beta_2: decay of adam's mean of squared gradients.
      rho: decay of rmsprop's mean of squared gradients.
      epsilon: keeps adam's and rmsprop's division finite.
      schedule: "constant", "cosine", "step" or "exponential", see
        `jaxlstm.train.schedules.learning_rate`.
      warmup_epochs: epochs over which the learning rate rises from 0.
      decay_epochs: period of "step" and "exponential", in epochs.
      decay_rate: factor on the learning rate a period.
      alpha: lowest learning rate of "cosine", as a share of the highest.
      l2: weight of the sum of squares of all kernels in the loss (Keras's L2).
      class_weight: None, "balanced" (scikit-learn's) or a dict of class: weight.
      batch_size: rows of an optimizer step.
      epochs: passes over the training rows.
      random_state: seed of initial weights, shuffling and dropout: an integer, a NumPy RandomState or
        None for another one each time.
      verbose: 1 shows a progress bar.

    Example:
      >>> import numpy as np
      >>> from jaxlstm.nn import MLP
      >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
      >>> y = np.where(X.sum(1) > 0, "up", "down")
      >>> model = FlaxClassifier(MLP(classes=2, units=(8,)), epochs=60, random_state=0)
      >>> model.set_params(learning_rate=0.02).fit(X, y).score(X, y) > 0.9
      True
    """

    def __init__(
        self,
        module: Any = None,
        *,
        optimizer: str = "adam",
        learning_rate: float = 0.001,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        rho: float = 0.9,
        epsilon: float = 1e-7,
        schedule: str = "constant",
        warmup_epochs: float = 0,
        decay_epochs: float = 10,
        decay_rate: float = 0.5,
        alpha: float = 0.0,
        l2: float = 0.0,
        class_weight: Any = None,
        batch_size: int = 32,
        epochs: int = 100,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.module = module
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.rho = rho
        self.epsilon = epsilon
        self.schedule = schedule
        self.warmup_epochs = warmup_epochs
        self.decay_epochs = decay_epochs
        self.decay_rate = decay_rate
        self.alpha = alpha
        self.l2 = l2
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.epochs = epochs
        self.random_state = random_state
        self.verbose = verbose

    def _module(self, classes: int) -> nn.Module:
        if not isinstance(self.module, nn.Module):
            raise TypeError(
                f"module must be a flax.linen module, made but not bound, got {self.module!r}."
            )
        return self.module


class LSTMClassifier(_Classifier):
    """Stacked LSTM with a dense head as a classifier.

    Rows are sequences ``[N, T, F]``; a 2-D ``X [N, T]`` is taken as sequences of scalars.

    Args:
      units: units of each LSTM layer, an integer for one layer.
      dense: units of each dense layer after the last LSTM state.
      dropout: rate after every LSTM layer but the last, or, with one layer, on its last state.
      dense_dropout: rate after each dense layer.
      bidirectional: whether the LSTM layers run in both directions.
      merge: how directions are merged: "concat", "sum", "mean" or "mul".
      activation: of the dense layers.
      optimizer: this and all that follow are `FlaxClassifier`'s.
      learning_rate: see `FlaxClassifier`.
      momentum: see `FlaxClassifier`.
      nesterov: see `FlaxClassifier`.
      beta_1: see `FlaxClassifier`.
      beta_2: see `FlaxClassifier`.
      rho: see `FlaxClassifier`.
      epsilon: see `FlaxClassifier`.
      schedule: see `FlaxClassifier`.
      warmup_epochs: see `FlaxClassifier`.
      decay_epochs: see `FlaxClassifier`.
      decay_rate: see `FlaxClassifier`.
      alpha: see `FlaxClassifier`.
      l2: see `FlaxClassifier`.
      class_weight: see `FlaxClassifier`.
      batch_size: see `FlaxClassifier`.
      epochs: see `FlaxClassifier`.
      random_state: see `FlaxClassifier`.
      verbose: see `FlaxClassifier`.

    Example:
      >>> import numpy as np
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = (X[:, :, 0].sum(1) > 0).astype(int)
      >>> model = LSTMClassifier(units=8, learning_rate=0.02, epochs=60, random_state=0)
      >>> model.fit(X, y).predict_proba(X).shape
      (60, 2)
    """

    def __init__(
        self,
        units: Any = (64,),
        *,
        dense: Any = (),
        dropout: float = 0.0,
        dense_dropout: float = 0.0,
        bidirectional: bool = False,
        merge: str = "concat",
        activation: str = "relu",
        optimizer: str = "adam",
        learning_rate: float = 0.001,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        rho: float = 0.9,
        epsilon: float = 1e-7,
        schedule: str = "constant",
        warmup_epochs: float = 0,
        decay_epochs: float = 10,
        decay_rate: float = 0.5,
        alpha: float = 0.0,
        l2: float = 0.0,
        class_weight: Any = None,
        batch_size: int = 32,
        epochs: int = 100,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.units = units
        self.dense = dense
        self.dropout = dropout
        self.dense_dropout = dense_dropout
        self.bidirectional = bidirectional
        self.merge = merge
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.rho = rho
        self.epsilon = epsilon
        self.schedule = schedule
        self.warmup_epochs = warmup_epochs
        self.decay_epochs = decay_epochs
        self.decay_rate = decay_rate
        self.alpha = alpha
        self.l2 = l2
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.epochs = epochs
        self.random_state = random_state
        self.verbose = verbose

    def _module(self, classes: int) -> nn.Module:
        hyperparameters.check_choice("merge", self.merge, MERGES)
        hyperparameters.check_choice("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.bidirectional, bool | np.bool_):
            raise TypeError(f"bidirectional must be True or False, got {self.bidirectional!r}.")
        return LSTMClassifierNetwork(
            classes=classes,
            units=hyperparameters.check_sizes("units", self.units, least=1),
            dense=hyperparameters.check_sizes("dense", self.dense, least=0),
            dropout=self.dropout,
            dense_dropout=self.dense_dropout,
            bidirectional=bool(self.bidirectional),
            merge=self.merge,
            activation=self.activation,
        )

    def _as_input(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 2:
            return x[:, :, None]
        if x.ndim != 3:
            raise ValueError(
                f"LSTMClassifier takes X of shape [N, T, F] or [N, T], got {x.shape}. Images of"
                " several channels can be reshaped to [N, height, width * channels]."
            )
        return x
