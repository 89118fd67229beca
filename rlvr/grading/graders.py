"""From a response and a label to a verdict. Plain cases are decided here, the others in a worker."""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

from rlvr.grading.extract import BoxedResponse
from rlvr.grading.letters_and_bases import bases, choice, digits, in_base, letter
from rlvr.grading.normalise import is_code, normalise, number, primes, says_more, word
from rlvr.grading.units import quantity, without_unit
from rlvr.grading.user_function import Grader, users_grader
from rlvr.grading.workers import RELATIVE, Verdict, workers

PARSED = ("correct", "wrong")  # the answer could be read
UNGRADED = ("timeout", "error")  # the grader failed
REASONS = (*PARSED, "no_answer", "unparsable", *UNGRADED)
MAX_ANSWER_CHARS = 2000
CACHE_SIZE = 65536
# A rounded number is equal if six decimals and five significant digits agree: 0.333333 is 1/3, 1.5e-19 is not 2e-19.
_DECIMALS = 6
_ASSIGNED = re.compile(r"([A-Za-z]) ?= ?(?=[^=]*$)")


class Question(NamedTuple):
    """A pair for a worker to compare. boxed: False if `answer` is a response without a box; the worker then finds its answer."""

    answer: str
    gold: str
    boxed: bool


_cache: dict[Question, Verdict] = {}
_lock = Lock()


def grade(response: str, gold: str, *, require_box: bool = True) -> Verdict:
    """Score in {0.0, 1.0} and its reason, one of REASONS.

    `require_box=False` lets Math-Verify search a response without a box for its answer; training never does.
    An empty gold gives the reason `error`. RuntimeError if no worker process can be started; no answer raises.
    """
    return grade_many([response], [gold], require_box=require_box)[0]


def grade_many(responses: Sequence[str], golds: Sequence[str], *, require_box: bool = True) -> list[Verdict]:
    """`grade` for a batch. Equal pairs are judged once, different ones in parallel."""
    return math_verify([BoxedResponse.read(response) for response in responses], golds, require_box=require_box)


def math_verify(responses: Sequence[BoxedResponse], golds: Sequence[str], *, require_box: bool = True) -> list[Verdict]:
    """`grade_many` for responses whose boxes are known."""
    return _ask([_question(response, gold, require_box) for response, gold in zip(responses, golds, strict=True)])


GRADERS: dict[str, Grader] = {"math_verify": math_verify}


def grader_named(name: str) -> Grader:
    """One of GRADERS, or a user's `file.py:function`. ConfigError if the file has no such function."""
    return users_grader(name) if ":" in name else GRADERS[name]


def equal_answers(answers: Sequence[str | None]) -> list[int]:
    """Class numbers of answers that are equal in value, counted from 0 by first appearance; -1 for an empty one or None.

    `1/2`, `\\frac12` and `0.5` are one class. A majority vote counts classes. Two answers are equal if each is right with the
    other as label. Workers judge only what text and numbers do not decide. An answer that a worker cannot judge within its
    limits is equal only to the same text.
    """
    texts = [(answer or "").strip() for answer in answers]
    waiting = [text for text in dict.fromkeys(texts) if text]
    tried = _ask([_compare(text, "0") for text in waiting])
    alone = {text for text, (_, reason) in zip(waiting, tried, strict=True) if reason in UNGRADED}
    classes = {"": -1}
    while waiting:
        first = waiting[0]
        equal = [] if first in alone else [text for text in waiting[1:] if text not in alone]
        equal = _right([(text, first) for text in equal], equal)
        equal = _right([(first, text) for text in equal], equal)
        classes |= dict.fromkeys([first, *equal], max(classes.values()) + 1)
        waiting = [text for text in waiting if text not in classes]
    return [classes[text] for text in texts]


def _right(pairs: list[tuple[str, str]], texts: list[str]) -> list[str]:
    """Those of `texts` whose pair of answer and label is right."""
    verdicts = _ask([_compare(answer, gold) for answer, gold in pairs])
    return [text for text, (score, _) in zip(texts, verdicts, strict=True) if score]


def _ask(questions: Sequence[Verdict | Question]) -> list[Verdict]:
    """The verdict of every pair: from the cache or, once for each pair and in parallel, from the workers."""
    keys = list(dict.fromkeys(question for question in questions if isinstance(question, Question)))
    with _lock:
        known = {key: _cache[key] for key in keys if key in _cache}
    if asked := [key for key in keys if key not in known]:
        judged = dict(zip(asked, workers().judge_all(asked), strict=True))
        known |= judged
        with _lock:
            while len(_cache) + len(judged) > CACHE_SIZE and _cache:
                del _cache[next(iter(_cache))]
            # A timeout or a failure also depends on the machine, so it is not cached.
            _cache.update({key: verdict for key, verdict in judged.items() if verdict.reason not in UNGRADED})
    return [known[question] if isinstance(question, Question) else question for question in questions]


def _question(response: BoxedResponse, gold: str, require_box: bool) -> Verdict | Question:
    """The verdict if no worker is needed, else the pair for a worker."""
    answer = response.joined_boxes
    if not gold.strip():
        return Verdict(0.0, "error")
    if answer is None and not require_box and response.text.strip():
        return Question(response.text[-MAX_ANSWER_CHARS:], _plain_gold(gold), False)
    if answer is None or not answer.strip():
        return Verdict(0.0, "no_answer")
    return _compare(answer, gold)


def _compare(answer: str, gold: str) -> Verdict | Question:
    if answer.strip() == gold.strip():
        return Verdict(1.0, "correct")
    if len(answer) > MAX_ANSWER_CHARS:
        return Verdict(0.0, "unparsable")
    return _decide(answer, gold)


@lru_cache(maxsize=CACHE_SIZE)
def _decide(answer: str, gold: str) -> Verdict | Question:
    a, g = normalise(answer), _plain_gold(gold)
    if not g:
        return Verdict(0.0, "error")
    if a == g:
        return Verdict(1.0, "correct")
    if not a or is_code(a):
        return Verdict(0.0, "unparsable")
    if (wanted := letter(g)) and (chosen := choice(a)):
        return _verdict(chosen == wanted)
    if says_more(a, g) or _primes_differ(a, g):
        return _verdict(False)
    if in_base(a) or in_base(g):
        return _verdict(_equal_in_base(a, g))
    if bases(a) and bases(g) and bases(a) != bases(g):
        return _verdict(False)
    if (left := _ASSIGNED.match(a)) and (right := _ASSIGNED.match(g)) and left[1] == right[1]:
        a, g = a[left.end() :], g[right.end() :]
    (a, unit), (g, gold_unit) = quantity(a), quantity(g)
    if unit and gold_unit and unit != gold_unit:
        return _verdict(False)
    a, g = (a if unit else without_unit(a, gold_unit)), (g if gold_unit else without_unit(g, unit))
    x, y = number(a), number(g)
    if x is not None and y is not None:
        return _verdict(x == y or _equal_when_rounded(x, y, a, g))
    answer_word, gold_word = word(a), word(g)
    if answer_word and gold_word and max(len(answer_word), len(gold_word)) > 3:
        return _verdict(answer_word == gold_word)
    return Question(a, g, True)


def _verdict(right: bool) -> Verdict:
    return Verdict(1.0, "correct") if right else Verdict(0.0, "wrong")


def _equal_when_rounded(x: Fraction, y: Fraction, a: str, g: str) -> bool:
    """Whether a decimal equals a fraction up to rounding: 0.333333 is 1/3, but 12.0000001 is not 12."""
    if 1 in (x.denominator, y.denominator) or "." not in a + g:
        return False  # whole numbers are exact
    return round(x, _DECIMALS) == round(y, _DECIMALS) and abs(x - y) <= RELATIVE * max(abs(x), abs(y))


def _equal_in_base(a: str, g: str) -> bool:
    """Equality of numbers in a base. An answer may omit the label's base. If the label has none, it may only name base 10."""
    answered, wanted = in_base(a), in_base(g)
    if answered and wanted:
        return answered == wanted
    if wanted:
        return digits(a) == wanted[0]
    return answered is not None and answered[1] == "10" and digits(g) == answered[0]


def _primes_differ(a: str, g: str) -> bool:
    """Whether the two have different numbers of primes. If one is an equation, its last side counts: `2x` is `f'(x) = 2x`."""
    if not ("=" in a and "=" in g):
        a, g = a.rpartition("=")[2], g.rpartition("=")[2]
    return primes(a) != primes(g)


@lru_cache(maxsize=4096)
def _plain_gold(gold: str) -> str:
    boxes = BoxedResponse.read(gold).joined_boxes
    return normalise(gold if boxes is None else boxes)
