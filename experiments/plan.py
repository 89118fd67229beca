"""Which runs the paper's tables need: rows times seeds, each run once; whether it can run here, and for how long.

A row is an experiment with overrides and a base model (analysis/manifests.py); of a figure, each panel's rows. A row
that needs no training (the untrained model, a prompting baseline, what cannot be run here) is left out and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs import Standing, standing
from rlvr.cli import ConfigError, did_you_mean
from rlvr.data import protocols
from rlvr.runs.folder import RunFolder, RunFolderError
from rlvr.runs.naming import run_name

if TYPE_CHECKING:
    from analysis.manifests import Manifest, Row


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
    from analysis.manifests import MANIFESTS, load_manifest

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
    """What is to be done with a run (start, resume), or how it came out (there already, finished, failed, refused, ...).

    why: the cause of a failure or refusal, else what the run took. hours: it has left; None: not known.
    """

    run: Planned
    word: str
    why: str = ""
    hours: float | None = None


def there(run: Planned, found: Standing) -> Outcome | None:
    """Why a run is not to be started; None: start or resume it."""
    words = {
        "finished": ("there already", ""),
        "running": ("running elsewhere", found.host),
        "damaged": ("failed", found.cause),
    }
    return Outcome(run, *words[found.state]) if found.state in words else None


def survey(wanted: Iterable[Planned], here: bool, queued: Mapping[Path, str] = {}) -> list[Outcome]:
    """What is to be done with every run, what is to be resumed first. here: on this machine, now. queued: folder -> job of
    the runs that a cluster has already."""
    answers: dict[Planned, float | ConfigError | None] = {}
    outcomes = [
        Outcome(run, "queued", f"as {job}")
        if (job := queued.get(run.folder.path.resolve()))
        else _surveyed(run, here, answers)
        for run in wanted
    ]
    return sorted(outcomes, key=lambda out: out.word != "resume")


def _surveyed(run: Planned, here: bool, answers: dict[Planned, float | ConfigError | None]) -> Outcome:
    """One run of a survey. answers: what was asked of runs that differ in their seed only; their folders are their own."""
    found, alike = standing(run.folder), replace(run, seed=0)
    if (out := there(run, found)) is not None:
        return out
    if alike not in answers:
        try:
            answers[alike] = hours(run, here)
        except RunFolderError as error:
            return Outcome(run, "refused", str(error))
        except ConfigError as error:
            answers[alike] = error
    answer = answers[alike]
    if isinstance(answer, ConfigError):
        return Outcome(run, "refused", str(answer))
    left = None if answer is None else answer * (1 - (found.step or 0) / (found.steps or 1))
    return Outcome(run, "start" if found.state == "new" else "resume", hours=left)


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
