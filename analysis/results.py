"""All runs, each once: from run folders, and from the CSV files that take their place in a fresh clone.

python -m analysis.results [runs=runs] [out=results]     # write the CSV files from the finished runs

    runs.csv             one run: its settings (JSON of what science may differ in), state, cost
    problems.csv         the problems of a benchmark, in the order of a score's numbers
    metrics/<name>.csv   one step of a run; above 500 steps only train/accuracy is kept at every step
    scores/<name>.csv    one evaluation: a base-36 number for each problem, how many of `samples` answers were right

<name> is scale.base_model.experiment: the seeds of one experiment are one file, and another experiment changes none of it.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.run_data import SETTINGS, NoStepYet, Run, load_run
from rlvr.cli import ConfigError, command, option
from rlvr.runs.evaluations import Evaluations
from rlvr.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
DENSE_STEPS = 500
TEXTS = ("commit", "id", "subject", "correct")  # which may look like numbers


def untracked(items: Iterable, **about: Any) -> Iterable:
    """Replaces `rich.progress.Progress.track` where no progress is shown."""
    return items


def load(
    runs_dir: Path | None, results_dir: Path = RESULTS, track: Callable[..., Iterable] = untracked
) -> tuple[list[Run], list[str]]:
    """The run folders (scale/model/experiment/seed) and the committed results, each seed once, sorted by id; and a line
    for each run or benchmark that is left out, with the reason.

    A finished run folder counts before the committed results of the same run, which add the benchmarks that it lacks.
    Damaged folders are left out, and runs or benchmarks that do not match the others (`_of_one_kind`, `_of_one_set`).
    """
    committed = {run.id: run for run in read_csv(results_dir)}
    left_out: list[str] = []
    found: dict[str, Run] = {}
    if runs_dir is not None:
        folders = [RunFolder(config.parent) for config in sorted(runs_dir.glob("*/*/*/seed*/config.yaml"))]
        folders = [folder for folder in folders if folder.metrics_path.exists() and folder.provenance_path.exists()]
        with ThreadPoolExecutor(2) as pool:
            of_folders = track(pool.map(_load_or_reason, folders), total=len(folders), description="run folders")
            for folder, loaded in zip(folders, of_folders, strict=True):
                if isinstance(loaded, str):
                    left_out.append(f"{_place(folder)}: {loaded}")
                elif folder.path.name != f"seed{loaded.seed}" or loaded.id in found:
                    left_out.append(f"{_place(folder)}: a copy of {loaded.id}")
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
    """A run, or why it cannot be read, so that one damaged folder does not stop the others."""
    try:
        return load_run(folder)
    except NoStepYet as error:
        return str(error)
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return f"cannot be read ({why.replace(f'{folder.path}/', '')[:160]})"


def _differences(run: Run, other: Run) -> str:
    """The settings in which two runs of one name differ; seeds never differ in them."""
    keys = (key for key in SETTINGS if key.startswith(("scale.", "train_set", "pool", "updates")))
    both = ((key, run.settings.get(key), other.settings.get(key)) for key in keys)
    return ", ".join(f"{key} {a}, not {b}" for key, b, a in both if a != b)


def _of_one_kind(runs: Sequence[Run], left_out: list[str]) -> list[Run]:
    """Of runs with the same experiment and overrides, those with the most frequent settings; folders of finished runs decide."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        what = (run.settings["experiment_name"], tuple(run.settings["overrides"]))
        groups.setdefault((run.scale, run.base_model, *what), []).append(run)
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


def _of_one_set(runs: list[Run], left_out: list[str]) -> list[Run]:
    """Leave out a run's benchmark whose problems are not those of most runs of its scale."""
    counts = Counter((run.scale, name, tuple(scores.ids)) for run in runs for name, scores in run.scores.items())
    usual = {(scale, name): ids for (scale, name, ids), _ in reversed(counts.most_common())}
    for run in runs:
        for name, scores in list(run.scores.items()):
            if tuple(scores.ids) != (wanted := usual[run.scale, name]):
                left_out.append(
                    f"{run.id}: {name}: {len(scores.ids)} problems, other than the {len(wanted)} of most runs"
                )
                del run.scores[name]
    return runs


def write_csv(runs: Iterable[Run], out: Path) -> None:
    """Write the files of at least one run."""
    about, problems = [], {}
    metrics: dict[str, list[pd.DataFrame]] = {}
    scores: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        about.append(
            {"run": run.id} | run.about() | {"hours": round(run.hours, 3), "settings": json.dumps(run.settings)}
        )
        name = _file(run.id)
        metrics.setdefault(name, []).append(_kept(run.metrics).reset_index().assign(seed=run.seed))
        for benchmark, score in run.scores.items():
            listed = {"scale": run.scale, "benchmark": benchmark, "id": score.ids, "subject": score.subjects}
            problems[run.scale, benchmark] = pd.DataFrame(listed)
            counts = [_in_base_36(correct, score.samples) for correct in score.correct.round().astype(int)]
            about_scores = {"seed": run.seed, "benchmark": benchmark, "step": score.steps, "samples": score.samples}
            scores.setdefault(name, []).append(pd.DataFrame(about_scores | {"correct": counts}))
    tables = {"runs": pd.DataFrame(about), "problems": pd.concat([problems[key] for key in sorted(problems)])}
    for name, frames in metrics.items():
        tables[f"metrics/{name}"] = pd.concat(frames).set_index(["seed", "step"]).sort_index(axis=1).reset_index()
    tables |= {f"scores/{name}": pd.concat(frames) for name, frames in scores.items()}
    for folder in ("metrics", "scores"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.5g", lineterminator="\n")


def _file(run: str) -> str:
    """A run's id without its seed, as the name of a file."""
    return run.rpartition("/")[0].replace("/", ".")


def _kept(metrics: pd.DataFrame) -> pd.DataFrame:
    """What is drawn of a run's metrics, by step."""
    frame = metrics.loc[:, [not str(column).startswith(("time/", "actor/lr")) for column in metrics]]
    if len(frame) > DENSE_STEPS:
        kept = (frame.index % 10 == 0) | frame.filter(like="eval/").notna().any(axis=1)
        frame.loc[~kept, frame.columns != "train/accuracy"] = np.nan
    return frame


def _in_base_36(correct: NDArray, samples: int) -> str:
    """A digit for each problem; two, and spaces between them, where one is too few."""
    digits = [np.base_repr(count, 36) for count in correct]
    return "".join(digits) if samples < 36 else " ".join(digit.zfill(2) for digit in digits)


def read_csv(folder: Path) -> list[Run]:
    """The runs that `write_csv` wrote; none when the files are not there."""
    if not (folder / "runs.csv").exists():
        return []

    def read(name: str) -> pd.DataFrame:
        measured = name.startswith("metrics/")  # where an empty field is a missing number
        return pd.read_csv(folder / f"{name}.csv", dtype=dict.fromkeys(TEXTS, str), keep_default_na=measured)

    def by_seed(name: str) -> dict[int, pd.DataFrame]:
        there = (folder / f"{name}.csv").exists()  # a run may have no scores
        return {seed: frame.drop(columns="seed") for seed, frame in read(name).groupby("seed")} if there else {}

    sets = {key: frame for key, frame in read("problems").groupby(["scale", "benchmark"])}
    about = list(read("runs").itertuples())
    names = dict.fromkeys(_file(row.run) for row in about)
    metrics, scores = ({name: by_seed(f"{kind}/{name}") for name in names} for kind in ("metrics", "scores"))
    runs = []
    for row in about:
        name, (scale, base_model, experiment, last) = _file(row.run), row.run.split("/")
        seed = int(last.removeprefix("seed"))
        known = {"status": row.status, "machine": row.machine, "commit": row.commit, "command": row.command}
        steps = metrics[name][seed].set_index("step").dropna(axis=1, how="all")
        of_seed = scores[name].get(seed, pd.DataFrame(columns=["benchmark"])).groupby("benchmark")
        found = {benchmark: _scores(lines, sets[scale, benchmark]) for benchmark, lines in of_seed}
        settings, hours = json.loads(row.settings), float(row.hours)
        runs.append(
            Run(scale, base_model, experiment, seed, settings, hours=hours, metrics=steps, scores=found, **known)
        )
    return runs


def _scores(lines: pd.DataFrame, problems: pd.DataFrame) -> Evaluations:
    """One benchmark of one run."""
    samples = int(lines["samples"].iloc[0])
    correct = np.array([[int(d, 36) for d in (text if samples < 36 else text.split())] for text in lines["correct"]])
    ids, subjects = problems["id"].tolist(), problems["subject"].to_numpy(dtype=object)
    return Evaluations(lines["step"].to_numpy(), correct, samples, ids, subjects)


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
    write_csv(finished, options.out)
    print("\n".join([*(f"left out: {line}" for line in left_out), f"{options.out}: {len(finished)} finished runs"]))


if __name__ == "__main__":
    sys.exit(command(Options, collect, __doc__))
