"""experiments.launch and experiments.status: what is planned, what a sweep does after failures and Ctrl-C, what is shown.

The scheduling tests start a stand-in for run.py, which ends as the name of its experiment says. The last test starts real runs.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from analysis.needed_runs import Planned, needed
from experiments import launch, run_states
from experiments.launch_plan import hours, manifest, survey
from experiments.timings.synthetic_runs import write_run
from rlvr.cli import ConfigError, command, read
from rlvr.config.compose import compose
from rlvr.planning.plan import plan
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_lines

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["scale.steps=1", "scale.prompts_per_step=4", "scale.samples_per_prompt=4", "scale.benchmarks=[tiny500]"]
SMALL += ["+benchmarks.tiny500.limit=8", "tracking=off"]
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
given = dict(a.lstrip("+").split("=", 1) for a in sys.argv[1:])
name = given["experiment"]
if name == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
folder = Path(given["runs_dir"], given["scale"], "tiny", name, "seed" + given["seed"])
if name == "refused":
    sys.exit("error: label=x: no such label")
folder.mkdir(parents=True)
(folder / "config.yaml").write_text("scale:\\n  name: tiny\\n  steps: 1\\n")
def record(**keys):
    (folder / "provenance.json").write_text(json.dumps({"status": "running"} | keys))
record()
about = {"start": time.time(), "cores": sorted(os.sched_getaffinity(0)), "threads": os.environ.get("OMP_NUM_THREADS")}
if name == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "failing":
    record(status="failed", error="ValueError: the reward is broken")
    sys.exit(1)
try:
    time.sleep(60 if name in ("slow", "stubborn") else 0.7)
except KeyboardInterrupt:
    record(status="interrupted")
    sys.exit(130)
(folder / "about.json").write_text(json.dumps(about | {"end": time.time()}))
record(status="finished")
"""


def planned(experiment, runs_dir, *overrides, seed=0, base_model="tiny"):
    return Planned(experiment, "tiny", base_model, seed, overrides, Path(runs_dir))


def own_table(folder, *experiments):
    path = folder / "mine.yaml"
    rows = "\n".join(f"  - {{label: {name}, experiment: {name}}}" for name in experiments)
    path.write_text(
        f"kind: table\ntitle: Mine\ncolumns: [MATH500]\nseeds: [0]\nrows:\n  - {{label: Base, base: true}}\n{rows}\n"
    )
    return str(path)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    path = tmp_path / "run.py"
    path.write_text(STAND_IN)
    monkeypatch.setattr(launch, "RUN", path)
    return path


# ---------------------------------------------------------------------------------------- what is planned


def test_the_plan_of_table_5_is_its_rows_times_seeds_without_what_cannot_run(tmp_path):
    wanted, left_out = needed([manifest("table05_loss_ablation")], "tiny", [], [], tmp_path)
    assert (len(wanted), left_out) == (39, [])
    assert [run.seed for run in wanted] == [0] * 13 + [1] * 13 + [2] * 13  # a table fills evenly
    found = survey(wanted, here=True)
    refused = [out for out in found if out.word == "refused"]
    assert [(out.run.experiment, out.run.seed) for out in refused] == [("precise_label", seed) for seed in (0, 1, 2)]
    assert all(out.why.startswith("label=precision_12_7: 12.7 stands in for 12.8") for out in refused)
    assert {out.word for out in found} == {"refused", "start"}
    assert all(0 < out.hours < 1 for out in found if out.word == "start")


def test_tables_share_runs_and_rows_without_training_are_said():
    one, both = (
        needed([manifest(name) for name in names], "paper", [0], [], Path("runs"))
        for names in (["table08_main"], ["table08_main", "table09_best_each", "table12_r1_distill"])
    )
    names = {run.folder.path.parts[-2] for run in one[0]}
    assert names == {"math_full_set", "full_set", "format_reward", "one_shot", "one_shot_pi13", "two_shot"} | names
    folders = [run.folder.path for run in both[0]]
    assert len(folders) == len(set(folders)) and set(run.folder.path for run in one[0]) < set(folders)
    assert Path("runs/paper/qwen2_5_math_1_5b/one_shot-train_set.ranks=1209/seed0") in folders
    assert Path("runs/paper/deepseek_r1_distill_qwen_1_5b/four_shot/seed0") in folders
    assert one[1] == [
        "table08_main: nothing to train for Base (the untrained model, which every run evaluates at step 0)"
    ]
    assert "8k: DeepScaleR 40k (published by others; not a run of the paper's)" in both[1][-1]


def test_a_figure_needs_the_runs_of_its_panels():
    wanted, _ = needed([manifest("figure02_post_saturation")], "tiny", [0], [], Path("runs"))
    names = ["one_shot-scale.steps=240", "one_shot_pi13-scale.steps=240", "full_set"]
    assert [run.folder.path.parts[-2] for run in wanted] == names


@pytest.mark.parametrize(
    "run",
    [
        planned("one_shot", "some/runs"),
        planned(
            "one_shot", "some/runs", "train_set.ranks=[3, 7]", "+benchmarks.tiny500.limit=4", "tracking=off", seed=2
        ),
        planned("full_set", "some/runs", base_model="smollm2_135m"),
    ],
)
def test_a_planned_run_is_where_run_py_puts_it(run):
    assert run.folder.path == Path(compose(*run.arguments).run_dir)


def test_finished_is_skipped_unfinished_resumed_and_another_config_refused(tmp_path):
    write_run(tmp_path, "one_shot", 0, 4, 2, 4, 8, "tiny", "tiny", {"tiny500": 1})
    write_run(tmp_path, "full_set", 0, 4, 2, 4, 8, "tiny", "tiny", {"tiny500": 1}).provenance_path.unlink()
    begun, broken = planned("no_loss", tmp_path), planned("entropy_only", tmp_path)
    for run in (begun, broken):
        run.folder.path.mkdir(parents=True)
        run.folder.config_path.write_text(OmegaConf.to_yaml(plan(compose(*run.arguments)).config))
    begun.folder.metrics_path.write_text("".join(f'{{"step": {step}}}\n' for step in range(31)))
    broken.folder.provenance_path.write_text('{"status":')
    names = ("weight_decay", "one_shot", "full_set", "no_loss", "entropy_only")
    wanted = [planned(name, tmp_path) for name in names]
    *surveyed, other_seed = survey([*wanted, planned("full_set", tmp_path, seed=1)], here=True)
    found = {out.run.experiment: out for out in surveyed}
    assert other_seed.word == "start"  # a folder in the way is that of one seed
    words = {"no_loss": "resume", "weight_decay": "start", "one_shot": "there already", "full_set": "refused"}
    assert {name: out.word for name, out in found.items()} == words | {"entropy_only": "failed"}
    assert next(iter(found)) == "no_loss"
    assert "holds a run of another config" in found["full_set"].why
    assert found["entropy_only"].why.startswith(f"{broken.folder.provenance_path}: cannot be read")
    assert found["no_loss"].hours == pytest.approx(found["weight_decay"].hours / 2)  # 30 of 60 steps


def test_options_and_overrides(tmp_path):
    options = read(
        launch.Options, ["table05_loss_ablation", "jobs=2", "scale.steps=3", "+benchmarks.a.limit=1", "seeds=0,1"]
    )
    assert (options.tables, options.jobs, options.seeds) == (["table05_loss_ablation"], 2, [0, 1])
    assert options.overrides == ["scale.steps=3", "+benchmarks.a.limit=1"]
    for arguments, message in (
        (["table5_loss_ablation"], "did you mean table05_loss_ablation?"),
        (["table08_main", "scale=tny"], "scale=tny: did you mean tiny?"),
        (["table08_main", "base_model=tiny"], "base_model=tiny: the tables set base_model"),
    ):
        with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
            launch.launch(read(launch.Options, arguments))


def test_a_dry_run_lists_commands_and_starts_nothing(tmp_path, capsys):
    arguments = [own_table(tmp_path, "one_shot", "precise_label"), "dry_run=true", f"runs_dir={tmp_path / 'runs'}"]
    assert command(launch.Options, launch.launch, "", arguments) == 0
    printed = capsys.readouterr().out
    assert f"python run.py +experiment=one_shot scale=tiny seed=0 runs_dir={tmp_path / 'runs'}\n" in printed
    assert (
        "2 runs: 1 to start, 1 refused; one after the other about " in printed
        and "nothing to train for Base" in printed
    )
    assert not (tmp_path / "runs").exists()
    # A misspelt override fits no run: nothing can be done, and that is an error.
    assert command(launch.Options, launch.launch, "", [*arguments, "loss.entropi=1"]) == 1
    assert "did you mean loss.entropy?" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- how a sweep goes


def test_failures_are_named_and_stop_nothing(tmp_path, stand_in):
    names = ("failing", "good", "killed", "refused", "fine", "well")
    screen = Console(file=StringIO(), width=200)
    done = launch.Sweep([planned(name, tmp_path / "runs") for name in names], 2, screen).run()
    found = {out.run.experiment: (out.word, out.why.strip()) for out in done}
    assert {name: found.pop(name) for name in ("failing", "killed", "refused")} == {
        "failing": ("failed", "ValueError: the reward is broken"),
        "killed": ("failed", "killed by SIGKILL"),
        "refused": ("failed", "label=x: no such label"),
    }
    assert {word for word, _ in found.values()} == {"finished"} and len(found) == 3
    assert "run 6 of 6  tiny/tiny/well/seed0: starts" in screen.file.getvalue()
    about = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/*/*/*/about.json"))]
    for one in about:  # at most two at a time, each on cores of its own
        beside = [other for other in about if other["start"] <= one["start"] < other["end"]]
        assert len(beside) <= 2
        if len(os.sched_getaffinity(0)) > 1:
            assert sum(len(other["cores"]) for other in beside) == len({c for other in beside for c in other["cores"]})
        assert int(one["threads"]) == len(one["cores"]) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_the_exit_code_and_the_table_at_the_end(tmp_path, stand_in, monkeypatch, capsys):
    monkeypatch.setattr(launch, "survey", lambda wanted, here, queued: [launch.Outcome(run, "start") for run in wanted])
    table = own_table(tmp_path, "good", "failing")
    assert command(launch.Options, launch.launch, "", [table, f"runs_dir={tmp_path / 'runs'}"]) == 1
    last = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert last[0][:3] == ["tiny/tiny/good", "0", "finished"]
    assert " ".join(last[1]) == "tiny/tiny/failing 0 failed ValueError: the reward is broken"


def test_what_another_launch_has_done_meanwhile_is_not_done_again(tmp_path, stand_in):
    write_run(tmp_path, "good", 0, 2, 2, 4, 8, "tiny", "tiny", {"tiny500": 1})
    assert [out.word for out in launch.Sweep([planned("good", tmp_path)], 1, Console(file=StringIO())).run()] == [
        "there already"
    ]


@pytest.mark.parametrize(("name", "longest_s", "status"), [("slow", 4, "interrupted"), ("stubborn", 8, "running")])
def test_ctrl_c_stops_all_runs(name, longest_s, status, tmp_path, stand_in):
    """To pass, the command must end within seconds, even if a run ignores the signal (STOP_S is 3 s here), and leave no process."""
    todo = f"[Planned({name!r}, 'tiny', 'tiny', seed, (), Path({str(tmp_path / 'runs')!r})) for seed in range(3)]"
    code = f"""
from pathlib import Path
from rich.console import Console
from experiments import launch
from analysis.needed_runs import Planned
launch.RUN, launch.STOP_S = Path({str(stand_in)!r}), 3.0
print([out.word for out in launch.Sweep({todo}, 2, Console()).run()])
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "runs").glob("*/*/*/*/provenance.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    children = psutil.Process(process.pid).children(recursive=True)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - started < longest_s
    assert len(children) == 2 and not any(child.is_running() for child in children)
    assert printed.splitlines()[-1] == "['stopped', 'stopped']"
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/*/*/provenance.json")]
    assert [record["status"] for record in records] == [status] * 2


# ---------------------------------------------------------------------------------------- how runs stand


def hand_made(root: Path, name: str, status: str | None, steps: int = 60, **record) -> RunFolder:
    folder = RunFolder(root / "tiny" / "tiny" / name / "seed0")
    folder.path.mkdir(parents=True)
    scale = f"scale:\n  name: tiny\n  steps: {steps}\n  evaluate_every: 20\n  save_every: 20\n"
    folder.config_path.write_text(f"seed: 0\n{scale}base_model:\n  name: tiny\n")
    lines = [{"step": 0, "eval/tiny500/accuracy": 0.25, "eval/tiny500_avg2/accuracy": 0.5, "time/eval_s": 5.0}]
    lines += [{"step": step, "time/step_s": 2.0} for step in range(1, 31)]
    lines[20] |= {"time/eval_s": 7.0, "time/save_s": 1.0, "time/step_s": 3.0, "eval/tiny500/accuracy": 0.405}
    folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 31, "ti')
    if status:
        record = {"status": status, "error": None, "hardware": {"host": "node7"}, "resumed_at": []} | record
        folder.provenance_path.write_text(json.dumps(record))
    return folder


def test_every_state_is_told_from_its_folder(tmp_path):
    hand_made(tmp_path, "finished", "finished")
    (lock := hand_made(tmp_path, "died", "running").lock_path).write_text("pid 1 on node7")
    os.utime(lock, (0, 0))
    # On a shared disk where this host does not see the locks of others.
    hand_made(tmp_path, "running_elsewhere", "running").lock_path.write_text("pid 1 on node7")
    hand_made(tmp_path, "failed", "failed", error="ValueError: the reward is broken")
    hand_made(tmp_path, "interrupted", "interrupted")
    hand_made(tmp_path, "no_record", None)
    hand_made(tmp_path, "damaged_record", "failed").provenance_path.write_text('{"status": "fin')
    hand_made(tmp_path, "damaged_metrics", "failed").metrics_path.write_text('{"step": 0}\n{"step"\n')
    hand_made(tmp_path, "damaged_config", "failed").config_path.write_bytes(b"\xff\xfe\x00")
    hand_made(tmp_path, "no_config", "failed").config_path.unlink()
    (tmp_path / "tiny" / "tiny" / "empty" / "seed0").mkdir(parents=True)
    with hand_made(tmp_path, "running", "running") as running:
        running.lock()
        moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}_moved"))
        found = {one.folder.path.parts[-2]: one for one in map(run_states.read_state, run_states.folders(moved))}
    states = {"interrupted": "interrupted", "no_record": "unfinished", "no_config": "damaged", "empty": "new"}
    states |= {name: "damaged" for name in ("damaged_record", "damaged_metrics", "damaged_config")}
    states |= {"running_elsewhere": "running"}
    states |= {name: name for name in ("finished", "died", "failed", "running")}
    assert {name: one.state for name, one in found.items()} == states
    assert (found["running"].step, found["running"].steps, found["running"].score) == (30, 60, "tiny500 40.5")
    assert {one.host for name, one in found.items() if states[name] not in ("damaged", "new", "unfinished")} == {
        "node7"
    }
    assert found["failed"].cause == "ValueError: the reward is broken"
    assert "no living process" in found["died"].cause
    # 30 steps of 2 s; evaluations (5 and 7 s so far) and checkpoints (1 s) at 40 and 60.
    assert found["running"].left_s == 30 * 2 + 2 * 6 + 2 * 1
    for name, file in (("record", "provenance.json"), ("metrics", "metrics.jsonl"), ("config", "config.yaml")):
        cause = found[f"damaged_{name}"].cause
        assert cause.startswith(f"{moved}/tiny/tiny/damaged_{name}/seed0/{file}: cannot be read") and "\n" not in cause
    shown = StringIO()
    Console(file=shown, width=300).print(run_states.table(found.values()))
    assert "4 damaged, 1 died, 1 failed, 1 finished, 1 interrupted, 1 new, 2 running, 1 unfinished" in shown.getvalue()
    line = next(line for line in shown.getvalue().splitlines() if line.startswith("tiny/tiny/running/seed0"))
    assert line.split()[1:6] == ["30/60", "tiny500", "40.5", "1m14s", "node7"]


def test_asking_how_a_run_stands_does_not_keep_it_from_starting(tmp_path):
    folder = hand_made(tmp_path, "begun", "failed")
    folder.lock_path.touch()
    assert run_states.read_state(folder).state == "failed"
    folder.lock()  # raises where another holds it
    folder.release()


def seconds(*arguments) -> float:
    """Processor time of a command. Unlike wall time it does not depend on other programs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_two_hundred_runs_take_seconds(tmp_path):
    names = [row.experiment for row in manifest("table05_loss_ablation").rows]
    resolved = OmegaConf.to_yaml(plan(compose("+experiment=one_shot")).config)
    for seed in range(16):
        for name in names:
            folder = write_run(tmp_path, name, seed, 2, 2, 4, 8, "tiny", "tiny", {"tiny500": 1})
            folder.config_path.write_text(resolved)
    assert seconds("experiments.status", f"runs_dir={tmp_path}") < 2
    seeds = f"seeds={','.join(map(str, range(16)))}"
    assert seconds("experiments.launch", "table05_loss_ablation", seeds, f"runs_dir={tmp_path}") < 5


def test_neither_command_loads_torch_ray_or_hydra(tmp_path):
    hand_made(tmp_path, "finished", "finished")
    code = f"""
import sys
from experiments import launch, status
from rlvr.cli import command
command(status.Options, status.show, "", ["runs_dir={tmp_path}"])
print(*[name for name in ("torch", "ray", "hydra", "verl", "transformers", "pandas") if name in sys.modules])
"""
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "tiny/tiny/finished/seed0" in printed and printed.splitlines()[-1] == ""


# ---------------------------------------------------------------------------------------- real runs


@pytest.mark.timeout(1500)
def test_a_sweep_of_two_real_runs(tmp_path):
    """Two runs of one step at the same time, one of them on entropy alone, which needs no reward.

    The same command then finds both, and the time estimate of another seed is theirs.
    """
    runs_dir = tmp_path / "runs"
    arguments = [
        own_table(tmp_path, "one_shot", "entropy_only", "precise_label"),
        "jobs=2",
        f"runs_dir={runs_dir}",
        *SMALL,
    ]
    program = [sys.executable, "-m", "experiments.launch", *arguments]
    first = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 runs: 2 to start, 1 refused" in first.stdout
    found = [run_states.read_state(folder) for folder in run_states.folders(runs_dir)]
    assert [(one.state, one.step, one.steps) for one in found] == [("finished", 1, 1)] * 2
    (_, by_entropy) = metrics_lines(next(runs_dir.rglob("entropy_only*/seed0/metrics.jsonl")))
    assert by_entropy["actor/grad_norm"] > 0
    again = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "3 runs: 2 there already, 1 refused" in again.stdout
    newest = max(run_states.folders(runs_dir), key=lambda folder: folder.path.stat().st_mtime)
    base, step = metrics_lines(newest.metrics_path)
    expected = 35 + step["time/step_s"] + base["time/eval_s"] + step["time/eval_s"]
    overrides = tuple(argument for argument in SMALL)
    assert 3600 * hours(Planned("one_shot", "tiny", "tiny", 1, overrides, runs_dir), here=True) == pytest.approx(
        expected
    )
