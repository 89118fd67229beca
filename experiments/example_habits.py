"""Does the base model's failure habit on an example predict which of its failures training on that example mends?

    python -m experiments.example_habits [of=example_habits] [runs=runs] [results=results]

Reads the gains by habit that `python -m experiments.mechanism` wrote (`gains`), and of them the runs of a table whose rows are
named `<habit>: <example>` (experiments/example_habits.yaml). The gain of an example on the problems of one habit: their accuracy at the last step
less the base model's, in points, mean of the seeds. `own` is the answer to the question: over the examples and the habits
that fail in the base model's answers to the benchmark, a gain less its example's mean and its habit's mean, averaged
where the example's habit is that of the problems. `p`: how often it is as large when the habits of the examples are dealt anew.
`rest - mastered`: the mean gain on all problems of the other examples less that of the mastered. Writes <out>.csv and <out>.png.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.manifests import MANIFESTS, load_manifest
from analysis.results import RESULTS, ROOT, load
from analysis.run_data import Run
from experiments.mechanism import HABITS
from rlvr.cli import ConfigError, command, option

FAILURES = ("stall", "terse", "code")  # of the base model's greedy answers; guesses are a habit of sampled ones
GROUPS = ("all", "base reason", *(f"base {habit}" for habit in FAILURES))
MASTERED = "mastered"
DEALS = 10_000


@dataclass
class Options:
    of: str = option("the table, by its name in experiments/", "example_habits")
    gains: Path = option("gains by habit", ROOT / "experiments/results/tiny_v2_mechanism.csv")
    runs: Path = option("folder with the run folders", Path("runs"))
    results: Path = option("the committed results", RESULTS)
    out: Path = option("the table and the figure, without their ending", Path("example_habits"))


def last_gains(runs: list[Run], gains: pd.DataFrame) -> pd.DataFrame:
    """ "runs GROUPS", in points: what each run that `gains` knows has gained at its last step."""
    own = gains[gains["run"].isin([run.id for run in runs]) & (gains["benchmark"] == "tiny500")]
    own = own[own["step"] == own.groupby("run")["step"].transform("max")]
    wide = (100 * (own["accuracy"] - own["base"])).groupby([own["run"], own["group"]]).first().unstack()
    return wide.reindex(columns=list(GROUPS))


def by_example(of: str, gains: pd.DataFrame, runs: list[Run]) -> pd.DataFrame:
    """A line for each row of the table that has runs: habit, example, seeds and the mean gain in each of GROUPS."""
    table, lines = load_manifest(MANIFESTS / f"{of}.yaml"), []
    for row in table.rows:
        habit, _, example = row.label.partition(": ")
        if habit not in (*HABITS, MASTERED):
            continue
        found = last_gains(table.runs_of(row, "tiny", runs), gains)
        if len(found):
            lines.append({"habit": habit, "example": example, "seeds": len(found), **found.mean()})
    return pd.DataFrame(lines, columns=["habit", "example", "seeds", *GROUPS])


def own_gain(lines: pd.DataFrame, deals: int = DEALS, seed: int = 0) -> tuple[float, float]:
    """The mean residual where an example's habit is the problems', and how often chance gives as much. NaN without any."""
    cells = lines[[f"base {habit}" for habit in FAILURES]].to_numpy(float)  # "examples habits"
    left = cells - cells.mean(1, keepdims=True) - cells.mean(0) + cells.mean()
    habits = lines["habit"].to_numpy()[:, None] == np.array(FAILURES)
    if not habits.any():
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    dealt = np.array([left[habits[rng.permutation(len(habits))]].mean() for _ in range(deals)])
    own = left[habits].mean()
    return float(own), float((1 + (dealt >= own - 1e-9).sum()) / (1 + deals))


def draw(lines: pd.DataFrame, out: Path) -> None:
    """A panel for each group of problems: a dot for each example, by the example's habit; filled where the two are one."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from analysis import style

    habits = list(dict.fromkeys(lines["habit"]))
    with rc_context(fname=style.RC):
        fig = Figure(figsize=(8.5, 2.6), layout="constrained")
        for ax, group in zip(fig.subplots(1, len(GROUPS), sharey=True), GROUPS, strict=True):
            for x, habit in enumerate(habits):
                values = lines.loc[lines["habit"] == habit, group]
                face = style.PALETTE[0] if group == f"base {habit}" else "none"
                ax.scatter([x] * len(values), values, 22, facecolors=face, edgecolors=style.PALETTE[0], zorder=3)
            ax.set_xticks(range(len(habits)), habits, rotation=60)
            habit = group.removeprefix("base ")
            ax.set_title(
                "all problems" if group == "all" else f"the base's answer\nto the problem: {habit}", fontsize=8
            )
            ax.axhline(0, color="0.5", lw=0.8)
        fig.axes[0].set_ylabel("gain, points")
        fig.supxlabel("the base model's habit on the example that is trained on", fontsize=8)
        fig.savefig(out)


def judge(options: Options) -> None:
    """Write the table and the figure. ConfigError where there are no runs, or no gains of theirs."""
    if not (MANIFESTS / f"{options.of}.yaml").exists():
        raise ConfigError(f"of={options.of}: no such table in {MANIFESTS}")
    if not options.gains.exists():
        raise ConfigError(
            f"gains={options.gains}: no such file; python -m experiments.mechanism writes it from run folders"
        )
    runs, _ = load(options.runs, options.results)
    lines = by_example(options.of, pd.read_csv(options.gains), runs)
    if lines.empty:
        raise ConfigError(
            f"of={options.of}: no run of its rows has gains in {options.gains}; "
            f"python -m experiments.launch {options.of}, then python -m experiments.mechanism"
        )
    lines.to_csv(f"{options.out}.csv", index=False, float_format="%.4g", lineterminator="\n")
    draw(lines, Path(f"{options.out}.png"))
    own, p = own_gain(lines)
    mastered = lines["habit"] == MASTERED
    print(lines.drop(columns="example").groupby("habit", sort=False).mean().to_string(float_format="{:.1f}".format))
    print(f"own {own:+.1f} points (p = {p:.3f})")
    print(f"rest - mastered {lines.loc[~mastered, 'all'].mean() - lines.loc[mastered, 'all'].mean():+.1f} points")


if __name__ == "__main__":
    sys.exit(command(Options, judge, __doc__))
