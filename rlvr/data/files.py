"""The rows of a table that a user or a publisher wrote, in any of the usual formats."""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from rlvr.cli import DataError

YAML, JSON = (".yaml", ".yml"), (".json", ".jsonl", ".ndjson")


def read_rows(file: str | Path, where: str | None = None) -> list[Any]:
    """The rows of a file, told apart by its ending; texts of YAML and CSV as they are written: 12.80 stays 12.80.

    YAML holds one row or a list of them, JSON the same or several of them one after another. DataError when the file cannot
    be read; it begins with `where` (what asked for the file; else its path) and names the line.
    """
    path, where = Path(file).expanduser(), where or str(file)
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{where}: no such file; it holds rows with a question and an answer, in YAML for instance")
    if kind not in (*YAML, *JSON, ".csv", ".parquet"):
        raise DataError(f"{where}: expected .yaml, .json, .jsonl, .csv or .parquet")
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path).to_pylist()
        with open(path, encoding="utf-8-sig", newline="") as text:
            if kind == ".csv":
                return list(csv.DictReader(text))
            if kind in JSON:
                return _json_rows(text.read())
            data = yaml.load(text, yaml.BaseLoader)
            return data if isinstance(data, list) else [data]
    except (ValueError, OSError, csv.Error, yaml.YAMLError) as error:
        raise DataError(f"{where}: cannot be read as {kind}: {' '.join(str(error).split())}") from None


def _json_rows(text: str) -> list[Any]:
    decoder = json.JSONDecoder()
    rows: list[Any] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        data, at = decoder.raw_decode(text, at)
        rows += data if isinstance(data, list) else [data]
    return rows
