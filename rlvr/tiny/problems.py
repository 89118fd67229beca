"""Seeded generator of short word problems in the seven MATH subjects, split so that no two sets share a problem.

A problem is (template, parameters) plus a surface: wording, names, where the text comes from and what it asks for.
The split is a hash of (template, parameters) alone, so a problem seen in pretraining never returns in other words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random

from rlvr.tiny.arithmetic import Scratch
from rlvr.tiny.templates import LONGER_TEMPLATES, SUBJECTS, TEMPLATES, Parameters, Template

SOURCES = ("Problem: ", "Exercise: ", "Quiz: ", "Task: ", "Homework: ", "Contest: ", "Test: ", "Puzzle: ",
           "Question: ", "")  # fmt: skip
REQUESTS = ("", " Please answer.", " Give a number.", " Show your answer.", " Find it.", " Thank you.")
NAMES = ("Tom", "Ana", "Ben", "Mia", "Sam", "Eva", "Leo", "Zoe", "Max", "Ida", "Kim", "Noa")
THINGS = ("pens", "apples", "books", "cards", "cups", "shells")
# Upper bounds of a hash in [0, 100): the rest is for pretraining.
SPLIT_BOUNDS = {"test": 12, "validation": 24, "pool": 40, "pretrain": 100}
# Of the problems whose template has a form beyond reach; 18 % of all problems then are.
BEYOND = 0.22


def split_of(family: str, parameters: tuple) -> str:
    """The one set ("test", "validation", "pool" or "pretrain") to which (family, parameters) belongs."""
    bucket = int(hashlib.sha256(f"tiny world 2|{family}|{parameters}".encode()).hexdigest(), 16) % 100
    return next(split for split, bound in SPLIT_BOUNDS.items() if bucket < bound)


def surface(rng: Random) -> tuple[str, str]:
    """Where a text comes from (its prefix) and what it asks for (its last sentence)."""
    return rng.choice(SOURCES), rng.choice(REQUESTS)


@dataclass(frozen=True)
class Problem:
    """One word problem; `question` is the whole user message, `answer` a nonnegative integer as text.

    `reach` says whether its arithmetic is "within" or "beyond" the base model's reach.
    """

    template: Template
    parameters: Parameters
    reach: str
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
        return self.work(Random(0), careful=True)[1]

    def work(self, rng: Random, careful: bool) -> tuple[list[str], str]:
        """The written steps and the value they end in: right if careful, else with dropped carries."""
        scratch = Scratch(rng, careful)
        value = self.template.solve(scratch, *self.parameters)
        return scratch.steps, str(value)

    def features(self) -> dict[str, str]:
        """What the base model's habits depend on: {kind of feature: value}."""
        name = self.template.name
        return {
            "source": self.source,
            "request": self.request,
            "subject": self.subject,
            "template": name,
            "wording": f"{name}/{self.wording}",
        }


def draw_problem(rng: Random, split: str, beyond: float = BEYOND) -> Problem:
    """A problem of a random subject from `split`: "pretrain", "pool", "validation", "test", or "longer" for tiny_hard."""
    subject = rng.choice(SUBJECTS)
    longer = split == "longer"
    template = rng.choice([t for t in (LONGER_TEMPLATES if longer else TEMPLATES) if t.subject == subject])
    reach = "beyond" if template.beyond and rng.random() < beyond else "within"
    while True:
        parameters = template.draw(rng, reach)
        if longer or split_of(template.name, parameters) == split:
            break
    wording = rng.randrange(len(template.wordings))
    return Problem(template, parameters, reach, wording, rng.choice(NAMES), rng.choice(THINGS), *surface(rng))
