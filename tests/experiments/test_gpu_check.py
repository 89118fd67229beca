"""experiments.gpu_check: what it leaves out without a GPU, that a part is done once, and how a killed run is checked.

A stand-in for run.py writes the runs; `python -m experiments.gpu_check device=cpu` makes real ones.
"""

import json
import sys
from pathlib import Path

import pytest

from experiments import gpu_check
from experiments.gpu_check import Options

STAND_IN = """
import json, sys, time
from pathlib import Path
given = dict(a.lstrip("+").split("=", 1) for a in sys.argv[1:])
folder = Path(given["runs_dir"], "tiny", "tiny", given["experiment"] + "-" + given["variant"], "seed0")
folder.mkdir(parents=True, exist_ok=True)
record, metrics = folder / "provenance.json", folder / "metrics.jsonl"
about = json.loads(record.read_text()) if record.exists() else {"status": "running", "resumed_at": []}
steps = int(given.get("scale.steps", 8))
lines = metrics.read_text().splitlines() if metrics.exists() else []
if about["status"] == "finished":
    sys.exit(0)
if lines:
    lines = lines[: RESUME + 1]
    about["resumed_at"].append({"step": RESUME})
record.write_text(json.dumps(about))
for step in range(len(lines), steps + 1):
    line = {"step": step, "train/accuracy": step / 8 + OFF * bool(about["resumed_at"]), "time/step_s": 0.1}
    lines.append(json.dumps(line | {"rollout/probs_diff_max": 0.01 * step, "rollout/probs_diff_mean": 0.001}))
    metrics.write_text("".join(line + "\\n" for line in lines))
    if step == 6 and "killed" in given["variant"] and not about["resumed_at"]:
        time.sleep(60)  # to be killed in
record.write_text(json.dumps(about | {"status": "finished"}))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    return lambda resume=4, off=0.0: (tmp_path / "run.py").write_text(f"RESUME, OFF = {resume}, {off}\n{STAND_IN}")


def options(tmp_path, *parts, device="cpu"):
    return Options(list(parts), device, tmp_path / "out")


def test_without_a_gpu_every_part_says_what_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_check.check(options(tmp_path, device="cuda")) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == list(gpu_check.PARTS)
    assert all("left out, lacks a CUDA GPU that torch finds" in line for line in said)
    assert not (tmp_path / "out").exists()


def test_without_vllm_the_torch_engine_generates(tmp_path, monkeypatch):
    for there, hardware in ((None, "one_gpu_torch"), (object(), "one_gpu")):
        monkeypatch.setattr(gpu_check, "find_spec", lambda name, there=there: there)
        assert gpu_check._hardware(options(tmp_path, device="cuda")) == hardware
    assert gpu_check._hardware(options(tmp_path)) == "cpu"


def test_a_part_is_done_once(tmp_path, capsys):
    assert gpu_check.check(options(tmp_path, "machine")) == 0
    found = json.loads((tmp_path / "out/machine.json").read_text())
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert gpu_check.check(options(tmp_path, "machine")) == 0
    assert f"machine: done already, {tmp_path}/out/machine.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stood", "ok"), [({}, True), ({"off": 0.1}, False), ({"resume": 3}, False)], ids=["equal", "drifts", "elsewhere"]
)
def test_a_killed_run_must_go_on_from_its_checkpoint_and_end_as_the_whole_one(tmp_path, stand_in, stood, ok):
    stand_in(**stood)
    assert gpu_check.check(options(tmp_path, "resume")) == (0 if ok else 1)
    found = json.loads((tmp_path / "out" / ("resume.json" if ok else "resume.failed.json")).read_text())
    assert found["steps"] == list(range(9)) and found["resumed_at"] == [stood.get("resume", 4)]
    assert found["gap_max"]["8"] == pytest.approx(stood.get("off", 0.0))


def test_runs_are_summarised_and_one_that_fails_is_named(tmp_path, stand_in, capsys):
    stand_in()
    assert gpu_check.check(options(tmp_path, "runs")) == 0
    found = json.loads((tmp_path / "out/runs.json").read_text())
    assert found["full_set_cpu"] == {
        "train/accuracy": [0.0, 1.0], "rollout/probs_diff_max": 0.08, "rollout/probs_diff_mean": 0.001, "time/step_s": 0.1
    }  # fmt: skip
    (tmp_path / "run.py").write_text("raise SystemExit('error: no room')")
    (tmp_path / "out/runs.json").unlink()
    assert gpu_check.check(options(tmp_path, "runs")) == 1
    assert f"runs: failed: one_shot-check_cpu: error: no room (full log: {tmp_path}" in capsys.readouterr().out


def test_parity_fails_where_a_difference_is_beyond_its_limit(tmp_path, monkeypatch):
    """On the measured table of the CPU's parts, and with one number of it changed."""
    import csv

    from experiments.timings import gpu_parity

    with open(Path(gpu_check.__file__).with_name("results") / "gpu_parity_cpu_parts.csv") as file:
        lines = list(csv.DictReader(file))
    monkeypatch.setattr(gpu_parity, "measure", lambda options: lines)
    given = options(tmp_path)
    assert gpu_check.parity(given)["ok"]
    lines[-1]["loss_diff"] = "0.01"
    assert gpu_check.parity(given)["beyond_limits"] == {"verl_fp32: loss_diff": "0.01"}
