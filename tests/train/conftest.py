"""What the tests of a trial share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from jaxlstm.train import hyperparameters as names
from jaxlstm.train.hyperparameters import Hyperparameters, trace
from jaxlstm.train.task import Classification

# Rates and epochs of a small study.
DEFAULTS: dict[str, Any] = {
    **names.DEFAULTS,
    **Classification.DEFAULTS,
    "loss": "cross_entropy",
    "learning_rate": 1e-3,
    "decay_epochs": 1,
    "epochs": 5,
}


@pytest.fixture
def hyperparameters() -> Callable[..., Hyperparameters]:
    """Makes the traced numbers of a trial: the defaults but for what is named."""

    def make(
        class_weight: Any = (1.0, 1.0, 1.0), fields: Any = None, **changes: Any
    ) -> Hyperparameters:
        assert changes.keys() <= DEFAULTS.keys()
        params = DEFAULTS | changes
        dtype = jax.dtypes.canonicalize_dtype(float)
        numbers = Classification().numbers(params, dtype)
        numbers["class_weight"] = np.asarray(class_weight, dtype)
        return trace(params, numbers, fields or {})

    return make
