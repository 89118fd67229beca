"""Which runs the paper's tables need: rows times seeds, each run once; whether it can run here, and for how long.

A row is an experiment with overrides and a base model (analysis/manifests.py); of a figure, each panel's rows. A row
that needs no training (the untrained model, a prompting baseline, what cannot be run here) is left out and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.manifests import MANIFESTS, Manifest, Row, load_manifest
from experiments.runs import Standing, standing
from rlvr.cli import ConfigError, did_you_mean
from rlvr.data import protocols
from rlvr.runs.folder import RunFolder
from rlvr.runs.naming import run_name


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
        own = protocols.scale_file(self.scale)["base_model"]
        model = [] if self.base_model == own else [f"base_model={self.base_model}"]
        place = [f"scale={self.scale}", *model, f"seed={self.seed}", f"runs_dir={self.runs_dir}"]
        return [f"+experiment={self.experiment}", *place, *self.overrides]


def manifest(name: str) -> Manifest:
    """A table or figure by its name in experiments/, or a YAML file of one's own."""
    path = Path(name) if name.endswith(".yaml") else MANIFESTS / f"{name}.yaml"
    if not path.exists():
        raise ConfigError(
            f"{name}: no such table; {did_you_mean(name, sorted(p.stem for p in MANIFESTS.glob('*.yaml')))}"
        )
    return load_manifest(path)


def rows(of: Manifest) -> list[Row]:
    """The rows of a table; of a figure, those of each panel with what the panel adds (as analysis.figures draws them)."""
    if not of.panels:
        return list(of.rows)
    return [
        replace(row, experiment=row.experiment or panel.experiment, overrides=row.overrides or panel.overrides)
        for panel in of.panels
        for row in of.rows
    ]


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
            given = row.overrides.get(scale, ()) if isinstance(row.overrides, dict) else row.overrides
            for seed in seeds or table.seeds or (0,):
                if row.experiment and not _idle(row):
                    model = table.model_at(scale, row)
                    run = Planned(row.experiment, scale, model, seed, (*given, *overrides), runs_dir)
                    found.setdefault(run.folder.path, run)
    return sorted(found.values(), key=lambda run: run.seed), left_out


def _idle(row: Row) -> str | None:
    """Why a row needs no run of its own."""
    if row.base:
        return "the untrained model, which every run evaluates at step 0"
    if row.baseline:
        return f"{row.baseline}: python -m rlvr.evaluate run=<a run> baselines=true"
    return None if row.experiment else row.note or "names no experiment"


@dataclass(frozen=True)
class Outcome:
    """How a run came out, in a word; why: the cause of a failure or refusal, else what it took."""

    run: Planned
    word: str
    why: str = ""


def there(run: Planned, found: Standing) -> Outcome | None:
    """Why a run is not to be started; None: start or resume it."""
    if found.state == "damaged":
        return Outcome(run, "failed", found.cause)
    words = {"finished": ("there already", ""), "running": ("running elsewhere", found.host)}
    return Outcome(run, *words[found.state]) if found.state in words else None


def triage(wanted: Sequence[Planned], here: bool) -> tuple[dict[Planned, float | None], list[Outcome]]:
    """The runs to start, what is unfinished first, with the hours each has left; and how all others came out.

    here: they are to start on this machine now. Runs that differ in their seed only are asked about once.
    """
    found = {run: standing(run.folder) for run in wanted}
    outcomes = [out for run in wanted if (out := there(run, found[run]))]
    todo: dict[Planned, float | None] = {}
    answers: dict[Planned, float | str | None] = {}
    others = {out.run for out in outcomes}
    for run in sorted((run for run in wanted if run not in others), key=lambda run: found[run].state == "new"):
        cell = replace(run, seed=0)
        if cell not in answers:
            try:
                answers[cell] = hours(run, here)
            except ConfigError as error:
                answers[cell] = str(error)
        answer = answers[cell]
        if isinstance(answer, str):
            outcomes.append(Outcome(run, "refused", answer))
        else:
            done = (found[run].step or 0) / (found[run].steps or 1)
            todo[run] = None if answer is None else answer * (1 - done)
    return todo, outcomes


def hours(run: Planned, here: bool) -> float | None:
    """Ask all that can be asked before Ray starts, and estimate the run from its beginning; None: not known.

    here: it is to start on this machine now. ConfigError when it cannot run. Loads hydra, but neither torch nor Ray.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from rlvr.checks import estimate, preflight
    from rlvr.config.compose import compose, explain
    from rlvr.config.schema import check
    from rlvr.training import launch

    try:
        cfg = compose(*run.arguments)
        check(cfg)
        if here:
            preflight.check_machine(cfg)
        launch.plan(cfg)
        found = estimate.estimate(cfg, preflight.machine(cfg))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(explain(error)) from None
    return found.hours if found else None
