"""Which hyperparameters exist, what each may be, and which are traced.

Traced ones are arguments of the compiled program, so trials that differ in them share it. The rest
(the network) shapes the program: trials that differ there are separate groups.
"""

from __future__ import annotations

import difflib
import itertools
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array

# Those that a program has unless it is one of the next.
OPTIMIZERS = (
    "adam",
    "adamw",
    "nadam",
    "rmsprop",
    "sgd",
    "adadelta",
    "adagrad",
    "ftrl",
    "lion",
)
# Lanes of these have programs of their own, so that all others are compiled without them.
FURTHER_OPTIMIZERS = ("adamax", "lamb")
# What a trial's number stands for: the last two are adam and adamw with ``amsgrad``, and rmsprop
# with ``centered``.
RULES = (*OPTIMIZERS, *FURTHER_OPTIMIZERS, "amsgrad", "centered_rmsprop")
SCHEDULES = (
    "constant",
    "step",
    "exponential",
    "inverse_time",
    "polynomial",
    "cosine",
    "cosine_restarts",
    "piecewise",
    "onecycle",
    "plateau",
    "linear_onecycle",
    "piecewise_linear",
    "piecewise_cosine",
)


def metric_names(metrics: Iterable[str]) -> tuple[str, ...]:
    """Names of what can be watched: the loss and these metrics, then those of validation rows."""
    own = ("loss", *metrics)
    return (*own, *(f"val_{name}" for name in own))


def signs(monitors: Sequence[str]) -> tuple[int, ...]:
    """Keras's mode "auto": 1 where less is better, -1 where more is.

    A metric times its sign is better where it is less.
    """
    return tuple(-1 if metric.endswith("accuracy") else 1 for metric in monitors)


METRICS = metric_names(["accuracy"])  # of a classifier

# The length of the traced tables of the piecewise schedule.
MAX_BOUNDARIES = 16


class Hyperparameters(NamedTuple):
    """The traced numbers of one trial; shape=() each unless said otherwise."""

    optimizer: Any  # dtype=int32, index into RULES
    learning_rate: Any
    momentum: Any
    nesterov: Any  # dtype=bool
    beta_1: Any
    beta_2: Any
    rho: Any
    epsilon: Any
    weight_decay: Any
    initial_accumulator_value: Any
    learning_rate_power: Any
    l1_regularization_strength: Any
    l2_regularization_strength: Any
    l2_shrinkage_regularization_strength: Any
    beta: Any
    clipnorm: Any  # inf: off; so are the next two
    clipvalue: Any
    global_clipnorm: Any
    schedule: Any  # dtype=int32, index into SCHEDULES
    warmup_epochs: Any
    warmup_learning_rate: Any
    decay_epochs: Any
    decay_rate: Any
    staircase: Any  # dtype=bool
    end_value: Any  # 0 or inf where there is none
    alpha: Any
    exponent: Any
    end_learning_rate: Any
    power: Any
    cycle: Any  # dtype=bool
    t_mul: Any
    m_mul: Any
    boundaries: Any  # shape=(MAX_BOUNDARIES,), inf after the last
    values: Any  # shape=(MAX_BOUNDARIES + 1,), the last one repeated
    pct_start: Any
    pct_final: Any
    div_factor: Any
    final_div_factor: Any
    plateau_monitor: Any  # dtype=int32, index into the task's monitors
    plateau_factor: Any
    plateau_patience: Any  # dtype=int32
    plateau_min_delta: Any
    cooldown: Any  # dtype=int32
    min_lr: Any
    early_stopping: Any  # dtype=bool
    monitor: Any  # dtype=int32, index into the task's monitors
    patience: Any  # dtype=int32
    mode: Any  # 1 where less of the monitor is better, -1 where more is
    min_delta: Any
    baseline: Any  # times mode; inf: none
    start_from_epoch: Any  # dtype=int32
    restore_best_weights: Any  # dtype=bool
    best_monitor: Any  # dtype=int32, likewise; -1: what early stopping would restore
    epochs: Any  # how many epochs the schedule plans for
    batch_size: Any  # dtype=int32
    l2: Any
    task: dict[str, Any]  # the task's numbers, see `jaxlstm.train.task`
    fields: dict[str, Any]  # traced fields of the network
    standardization: Any = None  # a `Standardization` of its inputs, shape=(F,) each


# What a trial trains with unless told otherwise: Keras's defaults where Keras has the parameter.
# None: the optimizer's own (`BY_OPTIMIZER`) for its numbers, off for clipping, and for
# ``best_monitor`` the weights that early stopping would restore.
DEFAULTS: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": None,
    "momentum": 0.0,
    "nesterov": False,
    "beta_1": 0.9,
    "beta_2": None,
    "amsgrad": False,
    "rho": None,
    "centered": False,
    "epsilon": 1e-7,
    "weight_decay": None,
    "exclude_from_weight_decay": (),
    "initial_accumulator_value": 0.1,
    "learning_rate_power": -0.5,
    "l1_regularization_strength": 0.0,
    "l2_regularization_strength": 0.0,
    "l2_shrinkage_regularization_strength": 0.0,
    "beta": 0.0,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "schedule": "constant",
    "warmup_epochs": 0,
    "warmup_learning_rate": 0.0,
    "decay_epochs": 10,
    "decay_rate": 0.5,
    "staircase": False,
    "end_value": None,
    "alpha": 0.0,
    "exponent": 1.0,
    "end_learning_rate": 1e-4,
    "power": 1.0,
    "cycle": False,
    "t_mul": 2.0,
    "m_mul": 1.0,
    "boundaries": (),
    "values": (),
    "pct_start": 0.3,
    "pct_final": 0.85,
    "div_factor": 25.0,
    "final_div_factor": 1e4,
    "plateau_monitor": "val_loss",
    "plateau_factor": 0.1,
    "plateau_patience": 10,
    "plateau_min_delta": 1e-4,
    "cooldown": 0,
    "min_lr": 0.0,
    "early_stopping": False,
    "monitor": "val_loss",
    "patience": 0,
    "mode": "auto",
    "min_delta": 0.0,
    "baseline": None,
    "start_from_epoch": 0,
    "restore_best_weights": False,
    "best_monitor": None,
    "epochs": 100,
    "batch_size": 32,
    "l2": 0.0,
}

# What None means for a number of an optimizer: the default, and the optimizers with another one.
BY_OPTIMIZER: dict[str, tuple[float, dict[str, float]]] = {
    "learning_rate": (0.001, {"sgd": 0.01}),
    "beta_2": (0.999, {"lion": 0.99}),
    "rho": (0.9, {"adadelta": 0.95}),
    "weight_decay": (0.0, {"adamw": 0.004}),
}


class _Number(NamedTuple):
    """An interval of allowed numbers; ``open_*`` says that the end itself is not allowed."""

    low: float
    high: float = np.inf
    open_low: bool = False
    open_high: bool = False
    integer: bool = False
    optional: bool = False  # None is allowed, too

    def __str__(self) -> str:
        kind = "an integer" if self.integer else "a number"
        if self.high == -self.low == np.inf:
            text = kind
        elif self.high == np.inf:
            text = f"{kind} {'above' if self.open_low else 'of at least'} {self.low:g}"
        elif self.low == -np.inf:
            text = f"{kind} {'below' if self.open_high else 'of at most'} {self.high:g}"
        else:
            text = f"{kind} in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}" + (
                ")" if self.open_high else "]"
            )
        return f"{text} or None" if self.optional else text

    def holds(self, value: Any) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return bool(above and (value < self.high if self.open_high else value <= self.high))


RATE = _Number(0, 1, open_high=True)
SHARE = _Number(0, 1)
POSITIVE = _Number(0, open_low=True)
NOT_NEGATIVE = _Number(0)
# Beyond these ends a number can only be a slip; Keras, optax and PyTorch have no ends there.
STRENGTH = _Number(0, 1e6)
EXPONENT = _Number(0, 100)
FACTOR = _Number(1, 1e10)
COUNT = _Number(0, integer=True)
SIZE = _Number(1, integer=True)

NUMBERS: dict[str, _Number] = {
    "learning_rate": POSITIVE._replace(optional=True),
    "momentum": SHARE,
    "beta_1": SHARE,  # 1 is lion's alone, see `_check_together`
    "beta_2": RATE._replace(optional=True),
    "rho": RATE._replace(optional=True),
    "epsilon": _Number(0, 100, open_low=True),
    "weight_decay": NOT_NEGATIVE._replace(optional=True),
    "initial_accumulator_value": STRENGTH,
    "learning_rate_power": _Number(-10, 0),
    "l1_regularization_strength": STRENGTH,
    "l2_regularization_strength": STRENGTH,
    "l2_shrinkage_regularization_strength": STRENGTH,
    "beta": STRENGTH,
    "clipnorm": POSITIVE._replace(optional=True),
    "clipvalue": POSITIVE._replace(optional=True),
    "global_clipnorm": POSITIVE._replace(optional=True),
    "warmup_epochs": NOT_NEGATIVE,
    "warmup_learning_rate": NOT_NEGATIVE,
    "decay_epochs": _Number(1e-3),
    "decay_rate": _Number(0, 1000, open_low=True),
    "end_value": NOT_NEGATIVE._replace(optional=True),
    "alpha": SHARE,
    "exponent": EXPONENT,
    "end_learning_rate": STRENGTH,
    "power": EXPONENT,
    "t_mul": _Number(1, 1000),
    "m_mul": _Number(0, 1000),
    "pct_start": SHARE,
    "pct_final": SHARE,
    "div_factor": FACTOR,
    "final_div_factor": FACTOR,
    "plateau_factor": _Number(0, 1, open_low=True, open_high=True),
    "plateau_patience": COUNT,
    "plateau_min_delta": NOT_NEGATIVE,
    "cooldown": COUNT,
    "min_lr": NOT_NEGATIVE,
    "patience": COUNT,
    "min_delta": NOT_NEGATIVE,
    "baseline": _Number(-np.inf, optional=True),
    "start_from_epoch": COUNT,
    "epochs": SIZE,
    "batch_size": SIZE,
    "l2": STRENGTH,
    "label_smoothing": SHARE,
    "gamma": EXPONENT,
    "focal_alpha": SHARE,
    "delta": POSITIVE,
    "level": _Number(0, 1, open_low=True, open_high=True),
    "dropout": RATE,
    "recurrent_dropout": RATE,
    "dense_dropout": RATE,
}

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": (*OPTIMIZERS, *FURTHER_OPTIMIZERS),
    "schedule": SCHEDULES,
    "mode": ("auto", "min", "max"),
}

# Names of what is watched, of those that a task has; ``best_monitor`` may be None.
MONITORS = ("plateau_monitor", "monitor", "best_monitor")

FLAGS = (
    "nesterov",
    "amsgrad",
    "centered",
    "staircase",
    "cycle",
    "early_stopping",
    "restore_best_weights",
)

CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")

TABLES = ("boundaries", "values")


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
    if value is None and allowed.optional:
        return
    kind = numbers.Integral if allowed.integer else numbers.Real
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(f"{name} must be {allowed}, got {value!r} ({type(value).__name__}).")
    try:
        is_finite = np.isfinite(float(value))
    except OverflowError:  # an integer of hundreds of digits
        is_finite = False
    if not is_finite or not allowed.holds(value):
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")
    if not allowed.integer:
        _check_rounded(name, value, allowed)


def _check_rounded(name: str, value: Any, allowed: _Number) -> None:
    """Raises ValueError for a number that is allowed but not what a program makes of it."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    with np.errstate(over="ignore"):
        rounded = np.asarray(value, dtype)
    # A device may take what is below the smallest normal number for 0.
    if value and abs(rounded) < np.finfo(dtype).tiny:
        rounded = np.zeros((), dtype)
    if not np.isfinite(rounded) or not allowed.holds(rounded) or bool(value) != bool(rounded):
        raise ValueError(f"{name} must be {allowed}, got {value!r}, which is {rounded} in {dtype}.")


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


def _check_table(name: str, value: Any) -> None:
    """Checks the boundaries or values of the piecewise schedule on their own."""
    if isinstance(value, str) or not isinstance(value, tuple | list | np.ndarray):
        raise TypeError(f"{name} must be a tuple of numbers, got {value!r}.")
    for place, entry in enumerate(value):
        check_number(f"{name}[{place}]", entry, NOT_NEGATIVE)
    if name == "boundaries":
        if len(value) > MAX_BOUNDARIES:
            raise ValueError(
                f"boundaries must have at most {MAX_BOUNDARIES} entries, got {len(value)}: {value!r}."
            )
        if any(after <= before for before, after in itertools.pairwise(value)):
            raise ValueError(f"boundaries must increase from entry to entry, got {value!r}.")


def patterns(names: Any) -> tuple[str, ...]:
    """The regular expressions of ``exclude_from_weight_decay``, checked.

    Raises:
      TypeError: something other than text, or a tuple or list of it.
      ValueError: no regular expression.
    """
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"exclude_from_weight_decay must be a tuple of names of parameters, got {names!r}."
        )
    for name in names:
        try:
            re.compile(name)
        except re.error as error:
            raise ValueError(
                f"exclude_from_weight_decay must hold regular expressions, got {name!r}: {error}."
            ) from None
    return tuple(names)


def check(params: Mapping[str, Any], monitors: Sequence[str] = METRICS) -> None:
    """Checks every training hyperparameter among ``params`` by its name, then those that go together.

    Args:
      params: values by name.
      monitors: names of what can be watched.

    Raises:
      TypeError: a value of the wrong type.
      ValueError: a value out of range, an unknown name of an optimizer, schedule or metric, more
        than one kind of clipping, or numbers that do not fit together.
    """
    for name, value in params.items():
        if name == "best_monitor" and value is None:
            continue
        if name in CHOICES:
            check_choice(name, value, CHOICES[name])
        elif name in MONITORS:
            check_choice(name, value, monitors)
        elif name in NUMBERS:
            check_number(name, value, NUMBERS[name])
        elif name in TABLES:
            _check_table(name, value)
        elif name in FLAGS and not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}.")
    clipping = [name for name in CLIPPING if params.get(name) is not None]
    if len(clipping) > 1:
        raise ValueError(
            f"only one of {', '.join(CLIPPING)} may be set, got "
            f"{' and '.join(f'{name}={params[name]!r}' for name in clipping)}."
        )
    if all(name in params for name in TABLES):
        boundaries, values = (params[name] for name in TABLES)
        used = str(params.get("schedule")).startswith("piecewise") or len(boundaries) or len(values)
        if used and len(values) != len(boundaries) + 1:
            raise ValueError(
                f"values must have one entry more than boundaries, got boundaries={boundaries!r} and"
                f" values={values!r}."
            )
    _check_together(_with_own_defaults(DEFAULTS | dict(params)))


def _check_together(params: Mapping[str, Any]) -> None:
    """Raises ValueError for numbers that are allowed each by itself, but make no sense together."""
    optimizer, beta_1 = params["optimizer"], params["beta_1"]
    if optimizer == "lion" and beta_1 == 0:
        raise ValueError(
            "beta_1 must be a number in (0, 1] for lion, which does without its momentum otherwise,"
            f" got {beta_1!r}."
        )
    if optimizer != "lion" and beta_1 == 1:
        raise ValueError(f"beta_1 must be a number in [0, 1), got {beta_1!r}.")
    rate = params["learning_rate"]
    if params["weight_decay"] * rate > 1:
        raise ValueError(
            "weight_decay times learning_rate must be at most 1, the whole weight, got"
            f" weight_decay={params['weight_decay']!r} and learning_rate={rate!r}."
        )
    if params["min_lr"] > rate:
        raise ValueError(
            f"min_lr must be at most learning_rate, which it bounds, got min_lr={params['min_lr']!r}"
            f" and learning_rate={rate!r}."
        )
    end, falls = params["end_value"], params["decay_rate"] < 1
    if end is not None and (end > rate if falls else end < rate):
        bound = "most" if falls else "least"
        raise ValueError(
            f"end_value must be at {bound} learning_rate, which goes to it by"
            f" decay_rate={params['decay_rate']!r}, got end_value={end!r} and learning_rate={rate!r}."
        )
    if params["warmup_epochs"] > params["epochs"]:
        raise ValueError(
            "warmup_epochs must be at most epochs, else the rate never gets to learning_rate, got"
            f" warmup_epochs={params['warmup_epochs']!r} and epochs={params['epochs']!r}."
        )
    if params["schedule"] == "linear_onecycle" and params["pct_final"] < params["pct_start"]:
        raise ValueError(
            "pct_final must be at least pct_start, when the rate begins to fall, got"
            f" pct_final={params['pct_final']!r} and pct_start={params['pct_start']!r}."
        )


def _with_own_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with the optimizer's own numbers for None."""
    own = {
        name: others.get(params["optimizer"], usual)
        for name, (usual, others) in BY_OPTIMIZER.items()
        if params[name] is None
    }
    return dict(params) | own


def uses_total_epochs(params: Mapping[str, Any]) -> bool:
    """Whether the learning rate depends on how many epochs there will be.

    If not, trials that differ in nothing but ``epochs`` are one run, read at several epochs.
    """
    return (DEFAULTS | dict(params))["schedule"] in ("cosine", "onecycle", "linear_onecycle")


def rule_of(params: Mapping[str, Any]) -> str:
    """The name among `RULES` of the optimizer's rule."""
    params = DEFAULTS | dict(params)
    optimizer = str(params["optimizer"])
    if optimizer in ("adam", "adamw") and params["amsgrad"]:
        return "amsgrad"
    return "centered_rmsprop" if optimizer == "rmsprop" and params["centered"] else optimizer


def needs_validation(params: Mapping[str, Any]) -> bool:
    """Whether training itself looks at a metric of the validation rows.

    Early stopping, the choice of the weights to keep, and the plateau schedule may.
    """
    params = DEFAULTS | dict(params)
    looked_at = [
        (params["early_stopping"], params["monitor"]),
        (params["restore_best_weights"], params["best_monitor"] or params["monitor"]),
        (params["schedule"] == "plateau", params["plateau_monitor"]),
    ]
    return any(used and metric.startswith("val_") for used, metric in looked_at)


def trace(
    params: Mapping[str, Any],
    task: Mapping[str, Any],
    fields: Mapping[str, Any],
    monitors: Sequence[str] = METRICS,
) -> Hyperparameters:
    """Turns checked hyperparameters into the arrays that a compiled program takes.

    Args:
      params: values by name; `DEFAULTS` stands for those not named.
      task: the task's traced numbers.
      fields: the network's traced fields.
      monitors: names of what can be watched, in the order of a trial's metrics.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)
    params = _with_own_defaults(DEFAULTS | dict(params))
    for name in CLIPPING:
        if params[name] is None:
            params[name] = np.inf
    if params["end_value"] is None:
        params["end_value"] = 0.0 if params["decay_rate"] < 1 else np.inf
    auto = signs(monitors)[monitors.index(params["monitor"])]
    params["mode"] = {"auto": auto, "min": 1, "max": -1}[params["mode"]]
    baseline = params["baseline"]
    params["baseline"] = np.inf if baseline is None else params["mode"] * baseline
    values: dict[str, Any] = {
        "mode": np.asarray(params["mode"], dtype),
        "optimizer": np.asarray(RULES.index(rule_of(params)), np.int32),
    }
    for name in Hyperparameters._fields:
        if name in values:
            continue
        if name in CHOICES or name in MONITORS:
            known = CHOICES.get(name, monitors)
            index = -1 if params[name] is None else known.index(params[name])
            values[name] = np.asarray(index, np.int32)
        elif name in FLAGS:
            values[name] = np.asarray(params[name], bool)
        elif name in NUMBERS and NUMBERS[name].integer and name != "epochs":
            values[name] = np.asarray(min(params[name], np.iinfo(np.int32).max), np.int32)
        elif name in NUMBERS:
            values[name] = np.asarray(params[name], dtype)
    boundaries = np.full(MAX_BOUNDARIES, np.inf, dtype)
    boundaries[: len(params["boundaries"])] = params["boundaries"]
    steps = [*params["values"]] or [0.0]
    values["boundaries"] = boundaries
    values["values"] = np.asarray(steps + steps[-1:] * (MAX_BOUNDARIES + 1 - len(steps)), dtype)
    values["task"] = dict(task)
    values["fields"] = {name: np.asarray(value, dtype) for name, value in fields.items()}
    return Hyperparameters(**values)
