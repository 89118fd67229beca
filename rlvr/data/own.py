"""Your own training examples: from the command line, or a file.

    python run.py +experiment=one_shot example.question="What is 17 * 3?" example.answer=51
    python run.py +experiment=one_shot example.file=my_problem.yaml

The file holds one `question` and `answer`, or several: YAML or JSON (a mapping or a list of them), JSONL, CSV or Parquet
with these columns, or a Parquet file in the authors' training format.
"""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from rlvr.cli import ConfigError


def read_examples(file: str | Path) -> list[dict[str, str]]:
    """[{question, answer}] of a file. ConfigError when it cannot be read or lacks a column."""
    path = Path(file)
    where = f"example.file={file}"
    if not path.is_file():
        raise ConfigError(f"{where}: no such file; it holds a question and an answer, in YAML for instance")
    try:
        rows = _read(path, where)
    except (ValueError, yaml.YAMLError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{where}: cannot be read: {' '.join(str(error).split())}") from None
    if not rows:
        raise ConfigError(f"{where}: has no example; it needs a question and an answer")
    return [checked(row, f"{where}, example {i}") for i, row in enumerate(rows, start=1)]


def _read(path: Path, where: str) -> list[Any]:
    kind = path.suffix.lower()
    if kind in (".yaml", ".yml"):
        data = yaml.load(path.read_text(), yaml.BaseLoader)  # texts as written: 12.80 stays 12.80
        return data if isinstance(data, list) else [data]
    if kind == ".json":
        data = json.loads(path.read_text())
        return data if isinstance(data, list) else [data]
    if kind == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    if kind == ".csv":
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    if kind == ".parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
        if rows and "reward_model" in rows[0] and "prompt" in rows[0]:
            pairs = [(row["prompt"][-1]["content"], row["reward_model"]["ground_truth"]) for row in rows]
            return [{"question": q, "answer": a} for q, a in dict.fromkeys(pairs)]
        return rows
    raise ConfigError(f"{where}: expected .yaml, .json, .jsonl, .csv or .parquet")


def checked(row: Any, where: str) -> dict[str, str]:
    """{question, answer} as texts; ConfigError naming what is missing."""
    for column in ("question", "answer"):
        if not isinstance(row, dict) or row.get(column) is None:
            has = ", ".join(map(str, row)) if isinstance(row, dict) else repr(row)[:60]
            raise ConfigError(f"{where}: has no {column} (it has: {has}); give question and answer")
        if not str(row[column]).strip():
            raise ConfigError(f"{where}: the {column} is empty")
    return {"question": str(row["question"]).strip(), "answer": str(row["answer"]).strip()}
