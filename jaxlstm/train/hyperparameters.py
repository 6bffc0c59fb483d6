"""Which hyperparameters exist, what each may be, and which are traced.

Traced ones are arguments of the compiled program, so trials that differ in them share it. The rest
(the network and the batch size) shape the program: trials that differ there are separate groups.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array

OPTIMIZERS = ("adam", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "step", "exponential")


class Hyperparameters(NamedTuple):
    """The traced numbers of one trial; shape=() each unless said otherwise."""

    optimizer: Any  # dtype=int32, index into OPTIMIZERS
    learning_rate: Any
    momentum: Any
    nesterov: Any  # dtype=bool
    beta_1: Any
    beta_2: Any
    rho: Any
    epsilon: Any
    schedule: Any  # dtype=int32, index into SCHEDULES
    warmup_epochs: Any
    decay_epochs: Any
    decay_rate: Any
    alpha: Any
    epochs: Any  # how many epochs the schedule plans for
    l2: Any
    class_weight: Any  # shape=(C,)
    fields: dict[str, Any]  # traced fields of the network


class _Number(NamedTuple):
    """An interval of allowed numbers; ``open_*`` says that the end itself is not allowed."""

    low: float
    high: float = np.inf
    open_low: bool = False
    open_high: bool = False
    integer: bool = False

    def __str__(self) -> str:
        kind = "an integer" if self.integer else "a number"
        if self.high == np.inf:
            return f"{kind} {'above' if self.open_low else 'of at least'} {self.low:g}"
        return f"{kind} in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}" + (
            ")" if self.open_high else "]"
        )

    def holds(self, value: Any) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return bool(above and (value < self.high if self.open_high else value <= self.high))


RATE = _Number(0, 1, open_high=True)

NUMBERS: dict[str, _Number] = {
    "learning_rate": _Number(0, open_low=True),
    "momentum": RATE,
    "beta_1": RATE,
    "beta_2": RATE,
    "rho": RATE,
    "epsilon": _Number(0, open_low=True),
    "warmup_epochs": _Number(0),
    "decay_epochs": _Number(0, open_low=True),
    "decay_rate": _Number(0, open_low=True),
    "alpha": _Number(0, 1),
    "l2": _Number(0),
    "epochs": _Number(1, integer=True),
    "batch_size": _Number(1, integer=True),
    "dropout": RATE,
    "dense_dropout": RATE,
}

CHOICES: dict[str, tuple[str, ...]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Returns " Did you mean ...?" for a misspelt name, or nothing."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises ValueError unless value is one of the allowed names."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(allowed)}, got {value!r}.{nearest(value, allowed)}"
        )


def check_number(name: str, value: Any, allowed: _Number) -> None:
    """Raises TypeError for another type and ValueError for a number that is not allowed."""
    kind = numbers.Integral if allowed.integer else numbers.Real
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(f"{name} must be {allowed}, got {value!r} ({type(value).__name__}).")
    if not np.isfinite(float(value)) or not allowed.holds(value):
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def check_sizes(name: str, value: Any, *, least: int) -> tuple[int, ...]:
    """Returns layer sizes as a tuple; one integer counts as one layer.

    Raises:
      TypeError: something other than integers.
      ValueError: fewer than ``least`` layers, or a size below 1.
    """
    sizes = (value,) if isinstance(value, numbers.Integral) else value
    if (
        isinstance(value, bool)
        or not isinstance(sizes, tuple | list | np.ndarray)
        or not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in sizes)
    ):
        raise TypeError(
            f"{name} must be an integer or a tuple of integers, one a layer, got {value!r}."
        )
    if len(sizes) < least or any(size < 1 for size in sizes):
        layers = "at least one layer" if least else "any number of layers"
        raise ValueError(f"{name} must name {layers} of at least 1 unit, got {value!r}.")
    return tuple(int(size) for size in sizes)


def check(params: Mapping[str, Any]) -> None:
    """Checks every training hyperparameter among ``params`` by its name.

    Raises:
      TypeError: a value of the wrong type.
      ValueError: a value out of range, or an unknown name of an optimizer or schedule.
    """
    for name, value in params.items():
        if name in CHOICES:
            check_choice(name, value, CHOICES[name])
        elif name in NUMBERS:
            check_number(name, value, NUMBERS[name])
        elif name == "nesterov" and not isinstance(value, bool | np.bool_):
            raise TypeError(f"nesterov must be True or False, got {value!r}.")


def trace(
    params: Mapping[str, Any], class_weight: np.ndarray, fields: Mapping[str, Any]
) -> Hyperparameters:
    """Turns checked hyperparameters into the arrays that a compiled program takes.

    Args:
      params: values by name, at least those that `Hyperparameters` names.
      class_weight: weight of each class in the loss, ``[C]``.
      fields: the network's traced fields.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)
    values: dict[str, Any] = {}
    for name in Hyperparameters._fields:
        if name in CHOICES:
            values[name] = np.asarray(CHOICES[name].index(params[name]), np.int32)
        elif name == "nesterov":
            values[name] = np.asarray(params[name], bool)
        elif name in NUMBERS:
            values[name] = np.asarray(params[name], dtype)
    values["class_weight"] = np.asarray(class_weight, dtype)
    values["fields"] = {name: np.asarray(value, dtype) for name, value in fields.items()}
    return Hyperparameters(**values)
