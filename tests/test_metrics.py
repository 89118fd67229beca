"""Metrics against numbers worked out by hand."""

import numpy as np
import pytest

from rlvr.data.protocols import reflection_words
from rlvr.evaluation import judging, metrics


def columns(scores, answers=None, reasons=None, subjects=None):
    """Columns of one benchmark from {id: [score of each sample]}."""
    rows = [(id, sample, score) for id, values in scores.items() for sample, score in enumerate(values)]
    n = len(rows)
    built = {
        "id": [id for id, _, _ in rows],
        "subject": [(subjects or {}).get(id, "") for id, _, _ in rows],
        "sample": np.array([sample for _, sample, _ in rows]),
        "score": np.array([float(score) for _, _, score in rows]),
        "boxed": np.ones(n, bool),
        "truncated": np.zeros(n, bool),
        "response_tokens": np.arange(n),
    }
    built |= {"answer": answers} if answers else {}
    return built | ({"reason": reasons} if reasons else {})


def by_metric(rows, subject=""):
    return {row["metric"]: row for row in rows if row["subject"] == subject}


def test_pass_at_k_is_the_share_of_draws_with_a_right_sample():
    # 4 samples, 1 right: 3 of the 6 pairs contain it. 2 right: 5 of 6. 3 right: no pair without one.
    np.testing.assert_allclose(metrics.pass_at_k([4, 4, 4, 4], [0, 1, 2, 3], 2), [0, 1 / 2, 5 / 6, 1])


def test_pass_at_k_is_not_avg_at_k_and_refuses_too_few_samples():
    assert metrics.pass_at_k(8, 1, 8) == 1.0
    with pytest.raises(ValueError, match="at least 4 samples"):
        metrics.pass_at_k([8, 3], [1, 1], 4)


def test_maj_at_k_takes_the_most_frequent_answer_and_shares_ties():
    assert metrics.maj_at_k(["7", "12", "12"], [0, 1, 1]) == 1.0
    assert metrics.maj_at_k(["7", "7", "12"], [0, 0, 1]) == 0.0
    assert metrics.maj_at_k(["7", "12"], [0, 1]) == 0.5
    assert metrics.maj_at_k(["", "", "12"], [0, 0, 1]) == 1.0  # no answer, no vote
    assert metrics.maj_at_k(["", None], [0, 0]) == 0.0


def test_wilson_interval():
    low, high = metrics.wilson(0.8, 10)  # worked out with z = 1.96: (0.4902, 0.9433)
    assert (round(float(low), 4), round(float(high), 4)) == (0.4902, 0.9433)


def test_repetition_counts_four_grams_seen_before():
    assert judging.repetition("a b c d e f") == 0
    assert judging.repetition("a b c d a b c d") == pytest.approx(1 / 5)  # the fifth window is the first again
    assert judging.repetition("no no no no no no") == pytest.approx(2 / 3)


def test_reflection_words_in_any_case():
    assert judging.reflects("Let me Recheck this.", reflection_words())
    assert not judging.reflects("check again", reflection_words())
    assert judging.reflects("wait", ["wait"])


def test_summary_of_samples():
    rows = metrics.summarise(
        columns({"p": [1, 1, 0, 0], "q": [0, 0, 0, 1]}, answers=["5", "5", "6", "7", "1", "1", "2", "9"],
                reasons=["correct"] * 2 + ["wrong"] * 5 + ["timeout"])
    )  # fmt: skip
    values = {name: row["value"] for name, row in by_metric(rows).items()}
    assert values["accuracy"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert values["pass@2"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert values["pass@4"] == 1
    assert values["maj@4"] == 0.5  # p: "5" wins and is right; q: "1" wins and is wrong
    assert values["ungraded"] == pytest.approx(1 / 8)
    assert values["response_tokens"] == 3.5


def test_accuracy_by_subject():
    rows = metrics.summarise(
        columns({"a": [1], "b": [0], "c": [1]}, subjects={"a": "Algebra", "b": "Algebra", "c": "Geometry"})
    )
    assert by_metric(rows, "Algebra")["accuracy"]["value"] == 0.5
    assert by_metric(rows, "Geometry")["accuracy"]["problems"] == 1


def test_the_interval_is_over_problems_not_samples():
    few = columns({str(i): [i % 2] for i in range(20)})
    many = columns({str(i): [i % 2] * 8 for i in range(20)})
    widths = [by_metric(metrics.summarise(c))["accuracy"] for c in (few, many)]
    assert widths[0]["high"] - widths[0]["low"] == pytest.approx(widths[1]["high"] - widths[1]["low"])


def test_bootstrap_interval_covers_the_mean_about_95_times_in_100():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        values = rng.choice([0, 0.25, 0.5, 1], size=(60, 1), p=[0.4, 0.2, 0.2, 0.2])
        _, low, high = metrics.with_intervals(values, seed=trial)
        covered += low[0] <= 0.35 <= high[0]
    assert 0.89 <= covered / 200 <= 0.99


def test_a_gain_is_split_into_format_and_reasoning():
    before = columns(
        {i: [s] for i, s in zip("abcd", [1, 0, 0, 0], strict=True)},
        reasons=["correct", "wrong", "no_answer", "no_answer"],
    )
    after = columns({i: [s] for i, s in zip("abcd", [1, 1, 1, 0], strict=True)}, reasons=["correct"] * 3 + ["wrong"])
    parts = {name: value for name, (value, _, _) in metrics.split_gain(before, after).items()}
    # Parsable 1/2 -> 1, right among those 1/2 -> 3/4.
    assert parts == pytest.approx({"gain": 1 / 2, "format": 1 / 2 * 5 / 8, "reasoning": 1 / 4 * 3 / 4})


def test_more_boxes_with_equal_accuracy_among_them_are_all_format():
    before = columns({"a": [1], "b": [0], "c": [0], "d": [0]}, reasons=["correct", "wrong", "no_answer", "no_answer"])
    after = columns({"a": [1], "b": [0], "c": [1], "d": [0]}, reasons=["correct", "wrong", "correct", "wrong"])
    parts = metrics.split_gain(before, after)
    assert parts["format"][0] == pytest.approx(parts["gain"][0]) and parts["reasoning"][0] == 0
