"""Which labels an answer can match: what is taken, what is rewritten with a note, what is refused."""

import re

import pytest

from rlvr.cli import DataError
from rlvr.grading import check_labels, grade
from rlvr.grading.label_check import natural_spellings


@pytest.mark.parametrize(
    ("label", "answers"),
    [
        ("12 500", ["12500", "12,500", "12 500"]),
        ("5cm", ["5", "5\\text{ cm}", "5 cm"]),
        ("40 cm", ["40", "40\\text{ centimeters}"]),
        ("12 apples", ["12", "12\\text{ apples}"]),
        ("45 degrees", ["45", "45^\\circ", "45°"]),
        ("€5", ["5", "5\\text{ euros}"]),
        ("\\$23{,}000", ["23000", "23,000"]),
        ("1 1/2", ["1.5", "\\frac{3}{2}", "3/2"]),
        ("½", ["0.5", "1/2", "\\frac12"]),
        ("√2", ["\\sqrt{2}", "\\sqrt2"]),
        ("１２", ["12"]),
        ("–3", ["-3"]),
        ("2pi", ["2\\pi", "2π"]),
        ("B", ["(B)", "B.", "\\textbf{(B)}", "Option B"]),
        ("1210_5", ["1210", "(1210)_5"]),
        ("50%", ["50", "50\\%", "50 percent"]),
        ("0.\\overline{3}", ["1/3"]),
    ],
)
def test_a_label_that_natural_answers_match_is_taken_as_it_is(label, answers):
    assert check_labels([label]) == [(label, "")]
    for answer in [*answers, *natural_spellings(label)]:
        assert grade(f"\\boxed{{{answer}}}", label)[0] == 1, answer


@pytest.mark.parametrize(
    ("label", "rewritten", "answers"),
    [
        ("1.234,50", "1234.50", ["1234.5", "1,234.50"]),
        ("€1.234.567,8", "€1234567.8", ["1234567.8"]),
        ("12 m^2", "12\\text{ m}^2", ["12", "12m^2", "12\\text{ square meters}"]),
        ("5 m/s", "5\\text{ m/s}", ["5", "5 meters per second"]),
    ],
)
def test_a_label_that_only_another_spelling_can_match_is_rewritten_with_a_note(label, rewritten, answers):
    (checked,) = check_labels([label])
    assert checked.label == rewritten
    assert repr(label) in checked.note and repr(rewritten) in checked.note
    assert [answer for answer in answers if not grade(f"\\boxed{{{answer}}}", rewritten)[0]] == []


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("3,5", r"'3,5': a decimal or two numbers\? Write '3.5' for the decimal, '3, 5' for the numbers"),
        ("-0,25", "a decimal or two numbers"),
        ("1,5 cm", "a decimal or two numbers"),
        ("１，５", "a decimal or two numbers"),
        ("12 500,5", "a decimal or two numbers"),
        ("(A) 12", r"'\(A\) 12': a letter and its text: write the letter 'A' alone"),
        ("A. a magnet", "a letter and its text"),
        ("\\frac{1}{2", "braces do not match"),
        (" ", "is empty"),
    ],
)
def test_a_label_with_two_meanings_is_refused(label, problem):
    (error,) = check_labels([label])
    assert isinstance(error, DataError) and re.search(problem, str(error))
