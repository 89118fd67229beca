"""GRPO on the tiny world in plain torch, without verl or Ray: the fast baseline that verl runs are timed against.

Not a second trainer: it keeps no run folder and no checkpoints, and it evaluates on `validation` only.
What makes it fast: each distinct prompt is computed once, in generation and in the update, finished rows are dropped
while generating, and an update covers no more tokens than the responses have. One rollout step is one gradient update; everything is float32.

    python -m experiments.benchmarks.bare_grpo examples=[12] steps=60
    python -m experiments.benchmarks.bare_grpo examples=[] reward=format   # [] is the full pool
    python -m experiments.benchmarks.bare_grpo solve_rates=16              # list pool examples by solve rate, then stop
"""

from __future__ import annotations

import copy
import json
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from experiments.benchmarks.sampling import generate, left_pad, positions
from rlvr.tiny import datasets

MODEL_FOLDER = Path(datasets.__file__).with_name("model")


@dataclass
class Settings:
    """Defaults are the recommended tiny settings, chosen on validation; `wrong_answer` replaces the label."""

    model: str = str(MODEL_FOLDER)
    examples: list[int] = field(default_factory=list)
    reward: str = "outcome"
    wrong_answer: str = ""
    steps: int = 60
    prompts: int = 16
    n: int = 8
    lr: float = 1e-4
    temperature: float = 1.0
    policy_gradient: bool = True
    kl_coef: float = 0.001
    entropy_coef: float = 0.001
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    micro_batch: int = 64
    seed: int = 0
    threads: int = 1
    eval_every: int = 10
    eval_temperature: float = 0.6
    solve_rates: int = 0


def score(response: str, answer: str, reward: str = "outcome") -> float:
    """1 if the last complete box holds the answer (reward "outcome") or if there is a box at all ("format")."""
    boxes = re.findall(r"\\boxed\{([^{}]*)\}", response)
    return float(bool(boxes) and (reward == "format" or boxes[-1].strip() == answer))


def advantages(rewards: Tensor) -> Tensor:
    """Float[Tensor, "groups n"] -> the same shape: (r - mean) / (std + 1e-6) within each group, as in verl."""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-6)


def response_log_probs(
    model: PreTrainedModel, prompts: list[list[int]], source: list[int], response_ids: Tensor, temperature: float
) -> Tensor:
    """Log-probabilities over the vocabulary at each response position: Float[Tensor, "rows tokens vocabulary"].

    Row i answers `prompts[source[i]]`; each distinct prompt goes through the model once, gradients included.
    """
    distinct = sorted({tuple(prompts[i]) for i in source})
    rows = torch.tensor([distinct.index(tuple(prompts[i])) for i in source])
    ids, mask = left_pad([list(prompt) for prompt in distinct], model.config.pad_token_id)
    place, cache = positions(mask), DynamicCache()
    model.model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=place[:, :-1], past_key_values=cache)
    cache.batch_select_indices(rows)
    # The last prompt token predicts the first response token, and the last response token predicts nothing.
    inputs = torch.cat([ids[rows, -1:], response_ids[:, :-1]], 1)
    mask = torch.cat([mask[rows], torch.ones_like(response_ids[:, :-1])], 1)
    place = place[rows, -1:] + torch.arange(inputs.shape[1])
    logits = model(input_ids=inputs, attention_mask=mask, position_ids=place, past_key_values=cache).logits
    return torch.log_softmax(logits / temperature, -1)


def update(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    prompts: list[list[int]],
    responses: list[list[int]],
    advantage: Tensor,
    settings: Settings,
) -> dict[str, float]:
    """One gradient step over all rollouts (prompt-major rows); micro-batches hold responses of like length."""
    pad, total = model.config.pad_token_id, sum(map(len, responses))
    order = sorted(range(len(responses)), key=lambda row: len(responses[row]))
    means = dict(entropy=0.0, kl=0.0)
    for start in range(0, len(order), settings.micro_batch):
        rows = order[start : start + settings.micro_batch]
        width = max(len(responses[row]) for row in rows)
        response_ids = torch.tensor([responses[row] + [pad] * (width - len(responses[row])) for row in rows])
        weight = torch.tensor([[1.0] * len(responses[row]) + [0.0] * (width - len(responses[row])) for row in rows])
        inputs = (prompts, [row // settings.n for row in rows], response_ids, settings.temperature)
        log_probs = response_log_probs(model, *inputs)
        taken = log_probs.gather(-1, response_ids[..., None])[..., 0]
        entropy = (-(log_probs.exp() * log_probs).sum(-1) * weight).sum() / total
        loss = -settings.entropy_coef * entropy
        if settings.policy_gradient:
            # One update per rollout step: the ratio is 1, and clipping never acts.
            ratio = (taken - taken.detach()).exp()
            loss = loss - (ratio * advantage[rows, None] * weight).sum() / total
        if settings.kl_coef:
            with torch.no_grad():
                reference_log_probs = response_log_probs(reference, *inputs)
            gap = (reference_log_probs.gather(-1, response_ids[..., None])[..., 0] - taken).clamp(-20, 20)
            kl = ((gap.exp() - gap - 1).clamp(-10, 10) * weight).sum() / total
            loss = loss + settings.kl_coef * kl
            means["kl"] += kl.item()
        means["entropy"] += entropy.item()
        loss.backward()
    means["grad_norm"] = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip).item()
    optimizer.step()
    optimizer.zero_grad()
    return means


def prompt_ids_of(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of a question under the chat template, exactly as verl renders it."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    return tokenizer(text).input_ids


def answer_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[datasets.Example],
    temperature: float,
    n: int = 1,
) -> list[list[str]]:
    """`n` response texts to each example, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    prompts = [prompt_ids_of(tokenizer, example["question"]) for example in examples]
    chunk, texts = max(1, 512 // n), []
    for start in range(0, len(prompts), chunk):
        responses = generate(model, prompts[start : start + chunk], n, temperature, generator)
        texts += tokenizer.batch_decode(responses, skip_special_tokens=True)
    return [texts[i * n : (i + 1) * n] for i in range(len(examples))]


def mean_scores(examples: list[datasets.Example], texts: list[list[str]], reward: str = "outcome") -> list[float]:
    """Mean score of each example over its texts."""
    pairs = zip(examples, texts, strict=True)
    return [sum(score(text, e["answer"], reward) for text in row) / len(row) for e, row in pairs]


def report(line: dict[str, float]) -> None:
    """Print one JSON line."""
    print(json.dumps({key: round(value, 4) for key, value in line.items()}), flush=True)


def validate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, temperature: float) -> dict[str, float]:
    """Accuracy and share of boxed answers on `validation`."""
    examples = datasets.load("validation")
    answers = answer_all(model, tokenizer, examples, temperature)
    accuracy, boxed = (mean_scores(examples, answers, reward) for reward in ("outcome", "format"))
    return {
        f"accuracy_at_temperature_{temperature:g}": sum(accuracy) / len(examples),
        f"boxed_at_temperature_{temperature:g}": sum(boxed) / len(examples),
    }


def main() -> None:
    """Train as the key=value arguments say and print one JSON line per evaluation and per step."""
    schema = OmegaConf.structured(Settings)
    settings: Settings = OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.from_cli()))
    torch.set_num_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32).eval()
    pool = datasets.load("pool")
    if settings.solve_rates:
        answers = answer_all(model, tokenizer, pool, settings.temperature, settings.solve_rates)
        for rate, index in sorted((rate, index) for index, rate in enumerate(mean_scores(pool, answers))):
            print(f"{rate:.3f} {index} {pool[index]}")
        return
    print(json.dumps(asdict(settings)))
    reference = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    generator, rng = torch.Generator().manual_seed(settings.seed), Random(settings.seed)
    for step in range(settings.steps + 1):
        if step:
            chosen = settings.examples or rng.sample(range(len(pool)), settings.prompts)
            batch = [pool[chosen[i % len(chosen)]] for i in range(settings.prompts)]
            started = time.perf_counter()
            prompts = [prompt_ids_of(tokenizer, example["question"]) for example in batch]
            responses = generate(model, prompts, settings.n, settings.temperature, generator)
            texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
            labels = [settings.wrong_answer or example["answer"] for example in batch for _ in range(settings.n)]
            rewards = torch.tensor([score(t, a, settings.reward) for t, a in zip(texts, labels, strict=True)])
            generated = time.perf_counter()
            advantage = advantages(rewards.view(-1, settings.n)).flatten()
            means = update(model, reference, optimizer, prompts, responses, advantage, settings)
            updated = time.perf_counter()
            means |= dict(reward=rewards.mean().item(), tokens=sum(map(len, responses)) / len(responses))
            report(dict(step=step, **means, generation_s=generated - started, update_s=updated - generated))
        if step % settings.eval_every == 0:
            greedy, sampled = (validate(model, tokenizer, t) for t in (0.0, settings.eval_temperature))
            report(dict(step=step, **greedy, **sampled))


if __name__ == "__main__":
    main()
