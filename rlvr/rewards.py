"""The reward verl calls for every response: `outcome` (is the answer right) or `format` (is there an answer at all).

Whatever the reward is, the outcome and its reason are reported beside it, so that training accuracy means the same in
every run and a failing grader shows.
"""

from collections.abc import Sequence

from rlvr.grading import grade_many, last_boxed

RULES = ("outcome", "format")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict | None = None,
    *,
    rule: str = "outcome",
    grader: str = "math_verify",
) -> dict:
    """verl's reward signature. Returns score (the reward), acc (the outcome), reason and boxed.

    `solution_str` is the response without the prompt. Evaluation rows (split "test") are always scored by outcome.
    `grader` is one of `rlvr.grading.GRADERS`.
    """
    return compute_scores(
        [data_source], [solution_str], [ground_truth], [extra_info or {}], rule=rule, grader=grader
    )[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str],
    extra_infos: Sequence[dict],
    *,
    rule: str = "outcome",
    grader: str = "math_verify",
) -> list[dict]:
    """`compute_score` for a batch: equal answers are judged once, the others side by side."""
    rows = []
    for text, info, (outcome, reason) in zip(
        solution_strs, extra_infos, grade_many(solution_strs, ground_truths, grader), strict=True
    ):
        # The paper's format reward asks for an answer that can be parsed, right or wrong (section 3.1, appendix C.2.3).
        by_outcome = rule == "outcome" or (info or {}).get("split") == "test"
        reward = outcome if by_outcome else float(reason in ("correct", "wrong"))
        rows.append(
            {"score": reward, "acc": outcome, "reason": reason, "boxed": last_boxed(text) is not None}
        )
    return rows


# The agent loop scores a whole batch with this where a reward function offers it.
compute_score.batch = compute_scores  # type: ignore[attr-defined]
