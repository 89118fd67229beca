"""Does the first step of a run show a mistake? If every response earns the same reward, nothing is learnt. If the cause is a
mistake in the set-up and not a hard problem, the run ends after its first step (`scale.fail_fast`).
"""

from collections.abc import Mapping, Sequence


class FirstStepError(RuntimeError):
    """The first step shows a mistake in the set-up. The message is one line with the cause and the key to change."""


def check(columns: Mapping[str, Sequence]) -> None:
    """Raises FirstStepError if all rewards are equal because no response could have earned another one.

    `columns` are those of rlvr.runs.samples for one step. A problem that is too hard (every answer readable and
    wrong) or too easy is not a mistake: the paper trains on such examples too (pi1207, pi1208).
    """
    if len(set(columns["reward"])) > 1:
        return
    responses = len(columns["reward"])
    same = f"step 1: all {responses} rewards are {columns['reward'][0]:g}"
    if all(columns["truncated"]):
        raise FirstStepError(
            f"{same} and every response was cut off at {max(columns['response_tokens'])} tokens: raise "
            "scale.max_response_tokens (scale.fail_fast=false trains all the same)"
        )
    reasons = set(columns["reason"])
    if reasons == {"no_answer"}:
        raise FirstStepError(
            f"{same} and no response has an answer in \\boxed{{}}: is base_model.template right for base_model.path? "
            "(scale.fail_fast=false trains all the same)"
        )
    if reasons <= {"no_answer", "unparsable", "timeout", "error"}:
        labels = sorted(set(columns["gold"]))
        raise FirstStepError(
            f"{same} and no answer could be compared with the label {labels[0]!r}"
            f"{f' or {len(labels) - 1} others' if len(labels) > 1 else ''}: does it parse? See label in conf/config.yaml "
            "(scale.fail_fast=false trains all the same)"
        )
