"""Two runs side by side: what was set differently, what came out differently, which problems flipped.

    python -m analysis.compare run=runs/tiny/tiny/one_shot/seed0 run=runs/tiny/tiny/full_set/seed0

Accuracies are compared at the last step of each run (B minus A), paired by problem; the intervals cover problems and answers,
never other seeds. p-values are Holm-adjusted over the benchmarks. A benchmark that only one of them has, or on which they
answered different problems, is not compared, and a line says so.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis import comparisons
from analysis.post_saturation import around_saturation
from analysis.run_data import Run, run_at
from analysis.seed_estimates import Estimator, Pick
from rlvr.cli import ConfigError, command, option
from rlvr.runs.config_changes import config_differences
from rlvr.stats import printed

ABSENT = "(none)"  # what `config_differences` puts for a key that is not there
MOST_FLIPS = 10
NAMES = ("experiment_name", "experiment_folder")  # they say the same as the headline


def changes(a: Run, b: Run) -> dict[str, comparisons.Contrast]:
    """B's accuracy minus A's at their last steps, in points, on each benchmark of which both answered the same problems."""
    estimator, found = Estimator([a, b]), {}
    for name in a.scores:
        if name in b.scores and a.scores[name].ids == b.scores[name].ids:
            last = [[[Pick(run, name, int(run.scores[name].steps[-1]))]] for run in (a, b)]
            of_a, of_b = (estimator.estimate(picks, "accuracy") for picks in last)
            assert of_a is not None and of_b is not None  # an evaluated step has an accuracy
            found[name] = of_b.minus(of_a)
    return found


def not_compared(a: Run, b: Run) -> list[str]:
    """A line for each benchmark that `changes` leaves out."""
    lines = []
    for name in sorted(a.scores.keys() | b.scores.keys()):
        if name not in a.scores or name not in b.scores:
            lines.append(f"{name}: not compared, only {'A' if name in a.scores else 'B'} was evaluated on it")
        elif (of_a := a.scores[name].ids) != (of_b := b.scores[name].ids):
            common = len(set(of_a) & set(of_b))
            lines.append(
                f"{name}: not compared, A answered {len(of_a)} problems and B {len(of_b)}, {common} of them the same: "
                "evaluate both on the same problems (python -m rlvr.evaluate)"
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
    alone = {"A": Counter[str](), "B": Counter[str]()}
    ours: list[str] = []
    theirs: list[str] = []
    for key, (old, new) in config_differences(a, b).items():
        group = key.split(".")[0]
        if ABSENT in (old, new):
            alone["A" if new == ABSENT else "B"][group] += 1
        elif not key.endswith(NAMES):
            (theirs if group in verls else ours).append(f"{key}: {old} -> {new}")
    counted = {which: ", ".join(f"{group} ({n})" for group, n in groups.items()) for which, groups in alone.items()}
    return [*ours, *theirs, *(f"keys that only {which} has: {text}" for which, text in counted.items() if text)]


def report(a: Run, b: Run) -> None:
    """Print the comparison."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"A: {a.id} ({a.status})\nB: {b.id} ({b.status})\n", markup=False)
    if a.folder is not None and b.folder is not None:
        for line in settings(a.folder.config(), b.folder.config()):
            console.print(line, markup=False)
    table = Table("benchmark", "last step", "A", "B", "B - A (95 %)", "p (Holm)", "flipped")
    left_out = not_compared(a, b)
    compared = changes(a, b)
    p_values = comparisons.holm([change.p for change in compared.values()])
    listed = []
    for (name, change), p in zip(compared.items(), p_values, strict=True):
        of_both = [run.scores[name] for run in (a, b)]
        at_a, at_b = (printed(100 * scores.accuracy()[-1], ".1f") for scores in of_both)
        step_a, step_b = (str(scores.steps[-1]) for scores in of_both)
        if step_a != step_b:
            left_out.append(f"{name}: the last steps differ, {step_a} of A and {step_b} of B")
        gained, lost = flips(a, b, name)
        steps = step_a if step_a == step_b else f"{step_a}, {step_b}"
        table.add_row(name, steps, at_a, at_b, f"{change.interval:+.1f}", f"{p:.2g}", f"+{len(gained)} -{len(lost)}")
        for what, ids in (("right only in B", gained), ("right only in A", lost)):
            more = f" and {len(ids) - MOST_FLIPS} more" if len(ids) > MOST_FLIPS else ""
            listed.append(f"{name}, {what}: {', '.join(ids[:MOST_FLIPS]) or 'none'}{more}")
    if compared:
        console.print(table)
    console.print("\n".join(left_out), markup=False)
    table = Table("around saturation", "A", "B")
    for name, values in around_saturation([a, b]).set_index("run").T.iterrows():
        table.add_row(str(name), *("" if v is None or v != v else f"{v:.4g}" for v in values))
    console.print(table)
    console.print("\n".join(listed), markup=False)


@dataclass
class Options:
    run: list[Path] = option("two run folders: run=<A> run=<B>")


def compare(options: Options) -> None:
    """Load both runs and print what differs. ConfigError if a run is missing."""
    if len(options.run) != 2:
        raise ConfigError(f"run=...: given {len(options.run)} times, expected two run folders: run=<A> run=<B>")
    report(*map(run_at, options.run))


if __name__ == "__main__":
    sys.exit(command(Options, compare, __doc__))
