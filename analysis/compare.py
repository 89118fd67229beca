"""Two runs side by side: what was set differently, what came out differently, which problems flipped.

    python -m analysis.compare run=runs/tiny/tiny/one_shot/seed0 run=runs/tiny/tiny/full_set/seed0

Accuracies are compared at the last step of each run (B minus A), paired by problem; the intervals cover problems and answers,
never other seeds. p-values are Holm-adjusted over the benchmarks.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis import dynamics, stats
from analysis.results import Run, load_run
from rlvr.cli import ConfigError, command, option
from rlvr.runs.folder import RunFolder, config_differences
from rlvr.stats import printed

ABSENT = "(none)"  # what `config_differences` puts for a key that is not there
MOST_FLIPS = 10
NAMES = ("experiment_name", "experiment_folder")  # they say the same as the headline


def metric_lines(a: Run, b: Run) -> list[tuple[str, str, str, str, str, str]]:
    """benchmark, A, B, difference with interval, adjusted p, problems that flipped; in percent and points."""
    names = [name for name in a.scores if name in b.scores and a.scores[name].ids == b.scores[name].ids]
    rng = np.random.default_rng(0)
    compared = []
    for name in names:
        of_a, of_b = a.scores[name], b.scores[name]
        compared.append(stats.paired([of_b.correct[-1]], of_b.samples, [of_a.correct[-1]], of_a.samples, rng))
    lines = []
    for name, comparison, p in zip(names, compared, stats.holm([c.p for c in compared]), strict=True):
        gained, lost = flips(a, b, name)
        at_a, at_b = (printed(100 * run.scores[name].accuracy()[-1], ".1f") for run in (a, b))
        lines.append(
            (name, at_a, at_b, f"{comparison.difference * 100:+.1f}", f"{p:.2g}", f"+{len(gained)} -{len(lost)}")
        )
    return lines


def flips(a: Run, b: Run, benchmark: str) -> tuple[list[str], list[str]]:
    """Ids of the problems that B mostly answers right and A mostly wrong, and the other way round, at their last steps."""
    of_a, of_b = a.scores[benchmark], b.scores[benchmark]
    right_a, right_b = (2 * s.correct[-1] > s.samples for s in (of_a, of_b))
    ids = np.array(of_a.ids)
    return ids[right_b & ~right_a].tolist(), ids[right_a & ~right_b].tolist()


def settings(a: Mapping, b: Mapping) -> list[str]:
    """What two configurations set differently: our keys, then verl's, which mostly follow from them.

    A key that only one of them has tells their versions apart, not what was asked for: such keys are counted by group.
    """
    # A composed configuration holds verl's groups first, then ours from this key on (conf/config.yaml).
    verls = list(b)[: list(b).index("experiment_name")]
    alone: dict[str, Counter[str]] = {"A": Counter(), "B": Counter()}
    lines: dict[bool, list[str]] = {False: [], True: []}
    for key, (old, new) in config_differences(a, b).items():
        group = key.split(".")[0]
        if ABSENT in (old, new):
            alone["A" if new == ABSENT else "B"][group] += 1
        elif not key.endswith(NAMES):
            lines[group in verls].append(f"{key}: {old} -> {new}")
    only = [
        f"keys that only {which} has: " + ", ".join(f"{group} ({n})" for group, n in groups.items())
        for which, groups in alone.items()
        if groups
    ]
    return lines[False] + lines[True] + only


def report(a: Run, b: Run) -> None:
    """Print the comparison."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"A: {a.id} ({a.status})\nB: {b.id} ({b.status})\n", markup=False)
    if a.folder is not None and b.folder is not None:
        for line in settings(a.folder.config(), b.folder.config()):
            console.print(line, markup=False)
    table = Table("last step", "A", "B", "B - A (95 %)", "p (Holm)", "flipped")
    for cells in metric_lines(a, b):
        table.add_row(*cells)
    console.print(table)
    frame = dynamics.compare([a, b]).set_index("run").T
    table = Table("around saturation", "A", "B")
    for name, values in frame.iterrows():
        table.add_row(str(name), *("" if v is None or v != v else f"{v:.4g}" for v in values))
    console.print(table)
    for name in a.scores:
        if name in b.scores and a.scores[name].ids == b.scores[name].ids:
            gained, lost = flips(a, b, name)
            for what, ids in (("right only in B", gained), ("right only in A", lost)):
                more = f" and {len(ids) - MOST_FLIPS} more" if len(ids) > MOST_FLIPS else ""
                console.print(f"{name}, {what}: {', '.join(ids[:MOST_FLIPS]) or 'none'}{more}", markup=False)


@dataclass
class Options:
    run: list[Path] = option("two run folders: run=<A> run=<B>")


def compare(options: Options) -> None:
    """Load both runs and print what differs. ConfigError where there is no run."""
    if len(options.run) != 2:
        raise ConfigError(f"run=...: given {len(options.run)} times, expected two run folders: run=<A> run=<B>")
    for path in options.run:
        if not (RunFolder(path).metrics_path.exists() and RunFolder(path).provenance_path.exists()):
            raise ConfigError(f"run={path}: no run here; a run folder is runs/.../seed<k>")
    report(*(load_run(RunFolder(path)) for path in options.run))


if __name__ == "__main__":
    sys.exit(command(Options, compare, __doc__))
