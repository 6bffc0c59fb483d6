"""Classifiers: one label per row or step, or any of several."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import numpy as np
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight

from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.base import Estimator
from jaxlstm.estimators.inputs import Sequences, as_given
from jaxlstm.estimators.networks import FlaxNetwork, LSTMNetwork
from jaxlstm.estimators.targets import Targets
from jaxlstm.estimators.training import (
    CLASSIFIER,
    DATA,
    RETURN_SEQUENCES,
    TRAINING,
    with_parameters,
)
from jaxlstm.grid import programs
from jaxlstm.train import hyperparameters
from jaxlstm.train.data import Data, step_weights
from jaxlstm.train.task import Classification

PARAMETERS = (RETURN_SEQUENCES, TRAINING, CLASSIFIER, DATA)


class Classifier(ClassifierMixin, Estimator):
    """What classifiers share."""

    classes: Any
    class_weight: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _check_targets(
        self,
        y: Any,
        rows: Sequences,
        classes: Any = None,
        is_matrix: bool = False,
        center: Any = None,
    ) -> Targets:
        per_step = self._per_step()
        if classes is None:
            classes = getattr(self, "classes", None)
        return reading.labels(y, rows, per_step, type(self).__name__, classes)

    def _row_numbers_matter(self) -> bool:
        return self.class_weight is not None

    def _task_numbers(self, data: Data, rows: np.ndarray, targets: Targets) -> dict[str, Any]:
        if not isinstance(targets.task, Classification):
            if self.class_weight is not None:
                raise ValueError(
                    "class_weight is for one label per row or step; weigh rows of several labels by"
                    " sample_weight."
                )
            return {}
        dtype = data.x.dtype
        return {"class_weight": self._class_weights(data, rows, targets).astype(dtype)}

    def _class_weights(self, data: Data, rows: np.ndarray, targets: Targets) -> np.ndarray:
        classes = targets.classes
        assert classes is not None
        weights = np.ones(len(classes))
        given = self.class_weight
        if given is None:
            return weights
        known = classes.tolist()
        if isinstance(given, dict):
            unknown = [label for label in given if label not in set(known)]
            if unknown:
                raise ValueError(
                    f"class_weight names the class {unknown[0]!r}, which y does not have;"
                    f" its classes: {', '.join(map(repr, known))}."
                )
            for label, weight in given.items():
                hyperparameters.check_number(
                    f"class_weight[{label!r}]", weight, hyperparameters.NOT_NEGATIVE
                )
            given = {index: given.get(label, 1.0) for index, label in enumerate(known)}
        elif given != "balanced":
            raise ValueError(
                f"class_weight must be None, 'balanced' or a dict of class: weight, got {given!r}."
            )
        labels, counts = self._counted_labels(data, rows, targets)
        present = np.unique(labels)
        if given == "balanced" and counts is not None:
            sums = np.bincount(labels, counts, minlength=len(classes))[present]
            weights[present] = counts.sum() / (len(present) * sums)
            return weights
        if isinstance(given, dict):
            given = {index: given[index] for index in present.tolist()}
        weights[present] = compute_class_weight(given, classes=present, y=labels)
        return weights

    @staticmethod
    def _counted_labels(data: Data, rows: np.ndarray, targets: Targets) -> Any:
        """Labels of rows or of their own steps, and what each counts for; None: 1."""
        labels = np.asarray(data.y)[rows]
        weight = None if data.weight is None else np.asarray(data.weight, np.float64)[rows]
        if not targets.task.per_step:
            return labels, weight
        lengths = None if data.lengths is None else np.asarray(data.lengths)[rows]
        counts = step_weights(lengths, weight, *labels.shape)
        is_own = counts > 0
        return labels[is_own], counts[is_own]

    def _adopt_targets(self, targets: Targets) -> None:
        self.classes_ = targets.classes

    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes, ``[M, C]``, columns as in `classes_`.

        Of several labels the probability of each, ``[M, D]``. Per step ``[M, T, C]`` for an array,
        NaN past a row's length, and a vector of arrays ``[T_i, C]`` for a list.
        """
        rows, values = self._predictions(X)
        return as_given(values, rows) if self._per_step_ else values

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of `predict_proba`, of its shape, finite where a probability rounds to 0."""
        rows, logits = self._predictions(X, programs.outputs)
        is_one = isinstance(self.targets_.task, Classification)
        values = log_softmax(logits, axis=-1) if is_one else -np.logaddexp(0, -logits)
        return as_given(values, rows) if self._per_step_ else values

    def decision_function(self, X: Any) -> Any:
        """How much speaks for each class: logits ``[M, C]``, of several labels ``[M, D]``.

        Of two classes ``[M]``, the second one's logit less the first one's, as in scikit-learn: above
        0 the second is predicted. Per step with an axis T after M, as `predict_proba`.
        """
        rows, logits = self._predictions(X, programs.outputs)
        if isinstance(self.targets_.task, Classification) and logits.shape[-1] == 2:
            logits = logits[..., 1] - logits[..., 0]
        return as_given(logits, rows) if self._per_step_ else logits

    def predict(self, X: Any) -> Any:
        """Most probable class of each row, ``[M]``; of several labels 0 or 1 for each, ``[M, D]``.

        Per step ``[M, T]`` for an array, None past a row's length, and a vector of arrays ``[T_i]``
        for a list.
        """
        return super().predict(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy of `predict`: of rows, of steps, or of rows with all labels right.

        Args:
          X: rows, as for `predict`.
          y: their targets.
          sample_weight: what each row, or step, counts for.
        """
        return float(self._scored(accuracy_score, X, y, sample_weight))


@with_parameters(*PARAMETERS)
class FlaxClassifier(FlaxNetwork, Classifier):
    """Trains any Flax (linen) module as a classifier.

    The module maps ``[B, ...]`` to logits ``[B, C]``, or ``[B, T, C]`` with ``return_sequences``; its
    ``__call__`` may take ``train``, ``training`` or ``deterministic``, and ``lengths [B]``, without
    which rows must be equally long; it may draw from random streams and keep other variables, such
    as the statistics of `flax.linen.BatchNorm`: where rows of a batch depend on each other, a batch
    is its own rows and no others, the last one of an epoch included.
    Its fields are parameters named ``module__field``. Those that it lists in an attribute
    ``traced_fields`` may differ between the lanes of one program; every value of another one is a
    program of its own.

    Labels are one per row, or any of several as a matrix of 0 and 1 ``[N, D]``. Parameters have
    Keras's names, defaults and numbers where Keras has them.

    Args:
      module: the network, unbound; a field ``classes``, ``num_classes``, ``n_classes``, ``outputs``,
        ``num_outputs``, ``n_outputs`` or ``out_features`` that is None becomes the number of classes.
      {training}

    Example:
      >>> import numpy as np
      >>> from jaxlstm.nn import MLP
      >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
      >>> y = np.where(X.sum(1) > 0, "up", "down")
      >>> model = FlaxClassifier(MLP(classes=2, units=(8,)), epochs=60, random_state=0)
      >>> model.set_params(learning_rate=0.02).fit(X, y).score(X, y) > 0.9
      True
    """

    def __init__(self, module: nn.Module | None = None, **training: Any): ...


@with_parameters(*PARAMETERS)
class LSTMClassifier(LSTMNetwork, Classifier):
    """Stacked LSTM with a dense head as a classifier.

    Rows are sequences: an array ``[N, T, F]`` whose rows may end in steps of NaN, a list of arrays
    ``[T_i, F]``, a `jaxlstm.data.SequenceData`, or ``[N, T]`` for sequences of scalars. Labels are one
    per row, or any of several as a matrix of 0 and 1 ``[N, D]``; with ``return_sequences`` they are
    one per step.

    Args:
      units: units of each LSTM layer, an integer for one layer.
      dense: units of each dense layer after the last LSTM state.
      dropout: rate after every LSTM layer but the last, or, with one layer, on its last state.
      dense_dropout: rate after each dense layer.
      recurrent_dropout: rate on the way into the recurrent product, see `LSTM`; every value but 0
        is a lane of one program, and 0 is of another.
      bidirectional: whether the LSTM layers run in both directions.
      merge: how directions are merged: "concat", "sum", "mean" or "mul".
      activation: of the dense layers.
      {training}

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
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        merge: str = "concat",
        activation: str = "relu",
        **training: Any,
    ): ...
