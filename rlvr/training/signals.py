"""Ctrl-C and SIGTERM end a run in order."""

import os
import signal
from contextlib import suppress

import psutil

INTERRUPTED = 130


def listen() -> None:
    """From now on Ctrl-C and SIGTERM raise KeyboardInterrupt, so that a run ends in order; a second one ends it at once.

    Call it again after a library has replaced the handler of SIGTERM, as Ray does; earlier signals still count.
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
