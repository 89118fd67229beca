"""Ends a run whose processes have died, or that makes no progress: verl itself waits for ever for some of them.

Of 26 processes killed at random, a storage process of TransferQueue left the run hanging every time. Here the driver asks
Ray which actors and which of its own processes are gone, while it waits for the trainer. A death that the trainer notices
by itself ends the run with the trainer's own error, which says more: it has `GRACE_S` for that.
"""

import time
from contextlib import suppress
from pathlib import Path

import psutil
import ray

from rlvr.runs.folder import RunFolder

POLL_S = 2.0
GRACE_S = 8.0
EXPECTED = ("RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED")  # ends that somebody asked for


class ProcessDied(RuntimeError):
    """A process that a run depends on has ended; the message names it."""


class NoProgress(RuntimeError):
    """Nothing was written to the run folder for too long."""


def wait_for(task: ray.ObjectRef, folder: RunFolder, no_progress_minutes: float, family: set[psutil.Process]) -> None:
    """Wait for the trainer. Raises what it raised, or ProcessDied, or NoProgress. What runs meanwhile is added to `family`."""
    seen: float | None = None
    while not ray.wait([task], timeout=POLL_S)[0]:
        family |= set(psutil.Process().children(recursive=True))
        if (dead := dead_processes()) and seen is None:
            seen = time.monotonic()
        if dead and seen is not None and time.monotonic() - seen > GRACE_S:
            raise ProcessDied(f"{', '.join(dead)} died; the same command resumes the run from its last checkpoint")
        quiet_minutes = (time.time() - last_written(folder)) / 60
        if quiet_minutes > no_progress_minutes:
            raise NoProgress(
                f"nothing was written to {folder.path} for {quiet_minutes:.0f} minutes "
                f"(watchdog.no_progress_minutes={no_progress_minutes:g}); run.log says what it last did"
            )
    ray.get(task)


def end(family: set[psutil.Process]) -> None:
    """End what is left of a run's processes: some of Ray's agents outlive it for minutes when its control store is killed."""
    for process in family:
        with suppress(psutil.Error):
            if process.is_running():
                process.kill()


def dead_processes() -> list[str]:
    """Names of Ray's own processes and of actors that have ended without being asked to."""
    # The public state API needs Ray's dashboard; these two ask the head node directly.
    from ray._private import state, worker

    node = worker._global_node
    own = [kind for kind, _ in node.dead_processes()] if node is not None and node.head else []
    if own:
        return own  # without its control store Ray cannot be asked about actors
    names = []
    for actor in state.actors().values():
        if actor["State"] == "DEAD" and not any(end in str(actor["DeathCause"]) for end in EXPECTED):
            names.append(f"{actor['ActorClassName']} (pid {actor['Pid']})")
    return sorted(names)


def last_written(folder: RunFolder) -> float:
    """When the run folder last changed, in seconds since 1970."""
    watched = [folder.metrics_path, folder.phase_path, folder.log_path, folder.rollouts_dir, *folder.eval_dir.glob("*")]
    return max((path.stat().st_mtime for path in map(Path, watched) if path.exists()), default=time.time())
