"""Outcomes with two ends: the seed decides whether a run ends high or low, which a mean describes badly.

The rule, fixed on 2026-11-30 before the runs that it asks for; PREDICTIONS.md says what was known when it was written:

line        halfway between the untrained model and the mean of the pool's runs (`full_set`) at their last step, on the same
            problems; none where the two are less than LEAST points apart. A run ends high at or above it.
family      runs of one scale and model with the same training set, label, reward rule and updates a step, and with or without
            a policy gradient: what the reward can teach is the same. A family is two-ended if the seeds of one of its experiments end
            on both sides of the line on the main test, and the nearest two of different sides are at least GAP of the way
            from the base to the pool apart. That holds for all its experiments: three seeds of one may show one end only.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from analysis.manifests import benchmarks_at
from analysis.run_data import Run

POOL = "full_set"
MAIN = "MATH500"
LEAST = 10.0
GAP = 0.25


def family(run: Run) -> tuple:
    """What the reward of a run can teach."""
    named = (run.settings.get(f"{key}.name") for key in ("train_set", "label", "reward_rule"))
    policy = (run.settings.get("loss") or {}).get("policy")
    return (run.scale, run.base_model, *named, run.settings.get("updates_per_step"), policy != "none")


def last_accuracy(run: Run, names: Sequence[str], subject: str | None = None, place: int = -1) -> float:
    """Percent over some benchmarks at the last evaluation; NaN where one is lacking."""
    scores = [run.scores[name].of_subject(subject) for name in names if name in run.scores]
    if not scores or len(scores) < len(names):
        return float("nan")
    return 100 * float(np.mean([of_it.accuracy()[place] for of_it in scores]))


class Ends:
    """The line of every test, and which runs belong to a family with two ends."""

    def __init__(self, runs: Iterable[Run]):
        self._lines: dict[tuple, tuple[float, float]] = {}
        finished = [run for run in runs if run.status == "finished"]
        self._pools: dict[tuple[str, str], list[Run]] = {}
        experiments: dict[tuple, list[Run]] = {}
        for run in finished:
            if run.name == POOL:
                self._pools.setdefault((run.scale, run.base_model), []).append(run)
            experiments.setdefault((*family(run), run.name), []).append(run)
        self._families = {key[:-1] for key, group in experiments.items() if self._both_ends(group)}

    def _both_ends(self, runs: Sequence[Run]) -> bool:
        names = benchmarks_at(runs[0].scale, MAIN)
        if not names or np.isnan(line := self.line(runs[0], names)):
            return False
        ends = np.array([last_accuracy(run, names) for run in runs])
        high, low = ends[ends >= line], ends[ends < line]
        return len(high) > 0 and len(low) > 0 and high.min() - low.max() >= GAP * self._of(runs[0], names, None)[1]

    def _of(self, run: Run, names: Sequence[str], subject: str | None) -> tuple[float, float]:
        """The line, and the way from the base to the pool."""
        key = (run.scale, run.base_model, tuple(names), subject)
        if key not in self._lines:
            pools = self._pools.get(key[:2], [])
            pool = np.mean([last_accuracy(one, names, subject) for one in pools] or [np.nan])
            base = np.mean([last_accuracy(one, names, subject, place=0) for one in pools] or [np.nan])
            self._lines[key] = (float(base + pool) / 2, float(pool - base))
        return self._lines[key]

    def line(self, run: Run, names: Sequence[str], subject: str | None = None) -> float:
        """The accuracy from which a run ends high, in percent; NaN if there is no such line."""
        line, way = self._of(run, names, subject)
        return line if way >= LEAST else float("nan")

    def two_ended(self, run: Run) -> bool:
        """Whether its family has two ends."""
        return family(run) in self._families
