"""The processes that judge answers (`serve.py`), as their caller sees them: they can be stopped for certain.

1. A worker is a program of its own, not a `multiprocessing` child: it imports neither the caller's `__main__` nor
   torch or ray, and can be started from any thread and from inside a Ray actor.
2. It loads sympy once and then forks the process that judges. The kernel ends that process when an answer has used
   its time (a timer whose signal nobody handles); the next fork is ready some milliseconds later.
3. Nothing is left behind when the caller dies, however it dies: the pipe closes and the worker ends.
"""

import atexit
import json
import os
import queue
import select
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from rlvr.cli import usable_cores

LIMIT_S = 2.5  # of processor time, so that a verdict does not depend on what else the machine does
START_LIMIT_S = 120.0
RELATIVE = 5e-5  # numbers that differ by more than this share of the larger are different
_GRACE_S = 27.5  # of waiting beyond LIMIT_S, before the caller stops a worker that is starved or stuck


class Verdict(NamedTuple):
    """Score in [0, 1], and its reason."""

    score: float
    reason: str


class Worker:
    """One worker process; `judge` is called by one thread at a time."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlvr.grading.worker_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is the caller's; and the whole group can be killed at once
        )
        self.ready = False

    def judge(self, answer: str, gold: str, boxed: bool) -> Verdict:
        """Score and reason; RuntimeError when the worker cannot even start."""
        if self.process.poll() is not None:  # somebody else ended it, between two answers
            self.stop()
            self._start()
        if not self.ready:
            if self._read(START_LIMIT_S) != "ready":
                self.stop()
                raise RuntimeError(
                    f"the answer grader did not start within {START_LIMIT_S:.0f} s: "
                    f"run `{sys.executable} -m rlvr.grading.worker_process` to see why (is math-verify installed?)"
                )
            self.ready = True
        try:
            request = json.dumps([answer, gold, boxed])
            self.process.stdin.write(f"{request}\n".encode())  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
            verdict = self._read(LIMIT_S + _GRACE_S)
        except OSError:
            verdict = None
        if verdict is None:
            timed_out = self.process.poll() is None
            self.stop()
            self._start()
            return Verdict(0.0, "timeout" if timed_out else "error")
        return Verdict(float(verdict[0]), str(verdict[1]))

    def _read(self, limit_s: float):
        """The next line as JSON; None when none comes in time or the worker has ended."""
        stdout = self.process.stdout
        poll = select.poll()
        poll.register(stdout, select.POLLIN)  # type: ignore[arg-type]
        line = stdout.readline() if poll.poll(limit_s * 1000) else b""  # type: ignore[union-attr]
        return json.loads(line) if line else None

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self.process.wait()


class Workers:
    """Up to `size` workers, started when first needed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = Lock()
        self.idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self.started: list[Worker] = []

    def judge(self, answer: str, gold: str, boxed: bool) -> Verdict:
        """Score and reason of one answer, by the first worker that is free."""
        worker = self._take()
        try:
            return worker.judge(answer, gold, boxed)
        except RuntimeError:
            with self.lock:
                self.started.remove(worker)
            raise
        finally:
            if worker in self.started:
                self.idle.put(worker)

    def judge_all(self, requests: Sequence[tuple[str, str, bool]]) -> list[Verdict]:
        """As `judge`, for many at once."""
        if len(requests) < 2:
            return [self.judge(*request) for request in requests]
        with ThreadPoolExecutor(self.size) as threads:
            return list(threads.map(lambda request: self.judge(*request), requests))

    def _take(self) -> Worker:
        with suppress(queue.Empty):
            return self.idle.get_nowait()
        with self.lock:
            if len(self.started) < self.size:
                self.started.append(worker := Worker())
                return worker
        return self.idle.get()

    def stop(self) -> None:
        """End every worker at once."""
        for worker in self.started:
            worker.stop()
        self.started, self.idle = [], queue.LifoQueue()


_workers: Workers | None = None
_lock = Lock()


def workers() -> Workers:
    """This process's workers: half of its CPUs, at most eight."""
    global _workers
    with _lock:
        if _workers is None:
            _workers = Workers(max(1, min(8, usable_cores() // 2)))
            atexit.register(_workers.stop)
        return _workers


def _forget() -> None:
    """In a forked child: the parent's workers are not its own."""
    global _workers, _lock
    if _workers is not None:
        atexit.unregister(_workers.stop)
    _workers, _lock = None, Lock()


os.register_at_fork(after_in_child=_forget)
