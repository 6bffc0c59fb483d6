"""What `benchmarks.layer` computes: shapes, and the same weights and input in every process."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

MODES = ("forward", "forward+backward")


class Case(NamedTuple):
    """Shape of a problem: sequences ``[B, T, F]`` through LSTM layers of H units each."""

    batch: int
    steps: int
    features: int
    units: int
    layers: int
    lanes: int = (
        0  # models side by side, each with its own weights and input; 0: one, without lanes
    )

    def label(self) -> str:
        """The shape in letters."""
        layers = f" x{self.layers}" if self.layers > 1 else ""
        lanes = f" lanes {self.lanes}" if self.lanes else ""
        return f"B{self.batch} T{self.steps} F{self.features} H{self.units}{layers}{lanes}"


class Data(NamedTuple):
    """One model's weights and input, NumPy float32."""

    layers: list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # kernel, recurrent kernel, bias
    x: np.ndarray  # shape=(B, T, F)
    output_weights: np.ndarray  # shape=(B, T, H)


def draw(case: Case, lane: int = 0) -> Data:
    """Draws the weights and the input of one lane, the same in every process."""
    rng = np.random.default_rng([lane, *case[:5]])

    def uniform(limit: float, *shape: int) -> np.ndarray:
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    layers = []
    for index in range(case.layers):
        features = case.features if index == 0 else case.units
        kernel = uniform(math.sqrt(6 / (features + 4 * case.units)), features, 4 * case.units)
        recurrent_kernel = uniform(math.sqrt(3 / case.units), case.units, 4 * case.units)
        layers.append((kernel, recurrent_kernel, uniform(0.5, 4 * case.units)))
    x = rng.normal(size=(case.batch, case.steps, case.features)).astype(np.float32)
    return Data(layers, x, uniform(1, case.batch, case.steps, case.units))
