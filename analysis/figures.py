"""Figures: one manifest each, as PNG, PDF and SVG; and a run's own figure.

Each curve keeps its colour in all figures: ours saturated, the paper's light. At scale=paper both share their axes. At other
scales steps and accuracies are not comparable, so each panel is a pair, paper | ours; panels without runs of ours are left out. Every
seed is a thin line. With more than three seeds there is a band: the 95 % interval of accuracies (rlvr.stats), the range over seeds
of other quantities. Without runs a figure shows only the paper's curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.curves import (
    SHARES,
    Curve,
    after_saturation,
    as_series,
    curve,
    gain_of,
    is_percent,
    paper_curve,
    quantity_of,
)
from analysis.manifests import Manifest, Panel, Row, benchmarks_at
from analysis.needed_runs import with_panel
from analysis.run_data import Run
from analysis.seed_estimates import gain_after_saturation
from rlvr.stats import printed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_POINTS = 12
FEW_MARKERS = 6
LEAST_SPAN = 10.0  # points: the least height of a panel, so that a small change does not fill it
FEW_SEEDS = 3  # with fewer seeds each is drawn as a line, not a band
LABEL_WIDTH = 14
SATURATION: dict[str, Any] = {"color": "0.2", "lw": 1, "ls": (0, (2, 2))}


def runs_of(manifest: Manifest, panel: Panel, row: Row, scale: str | None, runs: Sequence[Run]) -> list[Run]:
    """The runs of a curve; where its overrides only change the scale (longer ones) and there are none, the experiment's own."""
    if scale is None:
        return []
    wanted = with_panel(row, panel)
    found = manifest.runs_of(wanted, scale, runs)
    longer = all(override.startswith("scale.") for override in wanted.overrides_at(scale))
    return found if found or not longer else manifest.runs_of(replace(wanted, overrides=()), scale, runs)


@dataclass
class Line:
    """One curve of a panel: the paper's, and the runs behind ours."""

    label: str
    look: dict[str, Any]
    quantity: str
    paper: pd.Series
    runs: list[Run]

    @property
    def ours(self) -> Curve | None:
        return curve(self.runs, self.quantity)


def lines_of(manifest: Manifest, panel: Panel, scale: str | None, runs: Sequence[Run]) -> list[Line]:
    looks = style.of_lines([row.experiment for row in manifest.rows])
    return [
        Line(style.pretty(row.label), look, quantity_of(panel, row), paper_curve(manifest, panel, row),
             runs_of(manifest, panel, row, scale, runs))
        for row, look in zip(manifest.rows, looks, strict=True)
    ]  # fmt: skip


def draw_ours(ax: Axes, line: Line) -> float | None:
    """Draw the mean, and the seeds or a band; returns the mean's last point, None without runs."""
    if (ours := line.ours) is None:
        return None
    ax.plot(ours.steps, ours.mean, markevery=_marked(len(ours.steps)), zorder=3, **line.look)
    for run in line.runs if len(line.runs) > 1 else ():
        if (one := curve([run], line.quantity)) is not None:
            ax.plot(one.steps, one.mean, color=line.look["color"], lw=0.6, alpha=0.5, zorder=2)
    if len(line.runs) > FEW_SEEDS:
        ax.fill_between(ours.steps, ours.low, ours.high, color=line.look["color"], alpha=0.12, lw=0)
    return float(ours.mean[-1])


def draw_paper(ax: Axes, line: Line) -> float | None:
    if line.paper.empty:
        return None
    look = line.look | {"color": style.light(line.look["color"])}
    ax.plot(line.paper, markevery=_marked(len(line.paper)), lw=1.2, zorder=1, **look)
    return float(line.paper.iloc[-1])


def _marked(points: int) -> int:
    """The distance between markers: every point if there are few."""
    return 1 if points < FEW_POINTS else -(-points // FEW_MARKERS)


def label_ends(ax: Axes, ends: Sequence[tuple[Line, float | None]], tall: float = 72 * 1.55) -> None:
    """Write each curve's name at its end, in its colour; names that would touch are moved apart. tall: height of the axes in points."""
    low, high = ax.get_ylim()
    found = sorted((((end - low) / (high - low), line) for line, end in ends if end is not None), key=lambda e: e[0])
    names = [fill(line.label, LABEL_WIDTH, break_long_words=False).replace("\n", "\n    ") for _, line in found]
    texts = [f"{style.MARKERS[line.look['marker']]} {name}" for (_, line), name in zip(found, names, strict=True)]
    heights = [9.5 * (text.count("\n") + 1) / tall for text in texts]
    for (end, line), text, y in zip(found, texts, apart([end for end, _ in found], heights), strict=True):
        arrow: dict[str, Any] = {"arrowstyle": "-", "lw": 0.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        arrow["color"] = line.look["color"]
        ax.annotate(text, (1, end), (1.03, y), "axes fraction", "axes fraction", arrowprops=arrow, fontsize=7.5,
                    color=style.dark(line.look["color"]), va="center", linespacing=0.95)  # fmt: skip


def apart(wanted: Sequence[float], heights: Sequence[float], ceiling: float = 1.05) -> list[float]:
    """The middles of labels in rising order: as near to the wanted places as fits between 0 and the ceiling without overlap."""
    blocks: list[list[tuple[float, float]]] = []

    def bottom(block: list[tuple[float, float]]) -> float:
        tall = sum(height for _, height in block)
        return max(min(float(np.mean([middle for middle, _ in block])) - tall / 2, ceiling - tall), 0.0)

    for one in zip(wanted, heights, strict=True):
        blocks.append([one])
        while len(blocks) > 1 and bottom(blocks[-2]) + sum(h for _, h in blocks[-2]) > bottom(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = blocks[-1] + last
    found = []
    for block in blocks:
        floor = bottom(block)
        for _, height in block:
            found.append(floor + height / 2)
            floor += height
    return found


def mark_saturation(ax: Axes, runs: Sequence[Run]) -> None:
    """Draw a line at each seed's saturation; the text right of the last one names the steps."""
    steps = sorted(run.saturation for run in runs if run.saturation is not None)
    for step in steps:
        ax.axvline(step, **SATURATION, zorder=4)
    if steps:
        told = " to ".join(map(str, dict.fromkeys((steps[0], steps[-1]))))
        ax.annotate(f" 99 % at {told}", (steps[-1], 0.5), xycoords=("data", "axes fraction"), fontsize=7)


def widen(ax: Axes, least: float) -> None:
    """Extend the axis to at least `least`, but not below 0, so that a small change does not fill a panel."""
    low, high = ax.get_ylim()
    if high - low < least:
        low = max((low + high - least) / 2, 0.0)
        ax.set_ylim(low, low + least)


def draw_panel(
    axes: Sequence[Axes], manifest: Manifest, panel: Panel, scale: str | None, lines: Sequence[Line]
) -> None:
    """Draw one panel, on one axes or on a pair (the paper's, ours)."""
    of_paper, of_ours = axes[0], axes[-1]
    theirs = [(line, draw_paper(of_paper, line)) for line in lines]
    ours = [(line, draw_ours(of_ours, line)) for line in lines]
    percent = all(is_percent(line.quantity) for line in lines)
    of_saturation = manifest.kind == "post_saturation"
    for ax in axes:
        ax.set_xlim(left=0)
        ax.margins(y=0.08)
        if of_saturation:
            ax.set_ylim(0, 103)
        else:
            widen(ax, LEAST_SPAN if percent else 1.0 if ax.dataLim.height == 0 else 0.0)
    if of_saturation:
        mark_saturation(of_ours, lines[0].runs)
    if len(axes) > 1:
        label_ends(of_paper, theirs)
        label_ends(of_ours, ours)
    else:
        label_ends(of_ours, [own if own[1] is not None else other for own, other in zip(ours, theirs, strict=True)])
    unit = "%" if percent else ""
    of_paper.set_ylabel(unit)
    title = style.pretty(panel.title)
    if scale is None:
        of_paper.set_title(title)
        return
    kind, _, column = lines[0].quantity.partition("/")
    names = benchmarks_at(scale, column.partition("/")[0]) if kind in SHARES else ()
    counts = sorted({len(line.runs) for line in lines if line.runs})
    told = f"ours{': ' + ' + '.join(names) if names else ''}, {seeds(*counts)}"
    gains = [gain_sentence(lines[0].runs), paper_gain(lines[0].paper, lines[1].paper)] if of_saturation else ["", ""]
    if len(axes) == 1:
        of_ours.set_title("\n".join(filter(None, [f"{title} ({told}; light: paper)", *gains])))
    else:
        of_paper.set_title("\n".join(filter(None, [f"{title}: paper", gains[1]])))
        of_ours.set_title("\n".join(filter(None, [f"{title}: {told}" if of_saturation else told, gains[0]])))


def gain_sentence(runs: Sequence[Run]) -> str:
    """The gain of the seeds after saturation, or that they did not saturate, in words."""
    if gain := gain_after_saturation(runs):
        start, to = ("/".join(map(str, sorted(set(ends)))) for ends in zip(*gain.spans, strict=True))
        of_all = "" if len(gain.spans) == len(runs) else f" ({len(gain.spans)} of {len(runs)} seeds)"
        return f"after saturation, steps {start} to {to}:\n{gain.points:+.1f} points{of_all}"
    never = all(run.saturation is None for run in runs)
    return "training never reaches 99 %" if never else "no evaluation after 99 %"


def paper_gain(train: pd.Series, test: pd.Series) -> str:
    after = after_saturation(train, test)
    if after.empty:
        return "never reaches 99 %"
    return f"after saturation, steps {after.index[0]} to {after.index[-1]}:\n{gain_of(train, test):+.1f} points"


def seeds(*counts: int) -> str:
    """`1 seed`, or for several curves `1 to 3 seeds`."""
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seed{'s' if counts[-1] > 1 else ''}"


def shown_panels(manifest: Manifest, scale: str | None, runs: Sequence[Run]) -> list[tuple[Panel, list[Line]]]:
    """Those with a curve of ours; all without a scale."""
    found = [(panel, lines_of(manifest, panel, scale, runs)) for panel in manifest.panels]
    return [(p, lines) for p, lines in found if scale is None or any(line.ours for line in lines)]


def draw(manifest: Manifest, scale: str | None, panels: Sequence[tuple[Panel, list[Line]]]) -> Figure:
    """The whole figure of a manifest: its panels, or pairs of panels, in a grid."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    paired = scale not in (None, "paper")
    abreast = min(len(panels), 2 if paired else 3)
    lines, width = -(-len(panels) // abreast), (6.2 if paired else 4.1) * abreast
    fig = Figure(figsize=(width, 2.3 * lines + 0.35))
    # The pad is for the labels, which the engine measures a little short.
    fig.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12))
    grid = fig.subplots(lines, abreast * (1 + paired), squeeze=False)
    of_panels = [axes[i : i + 1 + paired] for axes in grid for i in range(0, len(axes), 1 + paired)]
    for axes, (panel, own) in zip(of_panels, panels, strict=False):
        draw_panel(axes, manifest, panel, scale, own)
    for axes in of_panels[len(panels) :]:
        for ax in axes:
            ax.set_axis_off()
    for axes in of_panels[max(0, len(panels) - abreast) : len(panels)]:
        for ax in axes:
            ax.set_xlabel("step")
    return fig


def told(manifest: Manifest, scale: str | None, panels: Sequence[tuple[Panel, list[Line]]]) -> str:
    """The figure in words, for readers who cannot see it: where each curve of ours, or of the paper, starts and ends."""
    said = []
    for panel, lines in panels:
        ends = []
        for line in lines:
            series = as_series(line.ours) if line.ours else line.paper if scale is None else line.paper.iloc[:0]
            if len(series):
                ends.append(f"{line.label} {printed(series.iloc[0], '.3g')} to {printed(series.iloc[-1], '.3g')}")
        said.append(f"{style.pretty(panel.title)}: {', '.join(ends)}")
    whose = "the paper's curves" if scale is None else f"ours at scale={scale}, beside the paper's"
    return f"{manifest.title}, {whose}, from first to last step. {'; '.join(said)}."


@style.drawn
def draw_run(run: Run, benchmarks: Sequence[str]) -> Figure:
    """The post-saturation figure of one run, a line for each benchmark."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax = fig.subplots()
    wanted = [("train/accuracy", "training accuracy")]
    wanted += [(f"accuracy/{name}", f"{name} ({len(run.scores[name].ids)})") for name in benchmarks]
    none = pd.Series(dtype=float)
    lines = [Line(label, style.of_line(i), quantity, none, [run]) for i, (quantity, label) in enumerate(wanted)]
    ends = [(line, draw_ours(ax, line)) for line in lines]
    mark_saturation(ax, [run])
    ax.set(xlabel="step", ylabel="%", title=run.id, xlim=(0, None), ylim=(0, 103))
    label_ends(ax, ends, tall=72 * 2.8)
    return fig


@style.drawn
def write(manifest: Manifest, scale: str | None, runs: Sequence[Run], out: Path) -> tuple[int, int, str]:
    """<stem>.png, and .pdf and .svg of what is ours; returns width and height as a page shows them, in pixels, and the text for who cannot see."""
    panels = shown_panels(manifest, scale, runs)
    fig = draw(manifest, scale, panels)
    fig.draw_without_rendering()
    fig.set_layout_engine(None)  # laid out once: with an engine every format is drawn twice
    for form in style.FORMATS if scale else style.FORMATS[:1]:
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
        fig.savefig(out / f"{manifest.stem}.{form}", metadata=dates)
    width, height = 100 * fig.get_size_inches()
    return round(width), round(height), told(manifest, scale, panels)
