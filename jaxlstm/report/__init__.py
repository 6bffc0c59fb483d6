"""What a run leaves behind: csv and JSON files, figures and a self-contained HTML report.

Nothing here knows of JAX or of the rest of the library: plain arrays, dictionaries and tables.
"""

from jaxlstm.report.draw import redraw, save_run
from jaxlstm.report.figure_confusion import confusion_matrix
from jaxlstm.report.figure_curves import learning_curves
from jaxlstm.report.figure_grid import grid_map
from jaxlstm.report.files import Run, load_run

__all__ = [
    "Run",
    "confusion_matrix",
    "grid_map",
    "learning_curves",
    "load_run",
    "redraw",
    "save_run",
]
