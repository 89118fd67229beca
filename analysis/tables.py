"""Tables: ours beside the paper's number, with a 95 % interval, the difference and a verdict.

What a verdict says depends on what may be compared at all.

At scale=paper, the same model and benchmark: the difference of the two numbers, with our interval and the binomial noise of the
paper's single run. `reproduced`: no larger than SAME points, or 0 is inside an interval of at most NOISY points either
way; `not`: 0 is outside; else `too noisy to say`.

At any other scale the numbers themselves are not comparable, so only directions are: is the gain over the untrained
model up, flat or down as in the paper, and is the row above, level with or below the table's reference row as in the
paper? Flat means within SAME points, and ours must be sure of its direction. `direction reproduced`: all that can be asked
agree; `not`: one does not; else `too noisy to say`. The paper's number is never called reproduced by another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from analysis import stats
from analysis.estimates import Estimate, Estimator, Pick, chosen_step
from analysis.manifests import Column, Manifest, Row, benchmarks_at, paper_data
from rlvr.stats import Interval

SAME = 2.0
NOISY = 5.0


@dataclass
class Cell:
    """One number of a table. All but `seeds` are in percent or tokens; NaN where there is none."""

    row: str
    column: str
    scale: str
    model: str = ""
    ours: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    seeds: int = 0
    gain: float = float("nan")
    gain_low: float = float("nan")
    gain_high: float = float("nan")
    paper: float = float("nan")
    paper_gain: float = float("nan")
    difference: float = float("nan")
    verdict: str = "not run"
    why: str = ""
    p_holm: float = float("nan")  # against the reference row, over the rows of this column
    steps: str = ""
    picks: list[Pick] = field(default_factory=list)

    @property
    def is_run(self) -> bool:
        return not np.isnan(self.ours)

    @property
    def interval(self) -> Interval:
        return Interval(self.ours, self.low, self.high)


class Table:
    """One manifest at one scale: `cells` row by row, column by column."""

    def __init__(self, manifest: Manifest, scale: str, estimator: Estimator):
        self.manifest, self.scale, self.estimator = manifest, scale, estimator
        self._runs = {row.label: manifest.runs_of(row, scale, estimator.runs) for row in manifest.rows}

    @cached_property
    def cells(self) -> list[list[Cell]]:
        table = [[self._cell(row, column) for column in self.manifest.columns] for row in self.manifest.rows]
        for i in range(len(self.manifest.columns)):
            self._adjust([cells[i] for cells in table])
        return table

    def frame(self) -> pd.DataFrame:
        """One line for each number, all that a cell says."""
        lines = [{k: v for k, v in vars(cell).items() if k != "picks"} for cells in self.cells for cell in cells]
        return pd.DataFrame(lines)

    def _quantity(self, row: Row, column: Column) -> str:
        return column.quantity or row.quantity or self.manifest.quantity

    def _picks(self, row: Row, column: Column, step: int | None = None) -> list[list[Pick]]:
        """For each benchmark that the column is the mean of, the checkpoint of each seed that has them all.

        step: given for the untrained model (0), else the selection decides.
        """
        names = [name for part in column.benchmark for name in benchmarks_at(self.scale, part)]
        if row.protocol and self.scale == "paper":
            names = [f"{name}_{row.protocol}" for name in names]
        if row.baseline and step is None:
            names = [f"{row.baseline}/{name}" for name in names]
        averaged = len(names) > 1
        selection = "step" if column.step is not None else row.selection or self.manifest.selection
        wanted = column.step if column.step is not None else row.step
        complete = []
        for run in self._runs[row.label]:
            found = []
            for name in names:
                if name not in run.scores:
                    break
                untrained = row.base or row.baseline or step == 0
                at = 0 if untrained else chosen_step(run, run.scores[name], selection, wanted, averaged)
                if at is not None and at in run.scores[name].steps:
                    found.append(Pick(run, name, at))
            if names and len(found) == len(names):
                complete.append(found)
        return [list(group) for group in zip(*complete, strict=True)]

    def _estimate(self, row: Row, column: Column, step: int | None = None) -> tuple[Estimate | None, list[Pick]]:
        picks = self._picks(row, column, step)
        quantity = self._quantity(row, column)
        estimate = (
            self.estimator.estimate(picks, quantity, column.subject, one_model=row.base or row.baseline is not None)
            if picks
            else None
        )
        return estimate, [pick for group in picks for pick in group] if estimate else []

    def _paper(self, row: Row, column: Column) -> float:
        if self.manifest.paper is None or row.paper is None:
            return float("nan")
        return float(paper_data(self.manifest.paper).at[row.paper, column.name])

    def _paper_base(self, row: Row, column: Column) -> float:
        """The paper's number for the untrained model behind a row; NaN where the table does not have it."""
        model = row.base_model or self.manifest.base_model
        for other in self.manifest.rows:
            if other.base and (other.base_model or self.manifest.base_model) == model:
                return self._paper(other, column)
        base = self.manifest.paper_base
        return float("nan") if base is None else self._paper(Row("", paper=base), column)

    def _cell(self, row: Row, column: Column) -> Cell:
        cell = Cell(row.label, column.name, self.scale, paper=self._paper(row, column))
        cell.paper_gain = cell.paper - self._paper_base(row, column)
        estimate, cell.picks = self._estimate(row, column)
        if estimate is None:
            cell.why = row.note or ""
            return cell
        interval = estimate.interval
        cell.ours, cell.low, cell.high = interval.value, interval.low, interval.high
        cell.seeds = 1 if row.base or row.baseline else len({pick.run.seed for pick in cell.picks})
        cell.model = cell.picks[0].run.base_model
        cell.steps = ", ".join(str(step) for step in sorted({pick.step for pick in cell.picks}))
        base, _ = self._estimate(row, column, step=0)
        gain = estimate.minus(base) if base is not None and not row.base else None
        if gain is not None:
            change = gain.interval
            cell.gain, cell.gain_low, cell.gain_high = change.value, change.low, change.high
        if self.scale == "paper":
            cell.difference = cell.ours - cell.paper
            cell.verdict, cell.why = self._number_verdict(interval, cell, row, column)
        else:
            cell.difference = cell.gain - cell.paper_gain
            cell.verdict, cell.why = self._direction_verdict(row, column, cell, estimate, gain)
        return cell

    def _number_verdict(self, ours: Interval, cell: Cell, row: Row, column: Column) -> tuple[str, str]:
        if np.isnan(cell.paper):
            return "no number in the paper", ""
        if self._quantity(row, column) == "response_tokens":
            return "", "lengths have no verdict"
        if np.isnan(ours.low):
            return "too noisy to say", "one seed, and no interval over problems for this quantity"
        problems = sum(len(p.run.scores[p.benchmark].ids) for p in cell.picks) / max(cell.seeds, 1)
        share = cell.paper / 100
        paper_noise = 100 * 1.96 * np.sqrt(share * (1 - share) / problems)
        half = float(np.hypot((ours.high - ours.low) / 2, paper_noise))
        why = f"difference {cell.difference:+.1f} ± {half:.1f} points, the paper's own sampling noise included"
        if abs(cell.difference) + half <= SAME or (abs(cell.difference) <= half <= NOISY):
            return "reproduced", why
        return ("not" if abs(cell.difference) > half else "too noisy to say"), why

    def _direction_verdict(
        self, row: Row, column: Column, cell: Cell, estimate: Estimate, gain: Estimate | None
    ) -> tuple[str, str]:
        if row.base:
            return "", "the untrained model: what gains are counted from"
        if self._quantity(row, column) == "response_tokens":
            return "", "another tokenizer and another limit: lengths are not comparable"
        questions = []
        if gain is not None and not np.isnan(cell.paper_gain):
            questions.append(("gain over base", gain, cell.paper_gain))
        reference = next((r for r in self.manifest.rows if r.label == self.manifest.reference), None)
        if reference is not None and reference is not row:
            other, _ = self._estimate(reference, column)
            if other is not None:
                paper_order = cell.paper - self._paper(reference, column)
                questions.append((f"against {reference.label}", estimate.minus(other), paper_order))
        answers, said = [], []
        for what, ours, theirs in questions:
            interval = ours.interval
            mine, papers = direction(interval), direction(Interval(theirs, theirs, theirs))
            answers.append("unclear" if mine == "unclear" else "same" if mine == papers else "other")
            said.append(f"{what} {interval:+.1f}, paper {theirs:+.1f}")
        if not answers:
            return "", "nothing in this table to compare a direction with"
        verdict = (
            "not" if "other" in answers
            else "too noisy to say" if "unclear" in answers
            else "direction reproduced"
        )  # fmt: skip
        return verdict, "; ".join(said)

    def _adjust(self, column: Sequence[Cell]) -> None:
        """Holm over the rows of one column, each against the reference row."""
        reference = next((row for row in self.manifest.rows if row.label == self.manifest.reference), None)
        if reference is None:
            return
        wanted = next(c for c in self.manifest.columns if c.name == column[0].column)
        anchor, _ = self._estimate(reference, wanted)
        tested = []
        for row, cell in zip(self.manifest.rows, column, strict=True):
            if row.label != reference.label and cell.is_run and anchor is not None:
                estimate, _ = self._estimate(row, wanted)
                if estimate is not None and (resampled := estimate.minus(anchor).resampled) is not None:
                    tested.append((cell, stats.bootstrap_p(resampled)))
        for (cell, _), p in zip(tested, stats.holm([p for _, p in tested]), strict=True):
            cell.p_holm = float(p)


def direction(interval: Interval) -> str:
    """flat, up, down or unclear."""
    if interval.low >= -SAME and interval.high <= SAME:
        return "flat"
    return "up" if interval.low > 0 else "down" if interval.high < 0 else "unclear"
