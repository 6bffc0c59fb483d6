"""How the figures look: colours, type, and the drawing of any text safely."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import textwrap
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from jaxlstm.plain_text import visible
from jaxlstm.report.text import shorten

INK = "#1d2329"
QUIET = "#5d6772"
HAIRLINE = "#c9ced4"
EMPTY = "#e4e6e9"
# Okabe and Ito's colours, which every kind of colour vision tells apart.
VALIDATION = "#0072b2"
TRAINING = "#d55e00"
REFIT = "#1d2329"
HIGHLIGHT = "#d55e00"
#: For what has no order, in the order of use; their yellow is too pale for white paper.
CATEGORIES = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8b95a1",
)  # fmt: skip

# Lightness falls linearly (OKLab 0.97 to 0.26), so equal steps of a score look equally large,
# also in grey and to the colour-blind; the hue turns from sand over teal to navy.
SCORES: Colormap = LinearSegmentedColormap.from_list(
    "jaxlstm_scores",
    [
        "#f8f6e8",
        "#c5e1c2",
        "#87ccb9",
        "#4eb1b3",
        "#2393aa",
        "#167499",
        "#165684",
        "#183a68",
        "#152148",
    ],
)

FONT_SIZE = 9.5
SMALL = 8.5
# DejaVu Sans comes with Matplotlib, so that a figure is the same on every machine; these follow
# where installed, for the scripts which it lacks.
_OTHER_SCRIPTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "Noto Sans Devanagari",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
    "Hiragino Sans",
    "PingFang SC",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
)
_STYLE = {
    "font.size": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": HAIRLINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": HAIRLINE,
    "ytick.color": HAIRLINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.handlelength": 1.9,
    "hatch.linewidth": 0.7,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    # Ids in an svg are hashes with this salt instead of random ones: the same run, the same file.
    "svg.hashsalt": "jaxlstm",
}
_PREFIXES = (
    "axes.",
    "errorbar.",
    "figure.",
    "font.",
    "grid.",
    "hatch.",
    "image.",
    "legend.",
    "lines.",
    "mathtext.",
    "patch.",
    "path.",
    "savefig.",
    "svg.",
    "text.",
    "xtick.",
    "ytick.",
)
_LOCK = threading.RLock()


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw in the report's style, whatever the user's own Matplotlib settings are.

    Matplotlib's settings are global: they are put back afterwards, and a lock keeps two threads
    from drawing reports over each other. Works as a decorator, too.
    """
    default = matplotlib.rcParamsDefault
    style: dict[Any, Any] = {name: default[name] for name in default if name.startswith(_PREFIXES)}
    style |= {**_STYLE, "font.family": _families()}
    with _LOCK, matplotlib.rc_context(style):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, which lays itself out when drawn."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.03)  # type: ignore[union-attr, call-arg]
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file's content.

    Args:
        figure: The figure.
        kind: `"png"` (200 dots an inch) or `"svg"` (text as outlines, no date inside).

    Returns:
        The bytes, the same for the same figure.
    """
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(
            buffer, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None
        )
    return buffer.getvalue()


def label(text: str) -> str:
    """Return `text` such that Matplotlib draws it as it is.

    A dollar sign starts no formula, a line break is a space, a control character shows as its
    escape, and a character that no font at hand can draw is a white square, without a warning.
    """
    characters = []
    for character in " ".join(re.split("[\r\n\t]", text)):
        if unicodedata.category(character) == "Cf" and visible(character) == character:
            continue  # a joiner has no glyph of its own
        characters += [
            shown if _drawable(shown) else "\N{WHITE SQUARE}" for shown in visible(character)
        ]
    return "".join(characters).replace("$", r"\$")


def fit(text: str, inches: float, size: float = FONT_SIZE) -> str:
    """Return a text cut to a length in inches, as `label` makes it safe to draw."""
    length = len(text)
    while length > 8 and text_width(shorten(text, length), size) > inches:
        length -= 1
    return label(shorten(text, length))


def statement(headline: str, detail: str, width: float) -> Figure:
    """Return a figure that says in words what there is to say, where there is nothing to plot."""
    width = min(width, 5.2)
    lines = textwrap.wrap(detail, int((width - 0.3) / text_width("x", FONT_SIZE)))
    figure = new_figure(width, 1.2 + 0.18 * len(lines))
    axes = figure.add_subplot()
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0.5, 0.64, label(headline), ha="center", va="center", size=19, weight="bold")
    axes.text(0.5, 0.22, "\n".join(map(label, lines)), ha="center", va="center", color=QUIET)
    return figure


def text_width(text: str, size: float = SMALL) -> float:
    """Return about how many inches wide a text is, without drawing it."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return (len(text) + 0.7 * wide) * size * 0.6 / 72


def bare(axes: Axes) -> None:
    """Take the frame and the tick marks off a heat map."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def on_colour(rgba: tuple[float, float, float, float]) -> str:
    """Return the text colour, ink or white, that reads better on a filled cell."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgba[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # WCAG's contrast with white and with the ink, whose luminance is about 0.017.
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.067 else INK


@functools.cache
def _families() -> list[str]:
    installed = set(font_manager.fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed)]


@functools.cache
def _drawable(character: str) -> bool:
    for family in _families():
        font = font_manager.get_font(font_manager.findfont(family))
        if font.get_char_index(ord(character)):
            return True
    return False
