"""Estimates over seeds, from the counts of right answers: accuracy, pass@8, boxed share, length; and what selection flatters."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import stats
from analysis.manifests import PAPER_STEPS, average_at
from analysis.results import Run, Scores
from rlvr.stats import Interval, Part, mean_interval, pass_at_k

PASS_K = 8


@dataclass(frozen=True)
class Estimate:
    """A number in the unit it is printed in (percent, tokens), and its resamples: "resamples", or None without noise."""

    interval: Interval
    resampled: NDArray | None

    def minus(self, other: Estimate) -> Estimate:
        """The difference; problems are paired, because all resamples of one problem set draw the same problems."""
        value = self.interval.value - other.interval.value
        if self.resampled is None or other.resampled is None:
            return Estimate(Interval(value), None)
        resampled = self.resampled - other.resampled
        return Estimate(stats.percentile_interval(value, resampled), resampled)


@dataclass(frozen=True)
class Pick:
    """One run's checkpoint for one benchmark: what a cell was made from, and opens."""

    run: Run
    benchmark: str
    step: int


class Estimator:
    """Estimates over seeds, each made once. Equal problems are drawn equally everywhere, so that differences are paired."""

    def __init__(self, runs: Sequence[Run], resamples: int = stats.RESAMPLES):
        self.runs = runs
        self.resamples = resamples
        self._draws: dict[int, NDArray] = {}
        self._estimates: dict[tuple, Estimate | None] = {}

    def scales(self) -> list[str]:
        return sorted({run.scale for run in self.runs}, key=lambda s: (s != "paper", s))

    def problem_draws(self, ids: Sequence[str]) -> NDArray:
        key = zlib.crc32("\n".join(ids).encode())
        if key not in self._draws:
            self._draws[key] = stats.draw_problems(len(ids), np.random.default_rng(key), self.resamples)
        return self._draws[key]

    def estimate(
        self, picks: Sequence[Sequence[Pick]], quantity: str, subject: str | None = None, one_model: bool = False
    ) -> Estimate | None:
        """The mean over benchmarks, each with the seeds of its `picks`; None where the runs do not have it.

        one_model: the seeds evaluated the same model, so they are further answers to the problems.
        """
        key = (quantity, subject, one_model, *((p.run.id, p.benchmark, p.step) for group in picks for p in group))
        if key not in self._estimates:
            self._estimates[key] = self._make(picks, quantity, subject, one_model, zlib.crc32(repr(key).encode()))
        return self._estimates[key]

    def _make(
        self, picks: Sequence[Sequence[Pick]], quantity: str, subject: str | None, one_model: bool, seed: int
    ) -> Estimate | None:
        rng = np.random.default_rng(seed)
        if quantity in ("boxed", "response_tokens"):
            return self._mean_of_runs(picks, quantity, one_model, rng)
        measured, resampled = [], []
        for group in picks:
            scores = [p.run.scores[p.benchmark] for p in group]
            kept = np.ones(len(scores[0].ids), bool) if subject is None else scores[0].subjects == subject
            samples = np.array([score.samples for score in scores])
            if not kept.any() or (quantity == "pass_at_8" and samples.min() < PASS_K):
                return None
            ids = [i for i, keep in zip(scores[0].ids, kept, strict=True) if keep]
            correct = np.array([score.at(p.step)[kept] for score, p in zip(scores, group, strict=True)])
            counted = quantity == "accuracy" and len(set(samples)) == 1
            values = (
                correct / samples[:, None] if quantity == "accuracy" else pass_at_k(samples[:, None], correct, PASS_K)
            )
            drawn = (correct, int(samples[0])) if counted else (values, 1)
            resampled.append(100 * stats.bootstrap_means(*drawn, self.problem_draws(ids), rng))
            answers = int(samples.min())
            if one_model:
                values, answers = values.mean(axis=0, keepdims=True), answers * len(values)
            measured.append((ids, values, answers))
        return Estimate(mean_interval(*parts(measured)) * 100, np.mean(resampled, axis=0))

    def _mean_of_runs(
        self, picks: Sequence[Sequence[Pick]], quantity: str, one_model: bool, rng: np.random.Generator
    ) -> Estimate | None:
        """What is known for each run as a whole: no noise with one model."""
        of_runs = [
            [p.run.series(f"eval/{p.benchmark}/{quantity}").get(p.step, np.nan) for p in group] for group in picks
        ]
        seeds = np.mean(of_runs, axis=0)[:, None] * (100 if quantity == "boxed" else 1)
        if np.isnan(seeds).any():
            return None
        if one_model:
            seeds = seeds.mean(axis=0, keepdims=True)
        draws = np.ones((self.resamples, 1), int)
        resampled = stats.bootstrap_means(seeds, 1, draws, rng) if len(seeds) > 1 else None
        return Estimate(mean_interval(Part(seeds), share=False), resampled)


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


def average_accuracy(run: Run) -> tuple[NDArray, NDArray]:
    """Steps at which all benchmarks of the scale's average were evaluated, and that average in [0, 1]."""
    series = [
        pd.Series(run.scores[name].accuracy(), run.scores[name].steps)
        for name in average_at(run.scale)
        if name in run.scores
    ]
    if not series or len(series) < len(average_at(run.scale)):
        return np.array([], int), np.array([])
    mean = pd.concat(series, axis=1).dropna().mean(axis=1)
    return mean.index.to_numpy(), mean.to_numpy()


def chosen_step(run: Run, scores: Scores, selection: str, step: int | None, averaged: bool) -> int | None:
    """The checkpoint of a run that a cell shows; None when nothing was evaluated.

    A step of the paper's 2,000 is, at another scale, the evaluation nearest to the same share of the run.
    """
    steps, values = scores.steps, scores.accuracy()
    if selection == "best_average" or (selection == "best_each" and averaged):
        steps, values = average_accuracy(run)
        at_both = np.isin(steps, scores.steps)
        steps, values = steps[at_both], values[at_both]
    if not len(steps):
        return None
    if selection == "last":
        return int(steps[-1])
    if selection == "step":
        wanted = step if run.scale == "paper" else (step or 0) * run.settings["scale.steps"] / PAPER_STEPS
        return int(steps[np.abs(steps - (wanted or 0)).argmin()])
    return int(steps[values.argmax()])


def inflation(runs: Sequence[Run]) -> pd.DataFrame:
    """For each run, what choosing its checkpoint on the tests themselves flatters: by split halves, and against `validation`.

    Columns in points: run, benchmark, split_half (with low, high), on_validation (best on the test minus the checkpoint that
    is best on validation; NaN without one).
    """
    lines = []
    for run in runs:
        for name, scores in run.scores.items():
            if name == "validation" or len(scores.steps) < 2:
                continue
            rng = np.random.default_rng(0)
            split = stats.selection_inflation(scores.correct / scores.samples, rng) * 100
            line = {"run": run.id, "benchmark": name, "checkpoints": len(scores.steps), "split_half": split.value}
            line |= {"low": split.low, "high": split.high, "on_validation": np.nan}
            if held_out := run.scores.get("validation"):
                at = int(held_out.steps[held_out.accuracy().argmax()])
                if at in scores.steps:
                    accuracy = scores.accuracy()
                    line["on_validation"] = 100 * float(accuracy.max() - scores.at(at).mean() / scores.samples)
            lines.append(line)
    return pd.DataFrame(lines)
