"""Writes SYNTHETIC run folders: random numbers in the format of real runs, to measure and test the analysis. Never results.

    python -m experiments.timings.synthetic_runs out=/tmp/synthetic [runs=10] [steps=2000]

Every text begins with SYNTHETIC, and the machine has this name.
"""

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr.cli import command, option
from rlvr.runs import samples

if TYPE_CHECKING:
    from rlvr.runs.folder import RunFolder

EXPERIMENTS = ("one_shot", "full_set", "format_reward", "one_shot_pi13", "two_shot", "entropy_only", "no_entropy")
BENCHMARKS = {  # answers to each problem
    "math500": 1, "aime24": 8, "amc23": 8, "minerva_math": 1, "olympiadbench": 1, "aime25": 8, "arc_easy": 1,
    "arc_challenge": 1,
}  # fmt: skip
SUBJECTS = ("Algebra", "Geometry", "Number Theory", "Prealgebra")
FILLER = "so we multiply both sides and obtain the next line of the argument, "
DEFAULTS = {"int64": 0, "string": "", "float64": 0.0, "bool_": False}


def sample_columns(**columns: Any) -> dict[str, Any]:
    """All columns of `rlvr.runs.samples`. A missing column gets its type's default; a scalar is repeated in every row."""
    scalars = {name: value for name, value in columns.items() if isinstance(value, str | bool | int | float)}
    lists = {name: value for name, value in columns.items() if name not in scalars}
    rows = len(next(iter(lists.values())))
    defaults = {name: DEFAULTS[kind] for name, kind in samples.SCHEMA.items() if name not in samples.CHOICES}
    repeated = {name: [value] * rows for name, value in (defaults | scalars).items()}
    return {**repeated, "id": [f"p{i}" for i in range(rows)], **lists}


def write_run(
    root: Path, name: str, seed: int, steps: int, every: int, problems: int, rollouts: int, scale: str = "paper",
    model: str = "qwen2_5_math_1_5b", benchmarks: Mapping[str, int] = BENCHMARKS, words: int = 45,
) -> "RunFolder":  # fmt: skip
    """Write one finished run.

    problems: of each benchmark; a quarter of them if each has several answers. words: the median number of words of a
    response; the distribution is log-normal, cut at 3,072.
    """
    import numpy as np
    import yaml

    from rlvr.runs.folder import RunFolder

    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    folder = RunFolder(root / scale / model / name / f"seed{seed}")
    folder.path.mkdir(parents=True)
    config = {
        "experiment_name": name, "variant": None, "overrides": [], "label": {"name": "correct"}, "updates_per_step": 1, "seed": seed,
        "loss": {"policy": "vanilla", "kl": 0.001, "entropy": 0.001, "weight_decay": 0.01},
        "train_set": {"name": "pi1"}, "reward_rule": {"name": "outcome"}, "pool": {"name": "SYNTHETIC"},
        "base_model": {"name": model},
        "scale": {"name": scale, "steps": steps, "prompts_per_step": 8, "samples_per_prompt": 8, "learning_rate": 1e-6,
                  "temperature": 0.6, "max_response_tokens": 3072},
    }  # fmt: skip
    folder.config_path.write_text(yaml.safe_dump(config))
    times = {"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-01T01:00:00+00:00"}
    provenance = {"status": "finished", "command": ["SYNTHETIC"], "hardware": {"cpu": "SYNTHETIC"}}
    folder.provenance_path.write_text(json.dumps(provenance | times))
    lines = []
    skill = rng.uniform(0.1, 0.9, size=problems)
    for step in range(steps + 1):
        learnt = 1 - np.exp(-5 * step / steps)
        line = {"step": step}
        if step:
            columns = responses("train", step, np.full(rollouts, min(1.0, 0.05 + 1.05 * learnt)), 1, words, rng)
            columns |= {"id": ["0"] * rollouts, "rank": [1] * rollouts, "uid": [f"g{i // 8}" for i in range(rollouts)]}
            columns |= {"sample": [i % 8 for i in range(rollouts)], "prompt": ["SYNTHETIC example"] * rollouts}
            samples.write(folder.rollouts_path(step), columns)
            line |= {"train/accuracy": np.mean(columns["score"]), "train/response_tokens": 300.0 + step / 10}
            line |= {"train/signal_groups": 0.5, "actor/entropy": 0.3 - 0.2 * learnt}
            line |= {"actor/pg_loss": rng.normal(0, 0.02), "time/step_s": 1.0}
        for benchmark, answers in benchmarks.items() if step % every == 0 else ():
            chance = (0.6 * skill + 0.3 * learnt)[: problems // (4 if answers > 1 else 1)]
            samples.write(folder.eval_path(benchmark, step), responses(benchmark, step, chance, answers, words, rng))
        lines.append(json.dumps(line) + "\n")
    folder.metrics_path.write_text("".join(lines))
    return folder


def responses(benchmark: str, step: int, chance: Any, answers: int, words: int, rng: Any) -> dict[str, list]:
    """The columns of `answers` answers to each problem. chance: of a right answer, shape "problems"."""
    import numpy as np

    problem = np.repeat(np.arange(len(chance)), answers)
    n, ids = len(problem), [f"{benchmark}/{i}" for i in problem]
    lengths = np.minimum(rng.lognormal(np.log(words), 0.8, n), 3072).astype(int)
    score = (rng.random(n) < chance[problem]).astype(float)
    reason = ["correct" if one else "wrong" for one in score]
    return sample_columns(
        step=step, benchmark=benchmark, id=ids, uid=ids,
        subject=[SUBJECTS[i % len(SUBJECTS)] for i in problem], sample=np.tile(np.arange(answers), len(chance)),
        prompt=[f"SYNTHETIC problem {i}" for i in problem], answer=[str(k % 20) for k in lengths],
        response=[f"SYNTHETIC {FILLER * (k // FILLER.count(' '))}\\boxed{{{k % 20}}}" for k in lengths],
        score=score, reward=score, reason=reason, gold="4",
        boxed=rng.random(n) < 0.9, truncated=lengths == 3072, response_tokens=lengths, repetition=rng.random(n), reflection=rng.random(n) < 0.02,
    )  # fmt: skip


@dataclass
class Options:
    out: Path = option("a folder without real runs")
    runs: int = option("how many", 10, at_least=1)
    steps: int = option("of each run", 2000, at_least=1)
    every: int = option("steps between evaluations", 20, at_least=1)
    problems: int = option("of each benchmark", 125, at_least=4)
    rollouts: int = option("responses of each step", 64, at_least=1)


def write(options: Options) -> None:
    for i in range(options.runs):
        sizes = (options.steps, options.every, options.problems, options.rollouts)
        seed, name = divmod(i, len(EXPERIMENTS))
        print(write_run(options.out, EXPERIMENTS[name], seed, *sizes).path, flush=True)


if __name__ == "__main__":
    sys.exit(command(Options, write, __doc__))
