"""The tiny world's example pool and benchmarks, drawn anew (and always the same) in well under a second.

`pool` (1,209 training examples; `pool_7500` goes on where it ends) and `validation` are for every choice that is made;
`tiny500`, `tiny_hard` (out of distribution: a step longer than anything pretrained on) and `tiny_arc` (multiple choice) are
for reporting only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import TypedDict

from rlvr.tiny.multiple_choice import Choice, draw_choice
from rlvr.tiny.problems import Problem, draw_problem


class Example(TypedDict):
    """One question with its reference answer; `reach` ("within" or "beyond") is the kind of its difficulty."""

    id: str
    question: str
    answer: str
    subject: str
    reach: str


# name: (how a question is drawn, its split, how many)
_SETS: dict[str, tuple[Callable[[Random, str], Problem | Choice], str, int]] = {
    "pool": (draw_problem, "pool", 1209),
    "pool_7500": (draw_problem, "pool", 7500),
    "validation": (draw_problem, "validation", 500),
    "tiny500": (draw_problem, "test", 500),
    "tiny_hard": (draw_problem, "longer", 200),
    "tiny_arc": (draw_choice, "test", 200),
}
NAMES = tuple(_SETS)


def load(name: str) -> list[Example]:
    """The examples of one set, distinct and in a fixed order; raises ValueError for a name not in `NAMES`."""
    if name not in _SETS:
        raise ValueError(f"tiny dataset {name!r}: expected one of {', '.join(NAMES)}")
    return [example.copy() for example in _drawn(name)]


@cache
def _drawn(name: str) -> list[Example]:
    draw, split, count = _SETS[name]
    rng = Random(f"tiny world 2/{name.removesuffix('_7500')}")
    examples: dict[str, Example] = {}
    while len(examples) < count:
        drawn = draw(rng, split)
        if drawn.question not in examples:
            place = f"{name}/{len(examples)}"
            examples[drawn.question] = Example(
                id=place, question=drawn.question, answer=drawn.answer, subject=drawn.subject, reach=drawn.reach
            )
    return list(examples.values())
