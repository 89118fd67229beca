"""Batched generation for the bare benchmark: one prefill per distinct prompt, finished rows dropped as they end."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rlvr.tiny.behaviours import MAX_RESPONSE_TOKENS


@torch.no_grad()
def generate(
    model: PreTrainedModel, prompts: list[list[int]], n: int, temperature: float, generator: torch.Generator
) -> list[list[int]]:
    """`n` responses to each prompt, prompt-major, ending with the end token unless cut; temperature 0 is greedy."""
    eos, pad = model.config.eos_token_id, model.config.pad_token_id
    distinct = prompts[:1] if all(p == prompts[0] for p in prompts) else prompts
    copies = len(prompts) * n // len(distinct)
    ids, mask = left_pad(distinct, pad)
    padded = not bool(mask.all())
    cache = DynamicCache()
    inputs = dict(attention_mask=mask, position_ids=positions(mask)) if padded else {}
    logits = model(input_ids=ids, past_key_values=cache, logits_to_keep=1, **inputs).logits[:, -1]
    cache.batch_repeat_interleave(copies)
    logits, mask = logits.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0)
    responses: list[list[int]] = [[] for _ in range(len(mask))]
    rows = torch.arange(len(mask))
    for step in range(MAX_RESPONSE_TOKENS):
        if temperature:
            tokens = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]
        else:
            tokens = logits.argmax(-1)
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            responses[row].append(token)
        keep = (tokens != eos).nonzero()[:, 0]
        if len(keep) == 0 or step == MAX_RESPONSE_TOKENS - 1:
            break
        if len(keep) < len(tokens):
            cache.batch_select_indices(keep)
            rows, tokens, mask = rows[keep], tokens[keep], mask[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        inputs = dict(attention_mask=mask, position_ids=mask.sum(1, keepdim=True) - 1) if padded else {}
        logits = model(input_ids=tokens[:, None], past_key_values=cache, **inputs).logits[:, -1]
    return responses


def left_pad(sequences: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """(ids, mask), each Int[Tensor, "rows tokens"], of sequences padded on the left to the longest."""
    width = max(map(len, sequences))
    ids = torch.tensor([[pad] * (width - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences])
    return ids, mask


def positions(mask: Tensor) -> Tensor:
    """Position of every token among its row's unmasked tokens; 0 in the padding."""
    return (mask.cumsum(1) - 1).clamp(min=0)
