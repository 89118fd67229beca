"""Your own training examples: from the command line, or a file.

    python run.py +experiment=one_shot example.question="What is 17 * 3?" example.answer=51
    python run.py +experiment=one_shot example.file=my_problem.yaml

The file holds one `question` and `answer`, or several: YAML or JSON (a mapping or a list of them), JSONL, CSV or Parquet
with these columns, or a Parquet file in the authors' training format.
"""

from math import isfinite
from pathlib import Path
from typing import Any

from rlvr.cli import ConfigError
from rlvr.data.row_files import read_rows
from rlvr.runs.folder import RunFolder


def read_examples(file: str | Path, where: str | None = None) -> list[dict[str, str]]:
    """[{question, answer}] of a file. ConfigError, which begins with `where`, when it cannot be read or lacks a column."""
    where = where or f"example.file={file}"
    rows = read_rows(file, where)
    if not rows:
        raise ConfigError(f"{where}: has no example; it needs a question and an answer")
    if isinstance(rows[0], dict) and {"reward_model", "prompt"} <= set(rows[0]):
        pairs = [(row["prompt"][-1]["content"], row["reward_model"]["ground_truth"]) for row in rows]
        rows = [{"question": question, "answer": answer} for question, answer in dict.fromkeys(pairs)]
    return [checked(row, f"{where}, example {i}") for i, row in enumerate(rows, start=1)]


def checked(row: Any, where: str) -> dict[str, str]:
    """{question, answer} as texts; ConfigError naming what is missing."""
    for column in ("question", "answer"):
        if not isinstance(row, dict) or row.get(column) is None:
            has = ", ".join(map(str, row)) if isinstance(row, dict) else repr(row)[:60]
            raise ConfigError(f"{where}: has no {column} (it has: {has}); give question and answer")
        if not str(row[column]).strip():
            raise ConfigError(f"{where}: the {column} is empty")
    return {"question": str(row["question"]).strip(), "answer": answer_text(row["answer"], where).strip()}


def answer_text(answer: Any, where: str) -> str:
    """An answer as text; a float without a fraction as a whole number. ConfigError for what is no single answer."""
    if isinstance(answer, list | dict | bool) or isinstance(answer, float) and not isfinite(answer):
        raise ConfigError(f"{where}: the answer is {str(answer)[:60]}; expected a number or a text")
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)


def trained_on(folder: RunFolder, at_most: int = 4) -> list[dict[str, str]]:
    """The first distinct {question, answer} that a run trains on, as its prompts show them; [] before it has begun."""
    import pyarrow.parquet as pq

    path = folder.data_dir / "train.parquet"
    found: dict[tuple[str, str], None] = {}
    for row in pq.read_table(path, columns=["prompt", "reward_model"]).to_pylist() if path.exists() else []:
        found[(row["prompt"][-1]["content"], row["reward_model"]["ground_truth"])] = None
    return [{"question": question, "answer": answer} for question, answer in list(found)[:at_most]]
