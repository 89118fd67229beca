"""What the user sees of a run: one progress line, the table at the end, or the cause of a failure in one line.

Training runs in Ray processes and writes the run folder; the driver follows that folder. Everything that Ray and verl
print goes to run.log.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from rlvr.runs.folder import RunFolder
from rlvr.stats import Interval, printed

if TYPE_CHECKING:
    from rlvr.runs.evaluations import Evaluations

RECENT_STEPS = 20
PLAIN_EVERY = 10
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ERROR_LINE = re.compile(
    r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Killed|Timeout|Conflict|Failed)(\(.*\))?(: .*)?$"
)


@contextmanager
def capture_output(log_path: str | Path) -> Iterator[Console]:
    """Append everything this process and its children print to a log; yields a Console on the real stdout."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(log_path, "a") as log, os.fdopen(os.dup(1), "w", encoding="utf-8") as screen:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield Console(file=screen)
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except OSError:  # the log's disk is full: what it did not take is not for the screen either
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                    os.dup2(nowhere.fileno(), 2)
                sys.stdout.flush()
                sys.stderr.flush()
            for descriptor, copy in enumerate(saved, start=1):
                os.dup2(copy, descriptor)
                os.close(copy)


class Follower:
    """Shows the progress of a run folder in a thread, for as long as its `with` block lasts.

    On a terminal one line that changes; elsewhere a line per phase and every `PLAIN_EVERY` steps.
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
        self._printed = -1
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
        if self.lines and step > self._printed and (step % PLAIN_EVERY == 0 or step == self.steps):
            self.console.print(f"step {step}/{self.steps}  {status}", soft_wrap=True)
            self._printed = step

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
    """Time of the steps, evaluations and checkpoints that are still to come, by those of the lines.

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


def summary_table(
    benchmarks: Mapping[str, Evaluations | None], saturation: int | None, steps: int, wall_s: float
) -> Table:
    """Base against last step, one row per benchmark (None: not evaluated), with 95 % intervals over its problems.

    saturation: the step from which training accuracy is at its ceiling. The last step is reported, not the best: a step
    chosen on a test set would flatter.
    """
    title = f"{steps} steps in {duration(wall_s)}"
    title += f"; training accuracy saturated at step {saturation}" if saturation is not None else "; not saturated"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("benchmark")
    for name in ["n", "base", f"step {steps}", "change", "since saturated"]:
        table.add_column(name, justify="right")
    for name, tested in benchmarks.items():
        if tested is None:
            table.add_row(name, "", "", "", "", "")
            continue
        percents = [Interval(*ends) * 100 for ends in zip(*tested.intervals(), strict=True)]
        base, final = percents[0], percents[-1]
        after = ""
        if saturation is not None and tested.steps[0] <= saturation < tested.steps[-1]:
            before = max(i for i, step in enumerate(tested.steps) if step <= saturation)
            after = printed(final.value - percents[before].value, "+.1f")
        change = printed(final.value - base.value, "+.1f")
        table.add_row(name, str(tested.shares.shape[1]), f"{base:.1f}", f"{final:.1f}", change, after)
    return table


def root_cause(error: BaseException) -> str:
    """The innermost "SomeError: message" of an exception, also of one that Ray carried here as a traceback's text."""
    cause = getattr(error, "cause", None)  # of a RayTaskError
    if isinstance(cause, BaseException):
        return root_cause(cause)
    lines = [ANSI.sub("", line) for line in str(error).splitlines()]
    found = [line for line in lines if ERROR_LINE.match(line)]
    if found and len(lines) > 1:
        return found[-1]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def report_failure(console: Console, error: BaseException, log_path: str | Path) -> None:
    """Print the cause in one line and where the whole log is.

    The traceback goes to stderr, which is the log (`capture_output`): not every process prints its own.
    """
    if isinstance(error, KeyboardInterrupt):
        console.print(f"interrupted; the same command resumes the run (log: {log_path})", soft_wrap=True)
        return
    with suppress(OSError):  # the log's disk is full
        traceback.print_exception(error)
    console.print(root_cause(error), style="bold red", markup=False, highlight=False, soft_wrap=True)
    console.print(f"full log: {log_path}", markup=False, highlight=False, soft_wrap=True)
