"""Benchmarks: the table of protocols (benchmarks.yaml), and the problems behind each row. Loads neither torch nor pandas.

An example is {id, question, answer, subject}, ARC's with `choices` (texts) besides. Golds are as the sources define them
(the authors' harness): MATH500's `answer`, Minerva's last box of the solution, OlympiadBench's first final answer, AMC's
float and AIME's zero-padded text as plain integers (equal in value), ARC's label as the letter of its position.
A row without a gold is left out and counted; ids that occur twice are an error.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rlvr.cli import DataError
from rlvr.data.sources import data_file, hub_rows
from rlvr.grading import last_boxed

TINY = ("validation", "tiny500", "tiny_hard", "tiny_arc")
LETTERS = "ABCDEFGH"
BOX_THE_LETTER = "Answer with the letter of the right choice within \\boxed{}."
METRICS = ("accuracy", "avg@k", "acc", "acc_norm")


@dataclass(frozen=True)
class Benchmark:
    """One row of the table; benchmarks.yaml says what each key means. Raises DataError for a value out of its domain."""

    name: str
    dataset: str | None
    source: str | None
    revision: str | None
    file: str | None
    n: int | None
    limit: int | None
    template: str | None
    k: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    scoring: str
    metric: str
    grader: str
    question: str
    answer: str
    id: str
    subject: str

    def __post_init__(self):
        rules = (
            ("k", self.k >= 1 and (self.k == 1 or self.temperature > 0),
             "1, or more with a temperature above 0 (greedy answers are all alike)"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("scoring", self.scoring in ("generate", "loglikelihood"), "generate or loglikelihood"),
            ("metric", self.metric in METRICS, ", ".join(METRICS)),
            ("file", bool(self.dataset or self.file), "a JSONL or CSV file of your own, or a dataset of the table"),
        )  # fmt: skip
        for key, holds, expected in rules:
            if not holds:
                raise DataError(f"benchmarks.{self.name}.{key}={getattr(self, key)}: expected {expected}")

    def protocol(self) -> dict[str, Any]:
        """What decides a response and its verdict, besides the model and the template; plain data."""
        keys = [
            "dataset",
            "source",
            "revision",
            "limit",
            "k",
            "temperature",
            "top_p",
            "top_k",
            "max_tokens",
            "scoring",
            "grader",
        ]
        protocol = {key: getattr(self, key) for key in keys}
        return protocol | ({} if self.dataset else {"file": self.file})


@cache
def _table() -> dict:
    return yaml.safe_load(Path(__file__).with_name("protocols.yaml").read_text())


def names() -> list[str]:
    return list(_table()["benchmarks"])


def reflection_words() -> list[str]:
    """What marks an answer as self-reflecting."""
    return list(_table()["reflection_words"])


def select(chosen: str | list[str], overrides: Mapping[str, Mapping[str, Any]] | None = None) -> list[Benchmark]:
    """Rows of a group (`tiny`, `paper`, `arc`, `r1_8k`, `r1_32k`) or of names, with the overrides {name: {key: value}}.

    A name that only the overrides know is a benchmark of the user's own and needs `file` (or the `dataset` of a row).
    """
    table, overrides = _table(), overrides or {}
    wanted = [chosen] if isinstance(chosen, str) else list(chosen)
    wanted = [name for item in wanted for name in table["groups"].get(item, [item])]
    wanted += [name for name in overrides if name not in wanted]
    known = {field.name for field in fields(Benchmark)} - {"name"}
    rows = []
    for name in wanted:
        own = dict(overrides.get(name, {}))
        for key in own.keys() - known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise DataError(f"benchmarks.{name}.{key}: no such key; {hint}")
        if name not in table["benchmarks"] and not own:
            close = get_close_matches(name, [*table["groups"], *table["benchmarks"]], n=1)
            hint = f"did you mean {close[0]}?" if close else f"groups: {', '.join(table['groups'])}"
            raise DataError(f"benchmarks={name}: no such benchmark or group; {hint}")
        base = table["benchmarks"].get(name) or table["benchmarks"].get(own.get("dataset"), {})
        rows.append(Benchmark(name=name, **{**table["defaults"], **base, **own}))
    return rows


def load(benchmark: Benchmark, data_root: str | None) -> tuple[list[dict], int]:
    """The examples of a benchmark in its own order, and how many rows were left out for want of a gold.

    Raises DataError for a file that is not there, lacks a column or a row, or gives an id twice.
    """
    if benchmark.dataset in TINY:
        from rlvr.tiny import datasets

        examples: list[dict] = [dict(example) for example in datasets.load(benchmark.dataset)]
    else:
        examples = _read(benchmark, data_root)
    if benchmark.n is not None and len(examples) != benchmark.n:
        raise DataError(
            f"{benchmark.name}: {len(examples)} rows, expected {benchmark.n}: the file is not the published one"
        )
    repeated = [id for id, count in Counter(example["id"] for example in examples).items() if count > 1]
    if repeated:
        raise DataError(f"{benchmark.name}: id {repeated[0]} occurs more than once: ids must tell problems apart")
    examples = examples[: benchmark.limit]
    with_gold = [example for example in examples if example["answer"].strip()]
    if not with_gold:
        raise DataError(f"{benchmark.name}: no row has a gold answer in the column {benchmark.answer}")
    return with_gold, len(examples) - len(with_gold)


def load_benchmark(name: str, data_root: str | None, limit: int | None = None) -> list[dict]:
    """The first `limit` examples (all by default) of one dataset of the table."""
    if name not in names():
        raise DataError(f"benchmark {name}: expected one of {', '.join(names())}")
    return load(replace(select(name)[0], limit=limit), data_root)[0]


def _read(benchmark: Benchmark, data_root: str | None) -> list[dict]:
    if benchmark.dataset is None:
        rows, convert = _records(Path(str(benchmark.file)), benchmark.name), _own(benchmark)
    else:
        rows, convert = _published(benchmark, data_root), CONVERT[benchmark.dataset]
    examples = []
    for number, row in enumerate(rows):
        try:
            examples.append({"id": f"{benchmark.dataset}/{number}", "subject": "", **convert(row)})
        except (KeyError, IndexError, TypeError, ValueError) as error:
            has = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
            raise DataError(
                f"{benchmark.name}: row {number + 1}: {type(error).__name__} {error}; it has {has}"
            ) from None
    return examples


def _records(path: Path, name: str) -> list[dict]:
    if not path.exists():
        raise DataError(f"benchmarks.{name}.file={path}: no such file")
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                raise DataError(
                    f"{path}, line {number}: not JSON; expected one object per line, or a .csv file"
                ) from None
    return rows


def _published(benchmark: Benchmark, data_root: str | None) -> list[dict]:
    """The rows from `data_root`, else from where the table says; DataError with the remedy when they cannot be had."""
    source = str(benchmark.source)
    if data_root is None and source.startswith("hf:"):
        repository, _, config = source.removeprefix("hf:").rpartition("/")
        return hub_rows(repository, config, "test", str(benchmark.revision))
    return _records(data_file(data_root, str(benchmark.file)), benchmark.name)


def _own(benchmark: Benchmark) -> Callable[[dict], dict]:
    def convert(row: dict) -> dict:
        missing = [c for c in (benchmark.question, benchmark.answer) if c not in row]
        if missing:
            raise KeyError(
                f"no column {missing[0]}; benchmarks.{benchmark.name}.question= and .answer= name the columns"
            )
        gold = row[benchmark.answer]
        example = {"question": str(row[benchmark.question]), "answer": "" if gold is None else _number(gold)}
        for key, column in (("id", benchmark.id), ("subject", benchmark.subject)):
            if row.get(column) is not None:
                example[key] = str(row[column])
        return example

    return convert


def _number(gold: Any) -> str:
    """A gold as text; a float without a fraction, and digits with leading zeros, as a plain integer."""
    if isinstance(gold, float) and gold.is_integer():
        return str(int(gold))
    text = str(gold)
    return str(int(text)) if text.isdecimal() and text.isascii() else text


def _minerva(row: dict) -> dict:
    return {"id": f"minerva/{row['idx']}", "question": row["problem"], "answer": last_boxed(row["solution"]) or "", "subject": row["type"]}  # fmt: skip


def _arc(row: dict) -> dict:
    texts = row["choices"]["text"]
    gold = LETTERS[row["choices"]["label"].index(row["answerKey"])]
    lines = [f"{letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False)]
    question = "\n".join([row["question"], *lines, BOX_THE_LETTER])
    return {"id": row["id"], "question": question, "answer": gold, "stem": row["question"], "choices": texts}


CONVERT: dict[str, Callable[[dict], dict]] = {
    "math500": lambda r: {"id": r["unique_id"], "question": r["problem"], "answer": r["answer"], "subject": r["subject"]},
    "aime24": lambda r: {"id": f"aime24/{r['id']}", "question": r["problem"], "answer": _number(r["answer"])},
    "amc23": lambda r: {"id": f"amc23/{r['id']}", "question": r["problem"], "answer": _number(r["answer"])},
    "aime25": lambda r: {"question": r["problem"], "answer": _number(r["answer"])},
    "minerva_math": _minerva,
    "olympiadbench": lambda r: {"id": f"olympiadbench/{r['id']}", "question": r["question"],
                                "answer": r["final_answer"][0].strip("$"), "subject": r["subfield"]},
    "arc_easy": _arc,
    "arc_challenge": _arc,
}  # fmt: skip
