"""Kernels for accelerators. Importing them is cheap: Pallas is loaded with the first call."""

from jaxlstm.nn.kernels.resident import lstm_resident, supports, unavailable

__all__ = ["lstm_resident", "supports", "unavailable"]
