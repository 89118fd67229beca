"""Seconds per step of the main job through verl, against a bare torch loop that does the same rollouts and update.

Both run in turn on this machine with the same example and settings; medians leave out the first steps, when caches are
cold. Prints the ratio and where verl's step goes.

    python -m experiments.timings.step_time [steps=20] [repeats=3]
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from experiments.timings import apart, listed, spread
from rlvr.cli import command, option

WARM_UP = 3
BARE = {name: name for name in ("generation", "update", "whole", "reward", "tokens")}
VERL_PARTS = {
    "generation and reward": "time/generate_s", "reference": "time/reference_s", "update": "time/update_s",
    "weight sync": "time/sync_s",
}  # fmt: skip
VERL = VERL_PARTS | {"whole": "time/step_s", "reward": "train/reward", "tokens": "train/response_tokens"}


def medians(lines: list[dict], columns: Mapping[str, str]) -> dict[str, float]:
    """Of the columns, by their name here, over the steps after the first few."""
    return {name: median(line[key] for line in lines if line["step"] > WARM_UP) for name, key in columns.items()}


def bare(steps: int, threads: int) -> dict[str, float]:
    """One step of the bare loop."""
    from experiments.timings.bare_grpo import train

    return medians(train(steps, threads), BARE)


def through_verl(steps: int) -> dict[str, float]:
    """One step of `run.py +experiment=one_shot`, and its parts."""
    from rlvr.runs.metrics_file import metrics_lines

    with tempfile.TemporaryDirectory() as runs:
        run = [sys.executable, "run.py", "+experiment=one_shot", f"scale.steps={steps}", f"runs_dir={runs}"]
        run += ["scale.evaluate_every=100000", "scale.save_every=100000", "tracking=off"]
        subprocess.run([*run, "trainer.val_before_train=false"], stdout=subprocess.DEVNULL, check=True)
        times = medians(metrics_lines(next(Path(runs).rglob("metrics.jsonl"))), VERL)
    return times | {"verl's bookkeeping": times["whole"] - sum(times[part] for part in VERL_PARTS)}


@dataclass
class Options:
    steps: int = option(f"of each run; the first {WARM_UP} do not count", 20, at_least=WARM_UP + 1)
    repeats: int = option("of both", 3, at_least=1)


def measure(options: Options) -> None:
    cores = len(os.sched_getaffinity(0))
    ratios = []
    for repeat in range(options.repeats):
        # The environment that a run sets for itself.
        loop = apart(bare, options.steps, cores, GOMP_SPINCOUNT="100000", OMP_NUM_THREADS=str(cores))
        verl = through_verl(options.steps)
        ratios.append(verl["whole"] / loop["whole"])
        print(f"repeat {repeat + 1}: verl / bare = {ratios[-1]:.2f}")
        print(f"  bare  {listed(loop)}\n  verl  {listed(verl)}", flush=True)
    print(f"ratio: {spread(ratios)}")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
