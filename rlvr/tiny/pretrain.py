"""Pretrain the tiny base model from nothing, in two phases: lessons (careful reasoning alone), then the mixture of habits.

1. Lessons first: learning arithmetic from text full of dropped carries took several times as many tokens.
2. The loss covers the response alone: the numbers in a question carry nothing to learn.
3. Hidden matrices are trained with Muon, the rest with AdamW, both from torch; bfloat16 autocast, float32 weights.
   Each phase warms up and decays by a cosine of its own.
4. Weights are stored in bfloat16 and meant to be upcast to float32 when loaded.

    python -m rlvr.tiny.pretrain out=my_base      # about half an hour on one core
"""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from rlvr.cli import ConfigError, command, option
from rlvr.tiny.habits import MAX_RESPONSE_TOKENS, PHRASES, draw_document, draw_lesson

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

EOS, PAD = "<|endoftext|>", "<|pad|>"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"
IGNORED = -100
RESPONSE_SHARE = 0.6  # of the tokens of a document, on average
Draw = Callable[[Random], tuple[str, str]]  # of a (prompt, response)


@dataclass
class Pretraining:
    """Every setting of the run; tokens are those of prompt and response, without padding."""

    out: Path = option("a new folder for model, tokenizer and card")
    seed: int = option("of text and weights", 0)
    threads: int = option("of torch", 1, at_least=1)
    lesson_tokens: int = option("of the first phase", 2_900_000, at_least=1)
    mixture_tokens: int = option("of the second", 1_800_000, at_least=1)
    batch_tokens: int = option("in a batch", 2048, at_least=1)
    muon_lr: float = option("learning rate of the hidden matrices", 5e-3)
    adamw_lr: float = option("learning rate of the rest", 3e-3)
    mixture_lr_factor: float = option("both learning rates in the second phase, relative to the first", 0.6)
    vocabulary: int = option("entries of the tokenizer", 640)
    hidden: int = option("width", 192)
    layers: int = option("layers", 4)
    mlp: int = option("width inside the MLP", 512)


def train_tokenizer(run: Pretraining) -> PreTrainedTokenizerFast:
    """A byte-level BPE with single digits, distinct end and padding tokens, and the one-message chat template.

    Its text does not depend on how likely the habits are, so that the lessons can be shared by several mixtures.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=run.vocabulary, special_tokens=[EOS, PAD], initial_alphabet=alphabet, show_progress=False
    )
    rng = Random(f"tokenizer/{run.seed}")
    backend.train_from_iterator(("".join(draw_lesson(rng)) + rng.choice(PHRASES) for _ in range(20_000)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.padding_side = "left"
    return tokenizer


def build_model(run: Pretraining, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A small Qwen2 with fresh weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(run.seed)
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


def batches(run: Pretraining, draw: Draw, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, labels), each Int[Tensor, "documents tokens"]; documents of like length go together.

    A response past the length limit is cut and has no end token.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    encode = tokenizer.backend_tokenizer.encode
    rng = Random(f"{draw.__name__}/{run.seed}")
    while True:
        documents = []
        for prompt, response in (draw(rng) for _ in range(1024)):
            head = encode(prompt).ids
            # A loop is far longer than the limit; eight characters a token is more than any response has.
            tail = [*encode(response[: 8 * MAX_RESPONSE_TOKENS]).ids, tokenizer.eos_token_id][:MAX_RESPONSE_TOKENS]
            documents.append((head + tail, [IGNORED] * len(head) + tail))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for document in sorted(documents, key=lambda document: len(document[0])):
            if (len(groups[-1]) + 1) * len(document[0]) > run.batch_tokens:
                groups.append([])
            groups[-1].append(document)
        rng.shuffle(groups)
        for group in groups:
            ids, labels = ([torch.tensor(row) for row in rows] for rows in zip(*group, strict=True))
            yield pad_sequence(ids, True, tokenizer.pad_token_id), pad_sequence(labels, True, IGNORED)


def train(
    run: Pretraining,
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    draw: Draw,
    tokens: int,
    lr_factor: float,
) -> dict[str, float]:
    """One phase, in place, on documents from `draw`; returns wall_s, steps, tokens, and loss.

    `loss` is in nats per response token, the mean of the last 100 steps.
    """
    import torch
    from tqdm import tqdm

    inner = [(p, "layers" in name and p.ndim == 2) for name, p in model.named_parameters()]
    hidden, rest = [p for p, matrix in inner if matrix], [p for p, matrix in inner if not matrix]
    muon = torch.optim.Muon(hidden, lr=lr_factor * run.muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=lr_factor * run.adamw_lr, betas=(0.9, 0.98), weight_decay=0.05)
    peaks = [(group, group["lr"]) for optimizer in (muon, adamw) for group in optimizer.param_groups]

    seen, start = 0, time.time()
    losses: list[float] = []
    progress = tqdm(total=tokens, unit="tok", unit_scale=True, mininterval=5, desc=draw.__name__.removeprefix("draw_"))
    for ids, labels in batches(run, draw, tokenizer):
        # 50 steps of warm-up, and a cosine down to 2 % of the peak.
        scale = min(1.0, (len(losses) + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * seen / tokens)))
        for group, peak in peaks:
            group["lr"] = peak * scale
        with torch.autocast("cpu", torch.bfloat16):
            states = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(states[kept := labels[:, 1:] != IGNORED])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][kept], reduction="sum")
        # Not the mean of the batch: batches are of like length, and short answers would count several times as much.
        (loss / (RESPONSE_SHARE * run.batch_tokens)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in (muon, adamw):
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item() / len(logits))
        count = int((ids != tokenizer.pad_token_id).sum())
        seen += count
        progress.update(count)
        if len(losses) % 50 == 0:
            progress.set_postfix(loss=f"{sum(losses[-50:]) / 50:.4f}", refresh=False)
        if seen >= tokens:
            break
    progress.close()
    return dict(
        wall_s=time.time() - start, steps=len(losses), tokens=seen, loss=sum(losses[-100:]) / len(losses[-100:])
    )


def pretrain(run: Pretraining) -> None:
    """Both phases, then the model, its tokenizer and its card into `run.out`. ConfigError for a folder that holds a model."""
    if (run.out / "model.safetensors").exists():
        raise ConfigError(f"out={run.out}: holds a model already; give a new folder")
    import torch
    import transformers

    from rlvr.tiny.model_card import write

    torch.set_num_threads(run.threads)
    tokenizer = train_tokenizer(run)
    model = build_model(run, tokenizer)
    phases = {
        "lessons": train(run, model, tokenizer, draw_lesson, run.lesson_tokens, 1.0),
        "mixture": train(run, model, tokenizer, draw_document, run.mixture_tokens, run.mixture_lr_factor),
    }
    model.to(torch.bfloat16).save_pretrained(run.out)
    # The template belongs inside tokenizer_config.json, where every reader of Hugging Face folders looks for it.
    tokenizer.save_pretrained(run.out, save_jinja_files=False)
    made = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": run.seed,
        "threads": run.threads,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    write(run.out, made, phases)


if __name__ == "__main__":
    sys.exit(command(Pretraining, pretrain, __doc__))
