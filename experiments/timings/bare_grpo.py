"""GRPO on one example in plain torch, without verl or Ray: the fast baseline that `step_time` measures verl's step against.

Not a second trainer: it keeps no run folder and no checkpoints and evaluates nothing. Its settings are those of
`+experiment=one_shot`, in float32. What makes it fast: the prompt is computed once for all responses, in generation and
in the update, finished rows are dropped while generating, and an update covers no more tokens than the responses have.
"""

import copy
import re
import time

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel

from rlvr.config.compose import compose
from rlvr.data.pools import ranked_rows
from rlvr.data.prompts import render

MICRO_BATCH = 64


@torch.no_grad()
def generate(model: PreTrainedModel, prompt: list[int], rows: int, scale: DictConfig) -> list[list[int]]:
    """Responses to one prompt as token ids, ending with the end token unless cut."""
    cache = DynamicCache()
    responses: list[list[int]] = [[] for _ in range(rows)]
    unfinished = torch.arange(rows)
    logits = model(input_ids=torch.tensor([prompt]), past_key_values=cache, logits_to_keep=1).logits[:, -1]
    cache.batch_repeat_interleave(rows)
    logits = logits.repeat_interleave(rows, 0)
    for step in range(scale.max_response_tokens):
        tokens = torch.multinomial(torch.softmax(logits / scale.temperature, -1), 1)[:, 0]
        for row, token in zip(unfinished.tolist(), tokens.tolist(), strict=True):
            responses[row].append(token)
        keep = (tokens != model.config.eos_token_id).nonzero()[:, 0]
        if len(keep) == 0 or step == scale.max_response_tokens - 1:
            break
        if len(keep) < len(tokens):
            cache.batch_select_indices(keep)
            unfinished, tokens = unfinished[keep], tokens[keep]
        logits = model(input_ids=tokens[:, None], past_key_values=cache).logits[:, -1]
    return responses


def log_probs(model: PreTrainedModel, prompt: list[int], responses: Tensor, temperature: float) -> Tensor:
    """Over the vocabulary at each response position: "rows tokens vocabulary"."""
    cache = DynamicCache()
    # The last prompt token predicts the first response token, and the last response token predicts nothing.
    model.model(input_ids=torch.tensor([prompt[:-1]]), past_key_values=cache)
    cache.batch_repeat_interleave(len(responses))
    last = torch.full((len(responses), 1), prompt[-1])
    logits = model(input_ids=torch.cat([last, responses[:, :-1]], 1), past_key_values=cache).logits
    return torch.log_softmax(logits / temperature, -1)


def update(model, reference, optimizer, prompt: list[int], responses: list[list[int]], advantage: Tensor, cfg) -> None:
    """One gradient step over all responses; micro-batches hold responses of like length. advantage: "rows"."""
    total = sum(map(len, responses))
    order = sorted(range(len(responses)), key=lambda row: len(responses[row]))
    for start in range(0, len(order), MICRO_BATCH):
        rows = order[start : start + MICRO_BATCH]
        ids = pad_sequence([torch.tensor(responses[row]) for row in rows], batch_first=True)
        weight = pad_sequence([torch.ones(len(responses[row])) for row in rows], batch_first=True)
        ours = log_probs(model, prompt, ids, cfg.scale.temperature)
        taken = ours.gather(-1, ids[..., None])[..., 0]
        with torch.no_grad():
            theirs = log_probs(reference, prompt, ids, cfg.scale.temperature).gather(-1, ids[..., None])[..., 0]
        # One update per rollout step: the ratio is 1, and clipping never acts.
        loss = -(taken - taken.detach()).exp() * advantage[rows, None]
        gap = (theirs - taken).clamp(-20, 20)
        loss = loss + cfg.loss.kl * (gap.exp() - gap - 1).clamp(-10, 10)
        loss = loss + cfg.loss.entropy * (ours.exp() * ours).sum(-1)
        ((loss * weight).sum() / total).backward()
    clip_grad_norm_(model.parameters(), cfg.actor_rollout_ref.actor.optim.clip_grad)
    optimizer.step()
    optimizer.zero_grad()


def train(steps: int, threads: int) -> list[dict[str, float]]:
    """Of each step: mean reward, mean tokens of a response, seconds of generation, update (reference included) and both."""
    cfg = compose("+experiment=one_shot")
    torch.set_num_threads(threads)
    torch.manual_seed(cfg.seed)
    tokenizer = AutoTokenizer.from_pretrained(cfg.base_model.path)
    model = AutoModelForCausalLM.from_pretrained(cfg.base_model.path, dtype=torch.float32).eval()
    reference = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.scale.learning_rate, weight_decay=cfg.loss.weight_decay)
    (example,) = ranked_rows(cfg.pool, None, list(cfg.train_set.ranks))
    prompt = tokenizer(render(cfg.base_model.template, example["prompt"], tokenizer)).input_ids
    lines = []
    for step in range(1, steps + 1):
        started = time.perf_counter()
        responses = generate(model, prompt, cfg.scale.prompts_per_step * cfg.scale.samples_per_prompt, cfg.scale)
        boxes = [re.findall(r"\\boxed\{\s*([^{}]*?)\s*\}", text) for text in tokenizer.batch_decode(responses)]
        rewards = torch.tensor([float(found[-1:] == [example["answer"]]) for found in boxes])
        generated = time.perf_counter()
        groups = rewards.view(-1, cfg.scale.samples_per_prompt)
        advantage = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-6)  # as in verl
        update(model, reference, optimizer, prompt, responses, advantage.flatten(), cfg)
        ended = time.perf_counter()
        line = {"step": step, "reward": rewards.mean().item(), "tokens": sum(map(len, responses)) / len(responses)}
        lines.append(line | {"generation": generated - started, "update": ended - generated, "whole": ended - started})
    return lines
