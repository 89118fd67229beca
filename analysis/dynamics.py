"""What a run does after its training accuracy is at its ceiling: gain, signal, entropy, length, reflection, degenerate answers.

Departures from the paper (§3.2): saturation is computed (`Run.saturation`), not read off a curve, and the gain has a paired
interval over problems; the paper picks the steps it compares by eye. The gain counts from the first evaluation at or after
saturation. A run that has only one such evaluation is counted from its last evaluation before saturation instead, which also
credits what was learnt in between; wherever it is shown, the steps are shown with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import stats
from analysis.estimates import accuracies, parts
from analysis.manifests import average_at
from analysis.results import Run
from rlvr.stats import Interval

# Of a run's own series, those whose level before and after saturation is told.
WATCHED = {
    "train/signal_groups": "groups with signal",
    "actor/entropy": "entropy (nats)",
    "train/response_tokens": "response length (tokens)",
    "train/degenerate": "degenerate answers",
}


@dataclass(frozen=True)
class Gain:
    """Points gained on the tests after saturation, and the two evaluated steps it counts between, of each run."""

    points: Interval
    spans: list[tuple[int, int]]


def gain_span(saturation: int, steps: Sequence[int], strict: bool = False) -> tuple[int, int] | None:
    """The evaluated steps (rising) that a gain is counted between: the first at or after `saturation`, and the last of all.

    Where the last is the only one after saturation, it is counted from the last at or before it, which also credits what
    was learnt in between, unless `strict`. None when there are not two.
    """
    after = next((step for step in steps if step >= saturation), None)
    if after is not None and after < steps[-1]:
        return after, steps[-1]
    before = max((step for step in steps if step <= saturation), default=None)
    return None if strict or before is None or before == steps[-1] else (before, steps[-1])


def gain_after_saturation(runs: Sequence[Run], benchmarks: Sequence[str] = ()) -> Gain | None:
    """The gain of those runs that saturate, on the mean of the benchmarks (by default the scale's test average).

    All count from after saturation; when one of them cannot, each counts as far as it can (`gain_span`); None when one still
    cannot. The interval is a percentile bootstrap over seeds and problems, paired by problem; with one run, problems only.
    """
    names = benchmarks or average_at(runs[0].scale)
    saturated = [(run, run.saturation, accuracies(run, names).index.tolist()) for run in runs]
    for strict in (True, False):
        spans = [(run, gain_span(first, steps, strict)) for run, first, steps in saturated if first is not None]
        known = [(run, span) for run, span in spans if span is not None]
        if known and len(known) == len(spans):
            return Gain(_points(known, names), [span for _, span in known])
    return None


def _points(spans: Sequence[tuple[Run, tuple[int, int]]], names: Sequence[str]) -> Interval:
    measured = []
    for name in names:
        of_runs = [(run.scores[name], span) for run, span in spans]
        changes = [100 * (scores.at(to) - scores.at(start)) / scores.samples for scores, (start, to) in of_runs]
        measured.append((of_runs[0][0].ids, np.array(changes), 1))
    rng = np.random.default_rng(0)
    value, resampled = 0.0, np.zeros(stats.RESAMPLES)
    for part in parts(measured):
        changed, weight = np.asarray(part.values), part.weight / len(names)
        value += weight * float(changed.mean())
        resampled += weight * stats.bootstrap_means(changed, 1, stats.draw_problems(changed.shape[1], rng), rng)
    return stats.percentile_interval(value, resampled)


def reflections(run: Run) -> pd.Series:
    """Answers with a reflection word over the benchmarks of the scale's average, by step."""
    counts = [run.series(f"eval/{name}/reflections") for name in average_at(run.scale)]
    return pd.concat(counts, axis=1).dropna().sum(axis=1) if counts else pd.Series(dtype=float)


def around_saturation(runs: Sequence[Run]) -> pd.DataFrame:
    """A line for each run: saturation, gain, and each watched series over the five steps around saturation and at the end.

    A run that never saturates is split in the middle, and `split` says so.
    """
    return pd.DataFrame([_around_saturation(run) for run in runs])


def _around_saturation(run: Run) -> dict[str, object]:
    first, gain, train = run.saturation, gain_after_saturation([run]), run.series("train/accuracy")
    split = first or (int(train.index[len(train) // 2]) if len(train) else 0)
    points, (start, to) = (gain.points, gain.spans[0]) if gain else (Interval(np.nan), (None, None))
    line: dict[str, object] = {"run": run.id, "saturated": first, "gain_from": start, "gain_to": to}
    line |= {"gain": points.value, "gain_low": points.low, "gain_high": points.high, "split": split}
    for column, label in WATCHED.items():
        series = run.series(column)
        near = (series.index.to_series() - split).abs().nsmallest(5)
        line[f"{label}: at split"] = series.loc[near.index].mean()
        line[f"{label}: end"] = series.tail(5).mean()
    counts = reflections(run)
    for at, seen in (("at split", counts.loc[:split]), ("end", counts)):
        line[f"answers with reflection words: {at}"] = seen.tail(1).sum(min_count=1)
    return line
