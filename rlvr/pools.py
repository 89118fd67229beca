"""Pools of training examples and their ranking: `pi1` is rank 1 of the pool that the scale trains on.

A pool row is {index, prompt, answer, subject}; `prompt` is the user's message as training shows it. The paper's pool
(dsr_sub, 1,209 rows) is read from `data_root`, the tiny one is generated. Nothing here imports torch.
"""

import csv
import json
import math
from pathlib import Path

from rlvr.config import ConfigError


class DataError(ConfigError):
    """Data that is not there or does not fit; one line with the remedy."""


def load_pool(source: str, data_root: str | None) -> list[dict]:
    """Rows of the pool in their own order, `index` = position. `source` is tiny or dsr_sub."""
    if source == "tiny":
        from rlvr.tiny import datasets

        return [
            {"index": i, "prompt": row["question"], "answer": row["answer"], "subject": row["subject"]}
            for i, row in enumerate(datasets.load("pool"))
        ]
    if source == "dsr_sub":
        import pyarrow.parquet as pq

        rows = pq.read_table(data_file(data_root, "train/dsr_sub.parquet")).to_pylist()
        return [
            {
                "index": row["extra_info"]["index"],
                "prompt": row["prompt"][0]["content"],
                "answer": row["reward_model"]["ground_truth"],
                "subject": "",
            }
            for row in rows
        ]
    raise DataError(f"pool.source={source}: expected tiny or dsr_sub")


def ranking(source: str, path: str | None, data_root: str | None) -> list[int]:
    """Pool indices in rank order: element 0 is pi1. From the CSV at `path` (rank, index), or the authors' history."""
    if path is None and source == "dsr_sub":
        history = json.loads(Path(data_file(data_root, "train/acc_step_500.json")).read_text())
        return [int(index) for index in rank_by_variance(history)]
    if path is None or not Path(path).exists():
        raise DataError(
            f"pool.ranking={path}: no such file; `python -m rlvr.select run=<full_set run>` writes one"
        )
    with open(path, newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["rank"]))
    return [int(row["index"]) for row in rows]


def rank_by_variance(history: dict[str, list[float]]) -> list[str]:
    """Keys by the variance of their accuracies (population), largest first; ties keep their order (paper, Eq. 1-2).

    A key without any accuracy comes after all others.
    """

    def variance(values: list[float]) -> float:
        if not values:
            return -1.0
        mean = math.fsum(values) / len(values)
        return math.fsum((v - mean) ** 2 for v in values) / len(values)

    return sorted(history, key=lambda key: -round(variance(history[key]), 12))


def chosen_rows(pool: list[dict], ranked: list[int], ranks: list[int]) -> list[dict]:
    """The pool's rows of these ranks (from 1), each with its `rank`."""
    by_index = {row["index"]: row for row in pool}
    for rank in ranks:
        if not 1 <= rank <= len(ranked):
            raise DataError(
                f"train_set rank pi{rank}: ranks start at 1 (pi1 .. pi{len(ranked)} in this pool)"
            )
    return [by_index[ranked[rank - 1]] | {"rank": rank} for rank in ranks]


def training_rows(chosen: list[dict], batch: int, label: str | None) -> list[dict]:
    """verl's training rows: chosen examples repeated in blocks to fill one batch, as in the authors' files.

    A set larger than the batch is given once; verl shuffles and repeats it. `label` replaces every answer.
    """
    if len(chosen) < batch:
        each, more = divmod(batch, len(chosen))
        chosen = [row for i, row in enumerate(chosen) for _ in range(each + (i < more))]
    return [_verl_row(row, "train", {"rank": row.get("rank", 0)}, label) for row in chosen]


def evaluation_rows(examples: list[dict], name: str, sampling: dict) -> list[dict]:
    """verl's validation rows of one benchmark; `sampling` = {temperature, top_p, top_k, n}."""
    return [
        _verl_row(
            {"index": i, "prompt": e["question"], "answer": e["answer"]},
            "test",
            {"id": e["id"], "subject": e["subject"], "sampling": sampling},
            None,
            source=name,
        )
        for i, e in enumerate(examples)
    ]


def _verl_row(row: dict, split: str, extra: dict, label: str | None, source: str = "train") -> dict:
    return {
        "data_source": source,
        "prompt": [{"content": row["prompt"], "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": str(row["answer"] if label is None else label), "style": "rule"},
        "extra_info": {"index": row["index"], "split": split, **extra},
    }


def data_file(data_root: str | None, name: str) -> Path:
    """A file below `data_root`; DataError with the remedy when it is not there."""
    if data_root is None:
        raise DataError(f"{name} is needed: give the folder that holds it, data_root=<folder>")
    path = Path(data_root) / name
    if not path.exists():
        raise DataError(f"data_root={data_root}: has no {name}")
    return path
