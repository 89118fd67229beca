"""The reward function that verl calls for every response. It returns the reward and every other column that is stored.

rlvr.grading.reward_rules has the rules. With every rule the outcome is reported too, so that training accuracy means the
same in every run. Evaluation is always scored by outcome.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rlvr.evaluate.graded_rows import grade
from rlvr.grading.reward_rules import GradedResponse, Options, rule_named
from rlvr.verl_torch import stop_texts


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict | None = None, **rules: Any
) -> dict:
    """verl's reward signature: `compute_scores` of one response."""
    return compute_scores([data_source], [solution_str], [ground_truth], [extra_info or {}], **rules)[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str],
    extra_infos: Sequence[dict],
    *,
    rule: str = "outcome",
    grader: str = "math_verify",
    **options: Any,
) -> list[dict]:
    """For each response: score (the reward, in verl's words), acc (the outcome), response (the text up to its first stop text),
    stopped (whether it had one), and the other columns of `rlvr.evaluate.graded_rows.grade`.

    Responses come without their prompts. A row of split "test" is scored by outcome, with the grader of its protocol. `rule` and
    `options`: rlvr.grading.reward_rules.
    """
    how = Options(**options)
    reward = rule_named(rule, how)
    texts = [stop_texts.cut(s, stop_texts.of_row(i)) for s, i in zip(solution_strs, extra_infos, strict=True)]
    testing = [info.get("split") == "test" for info in extra_infos]
    of_grader: dict[str, list[int]] = defaultdict(list)
    for i, info in enumerate(extra_infos):
        of_grader[info.get("grader", grader) if testing[i] else grader].append(i)
    rows: list[dict] = [{}] * len(texts)
    for name, places in of_grader.items():
        graded = grade(name, [texts[i] for i in places], [ground_truths[i] for i in places])
        for i, row in zip(places, graded, strict=True):
            outcome = row.pop("score")
            given = GradedResponse(texts[i], ground_truths[i], extra_infos[i], outcome, row["reason"])
            score = outcome if testing[i] else reward(how, given)
            cut = {"response": texts[i], "stopped": texts[i] != solution_strs[i]}
            rows[i] = {"score": score, "acc": outcome, **cut, **row}
    return rows


compute_score.batch = compute_scores  # type: ignore[attr-defined]  # the batched agent loop's entry
