"""The promises of the run folder: each step once after a crash, nothing overwritten, one process at a time."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from experiments.timings.synthetic_runs import sample_columns
from rlvr.runs import lock as lock_module
from rlvr.runs import provenance, samples
from rlvr.runs.config_changes import RunConflict, config_differences
from rlvr.runs.folder import RunFolder, open_run
from rlvr.runs.metrics_file import MetricsWriter, metrics_lines, read_metrics
from rlvr.runs.plain_files import DamagedFile, RunFolderError, write_json


def config(run_dir, **changes):
    base = {
        "seed": 0,
        "tracking": "offline",
        "check": False,
        "run_dir": str(run_dir),
        "loss": {"kl": 0.001, "entropy": 0.001},
        "scale": {"learning_rate": 1e-6, "benchmarks": [{"name": "math500", "limit": None}]},
        "data": {"train_files": f"{run_dir}/data/train.parquet"},
    }
    return base | changes


def test_a_run_is_new_then_unfinished_then_finished(tmp_path):
    path = tmp_path / "runs" / "seed0"
    with open_run(path, config(path)) as folder:
        assert folder.state == "unfinished" and folder.config() == config(path)
        provenance.begin(folder)
    with open_run(path, config(path)) as folder:
        assert folder.state == "unfinished"
        provenance.begin(folder, step=20)
        provenance.end(folder, "finished")
    before = folder.config_path.stat().st_mtime_ns
    assert open_run(path, config(path)).state == "finished"
    assert folder.config_path.stat().st_mtime_ns == before
    record = json.loads(folder.provenance_path.read_text())
    assert record["status"] == "finished" and [r["step"] for r in record["resumed_at"]] == [20]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_did_not_end_well_is_unfinished(tmp_path, status):
    with open_run(tmp_path / "r", config(tmp_path / "r")) as folder:
        provenance.begin(folder)
        provenance.end(folder, status, "ValueError: x")
    assert folder.state == "unfinished"


def test_a_changed_config_is_refused_with_its_keys(tmp_path):
    path = tmp_path / "seed0"
    open_run(path, config(path)).release()
    with pytest.raises(RunConflict) as refusal:
        open_run(path, config(path, loss={"kl": 0.0, "entropy": 0.001}))
    assert "loss.kl: 0.001 → 0.0" in str(refusal.value)
    assert "variant=<name>" in str(refusal.value) and "entropy" not in str(refusal.value)
    assert RunFolder(path).config()["loss"]["kl"] == 0.001
    open_run(path, config(path)).release()  # a refusal leaves no lock behind


def test_a_refusal_shows_eight_keys_and_counts_the_rest(tmp_path):
    path = tmp_path / "seed0"
    open_run(path, config(path)).release()
    with pytest.raises(RunConflict, match="k7: .*none.* → 7; and 3 more"):
        open_run(path, config(path, **{f"k{i}": i for i in range(11)}))


def test_tracking_check_and_the_folders_own_place_may_differ(tmp_path):
    old, new = (config("runs/a", tracking="off"), config("/elsewhere/runs/a", check=True, runs_dir="/elsewhere/runs"))
    assert config_differences(old, new) == {}
    limited = config("runs/a", scale={"learning_rate": 1e-6, "benchmarks": [{"name": "math500", "limit": 50}]})
    assert config_differences(old, limited) == {"scale.benchmarks[0].limit": (None, 50)}
    without = {key: value for key, value in old.items() if key != "seed"}
    assert config_differences(old, without) == {"seed": (0, "(none)")}
    moved = [old | {"model": f"{place}/rlvr/tiny/model"} for place in ("/a/checkout", "/b")]
    assert config_differences(*moved) == {}
    others = [old | {"model": f"{place}/rlvr/no/model"} for place in ("/a/checkout", "/b")]
    assert config_differences(*others) == {"model": ("/a/checkout/rlvr/no/model", "/b/rlvr/no/model")}
    assert config_differences(old, old | {"came_later": None}) == {}
    assert config_differences(old, old | {"came_later": 1}) == {"came_later": ("(none)", 1)}


def test_small_floats_survive_the_config_file(tmp_path):
    path = tmp_path / "seed0"
    open_run(path, config(path)).release()
    assert RunFolder(path).config()["scale"]["learning_rate"] == 1e-6


def test_files_of_unknown_origin_are_not_touched(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(RunFolderError, match="metrics.jsonl but no config.yaml"):
        open_run(tmp_path, config(tmp_path))
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0}\n'


def test_a_place_that_cannot_be_written_or_is_full_is_one_line_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot write .*runs_dir=") as refusal:
        open_run(tmp_path / "file" / "seed0", config(tmp_path))
    assert "\n" not in str(refusal.value)
    with pytest.raises(RunFolderError, match="GiB free .*runs_dir="):
        open_run(tmp_path / "seed0", config(tmp_path), min_free_bytes=2**60)


def hold(path, ready):
    with open_run(path, config(path)):
        ready.set()
        time.sleep(60)


def test_a_second_process_is_kept_out_until_the_first_is_killed(tmp_path):
    path = tmp_path / "seed0"
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    holder = spawn.Process(target=hold, args=(path, ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(RunFolderError, match=f"pid {holder.pid} on .*wait for it or stop it"):
        open_run(path, config(path))
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    open_run(path, config(path)).release()


def test_a_run_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in range(5):
        writer.write({"step": step, "train/reward": step / 4})
    with open(path, "a") as file:
        file.write('{"step": 5, "train/rew')  # kill -9 in the middle of a write
    assert list(read_metrics(path)["step"]) == [0, 1, 2, 3, 4]
    writer = MetricsWriter(path, resume_at=3)  # the last checkpoint
    assert writer.last_step == 3
    writer.write({"step": 4, "train/reward": 0.25})
    assert [line["step"] for line in metrics_lines(path)] == [0, 1, 2, 3, 4]
    assert metrics_lines(path)[4]["train/reward"] == 0.25


def test_a_step_is_written_once(tmp_path):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.write({"step": 1})
    with pytest.raises(ValueError, match="step 1 after step 1"):
        writer.write({"step": 1})


def test_a_start_from_the_beginning_keeps_no_line_of_an_attempt_without_checkpoint(tmp_path):
    MetricsWriter(tmp_path / "metrics.jsonl").write({"step": 0})
    assert MetricsWriter(tmp_path / "metrics.jsonl", resume_at=None).last_step == -1


def test_an_evaluation_is_missing_between_evaluations(tmp_path):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.write({"step": 0, "eval/tiny500/accuracy": 0.36})
    writer.write({"step": 1, "train/accuracy": 0.5})
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert metrics["eval/tiny500/accuracy"].isna().tolist() == [False, True]


def test_resume_skips_a_checkpoint_whose_metrics_line_is_missing(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.resume_step() == 0
    for step in (20, 40):
        (folder.checkpoints_dir / f"global_step_{step}").mkdir(parents=True)
        (folder.checkpoints_dir / f"global_step_{step}" / "data.pt").touch()  # what marks it as resumable
    writer = MetricsWriter(folder.metrics_path)
    for step in range(40):  # killed after the checkpoint of step 40, before its line
        writer.write({"step": step})
    assert folder.resume_step() == 20
    write_json(folder.unevaluated_path(40), {"step": 40})  # killed during the evaluation of step 40
    assert folder.resume_step() == 40
    folder.unevaluated_path(40).unlink()
    writer.write({"step": 40})
    assert folder.resume_step() == 40


def test_rewind_removes_what_comes_after_the_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (19, 20, 21):
        samples.write(folder.rollouts_path(step), sample_columns(reward=[1.0]))
    samples.write(folder.eval_path("math500", 30), sample_columns(score=[1.0]))
    folder.rewind(20)
    assert sorted(file.name for file in tmp_path.rglob("*.parquet")) == ["step000019.parquet", "step000020.parquet"]


def test_responses_come_back_as_written_and_compressed(tmp_path):
    import pyarrow.parquet as pq

    rows = {"uid": ["a", "a"], "response": ["x \\boxed{4}", "π\n"], "score": [1.0, 0.0], "boxed": [True, False]}
    path = samples.write(RunFolder(tmp_path).rollouts_path(7), sample_columns(**rows))
    assert path == tmp_path / "rollouts" / "step000007.parquet"
    assert {name: list(values) for name, values in samples.read(path, list(rows)).items()} == rows
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = samples.write(RunFolder(tmp_path).eval_path("math500", 0), sample_columns(score=[1.0]))
    before = path.read_bytes()
    with pytest.raises(ValueError):  # columns of unequal length
        samples.write(path, sample_columns(score=[1.0]) | {"id": ["a", "b"]})
    for wrong in ({"scroe": [1.0]}, {"score": ["x"]}):
        with pytest.raises(ValueError):
            samples.write(path, sample_columns(score=[1.0]) | wrong)
    assert path.read_bytes() == before


def test_a_column_that_a_file_lacks_is_named_and_an_optional_one_is_left_out(tmp_path):
    import pandas as pd

    pd.DataFrame({"id": ["3", "5"], "score": [1.0, 0.0]}).to_parquet(tmp_path / "some.parquet")
    some = samples.read(tmp_path / "some.parquet", ["id", "score"], optional=["answer"])
    assert some["id"] == ["3", "5"] and some["score"].tolist() == [1.0, 0.0] and "answer" not in some
    with pytest.raises(KeyError, match="no column gold"):
        samples.read(tmp_path / "some.parquet", ["gold"])


def test_provenance_says_what_ran_on_what(tmp_path):
    with open_run(tmp_path / "r", config(tmp_path / "r")) as folder:
        provenance.begin(folder)
    record = json.loads(folder.provenance_path.read_text())
    assert record["status"] == "running" and record["end"] is None
    assert record["packages"]["torch"] and record["hardware"]["cores"] >= 1
    assert isinstance(record["hardware"]["gpus"], list)


def test_outside_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "rlvr" / "runs" / "provenance.py"))
    assert provenance.git_state() == {"commit": None, "dirty": None}


# ---------------------------------------------------------------------------------------- what may grow


def of_steps(path, steps, *overrides):
    settings = {"scale": {"steps": steps, "save_every": 20}, "trainer": {"total_training_steps": steps, "total_epochs": steps}}
    return config(path, **settings, overrides=[f"scale.steps={steps}", *overrides])


def with_checkpoint(folder, step):
    checkpoint = folder.checkpoint_path(step)
    checkpoint.mkdir(parents=True)
    with zipfile.ZipFile(checkpoint / "data.pt", "w") as file:
        file.writestr("data", "x" * 100)
    writer = MetricsWriter(folder.metrics_path)
    for line in range(step + 1):
        writer.write({"step": line})


def test_a_finished_run_grows_from_its_last_checkpoint_and_says_so(tmp_path):
    path = tmp_path / "seed0"
    with open_run(path, of_steps(path, 60)) as folder:
        provenance.begin(folder)
        with_checkpoint(folder, 60)
        provenance.end(folder, "finished")
    for other in (of_steps(path, 40), of_steps(path, 80, "loss.kl=0"), of_steps(path, 80) | {"seed": 1}):
        with pytest.raises(RunConflict):  # shorter, or not only longer
            open_run(path, other)
    assert folder.state == "finished" and folder.config()["scale"]["steps"] == 60
    with open_run(path, of_steps(path, 240)) as folder:
        assert (folder.state, folder.resume_step(), folder.config()) == ("unfinished", 60, of_steps(path, 240))
        provenance.begin(folder, 60)
        with_checkpoint(folder, 240)
        provenance.end(folder, "finished")
    record = json.loads(folder.provenance_path.read_text())
    assert record["changed"] == [{"step": 60, "key": "scale.steps", "old": 60, "new": 240}]
    with pytest.raises(RunConflict, match="scale.steps: 240 → 60"):
        open_run(path, of_steps(path, 60))


def test_a_finished_run_without_a_checkpoint_does_not_grow(tmp_path):
    with open_run(tmp_path, of_steps(tmp_path, 60)) as folder:
        provenance.begin(folder)
        MetricsWriter(folder.metrics_path).write({"step": 60})
        provenance.end(folder, "finished")
    with pytest.raises(RunConflict, match="no checkpoint to resume from"):
        open_run(tmp_path, of_steps(tmp_path, 240))
    assert folder.last_step() == 60


# ---------------------------------------------------------------------------------------- what is damaged, and what died


def test_a_damaged_file_is_named_in_one_line_by_its_reader(tmp_path):
    folder = RunFolder(tmp_path)
    with_checkpoint(folder, 2)
    folder.check_checkpoint(2)
    readers = {
        folder.config_path: folder.config,
        folder.provenance_path: folder.ending,
        folder.metrics_path: folder.last_step,
        folder.rollouts_path(1): lambda: samples.read(folder.rollouts_path(1), ["score"]),
        folder.checkpoint_path(2) / "data.pt": lambda: folder.check_checkpoint(2),
    }
    samples.write(folder.rollouts_path(1), sample_columns(score=[1.0]))
    for file in readers:
        whole = file.read_bytes() if file.exists() else b'{"step": 1, "status":\n'
        file.write_bytes(whole[: len(whole) // 2] + b"\n")
    for file, reader in readers.items():
        with pytest.raises(DamagedFile) as damage:
            reader()
        assert str(damage.value).startswith(f"{file}: cannot be read") and "\n" not in str(damage.value)


def test_a_run_that_says_it_runs_and_whose_process_is_gone_has_died(tmp_path):
    with open_run(tmp_path, config(tmp_path)) as folder:
        provenance.begin(folder)
        assert RunFolder(tmp_path).status() == "running"
    assert folder.status() == "died" and folder.state == "unfinished"


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare (util-linux) mounts a small disk")
def test_a_full_and_a_read_only_disk_are_said_and_lose_nothing(tmp_path):
    """In a mount namespace of its own, so that nothing is left mounted however the test ends."""
    code = f"""
import subprocess
from pathlib import Path
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import MetricsWriter, metrics_lines
from rlvr.runs.plain_files import write_json
place = Path({str(tmp_path)!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place], check=True)
folder = RunFolder(place)
writer = MetricsWriter(folder.metrics_path)
writer.write({{"step": 0}})
write_json(folder.provenance_path, {{"status": "running"}})
print(folder.cannot_write())
(place / "filler").write_bytes(bytes(8 * 2**20))
print(folder.cannot_write())
try:
    (place / "rest").write_bytes(bytes(20 * 2**20))
except OSError:
    pass
for write in (lambda: write_json(folder.provenance_path, {{"x": "y" * 100000}}), lambda: writer.write({{"step": 1, "x": "y" * 100000}})):
    try:
        write()
    except OSError as error:
        print(error.strerror)
(place / "rest").unlink(), (place / "filler").unlink()
print(folder.ending(), [line["step"] for line in metrics_lines(folder.metrics_path)], folder.cannot_write())
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
print(folder.cannot_write())
"""
    inside = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else []), sys.executable, "-c", code]
    done = subprocess.run(inside, capture_output=True, text=True)
    if done.returncode and any(text in done.stderr.lower() for text in ("not permitted", "superuser", "denied")):
        pytest.skip("this user may not mount")
    assert done.returncode == 0, done.stderr
    remedy = "make room there, and the same command resumes the run"
    assert done.stdout.splitlines() == [
        "None",
        f"{tmp_path}: cannot write (No space left on device): {remedy}",
        "No space left on device",
        "No space left on device",
        "running [0] None",
        f"{tmp_path}: cannot write (Read-only file system): {remedy}",
    ]


def test_an_unfinished_run_may_also_end_sooner_but_not_before_where_it_is(tmp_path):
    with open_run(tmp_path, of_steps(tmp_path, 240)) as folder:
        with_checkpoint(folder, 60)
    with pytest.raises(RunConflict, match="scale.steps: 240 → 59"):
        open_run(tmp_path, of_steps(tmp_path, 59))
    open_run(tmp_path, of_steps(tmp_path, 80)).release()
    assert folder.config()["scale"]["steps"] == 80


def test_a_host_whose_locks_are_not_seen_is_recognised_by_its_touch(tmp_path, monkeypatch):
    """The disk is stood in for by a lock that both get; the other host touches its file, then dies."""
    monkeypatch.setattr(lock_module, "TOUCH_S", 0.1)
    monkeypatch.setattr(lock_module, "SILENT_S", 0.5)
    lock = tmp_path / "lock"
    lock.write_text("pid 7 on another-host")
    done = threading.Event()
    other = threading.Thread(target=lock_module._touch, args=(lock, done))
    other.start()
    with pytest.raises(RunFolderError, match="another process .pid 7 on another-host. runs here"):
        open_run(tmp_path, config(tmp_path))
    done.set()
    other.join()
    with open_run(tmp_path, config(tmp_path)):
        assert lock.read_text() == f"pid {os.getpid()} on {socket.gethostname()}"
        before = lock.stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while lock.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lock.stat().st_mtime_ns > before
    assert lock.read_text() == ""
