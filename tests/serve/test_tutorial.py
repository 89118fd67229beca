"""The tutorial's commands, as printed: RLVR_TUTORIAL=1 runs them (about five minutes on two cores)."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "adapt.md").read_text(), re.DOTALL)


def test_every_command_of_it_knows_its_options():
    """Each `python -m` line is read by its command's options, which costs nothing."""
    from rlvr import export, suggest
    from rlvr.cli import read
    from rlvr.evaluate import __main__ as evaluate
    from rlvr.serve import __main__ as serve

    commands = (evaluate, export, serve, suggest)
    options = {module.__name__.removesuffix(".__main__"): module.Options for module in commands}
    found = re.findall(r"^python -m (\S+) (.*?)&?$", "".join(BLOCKS), re.MULTILINE)
    assert {module for module, _ in found} == set(options)
    for module, arguments in found:
        read(options[module], arguments.split())


@pytest.mark.on_request("RLVR_TUTORIAL")
@pytest.mark.timeout(3600)
def test_the_commands_run_as_printed(tmp_path):
    for name in ("run.py", "conf"):
        (tmp_path / name).symlink_to(ROOT / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = "set -emo pipefail\n" + "".join(BLOCKS).replace("8000", port)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
                         capture_output=True, text=True)  # fmt: skip
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "gate: validation, step 0 to 20: " in ran.stdout and ": passed" in ran.stdout
    assert '"finish_reason":"stop"' in ran.stdout.replace(" ", "")
    assert (tmp_path / "my_model" / "README.md").exists()
