"""What `benchmarks.scaling` measured, as a table, a CSV file and a figure."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import quartiles


class Setting(NamedTuple):
    """How a process searches."""

    cores: int  # CPU cores it is bound to; 0: not bound
    layout: str

    def label(self) -> str:
        """Short name, such as "2 cores" or "vmap"."""
        if not self.cores:
            return self.layout
        return f"{self.cores} core{'s' if self.cores > 1 else ''}"


class Timing(NamedTuple):
    """The searches of one setting and number of lanes."""

    setting: Setting
    lanes: int
    seconds: list[float]  # of each round
    compile: list[
        float
    ]  # seconds before it, of each round; "loop" compiles for the first lanes only

    def speed_up(self, timings: Sequence[Timing]) -> tuple[float, float, float]:
        """Quartiles of the first setting's time by this one's, round by round."""
        first = next(timing for timing in timings if timing.lanes == self.lanes)
        ratios = [a / b for a, b in zip(first.seconds, self.seconds, strict=True)]
        return quartiles(ratios)


def by_setting(timings: Sequence[Timing]) -> dict[Setting, list[Timing]]:
    """Timings by setting, in the order of measurement."""
    groups: dict[Setting, list[Timing]] = {}
    for timing in timings:
        groups.setdefault(timing.setting, []).append(timing)
    return groups


def table(timings: Sequence[Timing]) -> str:
    """Table of all measurements; speed-ups are against the first setting."""
    first = timings[0].setting
    lines = [
        f"{'lanes':>5}  {'':<8} {'s':>8}  {'quartiles':<17} {'lanes/s':>8} {'compile s':>9}"
        f"  by {first.label()}"
    ]
    for timing in timings:
        low, middle, high = quartiles(timing.seconds)
        speed_up = ""
        if timing.setting != first:
            below, ratio, above = timing.speed_up(timings)
            speed_up = f"{ratio:.2f} ({below:.2f} - {above:.2f})"
        lines.append(
            f"{timing.lanes:>5}  {timing.setting.label():<8} {middle:>8.3f}"
            f"  {f'{low:.3f} - {high:.3f}':<17} {timing.lanes / middle:>8.1f}"
            f" {sum(timing.compile):>9.1f}  {speed_up}".rstrip()
        )
    return "\n".join(lines)


def write_csv(path: Path, timings: Sequence[Timing], facts: Mapping[str, Any]) -> None:
    """Writes one row a setting and number of lanes; each repeats the facts about the run."""
    rows = []
    for timing in timings:
        low, middle, high = quartiles(timing.seconds)
        below, ratio, above = timing.speed_up(timings)
        figures = {
            "median_s": middle,
            "q1_s": low,
            "q3_s": high,
            "min_s": min(timing.seconds),
            "max_s": max(timing.seconds),
            "lanes_per_s": timing.lanes / middle,
            "compile_s": sum(timing.compile),
            "speed_up": ratio,
            "speed_up_q1": below,
            "speed_up_q3": above,
        }
        rows.append(
            {
                "layout": timing.setting.layout,
                "cores": timing.setting.cores or "",
                "lanes": timing.lanes,
                "rounds": len(timing.seconds),
                **{name: f"{figure:.5g}" for name, figure in figures.items()},
                "speed_up_over": timings[0].setting.label(),
                **facts,
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's
MARKS = "osD^"


def draw_figure(path: Path, timings: Sequence[Timing], title: str) -> None:
    """Draws seconds and speed-up against the number of lanes: medians and quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    groups = by_setting(timings)
    first = timings[0].setting
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.8, 5.4), layout="constrained")
    for place, (setting, group) in enumerate(groups.items()):
        colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
        style = {"color": colour, "marker": mark, "markersize": 7, "linewidth": 1.5}
        lanes = [timing.lanes for timing in group]
        low, middle, high = zip(*(quartiles(timing.seconds) for timing in group), strict=True)
        left.plot(lanes, middle, label=setting.label(), **style)
        left.fill_between(lanes, low, high, color=colour, alpha=0.25, linewidth=0)
        if setting != first:
            low, middle, high = zip(*(timing.speed_up(timings) for timing in group), strict=True)
            right.plot(lanes, middle, label=setting.label(), **style)
            right.fill_between(lanes, low, high, color=colour, alpha=0.25, linewidth=0)
    ours = groups[first]
    rate = quartiles(ours[-1].seconds)[1] / ours[-1].lanes
    lanes = [timing.lanes for timing in ours]
    left.plot(
        lanes,
        [rate * number for number in lanes],
        color="0.5",
        linestyle=":",
        label=f"proportional to the lanes ({first.label()})",
        zorder=0,
    )
    right.axhline(1, color="0.5", linewidth=1, zorder=0)
    for number in {setting.cores for setting in groups if setting.cores > 1 and first.cores == 1}:
        right.axhline(number, color="0.5", linestyle=":", zorder=0)
        right.annotate(
            f"{number} times", (0.01, number), xycoords=("axes fraction", "data"), va="bottom"
        )
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(lanes, [f"{number}" for number in lanes])
        axis.set_xlabel("lanes", fontsize=12)
        axis.grid(which="major", color="0.88")
        axis.set_axisbelow(True)
        axis.tick_params(axis="both", labelsize=11)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set_title("seconds of a search (compiled before)", fontsize=13)
    left.legend(fontsize=11, frameon=False)
    right.set_title(f"times faster than {first.label()}", fontsize=13)
    right.set_ylim(0, 1.1 * right.get_ylim()[1])  # room for what stands above the highest line
    if len(groups) > 1:
        right.legend(fontsize=11, frameon=False, loc="lower right")
    figure.suptitle(f"{title}\nmedians; shaded: quartiles over the rounds", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
