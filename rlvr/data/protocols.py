"""Benchmarks: the table of protocols (protocols.yaml), and the problems behind each row. Loads neither torch nor pandas.

An example is {id, question, answer, subject}, ARC's with `choices` (texts) besides. Golds are as the sources define them
(the authors' harness): MATH500's `answer`, Minerva's last box of the solution, OlympiadBench's first final answer, AMC's
float and AIME's zero-padded text as plain integers (equal in value), ARC's label as the letter of its position.
A row without a gold is left out and counted; ids that occur twice are an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from rlvr.cli import DataError, did_you_mean
from rlvr.data import scales
from rlvr.data.downloads import data_file, hub_rows
from rlvr.data.labels import matched
from rlvr.data.own_examples import answer_text, texts
from rlvr.data.prompts import STOPS, TEMPLATES
from rlvr.data.row_files import read_rows
from rlvr.grading import GRADERS, last_boxed

LETTERS = "ABCDEFGH"
BOX_THE_LETTER = "Answer with the letter of the right choice within \\boxed{}."
MAX_TOKENS = 3072  # paper B.5: of an answer, where no run says otherwise
SCORINGS = ("generate", "loglikelihood", "loglikelihood_per_byte")


@dataclass(frozen=True)
class Protocol:
    """One row of the table; protocols.yaml says what each key means. Raises DataError for a value out of its domain."""

    name: str
    dataset: str | None
    source: str | None
    revision: str | None
    file: str | None
    problems: int | None
    limit: int | None
    template: str | None
    k: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int | None
    stop: Sequence[str] | None
    scoring: str
    grader: str
    question: str
    answer: str
    id: str
    subject: str

    def __post_init__(self):
        rules = (
            ("k", _whole(self.k) and (self.k == 1 or self.temperature > 0),
             "1, or more with a temperature above 0 (greedy answers are all alike)"),
            ("limit", self.limit is None or _whole(self.limit), "a whole number above 0, or null (all)"),
            ("temperature", _number(self.temperature) and self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", _number(self.top_p) and 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_tokens", self.max_tokens is None or _whole(self.max_tokens), "a whole number above 0"),
            ("stop", self.stop is None or _texts(self.stop), "a list of texts such as ['</s>'], or null (the template's)"),
            ("scoring", self.scoring in SCORINGS, f"one of {', '.join(SCORINGS)}"),
            ("grader", self.grader in GRADERS or ":" in str(self.grader), f"{', '.join(GRADERS)} or file.py:function"),
            ("template", self.template is None or self.template in TEMPLATES, f"one of {', '.join(TEMPLATES)}"),
            ("name", re.fullmatch(r"[\w.-]+", self.name), "letters, digits, _, - and dots: a folder is named after it"),
            ("file", bool(self.dataset or self.file), "a file of your own (YAML, JSON, JSONL, CSV or Parquet), or a dataset of the table"),
        )  # fmt: skip
        for key, holds, expected in rules:
            if not holds:
                raise DataError(f"benchmarks.{self.name}.{key}={getattr(self, key)}: expected {expected}")

    @property
    def metric(self) -> str:
        """The name of its metric: accuracy, avg@k, acc (likeliest choice) or acc_norm (likeliest per byte)."""
        if self.scoring != "generate":
            return "acc" if self.scoring == "loglikelihood" else "acc_norm"
        return f"avg@{self.k}" if self.k > 1 else "accuracy"

    @property
    def answers(self) -> int | None:
        """How many answers one evaluation needs; None for a file of unknown length."""
        asked = [count for count in (self.limit, self.problems) if count is not None]
        return self.k * min(asked) if asked else None

    def record(self, seed: int, examples: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """All that decides a response and its verdict, except the model. Plain data, stored with the samples.

        examples: those of a user's own file, which may change; where it lies makes no difference.
        """
        left_out = ("name", "file", "problems", "question", "answer", "id", "subject")
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        if examples and self.dataset is None:
            for key, column in (("problems", "question"), ("golds", "answer")):
                told = json.dumps([[example["id"], example[column]] for example in examples])
                kept[key] = hashlib.sha256(told.encode()).hexdigest()[:12]
        stop = list(self.stop or ()) if self.scoring == "generate" else []
        return kept | {"stop": stop, "seed": seed if self.temperature else 0}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) and v for v in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


@cache
def _table() -> dict:
    return yaml.safe_load(Path(__file__).with_name("protocols.yaml").read_text())


def group(name: str) -> list[str]:
    """The benchmarks of a group: `tiny`, `paper`, `arc`, `r1_8k`, `r1_32k`."""
    return list(_table()["groups"][name])


def reflection_words() -> list[str]:
    """What marks an answer as self-reflecting."""
    return list(_table()["reflection_words"])


def select(chosen: str | Sequence[str], changes: Mapping[str, Mapping[str, Any]] | None = None) -> list[Protocol]:
    """The rows of groups or of names, with changes {name: {key: value}}.

    A name that only the changes know is a benchmark of the user's own and needs `file` (or the `dataset` of a row).
    """
    table, changes = _table(), changes or {}
    wanted = [chosen] if isinstance(chosen, str) else list(chosen)
    wanted = [name for item in wanted for name in table["groups"].get(item, [item])]
    known = [field.name for field in fields(Protocol) if field.name != "name"]
    rows = []
    for name in dict.fromkeys(wanted):
        own = dict(changes.get(name, {}))
        for key in own:
            if key not in known:
                raise DataError(f"benchmarks.{name}.{key}: no such key; {did_you_mean(key, known)}")
        if name not in table["benchmarks"] and not own:
            hint = did_you_mean(name, [*table["groups"], *table["benchmarks"]], f"groups: {', '.join(table['groups'])}")
            raise DataError(f"benchmarks={name}: no such benchmark or group; {hint}")
        base = table["benchmarks"].get(name) or table["benchmarks"].get(own.get("dataset"), {})
        rows.append(Protocol(name=name, **{**table["defaults"], **base, **own}))
    return rows


def of_run(config: Mapping[str, Any]) -> list[Protocol]:
    """The protocols that a run evaluates while it trains, in the order of its configuration (plain or OmegaConf)."""
    changes = {name: dict(keys) for name, keys in (config.get("benchmarks") or {}).items()}
    template, limit = config["base_model"]["template"], config["scale"]["max_response_tokens"]
    return [complete(row, template, limit) for row in select(config["scale"]["benchmarks"], changes)]


def reported_names(config: Mapping[str, Any]) -> list[str]:
    """The benchmarks of a run's report: those evaluated during training, and those that take the place of the paper's columns."""
    columns = scales.paper_columns(config["scale"]["name"]).values()
    return list(dict.fromkeys([row.name for row in of_run(config)] + [name for names in columns for name in names]))


def complete(row: Protocol, template: str, max_tokens: int) -> Protocol:
    """A row with template, longest answer and stop texts filled in from the run."""
    template = row.template or template
    stop = STOPS.get(template, ()) if row.stop is None else tuple(row.stop)
    return replace(row, template=template, max_tokens=row.max_tokens or max_tokens, stop=stop)


def load(benchmark: Protocol, data_root: str | None) -> tuple[list[dict], int, list[str]]:
    """The examples of a benchmark in order, how many rows were left out because they have no gold, and notes on golds.

    A gold of a user's file that no natural answer matches is rewritten, with a note, or refused. DataError for a file that is
    missing, lacks a column or a row, or repeats an id.
    """
    if benchmark.source == "rlvr.tiny":
        from rlvr.tiny import datasets

        examples: list[dict] = [dict(example) for example in datasets.load(str(benchmark.dataset))]
    else:
        examples = _read(benchmark, data_root)
    if benchmark.problems is not None and len(examples) != benchmark.problems:
        raise DataError(
            f"{benchmark.name}: {len(examples)} rows, expected {benchmark.problems}: the file is not the published one"
        )
    repeated = [id for id, count in Counter(example["id"] for example in examples).items() if count > 1]
    if repeated:
        raise DataError(f"{benchmark.name}: id {repeated[0]} occurs more than once: give each problem its own id")
    examples = examples[: benchmark.limit]
    with_gold = [example for example in examples if example["answer"].strip()]
    if not with_gold:
        raise DataError(f"{benchmark.name}: no row has a gold answer in the column {benchmark.answer}")
    notes: list[str] = []
    if benchmark.dataset is None and benchmark.scoring == "generate" and benchmark.grader in GRADERS:
        names = [f"benchmarks.{benchmark.name}.file={benchmark.file}, {example['id']}" for example in with_gold]
        golds, notes = matched([example["answer"] for example in with_gold], names)
        with_gold = [{**example, "answer": gold} for example, gold in zip(with_gold, golds, strict=True)]
    return with_gold, len(examples) - len(with_gold), notes


def _read(benchmark: Protocol, data_root: str | None) -> list[dict]:
    """The examples of a user's own file, or of a published one: from `data_root`, else from where the table says."""
    source, name = str(benchmark.source), benchmark.name
    if benchmark.dataset is None:
        where = f"benchmarks.{name}.file={benchmark.file}"
        read = read_rows(str(benchmark.file), where)
        own = [_own(benchmark, row, f"{where}, row {i}") for i, row in enumerate(read, start=1)]
        return [{"id": f"{name}/{i}", "subject": "", **row} for i, row in enumerate(own)]
    if data_root is None and source.startswith("hf:"):
        repository, _, config = source.removeprefix("hf:").rpartition("/")
        rows = hub_rows(repository, config, "test", str(benchmark.revision))
    else:
        rows = read_rows(data_file(data_root, str(benchmark.file)))
    examples = []
    for number, row in enumerate(rows):
        try:
            examples.append({"id": f"{benchmark.dataset}/{number}", "subject": "", **CONVERT[benchmark.dataset](row)})
        except (KeyError, IndexError, TypeError, ValueError) as error:
            has = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
            raise DataError(f"{name}: row {number + 1}: {type(error).__name__} {error}; it has {has}") from None
    return examples


def _own(benchmark: Protocol, row: Any, where: str) -> dict:
    """A row of a user's own file. DataError, which begins with `where`, for one without a question or a single gold."""
    remedy = f"benchmarks.{benchmark.name}.question= and .answer= name the columns"
    question, gold = texts(row, where, (benchmark.question, benchmark.answer), remedy)
    optional = {name: row.get(getattr(benchmark, name)) for name in ("id", "subject")}
    about = {name: str(value) for name, value in optional.items() if value is not None}
    return {"question": question, "answer": _plain(gold), **about}


def _plain(gold: Any) -> str:
    """A gold as text; a float without a fraction, and digits with leading zeros, as a plain integer."""
    text = answer_text(gold, "gold")
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
    "aime24": lambda r: {"id": f"aime24/{r['id']}", "question": r["problem"], "answer": _plain(r["answer"])},
    "amc23": lambda r: {"id": f"amc23/{r['id']}", "question": r["problem"], "answer": _plain(r["answer"])},
    "aime25": lambda r: {"question": r["problem"], "answer": _plain(r["answer"])},
    "minerva_math": _minerva,
    "olympiadbench": lambda r: {"id": f"olympiadbench/{r['id']}", "question": r["question"],
                                "answer": r["final_answer"][0].strip("$"), "subject": r["subfield"]},
    "arc_easy": _arc,
    "arc_challenge": _arc,
}  # fmt: skip
