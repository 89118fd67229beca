"""What a run asks of Ray: enough slots and devices, and a scratch folder whose sockets' paths are short enough."""

import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from ray._private.utils import validate_socket_filepath

from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.planning import machine
from rlvr.planning.plan import plan
from rlvr.training import ray_cluster


@pytest.mark.parametrize(
    ("hardware", "slots"),  # two workers ran with 8; the last is what verl 0.9.1 was seen to want
    [("cpu", 5), ("cpu_two_workers", 8), ("one_gpu", 7), ("eight_gpus", 34)],
)
def test_cpu_slots_are_counted(hardware, slots):
    asked = plan(compose("+experiment=one_shot", f"hardware={hardware}")).devices
    assert asked.slots == slots
    machine.check_slots(asked, slots, "this machine")
    with pytest.raises(ConfigError, match=f"needs {slots} CPU slots of Ray, this machine has {slots - 1}: ") as refusal:
        machine.check_slots(asked, slots - 1, "this machine")
    assert f"ray_kwargs.ray_init.num_cpus={slots} " in str(refusal.value)


def test_a_cluster_that_is_too_small_is_said_with_its_numbers():
    asked = plan(compose("+experiment=one_shot", "hardware=cpu_two_workers", "ray.address=10.0.0.1:6379")).devices
    machine.check_cluster(asked, {"CPU": 8, "GPU": 2})
    with pytest.raises(ConfigError, match="needs 2 devices on 1 .*the cluster at 10.0.0.1:6379 has 1 in all"):
        machine.check_cluster(asked, {"CPU": 8, "GPU": 1})


DRIVER = """
import sys, time
from rlvr.training.ray_cluster import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    time.sleep(float(sys.argv[1]))
"""


def test_a_start_removes_what_a_killed_driver_left_and_nothing_of_other_hosts(tmp_path, monkeypatch, request):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ray_cluster, "LONGEST_SOCKET", 1000)  # the folder of this test has a long name
    code = DRIVER.replace("with", "from rlvr.training import ray_cluster; ray_cluster.LONGEST_SOCKET = 1000\nwith", 1)
    command = [sys.executable, "-c", code, "600"]
    drivers = [
        subprocess.Popen(command, cwd=request.config.rootpath, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    killed, alive = (Path(driver.stdout.readline().strip()) for driver in drivers)
    (guardian,) = psutil.Process(drivers[0].pid).children()
    guardian.kill()
    drivers[0].kill()
    drivers[0].wait()
    others = [tmp_path / f"rlvr-{drivers[0].pid}-abcdefgh", tmp_path / "rlvr-abcdefgh", tmp_path / "rlvr-hgfedcba"]
    for folder in others:
        folder.mkdir()
    (others[2] / f"owner-0123456789abcdef-{drivers[0].pid}").touch()
    try:
        assert killed.is_dir()
        with ray_cluster.scratch_folder() as mine:
            assert Path(mine).parent == tmp_path and not killed.exists()
            assert alive.is_dir() and all(folder.is_dir() for folder in others)
    finally:
        drivers[1].kill()
        drivers[1].wait()
    assert not Path(mine).exists()


@pytest.mark.parametrize("length", [16, 23, 24, 25, 26, 60])
def test_rays_sockets_have_paths_that_are_short_enough(length, monkeypatch):
    """A process id has up to seven digits. The temporary folder is used where that leaves room, else /tmp."""
    with tempfile.TemporaryDirectory(prefix="t" * (length - len("/tmp/12345678")), dir="/tmp") as folder:
        assert len(folder) == length
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with ray_cluster.scratch_folder() as scratch:
            validate_socket_filepath(f"{scratch}/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store")
            room = len(folder) <= (25 if sys.platform == "linux" else 21)
            assert Path(scratch).parent == Path(folder if room else "/tmp")
