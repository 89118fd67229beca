"""A worker: judges answers one at a time, within limits of time and memory that the kernel enforces.

python -m rlvr.grading.worker_process        # reads a JSON request per line, writes a JSON verdict per line
"""

import gc
import json
import os
import resource
import signal
from contextlib import suppress

from rlvr.grading.math_verify_judge import judge, warm_up
from rlvr.grading.workers import LIMIT_S

MEMORY_BYTES = 768 * 2**20


def serve() -> None:
    """Fork a judge. If it ends in the middle of an answer, report a timeout and fork the next."""
    requests, verdicts = os.dup(0), os.dup(1)
    warm_up()
    gc.freeze()  # no garbage collection of sympy in the middle of an answer
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)  # what a library prints must not mix with verdicts
        os.dup2(nothing.fileno(), 2)
    _send(verdicts, "ready")
    while True:
        pid = os.fork()
        if pid == 0:
            _judge_until_closed(requests, verdicts)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            return
        # Only a limit ends a judge by a signal: the timer, or a library that aborts for want of memory.
        _send(verdicts, [0.0, "timeout"])


def _judge_until_closed(requests: int, verdicts: int) -> None:
    with suppress(ValueError, OSError):  # macOS has no such limit; there only the time limit bounds the memory
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # No buffered reading: a request that a buffer had read ahead would be lost with this process.
    pending = b""
    while chunk := os.read(requests, 65536):
        pending += chunk
        if not pending.endswith(b"\n"):
            continue
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        verdict = judge(*json.loads(pending))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(verdicts, verdict)
        pending = b""


def _send(file: int, message: object) -> None:
    os.write(file, f"{json.dumps(message)}\n".encode())


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the caller is gone
        serve()
