"""A published study run again: what to train, its command line, and one page beside the paper's.

An experiment says what to train (`Part`) and what to show of it (`Findings`); `run_replication` is
its command line.
"""

from jaxlstm.replication.command import Replication, run_replication
from jaxlstm.replication.findings import Comparison, Findings
from jaxlstm.replication.parts import Part, Score, Trained
from jaxlstm.replication.sections import (
    bar_picture,
    confusion_picture,
    curve_picture,
    grid_section,
    mean_rates,
    sample_picture,
    split_bars,
    time_table,
)

__all__ = [
    "Comparison",
    "Findings",
    "Part",
    "Replication",
    "Score",
    "Trained",
    "bar_picture",
    "confusion_picture",
    "curve_picture",
    "grid_section",
    "mean_rates",
    "run_replication",
    "sample_picture",
    "split_bars",
    "time_table",
]
