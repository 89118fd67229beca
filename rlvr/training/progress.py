"""The progress line of a run. Training runs in Ray processes and writes the run folder; the driver follows that folder."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from rlvr.runs.folder import RunFolder
from rlvr.stats import printed

RECENT_STEPS = 20
# Without a terminal a line is printed every so many steps, and after so many seconds where steps are slow.
PLAIN_EVERY, PLAIN_S = 10, 60.0


class Follower:
    """Shows the progress of a run folder in a thread, for as long as its `with` block lasts.

    On a terminal one line that changes; elsewhere a line per phase, and lines of steps (PLAIN_EVERY, PLAIN_S).
    scale: its steps, evaluate_every and save_every. benchmark: the one whose accuracy is shown, by its name in eval/<name>/accuracy.
    """

    def __init__(self, console: Console, folder: RunFolder, scale: Mapping, benchmark: str, poll_s: float = 0.5):
        self.console = console
        self.folder = folder
        self.scale = scale
        self.steps = scale["steps"]
        self.benchmark = benchmark
        self.poll_s = poll_s
        self.lines: list[dict] = []
        self._offset = 0
        self._phase = ""
        self._printed, self._printed_at = -1, time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        # Without redirects: file descriptor 1 is the log by now, and prints of others belong there.
        self._progress = Progress(
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            *([BarColumn(bar_width=16)] if console.width >= 100 else []),
            TextColumn("{task.fields[status]}"),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("step", total=self.steps, status="starting")

    def __enter__(self) -> Follower:
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self._show()
        self._progress.stop()

    def _follow(self) -> None:
        while not self._stop.wait(self.poll_s):
            self._show()

    def _show(self) -> None:
        self._read()
        phase = self.folder.phase_path.read_text().strip() if self.folder.phase_path.exists() else ""
        step = self.lines[-1]["step"] if self.lines else 0
        status = status_text(self.lines, self.scale, self.benchmark) if self.lines else ""
        waiting = phase if step == 0 or "eval" in phase else ""
        self._progress.update(self._task, completed=step, status="  ".join(filter(None, [status, waiting])))
        if self.console.is_terminal:
            return
        if phase != self._phase and step == 0:
            self.console.print(phase)
        self._phase = phase
        due = step % PLAIN_EVERY == 0 or step == self.steps or time.monotonic() - self._printed_at > PLAIN_S
        if self.lines and step > self._printed and due:
            self.console.print(f"step {step}/{self.steps}  {status}", soft_wrap=True)
            self._printed, self._printed_at = step, time.monotonic()

    def _read(self) -> None:
        path = self.folder.metrics_path
        if not path.exists():
            return
        if path.stat().st_size < self._offset:  # rewound by a resume
            self._offset, self.lines = 0, []
        with open(path, "rb") as file:
            file.seek(self._offset)
            complete = file.read().rpartition(b"\n")
        self.lines += [json.loads(line) for line in complete[0].splitlines()]
        self._offset += len(complete[0]) + len(complete[1])


def status_text(lines: list[dict], scale: Mapping, benchmark: str) -> str:
    """The values of the progress line: reward, training and test accuracy, seconds per step, time left."""
    last = lines[-1]
    parts = []
    if "train/reward" in last:
        parts += [f"reward {last['train/reward']:.2f}", f"train {100 * last['train/accuracy']:.0f}%"]
    tested = [line[f"eval/{benchmark}/accuracy"] for line in lines if f"eval/{benchmark}/accuracy" in line]
    if tested:
        parts.append(f"{benchmark} {printed(100 * tested[-1], '.1f')}%")
    recent = [line for line in lines if "time/step_s" in line][-RECENT_STEPS:]
    if recent:
        parts.append(f"{median(line['time/step_s'] for line in recent):.1f} s/step")
        if left_s := seconds_left(lines, scale):
            parts.append(f"{duration(left_s)} left")
    return "  ".join(parts)


def seconds_left(lines: list[dict], scale: Mapping) -> float | None:
    """Seconds for the steps, evaluations and checkpoints to come, from the medians of those in `lines`.

    scale: its steps, evaluate_every and save_every. None before the first step.
    """

    def typical(key: str) -> float:
        return median([line[key] for line in lines if key in line] or [0.0])

    def due(every: int) -> int:
        return sum(step % every == 0 or step == scale["steps"] for step in left)

    steps = [line["time/step_s"] - line.get("time/save_s", 0.0) for line in lines if "time/step_s" in line]
    left = range(lines[-1]["step"] + 1, scale["steps"] + 1)
    if not steps:
        return None
    evaluating = due(scale["evaluate_every"]) * typical("time/eval_s")
    return len(left) * median(steps) + evaluating + due(scale["save_every"]) * typical("time/save_s")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
