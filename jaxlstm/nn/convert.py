"""Weights of a Keras or PyTorch LSTM layer in, `LSTMParams` out, and back.

All three libraries order the gates i, f, g, o. Keras stores what we store; PyTorch stores the
transposes and splits the bias in two, of which only the sum matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm.nn.recurrence import LSTMParams


def _check(params: LSTMParams, source: str) -> LSTMParams:
    kernel, recurrent_kernel = np.shape(params.kernel), np.shape(params.recurrent_kernel)
    bias = None if params.bias is None else np.shape(params.bias)
    units = recurrent_kernel[0] if recurrent_kernel else 0
    if (
        len(kernel) != 2
        or recurrent_kernel != (units, 4 * units)
        or kernel[1] != 4 * units
        or bias not in (None, (4 * units,))
    ):
        raise ValueError(
            f"the weights from {source} are not those of one LSTM layer: as kernel,"
            f" recurrent kernel and bias they have the shapes {kernel}, {recurrent_kernel}, {bias},"
            " where [F, 4H], [H, 4H], [4H] are needed."
        )
    return jax.tree.map(jnp.asarray, params)


def _without_peepholes(params: LSTMParams) -> LSTMParams:
    if params.peephole is not None:
        raise ValueError("params must have no peepholes: Keras and PyTorch have none.")
    return params


def _transposed(weights: Any) -> Any:
    return np.asarray(weights).T


def from_keras(weights: Sequence[Any]) -> LSTMParams:
    """Reads a Keras LSTM layer's weights.

    Args:
      weights: ``layer.get_weights()``: kernel ``[F, 4H]``, recurrent kernel ``[H, 4H]`` and, unless
        the layer has ``use_bias=False``, bias ``[4H]``.

    Returns:
      The same weights as `LSTMParams`.

    Raises:
      ValueError: another number of arrays, or shapes that do not fit.
    """
    arrays: list[Any] = [np.asarray(weight) for weight in weights]
    if len(arrays) not in (2, 3):
        raise ValueError(f"a Keras LSTM layer has 2 or 3 weight arrays, got {len(arrays)}.")
    return _check(LSTMParams(*arrays), "Keras")


def to_keras(params: LSTMParams) -> list[np.ndarray]:
    """Returns arrays for a Keras LSTM layer's ``set_weights``; two if there is no bias.

    Raises:
      ValueError: params with peepholes.
    """
    weights = _without_peepholes(params)
    return [np.asarray(array) for array in weights if array is not None]


def from_torch(
    state: Mapping[str, Any], *, layer: int = 0, reverse: bool = False, prefix: str = ""
) -> LSTMParams:
    """Reads one layer and direction of a PyTorch ``nn.LSTM``.

    Args:
      state: ``module.state_dict()``, tensors on the CPU or arrays: ``weight_ih_l0 [4H, F]``,
        ``weight_hh_l0 [4H, H]``, ``bias_ih_l0 [4H]``, ``bias_hh_l0 [4H]``, and so on.
      layer: which layer, from 0.
      reverse: whether to read the backward direction.
      prefix: what stands before the names, for an LSTM inside a larger module ("encoder.").

    Returns:
      The same weights as `LSTMParams`; the bias is the sum of PyTorch's two, None if it has none.

    Raises:
      KeyError: no such layer or direction.
      ValueError: shapes that do not fit (a projected LSTM, say).
    """
    suffix = f"l{layer}{'_reverse' if reverse else ''}"
    if f"{prefix}weight_ih_{suffix}" not in state:
        raise KeyError(f"no {prefix}weight_ih_{suffix} among {', '.join(state)}")
    kernel, recurrent_kernel = (  # [4H, F] -> [F, 4H]
        _transposed(state[f"{prefix}weight_{part}_{suffix}"]) for part in ("ih", "hh")
    )
    biases = [f"{prefix}bias_{part}_{suffix}" for part in ("ih", "hh")]
    found = [np.asarray(state[name]) for name in biases if name in state]
    if len(found) == 1:
        raise KeyError(f"one of {' and '.join(biases)} is missing")
    bias: Any = found[0] + found[1] if found else None
    return _check(LSTMParams(kernel, recurrent_kernel, bias), "PyTorch")


def to_torch(
    params: LSTMParams, *, layer: int = 0, reverse: bool = False, prefix: str = ""
) -> dict[str, np.ndarray]:
    """Returns arrays for ``load_state_dict`` (through ``torch.from_numpy``); ``bias_hh`` is 0.

    Without a bias there are none of PyTorch's two.

    Raises:
      ValueError: params with peepholes.
    """
    suffix = f"l{layer}{'_reverse' if reverse else ''}"
    kernel, recurrent_kernel = (np.asarray(weights) for weights in _without_peepholes(params)[:2])
    # Copies, because torch refuses the negative or read-only strides that views may have.
    arrays = {
        f"{prefix}weight_ih_{suffix}": kernel.T.copy(),
        f"{prefix}weight_hh_{suffix}": recurrent_kernel.T.copy(),
    }
    if params.bias is not None:
        arrays[f"{prefix}bias_ih_{suffix}"] = np.array(params.bias)
        arrays[f"{prefix}bias_hh_{suffix}"] = np.zeros_like(params.bias)
    return arrays
