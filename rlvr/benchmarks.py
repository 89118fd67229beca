"""Test sets by name: the tiny world's own, and the paper's from `data_root`. An example is {id, question, answer, subject}."""

import json

from rlvr.sources import DataError, data_file

TINY = ("validation", "tiny500", "tiny_hard", "tiny_arc")


def load_benchmark(name: str, data_root: str | None, limit: int | None = None) -> list[dict]:
    """The first `limit` examples (all by default) of one benchmark, in its own order."""
    if name in TINY:
        from rlvr.tiny import datasets

        return [dict(example) for example in datasets.load(name)[:limit]]
    if name == "math500":
        lines = data_file(data_root, "eval/math500.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines[:limit]]
        return [
            {"id": r["unique_id"], "question": r["problem"], "answer": r["answer"], "subject": r["subject"]}
            for r in rows
        ]
    raise DataError(f"benchmark {name}: expected one of {', '.join((*TINY, 'math500'))}")
