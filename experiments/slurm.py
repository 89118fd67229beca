"""Submits the runs of a sweep as tasks of one Slurm array, for `experiments.launch launch=slurm`.

conf/launch/slurm.yaml has the options. conf/launch/slurm.sh is one task: start the run, requeue it at the time limit, resume.
Neither submitit nor hydra-submitit-launcher is used. The result of a run is its folder, so nothing must be pickled and no
program must wait. The Hydra launcher waits until every job has ended, and one dead job loses all results. submitit requeues
on SIGUSR2 only, kills the processes that the signal reaches, and cannot start Ray on several nodes. One call of sbatch
replaces both. `experiments.status` shows the runs. The same launch again submits the runs that are neither finished, running
nor queued.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from analysis.needed_runs import Planned
from rlvr.cli import ConfigError, did_you_mean

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf" / "launch"
# Options of sbatch with the same names.
FLAGS = ("partition", "account", "time", "nodes", "gpus_per_node", "cpus_per_task", "mem")


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """conf/launch/slurm.yaml, changed by `launch.<key>=<value>`. ConfigError for an unknown key or a bad value."""
    known = yaml.safe_load((CONF / "slurm.yaml").read_text())
    for override in overrides:
        key, _, text = override.partition("=")
        key = key.removeprefix("launch.")
        if key not in known:
            raise ConfigError(f"{override}: {did_you_mean(key, list(known))}")
        try:
            known[key] = text if key in ("time", "mem") else yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"{override}: a bracket or a quote does not close") from None
    for key in ("at_once", "stop_s"):
        if not isinstance(known[key], int) or known[key] < 1:
            raise ConfigError(f"launch.{key}={known[key]}: expected a whole number above 0")
    if known["setup"] is not None:
        known["setup"] = Path(known["setup"]).expanduser().resolve()
        if not known["setup"].is_file():
            raise ConfigError(f"launch.setup={known['setup']}: no such file; expected one with shell lines")
    if not isinstance(known["options"], list):
        raise ConfigError(f"launch.options={known['options']}: expected a list, such as [--qos=low]")
    return known


def queued(runs_dir: Path) -> dict[Path, str]:
    """Run folder -> array task, of all tasks that Slurm still has and that were launched with this `runs_dir`."""
    listed = _output("squeue", "--me", "--array", "--noheader", "--format=%j %F %K")
    found = {}
    # Split from the right: a job's name may contain spaces.
    for name, job, task in (line.rsplit(maxsplit=2) for line in listed.splitlines() if len(line.split()) > 2):
        if (file := runs_dir / "slurm" / name / f"{task}.folder").exists():
            found[Path(file.read_text())] = f"{job}_{task}"
    return found


def submit(runs: Sequence[Planned], runs_dir: Path, how: Mapping[str, Any]) -> str:
    """Submit the runs as one array. Returns its job id.

    ConfigError with sbatch's message if sbatch refuses. Arguments and logs are kept in <runs_dir>/slurm/<time>/.
    """
    from rlvr.config.compose import compose

    hardware = compose(*runs[0].arguments).hardware  # the same for all runs
    gpus = hardware.devices_per_node if hardware.device == "cuda" else None
    flags = {flag: how[flag] for flag in FLAGS} | {
        "nodes": how["nodes"] or hardware.nodes, "gpus_per_node": how["gpus_per_node"] or gpus,
    }  # fmt: skip
    tasks = (runs_dir / "slurm" / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}").resolve()
    tasks.mkdir(parents=True)
    for number, run in enumerate(runs):
        (tasks / str(number)).write_text("".join(f"{argument}\n" for argument in run.arguments))
        (tasks / f"{number}.folder").write_text(str(run.folder.path.resolve()))
    environment = os.environ | {
        "RLVR_ROOT": str(ROOT), "RLVR_PYTHON": sys.executable, "RLVR_TASKS": str(tasks), "RLVR_SETUP": str(how["setup"] or ""),
    }  # fmt: skip
    printed = _output(
        "sbatch", "--parsable", "--requeue", "--open-mode=append", f"--job-name={tasks.name}", "--export=ALL",
        f"--array=0-{len(runs) - 1}%{how['at_once']}", f"--signal=B:USR2@{how['stop_s']}", "--ntasks-per-node=1",
        f"--output={tasks}/%a.log", *(f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items() if value is not None),
        *map(str, how["options"]), str(CONF / "slurm.sh"), environment=environment,
    )  # fmt: skip
    return printed.partition(";")[0]


def _output(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a Slurm program. ConfigError if it is not installed or fails, with its message."""
    if shutil.which(command[0]) is None:
        raise ConfigError(f"launch=slurm: no {command[0]} on this machine; launch=local runs here")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    if done.returncode:
        raise ConfigError(f"{command[0]}: {' '.join(done.stderr.split())[:300] or f'exit code {done.returncode}'}")
    return done.stdout.strip()
