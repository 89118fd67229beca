"""Pools of training examples and their ranking: `pi1` is rank 1 of the pool that the scale trains on.

A pool row is {index, prompt, answer, subject, source}; `prompt` is the user's message as training shows it.

    tiny     1,209 generated problems (rlvr.tiny); tiny_7500: these and more of them
    dsr_sub  the authors' 1,209 DeepScaleR examples. Row 265 has no label: it keeps its rank, is left out of full-pool
             training and refused as a chosen example. Rows 136, 780 and 899 are the same problem with the same label and stay
             three examples, each with its own rank and history, as in the authors' training.
    math     the 7,500 training problems of MATH, with the authors' instruction added; the label is the last box of the solution

Nothing here imports torch.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr.cli import DataError
from rlvr.data.downloads import data_file, hub_rows
from rlvr.data.own_examples import texts
from rlvr.data.protocols import Protocol
from rlvr.data.row_files import read_rows
from rlvr.grading import last_boxed

SOURCES = ("tiny", "tiny_7500", "dsr_sub", "math")
TINY = {"tiny": "pool", "tiny_7500": "pool_7500"}
MATH_ON_THE_HUB = {
    "repository": "DigitalLearningGmbH/MATH-lighteval",
    "config": "default",
    "split": "train",
    "revision": "0530c78699ea5e8eb5530600900e1f328b48acad",
}
# What every prompt of dsr_sub ends with (authors: data/train/one_shot_rlvr).
INSTRUCTION = " Let's think step by step and output the final answer within \\boxed{}."


def load_pool(source: str, data_root: str | None) -> list[dict]:
    """Rows of the pool in their own order, `index` = position. `source` is one of SOURCES."""
    if source in TINY:
        from rlvr.tiny import datasets

        return _pool((row["question"], row["answer"], row["subject"], "train") for row in datasets.load(TINY[source]))
    if source == "math" and data_root is None:
        return _pool(
            (row["problem"] + INSTRUCTION, last_boxed(row["solution"]) or "", row["type"], "math")
            for row in hub_rows(**MATH_ON_THE_HUB)
        )
    if source not in SOURCES:
        raise DataError(f"pool.source={source}: expected {', '.join(SOURCES)}")
    path = data_file(data_root, f"train/{source}.parquet")
    theirs = read_rows(path)
    pairs = [texts(row, f"{path}, example {i}") for i, row in enumerate(theirs, start=1)]
    about = [((row.get("extra_info") or {}).get("subject") or "", row.get("data_source") or source) for row in theirs]
    return _pool((*pair, *more) for pair, more in zip(pairs, about, strict=True))


def _pool(rows: Iterable[tuple[str, str, str, str]]) -> list[dict]:
    """Pool rows of (prompt, answer, subject, source)."""
    columns = ("index", "prompt", "answer", "subject", "source")
    return [dict(zip(columns, (i, *row), strict=True)) for i, row in enumerate(rows)]


def own_pool(examples: list[dict], source: str) -> list[dict]:
    """Pool rows of the user's {question, answer} pairs. Questions for pretrained models get the authors' instruction if they lack it."""
    instruction = "" if source in TINY else INSTRUCTION
    rows = []
    for example in examples:
        has_it = example["question"].endswith(instruction.strip())
        rows.append((example["question"] + ("" if has_it else instruction), example["answer"], "", "own"))
    return _pool(rows)


def ranking(source: str, path: str | None, data_root: str | None) -> list[int]:
    """Pool indices in rank order: element 0 is pi1. From the CSV at `path` (rank, index), or the authors' history."""
    if path is None and source == "dsr_sub":
        history = json.loads(data_file(data_root, "train/acc_step_500.json").read_text())
        return [int(index) for index in rank_by_variance(history)]
    if path is None or not Path(path).expanduser().exists():
        raise DataError(f"pool.ranking={path}: no such file; `python -m rlvr.suggest run=<full_set run>` writes one")
    rows = read_rows(path)
    if not rows or not {"rank", "index"} <= set(rows[0]):
        raise DataError(f"pool.ranking={path}: expected the columns rank and index; rlvr.suggest writes them")
    try:
        order = sorted((int(row["rank"]), int(row["index"])) for row in rows)
    except (TypeError, ValueError):
        raise DataError(f"pool.ranking={path}: a rank or an index is not a whole number") from None
    if [rank for rank, _ in order] != list(range(1, len(order) + 1)):
        raise DataError(f"pool.ranking={path}: expected each rank from 1 to {len(order)} exactly once")
    return [index for _, index in order]


def variance(values: Sequence[float]) -> float:
    """Population variance of one example's accuracies (paper, Eq. 1); -1 for an example never visited.

    Rounded to 12 places, so that equal histories tie in any order of summation.
    """
    if not values:
        return -1.0
    mean = math.fsum(values) / len(values)
    return round(math.fsum((v - mean) ** 2 for v in values) / len(values), 12)


def rank_by_variance(history: dict[str, list[float]]) -> list[str]:
    """Keys by the variance of their accuracies, largest first; ties keep their order (paper, Eq. 2)."""
    return sorted(history, key=lambda key: -variance(history[key]))


def ranked_rows(
    pool: Mapping[str, Any], data_root: str | None, ranks: list[int], rows: list[dict] | None = None
) -> list[dict]:
    """The pool's rows of these ranks (from 1), each with its `rank`; `pool` is that group of a configuration.

    `rows`: the pool, where the caller has loaded it already. DataError for a rank that the ranking does not reach.
    """
    by_index = {row["index"]: row for row in rows or load_pool(pool["source"], data_root)}
    order = ranking(pool["source"], pool["ranking"], data_root)
    for rank in ranks:
        if not 1 <= rank <= len(order):
            raise DataError(f"train_set rank pi{rank}: ranks start at 1 (pi1 .. pi{len(order)} in this pool)")
    if missing := [index for index in (order[rank - 1] for rank in ranks) if index not in by_index]:
        raise DataError(
            f"pool.ranking={pool['ranking']}: index {missing[0]} is not in the pool ({len(by_index)} examples)"
        )
    return [by_index[order[rank - 1]] | {"rank": rank} for rank in ranks]


def training_rows(chosen: list[dict], batch: int) -> list[dict]:
    """verl's training rows: chosen examples repeated in blocks to fill one batch, as in the authors' files.

    A set larger than the batch is given once; verl shuffles and repeats it. Beside the authors' columns a row has `rank` (0
    for none), `subject`, and `true_answer`, the label it came with.
    """
    each, more = divmod(max(batch, len(chosen)), len(chosen))
    rows = []
    for i, one in enumerate(chosen):
        row = _verl_row(one, "train", one["source"])
        row |= {"rank": one.get("rank", 0), "subject": one.get("subject", "")}
        row |= {"true_answer": one.get("true_answer", one["answer"])}
        rows += [row] * (each + (i < more))
    return rows


def evaluation_rows(examples: list[dict], protocol: Protocol) -> list[dict]:
    """verl's validation rows of one benchmark, each with its sampling (in verl's words: n answers) and its grader."""
    sampling = {name: getattr(protocol, name) for name in ("temperature", "top_p", "top_k", "max_tokens")}
    sampling["n"] = protocol.k
    if protocol.stop:
        sampling["stop"] = list(protocol.stop)
    rows = []
    for i, example in enumerate(examples):
        row = _verl_row({"index": i, "prompt": example["question"], "answer": example["answer"]}, "test", protocol.name)
        about = {"id": example["id"], "subject": example["subject"], "grader": protocol.grader, "sampling": sampling}
        row["extra_info"] |= about
        rows.append(row)
    return rows


def examples_of(rows: list[dict], protocol: Protocol) -> list[dict]:
    """The examples {id, question, answer} behind the validation rows of one benchmark."""
    own = [row for row in rows if row["data_source"] == protocol.name]
    return [{"id": row["extra_info"]["id"], "question": row["prompt"][0]["content"],
             "answer": row["reward_model"]["ground_truth"]} for row in own]  # fmt: skip


def _verl_row(row: dict, split: str, source: str) -> dict:
    """The columns of the authors' files."""
    return {
        "data_source": source,
        "prompt": [{"content": row["prompt"], "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": str(row["answer"]), "style": "rule"},
        "extra_info": {"index": row["index"], "split": split},
    }
