"""Is the answer in this response right? `grade(response, gold) -> (score, reason)`.

1. The answer is the last complete box, or the list that the last boxes spell out (`extract.py`), its spelling
   normalised (`normalise.py`), judged by Math-Verify. `equal_answers` sorts answers into classes of equal value.
   `check_label` says whether natural spellings of a label can match it (`label_check.py`).
2. Equal strings and plain numbers are decided here. All else goes to worker processes that are killed when an answer
   uses more than its time or memory (`workers.py`); nothing here imports sympy.
3. A failure of the grader is a reason of its own (`timeout`, `error`), never a silent wrong answer.
"""

from rlvr.grading.extract import BoxedResponse, last_boxed
from rlvr.grading.graders import GRADERS, REASONS, equal_answers, grade, grade_many, grader_named
from rlvr.grading.label_check import CheckedLabel, check_label, check_labels, natural_spellings

__all__ = [
    "GRADERS",
    "REASONS",
    "BoxedResponse",
    "CheckedLabel",
    "check_label",
    "check_labels",
    "equal_answers",
    "grade",
    "grade_many",
    "grader_named",
    "last_boxed",
    "natural_spellings",
]
