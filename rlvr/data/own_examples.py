"""Reads questions and answers from a user's files: training examples, pools and benchmarks.

    python run.py +experiment=one_shot example.question="What is 17 * 3?" example.answer=51
    python run.py +experiment=one_shot example.file=my_problem.yaml

The file holds one `question` and `answer`, or several: YAML or JSON (a mapping or a list of them), JSONL, CSV or Parquet
with these columns, or rows in verl's own format (`prompt` and `reward_model.ground_truth`).
"""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from rlvr.cli import ConfigError, DataError
from rlvr.data.row_files import read_rows
from rlvr.runs.folder import RunFolder

COLUMNS = ("question", "answer")
GIVE = "give question and answer, or verl's prompt and reward_model.ground_truth"


def read_examples(file: str | Path, where: str | None = None) -> list[dict[str, str]]:
    """[{question, answer}] of a file. ConfigError, which begins with `where`, when it cannot be read or lacks a column.

    verl's training files repeat an example to fill a batch: rows in its format count once.
    """
    where = where or f"example.file={file}"
    rows = read_rows(file, where)
    if not rows:
        raise ConfigError(f"{where}: has no example; it needs a question and an answer")
    examples = [checked(row, f"{where}, example {i}") for i, row in enumerate(rows, start=1)]
    if any("reward_model" in row for row in rows):
        return [dict(pairs) for pairs in dict.fromkeys(tuple(example.items()) for example in examples)]
    return examples


def checked(row: Any, where: str) -> dict[str, str]:
    """{question, answer} as texts, neither of them empty; ConfigError naming what is missing."""
    found = dict(zip(COLUMNS, texts(row, where), strict=True))
    for column, text in found.items():
        if not text.strip():
            raise ConfigError(f"{where}: the {column} is empty")
    return {column: text.strip() for column, text in found.items()}


def texts(row: Any, where: str, columns: tuple[str, str] = COLUMNS, remedy: str = GIVE) -> tuple[str, str]:
    """The question and the answer of a row: in these columns, or in verl's format. The answer is "" where its cell is empty.

    DataError, which begins with `where`, for a column that is missing (and ends with `remedy`), and for a value that has no
    single meaning.
    """
    has = repr(row)[:60]
    row = row if isinstance(row, Mapping) else {}
    there = {key: value for key, value in row.items() if value is not None}
    named = columns != COLUMNS and set(columns) <= set(there)
    if not named and ("reward_model" in there or "prompt" in there and columns[1] not in row):
        label = there.get("reward_model")
        if isinstance(label, Mapping):
            row = {**row, "reward_model.ground_truth": label.get("ground_truth")}
        columns = ("prompt", "reward_model.ground_truth")
    question, answer = columns
    if missing := [column for column in columns if column not in (there if column == question else row)]:
        raise DataError(f"{where}: has no {missing[0]} (it has: {', '.join(map(str, there)) or has}); {remedy}")
    return _question(row[question], where), answer_text(row[answer], where)


def _question(value: Any, where: str) -> str:
    """The text of a question: a text or a number, text parts, or one message of the user."""
    parts = value if isinstance(value, list) else [value]
    if parts and all(isinstance(part, Mapping) and ("role" in part or "content" in part) for part in parts):
        roles = [part.get("role") or "user" for part in parts]
        if roles != ["user"]:
            raise DataError(
                f"{where}: its prompt is a conversation ({', '.join(map(str, roles))}), and an example here is one message of "
                "the user: put the other messages' text into it, or remove the row"
            )
        return _question(parts[0].get("content"), where)
    text = _joined(value)
    if text is None:
        raise DataError(f"{where}: the question is {str(value)[:60]}; expected a text, or one message of the user")
    return text


def _joined(value: Any) -> str | None:
    """A text, a finite number (12.0 as 12), or text parts, as one text; a list of one text is that text. None: something else."""
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | Mapping):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, float) and isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        parts = [part.get("text") for part in value if part.get("type", "text") == "text"]
        whole = len(parts) == len(value) and all(isinstance(part, str) for part in parts)
        return "".join(map(str, parts)) if whole else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def answer_text(answer: Any, where: str) -> str:
    """An answer as text, "" for None. A list with one item, also as JSON, counts as that item. DataError for more than one answer."""
    if isinstance(answer, str) and answer.lstrip().startswith('["'):
        try:
            answer = json.loads(answer)
        except ValueError:
            return answer
    text = "" if answer is None else _joined(answer)
    if text is None:
        raise DataError(f"{where}: the answer is {str(answer)[:60]}; expected a number or a text")
    return text


def trained_on(folder: RunFolder, at_most: int = 4) -> list[dict[str, str]]:
    """The first distinct {question, answer} that a run trains on, as its prompts show them; [] before it has begun."""
    import pyarrow.parquet as pq

    path = folder.data_dir / "train.parquet"
    found: dict[tuple[str, str], None] = {}
    for row in pq.read_table(path, columns=["prompt", "reward_model"]).to_pylist() if path.exists() else []:
        found[(row["prompt"][-1]["content"], row["reward_model"]["ground_truth"])] = None
    return [{"question": question, "answer": answer} for question, answer in list(found)[:at_most]]
