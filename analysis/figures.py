"""Figures: ours with bands over the paper's curve in grey, one manifest each, as PNG, PDF and SVG.

At scale=paper both share the step axis. At another scale the paper's steps have an axis of their own, grey, on top: the shapes
can be compared, steps and heights cannot. Bands around accuracies are their 95 % intervals (rlvr.stats), around
other quantities the range over seeds. Without runs a figure shows the paper's curves only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import style
from analysis.dynamics import gain_of, saturation_of
from analysis.estimates import parts
from analysis.manifests import Manifest, Panel, Row, average_at, benchmarks_at, paper_data
from analysis.post_saturation import saturation_step
from analysis.results import Run
from rlvr.stats import mean_intervals

FEW_POINTS = 12
MOST_BANDS = 6

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass
class Curve:
    """A quantity over the steps for so many seeds. steps, mean, low, high: "steps"."""

    steps: NDArray
    seeds: int
    mean: NDArray
    low: NDArray
    high: NDArray


def curve(runs: Sequence[Run], quantity: str) -> Curve | None:
    """`quantity` (see analysis.manifests) of these runs, percent where it is a share; None where no run has it."""
    kind, _, rest = quantity.partition("/")
    if kind in ("accuracy", "subject"):
        column, _, subject = rest.partition("/")
        return _accuracy(runs, column, subject)
    if kind == "boxed":
        series = [100 * run.series(f"eval/{name}/boxed") for run in runs for name in benchmarks_at(run.scale, rest)]
    elif kind == "reflections":
        series = [_reflections(run) for run in runs]
    else:
        factor = 100 if quantity.startswith("train/accuracy") else 1
        series = [factor * run.series(quantity) for run in runs]
    series = [s for s in series if len(s)]
    if not series:
        return None
    values = pd.concat(series, axis=1).dropna()
    ends = (found.to_numpy() for found in (values.mean(axis=1), values.min(axis=1), values.max(axis=1)))
    return Curve(values.index.to_numpy(), values.shape[1], *ends)


def _accuracy(runs: Sequence[Run], column: str, subject: str) -> Curve | None:
    """Percent, at the steps that every run evaluated on all benchmarks of the column."""
    names = benchmarks_at(runs[0].scale, column) if runs else []
    runs = [run for run in runs if all(name in run.scores for name in names)]
    if not runs or not names:
        return None
    steps = reduce(np.intersect1d, (run.scores[name].steps for run in runs for name in names))
    measured = []
    for name in names:
        scores = [run.scores[name] for run in runs]
        kept = scores[0].subjects == subject if subject else np.ones(len(scores[0].ids), bool)
        if not kept.any() or not len(steps):
            return None
        shares = [s.correct[np.isin(s.steps, steps)][:, kept] / s.samples for s in scores]
        ids = [i for i, keep in zip(scores[0].ids, kept, strict=True) if keep]
        measured.append((ids, np.stack(shares, axis=1), min(s.samples for s in scores)))
    return Curve(steps, len(runs), *(100 * ends for ends in mean_intervals(*parts(measured))))


def _reflections(run: Run) -> pd.Series:
    """Answers with a reflection word over the benchmarks of the scale's average, by step."""
    counts = [run.series(f"eval/{name}/reflections") for name in average_at(run.scale)]
    counts = [count for count in counts if len(count)]
    return pd.concat(counts, axis=1).dropna().sum(axis=1) if counts else pd.Series(dtype=float)


def quantity_of(panel: Panel, row: Row) -> str:
    quantity = row.quantity or panel.quantity or "accuracy"
    return f"{quantity}/{panel.benchmark}" if panel.benchmark else quantity


def runs_of(manifest: Manifest, panel: Panel, row: Row, scale: str, runs: Sequence[Run]) -> list[Run]:
    """The runs of a curve; those with the panel's overrides where there are any, else the experiment's own."""
    wanted = Row(
        row.label,
        experiment=row.experiment or panel.experiment,
        overrides=row.overrides or panel.overrides,
        base_model=row.base_model,
    )
    found = manifest.runs_of(wanted, scale, runs)
    if not found and not row.overrides:
        found = manifest.runs_of(replace(wanted, overrides=()), scale, runs)
    return found


def paper_curve(manifest: Manifest, panel: Panel, row: Row) -> pd.DataFrame:
    """step, value; empty where the paper has no such curve."""
    if manifest.paper is None:
        return pd.DataFrame({"step": [], "value": []})
    data = paper_data(manifest.paper)
    series = row.paper or row.label
    return data[(data["panel"] == (panel.paper or panel.title)) & (data["series"] == series)]


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
    """All curves of a panel. scale: of ours; None draws the paper only."""
    curves = [
        curve(runs_of(manifest, panel, row, scale, runs), quantity_of(panel, row)) if scale else None
        for row in manifest.rows
    ]
    shown = scale if any(curves) else None
    percent = all(is_percent(quantity_of(panel, row)) for row in manifest.rows)
    below = axes_for_paper(ax, shown, percent)
    for i, (row, ours) in enumerate(zip(manifest.rows, curves, strict=True)):
        theirs = paper_curve(manifest, panel, row)
        look = style.of_line(i)
        if len(theirs):
            grey: dict[str, Any] = {"color": look["color"], "lw": 1.1} if scale is None else style.PAPER
            below.plot(theirs["step"], theirs["value"], **grey, ls=look["ls"])
        if ours:
            dots: dict[str, Any] = {"marker": "o"} if len(ours.steps) < FEW_POINTS else {}
            ax.plot(ours.steps, ours.mean, **look, **dots, zorder=3)
            if len(manifest.rows) <= MOST_BANDS:
                ax.fill_between(ours.steps, ours.low, ours.high, color=look["color"], alpha=0.15, lw=0)
    if below is not ax:
        below.set_xlim(left=0)
        if not percent and ax.dataLim.y0 >= 0:
            ax.set_ylim(bottom=0)
    ax.set_xlim(left=0)
    title = style.pretty(panel.title)
    if scale and not shown:
        title += " (not run)"
    elif shown and shown != "paper" and percent:
        kind, _, column = quantity_of(panel, manifest.rows[0]).partition("/")
        names = benchmarks_at(shown, column.partition("/")[0]) if kind in ("accuracy", "subject", "boxed") else ()
        title += f"\nours: {' + '.join(names)}" if names else ""
    ax.set_title(title, pad=16 if below is not ax else 4, fontsize=8)


def draw(manifest: Manifest, scale: str | None, runs: Sequence[Run]) -> Figure:
    """The whole figure of a manifest: its panels in a grid, one legend."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with rc_context(style.RC):
        n = len(manifest.panels)
        columns = n if n <= 4 else 4 if n > 6 else 3
        lines = -(-n // columns)
        width = 5.4 if n == 1 else 2.45 * columns + 0.2
        fig = Figure(figsize=(width, 2.35 * lines + 1.0), layout="constrained")
        axes = list(fig.subplots(lines, columns, squeeze=False).flat)
        for i, (ax, panel) in enumerate(zip(axes, manifest.panels, strict=False)):
            draw_panel(ax, manifest, panel, scale, runs)
            if i + columns >= n:
                ax.set_xlabel("step")
        for ax in axes[n:]:
            ax.set_axis_off()
        if is_percent(quantity_of(manifest.panels[0], manifest.rows[0])):
            axes[0].set_ylabel("%")
        handles = [
            Line2D([], [], **style.of_line(i), label=label_of(manifest, row, scale, runs))
            for i, row in enumerate(manifest.rows)
        ]
        if scale:
            handles.append(Line2D([], [], color=style.PAPER["color"], lw=1.0, label="paper, same dashes"))
        widest = max(len(str(handle.get_label())) for handle in handles)
        fit = max(1, int(width / (0.6 + 0.06 * widest)))
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), fit))
        fig.suptitle(heading(manifest, scale), x=0.01, ha="left", fontsize=9, color="0.25")
    return fig


def is_percent(quantity: str) -> bool:
    return quantity.partition("/")[0] in ("accuracy", "subject", "boxed") or quantity == "train/accuracy"


def label_of(manifest: Manifest, row: Row, scale: str | None, runs: Sequence[Run]) -> str:
    label = style.pretty(row.label)
    if scale is None:
        return label
    found = {run.seed for panel in manifest.panels for run in runs_of(manifest, panel, row, scale, runs)}
    if not found:
        return f"{label} (not run)"
    return f"{label} ({len(found)} seed{'s' if len(found) > 1 else ''})"


def heading(manifest: Manifest, scale: str | None) -> str:
    what = "paper only, not run" if scale is None else f"ours: scale={scale}"
    grey = "" if scale in (None, "paper") else "grey curves and axes are the paper's"
    line_break = "\n" if len(manifest.panels) < 3 else "  "
    return f"{manifest.title} ({what}){line_break if grey else ''}{grey}"


def draw_post_saturation(manifest: Manifest, scale: str | None, runs: Sequence[Run]) -> Figure:
    """Training accuracy (left axis) and test average (right axis) of each panel's experiment, saturation and the gain after."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with rc_context(style.RC):
        n = len(manifest.panels)
        fig = Figure(figsize=(3.1 * n + 0.6, 3.9), layout="constrained")
        for i, (ax, panel) in enumerate(zip(fig.subplots(1, n, squeeze=False).flat, manifest.panels, strict=True)):
            found = runs_of(manifest, panel, manifest.rows[0], scale, runs) if scale else []
            right = _draw_saturation(ax, manifest, panel, found, scale)
            if i == 0:
                ax.set_ylabel("training accuracy (%)", color=style.TRAIN)
            if i == n - 1:
                right.set_ylabel("test average (%)", color=style.TEST)
        handles = [
            Line2D([], [], color=style.TRAIN, lw=1.2, label="training accuracy (left)"),
            Line2D([], [], color=style.TEST, marker="o", label="test average (right)"),
            Line2D([], [], color="0.2", lw=1, ls=(0, (2, 2)), label="first step of training accuracy 99 %"),
            Line2D([], [], color=style.PAPER["color"], lw=1, label="paper's training accuracy"),
            Line2D([], [], color=style.PAPER["color"], lw=1, ls="--", label="paper's test average (right)"),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=3)
        fig.suptitle(heading(manifest, scale), x=0.01, ha="left", fontsize=9, color="0.25")
    return fig


def _draw_saturation(ax: Axes, manifest: Manifest, panel: Panel, runs: Sequence[Run], scale: str | None) -> Axes:
    sides = {ax: (manifest.rows[0], style.TRAIN, "-")}
    shown = scale if runs else None
    right = ax.twinx()
    sides[right] = (manifest.rows[1], style.TEST, "--")
    top = 35.0
    for side, (row, colour, dash) in sides.items():
        theirs = paper_curve(manifest, panel, row)
        below = axes_for_paper(side, shown, same_unit=True)
        below.plot(theirs["step"], theirs["value"], **style.PAPER, ls=dash)
        below.set_xlim(left=0)
        if side is right and below is not side:
            below.tick_params(axis="x", top=False, labeltop=False)
        ours = curve(runs, quantity_of(panel, row)) if runs else None
        if ours:
            few: dict[str, Any] = {"marker": "o"} if len(ours.steps) < FEW_POINTS else {}
            side.plot(ours.steps, ours.mean, color=colour, lw=1.2 if side is ax else 1.7, zorder=3, **few)
            side.fill_between(ours.steps, ours.low, ours.high, color=colour, alpha=0.15, lw=0)
        if side is right:
            top = max([top, *theirs["value"], *(ours.high if ours else [])])
    title = style.pretty(panel.title) + ("" if runs else " (not run)")
    if runs:
        for run in runs:
            if (first := saturation_of(run).first) is not None:
                ax.axvline(first, color="0.2", lw=1, ls=(0, (2, 2)), zorder=4)
        title += f" ({len(runs)} seed{'s' if len(runs) > 1 else ''})\n{gain_sentence(runs)}"
    title += f"\npaper, {paper_gain(manifest, panel)}"
    ax.set_title(title, pad=16 if shown not in (None, "paper") else 4, fontsize=8)
    ax.set(xlabel="step", ylim=(0, 103))
    ax.set_xlim(left=0)
    right.set_ylim(0, 1.1 * top)
    right.grid(False)
    ax.tick_params(axis="y", colors=style.TRAIN)
    right.tick_params(axis="y", colors=style.TEST)
    return right


def gain_sentence(runs: Sequence[Run]) -> str:
    """What the seeds gained after saturation, or that they did not get there."""
    found = gain_of(runs)
    if found is not None:
        gain, spans = found
        starts, ends = (sorted({span[i] for span in spans}) for i in (0, 1))
        steps = f"steps {_either(starts)} to {_either(ends)}"
        of_all = "" if len(spans) == len(runs) else f" ({len(spans)} of {len(runs)} seeds)"
        return f"{steps}: {gain:+.1f} points{of_all}"
    never = all(saturation_of(run).first is None for run in runs)
    return "training never reaches 99 %" if never else "no evaluation after 99 %"


def _either(steps: Sequence[int]) -> str:
    return "/".join(str(step) for step in steps)


def paper_gain(manifest: Manifest, panel: Panel) -> str:
    """The paper's test average at its end minus that at its first evaluation at or after training accuracy of 99 %."""
    train, test = (paper_curve(manifest, panel, row) for row in manifest.rows)
    first = saturation_step(train["step"], train["value"] / 100)
    if first is None:
        return "never reaches 99 %"
    after = test[test["step"] >= first]
    return f"steps {after['step'].iloc[0]} to {after['step'].iloc[-1]}: {after['value'].iloc[-1] - after['value'].iloc[0]:+.1f} points"


def write(manifest: Manifest, scale: str | None, runs: Sequence[Run], out: Path) -> Path:
    """<stem>.png, .pdf and .svg; returns the PNG."""
    draw_it = draw_post_saturation if manifest.kind == "post_saturation" else draw
    fig = draw_it(manifest, scale, runs)
    fig.draw_without_rendering()
    fig.set_layout_engine(None)  # laid out once: with an engine every format is drawn twice
    for form in style.FORMATS:
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
        fig.savefig(out / f"{manifest.stem}.{form}", metadata=dates)
    return out / f"{manifest.stem}.png"
