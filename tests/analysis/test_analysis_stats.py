"""Differences, choices and power against numbers worked out by hand, and the coverage of paired intervals by simulation."""

import numpy as np
import pandas as pd
import pytest

from analysis import stats
from analysis.estimates import Estimator, Pick
from analysis.results import Run, Scores


def rng(seed=0):
    return np.random.default_rng(seed)


def test_seeds_that_differ_widen_the_interval_by_their_standard_error():
    # All problems alike, so only seeds vary: accuracies 0, 0, 1 with standard deviation 0.577, of their mean 0.577 / sqrt 3.
    correct = np.repeat([[0], [0], [1]], 50, axis=1)
    means = stats.bootstrap_means(correct, 1, stats.draw_problems(50, rng(), 20_000), rng(1))
    assert means.std() == pytest.approx(1 / 3, abs=0.005)


def test_answers_are_drawn_afresh():
    # One problem answered right half the time in 4: a resample is binomial(4, 1/2) / 4 with sd 0.25.
    means = stats.bootstrap_means([[2]], 4, np.ones((20_000, 1), int), rng())
    assert means.mean() == pytest.approx(0.5, abs=0.01) and means.std() == pytest.approx(0.25, abs=0.01)
    assert sorted(set(means)) == [0, 0.25, 0.5, 0.75, 1]


def estimates(*groups, samples=1, resamples=stats.RESAMPLES):
    """Accuracy in percent of groups of runs on the same problems; a group: "seeds problems"."""
    groups = [np.asarray(group) for group in groups]
    ids = [str(i) for i in range(groups[0].shape[1])]

    def run(name, seed, correct):
        scores = Scores(np.array([1]), correct[None], samples, ids, np.array([""] * len(ids), dtype=object))
        return Run("tiny", "tiny", name, seed, {}, "finished", 0, "", "", "", pd.DataFrame(), {"test": scores})

    estimator = Estimator([], resamples)
    for i, group in enumerate(groups):
        yield estimator.estimate(
            [[Pick(run(f"{i}", k, correct), "test", 1) for k, correct in enumerate(group)]], "accuracy"
        )


def test_pairing_cancels_the_difficulty_of_the_problems():
    easy_and_hard = np.array([[1] * 50 + [0] * 50])
    better = easy_and_hard.copy()
    better[0, 50:60] = 1
    a, b = estimates(better, easy_and_hard, resamples=20_000)
    # Ten of a hundred flip one way: mean 0.1, standard error sqrt(0.1 * 0.9 / 100) = 0.03.
    assert a.minus(b).interval.value == pytest.approx(10)
    assert a.minus(b).interval.low == pytest.approx(5, abs=1.1)
    assert stats.bootstrap_p(a.minus(b).resampled) < 0.001
    assert stats.bootstrap_p(a.minus(a).resampled) == 1.0


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5 after the running maximum.
    assert stats.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert stats.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_choosing_among_equal_checkpoints_flatters_and_one_checkpoint_does_not():
    equal = rng(3).random((20, 200)) < 0.5
    # The best of 20 means of 100 with sd 0.05 is about 1.87 sd high, the other half is not.
    assert stats.selection_inflation(equal, rng()).value == pytest.approx(1.87 * 0.05, abs=0.035)
    assert abs(stats.selection_inflation(equal[:1], rng()).value) < 0.005


def test_power_without_seed_noise_is_the_textbook_normal():
    # 2 points, problem sd 50 points, 4900 problems: 2.8 standard errors, power 0.80.
    assert stats.power(0.02, 1, 0.0, 4900, 0.5) == pytest.approx(0.80, abs=0.005)
    assert stats.power(0.0, 5, 0.01, 500, 0.5) == pytest.approx(0.05, abs=0.001)


def test_power_with_seed_noise_is_the_two_sample_t_test():
    # Cohen's d = 1, 17 a group: power 0.807 (G*Power).
    assert stats.power(1.0, 17, 1.0, 1, 0.0) == pytest.approx(0.807, abs=0.002)
    assert stats.seeds_needed(1.0, 1.0, 1, 0.0) == 17


def test_a_small_benchmark_is_too_small_whatever_the_seeds():
    assert stats.seeds_needed(0.02, 0.01, 500, 0.5) is None
    assert stats.seeds_needed(0.02, 0.01, 50_000, 0.5) == 6


def test_the_paired_interval_covers_the_truth():
    world, covered, worlds = rng(8), 0, 300
    for _ in range(worlds):
        difficulty = world.uniform(0.1, 0.8, size=150)
        chances = [difficulty + gain + world.normal(0, 0.02, size=(5, 1)) for gain in (0.1, 0.0)]
        a, b = estimates(*(world.binomial(1, chance.clip(0, 1)) for chance in chances), resamples=300)
        interval = a.minus(b).interval
        covered += interval.low <= 10 <= interval.high
    assert 0.92 <= covered / worlds <= 1.0
