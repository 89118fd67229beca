"""The reward verl calls for every response.

    outcome  1 for a right final answer (paper §2)
    format   1 for any final answer that can be parsed, right or wrong (paper §3.1, C.2.3)
    random   1 with a fixed probability, whatever was answered
    majority 1 for the answer that most of this step's responses to the example give, whatever its label (TTRL, arXiv
             2504.16084); one response alone has none, so the trainer sets it (`vote`)
    your own `reward_rule.file=my_reward.py`, a file with

        def reward(response: str, label: str, info: dict) -> float:

`response` is the text without the prompt, `label` the training label, `info` the row's extra_info (`index` in the pool).
It returns a finite number. It runs in a process of its own, 30 s for one call; what it raises, and what takes longer, ends the
run with the response that caused it.
Whatever the reward is, the outcome is reported beside it, so that training accuracy means the same in every run;
evaluation is always scored by outcome.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from rlvr.cli import ConfigError
from rlvr.evaluate.graded_rows import grade_all
from rlvr.grading import equal_answers, last_boxed
from rlvr.grading.own_grader import OwnError, finite, load_function
from rlvr.verl_torch import stop_texts

RULES = ("outcome", "format", "random", "majority")
PARSED = ("correct", "wrong")  # the reasons that say an answer could be read

Reward = Callable[[str, str, dict], float]


class RewardError(ConfigError):
    """A user's reward that raised or returned no number; the message holds the response that it was given."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict | None = None,
    *,
    rule: str = "outcome",
    **rules,
) -> dict:
    """verl's reward signature. Returns score (the reward), acc (the outcome), reason and boxed.

    `solution_str` is the response without the prompt; a row of split "test" is scored by outcome. For the keywords see
    `compute_scores`.
    """
    return compute_scores([data_source], [solution_str], [ground_truth], [extra_info or {}], rule=rule, **rules)[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str],
    extra_infos: Sequence[dict],
    *,
    rule: str = "outcome",
    grader: str = "math_verify",
    probability: float = 0.5,
    file: str | None = None,
    function: str = "reward",
    seconds: float | None = None,
    seed: int = 0,
) -> list[dict]:
    """`compute_score` for a batch: equal answers are judged once, the others side by side.

    `grader` is one of `rlvr.grading.GRADERS`; `probability` and `seed` belong to the random reward, `file`, `function`
    and `seconds` (of one call) to the user's own.
    """
    rows = []
    solution_strs = [stop_texts.cut(s, stop_texts.of_row(i)) for s, i in zip(solution_strs, extra_infos, strict=True)]
    verdicts = _verdicts(solution_strs, ground_truths, extra_infos, grader)
    for text, label, info, (outcome, reason) in zip(solution_strs, ground_truths, extra_infos, verdicts, strict=True):
        if info.get("split") == "test":
            reward = outcome
        elif file is not None:
            own = load_function(file, function, "reward_rule.file", "(response, label, info)", seconds)
            reward = _own(own, f"{file}:{function}", text, label, info)
        elif rule == "format":
            reward = float(reason in PARSED)
        elif rule == "random":
            reward = float(_uniform(seed, info) < probability)
        elif rule == "majority":
            reward = 0.0
        else:
            reward = outcome
        boxed = last_boxed(text) is not None
        rows.append({"score": reward, "acc": outcome, "reason": reason, "boxed": boxed})
    return rows


def vote(responses: Sequence[str], examples: Sequence[str]) -> list[float]:
    """The majority reward: equal answers are one vote, of equally many the first given counts; no answer, no vote."""
    answers: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        answers[example].append(i)
    rewards = [0.0] * len(responses)
    for rows in answers.values():
        classes = equal_answers([last_boxed(responses[i]) for i in rows])
        votes = Counter(number for number in classes if number >= 0)
        chosen = max(votes, key=lambda number: (votes[number], -number), default=None)
        for i, number in zip(rows, classes, strict=True):
            rewards[i] = float(number == chosen)
    return rewards


def _verdicts(
    texts: Sequence[str], labels: Sequence[str], infos: Sequence[dict], grader: str
) -> list[tuple[float, str]]:
    """Training rows by `grader`, test rows by the one of their protocol; equal graders in one batch."""
    graders = [info.get("grader", grader) if info.get("split") == "test" else grader for info in infos]
    verdicts: list[tuple[float, str]] = [(0.0, "error")] * len(texts)
    for name in set(graders):
        rows = [i for i, own in enumerate(graders) if own == name]
        found = grade_all(name, [texts[i] for i in rows], [labels[i] for i in rows])
        for i, verdict in zip(rows, found, strict=True):
            verdicts[i] = verdict
    return verdicts


compute_score.batch = compute_scores  # type: ignore[attr-defined]  # the batched agent loop's entry


def _own(reward: Reward, name: str, response: str, label: str, info: dict) -> float:
    try:
        given = reward(response, label, info)
        if (value := finite(given)) is None:
            raise OwnError(f"returned {given!r}, expected a finite number")
    except OwnError as error:
        raise RewardError(f"{name} {error}; label {label!r}, response {response[:200]!r}") from None
    return value


_unkeyed = random.Random()


def _uniform(seed: int, info: dict) -> float:
    """In [0, 1): of the sample's own key, so that a run repeats itself; verl's own agent loop gives none."""
    if (key := info.get("sample_key")) is None:
        return _unkeyed.random()
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
