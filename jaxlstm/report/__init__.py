"""What a run leaves behind: csv and JSON files, figures and a self-contained HTML report.

Nothing here knows of JAX or of the rest of the library: plain arrays, dictionaries and tables.
"""

from jaxlstm.report.draw import redraw, save_run
from jaxlstm.report.figure_architectures import architectures
from jaxlstm.report.figure_bars import bars
from jaxlstm.report.figure_confusion import confusion_matrix
from jaxlstm.report.figure_curves import curve_panels, learning_curves
from jaxlstm.report.figure_grid import grid_map
from jaxlstm.report.figure_saliency import saliency_sheet
from jaxlstm.report.figure_samples import image_sheet
from jaxlstm.report.files import Run, load_run
from jaxlstm.report.study_page import Picture, Section, Table, save_study
from jaxlstm.report.study_tables import markdown_table

__all__ = [
    "Picture",
    "Run",
    "Section",
    "Table",
    "architectures",
    "bars",
    "confusion_matrix",
    "curve_panels",
    "grid_map",
    "image_sheet",
    "learning_curves",
    "load_run",
    "markdown_table",
    "redraw",
    "saliency_sheet",
    "save_run",
    "save_study",
]
