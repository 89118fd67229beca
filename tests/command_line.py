"""A command in the test's own process: starting Python and importing cost more than what is tested."""

import io
import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> SimpleNamespace:
    """`python run.py <arguments>`, where it ends before training starts."""
    return _ran(lambda: runpy.run_path("run.py", run_name="__main__"), "run.py", *arguments)


def run_module(module: str, *arguments: str) -> SimpleNamespace:
    """`python -m <module> <arguments>`."""
    return _ran(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True), module, *arguments)


def _ran(start: Callable[[], object], *argv: str) -> SimpleNamespace:
    """Its returncode, stdout and stderr; working folder, environment and signal handlers are put back."""
    stdout, stderr = io.StringIO(), io.StringIO()
    kept = (
        sys.argv,
        dict(os.environ),
        Path.cwd(),
        [(one, signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM)],
    )
    os.chdir(ROOT)
    sys.argv = [*argv]
    code = None
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            start()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, environment, folder, handlers = kept
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        for one, handler in handlers:
            signal.signal(one, handler)
    told = stderr.getvalue() + (f"{code}\n" if isinstance(code, str) else "")
    return SimpleNamespace(returncode=1 if isinstance(code, str) else code or 0, stdout=stdout.getvalue(), stderr=told)
