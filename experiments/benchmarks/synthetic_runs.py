"""SYNTHETIC run folders: random numbers in the format of real ones, to measure and test the analysis. Never results.

    python -m experiments.benchmarks.synthetic_runs out=/tmp/synthetic [runs=10] [steps=2000] [every=20] [problems=125] [rollouts=64]

Writes through rlvr.runs.folder, as a real run does. Every text begins with SYNTHETIC, and the machine is called so.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import yaml

from rlvr.runs.folder import RunFolder, write_eval, write_rollouts

EXPERIMENTS = ("one_shot", "full_set", "format_reward", "one_shot_pi13", "two_shot", "entropy_only", "no_entropy")
BENCHMARKS = {
    "math500": 1, "aime24": 8, "amc23": 8, "minerva_math": 1, "olympiadbench": 1, "aime25": 8, "arc_easy": 1,
    "arc_challenge": 1,
}  # fmt: skip
SUBJECTS = ("Algebra", "Geometry", "Number Theory", "Prealgebra")
FILLER = "so we multiply both sides and obtain the next line of the argument, "


def write_run(
    root: Path, name: str, seed: int, steps: int, every: int, problems: int, rollouts: int, scale: str = "paper",
    model: str = "qwen2_5_math_1_5b", benchmarks: dict[str, int] = BENCHMARKS,
) -> RunFolder:  # fmt: skip
    """One finished run. problems: of each benchmark, answered 1 or 8 times (fewer problems for 8)."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    folder = RunFolder(root / scale / model / name / f"seed{seed}")
    folder.path.mkdir(parents=True)
    folder.config_path.write_text(yaml.safe_dump(config(name, seed, steps, scale, model)))
    times = {"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-01T01:00:00+00:00"}
    folder.provenance_path.write_text(
        json.dumps({"status": "finished", "command": ["SYNTHETIC"], "hardware": {"cpu": "SYNTHETIC"}, **times})
    )
    lines = []
    skill = rng.uniform(0.1, 0.9, size=problems)
    for step in range(steps + 1):
        learnt = 1 - np.exp(-5 * step / steps)
        line = {"step": step}
        if step:
            chance = min(1.0, 0.05 + 1.05 * learnt)
            score = (rng.random(rollouts) < chance).astype(float)
            line |= {"train/accuracy": score.mean(), "train/response_tokens": 300.0 + step / 10, "time/step_s": 1.0}
            line |= {
                "train/signal_groups": 0.5,
                "actor/entropy": 0.3 - 0.2 * learnt,
                "actor/pg_loss": rng.normal(0, 0.02),
            }
            write_rollouts(folder, step, training_rows(step, score, rng))
        if step % every == 0:
            for benchmark, samples in benchmarks.items():
                count = problems // (4 if samples > 1 else 1)
                write_eval(folder, benchmark, step, answers(benchmark, count, samples, 0.6 * skill + 0.3 * learnt, rng))
        lines.append(json.dumps(line) + "\n")
    folder.metrics_path.write_text("".join(lines))
    return folder


def config(name: str, seed: int, steps: int, scale: str, model: str) -> dict:
    return {
        "experiment_name": name, "variant": None, "label": {"name": "correct"}, "updates_per_step": 1, "seed": seed,
        "loss": {"policy": "vanilla", "kl": 0.001, "entropy": 0.001, "weight_decay": 0.01},
        "train_set": {"name": "pi1"}, "reward_rule": {"name": "outcome"}, "pool": {"name": "SYNTHETIC"},
        "base_model": {"name": model},
        "scale": {"name": scale, "steps": steps, "prompts_per_step": 8, "samples_per_prompt": 8, "learning_rate": 1e-6,
                  "temperature": 0.6, "max_response_tokens": 3072},
    }  # fmt: skip


def texts(count: int, rng: np.random.Generator) -> list[str]:
    return [f"SYNTHETIC {FILLER * n}\\boxed{{{n}}}" for n in rng.integers(2, 8, size=count)]


def training_rows(step: int, score: np.ndarray, rng: np.random.Generator) -> dict:
    n = len(score)
    return {
        "step": [step] * n, "index": [0] * n, "rank": [1] * n, "uid": [f"g{i // 8}" for i in range(n)],
        "sample": [i % 8 for i in range(n)], "prompt": ["SYNTHETIC training example"] * n, "response": texts(n, rng),
        "gold": ["4"] * n, "reward": score, "score": score, "reason": ["correct" if s else "wrong" for s in score],
        "boxed": [True] * n, "truncated": [False] * n, "response_tokens": rng.integers(100, 500, size=n),
    }  # fmt: skip


def answers(benchmark: str, problems: int, samples: int, chance: np.ndarray, rng: np.random.Generator) -> dict:
    n = problems * samples
    score = (rng.random(n) < np.repeat(chance[:problems], samples)).astype(float)
    problem = np.repeat(np.arange(problems), samples)
    return {
        "benchmark": [benchmark] * n, "id": [f"{benchmark}/{i}" for i in problem],
        "subject": [SUBJECTS[i % len(SUBJECTS)] for i in problem], "sample": np.tile(np.arange(samples), problems),
        "prompt": [f"SYNTHETIC problem {i}" for i in problem], "response": texts(n, rng), "gold": ["4"] * n, "score": score,
        "reason": ["correct" if s else "wrong" for s in score], "boxed": rng.random(n) < 0.9, "truncated": [False] * n,
        "response_tokens": rng.integers(100, 500, size=n),
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    given = {"out": "", "runs": "10", "steps": "2000", "every": "20", "problems": "125", "rollouts": "64"}
    given |= dict(argument.split("=", 1) for argument in arguments)
    if not given["out"]:
        print("usage: out=<folder>, which must not be a folder of real runs", file=sys.stderr)
        return 2
    for i in range(int(given["runs"])):
        name, seed = EXPERIMENTS[i % len(EXPERIMENTS)], i // len(EXPERIMENTS)
        sizes = [int(given[key]) for key in ("steps", "every", "problems", "rollouts")]
        print(write_run(Path(given["out"]), name, seed, *sizes).path, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
