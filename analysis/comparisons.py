"""How sure is a difference or a choice of checkpoint, and how many seeds would be needed.

A difference is tested by t on its variance components (rlvr.stats.components): the seeds of both sides, the problems they
share, the answers. Two experiments that have the same seeds are compared seed by seed: runs of one seed share their random
numbers, and only their difference varies. The interval, the p-value and the number of seeds that would settle it are those of
this one test. Where seeds end high or low (analysis.two_ends) the test is rlvr.stats.bounded_mean, which assumes no shape.

One seed says nothing about other seeds, so no verdict rests on fewer than three (analysis.verdicts). With three, five and ten
seeds compared one by one, intervals hold the truth 94 times in 100 or more (tests/analysis/test_analysis_stats.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlvr.stats import Interval, Part, bounded_mean, bounded_means, components

LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Contrast:
    """A change or a difference and its t test. Variances in the square of the unit of `value`; NaN if not known.

    of_seed: what one seed for each setting would leave of the variance; fixed: what no number of seeds removes.
    settings: on how many sides seeds vary. of_seeds: of every run, less the other side's mean or the run it is compared with.
    paired: compared seed by seed. bounds: what a seed's number lies between, where the test assumes nothing else of it; then
    p is of a mean other than `null`.
    """

    value: float
    variance: float = np.nan
    freedom: float = 1
    of_seed: float = np.nan
    fixed: float = np.nan
    settings: int = 0
    of_seeds: tuple[float, ...] = ()
    paired: bool = False
    bounds: tuple[float, float] | None = None
    null: float = 0.0

    @property
    def interval(self) -> Interval:
        """95 %."""
        if self.bounds is not None:
            return bounded_mean(self.of_seeds, *self.bounds)
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 1 - LEVEL / 2) * np.sqrt(self.variance))
        return Interval(self.value, self.value - half, self.value + half)

    @property
    def p(self) -> float:
        """Two-sided."""
        from scipy.special import stdtr

        if self.bounds is not None:
            lows, highs = bounded_means(tuple(sorted(self.of_seeds)), *self.bounds)
            return float(min(1.0, 2 * min((lows <= self.null).mean(), (highs >= self.null).mean()) + 1 / len(lows)))
        if self.variance == 0:
            return float(self.value == 0)
        return float(2 * stdtr(self.freedom, -abs(self.value) / np.sqrt(self.variance)))

    def seeds_needed(self, effect: float, tests: int = 1) -> int | None:
        """`seeds_needed` for an effect of this size with the variances of this difference."""
        return seeds_needed(effect, self.of_seed, self.fixed, self.settings, tests)


def common_seeds(ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """The seeds that both sides have, if there are enough to compare them one by one: three, or all of a side that has two."""
    common = [seed for seed in ours if seed in theirs]
    return common if len(common) >= min(3, len(ours), len(theirs)) and len(common) > 1 else []


def contrast(
    of: Sequence[Part], minus: Sequence[Part] = (), seeds: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> Contrast:
    """The mean of some parts (changes), or its difference from the mean of others on the same problems.

    seeds: of each row of both sides, where known: those that both have are compared one by one (`common_seeds`).
    """
    if common := common_seeds(*seeds):
        ours, theirs = ([of_side.index(seed) for seed in common] for of_side in map(list, seeds))
        pairs = [(np.asarray(a.values)[ours] - np.asarray(b.values)[theirs], a) for a, b in zip(of, minus, strict=True)]
        return _contrast([Part(values, a.samples, a.weight) for values, a in pairs], (), paired=True)
    return _contrast(of, minus)


def _contrast(of: Sequence[Part], minus: Sequence[Part], paired: bool = False) -> Contrast:
    groups = [[np.asarray(part.values, float) for part in parts] for parts in (of, minus) if parts]
    weights = np.array([part.weight for part in of]) / sum(part.weight for part in of)
    means = [sum(w * array.mean(axis=-1) for w, array in zip(weights, group, strict=True)) for group in groups]
    variance, freedom, by_seeds, of_seed, _ = map(float, components(groups, weights, cautious=paired))
    varying = sum(len(group[0]) > 1 for group in groups)
    of_seeds = means[0] - sum(mean.mean() for mean in means[1:])
    fixed = max(0.0, variance - by_seeds)
    return Contrast(
        float(of_seeds.mean()), variance, freedom, of_seed, fixed, varying, tuple(of_seeds.tolist()), paired
    )


def against_one_run(of: Sequence[Part], value: float) -> Contrast:
    """The difference from a single run on the same problems, which is assumed to vary as much as our seeds.

    Problems are common to both, so only seeds and single answers are noise; that of the single run stays whatever we do.
    """
    arrays = [np.asarray(part.values, float) for part in of]
    weights = np.array([part.weight for part in of]) / sum(part.weight for part in of)
    found = components([arrays], weights)
    mean = sum(w * array.mean() for w, array in zip(weights, arrays, strict=True))
    of_seed = float(found.of_seed) if len(arrays[0]) > 1 else np.nan
    return Contrast(
        float(mean - value), float(found.by_seeds) + of_seed, float(found.seed_freedom), of_seed, of_seed, 1
    )


def holm(p: ArrayLike) -> NDArray:
    """Holm's adjusted p-values, in the order given: below 0.05 keeps the chance of any false finding below 5 %."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


@cache
def halves(problems: int, splits: int = 1000, seed: int = 0) -> NDArray:
    """Matrix "splits problems": 1 for a random half of them in every row, 0 for the others; the same in every call."""
    order = np.random.default_rng(seed).random((splits, problems)).argsort(axis=1)
    return (order < problems // 2).astype(float)  # numpy multiplies matrices of truth values far slower


def selection_inflation(scores: ArrayLike) -> Interval:
    """By how much choosing the best checkpoint raises accuracy: on the half that chose it minus on the other half, over root 2.

    scores: "checkpoints problems" in [0, 1]. Of many random halves of the problems the interval is the middle 95 %.
    Half the problems choose, which flatters by the square root of 2 more than all of them do.
    """
    scores = np.asarray(scores, dtype=float)
    problems = scores.shape[1]
    if problems < 2:
        raise ValueError(f"{problems} problem: at least 2 are needed to hold half of them out")
    of_half = halves(problems) @ scores.T
    on_chosen = of_half / (problems // 2)
    on_other = (scores.sum(axis=1) - of_half) / (problems - problems // 2)
    best = on_chosen.argmax(axis=1)[:, None]
    gap = (np.take_along_axis(on_chosen, best, axis=1) - np.take_along_axis(on_other, best, axis=1))[:, 0] / np.sqrt(2)
    low, high = np.percentile(gap, [2.5, 97.5])
    return Interval(float(gap.mean()), float(low), float(high))


def power(effect: float, seeds: int, of_seed: float, fixed: float, settings: int = 2, tests: int = 1) -> float:
    """Chance to find a difference of `effect`, two-sided at 5 % over so many tests, with so many seeds for each setting.

    of_seed, fixed, settings: as in `Contrast`. 0 where seeds vary and there is one, from which that cannot be known.
    """
    from scipy.special import nctdtr, ndtr, ndtri, stdtrit

    variance = of_seed / seeds + fixed
    if variance == 0:
        return 1.0 if effect else LEVEL
    freedom = settings * (seeds - 1)
    if of_seed and not freedom:
        return 0.0
    shift = abs(effect) / np.sqrt(variance)
    if not of_seed:
        critical = ndtri(1 - LEVEL / 2 / tests)
        return float(ndtr(shift - critical) + ndtr(-shift - critical))
    critical = stdtrit(freedom, 1 - LEVEL / 2 / tests)
    # The other tail is NaN where it is too small for a number.
    return float(1 - nctdtr(freedom, shift, critical) + np.nan_to_num(nctdtr(freedom, shift, -critical)))


def seeds_needed(
    effect: float, of_seed: float, fixed: float, settings: int = 2, tests: int = 1, most: int = 200
) -> int | None:
    """The fewest seeds for each setting that find `effect` four times in five; None when `most` do not suffice.

    Seeds do not reduce the noise of the problems: a benchmark can be too small for an effect whatever the seeds.
    """
    if np.isnan(of_seed + fixed):
        return None
    few, enough = 0, most
    if power(effect, most, of_seed, fixed, settings, tests) < POWER:
        return None
    while enough - few > 1:
        middle = (few + enough) // 2
        found = power(effect, middle, of_seed, fixed, settings, tests) >= POWER
        few, enough = (few, middle) if found else (middle, enough)
    return enough
