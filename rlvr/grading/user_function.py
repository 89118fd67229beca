"""Functions from a Python file of the user's own, a reward or a grader, in a process of their own with a time limit.

Whatever the file does (raise, loop, print, `sys.exit`, end its process) is an error that names it, never the end of ours.
The process is a program of its own, as the graders' workers are (`workers.py`); it ends with whoever started it.
"""

import json
import math
import os
import select
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
from rlvr.grading.workers import Verdict

START_LIMIT_S = 120.0  # to import the file and what it needs
LIMIT_S = 30.0  # for one call, where nothing else is asked for


Grader = Callable[[Sequence[BoxedResponse], Sequence[str]], list[Verdict]]


class UserFunctionError(Exception):
    """What one call of a user's function came to instead of a value."""


@lru_cache
def load_function(
    file: str, function: str, key: str, arguments: str, limit_s: float | None = None
) -> Callable[..., Any]:
    """`function` of the Python file `file`, for calls with plain data. ConfigError when it cannot be imported or has none.

    `key` is the configuration key that named it, `arguments` what the function takes, as "(response, label, info)", `limit_s` how long a call
    may take. A call
    returns plain data (an array or tensor of one number is a number) or raises UserFunctionError.
    """
    if not Path(file).is_file():
        raise ConfigError(f"{key}={file}: no such file; expected a Python file with a function {function}{arguments}")
    if Path(file).suffix != ".py":
        raise ConfigError(f"{key}={file}: expected a Python file, *.py")
    called = _Function(file, function, limit_s)
    if (problem := called.start()) is not None:
        raise ConfigError(f"{key}={file}: {problem.format(needed=f'{function}{arguments}')}")
    return called


class _Function:
    """The function in its process, which is started again after a call that ended it."""

    def __init__(self, file: str, function: str, limit_s: float | None):
        self.file, self.function, self.limit_s, self.lock = file, function, limit_s, Lock()
        self.process: subprocess.Popen | None = None

    def start(self) -> str | None:
        """Start the process; returns what is wrong with the file, None if nothing is."""
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlvr.grading.user_function", self.file, self.function],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        try:
            return self._read(START_LIMIT_S)["problem"]
        except UserFunctionError as error:
            return f"cannot be imported ({error})"

    def __call__(self, *arguments: Any) -> Any:
        with self.lock:
            if self.process is None and (problem := self.start()) is not None:
                raise UserFunctionError(problem)
            assert self.process is not None and self.process.stdin is not None
            with suppress(OSError):  # it has ended: reading says how
                self.process.stdin.write(json.dumps(arguments, default=_plain).encode() + b"\n")
                self.process.stdin.flush()
            answer = self._read(self.limit_s or LIMIT_S)
        if "error" in answer:
            raise UserFunctionError(answer["error"])
        return answer["value"]

    def _read(self, limit_s: float) -> dict[str, Any]:
        """The next line of the process; UserFunctionError when none comes in time or the process has ended."""
        process = self.process
        assert process is not None and process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        came = poll.poll(limit_s * 1000)
        if came and (line := process.stdout.readline()):
            return json.loads(line)
        self.stop()
        raise UserFunctionError(
            f"ended its process with code {process.returncode}" if came else f"took more than {limit_s:g} s"
        )

    def stop(self) -> None:
        if (process := self.process) is None:
            return
        self.process = None
        time.sleep(0.01)  # one that has ended by itself then says how
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


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
    """A number or truth value that a user's function returned, None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _serve(file: str, function: str) -> None:
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
        say(problem=None if callable(called) else "has no function {needed}; write it, or name another")
    except BaseException as error:
        say(problem=f"cannot be imported ({_named(error)})".replace("{", "{{").replace("}", "}}"))
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
