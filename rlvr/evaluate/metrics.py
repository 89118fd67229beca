"""Metrics over stored samples, each a mean over problems with its interval (rlvr.stats). Parquet is read column by column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlvr import stats
from rlvr.evaluate.graded_rows import reflects
from rlvr.grading import PARSED, UNGRADED, equal_answers
from rlvr.runs import samples
from rlvr.runs.evaluations import rows_of_problems
from rlvr.runs.folder import step_files
from rlvr.stats import Interval, Part

RESAMPLES = 1000
COLUMNS = ["id", "subject", "sample", "score", "boxed", "truncated", "response_tokens"]
OPTIONAL = ["answer", "repetition", "reflection", "score_acc", "reason"]
NO_SHARES = ("response_tokens", "repetition")


def problem_values(columns: Mapping[str, Any], rows: NDArray) -> dict[str, NDArray]:
    """Metric -> its value for each problem. rows: "problems samples"."""
    k = rows.shape[1]
    score = np.asarray(columns["score"], float)[rows]
    values = {"accuracy": score.mean(axis=1)}
    if k > 1:
        sizes = [2**i for i in range(1, k.bit_length())]
        values |= {f"pass@{size}": stats.pass_at_k(k, score.sum(axis=1), size) for size in sizes}
        if "answer" in columns:
            votes = [equal_answers([columns["answer"][i] for i in of_problem]) for of_problem in rows]
            values[f"maj@{k}"] = stats.maj_at_k(votes, score)
    for name in ("boxed", "truncated", "response_tokens", "score_acc", "repetition", "reflection"):
        # `score_acc` is null if an answer was generated, not chosen.
        if name in columns and not np.isnan(column := np.asarray(columns[name], float)).any():
            values[name] = column[rows].mean(axis=1)
    if "reason" in columns:
        values["ungraded"] = np.isin(np.asarray(columns["reason"], object), UNGRADED)[rows].mean(axis=1)
    return values


def summarise(columns: Mapping[str, Any]) -> list[dict]:
    """Rows {subject, metric, value, low, high, problems}: all metrics with subject "", then the accuracy of each subject."""
    rows = rows_of_problems(columns["id"])
    problems, k = rows.shape
    values = problem_values(columns, rows)
    lines = []
    for share in (True, False):
        names = [name for name in values if (name not in NO_SHARES) == share]
        ends = stats.mean_intervals(Part(np.array([values[name] for name in names])[:, None], k), share=share)
        lines += [_row("", name, problems, *three) for name, *three in zip(names, *ends, strict=True)]
    subjects = np.asarray(columns["subject"], object)[rows[:, 0]].astype(str)
    kinds = sorted({*subjects} - {""})
    for subject in kinds if len(kinds) > 1 else []:
        of_subject = values["accuracy"][None, subjects == subject]
        lines.append(_row(subject, "accuracy", of_subject.size, *stats.mean_intervals(Part(of_subject, k))))
    return lines


def _row(subject: str, metric: str, problems: int, value: Any, low: Any, high: Any) -> dict:
    ends = {"value": float(value), "low": float(low), "high": float(high)}
    return {"subject": subject, "metric": metric, **ends, "problems": problems}


def percent(row: Mapping[str, Any]) -> str:
    """A row of `summarise` as every table prints it: "48.4 (44.9–51.9)"."""
    return f"{Interval(row['value'], row['low'], row['high']) * 100:.1f}"


def split_gain(before: Mapping[str, Any], after: Mapping[str, Any], seed: int = 0) -> dict[str, Interval]:
    """A gain in accuracy as format + reasoning, over the problems that both evaluations have.

    accuracy = (share of responses with an answer that parses) x (accuracy among those). Format is the change of the first
    factor times the mean of the second, reasoning the reverse; they add up to the gain. Intervals: paired bootstrap over
    problems. ValueError if no problem is shared.
    """
    shared = _shared_problems(before, after)
    n = len(shared[0])
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    weights = np.vstack([np.full(n, 1 / n), weights])  # row 0: all problems once
    means = []
    for side, rows in zip((before, after), shared, strict=True):
        parsed = np.isin(np.asarray(side["reason"], object), PARSED)
        means += [weights @ column[rows].mean(axis=1) for column in (parsed, np.asarray(side["score"], float))]
    f0, a0, f1, a1 = means
    r0, r1 = (np.divide(a, f, out=np.zeros_like(a), where=f > 0) for a, f in ((a0, f0), (a1, f1)))
    parts = {"gain": a1 - a0, "format": (f1 - f0) * (r0 + r1) / 2, "reasoning": (r1 - r0) * (f0 + f1) / 2}
    return {name: Interval(float(p[0]), *map(float, np.percentile(p[1:], [2.5, 97.5]))) for name, p in parts.items()}


def paired_gain(before: Mapping[str, Any], after: Mapping[str, Any], confidence: float = 0.95) -> Interval:
    """Gain in accuracy over the problems that both evaluations have, with an interval for pairs.

    The interval is Agresti and Min's (2005): half an observation is added to each cell of right/wrong before and after, so that
    a few problems which all change alike prove little. With several answers to a problem, the same on the differences of
    their means. ValueError if no problem is shared.
    """
    from scipy.special import ndtri

    shared = zip((before, after), _shared_problems(before, after), strict=True)
    first, last = (np.asarray(side["score"], float)[rows].mean(axis=1) for side, rows in shared)
    change = last - first
    n = len(change) + 2
    centre = change.sum() / n
    half = ndtri((1 + confidence) / 2) * np.sqrt(((change**2).sum() + 1) / n - centre**2) / np.sqrt(n)
    return Interval(float(change.mean()), float(centre - half), float(centre + half))


def _shared_problems(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[NDArray]:
    """The rows of the problems that both sides have, for each side "problems samples", in the same order."""
    shared = list(set(before["id"]) & set(after["id"]))
    if not shared:
        raise ValueError("the two evaluations share no problem: give the same benchmark twice")
    of_sides = [(side["id"], rows_of_problems(side["id"])) for side in (before, after)]
    return [rows[np.isin(np.asarray(ids, object)[rows[:, 0]], shared)] for ids, rows in of_sides]


def read_columns(path: Path) -> dict[str, Any]:
    """The columns of a samples file that the metrics need; not its long texts."""
    return samples.read(path, COLUMNS, OPTIONAL)


def summary(eval_dir: Path, words: Sequence[str] = ()) -> Iterator[dict]:
    """Rows {benchmark, step, subject, metric, value, low, high, problems} of every finished samples file below `eval_dir`.

    `words`: words that mark self-reflection, instead of those that the files were written with.
    """
    files = ((folder.name, *file) for folder in sorted(eval_dir.glob("*")) for file in step_files(folder).items())
    for benchmark, step, path in files:
        place = {"benchmark": benchmark, "step": step}
        columns = read_columns(path)
        if words:
            columns["reflection"] = [reflects(text, words) for text in samples.read(path, ["response"])["response"]]
        yield from (place | row for row in summarise(columns))
