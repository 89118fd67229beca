"""provenance.json of a run folder: what ran, from which code, with which versions, on which machine, and how it ended.

Call `begin` before training and `end` after it. A run that was killed keeps the status "running"; without a lock on its folder
it counts as unfinished. Unknown fields (no git, no nvidia-smi) are null or empty.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal, TypedDict

from rlvr.cli import usable_cores
from rlvr.runs.config_changes import may_grow
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import read_json, write_json

Ending = Literal["finished", "failed", "interrupted"]


class Change(TypedDict):
    """From `step` on, `key` has the value `new` instead of `old`."""

    step: int
    key: str
    old: Any
    new: Any


def begin(folder: RunFolder, step: int = 0, changed: Sequence[Change] = ()) -> None:
    """Record a start, or, if the folder has a record, a resume at `step` (0: from the beginning).

    changed: changes to record. Values that have grown since the start before are added.
    """
    growing = may_grow(folder.config())
    start = {"command": sys.argv, "start": now(), "git": git_state(), "hardware": hardware(), "may_grow": growing}
    if folder.provenance_path.exists():
        record = read_json(folder.provenance_path)
        before = [record, *record["resumed_at"]][-1].get("may_grow", {})
        grown = [
            Change(step=step, key=key, old=before[key], new=value)
            for key, value in growing.items()
            if before.get(key, value) != value
        ]
        record["changed"] = [*record.get("changed", []), *changed, *grown]
        record["resumed_at"].append({"step": step, **start})
    else:
        record = {**start, "python": platform.python_version(), "packages": packages(), "resumed_at": []}
    record |= {"status": "running", "end": None, "error": None}
    write_json(folder.provenance_path, record)


def end(folder: RunFolder, status: Ending, error: str | None = None) -> None:
    """Record how the run ended; `error` is the cause, in one line."""
    record = read_json(folder.provenance_path)
    record |= {"status": status, "end": now(), "error": error}
    write_json(folder.provenance_path, record)


def changes(folder: RunFolder) -> list[Change]:
    """The changes of a run since its first start, oldest first."""
    return read_json(folder.provenance_path).get("changed", []) if folder.provenance_path.exists() else []


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def git_state() -> dict[str, str | bool | None]:
    """Commit of the code that runs, and whether tracked files differ from it; both null outside a git checkout."""
    here = Path(__file__).resolve().parent
    commit = _output("git", "-C", str(here), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(here), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "dirty": None if changes is None else bool(changes)}


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {dist.metadata["Name"]: dist.version for dist in distributions() if dist.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def hardware() -> dict:
    """Processor, cores this process may use, memory, and the GPUs that nvidia-smi lists ("name, memory, driver")."""
    import psutil

    gpus = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus.splitlines() if gpus else [],
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """The output of a command; None if it does not exist or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
