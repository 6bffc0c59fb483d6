"""A study's tables as texts: of any frame, and of the paper's figures beside ours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pandas as pd

from jaxlstm.plain_text import visible
from jaxlstm.report.problem import is_number
from jaxlstm.report.text import (
    column_texts,
    count_text,
    is_missing,
    number_text,
    python_value,
    value_text,
)

COMPARISON_COLUMNS = ("what", "paper", "ours", "std", "seeds", "note")
_SHORT = 24


@dataclasses.dataclass(frozen=True)
class Column:
    """A table's column as texts.

    Attributes:
        name: Its heading.
        texts: Its cells.
        kind: `"number"`, which stands right, `"short"` or `"long"` text, which stands left.
    """

    name: str
    texts: list[str]
    kind: str


def table_columns(frame: pd.DataFrame) -> list[Column]:
    """Return a table as texts; its index is not shown.

    A float has four significant digits, a whole number all its digits in thousands, a missing
    value a dash.

    Args:
        frame: Any columns of numbers and texts.

    Returns:
        Its columns.
    """
    columns = []
    for position, name in enumerate(frame.columns):
        values = [python_value(value) for value in frame.iloc[:, position].tolist()]
        present = [value for value in values if not is_missing(value)]
        if all(_is_numeric(value) for value in present):
            columns.append(Column(str(name), column_texts(values), "number"))
            continue
        texts = [cell_text(value) for value in values]
        kind = "long" if max(map(len, texts)) > _SHORT else "short"
        columns.append(Column(str(name), texts, kind))
    return columns


def cell_text(value: Any) -> str:
    """Return any value as a table shows it."""
    value = python_value(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number_text(value) if _is_numeric(value) else value_text(value)


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a table as GitHub's Markdown, numbers as on a study's page.

    Args:
        frame: Any columns of numbers and texts; its index is not shown.

    Returns:
        The lines, without one after the last; marks that would end a cell or begin an HTML
        element, and control characters, are escaped.

    Example:
        >>> print(markdown_table(pd.DataFrame({"network": ["a|b"], "rows": [12800]})))
        | network | rows |
        | :--- | ---: |
        | a\\|b | 12,800 |
    """
    columns = table_columns(frame)
    rows = [
        [column.name for column in columns],
        *zip(*(column.texts for column in columns), strict=True),
    ]
    lines = ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
    rule = ["---:" if column.kind == "number" else ":---" for column in columns]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    text = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("\\", "\\\\").replace("|", "\\|")


def comparison_rows(comparison: pd.DataFrame) -> list[dict[str, str]]:
    """Return the paper's figures beside ours as texts.

    Args:
        comparison: Columns `what`, `paper`, `ours`, `std`, `seeds`, `note`.

    Returns:
        Of each row: what, paper, ours, spread, difference, note.

    Raises:
        ValueError: A column is missing.
    """
    for name in COMPARISON_COLUMNS:
        if name not in comparison:
            found = ", ".join(map(repr, comparison.columns)) or "none"
            raise ValueError(f"comparison lacks the column {name!r}; columns found: {found}")
    return [_comparison_row(row) for row in comparison.to_dict("records")]


def _comparison_row(row: dict[Any, Any]) -> dict[str, str]:
    paper, ours, std, seeds = (
        python_value(row[name]) for name in ("paper", "ours", "std", "seeds")
    )
    numeric = is_number(ours)
    decimals = _decimals(ours) if numeric else 0
    shown = cell_text(ours)
    spread = ""
    if numeric and is_number(std):
        shown, spread = _fixed(ours, decimals), f"± {_spread(std, decimals)}"
    if not is_missing(ours) and is_number(seeds):
        spread += f" ({count_text(int(seeds), 'seed')})"
    difference = ""
    if numeric and is_number(paper):
        seen = max(_shown_decimals(ours, shown), _shown_decimals(paper, cell_text(paper)))
        change = _fixed(ours - paper, min(seen, _decimals(ours - paper)))
        zero = not any(digit in change for digit in "123456789")
        difference = "0" if zero else change if ours < paper else f"+{change}"
    return {
        "what": cell_text(row["what"]) if not is_missing(row["what"]) else "",
        "paper": "not stated" if is_missing(paper) else cell_text(paper),
        "ours": shown,
        "spread": spread.strip(),
        "difference": difference,
        "note": "" if is_missing(row["note"]) else cell_text(row["note"]),
    }


def _is_numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decimals(value: float) -> int:
    """Return how many decimals show four significant digits."""
    if isinstance(value, int) or value == 0:
        return 0
    return min(max(3 - math.floor(math.log10(abs(value))), 0), 12)


def _shown_decimals(value: float, text: str) -> int:
    return _decimals(value) if "e" in text else len(text.partition(".")[2])


def _fixed(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _spread(std: float, decimals: int) -> str:
    fixed = _fixed(std, decimals)
    # A spread that is not 0 does not become it.
    return fixed if std == 0 or any(digit in fixed for digit in "123456789") else f"{std:.1g}"
