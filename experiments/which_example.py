"""Which example to train on: does a score of an example order the gains of training on it alone?

    python -m experiments.which_example [of=which_example] [runs=runs] [results=results]

For each row of a table of one-example runs (experiments/which_example.yaml) its gain: greedy accuracy on `validation` at the last
step minus that of the untrained model, mean over the seeds. Beside it the scores of its example:

    variance       historical variance, by which the pool is ranked (rlvr/tiny/ranking.csv)
    rate           p, how often the base model solves it; rate_variance: p (1 - p)
    only_good      p times the share of its right answers that reason: the column `right_reasons` of `base`

Prints and writes Spearman's rank correlation of each score with the gain, with a 95 % bootstrap interval over examples. The odd
rows choose a score, the even rows test the choice.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.manifests import Manifest
from analysis.results import RESULTS, ROOT, load
from analysis.run_data import Run
from analysis.seed_estimates import VALIDATION, accuracies
from experiments.launch_plan import manifest
from rlvr.cli import ConfigError, command, option
from rlvr.stats import Interval

SCORES = ("variance", "rate", "rate_variance", "only_good")
HALVES = ("odd", "even")
DRAWS = 10_000


@dataclass
class Options:
    of: str = option("the table, by its name in experiments/", "which_example")
    runs: Path = option("folder with the run folders", Path("runs"))
    results: Path = option("the committed results", RESULTS)
    scale: str = option("of the runs", "tiny")
    base: Path = option("the base model's answers to the pool", ROOT / "experiments/results/tiny_v2_pool_base.csv")
    ranking: Path = option("the ranking that the runs were made with", ROOT / "rlvr/tiny/ranking.csv")
    scores: list[str] = option("which of the scores; all that are at hand", [])
    out: Path = option("the correlations", Path("which_example.csv"))


def correlation(score: ArrayLike, gain: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Spearman's, with the middle 95 % of a bootstrap over examples. score, gain: "examples"; NaN below three of them."""
    from scipy.stats import rankdata

    score, gain = np.asarray(score), np.asarray(gain)
    count = len(score)
    if count < 3:
        return Interval(float("nan"))
    picks = np.vstack([np.arange(count), np.random.default_rng(seed).integers(count, size=(draws, count))])
    a, b = (rankdata(values[picks], axis=1) - (count + 1) / 2 for values in (score, gain))
    with np.errstate(invalid="ignore"):  # a draw of equal values has no correlation
        rho = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    if np.isnan(rho[0]):
        return Interval(float("nan"))
    return Interval(float(rho[0]), *map(float, np.nanquantile(rho[1:], [0.025, 0.975])))


def gains(table: Manifest, scale: str, runs: Sequence[Run]) -> pd.DataFrame:
    """By row of the table: half, rank of its example, seeds, gain in points; without the rows that have no run."""
    lines = []
    for number, row in enumerate(row for row in table.rows if row.experiment):
        found = table.runs_of(row, scale, runs)
        of_seeds = [100 * accuracies(run, [VALIDATION]) for run in found]
        changes = [curve.iloc[-1] - curve[0] for curve in of_seeds if len(curve) > 1 and 0 in curve]
        ranks = {run.settings["train_set.name"] for run in found}
        if changes and (rank := re.fullmatch(r"pi(\d+)", " ".join(ranks))):
            half = HALVES[number % 2]
            lines.append((row.label, half, int(rank[1]), len(changes), float(np.mean(changes))))
    return pd.DataFrame(lines, columns=["row", "half", "rank", "seeds", "gain"])


def with_scores(lines: pd.DataFrame, ranking: Path, base: Path) -> pd.DataFrame:
    """The same with the scores of each example; without `only_good` where `base` has no `right_reasons`.

    ConfigError where the ranking or the answers lack a column or an example.
    """
    of_rank = _looked_up("ranking", ranking, "rank", ("index", "variance"), lines["rank"])
    own = _looked_up("base", base, "index", ("rate",), of_rank["index"])
    scores = {"variance": of_rank["variance"], "rate": own["rate"], "rate_variance": own["rate"] * (1 - own["rate"])}
    scores |= {"only_good": own["right_reasons"]} if "right_reasons" in own else {}
    return lines.assign(**{name: values.to_numpy() for name, values in scores.items()})


def _looked_up(option: str, path: Path, key: str, columns: Sequence[str], wanted: pd.Series) -> pd.DataFrame:
    """The lines of a CSV file with these keys, in this order."""
    frame = pd.read_csv(path)
    if missing := {key, *columns} - {*frame}:
        raise ConfigError(
            f"{option}={path}: no column {sorted(missing)[0]}; expected {', '.join((key, *columns))} (of {', '.join(frame)})"
        )
    if unknown := sorted({*wanted} - {*frame[key]}):
        raise ConfigError(
            f"{option}={path}: no {key} {unknown[0]}, which a row of the table was trained on: give the runs' own {option}"
        )
    return frame.set_index(key).loc[wanted]


def judge(options: Options) -> None:
    """Write the table. ConfigError if there are no runs, or a score is missing."""
    table = manifest(options.of)
    runs, _ = load(options.runs, options.results)
    lines = gains(table, options.scale, runs)
    if lines.empty:
        raise ConfigError(f"of={options.of}: none of its rows is run; python -m experiments.launch {options.of}")
    lines = with_scores(lines, options.ranking, options.base)
    there = [name for name in SCORES if name in lines]
    for name in options.scores:
        if name not in there:
            raise ConfigError(
                f"scores={name}: expected some of {', '.join(there)} (only_good: base with right_reasons)"
            )
    found = []
    for name in options.scores or there:
        for half in HALVES:
            own = lines[lines["half"] == half]
            rho = correlation(own[name], own["gain"])
            found.append((name, half, len(own), rho.value, rho.low, rho.high))
    correlations = pd.DataFrame(found, columns=["score", "half", "examples", "spearman", "low", "high"])
    correlations.to_csv(options.out, index=False, float_format="%.4g", lineterminator="\n")
    print(correlations.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    sys.exit(command(Options, judge, __doc__))
