"""The one schema of a response: training rollouts, evaluation during training and evaluation afterwards write these columns.

    rollouts/step<k>.parquet           benchmark "train"; id is the example's index in the pool, uid the group it was drawn in
    eval/<benchmark>/step<k>.parquet   id is the problem's own; uid the same; rank 0

`score` is the outcome in [0, 1] whatever is rewarded, `reason` why (rlvr.grading.REASONS), `answer` the text of the last box.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr.runs.plain_files import parsed

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = {
    "step": "int64", "benchmark": "string", "id": "string", "subject": "string", "uid": "string", "sample": "int64",
    "rank": "int64", "prompt": "string", "response": "string", "gold": "string", "answer": "string", "score": "float64",
    "reason": "string", "reward": "float64", "boxed": "bool_",
    "truncated": "bool_", "response_tokens": "int64", "repetition": "float64", "reflection": "bool_",
    "loglikelihoods": "list", "score_acc": "float64",
}  # fmt: skip
CHOICES = ("loglikelihoods", "score_acc")  # null where an answer was generated, not chosen


def table(columns: Mapping[str, Sequence]) -> "pa.Table":
    """Columns as a table of the schema. ValueError for a column that is missing, unknown or of another length."""
    import pyarrow as pa

    rows = len(columns["id"])
    given = {name: [None] * rows for name in CHOICES} | dict(columns)
    if set(given) != set(SCHEMA):
        raise ValueError(f"columns {sorted(set(given) ^ set(SCHEMA))}: missing, or not of the schema")
    kinds = {name: pa.list_(pa.float64()) if k == "list" else getattr(pa, k)() for name, k in SCHEMA.items()}
    return pa.table({name: pa.array(given[name], kinds[name]) for name in SCHEMA})


def write(path: Path, columns: "Mapping[str, Sequence] | pa.Table") -> Path:
    """Write a samples file as a whole or not at all."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table(columns) if isinstance(columns, Mapping) else columns, temporary, compression="zstd")
    os.replace(temporary, path)
    return path


def read(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Columns of a samples file: numbers as arrays, texts as lists. `optional` ones are left out where a file lacks them.

    KeyError for a name that the file lacks, DamagedFile for a file that is no samples file.
    """
    import pyarrow.parquet as pq

    file = parsed(path, lambda place: pq.ParquetFile(place, memory_map=True))
    there = set(file.schema_arrow.names)
    if lacking := [name for name in names if name not in there]:
        raise KeyError(f"{path}: has no column {lacking[0]}")
    wanted = [name for name in (*names, *optional) if name in there]
    found = parsed(path, lambda _: file.read(columns=wanted, use_threads=False))
    numbers = ("float64", "int64", "bool_")
    return {
        name: column.to_numpy() if SCHEMA[name] in numbers else column.to_pylist()
        for name, column in zip(wanted, (found.column(name) for name in wanted), strict=True)
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a samples file, every column."""
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
