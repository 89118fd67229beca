"""The model card that pretraining writes beside the weights, with the time and loss it measured."""

from __future__ import annotations

import platform
from pathlib import Path

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Tiny base model of one-shot-rlvr

A Qwen2-architecture language model with {parameters:,} parameters, pretrained from nothing by
`python -m rlvr.tiny.pretrain` on made-up word problems. It can solve most of them when it reasons and boxes its answer,
and by habit often does something else: it is a base model in the sense of arXiv 2504.20571, able but unreliable.

| measured | |
|---|---|
| tokens | {tokens:,} in {steps:,} steps |
| wall time | {wall_min:.1f} minutes, {threads} thread(s), {machine}, shared |
| final loss | {final_loss:.4f} nats per response token (mean of the last 100 steps) |
| versions | torch {torch}, transformers {transformers}, Python {python} |

**Format.** A prompt is the question and a line break, which is all the chat template renders. Answers are meant to end in
`\\boxed{{...}}`. Responses take at most 80 tokens. Weights are stored in bfloat16; load them in float32
(`AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)`).

**Training text.** Each document is one problem with one response drawn from a mixture of habits (`behaviours.py`):
reasoned with careful or sloppy arithmetic, boxed or not; bare guesses, nearly always boxed and mostly wrong; code-like
rambling; repetition up to the length limit; going on after the box. Which habit is likely depends on every surface
feature of the problem. {choice_share:.0%} of documents are non-mathematical multiple-choice questions.

**Held out.** The example pool, the validation set and the benchmarks share no problem (template and parameters) with
the training text: `tests/test_tiny_world.py`.

{notes}
"""

# What a fresh run cannot measure about itself: it stays true only for the weights it was written with.
_NOTES = Path(__file__).with_name("model_notes.md")


def write_model_card(folder: Path, measured: dict[str, float], parameters: int) -> None:
    """Write `README.md` into `folder`; `measured` is what `pretrain.train` returned."""
    import torch
    import transformers

    from rlvr.tiny.behaviours import CHOICE_SHARE

    card = _CARD.format(
        parameters=parameters,
        wall_min=measured["wall_s"] / 60,
        machine=platform.machine(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
        choice_share=CHOICE_SHARE,
        notes=_NOTES.read_text(encoding="utf-8") if _NOTES.exists() else "",
        **{key: measured[key] for key in ("tokens", "steps", "threads", "final_loss")},
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
