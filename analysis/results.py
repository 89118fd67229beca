"""Runs as tidy tables: from run folders, or from the small CSV files that stand for them in a fresh clone.

    python -m analysis.results [runs=runs] [out=results]     # write the CSV files from the finished runs

runs.csv      one run: its settings (JSON of what science may differ in), state, cost
metrics.csv   one step of a run; above 500 steps only train/accuracy is kept at every step
scores.csv    one evaluation: a base-36 number for each problem, how many of `samples` answers were right
problems.csv  the problems of a benchmark, in the order of those numbers

Reading run folders takes only the columns that are drawn; responses are read at a few steps of a run (`spread`), for
what only the text tells: self-reflection words and degenerate answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.responses import REFLECTION, TextModel, degenerate
from rlvr.cli import ConfigError, command, option
from rlvr.runs.folder import RunFolder, read_json, read_metrics
from rlvr.stats import accuracy

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
SETTINGS = (
    "experiment_name", "variant", "overrides", "label.name", "updates_per_step", "loss", "train_set.name", "reward_rule.name",
    "pool.name", "base_model.name", "scale.steps", "scale.prompts_per_step", "scale.samples_per_prompt",
    "scale.learning_rate", "scale.temperature", "scale.max_response_tokens",
)  # fmt: skip
PLACES = ("runs_dir=", "data_root=")  # paths of one machine
TEXT_STEPS = 24
TEXT_ROWS = 256
DENSE_STEPS = 500


@dataclass
class Scores:
    """One benchmark over the evaluations of one run. correct: "evaluations problems" in 0..samples; ids: "problems"."""

    steps: NDArray
    correct: NDArray
    samples: int
    ids: list[str]
    subjects: NDArray

    def accuracy(self) -> NDArray:
        """ "evaluations", in [0, 1]."""
        return accuracy(self.correct, self.samples)

    def at(self, step: int) -> NDArray:
        """ "problems": right answers at an evaluated step."""
        return self.correct[int(np.flatnonzero(self.steps == step)[0])]


@dataclass(eq=False)
class Run:
    scale: str
    base_model: str
    name: str  # the experiment, with its variant
    seed: int
    settings: dict[str, Any]
    status: str
    hours: float
    machine: str
    commit: str
    command: str
    metrics: pd.DataFrame  # indexed by step
    scores: dict[str, Scores] = field(default_factory=dict)
    folder: RunFolder | None = None

    @property
    def experiment(self) -> str:
        return str(self.settings["experiment_name"])

    @property
    def overrides(self) -> list[str] | None:
        """What it changed of its experiment; None for a run of a version that did not keep it."""
        return self.settings.get("overrides")

    @property
    def id(self) -> str:
        return f"{self.scale}/{self.base_model}/{self.name}/seed{self.seed}"

    def samples_path(self, benchmark: str, step: int) -> Path:
        """The answers behind a score; `<baseline>/<benchmark>` names one of the untrained model's baselines."""
        assert self.folder is not None
        baseline, _, name = benchmark.rpartition("/")
        folder = RunFolder(self.folder.baseline_path(baseline)) if baseline else self.folder
        return folder.eval_path(name, step)

    def series(self, column: str) -> pd.Series:
        """A metric by step, without the steps that lack it; empty when the run never had it."""
        return self.metrics[column].dropna() if column in self.metrics else pd.Series(dtype=float, name=column)


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps, evenly spread, first and last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[i] for i in np.linspace(0, len(steps) - 1, most).round().astype(int)]


def step_files(folder: Path) -> dict[int, Path]:
    return {int(file.stem.removeprefix("step")): file for file in sorted(folder.glob("step*.parquet"))}


def read_columns(file: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Columns as pyarrow has them: most are only counted or compared."""
    table = pq.ParquetFile(file, memory_map=True).read(columns=list(columns), use_threads=False)
    return {name: table.column(name) for name in columns}


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """The run folders below `runs_dir` (scale/model/experiment/seed) that trained at least one step."""
    found = (RunFolder(config.parent) for config in sorted(runs_dir.glob("*/*/*/seed*/config.yaml")))
    return [folder for folder in found if folder.metrics_path.exists() and folder.provenance_path.exists()]


def load_run(folder: RunFolder) -> Run:
    """Everything but the responses of one run."""
    config, provenance = folder.config(), read_json(folder.provenance_path)
    metrics = read_metrics(folder.metrics_path).set_index("step")
    run = Run(
        scale=config["scale"]["name"],
        base_model=config["base_model"]["name"],
        name=folder.path.parent.name,
        seed=int(config["seed"]),
        settings={key: _select(config, key) for key in SETTINGS},
        status=provenance.get("status") or "unfinished",
        hours=_hours(provenance, metrics),
        machine=_machine(provenance.get("hardware", {})),
        commit=str(provenance.get("git", {}).get("commit", ""))[:10],
        command=" ".join(c for c in provenance.get("command", []) if not c.startswith(PLACES)),
        metrics=metrics,
        folder=folder,
    )
    if "overrides" not in config and run.name == run.experiment:
        run.settings["overrides"] = []  # a version that did not keep them named the folder after every change
    benchmarks = sorted(path.name for path in folder.eval_dir.glob("*") if path.is_dir())
    columns = [_load_benchmark(run, folder, name) for name in benchmarks]
    columns.append(_degenerate_rollouts(folder))
    for baseline in sorted(folder.baseline_path("").glob("*/eval/*")):
        _load_benchmark(run, RunFolder(baseline.parents[1]), baseline.name, f"{baseline.parents[1].name}/")
    for column in (series for group in columns for series in group):
        run.metrics = run.metrics.drop(columns=str(column.name), errors="ignore").join(column, how="outer")
    return run


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


def _machine(hardware: dict) -> str:
    gpus = hardware.get("gpus") or []
    return f"{len(gpus)} x {gpus[0]}" if gpus else f"{hardware.get('cores', '?')} x {hardware.get('cpu', 'CPU')}"


def _load_benchmark(run: Run, folder: RunFolder, name: str, prefix: str = "") -> list[pd.Series]:
    """Fill run.scores[name] (after `prefix`: a baseline of the untrained model); return what else its files say, by step."""
    files = step_files(folder.eval_dir / name)
    if not files:
        return []
    texts = set(spread(list(files), TEXT_STEPS))
    first = read_columns(next(iter(files.values())), ["id", "subject"])
    order, at = np.unique(first["id"].to_pylist(), return_inverse=True)
    known, subjects = first["id"], np.empty(len(order), dtype=object)
    subjects[at] = first["subject"].to_pylist()
    rows: dict[int, dict[str, float]] = {}
    correct = []
    for step, file in files.items():
        wanted = ["id", "score", "boxed", "truncated", "response_tokens"]
        columns = read_columns(file, [*wanted, "response"] if step in texts else wanted)
        if not columns["id"].equals(known):
            known = columns["id"]
            at = np.searchsorted(order, known.to_pylist())
            if len(known) % len(order) or (order[at.clip(max=len(order) - 1)] != known.to_pylist()).any():
                raise ValueError(f"{file}: other problems than at the first step; remove the benchmark's folder")
        correct.append(np.bincount(at, weights=columns["score"].to_numpy(), minlength=len(order)))
        row = {key: pc.mean(columns[key]).as_py() for key in ("boxed", "truncated", "response_tokens")}
        if step in texts:
            hits = pc.match_substring_regex(columns["response"], REFLECTION, ignore_case=True)
            row["reflections"] = pc.sum(hits).as_py()
        rows[step] = row
    run.scores[prefix + name] = Scores(
        np.array(list(files)),
        np.array(correct).round().astype(int),
        len(known) // len(order),
        [str(i) for i in order],
        subjects,
    )
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("step")
    return [frame[key].rename(f"eval/{name}/{key}") for key in frame]


def _degenerate_rollouts(folder: RunFolder) -> list[pd.Series]:
    files = step_files(folder.rollouts_dir)
    base: TextModel | None = None
    shares = {}
    for step in spread(list(files), TEXT_STEPS):
        texts = read_columns(files[step], ["response"])["response"].slice(0, TEXT_ROWS).to_pylist()
        base = base or TextModel(texts)
        shares[step] = degenerate(texts, base).mean()
    return [pd.Series(shares, name="train/degenerate", dtype=float).rename_axis("step")]


def load(runs_dir: Path | None, results_dir: Path = RESULTS) -> list[Run]:
    """Committed results, with the run folders over them where both have a run; sorted by id."""
    runs = {run.id: run for run in read_csv(results_dir)}
    if runs_dir is not None and runs_dir.is_dir():
        with ThreadPoolExecutor(2) as pool:
            runs |= {run.id: run for run in pool.map(load_run, find_runs(runs_dir))}
    return _same_problems([runs[key] for key in sorted(runs)])


def _same_problems(runs: list[Run]) -> list[Run]:
    """Drop, with a warning, a benchmark of a run whose problems differ from the first run's of that scale."""
    known: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for name in list(run.scores):
            if known.setdefault((run.scale, name), run.scores[name].ids) != run.scores[name].ids:
                print(f"warning: {run.id}: {name} left out: other problems than {runs[0].id}", file=sys.stderr)
                del run.scores[name]
    return runs


def write_csv(runs: Iterable[Run], out: Path) -> list[Path]:
    """Write the four CSV files; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    about, metrics, scores, problems = [], [], [], {}
    for run in runs:
        about.append(
            {"run": run.id, "status": run.status, "hours": round(run.hours, 3), "machine": run.machine,
             "commit": run.commit, "command": run.command, "settings": json.dumps(run.settings)}
        )  # fmt: skip
        frame = run.metrics.loc[:, [not str(c).startswith(("time/", "actor/lr")) for c in run.metrics]]
        if len(frame) > DENSE_STEPS:
            kept = (frame.index % 10 == 0) | frame.filter(like="eval/").notna().any(axis=1)
            frame.loc[~kept, frame.columns != "train/accuracy"] = np.nan
        metrics.append(frame.reset_index().assign(run=run.id))
        for name, score in run.scores.items():
            problems[run.scale, name] = score
            for step, correct in zip(score.steps, score.correct, strict=True):
                digits = " ".join(_digits(correct, score.samples))
                scores.append(
                    {"run": run.id, "benchmark": name, "step": step, "samples": score.samples,
                     "correct": digits if score.samples > 35 else digits.replace(" ", "")}
                )  # fmt: skip
    listed = [
        {"scale": scale, "benchmark": name, "id": i, "subject": subject}
        for (scale, name), score in sorted(problems.items())
        for i, subject in zip(score.ids, score.subjects, strict=True)
    ]
    table = pd.concat(metrics) if metrics else pd.DataFrame(columns=["run", "step"])
    table = table[["run", "step", *sorted(c for c in table if c not in ("run", "step"))]]
    tables = {"runs": pd.DataFrame(about), "metrics": table, "scores": pd.DataFrame(scores)}
    paths = []
    for stem, frame in (tables | {"problems": pd.DataFrame(listed)}).items():
        paths.append(out / f"{stem}.csv")
        frame.to_csv(paths[-1], index=False, float_format="%.5g", lineterminator="\n")
    return paths


def _digits(correct: NDArray, samples: int) -> list[str]:
    width = 1 if samples < 36 else 2
    return [np.base_repr(count, 36).zfill(width) for count in correct]


def read_csv(folder: Path) -> list[Run]:
    """The runs that `write_csv` wrote; none when the files are not there."""
    if not (folder / "runs.csv").exists():
        return []
    about, metrics, scores, problems = (
        pd.read_csv(folder / f"{stem}.csv", dtype={"correct": str}, keep_default_na=stem == "metrics")
        for stem in ("runs", "metrics", "scores", "problems")
    )
    of_run = {key: frame.drop(columns="run").set_index("step") for key, frame in metrics.groupby("run")}
    sets = {key: frame for key, frame in problems.groupby(["scale", "benchmark"])}
    runs = []
    for row in about.itertuples():
        scale, base_model, name, seed = row.run.split("/")
        run = Run(
            scale, base_model, name, int(seed.removeprefix("seed")), json.loads(row.settings), row.status,
            float(row.hours), row.machine, row.commit, row.command, of_run[row.run].dropna(axis=1, how="all"),
        )  # fmt: skip
        for benchmark, frame in scores[scores["run"] == row.run].groupby("benchmark"):
            listed = sets[scale, benchmark]
            correct = [[int(d, 36) for d in (text.split() if " " in text else text)] for text in frame["correct"]]
            run.scores[str(benchmark)] = Scores(
                frame["step"].to_numpy(),
                np.array(correct),
                int(frame["samples"].iloc[0]),
                listed["id"].tolist(),
                listed["subject"].to_numpy(dtype=object),
            )
        runs.append(run)
    return runs


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    out: Path = option("where the CSV files go", RESULTS)


def collect(options: Options) -> None:
    """Write the CSV files from the finished runs, over what is there."""
    if not options.runs.is_dir():
        raise ConfigError(f"runs={options.runs}: no such folder; python run.py makes runs")
    finished = [run for run in load(options.runs, options.out) if run.status == "finished"]
    for path in write_csv(finished, options.out):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    print(f"{len(finished)} finished runs")


if __name__ == "__main__":
    sys.exit(command(Options, collect, __doc__))
