"""Measures the time and memory that parts of the project need. docs/performance.md has the numbers.

Each module is a command; `synthetic_runs` writes the runs for report_time, and `verl_worker` serves gpu_parity. Measure with
nothing else running.
"""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def seconds(action: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def apart(action: Callable, *arguments: Any, **environment: str) -> Any:
    """Call `action` in a new process and return its result. The environment variables are set before it imports anything else."""
    with ProcessPoolExecutor(1, get_context("spawn"), _set, (environment,)) as process:
        return process.submit(action, *arguments).result()


def _set(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
