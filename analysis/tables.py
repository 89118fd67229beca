"""Tables: our number with a 95 % interval beside the paper's, and a verdict (analysis.verdicts) on each comparison."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import comparisons
from analysis.manifests import Column, Manifest, Row, benchmarks_at, paper_data
from analysis.seed_estimates import VALIDATION, Estimate, Estimator, Pick, chosen_step
from analysis.verdicts import SAME, CellVerdict, corrected
from rlvr.stats import Interval

NONE = Interval(float("nan"))
BEST = ("best_average", "best_each")


@dataclass
class Cell:
    """One number of a table. All but `seeds` are in percent or tokens; NaN if missing."""

    row: str
    column: str
    scale: str
    model: str = ""
    interval: Interval = NONE
    seeds: int = 0
    by_seed: list[float] = field(default_factory=list)
    on_validation: Interval = NONE  # the same with checkpoints chosen on validation, if the table chooses on the tests
    gain: Interval = NONE  # over the untrained model
    paper: float = float("nan")
    paper_gain: float = float("nan")
    difference: float = float("nan")
    verdicts: list[CellVerdict] = field(default_factory=list)
    why: str = ""
    steps: str = ""
    picks: list[Pick] = field(default_factory=list)
    share: Interval = NONE  # of the seeds that end high, where they have two ends
    ends: str = ""

    @property
    def ours(self) -> float:
        return self.interval.value

    @property
    def is_run(self) -> bool:
        return not np.isnan(self.ours)

    def verdict(self, question: str) -> CellVerdict | None:
        return next((verdict for verdict in self.verdicts if verdict.question == question), None)

    def line(self) -> dict[str, Any]:
        """All values as one flat dict."""
        about: dict[str, Any] = {"row": self.row, "column": self.column, "scale": self.scale, "model": self.model}
        for name, interval in (
            ("ours", self.interval),
            ("gain", self.gain),
            ("on_validation", self.on_validation),
            ("share_high", self.share),
        ):
            about |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        about |= {"seeds": self.seeds, "by_seed": " ".join(f"{value:.4g}" for value in self.by_seed)}
        about |= {
            "paper": self.paper,
            "paper_gain": self.paper_gain,
            "difference": self.difference,
            "steps": self.steps,
        }
        for number, verdict in enumerate(self.verdicts, 1):
            about |= {f"verdict_{number}": verdict.word, f"p_holm_{number}": verdict.p}
            about |= {f"why_{number}": verdict.why, f"settles_{number}": verdict.settles}
        return about | {"why": self.why}


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
            asked = [verdict for cell in column for verdict in cell.verdicts]
            for question in {verdict.question for verdict in asked}:
                corrected([verdict for verdict in asked if verdict.question == question])
        return table

    def cell(self, row: str, column: str) -> Cell:
        """By the row's label and the column's name."""
        return next(cell for cells in self.cells for cell in cells if (cell.row, cell.column) == (row, column))

    def frame(self) -> pd.DataFrame:
        """One line for each number, with all values of its cell; and one for each fact."""
        lines = [cell.line() for cells in self.cells for cell in cells]
        for row in self.manifest.rows:
            for name, ours, paper in self.facts(row):
                about = {"row": row.label, "column": name, "scale": self.scale}
                lines.append(about | {"why": f"ours {ours or 'not run'}; paper {paper}"})
        return pd.DataFrame(lines)

    def facts(self, row: Row) -> list[tuple[str, str, str]]:
        """A row in words: name, our number (empty if not run), the paper's number."""
        runs = [] if row.base or row.baseline else self._runs[row.label]
        found = []
        for fact in self.manifest.facts:
            ours = ""
            if runs and fact.ours == "steps":
                steps = self.cell(row.label, str(fact.column)).steps
                ours = f"{steps} of {runs[0].settings['scale.steps']}" if steps else ""
            elif runs and fact.ours == "subjects":
                subjects = {subject for run in runs for subject in run.settings.get("train_set.subjects", ())}
                ours = "General" if len(subjects) > 2 else ", ".join(sorted(subjects))
            elif runs:
                at = sorted(run.saturation for run in runs if run.saturation is not None)
                ours = f"{len(at)} of {len(runs)}" + (f", from step {', '.join(map(str, at))}" if at else "")
            paper = "" if row.paper is None else str(paper_data(str(self.manifest.paper)).at[row.paper, fact.paper])
            found.append((fact.name, ours, paper))
        return found

    def _quantity(self, row: Row, column: Column) -> str:
        return column.quantity or row.quantity or self.manifest.quantity

    def selection(self, row: Row, column: Column) -> str:
        return "step" if column.step is not None else row.selection or self.manifest.selection

    def _picks(self, row: Row, column: Column, selection: str, untrained: bool = False) -> list[list[Pick]]:
        """For each benchmark of the column's mean: the checkpoint of each seed that has all of these benchmarks."""
        names = [name for part in column.benchmarks for name in benchmarks_at(self.scale, part)]
        if row.protocol and self.scale == "paper":
            names = [f"{name}_{row.protocol}" for name in names]
        if row.baseline and not untrained:
            names = [f"{row.baseline}/{name}" for name in names]
        untrained = untrained or row.base or row.baseline is not None
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

    def _estimate(
        self, row: Row, column: Column, untrained: bool = False, selection: str | None = None
    ) -> tuple[Estimate | None, list[Pick]]:
        if not (picks := self._picks(row, column, selection or self.selection(row, column), untrained)):
            return None, []
        one_model = untrained or row.base or row.baseline is not None
        estimate = self.estimator.estimate(picks, self._quantity(row, column), column.subject, one_model)
        return estimate, [pick for group in picks for pick in group]

    def _paper(self, row: Row, column: Column) -> float:
        if self.manifest.paper is None or row.paper is None:
            return float("nan")
        return float(paper_data(self.manifest.paper).at[row.paper, column.name])

    def _paper_base(self, row: Row, column: Column) -> float:
        """The paper's number for the untrained model of a row; NaN if the table has none."""
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
        cell.seeds, cell.by_seed = estimate.seeds, estimate.by_seed
        cell.steps = ", ".join(str(step) for step in sorted({pick.step for pick in picks}))
        cell.difference = cell.ours - cell.paper
        if self.selection(row, column) in BEST and not estimate.one_model:
            found, _ = self._estimate(row, column, selection=VALIDATION)
            cell.on_validation = found.interval if found else NONE
        if estimate.share is not None and cell.seeds > 1:
            cell.share, cell.ends = estimate.share.interval, ends_of(estimate)
        base, _ = self._estimate(row, column, untrained=True)
        if base is not None and not row.base:
            cell.gain = estimate.minus(base).interval
        if self.scale != "paper":
            cell.difference = cell.gain.value - cell.paper_gain
        if self._quantity(row, column) == "response_tokens":
            cell.why = "lengths have no verdict"
        elif estimate.one_model:
            cell.why = "the untrained model: what gains are counted from" if row.base else "a model that is not trained"
        else:
            cell.verdicts = self._verdicts(row, column, cell, estimate, base)
        return cell

    def _verdicts(
        self, row: Row, column: Column, cell: Cell, estimate: Estimate, base: Estimate | None
    ) -> list[CellVerdict]:
        asked = []
        if self.scale == "paper" and not np.isnan(cell.paper):
            asked.append(
                CellVerdict("number", comparisons.against_one_run(estimate.parts, cell.paper), cell.paper, cell.seeds)
            )
        if base is not None and (self.manifest.paper is None or not np.isnan(cell.paper_gain)):
            gains = np.isnan(cell.paper_gain) or cell.paper_gain > SAME  # else "high" is not what the paper claims
            share = estimate.share if gains else None
            asked.append(
                CellVerdict(
                    "above base", estimate.minus(base), cell.paper_gain, cell.seeds, share=share, ends=cell.ends
                )
            )
        if self._reference is not None and self._reference != row:
            against = self.against(row, self._reference, column)
            asked += [against] if against else []
        return asked

    def against(self, row: Row, other: Row, column: Column) -> CellVerdict | None:
        """The comparison of a row with another, uncorrected; None if one of them is not run."""
        (ours, _), (theirs, _) = self._estimate(row, column), self._estimate(other, column)
        if ours is None or theirs is None:
            return None
        contrast, share = ours.minus(theirs), ours.share_minus(theirs)
        seeds = ours.seeds if theirs.one_model else min(ours.seeds, theirs.seeds)
        if contrast.paired or ours.two_ended or theirs.two_ended:
            seeds = len(contrast.of_seeds) if contrast.paired or theirs.one_model else 0
        order = self._paper(row, column) - self._paper(other, column)
        return CellVerdict(f"against {other.label}", contrast, order, seeds, share=share, ends=ends_of(ours, theirs))


def ends_of(estimate: Estimate, other: Estimate | None = None) -> str:
    """`3 of 5 seeds end high (60 %, 15–95)`; against another, of the same seeds, `5 of 5 seeds end high against 3 of 5 (...)`."""
    share = estimate.share if other is None else estimate.share_minus(other)
    if share is None:
        return ""
    seeds = estimate.of_runs if other is None else comparisons.common_seeds(estimate.of_runs, other.of_runs)
    counts = [
        f"{sum(one.high[seed] for seed in seeds)} of {len(seeds)}" for one in (estimate, other) if one is not None
    ]
    interval, form = share.interval, "+.0f" if share.paired else ".0f"
    return f"{' seeds end high against '.join(counts)}{'' if other else ' seeds end high'} ({interval.value:{form}} %, {interval.range(form)})"
