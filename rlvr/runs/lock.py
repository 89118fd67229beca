"""A lock file that keeps other processes out of a folder, also over a shared disk."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rlvr.runs.plain_files import RunFolderError

# The holder of a lock touches the file every TOUCH_S seconds. If the file was not touched for SILENT_S, the lock is abandoned.
TOUCH_S = 2.0
SILENT_S = 10.0


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file. The kernel releases it when this process ends, also after kill -9 (flock; on NFS by its lock service).

    Some shared disks do not show locks to other hosts. So the holder also touches the file every few seconds and empties it at
    the end. Raises RunFolderError if another process (a `what`) holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
        holder = path.read_text(errors="replace").strip()[:200]
        if _elsewhere(holder) and _is_touched(path):
            lock.release()
            raise Timeout(str(path))
    except Timeout:
        holder = path.read_text(errors="replace").strip()[:200] or "unknown"
        raise RunFolderError(
            f"{path.parent}: another {what} ({holder}) runs here: wait for it or stop it"
        ) from None
    done = threading.Event()
    try:
        path.write_text(f"pid {os.getpid()} on {socket.gethostname()}")
        threading.Thread(target=_touch, args=(path, done), name="lock", daemon=True).start()
        yield
    finally:
        done.set()
        with suppress(OSError):
            path.write_text("")
        lock.release()


def _elsewhere(holder: str) -> bool:
    return holder != "" and not holder.endswith(f" on {socket.gethostname()}")


def _touch(path: Path, done: threading.Event) -> None:
    while not done.wait(TOUCH_S):
        with suppress(OSError):
            os.utime(path)


def _is_touched(path: Path) -> bool:
    """Whether another process touches the file. Compares the file's own times only, because clocks of hosts differ. Waits SILENT_S."""
    before, deadline = _changed(path), time.monotonic() + SILENT_S
    while time.monotonic() < deadline:
        time.sleep(TOUCH_S / 4)
        if _changed(path) != before:
            return True
    return False


def _changed(path: Path) -> int:
    with open(path) as file:  # NFS caches the times of a file for up to a minute unless it is opened
        return os.fstat(file.fileno()).st_mtime_ns


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file. Writes nothing: it takes a shared lock and releases it at once."""
    if not path.exists():
        return False
    with open(path, errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        # Held by another host whose locks are not visible here, unless the clocks differ by more than SILENT_S.
        return _elsewhere(file.read(200)) and abs(time.time() - os.fstat(file.fileno()).st_mtime) < SILENT_S
