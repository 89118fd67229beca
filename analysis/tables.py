"""Tables: ours beside the paper's number, with a 95 % interval, the difference and a verdict.

What a verdict says depends on what may be compared at all.

At scale=paper, the same model and benchmark: the difference of the two numbers, with our interval and the binomial noise of the
paper's single run. `reproduced`: no larger than SAME points, or 0 is inside an interval of at most NOISY points either
way; `not reproduced`: 0 is outside; else `too noisy to say`.

At any other scale the numbers themselves are not comparable, so only directions are: is the gain over the untrained
model up, flat or down as in the paper, and is the row above, level with or below the table's reference row as in the
paper? Flat means within SAME points, and ours must be sure of its direction. `direction reproduced`: all that can be asked
agree; `not reproduced`: one does not; else `too noisy to say`. The paper's number is never called reproduced by another model.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from analysis import stats
from analysis.estimates import Estimate, Estimator, Pick, chosen_step
from analysis.manifests import Column, Manifest, Row, benchmarks_at, paper_data
from rlvr.stats import Z95, Interval

SAME = 2.0
NOISY = 5.0
NONE = Interval(float("nan"))


@dataclass
class Cell:
    """One number of a table. All but `seeds` are in percent or tokens; NaN where there is none."""

    row: str
    column: str
    scale: str
    model: str = ""
    interval: Interval = NONE
    seeds: int = 0
    gain: Interval = NONE  # over the untrained model
    paper: float = float("nan")
    paper_gain: float = float("nan")
    difference: float = float("nan")
    verdict: str = "not run"
    why: str = ""
    p_holm: float = float("nan")  # against the reference row, over the rows of this column
    steps: str = ""
    picks: list[Pick] = field(default_factory=list)

    @property
    def ours(self) -> float:
        return self.interval.value

    @property
    def is_run(self) -> bool:
        return not np.isnan(self.ours)


class Table:
    """One manifest at one scale: `cells` row by row, column by column."""

    def __init__(self, manifest: Manifest, scale: str, estimator: Estimator):
        self.manifest, self.scale, self.estimator = manifest, scale, estimator
        self._runs = {row.label: manifest.runs_of(row, scale, estimator.runs) for row in manifest.rows}
        self._reference = next((row for row in manifest.rows if row.label == manifest.reference), None)

    @cached_property
    def cells(self) -> list[list[Cell]]:
        table = [[self._cell(row, column) for column in self.manifest.columns] for row in self.manifest.rows]
        for column in zip(*table, strict=True):
            tested = [cell for cell in column if not np.isnan(cell.p_holm)]
            for cell, p in zip(tested, stats.holm([cell.p_holm for cell in tested]), strict=True):
                cell.p_holm = float(p)
        return table

    def frame(self) -> pd.DataFrame:
        """One line for each number, all that a cell says."""
        frame = pd.DataFrame([vars(cell) for cells in self.cells for cell in cells]).drop(columns="picks")
        for name, ours in (("gain", "gain"), ("interval", "ours")):
            at, intervals = frame.columns.get_loc(name), frame.pop(name)
            for end, column in (("high", f"{name}_high"), ("low", f"{name}_low"), ("value", ours)):
                frame.insert(at, column.removeprefix("interval_"), [getattr(interval, end) for interval in intervals])
        return frame

    def _quantity(self, row: Row, column: Column) -> str:
        return column.quantity or row.quantity or self.manifest.quantity

    def _picks(self, row: Row, column: Column, untrained: bool = False) -> list[list[Pick]]:
        """For each benchmark that the column is the mean of, the checkpoint of each seed that has them all."""
        names = [name for part in column.benchmarks for name in benchmarks_at(self.scale, part)]
        if row.protocol and self.scale == "paper":
            names = [f"{name}_{row.protocol}" for name in names]
        if row.baseline and not untrained:
            names = [f"{row.baseline}/{name}" for name in names]
        untrained = untrained or row.base or row.baseline is not None
        selection = "step" if column.step is not None else row.selection or self.manifest.selection
        wanted = column.step if column.step is not None else row.step
        complete = []
        for run in self._runs[row.label]:
            found = []
            for name in (name for name in names if name in run.scores):
                at = 0 if untrained else chosen_step(run, name, selection, wanted, averaged=len(names) > 1)
                if at is not None and at in run.scores[name].steps:
                    found.append(Pick(run, name, at))
            if names and len(found) == len(names):
                complete.append(found)
        return [list(group) for group in zip(*complete, strict=True)]

    def _estimate(self, row: Row, column: Column, untrained: bool = False) -> tuple[Estimate | None, list[Pick]]:
        if not (picks := self._picks(row, column, untrained)):
            return None, []
        one_model = row.base or row.baseline is not None
        estimate = self.estimator.estimate(picks, self._quantity(row, column), column.subject, one_model)
        return estimate, [pick for group in picks for pick in group]

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
        return self._paper(Row("", paper=self.manifest.paper_base), column)

    def _cell(self, row: Row, column: Column) -> Cell:
        cell = Cell(row.label, column.name, self.scale, paper=self._paper(row, column))
        cell.paper_gain = cell.paper - self._paper_base(row, column)
        estimate, picks = self._estimate(row, column)
        if estimate is None:
            lacking = self._runs[row.label] and any(benchmarks_at(self.scale, part) for part in column.benchmarks)
            by_step = lacking and not picks and (column.step or row.step)
            cell.why = row.note or ("no evaluation near this step" if by_step else "")
            return cell
        cell.interval, cell.picks, cell.model = estimate.interval, picks, picks[0].run.base_model
        cell.seeds = 1 if row.base or row.baseline else len({pick.run.seed for pick in picks})
        cell.steps = ", ".join(str(step) for step in sorted({pick.step for pick in picks}))
        base, _ = self._estimate(row, column, untrained=True)
        if base is not None and not row.base:
            cell.gain = estimate.minus(base).interval
        against = None
        if self._reference is not None and self._reference != row:
            reference, _ = self._estimate(self._reference, column)
            if reference is not None:
                against = estimate.minus(reference)
                cell.p_holm = against.p
        if self.scale == "paper":
            cell.difference = cell.ours - cell.paper
            cell.verdict, cell.why = self._number_verdict(row, column, cell)
        else:
            cell.difference = cell.gain.value - cell.paper_gain
            cell.verdict, cell.why = self._direction_verdict(row, column, cell, against)
        return cell

    def _number_verdict(self, row: Row, column: Column, cell: Cell) -> tuple[str, str]:
        if np.isnan(cell.paper):
            return "no number in the paper", ""
        if self._quantity(row, column) == "response_tokens":
            return "", "lengths have no verdict"
        if np.isnan(cell.interval.low):
            return "too noisy to say", "one seed, and no interval over problems for this quantity"
        problems = sum(len(p.run.scores[p.benchmark].ids) for p in cell.picks) / max(cell.seeds, 1)
        share = cell.paper / 100
        paper_noise = 100 * Z95 * np.sqrt(share * (1 - share) / problems)
        half = float(np.hypot((cell.interval.high - cell.interval.low) / 2, paper_noise))
        why = f"difference {cell.difference:+.1f} ± {half:.1f} points, the paper's own sampling noise included"
        if abs(cell.difference) + half <= SAME or (abs(cell.difference) <= half <= NOISY):
            return "reproduced", why
        return ("not reproduced" if abs(cell.difference) > half else "too noisy to say"), why

    def _direction_verdict(self, row: Row, column: Column, cell: Cell, against: Estimate | None) -> tuple[str, str]:
        if row.base:
            return "", "the untrained model: what gains are counted from"
        if self._quantity(row, column) == "response_tokens":
            return "", "another tokenizer and another limit: lengths are not comparable"
        questions = []
        if not np.isnan(cell.gain.value) and not np.isnan(cell.paper_gain):
            questions.append(("gain over base", cell.gain, cell.paper_gain))
        if self._reference is not None and against is not None:
            order = cell.paper - self._paper(self._reference, column)
            questions.append((f"against {self._reference.label}", against.interval, order))
        answers, said = [], []
        for what, ours, theirs in questions:
            mine, papers = direction(ours), direction(Interval(theirs, theirs, theirs))
            answers.append("unclear" if mine == "unclear" else "same" if mine == papers else "other")
            said.append(f"{what} {ours:+.1f}, paper {theirs:+.1f}")
        if not answers:
            return "", "nothing in this table to compare a direction with"
        if "other" in answers:
            return "not reproduced", "; ".join(said)
        return ("too noisy to say" if "unclear" in answers else "direction reproduced"), "; ".join(said)


def direction(interval: Interval) -> str:
    """flat, up, down or unclear."""
    if interval.low >= -SAME and interval.high <= SAME:
        return "flat"
    return "up" if interval.low > 0 else "down" if interval.high < 0 else "unclear"
