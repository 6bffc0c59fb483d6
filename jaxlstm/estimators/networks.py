"""Where an estimator's network comes from: a Flax module, or the parameters of a stacked LSTM."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import numpy as np

from jaxlstm.nn.layers import MERGES
from jaxlstm.nn.networks import ACTIVATIONS, LSTMClassifierNetwork
from jaxlstm.train import hyperparameters


class FlaxNetwork:
    """An estimator whose network is the parameter ``module``.

    A field ``classes`` of it that is None is filled in with the number of outputs.
    """

    module: Any

    def _module(self, outputs: int) -> nn.Module:
        if not isinstance(self.module, nn.Module):
            raise TypeError(
                f"module must be a flax.linen module, made but not bound, got {self.module!r}."
            )
        if getattr(self.module, "classes", 0) is None:
            return self.module.clone(classes=outputs)
        return self.module

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

    def _as_input(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 2:
            return x[:, :, None]
        if x.ndim != 3:
            raise ValueError(
                f"{type(self).__name__} takes X of shape [N, T, F] or [N, T], got {x.shape}. Images"
                " of several channels can be reshaped to [N, height, width * channels]."
            )
        return x
