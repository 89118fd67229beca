"""Accuracy, pass@k, maj@k and the interval of a mean: by hand, and the interval's coverage by simulation."""

import numpy as np
import pytest

from rlvr.stats import Interval, Part, accuracy, maj_at_k, mean_interval, mean_intervals, pass_at_k, printed, wilson


def test_accuracy_is_the_mean_share_of_right_answers():
    assert accuracy([[1, 2, 0], [2, 2, 2]], 2).tolist() == [0.5, 1.0]


def test_pass_at_k_is_the_share_of_draws_with_a_right_answer():
    # 4 answers, 1 right: 3 of the 6 pairs contain it. 2 right: 5 of 6. 3 right: no pair without one.
    assert pass_at_k(4, [0, 1, 2, 3, 4], 2) == pytest.approx([0, 1 / 2, 5 / 6, 1, 1])
    assert pass_at_k([8, 4], [2, 1], 1) == pytest.approx([0.25, 0.25])
    assert pass_at_k(8, 1, 8) == 1.0
    with pytest.raises(ValueError, match="pass@4 from 3 answers: expected k in 1..3"):
        pass_at_k([8, 3], [1, 1], 4)


@pytest.mark.parametrize(
    ("votes", "scores", "expected"),
    [
        ([7, 12, 12], [0, 1, 1], 1.0),
        ([7, 7, 12], [0, 0, 1], 0.0),
        ([7, 12], [0, 1], 0.5),  # a tie
        ([7, 7, 12, 12], [1, 0, 1, 1], 0.75),  # one class, two verdicts
        ([-1, -1, 12], [0, 0, 1], 1.0),  # no answer, no vote
        ([-1, -1], [0, 0], 0.0),
    ],
)
def test_maj_at_k_takes_the_most_frequent_answer_and_shares_ties(votes, scores, expected):
    assert maj_at_k(votes, scores) == expected
    assert maj_at_k([votes, votes], [scores, scores]).tolist() == [expected] * 2


def test_one_seed_of_zeros_and_ones_has_wilsons_interval():
    low, high = wilson(0.8, 10)  # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.96
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert vars(mean_interval(Part([[1] * 8 + [0] * 2]))) == pytest.approx({"value": 0.8, "low": low, "high": high})


def test_several_answers_to_a_problem_count_for_what_they_say():
    halves = [[0, 1] * 10]
    assert mean_interval(Part(halves, samples=8)) == mean_interval(Part(halves))  # all answers to a problem alike
    # Every problem right half the time: as many independent answers as there are.
    low, high = wilson(0.5, 80)
    assert vars(mean_interval(Part([[0.5] * 20], samples=4))) == pytest.approx({"value": 0.5, "low": low, "high": high})


@pytest.mark.parametrize("seeds", [1, 3])
def test_all_right_or_all_wrong_is_no_certainty(seeds):
    low, _ = wilson(1.0, 30)
    right, wrong = (mean_interval(Part(np.full((seeds, 30), value), samples=8)) for value in (1, 0))
    assert (right.low, right.high) == pytest.approx((low, 1))
    assert (wrong.low, wrong.high) == pytest.approx((0, 1 - low))


def test_seeds_that_differ_in_nothing_but_their_mean_are_a_t_test():
    # Every problem alike: means 0.2, 0.4, 0.6 with standard error 0.2 / sqrt 3, t(2) = 4.3027.
    interval = mean_interval(Part(np.repeat([[200], [400], [600]], 50, axis=1)), share=False)
    assert interval.high - interval.value == pytest.approx(4.3027 * 200 / np.sqrt(3), rel=1e-4)
    assert mean_interval(Part(np.repeat([[0.2], [0.4], [0.6]], 50, axis=1))).low == 0.0  # not below


def test_tokens_have_a_t_interval_over_problems():
    interval = mean_interval(Part([[100, 200, 300, 400]]), share=False)
    assert interval.high - 250 == pytest.approx(3.1824 * np.std([100, 200, 300, 400], ddof=1) / 2, rel=1e-4)
    assert f"{mean_interval(Part([[100]]), share=False):.0f}" == "100"  # one value has no interval


def test_an_average_of_benchmarks_has_the_variance_of_its_parts():
    rng = np.random.default_rng(0)
    large, small = (rng.random((1, n)) < 0.5 for n in (400, 100))
    value, low, high = mean_intervals(Part(large), Part(small))
    assert value == pytest.approx((large.mean() + small.mean()) / 2)
    # Each about 0.25 / n, a quarter of their sum: as from 4 / (1/400 + 1/100) = 320 problems.
    assert (low, high) == pytest.approx(wilson(float(value), 320), abs=0.001)
    twice = mean_interval(Part(large, weight=2), Part(small))
    assert twice.value == pytest.approx((2 * large.mean() + small.mean()) / 3)


def test_many_means_at_once_are_the_same_as_one_at_a_time():
    values = np.random.default_rng(0).random((4, 3, 20))
    low = mean_intervals(Part(values, 8))[1]
    assert low == pytest.approx([mean_interval(Part(v, 8)).low for v in values])


def coverage(seeds, seed_sd, samples=1):
    """How often, in 2,000 worlds, the interval holds the mean over all seeds and problems (500, answered right at 20 to 80 %)."""
    rng, held = np.random.default_rng(1), []
    for _ in range(10):
        chance = rng.uniform(0.2, 0.8, (200, 1, 500)) + rng.normal(0, seed_sd, (200, seeds, 1))
        _, low, high = mean_intervals(Part(rng.binomial(samples, chance.clip(0, 1)) / samples, samples))
        held.append((low <= 0.5) & (high >= 0.5))
    return np.mean(held)


@pytest.mark.parametrize("samples", [1, 2])
def test_one_seed_covers_its_own_truth_and_not_other_seeds(samples):
    assert 0.92 <= coverage(1, 0.0, samples) <= 0.975
    assert coverage(1, 0.06, samples) < 0.7


@pytest.mark.parametrize("seed_sd", [0.0, 0.02, 0.06])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_several_seeds_cover_the_truth_of_all_seeds(seeds, seed_sd):
    assert 0.92 <= coverage(seeds, seed_sd) <= 0.975


def test_an_interval_is_printed_in_one_way():
    assert f"{Interval(0.484, 0.449, 0.519) * 100:.1f}" == "48.4 (44.9–51.9)"
    assert f"{Interval(3.1, -1, 5.2):+.1f}" == "+3.1 (-1.0 to +5.2)"
    assert f"{Interval(700.2):.0f}" == "700" and Interval(700.2).range(".0f") == ""
    assert printed(float("nan"), ".1f") == ""
    assert printed(100 * (0.1 + 0.2 + 0.0325), ".1f") == printed(100 * (0.0325 + 0.2 + 0.1), ".1f")
