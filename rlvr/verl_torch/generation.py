"""Batched sampling from a causal language model in plain torch, for verl's rollout on a CPU.

Each distinct prompt is prefilled once, and all its samples share the cache. Rows leave the batch when they finish.
A token is drawn by inverting the cumulative distribution at one uniform number. With a `seed`, the tokens of a row
depend only on seed, prompt and weights, not on the other rows.
Log-probabilities are those of softmax(logits / temperature) over the whole vocabulary, before top_p and top_k, which
is what verl's trainer recomputes; for greedy rows (temperature 0) the temperature counts as 1.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from rlvr.verl_torch.decoding import NAME, grows, join, new_cache

COMPACT_BELOW = 0.85  # share of unfinished rows below which the finished ones are dropped from the batch
PREFILL_TOKENS = 800  # of prompts in one forward pass on a CPU
BLOCK = 1024  # tokens whose probabilities are summed together before one of them is looked for


@dataclass(frozen=True)
class Sampling:
    """How one row is sampled. `temperature` 0 is greedy; `top_k` <= 0 and `top_p` 1 mean no restriction."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self):
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens}: expected at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature}: expected 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: expected a value in (0, 1]")


@dataclass
class Completion:
    """One sampled response. `stop_reason` is completed (a stop token), length, or aborted."""

    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    stop_reason: str = "length"


def rows_in_memory(config, tokens: int, item_bytes: int, free_bytes: float) -> int:
    """Rows of so many tokens whose keys and values fit, 1 at least. `config` is the model's.

    A third is left for what grows: a layer's buffers are there twice while they are copied to larger ones.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row = 2 * config.num_hidden_layers * heads * dim * item_bytes * tokens
    return max(1, int(free_bytes * 2 / 3 / row))


def end_tokens(model: PreTrainedModel, tokenizer: Callable[[], Any]) -> tuple[int, ...]:
    """The tokens that end an answer: the model's, or those of its tokenizer, which is loaded only where the model names none."""
    eos = model.generation_config.eos_token_id
    if eos is None:
        eos = tokenizer().eos_token_id
    return tuple(eos if isinstance(eos, list) else [] if eos is None else [eos])


class Generator:
    """Samples from one model. Weights may be written between two tokens while holding `lock`.

    Args:
        model: causal language model in eval mode; for a GPU, generate inside `with torch.device(...)`.
        eos_token_ids: tokens that end a response (and belong to it).
        max_rows: rows decoded at once; more are decoded in further batches.
    """

    def __init__(self, model: PreTrainedModel, eos_token_ids: tuple[int, ...], max_rows: int = 256, seed: int = 0):
        model.set_attn_implementation(NAME)
        self.model = model
        self.eos_token_ids = tuple(eos_token_ids)
        self.max_rows = max_rows
        self.lock = threading.Lock()
        self._unseeded = torch.Generator("cpu").manual_seed(seed)

    @torch.inference_mode()
    def generate(
        self, prompts: list[list[int]], sampling: list[Sampling], aborted: Callable[[], bool] = lambda: False
    ) -> list[Completion]:
        """Sample one response for each prompt (token ids), in the order given. `aborted` is asked at every token."""
        if any(not prompt for prompt in prompts):
            raise ValueError("an empty prompt cannot be continued: give at least one token")
        results: list[Completion] = [Completion() for _ in prompts]
        # Prompts of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        for start in range(0, len(order), self.max_rows):
            rows = order[start : start + self.max_rows]
            batch = [results[i] for i in rows]
            self._decode([prompts[i] for i in rows], [sampling[i] for i in rows], batch, aborted)
        return results

    def _decode(self, prompts, sampling, results, aborted) -> None:
        distinct = {prompt: k for k, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        with self.lock:
            logits, cache, mask = self._prefill(list(distinct))
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        if len(distinct) < len(prompts):
            source = torch.tensor([distinct[tuple(prompt)] for prompt in prompts])
            cache.batch_select_indices(source)
            logits, mask = logits[source], None if mask is None else mask[source]

        max_tokens = max(s.max_tokens for s in sampling)
        chooser = _Chooser(sampling, max_tokens, self._unseeded)
        limits = torch.tensor([s.max_tokens for s in sampling])
        stop = _stop_matrix(sampling, self.eos_token_ids, logits.shape[-1])
        rows = torch.arange(len(prompts))  # position in `results` of each row still in the batch
        finished = torch.zeros(len(prompts), dtype=torch.bool)
        drawn: list[tuple[Tensor, Tensor, Tensor]] = []  # of each step: rows, tokens, log-probabilities
        for step in range(max_tokens):
            chosen, log_prob = chooser.choose(logits, step)
            drawn.append((rows[~finished], chosen[~finished], log_prob[~finished]))
            stopped = stop[rows, chosen] & ~finished
            for row in rows[stopped].tolist():
                results[row].stop_reason = "completed"
            finished |= stopped | (limits[rows] <= step + 1)
            if bool(finished.all()):
                break
            if aborted():
                for row in rows[~finished].tolist():
                    results[row].stop_reason = "aborted"
                break
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            if (~finished).sum() < COMPACT_BELOW * len(finished):
                keep = (~finished).nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, chosen, lengths, finished = rows[keep], chosen[keep], lengths[keep], finished[keep]
                mask = None if mask is None else mask[keep]
                chooser.keep(keep)
            with self.lock:
                logits = self._logits(chosen[:, None], mask, (lengths + step)[:, None], cache)
        for of_step in drawn:
            for row, token, log_prob in zip(*(values.tolist() for values in of_step), strict=True):
                results[row].token_ids.append(token)
                results[row].log_probs.append(log_prob)

    def _prefill(self, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Cache, Tensor | None]:
        """Logits after each prompt ("prompts vocab"), their cache, and the mask of left padding (None if none)."""
        longest = max(map(len, prompts))
        size = len(prompts)
        if self.model.device.type == "cpu" and grows(self.model.config):
            size = max(1, PREFILL_TOKENS // longest)
        parts = [self._prefill_at_once(prompts[i : i + size]) for i in range(0, len(prompts), size)]
        logits, caches = zip(*parts, strict=True)
        return torch.cat(logits), join(list(caches)), _left_padding(prompts)

    def _prefill_at_once(self, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Cache]:
        longest = max(map(len, prompts))
        ids = torch.tensor([(prompt[0],) * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = _left_padding(prompts)
        position_ids = None if mask is None else (mask.cumsum(1) - 1).clamp(min=0)
        cache = new_cache(self.model.config)
        return self._logits(ids, mask, position_ids, cache), cache

    def _logits(self, ids: Tensor, mask: Tensor | None, position_ids: Tensor | None, cache: Cache) -> Tensor:
        """Logits "rows vocab" after the tokens `ids` ("rows tokens"), which are added to the cache."""
        known = {"attention_mask": mask, "position_ids": position_ids, "past_key_values": cache}
        return self.model(input_ids=ids, **known, use_cache=True, logits_to_keep=1).logits[:, -1]


def _left_padding(prompts: list[tuple[int, ...]]) -> Tensor | None:
    """Mask "prompts tokens" of prompts aligned on the right, 0 where the shorter ones are filled up; None if none is."""
    longest = max(map(len, prompts))
    fill = torch.tensor([[longest - len(prompt)] for prompt in prompts])
    return (torch.arange(longest) >= fill).long() if bool(fill.any()) else None


def _stop_matrix(sampling: list[Sampling], eos_token_ids: tuple[int, ...], vocabulary: int) -> Tensor:
    """Bool "rows vocab": does this token end this row?"""
    stop = torch.zeros(len(sampling), vocabulary, dtype=torch.bool)
    for row, s in enumerate(sampling):
        ids = list(s.stop_token_ids) + ([] if s.ignore_eos else list(eos_token_ids))
        stop[row, ids] = True
    return stop


class _Chooser:
    """Draws the next token of every row."""

    def __init__(self, sampling: list[Sampling], max_tokens: int, unseeded: torch.Generator):
        temperature = torch.tensor([s.temperature for s in sampling])
        self.greedy = temperature == 0
        self.temperature = torch.where(self.greedy, 1.0, temperature)[:, None]
        self.top_p = torch.tensor([s.top_p for s in sampling])[:, None]
        self.top_k = torch.tensor([s.top_k for s in sampling])[:, None]
        self.restricted = bool(((self.top_p < 1) | (self.top_k > 0)).any())
        # Drawn on the CPU, so that a seed gives the same numbers on every device.
        uniform = torch.rand(len(sampling), max_tokens, generator=unseeded, dtype=torch.float64, device="cpu")
        for row, s in enumerate(sampling):
            if s.seed is not None:
                generator = torch.Generator("cpu").manual_seed(s.seed)
                uniform[row] = torch.rand(max_tokens, generator=generator, dtype=torch.float64, device="cpu")
        self.uniform = uniform.to(temperature.device)

    def keep(self, rows: Tensor) -> None:
        for name in ("greedy", "temperature", "top_p", "top_k", "uniform"):
            setattr(self, name, getattr(self, name)[rows])

    def _uniform(self, step: int) -> Tensor:
        """The number in [0, 1) that each row inverts its cumulative distribution at: "rows 1"."""
        return self.uniform[:, step, None]

    def choose(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Token ids and their log-probabilities ("rows" each) from logits "rows vocab"."""
        scaled = logits / self.temperature  # float32, also for bf16 logits
        log_probs = torch.log_softmax(scaled, -1)
        if bool(self.greedy.all()):
            chosen = logits.argmax(-1)
        else:
            probs = torch.exp(log_probs, out=scaled)
            if self.restricted:
                probs = _restrict(probs, self.top_p, self.top_k)
            chosen = _invert(probs, self._uniform(step))
            if bool(self.greedy.any()):
                chosen = torch.where(self.greedy, logits.argmax(-1), chosen)
        return chosen, log_probs.gather(-1, chosen[:, None])[:, 0]


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """Where the cumulative sum of probabilities "rows vocab" passes `uniform` ("rows 1", in [0, 1)) of the whole: "rows".

    Of a large vocabulary two levels of sums are enough: over blocks, and over the tokens of the block that is hit.
    """
    vocabulary = probs.shape[-1]
    if vocabulary <= BLOCK:
        return _inverted(probs.double().cumsum(-1), uniform)[0]
    whole = vocabulary // BLOCK * BLOCK
    sums = probs[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1)
    if whole < vocabulary:
        sums = torch.cat([sums, probs[:, whole:].sum(-1, keepdim=True)], -1)
    block, share = _inverted(sums.double().cumsum(-1), uniform)
    tokens = block[:, None] * BLOCK + torch.arange(BLOCK)
    inside = probs.gather(-1, tokens.clamp(max=vocabulary - 1)).masked_fill_(tokens >= vocabulary, 0)
    return block * BLOCK + _inverted(inside.double().cumsum(-1), share)[0]


def _inverted(cumulative: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The entry of a cumulative sum that `uniform` of its last value falls into ("rows"), and how far into it ("rows 1")."""
    threshold = uniform * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, threshold, right=True).clamp(max=cumulative.shape[-1] - 1)
    upper = cumulative.gather(-1, found)
    lower = torch.where(found > 0, cumulative.gather(-1, (found - 1).clamp(min=0)), 0.0)
    return found[:, 0], ((threshold - lower) / (upper - lower)).clamp(0, 1 - 2**-53)


def _restrict(probs: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """Probabilities "rows vocab" with all but the top_k tokens, then all outside the top_p nucleus, set to 0."""
    ordered, index = probs.sort(-1, descending=True)
    rank = torch.arange(probs.shape[-1])
    ordered = torch.where((top_k > 0) & (rank >= top_k), 0.0, ordered)
    before = ordered.cumsum(-1) - ordered
    # The nucleus is the smallest set reaching top_p of what top_k has left.
    ordered = torch.where(before < top_p * ordered.sum(-1, keepdim=True), ordered, 0.0)
    return torch.zeros_like(probs).scatter(-1, index, ordered)
