"""What the tests of a trial share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jaxlstm.train.hyperparameters import Hyperparameters, trace

# Keras's defaults, with rates and epochs of a small study.
DEFAULTS: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "momentum": 0.0,
    "nesterov": False,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "rho": 0.9,
    "epsilon": 1e-7,
    "schedule": "constant",
    "warmup_epochs": 0,
    "decay_epochs": 1,
    "decay_rate": 0.5,
    "alpha": 0.0,
    "epochs": 5,
    "l2": 0.0,
}


@pytest.fixture
def hyperparameters() -> Callable[..., Hyperparameters]:
    """Makes the traced numbers of a trial: the defaults but for what is named."""

    def make(
        class_weight: Any = (1.0, 1.0, 1.0), fields: Any = None, **changes: Any
    ) -> Hyperparameters:
        assert changes.keys() <= DEFAULTS.keys()
        return trace(DEFAULTS | changes, class_weight, fields or {})

    return make
