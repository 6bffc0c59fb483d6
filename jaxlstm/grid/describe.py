"""A plan in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxlstm.grid.groups import Lane
from jaxlstm.grid.space import Problem
from jaxlstm.train.trial import Structure


def human_bytes(count: int) -> str:
    """1536 -> "1.5 kB"."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_seconds(seconds: float) -> str:
    """100 -> "1 min 40 s"."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def describe(problem: Problem, structure: Structure, lanes: Sequence[Lane]) -> str:
    """A group's network, its batch sizes and its epochs in a line."""
    module = structure.module
    hidden = {"parent", "name", *structure.traced_fields}
    shown = [
        f"{field.name}={getattr(module, field.name)!r}"
        for field in dataclasses.fields(module)
        if field.name not in hidden and getattr(module, field.name) != field.default
    ]
    networks = [problem.trials[lane.trials[0]].network for lane in lanes]
    batches = sorted({network.batch_size for network in networks})
    text = f"{type(module).__name__}({', '.join(shown)}), batch {', '.join(map(str, batches))}"
    if batches != [structure.micro_batch]:
        text += f" by {structure.micro_batch}"
    if structure.augment:
        text += f", augmented by {', '.join(map(repr, structure.augment))}"
    if structure.standardizes:
        text += ", standardized"
    own = len({network.structure.module for network in networks})
    if own > 1:
        text += f", {own} widths padded"
    shared = {
        tuple(problem.trials[place].network.epochs for place in lane.trials) for lane in lanes
    }
    for epochs in sorted(several for several in shared if len(set(several)) > 1):
        text += f", epochs {', '.join(map(str, dict.fromkeys(epochs)))} in one run"
    return text
