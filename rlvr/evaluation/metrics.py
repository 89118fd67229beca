"""Metrics over stored samples, each a mean over problems with its interval (rlvr.stats). Parquet is read column by column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlvr import stats
from rlvr.grading.normalise import normalise, number
from rlvr.run_folder import RunFolder
from rlvr.stats import Interval, Part

RESAMPLES = 1000
COLUMNS = ["id", "subject", "sample", "score", "boxed", "truncated", "response_tokens"]
OPTIONAL = ["answer", "score_authors", "repetition", "reflection", "score_acc", "reason"]
NO_SHARES = ("response_tokens", "repetition")


class Evaluations(NamedTuple):
    """One benchmark over the evaluations of a run. shares: "steps problems", the share of right answers among `samples`."""

    steps: list[int]
    shares: NDArray
    samples: int

    def intervals(self) -> tuple[NDArray, NDArray, NDArray]:
        """Accuracy with its 95 % interval over problems, each "steps"."""
        return stats.mean_intervals(Part(self.shares[:, None], self.samples))


def evaluations(folder: RunFolder, benchmark: str) -> Evaluations | None:
    """What is stored of a benchmark, None when nothing is."""
    files = sorted((folder.eval_dir / benchmark).glob("step*.parquet"))
    read = [_by_problem(read_columns(file, ["id", "score"])) for file in files]
    if not read:
        return None
    for file, problems in zip(files, read, strict=True):
        if not np.array_equal(problems.ids, read[0].ids):
            raise ValueError(f"{file}: other problems than at the first step; remove the benchmark's folder")
    shares = np.array([problems.mean("score") for problems in read])
    return Evaluations([int(file.stem.removeprefix("step")) for file in files], shares, int(read[-1].samples.min()))


def answer_classes(answers: Sequence[str | None]) -> NDArray:
    """Numbers of the classes of equal answers, for `stats.maj_at_k`: `1/2`, `\\frac{1}{2}` and `0.5` are one; -1: no answer."""
    classes: dict[Any, int] = {}
    return np.array([classes.setdefault(_value(a), len(classes)) if a else -1 for a in answers], int)


@lru_cache(maxsize=2**16)
def _value(answer: str) -> Any:
    spelt = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", normalise(answer))
    value = number(spelt)
    return spelt if value is None else value


def repetition(text: str, n: int = 4) -> float:
    """Share of the n-grams of words that occurred earlier in the text; 0 for a text of at most n words."""
    words = text.split()
    total = len(words) - n + 1
    return 1 - len(set(zip(*(words[i:] for i in range(n)), strict=False))) / total if total > 1 else 0.0


def reflects(text: str, words: Sequence[str]) -> bool:
    """Does one of these words occur, in any case (paper 3.2.4 counts such responses)?"""
    return re.search("|".join(map(re.escape, words)), text, re.IGNORECASE) is not None


class Problems(NamedTuple):
    """The rows of one benchmark and step, by problem."""

    columns: Mapping[str, Any]
    ids: NDArray
    first: NDArray  # a row of each problem
    of_row: NDArray
    samples: NDArray

    def sum(self, name: str) -> NDArray:
        return np.bincount(self.of_row, weights=np.asarray(self.columns[name], float))

    def mean(self, name: str) -> NDArray:
        return self.sum(name) / self.samples

    def table(self, values: NDArray, missing: float) -> NDArray:
        """One value of each row as "problems samples"."""
        order = np.argsort(self.of_row, kind="stable")
        place = np.arange(len(order)) - np.repeat(self.samples.cumsum() - self.samples, self.samples)
        filled = np.full((len(self.samples), self.samples.max()), missing, values.dtype)
        filled[self.of_row[order], place] = values[order]
        return filled


def _by_problem(columns: Mapping[str, Any]) -> Problems:
    ids = np.asarray(columns["id"], object).astype(str)
    ids, first, of_row = np.unique(ids, return_index=True, return_inverse=True)
    return Problems(columns, ids, first, of_row, np.bincount(of_row))


def problem_values(problems: Problems) -> dict[str, NDArray]:
    """Metric -> its value for each problem."""
    columns, samples = problems.columns, problems.samples
    k = int(samples.min())
    values = {"accuracy": problems.mean("score")}
    if k > 1:
        for j in (2**i for i in range(1, k.bit_length())):
            values[f"pass@{j}"] = stats.pass_at_k(samples, problems.sum("score"), j)
        if "answer" in columns:
            votes = problems.table(answer_classes(columns["answer"]), -1)
            values[f"maj@{k}"] = stats.maj_at_k(votes, problems.table(np.asarray(columns["score"], float), 0))
    for name in ("boxed", "truncated", "response_tokens", "score_authors", "score_acc", "repetition", "reflection"):
        # Rows without a verdict of the authors' grader (choices that are scored, not written) are null.
        if name in columns and not np.isnan(np.asarray(columns[name], float)).any():
            values["accuracy_authors" if name == "score_authors" else name] = problems.mean(name)
    if "reason" in columns:
        failed = np.isin(np.asarray(columns["reason"], object), ("timeout", "error"))
        values["ungraded"] = np.bincount(problems.of_row, weights=failed) / samples
    return values


def summarise(columns: Mapping[str, Any]) -> list[dict]:
    """Rows {subject, metric, value, low, high, problems}: all metrics ("" for all subjects), then accuracy by subject."""
    problems = _by_problem(columns)
    values, samples = problem_values(problems), int(problems.samples.min())
    rows = []
    for share in (True, False):
        names = [name for name in values if (name not in NO_SHARES) == share]
        ends = stats.mean_intervals(Part(np.array([values[name] for name in names])[:, None], samples), share=share)
        rows += [_row("", name, len(problems.first), *three) for name, *three in zip(names, *ends, strict=True)]
    subjects = np.asarray(columns["subject"], object)[problems.first].astype(str)
    kinds = sorted({*subjects} - {""})
    for subject in kinds if len(kinds) > 1 else []:
        of_subject = values["accuracy"][None, subjects == subject]
        rows.append(_row(subject, "accuracy", of_subject.size, *stats.mean_intervals(Part(of_subject, samples))))
    return rows


def _row(subject: str, metric: str, problems: int, value: Any, low: Any, high: Any) -> dict:
    ends = {"value": float(value), "low": float(low), "high": float(high)}
    return {"subject": subject, "metric": metric, **ends, "problems": problems}


def percent(row: Mapping[str, Any]) -> str:
    """A row of `summarise` as every table prints it: "48.4 (44.9–51.9)"."""
    return f"{Interval(row['value'], row['low'], row['high']) * 100:.1f}"


@lru_cache(maxsize=16)
def resamples(problems: int, seed: int) -> NDArray:
    """Weights "resamples problems" of bootstrap draws of as many problems."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES) / problems


def split_gain(before: Mapping[str, Any], after: Mapping[str, Any], seed: int = 0) -> dict[str, Interval]:
    """A gain in accuracy as format + reasoning, over the problems that both have.

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
    return {name: Interval(float(p[0]), *map(float, ends[name])) for name, p in parts.items()}


def read_columns(path: Path, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Columns of one samples file, without its long texts unless named; numbers as arrays, texts as lists of str."""
    import pyarrow.parquet as pq

    if columns is None:
        present = set(pq.read_schema(path).names)
        columns = [*COLUMNS, *(name for name in OPTIONAL if name in present)]
    table = pq.read_table(path, columns=list(columns), use_threads=False)
    return {
        name: column.to_numpy() if str(column.type) in ("double", "int64", "bool") else column.to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def summary(eval_dir: Path, names: Sequence[str] | None = None) -> Iterator[dict]:
    """Rows {benchmark, step, subject, metric, value, low, high, problems} of every finished samples file below `eval_dir`."""
    for folder in sorted(eval_dir.iterdir()) if eval_dir.exists() else []:
        if names is not None and folder.name not in names:
            continue
        for path in sorted(folder.glob("step*.parquet")):
            place = {"benchmark": folder.name, "step": int(path.stem.removeprefix("step"))}
            yield from (place | row for row in summarise(read_columns(path)))
