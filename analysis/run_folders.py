"""A run from its folder: all that is drawn, without the responses.

Only the columns that are drawn are read; training responses at a few steps of a run (`spread`), for what only the text
tells: degenerate answers.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.response_style import TextModel, degenerate, reflects
from analysis.run_data import Run, Scores, spread
from rlvr.cli import ConfigError
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.metrics_file import read_metrics
from rlvr.runs.plain_files import read_json

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
    scores: dict[str, Scores] = {}
    degenerate_shares, subjects = _rollouts(folder)
    columns: list[pd.DataFrame] = [degenerate_shares]
    baselines = sorted(folder.baseline_path("").glob("*/eval"))
    for prefix, evaluated in [("", folder.eval_dir), *((f"{path.parent.name}/", path) for path in baselines)]:
        for path in sorted(evaluated.glob("*")):
            if files := step_files(path):
                name = prefix + path.name
                scores[name], frame = _evaluations(files)
                columns.append(frame.add_prefix(f"eval/{name}/"))
    read = {column for frame in columns for column in frame}
    columns.append(metrics.drop(columns=[column for column in metrics if column in read]))
    settings, name = {key: _select(config, key) for key in SETTINGS}, folder.path.parent.name
    settings["train_set.subjects"] = subjects
    if "overrides" not in config and name == settings["experiment_name"]:
        settings["overrides"] = []  # a version that did not keep them named the folder after every change
    commit = str(provenance.get("git", {}).get("commit") or "")[:10]
    hardware = provenance.get("hardware", {})
    gpus = hardware.get("gpus") or []
    machine = f"{len(gpus)} x {gpus[0]}" if gpus else f"{hardware.get('cores', '?')} x {hardware.get('cpu', 'CPU')}"
    program, *arguments = provenance.get("command") or [""]
    words = " ".join([Path(program).name, *(c for c in arguments if not c.startswith(PLACES))])
    return Run(
        config["scale"]["name"], config["base_model"]["name"], name, int(config["seed"]), settings,
        folder.status(), _hours(provenance, metrics), machine, commit, words, pd.concat(columns, axis=1).sort_index().rename_axis("step"), scores, folder,
    )  # fmt: skip


def _select(config: dict, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, dict):  # the first runs have a label's text in place of the group
            return "correct" if value is None else str(value)
        value = value.get(part)
    return value


def _hours(provenance: dict, metrics: pd.DataFrame) -> float:
    """Time of the steps themselves; a run that was resumed had pauses between its start and its end."""
    times = metrics.reindex(columns=["time/step_s", "time/eval_s"])
    if provenance.get("resumed_at") or not provenance.get("end"):
        return float(times.sum().sum() / 3600)
    start, end = (datetime.fromisoformat(provenance[key]) for key in ("start", "end"))
    return (end - start).total_seconds() / 3600


def _evaluations(files: Mapping[int, Path]) -> tuple[Scores, pd.DataFrame]:
    """The scores of a benchmark, and by step what else its files say. ValueError when their problems differ."""
    rows, correct = {}, []
    known: list[str] = []
    order, subjects = np.array([]), np.array([])
    for step, file in files.items():
        columns = samples.read(file, ["id", "subject", "score", *MEANS], ["reflection"])
        if columns["id"] != known:
            known = columns["id"]
            ids, first, at = np.unique(known, return_index=True, return_inverse=True)
            if not len(order):
                order, subjects = ids, np.array(columns["subject"], dtype=object)[first]
            if not np.array_equal(ids, order) or len(known) % len(order):
                raise ValueError(f"{file}: other problems than at the first step; remove the benchmark's folder")
        correct.append(np.bincount(at, weights=columns["score"]))
        rows[step] = {name: columns[name].mean() for name in MEANS}
        if "reflection" not in columns:  # the first versions kept the text only
            columns["reflection"] = list(map(reflects, samples.read(file, ["response"])["response"]))
        rows[step]["reflections"] = np.sum(columns["reflection"])
    counts = np.array(correct).round().astype(int)
    scores = Scores(np.array(list(files)), counts, len(known) // len(order), order.tolist(), subjects)
    return scores, pd.DataFrame.from_dict(rows, orient="index")


def _rollouts(folder: RunFolder) -> tuple[pd.DataFrame, list[str]]:
    """The share of degenerate answers by step, and the subjects of the examples, from a few steps."""
    files = step_files(folder.rollouts_dir)
    read = {step: samples.read(files[step], ["response"], ["subject"]) for step in spread(list(files), TEXT_STEPS)}
    texts = {step: columns["response"][:TEXT_ROWS] for step, columns in read.items()}
    subjects = {subject for columns in read.values() for subject in columns.get("subject", ()) if subject}
    base = TextModel(next(iter(texts.values()), []))
    shares = {step: degenerate(responses, base).mean() for step, responses in texts.items()}
    return pd.Series(shares, name="train/degenerate", dtype=float).to_frame(), sorted(subjects)
