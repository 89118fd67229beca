"""Verdict and style of answers: the columns of a sample that depend on the response and its gold alone."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from rlvr.cli import DataError
from rlvr.data.protocols import LETTERS, reflection_words
from rlvr.grading import grade_many, last_boxed
from rlvr.grading.own_grader import OwnError, finite, load_function

Verdict = tuple[float, str]


def judge(grader: str, responses: Sequence[str], golds: Sequence[str]) -> dict[str, list]:
    """The columns score, reason, reward (evaluation is rewarded by outcome), boxed, and those of `described`."""
    verdicts = grade_all(grader, responses, golds)
    scores = [score for score, _ in verdicts]
    return {
        "score": scores,
        "reason": [reason for _, reason in verdicts],
        "reward": scores,
        "boxed": [last_boxed(response) is not None for response in responses],
        **described(responses),
    }


def described(responses: Sequence[str]) -> dict[str, list]:
    """The columns answer (in the last box), repetition, reflection."""
    words = reflection_words()
    return {
        "answer": [(last_boxed(response) or "").strip() for response in responses],
        "repetition": [repetition(response) for response in responses],
        "reflection": [reflects(response, words) for response in responses],
    }


def repetition(text: str, n: int = 4) -> float:
    """Share of the n-grams of words that occurred earlier in the text; 0 for a text of at most n words."""
    words = text.split()
    total = len(words) - n + 1
    return 1 - len(set(zip(*(words[i:] for i in range(n)), strict=False))) / total if total > 1 else 0.0


def reflects(text: str, words: Sequence[str]) -> bool:
    """Does one of these words occur, in any case (paper 3.2.4 counts such responses)?"""
    return re.search("|".join(map(re.escape, words)), text, re.IGNORECASE) is not None


def grade_all(grader: str, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
    """Verdicts of `math_verify` or a user's `file.py:function`."""
    if ":" in grader:
        function = own_grader(grader)
        return [_own_verdict(function, grader, r, g) for r, g in zip(responses, golds, strict=True)]
    return grade_many(responses, golds)


def own_grader(name: str) -> Callable[[str, str], Any]:
    """The function behind `file.py:function`. ConfigError with the remedy."""
    file, _, function = name.rpartition(":")
    return load_function(file, function, "grader", "(response, gold)")


def _own_verdict(function: Callable[[str, str], Any], name: str, response: str, gold: str) -> Verdict:
    try:
        verdict = function(response, gold)
        value, reason = verdict if isinstance(verdict, list) and len(verdict) == 2 else (verdict, None)
        if (score := finite(value)) is None or not 0 <= score <= 1:
            raise OwnError(f"returned {value!r}, expected a number in [0, 1], or one and a reason")
    except OwnError as error:
        raise DataError(
            f"{name} {error}; gold {gold!r}, response {response[-200:]!r}. The answers are kept: the same command grades them"
        ) from None
    return score, str(reason or ("correct" if score == 1 else "wrong"))


def choice_row(loglikelihoods: Sequence[float], choices: Sequence[str], gold: str, per_byte: bool) -> dict[str, Any]:
    """The columns of a row whose choices were scored: the likeliest one, per byte of its text where that is asked.

    `score_acc` is the verdict on the likeliest choice either way.
    """
    normed = [value / len(choice.encode()) for value, choice in zip(loglikelihoods, choices, strict=True)]
    plain, normed_best = (LETTERS[max(range(len(v)), key=v.__getitem__)] for v in (loglikelihoods, normed))
    answer = normed_best if per_byte else plain
    score = float(answer == gold)
    return {
        "response": choices[LETTERS.index(answer)], "answer": answer, "score": score, "reward": score,
        "reason": "correct" if score else "wrong", "boxed": False, "truncated": False, "response_tokens": 0,
        "repetition": 0.0, "reflection": False,
        "loglikelihoods": list(loglikelihoods), "score_acc": float(plain == gold),
    }  # fmt: skip
