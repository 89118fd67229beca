"""Is the answer in this response right? `grade(response, gold) -> (score, reason)`.

1. The answer is the last complete box, or the list that the last boxes form (`extract.py`). `normalise.py` gives it one
   spelling, and Math-Verify judges it. `equal_answers` groups answers of equal value. `check_labels` says whether answers in
   natural spellings can match a label (`label_check.py`).
2. Equal strings and plain numbers are decided here. Worker processes judge all other answers; a worker is killed when an
   answer takes too much time or memory (`workers.py`). Nothing here imports sympy.
3. If the grader fails, the reason says so (`timeout`, `error`); a failure is never reported as `wrong`.
"""

from rlvr.grading.extract import BoxedResponse, last_boxed
from rlvr.grading.graders import GRADERS, PARSED, REASONS, UNGRADED, equal_answers, grade, grade_many, grader_named
from rlvr.grading.label_check import check_labels

__all__ = [
    "GRADERS", "PARSED", "REASONS", "UNGRADED", "BoxedResponse", "check_labels", "equal_answers", "grade", "grade_many",
    "grader_named", "last_boxed",
]  # fmt: skip
