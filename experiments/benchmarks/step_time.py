"""Seconds per step of the main job through verl, against a bare torch loop that does the same rollouts and update.

Both run in turn on this machine with the tiny defaults and the same example; medians leave out the first steps, when
caches are cold. Prints the ratio and where verl's step goes.

    python -m experiments.benchmarks.step_time [steps=20] [repeats=3]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rlvr.config.compose import compose
from rlvr.data.pools import ranking
from rlvr.runs.folder import RunFolder, metrics_lines

WARM_UP = 3
PARTS = {
    "generation and reward": "time/generate_s",
    "reference": "time/reference_s",
    "update": "time/update_s",
    "weight sync": "time/sync_s",
}


def bare(steps: int, example: int, rows: int, threads: int) -> dict[str, float]:
    """Median seconds of one bare step: generation, update (reference included) and both."""
    command = [sys.executable, "-m", "experiments.benchmarks.bare_grpo", f"examples=[{example}]"]
    command += [f"steps={steps}", f"prompts={rows}", f"threads={threads}", "eval_every=100000"]
    environment = os.environ | {"GOMP_SPINCOUNT": "100000", "OMP_NUM_THREADS": str(threads)}  # as a run sets them
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"step"')]
    lines = [line for line in lines if line.get("generation_s")][WARM_UP:]
    return {
        "generation": median(line["generation_s"] for line in lines),
        "update": median(line["update_s"] for line in lines),
        "step": median(line["generation_s"] + line["update_s"] for line in lines),
        "tokens": median(line["tokens"] for line in lines),
    }


def through_verl(steps: int, runs: Path) -> dict[str, float]:
    """Median seconds of one step of `run.py +experiment=one_shot`, and of its parts."""
    command = [sys.executable, "run.py", "+experiment=one_shot", f"scale.steps={steps}", f"runs_dir={runs}"]
    command += [
        "scale.evaluate_every=100000",
        "scale.save_every=100000",
        "tracking=off",
        "trainer.val_before_train=false",
    ]
    subprocess.run(command, capture_output=True, text=True, check=True)
    folder = RunFolder(runs / "tiny" / "tiny" / "one_shot" / "seed0")
    lines = [line for line in metrics_lines(folder.metrics_path) if line["step"] > WARM_UP]
    times = {name: median(line[key] for line in lines) for name, key in PARTS.items()}
    times["step"] = median(line["time/step_s"] for line in lines)
    times["verl's bookkeeping"] = times["step"] - sum(times[name] for name in PARTS)
    times["tokens"] = median(line["train/response_tokens"] for line in lines)
    return times


def main(arguments: list[str]) -> None:
    options = dict(argument.split("=") for argument in arguments)
    steps, repeats = int(options.get("steps", 20)), int(options.get("repeats", 3))
    cfg = compose("+experiment=one_shot")
    example = ranking(cfg.pool.source, cfg.pool.ranking, None)[0]
    ratios = []
    for repeat in range(repeats):
        loop = bare(steps, example, cfg.scale.prompts_per_step, threads=len(os.sched_getaffinity(0)))
        with tempfile.TemporaryDirectory() as runs:
            verl = through_verl(steps, Path(runs))
        ratios.append(verl["step"] / loop["step"])
        print(f"repeat {repeat + 1}: verl / bare = {ratios[-1]:.2f}")
        print("  bare  " + "  ".join(f"{name} {value:.2f}" for name, value in loop.items()))
        print("  verl  " + "  ".join(f"{name} {value:.2f}" for name, value in verl.items()), flush=True)
    print(f"ratio: min {min(ratios):.2f}, median {median(ratios):.2f} of {repeats}")


if __name__ == "__main__":
    main(sys.argv[1:])
