"""Functions from a user's Python file, a reward or a grader, in a process of their own with a time limit.

Whatever the file does (raise, loop, print, `sys.exit`, end its process), the caller gets an error that names it and goes on.
The process ends when its parent ends.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from rlvr.cli import ConfigError, DataError
from rlvr.grading.extract import BoxedResponse
from rlvr.grading.json_process import JsonProcess
from rlvr.grading.workers import Verdict

START_LIMIT_S = 120.0  # to import the file and what it needs
LIMIT_S = 30.0  # for one call, by default

Grader = Callable[[Sequence[BoxedResponse], Sequence[str]], list[Verdict]]


class UserFunctionError(Exception):
    """A call of a user's function returned no value; the message says why."""


@lru_cache
def load_function(
    file: str, function: str, key: str, arguments: str, limit_s: float | None = None
) -> Callable[..., Any]:
    """`function` of the Python file `file`, for calls with plain data. ConfigError when it cannot be imported or has none.

    key: the configuration key that named the file. arguments: what the function takes, as "(response, label, info)".
    limit_s: seconds that a call may take. A call returns plain data (an array or tensor of one number becomes a number) or
    raises UserFunctionError.
    """
    if not Path(file).is_file():
        raise ConfigError(f"{key}={file}: no such file; expected a Python file with a function {function}{arguments}")
    if Path(file).suffix != ".py":
        raise ConfigError(f"{key}={file}: expected a Python file, *.py")
    called = _Function(file, function, arguments, limit_s)
    if (problem := called.problem()) is not None:
        raise ConfigError(f"{key}={file}: {problem}")
    return called


class _Function(JsonProcess):
    """The function in its process, which is started again after a call that ended it."""

    def __init__(self, file: str, function: str, arguments: str, limit_s: float | None):
        super().__init__("rlvr.grading.user_function", file, function, arguments)
        self.limit_s, self.lock, self.running = limit_s, Lock(), False

    def problem(self) -> str | None:
        """Start the process. Returns what is wrong with the file, or None; then the process is running."""
        self.start()
        try:
            problem = self._next(START_LIMIT_S)["problem"]
        except UserFunctionError as error:
            return f"cannot be imported ({error})"
        self.running = problem is None
        if not self.running:
            self.stop()
        return problem

    def __call__(self, *arguments: Any) -> Any:
        with self.lock:
            if not self.running and (problem := self.problem()) is not None:
                raise UserFunctionError(problem)
            self.send(arguments, default=_plain)
            answer = self._next(self.limit_s or LIMIT_S)
        if "error" in answer:
            raise UserFunctionError(answer["error"])
        return answer["value"]

    def _next(self, limit_s: float) -> dict[str, Any]:
        """The next line of the process; UserFunctionError if none comes in time or the process has ended."""
        if (answer := self.read(limit_s)) is not None:
            return answer
        with suppress(subprocess.TimeoutExpired):  # a process that closed its output is about to end
            self.process.wait(0.5)
        ended = self.process.poll() is not None
        self.stop()
        self.running = False
        raise UserFunctionError(
            f"ended its process with code {self.process.returncode}" if ended else f"took more than {limit_s:g} s"
        )


def _plain(value: Any) -> Any:
    """Arrays, tensors and their numbers as plain data."""
    for name in ("item", "tolist"):
        try:
            return getattr(value, name)()
        except (AttributeError, TypeError, ValueError, RuntimeError):
            continue
    return repr(value)


def users_grader(name: str) -> Grader:
    """The grader behind `file.py:function`, `function(response, gold) -> score or (score, reason)`. ConfigError with the remedy."""
    file, _, function = name.rpartition(":")
    called = load_function(file, function, "grader", "(response, gold)")

    def verdict(response: str, gold: str) -> Verdict:
        try:
            returned = called(response, gold)
            value, reason = returned if isinstance(returned, list) and len(returned) == 2 else (returned, None)
            if (score := finite(value)) is None or not 0 <= score <= 1:
                raise UserFunctionError(f"returned {value!r}, expected a number in [0, 1], or one and a reason")
        except UserFunctionError as error:
            raise DataError(
                f"{name} {error}; gold {gold!r}, response {response[-200:]!r}. The answers are kept: the same command grades them"
            ) from None
        return Verdict(score, str(reason or ("correct" if score == 1 else "wrong")))

    return lambda responses, golds: [verdict(r.text, gold) for r, gold in zip(responses, golds, strict=True)]


def finite(value: Any) -> float | None:
    """A number or a bool as a float; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _serve(file: str, function: str, arguments: str) -> None:
    """In the process: import the file, then answer calls, a line each. What the file prints goes to stderr."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**what: Any) -> None:
        out.write(json.dumps(what, default=_plain) + "\n")
        out.flush()

    called: Any = None
    try:
        spec = spec_from_file_location("user_file", file)
        module = module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules["user_file"] = module
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        called = getattr(module, function, None)
        say(problem=None if callable(called) else f"has no function {function}{arguments}; write it, or name another")
    except BaseException as error:
        say(problem=f"cannot be imported ({_named(error)})")
    for line in sys.stdin:
        try:
            say(value=called(*json.loads(line)))
        except BaseException as error:
            say(error=f"raised {_named(error)}")


def _end_with(parent: int) -> None:
    """End this process once its parent is gone, also in the middle of a call that never ends."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    _serve(*sys.argv[1:])
