"""Metrics over stored samples, each with an interval over problems. numpy only; Parquet is read column by column.

Every metric is a mean over problems of one value per problem, so one resampling of problems serves them all. Intervals
(95 %): Wilson's where each problem's value is 0 or 1, else the percentile bootstrap over problems. They say nothing about
other training seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlvr.evaluation.judging import reflects
from rlvr.runs import samples

Z95 = 1.959963984540054
RESAMPLES = 1000
COLUMNS = ["id", "subject", "sample", "score", "boxed", "truncated", "response_tokens"]
OPTIONAL = ["answer", "score_authors", "repetition", "reflection", "score_acc", "reason"]


def pass_at_k(n: ArrayLike, correct: ArrayLike, k: int) -> NDArray:
    """Unbiased chance that at least one of k samples drawn from n, `correct` of them right, is right (Chen et al. 2021)."""
    n, correct = np.asarray(n, float), np.asarray(correct, float)
    if (n < k).any():
        raise ValueError(f"pass@{k} needs at least {k} samples of every problem, got {int(n.min())}")
    return 1 - np.prod([(n - correct - i).clip(0) / (n - i) for i in range(k)], axis=0)


def maj_at_k(answers: Sequence[str | None], scores: Sequence[float]) -> float:
    """Chance that the most frequent answer is right; ties are drawn evenly, samples without an answer do not vote."""
    votes = Counter(answer for answer in answers if answer)
    if not votes:
        return 0.0
    most = max(votes.values())
    right = {answer: [s for a, s in zip(answers, scores, strict=True) if a == answer] for answer in votes}
    return float(np.mean([np.mean(right[answer]) for answer, count in votes.items() if count == most]))


def wilson(share: ArrayLike, n: int) -> tuple[NDArray, NDArray]:
    """95 % interval of shares of n independent zeros and ones."""
    share = np.asarray(share, float)
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return (centre - half).clip(0, 1), (centre + half).clip(0, 1)


def with_intervals(values: NDArray, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Mean, low and high of each column of `values` ("problems metrics")."""
    problems = len(values)
    mean = values.mean(0)
    graded = ~np.isin(values, (0.0, 1.0)).all(0)
    low, high = wilson(np.where(graded, 0, mean), problems)
    if graded.any():
        drawn = resamples(problems, seed) @ values[:, graded].astype(np.float32)
        low[graded], high[graded] = np.percentile(drawn, [2.5, 97.5], axis=0)
    return mean, low, high


@lru_cache(maxsize=16)
def resamples(problems: int, seed: int) -> NDArray:
    """Weights "resamples problems" of bootstrap draws of as many problems; the same for every step, so kept."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES) / problems
    return weights.astype(np.float32)


def problem_values(columns: Mapping[str, Any]) -> tuple[list[str], NDArray, NDArray]:
    """(metric names, values "problems metrics", subject of each problem) from the columns of one benchmark and step."""
    ids, first, problem = np.unique(
        np.asarray(columns["id"], object).astype(str), return_index=True, return_inverse=True
    )
    samples = np.bincount(problem)
    k = int(samples.min())

    def per_problem(name: str) -> NDArray:
        return np.bincount(problem, weights=np.asarray(columns[name], float)) / samples

    values = {"accuracy": per_problem("score")}
    correct = np.bincount(problem, weights=np.asarray(columns["score"], float))
    if k > 1:
        values |= {f"pass@{j}": pass_at_k(samples, correct, j) for j in (2**i for i in range(1, k.bit_length()))}
        if "answer" in columns:
            values[f"maj@{k}"] = _majorities(columns, problem, len(ids))
    for name in ("boxed", "truncated", "response_tokens", "score_authors", "score_acc", "repetition", "reflection"):
        # Rows without a verdict of the authors' grader (choices that are scored, not written) are null.
        if name in columns and not np.isnan(np.asarray(columns[name], float)).any():
            values["accuracy_authors" if name == "score_authors" else name] = per_problem(name)
    if "reason" in columns:
        reason = np.asarray(columns["reason"], object)
        values["ungraded"] = np.bincount(problem, weights=np.isin(reason, ("timeout", "error"))) / samples
    return list(values), np.column_stack(list(values.values())), np.asarray(columns["subject"], object)[first]


def _majorities(columns: Mapping[str, Any], problem: NDArray, problems: int) -> NDArray:
    groups: list[tuple[list, list]] = [([], []) for _ in range(problems)]
    for row, answer, score in zip(problem.tolist(), columns["answer"], columns["score"], strict=True):
        groups[row][0].append(answer)
        groups[row][1].append(score)
    return np.array([maj_at_k(*group) for group in groups])


def summarise(columns: Mapping[str, Any], seed: int = 0) -> list[dict]:
    """Rows {subject, metric, value, low, high, problems}: all metrics ("" for all subjects), then accuracy by subject."""
    names, values, subjects = problem_values(columns)
    rows = _rows("", names, values, seed)
    kinds = sorted(set(map(str, subjects)) - {""})
    for subject in kinds if len(kinds) > 1 else []:
        rows += _rows(subject, names[:1], values[subjects.astype(str) == subject, :1], seed)
    return rows


def _rows(subject: str, names: list[str], values: NDArray, seed: int) -> list[dict]:
    mean, low, high = with_intervals(values, seed)
    return [
        {"subject": subject, "metric": name, "value": float(m), "low": float(lo), "high": float(hi), "problems": len(values)}
        for name, m, lo, hi in zip(names, mean, low, high, strict=True)
    ]  # fmt: skip


def split_gain(
    before: Mapping[str, Any], after: Mapping[str, Any], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """A gain in accuracy as format + reasoning, each (value, low, high), over the problems that both have.

    accuracy = (share of responses with an answer that parses) x (accuracy among those). Format is the change of the first
    at the mean of the second, reasoning the reverse; they add up to the gain. Intervals: paired bootstrap over problems.
    """
    sides = []
    shared = sorted(set(before["id"]) & set(after["id"]))
    if not shared:
        raise ValueError("the two evaluations share no problem: give the same benchmark twice")
    place = {id: i for i, id in enumerate(shared)}
    for side in (before, after):
        kept = [i for i, id in enumerate(side["id"]) if id in place]
        problem = np.array([place[side["id"][i]] for i in kept])
        count = np.bincount(problem)
        parsed = np.isin(np.asarray(side["reason"], object)[kept], ("correct", "wrong")).astype(float)
        score = np.asarray(side["score"], float)[kept]
        sides.append([np.bincount(problem, weights=w) / count for w in (parsed, score)])
    n = len(shared)
    weights = np.vstack([np.full(n, 1 / n), resamples(n, seed)])  # row 0: all problems once
    (f0, a0), (f1, a1) = [[weights @ v for v in side] for side in sides]
    r0, r1 = (np.divide(a, f, out=np.zeros_like(a), where=f > 0) for a, f in ((a0, f0), (a1, f1)))
    parts = {"gain": a1 - a0, "format": (f1 - f0) * (r0 + r1) / 2, "reasoning": (r1 - r0) * (f0 + f1) / 2}
    ends = {name: np.percentile(p[1:], [2.5, 97.5]) for name, p in parts.items()}
    return {name: (float(p[0]), float(ends[name][0]), float(ends[name][1])) for name, p in parts.items()}


def read_columns(path: Path) -> dict[str, Any]:
    """What the metrics need of one samples file, without its long texts."""
    return samples.read(path, COLUMNS, OPTIONAL)


def summary(eval_dir: Path, names: Sequence[str] | None = None, words: Sequence[str] = ()) -> Iterator[dict]:
    """Rows {benchmark, step, subject, metric, value, low, high, problems} of every finished samples file below `eval_dir`.

    `words`: what marks self-reflection, instead of the words that the files were written with.
    """
    for folder in sorted(eval_dir.iterdir()) if eval_dir.exists() else []:
        if names is not None and folder.name not in names:
            continue
        for path in sorted(folder.glob("step*.parquet")):
            place = {"benchmark": folder.name, "step": int(path.stem.removeprefix("step"))}
            columns = read_columns(path)
            if words:
                columns["reflection"] = [reflects(text, words) for text in samples.read(path, ["response"])["response"]]
            yield from (place | row for row in summarise(columns))
