"""Post-saturation generalization (paper §3.2, Figure 2): test accuracy goes on rising after training accuracy is at its ceiling.

python -m analysis.post_saturation run=runs/tiny/tiny/one_shot/seed0      # says whether it does, writes figure.png there
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from analysis.dynamics import gain_after_saturation
from analysis.figures import draw_run
from analysis.results import SATURATED, WINDOW, Run, run_at
from rlvr.cli import command, option


def report(run: Run) -> list[str]:
    """Write figure.png of a run in its folder and return what it shows, one sentence a line."""
    assert run.folder is not None
    if run.series("train/accuracy").empty:
        return [f"{run.folder.path}: no training step yet, no figure"]
    benchmarks = [name for name in run.scores if f"eval/{name}/accuracy" in run.metrics]  # evaluated while it trained
    draw_run(run, benchmarks).savefig(run.folder.figure_path, dpi=200)
    at = "never" if run.saturation is None else f"from step {run.saturation}"
    lines = [f"training accuracy of {SATURATED:.0%} over {WINDOW:,} rollouts: {at}"]
    for name in benchmarks:
        if gain := gain_after_saturation([run], [name]):
            start, to = gain.spans[0]
            lines.append(f"{name}: {gain.points:+.1f} points from step {start} to {to}, 95 % over problems")
        else:
            lines.append(f"{name}: no evaluation after saturation")
    return lines


@dataclass
class Options:
    run: Path = option("the run folder")


def show(options: Options) -> None:
    """Print the sentences of a run and write its figure. ConfigError where there is no run."""
    run = run_at(options.run)
    print("\n".join(report(run)))
    if run.folder is not None and run.folder.figure_path.exists():
        print(f"figure: {run.folder.figure_path}")


if __name__ == "__main__":
    sys.exit(command(Options, show, __doc__))
