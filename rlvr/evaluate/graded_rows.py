"""From a response to a stored row: `grade` gives all columns that depend only on the response and its gold.

Training calls it for the reward (rlvr.training.rewards), evaluation once the answers are stored.
"""

import re
from collections.abc import Sequence
from typing import Any

from rlvr.data.protocols import LETTERS, reflection_words
from rlvr.grading import BoxedResponse, grader_named


def grade(grader: str, responses: Sequence[str], golds: Sequence[str]) -> list[dict[str, Any]]:
    """For each response: score, reason, answer (in the last box), boxed, repetition and reflection, as in rlvr.runs.samples.

    `grader` is one of rlvr.grading.GRADERS or a user's `file.py:function`.
    """
    read, words = [BoxedResponse.read(response) for response in responses], reflection_words()
    return [
        {
            "score": verdict.score,
            "reason": verdict.reason,
            "answer": (response.last_box or "").strip(),
            "boxed": response.last_box is not None,
            "repetition": repetition(response.text),
            "reflection": reflects(response.text, words),
        }
        for response, verdict in zip(read, grader_named(grader)(read, golds), strict=True)
    ]


def repetition(text: str, n: int = 4) -> float:
    """Share of the word n-grams that occurred earlier in the text; 0 for a text of at most n words."""
    words = text.split()
    total = len(words) - n + 1
    return 1 - len(set(zip(*(words[i:] for i in range(n)), strict=False))) / total if total > 1 else 0.0


def reflects(text: str, words: Sequence[str]) -> bool:
    """Does the text contain one of these words, in upper or lower case (paper 3.2.4 counts such responses)?"""
    return re.search("|".join(map(re.escape, words)), text, re.IGNORECASE) is not None


def choice_row(loglikelihoods: Sequence[float], choices: Sequence[str], gold: str, per_byte: bool) -> dict[str, Any]:
    """The columns of a row whose choices were scored. The answer is the most likely choice, or the most likely `per_byte`.

    `score_acc` is 1 if the most likely choice, not per byte, is right.
    """
    normed = [value / len(choice.encode()) for value, choice in zip(loglikelihoods, choices, strict=True)]
    best, best_per_byte = (LETTERS[max(range(len(v)), key=v.__getitem__)] for v in (loglikelihoods, normed))
    answer = best_per_byte if per_byte else best
    score = float(answer == gold)
    return {
        "response": choices[LETTERS.index(answer)], "answer": answer, "score": score, "reward": score,
        "reason": "correct" if score else "wrong", "boxed": False, "truncated": False, "response_tokens": 0,
        "repetition": 0.0, "reflection": False,
        "loglikelihoods": list(loglikelihoods), "score_acc": float(best == gold),
    }  # fmt: skip
