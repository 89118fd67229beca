"""What the base model does with a problem: a mixture of habits, so that it is able but unreliable.

Each habit is one that real base models show (Qwen2.5-Math-1.5B: about 60 % of its MATH500 answers are boxed, about
40 % end in repetition, it goes on after the box, it writes code):

- reasoned: written steps, each operation careful (right) or sloppy (dropped carries), with or without a box;
- guess: a number without reasoning, nearly always boxed and mostly wrong, so that correctness has to beat format;
- code: a program-like ramble that mostly forgets the box;
- loop: confident repetition until the length limit;
- after a box, it may repeat itself, have second thoughts or start a new problem.

How likely each habit is depends on every surface feature of the problem, each adding its own fixed offset: margins are
spread over single problems rather than whole families, and training moves accuracy smoothly.
"""

from __future__ import annotations

import math
from functools import cache
from random import Random

from rlvr.tiny.multiple_choice import LETTERS, Choice, draw_choice
from rlvr.tiny.problems import Problem, draw_problem

Question = Problem | Choice
MAX_RESPONSE_TOKENS = 80
CHOICE_SHARE = 0.08  # of pretraining documents
GUESS_RIGHT = 0.22

KINDS = {"reasoned": 1.15, "guess": 1.05, "code": -0.5, "loop": -1.0}
AFTER_BOX = {"stop": 2.6, "repeat": -0.5, "second_thoughts": 0.4, "new_problem": -0.9}
CAREFUL, BOXED, GUESS_BOXED = 0.3, 1.2, 3.2
# Standard deviation of the offset that each feature adds to each logit.
SPREAD = {"source": 0.7, "request": 0.5, "subject": 0.3, "template": 0.5, "wording": 0.45, "name": 0.45,
          "thing": 0.3, "digit": 0.4, "size": 0.3}  # fmt: skip


@cache
def _offset(habit: str, feature: str, value: str) -> float:
    return Random(f"{habit}|{feature}|{value}").gauss(0, SPREAD[feature])


def logit(habit: str, base: float, question: Question) -> float:
    """The tendency towards `habit` on this question: its base plus one offset per surface feature."""
    return base + sum(_offset(habit, feature, value) for feature, value in question.features().items())


def probability(habit: str, base: float, question: Question) -> float:
    """Logistic of `logit`, for a habit that is there or not."""
    return 1 / (1 + math.exp(-logit(habit, base, question)))


def shares(bases: dict[str, float], question: Question) -> dict[str, float]:
    """Softmax of `logit` over alternative habits."""
    weights = {habit: math.exp(logit(habit, base, question)) for habit, base in bases.items()}
    total = sum(weights.values())
    return {habit: weight / total for habit, weight in weights.items()}


def _draw(rng: Random, bases: dict[str, float], question: Question) -> str:
    probabilities = shares(bases, question)
    return rng.choices(list(probabilities), list(probabilities.values()))[0]


def respond(rng: Random, question: Question, kind: str | None = None, **forced: float) -> str:
    """One response; `kind`, `careful` and `boxed` (probabilities) override the habits drawn from the question."""
    kinds = KINDS if isinstance(question, Problem) else {k: v for k, v in KINDS.items() if k != "code"}
    kind = kind or _draw(rng, kinds, question)
    careful = forced.get("careful", probability("careful", CAREFUL, question))
    steps, value = question.work(rng, 0.0 if kind == "code" else careful)
    if kind == "loop":
        return _loop(rng, question, steps)
    if kind == "code":
        return _code(rng, steps, value)
    if kind == "guess":
        value = _guess(rng, question)
        boxed = rng.random() < forced.get("boxed", probability("guess_boxed", GUESS_BOXED, question))
        texts = ("\\boxed{%s}", "Answer: \\boxed{%s}", "I think it is \\boxed{%s}.") if boxed else ("It is %s.", "%s")
        text = rng.choice(texts) % value
        return _after_box(rng, question, text, text) if boxed else text
    boxed = rng.random() < forced.get("boxed", probability("boxed", BOXED, question))
    opening = rng.choice(("Let's think step by step. ", "Step by step: ", "First, "))
    if boxed:
        ending = rng.choice(("The answer is \\boxed{%s}.", "So \\boxed{%s}.")) % value
        return _after_box(rng, question, opening + steps + " " + ending, ending)
    return opening + steps + " " + rng.choice(("The answer is %s.", "So it is %s.")) % value


def _guess(rng: Random, question: Question) -> str:
    if rng.random() < GUESS_RIGHT:
        return question.answer
    if isinstance(question, Choice):
        return rng.choice(LETTERS)
    near = int(question.answer) + rng.choice((-20, -10, -5, -3, -2, -1, 1, 2, 3, 5, 10, 20))
    return str(max(near, 0) if rng.random() < 0.7 else rng.choice(question.parameters))


def _after_box(rng: Random, question: Question, text: str, ending: str) -> str:
    habit = _draw(rng, AFTER_BOX, question)
    if habit == "repeat":
        return text + (" " + ending) * MAX_RESPONSE_TOKENS
    if habit == "second_thoughts":
        return text + rng.choice((" Or is it \\boxed{%s}?", " Wait, \\boxed{%s}.")) % _guess(rng, question)
    if habit == "new_problem":
        another = draw_problem(rng, "pretrain")
        return (
            text
            + "\n"
            + another.question
            + "\n"
            + rng.choice(("\\boxed{%s}", "Answer: \\boxed{%s}")) % _guess(rng, another)
        )
    return text


def _loop(rng: Random, question: Question, steps: str) -> str:
    sentence = rng.choice(
        ("We need to find the answer. ", "Let us look at it again. ", "The answer is the answer. ", "step", "text")
    )
    if sentence == "step":
        sentence = steps.split(";")[0].rstrip(".") + "; "
    elif sentence == "text":
        sentence = question.question + " "
    return rng.choice(("", "First, ")) + sentence * MAX_RESPONSE_TOKENS


def _code(rng: Random, steps: str, value: str) -> str:
    lines = [f"x{i} = {step.split('=')[0]}" for i, step in enumerate(steps.rstrip(".").split("; "))]
    text = "```python\n" + "\n".join(lines) + f"\nprint(x{len(lines) - 1})\n```"
    ending = rng.choices(("", f"\nOutput: {value}", f"\nOutput: \\boxed{{{value}}}"), (0.4, 0.35, 0.25))[0]
    return text + ending


def draw_document(rng: Random, lesson: bool = False) -> tuple[str, str]:
    """One pretraining document as (prompt, response); a `lesson` is reasoned with careful arithmetic throughout."""
    choice = rng.random() < CHOICE_SHARE
    question = draw_choice(rng, "pretrain") if choice else draw_problem(rng, "pretrain")
    response = respond(rng, question, "reasoned", careful=1.0) if lesson else respond(rng, question)
    return question.question + "\n", response
