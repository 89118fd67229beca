"""Post-saturation generalization (paper §3.2, Figure 2): test accuracy goes on rising after training accuracy is at its ceiling.

Departure from the paper: the step of saturation is computed, not read off a curve. It is the first step whose training
accuracy (share of that step's rollouts with the right answer) reaches the threshold; a noisy rollout batch can touch it
once, so the sustained version is printed beside it.

    python -m analysis.post_saturation run=runs/tiny/tiny/one_shot/seed0      # prints both, writes figure.png there
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis import stats
from analysis.style import DASHES, PALETTE, TRAIN
from rlvr.cli import ConfigError, command, option
from rlvr.runs.evaluations import Evaluations, evaluations
from rlvr.runs.folder import RunFolder, read_metrics
from rlvr.stats import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THRESHOLD = 0.99
SUSTAINED = 5
TEST_STYLES = list(zip(PALETTE[1:5], "os^D", DASHES, strict=False))


def saturation_step(
    steps: ArrayLike, train_accuracy: ArrayLike, threshold: float = THRESHOLD, sustained: int = 1
) -> int | None:
    """The first step that begins `sustained` steps in a row with training accuracy in [threshold, 1]; None without one."""
    steps, reached = np.asarray(steps), np.asarray(train_accuracy) >= threshold
    for i in range(len(steps) - sustained + 1):
        if reached[i : i + sustained].all():
            return int(steps[i])
    return None


@dataclass(frozen=True)
class Gain:
    """Change of test accuracy (a fraction) between two evaluated steps."""

    from_step: int
    to_step: int
    change: Interval


def gain_span(saturation: int, steps: Sequence[int], strict: bool = False) -> tuple[int, int] | None:
    """The evaluated steps (rising) that a gain is counted between: the first at or after `saturation`, and the last of all.

    Where the last is the only one after saturation, it is counted from the last at or before it, which also credits what
    was learnt in between, unless `strict`. None when there are not two.
    """
    after = next((step for step in steps if step >= saturation), None)
    if after is not None and after < steps[-1]:
        return after, steps[-1]
    before = max((step for step in steps if step <= saturation), default=None)
    return None if strict or before is None or before == steps[-1] else (before, steps[-1])


def gain_after(saturation: int, steps: Sequence[int], scores: ArrayLike, rng: np.random.Generator) -> Gain | None:
    """Test gain after training accuracy has saturated, between the two steps of `gain_span`; None without them.

    steps: evaluated steps, rising. scores: "steps problems", in [0, 1], the same problems in every row. The interval is
    a paired percentile bootstrap over problems: it says nothing about other training seeds.
    """
    span = gain_span(saturation, steps)
    if span is None:
        return None
    scores = np.asarray(scores, dtype=float)
    difference = scores[-1] - scores[list(steps).index(span[0])]
    resampled = stats.draw_problems(len(difference), rng) @ difference / len(difference)
    return Gain(*span, stats.percentile_interval(difference.mean(), resampled))


def draw(ax: Axes, train: pd.DataFrame, benchmarks: Mapping[str, Evaluations], saturation: int | None) -> None:
    """Training accuracy on the left axis; on the right one test accuracy, one line per benchmark with its 95 % interval.

    train: step, train/accuracy. Both axes are in percent.
    """
    (line,) = ax.plot(train["step"], 100 * train["train/accuracy"], color=TRAIN, lw=1.2, alpha=0.9)
    lines: list = [line]
    labels = ["training rollouts (left)"]
    ax.set(xlabel="step", ylim=(0, 104))
    ax.set_ylabel("training accuracy (%)", color=TRAIN)
    ax.tick_params(axis="y", colors=TRAIN)
    right = ax.twinx()
    for i, (name, of) in enumerate(benchmarks.items()):
        colour, marker, dash = TEST_STYLES[i % len(TEST_STYLES)]
        accuracy, low, high = of.intervals()
        # Side by side, so that no interval hides another.
        apart = (i - (len(benchmarks) - 1) / 2) * 0.006 * train["step"].max()
        style: dict[str, Any] = {"color": colour, "marker": marker, "ls": dash, "ms": 4, "lw": 1.6, "elinewidth": 0.8}
        error = 100 * np.clip([accuracy - low, high - accuracy], 0, None)
        lines.append(right.errorbar(np.array(of.steps) + apart, 100 * accuracy, error, **style))
        labels.append(f"{name}, n = {of.shares.shape[1]} (right)")
    right.set_ylabel("test accuracy (%)")
    if saturation is not None:
        lines.append(ax.axvline(saturation, color="0.35", lw=1, ls=(0, (2, 2)), zorder=0.5))
        labels.append(f"training saturated: step {saturation}")
    for axis in (ax, right):
        axis.spines["top"].set_visible(False)
    ax.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8)


def figure(train: pd.DataFrame, benchmarks: Mapping[str, Evaluations], saturation: int | None, title: str) -> Figure:
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.4, 4.0), layout="constrained")
    ax = fig.subplots()
    draw(ax, train, benchmarks, saturation)
    ax.set_title(title, fontsize=9, loc="left")
    return fig


def report(folder: RunFolder, benchmarks: Mapping[str, Evaluations | None]) -> list[str]:
    """Write figure.png of a run and return what it shows, one sentence a line."""
    metrics = read_metrics(folder.metrics_path)
    if "train/accuracy" not in metrics:
        return [f"{folder.path}: no training step yet, no figure"]
    train = metrics.dropna(subset=["train/accuracy"])
    first, sustained = (saturation_step(train["step"], train["train/accuracy"], sustained=k) for k in (1, SUSTAINED))
    known = {name: of for name, of in benchmarks.items() if of is not None}
    figure(train, known, first, "/".join(folder.path.parts[-3:])).savefig(folder.figure_path, dpi=200)

    lines = [f"training accuracy of {THRESHOLD:.0%}: {_at(first)}; {SUSTAINED} steps in a row: {_at(sustained)}"]
    for name, of in known.items():
        gain = first is not None and gain_after(first, of.steps, of.shares, np.random.default_rng(0))
        if gain:
            lines.append(
                f"{name}: {gain.change * 100:+.1f} points from step {gain.from_step} to {gain.to_step}, 95 % over problems"
            )
        else:
            lines.append(f"{name}: no evaluation after saturation")
    return lines


def _at(step: int | None) -> str:
    return "never" if step is None else f"from step {step}"


@dataclass
class Options:
    run: Path = option("the run folder")


def show(options: Options) -> None:
    """Print the sentences of a run and write its figure. ConfigError where there is no run."""
    folder = RunFolder(options.run)
    if not folder.metrics_path.exists():
        raise ConfigError(f"run={options.run}: no metrics.jsonl here; a run folder is runs/.../seed<k>")
    names = [key.split("/")[1] for key in read_metrics(folder.metrics_path) if re.fullmatch("eval/.*/accuracy", key)]
    print("\n".join(report(folder, {name: evaluations(folder, name) for name in names})))
    if folder.figure_path.exists():
        print(f"figure: {folder.figure_path}")


if __name__ == "__main__":
    sys.exit(command(Options, show, __doc__))
