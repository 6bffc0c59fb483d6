"""Where an estimator's network comes from: a Flax module, or the parameters of a stacked LSTM."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import FrozenDict

from jaxlstm.estimators.inputs import Sequences, check_ids, is_dict, packed
from jaxlstm.nn.layers import MERGES
from jaxlstm.nn.networks import ACTIVATIONS, LSTMClassifierNetwork
from jaxlstm.train import hyperparameters
from jaxlstm.train.data import Input
from jaxlstm.train.standardization import Units
from jaxlstm.train.trial import call_arguments, takes_lengths

#: Fields of a module that stand for its number of outputs.
OUTPUTS = (
    "classes",
    "num_classes",
    "n_classes",
    "outputs",
    "num_outputs",
    "n_outputs",
    "out_features",
)


def _fields(module: nn.Module) -> list[Any]:
    return [
        field
        for field in dataclasses.fields(module)
        if field.init and field.name not in ("parent", "name")
    ]


def _hashable(value: Any) -> Any:
    """Lists and dicts as Flax itself gives them to a bound module: tuples and FrozenDicts."""
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if type(value) is tuple:
        entries = tuple(map(_hashable, value))
        is_same = all(a is b for a, b in zip(entries, value, strict=True))
        return value if is_same else entries
    if isinstance(value, dict):
        return FrozenDict({name: _hashable(held) for name, held in value.items()})
    if isinstance(value, nn.Module):
        held = {field.name: getattr(value, field.name) for field in _fields(value)}
        inner = {name: _hashable(one) for name, one in held.items()}
        changed = {name: one for name, one in inner.items() if one is not held[name]}
        return value.clone(**changed) if changed else value
    return value


def _takes_ids(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a module takes rows of whole numbers, but none of others, as one that embeds ids."""
    if type(module).__module__.startswith("jaxlstm."):
        return False
    try:
        return _runs_on_ids_alone(module, shape)
    except TypeError:  # of fields that cannot be hashed, which is said later
        return False


@functools.lru_cache(maxsize=256)
def _runs_on_ids_alone(module: nn.Module, shape: tuple[int, ...]) -> bool:
    def runs(dtype: Any) -> bool:
        row = jax.ShapeDtypeStruct((1, *shape), dtype)
        lengths = jax.ShapeDtypeStruct((1,), np.int32) if takes_lengths(module) else None

        def call(row: Any, lengths: Any) -> Any:
            key = jax.random.key(0)
            given = call_arguments(module, False, lengths, row)
            return module.init_with_output({"params": key, "dropout": key}, row, **given)[0]

        try:
            jax.eval_shape(call, row, lengths)
        except Exception:
            return False
        return True

    return not runs(np.float32) and runs(np.int32)


def _described(inputs: tuple[Input, ...]) -> str:
    return ", ".join(
        f"{one.name!r} of shape [N{''.join(f', {n}' for n in one.shape)}]" for one in inputs
    )


def _as(array: Any, one: Input) -> Any:
    """Numbers of another type than in training, in that type."""
    array = np.asarray(array)
    if one.dtype is None:
        return array.astype(np.float64)
    check_ids(array, f"X[{one.name!r}]")
    return array.astype(one.dtype)


class FlaxNetwork:
    """An estimator whose network is the parameter ``module``.

    A field of `OUTPUTS` that is None is filled in with the number of outputs.
    """

    module: Any
    standardize: bool
    augment: Any
    return_sequences: bool
    inputs_: tuple[Input, ...]  # of rows that are a dict of arrays

    def _module(self, outputs: int) -> nn.Module:
        if not isinstance(self.module, nn.Module):
            raise TypeError(
                f"module must be a flax.linen module, made but not bound, got {self.module!r}."
            )
        held = {field.name: getattr(self.module, field.name) for field in _fields(self.module)}
        unset = [name for name in OUTPUTS if name in held and held[name] is None]
        held |= dict.fromkeys(unset, outputs)
        changed = {name: _hashable(value) for name, value in held.items()}
        changed = {name: value for name, value in changed.items() if value is not held[name]}
        return self.module.clone(**changed | dict.fromkeys(unset, outputs))

    def _inputs(self, module: nn.Module, x: np.ndarray) -> tuple[Input, ...]:
        inputs: tuple[Input, ...] = getattr(self, "inputs_", ())
        if not inputs and _takes_ids(module, x.shape[1:]):
            check_ids(x)
            inputs = (Input(None, (), "int32"),)
        what = "a dict of arrays" if inputs and inputs[0].name is not None else "ids"
        for name in ("standardize", "augment", "return_sequences"):
            is_fine = name == "return_sequences" and what == "ids"
            if inputs and not is_fine and getattr(self, name):
                raise ValueError(
                    f"{name} is for one array of numbers, but X is {what}: leave it out"
                    f"{' and scale the arrays before' * (name == 'standardize')}."
                )
        return inputs

    def _check_rows(
        self, X: Any, *, reset: bool = False, units: Units | None = None, by: Any = None
    ) -> Sequences:
        """Rows as those of other estimators; a dict of arrays as the columns of one."""
        if not is_dict(X):
            if not reset and getattr(self, "inputs_", None):
                raise ValueError(f"X must be a dict of arrays, as in fit, got {type(X).__name__}.")
            if reset:
                self.inputs_ = ()
            given: Any = {"reset": reset, "units": units, "by": by}
            rows: Sequences = super()._check_rows(X, **given)  # type: ignore[misc]
            return rows
        inputs, x = packed(X)
        if reset:
            self.inputs_, self.n_features_in_ = inputs, x.shape[1]
        elif {one.name: one.shape for one in inputs} != {
            one.name: one.shape for one in self.inputs_
        }:
            raise ValueError(
                f"X must be a dict with {_described(self.inputs_)}, as in fit, got"
                f" {_described(inputs)}."
            )
        elif inputs != self.inputs_:
            x = packed({str(one.name): _as(X[str(one.name)], one) for one in self.inputs_})[1]
        return Sequences(x, None, x.shape[1])

    def _convert(self, X: np.ndarray, units: Units | None, *, said: bool) -> np.ndarray:
        takes_ids = isinstance(self.module, nn.Module) and _takes_ids(self._module(2), X.shape[1:])
        if takes_ids:
            check_ids(X)
        said = said or takes_ids
        converted: np.ndarray = super()._convert(X, units, said=said)  # type: ignore[misc]
        return converted

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name; with ``deep``, the module's fields too, as ``module__field``."""
        params: dict[str, Any] = super().get_params(deep=deep)  # type: ignore[misc]
        module = params.get("module")
        if deep and isinstance(module, nn.Module):
            for field in dataclasses.fields(module):
                if field.name not in ("parent", "name"):
                    params[f"module__{field.name}"] = getattr(module, field.name)
        return params

    def set_params(self, **params: Any) -> Any:
        """Sets parameters by name, the module's fields as ``module__field``.

        Raises:
          ValueError: an unknown name; the message has the nearest right one.
        """
        if isinstance(params.get("module"), nn.Module):
            self.module = params.pop("module")  # first: the fields named beside it are its own
        fields = {name: value for name, value in params.items() if name.startswith("module__")}
        self._check_names(params)  # type: ignore[attr-defined]
        rest = {name: value for name, value in params.items() if name not in fields}
        super().set_params(**rest)  # type: ignore[misc]
        if fields:
            own = {name.removeprefix("module__"): value for name, value in fields.items()}
            self.module = self.module.clone(**own)
        return self


class LSTMNetwork:
    """An estimator whose network is a stacked LSTM with a dense head."""

    units: Any
    dense: Any
    dropout: float
    dense_dropout: float
    recurrent_dropout: float
    bidirectional: bool
    merge: str
    activation: str

    def _module(self, outputs: int) -> nn.Module:
        hyperparameters.check_choice("merge", self.merge, MERGES)
        hyperparameters.check_choice("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.bidirectional, bool | np.bool_):
            raise TypeError(f"bidirectional must be True or False, got {self.bidirectional!r}.")
        return LSTMClassifierNetwork(
            classes=outputs,
            units=hyperparameters.check_sizes("units", self.units, least=1),
            dense=hyperparameters.check_sizes("dense", self.dense, least=0),
            dropout=self.dropout,
            dense_dropout=self.dense_dropout,
            recurrent_dropout=self.recurrent_dropout,
            bidirectional=bool(self.bidirectional),
            merge=self.merge,
            activation=self.activation,
            return_sequences=self._per_step(),  # type: ignore[attr-defined]
        )

    def _as_input(self, x: Any) -> Any:
        if x.ndim == 2:
            return x[:, :, None]
        if x.ndim != 3:
            raise ValueError(
                f"{type(self).__name__} takes X of shape [N, T, F] or [N, T], got {x.shape}. Images"
                " of several channels can be reshaped to [N, height, width * channels]."
            )
        return x
