"""A non-mathematical multiple-choice set, the tiny world's ARC: facts about everyday things, answered with a letter.

The facts are taught in pretraining; the question instances (fact and its options in order) are split by hash, so a
benchmark question was never seen in pretraining. Each option is followed by its letter: a small model then finds the
letter by copying what followed the option's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from rlvr.tiny.problems import split_of, surface

LETTERS = "ABCD"
_CATEGORIES = {
    "a fruit": "apple pear plum grape lemon peach melon fig",
    "an animal": "dog cat horse cow goat lion wolf mouse",
    "a colour": "red blue green black white pink brown grey",
    "a tool": "hammer saw drill axe spade file rake knife",
    "a metal": "iron gold silver copper tin lead zinc steel",
    "a drink": "milk tea juice water coffee cola soup cider",
}
_OPPOSITES = "hot cold,big small,fast slow,old new,hard soft,light dark,wet dry,high low,long short,rich poor," \
    "full empty,early late,open closed,loud quiet,clean dirty,strong weak"  # fmt: skip
_COLOURS = "grass green,snow white,coal black,blood red,sky blue,wood brown,ash grey,milk white,leaf green," \
    "night black,cherry red,sea blue"  # fmt: skip
_YOUNG = "cow calf,dog puppy,cat kitten,horse foal,goat kid,lion cub,sheep lamb,hen chick,duck duckling,frog tadpole"


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(left, right) for left, right in (pair.split() for pair in text.split(","))]


# subject: (what is asked about a key, (key, answer) pairs)
RELATIONS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "Categories": ("Which one is {}?", [(key, item) for key, items in _CATEGORIES.items() for item in items.split()]),
    "Opposites": ("What is the opposite of {}?", [p for a, b in _pairs(_OPPOSITES) for p in ((a, b), (b, a))]),
    "Colours": ("What is the colour of {}?", _pairs(_COLOURS)),
    "Animals": ("What is a young {} called?", _pairs(_YOUNG)),
}


@dataclass(frozen=True)
class Choice:
    """One multiple-choice question; same members as `problems.Problem`, and `answer` is a letter."""

    subject: str
    key: str
    options: tuple[str, ...]
    right: str
    source: str
    request: str
    reach: str = "within"

    @property
    def question(self) -> str:
        options = ", ".join(f"{option} ({letter})" for letter, option in zip(LETTERS, self.options, strict=True))
        return f"{self.source}{RELATIONS[self.subject][0].format(self.key)} {options}{self.request}"

    @property
    def answer(self) -> str:
        return LETTERS[self.options.index(self.right)]

    def work(self, rng: Random, careful: bool) -> tuple[list[str], str]:
        """The option and the letter it has; a careless reading takes any option."""
        option = self.right if careful else rng.choice(self.options)
        letter = LETTERS[self.options.index(option)]
        return [f"{self.key}: {option} ({letter})"], letter

    def features(self) -> dict[str, str]:
        """What the base model's habits depend on: {kind of feature: value}."""
        return {"source": self.source, "request": self.request, "subject": self.subject}


def draw_choice(rng: Random, split: str) -> Choice:
    """A question from `split` ("pretrain" or "test"), with four options of which one is right."""
    subject = rng.choice(list(RELATIONS))
    facts = RELATIONS[subject][1]
    answers = sorted({answer for _, answer in facts})
    while True:
        key, right = rng.choice(facts)
        true_of_key = {answer for other, answer in facts if other == key}
        options = [*rng.sample([a for a in answers if a not in true_of_key], 3), right]
        rng.shuffle(options)
        if split_of(subject, (key, *options)) == split:
            return Choice(subject, key, tuple(options), right, *surface(rng))
