"""Do the first steps of a run predict whether it ends high? Compares the right answers of steps 1 to 5 with the last accuracy.

    python -m experiments.first_steps runs=runs out=experiments/results/tiny_v2_first_steps.csv

One line for each finished run of `experiment` at scale=tiny: how many of its training answers of steps 1 to `steps` are right, which
share of these reason (rlvr/tiny/habits.py; all others are shortcuts), and the accuracy on `tiny500` at the last step. Prints the test
that experiments/PREDICTIONS.md fixed before the runs (runs that `out` has already stay where their folder is gone): Mann-Whitney of the share, between runs that end high and runs that end low.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy.stats import mannwhitneyu

from rlvr.cli import ConfigError, command, option
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics
from rlvr.runs.plain_files import read_json
from rlvr.tiny.calibration import habit_of

HIGH = 0.532  # on tiny500: halfway between the base model and the pool's runs (analysis/two_ends.py)


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    experiment: str = option("whose runs", "one_shot")
    steps: int = option("how many first steps are looked at", 5, at_least=1)
    out: Path = option("the table", Path("experiments/results/tiny_v2_first_steps.csv"))


def line_of(folder: RunFolder, steps: int) -> dict[str, float]:
    right = reasons = 0
    for step in range(1, steps + 1):
        read = samples.read(folder.rollouts_path(step), ["response", "score"])
        habits = [habit_of(text) for text, score in zip(read["response"], read["score"], strict=True) if score == 1]
        right += len(habits)
        reasons += habits.count("reason")
    last = read_metrics(folder.metrics_path)["eval/tiny500/accuracy"].dropna().iloc[-1]
    return {"right": right, "reason_share": reasons / right if right else float("nan"), "tiny500": last}


def tabulate(options: Options) -> None:
    """Write the table and print the test. ConfigError if there is no finished run."""
    places = sorted(options.runs.glob(f"tiny/tiny/{options.experiment}/seed*/provenance.json"))
    folders = [RunFolder(place.parent) for place in places if read_json(place).get("status") == "finished"]
    if not folders:
        raise ConfigError(f"runs={options.runs}: no finished run of {options.experiment} at scale=tiny")
    lines = [{"seed": int(f.path.name.removeprefix("seed")), **line_of(f, options.steps)} for f in folders]
    table = pd.DataFrame(lines)
    if options.out.exists():
        before = pd.read_csv(options.out)
        table = pd.concat([before[~before["seed"].isin(table["seed"])], table])
    table = table.sort_values("seed")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False, float_format="%.4g", lineterminator="\n")
    high = table["tiny500"] >= HIGH
    said = table["reason_share"] >= 0.5
    print(
        f"{len(table)} runs, {high.sum()} end high; the share of reasoning among right answers says so of {(high == said).sum()}"
    )
    if high.any() and not high.all():
        found = mannwhitneyu(table.loc[high, "reason_share"], table.loc[~high, "reason_share"], nan_policy="omit")
        area = found.statistic / (high.sum() * (~high).sum())
        print(f"a run that ends high has the larger share in {area:.2f} of pairs (p = {found.pvalue:.3g})")


if __name__ == "__main__":
    sys.exit(command(Options, tabulate, __doc__))
