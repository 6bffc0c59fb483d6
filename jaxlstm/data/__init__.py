"""Raw files -> arrays."""

from jaxlstm.data.arrays import load_arrays
from jaxlstm.data.digits import load_digits
from jaxlstm.data.sequences import SequenceData

__all__ = ["SequenceData", "load_arrays", "load_digits"]
