"""A run whose processes die ends with the cause, and goes on when it is started again.

In CI one run is killed three times (kill -9, `THRICE`): of three roles, while it trains, saves and evaluates. By hand, N runs,
each killed once: the role is drawn from `ROLES`, the moment from the 30 s after that process appears.

    N=20 pytest -n0 -s tests/training/test_watchdog.py
    KILL=gcs_server@10,ray::WorkerDict@saving+raylet/raylet@training pytest -n0 -s tests/training/test_watchdog.py

`,` parts runs, `+` the kills of one. To pass, a killed run must end by itself within LIMIT_S with a non-zero code and say in its
last lines what died or why it failed, or else go on and finish (Ray replaces some of its processes); leave no process of its own;
and, when the same command is given again, finish with each step exactly once and with the numbers of a run that nothing was
done to, and which took the 16 steps at once that this one was asked for last: first it is asked for 12. LIMIT_S: two looks at the processes and the grace that a better cause gets (rlvr/training/watchdog.py), the end of Ray,
and a busy machine with two test processes.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from omegaconf import OmegaConf

from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_lines, read_metrics
from rlvr.runs.provenance import changes
from rlvr.training import guardian, watchdog

LIMIT_S = 60
SMALL = ["scale.benchmarks=[tiny500]", "+benchmarks.tiny500.limit=8", "scale.prompts_per_step=2", "variant=small"]
SMALL += ["scale.samples_per_prompt=4", "scale.evaluate_every=4", "scale.save_every=4", "tracking=off"]
STEPS = list(range(17))
ROLES = (
    "run.py",
    "gcs_server",
    "raylet/raylet",
    "monitor.py",
    "dashboard.py",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
)
ROLES += ("ray::IDLE", "ray::TaskRunner", "ray::TransferQueueController", "ray::TorchServer", "ray::WorkerDict")
ROLES += ("ray::SimpleStorageUnit",)
RANDOM = random.Random(os.environ.get("SEED", "1"))
THRICE = "ray::SimpleStorageUnit@training+ray::WorkerDict@saving+run.py@evaluating"
KILLS = os.environ.get("KILL", THRICE).split(",")
if "N" in os.environ:
    KILLS = [f"{RANDOM.choice(ROLES)}@{RANDOM.uniform(0, 30):.1f}" for _ in range(int(os.environ["N"]))]


def started(runs_dir, root, steps):
    runs_dir.mkdir(exist_ok=True)
    command = [sys.executable, "run.py", "+experiment=one_shot", *SMALL, f"scale.steps={steps}", f"runs_dir={runs_dir}"]
    with open(runs_dir / "output", "w") as output:  # a pipe would be kept open by processes that outlive the driver
        return subprocess.Popen(command, cwd=root, stdout=output, stderr=output)


def folder_in(runs_dir):
    return RunFolder(runs_dir / "tiny" / "tiny" / "one_shot-small" / "seed0")


def family(driver):
    """What the driver has started and itself, by name; Ray's workers call themselves after the actor they run."""
    found = {}
    with suppress(psutil.Error):  # the driver has ended
        for process in [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]:
            with suppress(psutil.Error):
                found[process.pid] = " ".join(process.cmdline())
    return found


def happens(moment, folder, appeared):
    """Whether the run is doing that now; a number: whether the process appeared so many seconds ago."""
    if moment == "training":
        return folder.last_step() >= 5
    if moment == "saving":
        return any(step % 4 == 0 and not folder.is_resumable(step) for step in folder.checkpoint_steps()[-1:])
    if moment == "evaluating":
        return folder.last_step() > 0 and folder.phase_path.read_text() == "evaluating"
    return time.monotonic() - appeared >= float(moment)


def killed(driver, folder, role, moment):
    """Kill the process of that role at that moment. The run's processes by then; none: it ended before."""
    deadline = time.monotonic() + 300
    members, victim, looked, appeared = {}, None, 0.0, 0.0
    while driver.poll() is None and time.monotonic() < deadline:
        if time.monotonic() - looked > 1:
            members, looked = family(driver), time.monotonic()
            found = next((pid for pid, name in members.items() if role in name), None)
            appeared = looked if found and not victim else appeared
            victim = found
        if victim and happens(moment, folder, appeared):
            psutil.Process(victim).kill()
            return members
        time.sleep(0.005)
    return {}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, request):
    """The metrics of the same run, with nothing killed."""
    runs_dir = tmp_path_factory.mktemp("undisturbed")
    assert started(runs_dir, request.config.rootpath, 16).wait(600) == 0
    return read_metrics(folder_in(runs_dir).metrics_path)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", KILLS)
def test_a_dead_process_ends_the_run_and_the_run_goes_on(kills, tmp_path, request):
    root, folder = request.config.rootpath, folder_in(tmp_path)
    for kill in kills.split("+"):
        role, _, moment = kill.partition("@")
        begun_at = folder.resume_step()
        ends_or_goes_on(started(tmp_path, root, 12), folder, role, moment or "training")
        assert folder.resume_step() >= begun_at
        if moment == "evaluating":  # the checkpoint of that step holds its training metrics
            assert folder.resume_step() >= folder.last_step()
    at = folder.resume_step()
    assert started(tmp_path, root, 16).wait(600) == 0, (tmp_path / "output").read_text()
    if at:
        assert f"resuming at step {at}\nfrom here on scale.steps: 12 → 16\n" in (tmp_path / "output").read_text()
        assert json.loads(folder.provenance_path.read_text())["resumed_at"][-1]["step"] == at
        assert changes(folder) == [{"step": at, "key": "scale.steps", "old": 12, "new": 16}]
    assert [line["step"] for line in metrics_lines(folder.metrics_path)] == STEPS
    assert sorted(int(path.stem.removeprefix("step")) for path in folder.rollouts_dir.glob("*.parquet")) == STEPS[1:]
    expected = request.getfixturevalue("undisturbed")
    numbers = [name for name in expected if not name.startswith("time/")]
    pd.testing.assert_frame_equal(read_metrics(folder.metrics_path)[numbers], expected[numbers])


def ends_or_goes_on(driver, folder, role, moment):
    """Kill it there and see what becomes of the run and its processes."""
    output = folder.path.parents[3] / "output"
    try:
        members = killed(driver, folder, role, moment)
        if not members and moment[0].isdigit() and driver.poll() == 0:
            pytest.skip(f"the run had finished before {role} was to be killed")
        assert members, f"no {role} to kill: code {driver.poll()}"
        at, step = time.monotonic(), folder.last_step()
        ended = driver.wait(300)
        took = time.monotonic() - at
    finally:
        driver.kill()
    said = output.read_text().splitlines()
    print(f"\n{role}, {moment}, step {step}: code {ended} after {took:.1f} s: {said[-2:]}")
    if role == "run.py":
        assert ended == -9 and folder.status() == "died"
    elif ended:
        assert ended == 1 and took < LIMIT_S
        assert "Error" in said[-2] or "Died" in said[-2], said[-4:]
        assert "full log:" in said[-1]
    else:
        assert role not in ("ray::SimpleStorageUnit", "gcs_server")
    gone = time.monotonic() + LIMIT_S
    while (left := [pid for pid in members if psutil.pid_exists(pid)]) and time.monotonic() < gone:
        time.sleep(0.5)
    assert not left, [members[pid] for pid in left]


DRIVER = """
import subprocess, sys, time
from rlvr.training.guardian import guarded
with guarded(sys.argv[1]):
    child = subprocess.Popen(["sh", "-c", f"sleep 1; exec 3>{sys.argv[3]}; sleep 1000 & sleep 1000"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_a_driver_started_is_ended_and_its_folder_goes(tmp_path, is_killed):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shared, others = (guardian.SHARED_MEMORY / f"rlvr-{name}-{os.getpid()}" for name in ("test", "others"))
    command = [sys.executable, "-c", DRIVER, str(scratch), "600" if is_killed else "5", str(shared)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(driver.stdout.readline()))
    others.touch()  # which none of them has open
    time.sleep(4)  # the guardian has looked
    assert shared.exists()
    members = [child, *child.children()]
    assert len(members) == 3
    if is_killed:
        driver.kill()
    _, left = psutil.wait_procs(members, timeout=30)
    assert not left
    deadline = time.monotonic() + 30
    while scratch.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not shared.exists() and others.exists()
    others.unlink()
    assert not scratch.exists() and driver.wait(30) == (-9 if is_killed else 0)


def test_vllms_engine_is_watched_although_ray_does_not_know_it():
    engine = subprocess.Popen(["VLLM::EngineCore", "60"], executable=shutil.which("sleep"))
    engines = {}
    assert watchdog.dead_engines(engines) == []
    engine.kill()
    os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its parent does not know
    dead = [f"VLLM::EngineCore (pid {engine.pid})"]
    assert watchdog.dead_engines(engines) == dead
    engine.wait()
    assert watchdog.dead_engines(engines) == dead


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
        watchdog.wait_for(None, folder, limits)
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
        watchdog.wait_for(None, RunFolder(tmp_path), limits)
