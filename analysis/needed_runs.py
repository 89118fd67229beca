"""Which runs tables and figures need: rows times seeds, each run once; and which of them are missing.

A row is an experiment with overrides and a base model (analysis/manifests.py); of a figure, each panel's rows. A row
that needs no training (the untrained model, a prompting baseline, what cannot be run here) is left out and said.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlvr.data import scales
from rlvr.runs.folder import RunFolder
from rlvr.runs.naming import run_name

if TYPE_CHECKING:
    from analysis.manifests import Manifest, Panel, Row
    from analysis.run_data import Run

RUNS_DIR = Path("runs")


@dataclass(frozen=True)
class Planned:
    """One run of `run.py`. overrides: the row's, then those of the command line."""

    experiment: str
    scale: str
    base_model: str
    seed: int
    overrides: tuple[str, ...]
    runs_dir: Path

    @property
    def folder(self) -> RunFolder:
        name = run_name(self.experiment, None, self.overrides)
        return RunFolder(self.runs_dir / self.scale / self.base_model / name / f"seed{self.seed}")

    @property
    def arguments(self) -> list[str]:
        """Of run.py. The scale chooses its own base model."""
        own = scales.scale_file(self.scale)["base_model"]
        model = [] if self.base_model == own else [f"base_model={self.base_model}"]
        place = [f"scale={self.scale}", *model, f"seed={self.seed}", f"runs_dir={self.runs_dir}"]
        return [f"+experiment={self.experiment}", *place, *self.overrides]


def rows(of: Manifest) -> list[Row]:
    """The rows of a table; of a figure, those of each panel with what the panel adds (as analysis.figures draws them)."""
    if not of.panels:
        return list(of.rows)
    return [with_panel(row, panel) for panel in of.panels for row in of.rows]


def with_panel(row: Row, panel: Panel) -> Row:
    return replace(row, experiment=row.experiment or panel.experiment, overrides=row.overrides or panel.overrides)


def needed(
    tables: Iterable[Manifest], scale: str, seeds: Sequence[int], overrides: Sequence[str], runs_dir: Path
) -> tuple[list[Planned], list[str]]:
    """The runs that tables need, all rows at the first seed before the next; and of each table, what needs none.

    seeds: instead of those that a table asks for. overrides: of every run, after its own.
    """
    found: dict[Path, Planned] = {}
    left_out = []
    for table in tables:
        idle = {f"{row.label} ({_idle(row)})": None for row in rows(table) if _idle(row)}
        if idle:
            left_out.append(f"{table.stem}: nothing to train for {'; '.join(idle)}")
        for row in rows(table):
            for seed in seeds or table.seeds or (0,):
                if row.experiment and not _idle(row):
                    model = table.model_at(scale, row)
                    run = Planned(row.experiment, scale, model, seed, (*row.given_at(scale), *overrides), runs_dir)
                    found.setdefault(run.folder.path, run)
    return sorted(found.values(), key=lambda run: run.seed), left_out


def _idle(row: Row) -> str | None:
    """Why a row needs no run of its own."""
    if row.base:
        return "the untrained model, which every run evaluates at step 0"
    if row.baseline:
        return f"{row.baseline}: python -m rlvr.evaluate run=<a run> baselines=true"
    return None if row.experiment else row.note or "names no experiment"


def missing(row: Row, of: Manifest, scale: str, runs: Iterable[Run], seeds: Iterable[int]) -> list[Planned]:
    """The runs of a row at these seeds that are not there, finished."""
    if _idle(row):
        return []
    there = {run.seed for run in of.runs_of(row, scale, runs)}
    model = of.model_at(scale, row)
    return [
        Planned(str(row.experiment), scale, model, n, row.given_at(scale), RUNS_DIR) for n in seeds if n not in there
    ]


def command(runs: Sequence[Planned]) -> str:
    """The command line that runs these seeds of one setting."""
    first, seeds = runs[0], ",".join(str(run.seed) for run in runs)
    left = (f"seed={first.seed}", f"runs_dir={RUNS_DIR}")
    own = [argument for argument in first.arguments if argument not in left]
    many = ["-m"] if len(runs) > 1 else []
    return shlex.join(["python", "run.py", *many, *own, f"seed={seeds}"])
