"""A run as the analyses see it: settings, metrics by step, right answers by problem; and how it is read from its folder.

Of the responses only those of a few training steps are read (`spread`), for what only the text tells: degenerate answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.response_style import TextModel, degenerate
from rlvr.cli import ConfigError
from rlvr.runs import samples
from rlvr.runs.evaluations import Evaluations, evaluations
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.metrics_file import read_metrics
from rlvr.runs.plain_files import read_json

SATURATED = 0.99
WINDOW = 1024  # rollouts: one step at the paper's scale; of the 64 of a smaller scale's step all are right by luck
SETTINGS = (
    "experiment_name", "variant", "overrides", "label.name", "updates_per_step", "loss", "train_set.name", "reward_rule.name",
    "pool.name", "base_model.name", "scale.steps", "scale.prompts_per_step", "scale.samples_per_prompt",
    "scale.learning_rate", "scale.temperature", "scale.max_response_tokens",
)  # fmt: skip
PLACES = ("runs_dir=", "data_root=")  # paths of one machine
MEANS = ("boxed", "truncated", "response_tokens")
TEXT_STEPS = 24
TEXT_ROWS = 256


class NoStepYet(ConfigError):
    """A run that has only begun."""


@dataclass(eq=False)
class Run:
    """One run. settings: those of SETTINGS, and the subjects of its examples. metrics: indexed by step."""

    scale: str
    base_model: str
    name: str  # the experiment, with its variant or overrides
    seed: int
    settings: dict[str, Any]
    status: str
    hours: float
    machine: str
    commit: str
    command: str
    metrics: pd.DataFrame
    scores: dict[str, Evaluations] = field(default_factory=dict)  # by benchmark
    folder: RunFolder | None = None

    @property
    def id(self) -> str:
        return f"{self.scale}/{self.base_model}/{self.name}/seed{self.seed}"

    @property
    def saturation(self) -> int | None:
        """The first step at which training accuracy over the last 1,024 rollouts is at least 99 %; None if never."""
        steps = -(-WINDOW // (self.settings["scale.prompts_per_step"] * self.settings["scale.samples_per_prompt"]))
        return first_reaching(self.series("train/accuracy").rolling(steps).mean(), SATURATED)

    def about(self) -> dict[str, Any]:
        """How and where it ran."""
        return {name: getattr(self, name) for name in ("status", "hours", "machine", "commit", "command")}

    def samples_path(self, benchmark: str, step: int) -> Path:
        """The answers behind a score; `<baseline>/<benchmark>` names one of the untrained model's baselines."""
        assert self.folder is not None
        baseline, _, name = benchmark.rpartition("/")
        folder = RunFolder(self.folder.baseline_path(baseline)) if baseline else self.folder
        return folder.eval_path(name, step)

    def series(self, column: str) -> pd.Series:
        """A metric by step, without the steps that lack it; empty when the run never had it."""
        return self.metrics[column].dropna() if column in self.metrics else pd.Series(dtype=float, name=column)


def first_reaching(series: pd.Series, level: float) -> int | None:
    """The first step of a series (indexed by step) at which it is at least `level`; sums in another order do not matter."""
    reached = series.index[series.round(9) >= level]
    return int(reached[0]) if len(reached) else None


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps, evenly spread, first and last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[i] for i in np.linspace(0, len(steps) - 1, most).round().astype(int)]


def run_at(path: Path) -> Run:
    """The run in a folder. ConfigError where there is none."""
    folder = RunFolder(path)
    for file in (folder.metrics_path, folder.config_path, folder.provenance_path):
        if not file.exists():
            raise ConfigError(f"run={path}: no run here (no {file.name}); a run folder is runs/.../seed<k>")
    try:
        return load_run(folder)
    except NoStepYet as error:
        raise NoStepYet(f"run={path}: {error}") from None


def load_run(folder: RunFolder) -> Run:
    """Everything but the responses of one run."""
    config, provenance = folder.config(), read_json(folder.provenance_path)
    metrics = read_metrics(folder.metrics_path)
    if metrics.empty:
        raise NoStepYet("no step is done yet")
    metrics = metrics.set_index("step")
    scores: dict[str, Evaluations] = {}
    degenerate_shares, subjects = _rollouts(folder)
    columns: list[pd.DataFrame] = [degenerate_shares]
    baselines = {f"{path.name}/": RunFolder(path) for path in sorted(folder.baseline_path("").glob("*"))}
    for prefix, place in ({"": folder} | baselines).items():
        for path in sorted(place.eval_dir.glob("*")):
            found = evaluations(place, path.name, (*MEANS, "reflection")) if path.is_dir() else None
            if found is not None:
                scores[prefix + path.name] = found
                columns.append(_by_step(found).add_prefix(f"eval/{prefix}{path.name}/"))
    read = {column for frame in columns for column in frame}
    columns.append(metrics.drop(columns=[column for column in metrics if column in read]))
    hardware = provenance.get("hardware", {})
    gpus = hardware.get("gpus") or []
    program, *arguments = provenance.get("command") or [""]
    return Run(
        scale=config["scale"]["name"],
        base_model=config["base_model"]["name"],
        name=folder.path.parent.name,
        seed=int(config["seed"]),
        settings={key: _select(config, key) for key in SETTINGS} | {"train_set.subjects": subjects},
        status=folder.status(),
        hours=_hours(provenance, metrics),
        machine=f"{len(gpus)} x {gpus[0]}" if gpus else f"{hardware.get('cores', '?')} x {hardware.get('cpu', 'CPU')}",
        commit=str(provenance.get("git", {}).get("commit") or "")[:10],
        command=" ".join([Path(program).name, *(word for word in arguments if not word.startswith(PLACES))]),
        metrics=pd.concat(columns, axis=1).sort_index().rename_axis("step"),
        scores=scores,
        folder=folder,
    )


def _select(config: dict, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part, {})
    return None if value == {} else value


def _hours(provenance: dict, metrics: pd.DataFrame) -> float:
    """Time of the steps themselves; a run that was resumed had pauses between its start and its end."""
    times = metrics.reindex(columns=["time/step_s", "time/eval_s"])
    if provenance.get("resumed_at") or not provenance.get("end"):
        return float(times.sum().sum() / 3600)
    start, end = (datetime.fromisoformat(provenance[key]) for key in ("start", "end"))
    return (end - start).total_seconds() / 3600


def _by_step(found: Evaluations) -> pd.DataFrame:
    """What an evaluation's files say beside the scores: means over all answers, and how many hold a word of reflection."""
    answers = found.samples * len(found.ids)
    means = {name: found.sums[name] / answers for name in MEANS}
    return pd.DataFrame(means | {"reflections": found.sums["reflection"]}, found.steps)


def _rollouts(folder: RunFolder) -> tuple[pd.DataFrame, list[str]]:
    """The share of degenerate answers by step, and the subjects of the examples, from a few steps."""
    files = step_files(folder.rollouts_dir)
    read = {step: samples.read(files[step], ["response", "subject"]) for step in spread(list(files), TEXT_STEPS)}
    texts = {step: columns["response"][:TEXT_ROWS] for step, columns in read.items()}
    subjects = {subject for columns in read.values() for subject in columns["subject"] if subject}
    base = TextModel(next(iter(texts.values()), []))
    shares = {step: degenerate(responses, base).mean() for step, responses in texts.items()}
    return pd.Series(shares, name="train/degenerate", dtype=float).to_frame(), sorted(subjects)
