"""The run folder: plain files, the only contract between training and analysis. Loads neither torch, ray nor verl.

    runs/<scale>/<base_model>/<experiment[-variant]>/seed<k>/
      config.yaml  provenance.json  fidelity.json  metrics.jsonl  run.log  figure.png
      rollouts/step000001.parquet   eval/<benchmark>/step000000.parquet   checkpoints/   data/

A finished run is not run again, an unfinished one is resumed, a run may grow (MAY_GROW), any other changed config is
refused. Reading needs only `RunFolder(path)`; a process that trains opens the folder with `open_run`, which also locks it.
A file that cannot be read is a DamagedFile, whoever reads it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from filelock import FileLock, Timeout

from rlvr.cli import ConfigError

if TYPE_CHECKING:
    import pandas as pd

State = Literal["new", "unfinished", "finished"]

MIN_FREE_BYTES = 512 * 2**20
PROBE_BYTES = 2**24
# A lock's holder touches it so often; one that was not touched for so long has no holder.
TOUCH_S = 2.0
SILENT_S = 10.0
# Reads a configuration in 8 ms instead of 55; whole sweeps are read at once.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
RENAMED = {"torch_cpu": "torch"}  # values of older runs' configs that mean the same: the rollout engine
# What two starts of one run may differ in: a key here, and all below it. Paths inside the run folder may move with it.
MAY_DIFFER = ("tracking", "runs_dir", "run_dir", "check", "all", "watchdog", "trainer.logger", "ray", "ray_kwargs")
# What may change on a run that is there, to no fewer steps than it has; it then goes on from its last checkpoint. With the
# keys that follow it.
MAY_GROW = {"scale.steps": ("trainer.total_training_steps", "trainer.total_epochs")}
MAX_SHOWN = 8


def step_files(folder: Path) -> dict[int, Path]:
    """The files step<k>.parquet of a folder by step, rising; what else lies there, a copy by hand perhaps, is passed over."""
    named = ((re.fullmatch(r"step(\d+)\.parquet", path.name), path) for path in folder.glob("step*.parquet"))
    return dict(sorted((int(name[1]), path) for name, path in named if name))


class RunFolderError(ConfigError):
    """The run folder cannot be used; the message says why and what to do, in one line."""


class RunConflict(RunFolderError):
    """The folder holds a run of another config."""


class DamagedFile(RunFolderError):
    """A file of a run folder that cannot be read; the message names it, in one line."""


class RunFolder:
    """The paths of one run. Creates nothing by itself."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_path = self.path / "config.yaml"
        self.provenance_path = self.path / "provenance.json"
        self.fidelity_path = self.path / "fidelity.json"  # rlvr/planning/fidelity.py
        self.metrics_path = self.path / "metrics.jsonl"
        self.log_path = self.path / "run.log"
        self.phase_path = self.path / "phase"  # what a run is doing before its first step, in a few words
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
        """The folder of one of the untrained model's baselines (rlvr.evaluate.baselines)."""
        return self.path / "baselines" / name

    def config(self) -> dict:
        return parsed(self.config_path, lambda path: _a_mapping(yaml.load(path.read_text(), LOADER)))

    @property
    def state(self) -> State:
        if not self.config_path.exists():
            return "new"
        return "finished" if self.ending() == "finished" else "unfinished"

    def ending(self) -> str:
        """The status in provenance.json, as the run wrote it: one that was killed says "running" for ever."""
        if not self.provenance_path.exists():
            return "unfinished"
        return read_json(self.provenance_path).get("status") or "unfinished"

    def status(self) -> str:
        """new, running, finished, failed, interrupted, unfinished, or died: it says that it runs, and no process holds its lock."""
        if not self.config_path.exists():
            return "new"
        ending = self.ending()
        if ending != "finished" and is_locked(self.lock_path):
            return "running"
        return "died" if ending == "running" else ending

    def last_step(self) -> int:
        """The last step with a complete metrics line, -1 without any."""
        return max((line["step"] for line in metrics_lines(self.metrics_path)), default=-1)

    def resume_step(self) -> int:
        """The step to resume from: the newest resumable checkpoint whose metrics line is complete, 0 without any.

        verl saves a checkpoint before it evaluates and writes that step's metrics; a crash in between must not leave a
        hole in the curve.
        """
        last = self.last_step()
        return max((step for step in self.checkpoint_steps() if step <= last and self.is_resumable(step)), default=0)

    def checkpoint_steps(self) -> list[int]:
        """Steps of which a checkpoint, or its weights only, is on disk."""
        named = (re.fullmatch(r"global_step_(\d+)", path.name) for path in self.checkpoints_dir.glob("global_step_*"))
        return sorted(int(name[1]) for name in named if name)

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints_dir / f"global_step_{step}"

    def weights_path(self, step: int) -> Path:
        """The Hugging Face folder of a checkpoint."""
        return self.checkpoint_path(step) / "actor" / "huggingface"

    def is_resumable(self, step: int) -> bool:
        """Whether the optimiser and the place in the data are there too; verl writes data.pt after all else."""
        return (self.checkpoint_path(step) / "data.pt").exists()

    def check_checkpoint(self, step: int) -> None:
        """DamagedFile when a file that training resumes from has lost its end: torch's files are zip archives."""
        checkpoint = self.checkpoint_path(step)
        for file in sorted(checkpoint.rglob("*.pt")):
            if not zipfile.is_zipfile(file):
                raise DamagedFile(
                    f"{file}: cannot be read (cut off, or no checkpoint): remove {checkpoint}, and the same command goes "
                    "on from the checkpoint before it, else from the beginning"
                )

    def rewind(self, step: int) -> None:
        """Remove what a crashed attempt wrote after `step`, so that the files of a resumed run agree."""
        for later in self.checkpoint_steps():
            if later > step:
                shutil.rmtree(self.checkpoint_path(later))
        for place in [self.rollouts_dir, *self.eval_dir.glob("*")]:
            for later, file in step_files(place).items():
                if later > step:
                    file.unlink()

    def cannot_write(self) -> str | None:
        """Why nothing can be written here now (a full disk, one that is read-only), in one line; None: it can."""
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
        """Keep every other process out until `release` or the end of this process."""
        self._held.enter_context(locked(self.lock_path, "process"))

    def release(self) -> None:
        self._held.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def open_run(path: str | Path, config: dict, min_free_bytes: int = MIN_FREE_BYTES) -> RunFolder:
    """Claim the run folder for `config`; its `state` then says what to do: run, resume, or nothing (finished).

    `config` is resolved and plain (dicts, lists, scalars). A folder that is new gets its config.yaml, and one whose run
    grows the new one. Unless finished, the folder is locked until `release` (or the end of a `with` block).
    Raises RunConflict for another config, RunFolderError when the folder is in use, not writable or the disk is full.
    """
    folder = RunFolder(path)
    if folder.state == "finished" and not refuse_other_config(folder, config):
        return folder
    try:
        folder.lock()
    except OSError as error:
        raise RunFolderError(
            f"{folder.path}: cannot write ({error.strerror}): give another runs_dir=<folder>"
        ) from None
    try:
        _refuse_full_disk(folder.path, min_free_bytes)
        if folder.config_path.exists():
            if refuse_other_config(folder, config):
                if folder.state == "finished":
                    write_json(folder.provenance_path, read_json(folder.provenance_path) | {"status": "unfinished"})
                _write_config(folder, config)
        elif left := sorted(f.name for f in folder.path.iterdir() if f.name not in ("lock", "run.log", "phase")):
            raise RunFolderError(
                f"{folder.path}: holds {', '.join(left[:3])} but no config.yaml, so what made them is unknown: "
                "move the folder away, or give variant=<name>"
            )
        else:
            _write_config(folder, config)
    except BaseException:
        folder.release()
        raise
    return folder


def _write_config(folder: RunFolder, config: dict) -> None:
    write_atomically(folder.config_path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file that the kernel drops with this process, kill -9 included (flock; on NFS by its lock service).

    Not every shared disk tells its hosts of each other's locks, so the holder also touches the file every few seconds, and
    empties it when done. RunFolderError when another process, a `what`, has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
        holder = path.read_text(errors="replace").strip()[:200]
        if _elsewhere(holder) and _is_touched(path):
            lock.release()
            raise Timeout(str(path))
    except Timeout:
        holder = path.read_text(errors="replace").strip()[:200] or "unknown"
        raise RunFolderError(
            f"{path.parent}: another {what} ({holder}) runs here: wait for it or stop it"
        ) from None
    done = threading.Event()
    try:
        path.write_text(f"pid {os.getpid()} on {socket.gethostname()}")
        threading.Thread(target=_touch, args=(path, done), name="lock", daemon=True).start()
        yield
    finally:
        done.set()
        with suppress(OSError):
            path.write_text("")
        lock.release()


def _elsewhere(holder: str) -> bool:
    return holder != "" and not holder.endswith(f" on {socket.gethostname()}")


def _touch(path: Path, done: threading.Event) -> None:
    while not done.wait(TOUCH_S):
        with suppress(OSError):
            os.utime(path)


def _is_touched(path: Path) -> bool:
    """Whether somebody touches a file, seen by its own times alone: clocks of two hosts differ. Takes SILENT_S when not."""
    before, deadline = _changed(path), time.monotonic() + SILENT_S
    while time.monotonic() < deadline:
        time.sleep(TOUCH_S / 4)
        if _changed(path) != before:
            return True
    return False


def _changed(path: Path) -> int:
    with open(path) as file:  # opened, for NFS keeps the times of a file that is not for up to a minute
        return os.fstat(file.fileno()).st_mtime_ns


def config_differences(old: Mapping, new: Mapping) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value) for all keys that matter to a run; an absent value is "(none)".

    A null that the other does not have is no difference: an option that came later and is not used.
    """
    old, new = _flat(old), _flat(new)
    return {
        key: (old.get(key, "(none)"), new.get(key, "(none)"))
        for key in old | new
        if old.get(key) != new.get(key) and not any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)
    }


def in_this_copy(path: str) -> str:
    """Map a path inside another checkout's rlvr/ to this one, where that file is here too; other texts stay as they are."""
    _, found, inside = path.rpartition("/rlvr/")
    here = Path(__file__).parents[1] / inside
    return str(here) if found and inside and here.exists() else path


def _flat(config: Mapping) -> dict[str, Any]:
    """Leaves by dotted key; where the run folder and this package are is taken out of every path."""
    place = str(config.get("run_dir", ""))
    leaves: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), item)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for i, item in enumerate(value):
                visit(f"{prefix}[{i}]", item)
        else:
            if isinstance(value, str):
                value = RENAMED.get(value) or in_this_copy(value.replace(place, "<run_dir>") if place else value)
            leaves[prefix] = value

    visit("", config)
    return leaves


def refuse_other_config(folder: RunFolder, config: dict) -> dict[str, tuple[Any, Any]]:
    """RunConflict when the folder holds a run whose config differs from this one, resolved and plain.

    What only grew is returned: dotted key -> (old value, new value).
    """
    if folder.state == "new":
        return {}
    stored, plain = folder.config(), yaml.safe_load(yaml.safe_dump(config, sort_keys=False))
    differences = config_differences(stored, plain)
    grown = _grown(stored, plain, differences, folder.last_step())
    for key in grown:
        for follows in (key, "overrides", *MAY_GROW[key]):
            differences.pop(follows, None)
    if differences:
        shown = [f"{key}: {old} → {new}" for key, (old, new) in list(differences.items())[:MAX_SHOWN]]
        if len(differences) > MAX_SHOWN:
            shown.append(f"and {len(differences) - MAX_SHOWN} more")
        raise RunConflict(
            f"{folder.path} holds a run of another config ({'; '.join(shown)}): give variant=<name> or another runs_dir"
        )
    if grown and folder.state == "finished" and not folder.resume_step():
        raise RunConflict(
            f"{folder.path}: has no checkpoint to go on from, so it cannot grow ({', '.join(grown)}): give variant=<name>"
        )
    return grown


def may_grow(config: Mapping) -> dict[str, Any]:
    """The values of MAY_GROW in a configuration, those that it has."""
    flat = _flat(config)
    return {key: flat[key] for key in MAY_GROW if key in flat}


def _grown(
    old: Mapping, new: Mapping, differences: Mapping[str, tuple[Any, Any]], done: int
) -> dict[str, tuple[Any, Any]]:
    """The keys of MAY_GROW that differ and do not end before the steps `done`, where the overrides differ in nothing else."""
    grown = {key: differences[key] for key in MAY_GROW if key in differences}
    if not all(isinstance(value, int) and value >= done for _, value in grown.values()):
        return {}
    others = [
        [o for o in config.get("overrides") or [] if o.partition("=")[0] not in grown] for config in (old, new)
    ]
    return grown if others[0] == others[1] else {}


def _refuse_full_disk(path: Path, min_free_bytes: int) -> None:
    free = shutil.disk_usage(path).free
    if free < min_free_bytes:
        raise RunFolderError(
            f"{path}: {free / 2**30:.2f} GiB free on this disk, at least {min_free_bytes / 2**30:.2f} needed: "
            "free some space or give another runs_dir=<folder>"
        )


def is_locked(path: Path) -> bool:
    """Whether a living process holds a lock file. Writes nothing; the lock asked for is a shared one, given back at once."""
    if not path.exists():
        return False
    with open(path, errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        # Held by a host whose locks are not seen here, unless clocks are further apart than this.
        return _elsewhere(file.read(200)) and abs(time.time() - os.fstat(file.fileno()).st_mtime) < SILENT_S


def parsed(path: Path, parse: Callable[[Path], Any]) -> Any:
    """What a file of a run folder says. DamagedFile when it is there and cannot be read, FileNotFoundError without it."""
    try:
        return parse(path)
    except (FileNotFoundError, DamagedFile):
        raise
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise DamagedFile(f"{path}: cannot be read ({' '.join(str(error).split())[:100]})") from None


def _a_mapping(value: Any) -> dict:
    if not isinstance(value, dict):
        raise ValueError("expected keys and values")
    return value


def read_json(path: Path) -> dict:
    return parsed(path, lambda file: _a_mapping(json.loads(file.read_text())))


def write_json(path: Path, record: Mapping) -> None:
    write_atomically(path, json.dumps(record, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace the file as a whole: after a crash it is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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
    line = _a_mapping(json.loads(text))
    return line | {"step": int(line["step"])}


def read_metrics(path: str | Path) -> pd.DataFrame:
    """One row per step, columns as written; NaN where a step has no such value (evaluations)."""
    import pandas as pd

    return pd.DataFrame(metrics_lines(path))
