"""What is stored of a benchmark: the share of right answers to each problem at each evaluated step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlvr import stats
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.plain_files import DamagedFile
from rlvr.stats import Interval


class Evaluations(NamedTuple):
    """One benchmark over the evaluations of a run. shares: "steps problems", the share of right answers among `samples`."""

    steps: list[int]
    shares: NDArray
    samples: int

    def intervals(self) -> tuple[NDArray, NDArray, NDArray]:
        """Accuracy with its 95 % interval over problems, each "steps"."""
        return stats.mean_intervals(stats.Part(self.shares[:, None], self.samples))


def evaluations(folder: RunFolder, benchmark: str) -> Evaluations | None:
    """What is stored of a benchmark, None when nothing is."""
    steps, shares, known = [], [], None
    for step, file in step_files(folder.eval_dir / benchmark).items():
        columns = samples.read(file, ["id", "score"])
        rows = rows_of_problems(columns["id"])
        ids = [columns["id"][row] for row in rows[:, 0]]
        known = known or ids
        if ids != known:
            raise DamagedFile(f"{file}: other problems than at the first step; remove the benchmark's folder")
        steps.append(step)
        shares.append(columns["score"][rows].mean(axis=1))
    return Evaluations(steps, np.array(shares), rows.shape[1]) if steps else None


def rows_of_problems(ids: Sequence[str]) -> NDArray:
    """The rows of each problem: "problems samples", in the order of the ids. ValueError when they differ in number."""
    found = np.asarray(ids, object).astype(str)
    problems = len(set(ids))
    if len(found) % problems == 0:
        rows = np.argsort(found, kind="stable").reshape(problems, -1)
        if (found[rows] == found[rows[:, :1]]).all():
            return rows
    raise ValueError(
        f"{len(found)} answers to {problems} problems: expected as many to each; evaluate the benchmark again"
    )


class Score(NamedTuple):
    """Accuracy with its 95 % interval over so many problems."""

    accuracy: Interval
    problems: int


def scores(folder: RunFolder, step: int, benchmarks: Sequence[str]) -> dict[str, Score]:
    """The score of every benchmark of these that is evaluated at this step."""
    found = {}
    for benchmark in benchmarks:
        of_it = evaluations(folder, benchmark)
        if of_it is not None and step in of_it.steps:
            place = of_it.steps.index(step)
            accuracy = Interval(*(float(ends[place]) for ends in of_it.intervals()))
            found[benchmark] = Score(accuracy, of_it.shares.shape[1])
    return found
