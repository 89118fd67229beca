"""The curves of figures and claims: a quantity over the steps, of our runs and of the paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.manifests import Manifest, Panel, Row, benchmarks_at, paper_data
from analysis.run_data import SATURATED, Run, first_reaching
from analysis.seed_estimates import parts, reflections
from rlvr.stats import mean_intervals

SHARES = ("accuracy", "subject", "boxed")


@dataclass
class Curve:
    """A quantity over the steps. steps, mean, low, high: "steps"."""

    steps: NDArray
    mean: NDArray
    low: NDArray
    high: NDArray


def is_percent(quantity: str) -> bool:
    return quantity.partition("/")[0] in SHARES or quantity == "train/accuracy"


def curve(runs: Sequence[Run], quantity: str) -> Curve | None:
    """`quantity` (see analysis.manifests) of these runs, percent where it is a share; None where no run has it."""
    kind, _, rest = quantity.partition("/")
    if kind in ("accuracy", "subject"):
        column, _, subject = rest.partition("/")
        return _accuracy(runs, column, subject or None)
    if kind == "boxed":
        series = [run.series(f"eval/{name}/boxed") for run in runs for name in benchmarks_at(run.scale, rest)]
    elif kind == "reflections":
        series = [reflections(run) for run in runs]
    else:
        series = [run.series(quantity) for run in runs]
    series = [(100 if is_percent(quantity) else 1) * one for one in series if len(one)]
    if not series:
        return None
    values = pd.concat(series, axis=1).dropna()
    ends = (values.mean(axis=1), values.min(axis=1), values.max(axis=1))
    return Curve(values.index.to_numpy(), *(end.to_numpy() for end in ends))


def _accuracy(runs: Sequence[Run], column: str, subject: str | None) -> Curve | None:
    """Percent, at the steps that every run evaluated on all benchmarks of the column."""
    names = benchmarks_at(runs[0].scale, column) if runs else []
    runs = [run for run in runs if all(name in run.scores for name in names)]
    if not runs or not names:
        return None
    steps = reduce(np.intersect1d, (run.scores[name].steps for run in runs for name in names))
    measured = []
    for name in names:
        scores = [run.scores[name].of_subject(subject) for run in runs]
        if not scores[0].ids or not len(steps):
            return None
        shares = [s.correct[np.isin(s.steps, steps)] / s.samples for s in scores]
        measured.append((scores[0].ids, np.stack(shares, axis=1), min(s.samples for s in scores)))
    return Curve(steps, *(100 * ends for ends in mean_intervals(*parts(measured))))


def as_series(ours: Curve) -> pd.Series:
    return pd.Series(ours.mean, ours.steps)


def quantity_of(panel: Panel, row: Row) -> str:
    quantity = row.quantity or panel.quantity or "accuracy"
    return f"{quantity}/{panel.benchmark}" if panel.benchmark else quantity


def paper_curve(manifest: Manifest, panel: Panel, row: Row) -> pd.Series:
    """The paper's values by step; empty where it has no such curve."""
    if manifest.paper is None:
        return pd.Series(dtype=float)
    data = paper_data(manifest.paper)
    found = data[(data["panel"] == (panel.paper or panel.title)) & (data["series"] == (row.paper or row.label))]
    return found.set_index("step")["value"]


def after_saturation(train: pd.Series, test: pd.Series) -> pd.Series:
    """The paper's test average from its first evaluation at or after training accuracy of 99 %; empty where it has none."""
    first = first_reaching(train / 100, SATURATED)
    return test[test.index >= first] if first is not None else test.iloc[:0]


def gain_of(train: pd.Series, test: pd.Series) -> float:
    """In points, to the end; NaN where training never saturates."""
    after = after_saturation(train, test)
    return float(after.iloc[-1] - after.iloc[0]) if len(after) else float("nan")
