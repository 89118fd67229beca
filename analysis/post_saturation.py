"""Post-saturation generalization (paper §3.2, Figure 2): test accuracy goes on rising after training accuracy is at its ceiling.

Departure from the paper: the step of saturation is computed, not read off a curve. It is the first step whose training
accuracy (share of that step's rollouts with the right answer) reaches the threshold; a noisy rollout batch can touch it
once, so the sustained version is printed beside it.

    python -m analysis.post_saturation run=runs/tiny/tiny/one_shot/seed0      # prints both, writes figure.png there
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.style import DASHES, PALETTE, TRAIN
from rlvr.cli import ConfigError, command, option
from rlvr.runs.folder import RunFolder, read_metrics

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
    """Change of test accuracy (a fraction) between two evaluated steps, with a 95 % interval over the problems."""

    from_step: int
    to_step: int
    change: float
    low: float
    high: float


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


def gain_after(
    saturation: int, steps: Sequence[int], scores: ArrayLike, rng: np.random.Generator, resamples: int = 2000
) -> Gain | None:
    """Test gain after training accuracy has saturated, between the two steps of `gain_span`; None without them.

    steps: evaluated steps, rising. scores: "steps problems", in [0, 1], the same problems in every row. The interval is
    a paired percentile bootstrap over problems: it says nothing about other training seeds.
    """
    span = gain_span(saturation, steps)
    if span is None:
        return None
    scores = np.asarray(scores, dtype=float)
    difference = scores[-1] - scores[list(steps).index(span[0])]
    drawn = rng.integers(0, len(difference), size=(resamples, len(difference)))
    low, high = np.percentile(difference[drawn].mean(axis=1), [2.5, 97.5])
    return Gain(*span, float(difference.mean()), float(low), float(high))


def wilson(accuracy: ArrayLike, problems: int) -> tuple[NDArray, NDArray]:
    """95 % interval of each accuracy (a fraction) over so many problems: (low, high)."""
    from scipy.stats import binomtest

    tests = [binomtest(round(a * problems), problems) for a in np.asarray(accuracy, dtype=float)]
    intervals = [test.proportion_ci(method="wilson") for test in tests]
    return np.array([i.low for i in intervals]), np.array([i.high for i in intervals])


def problem_scores(folder: RunFolder, benchmark: str) -> tuple[list[int], NDArray]:
    """Evaluated steps, and scores as "steps problems": the mean over the samples of each problem."""
    files = sorted((folder.eval_dir / benchmark).glob("step*.parquet"))
    steps = [int(file.stem.removeprefix("step")) for file in files]
    rows = [pd.read_parquet(file, columns=["id", "score"]).groupby("id")["score"].mean() for file in files]
    return steps, pd.DataFrame(rows).to_numpy()


def draw(ax: Axes, metrics: pd.DataFrame, problems: dict[str, int], saturation: int | None) -> None:
    """Training accuracy on the left axis; on the right one test accuracy, one line per benchmark with its 95 % interval.

    problems: benchmark -> number of problems. Both axes are in percent.
    """
    train = metrics.dropna(subset=["train/accuracy"])
    (line,) = ax.plot(train["step"], 100 * train["train/accuracy"], color=TRAIN, lw=1.2, alpha=0.9)
    lines: list = [line]
    labels = ["training rollouts (left)"]
    ax.set(xlabel="step", ylim=(0, 104))
    ax.set_ylabel("training accuracy (%)", color=TRAIN)
    ax.tick_params(axis="y", colors=TRAIN)
    right = ax.twinx()
    for i, (name, n) in enumerate(problems.items()):
        colour, marker, dash = TEST_STYLES[i % len(TEST_STYLES)]
        test = metrics.dropna(subset=[f"eval/{name}/accuracy"])
        accuracy = test[f"eval/{name}/accuracy"].to_numpy()
        low, high = wilson(accuracy, n)
        # Side by side, so that no interval hides another.
        apart = (i - (len(problems) - 1) / 2) * 0.006 * metrics["step"].max()
        style: dict[str, Any] = {"color": colour, "marker": marker, "ls": dash, "ms": 4, "lw": 1.6, "elinewidth": 0.8}
        error = 100 * np.clip([accuracy - low, high - accuracy], 0, None)
        lines.append(right.errorbar(test["step"] + apart, 100 * accuracy, error, **style))
        labels.append(f"{name}, n = {n} (right)")
    right.set_ylabel("test accuracy (%)")
    if saturation is not None:
        lines.append(ax.axvline(saturation, color="0.35", lw=1, ls=(0, (2, 2)), zorder=0.5))
        labels.append(f"training saturated: step {saturation}")
    for axis in (ax, right):
        axis.spines["top"].set_visible(False)
    ax.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8)


def figure(metrics: pd.DataFrame, problems: dict[str, int], saturation: int | None, title: str) -> Figure:
    from matplotlib.figure import Figure

    fig = Figure(figsize=(6.4, 4.0), layout="constrained")
    ax = fig.subplots()
    draw(ax, metrics, problems, saturation)
    ax.set_title(title, fontsize=9, loc="left")
    return fig


def report(folder: RunFolder, seed: int = 0) -> list[str]:
    """Write figure.png of a run and return what it shows, one sentence a line."""
    metrics = read_metrics(folder.metrics_path)
    if "train/accuracy" not in metrics:
        return [f"{folder.path}: no training step yet, no figure"]
    train = metrics.dropna(subset=["train/accuracy"])
    first, sustained = (saturation_step(train["step"], train["train/accuracy"], sustained=k) for k in (1, SUSTAINED))
    names = [key.split("/")[1] for key in metrics if key.startswith("eval/") and key.endswith("/accuracy")]
    scores = {name: problem_scores(folder, name) for name in names}
    problems = {name: values.shape[1] for name, (_, values) in scores.items()}
    figure(metrics, problems, first, "/".join(folder.path.parts[-3:])).savefig(folder.figure_path, dpi=200)

    lines = [f"training accuracy of {THRESHOLD:.0%}: {_at(first)}; {SUSTAINED} steps in a row: {_at(sustained)}"]
    for name, (steps, values) in scores.items():
        gain = first is not None and gain_after(first, steps, values, np.random.default_rng(seed))
        if gain:
            lines.append(
                f"{name}: {100 * gain.change:+.1f} points from step {gain.from_step} to {gain.to_step} "
                f"(95 % over problems: {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
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
    print("\n".join(report(folder)))
    if folder.figure_path.exists():
        print(f"figure: {folder.figure_path}")


if __name__ == "__main__":
    sys.exit(command(Options, show, __doc__))
