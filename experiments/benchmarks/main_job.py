"""Seconds and memory of the main job, as a user meets them: from the command to the first rollout, and to the table.

`memory=true` also sums the proportional memory (PSS, Linux) of all processes every three seconds, which takes time
itself: measure one or the other. Runs go to a temporary folder. Measure with nothing else running.

    python -m experiments.benchmarks.main_job [repeats=3] [memory=true] [+experiment=one_shot seed=1 ...]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

MEMORY_EVERY_S = 3.0


def pss(root: psutil.Process) -> float:
    """GiB of a process and all its descendants, shared pages counted once."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has ended
    return total / 2**30


def once(arguments: list[str], memory: bool) -> dict[str, float]:
    """Times in seconds from the command on, and the highest memory in GiB. RuntimeError when the run fails."""
    measured = {"memory": 0.0} if memory else {}
    with tempfile.TemporaryDirectory() as runs:
        started = looked = time.perf_counter()
        run = subprocess.Popen(
            [sys.executable, "run.py", *arguments, f"runs_dir={runs}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip
        while run.poll() is None:
            time.sleep(0.02)
            now = time.perf_counter()
            if "first rollout" not in measured:
                phases = [path.read_text() for path in Path(runs).rglob("phase")]
                if any(phase in ("evaluating", "training") for phase in phases):
                    measured["first rollout"] = now - started
            if memory and now - looked > MEMORY_EVERY_S:
                looked, measured["memory"] = now, max(measured["memory"], pss(psutil.Process(run.pid)))
        measured["table"] = time.perf_counter() - started
        if run.returncode:
            raise RuntimeError(run.stdout.read() if run.stdout else "")
    return measured


def main(arguments: list[str]) -> None:
    ours = dict(a.split("=") for a in arguments if a.split("=")[0] in ("repeats", "memory"))
    run = [a for a in arguments if a.split("=")[0] not in ours] or ["+experiment=one_shot"]
    repeats = int(ours.get("repeats", 3))
    runs = []
    for repeat in range(repeats):
        runs.append(once(run, ours.get("memory") == "true"))
        print(f"run {repeat + 1}: " + "  ".join(f"{name} {value:.1f}" for name, value in runs[-1].items()), flush=True)
    for name in runs[0]:
        values = [measured[name] for measured in runs]
        print(f"{name}: min {min(values):.1f}, median {median(values):.1f} of {repeats}")


if __name__ == "__main__":
    main(sys.argv[1:])
