"""Ranks a pool of examples: by historical variance (paper §2), or by what people compare it with.

    python -m rlvr.select run=runs/tiny/tiny/full_set/seed0 out=ranking.csv   # from the rewards a full-pool run stored
    python -m rlvr.select history=acc_step_500.json out=ranking.csv           # from the authors' history file

Each visit of an example gives one accuracy, the mean outcome of its group. `method=` one of

    variance        population variance over all visits, largest first (paper Eq. 1-2; the default)
    mean_near_half  mean accuracy nearest to 0.5, as difficulty filters choose
    limr            alignment with the pool's mean learning curve (LIMR, arXiv 2502.11886):
                    1 - sum_k (s_k - m_k)^2 / sum_k (1 - m_k)^2, over the visits k of the example
    random          a random order, of `seed=` (default 0)

Ties keep the history's order. An example that was never visited has no score and comes last. Few visits make a ranking
unstable: `rank_low` and `rank_high` are a 95 % bootstrap interval of each rank, visits resampled with replacement
(`bootstrap=` resamples, default 1000, 0 for none). Departure from the paper: it gives no uncertainty.
Beside the CSV a plot of variance against mean accuracy is written (out with .png), the first 16 marked.
"""

import csv
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rlvr.cli import ConfigError, command, option
from rlvr.data.pools import variance
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder

MARKED = 16


def history_of_run(folder: RunFolder) -> dict[str, list[float]]:
    """Pool index (as text, in the pool's order) -> accuracy at each visit, in the order of the steps; [] if never visited."""
    import pandas as pd
    import pyarrow.parquet as pq

    files = sorted(folder.rollouts_dir.glob("step*.parquet"))
    if not files:
        raise ConfigError(f"run={folder.path}: has no rollouts; give a run of +experiment=full_set")
    visits = pd.concat(pd.DataFrame(samples.read(file, ["step", "uid", "id", "score"])) for file in files)
    accuracies = visits.groupby(["step", "uid", "id"], sort=False)["score"].mean().reset_index()
    accuracies = accuracies.sort_values("step", kind="stable")
    pool = pq.read_table(folder.data_dir / "train.parquet", columns=["extra_info"]).to_pylist()
    history: dict[str, list[float]] = {str(row["extra_info"]["index"]): [] for row in pool}
    for index, score in zip(accuracies["id"], accuracies["score"], strict=True):
        history[index].append(float(score))
    return history


def read_history(path: Path) -> dict[str, list[float]]:
    """{index: [accuracy at each visit]} of a JSON file. ConfigError when it is something else."""
    try:
        history = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"history={path}: cannot be read ({error})") from None
    if not isinstance(history, dict) or not all(
        isinstance(values, list) and all(isinstance(v, int | float) and 0 <= v <= 1 for v in values)
        for values in history.values()
    ):
        raise ConfigError(f"history={path}: expected {{index: [accuracies from 0 to 1]}}")
    return history


@dataclass
class Ranking:
    """One row per example, best first. `rank_low`, `rank_high`: bootstrap interval, equal to the rank without one."""

    index: list[str]
    score: list[float]
    variance: list[float]
    mean_accuracy: list[float]
    visits: list[int]
    rank_low: list[float]
    rank_high: list[float]


def rank(history: dict[str, list[float]], method: str, seed: int = 0, bootstrap: int = 1000) -> Ranking:
    """Rank the examples of `history`; ValueError for an unknown method."""
    keys = list(history)
    accuracies = padded([history[key] for key in keys])
    scores = score(accuracies, method, seed)
    if method == "variance":  # exact sums: a rounding error must not break a tie
        scores = np.array([variance(history[key]) for key in keys])
        scores[scores < 0] = -np.inf
    order = np.argsort(-scores, kind="stable")
    low = high = np.arange(1, len(keys) + 1, dtype=float)
    if bootstrap and method != "random":
        low, high = (bound[order] for bound in rank_intervals(accuracies, method, bootstrap, seed))
    visits = (~np.isnan(accuracies)).sum(1)
    means = np.array([np.mean(history[key]) if history[key] else np.nan for key in keys])
    return Ranking(
        [keys[i] for i in order],
        scores[order].tolist(),
        [variance(history[keys[i]]) for i in order],
        means[order].tolist(),
        visits[order].tolist(),
        low.tolist(),
        high.tolist(),
    )


def padded(histories: list[list[float]]) -> np.ndarray:
    """Float ("examples visits"), NaN after an example's last visit."""
    width = max([1, *map(len, histories)])
    array = np.full((len(histories), width), np.nan)
    for row, values in zip(array, histories, strict=True):
        row[: len(values)] = values
    return array


def score(accuracies: np.ndarray, method: str, seed: int = 0) -> np.ndarray:
    """Score ("examples") of accuracies ("examples visits", NaN where not visited); larger is better, -inf never visited."""
    visited = ~np.isnan(accuracies)
    filled = np.where(visited, accuracies, 0.0)
    counts = np.maximum(visited.sum(-1), 1)
    means = filled.sum(-1) / counts
    if method == "variance":
        scores = (np.where(visited, accuracies - means[:, None], 0.0) ** 2).sum(-1) / counts
    elif method == "mean_near_half":
        scores = -np.abs(means - 0.5)
    elif method == "limr":
        curve = filled.sum(0) / np.maximum(visited.sum(0), 1)  # of the whole pool, at each visit
        distance = (np.where(visited, accuracies - curve, 0.0) ** 2).sum(-1)
        scores = 1 - distance / np.maximum(np.where(visited, (1 - curve) ** 2, 0.0).sum(-1), 1e-12)
    elif method == "random":
        order = list(range(len(accuracies)))
        random.Random(seed).shuffle(order)
        scores = -np.argsort(order).astype(float)
    else:
        raise ValueError(f"method={method}: expected variance, mean_near_half, limr or random")
    return np.where(visited.any(-1), scores, -np.inf)


def rank_intervals(accuracies: np.ndarray, method: str, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """2.5 % and 97.5 % quantile ("examples") of each example's rank when its visits are drawn again with replacement.

    Tied scores share the mean of their places, so that a tie in every resample is not mistaken for certainty.
    """
    from scipy.stats import rankdata

    generator = np.random.default_rng(seed)
    counts = (~np.isnan(accuracies)).sum(1)
    visited = ~np.isnan(accuracies)
    ranks = np.empty((resamples, len(accuracies)), np.float32)
    for i in range(resamples):
        draw = (generator.random(accuracies.shape) * counts[:, None]).astype(int)
        again = np.where(visited, np.take_along_axis(accuracies, draw, 1), np.nan)
        ranks[i] = rankdata(-np.round(score(again, method), 12))
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0)
    return low, high


def write_csv(ranking: Ranking, out: Path) -> None:
    """One line per example, best first; no score, variance or mean for one that was never visited."""
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "index", "score", "variance", "mean_accuracy", "visits", "rank_low", "rank_high"])
        for i, index in enumerate(ranking.index):
            numbers = (
                [f"{ranking.score[i]:.6f}", f"{ranking.variance[i]:.6f}", f"{ranking.mean_accuracy[i]:.4f}"]
                if ranking.visits[i]
                else ["", "", ""]
            )
            bounds = [f"{ranking.rank_low[i]:.0f}", f"{ranking.rank_high[i]:.0f}"]
            writer.writerow([i + 1, index, *numbers, ranking.visits[i], *bounds])


def plot(ranking: Ranking, method: str, out: Path) -> None:
    """Variance against mean accuracy of every example, the first 16 ranks marked and the first four named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    visited = [i for i, count in enumerate(ranking.visits) if count]
    first, others = visited[:MARKED], visited[MARKED:]
    for chosen, colour, size, label in (
        (others, "#9aa5b1", 9, "pool"),
        (first, "#d55e00", 26, f"ranks 1 to {len(first)} by {method}"),
    ):
        ax.scatter(
            [ranking.mean_accuracy[i] for i in chosen],
            [ranking.variance[i] for i in chosen],
            s=size,
            c=colour,
            label=label,
            linewidths=0,
        )
    for i in first[:4]:
        ax.annotate(
            f"$\\pi_{{{i + 1}}}$",
            (ranking.mean_accuracy[i], ranking.variance[i]),
            xytext=(5, 3),
            textcoords="offset points",
        )
    ax.set(xlabel="mean accuracy over visits", ylabel="variance of accuracy over visits", xlim=(-0.02, 1.02))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)


@dataclass
class Options:
    out: Path = option("the CSV to write; a plot goes beside it")
    run: Path | None = option("a full-pool run, whose rollouts are the visits", None)
    history: Path | None = option("instead of a run: a JSON file {index: [accuracy at each visit]}", None)
    method: Literal["variance", "mean_near_half", "limr", "random"] = option("what ranks", "variance")
    seed: int = option("of the resamples and of a random order", 0, at_least=0)
    bootstrap: int = option("resamples of the visits; 0: no intervals", 1000, at_least=0)


def select(options: Options) -> None:
    """Rank the examples, write CSV and plot. ConfigError for a history that cannot be read."""
    if (options.run is None) == (options.history is None):
        raise ConfigError("give run=<full_set run> or history=<file.json>")
    history = history_of_run(RunFolder(options.run)) if options.run else read_history(Path(str(options.history)))
    ranking = rank(history, options.method, options.seed, options.bootstrap)
    picture = options.out.with_suffix(".png")
    try:
        write_csv(ranking, options.out)
        plot(ranking, options.method, picture)
    except OSError as error:
        raise ConfigError(f"out={options.out}: cannot be written ({error.strerror})") from None
    print(f"{len(history)} examples ranked by {options.method}: {options.out}, {picture}")


if __name__ == "__main__":
    sys.exit(command(Options, select, __doc__))
