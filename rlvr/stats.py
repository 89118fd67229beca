"""The statistics that rlvr and analysis share: accuracy, pass@k, maj@k, and the one 95 % interval of a mean, each defined once.

Every number is a mean over problems of one value per problem, in [0, 1] unless said otherwise: avg@k is the mean over
problems of the share of right answers among k, pass@k and maj@k are chances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, in any unit; low and high are NaN where no interval is known.

    `f"{interval:.1f}"` is "48.4 (44.9–51.9)", `f"{gain:+.1f}"` is "+3.1 (+1.0 to +5.2)".
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def __format__(self, spec: str) -> str:
        inside = self.range(spec)
        return printed(self.value, spec) + (f" ({inside})" if inside else "")

    def range(self, spec: str) -> str:
        """ "44.9–51.9", or "+1.0 to +5.2" with signs; empty where no interval is known."""
        if np.isnan(self.low):
            return ""
        return f"{printed(self.low, spec)}{' to ' if '+' in spec or self.low < 0 else '–'}{printed(self.high, spec)}"


def printed(value: float, spec: str) -> str:
    """A number as every table prints it; empty for NaN. Sums in another order differ by 1e-16: that must not show."""
    return "" if np.isnan(value) else format(round(float(value), 9), spec)


def accuracy(correct: ArrayLike, samples: ArrayLike = 1) -> NDArray:
    """avg@k: the mean over problems (the last axis) of the share of right answers. correct: "... problems", of `samples` each."""
    return (np.asarray(correct) / np.asarray(samples)).mean(axis=-1)


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> NDArray:
    """Chance that one of k answers is right, unbiased from `samples` >= k answers (Chen et al. 2021, eq. 1); any shape."""
    n, correct = np.asarray(samples, float), np.asarray(correct, float)
    if not 1 <= k <= n.min():
        raise ValueError(f"pass@{k} from {int(n.min())} answers: expected k in 1..{int(n.min())}")
    return 1 - np.prod([(n - correct - i).clip(0) / (n - i) for i in range(k)], axis=0)


def maj_at_k(votes: ArrayLike, scores: ArrayLike) -> NDArray:
    """Chance that the most frequent answer is right; ties are drawn evenly.

    votes: "... samples", the number of the class that an answer belongs to (rlvr.grading: equal values), -1 for no answer,
    which does not vote. scores: the same shape. Returns "...": 0 where nobody votes.
    """
    votes, scores = np.asarray(votes), np.asarray(scores, float)
    count = (votes[..., :, None] == votes[..., None, :]).sum(axis=-1) * (votes >= 0)
    # The winning classes are equally large, so the mean of their means is the mean over their members.
    wins = (count == count.max(axis=-1, keepdims=True)) & (votes >= 0)
    return (scores * wins).sum(axis=-1) / wins.sum(axis=-1).clip(1)


class Part(NamedTuple):
    """The values of one set of problems: "... seeds problems", each made from so many answers; and its weight in a mean."""

    values: ArrayLike
    samples: int = 1
    weight: float = 1


def mean_interval(*parts: Part, share: bool = True) -> Interval:
    """`mean_intervals` of a single mean: parts of "seeds problems"."""
    return Interval(*(float(end) for end in mean_intervals(*parts, share=share)))


def mean_intervals(*parts: Part, share: bool = True) -> tuple[NDArray, NDArray, NDArray]:
    """Weighted mean of the parts' means (of a benchmark, or of several with problems of their own), low and high; each "...".

    One seed: Wilson's interval for as many independent problems as would give the mean its variance; exactly Wilson's where
    values are 0 or 1. It says nothing about other training seeds.
    Several seeds: t on the variance components of the crossed design of seeds and problems, with Satterthwaite's degrees of
    freedom; it covers other seeds and other problems. Two seeds are few: it then covers 87 to 97 times in 100.
    share=False: values outside [0, 1], such as tokens; t, also with one seed (NaN where it has one problem).
    """
    arrays = [np.asarray(part.values, float) for part in parts]
    weights = np.array([part.weight for part in parts]) / sum(part.weight for part in parts)
    by_seed = np.sum([w * a.mean(axis=-1) for w, a in zip(weights, arrays, strict=True)], axis=0)
    mean = by_seed.mean(axis=-1)
    # Where no value varies: as many independent problems as the parts are worth.
    problems = 1 / sum(w**2 / a.shape[-1] for w, a in zip(weights, arrays, strict=True))
    if by_seed.shape[-1] == 1 and share:
        variance = np.zeros_like(mean)
        for w, a, part in zip(weights, arrays, parts, strict=True):
            p = a.mean(axis=(-1, -2))
            # The answers' own noise is the least that there can be.
            variance += w**2 * np.maximum(a.var(axis=(-1, -2)), p * (1 - p) / part.samples) / a.shape[-1]
        varies = variance > 0
        problems = np.where(varies, mean * (1 - mean) / np.where(varies, variance, 1), problems)
        return mean, *wilson(mean, problems)
    from scipy.special import stdtrit

    variance, freedom, *_ = components([arrays], weights)
    half = stdtrit(freedom, 0.975) * np.sqrt(variance)
    if not share:
        return mean, mean - half, mean + half
    low, high = wilson(mean, problems)
    low, high = (np.where(variance > 0, t, w) for t, w in ((mean - half, low), (mean + half, high)))
    return mean, low.clip(0, 1), high.clip(0, 1)


class Components(NamedTuple):
    """Variance of a mean or of a difference, each "...", and where it comes from.

    freedom: Satterthwaite's. by_seeds: the part that more seeds make smaller. of_seed: what one seed a setting would leave of
    it; seed_freedom: how well that is known.
    """

    variance: NDArray
    freedom: NDArray
    by_seeds: NDArray
    of_seed: NDArray
    seed_freedom: NDArray


def components(groups: Sequence[Sequence[NDArray]], weights: ArrayLike, cautious: bool = False) -> Components:
    """Variance components of a weighted mean over seeds and problems, crossed; NaN for a single value.

    groups: one, or two whose difference is meant, which shares its problems. Each: an array "... seeds problems" for each
    weight. Seeds of two groups are independent; a group of one seed adds nothing for other seeds.
    cautious: the few seeds count for the degrees of freedom also where they differ by no more than the residual, which three
    seeds do by chance too often.
    """
    weights = np.asarray(weights, float)
    zero = np.zeros(np.shape(groups[0][0])[:-2])
    variance, squares, by_seeds, of_seed, seed_squares = (zero.copy() for _ in range(5))
    residual, residual_squares = ([zero.copy() for _ in groups] for _ in range(2))
    for w, *arrays in zip(weights, *groups, strict=True):
        if (n := arrays[0].shape[-1]) == 1:
            continue
        values = arrays[0].mean(axis=-2) - sum(array.mean(axis=-2) for array in arrays[1:])
        of_problems = w**2 * values.var(axis=-1, ddof=1) / n
        variance += of_problems
        squares += of_problems**2 / (n - 1)
        for i, a in enumerate(arrays):
            if (seeds := a.shape[-2]) > 1:
                rest = a - a.mean(-1, keepdims=True) - a.mean(-2, keepdims=True) + a.mean((-1, -2), keepdims=True)
                noise = w**2 * (rest**2).sum((-1, -2)) / ((seeds - 1) * (n - 1)) / (seeds * n)
                residual[i] += noise
                residual_squares[i] += noise**2 / ((seeds - 1) * (n - 1))
    for group, noise, noise_squares in zip(groups, residual, residual_squares, strict=True):
        if (seeds := group[0].shape[-2]) == 1:
            continue
        of_seeds = sum(w * a.mean(axis=-1) for w, a in zip(weights, group, strict=True)).var(axis=-1, ddof=1) / seeds
        # Both hold the residual, which is counted once; seeds that differ by no more than it do not count at all.
        differ = of_seeds > noise
        variance += differ * (of_seeds - noise)
        squares += (differ | cautious) * (of_seeds**2 / (seeds - 1) + noise_squares)
        larger = np.maximum(of_seeds, noise)
        by_seeds += larger
        of_seed += seeds * larger
        seed_squares += np.where(differ, of_seeds**2 / (seeds - 1), noise_squares)
    if all(array.shape[-1] == 1 for array in groups[0]) and all(group[0].shape[-2] == 1 for group in groups):
        variance += np.nan
    return Components(variance, _freedom(variance, squares), by_seeds, of_seed, _freedom(by_seeds, seed_squares))


def _freedom(variance: NDArray, squares: NDArray) -> NDArray:
    return np.where(squares > 0, variance**2 / np.where(squares > 0, squares, 1), 1)


def bounded_mean(values: ArrayLike, low: float, high: float) -> Interval:
    """Mean of a few values that lie between two bounds, with a 95 % interval that assumes nothing else of them.

    Gaffke's (2005): the bound is counted as one more value and all are weighted at random, uniformly; of shares of zeros and
    ones it is Clopper and Pearson's. For values at two ends, of which few seeds may show one only, t is too narrow.
    """
    found = np.sort(np.asarray(values, float))
    lows, highs = bounded_means(tuple(found.tolist()), low, high)
    mean = float(found.mean())
    return Interval(mean, min(mean, float(np.quantile(lows, 0.025))), max(mean, float(np.quantile(highs, 0.975))))


@cache
def bounded_means(values: tuple[float, ...], low: float, high: float) -> tuple[NDArray, NDArray]:
    """Means of rising values with random weights, the lower bound among them; and with the upper: each "draws", rising."""
    weights = _weights(len(values) + 1)
    return np.sort(weights @ np.array([low, *values])), np.sort(weights @ np.array([*values, high]))


@cache
def _weights(n: int, draws: int = 20_000) -> NDArray:
    """Random weights that add up to one: "draws n", the same for all who ask."""
    return np.random.default_rng(n).dirichlet(np.ones(n), draws)


def wilson(share: ArrayLike, problems: ArrayLike) -> tuple[NDArray, NDArray]:
    """95 % interval of shares of so many independent zeros and ones."""
    share, n = np.asarray(share, float), np.asarray(problems, float)
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return (centre - half).clip(0, 1), (centre + half).clip(0, 1)
