"""jaxlstm trains every LSTM of a hyperparameter search at once.

All grid cells x folds x seeds are lanes of one compiled JAX program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxlstm import forks  # noqa: F401 - notes forks from now on
from jaxlstm._lazy import attach

if TYPE_CHECKING:
    from jaxlstm.estimators.classifier import FlaxClassifier, LSTMClassifier
    from jaxlstm.estimators.regressor import FlaxRegressor, LSTMRegressor
    from jaxlstm.grid.finder import LearningRates, find_learning_rate
    from jaxlstm.grid.halving import HalvingSearch
    from jaxlstm.grid.optuna_search import OptunaSearch
    from jaxlstm.grid.plan import Plan
    from jaxlstm.grid.search import GridSearch, RandomSearch
    from jaxlstm.nn import (
        CNN,
        CNNLSTM,
        LSTM,
        MLP,
        Bidirectional,
        Conv1D,
        Dropout,
        LSTMCell,
        LSTMClassifierNetwork,
        LSTMParams,
        RowColumnBiLSTM,
        StackedLSTM,
        from_keras,
        from_torch,
        lstm,
        lstm_step,
        to_keras,
        to_torch,
    )

__version__ = "0.1.0"

# Read on first use: `import jaxlstm` itself imports neither JAX nor scikit-learn.
_HOMES = {
    "FlaxClassifier": "jaxlstm.estimators.classifier",
    "LSTMClassifier": "jaxlstm.estimators.classifier",
    "FlaxRegressor": "jaxlstm.estimators.regressor",
    "LSTMRegressor": "jaxlstm.estimators.regressor",
    "GridSearch": "jaxlstm.grid.search",
    "HalvingSearch": "jaxlstm.grid.halving",
    "LearningRates": "jaxlstm.grid.finder",
    "OptunaSearch": "jaxlstm.grid.optuna_search",
    "find_learning_rate": "jaxlstm.grid.finder",
    "RandomSearch": "jaxlstm.grid.search",
    "Plan": "jaxlstm.grid.plan",
    **dict.fromkeys(
        [
            "CNN",
            "CNNLSTM",
            "LSTM",
            "MLP",
            "Bidirectional",
            "Conv1D",
            "Dropout",
            "LSTMCell",
            "LSTMClassifierNetwork",
            "LSTMParams",
            "RowColumnBiLSTM",
            "StackedLSTM",
            "from_keras",
            "from_torch",
            "lstm",
            "lstm_step",
            "to_keras",
            "to_torch",
        ],
        "jaxlstm.nn",
    ),
}

__all__ = [
    "CNN",
    "CNNLSTM",
    "LSTM",
    "MLP",
    "Bidirectional",
    "Conv1D",
    "Dropout",
    "FlaxClassifier",
    "FlaxRegressor",
    "GridSearch",
    "HalvingSearch",
    "LSTMCell",
    "LSTMClassifier",
    "LSTMClassifierNetwork",
    "LSTMParams",
    "LSTMRegressor",
    "LearningRates",
    "OptunaSearch",
    "Plan",
    "RandomSearch",
    "RowColumnBiLSTM",
    "StackedLSTM",
    "find_learning_rate",
    "from_keras",
    "from_torch",
    "lstm",
    "lstm_step",
    "to_keras",
    "to_torch",
]


__getattr__, __dir__ = attach(__name__, _HOMES)
