"""The answers of an evaluation on disk, with their protocol. A finished file is final: the same evaluation reads it.

eval/<benchmark>/protocol.json                 the protocol; per step that was evaluated after training: engine, versions, speed
eval/<benchmark>/partial/step<k>-<i>.parquet   chunks of an evaluation that is not complete
eval/<benchmark>/ungraded/step<k>-<i>.parquet  the same before they are graded: a grader that fails loses no answer
eval/<benchmark>/step<k>.parquet               all samples of a step, there only when complete (rlvr.runs.samples)
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
    """The samples of one benchmark in one run folder. Raises DataError when the folder holds another protocol's."""

    def __init__(self, folder: RunFolder, protocol: Protocol, record: Mapping[str, Any], regrade: bool = False):
        """record: `protocol.record(seed)` and all else that decides an answer. regrade: grader and golds may differ."""
        self.folder, self.protocol, self.requested = folder, protocol, dict(record)
        self.dir = folder.eval_dir / protocol.name
        self.record_path = self.dir / "protocol.json"
        known = self.record.get("protocol")
        may_differ = {"grader", "golds"} if regrade and protocol.scoring == "generate" else set()
        if known and (
            other := [k for k in self.requested if known.get(k) != self.requested[k] and k not in may_differ]
        ):
            shown = "; ".join(f"{key}: {known.get(key)} → {self.requested[key]}" for key in other[:4])
            same = f"benchmarks.{protocol.name}.stop=[] goes on as they were, or " if other == ["stop"] else ""
            same = "regrade=true judges them with the new golds, or " if other == ["golds"] else same
            data = f"dataset={protocol.dataset}" if protocol.dataset else f"file={protocol.file}"
            raise DataError(
                f"{self.dir} holds samples of another protocol ({shown}): {same}ask for it under a name of its own, "
                f"benchmarks.<name>.{data}"
            )

    @property
    def record(self) -> dict:
        return read_json(self.record_path) if self.record_path.exists() else {}

    def path(self, step: int) -> Path:
        return self.folder.eval_path(self.protocol.name, step)

    def complete(self, step: int) -> bool:
        return self.path(step).exists()

    def steps(self) -> list[int]:
        """The complete ones, rising."""
        return list(step_files(self.dir))

    def _chunks(self, step: int, kind: str = "partial") -> list[Path]:
        return sorted((self.dir / kind).glob(f"step{step:06d}-*.parquet"))

    def answered(self, step: int) -> set[tuple[str, int]]:
        """(id, sample) of the answers that an interrupted evaluation has stored, graded or not."""
        chunks = self._chunks(step) + self._chunks(step, "ungraded")
        parts = [samples.read(path, ["id", "sample"]) for path in chunks]
        return {pair for part in parts for pair in zip(part["id"], part["sample"].tolist(), strict=True)}

    def keep(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Store answers of a step before they are graded; returns their file, for `add`."""
        # A graded file is in its new place before it leaves the old one: read in this order, none is missed.
        known = {path.name for kind in ("ungraded", "partial") for path in self._chunks(step, kind)}
        number = max((int(name[-14:-8]) for name in known), default=-1) + 1
        columns = {name: [row.get(name) for row in rows] for name in samples.SCHEMA}
        return samples.write(self.dir / "ungraded" / f"step{step:06d}-{number:06d}.parquet", columns)

    def ungraded(self, step: int) -> list[Path]:
        """Files of answers without verdicts."""
        return self._chunks(step, "ungraded")

    def add(self, step: int, rows: Sequence[Mapping[str, Any]], kept: Path) -> None:
        """Store graded rows of a step, all or none, instead of the file `kept`."""
        samples.write(self.dir / "partial" / kept.name, {name: [row[name] for row in rows] for name in rows[0]})
        kept.unlink()

    def finish(self, step: int, ids: Sequence[str]) -> None:
        """Join the chunks of a step into its file, in the order of `ids`. DataError where answers are missing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunks = self._chunks(step)
        whole = pa.concat_tables([pq.read_table(path) for path in chunks])
        if len(whole) != (wanted := len(ids) * self.protocol.k):
            raise DataError(
                f"{self.path(step)}: {len(whole)} judged answers, expected {wanted}; the same command asks for the others"
            )
        order = {id: place for place, id in enumerate(ids)}
        place = pa.array([order[id] for id in whole["id"].to_pylist()])
        whole = whole.append_column("place", place).sort_by([("place", "ascending"), ("sample", "ascending")])
        samples.write(self.path(step), whole.drop_columns("place"))
        for path in chunks:
            path.unlink()

    def note_step(self, step: int, how: Mapping[str, Any]) -> None:
        """Record how a step was answered."""
        self.note(steps=self.record.get("steps", {}) | {str(step): dict(how)})

    def note(self, **facts: Any) -> None:
        """Record the protocol, and facts beside it."""
        self.dir.mkdir(parents=True, exist_ok=True)
        write_json(self.record_path, {"protocol": self.requested, "steps": {}} | self.record | facts)


def evaluation_lock(folder: RunFolder):
    """For a `with` block: a second evaluation of the same folder is refused; training is not."""
    return locked(folder.eval_dir / "lock", "evaluation")
