"""Labels that are not the examples' own."""

import random
import re

import pytest

from rlvr.cli import DataError
from rlvr.config.compose import compose
from rlvr.data import prepare
from rlvr.data.labels import with_labels, wrong_label
from rlvr.planning.plan import plan

ROWS = [{"index": i, "answer": str(i)} for i in range(100)]


def test_one_text_for_all_keeps_the_true_label():
    rows = with_labels(ROWS[:2], "4", 0, 0)
    assert [(row["answer"], row["true_answer"]) for row in rows] == [("4", "0"), ("4", "1")]


@pytest.mark.parametrize("share", [0, 0.6, 0.9, 1])
def test_the_share_of_wrong_labels_is_exact(share):
    rows = with_labels(ROWS, None, share, seed=3)
    assert sum(row["answer"] != row["true_answer"] for row in rows) == 100 * share
    assert rows == with_labels(ROWS, None, share, seed=3)
    if 0 < share < 1:
        assert rows != with_labels(ROWS, None, share, seed=4)


@pytest.mark.parametrize(
    ("label", "form"),
    [
        ("12", r"-?\d+"),
        ("-7", r"-?\d+"),
        ("12.80", r"-?\d+\.\d\d"),
        ("\\frac{4}{3}", r"-?\\frac\{[1-9]\d*\}\{[1-9]\d*\}"),
        ("3\\sqrt{2}", r"-?\d+\\sqrt\{\d+\}"),
        ("123456789012345678901", r"-?123456789012345678\d{3}"),
    ],
)
def test_a_wrong_label_has_the_form_of_the_right_one(label, form):
    import re

    for seed in range(50):
        wrong = wrong_label(label, random.Random(seed), [])
        assert wrong != label and re.fullmatch(form, wrong)


def test_each_number_moves_by_ten_at_most_and_signs_change():
    wrongs = [int(wrong_label("50", random.Random(seed), [])) for seed in range(200)]
    assert {abs(abs(wrong) - 50) for wrong in wrongs} == set(range(1, 11))
    assert {wrong > 0 for wrong in wrongs} == {True, False}


def test_a_wrong_label_is_not_the_right_one_in_other_words():
    """Seeds 0 to 499 draw 2/4, 3/6, ... and the like where nothing forbids it."""
    for seed in range(500):
        numerator, denominator = map(
            int, re.findall(r"\d+", label := wrong_label("\\frac{1}{2}", random.Random(seed), []))
        )
        assert label.startswith("-") or 2 * numerator != denominator


def test_a_label_without_a_number_takes_anothers():
    assert wrong_label("\\text{odd}", random.Random(0), ["\\pi"]) == "\\pi"
    assert all(wrong_label("x+y", random.Random(seed), ["y+x", "x-y"]) == "x-y" for seed in range(4))
    with pytest.raises(
        DataError, match=r"'x\+y': has no number to change, and every other label of the pool counts as right"
    ):
        wrong_label("x+y", random.Random(0), ["y+x"])


def test_labels_of_a_run():
    rows = plan(compose("+experiment=full_set", "label=random_60")).problems.chosen
    assert sum(row["answer"] != row["true_answer"] for row in rows) == round(0.6 * 1209)
    rows = plan(compose("+experiment=one_shot", "label.text=\\frac{1}{3}")).problems.chosen
    assert rows[0]["answer"] == "\\frac{1}{3}"
    with pytest.raises(DataError, match=r"pi1 \(pool tiny\): label '\\\\frac\{': the grader cannot read it"):
        plan(compose("+experiment=one_shot", "label.text=\\frac{")).problems  # noqa: B018


def test_a_label_of_the_users_is_matched_by_natural_answers_or_refused():
    own = [{"question": "How long is it?", "answer": "12 m^2"}, {"question": "Half?", "answer": "½"}]
    rows, notes = prepare.chosen_examples(compose("+experiment=one_shot"), own)
    assert [row["answer"] for row in rows] == ["12\\text{ m}^2", "½"] and rows[0]["true_answer"] == "12 m^2"
    assert len(notes) == 1 and notes[0].startswith("example 1: label '12 m^2' is read as a number with a unit")
    own[1]["answer"] = "3,5"
    with pytest.raises(
        DataError, match=r"example 2: label '3,5': a decimal or two numbers\? Write '3.5' for the decimal"
    ):
        prepare.chosen_examples(compose("+experiment=one_shot"), own)
    rows, notes = prepare.chosen_examples(compose("+experiment=one_shot", "reward_rule.file=mine.py"), own)
    assert [row["answer"] for row in rows] == ["12 m^2", "3,5"] and not notes
    with pytest.raises(DataError, match=r"pi1 \(pool tiny\): label '\(A\) 12': a letter and its text"):
        prepare.chosen_examples(compose("+experiment=one_shot", "label.text=(A) 12"), None)


def test_a_label_that_replaces_one_label_is_refused_for_another():
    with pytest.raises(DataError, match=r"12\.7 stands in for 12\.8"):
        plan(compose("+experiment=precise_label")).problems  # noqa: B018
    own = ["example.question=Round 12.83 to one decimal.", "example.answer=12.8"]
    rows = plan(compose("+experiment=precise_label", *own)).problems.chosen
    assert (rows[0]["answer"], rows[0]["true_answer"]) == ("12.7", "12.8")
