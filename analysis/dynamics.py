"""What a run does after its training accuracy is at its ceiling: gain, signal, entropy, length, reflection, degenerate answers.

Departures from the paper (§3.2): saturation is computed, not read off a curve (analysis.post_saturation), and the gain has a
paired interval over problems; the paper picks the steps it compares by eye. The gain counts from the first evaluation at or after
saturation. A run that has only one such evaluation is counted from its last evaluation before saturation instead, which also credits
what was learnt in between; wherever it is shown, the steps are shown with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import stats
from analysis.manifests import average_at
from analysis.post_saturation import SUSTAINED, gain_span, saturation_step
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
class Saturation:
    """first, sustained: steps, None if never. gain: of the test average between two evaluations, in points."""

    first: int | None
    sustained: int | None
    from_step: int | None = None
    to_step: int | None = None
    gain: Interval | None = None


def saturation_of(run: Run) -> Saturation:
    """Where training accuracy saturates, and what the scale's test average gains from there to the last evaluation."""
    train = run.series("train/accuracy")
    first, sustained = (saturation_step(train.index, train.to_numpy(), sustained=k) for k in (1, SUSTAINED))
    span = _span(run, first, strict=False)
    return Saturation(first, sustained, *span, _gain([(run, span)])) if span else Saturation(first, sustained)


def gain_of(runs: Sequence[Run]) -> tuple[Interval, list[tuple[int, int]]] | None:
    """The gain in points over the runs that saturate, drawn over seeds and problems, and each run's two steps.

    All runs count from after saturation; when one of them cannot, each counts as far as it can (`gain_span`).
    """
    first = {run.id: saturation_of(run).first for run in runs}
    saturated = [run for run in runs if first[run.id] is not None]
    for strict in (True, False):
        spans = [(run, span) for run in saturated if (span := _span(run, first[run.id], strict))]
        if spans and len(spans) == len(saturated):
            return _gain(spans), [span for _, span in spans]
    return None


def _span(run: Run, first: int | None, strict: bool) -> tuple[int, int] | None:
    """The steps of `gain_span` among those at which every benchmark of the test average was evaluated."""
    names = [name for name in average_at(run.scale) if name in run.scores]
    if first is None or not names:
        return None
    common = set.intersection(*(set(run.scores[name].steps.tolist()) for name in names))
    return gain_span(first, sorted(common), strict)


def _gain(spans: Sequence[tuple[Run, tuple[int, int]]]) -> Interval:
    rng = np.random.default_rng(0)
    runs = [run for run, _ in spans]
    names = [name for name in average_at(runs[0].scale) if all(name in run.scores for run in runs)]
    # Benchmarks on the same problems are averaged problem by problem before problems are drawn.
    sets: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        sets.setdefault(tuple(runs[0].scores[name].ids), []).append(name)
    value, resampled = 0.0, np.zeros(stats.RESAMPLES)
    for ids, members in sets.items():
        changes = np.array([
            sum(100 * (run.scores[m].at(to) - run.scores[m].at(start)) / run.scores[m].samples for m in members)
            for run, (start, to) in spans
        ]) / len(names)  # fmt: skip
        value += float(changes.mean())
        resampled += stats.bootstrap_means(changes, 1, stats.draw_problems(len(ids), rng), rng)
    return stats.percentile_interval(value, resampled)


def summary(run: Run) -> dict[str, object]:
    """One run's line: saturation, gain, and each watched series over the five steps around saturation and at the end.

    A run that never saturates is split in the middle, and `split` says so.
    """
    saturation = saturation_of(run)
    train = run.series("train/accuracy")
    split = saturation.first or (int(train.index[len(train) // 2]) if len(train) else 0)
    line: dict[str, object] = {
        "run": run.id,
        "saturated": saturation.first,
        "sustained": saturation.sustained,
        "gain_from": saturation.from_step,
        "gain_to": saturation.to_step,
        "gain": saturation.gain.value if saturation.gain else None,
        "gain_low": saturation.gain.low if saturation.gain else None,
        "gain_high": saturation.gain.high if saturation.gain else None,
        "split": split,
    }
    for column, label in WATCHED.items():
        series = run.series(column)
        near = (series.index.to_series() - split).abs().nsmallest(5)
        line[f"{label}: at split"] = _mean(series.loc[near.index])
        line[f"{label}: end"] = _mean(series.tail(5))
    for at, step in (("at split", split), ("end", None)):
        counts = [run.series(f"eval/{name}/reflections") for name in average_at(run.scale)]
        picked = [c[c.index <= step].tail(1) if step is not None else c.tail(1) for c in counts if len(c)]
        line[f"answers with reflection words: {at}"] = sum(float(c.sum()) for c in picked) if picked else None
    return line


def _mean(series: pd.Series) -> float | None:
    return float(series.mean()) if len(series) else None


def compare(runs: Sequence[Run]) -> pd.DataFrame:
    """One line for each run, in order."""
    return pd.DataFrame([summary(run) for run in runs])
