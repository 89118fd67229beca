"""metrics.jsonl of a run folder: one JSON line for each step, each step once, also after a crash and a resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rlvr.runs.plain_files import a_mapping, parsed, write_atomically

if TYPE_CHECKING:
    import pandas as pd


class MetricsWriter:
    """Appends one JSON line per step, each step once, on disk before `write` returns.

    resume_at: the step of the checkpoint that training goes on from; complete lines up to it are kept, later ones and
    a torn last line are dropped. None: from the beginning, nothing is kept.
    """

    def __init__(self, path: str | Path, resume_at: int | None = None):
        self.path = Path(path)
        bound = -1 if resume_at is None else resume_at
        kept = [line for line in metrics_lines(self.path) if line["step"] <= bound]
        self.last_step = max((line["step"] for line in kept), default=-1)
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: dict[str, float]) -> None:
        """Append one line; its "step" must be later than every step before."""
        if line["step"] <= self.last_step:
            raise ValueError(f"{self.path}: step {line['step']} after step {self.last_step}: steps are written once")
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.last_step = int(line["step"])


def metrics_lines(path: str | Path) -> list[dict]:
    """The complete lines; a last line without its end (a crash, or a writer at work) is left out."""
    if not Path(path).exists():
        return []
    return parsed(Path(path), lambda file: [metrics_line(line) for line in file.read_text().split("\n")[:-1]])


def metrics_line(text: str | bytes) -> dict:
    """One line of metrics.jsonl. ValueError or LookupError when it is none."""
    line = a_mapping(json.loads(text))
    return line | {"step": int(line["step"])}


def read_metrics(path: str | Path) -> pd.DataFrame:
    """One row per step, columns as written; NaN where a step has no such value (evaluations)."""
    import pandas as pd

    return pd.DataFrame(metrics_lines(path))
