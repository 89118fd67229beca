"""Figures: ours with bands over the paper's curve in grey, one manifest each, as PNG, PDF and SVG; and a run's own figure.

At scale=paper both share the step axis. At another scale the paper's steps have an axis of their own, grey, on top: the shapes
can be compared, steps and heights cannot. Bands around accuracies are their 95 % intervals (rlvr.stats), around
other quantities the range over seeds. Without runs a figure shows the paper's curves only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis import style
from analysis.estimates import gain_after_saturation, parts, reflections
from analysis.manifests import Manifest, Panel, Row, benchmarks_at, paper_data
from analysis.results import SATURATED, WINDOW, Run, first_reaching
from rlvr.stats import mean_intervals

FEW_POINTS = 12
MOST_BANDS = 6
SHARES = ("accuracy", "subject", "boxed")
SATURATION: dict[str, Any] = {"color": "0.2", "lw": 1, "ls": (0, (2, 2))}
SATURATION["label"] = f"training accuracy {SATURATED:.0%} over {WINDOW:,} rollouts"


@dataclass
class Curve:
    """A quantity over the steps. steps, mean, low, high: "steps"."""

    steps: NDArray
    mean: NDArray
    low: NDArray
    high: NDArray


def is_percent(quantity: str) -> bool:
    return quantity.partition("/")[0] in SHARES or quantity == "train/accuracy"


def curve(runs: Sequence[Run], quantity: str) -> Curve | None:
    """`quantity` (see analysis.manifests) of these runs, percent where it is a share; None where no run has it."""
    kind, _, rest = quantity.partition("/")
    if kind in ("accuracy", "subject"):
        column, _, subject = rest.partition("/")
        return _accuracy(runs, column, subject or None)
    if kind == "boxed":
        series = [run.series(f"eval/{name}/boxed") for run in runs for name in benchmarks_at(run.scale, rest)]
    elif kind == "reflections":
        series = [reflections(run) for run in runs]
    else:
        series = [run.series(quantity) for run in runs]
    series = [(100 if is_percent(quantity) else 1) * one for one in series if len(one)]
    if not series:
        return None
    values = pd.concat(series, axis=1).dropna()
    ends = (values.mean(axis=1), values.min(axis=1), values.max(axis=1))
    return Curve(values.index.to_numpy(), *(end.to_numpy() for end in ends))


def _accuracy(runs: Sequence[Run], column: str, subject: str | None) -> Curve | None:
    """Percent, at the steps that every run evaluated on all benchmarks of the column."""
    names = benchmarks_at(runs[0].scale, column) if runs else []
    runs = [run for run in runs if all(name in run.scores for name in names)]
    if not runs or not names:
        return None
    steps = reduce(np.intersect1d, (run.scores[name].steps for run in runs for name in names))
    measured = []
    for name in names:
        scores = [run.scores[name].of_subject(subject) for run in runs]
        if not scores[0].ids or not len(steps):
            return None
        shares = [s.correct[np.isin(s.steps, steps)] / s.samples for s in scores]
        measured.append((scores[0].ids, np.stack(shares, axis=1), min(s.samples for s in scores)))
    return Curve(steps, *(100 * ends for ends in mean_intervals(*parts(measured))))


def quantity_of(panel: Panel, row: Row) -> str:
    quantity = row.quantity or panel.quantity or "accuracy"
    return f"{quantity}/{panel.benchmark}" if panel.benchmark else quantity


def runs_of(manifest: Manifest, panel: Panel, row: Row, scale: str | None, runs: Sequence[Run]) -> list[Run]:
    """The runs of a curve; those with the panel's overrides where there are any, else the experiment's own."""
    if scale is None:
        return []
    wanted = replace(row, experiment=row.experiment or panel.experiment, overrides=row.overrides or panel.overrides)
    found = manifest.runs_of(wanted, scale, runs)
    return found if found or row.overrides else manifest.runs_of(replace(wanted, overrides=()), scale, runs)


def paper_curve(manifest: Manifest, panel: Panel, row: Row) -> pd.Series:
    """The paper's values by step; empty where it has no such curve."""
    if manifest.paper is None:
        return pd.Series(dtype=float)
    data = paper_data(manifest.paper)
    found = data[(data["panel"] == (panel.paper or panel.title)) & (data["series"] == (row.paper or row.label))]
    return found.set_index("step")["value"]


def plot(ax: Axes, ours: Curve, band: bool = True, **look: Any) -> None:
    """A curve with its band; few points are marked."""
    ax.plot(ours.steps, ours.mean, marker="o" if len(ours.steps) < FEW_POINTS else None, zorder=3, **look)
    if band:
        ax.fill_between(ours.steps, ours.low, ours.high, color=look["color"], alpha=0.15, lw=0)


def two_sides(ax: Axes, runs: Sequence[Run]) -> Axes:
    """Training accuracy on the left, with lines where it saturates; returns the axes of test accuracy, on the right."""
    right = ax.twinx()
    right.grid(False)
    ax.set_ylim(0, 103)
    for side, of_line in ((ax, 0), (right, 1)):
        side.tick_params(axis="y", colors=style.PALETTE[of_line])
    for run in runs:
        if run.saturation is not None:
            ax.axvline(run.saturation, **SATURATION, zorder=4)
    return right


def axes_for_paper(ax: Axes, shown: str | None, same_unit: bool) -> Axes:
    """The axes for the paper's curves, below `ax`; `ax` itself where steps are shared: at scale=paper, or without runs.

    Else the paper has its own steps on top, and where its unit means something else (tokens, nats of another model) also its
    own values on the right, all grey.
    """
    if shown in (None, "paper"):
        return ax
    paper = ax.twiny() if same_unit else ax.twinx().twiny()
    if not same_unit:
        values = ax.figure.axes[-2]
        values.tick_params(axis="y", colors=style.PAPER_TEXT, length=2)
        values.grid(False)
        values.set_zorder(0)
    ax.set_zorder(5)
    ax.patch.set_visible(False)
    ax.grid(False)
    paper.spines["top"].set(visible=True, color="0.8")
    paper.tick_params(axis="x", colors=style.PAPER_TEXT, pad=0, length=2)
    paper.grid(False, axis="x")
    return paper


def draw_panel(ax: Axes, manifest: Manifest, panel: Panel, scale: str | None, runs: Sequence[Run]) -> None:
    """All curves of a panel, the second on the right where the figure is of saturation. scale: of ours; None: the paper only."""
    rows, quantities = manifest.rows, [quantity_of(panel, row) for row in manifest.rows]
    found = [runs_of(manifest, panel, row, scale, runs) for row in rows]
    curves = [curve(own, quantity) for own, quantity in zip(found, quantities, strict=True)]
    shown, percent = scale if any(curves) else None, all(map(is_percent, quantities))
    sides = [ax, two_sides(ax, found[0])] if manifest.kind == "post_saturation" else [ax] * len(rows)
    below = {side: axes_for_paper(side, shown, percent) for side in dict.fromkeys(sides)}
    for i, (side, row, ours) in enumerate(zip(sides, rows, curves, strict=True)):
        look, theirs = style.of_line(i), paper_curve(manifest, panel, row)
        if len(theirs):
            below[side].plot(theirs, **(style.PAPER if scale else {"color": look["color"], "lw": 1.1}), ls=look["ls"])
        if ours:
            plot(side, ours, len(rows) <= MOST_BANDS, **look)
    for side, papers in below.items():
        side.set_xlim(left=0)
        papers.set_xlim(left=0)
        if manifest.kind == "post_saturation" or (papers is not side and not percent and side.dataLim.y0 >= 0):
            side.set_ylim(bottom=0)
        papers.tick_params(axis="x", top=papers is not side and side is ax, labeltop=papers is not side and side is ax)
    title = style.pretty(panel.title) + (" (not run)" if scale and not shown else "")
    if manifest.kind == "post_saturation":
        ours_gained = f" ({seeds(len(found[0]))})\n{gain_sentence(found[0])}" if found[0] else ""
        title += f"{ours_gained}\npaper, {paper_gain(*(paper_curve(manifest, panel, row) for row in rows))}"
    elif shown and shown != "paper" and percent:
        kind, _, column = quantities[0].partition("/")
        names = benchmarks_at(shown, column.partition("/")[0]) if kind in SHARES else ()
        title += f"\nours: {' + '.join(names)}" if names else ""
    ax.set_title(title, pad=4 if below[ax] is ax else 16, fontsize=8)


def gain_sentence(runs: Sequence[Run]) -> str:
    """What the seeds gained after saturation, or that they did not get there."""
    if gain := gain_after_saturation(runs):
        start, to = ("/".join(map(str, sorted(set(ends)))) for ends in zip(*gain.spans, strict=True))
        of_all = "" if len(gain.spans) == len(runs) else f" ({len(gain.spans)} of {len(runs)} seeds)"
        return f"steps {start} to {to}: {gain.points:+.1f} points{of_all}"
    never = all(run.saturation is None for run in runs)
    return "training never reaches 99 %" if never else "no evaluation after 99 %"


def paper_gain(train: pd.Series, test: pd.Series) -> str:
    """The paper's test average at its end minus that at its first evaluation at or after training accuracy of 99 %."""
    first = first_reaching(train / 100, SATURATED)
    if first is None:
        return "never reaches 99 %"
    after = test[test.index >= first]
    return f"steps {after.index[0]} to {after.index[-1]}: {after.iloc[-1] - after.iloc[0]:+.1f} points"


def seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


def label_of(manifest: Manifest, row: Row, scale: str | None, runs: Sequence[Run]) -> str:
    if manifest.kind == "post_saturation":
        return f"{row.label} ({'left' if row == manifest.rows[0] else 'right'})"
    found = {run.seed for panel in manifest.panels for run in runs_of(manifest, panel, row, scale, runs)}
    return style.pretty(row.label) + ("" if scale is None else f" ({seeds(len(found)) if found else 'not run'})")


def draw(manifest: Manifest, scale: str | None, runs: Sequence[Run]) -> Figure:
    """The whole figure of a manifest: its panels in a grid, one legend."""
    n, of_saturation = len(manifest.panels), manifest.kind == "post_saturation"
    columns = n if n <= 4 else 4 if n > 6 else 3
    lines = -(-n // columns)
    width, height = 5.4 if n == 1 else 2.45 * columns + 0.2, 2.35 * lines + 1.0
    if of_saturation:
        width, height = 3.1 * n + 0.6, 3.9
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = list(fig.subplots(lines, columns, squeeze=False).flat)
    for ax, panel in zip(axes, manifest.panels, strict=False):
        draw_panel(ax, manifest, panel, scale, runs)
    for ax in axes[max(0, n - columns) : n]:
        ax.set_xlabel("step")
    for ax in axes[n:]:
        ax.set_axis_off()
    axes[0].set_ylabel("%" if is_percent(quantity_of(manifest.panels[0], manifest.rows[0])) else "")
    labels = [label_of(manifest, row, scale, runs) for row in manifest.rows]
    handles = [Line2D([], [], **style.of_line(i), label=label) for i, label in enumerate(labels)]
    handles += [Line2D([], [], **SATURATION)] if of_saturation and scale else []
    handles += [Line2D([], [], **style.PAPER, label="paper, same dashes")] if scale else []
    fit = max(1, int(width / (0.6 + 0.06 * max(map(len, labels)))))
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), fit))
    what = "paper only, not run" if scale is None else f"ours: scale={scale}"
    grey = "" if scale in (None, "paper") else f"{'  ' if n > 2 else chr(10)}grey curves and axes are the paper's"
    fig.suptitle(f"{manifest.title} ({what}){grey}", x=0.01, ha="left", fontsize=9, color="0.25")
    return fig


@rc_context(fname=style.RC)
def draw_run(run: Run, benchmarks: Sequence[str]) -> Figure:
    """The post-saturation figure of one run, a line for each benchmark."""
    fig = Figure(figsize=(6.4, 4.0), layout="constrained")
    ax = fig.subplots()
    right = two_sides(ax, [run])
    lines = [(ax, "train/accuracy", "training accuracy (left)")]
    lines += [(right, f"accuracy/{name}", f"{name}, n = {len(run.scores[name].ids)} (right)") for name in benchmarks]
    for i, (side, quantity, label) in enumerate(lines):
        if ours := curve([run], quantity):
            plot(side, ours, label=label, **style.of_line(i))
    ax.set(xlabel="step", ylabel="%", title=run.id, xlim=(0, None))
    right.set_ylim(bottom=0)
    fig.legend(handles=[*ax.get_lines(), *right.get_lines()], loc="outside lower center", ncols=2)
    return fig


@rc_context(fname=style.RC)
def write(manifest: Manifest, scale: str | None, runs: Sequence[Run], out: Path) -> tuple[int, int]:
    """<stem>.png, .pdf and .svg; returns width and height as a page shows them, in pixels."""
    fig = draw(manifest, scale, runs)
    fig.draw_without_rendering()
    fig.set_layout_engine(None)  # laid out once: with an engine every format is drawn twice
    for form in style.FORMATS:
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
        fig.savefig(out / f"{manifest.stem}.{form}", metadata=dates)
    width, height = 100 * fig.get_size_inches()
    return round(width), round(height)
