"""All runs that are at hand, each once: from run folders, and from the CSV files that stand for them in a fresh clone.

python -m analysis.results [runs=runs] [out=results]     # write the CSV files (analysis/committed_runs.py) from the finished runs
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.committed_runs import read_csv, write_csv
from analysis.run_data import Run
from analysis.run_folders import SETTINGS, NoStepYet, load_run
from rlvr.cli import ConfigError, command, option
from rlvr.data import protocols
from rlvr.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


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
