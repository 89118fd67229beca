"""Does training on an example that fails through one habit cure the failures of that habit?

    python -m experiments.example_habits [of=example_habits] [runs=runs] [results=results]

Reads the gains by habit that `python -m experiments.mechanism` wrote (`gains`), for the runs of a table whose rows are named
`<habit>: <example>` (experiments/example_habits.yaml). A gain is the accuracy at the last step minus the base model's, on the
problems of one habit, in percentage points, mean over the seeds. Writes the gains to `out` and prints:

    own                 gains on problems with the example's own habit, each minus the mean of its example and the mean of its
                        habit, averaged; over the habits that fail
    p                   how often `own` is at least as large when the habits of the examples are permuted
    rest - mastered     the mean gain on all problems of the other examples, minus that of the mastered examples
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.manifests import Manifest
from analysis.results import RESULTS, ROOT, load
from analysis.run_data import Run
from experiments.launch_plan import manifest
from experiments.mechanism import HABITS
from rlvr.cli import ConfigError, command, option

FAILURES = ("stall", "terse", "code")  # habits of the base model's greedy answers; it guesses only when sampled
GROUPS = ("all", "base reason", *(f"base {habit}" for habit in FAILURES))
MASTERED = "mastered"
PERMUTATIONS = 10_000


@dataclass
class Options:
    of: str = option("the table, by its name in experiments/", "example_habits")
    gains: Path = option("gains by habit", ROOT / "experiments/results/tiny_v2_mechanism.csv")
    runs: Path = option("folder with the run folders", Path("runs"))
    results: Path = option("the committed results", RESULTS)
    out: Path = option("the gains of each example", Path("example_habits.csv"))


def last_gains(runs: list[Run], gains: pd.DataFrame) -> pd.DataFrame:
    """The gain of each run in `gains` at its last step, in percentage points. Shape "runs GROUPS"."""
    own = gains[gains["run"].isin([run.id for run in runs]) & (gains["benchmark"] == "tiny500")]
    own = own[own["step"] == own.groupby("run")["step"].transform("max")]
    wide = (100 * (own["accuracy"] - own["base"])).groupby([own["run"], own["group"]]).first().unstack()
    return wide.reindex(columns=list(GROUPS))


def by_example(table: Manifest, gains: pd.DataFrame, runs: list[Run]) -> pd.DataFrame:
    """One line for each row of the table that has runs: habit, example, seeds, and the mean gain in each of GROUPS."""
    lines = []
    for row in table.rows:
        habit, _, example = row.label.partition(": ")
        if habit not in (*HABITS, MASTERED):
            continue
        found = last_gains(table.runs_of(row, "tiny", runs), gains)
        if len(found):
            lines.append({"habit": habit, "example": example, "seeds": len(found), **found.mean()})
    return pd.DataFrame(lines, columns=["habit", "example", "seeds", *GROUPS])


def own_gain(lines: pd.DataFrame, permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """The mean residual of the gains on the example's own habit, and its permutation p. NaN if no example has a habit of FAILURES."""
    cells = lines[[f"base {habit}" for habit in FAILURES]].to_numpy(float)  # "examples habits"
    residuals = cells - cells.mean(1, keepdims=True) - cells.mean(0) + cells.mean()
    own = lines["habit"].to_numpy()[:, None] == np.array(FAILURES)
    if not own.any():
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    permuted = np.array([residuals[own[rng.permutation(len(own))]].mean() for _ in range(permutations)])
    mean = residuals[own].mean()
    return float(mean), float((1 + (permuted >= mean - 1e-9).sum()) / (1 + permutations))


def judge(options: Options) -> None:
    """Write the table. ConfigError if there are no runs, or no gains of them."""
    table = manifest(options.of)
    if not options.gains.exists():
        raise ConfigError(
            f"gains={options.gains}: no such file; python -m experiments.mechanism writes it from run folders"
        )
    runs, _ = load(options.runs, options.results)
    lines = by_example(table, pd.read_csv(options.gains), runs)
    if lines.empty:
        raise ConfigError(
            f"of={options.of}: no run of its rows has gains in {options.gains}; "
            f"python -m experiments.launch {options.of}, then python -m experiments.mechanism"
        )
    lines.to_csv(options.out, index=False, float_format="%.4g", lineterminator="\n")
    own, p = own_gain(lines)
    mastered = lines["habit"] == MASTERED
    print(lines.drop(columns="example").groupby("habit", sort=False).mean().to_string(float_format="{:.1f}".format))
    print(f"own {own:+.1f} points (p = {p:.3f})")
    print(f"rest - mastered {lines.loc[~mastered, 'all'].mean() - lines.loc[mastered, 'all'].mean():+.1f} points")


if __name__ == "__main__":
    sys.exit(command(Options, judge, __doc__))
