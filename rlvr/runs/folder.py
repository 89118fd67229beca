"""The run folder: plain files, the only interface between training and analysis. Imports neither torch, ray nor verl.

    runs/<scale>/<base_model>/<experiment[-variant]>/seed<k>/
      config.yaml  provenance.json  fidelity.json  metrics.jsonl  run.log  figure.png
      rollouts/step000001.parquet   eval/<benchmark>/step000000.parquet   checkpoints/   data/

A finished run is not run again. An unfinished run is resumed. A run may get more steps; any other change of its config is refused
(`config_changes`). To read, use `RunFolder(path)`. A process that trains opens the folder with `open_run`, which also locks it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

import yaml

from rlvr.runs.config_changes import refuse_other_config
from rlvr.runs.lock import is_locked, locked
from rlvr.runs.metrics_file import metrics_lines
from rlvr.runs.plain_files import LOADER, DamagedFile, RunFolderError, a_mapping, parsed, read_json, write_atomically, write_json

State = Literal["new", "unfinished", "finished"]


MIN_FREE_BYTES = 512 * 2**20
PROBE_BYTES = 2**24


def step_files(folder: Path) -> dict[int, Path]:
    """The files step<k>.parquet of a folder, sorted by step; other files are ignored."""
    named = ((re.fullmatch(r"step(\d+)\.parquet", path.name), path) for path in folder.glob("step*.parquet"))
    return dict(sorted((int(name[1]), path) for name, path in named if name))


class RunFolder:
    """The paths of one run. Creates nothing by itself."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_path = self.path / "config.yaml"
        self.provenance_path = self.path / "provenance.json"
        self.fidelity_path = self.path / "fidelity.json"  # rlvr/planning/fidelity.py
        self.metrics_path = self.path / "metrics.jsonl"
        self.log_path = self.path / "run.log"
        self.phase_path = self.path / "phase"  # what the run is doing, in a few words
        self.lock_path = self.path / "lock"
        self.figure_path = self.path / "figure.png"
        self.data_dir = self.path / "data"
        self.checkpoints_dir = self.path / "checkpoints"
        self.rollouts_dir = self.path / "rollouts"
        self.eval_dir = self.path / "eval"
        self._held = ExitStack()

    def rollouts_path(self, step: int) -> Path:
        return self.rollouts_dir / f"step{step:06d}.parquet"

    def eval_path(self, benchmark: str, step: int) -> Path:
        return self.eval_dir / benchmark / f"step{step:06d}.parquet"

    def baseline_path(self, name: str) -> Path:
        """The folder of a baseline of the untrained model (rlvr.evaluate.baselines)."""
        return self.path / "baselines" / name

    def config(self) -> dict:
        return parsed(self.config_path, lambda path: a_mapping(yaml.load(path.read_text(), LOADER)))

    @property
    def state(self) -> State:
        if not self.config_path.exists():
            return "new"
        return "finished" if self.ending() == "finished" else "unfinished"

    def ending(self) -> str:
        """The status in provenance.json, as the run wrote it. A run that was killed stays at "running"."""
        if not self.provenance_path.exists():
            return "unfinished"
        return read_json(self.provenance_path).get("status") or "unfinished"

    def status(self) -> str:
        """new, running, finished, failed, interrupted, unfinished, or died (status "running", but no process holds the lock)."""
        if not self.config_path.exists():
            return "new"
        ending = self.ending()
        if ending != "finished" and is_locked(self.lock_path):
            return "running"
        return "died" if ending == "running" else ending

    def last_step(self) -> int:
        """The last step with a complete metrics line, or -1."""
        return max((line["step"] for line in metrics_lines(self.metrics_path)), default=-1)

    def resume_step(self) -> int:
        """The step to resume from: the newest resumable checkpoint whose training metrics are on disk, or 0.

        The metrics are in metrics.jsonl or, during the step's evaluation, in `unevaluated_path`. So a crash leaves no gap in the curve.
        """
        last = self.last_step()
        known = (step for step in self.checkpoint_steps() if step <= last or self.unevaluated_path(step).exists())
        return max(filter(self.is_resumable, known), default=0)

    def checkpoint_steps(self) -> list[int]:
        """Steps with a checkpoint, or with its weights only, on disk."""
        named = (re.fullmatch(r"global_step_(\d+)", path.name) for path in self.checkpoints_dir.glob("global_step_*"))
        return sorted(int(name[1]) for name in named if name)

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints_dir / f"global_step_{step}"

    def unevaluated_path(self, step: int) -> Path:
        """The step's line of metrics.jsonl without its evaluation, stored before the evaluation begins."""
        return self.checkpoint_path(step) / "metrics.json"

    def weights_path(self, step: int) -> Path:
        """The Hugging Face folder of a checkpoint."""
        return self.checkpoint_path(step) / "actor" / "huggingface"

    def is_resumable(self, step: int) -> bool:
        """Whether optimiser state and data position are there too. verl writes data.pt last."""
        return (self.checkpoint_path(step) / "data.pt").exists()

    def check_checkpoint(self, step: int) -> None:
        """Raise DamagedFile if a file of the checkpoint is truncated. torch's files are zip archives."""
        checkpoint = self.checkpoint_path(step)
        for file in sorted(checkpoint.rglob("*.pt")):
            if not zipfile.is_zipfile(file):
                raise DamagedFile(
                    f"{file}: cannot be read (truncated, or not a checkpoint): remove {checkpoint}; the same command then "
                    "resumes from the checkpoint before it, or starts again"
                )

    def rewind(self, step: int) -> None:
        """Remove what a crashed attempt wrote after `step`."""
        for later in self.checkpoint_steps():
            if later > step:
                shutil.rmtree(self.checkpoint_path(later))
        for place in [self.rollouts_dir, *self.eval_dir.glob("*")]:
            for later, file in step_files(place).items():
                if later > step:
                    file.unlink()

    def cannot_write(self) -> str | None:
        """Why the folder cannot be written now (disk full or read-only), in one line; None if it can."""
        probe = self.path / ".probe"
        try:
            with open(probe, "wb") as file:
                file.write(bytes(PROBE_BYTES))
                os.fsync(file.fileno())
            return None
        except OSError as error:
            return f"{self.path}: cannot write ({error.strerror}): make room there, and the same command resumes the run"
        finally:
            with suppress(OSError):
                probe.unlink()

    def lock(self) -> None:
        """Lock the folder against other processes until `release` or the end of this process."""
        self._held.enter_context(locked(self.lock_path, "process"))

    def release(self) -> None:
        self._held.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def open_run(path: str | Path, config: dict, min_free_bytes: int = MIN_FREE_BYTES) -> RunFolder:
    """Open and lock the run folder for `config`. Its `state` then says what to do: run, resume, or nothing (finished).

    `config` is resolved, of dicts, lists and scalars. config.yaml is written if the folder is new or the run has grown.
    The folder stays locked until `release` or the end of a `with` block; a finished one is not locked.
    Raises what `check_place` raises, and RunFolderError if the folder is in use.
    """
    folder = RunFolder(path)
    if not check_place(folder, config, min_free_bytes) and folder.state == "finished":
        return folder
    try:
        folder.lock()
    except OSError as error:
        raise RunFolderError(
            f"{folder.path}: cannot write ({error.strerror}): give another runs_dir=<folder>"
        ) from None
    try:
        grown = check_place(folder, config, min_free_bytes)  # again: another process may have changed the folder
        if grown and folder.state == "finished":
            write_json(folder.provenance_path, read_json(folder.provenance_path) | {"status": "unfinished"})
        if grown or folder.state == "new":
            text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
            write_atomically(folder.config_path, text)
    except BaseException:
        folder.release()
        raise
    return folder


def check_place(folder: RunFolder, config: dict, min_free_bytes: int = MIN_FREE_BYTES) -> dict:
    """Check that a run with this config can use the folder, apart from the lock. Returns the keys that have grown.

    Raises RunConflict for a run of another config, and RunFolderError if the folder holds other files, cannot be written, or its
    disk is full.
    """
    grown = refuse_other_config(folder, config)
    if folder.state == "finished" and not grown:
        return grown
    if folder.state == "new" and folder.path.is_dir():
        if left := sorted(f.name for f in folder.path.iterdir() if f.name not in ("lock", "run.log", "phase")):
            raise RunFolderError(
                f"{folder.path}: holds {', '.join(left[:3])} but no config.yaml, so it is not a run folder: "
                "move the folder away, or give variant=<name>"
            )
    place = existing(folder.path)
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".rlvr-", dir=place))
    except OSError as error:
        raise RunFolderError(
            f"{folder.path}: cannot write below {place} ({error.strerror}): give another runs_dir=<folder>"
        ) from None
    free = shutil.disk_usage(place).free
    if free < min_free_bytes:
        raise RunFolderError(
            f"{folder.path}: {free / 2**30:.2f} GiB free on this disk, at least {min_free_bytes / 2**30:.2f} needed: "
            "free some space or give another runs_dir=<folder>"
        )
    return grown


def existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
