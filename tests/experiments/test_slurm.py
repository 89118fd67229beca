"""`experiments.launch launch=slurm` against a real Slurm on this machine, where its programs are installed; skipped elsewhere.

    apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge

Two tiny runs go through `sbatch`; one task is requeued by `scontrol requeue`, one by SIGUSR2, both while they train. To pass,
both must finish, each step exactly once, and the second launch must find them. Slurm lets a requeued task wait for two
minutes, so the test sets its start time. LIMIT_S: two starts of each run on a busy machine of two cores.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import slurm
from rlvr.cli import ConfigError
from rlvr.runs.folder import RunFolder, metrics_lines, read_json

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1500
DAEMONS = ("slurmctld", "slurmd", "munged")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
ReturnToService=2
SwitchType=switch/none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
SMALL = ["scale.steps=8", "scale.prompts_per_step=2", "scale.samples_per_prompt=4", "scale.benchmarks=[tiny500]"]
SMALL += ["+benchmarks.tiny500.limit=4", "scale.save_every=2", "scale.evaluate_every=8", "tracking=off"]


def test_options_are_checked(tmp_path):
    how = slurm.settings(["launch.partition=gpu", "launch.time=4:00:00", "launch.options=[--qos=low]"])
    assert (how["partition"], how["time"], how["options"]) == ("gpu", "4:00:00", ["--qos=low"])
    for override, message in (
        ("launch.partitoin=gpu", "did you mean partition"),
        ("launch.at_once=0", "launch.at_once=0: expected a whole number above 0"),
        (f"launch.setup={tmp_path}/no.sh", "no such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            slurm.settings([override])


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="sbatch is installed")
def test_without_slurm_it_is_said():
    with pytest.raises(ConfigError, match="no squeue on this machine; launch=local runs here"):
        slurm.queued(Path("runs"))


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Slurm of one node for this test alone, with its own key, ports and folders."""
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing or os.getuid():
        pytest.skip(f"needs root and Slurm's programs; not here: {', '.join(missing) or 'root'}")
    place = tmp_path / "slurm"
    for folder in ("state", "spool"):
        (place / folder).mkdir(parents=True)
    conf = place / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(place=place, host=host, cpus=len(os.sched_getaffinity(0))))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    key = place / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = [f"--key-file={key}", f"--socket={place}/munge.socket", f"--pid-file={place}/munge.pid"]
    munge += [f"--log-file={place}/munge.log", f"--seed-file={place}/munge.seed", "--foreground", "--force"]
    processes = []
    try:
        for command in (["munged", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(1)
        wait_until(lambda: "idle" in run("sinfo", "--noheader", "--format=%t"), 60)
        yield
        run("scancel", "--me")
        wait_until(lambda: not run("squeue", "--noheader"), 60)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout.strip()


def wait_until(holds, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "not within its limit"
        time.sleep(0.5)


@pytest.mark.timeout(2 * LIMIT_S)
def test_two_runs_through_sbatch_are_requeued_and_finish(cluster, tmp_path):
    runs_dir = tmp_path / "runs"
    table = tmp_path / "mine.yaml"
    rows = "".join(f"  - {{label: {name}, experiment: {name}}}\n" for name in ("one_shot", "no_kl"))
    table.write_text(f"kind: table\ntitle: Mine\ncolumns: [MATH500]\nseeds: [0]\nrows:\n{rows}")
    program = [sys.executable, "-m", "experiments.launch", str(table), f"runs_dir={runs_dir}", *SMALL]
    program += ["launch=slurm", "launch.at_once=1", "launch.cpus_per_task=1"]
    first = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 runs submitted" in first.stdout
    assert "2 queued" in subprocess.run(program, cwd=ROOT, capture_output=True, text=True).stdout
    folders = {task: RunFolder(path) for path, task in slurm.queued(runs_dir).items()}
    for task, requeue in zip(
        sorted(folders), (["scontrol", "requeue"], ["scancel", "--signal=USR2", "--batch"]), strict=True
    ):
        folder = folders[task]
        wait_until(lambda folder=folder: folder.last_step() >= 3, LIMIT_S)
        run(*requeue, task)
        wait_until(lambda folder=folder: folder.ending() == "interrupted", 120)  # in order, not by force
        wait_until(lambda task=task: f"{task} PENDING" in run("squeue", "--array", "--noheader", "--format=%i %T"), 120)
        run("scontrol", "update", f"JobId={task}", "StartTime=now")
        wait_until(lambda folder=folder: folder.state == "finished", LIMIT_S)
        assert [line["step"] for line in metrics_lines(folder.metrics_path)] == list(range(9))
        assert [start["step"] >= 2 for start in read_json(folder.provenance_path)["resumed_at"]] == [True]
    wait_until(lambda: not run("squeue", "--noheader"), 120)
    again = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert "2 runs: 2 there already" in again.stdout
