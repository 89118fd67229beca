"""Runs as small CSV files, which stand for their folders in a fresh clone.

runs.csv             one run: its settings (JSON of what science may differ in), state, cost
problems.csv         the problems of a benchmark, in the order of a score's numbers
metrics/<name>.csv   one step of a run; above 500 steps only train/accuracy is kept at every step
scores/<name>.csv    one evaluation: a base-36 number for each problem, how many of `samples` answers were right

<name> is scale.base_model.experiment: the seeds of one experiment are one file, and another experiment changes none of it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.run_data import Run, Scores

DENSE_STEPS = 500
TEXTS = ("commit", "id", "subject", "correct")  # which may look like numbers


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
            counts = [_in_base_36(correct, score.samples) for correct in score.correct]
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
        measured = name.startswith("metrics/")  # where an empty field is no text
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
        own = scores[name].get(seed)
        runs.append(
            Run(
                scale,
                base_model,
                experiment,
                seed,
                json.loads(row.settings),
                row.status,
                float(row.hours),
                row.machine,
                row.commit,
                row.command,
                metrics[name][seed].set_index("step").dropna(axis=1, how="all"),
                {} if own is None else _scores(scale, own, sets),
            )  # fmt: skip
        )
    return runs


def _scores(scale: str, lines: pd.DataFrame, sets: dict[tuple[str, str], pd.DataFrame]) -> dict[str, Scores]:
    """The scores of one run by benchmark; sets: the problems, by scale and benchmark."""
    found = {}
    for benchmark, frame in lines.groupby("benchmark"):
        listed = sets[scale, benchmark]
        ids, subjects = listed["id"].tolist(), listed["subject"].to_numpy(dtype=object)
        samples = int(frame["samples"].iloc[0])
        correct = np.array([[int(d, 36) for d in (t if samples < 36 else t.split())] for t in frame["correct"]])
        found[benchmark] = Scores(frame["step"].to_numpy(), correct, samples, ids, subjects)
    return found
