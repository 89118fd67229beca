"""The rows of a table that a user or a publisher wrote, in any of the usual formats."""

import csv
import json
from pathlib import Path
from typing import Any, TextIO

import yaml

from rlvr.cli import DataError

FORMATS = (".yaml", ".yml", ".json", ".jsonl", ".ndjson", ".csv", ".parquet")


def read_rows(file: str | Path, where: str | None = None) -> list[Any]:
    """The rows of a file, told apart by its ending; texts of YAML and CSV as they are written: 12.80 stays 12.80.

    YAML and JSON hold one row or a list of them, a .json file also one row a line. DataError when the file cannot be read;
    it begins with `where` (what asked for the file; else its path) and names the line.
    """
    path, where = Path(file).expanduser(), where or str(file)
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{where}: no such file; it holds rows with a question and an answer, in YAML for instance")
    if kind not in FORMATS:
        raise DataError(f"{where}: expected .yaml, .json, .jsonl, .csv or .parquet")
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path).to_pylist()
        with open(path, encoding="utf-8-sig", newline="") as text:
            if kind == ".csv":
                return list(csv.DictReader(text))
            if kind in (".yaml", ".yml"):
                return _listed(yaml.load(text, yaml.BaseLoader))
            return _listed(json.load(text)) if kind == ".json" and not _row_a_line(text) else _json_lines(text)
    except (ValueError, OSError, csv.Error, yaml.YAMLError) as error:
        raise DataError(f"{where}: cannot be read: {' '.join(str(error).split())}") from None


def _listed(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [data]


def _row_a_line(text: TextIO) -> bool:
    """Is the first line a whole document, and not the last?"""
    try:
        json.loads(text.readline())
        return bool(text.read().strip())
    except ValueError:
        return False
    finally:
        text.seek(0)


def _json_lines(text: TextIO) -> list[Any]:
    rows = []
    for number, line in enumerate(text, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: not JSON ({error}); expected one object per line") from None
    return rows
