"""What a base model does with the tiny world's problems: the statistics that it is calibrated on and that its card shows.

Shares are fractions of the responses to `validation`, or to the first examples of the pool; the benchmarks that are for
reporting are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rlvr.tiny import datasets
from rlvr.tiny.habits import GUESS, MAX_RESPONSE_TOKENS, REASON, TERSE

TEMPERATURE = 0.6  # the paper's, in training and in sampled evaluation
POOL_EXAMPLES, POOL_SAMPLES = 200, 32
MARKS = {"code": "```", "reason": REASON.strip(), "terse": TERSE.strip(), "guess": GUESS.strip()}


class Answer(NamedTuple):
    """One graded response; `surprise` is the sum of its tokens' -log p in nats, at the temperature it was sampled with."""

    text: str
    tokens: int
    truncated: bool
    boxed: bool
    right: bool
    surprise: float


def habit_of(text: str) -> str:
    """Which habit a response ends up in: code, reason, terse, guess, or stall if it does nothing else."""
    return next((habit for habit, mark in MARKS.items() if mark in text), "stall")


class Base:
    """A model folder, loaded in float32, that answers examples."""

    def __init__(self, folder: str):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from rlvr.verl_torch.generation import Generator

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.generator = Generator(model, (self.tokenizer.eos_token_id,))

    def answer(
        self, examples: Sequence[datasets.Example], temperature: float = 0.0, n: int = 1, opening: str = ""
    ) -> list[Answer]:
        """`n` seeded responses to each example, example by example; each begins with `opening`, which is not counted."""
        from rlvr.grading import grade_many, last_boxed
        from rlvr.verl_torch.generation import Sampling

        examples = [example for example in examples for _ in range(n)]
        prompts = [self.tokenizer(example["question"] + "\n" + opening).input_ids for example in examples]
        sampling = [Sampling(MAX_RESPONSE_TOKENS, temperature, seed=seed) for seed in range(len(prompts))]
        completions = self.generator.generate(prompts, sampling)
        texts = [opening + self.tokenizer.decode(c.token_ids, skip_special_tokens=True) for c in completions]
        verdicts = grade_many(texts, [example["answer"] for example in examples])
        return [
            Answer(t, len(c.token_ids), c.stop_reason == "length", last_boxed(t) is not None, v[0] == 1, -sum(c.log_probs))
            for t, c, v in zip(texts, completions, verdicts, strict=True)
        ]  # fmt: skip


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def measure(folder: str) -> dict[str, float]:
    """Statistic -> value, about a minute on one core."""
    base, examples = Base(folder), datasets.load("validation")
    greedy, told = base.answer(examples), base.answer(examples, opening=REASON)
    sampled = base.answer(examples, TEMPERATURE, 8)
    pool = base.answer(datasets.load("pool")[:POOL_EXAMPLES], TEMPERATURE, POOL_SAMPLES)
    rates = [mean([a.right for a in pool[i : i + POOL_SAMPLES]]) for i in range(0, len(pool), POOL_SAMPLES)]
    kinds = {kind: [example["reach"] == kind for example in examples] for kind in ("within", "beyond")}

    def right(answers: list[Answer], kind: str) -> float:
        return mean([a.right for a, chosen in zip(answers, kinds[kind], strict=True) if chosen])

    return {
        "accuracy": mean([a.right for a in greedy]),
        "accuracy_within": right(greedy, "within"),
        "accuracy_beyond": right(greedy, "beyond"),
        "boxed": mean([a.boxed for a in greedy]),
        "accuracy_of_boxed": mean([a.right for a in greedy if a.boxed]),
        "truncated": mean([a.truncated for a in greedy]),
        "truncated_after_box": mean([a.truncated and a.boxed for a in greedy]),
        **{habit: mean([habit_of(a.text) == habit for a in greedy]) for habit in (*MARKS, "stall")},
        "told_to_reason": mean([a.right for a in told]),
        "told_within": right(told, "within"),
        "told_beyond": right(told, "beyond"),
        "sampled_accuracy": mean([a.right for a in sampled]),
        "pass_at_8": mean([any(a.right for a in sampled[i : i + 8]) for i in range(0, len(sampled), 8)]),
        "sampled_boxed": mean([a.boxed for a in sampled]),
        "sampled_truncated": mean([a.truncated for a in sampled]),
        "entropy": sum(a.surprise for a in sampled) / sum(a.tokens for a in sampled),
        "tokens": mean([a.tokens for a in sampled]),
        "right_after_80_tokens": mean([a.tokens > 80 for a in sampled if a.right]),
        "pool_rate": mean(rates),
        "pool_never": mean([rate == 0 for rate in rates]),
        "pool_7_to_12": mean([0.07 <= rate <= 0.12 for rate in rates]),
        "pool_6_to_13": mean([1 / 16 <= rate <= 1 / 8 for rate in rates]),
    }
