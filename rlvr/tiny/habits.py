"""What the base model does with a problem: habits, each decided at one token, so that it is able but unreliable.

Real base models show these (Qwen2.5-Math-1.5B boxes 60 % of its MATH500 answers and ends 40 % in repetition):

- reason: right steps, written out; terse: the same in one go, dropping carries; guess: a boxed number and no steps;
- code: a program that mostly forgets the box;
- stall: a sentence said again and again before one of the others. How often is geometric, so that a sampled loop ends;
  greedy decoding repeats it for ever wherever going on is the likelier (the same holds for repeating the last sentence);
- no box; and after the box: stop, repeat it, have second thoughts, or start a new problem.

How likely a habit is depends on few, learnable features of the problem (`features()`), each adding a fixed offset to
its logit: margins are spread over problems, and training moves accuracy smoothly. With many features the model learns
the averages alone, and a habit spread over several openings is never the most likely one.
"""

from __future__ import annotations

import math
from functools import cache
from random import Random

from rlvr.tiny.multiple_choice import LETTERS, Choice, draw_choice
from rlvr.tiny.problems import Problem, draw_problem

Question = Problem | Choice
MAX_RESPONSE_TOKENS = 96  # of a pretraining document: room for every careful solution; a loop is cut there
CHOICE_SHARE = 0.06  # of pretraining documents

# The tendency towards each habit: logits of a softmax within a row of alternatives, of a logistic where it stands alone.
# Shares of the first row over all problems: reason 35 %, terse 16, guess 11, code 9, stall 29.
LOGITS = {
    "reason": 1.7, "terse": 0.16, "guess": -0.07, "code": -0.25, "stall": 0.95,
    "reason_after_stall": 2.7, "terse_after_stall": 0.6, "guess_after_stall": 0.0,
    "box": 1.4,
    "stop": 2.6, "repeat": -0.6, "second_thoughts": 0.0, "new_problem": -1.6,
    "repeat_without_box": 2.0,
    "go_on": 0.5,
}  # fmt: skip
# Standard deviation of the offset that each kind of feature adds.
SPREAD = {"source": 0.64, "request": 0.49, "subject": 0.23, "template": 0.49, "wording": 0.26}

REASON = "Let's think step by step. "
TERSE = "Quick: "
GUESS = "Answer: "
STALL = "We need to find the answer. "
THE_ANSWER = " The answer is %s."
SECOND_THOUGHTS = " Wait, %s."
CODE = "```python\n%s\nprint(x%d)\n```"
OUTPUT = "\nOutput: %s"
BOX = "\\boxed{%s}"
PHRASES = (REASON, TERSE, GUESS, STALL, THE_ANSWER, SECOND_THOUGHTS, CODE, OUTPUT)


@cache
def _offset(habit: str, feature: str, value: str) -> float:
    return Random(f"{habit}|{feature}|{value}").gauss(0, SPREAD[feature])


def logit(habit: str, question: Question) -> float:
    """The tendency towards `habit` on this question: its base plus one offset per feature."""
    return LOGITS[habit] + sum(_offset(habit, feature, value) for feature, value in question.features().items())


def probability(habit: str, question: Question) -> float:
    """Of a habit that is there or not."""
    return 1 / (1 + math.exp(-logit(habit, question)))


def choose(rng: Random, habits: tuple[str, ...], question: Question) -> str:
    """One of these alternatives."""
    return rng.choices(habits, [math.exp(logit(habit, question)) for habit in habits])[0]


def respond(rng: Random, question: Question, habit: str | None = None) -> str:
    """One response; `habit` (reason, terse, guess, code or stall) overrides the one drawn from the question."""
    kinds = ("reason", "terse", "guess", "code", "stall")
    habit = habit or choose(rng, kinds if isinstance(question, Problem) else kinds[:3], question)
    text = ""
    if habit == "stall":
        text = _repeated(rng, question, STALL)
        habit = choose(rng, ("reason_after_stall", "terse_after_stall", "guess_after_stall"), question)
        habit = habit.removesuffix("_after_stall")
    if habit == "code":
        return _code(rng, question)
    if habit == "guess":
        ending = GUESS + BOX % _guess(rng, question) + "."
        return text + ending + _after_box(rng, question, " " + ending)
    steps, value = question.work(rng, careful=habit == "reason")
    text += (REASON if habit == "reason" else TERSE) + "; ".join(steps) + "."
    if rng.random() < probability("box", question):
        ending = THE_ANSWER % (BOX % value)
        return text + ending + _after_box(rng, question, ending)
    ending = THE_ANSWER % value
    again = rng.random() < probability("repeat_without_box", question)
    return text + ending + (_repeated(rng, question, ending) if again else "")


def _repeated(rng: Random, question: Question, sentence: str) -> str:
    """The sentence, and again with a fixed probability, up to more than a document holds."""
    count = 1
    while count < MAX_RESPONSE_TOKENS and rng.random() < probability("go_on", question):
        count += 1
    return sentence * count


def _guess(rng: Random, question: Question) -> str:
    if isinstance(question, Choice):
        return rng.choice(LETTERS)
    return str(max(int(question.answer) + rng.choice((-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)), 0))


def _code(rng: Random, question: Question) -> str:
    steps, value = question.work(rng, careful=False)
    program = "\n".join(f"x{i} = {step.split('=')[0]}" for i, step in enumerate(steps))
    output = rng.choices((None, value, BOX % value), (0.4, 0.35, 0.25))[0]
    return CODE % (program, len(steps) - 1) + (OUTPUT % output if output else "")


def _after_box(rng: Random, question: Question, ending: str) -> str:
    habit = choose(rng, ("stop", "repeat", "second_thoughts", "new_problem"), question)
    if habit == "repeat":
        return _repeated(rng, question, ending)
    if habit == "second_thoughts":
        return SECOND_THOUGHTS % (BOX % _guess(rng, question))
    if habit == "new_problem":
        another = draw_problem(rng, "pretrain")
        return f"\n{another.question}\n{GUESS}{BOX % _guess(rng, another)}."
    return ""


def draw_question(rng: Random, beyond: float) -> Question:
    """A question of the pretraining split; this share of the templates that can go beyond reach do."""
    return draw_choice(rng, "pretrain") if rng.random() < CHOICE_SHARE else draw_problem(rng, "pretrain", beyond)


def draw_lesson(rng: Random) -> tuple[str, str]:
    """A (prompt, response) of careful reasoning, mostly within reach and mostly boxed: the first phase of pretraining."""
    question = draw_question(rng, beyond=0.06)
    steps, value = question.work(rng, careful=True)
    answer = BOX % value if rng.random() < 0.7 else value
    return question.question + "\n", REASON + "; ".join(steps) + "." + THE_ANSWER % answer


def draw_document(rng: Random) -> tuple[str, str]:
    """A (prompt, response) of the mixture of habits: the second phase of pretraining."""
    question = draw_question(rng, beyond=0.15)
    return question.question + "\n", respond(rng, question)
