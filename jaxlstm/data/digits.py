"""Scikit-learn's bundled handwritten digits, read row by row as sequences."""

from __future__ import annotations

import numpy as np
import sklearn.datasets

from jaxlstm.data.sequences import SequenceData


def load_digits() -> SequenceData:
    """Loads 1,797 real 8x8 images of digits, without a download.

    An image is a sequence of 8 rows of 8 pixels, grey values scaled from 0..16 to [0, 1].

    References:
      Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    bunch = sklearn.datasets.load_digits()
    return SequenceData(
        x=(bunch.images / 16).astype(np.float32),
        y=bunch.target.astype(np.int32),
        classes=tuple(str(name) for name in bunch.target_names),
        name="digits",
        label_values=bunch.target_names,
        source="scikit-learn's load_digits (UCI handwritten digits, test part)",
    )
