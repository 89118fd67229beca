"""What the user sees when a run ends: the table of its results, or the cause of a failure in one line.

Everything that Ray and verl print goes to run.log.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rlvr.stats import Interval, printed
from rlvr.training.progress import duration

if TYPE_CHECKING:
    from rlvr.runs.evaluations import Evaluations

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
            except OSError:  # the log's disk is full: what was not written is discarded, not shown on the screen
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                    os.dup2(nowhere.fileno(), 2)
                sys.stdout.flush()
                sys.stderr.flush()
            for descriptor, copy in enumerate(saved, start=1):
                os.dup2(copy, descriptor)
                os.close(copy)


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

    The traceback goes to stderr, which is the log (`capture_output`), because not every process prints its own.
    """
    if isinstance(error, KeyboardInterrupt):
        console.print(f"interrupted; the same command resumes the run (log: {log_path})", soft_wrap=True)
        return
    with suppress(OSError):  # the log's disk is full
        traceback.print_exception(error)
    console.print(root_cause(error), style="bold red", markup=False, highlight=False, soft_wrap=True)
    console.print(f"full log: {log_path}", markup=False, highlight=False, soft_wrap=True)
