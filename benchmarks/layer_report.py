"""What `benchmarks.layer` measured, as tables, a CSV file and a figure."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.layer_case import MODES, Case

OURS = "jaxlstm"


class Timing(NamedTuple):
    """One implementation's time for one case and mode."""

    case: Case
    mode: str
    name: str  # "flax"; ours are "jaxlstm" or "jaxlstm[backend]"
    setting: str
    calls: int  # calls a round
    seconds: list[float]  # per call, one entry a round
    kernel: list[float]  # the operating system's share of the processor time, one entry a round

    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over the rounds, in seconds."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    def is_ours(self) -> bool:
        """Whether the implementation is this project's."""
        return self.name.startswith(OURS)

    def step_microseconds(self) -> float:
        """Microseconds for one time step of one layer (of all lanes at once)."""
        return self.median() * 1e6 / (self.case.steps * self.case.layers)


class Memory(NamedTuple):
    """What one forward+backward call takes, in bytes."""

    case: Case
    name: str
    setting: str
    resident: int  # growth of the process's peak
    program: int | None = None  # JAX: temporaries and outputs, as XLA states them
    device: int | None = None  # peak on the accelerator


def versus(timings: Sequence[Timing], ours: Timing) -> tuple[Timing, float, float, float] | None:
    """Compares ours with the fastest peer of the same case and mode.

    Returns:
      The fastest peer, its median by ours, and the quartiles over the rounds of the ratio of the two
      times of one round; None without peers.
    """
    peers = [timing for timing in timings if not timing.is_ours()]
    if not peers:
        return None
    fastest = min(peers, key=Timing.median)
    ratios = [theirs / our for theirs, our in zip(fastest.seconds, ours.seconds, strict=True)]
    low, high = ours._replace(seconds=ratios).quartiles()
    return fastest, fastest.median() / ours.median(), low, high


def grouped(timings: Iterable[Timing]) -> dict[tuple[Case, str], list[Timing]]:
    """Timings by case and mode, in the order of measurement."""
    groups: dict[tuple[Case, str], list[Timing]] = {}
    for timing in timings:
        groups.setdefault((timing.case, timing.mode), []).append(timing)
    return groups


def table(timings: Sequence[Timing]) -> str:
    """Table of one case and mode, the fastest first."""
    case, mode = timings[0].case, timings[0].mode
    last = "lane-steps/s" if case.lanes else "us/step"
    first_of_ours = next((timing for timing in timings if timing.is_ours()), None)
    lines = [
        f"{case.label()}, {mode}",
        f"  {'implementation':<18} {'setting':<14} {'ms':>9}  {'quartiles':<17} {last:>12}"
        "  kernel  / ours",
    ]
    for timing in sorted(timings, key=Timing.median):
        first, third = (seconds * 1e3 for seconds in timing.quartiles())
        figure = f"{timing.step_microseconds():12.2f}"
        if case.lanes:
            figure = f"{case.lanes * case.steps / timing.median():12.3g}"
        kernel = statistics.median(timing.kernel)
        by_ours = ""
        if first_of_ours:
            by_ours = f"{timing.median() / first_of_ours.median():6.2f}"
        lines.append(
            f"  {timing.name:<18} {timing.setting:<14} {timing.median() * 1e3:9.3f}"
            f"  {f'{first:.3f} - {third:.3f}':<17} {figure} {kernel:>6.0%}  {by_ours}"
        )
    for ours in timings:
        compared = versus(timings, ours) if ours.is_ours() else None
        if compared:
            fastest, ratio, low, high = compared
            setting = f" ({ours.setting})" if case.lanes else ""
            lines.append(
                f"  fastest peer ({fastest.name}) / {ours.name}{setting}:"
                f" {ratio:.2f} ({low:.2f} - {high:.2f})"
            )
    return "\n".join(lines)


def summary(timings: Sequence[Timing]) -> str:
    """Geometric means over the cases of peers' times by ours, for each of our backends."""
    groups = [group for (case, _), group in grouped(timings).items() if not case.lanes]
    names = dict.fromkeys(timing.name for group in groups for timing in group)
    lines = []
    for ours in (name for name in names if name.startswith(OURS)):
        lines.append(f"{'geometric mean over the shapes of peer / ' + ours:<52} " + " ".join(MODES))
        for peer in ["fastest peer", *(name for name in names if not name.startswith(OURS))]:
            figures = []
            for mode in MODES:
                logs = []
                for group in groups:
                    by_name = {timing.name: timing for timing in group if timing.mode == mode}
                    others = [by_name[peer]] if peer in by_name else []
                    if peer == "fastest peer":
                        others = [each for each in by_name.values() if not each.is_ours()]
                    if ours in by_name and others:
                        theirs = min(other.median() for other in others)
                        logs.append(math.log(theirs / by_name[ours].median()))
                mean = f"{math.exp(statistics.fmean(logs)):.2f} ({len(logs)})" if logs else "-"
                figures.append(f"{mean:>{len(mode)}}")
            lines.append(f"  {peer:<50} " + " ".join(figures))
    return "\n".join([*lines, "(in brackets: of how many shapes)"] if lines else lines)


def memory_table(memories: Sequence[Memory]) -> str:
    """Table of memory, and ours by Flax's."""
    lines = []
    for case in dict.fromkeys(memory.case for memory in memories):
        group = [memory for memory in memories if memory.case == case]
        lines.append(f"{case.label()}, memory of a forward+backward call, MB")
        lines.append(
            f"  {'implementation':<18} {'setting':<14} {'resident':>9} {'program':>9} {'device':>9}"
        )
        for memory in group:
            figures = " ".join(
                f"{'-' if size is None else f'{size / 1e6:.1f}':>9}"
                for size in (memory.resident, memory.program, memory.device)
            )
            lines.append(f"  {memory.name:<18} {memory.setting:<14} {figures}")
        flax = next((memory for memory in group if memory.name == "flax"), None)
        for ours in group:
            if flax and flax.program and ours.program and ours.name.startswith(OURS):
                lines.append(f"  {ours.name} / flax (program): {ours.program / flax.program:.2f}")
    return "\n".join(lines)


def write_csv(
    path: Path, timings: Sequence[Timing], memories: Sequence[Memory], facts: Mapping[str, Any]
) -> None:
    """Writes one row a measurement; each repeats the facts about the run."""
    rows: list[dict[str, Any]] = []
    for timing in timings:
        first, third = timing.quartiles()
        rows.append(
            {
                "kind": "lanes" if timing.case.lanes else "layer",
                "mode": timing.mode,
                "implementation": timing.name,
                "setting": timing.setting,
                **timing.case._asdict(),
                "rounds": len(timing.seconds),
                "calls": timing.calls,
                "median_ms": f"{timing.median() * 1e3:.5g}",
                "q1_ms": f"{first * 1e3:.5g}",
                "q3_ms": f"{third * 1e3:.5g}",
                "min_ms": f"{min(timing.seconds) * 1e3:.5g}",
                "max_ms": f"{max(timing.seconds) * 1e3:.5g}",
                "us_per_step": f"{timing.step_microseconds():.5g}",
                "kernel_share": f"{statistics.median(timing.kernel):.3f}",
            }
        )
    for memory in memories:
        sizes = {"resident": memory.resident, "program": memory.program, "device": memory.device}
        rows.append(
            {
                "kind": "memory",
                "mode": MODES[1],
                "implementation": memory.name,
                "setting": memory.setting,
                **memory.case._asdict(),
                **{f"{k}_mb": "" if v is None else f"{v / 1e6:.5g}" for k, v in sizes.items()},
            }
        )
    if not rows:
        return
    columns = dict.fromkeys(key for row in rows for key in row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *facts], restval="")
        writer.writeheader()
        writer.writerows({**row, **facts} for row in rows)


# By name, so that a peer keeps its colour and mark when others are missing (Okabe and Ito's colours).
STYLES = {
    "flax": ("#0072B2", "o"),
    "keras-jax": ("#009E73", "s"),
    "keras-tf": ("#E69F00", "D"),
    "torch": ("#D55E00", "^"),
    "cudnn": ("#CC79A7", "v"),
}


def draw_figure(path: Path, timings: Sequence[Timing], title: str) -> None:
    """Draws one row a shape and one panel a mode: medians and quartiles on a log axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = {key: group for key, group in grouped(timings).items() if not key[0].lanes}
    cases = list(dict.fromkeys(case for case, _ in groups))
    if not cases:
        return
    names = list(dict.fromkeys(timing.name for group in groups.values() for timing in group))
    known = list(STYLES)
    names.sort(key=lambda name: known.index(name) if name in known else -1)  # ours first
    labelled: set[str] = set()
    our_names = [name for name in names if name.startswith(OURS)]
    figure, axes = plt.subplots(
        1, len(MODES), figsize=(12.8, 2.2 + 0.85 * len(cases)), sharey=True, layout="constrained"
    )
    for axis, mode in zip(axes, MODES, strict=True):
        for row, case in enumerate(cases):
            if row % 2 == 0:
                axis.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
            group = groups.get((case, mode), [])
            for timing in group:
                place = names.index(timing.name)
                y = row + 0.72 * ((place + 0.5) / len(names) - 0.5)
                first, third = (seconds * 1e3 for seconds in timing.quartiles())
                if timing.is_ours():
                    mark = "*PXd"[our_names.index(timing.name) % 4]
                    colour, size = "black", 13.0 if mark == "*" else 9.0
                else:
                    (colour, mark), size = STYLES.get(timing.name, ("0.5", "o")), 7.5
                axis.plot([first, third], [y, y], color=colour, linewidth=2.5, alpha=0.5, zorder=2)
                axis.plot(
                    timing.median() * 1e3,
                    y,
                    mark,
                    color=colour,
                    markersize=size,
                    zorder=3,
                    label=None if timing.name in labelled else timing.name,
                )
                labelled.add(timing.name)
            best = min((each for each in group if each.is_ours()), key=Timing.median, default=None)
            compared = versus(group, best) if best else None
            if compared:
                axis.annotate(
                    f"{compared[1]:.2f}x",
                    (1, row),
                    xytext=(-6, 0),
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    horizontalalignment="right",
                    verticalalignment="center",
                    fontsize=12,
                    fontweight="bold",
                )
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        axis.set_xlim(low, high * (high / low) ** 0.16)  # room for the ratios
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(axis="x", which="major", color="0.8")
        axis.grid(axis="x", which="minor", color="0.9", linewidth=0.5)
        axis.set_axisbelow(True)
        axis.tick_params(axis="both", labelsize=11)
        axis.set_xlabel("milliseconds a call (median, bar: quartiles)", fontsize=12)
        axis.set_title(mode, fontsize=13)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].set_yticks(range(len(cases)), [case.label() for case in cases])
    axes[0].set_ylim(len(cases) - 0.5, -0.5)
    figure.suptitle(f"{title}\nbold: fastest peer's time / ours", fontsize=13)
    figure.legend(loc="outside lower center", ncols=len(names), fontsize=12, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
