"""A Python program in a process of its own that answers each line of JSON with a line of JSON. It can always be killed.

It is not a `multiprocessing` child: it does not import the caller's `__main__`, torch or Ray. Any thread or Ray actor can
start it. It does not get Ctrl-C; the caller stops it.
"""

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


class JsonProcess:
    """`python -m module argument ...`, with more environment variables. Call `start` first; for one thread at a time."""

    process: subprocess.Popen

    def __init__(self, module: str, *arguments: str, **environment: str):
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = environment

    def start(self) -> None:
        """Start the process; start it again after `stop`."""
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, **self._environment}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)

    def send(self, request: Any, default: Any = None) -> None:
        """Write a line of JSON. If the process has ended, the next `read` returns None."""
        with suppress(OSError):
            self.process.stdin.write(f"{json.dumps(request, default=default)}\n".encode())  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]

    def read(self, limit_s: float) -> Any:
        """The next line; None if none comes in time or the process has ended."""
        stdout = self.process.stdout
        poll = select.poll()
        poll.register(stdout, select.POLLIN)  # type: ignore[arg-type]
        line = stdout.readline() if poll.poll(limit_s * 1000) else b""  # type: ignore[union-attr]
        return json.loads(line) if line else None

    def stop(self) -> None:
        """Kill the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self.process.wait()
