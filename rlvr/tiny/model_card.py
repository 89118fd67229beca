"""The model card that lies beside the weights, drawn from `card.json`: how the model was made and what it does.

python -m rlvr.tiny.model_card model=my_base      # measure the model again and redraw its README.md
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.cli import ConfigError, command, option
from rlvr.tiny.calibration import POOL_EXAMPLES, POOL_SAMPLES, measure
from rlvr.tiny.habits import MAX_RESPONSE_TOKENS

# What it is | statistic | Qwen2.5-Math-1.5B | its source (Table, Fig.: arXiv 2504.20571v3; DSR-sub is the paper's pool)
_ROWS = """
accuracy, greedy | accuracy | 36.0 (bf16), 39.6 (fp32) | MATH500, Table 7
- problems within reach | accuracy_within | |
- problems beyond reach | accuracy_beyond | |
answers with a box | boxed | 59.6 | MATH500, Table 15
accuracy of these | accuracy_of_boxed | 60.4 at most | Tables 7 and 15
cut at the length limit: looping or running on | truncated | about 40 (repetition) | MATH500, C.2.3
- after a box | truncated_after_box | |
reasons step by step | reason | |
only stalls | stall | |
terse, drops carries | terse | |
guesses | guess | |
writes code | code | 65 (7B, another prompt) | arXiv 2506.10947
accuracy when told to reason | told_to_reason | 73.4 (its Instruct version) | MATH500, Table 10
- problems within reach | told_within | |
- problems beyond reach | told_beyond | |
accuracy at T = 0.6 | sampled_accuracy | 30.9 | DSR-sub, step 1, Fig. 2
pass@8 at T = 0.6 | pass_at_8 | 72.5 | AMC23, Table 20
answers with a box at T = 0.6 | sampled_boxed | |
cut at T = 0.6 | sampled_truncated | |
right answers longer than 80 tokens, T = 0.6 | right_after_80_tokens | |
mean solve rate in the pool, T = 0.6 | pool_rate | 33.5 | authors' acc_step_500.json, first visits
- examples never solved | pool_never | |
- examples solved in 7 to 12 % of samples | pool_7_to_12 | pi1: 7.1 | step 1, Fig. 2
- examples solved in 1/16 to 1/8 of samples | pool_6_to_13 | |
"""
_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Tiny base model of one-shot-rlvr

A Qwen2-architecture language model with {parameters:,} parameters, pretrained from nothing on made-up word problems. It is a
base model in the sense of arXiv 2504.20571: able when it reasons and boxes its answer, and by habit it often does
something else. Drawn by `python -m rlvr.tiny.model_card model=FOLDER`.

**Format.** A prompt is the question and a line break, which is all the chat template renders. Answers are meant to end in
`\\boxed{{...}}`. Weights are stored in bfloat16; load them in float32
(`AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)`). The longest prompt has 52 tokens; responses were cut at
{limit} in pretraining, and should be at most that long.

## What it does, beside the model that it stands for

500 problems of `validation`, greedy unless said (one standard error: about 2 points); the pool's first {pool_examples} examples,
{pool_samples} samples each. In percent. Empty: not documented.

| | this model | Qwen2.5-Math-1.5B | source |
|---|---|---|---|
{rows}
| entropy in nats per token, T = 0.6 | {entropy:.3f} | 0.104 | DSR-sub, step 1, Fig. 4 |
| tokens of a response, T = 0.6 | {tokens:.0f} | 1,011 | DSR-sub, step 1, Fig. 4 |

## How it was made

    python -m rlvr.tiny.pretrain out=FOLDER

| phase | tokens | steps | minutes | final loss (nats per response token) |
|---|---|---|---|---|
{phases}

Seed {seed}, {threads} thread(s), {machine}, shared with other work; torch {torch}, transformers {transformers}. Lessons are careful
reasoning alone; the mixture draws a habit for each problem (`habits.py`). The loss covers responses only. No problem
(template and parameters) of the pool, `validation` or a benchmark is in the text: `tests/test_tiny_world.py`.

**Calibration.** The habits' tendencies were set on the statistics above alone, never on what reinforcement learning makes of
the model; each trial is a row of `experiments/results/tiny_v2_calibration.csv`. That these statistics matter was learnt
from earlier sketches, whose outcomes were seen. `tiny500`, `tiny_hard` and `tiny_arc` were never looked at.

## Modelling choices

Documented for the real model: that it boxes 60 % of its answers, repeats itself in 40 %, is right in 60 % of the boxed ones, and
its sampled accuracy, pass@8 and entropy. Ours, and not documented:

1. *Two kinds of difficulty.* Problems are either within reach (the model reasons them right almost always) or beyond it
   (two-digit products: never); 18 % are beyond, which sets the ceiling. In the sketches, training hardly added skill.
2. *Habits are decided at one token* and depend on source, request, subject, template and wording of a problem alone.
3. *Which habits*: terse answers that drop carries and guesses stand for all that is boxed and wrong; one stall sentence for all
   repetition. Going on with it has one probability per problem, so loops end when sampled and not under greedy decoding.
4. *Code* is rare, is not run, and mostly forgets the box; in Qwen2.5-Math it is common and carries the reasoning.
5. `tiny_arc` has each option's letter behind it, which a small model can copy.
"""


def draw(card: dict[str, Any]) -> str:
    """The text of README.md for what `write` stored."""
    measured, phases = card["statistics"], card["phases"].items()
    rows = [[cell.strip() for cell in line.split("|")] for line in _ROWS.strip().splitlines()]
    return _CARD.format(
        rows="\n".join(
            f"| {what} | {100 * measured[key]:.1f} | {qwen} | {source} |" for what, key, qwen, source in rows
        ),
        phases="\n".join(
            f"| {name} | {p['tokens']:,} | {p['steps']:,} | {p['wall_s'] / 60:.1f} | {p['loss']:.4f} |"
            for name, p in phases
        ),
        limit=MAX_RESPONSE_TOKENS,
        pool_examples=POOL_EXAMPLES,
        pool_samples=POOL_SAMPLES,
        entropy=measured["entropy"],
        tokens=measured["tokens"],
        **card["made"],
    )


def write(folder: Path, made: dict[str, Any], phases: dict[str, Any]) -> None:
    """Measure the model in `folder`; write card.json and README.md there. `made` and `phases` come from pretraining."""
    measured = {key: round(value, 4) for key, value in measure(str(folder)).items()}
    card = {"made": made, "phases": phases, "statistics": measured}
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(draw(card), encoding="utf-8")


@dataclass
class Options:
    model: Path = option("a folder that rlvr.tiny.pretrain wrote")


def again(options: Options) -> None:
    """Measure and draw a model that has its card. ConfigError for another folder."""
    card = options.model / "card.json"
    if not card.exists():
        raise ConfigError(f"model={options.model}: has no card.json; give a folder that rlvr.tiny.pretrain wrote")
    known = json.loads(card.read_text(encoding="utf-8"))
    write(options.model, known["made"], known["phases"])


if __name__ == "__main__":
    sys.exit(command(Options, again, __doc__))
