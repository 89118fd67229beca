"""How long the project takes, and in how much memory. docs/performance.md has the numbers.

A command each: gpu_parity, grading, main_job, report_time, serving; `synthetic_runs` writes what report_time reads. Measure with
nothing else running.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any


def seconds(action: Callable[[], object], repeats: int = 1) -> list[float]:
    """Wall time of each call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times


def apart(action: Callable, *arguments: Any, **environment: str) -> Any:
    """What `action` returns in a process of its own, which has these environment variables before it imports anything else."""
    with ProcessPoolExecutor(1, get_context("spawn"), _set, (environment,)) as process:
        return process.submit(action, *arguments).result()


def _set(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)


def spread(values: Sequence[float], spec: str = ".2f") -> str:
    """Smallest, median and largest value, as text."""
    low, middle, high = (format(value, spec) for value in (min(values), median(values), max(values)))
    return f"min {low}, median {middle}, max {high} of {len(values)}"


def listed(values: Mapping[str, float], spec: str = ".2f") -> str:
    """Names and values on one line."""
    return "  ".join(f"{name} {value:{spec}}" for name, value in values.items())
