"""Plans and searches as a notebook shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from jaxlstm.plain_text import visible

_BEST = 10  # cells of a search's table


def plan_html(head: str, rows: Sequence[Sequence[str]], last: Iterable[str]) -> str:
    """Returns a plan's parts as HTML.

    Args:
      head: the first sentence.
      rows: of the table, its heads first.
      last: lines below.
    """
    lines = "".join(f"<p>{_text(line)}</p>" for line in last)
    return f"<div><p>{_text(head)}</p>{_table(rows)}{lines}</div>"


def search_html(search: Any) -> str:
    """Returns the best cells of a fitted search as HTML, best first; nothing before it is fitted.

    With several metrics the one that decides is shown, or the first where none does.
    """
    results: Mapping[str, Any] | None = getattr(search, "cv_results_", None)
    if results is None:
        return ""
    ranks = [name for name in results if name.startswith("rank_test_")]
    metric = search.refit if f"rank_test_{search.refit}" in ranks else ranks[0][len("rank_test_") :]
    ranked = np.argsort(results[f"rank_test_{metric}"], kind="stable")
    parameters = [name for name in results if name.startswith("param_")]
    heads = ["rank", *(name.removeprefix("param_") for name in parameters), f"mean {metric}", "std"]
    rows = [heads]
    for cell in ranked[:_BEST]:
        values = [results[name][cell] for name in parameters]
        rows.append(
            [
                str(results[f"rank_test_{metric}"][cell]),
                *("" if np.ma.is_masked(value) else str(value) for value in values),
                *(f"{results[f'{part}_test_{metric}'][cell]:.4f}" for part in ("mean", "std")),
            ]
        )
    words = f"{len(ranked)} cells"
    if hasattr(search, "best_score_"):
        words = f"Best mean {metric} {search.best_score_:.4f} of {words}: {search.best_params_}"
    if len(ranked) > _BEST:
        words += f"; the best {_BEST} of them:"
    return f"<div><p>{_text(words)}</p>{_table(rows)}</div>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = "".join(f"<th>{_text(name)}</th>" for name in head)
    lines = f"<thead><tr>{lines}</tr></thead><tbody>"
    for row in body:
        lines += "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
    return f"<table>{lines}</tbody></table>"


def _text(text: str) -> str:
    return escape(visible(text))
