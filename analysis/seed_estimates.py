"""Estimates over seeds, from the counts of right answers: accuracy, pass@8, boxed share, length; the gain after saturation;
and by how much choosing checkpoints on the tests raises accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import comparisons
from analysis.comparisons import Contrast
from analysis.manifests import PAPER_STEPS, average_at
from analysis.run_data import Run
from analysis.two_ends import Ends
from rlvr.stats import Interval, Part, bounded_mean, mean_interval, pass_at_k

PASS_K = 8
VALIDATION = "validation"  # problems that no table shows, at scales that have them


@dataclass(frozen=True)
class Estimate:
    """A number in the unit in which it is printed (percent, tokens), with its data.

    parts: values "seeds problems" in that unit, a part for each set of problems, whose ids are `problems`; of what is known
    of whole runs only, "seeds 1". one_model: the untrained model, in one row whatever the seeds that evaluated it.
    of_runs: the seed of each row; none of one model. line: where high begins (analysis.two_ends), NaN without one.
    two_ended: whether seeds end high or low.
    """

    interval: Interval
    parts: Sequence[Part]
    problems: Sequence[tuple[str, ...]] = field(repr=False)
    one_model: bool = False
    of_runs: Sequence[int] = ()
    line: float = np.nan
    two_ended: bool = False

    @property
    def by_seed(self) -> list[float]:
        """The number of each seed."""
        weights = np.array([part.weight for part in self.parts])
        means = [np.asarray(part.values).mean(axis=-1) for part in self.parts]
        return (np.einsum("p,ps->s", weights, np.array(means)) / weights.sum()).tolist()

    @property
    def seeds(self) -> int:
        return len(np.asarray(self.parts[0].values))

    def minus(self, other: "Estimate") -> Contrast:
        """The difference, paired by problem, and by seed where both sides have the same; without a variance where a side is one
        run known as a whole only, and where seeds with two ends cannot be paired.
        """
        value = self.interval.value - other.interval.value
        single = any(len(ids) == 0 for ids in self.problems) and any(
            one.seeds == 1 and not one.one_model for one in (self, other)
        )
        if single or list(self.problems) != list(other.problems):
            return Contrast(value)
        found = comparisons.contrast(self.parts, other.parts, (self.of_runs, other.of_runs))
        if not (self.two_ended or other.two_ended) or len(found.of_seeds) < 2:
            return found
        if not (found.paired or other.one_model):
            return Contrast(value)
        bounds = (-other.interval.value, 100 - other.interval.value) if other.one_model else (-100.0, 100.0)
        return replace(found, bounds=bounds)

    @property
    def high(self) -> dict[int, bool]:
        """For each seed: does it end high? Empty if there is no line."""
        if np.isnan(self.line):
            return {}
        return {seed: value >= self.line for seed, value in zip(self.of_runs, self.by_seed, strict=True)}

    @property
    def share(self) -> Contrast | None:
        """The share of seeds that end high, in percent, tested against one half; None without two ends."""
        if not self.two_ended or not self.high:
            return None
        values = tuple(100.0 * high for high in self.high.values())
        return Contrast(float(np.mean(values)), of_seeds=values, bounds=(0.0, 100.0), null=50.0)

    def share_minus(self, other: "Estimate") -> Contrast | None:
        """The difference of this share from another's, seed by seed; None if neither has two ends or too few seeds are the same."""
        common = comparisons.common_seeds(self.of_runs, other.of_runs)
        if not (self.two_ended or other.two_ended) or not common or not self.high or not other.high:
            return None
        values = tuple(100.0 * (int(self.high[seed]) - int(other.high[seed])) for seed in common)
        return Contrast(float(np.mean(values)), of_seeds=values, paired=True, bounds=(-100.0, 100.0))


@dataclass(frozen=True)
class Pick:
    """One run's checkpoint for one benchmark: the data of a cell, which the page opens."""

    run: Run
    benchmark: str
    step: int


Picks = Sequence[Sequence[Pick]]  # benchmarks, the seeds of each


class Estimator:
    """Estimates over seeds, each made once."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = runs
        self.scales = sorted({run.scale for run in runs}, key=lambda s: (s != "paper", s))
        self.ends = Ends(runs)
        self._estimates: dict[tuple, Estimate | None] = {}

    def estimate(
        self, picks: Picks, quantity: str, subject: str | None = None, one_model: bool = False
    ) -> Estimate | None:
        """The mean over benchmarks, each with the seeds of its `picks`; None if the runs lack a benchmark.

        one_model: the seeds evaluated the same model, so they are further answers to the problems.
        """
        key = (quantity, subject, one_model, *((id(p.run), p.benchmark, p.step) for group in picks for p in group))
        if key not in self._estimates:
            make = _of_whole_runs if quantity in ("boxed", "response_tokens") else _of_problems
            found = make(picks, quantity, subject, one_model)
            if found is not None and quantity == "accuracy" and not one_model:
                found = self._with_ends(found, picks, subject)
            self._estimates[key] = found
        return self._estimates[key]

    def _with_ends(self, found: Estimate, picks: Picks, subject: str | None) -> Estimate:
        """Add the line; with two ends the interval makes no assumption about the distribution."""
        runs = [pick.run for pick in picks[0]]
        line = self.ends.line(runs[0], [group[0].benchmark for group in picks], subject)
        if np.isnan(line) or not any(map(self.ends.two_ended, runs)):
            return replace(found, line=line)
        interval = bounded_mean(found.by_seed, 0, 100) if found.seeds > 1 else found.interval
        return replace(found, line=line, two_ended=True, interval=interval)


def _of_problems(picks: Picks, quantity: str, subject: str | None, one_model: bool) -> Estimate | None:
    measured = []
    for group in picks:
        scores = [p.run.scores[p.benchmark].of_subject(subject) for p in group]
        samples, ids = np.array([[score.samples] for score in scores]), scores[0].ids
        if not ids or (quantity == "pass_at_8" and samples.min() < PASS_K):
            return None
        correct = np.array([score.at(p.step) for score, p in zip(scores, group, strict=True)])
        values = correct / samples if quantity == "accuracy" else pass_at_k(samples, correct, PASS_K)
        answers = int(samples.min())
        if one_model:
            values, answers = values.mean(axis=0, keepdims=True), answers * len(values)
        measured.append((ids, values, answers))
    found = parts(measured)
    percent = [Part(100 * np.asarray(part.values), part.samples, part.weight) for part in found]
    problems = list(dict.fromkeys(tuple(ids) for ids, _, _ in measured))
    return Estimate(mean_interval(*found) * 100, percent, problems, one_model, _seeds(picks, one_model))


def _of_whole_runs(picks: Picks, quantity: str, subject: str | None, one_model: bool) -> Estimate | None:
    """An estimate from one number for each run; a single run has no interval."""
    of_runs = [[p.run.series(f"eval/{p.benchmark}/{quantity}").get(p.step, np.nan) for p in ps] for ps in picks]
    seeds = np.mean(of_runs, axis=0)[:, None] * (100 if quantity == "boxed" else 1)
    if np.isnan(seeds).any():
        return None
    if one_model:
        seeds = seeds.mean(axis=0, keepdims=True)
    return Estimate(mean_interval(Part(seeds), share=False), [Part(seeds)], [()], one_model, _seeds(picks, one_model))


def _seeds(picks: Picks, one_model: bool) -> list[int]:
    return [] if one_model else [pick.run.seed for pick in picks[0]]


def parts(measured: Sequence[tuple[Sequence[str], NDArray, int]]) -> list[Part]:
    """Benchmarks, each as ids, values "... seeds problems" and answers to a problem, for the interval of their mean.

    Benchmarks on the same problems share their noise: they are averaged problem by problem first.
    """
    sets: dict[tuple[str, ...], list[tuple[NDArray, int]]] = {}
    for ids, values, samples in measured:
        sets.setdefault(tuple(ids), []).append((values, samples))
    return [
        Part(np.mean([values for values, _ in same], axis=0), sum(samples for _, samples in same), len(same))
        for same in sets.values()
    ]


def accuracies(run: Run, benchmarks: Sequence[str]) -> pd.Series:
    """The mean accuracy in [0, 1] at the steps where all benchmarks were evaluated; empty if the run lacks one."""
    return _accuracies(run, tuple(benchmarks))


@cache
def _accuracies(run: Run, benchmarks: tuple[str, ...]) -> pd.Series:
    if not benchmarks or not all(name in run.scores for name in benchmarks):
        return pd.Series(dtype=float)
    series = [pd.Series(run.scores[name].accuracy(), run.scores[name].steps) for name in benchmarks]
    return pd.concat(series, axis=1).dropna().mean(axis=1)


@cache
def chosen_step(run: Run, benchmark: str, selection: str, step: int | None, averaged: bool) -> int | None:
    """The checkpoint of a trained run that a cell shows; None when there is none. Step 0, the untrained model, only by name.

    A step of the paper's 2,000 is, at another scale, the evaluation nearest to the same share of the run; at most half an
    interval between evaluations away.
    """
    evaluated = run.scores[benchmark].steps
    if selection == "step":
        assert step is not None  # load_manifest asks for it
        wanted = step if run.scale == "paper" else step * run.settings["scale.steps"] / PAPER_STEPS
        near = evaluated[(evaluated > 0) == (step > 0)]
        grid = np.unique(np.concatenate([scores.steps for scores in run.scores.values()]))
        within = np.median(np.diff(grid)) / 2 if len(grid) > 1 else 0
        nearest = min(near.tolist(), key=lambda at: abs(at - wanted), default=None)
        return nearest if nearest is not None and abs(nearest - wanted) <= within else None
    together = selection == "best_average" or (selection == "best_each" and averaged)
    deciding = [VALIDATION] if selection == VALIDATION else average_at(run.scale) if together else [benchmark]
    found = accuracies(run, deciding)
    found = found[found.index.isin(evaluated) & (found.index > 0)]
    if found.empty:
        return None
    return int(found.index[-1] if selection == "last" else found.idxmax())


@dataclass(frozen=True)
class Gain:
    """For each run: points gained on the tests after saturation, and the two evaluated steps between which it is counted."""

    contrast: Contrast
    spans: list[tuple[int, int]]

    @property
    def points(self) -> Interval:
        return self.contrast.interval


def gain_span(saturation: int, steps: Sequence[int], strict: bool = False) -> tuple[int, int] | None:
    """The two evaluated steps between which a gain is counted: the first at or after `saturation`, and the last of all.

    Where the last is the only one after saturation, it is counted from the last at or before it, which also credits what
    was learnt in between, unless `strict`; never from the untrained model. None when there are not two.
    """
    after = next((step for step in steps if step >= saturation), None)
    if after is not None and after < steps[-1]:
        return after, steps[-1]
    before = max((step for step in steps if 0 < step <= saturation), default=None)
    return None if strict or before is None or before == steps[-1] else (before, steps[-1])


def gain_after_saturation(runs: Sequence[Run], benchmarks: Sequence[str] = ()) -> Gain | None:
    """The gain of those runs that saturate, on the mean of the benchmarks (by default the scale's test average).

    All count from after saturation; when one of them cannot, each counts as far as it can (`gain_span`); None when one still
    cannot. The interval is t over seeds and problems, paired by problem; with one run, over problems.
    """
    names = benchmarks or average_at(runs[0].scale)
    saturated = [(run, run.saturation, accuracies(run, names).index.tolist()) for run in runs]
    for strict in (True, False):
        spans = [(run, gain_span(first, steps, strict)) for run, first, steps in saturated if first is not None]
        known = [(run, span) for run, span in spans if span is not None]
        if known and len(known) == len(spans):
            return _gain(known, names)
    return None


def _gain(spans: Sequence[tuple[Run, tuple[int, int]]], names: Sequence[str]) -> Gain:
    measured = []
    for name in names:
        of_runs = [(run.scores[name], span) for run, span in spans]
        changes = [100 * (scores.at(to) - scores.at(start)) / scores.samples for scores, (start, to) in of_runs]
        measured.append((of_runs[0][0].ids, np.array(changes), 1))
    return Gain(comparisons.contrast(parts(measured)), [span for _, span in spans])


def reflections(run: Run) -> pd.Series:
    """Answers with a reflection word over the benchmarks of the scale's average, by step."""
    counts = [run.series(f"eval/{name}/reflections") for name in average_at(run.scale)]
    return pd.concat(counts, axis=1).dropna().sum(axis=1) if counts else pd.Series(dtype=float)


def inflation(runs: Sequence[Run]) -> pd.DataFrame:
    """For each run, by how much choosing its checkpoint on the tests raises its accuracy: by split halves, and against `validation`.

    Columns in points: run, benchmark, split_half (with low, high), on_validation (best on the test minus the checkpoint that
    is best on validation; NaN without one). The untrained model is not chosen.
    """
    lines = []
    for run in runs:
        on_validation = accuracies(run, [VALIDATION]).loc[1:]
        for name, scores in run.scores.items():
            trained, accuracy = scores.steps > 0, accuracies(run, [name]).loc[1:]
            if name == VALIDATION or len(scores.ids) < 2 or len(accuracy) < 2:
                continue
            shares = scores.correct[trained] / scores.samples
            split = comparisons.selection_inflation(shares) * 100
            chosen = accuracy.get(on_validation.idxmax(), np.nan) if len(on_validation) else np.nan
            lines.append(
                {"run": run.id, "benchmark": name, "checkpoints": len(accuracy), "split_half": split.value, "low": split.low,
                 "high": split.high, "on_validation": 100 * (accuracy.max() - chosen)}
            )  # fmt: skip
    return pd.DataFrame(lines)
