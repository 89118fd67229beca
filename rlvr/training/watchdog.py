"""Ends a run whose processes have died, or that makes no progress. verl itself waits forever for some dead processes.

For example, a run hung whenever a storage process of TransferQueue was killed. So while the driver waits for the trainer, it asks
Ray which actors and which of Ray's own processes have died. If the trainer notices a death by itself within `GRACE_S`, the run
ends with the trainer's error, which says more.

vLLM's engine and workers are not Ray actors. If one dies, its actor lives on, and the trainer waits forever when it sends new
weights. They are watched on the driver's machine; on other machines such a run ends by `no_progress_minutes`.
"""

import time
from contextlib import suppress
from pathlib import Path

import psutil
import ray
from omegaconf import DictConfig

from rlvr.runs.folder import RunFolder

POLL_S = 2.0
GRACE_S = 8.0
NEEDED = ("gcs_server", "raylet")  # of Ray's own processes
ENGINE = "VLLM::"  # vLLM's process titles begin so
EXPECTED = ("RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED")  # processes that were ended on purpose


class ProcessDied(RuntimeError):
    """A process that the run needs has ended; the message names it."""


class NoProgress(RuntimeError):
    """Nothing was written to the run folder for too long."""


class NotPlaced(RuntimeError):
    """Ray has not given the run the resources that it requested; the message has the numbers."""


def wait_for(task: ray.ObjectRef, folder: RunFolder, limits: DictConfig) -> None:
    """Wait for the trainer. Raises what it raised, or ProcessDied, NotPlaced or NoProgress.

    limits: `watchdog` of the configuration.
    """
    started = wrote = time.monotonic()
    seen, last = None, last_written(folder)
    engines: dict[psutil.Process, str] = {}
    while not ray.wait([task], timeout=POLL_S)[0]:
        now = time.monotonic()
        if dead := dead_processes() + dead_engines(engines):
            seen = now if seen is None else seen
            if now - seen > GRACE_S:
                raise ProcessDied(f"{', '.join(dead)} died; the same command resumes the run from its last checkpoint")
        elif now - started > 60 * limits.placement_minutes and (waits := not_placed()):
            raise NotPlaced(
                f"Ray has not granted {waits} within {limits.placement_minutes:g} minutes "
                "(watchdog.placement_minutes): is the cluster busy, or a node missing?"
            )
        if (newest := last_written(folder)) != last:  # file times are not compared with the clock, which may jump
            last, wrote = newest, now
        quiet_minutes = (now - wrote) / 60
        if quiet_minutes > limits.no_progress_minutes:
            raise NoProgress(
                f"nothing was written to {folder.path} for {quiet_minutes:.0f} minutes "
                f"(watchdog.no_progress_minutes={limits.no_progress_minutes:g}); run.log says what it last did"
            )
    ray.get(task)


def dead_processes() -> list[str]:
    """Names of Ray's own processes and of actors that have ended unexpectedly."""
    # The public state API needs Ray's dashboard; these two ask the head node directly.
    from ray._private import state, worker

    node = worker._global_node
    ended = node.dead_processes() if node is not None and node.head else []
    own = [kind for kind, _ in ended if kind in NEEDED]  # without dashboard, log monitor and autoscaler a run goes on
    if own:
        return own  # without its control store Ray cannot be asked about actors
    names = []
    for actor in state.actors(job_id=ray.JobID(bytes.fromhex(ray.get_runtime_context().get_job_id()))).values():
        if actor["State"] == "DEAD" and not any(end in str(actor["DeathCause"]) for end in EXPECTED):
            names.append(f"{actor['ActorClassName']} (pid {actor['Pid']})")
    return sorted(names)


def dead_engines(engines: dict[psutil.Process, str]) -> list[str]:
    """Names of vLLM's processes that have ended. `engines`: those seen so far; new ones of this process's family are added."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if (title := "".join(process.cmdline()[:1])).startswith(ENGINE):
                engines[process] = title
    ended = {process: title for process, title in engines.items() if not _lives(process)}
    return sorted(f"{title} (pid {process.pid})" for process, title in ended.items())


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def not_placed() -> str:
    """What placement groups of a cluster still wait for, as "2 x {CPU: 3, GPU: 1}"; empty when all are placed."""
    groups = ray.util.placement_group_table().values()
    waiting = [str(bundle) for group in groups if group["state"] == "PENDING" for bundle in group["bundles"].values()]
    return ", ".join(f"{waiting.count(bundle)} x {bundle}" for bundle in dict.fromkeys(waiting))


def last_written(folder: RunFolder) -> float:
    """When the run folder last changed, in seconds since 1970."""
    watched = [folder.metrics_path, folder.phase_path, folder.log_path, folder.rollouts_dir, *folder.eval_dir.glob("*")]
    return max((path.stat().st_mtime for path in map(Path, watched) if path.exists()), default=0.0)
