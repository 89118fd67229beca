"""Shows the state of all runs below a folder: step, score, time left, host, running or dead. A slow run does not count as dead.

    python -m experiments.status                      # runs/
    python -m experiments.status runs_dir=/mnt/runs watch=true

The score is the newest accuracy on the benchmark that stands for MATH500 at the run's scale. The time left includes
evaluations and checkpoints. The line of a run names a damaged file.
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
    watch: bool = option("update the table until Ctrl-C", False)


def console() -> Console:
    """The terminal; a file or a pipe gets lines of PLAIN_WIDTH characters."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def show(options: Options) -> None:
    def now():
        return run_states.table(map(run_states.read_state, run_states.folders(options.runs_dir)))

    if not options.runs_dir.is_dir():
        raise ConfigError(f"runs_dir={options.runs_dir}: no such folder; run.py and experiments.launch make runs")
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
