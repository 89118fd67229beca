"""Statistics over several runs: how sure is a difference or a choice of checkpoint, and how many seeds would be needed.

The interval of a mean itself is in rlvr.stats; differences and gains are resampled, which pairs them problem by problem.
Scores come as `correct`: "seeds problems", how many of `samples` answers to each problem were right. Levels that a resample
draws: seeds, problems (the same for all seeds and for both sides of a comparison), then the answers to a problem.

1. Of S seeds S - 1 are drawn (Rao and Wu 1988): drawing S understates their variance by (S - 1) / S. With one seed the
   interval says nothing about other seeds.
2. Drawing crossed levels counts the noise of single answers more than once (Owen 2007), so intervals are conservative:
   tests/analysis/test_analysis_stats.py measures their coverage.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlvr.stats import Interval

RESAMPLES = 2000


def bootstrap_means(correct: ArrayLike, samples: int, problem_draws: NDArray, rng: np.random.Generator) -> NDArray:
    """Means over seeds and problems, in [0, 1], of as many resamples as `problem_draws` has rows.

    correct: "seeds problems", integers in 0..samples. problem_draws: "resamples problems", how often each is drawn.
    """
    correct = np.asarray(correct)
    seeds = len(correct)
    drawn = max(seeds - 1, 1)
    seed_draws = rng.multinomial(drawn, np.full(seeds, 1 / seeds), size=len(problem_draws))
    answers = drawn * samples * problem_draws.sum(axis=1)
    if samples == 1:
        return ((seed_draws @ correct) * problem_draws).sum(axis=1) / answers
    right = np.zeros(len(problem_draws))
    for seed_draw, row in zip(seed_draws.T, correct, strict=True):
        # A problem drawn w times draws its answers w times afresh: a sum of w binomials.
        right += rng.binomial(samples * seed_draw[:, None] * problem_draws, row / samples).sum(axis=1)
    return right / answers


def draw_problems(problems: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> NDArray:
    """How often each problem is drawn: "resamples problems"; every row adds up to `problems`."""
    return rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples)


def percentile_interval(value: float, resampled: NDArray) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def bootstrap_p(differences: NDArray) -> float:
    """Twice the smaller share of resampled differences on either side of 0, never below 2 / (resamples + 1)."""
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))


def holm(p: ArrayLike) -> NDArray:
    """Holm's adjusted p-values, in the order given: below 0.05 keeps the chance of any false finding below 5 %."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def selection_inflation(scores: ArrayLike, rng: np.random.Generator, splits: int = 1000) -> Interval:
    """How much the best checkpoint's accuracy flatters: best on the half that chose it minus on the other half.

    scores: "checkpoints problems" in [0, 1]. Halves of the problems are drawn `splits` times; the interval is the middle
    95 % of the splits. A choice among checkpoints that are equally good gives more than 0. Half the problems
    choose, so the full set's own inflation is smaller, by about the square root of 2.
    """
    scores = np.asarray(scores, dtype=float)
    problems = scores.shape[1]
    if problems < 2:
        raise ValueError(f"{problems} problem: at least 2 are needed to hold half of them out")
    order = rng.random((splits, problems)).argsort(axis=1)
    chooses = order < problems // 2
    on_chosen = chooses @ scores.T / chooses.sum(axis=1, keepdims=True)
    on_other = ~chooses @ scores.T / (~chooses).sum(axis=1, keepdims=True)
    best = on_chosen.argmax(axis=1)[:, None]
    inflation = (np.take_along_axis(on_chosen, best, axis=1) - np.take_along_axis(on_other, best, axis=1))[:, 0]
    return percentile_interval(inflation.mean(), inflation)


def power(effect: float, seeds: int, seed_sd: float, problems: int, problem_sd: float) -> float:
    """Chance to find a difference of `effect` between two settings at 5 %, two-sided, with so many seeds for each.

    effect, seed_sd (between runs of one setting) and problem_sd (of one problem's difference between the settings) are in
    the same unit. Normal for the problems, Welch-like t with 2 (seeds - 1) degrees of freedom where seeds vary: 0 with one
    seed, from which their variance cannot be estimated.
    """
    from scipy.stats import nct, norm, t

    variance = 2 * seed_sd**2 / seeds + problem_sd**2 / problems
    if variance == 0:
        return 1.0 if effect else 0.05
    if seed_sd and seeds == 1:
        return 0.0
    shift, freedom = abs(effect) / np.sqrt(variance), 2 * (seeds - 1)
    null, found = (t(freedom), nct(freedom, shift)) if seed_sd else (norm(), norm(shift))
    critical = null.ppf(0.975)
    return float(found.sf(critical) + found.cdf(-critical))


def seeds_needed(
    effect: float, seed_sd: float, problems: int, problem_sd: float, wanted: float = 0.8, most: int = 200
) -> int | None:
    """The fewest seeds for each setting that find `effect` with the wanted chance; None when `most` do not suffice.

    Seeds do not reduce the noise of the problems: a benchmark can be too small for an effect whatever the seeds.
    """
    enough = (n for n in range(1, most + 1) if power(effect, n, seed_sd, problems, problem_sd) >= wanted)
    return next(enough, None)
