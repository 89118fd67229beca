"""`experiments.launch launch=slurm` against a real Slurm on this machine, where its programs are installed; skipped elsewhere.

    apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
    REAL_RUNS=1 pytest -n0 tests/experiments/test_slurm.py   # with real training; else a run.py that only keeps its folder,
                                                             # and no job of two nodes (both are this machine)

Two runs are submitted with `sbatch`. While they run, one task is requeued by `scontrol requeue`, the other by SIGUSR2. To pass,
both must stop cleanly, resume from their checkpoint and finish, each step exactly once, and a second launch must find them, when
queued and when finished. Slurm lets a requeued task wait for two minutes, so the test sets its start time. LIMIT_S allows two
starts on a busy machine; 120 s allow for Slurm itself, which checks its jobs every 30 s.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from experiments import launch, slurm
from rlvr.cli import ConfigError, command
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_lines
from rlvr.runs.plain_files import read_json

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1500
DAEMONS = ("slurmctld", "slurmd", "munged")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
ReturnToService=2
SlurmdParameters=config_overrides
SwitchType=switch/none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=16818 CPUs={cpus} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=16819 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=n1 Default=YES MaxTime=INFINITE State=UP
PartitionName=both Nodes=n1,n2 MaxTime=INFINITE State=UP
"""
SMALL = ["scale.steps=8", "scale.prompts_per_step=2", "scale.samples_per_prompt=4", "scale.benchmarks=[tiny500]"]
SMALL += ["+benchmarks.tiny500.limit=4", "scale.save_every=2", "scale.evaluate_every=8"]
STAND_IN = f"""
import sys, time, zipfile
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from rlvr.runs import provenance
from rlvr.runs.folder import open_run
from rlvr.runs.metrics_file import MetricsWriter
from rlvr.training.signals import listen
listen()
given = dict(a.lstrip("+").split("=", 1) for a in sys.argv[1:])
path = Path(given["runs_dir"], "tiny", "tiny", given["experiment"], "seed0")
with open_run(path, {{"scale": {{"name": "tiny", "steps": 8}}, "seed": 0}}) as folder:
    begun = folder.resume_step()
    provenance.begin(folder, begun)
    writer = MetricsWriter(folder.metrics_path, resume_at=begun or None)
    try:
        for step in range(begun + bool(begun), 9):
            if step and step % 2 == 0:
                folder.checkpoint_path(step).mkdir(parents=True, exist_ok=True)
                (folder.checkpoint_path(step) / "data.pt").touch()
            writer.write({{"step": step}})
            time.sleep(1 if step < 4 or begun else 60)
    except KeyboardInterrupt:
        provenance.end(folder, "interrupted")
        sys.exit(130)
    provenance.end(folder, "finished")
"""


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


def test_a_job_of_the_users_own_may_have_any_name(tmp_path, monkeypatch):
    place = tmp_path / "slurm" / "sweep" / "3.folder"
    place.parent.mkdir(parents=True)
    place.write_text("runs/a/seed0")
    monkeypatch.setattr(slurm, "_output", lambda *command: "my other job 123 N/A\n\nsweep 77 3\n")
    assert slurm.queued(tmp_path) == {Path("runs/a/seed0"): "77_3"}


def test_without_slurm_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no squeue on this machine; launch=local runs here"):
        slurm.queued(Path("runs"))


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Slurm of two nodes, both this machine, for this test alone, with its own key, ports and folders."""
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing or os.getuid():
        pytest.skip(f"needs root and Slurm's programs; not here: {', '.join(missing) or 'root'}")
    place = tmp_path / "slurm"
    for folder in ("state", "spooln1", "spooln2"):
        (place / folder).mkdir(parents=True)
    conf = place / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(place=place, host=host, cpus=2))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    key = place / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = [f"--key-file={key}", f"--socket={place}/munge.socket", f"--pid-file={place}/munge.pid"]
    munge += [f"--log-file={place}/munge.log", f"--seed-file={place}/munge.seed", "--foreground", "--force"]
    processes = []
    try:
        for command in (
            ["munged", *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", "n1"],
            ["slurmd", "-D", "-N", "n2"],
        ):
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
def test_two_runs_through_sbatch_are_requeued_and_finish(cluster, tmp_path, monkeypatch, capsys):
    runs_dir, table = tmp_path / "runs", tmp_path / "mine.yaml"
    rows = "".join(f"  - {{label: {name}, experiment: {name}}}\n" for name in ("one_shot", "no_kl"))
    table.write_text(f"kind: table\ntitle: Mine\ncolumns: [MATH500]\nseeds: [0]\nrows:\n{rows}")
    arguments = [str(table), f"runs_dir={runs_dir}", "launch=slurm", "launch.cpus_per_task=1", "tracking=off"]
    if os.environ.get("REAL_RUNS"):
        arguments += SMALL
    else:
        (tmp_path / "run.py").write_text(STAND_IN)
        monkeypatch.setattr(slurm, "ROOT", tmp_path)

    def launched() -> str:
        code = command(launch.Options, launch.launch, "", arguments)
        printed = "".join(capsys.readouterr())
        assert code == 0, printed
        return printed

    assert "2 runs submitted" in launched()
    assert "2 runs: 2 queued" in launched()
    folders = {task: RunFolder(path) for path, task in slurm.queued(runs_dir).items()}
    for task, requeue in zip(
        sorted(folders), (["scontrol", "requeue"], ["scancel", "--signal=USR2", "--batch"]), strict=True
    ):
        wait_until(lambda folder=folders[task]: folder.last_step() >= 3, LIMIT_S)
        run(*requeue, task)
    for task, folder in folders.items():
        wait_until(lambda folder=folder: folder.ending() == "interrupted", 120)  # in order, not by force
        wait_until(lambda task=task: f"{task} PENDING" in run("squeue", "--array", "--noheader", "--format=%i %T"), 120)
        # slurmd counts in seconds: a job begun again in the one that revoked its credential is killed.
        time.sleep(2)
        run("scontrol", "update", f"JobId={task}", "StartTime=now")
    for folder in folders.values():
        wait_until(lambda folder=folder: folder.state == "finished", LIMIT_S)
        assert [line["step"] for line in metrics_lines(folder.metrics_path)] == list(range(9))
        assert [start["step"] >= 2 for start in read_json(folder.provenance_path)["resumed_at"]] == [True]
    wait_until(lambda: not run("squeue", "--noheader"), 120)
    assert "2 runs: 2 there already" in launched()


@pytest.mark.on_request("REAL_RUNS")
@pytest.mark.timeout(2 * LIMIT_S)
def test_a_job_of_two_nodes_starts_and_ends_its_own_ray(cluster, tmp_path, capsys):
    """Two data-parallel workers, one on each node; requeued once by SIGUSR2, it ends Ray, starts it again and goes on."""
    runs_dir, table, setup = tmp_path / "runs", tmp_path / "mine.yaml", tmp_path / "setup.sh"
    table.write_text(
        "kind: table\ntitle: Mine\ncolumns: [MATH500]\nseeds: [0]\nrows:\n  - {label: one, experiment: one_shot}\n"
    )
    setup.write_text("""export RAY_OVERRIDE_RESOURCES='{"CPU": 6, "GPU": 1}'\n""")  # what a node with one device has
    arguments = [str(table), f"runs_dir={runs_dir}", "launch=slurm", "launch.partition=both", "tracking=off", *SMALL]
    arguments += [
        "hardware=cpu_two_workers",
        "hardware.nodes=2",
        "hardware.devices_per_node=1",
        f"launch.setup={setup}",
    ]
    arguments[arguments.index("scale.prompts_per_step=2")] = "scale.prompts_per_step=4"
    assert command(launch.Options, launch.launch, "", arguments) == 0, "".join(capsys.readouterr())
    [(path, task)] = slurm.queued(runs_dir).items()
    folder, log = RunFolder(path), next((runs_dir / "slurm").glob("*")) / "0.log"
    wait_until(lambda: folder.last_step() >= 3, LIMIT_S)
    run("scancel", "--signal=USR2", "--batch", task)
    wait_until(lambda: folder.ending() == "interrupted", 120)
    wait_until(lambda: f"{task} PENDING" in run("squeue", "--array", "--noheader", "--format=%i %T"), 120)
    wait_until(lambda: not rays(), 60)
    run("scontrol", "update", f"JobId={task}", "StartTime=now")
    wait_until(lambda: folder.state == "finished", LIMIT_S)
    assert [line["step"] for line in metrics_lines(folder.metrics_path)] == list(range(9)), log.read_text()
    wait_until(lambda: not run("squeue", "--noheader"), 120)
    wait_until(lambda: not rays(), 60)


def rays() -> list[str]:
    """Raylets of `ray start`, by their command lines; those of runs lie in folders of their own."""
    return [line for line in run("ps", "-eo", "args").splitlines() if "raylet/raylet" in line and "/tmp/ray/" in line]
