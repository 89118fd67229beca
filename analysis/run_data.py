"""A run as the analyses see it, wherever it was read from: settings, metrics by step, and right answers by problem."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.runs.folder import RunFolder
from rlvr.stats import accuracy

SATURATED = 0.99
WINDOW = 1024  # rollouts: one step at the paper's scale; of the 64 of a smaller scale's step all are right by luck


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
