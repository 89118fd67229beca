"""Rankings of examples: by historical variance (paper §2), by other scores for comparison, or by a model's own solve rate.

Each visit of an example gives one accuracy, the mean outcome of its group. Ties keep the order of the history. An example that
was never visited has no score and comes last. With few visits a ranking is uncertain: `rank_low` and `rank_high` are a 95 %
interval of the rank, from visits resampled with replacement or from solve rates drawn from their posterior.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlvr.cli import ConfigError
from rlvr.data.pools import variance
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.stats import Z95

MARKED = 16  # examples that the plot marks


def history_of_run(folder: RunFolder) -> dict[str, list[float]]:
    """Pool index (as text, in the order of the pool) -> accuracy at each visit, by step; [] if never visited."""
    import pandas as pd
    import pyarrow.parquet as pq

    files = step_files(folder.rollouts_dir)
    if not files:
        raise ConfigError(f"run={folder.path}: has no rollouts; give a run of +experiment=full_set")
    pool = pq.read_table(folder.data_dir / "train.parquet", columns=["extra_info"]).to_pylist()
    history: dict[str, list[float]] = {str(row["extra_info"]["index"]): [] for row in pool}
    for file in files.values():
        answers = pd.DataFrame(samples.read(file, ["uid", "id", "score"]))
        for (_, index), accuracy in answers.groupby(["uid", "id"], sort=False)["score"].mean().items():
            history[index].append(float(accuracy))
    return history


def read_history(path: Path) -> dict[str, list[float]]:
    """{index: [accuracy at each visit]} of a JSON file. ConfigError if the file has another form."""
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


def rank(history: dict[str, list[float]], method: str, seed: int = 0, bootstrap: int = 1000) -> list[dict[str, Any]]:
    """A row for each example, best first; ValueError for an unknown method.

    `mean_accuracy`: NaN without a visit. `rank_low`, `rank_high`: the bootstrap interval, or the rank twice.
    """
    keys, visits = list(history), list(history.values())
    accuracies = padded(visits)
    scores = score(accuracies, method, seed)
    variances = np.array([variance(values) for values in visits])  # exact sums: a rounding error must not break a tie
    if method == "variance":
        scores = np.where(variances < 0, -np.inf, variances)
    order = np.argsort(-scores, kind="stable")
    low = high = np.argsort(order) + 1.0  # each example's rank
    if bootstrap and method != "random":
        low, high = rank_intervals(accuracies, method, bootstrap, seed)
    return [
        {"rank": place, "index": keys[i], "score": float(scores[i]), "variance": float(variances[i]),
         "mean_accuracy": float(np.mean(visits[i])) if visits[i] else math.nan, "visits": len(visits[i]),
         "rank_low": low[i], "rank_high": high[i]}
        for place, i in enumerate(order, start=1)
    ]  # fmt: skip


def padded(histories: list[list[float]]) -> np.ndarray:
    """Float ("examples visits"), NaN after an example's last visit."""
    width = max([1, *map(len, histories)])
    array = np.full((len(histories), width), np.nan)
    for row, values in zip(array, histories, strict=True):
        row[: len(values)] = values
    return array


def score(accuracies: np.ndarray, method: str, seed: int = 0) -> np.ndarray:
    """Score ("examples") of accuracies ("examples visits", NaN after the last visit). Larger is better; -inf: never visited."""
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
    visited = ~np.isnan(accuracies)
    ranks = np.empty((resamples, len(accuracies)), np.float32)
    for i in range(resamples):
        draw = (generator.random(accuracies.shape) * visited.sum(1)[:, None]).astype(int)
        resampled = np.where(visited, np.take_along_axis(accuracies, draw, 1), np.nan)
        ranks[i] = rankdata(-np.round(score(resampled, method), 12))
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0)
    return low, high


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is written to a file: without score, variance and mean if the example was never visited."""
    digits = {"score": 6, "variance": 6, "mean_accuracy": 4, "rank_low": 0, "rank_high": 0}
    hidden = () if row["visits"] else ("score", "variance", "mean_accuracy")
    return {
        key: "" if key in hidden else f"{value:.{digits[key]}f}" if key in digits else value
        for key, value in row.items()
    }


def plot(rows: list[dict[str, Any]], method: str, out: Path) -> None:
    """Plot variance against mean accuracy of every example; the first 16 ranks are marked and the first four named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    visited = [(row["mean_accuracy"], row["variance"]) for row in rows if row["visits"]]
    points = np.array(visited, float).reshape(-1, 2)
    first, others = points[:MARKED], points[MARKED:]
    ax.scatter(others[:, 0], others[:, 1], s=9, c="#9aa5b1", label="pool", linewidths=0)
    ax.scatter(first[:, 0], first[:, 1], s=26, c="#d55e00", label=f"ranks 1 to {len(first)} by {method}", linewidths=0)
    for place, point in enumerate(first[:4], start=1):
        ax.annotate(f"$\\pi_{{{place}}}$", point, xytext=(5, 3), textcoords="offset points")
    ax.set(xlabel="mean accuracy over visits", ylabel="variance of accuracy over visits", xlim=(-0.02, 1.02))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)


def solve_rates(right: NDArray, samples: int, draws: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Order of the examples (best first) by the variance p (1 - p) of one answer's outcome, and low and high of each rank.

    right: "examples", the number of right answers among `samples` of the untrained model. The intervals are those of ranks
    under draws of p from its posterior (Jeffreys' prior). Ties keep the order of the pool.
    """
    from scipy.stats import rankdata

    rate = right / samples
    order = np.argsort(-np.round(rate * (1 - rate), 12), kind="stable")
    generator = np.random.default_rng(seed)
    p = generator.beta(right + 0.5, samples - right + 0.5, (draws, len(right)))
    low, high = np.quantile(rankdata(-p * (1 - p), axis=1), [0.025, 0.975], axis=0)
    return order, low, high


def samples_to_tell(first: float, other: float) -> int | None:
    """Samples of each example at which two solve rates' variances p (1 - p) differ by 1.96 standard errors; None: over 10^6.

    The standard error is that of the delta method with its second-order term, which is the only term at p = 1/2.
    """
    gap = abs(first * (1 - first) - other * (1 - other))
    if gap == 0:
        return None
    linear = sum((1 - 2 * p) ** 2 * p * (1 - p) for p in (first, other))
    square = sum(2 * (p * (1 - p)) ** 2 for p in (first, other))
    z2 = Z95**2
    # n solves gap^2 n^2 = z^2 (linear n + square)
    n = (z2 * linear + math.sqrt((z2 * linear) ** 2 + 4 * gap**2 * z2 * square)) / (2 * gap**2)
    return math.ceil(n) if n <= 10**6 else None
