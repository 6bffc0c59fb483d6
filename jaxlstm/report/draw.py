"""A run into its folder: files, figures and the page, and the latter two again from the files."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxlstm.report.draw_predictions import FIGURES as PREDICTION_FIGURES
from jaxlstm.report.draw_predictions import Drawn, draw_predictions
from jaxlstm.report.figure_curves import learning_curves, measure_name, metric_names
from jaxlstm.report.figure_grid import grid_map
from jaxlstm.report.figure_style import figure_bytes
from jaxlstm.report.files import Run, check_inside, load_run, write_atomic, write_run_files
from jaxlstm.report.page import Image, embed, render
from jaxlstm.report.problem import problem_of, section
from jaxlstm.report.tables import best_cell
from jaxlstm.report.text import count_text, score_note

FIGURES = ("learning_curves", "grid", *PREDICTION_FIGURES)
KINDS = ("png", "svg")
PHONE = 4.2  # inches


def save_run(run: Run, folder: str | os.PathLike[str]) -> Path:
    """Write a run's files, figures and report.

    Each file is written whole or not at all. The figures and the page are drawn from the files
    just written, so that `redraw` gives the same page.

    Args:
        run: The run.
        folder: Where to; made if it does not exist, and what it held of an earlier run replaced.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: A table of the run lacks a column, a table or a field holds something of
            another kind, or a file of the folder is a link out of it.
    """
    write_run_files(run, folder)
    return redraw(folder)


def redraw(folder: str | os.PathLike[str]) -> Path:
    """Draw the figures and the report again, from a run's files alone.

    Args:
        folder: A folder that `save_run` wrote.

    Returns:
        The path of `report.html`.

    Raises:
        FileNotFoundError: A file is missing; the sentence names it.
        ValueError: A file is damaged or is a link out of the folder; the sentence names the file,
            and its line, column or field.
    """
    folder = Path(folder)
    check_inside(folder, ["report.html"])
    run = load_run(folder)
    with np.errstate(over="ignore", invalid="ignore"):  # of a loss that has diverged to 1e308
        images = write_figures(folder, FIGURES, _figures(run, None), _figures(run, PHONE))
        page = render(run, images)
    path = folder / "report.html"
    write_atomic(path, page)
    return path


def write_figures(
    folder: Path, names: Collection[str], wide: Mapping[str, Drawn], narrow: Mapping[str, Drawn]
) -> dict[str, Image]:
    """Write figures into the folder `figures` of a report, and return them for its page.

    Args:
        folder: The report's folder.
        names: All figures that such a report may have; the files of those not drawn are removed.
        wide: The figures by name.
        narrow: Their forms for a phone.

    Returns:
        The images by name.

    Raises:
        ValueError: A figure's file, or the folder of figures, is a link out of the folder.
    """
    check_inside(folder, [f"figures/{name}.{kind}" for name in names for kind in KINDS])
    # All are drawn before the first is written: a failure leaves the folder as it was.
    files, images = finish_figures(wide, narrow)
    places = folder / "figures"
    places.mkdir(parents=True, exist_ok=True)
    for name in names:
        for kind in KINDS:
            path = places / f"{name}.{kind}"
            if name in files:
                write_atomic(path, files[name][kind])
            else:  # a figure of an earlier run in this folder is not this run's
                path.unlink(missing_ok=True)
    return images


def finish_figures(
    wide: Mapping[str, Drawn], narrow: Mapping[str, Drawn]
) -> tuple[dict[str, dict[str, bytes]], dict[str, Image]]:
    """Return each figure as files, by kind, and as an image for a page."""
    files = {
        name: {kind: figure_bytes(figure, kind) for kind in KINDS}
        for name, (figure, _, _) in wide.items()
    }
    images = {
        name: embed(figure, files[name], narrow[name][0], alt, caption)
        for name, (figure, alt, caption) in wide.items()
    }
    return files, images


def _figures(run: Run, width: float | None) -> dict[str, Drawn]:
    """Return each figure of a run."""
    scoring = str(run.summary.get("scoring") or "score")
    winner = best_cell(run.results, section(run.summary, "best").get("cell"))
    count = run.results["cell"].nunique()
    grid = grid_map(run.results, scoring=scoring, winner=winner, width=width or 10.0)
    figures = {
        "learning_curves": (
            learning_curves(run.curves, winner, width=width or 10.0),
            f"{_measures(run)} of every cell against the epoch, the best cell in colour",
            _curves_caption(run, winner, count),
        ),
        "grid": (
            grid,
            f"Mean {scoring} of each of {count_text(count, 'cell')} against its hyperparameters",
            _grid_caption(grid, scoring, score_note(scoring, run.results["score"])),
        ),
    }
    if run.predictions is not None and not run.predictions.empty:
        figures |= draw_predictions(run.predictions, problem_of(run.config), width)
    return figures


def _measures(run: Run) -> str:
    names = [measure_name(name) for name in ("loss", *metric_names(run.curves))]
    text = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return text[:1].upper() + text[1:]


def _curves_caption(run: Run, winner: int | None, count: int) -> str:
    if winner is None:
        return ""
    text = (
        "The best cell in colour: the mean over its folds, in a band from the smallest to the "
        "largest."
    )
    if count > 1:
        text += " Every other cell is a thin line, its mean on the validation rows."
    if (run.curves["trial"] < 0).any():
        text += " Dashed: the best cell trained again on all training rows."
    return text


def _grid_caption(grid: Figure, scoring: str, note: str) -> str:
    caption = ""
    if any(axes.images for axes in grid.axes):
        caption = (
            f"The mean {scoring} over the folds, the best cell in orange. "
            "Hatched: failed, or not in the grid."
        )
    elif any(axes.lines for axes in grid.axes):
        caption = (
            f"The {scoring} of each fold as small dots, their mean as a large one with one "
            "standard deviation to either side; the best cell in orange."
        )
    return f"{caption} {note}".strip()
