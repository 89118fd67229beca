"""The columns of a stored response, the same for training rollouts and for evaluations during and after training.

    rollouts/step<k>.parquet           benchmark: "train"; id: the example's index in the pool; uid: its group
    eval/<benchmark>/step<k>.parquet   id and uid: the problem's id; rank: 0

`score` is the grade in [0, 1], whatever the reward rule; `reason` its reason (rlvr.grading.REASONS); `answer` the text of the last
\\boxed{}.
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
CHOICES = ("loglikelihoods", "score_acc")  # null if the answer was generated, not chosen from options


def table(columns: Mapping[str, Sequence]) -> "pa.Table":
    """A table of the schema from its columns. Raises ValueError for a column that is missing, unknown or of another length."""
    import pyarrow as pa

    rows = len(columns["id"])
    given = {name: [None] * rows for name in CHOICES} | dict(columns)
    if set(given) != set(SCHEMA):
        raise ValueError(f"columns {sorted(set(given) ^ set(SCHEMA))}: missing, or not of the schema")
    kinds = {name: pa.list_(pa.float64()) if k == "list" else getattr(pa, k)() for name, k in SCHEMA.items()}
    return pa.table({name: pa.array(given[name], kinds[name]) for name in SCHEMA})


def write(path: Path, columns: "Mapping[str, Sequence] | pa.Table") -> Path:
    """Write a file of responses, as a whole or not at all."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table(columns) if isinstance(columns, Mapping) else columns, temporary, compression="zstd")
    os.replace(temporary, path)
    return path


def read(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Read columns of a file of responses: numbers as arrays, texts as lists. Missing `optional` columns are left out.

    Raises KeyError for a missing column, DamagedFile for a file that cannot be read.
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
    """All rows of a file of responses, with all columns."""
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
