"""Values as text: exactly for files, readably for people."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxlstm.plain_text import visible

# Only brackets of plain numbers are ever evaluated, so a parameter's text cannot run or warn.
_NUMBERS_IN_BRACKETS = re.compile(r"^[(\[][-+0-9.eE, ]*[)\]]$")


def python_value(value: Any) -> Any:
    """Return NumPy and JAX scalars as Python ones, and sequences as lists or tuples of them."""
    if isinstance(value, tuple):
        return tuple(python_value(item) for item in value)
    if isinstance(value, list):
        return [python_value(item) for item in value]
    if isinstance(value, bool | int | float | str | None):
        # np.float64 is a float whose repr is not a number's.
        return float(value) if isinstance(value, float) else value
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def is_missing(value: Any) -> bool:
    """Return whether a table's value is absent: None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas' NA has no truth value, an array has several
        return type(value).__name__ == "NAType"


def exact_text(value: Any) -> str:
    """Return the text that stands for `value` in a csv file.

    Numbers, booleans and tuples appear as their repr, so that floats read back bit for bit;
    text appears as it is, NaN as an empty field.
    """
    value = python_value(value)
    if isinstance(value, str):
        return value
    if value is None:
        return "None"
    return "" if is_missing(value) else repr(value)


def value_text(value: Any) -> str:
    """Return a hyperparameter's value as a reader wants to see it, `(150, 75)` or `0.001`."""
    value = python_value(value)
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        comma = "," if len(value) == 1 else ""
        return "(" + ", ".join(value_text(item) for item in value) + comma + ")"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items())
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "–" if is_missing(value) else str(value)


def sort_values(values: Iterable[Any]) -> list[Any]:
    """Sort a parameter's values as a person would.

    Numbers and tuples of numbers rise, also where a csv file has made text of the tuples;
    anything else keeps the order it came in, which is the order of the user's grid.
    """
    values = list(values)
    keys = [_numbers(value) for value in values]
    if any(key is None for key in keys):
        return values
    order = sorted(range(len(values)), key=lambda i: keys[i] or ())
    return [values[i] for i in order]


def _numbers(value: Any) -> tuple[float, ...] | None:
    value = python_value(value)
    if isinstance(value, str) and _NUMBERS_IN_BRACKETS.match(value):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None
    items: Sequence[Any] = value if isinstance(value, tuple | list) else (value,)
    if all(isinstance(item, int | float) and not is_missing(item) for item in items):
        return tuple(items)
    return None


def shorten(text: str, length: int) -> str:
    """Cut `text` to `length` characters, the last one an ellipsis where something is lost.

    Control characters count as their escapes, which is how they are shown.
    """
    text = visible(text, keep="\n\t")
    return text if len(text) <= length else text[: max(length - 1, 0)].rstrip() + "…"


def score_text(value: float | None, digits: int = 4) -> str:
    """Return a score with `digits` decimals, or four significant digits where it is large."""
    if value is None or is_missing(value):
        return "–"
    if not math.isfinite(value):
        return str(value)
    if abs(value) < 10:
        text = f"{value:.{digits}f}"
    elif abs(value) < 999.5:
        text = f"{value:#.{min(digits, 4)}g}".rstrip(".")
    elif abs(value) < 9999.5:
        text = f"{value:.0f}"
    else:
        text = f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def score_digits(scores: Iterable[float], digits: int = 4) -> int:
    """Return how many decimals a run's scores need.

    Args:
        scores: All scores that are shown together.
        digits: The decimals of scores around 1, such as accuracies.

    Returns:
        `digits`, or as many more as show all but one of that many significant digits of the
        typical score, where scores can be negative, such as `neg_mean_squared_error`.
    """
    finite = sorted(abs(score) for score in scores if not is_missing(score) and score != 0)
    finite = [size for size in finite if math.isfinite(size)]
    if not finite or all(is_missing(score) or score >= 0 for score in scores):
        return digits
    typical = finite[len(finite) // 2]
    return min(digits + max(0, -math.floor(math.log10(typical)) - 2), digits + 5)


def score_note(scoring: str, scores: Iterable[float]) -> str:
    """Return a sentence on how to read scores that are no fractions, or an empty text.

    Args:
        scoring: The scorer's name, whose sign the report keeps.
        scores: The scores.
    """
    if scoring.startswith("neg_"):
        name = scoring.removeprefix("neg_").replace("_", " ")
        return f"Scores are the {name} with a minus sign, so the nearer to 0, the better."
    if scoring == "r2" and any(score < 0 for score in scores):
        return "An r2 of 1 is perfect; below 0 a cell is worse than predicting the mean."
    return ""


def number_text(value: float | None) -> str:
    """Return a number as a table shows it: `12,800` rows, `0.0003162`, and a dash for NaN.

    A whole number has all its digits, a fraction four significant ones.
    """
    if value is None or is_missing(value):
        return "–"
    if isinstance(value, int):
        text = f"{value:,}"
    elif math.isinf(value):
        text = "∞" if value > 0 else "-∞"
    else:
        # From 9999.5 on four digits would need an exponent.
        text = f"{value:,.0f}" if 9999.5 <= abs(value) < 1e15 else f"{value:,.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def column_texts(values: Iterable[float | None]) -> list[str]:
    """Return a column of numbers as texts.

    Numbers of a like size have as many decimals, up to four significant digits, as any of them:
    `0.9300` below `0.9312`.
    """
    values = [python_value(value) for value in values]
    texts = [number_text(value) for value in values]
    sizes = [abs(value) for value in values if not is_missing(value) and value]
    if sizes and max(sizes) > 100 * min(sizes):
        return texts
    decimals = max((_decimals(text) for text in texts), default=0)
    padded = []
    for value, text in zip(values, texts, strict=True):
        if isinstance(value, float) and math.isfinite(value) and value and "e" not in text:
            most = min(decimals, 3 - math.floor(math.log10(abs(value))))
            missing = most - _decimals(text)
            if missing > 0:
                text += ("" if "." in text else ".") + "0" * missing
        padded.append(text)
    return padded


def _decimals(text: str) -> int:
    return 0 if "e" in text else len(text.partition(".")[2])


def percent_text(fraction: float | None) -> str:
    """Return a fraction as per cent, never rounded up to a 100 % that it is not."""
    if fraction is None or is_missing(fraction):
        return "–"
    percent = 100 * fraction
    if 99.9 < percent < 100:
        return f"{math.floor(percent * 100) / 100:.2f} %"
    return f"{percent:.1f} %"


def duration_text(seconds: float | None) -> str:
    """Return a time in the units that matter: `840 ms`, `41.2 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds is None or is_missing(seconds):
        return "–"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s" if seconds < 9.95 else f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def bytes_text(count: float | None) -> str:
    """Return a size in binary units, `312 MiB`."""
    if count is None or is_missing(count):
        return "–"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def count_text(count: float, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun, `1 fit`, `1,620 fits`, `2 classes`."""
    word = noun if count == 1 else plural or noun + "s"
    return f"{count:,} {word}"
