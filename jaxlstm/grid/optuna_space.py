"""What Optuna is asked for: the values of a space that users of scikit-learn or of Optuna write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Dimension(NamedTuple):
    """A parameter as Optuna suggests it."""

    distribution: Any  # Optuna's
    value: Callable[[Any], Any]  # what a suggestion stands for


def dimensions(space: Mapping[str, Any]) -> dict[str, Dimension]:
    """A parameter's values for Optuna, by name.

    A list becomes a categorical distribution, of the values' texts where they are no numbers, texts or
    None. SciPy's uniform, loguniform and randint become Optuna's own; of any other SciPy distribution
    Optuna suggests the quantile, between 0 and 1.

    Raises:
      TypeError, ValueError: something else, or an empty list.
    """
    return {name: _dimension(name, given) for name, given in space.items()}


def _dimension(name: str, given: Any) -> Dimension:
    import optuna  # an extra

    known = optuna.distributions
    if isinstance(given, known.BaseDistribution):
        return Dimension(given, _same)
    if hasattr(given, "rvs") and hasattr(given, "ppf"):
        return _of_scipy(given, known)
    is_array = isinstance(given, np.ndarray) and given.ndim == 1
    if not is_array and (not isinstance(given, Sequence) or isinstance(given, str | bytes)):
        raise TypeError(
            f"space[{name!r}] must be an Optuna distribution, a SciPy distribution or a list of"
            f" values, got {given!r}."
        )
    if not len(given):
        raise ValueError(f"space[{name!r}] is empty: give at least one value.")
    values = [value.item() if isinstance(value, np.generic) else value for value in given]
    if all(value is None or isinstance(value, bool | int | float | str) for value in values):
        return Dimension(known.CategoricalDistribution(values), _same)
    texts = [repr(value) for value in values]
    if len(set(texts)) < len(texts):
        texts = [f"{place}: {text}" for place, text in enumerate(texts)]
    return Dimension(
        known.CategoricalDistribution(texts), dict(zip(texts, values, strict=True)).__getitem__
    )


def _same(value: Any) -> Any:
    return value


def _of_scipy(given: Any, known: Any) -> Dimension:
    low, high = (end.item() if isinstance(end, np.generic) else end for end in given.support())
    kind = getattr(getattr(given, "dist", None), "name", "")
    if kind == "uniform":
        return Dimension(known.FloatDistribution(low, high), _same)
    is_shifted = low <= 0 or not math.isclose(given.ppf(0.5), math.sqrt(low * high), rel_tol=1e-6)
    if kind in ("loguniform", "reciprocal") and not is_shifted:
        return Dimension(known.FloatDistribution(low, high, log=True), _same)
    if kind == "randint":
        return Dimension(known.IntDistribution(int(low), int(high)), _same)
    is_whole = hasattr(given, "pmf")

    def of_quantile(quantile: float) -> Any:
        # The ends of an unbounded distribution are infinite.
        value = given.ppf(min(max(quantile, 2**-24), 1 - 2**-24))
        return int(value) if is_whole else float(value)

    return Dimension(known.FloatDistribution(0.0, 1.0), of_quantile)
