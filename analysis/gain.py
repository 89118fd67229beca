"""What a gain is made of: did the model learn to finish its answers, to box them, or to calculate? Or did it know the test?

    python -m analysis.gain run=runs/tiny/tiny/one_shot/seed0 [benchmark=tiny500] [step=60] [out=results/gain.csv]

With `out` the numbers are also kept as CSV, which `python -m analysis.report` shows.

Reads stored answers alone (`python -m rlvr.evaluate`), of the base model (step 0) and of one later step, to the same problems.

    by what the base did       the gain in points on the problems where the base was right, cut off, wrote code, gave no box, or
                               boxed a wrong answer; the five add up to the gain
    by token budget            accuracy when an answer counts only if it ends within so many tokens, the same for both models
    attempts                   answers with a box, wrong boxed answers, answers that were cut off
    pass@8 of the base         what eight attempts of the base reach, where it answered at least eight times
    worked examples            the base with examples in its prompt (`rlvr.evaluate baselines=true`)
    contamination              how often the base continues a test question word for word (`rlvr.evaluate contamination=true`)

Intervals are 95 %, over problems; they say nothing of other seeds. Needs no GPU and loads no model.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rlvr import stats
from rlvr.cli import ConfigError, command, option
from rlvr.runs import samples
from rlvr.runs.evaluations import rows_of_problems
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.plain_files import read_json
from rlvr.stats import Interval, Part, printed

BY_KIND, BY_BUDGET, ANSWERS = "what the base did", "tokens at most", "answers, %"
# Of each part's table, the columns beside its name.
HEADS = {
    BY_KIND: ("% of its answers", "", "points of the gain"),
    BY_BUDGET: ("base, %", "trained, %", "gain, points"),
    ANSWERS: ("base", "trained", ""),
}
KINDS = ("right", "cut off", "code", "no box", "boxed and wrong")
COLUMNS = ["id", "response", "score", "boxed", "truncated", "response_tokens"]
BUDGETS = 6  # halvings of the longest answer allowed
ATTEMPTS = 8


@dataclass(frozen=True)
class Answers:
    """One model's answers to a benchmark, each array "problems samples", problems in the order of their ids."""

    ids: list[str]
    score: NDArray
    boxed: NDArray
    truncated: NDArray
    tokens: NDArray
    kind: NDArray

    @property
    def accuracy(self) -> NDArray:
        """ "problems", in [0, 1]."""
        return self.score.mean(axis=1)


def answers(file: Path) -> Answers:
    """The answers of one evaluation file."""
    columns = samples.read(file, COLUMNS)
    rows = rows_of_problems(columns["id"])
    code = np.array(["```" in response for response in columns["response"]])
    right, boxed, cut = columns["score"] >= 1, columns["boxed"], columns["truncated"]
    kind = np.select([right, cut, code, ~boxed], KINDS[:4], KINDS[4])
    ids = [columns["id"][row] for row in rows[:, 0]]
    return Answers(ids, *(values[rows] for values in (columns["score"], boxed, cut, columns["response_tokens"], kind)))


def by_kind(base: Answers, trained: Answers) -> dict[str, tuple[float, Interval]]:
    """What the base did -> (share of its answers, points of the gain from these). The points add up to the gain."""
    gained = (
        trained.accuracy[:, None] - base.score
    )  # of each answer of the base: what the trained model scores there instead
    found = {}
    for kind in KINDS:
        of_kind = base.kind == kind
        found[kind] = float(of_kind.mean()), _change(np.where(of_kind, gained, 0).mean(axis=1))
    return found


def by_budget(base: Answers, trained: Answers, longest: int) -> dict[int, tuple[Interval, Interval, Interval]]:
    """Tokens -> accuracy of base and trained, and the gain in points, when only answers that end within them count."""
    found = {}
    for budget in sorted({max(1, longest >> halving) for halving in range(BUDGETS)}):
        within = [np.where(one.tokens <= budget, one.score, 0) for one in (base, trained)]
        first, last = (stats.mean_interval(Part(w.mean(axis=1)[None], w.shape[1])) * 100 for w in within)
        found[budget] = first, last, _change(within[1].mean(axis=1) - within[0].mean(axis=1))
    return found


def _change(values: NDArray) -> Interval:
    """The mean of one value a problem, in points, with its t interval."""
    return stats.mean_interval(Part(values[None]), share=False) * 100


@dataclass
class Options:
    run: Path = option("the run folder")
    benchmark: str | None = option("default: the first that the run evaluates besides validation", None)
    step: int | None = option("the trained model; default: the last step evaluated", None, at_least=1)
    out: Path | None = option("a CSV file that also gets the numbers", None)


def report(options: Options) -> None:
    """Print every table that the stored answers allow, and how to get those that they do not."""
    folder = RunFolder(options.run)
    there = sorted(path.name for path in folder.eval_dir.glob("*") if step_files(path))
    name = options.benchmark or next((one for one in there if one != "validation"), None)
    if name not in there:
        raise ConfigError(f"benchmark={name}: not evaluated in {folder.path} ({', '.join(there) or 'nothing is'})")
    files = step_files(folder.eval_dir / name)
    step = options.step or max(files)
    for wanted in (0, step):
        if wanted not in files or step == 0:
            steps = ", ".join(map(str, files))
            raise ConfigError(f"step={step}: needs answers of steps 0 and {step} to {name}, there are {steps}")
    base, trained = answers(files[0]), answers(files[step])
    if base.ids != trained.ids:
        raise ConfigError(f"{name}: steps 0 and {step} answer different problems; evaluate the benchmark again")
    screen = Console(highlight=False)
    gain = _change(trained.accuracy - base.accuracy)
    accuracies = [stats.mean_interval(Part(a.accuracy[None], a.score.shape[1])) * 100 for a in (base, trained)]
    screen.print(
        f"{name}, {len(base.ids)} problems: base {accuracies[0]:.1f}, step {step} {accuracies[1]:.1f}, gain {gain:+.1f} points",
        soft_wrap=True,
    )
    made_of = parts(base, trained, _limit(folder, name))
    for part, rows in made_of.groupby("part", sort=False):
        shown = Table(str(part), *(title for title in HEADS[str(part)] if title), box=None, pad_edge=False)
        for column in shown.columns[1:]:
            column.justify = "right"
        for row in rows.itertuples():
            values = (printed(row.base, ".1f"), printed(row.trained, ".1f"))
            points = f"{Interval(row.gain, row.low, row.high):+.1f}" if row.gain == row.gain else ""
            shown.add_row(row.row, *(value for value in (*values, points) if value))
        screen.print(shown)
        screen.print()
    for line in _beside(folder, name, base, step):
        screen.print(line, soft_wrap=True)
    if options.out is not None:
        _keep(
            made_of, {"run": "/".join(folder.path.resolve().parts[-4:]), "benchmark": name, "step": step}, options.out
        )


def parts(base: Answers, trained: Answers, limit: int | None) -> pd.DataFrame:
    """A line for each number, in percent and points: part, row, base, trained, gain with low and high; NaN where a part has none.

    limit: tokens of the longest answer allowed.
    """
    lines: list[tuple] = []
    for kind, (share, points) in by_kind(base, trained).items():
        lines.append((BY_KIND, kind, 100 * share, np.nan, points.value, points.low, points.high))
    longest = limit or int(max(base.tokens.max(), trained.tokens.max()))
    for tokens, (first, last, change) in by_budget(base, trained, longest).items():
        lines.append((BY_BUDGET, str(tokens), first.value, last.value, change.value, change.low, change.high))
    for what in ("boxed", "boxed and wrong", "cut off"):
        shares = [100 * {"boxed": a.boxed, "boxed and wrong": a.boxed & (a.score < 1), "cut off": a.truncated}[what].mean()
                  for a in (base, trained)]  # fmt: skip
        lines.append((ANSWERS, what, *shares, np.nan, np.nan, np.nan))
    return pd.DataFrame(lines, columns=["part", "row", "base", "trained", "gain", "low", "high"])


def _keep(made_of: pd.DataFrame, about: dict[str, Any], out: Path) -> None:
    """Put the numbers into a CSV file, in the place of earlier ones of the same run, benchmark and step."""
    table = made_of.assign(**about)[[*about, *made_of.columns]]
    if out.exists():
        before = pd.read_csv(out, dtype={"row": str})
        table = pd.concat([before[(before[list(about)] != pd.Series(about)).any(axis=1)], table])
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False, float_format="%.4g", lineterminator="\n")
    print(out)


def _limit(folder: RunFolder, benchmark: str) -> int | None:
    record = folder.eval_dir / benchmark / "protocol.json"
    return read_json(record)["protocol"].get("max_tokens") if record.exists() else None


def _beside(folder: RunFolder, benchmark: str, base: Answers, step: int) -> list[str]:
    """Other explanations of a gain: lines of numbers, or the command that makes them."""
    lines = []
    command = f"python -m rlvr.evaluate run={folder.path}"
    if (k := base.score.shape[1]) >= ATTEMPTS:
        reached = stats.pass_at_k(k, (base.score >= 1).sum(axis=1), ATTEMPTS)
        lines.append(f"pass@{ATTEMPTS} of the base: {stats.mean_interval(Part(reached[None], k)) * 100:.1f}")
    else:
        again = f"benchmarks.pass8.dataset={benchmark} benchmarks.pass8.k=8 benchmarks.pass8.temperature=0.6"
        lines.append(f"pass@{ATTEMPTS} of the base: {command} steps=0,{step} {again}, then benchmark=pass8")
    shown = sorted((folder.path / "baselines").glob(f"in_context_*/eval/{benchmark}/step000000.parquet"))
    for file in shown:
        one = answers(file)
        accuracy = stats.mean_interval(Part(one.accuracy[None], one.score.shape[1])) * 100
        lines.append(f"the base with worked examples ({file.parents[2].name}): {accuracy:.1f}")
    if not shown:
        lines.append(f"the base with worked examples: {command} baselines=true")
    probe = folder.path / "contamination" / f"{benchmark}.json"
    if probe.exists():
        found = read_json(probe)
        exact: Any = np.array([row["exact"] for row in found["questions"].values()], float)
        share = stats.mean_interval(Part(exact[None])) * 100
        lines.append(
            f"contamination: the base continues {share:.1f} % of the questions word for word ({len(exact)} asked)"
        )
    else:
        lines.append(f"contamination: {command} contamination=true")
    return lines


if __name__ == "__main__":
    sys.exit(command(Options, report, __doc__))
