"""Is the answer in this response right? `grade(response, gold) -> (score, reason)`, by one of two named graders.

    python -m rlvr.grading run=runs/tiny/tiny/one_shot/seed0     # where the two graders differ on a run's responses

1. `math_verify` (default): the last complete box, or the list that the last boxes spell out (`extract.py`), spelling
   normalised (`normalise.py`), judged by Math-Verify. `authors`: the authors' reward restated (`authors.py`).
   `equal_answers` sorts answers into classes of equal value, by either.
2. Equal strings and plain numbers are decided here. All else goes to worker processes that are killed when an answer
   uses more than its time or memory (`workers.py`); nothing here imports sympy.
3. A failure of the grader is a reason of its own (`timeout`, `error`), never a silent wrong answer.
"""

from rlvr.grading.extract import last_boxed
from rlvr.grading.graders import GRADERS, REASONS, disagreement, equal_answers, grade, grade_many

__all__ = ["GRADERS", "REASONS", "disagreement", "equal_answers", "grade", "grade_many", "last_boxed"]
