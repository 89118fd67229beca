"""Ends what a driver leaves behind: its processes, their shared memory, and its scratch folder.

Ray's agents outlive the driver: briefly after a normal end, for minutes if Ray's control store was killed. If the driver itself is
killed (kill -9, or by the kernel when memory is short), nothing cleans up. So the driver starts this file as a program and
holds the other end of its standard input. When that closes, the driver has finished its run or has ended.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # Linux; vLLM's queues are files here, and a killed process removes none
POLL_S = 1.0  # between two looks at what the driver has started
END_S = 10.0  # for killed processes to go


@contextmanager
def guarded(folder: str) -> Iterator[None]:
    """At the end of the `with` block, or if this process dies in it, kill all processes that it started meanwhile and remove `folder`."""
    command = [sys.executable, "-I", __file__, folder]
    guardian = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        with suppress(subprocess.TimeoutExpired):
            guardian.communicate(timeout=2 * END_S)


def started_by(process: psutil.Process) -> set[psutil.Process]:
    """Its running child processes, at any depth."""
    with suppress(psutil.Error):
        return set(process.children(recursive=True))
    return set()


def opened_by(processes: Iterable[psutil.Process]) -> set[str]:
    """Paths of the files that the processes have open."""
    found = set()
    for process in processes:
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{process.pid}/fd"):
                with suppress(OSError):
                    found.add(os.readlink(descriptor.path))
    return found


def shared_memory() -> set[str]:
    return set(map(str, SHARED_MEMORY.iterdir())) if SHARED_MEMORY.is_dir() else set()


def main(folder: str) -> None:
    """Wait for the end of the driver, then kill the processes that it started and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the driver, which ends in order
        signal.signal(number, signal.SIG_IGN)
    driver, family = psutil.Process(os.getppid()), set[psutil.Process]()
    known, theirs = shared_memory(), set[str]()
    while not select.select([sys.stdin], [], [], POLL_S)[0]:
        family |= started_by(driver)
        if new := shared_memory() - known:
            known |= new
            theirs |= new & opened_by(family)
    for member in list(family):
        family |= started_by(member)
    family.discard(psutil.Process())
    for member in family:
        with suppress(psutil.Error):
            if member.is_running():  # its number may belong to another process by now
                member.kill()
    psutil.wait_procs(family, timeout=END_S)
    for file in theirs:
        Path(file).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
