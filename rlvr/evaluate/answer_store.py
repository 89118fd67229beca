"""The answers of an evaluation on disk, with their protocol. A finished file is never changed except by regrade=true.

eval/<benchmark>/protocol.json                 the protocol; for each step evaluated after training: engine, versions, speed
eval/<benchmark>/ungraded/step<k>-<i>.parquet  chunks of a step before grading, so that a failing grader loses no answer
eval/<benchmark>/partial/step<k>-<i>.parquet   graded chunks of a step that is not complete
eval/<benchmark>/step<k>.parquet               all samples of a complete step (rlvr.runs.samples)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr.cli import DataError
from rlvr.data.protocols import Protocol
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder, step_files
from rlvr.runs.lock import locked
from rlvr.runs.plain_files import read_json, write_json


class Store:
    """The samples of one benchmark in one run folder. DataError if the folder holds samples of another protocol."""

    def __init__(self, folder: RunFolder, protocol: Protocol, record: Mapping[str, Any], regrade: bool = False):
        """record: `protocol.record(seed)` and all else that an answer depends on. regrade: grader and golds may differ."""
        self.folder, self.protocol, self.requested = folder, protocol, dict(record)
        self.dir = folder.eval_dir / protocol.name
        self.record_path = self.dir / "protocol.json"
        known = self.record.get("protocol", self.requested)
        may_differ = {"grader", "golds"} if regrade and protocol.scoring == "generate" else set()
        other = [k for k in self.requested if known.get(k) != self.requested[k] and k not in may_differ]
        if other:
            shown = "; ".join(f"{key}: {known.get(key)} → {self.requested[key]}" for key in other[:4])
            remedy = ""
            if other == ["stop"]:
                remedy = f"benchmarks.{protocol.name}.stop=[] continues without stop texts, or "
            elif other == ["golds"]:
                remedy = "regrade=true grades them with the new golds, or "
            data = f"dataset={protocol.dataset}" if protocol.dataset else f"file={protocol.file}"
            raise DataError(
                f"{self.dir} holds samples of another protocol ({shown}): {remedy}give the new protocol a name of its own, "
                f"benchmarks.<name>.{data}"
            )

    @property
    def record(self) -> dict:
        return read_json(self.record_path) if self.record_path.exists() else {}

    def path(self, step: int) -> Path:
        return self.folder.eval_path(self.protocol.name, step)

    def complete(self, step: int) -> bool:
        return self.path(step).exists()

    def complete_files(self) -> dict[int, Path]:
        """The files of the complete steps, sorted by step."""
        return step_files(self.dir)

    def chunks(self, step: int, kind: str) -> list[Path]:
        """The chunks of a step that is not complete. `kind`: ungraded, or partial for graded ones."""
        return sorted((self.dir / kind).glob(f"step{step:06d}-*.parquet"))

    def answered(self, step: int) -> set[tuple[str, int]]:
        """(id, sample) of all answers in the chunks of a step."""
        paths = self.chunks(step, "partial") + self.chunks(step, "ungraded")
        parts = [samples.read(path, ["id", "sample"]) for path in paths]
        return {pair for part in parts for pair in zip(part["id"], part["sample"].tolist(), strict=True)}

    def keep(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Store answers of a step before they are graded; returns their file, for `add`."""
        # `add` writes the new file before it removes the old one. In this order no chunk is missed.
        known = {path.name for kind in ("ungraded", "partial") for path in self.chunks(step, kind)}
        number = max((int(name[-14:-8]) for name in known), default=-1) + 1
        columns = {name: [row.get(name) for row in rows] for name in samples.SCHEMA}
        return samples.write(self.dir / "ungraded" / f"step{step:06d}-{number:06d}.parquet", columns)

    def add(self, rows: Sequence[Mapping[str, Any]], kept: Path) -> None:
        """Replace the file `kept` by the same rows with their grades."""
        samples.write(self.dir / "partial" / kept.name, {name: [row[name] for row in rows] for name in rows[0]})
        kept.unlink()

    def finish(self, step: int, ids: Sequence[str]) -> None:
        """Join the chunks of a step into its file, in the order of `ids`. DataError if answers are missing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunks = self.chunks(step, "partial")
        whole = pa.concat_tables([pq.read_table(path) for path in chunks])
        path, expected = self.path(step), len(ids) * self.protocol.k
        if len(whole) != expected:
            raise DataError(
                f"{path}: {len(whole)} graded answers, expected {expected}; the same command generates the others"
            )
        order = {id: place for place, id in enumerate(ids)}
        place = pa.array([order[id] for id in whole["id"].to_pylist()])
        whole = whole.append_column("place", place).sort_by([("place", "ascending"), ("sample", "ascending")])
        samples.write(path, whole.drop_columns("place"))
        for chunk in chunks:
            chunk.unlink()

    def note(self, **facts: Any) -> None:
        """Write the protocol and other facts to protocol.json."""
        self.dir.mkdir(parents=True, exist_ok=True)
        write_json(self.record_path, {"protocol": self.requested, "steps": {}} | self.record | facts)


def evaluation_lock(folder: RunFolder):
    """For a `with` block: refuses a second evaluation of the same folder, but not training."""
    return locked(folder.eval_dir / "lock", "evaluation")
