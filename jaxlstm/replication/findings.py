"""What a study found: the paper's figures with ours beside them, and the page's sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxlstm.replication.parts import Score
from jaxlstm.report import Section


class Comparison:
    """The paper's figures, ours beside each."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def add(
        self, what: str, paper: float | str | None, ours: Score | float | str | None, note: str = ""
    ) -> None:
        """Adds a row.

        Args:
          what: the figure, with its unit.
          paper: theirs; None where it is not stated.
          ours: measured; None where it was not. A score of 0 fits has a deviation, but not over
            seeds.
          note: what differs.
        """
        score = ours if isinstance(ours, Score) else None
        value = np.nan if ours is None else ours if score is None else score.mean
        self._rows.append(
            {
                "what": what,
                "paper": np.nan if paper is None else paper,
                "ours": value,
                "std": score.std if score else np.nan,
                "seeds": score.fits or np.nan if score else np.nan,
                "note": note,
            }
        )

    @property
    def table(self) -> pd.DataFrame:
        """All rows."""
        columns = ["what", "paper", "ours", "std", "seeds", "note"]
        return pd.DataFrame(self._rows, columns=columns)


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What a study has to show.

    Attributes:
      headline: its result in a sentence or two.
      tiles: label, value and note of the figures that matter most.
      comparison: the paper's figures and ours.
      sections: the page.
      notes: what differs from the paper, and why.
    """

    headline: str
    tiles: Sequence[tuple[str, str, str]]
    comparison: Comparison
    sections: Sequence[Section]
    notes: Sequence[str] = ()
