"""Time and memory of a run as a user sees them: from the command to the first rollout, and to the table at the end.

`memory=true` sums the proportional memory (PSS, Linux) of all processes every three seconds. This takes time itself, so the
times then do not count. Runs go to a temporary folder.

    python -m experiments.timings.main_job [repeats=3] [memory=true] [run="+experiment=one_shot seed=1"]
"""

import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rlvr.cli import ConfigError, command, option

MEMORY_EVERY_S = 3.0


def pss(pid: int) -> float:
    """GiB of a process and all its descendants; each shared page counts once."""
    import psutil

    total, root = 0, psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # the process has ended
    return total / 2**30


def once(arguments: list[str], memory: bool) -> dict[str, float]:
    """Seconds from the command on, and with `memory` the peak in GiB. ConfigError if the run fails."""
    measured = {"memory": 0.0} if memory else {}
    with tempfile.TemporaryDirectory() as runs:
        started = looked = time.perf_counter()
        run = subprocess.Popen([sys.executable, "run.py", *arguments, f"runs_dir={runs}"], stdout=subprocess.DEVNULL)
        while run.poll() is None:
            time.sleep(0.02)
            now = time.perf_counter()
            if "first rollout" not in measured:
                phases = [path.read_text() for path in Path(runs).rglob("phase")]
                if any(phase in ("evaluating", "training") for phase in phases):
                    measured["first rollout"] = now - started
            if memory and now - looked > MEMORY_EVERY_S:
                looked, measured["memory"] = now, max(measured["memory"], pss(run.pid))
        measured["table"] = time.perf_counter() - started
        if run.returncode:
            raise ConfigError(f"run={shlex.join(arguments)}: exit code {run.returncode}, for the reason above")
    return measured


@dataclass
class Options:
    repeats: int = option("of the run", 3, at_least=1)
    memory: bool = option("measure memory instead of time", False)
    run: str = option("arguments of run.py", "+experiment=one_shot")


def measure(options: Options) -> None:
    runs = []
    for repeat in range(options.repeats):
        runs.append(once(shlex.split(options.run), options.memory))
        measured = "  ".join(f"{name} {value:.1f}" for name, value in runs[-1].items())
        print(f"run {repeat + 1}: {measured}", flush=True)
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name}: min {min(values):.1f}, median {median(values):.1f}, max {max(values):.1f} of {len(values)}")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
