"""Reads the evaluation files of a benchmark: the right answers to each problem at each evaluated step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlvr import stats
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.plain_files import DamagedFile
from rlvr.stats import Interval


@dataclass
class Evaluations:
    """One benchmark over the evaluations of a run.

    steps: "evaluations". correct: "evaluations problems", the sum of the scores of the `samples` answers to a problem.
    ids, subjects: "problems". sums: of other columns over all answers, each "evaluations".
    """

    steps: NDArray
    correct: NDArray
    samples: int
    ids: list[str] = field(default_factory=list)
    subjects: NDArray = field(default_factory=lambda: np.array([], dtype=object))
    sums: dict[str, NDArray] = field(default_factory=dict)

    @property
    def shares(self) -> NDArray:
        """ "evaluations problems", in [0, 1]."""
        return self.correct / self.samples

    def accuracy(self) -> NDArray:
        """ "evaluations", in [0, 1]."""
        return stats.accuracy(self.correct, self.samples)

    def intervals(self) -> tuple[NDArray, NDArray, NDArray]:
        """Accuracy with its 95 % interval over problems, each "evaluations"."""
        return stats.mean_intervals(stats.Part(self.shares[:, None], self.samples))

    def at(self, step: int) -> NDArray:
        """ "problems": right answers at an evaluated step."""
        return self.correct[int(np.flatnonzero(self.steps == step)[0])]

    def of_subject(self, subject: str | None) -> Evaluations:
        """Only the problems of one subject; None: all problems."""
        if subject is None:
            return self
        kept = np.flatnonzero(self.subjects == subject)
        return Evaluations(self.steps, self.correct[:, kept], self.samples, [self.ids[i] for i in kept], self.subjects[kept])


def evaluations(folder: RunFolder, benchmark: str, summed: Sequence[str] = ()) -> Evaluations | None:
    """Read all evaluations of a benchmark, with the sums of the columns `summed`; None if there are none.

    Raises DamagedFile if a file cannot be read or has other problems than the first.
    """
    files = step_files(folder.eval_dir / benchmark)
    correct: list[NDArray] = []
    sums = {name: np.zeros(len(files)) for name in summed}
    ids: list[str] = []
    problems: list[str] = []
    rows = first = subjects = np.array([])
    for place, file in enumerate(files.values()):
        columns = samples.read(file, ["id", "subject", "score", *summed])
        if columns["id"] != ids:  # rows of a problem are searched again only if the order has changed
            ids, rows = columns["id"], rows_of_problems(columns["id"])
            found = [ids[row] for row in rows[:, 0]]
            if not correct:
                first, problems, subjects = rows, found, np.array(columns["subject"], dtype=object)[rows[:, 0]]
            if found != problems or rows.shape != first.shape:
                raise DamagedFile(f"{file}: other problems than at the first step; remove the benchmark's folder")
        correct.append(columns["score"][rows].sum(axis=1))
        for name in summed:
            sums[name][place] = columns[name].sum()
    if not files:
        return None
    return Evaluations(np.array(list(files)), np.array(correct), rows.shape[1], problems, subjects, sums)


def rows_of_problems(ids: ArrayLike) -> NDArray:
    """The rows of each problem: "problems samples", sorted by id. Raises ValueError if problems have different numbers of rows."""
    found = np.asarray(ids, object).astype(str)
    problems = len(set(found.tolist()))
    if len(found) % problems == 0:
        rows = np.argsort(found, kind="stable").reshape(problems, -1)
        if (found[rows] == found[rows[:, :1]]).all():
            return rows
    raise ValueError(
        f"{len(found)} answers to {problems} problems: expected as many to each; evaluate the benchmark again"
    )


class Score(NamedTuple):
    """Accuracy with its 95 % interval over the problems, and their number."""

    accuracy: Interval
    problems: int


def scores(folder: RunFolder, step: int, benchmarks: Sequence[str]) -> dict[str, Score]:
    """The scores of those benchmarks that were evaluated at this step."""
    found = {}
    for benchmark in benchmarks:
        of_it = evaluations(folder, benchmark)
        if of_it is not None and step in of_it.steps:
            place = of_it.steps.tolist().index(step)
            accuracy = Interval(*(float(ends[place]) for ends in of_it.intervals()))
            found[benchmark] = Score(accuracy, of_it.shares.shape[1])
    return found
