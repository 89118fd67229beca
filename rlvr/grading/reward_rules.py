"""The reward rules: one function for each, and the user's own.

    outcome  1 for a right final answer (paper §2)
    format   1 for any final answer that can be parsed, right or wrong (paper §3.1, C.2.3)
    random   1 with a fixed probability, whatever was answered
    majority 1 for the answer that most of this step's responses to the example give, whatever its label (TTRL, arXiv
             2504.16084); it needs all responses of a step, so the trainer sets it (`vote`)
    your own `reward_rule.file=my_reward.py`, a file with

        def reward(response: str, label: str, info: dict) -> float:

`response` is the text without the prompt, `label` the training label, `info` the row's extra_info (`index` in the pool).
It returns a finite number. It runs in a process of its own, with 30 s for each call. If it raises or takes longer, the run
ends with an error that names the response.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rlvr.cli import ConfigError
from rlvr.grading.graders import PARSED, equal_answers
from rlvr.grading.user_function import UserFunctionError, finite, load_function

_unkeyed = random.Random()


class GradedResponse(NamedTuple):
    """The input of a rule: the response, the row's label and extra_info, and the outcome with its reason."""

    text: str
    label: str
    info: dict
    score: float
    reason: str


class Options(NamedTuple):
    """`probability` and `seed` belong to the random reward, `file`, `function` and `seconds` (of one call) to the user's own."""

    probability: float = 0.5
    seed: int = 0
    file: str | None = None
    function: str = "reward"
    seconds: float | None = None


Rule = Callable[[Options, GradedResponse], float]


def _random(options: Options, given: GradedResponse) -> float:
    """Drawn by the sample's key, so that a run can be repeated. verl's own agent loop gives no key."""
    if (key := given.info.get("sample_key")) is None:
        return float(_unkeyed.random() < options.probability)
    digest = hashlib.blake2b(f"{options.seed}:{key}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64 < options.probability)


def _users(options: Options, given: GradedResponse) -> float:
    file, arguments = str(options.file), "(response, label, info)"
    reward = load_function(file, options.function, "reward_rule.file", arguments, options.seconds)
    try:
        returned = reward(given.text, given.label, given.info)
        if (value := finite(returned)) is None:
            raise UserFunctionError(f"returned {returned!r}, expected a finite number")
    except UserFunctionError as error:
        shown = f"label {given.label!r}, response {given.text[:200]!r}"
        raise ConfigError(f"{file}:{options.function} {error}; {shown}") from None
    return value


RULES: dict[str, Rule] = {
    "outcome": lambda options, given: given.score,
    "format": lambda options, given: float(given.reason in PARSED),
    "random": _random,
    "majority": lambda options, given: 0.0,
}


def rule_named(name: str, options: Options) -> Rule:
    """One of RULES, or the user's own if `options.file` names a file."""
    return _users if options.file else RULES[name]


def vote(answers: Sequence[str], examples: Sequence[str]) -> list[float]:
    """The majority reward, "responses". Equal answers are counted together, empty ones not at all; of a tie the first wins."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        places[example].append(i)
    rewards = [0.0] * len(answers)
    for rows in places.values():
        classes = equal_answers([answers[i] for i in rows])
        votes = Counter(number for number in classes if number >= 0)
        chosen = max(votes, key=lambda number: (votes[number], -number), default=None)
        for i, number in zip(rows, classes, strict=True):
            rewards[i] = float(number == chosen)
    return rewards
