"""A start asks Linux for nothing that macOS lacks: its own functions and folders are taken away, up to where Ray would start."""

import subprocess
import sys

WITHOUT = """
import builtins, io, os, resource, runpy, sys
import psutil, ray, torch  # what these ask of the system is theirs

ROOT = os.getcwd() + "/rlvr/"
LINUX = ("/proc", "/sys", "/dev/shm")
for name in ("sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "eventfd", "posix_fadvise", "getxattr"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("prlimit",):
    delattr(resource, name)


def ours():
    frame = sys._getframe(2)
    while frame and ("<frozen" in frame.f_code.co_filename or frame.f_code.co_filename == os.path.join(LIB, "pathlib.py")):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(ROOT)


LIB = os.path.dirname(os.__file__)


def without(function):
    def asked(path, *args, **kwargs):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(LINUX) and ours():
            raise FileNotFoundError(2, "not on this system", os.fspath(path))
        return function(path, *args, **kwargs)

    return asked


builtins.open = io.open = without(open)
for name in ("stat", "scandir", "listdir", "readlink"):
    setattr(os, name, without(getattr(os, name)))


def starts(**arguments):
    print("Ray would start with", arguments["runtime_env"]["env_vars"]["OMP_NUM_THREADS"], "threads")
    raise KeyboardInterrupt


ray.init = starts
from rlvr.training import guardian
try:
    open_here = guardian.opened_by([psutil.Process()])
    print("guardian sees", open_here, guardian.shared_memory())
finally:
    sys.argv = ["run.py", *sys.argv[1:]]
    runpy.run_path("run.py", run_name="__main__")
"""


def test_the_first_command_starts_without_what_only_linux_has(tmp_path, request):
    command = ["+experiment=one_shot", "scale.steps=2", "tracking=off", f"runs_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command], cwd=request.config.rootpath, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert "guardian sees set() set()" in said
    assert "Traceback" not in said and done.returncode == 130, said
    (log,) = tmp_path.rglob("run.log")
    assert "Ray would start with " in log.read_text()
