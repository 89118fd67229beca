"""A run whose processes die ends with the cause, and goes on when it is started again.

The victim is chosen by its role while the run trains (after two steps). To pass, the run must end by itself with a non-zero
code within LIMIT_S, name what died or why it failed in its last lines, leave no process of its own, and finish, each step
exactly once, when the same command is given again. LIMIT_S: two looks at the processes and the grace that a better cause
gets (rlvr/training/watchdog.py), the end of Ray, and a busy machine with two test processes. Other victims by hand:

    KILL=gcs_server,ray::TransferQueueController,ray::TorchServer pytest tests/training/test_watchdog.py
"""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from omegaconf import OmegaConf

from rlvr.runs.folder import RunFolder, metrics_lines
from rlvr.training import watchdog

LIMIT_S = 60
SMALL = ["scale.benchmarks=[tiny500]", "+benchmarks.tiny500.limit=8", "scale.prompts_per_step=2", "variant=small"]
SMALL += [
    "scale.samples_per_prompt=4",
    "scale.steps=16",
    "scale.evaluate_every=16",
    "scale.save_every=4",
    "tracking=off",
]


def started(tmp_path, root):
    command = [sys.executable, "run.py", "+experiment=one_shot", *SMALL, f"runs_dir={tmp_path}"]
    with open(tmp_path / "output", "w") as output:  # a pipe would be kept open by processes that outlive the driver
        return subprocess.Popen(command, cwd=root, stdout=output, stderr=output)


def family(driver):
    """What the driver has started, by name; Ray's workers call themselves after the actor they run."""
    return {p.pid: " ".join(p.cmdline()) for p in psutil.Process(driver.pid).children(recursive=True)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("role", os.environ.get("KILL", "ray::SimpleStorageUnit").split(","))
def test_a_dead_process_ends_the_run_and_the_run_goes_on(role, tmp_path, request):
    root = request.config.rootpath
    folder = RunFolder(tmp_path / "tiny" / "tiny" / "one_shot-small" / "seed0")
    driver = started(tmp_path, root)
    try:
        deadline = time.monotonic() + 300
        while folder.last_step() < 5 and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        members = family(driver)
        victim = next(pid for pid, name in members.items() if role in name)
        psutil.Process(victim).kill()
        killed = time.monotonic()
        assert driver.wait(LIMIT_S) == 1
        print(f"{role}: {time.monotonic() - killed:.0f} s from the kill to the end")
    finally:
        driver.kill()
    said = (tmp_path / "output").read_text().splitlines()
    assert "Error" in said[-2] or "Died" in said[-2], said[-4:]
    assert "full log:" in said[-1]
    gone = time.monotonic() + LIMIT_S
    while (left := [pid for pid in members if psutil.pid_exists(pid)]) and time.monotonic() < gone:
        time.sleep(0.5)
    assert not left, [members[pid] for pid in left]
    again = started(tmp_path, root)
    assert again.wait(600) == 0, (tmp_path / "output").read_text()
    assert [line["step"] for line in metrics_lines(folder.metrics_path)] == list(range(17))


def test_a_run_that_writes_nothing_is_ended_and_a_clock_that_jumps_ends_none(tmp_path, monkeypatch):
    """One look at the run every minute; it writes until the fifth, and the clock of its files jumps by a day."""
    folder, minutes = RunFolder(tmp_path), iter(range(100))
    now = [0.0]

    def look(tasks, timeout):
        minute = next(minutes)
        now[0] = 60.0 * minute
        if minute <= 5:
            folder.phase_path.write_text("training")
            os.utime(folder.phase_path, (minute, minute * 86400))
        return [], tasks

    monkeypatch.setattr(watchdog.ray, "wait", look)
    monkeypatch.setattr(watchdog, "dead_processes", list)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now[0]))  # not the time of other threads
    limits = OmegaConf.create({"no_progress_minutes": 10, "placement_minutes": 1000})
    with pytest.raises(watchdog.NoProgress, match=r"for 11 minutes \(watchdog.no_progress_minutes=10\)"):
        watchdog.wait_for(None, folder, limits, set())
    assert now[0] == 60 * 16


def test_what_a_cluster_does_not_grant_is_an_error_with_its_numbers(tmp_path, monkeypatch):
    looks = iter([0.0, 0.0, 61.0])
    bundles = {0: {"CPU": 3.0, "GPU": 1.0}, 1: {"CPU": 3.0, "GPU": 1.0}}
    groups = {"a": {"state": "PENDING", "bundles": bundles}, "b": {"state": "CREATED", "bundles": bundles}}
    monkeypatch.setattr(watchdog.ray, "wait", lambda tasks, timeout: ([], tasks))
    monkeypatch.setattr(watchdog.ray.util, "placement_group_table", lambda: groups)
    monkeypatch.setattr(watchdog, "dead_processes", list)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: next(looks)))
    limits = OmegaConf.create({"no_progress_minutes": 10, "placement_minutes": 1})
    with pytest.raises(watchdog.NotPlaced, match="has not granted 2 x {'CPU': 3.0, 'GPU': 1.0} within 1 minutes"):
        watchdog.wait_for(None, RunFolder(tmp_path), limits, set())
