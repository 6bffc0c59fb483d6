"""What the tests of a trial share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jaxlstm.train import hyperparameters as names
from jaxlstm.train.hyperparameters import Hyperparameters, trace

# Rates and epochs of a small study.
DEFAULTS: dict[str, Any] = names.DEFAULTS | {
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
        return trace(DEFAULTS | changes, class_weight, fields or {})

    return make
