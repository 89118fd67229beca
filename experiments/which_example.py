"""Which example should you train on: does a score of an example predict the gain from training on it alone?

    python -m experiments.which_example [of=which_example] [runs=runs] [results=results]

Takes the gain of each row of a table of one-example runs (experiments/which_example.yaml): greedy accuracy on `validation` at
the last step minus that of the untrained model, in percentage points, mean over the seeds. The scores of an example:

    variance       historical variance, by which the pool is ranked (rlvr/tiny/ranking.csv)
    rate           p, the share of the base model's answers that are right
    rate_variance  p (1 - p)
    only_good      the share of the base model's answers that reason and are right: the column `right_reasons` of `base`

Prints and writes Spearman's rank correlation of each score with the gain, with a 95 % bootstrap interval over examples. Choose a
score on the odd rows of the table; the even rows test the choice.
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
    """Spearman's rank correlation, with a 95 % bootstrap interval over examples. NaN for fewer than three examples.

    score, gain: shape "examples".
    """
    from scipy.stats import rankdata

    score, gain = np.asarray(score), np.asarray(gain)
    count = len(score)
    if count < 3:
        return Interval(float("nan"))
    picks = np.vstack([np.arange(count), np.random.default_rng(seed).integers(count, size=(draws, count))])
    a, b = (rankdata(values[picks], axis=1) - (count + 1) / 2 for values in (score, gain))
    with np.errstate(invalid="ignore"):  # a draw of equal values has no correlation: NaN
        rho = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    if np.isnan(rho[0]):
        return Interval(float("nan"))
    return Interval(float(rho[0]), *map(float, np.nanquantile(rho[1:], [0.025, 0.975])))


def gains(table: Manifest, scale: str, runs: Sequence[Run]) -> pd.DataFrame:
    """One line for each row of the table that has runs: half, rank of the example, seeds, gain in percentage points."""
    lines = []
    for number, row in enumerate(row for row in table.rows if row.experiment):
        found = table.runs_of(row, scale, runs)
        curves = [100 * accuracies(run, [VALIDATION]) for run in found]
        changes = [curve.iloc[-1] - curve[0] for curve in curves if len(curve) > 1 and 0 in curve]
        ranks = {run.settings["train_set.name"] for run in found}
        if changes and (rank := re.fullmatch(r"pi(\d+)", " ".join(ranks))):
            lines.append((row.label, HALVES[number % 2], int(rank[1]), len(changes), float(np.mean(changes))))
    return pd.DataFrame(lines, columns=["row", "half", "rank", "seeds", "gain"])


def with_scores(lines: pd.DataFrame, ranking: Path, base: Path) -> pd.DataFrame:
    """Adds the scores of each example; `only_good` only if `base` has `right_reasons`.

    ConfigError if a file lacks a column or an example.
    """
    of_rank = _looked_up("ranking", ranking, "rank", ("index", "variance"), lines["rank"])
    own = _looked_up("base", base, "index", ("rate",), of_rank["index"])
    scores = {"variance": of_rank["variance"], "rate": own["rate"], "rate_variance": own["rate"] * (1 - own["rate"])}
    scores |= {"only_good": own["right_reasons"]} if "right_reasons" in own else {}
    return lines.assign(**{name: values.to_numpy() for name, values in scores.items()})


def _looked_up(option: str, path: Path, key: str, columns: Sequence[str], wanted: pd.Series) -> pd.DataFrame:
    """The lines of a CSV file whose `key` is in `wanted`, in that order. option: the option that names the file."""
    frame = pd.read_csv(path)
    if missing := {key, *columns} - {*frame}:
        raise ConfigError(
            f"{option}={path}: no column {sorted(missing)[0]}; expected {', '.join((key, *columns))} (of {', '.join(frame)})"
        )
    if unknown := sorted({*wanted} - {*frame[key]}):
        raise ConfigError(
            f"{option}={path}: no {key} {unknown[0]}, which a row of the table was trained on: set the {option} of these runs"
        )
    return frame.set_index(key).loc[wanted]


def judge(options: Options) -> None:
    """Write and print the correlations. ConfigError if there are no runs, or a score is missing."""
    table = manifest(options.of)
    runs, _ = load(options.runs, options.results)
    lines = gains(table, options.scale, runs)
    if lines.empty:
        raise ConfigError(f"of={options.of}: none of its rows is run; python -m experiments.launch {options.of}")
    lines = with_scores(lines, options.ranking, options.base)
    known = [name for name in SCORES if name in lines]
    rows = []
    for name in options.scores or known:
        if name not in known:
            raise ConfigError(
                f"scores={name}: expected some of {', '.join(known)} (only_good needs a base with right_reasons)"
            )
        for half in HALVES:
            own = lines[lines["half"] == half]
            rho = correlation(own[name], own["gain"])
            rows.append((name, half, len(own), rho.value, rho.low, rho.high))
    correlations = pd.DataFrame(rows, columns=["score", "half", "examples", "spearman", "low", "high"])
    correlations.to_csv(options.out, index=False, float_format="%.4g", lineterminator="\n")
    print(correlations.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    sys.exit(command(Options, judge, __doc__))
