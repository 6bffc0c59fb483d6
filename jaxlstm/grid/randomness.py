"""Random states that a search draws from, left as they were."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# What draws, of the parameters of searches; estimators are cloned in any case.
_DRAWING = ("random_state", "cv", "param_grid", "param_distributions", "space")


@contextlib.contextmanager
def untouched(search: Any) -> Iterator[Any]:
    """A copy of a search that draws what the search itself would, and moves no random state on.

    Neither its own nor its splitter's nor its distributions', nor those of NumPy and Python.
    """
    twin = copy.copy(search)
    memo: dict[int, Any] = {}  # a state that two of them share is one in the copy too
    for name in _DRAWING:
        if name in search.get_params(deep=False):
            try:
                setattr(twin, name, _copied(getattr(search, name), memo))
            except Exception as error:
                raise TypeError(
                    f"plan cannot copy {name} ({error}), and would leave it another than it was: call"
                    " fit, or give cv as an iterable of splits."
                ) from error
    before = np.random.get_state()  # noqa: NPY002 - it is what scikit-learn draws from by default
    python = random.getstate()
    try:
        yield twin
    finally:
        np.random.set_state(before)  # noqa: NPY002
        random.setstate(python)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """What draws copied; values to choose among as they are."""
    if isinstance(value, Mapping):
        return {name: _copied(part, memo) for name, part in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        return [_copied(part, memo) for part in value]
    is_state = isinstance(value, np.random.RandomState | np.random.Generator)
    if not is_state and not hasattr(value, "rvs") and not hasattr(value, "split"):
        return value
    return copy.deepcopy(value, memo)
