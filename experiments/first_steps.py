"""Do the first steps of a run predict whether it ends high? Compares the right answers of steps 1 to 5 with the last accuracy.

    python -m experiments.first_steps runs=runs out=experiments/results/tiny_v2_first_steps.csv

One line for each finished run of `experiment` at scale=tiny: the number of right training answers in steps 1 to `steps`, the
share of these that reason (all others are shortcuts; rlvr/tiny/habits.py), and the accuracy on `tiny500` at the last step.
Lines of `out` about other seeds stay, so their run folders may be gone. Prints the test that experiments/PREDICTIONS.md fixed
before the runs: a Mann-Whitney test of the share, between runs that end high and runs that end low.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy.stats import mannwhitneyu

from experiments.mechanism import finished_runs, write_over
from rlvr.cli import ConfigError, command, option
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics
from rlvr.tiny.calibration import habit_of

HIGH = 0.532  # accuracy on tiny500, halfway between the base model and the pool's runs (analysis/two_ends.py)


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    experiment: str = option("whose runs", "one_shot")
    steps: int = option("how many first steps are looked at", 5, at_least=1)
    out: Path = option("the table", Path("experiments/results/tiny_v2_first_steps.csv"))


def line_of(folder: RunFolder, steps: int) -> dict[str, float]:
    """The table's line of one run."""
    habits: list[str] = []  # of the right answers
    for step in range(1, steps + 1):
        read = samples.read(folder.rollouts_path(step), ["response", "score"])
        habits += [habit_of(text) for text, score in zip(read["response"], read["score"], strict=True) if score == 1]
    last = read_metrics(folder.metrics_path)["eval/tiny500/accuracy"].dropna().iloc[-1]
    share = habits.count("reason") / len(habits) if habits else float("nan")
    return {
        "seed": int(folder.path.name.removeprefix("seed")),
        "right": len(habits),
        "reason_share": share,
        "tiny500": last,
    }


def tabulate(options: Options) -> None:
    """Write the table and print the test. ConfigError if there is no finished run."""
    lines = [line_of(folder, options.steps) for folder in finished_runs(options.runs, options.experiment)]
    if not lines:
        raise ConfigError(f"runs={options.runs}: no finished run of {options.experiment} at scale=tiny")
    table = write_over(options.out, pd.DataFrame(lines), ["seed"])
    high = table["tiny500"] >= HIGH
    predicted = table["reason_share"] >= 0.5
    print(
        f"{len(table)} runs, {high.sum()} end high; "
        f"the share of reasoning among right answers predicts {(high == predicted).sum()} of them correctly"
    )
    if high.any() and not high.all():
        test = mannwhitneyu(table.loc[high, "reason_share"], table.loc[~high, "reason_share"], nan_policy="omit")
        area = test.statistic / (high.sum() * (~high).sum())
        print(f"a run that ends high has the larger share in {area:.2f} of pairs (p = {test.pvalue:.3g})")


if __name__ == "__main__":
    sys.exit(command(Options, tabulate, __doc__))
