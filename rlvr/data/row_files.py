"""The rows of a table that a user or a publisher wrote, in any of the usual formats."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import yaml

from rlvr.cli import DataError

YAML, JSON = (".yaml", ".yml"), (".json", ".jsonl", ".ndjson")


def read_rows(file: str | Path, where: str | None = None) -> list[Any]:
    """The rows of a file, whose ending decides the format. Texts of YAML and CSV are kept as written: 12.80 stays 12.80.

    YAML holds one row or a list of them, JSON the same or several of them one after another. DataError when the file cannot
    be read; it begins with `where` (what asked for the file; else its path) and names the line.
    """
    path, where = Path(file).expanduser(), where or str(file)
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(
            f"{where}: no such file; expected rows with a question and an answer (.yaml, .json, .jsonl, .csv or .parquet)"
        )
    if kind not in (*YAML, *JSON, ".csv", ".parquet"):
        raise DataError(f"{where}: expected .yaml, .json, .jsonl, .csv or .parquet")
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path).to_pylist()
        text = _text(path.read_bytes())
        if kind == ".csv":
            return _csv_rows(text)
        if kind in JSON:
            return _json_rows(text)
        data = yaml.load(text, yaml.BaseLoader)
        return data if isinstance(data, list) else [data]
    except (ValueError, OSError, csv.Error, yaml.YAMLError) as error:
        raise DataError(f"{where}: cannot be read as {kind}: {' '.join(str(error).split())}") from None


def _text(content: bytes) -> str:
    """What a file holds, with or without the mark that spreadsheets write. ValueError, with the line, for another encoding:
    a guess could change an answer in silence."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}): save the file as UTF-8"
        ) from None


def _csv_rows(text: str) -> list[dict[str, str | None]]:
    """The rows by column; columns are separated as in the first line, by commas, semicolons (Excel, where the decimal
    separator is a comma) or tabs. ValueError for a row with more cells than columns."""
    first = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    columns = next(lines, [])
    rows = []
    for cells in lines:
        if len(cells) > len(columns):
            raise ValueError(
                f"line {lines.line_num}: {len(cells)} cells in {len(columns)} columns: put quotes around a cell"
            )
        if cells:
            rows.append(dict(zip(columns, [*cells, *[None] * len(columns)], strict=False)))
    return rows


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
