"""What training on the tiny world changes: habit or skill? Gains by the kind of problem, and the habits of the answers.

    python -m experiments.mechanism runs=runs out=experiments/results/tiny_v2_mechanism.csv

One line for each finished run at scale=tiny, evaluated step and group of problems of `benchmark`: all; within or beyond the
base model's reach; and by the habit of the base model's own answer (reason, terse, guess, code, stall; rlvr/tiny/habits.py).
Each benchmark has its own lines in `out`. `accuracy`, `base` and the shares of habits in the answers are fractions; `right_reasons` is the share of answers that
reason and are right. Runs that `out` has already stay where their folder is gone.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr.cli import ConfigError, command, option
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.plain_files import read_json
from rlvr.tiny import datasets
from rlvr.tiny.calibration import MARKS, habit_of

HABITS = (*MARKS, "stall")


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    benchmark: str = option("a benchmark of the tiny world, evaluated greedily", "tiny500")
    out: Path = option("the table", Path("experiments/results/tiny_v2_mechanism.csv"))


def answers(folder: RunFolder, benchmark: str, step: int) -> pd.DataFrame:
    """Of one evaluation, by problem: score, habit."""
    read = pd.DataFrame(samples.read(folder.eval_path(benchmark, step), ["id", "response", "score"]))
    read["habit"] = read.pop("response").map(habit_of)
    return read.set_index("id")


def lines_of(folder: RunFolder, benchmark: str, reach: pd.Series) -> Iterator[dict[str, Any]]:
    """The table's lines of one run."""
    steps = list(step_files(folder.eval_dir / benchmark))
    base = answers(folder, benchmark, 0)
    masks = {"all": base["score"] >= 0}
    masks |= {kind: reach.loc[base.index] == kind for kind in ("within", "beyond")}
    masks |= {f"base {habit}": base["habit"] == habit for habit in HABITS}
    for step in steps:
        now = answers(folder, benchmark, step).loc[base.index]
        for group, mask in masks.items():
            if not mask.any():
                continue
            of_group = now[mask]
            yield {
                "run": "/".join(folder.path.parts[-4:]),
                "benchmark": benchmark,
                "step": step,
                "group": group,
                "problems": int(mask.sum()),
                "base": base.loc[mask, "score"].mean(),
                "accuracy": of_group["score"].mean(),
                **{habit: (of_group["habit"] == habit).mean() for habit in HABITS},
                "right_reasons": ((of_group["habit"] == "reason") & (of_group["score"] == 1)).mean(),
            }


def tabulate(options: Options) -> None:
    """Write the table. ConfigError if there is no finished run."""
    if options.benchmark not in datasets.NAMES:
        raise ConfigError(f"benchmark={options.benchmark}: expected one of {', '.join(datasets.NAMES)}")
    reach = pd.Series({example["id"]: example["reach"] for example in datasets.load(options.benchmark)})
    lines: list[dict[str, Any]] = []
    for place in sorted(options.runs.glob("tiny/tiny/*/seed*/provenance.json")):
        folder = RunFolder(place.parent)
        if read_json(place).get("status") == "finished" and folder.eval_path(options.benchmark, 0).exists():
            lines += lines_of(folder, options.benchmark, reach)
    if not lines:
        raise ConfigError(f"runs={options.runs}: no finished run at scale=tiny with answers to {options.benchmark}")
    table = pd.DataFrame(lines)
    if options.out.exists():
        before = pd.read_csv(options.out)
        again = before["run"].isin(table["run"]) & (before["benchmark"] == options.benchmark)
        table = pd.concat([before[~again], table]).sort_values(["benchmark", "run"], kind="stable")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False, float_format="%.4g", lineterminator="\n")
    print(f"{options.out}: {table['run'].nunique()} runs")


if __name__ == "__main__":
    sys.exit(command(Options, tabulate, __doc__))
