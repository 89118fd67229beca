"""Ctrl-C and SIGTERM end a run in order; a second one ends it at once."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
WAITS = """
import subprocess, sys, time
from rlvr.training.signals import listen
listen()
child = subprocess.Popen(["sleep", "60"])
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("in order", flush=True)
    if sys.argv[1] == "twice":
        time.sleep(60)
    child.kill()
"""


@pytest.mark.parametrize("times", ["once", "twice"])
def test_sigterm_is_ctrl_c_and_a_second_one_ends_all_at_once(times):
    process = subprocess.Popen([sys.executable, "-c", WAITS, times], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "in order\n"
    if times == "twice":
        process.send_signal(signal.SIGINT)
    assert process.wait(30) == (130 if times == "twice" else 0)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
