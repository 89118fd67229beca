"""Samples on disk: what was asked, answered and judged, in `eval/<benchmark>/step<k>.parquet`, with its protocol beside it.

    eval/<benchmark>/protocol.json             the protocol; per step: engine, versions, tokens, seconds, who evaluated
    eval/<benchmark>/partial/step<k>-<i>.parquet   chunks of an evaluation that is not complete
    eval/<benchmark>/step<k>.parquet           all samples of a step, there only when complete

A finished file is final: asking again reads it. Files that training wrote are taken as they are when training's protocol
is the one asked for; columns they lack (answer, the authors' verdict, repetition, reflection) are added once.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr.cli import DataError
from rlvr.data.protocols import LETTERS, Benchmark, reflection_words
from rlvr.evaluation.metrics import reflects, repetition
from rlvr.grading import grade_many, last_boxed
from rlvr.grading.own import load_function
from rlvr.runs.folder import RunFolder, read_json, write_atomically, write_eval

Verdict = tuple[float, str]
SCHEMA = {
    "benchmark": "string", "id": "string", "subject": "string", "sample": "int64", "prompt": "string", "response": "string",
    "gold": "string", "score": "double", "reason": "string", "boxed": "bool", "truncated": "bool", "response_tokens": "int64",
    "answer": "string", "score_authors": "double", "reason_authors": "string", "repetition": "double", "reflection": "bool",
}  # fmt: skip
ADDED = ("answer", "score_authors", "reason_authors", "repetition", "reflection")


class Store:
    """The samples of one benchmark in one run folder. Raises DataError when the folder holds another protocol's."""

    def __init__(
        self,
        folder: RunFolder,
        benchmark: Benchmark,
        protocol: Mapping[str, Any],
        trained: Mapping[str, Any] | None = None,
        words: Sequence[str] | None = None,
    ):
        """`protocol` is what is asked for; `trained` what training evaluated under this name with, if it did.

        `words` mark self-reflection (benchmarks.yaml's by default); other words alone cost no new answers.
        """
        self.folder, self.benchmark, self.protocol = folder, benchmark, dict(protocol)
        self.words = list(words or reflection_words())
        self.dir = folder.eval_dir / benchmark.name
        self.record_path = self.dir / "protocol.json"
        known = self.record.get("protocol", trained if any(self.dir.glob("step*.parquet")) else None)
        if known is not None and (other := [key for key in protocol if known.get(key) != protocol[key]]):
            shown = "; ".join(f"{key}: {known.get(key)} → {protocol[key]}" for key in other[:4])
            raise DataError(
                f"{self.dir} holds samples of another protocol ({shown}): ask for it under a name of its own, "
                f"benchmarks.<name>.dataset={benchmark.dataset}"
            )

    @property
    def record(self) -> dict:
        return read_json(self.record_path) if self.record_path.exists() else {}

    def path(self, step: int) -> Path:
        return self.folder.eval_path(self.benchmark.name, step)

    def complete(self, step: int) -> bool:
        return self.path(step).exists()

    def _chunks(self, step: int) -> list[Path]:
        return sorted((self.dir / "partial").glob(f"step{step:06d}-*.parquet"))

    def answered(self, step: int) -> set[tuple[str, int]]:
        """(id, sample) of what an interrupted evaluation has left behind."""
        import pyarrow.parquet as pq

        tables = [pq.read_table(path, columns=["id", "sample"]) for path in self._chunks(step)]
        return {(row["id"], row["sample"]) for table in tables for row in table.to_pylist()}

    def add(self, step: int, rows: Sequence[dict]) -> None:
        """Keep judged rows of a step, as a whole or not at all."""
        import pyarrow.parquet as pq

        partial = self.dir / "partial"
        partial.mkdir(parents=True, exist_ok=True)
        target = partial / f"step{step:06d}-{len(self._chunks(step)):06d}.parquet"
        pq.write_table(_table(rows), target.with_name(f".{target.name}"), compression="zstd")
        os.replace(target.with_name(f".{target.name}"), target)

    def finish(self, step: int, order: Mapping[str, int], how: Mapping[str, Any]) -> None:
        """Make the step's file of its chunks, in the benchmark's order, and record how it was made."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunks = self._chunks(step)
        table = pa.concat_tables([pq.read_table(path) for path in chunks])
        place = pa.array([order[id] for id in table["id"].to_pylist()])
        table = table.append_column("place", place).sort_by([("place", "ascending"), ("sample", "ascending")])
        write_eval(
            self.folder, self.benchmark.name, step, dict(zip(table.column_names[:-1], table.columns[:-1], strict=True))
        )
        self.note(step, {**how, "by": "evaluation", "reflection_words": self.words})
        for path in chunks:
            path.unlink()

    def adopt(self, step: int) -> None:
        """Take a finished file: add the columns that training's lacks or that other words change, and record where it is from."""
        import pyarrow.parquet as pq

        known = self.record.get("steps", {}).get(str(step), {"by": "training"})
        if known.get("reflection_words") == self.words:
            return
        columns = pq.read_table(self.path(step)).to_pydict()
        if set(ADDED) <= set(columns):
            columns["reflection"] = [reflects(response, self.words) for response in columns["response"]]
        else:
            columns |= added(columns["response"], columns["gold"], self.words)
        write_eval(self.folder, self.benchmark.name, step, columns)
        self.note(step, {**known, "reflection_words": self.words})

    def note(self, step: int | None, how: Mapping[str, Any]) -> None:
        record = {"protocol": self.protocol, "steps": {}} | self.record
        if step is None:
            record |= how
        else:
            record["steps"][str(step)] = dict(how)
        self.dir.mkdir(parents=True, exist_ok=True)
        write_atomically(self.record_path, json.dumps(record, indent=2) + "\n")


def _table(rows: Sequence[dict]):
    import pyarrow as pa

    types = {
        name: pa.bool_() if kind == "bool" else getattr(pa, kind if kind != "double" else "float64")()
        for name, kind in SCHEMA.items()
    }
    if "loglikelihoods" in rows[0]:
        types |= {"loglikelihoods": pa.list_(pa.float64()), "score_acc": pa.float64()}
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


def judge(
    benchmark: Benchmark, responses: Sequence[str], golds: Sequence[str], words: Sequence[str]
) -> dict[str, list]:
    """The columns that depend on a response and its gold: verdict, answer, and what `added` says."""
    verdicts = grade_all(benchmark.grader, responses, golds)
    return {
        "score": [score for score, _ in verdicts],
        "reason": [reason for _, reason in verdicts],
        "boxed": [last_boxed(response) is not None for response in responses],
        **added(responses, golds, words),
    }


def added(responses: Sequence[str], golds: Sequence[str], words: Sequence[str]) -> dict[str, list]:
    """Columns beyond training's: the answer in the last box, the authors' verdict, and two of style."""
    authors = grade_many(responses, golds, "authors")
    return {
        "answer": [(last_boxed(response) or "").strip() for response in responses],
        "score_authors": [score for score, _ in authors],
        "reason_authors": [reason for _, reason in authors],
        "repetition": [repetition(response) for response in responses],
        "reflection": [reflects(response, words) for response in responses],
    }


def grade_all(grader: str, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
    """Verdicts of `math_verify`, `authors`, or a user's `file.py:function`."""
    if ":" in grader:
        function = own_grader(grader)
        return [_own_verdict(function, grader, r, g) for r, g in zip(responses, golds, strict=True)]
    return grade_many(responses, golds, grader)


def own_grader(name: str) -> Callable[[str, str], Any]:
    """The function behind `file.py:function`. ConfigError with the remedy."""
    file, _, function = name.rpartition(":")
    return load_function(file, function, "grader", "(response, gold)")


def _own_verdict(function: Callable[[str, str], Any], name: str, response: str, gold: str) -> Verdict:
    try:
        verdict = function(response, gold)
        score, reason = verdict if isinstance(verdict, tuple) else (verdict, None)
        if not 0 <= float(score) <= 1:
            raise ValueError(f"{score} is not in [0, 1]")
    except Exception as error:
        raise DataError(
            f"{name} failed on {response[-200:]!r} (gold {gold!r}): {type(error).__name__}: {error}"
        ) from error
    return float(score), reason or ("correct" if score == 1 else "wrong")


def choice_row(loglikelihoods: Sequence[float], choices: Sequence[str], gold: str, metric: str) -> dict[str, Any]:
    """Verdict columns of a log-likelihood row: the likeliest choice, per byte of its text for `acc_norm`.

    `score` follows the benchmark's metric, `score_acc` the plain log-likelihood.
    """
    per_byte = [value / len(choice.encode()) for value, choice in zip(loglikelihoods, choices, strict=True)]
    plain, normed = (LETTERS[max(range(len(v)), key=v.__getitem__)] for v in (loglikelihoods, per_byte))
    answer = normed if metric == "acc_norm" else plain
    return {
        "response": choices[LETTERS.index(answer)], "answer": answer, "score": float(answer == gold),
        "reason": "correct" if answer == gold else "wrong", "boxed": False, "truncated": False, "response_tokens": 0,
        "score_authors": None, "reason_authors": None, "repetition": 0.0, "reflection": False,
        "loglikelihoods": list(loglikelihoods), "score_acc": float(plain == gold),
    }  # fmt: skip


class Lock:
    """Keeps a second evaluation of the same folder out; training goes on undisturbed."""

    def __init__(self, folder: RunFolder):
        self.path = folder.eval_dir / "lock"

    def __enter__(self) -> Lock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise DataError(f"{self.path.parent}: another evaluation runs here: wait for it or stop it") from None
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.file.close()
