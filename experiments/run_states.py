"""The progress of a run, read from its folder: state, step, last score, time left, host. Loads neither torch, ray nor hydra.

Reads only the end of metrics.jsonl, and uses no path in a configuration: a runs_dir may have been moved, or be shared.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.table import Table
from rich.text import Text

from rlvr.data import scales
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_line
from rlvr.runs.plain_files import LOADER, DamagedFile, parsed, read_json
from rlvr.training.progress import duration, seconds_left

TAIL_BYTES = 2**18  # of metrics.jsonl: about 200 steps, so several evaluations
RECENT_STEPS = 20
COLORS = {"failed": "red", "refused": "red", "died": "red", "running": "green", "finished": "dim"}
# The only part of a resolved configuration that is parsed: all of it takes fifty times as long.
SCALE_BLOCK = re.compile(r"^scale:\n((?: .*\n)+)", re.MULTILINE)


@dataclass
class RunState:
    """The progress of one run.

    cause: of a failure or of damage; the phase of a running run. left_s: seconds until the end. quiet_s: since the last step.
    """

    folder: RunFolder
    state: str
    cause: str = ""
    host: str = ""
    step: int | None = None
    steps: int | None = None
    score: str = ""
    left_s: float | None = None
    quiet_s: float | None = None


def name(folder: RunFolder) -> str:
    """<scale>/<base model>/<experiment>/seed<k>."""
    return "/".join(folder.path.parts[-4:])


def folders(runs_dir: Path) -> list[RunFolder]:
    """All run folders below `runs_dir`, by path."""
    return [RunFolder(path) for path in sorted(runs_dir.glob("*/*/*/seed*")) if path.is_dir()]


def read_state(folder: RunFolder, is_child: bool = False) -> RunState:
    """Read one run. is_child: it is a child process of the caller, so its lock is not checked."""
    found = RunState(folder, "new")
    try:
        _fill(found, is_child)
    except DamagedFile as error:
        found.state, found.cause = "damaged", str(error)
    return found


def _fill(found: RunState, is_child: bool) -> None:
    folder = found.folder
    record = read_json(folder.provenance_path) if folder.provenance_path.exists() else {}
    lines = parsed(folder.metrics_path, _last_lines) if folder.metrics_path.exists() else []
    if not folder.config_path.exists():
        if record or lines:
            raise DamagedFile(f"{folder.config_path}: is missing, so the settings of this run are unknown")
        if is_child:
            found.state, found.cause = "running", "starting"
        return
    scale = parsed(folder.config_path, _scale)
    found.state = "running" if is_child else folder.status()
    if found.state == "running":
        found.cause = folder.phase_path.read_text().strip() if folder.phase_path.exists() else "starting"
    elif found.state == "failed":
        found.cause = record.get("error") or "no cause is recorded"
    elif found.state == "died":
        found.cause = "no living process holds its lock"
    starts = [record, *record.get("resumed_at", [])]
    found.host = starts[-1].get("hardware", {}).get("host", "")
    found.steps = scale["steps"]
    if lines:
        found.step, found.score = lines[-1]["step"], _score(lines, scale["name"])
    if lines and found.state == "running":
        found.left_s = seconds_left(lines, scale)
        found.quiet_s = max(0.0, time.time() - folder.metrics_path.stat().st_mtime)


def _scale(path: Path) -> dict:
    """The block `scale` of a resolved configuration."""
    block = SCALE_BLOCK.search(path.read_text())
    if block is None:
        raise ValueError("has no scale")
    scale = yaml.load(block[1], LOADER)
    return scale | {"steps": int(scale["steps"]), "name": str(scale["name"])}


def _last_lines(path: Path) -> list[dict]:
    """The last RECENT_STEPS complete lines of metrics.jsonl, and the lines with an evaluation in its last TAIL_BYTES."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    if size > TAIL_BYTES:
        del lines[0]
    recent = len(lines) - RECENT_STEPS
    return [metrics_line(line) for i, line in enumerate(lines) if i >= recent or b'"eval/' in line]


def _score(lines: list[dict], scale: str) -> str:
    """The newest accuracy in percent, on the benchmark that stands for MATH500 at this scale."""
    for line in reversed(lines):
        tested = [key.split("/")[1] for key in line if key.startswith("eval/") and key.endswith("/accuracy")]
        if tested:
            shown = scales.shown(scale, tested)
            return f"{shown} {100 * line[f'eval/{shown}/accuracy']:.1f}"
    return ""


def table(runs: Iterable[RunState]) -> Table:
    """One line for each run; the number of runs in each state is the title."""
    runs = list(runs)
    counts = Counter(run.state for run in runs)
    title = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    shown = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for title in ("run", "step", "score", "left", "host", "state"):
        shown.add_column(title, justify="right" if title in ("step", "left") else "left", overflow="fold")
    for run in runs:
        state = f"{run.state}: {run.cause}" if run.cause else run.state
        if run.quiet_s is not None:
            state += f", last step {duration(run.quiet_s)} ago"
        step = "" if run.step is None else f"{run.step}/{run.steps}"
        left = "" if run.left_s is None else duration(run.left_s)
        shown.add_row(
            *map(Text, (name(run.folder), step, run.score, left, run.host)), Text(state, COLORS.get(run.state, ""))
        )
    return shown
