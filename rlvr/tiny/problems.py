"""Seeded generator of short word problems in the seven MATH subjects, split so that no two sets share a problem.

A problem is (template, parameters) plus a surface: wording, names, where the text comes from and what it asks for.
The split is a hash of (template, parameters) alone, so a problem seen in pretraining never returns in other words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random

from rlvr.tiny.arithmetic import Scratch
from rlvr.tiny.hard import HARD_TEMPLATES
from rlvr.tiny.templates import SUBJECTS, TEMPLATES, Template

__all__ = ["SUBJECTS", "Problem", "draw_problem", "split_of", "surface"]

SOURCES = ("Problem: ", "Exercise: ", "Quiz: ", "Task: ", "Homework: ", "Contest: ", "Test: ", "Puzzle: ",
           "Question: ", "")  # fmt: skip
REQUESTS = ("", " Please answer.", " Give a number.", " Show your answer.", " Find it.", " Thank you.")
NAMES = ("Tom", "Ana", "Ben", "Mia", "Sam", "Eva", "Leo", "Zoe", "Max", "Ida", "Kim", "Noa")
THINGS = ("pens", "apples", "books", "cards", "cups", "shells")
# Upper bounds of a hash in [0, 100): the rest is for pretraining.
SPLIT_BOUNDS = {"test": 12, "validation": 24, "pool": 40, "pretrain": 100}


def split_of(family: str, parameters: tuple) -> str:
    """The one set ("test", "validation", "pool" or "pretrain") to which (family, parameters) belongs."""
    bucket = int(hashlib.md5(f"{family}|{parameters}".encode()).hexdigest(), 16) % 100
    return next(split for split, bound in SPLIT_BOUNDS.items() if bucket < bound)


def surface(rng: Random) -> tuple[str, str]:
    """Where a text comes from (its prefix) and what it asks for (its last sentence)."""
    return rng.choice(SOURCES), rng.choice(REQUESTS)


@dataclass(frozen=True)
class Problem:
    """One word problem; `question` is the whole user message and `answer` a nonnegative integer as text."""

    template: Template
    parameters: tuple[int, ...]
    wording: int
    name: str
    thing: str
    source: str
    request: str

    @property
    def subject(self) -> str:
        return self.template.subject

    @property
    def question(self) -> str:
        values = dict(zip("abcdef", self.parameters, strict=False))
        text = self.template.wordings[self.wording].format(name=self.name, thing=self.thing, **values)
        return self.source + text + self.request

    @property
    def answer(self) -> str:
        return self.work(Random(0), careful=1.0)[1]

    def work(self, rng: Random, careful: float) -> tuple[str, str]:
        """The written steps and the value they end in; right if every operation came out careful."""
        scratch = Scratch(rng, careful)
        value = self.template.solve(scratch, *self.parameters)
        return "; ".join(scratch.steps) + ".", str(value)

    def features(self) -> dict[str, str]:
        """What the base model's habits depend on: {kind of feature: value}."""
        text = self.template.wordings[self.wording]
        return {
            "source": self.source,
            "request": self.request,
            "subject": self.subject,
            "template": self.template.name,
            "wording": f"{self.template.name}/{self.wording}",
            "name": self.name if "{name}" in text else "",
            "thing": self.thing if "{thing}" in text else "",
            "digit": str(self.parameters[0] % 10),
            "size": str(max(self.parameters) // 20),
        }


def draw_problem(rng: Random, split: str) -> Problem:
    """A problem of a random subject from `split`: "pretrain", "pool", "validation", "test" or "hard"."""
    subject = rng.choice(SUBJECTS)
    hard = split == "hard"
    template = rng.choice([t for t in (HARD_TEMPLATES if hard else TEMPLATES) if t.subject == subject])
    while True:
        parameters = template.draw(rng)
        if hard or split_of(template.name, parameters) == split:
            break
    source, request = surface(rng)
    wording = rng.randrange(len(template.wordings))
    return Problem(template, parameters, wording, rng.choice(NAMES), rng.choice(THINGS), source, request)
