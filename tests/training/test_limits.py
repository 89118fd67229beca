"""Ctrl-C, SIGTERM and the time limit of a user's reward; a mended reward; too few CPU slots."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.planning import machine
from rlvr.runs.folder import RunFolder
from rlvr.training import ray_cluster, train_run

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


def own_reward(tmp_path, text):
    reward = tmp_path / "mine.py"
    reward.write_text(text)
    return compose(
        "+experiment=one_shot", f"reward_rule.file={reward}", "reward_rule.seconds=0.3", f"runs_dir={tmp_path}"
    )


def test_an_endless_reward_is_named_before_ray_starts(tmp_path):
    endless = "def reward(response, label, info):\n    while True: pass\n"
    with pytest.raises(ConfigError, match="mine.py:reward took more than 0.3 s") as refusal:
        train_run.ready(own_reward(tmp_path, endless))
    assert "\n" not in str(refusal.value)


def test_a_reward_that_failed_may_be_mended_and_both_versions_stay(tmp_path):
    cfg = own_reward(tmp_path, "broken")
    folder = RunFolder(tmp_path / "run")
    folder.data_dir.mkdir(parents=True)
    folder.config_path.write_text("seed: 0\n")
    assert train_run._keep_reward(cfg, folder, 0) == []
    (tmp_path / "mine.py").write_text("mended")
    for status in ("running", "interrupted", "failed"):
        folder.provenance_path.write_text(json.dumps({"status": status}))
        if status != "failed":
            with pytest.raises(ConfigError, match="differs from the one this run began with"):
                train_run._keep_reward(cfg, folder, 18)
    change = {"step": 18, "key": "reward_rule.file", "old": "reward.1.py", "new": "reward.py"}
    assert train_run._keep_reward(cfg, folder, 18) == [change]
    assert (folder.data_dir / "reward.py").read_text() == "mended"
    assert (folder.data_dir / "reward.1.py").read_text() == "broken"


@pytest.mark.parametrize(
    ("hardware", "slots"),  # two workers ran with 8; the last is what verl 0.9.1 was seen to want
    [("cpu", 5), ("cpu_two_workers", 8), ("one_gpu", 7), ("eight_gpus", 34)],
)
def test_cpu_slots_are_counted(hardware, slots):
    cfg = compose("+experiment=one_shot", f"hardware={hardware}")
    assert machine.cpu_slots(cfg) == slots
    machine.check_slots(cfg, slots, "this machine")
    with pytest.raises(ConfigError, match=f"needs {slots} CPU slots of Ray, this machine has {slots - 1}: ") as refusal:
        machine.check_slots(cfg, slots - 1, "this machine")
    assert f"ray_kwargs.ray_init.num_cpus={slots} " in str(refusal.value)


def test_a_cluster_that_is_too_small_is_said_with_its_numbers():
    cfg = compose("+experiment=one_shot", "hardware=cpu_two_workers", "ray.address=10.0.0.1:6379")
    ray_cluster.check_cluster(cfg, {"CPU": 8, "GPU": 2}, cfg.ray.address)
    with pytest.raises(ConfigError, match="needs 2 devices on 1 .*the cluster at 10.0.0.1:6379 has 1 in all"):
        ray_cluster.check_cluster(cfg, {"CPU": 8, "GPU": 1}, cfg.ray.address)
