"""Runs as tidy tables: from run folders, or from the small CSV files that stand for them in a fresh clone.

    python -m analysis.results [runs=runs] [out=results]     # write the CSV files from the finished runs

runs.csv      one run: its settings (JSON of what science may differ in), state, cost
metrics.csv   one step of a run; above 500 steps only train/accuracy is kept at every step
scores.csv    one evaluation: a base-36 number for each problem, how many of `samples` answers were right
problems.csv  the problems of a benchmark, in the order of those numbers

Reading run folders takes only the columns that are drawn; training responses are read at a few steps of a run (`spread`),
for what only the text tells: degenerate answers.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from analysis.responses import TextModel, degenerate, reflects
from rlvr.cli import ConfigError, command, option
from rlvr.data import protocols
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, read_json, read_metrics, step_files
from rlvr.stats import accuracy

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
SETTINGS = (
    "experiment_name", "variant", "overrides", "label.name", "updates_per_step", "loss", "train_set.name", "reward_rule.name",
    "pool.name", "base_model.name", "scale.steps", "scale.prompts_per_step", "scale.samples_per_prompt",
    "scale.learning_rate", "scale.temperature", "scale.max_response_tokens",
)  # fmt: skip
PLACES = ("runs_dir=", "data_root=")  # paths of one machine
MEANS = ("boxed", "truncated", "response_tokens")
TEXT_STEPS = 24
TEXT_ROWS = 256
DENSE_STEPS = 500
SATURATED = 0.99
TEXTS = ("commit", "id", "subject", "correct")  # which may look like numbers
WINDOW = 1024  # rollouts: one step at the paper's scale; of the 64 of a smaller scale's step all are right by luck


class NoStepYet(ConfigError):
    """A run that has only begun."""


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

    def of_subject(self, subject: str | None) -> "Scores":
        """Its problems of one subject; None: all."""
        if subject is None:
            return self
        kept = np.flatnonzero(self.subjects == subject)
        return Scores(self.steps, self.correct[:, kept], self.samples, [self.ids[i] for i in kept], self.subjects[kept])


@dataclass(eq=False)
class Run:
    scale: str
    base_model: str
    name: str  # the experiment, with its variant
    seed: int
    settings: dict[
        str, Any
    ]  # `overrides`: what it changed of its experiment; None where an old version did not keep it
    status: str
    hours: float
    machine: str
    commit: str
    command: str
    metrics: pd.DataFrame  # indexed by step
    scores: dict[str, Scores] = field(default_factory=dict)
    folder: RunFolder | None = None

    @property
    def id(self) -> str:
        return f"{self.scale}/{self.base_model}/{self.name}/seed{self.seed}"

    @property
    def first_rollouts(self) -> tuple:
        """Equal for two runs whose first rollouts are the same, draw by draw, and which are no independent samples."""
        of_batch = ("prompts_per_step", "samples_per_prompt", "temperature")
        settings = ("train_set.name", "pool.name", *(f"scale.{name}" for name in of_batch))
        return (self.scale, self.base_model, self.seed, *(self.settings.get(key) for key in settings))

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


def untracked(items: Iterable, **about: Any) -> Iterable:
    """What takes the place of `rich.progress.Progress.track` where nobody watches."""
    return items


def load(
    runs_dir: Path | None, results_dir: Path = RESULTS, track: Callable[..., Iterable] = untracked
) -> tuple[list[Run], list[str]]:
    """The run folders (scale/model/experiment/seed) and the committed results, each seed once, sorted by id; and a line
    for each run or benchmark that is left out, with the reason.

    A finished run folder stands before the committed results of the same run, which add the benchmarks that it lacks.
    Damaged folders are left out, and what does not fit its neighbours: `_of_one_kind`, `_of_one_set`.
    """
    committed = {run.id: run for run in read_csv(results_dir)}
    left_out: list[str] = []
    found: dict[str, Run] = {}
    if runs_dir is not None:
        folders = [RunFolder(config.parent) for config in sorted(runs_dir.glob("*/*/*/seed*/config.yaml"))]
        folders = [folder for folder in folders if folder.metrics_path.exists() and folder.provenance_path.exists()]
        with ThreadPoolExecutor(2) as pool:
            of_folders = track(pool.map(_load_or_reason, folders), total=len(folders), description="run folders")
            for loaded in of_folders:
                if isinstance(loaded, str):
                    left_out.append(loaded)
                elif loaded.folder and (loaded.folder.path.name != f"seed{loaded.seed}" or loaded.id in found):
                    left_out.append(f"{_place(loaded.folder)}: a copy of {loaded.id}")
                else:
                    found[loaded.id] = loaded
    for key in found.keys() & committed.keys():
        run, before = found[key], committed[key]
        if run.status != "finished" and before.status == "finished":
            left_out.append(f"{key}: the folder is {run.status}; the committed results stand for it")
            del found[key]
        elif not (differs := _differences(run, before)):
            run.scores = before.scores | run.scores
            run.metrics = run.metrics.combine_first(before.metrics)
        else:
            left_out.append(f"{key}: the committed results had other settings than the folder ({differs})")
    runs = committed | found
    kept = _of_one_set(_of_one_kind([runs[key] for key in sorted(runs)], left_out), left_out)
    return kept, sorted(left_out)


def _place(folder: RunFolder) -> str:
    return "/".join(folder.path.parts[-4:])


def _load_or_reason(folder: RunFolder) -> Run | str:
    """A run, or in one line why it cannot be read: whatever lies in one folder, the others are drawn."""
    try:
        return load_run(folder)
    except NoStepYet as error:
        return f"{_place(folder)}: {error}"
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{_place(folder)}: cannot be read ({why.replace(f'{folder.path}/', '')[:160]})"


def _differences(run: Run, other: Run) -> str:
    """In what two runs of one name differ that seeds do not; what an old version did not keep is no difference."""
    keys = (key for key in SETTINGS if key.startswith(("scale.", "train_set", "pool", "updates")))
    both = ((key, run.settings.get(key), other.settings.get(key)) for key in keys)
    return ", ".join(f"{key} {b}, not {a}" for key, a, b in both if None not in (a, b) and a != b)


def _of_one_kind(runs: Sequence[Run], left_out: list[str]) -> list[Run]:
    """Runs with the steps that their scale and overrides say, and of equal overrides those with the settings of most.

    Folders of finished runs decide over committed results, which may be those of an older version.
    """
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        steps, wanted = run.settings.get("scale.steps"), _steps(run)
        if wanted is not None and steps != wanted:
            left_out.append(f"{run.id}: {steps} steps; scale={run.scale} and its overrides say {wanted}")
            continue
        overrides = run.settings.get("overrides")
        what = run.name if overrides is None else tuple(overrides)
        groups.setdefault((run.scale, run.base_model, run.settings.get("experiment_name"), what), []).append(run)
    kept = []
    for group in groups.values():
        deciding = [run for run in group if run.folder is not None and run.status == "finished"] or group
        typical = max(deciding, key=lambda run: sum(not _differences(run, other) for other in deciding))
        for run in group:
            if differs := _differences(typical, run):
                left_out.append(f"{run.id}: other settings than {typical.id}: {differs}")
            else:
                kept.append(run)
    return sorted(kept, key=lambda run: run.id)


def _steps(run: Run) -> int | None:
    """What a run's scale and overrides say; None where the scale's file is not at hand."""
    own = (o.partition("=")[2] for o in run.settings.get("overrides") or () if o.startswith("scale.steps="))
    wanted = next(own, protocols.scale_file(run.scale).get("steps"))
    if wanted == "${base_model.paper_steps}":
        file = protocols.SCALES.parent / "base_model" / f"{run.base_model}.yaml"
        wanted = yaml.safe_load(file.read_text())["paper_steps"] if file.exists() else None
    return None if wanted is None else int(wanted)


def _of_one_set(runs: list[Run], left_out: list[str]) -> list[Run]:
    """Leave out a run's benchmark whose problems are not the scale's: as many as the protocol says, and those of most runs."""
    counts = Counter((run.scale, name, tuple(scores.ids)) for run in runs for name, scores in run.scores.items())
    canonical: dict[tuple[str, str], tuple[str, ...]] = {}
    for (scale, name, ids), _ in sorted(
        counts.items(), key=lambda item: (len(item[0][2]) == _size(item[0][1]), item[1])
    ):
        canonical[scale, name] = ids
    for run in runs:
        for name, scores in list(run.scores.items()):
            if tuple(scores.ids) != (wanted := canonical[run.scale, name]):
                left_out.append(
                    f"{run.id}: {name}: {len(scores.ids)} problems, other than the {len(wanted)} of most runs"
                )
                del run.scores[name]
    return runs


def _size(benchmark: str) -> int | None:
    """The problems of a benchmark by its protocol; None for one of the user's own."""
    try:
        (row,) = protocols.select([benchmark.rpartition("/")[2]])
    except ConfigError:
        return None
    return row.answers // row.k if row.answers else None


def write_csv(runs: Iterable[Run], out: Path) -> list[Path]:
    """Write the four CSV files of at least one run; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    about, metrics, scores, problems = [], [], [], {}
    for run in runs:
        about.append(
            {"run": run.id} | run.about() | {"hours": round(run.hours, 3), "settings": json.dumps(run.settings)}
        )
        frame = run.metrics.loc[:, [not str(c).startswith(("time/", "actor/lr")) for c in run.metrics]]
        if len(frame) > DENSE_STEPS:
            kept = (frame.index % 10 == 0) | frame.filter(like="eval/").notna().any(axis=1)
            frame.loc[~kept, frame.columns != "train/accuracy"] = np.nan
        metrics.append(frame.reset_index().assign(run=run.id))
        for name, score in run.scores.items():
            listed = {"scale": run.scale, "benchmark": name, "id": score.ids, "subject": score.subjects}
            problems[run.scale, name] = pd.DataFrame(listed)
            counts = [_in_base_36(correct, score.samples) for correct in score.correct]
            about_scores = {"run": run.id, "benchmark": name, "step": score.steps, "samples": score.samples}
            scores.append(pd.DataFrame(about_scores | {"correct": counts}))
    tables = {"runs": pd.DataFrame(about), "metrics": pd.concat(metrics), "scores": pd.concat(scores)}
    tables["metrics"] = tables["metrics"].set_index(["run", "step"]).sort_index(axis=1).reset_index()
    tables["problems"] = pd.concat([problems[key] for key in sorted(problems)])
    for stem, frame in tables.items():
        frame.to_csv(out / f"{stem}.csv", index=False, float_format="%.5g", lineterminator="\n")
    return [out / f"{stem}.csv" for stem in tables]


def _in_base_36(correct: NDArray, samples: int) -> str:
    """A digit for each problem; two, and spaces between them, where one is too few."""
    digits = [np.base_repr(count, 36) for count in correct]
    return "".join(digits) if samples < 36 else " ".join(digit.zfill(2) for digit in digits)


def read_csv(folder: Path) -> list[Run]:
    """The runs that `write_csv` wrote; none when the files are not there."""
    if not (folder / "runs.csv").exists():
        return []
    about, metrics, scores, problems = (
        pd.read_csv(folder / f"{stem}.csv", dtype=dict.fromkeys(TEXTS, str), keep_default_na=stem == "metrics")
        for stem in ("runs", "metrics", "scores", "problems")
    )
    of_run = {key: frame.drop(columns="run").set_index("step") for key, frame in metrics.groupby("run")}
    sets = {key: frame for key, frame in problems.groupby(["scale", "benchmark"])}
    runs = {}
    for row in about.itertuples():
        scale, base_model, name, seed = row.run.split("/")
        runs[row.run] = Run(
            scale, base_model, name, int(seed.removeprefix("seed")), json.loads(row.settings), row.status,
            float(row.hours), row.machine, row.commit, row.command, of_run[row.run].dropna(axis=1, how="all"),
        )  # fmt: skip
    for (run, benchmark), frame in scores.groupby(["run", "benchmark"]):
        listed = sets[runs[run].scale, benchmark]
        ids, subjects = listed["id"].tolist(), listed["subject"].to_numpy(dtype=object)
        steps, samples = frame["step"].to_numpy(), int(frame["samples"].iloc[0])
        correct = np.array([[int(d, 36) for d in (t if samples < 36 else t.split())] for t in frame["correct"]])
        runs[run].scores[benchmark] = Scores(steps, correct, samples, ids, subjects)
    return list(runs.values())


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    out: Path = option("where the CSV files go", RESULTS)


def collect(options: Options) -> None:
    """Write the CSV files from the finished runs, over what is there. ConfigError where runs that are there would be lost."""
    if not options.runs.is_dir():
        raise ConfigError(f"runs={options.runs}: no such folder; python run.py makes runs")
    runs, left_out = load(options.runs, options.out)
    finished = [run for run in runs if run.status == "finished"]
    if not finished:
        raise ConfigError(f"runs={options.runs}: no finished run here; an unfinished one goes on with the same command")
    if lost := sorted({run.id for run in read_csv(options.out)} - {run.id for run in finished}):
        reasons = "\n".join(line for line in left_out if line.startswith(tuple(lost)))
        raise ConfigError(
            f"out={options.out}: {len(lost)} of its runs would be lost, {lost[0]} the first: move away the run folders that "
            f"they disagree with, or give another out\n{reasons}"
        )
    for path in write_csv(finished, options.out):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    print("\n".join([*(f"left out: {line}" for line in left_out), f"{len(finished)} finished runs"]))


if __name__ == "__main__":
    sys.exit(command(Options, collect, __doc__))
