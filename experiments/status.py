"""The state of all runs below a folder: step, last score, time left, host, running or dead. A slow run is not called dead.

    python -m experiments.status                      # runs/
    python -m experiments.status runs_dir=/mnt/runs watch=true

The score is the newest of what stands for MATH500 at the run's scale. The time left includes evaluations and checkpoints.
A damaged file is named in its run's line.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from experiments import run_states
from rlvr.cli import ConfigError, command, option

WATCH_S = 2.0
PLAIN_WIDTH = 200


@dataclass
class Options:
    runs_dir: Path = option("the folder of runs; moved and shared ones too", Path("runs"))
    watch: bool = option("go on showing it, until Ctrl-C", False)


def console() -> Console:
    """The screen; a file or a pipe gets lines that are not broken at a terminal's width."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def show(options: Options) -> None:
    def now():
        return run_states.table(map(run_states.standing, run_states.folders(options.runs_dir)))

    if not options.runs_dir.is_dir():
        raise ConfigError(f"runs_dir={options.runs_dir}: no such folder; runs are made by run.py or experiments.launch")
    screen = console()
    if not options.watch:
        screen.print(now())
        return
    with Live(now(), console=screen, auto_refresh=False, vertical_overflow="visible") as live:
        try:
            while True:
                time.sleep(WATCH_S)
                live.update(now(), refresh=True)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    sys.exit(command(Options, show, __doc__))
