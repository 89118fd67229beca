"""What ends a run from within its own process: Ctrl-C and SIGTERM, and the time limit of a user's reward."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

INTERRUPTED = 130


def listen() -> None:
    """From now on Ctrl-C and SIGTERM raise KeyboardInterrupt, so that a run ends in order; a second one ends it at once.

    Called again after whatever takes SIGTERM for itself, as Ray does; the count goes on.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _asked)


_times = 0


def _asked(*_: object) -> None:
    global _times
    _times += 1
    if _times == 1:
        raise KeyboardInterrupt
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()
    os._exit(INTERRUPTED)


@contextmanager
def time_limit(minutes: float, key: str) -> Iterator[None]:
    """TimeoutError in the code of a `with` block that takes longer; `key` is the configuration key of the limit.

    Python interrupts its own code and regular expressions, but no other C code, and only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise TimeoutError(f"not done after {minutes:g} minutes ({key})")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
