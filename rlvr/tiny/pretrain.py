"""Pretrain the tiny base model: one seeded run over a fixed number of tokens, from nothing to `rlvr/tiny/model`.

1. The run begins with lessons (careful reasoning only) and ends with the mixture of habits: learning arithmetic from
   text in which a third of the operations are wrong took several times as many tokens.
2. The loss covers the response alone: the numbers in a question carry nothing to learn.
3. Hidden matrices are trained with Muon, the rest with AdamW, both from torch; bfloat16 autocast, float32 weights.
4. Weights are stored in bfloat16 and meant to be upcast to float32 when loaded.

    python -m rlvr.tiny.pretrain out=FOLDER [threads=1] [tokens=8000000]
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from rlvr.cli import ConfigError, command, option
from rlvr.tiny.behaviours import MAX_RESPONSE_TOKENS, draw_document

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

EOS, PAD = "<|endoftext|>", "<|pad|>"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"
IGNORED = -100


@dataclass
class Pretraining:
    """Every setting of the run; `tokens` counts prompt and response tokens without padding."""

    out: Path = option("a new folder for model, tokenizer and card")
    seed: int = option("of text and weights", 0)
    threads: int = option("of torch", 1, at_least=1)
    tokens: int = option("in all", 8_000_000, at_least=1)
    lesson_tokens: int = option("of them lessons, which come first", 5_000_000)
    batch_tokens: int = option("in a batch", 2048, at_least=1)
    muon_lr: float = option("learning rate of the hidden matrices", 5e-3)
    adamw_lr: float = option("learning rate of the rest", 3e-3)
    vocabulary: int = option("entries of the tokenizer", 768)
    hidden: int = option("width", 192)
    layers: int = option("layers", 4)
    mlp: int = option("width inside the MLP", 512)


def train_tokenizer(documents: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE with single digits, distinct end and padding tokens, and the one-message chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[EOS, PAD], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(documents, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.padding_side = "left"
    return tokenizer


def build_model(run: Pretraining, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A small Qwen2 with fresh weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=run.hidden,
            num_hidden_layers=run.layers,
            num_attention_heads=run.hidden // 32,
            num_key_value_heads=2,
            intermediate_size=run.mlp,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # Short rows on a CPU: the fused kernel's backward takes twice as long.
    model.set_attn_implementation("eager")
    return model


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """(token ids, prompt length) of each document; a response past the length limit is cut and has no end token."""
    backend = tokenizer.backend_tokenizer
    prompts = backend.encode_batch([prompt for prompt, _ in documents])
    # A loop is far longer than the limit; six characters a token is more than any response has.
    responses = backend.encode_batch([response[: 6 * MAX_RESPONSE_TOKENS] for _, response in documents])
    return [
        (prompt.ids + (response.ids + [tokenizer.eos_token_id])[:MAX_RESPONSE_TOKENS], len(prompt.ids))
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def batches(run: Pretraining, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels), each Int[Tensor, "documents tokens"]; documents of like length go together."""
    import torch

    rng = Random(f"pretrain/{run.seed}")
    while True:
        encoded = sorted(encode(tokenizer, [draw_document(rng) for _ in range(4096)]), key=lambda d: len(d[0]))
        groups: list[list[tuple[list[int], int]]] = [[]]
        for document in encoded:
            if (len(groups[-1]) + 1) * len(document[0]) > run.batch_tokens:
                groups.append([])
            groups[-1].append(document)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            ids = torch.full((len(group), width), tokenizer.pad_token_id)
            labels = torch.full((len(group), width), IGNORED)
            for row, (tokens, prompt) in enumerate(group):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, prompt : len(tokens)] = ids[row, prompt : len(tokens)]
            yield ids, labels


def train(run: Pretraining, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Train in place; returns what was measured: wall_s, steps, tokens, and final_loss in nats per response token."""
    import torch
    from tqdm import tqdm

    hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(hidden, lr=run.muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=run.adamw_lr, betas=(0.9, 0.98), weight_decay=0.05)
    peaks = [(group, group["lr"]) for optimizer in (muon, adamw) for group in optimizer.param_groups]

    seen, start = 0, time.time()
    losses: list[float] = []
    progress = tqdm(total=run.tokens, unit="tok", unit_scale=True, mininterval=10)
    for ids, labels in batches(run, tokenizer):
        done = seen / run.tokens
        scale = min(1.0, (len(losses) + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group, peak in peaks:
            group["lr"] = peak * scale
        with torch.autocast("cpu", torch.bfloat16):
            states = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(states[kept := labels[:, 1:] != IGNORED])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][kept])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in (muon, adamw):
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        count = int((ids != tokenizer.pad_token_id).sum())
        seen += count
        progress.update(count)
        if len(losses) % 50 == 0:
            progress.set_postfix(loss=f"{sum(losses[-50:]) / 50:.4f}", refresh=False)
        if seen >= run.tokens:
            break
    progress.close()
    last = losses[-100:]
    return dict(
        wall_s=time.time() - start,
        steps=len(losses),
        tokens=seen,
        final_loss=sum(last) / len(last),
        threads=run.threads,
    )


def pretrain(run: Pretraining) -> None:
    """Train, and write model, tokenizer and model card. ConfigError for a folder that holds a model."""
    if (run.out / "model.safetensors").exists():
        raise ConfigError(f"out={run.out}: holds a model already; give a new folder")
    import torch

    from rlvr.tiny.model_card import write_model_card

    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    rng = Random(f"tokenizer/{run.seed}")
    samples = ["".join((prompt, response[:300])) for prompt, response in (draw_document(rng) for _ in range(20_000))]
    tokenizer = train_tokenizer(samples, run.vocabulary)
    model = build_model(run, tokenizer)
    measured = train(run, model, tokenizer)
    out = run.out
    model.to(torch.bfloat16).save_pretrained(out)
    # The template belongs inside tokenizer_config.json, where every reader of Hugging Face folders looks for it.
    tokenizer.save_pretrained(out, save_jinja_files=False)
    write_model_card(out, measured, sum(p.numel() for p in model.parameters()))
    print(f"wrote {out}: {measured}")


if __name__ == "__main__":
    sys.exit(command(Pretraining, pretrain, __doc__))
