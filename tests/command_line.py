"""`python run.py <arguments>` in the test's own process: starting Python and importing torch cost more than what is tested."""

import io
import os
import runpy
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> SimpleNamespace:
    """Its returncode, stdout and stderr. For what ends before a run starts; working folder and environment are put back."""
    stdout, stderr = io.StringIO(), io.StringIO()
    kept = (
        sys.argv,
        dict(os.environ),
        Path.cwd(),
        [(one, signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM)],
    )
    os.chdir(ROOT)
    sys.argv = ["run.py", *arguments]
    code = None
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            runpy.run_path("run.py", run_name="__main__")
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
