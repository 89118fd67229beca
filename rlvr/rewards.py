"""The reward verl calls for every response: `outcome` (is the answer right) or `format` (is there an answer at all).

Whatever the reward is, the outcome is reported beside it, so that training accuracy means the same in every run.
"""

from rlvr.grading import grade, last_boxed

RULES = ("outcome", "format")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict | None = None,
    *,
    rule: str = "outcome",
) -> dict:
    """verl's reward signature. Returns score (the reward), acc (the outcome), reason and boxed.

    `solution_str` is the response without the prompt. Evaluation rows (split "test") are always scored by outcome.
    """
    outcome, reason = grade(solution_str, ground_truth)
    boxed = last_boxed(solution_str) is not None
    test = (extra_info or {}).get("split") == "test"
    # The paper's format reward asks for an answer that can be parsed, right or wrong (section 3.1, appendix C.2.3).
    reward = outcome if rule == "outcome" or test else float(reason in ("correct", "wrong"))
    return {"score": reward, "acc": outcome, "reason": reason, "boxed": boxed}
