"""Does training on the tiny world change the habits or the skill? Gains by group of problems, and the habits of the answers.

    python -m experiments.mechanism runs=runs out=experiments/results/tiny_v2_mechanism.csv

One line for each finished run at scale=tiny, evaluated step, and group of problems of `benchmark`. The groups: all problems;
those within or beyond the base model's reach; those that the base model answers with one habit (reason, terse, guess, code,
stall; rlvr/tiny/habits.py). `accuracy`, `base` (the base model's accuracy) and the share of each habit in the answers are
fractions. `right_reasons` is the fraction of answers that reason and are right. Lines of `out` about other runs and
benchmarks stay, so the folders of these runs may be gone.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.run_states import name
from rlvr.cli import ConfigError, command, option
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.tiny import datasets
from rlvr.tiny.calibration import MARKS, habit_of

HABITS = (*MARKS, "stall")


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    benchmark: str = option("a benchmark of the tiny world, evaluated greedily", "tiny500")
    out: Path = option("the table", Path("experiments/results/tiny_v2_mechanism.csv"))


def finished_runs(runs_dir: Path, experiment: str = "*") -> list[RunFolder]:
    """The finished runs of the tiny model at scale=tiny, by path."""
    folders = map(RunFolder, sorted(runs_dir.glob(f"tiny/tiny/{experiment}/seed*")))
    return [folder for folder in folders if folder.ending() == "finished"]


def write_over(path: Path, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Write `table` in place of the lines of `path` with the same keys. Returns all lines, sorted by the keys."""
    if path.exists():
        before = pd.read_csv(path)
        replaced = before.set_index(keys).index.isin(table.set_index(keys).index)
        table = pd.concat([before[~replaced], table])
    table = table.sort_values(keys, kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
    return table


def answers(folder: RunFolder, benchmark: str, step: int) -> pd.DataFrame:
    """The score and habit of each answer in one evaluation, indexed by problem."""
    read = pd.DataFrame(samples.read(folder.eval_path(benchmark, step), ["id", "response", "score"]))
    read["habit"] = read.pop("response").map(habit_of)
    return read.set_index("id")


def lines_of(folder: RunFolder, benchmark: str, reach: pd.Series) -> Iterator[dict[str, Any]]:
    """The table's lines of one run. reach: "within" or "beyond", by problem."""
    base = answers(folder, benchmark, 0)
    groups = {"all": base["score"] >= 0}
    groups |= {kind: reach.loc[base.index] == kind for kind in ("within", "beyond")}
    groups |= {f"base {habit}": base["habit"] == habit for habit in HABITS}
    for step in step_files(folder.eval_dir / benchmark):
        evaluated = answers(folder, benchmark, step).loc[base.index]
        for group, mask in groups.items():
            if not mask.any():
                continue
            of_group = evaluated[mask]
            yield {
                "run": name(folder),
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
    """Write the table. ConfigError if there is no finished run with answers to the benchmark."""
    if options.benchmark not in datasets.NAMES:
        raise ConfigError(f"benchmark={options.benchmark}: expected one of {', '.join(datasets.NAMES)}")
    reach = pd.Series({example["id"]: example["reach"] for example in datasets.load(options.benchmark)})
    lines: list[dict[str, Any]] = []
    for folder in finished_runs(options.runs):
        if folder.eval_path(options.benchmark, 0).exists():
            lines += lines_of(folder, options.benchmark, reach)
    if not lines:
        raise ConfigError(f"runs={options.runs}: no finished run at scale=tiny with answers to {options.benchmark}")
    table = write_over(options.out, pd.DataFrame(lines), ["benchmark", "run"])
    print(f"{options.out}: {table['run'].nunique()} runs")


if __name__ == "__main__":
    sys.exit(command(Options, tabulate, __doc__))
