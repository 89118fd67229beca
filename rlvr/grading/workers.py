"""The processes that judge answers (`worker_process.py`), as their caller sees them.

1. A worker loads sympy once and then forks the process that judges. The kernel kills that process when an answer has used
   its time (a timer whose signal has no handler); the next fork is ready some milliseconds later.
2. No worker outlives its caller, even after `kill -9`: the pipe closes and the worker ends.
"""

import atexit
import os
import queue
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from rlvr.cli import usable_cores
from rlvr.grading.json_process import JsonProcess

LIMIT_S = 2.5  # of processor time, so that a verdict does not depend on other programs
START_LIMIT_S = 120.0
RELATIVE = 5e-5  # numbers are different if they differ by more than this share of the larger one
_GRACE_S = 27.5  # of waiting beyond LIMIT_S, before the caller kills a worker that gets no processor time or hangs


class Verdict(NamedTuple):
    """Score in [0, 1], and its reason."""

    score: float
    reason: str


class Worker(JsonProcess):
    """One worker process; `judge` is called by one thread at a time."""

    def __init__(self) -> None:
        super().__init__("rlvr.grading.worker_process", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        self.start()

    def start(self) -> None:
        super().start()
        self.ready = False

    def judge(self, answer: str, gold: str, boxed: bool) -> Verdict:
        """Score and reason; RuntimeError if the worker cannot start."""
        if self.process.poll() is not None:  # it was killed between two answers
            self.stop()
            self.start()
        if not self.ready:
            if self.read(START_LIMIT_S) != "ready":
                self.stop()
                raise RuntimeError(
                    f"the answer grader did not start within {START_LIMIT_S:.0f} s: "
                    f"run `{sys.executable} -m rlvr.grading.worker_process` to see why (is math-verify installed?)"
                )
            self.ready = True
        self.send([answer, gold, boxed])
        if (verdict := self.read(LIMIT_S + _GRACE_S)) is None:
            timed_out = self.process.poll() is None
            self.stop()
            self.start()
            return Verdict(0.0, "timeout" if timed_out else "error")
        return Verdict(float(verdict[0]), str(verdict[1]))


class Workers:
    """Up to `size` workers, started when first needed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = Lock()
        self.idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self.started: list[Worker] = []

    def judge(self, answer: str, gold: str, boxed: bool) -> Verdict:
        """Score and reason of one answer, from the first free worker."""
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
        """`judge` for many answers at once."""
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
    """In a forked child: the workers belong to the parent."""
    global _workers, _lock
    if _workers is not None:
        atexit.unregister(_workers.stop)
    _workers, _lock = None, Lock()


os.register_at_fork(after_in_child=_forget)
