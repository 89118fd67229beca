"""Post-saturation generalization (paper §3.2, Figure 2): does test accuracy go on rising when training accuracy is at its ceiling?

python -m analysis.post_saturation run=runs/tiny/tiny/one_shot/seed0      # says whether it does, writes figure.png there
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures import draw_run
from analysis.run_data import SATURATED, WINDOW, Run, run_at
from analysis.seed_estimates import gain_after_saturation, reflections
from rlvr.cli import command, option
from rlvr.stats import Interval

# The series of a run whose level before and after saturation is printed.
WATCHED = {
    "train/signal_groups": "groups with signal",
    "actor/entropy": "entropy (nats)",
    "train/response_tokens": "response length (tokens)",
    "train/degenerate": "degenerate answers",
}


def report(run: Run) -> list[str]:
    """Write figure.png of a run in its folder and return what it shows, one sentence a line."""
    assert run.folder is not None
    if run.series("train/accuracy").empty:
        return [f"{run.folder.path}: no training step yet, no figure"]
    benchmarks = [name for name in run.scores if f"eval/{name}/accuracy" in run.metrics]  # evaluated while it trained
    draw_run(run, benchmarks).savefig(run.folder.figure_path, dpi=200)
    ceiling = f"training accuracy of {SATURATED:.0%} over {WINDOW:,} rollouts"
    if run.saturation is None:
        return [f"{ceiling}: never, so there is no gain after saturation"]
    lines = [f"{ceiling}: from step {run.saturation}"]
    for name in benchmarks:
        if gain := gain_after_saturation([run], [name]):
            start, to = gain.spans[0]
            lines.append(f"{name}: {gain.points:+.1f} points from step {start} to {to}, 95 % over problems")
        else:
            lines.append(f"{name}: no evaluation after saturation")
    return lines


def around_saturation(runs: Sequence[Run]) -> pd.DataFrame:
    """A line for each run: saturation, gain, and each watched series over the five steps around saturation and at the end.

    A run that never saturates is split in the middle, and `split` says so.
    """
    return pd.DataFrame([_around_saturation(run) for run in runs])


def _around_saturation(run: Run) -> dict[str, object]:
    first, gain, train = run.saturation, gain_after_saturation([run]), run.series("train/accuracy")
    split = first or (int(train.index[len(train) // 2]) if len(train) else 0)
    points, (start, to) = (gain.points, gain.spans[0]) if gain else (Interval(np.nan), (None, None))
    line: dict[str, object] = {"run": run.id, "saturated": first, "gain_from": start, "gain_to": to}
    line |= {"gain": points.value, "gain_low": points.low, "gain_high": points.high, "split": split}
    for column, label in WATCHED.items():
        series = run.series(column)
        near = np.argsort(np.abs(series.index.to_numpy() - split), kind="stable")[:5]
        line[f"{label}: at split"] = series.iloc[near].mean()
        line[f"{label}: end"] = series.tail(5).mean()
    counts = reflections(run)
    for at, seen in (("at split", counts.loc[:split]), ("end", counts)):
        line[f"answers with reflection words: {at}"] = seen.tail(1).sum(min_count=1)
    return line


@dataclass
class Options:
    run: Path = option("the run folder")


def show(options: Options) -> None:
    """Print the sentences about a run and write its figure. ConfigError if there is no run."""
    run = run_at(options.run)
    print("\n".join(report(run)))
    if run.folder is not None and run.folder.figure_path.exists():
        print(f"figure: {run.folder.figure_path}")


if __name__ == "__main__":
    sys.exit(command(Options, show, __doc__))
