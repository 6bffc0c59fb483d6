"""Regressors: a number, or several, per row or step."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from jaxlstm.estimators import targets as reading
from jaxlstm.estimators.base import Estimator
from jaxlstm.estimators.inputs import Sequences
from jaxlstm.estimators.networks import FlaxNetwork, LSTMNetwork
from jaxlstm.estimators.targets import Targets
from jaxlstm.estimators.training import (
    DATA,
    REGRESSOR,
    RETURN_SEQUENCES,
    TRAINING,
    with_parameters,
)

PARAMETERS = (RETURN_SEQUENCES, TRAINING, REGRESSOR, DATA)


class Regressor(RegressorMixin, Estimator):
    """What regressors share."""

    standardize_targets: bool

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_targets(
        self,
        y: Any,
        rows: Sequences,
        classes: Any = None,
        is_matrix: bool = False,
        center: Any = None,
    ) -> Targets:
        if center is None and not self._standardizes_targets():
            center = 0.0
        return reading.numbers(y, rows, self._per_step(), type(self).__name__, is_matrix, center)

    def _standardizes_targets(self) -> bool:
        if not isinstance(self.standardize_targets, bool | np.bool_):
            raise TypeError(
                f"standardize_targets must be True or False, got {self.standardize_targets!r}."
            )
        return bool(self.standardize_targets)

    def predict(self, X: Any) -> Any:
        """Numbers of each row, ``[M]`` or ``[M, D]``, in the units of the targets.

        Per step ``[M, T]`` or ``[M, T, D]`` for an array, NaN past a row's length, and a vector of
        arrays ``[T_i]`` or ``[T_i, D]`` for a list.
        """
        return super().predict(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R2 of `predict`, the mean over several targets, as scikit-learn's regressors score.

        Args:
          X: rows, as for `predict`.
          y: their targets.
          sample_weight: what each row, or step, counts for.
        """
        return float(self._scored(r2_score, X, y, sample_weight))


@with_parameters(*PARAMETERS)
class FlaxRegressor(FlaxNetwork, Regressor):
    """Trains any Flax (linen) module as a regressor.

    The module maps ``[B, ...]`` to numbers ``[B, D]``, or ``[B, T, D]`` with ``return_sequences``; else
    it is as for `FlaxClassifier`. Targets are ``[N]`` or ``[N, D]``, per step ``[N, T]`` or
    ``[N, T, D]``.

    Args:
      module: the network, unbound; a field ``classes`` that is None becomes the number of outputs.
      {training}

    Example:
      >>> import numpy as np
      >>> from jaxlstm.nn import MLP
      >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
      >>> model = FlaxRegressor(MLP(classes=1, units=(8,)), epochs=60, random_state=0)
      >>> model.set_params(learning_rate=0.02).fit(X, X.sum(1)).score(X, X.sum(1)) > 0.9
      True
    """

    def __init__(self, module: nn.Module | None = None, **training: Any): ...


@with_parameters(*PARAMETERS)
class LSTMRegressor(LSTMNetwork, Regressor):
    """Stacked LSTM with a dense head as a regressor.

    Rows are as for `LSTMClassifier`. Targets are ``[N]`` or ``[N, D]``; with ``return_sequences``
    ``[N, T]`` or ``[N, T, D]``, or a list of arrays ``[T_i]`` or ``[T_i, D]``.

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
      >>> rng = np.random.default_rng(0)
      >>> X = [rng.normal(size=(n, 2)).astype("float32") for n in rng.integers(3, 9, size=60)]
      >>> y = np.array([row[:, 0].sum() for row in X])
      >>> model = LSTMRegressor(units=8, learning_rate=0.03, epochs=60, random_state=0)
      >>> model.fit(X, y).score(X, y) > 0.8
      True
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
