"""What to do with the runs that the paper's tables need (analysis/needed_runs.py): are they done, can they run here, how long?"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.needed_runs import Planned
from experiments.run_states import RunState, read_state
from rlvr.cli import ConfigError, did_you_mean, usable_cores
from rlvr.planning import machine
from rlvr.runs.plain_files import RunFolderError

if TYPE_CHECKING:
    from analysis.manifests import Manifest

Answer = float | ConfigError | None  # hours of a run, None: not known; or why it cannot run


def manifest(name: str) -> Manifest:
    """A table or figure by its name in experiments/, or by the path of another YAML file."""
    from analysis.manifests import MANIFESTS, load_manifest

    path = Path(name) if name.endswith(".yaml") else MANIFESTS / f"{name}.yaml"
    if not path.exists():
        known = sorted(file.stem for file in MANIFESTS.glob("*.yaml"))
        raise ConfigError(f"{name}: no such table; {did_you_mean(name, known)}")
    return load_manifest(path)


@dataclass(frozen=True)
class Outcome:
    """What to do with a run, or how it ended.

    word: start, resume, there already, running elsewhere, queued, refused, finished, failed or stopped. why: the cause of a
    failure or refusal, else the duration and score. hours: left to run; None: not known.
    """

    run: Planned
    word: str
    why: str = ""
    hours: float | None = None


def not_to_start(run: Planned, found: RunState) -> Outcome | None:
    """Why a run is not to be started; None: start or resume it."""
    words = {
        "finished": ("there already", ""),
        "running": ("running elsewhere", found.host),
        "damaged": ("failed", found.cause),
    }
    return Outcome(run, *words[found.state]) if found.state in words else None


def survey(wanted: Iterable[Planned], here: bool, queued: Mapping[Path, str] = {}) -> list[Outcome]:
    """What to do with every run, runs to resume first.

    here: to start on this machine now. queued: run folder -> job, of the runs that a cluster has already.
    """
    outcomes: list[Outcome] = []
    todo: list[tuple[Planned, RunState]] = []
    for run in wanted:
        found = read_state(run.folder)
        if job := queued.get(run.folder.path.resolve()):
            outcomes.append(Outcome(run, "queued", f"as {job}"))
        elif (out := not_to_start(run, found)) is not None:
            outcomes.append(out)
        else:
            todo.append((run, found))
    # Of runs that differ only in their seed, the first is checked for all.
    first: dict[Planned, Planned] = {}
    for run, _ in todo:
        first.setdefault(replace(run, seed=0), run)
    answers = dict(zip(first, _answers([*first.values()], here), strict=True))
    for run, found in todo:
        checked = first[replace(run, seed=0)]
        answer = answers[replace(run, seed=0)]
        if isinstance(answer, RunFolderError) and checked != run:  # it concerns the folder of the other seed
            answer = _answer(run, here)
        if isinstance(answer, ConfigError):
            outcomes.append(Outcome(run, "refused", str(answer)))
            continue
        left = None if answer is None else answer * (1 - (found.step or 0) / (found.steps or 1))
        outcomes.append(Outcome(run, "start" if found.state == "new" else "resume", hours=left))
    return sorted(outcomes, key=lambda out: out.word != "resume")


def _answers(runs: list[Planned], here: bool) -> list[Answer]:
    """The answer for each run; for several runs on all cores."""
    if len(runs) < 4 or not hasattr(os, "fork"):
        return [_answer(run, here) for run in runs]
    machine.fp32_flops()  # measured once, while the cores are free
    # Without garbage collection: it takes a fifth of the time, and each run leaves only 6 MB.
    with ProcessPoolExecutor(usable_cores(), get_context("fork"), initializer=gc.disable) as pool:
        return list(pool.map(_answer, runs, [here] * len(runs)))


def _answer(run: Planned, here: bool) -> Answer:
    try:
        return hours(run, here)
    except ConfigError as error:
        return error


def hours(run: Planned, here: bool) -> float | None:
    """Check a run as far as possible without Ray, and estimate its hours from the first step; None: not known.

    here: to start on this machine now. ConfigError if it cannot run. Loads hydra, but neither torch nor Ray.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from rlvr.config.compose import compose, explain
    from rlvr.config.schema import check
    from rlvr.planning.plan import plan
    from rlvr.training.start_checks import check as check_start

    try:
        cfg = compose(*run.arguments)
        check(cfg)
        planned = plan(cfg, download=False)
        check_start(planned, here)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(explain(error)) from None
    return planned.needs.hours if planned.needs else None
