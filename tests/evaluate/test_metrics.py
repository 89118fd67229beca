"""Metrics against numbers worked out by hand."""

import io

import numpy as np
import pytest
from rich.console import Console

from rlvr.data.protocols import reflection_words
from rlvr.evaluate import graded_rows, metrics, summary


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


def test_equal_answers_vote_together_however_they_are_spelt():
    rows = metrics.summarise(columns({"p": [1, 1, 0, 0, 0]}, answers=["1/2", r"\frac12", "3", "3", "4"]))
    # 1/2 has two votes in two spellings, 3 has two: a tie, half of it right.
    assert by_metric(rows)["maj@5"]["value"] == 0.5


def test_repetition_counts_four_grams_seen_before():
    assert graded_rows.repetition("a b c d e f") == 0
    assert graded_rows.repetition("a b c d a b c d") == pytest.approx(1 / 5)  # the fifth window is the first again
    assert graded_rows.repetition("no no no no no no") == pytest.approx(2 / 3)


def test_reflection_words_in_any_case():
    assert graded_rows.reflects("Let me Recheck this.", reflection_words())
    assert not graded_rows.reflects("check again", reflection_words())
    assert graded_rows.reflects("wait", ["wait"])


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


def test_problems_with_more_answers_than_others_are_refused():
    with pytest.raises(ValueError, match="3 answers to 2 problems"):
        metrics.summarise(columns({"a": [1, 0], "b": [1]}))
    with pytest.raises(ValueError, match="4 answers to 2 problems"):
        metrics.summarise(columns({"a": [1, 0, 1], "b": [1]}))


def test_a_gain_is_split_into_format_and_reasoning():
    before = columns(
        {i: [s] for i, s in zip("abcd", [1, 0, 0, 0], strict=True)},
        reasons=["correct", "wrong", "no_answer", "no_answer"],
    )
    after = columns({i: [s] for i, s in zip("abcd", [1, 1, 1, 0], strict=True)}, reasons=["correct"] * 3 + ["wrong"])
    parts = {name: part.value for name, part in metrics.split_gain(before, after).items()}
    # Parsable 1/2 -> 1, right among those 1/2 -> 3/4.
    assert parts == pytest.approx({"gain": 1 / 2, "format": 1 / 2 * 5 / 8, "reasoning": 1 / 4 * 3 / 4})


def test_more_boxes_with_equal_accuracy_among_them_are_all_format():
    before = columns({"a": [1], "b": [0], "c": [0], "d": [0]}, reasons=["correct", "wrong", "no_answer", "no_answer"])
    after = columns({"a": [1], "b": [0], "c": [1], "d": [0]}, reasons=["correct", "wrong", "correct", "wrong"])
    parts = metrics.split_gain(before, after)
    assert parts["format"].value == pytest.approx(parts["gain"].value) and parts["reasoning"].value == 0


def test_a_paired_gain_by_hand():
    """10 problems, 4 won and 1 lost: with half an observation in each cell, 4.5 and 1.5 of 12."""
    ids = [f"p{i}" for i in range(10)]
    before = {"id": ids, "score": np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 0], float)}
    after = {"id": ids[::-1], "score": np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0], float)[::-1]}
    gain = metrics.paired_gain(before, after)
    centre, variance = 3 / 12, (6 / 12 - (3 / 12) ** 2) / 12
    assert gain.value == pytest.approx(0.3)
    assert (gain.low, gain.high) == pytest.approx(
        [centre - 1.959964 * variance**0.5, centre + 1.959964 * variance**0.5]
    )
    few = {"id": ids[:2], "score": np.ones(2)}
    assert metrics.paired_gain(few | {"score": np.zeros(2)}, few).low < 0  # two of two prove nothing
    assert metrics.paired_gain(before, after, 0.8).low > gain.low
    with pytest.raises(ValueError, match="share no problem"):
        metrics.paired_gain(before, {"id": ["x"], "score": np.ones(1)})


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_screen_loses_columns_and_no_number_is_cut(width):
    cells = ["validation", "20", "500", "60.6 (56.3–64.8)", "89.2", "11.0", "50", "0.09", "10,500", "0.0741"]
    screen = Console(width=width, record=True, file=io.StringIO())
    screen.print(summary.fitting(summary.COLUMNS, [cells], screen))
    head, row = screen.export_text().splitlines()
    assert "…" not in head + row and "60.6 (56.3–64.8)" in row
    assert ("s/answer" in head) == (width == 120)
