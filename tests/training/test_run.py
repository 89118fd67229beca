"""`python run.py` end to end on a CPU, through Ray and verl: the run folder, failures, two workers."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import command_line
import pandas as pd
import pytest
import ray

from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["scale.benchmarks=[tiny500,tiny500_avg2]", "+benchmarks.tiny500.limit=24", "+benchmarks.tiny500_avg2.limit=8"]
SMALL += ["variant=small", "scale.prompts_per_step=4", "scale.samples_per_prompt=4", "scale.steps=4"]
SMALL += ["scale.evaluate_every=2", "scale.save_every=2", "tracking=off"]
pytestmark = pytest.mark.timeout(900)
one_process = pytest.mark.xdist_group("finished")  # they share one run


def run(*overrides, experiment="one_shot", **environment):
    command = [sys.executable, "run.py", f"+experiment={experiment}", *SMALL, *overrides]
    environment = os.environ | environment
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)


def folder_of(runs: Path, name="one_shot") -> RunFolder:
    return RunFolder(runs / "tiny" / "tiny" / f"{name}-small" / "seed0")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One uninterrupted run of four steps."""
    runs = tmp_path_factory.mktemp("runs")
    before = set(ROOT.iterdir())
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary:
        done = run(f"runs_dir={runs}", "tracking=offline", TMPDIR=temporary)
        left = [*map(str, Path(temporary).iterdir()), *map(str, set(ROOT.iterdir()) - before)]
    return runs, done, left


@one_process
def test_a_run_leaves_a_complete_folder(finished):
    runs, done, left = finished
    folder = folder_of(runs)
    assert left == []  # neither Ray's session nor verl's locks nor W&B's files: the run folder is all
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny500" in done.stdout
    metrics = read_metrics(folder.metrics_path)
    assert metrics["step"].tolist() == [0, 1, 2, 3, 4]
    assert metrics["eval/tiny500/accuracy"].notna().tolist() == [True, False, True, False, True]
    assert metrics.loc[1:, ["actor/entropy", "actor/kl", "actor/grad_norm", "time/step_s"]].notna().all().all()
    assert metrics.loc[1, "actor/kl"] == 0  # before the first update the policy is the reference
    assert metrics.loc[4, "actor/kl"] > 0
    for step in (1, 4):
        rollouts = pd.read_parquet(folder.rollouts_path(step))
        assert len(rollouts) == 16
        assert rollouts.groupby("uid").size().tolist() == [4] * 4  # one group per row, not per prompt
        assert rollouts["score"].mean() == pytest.approx(metrics.loc[step, "train/accuracy"])
        assert (rollouts["rank"] == 1).all()
        signal_groups = rollouts.groupby("uid")["reward"].nunique().gt(1).mean()
        assert signal_groups == pytest.approx(metrics.loc[step, "train/signal_groups"])
    answers = pd.read_parquet(folder.eval_path("tiny500_avg2", 4))
    assert answers.groupby("id").size().tolist() == [2] * 8
    assert answers["score"].mean() == pytest.approx(metrics.loc[4, "eval/tiny500_avg2/accuracy"])
    assert json.loads(folder.provenance_path.read_text())["status"] == "finished"
    assert folder.figure_path.stat().st_size > 10_000
    assert folder.checkpoint_steps() == [2, 4]
    assert all((folder.weights_path(step) / "model.safetensors").exists() for step in (2, 4))
    assert [folder.is_resumable(step) for step in (2, 4)] == [False, True]
    facts = {row["key"]: row for row in json.loads(folder.fidelity_path.read_text())}
    assert facts["scale.prompts_per_step"] | {"setting": "", "where": ""} == {
        "setting": "",
        "key": "scale.prompts_per_step",
        "here": 4,
        "paper": 128,
        "authors": 128,
        "where": "",
        "mark": "scale",
    }


@one_process
def test_a_finished_run_is_not_run_again_and_another_config_is_refused(finished):
    runs, *_ = finished
    before = folder_of(runs).metrics_path.stat().st_mtime
    again = run(f"runs_dir={runs}")
    assert (again.returncode, "finished already" in again.stdout) == (0, True)
    other = run(f"runs_dir={runs}", "loss.entropy=0.5")
    assert other.returncode == 1
    assert "loss.entropy: 0.001 → 0.5" in other.stderr
    assert "variant=" in other.stderr
    assert folder_of(runs).metrics_path.stat().st_mtime == before


def test_a_failing_reward_ends_the_run_with_its_cause(tmp_path):
    reward = tmp_path / "reward.py"
    reward.write_text("def compute_score(**kwargs):\n    raise ValueError('the reward is broken')\n")
    done = run(f"runs_dir={tmp_path}", f"reward.custom_reward_function.path={reward}")
    assert done.returncode == 1
    assert "ValueError: the reward is broken" in done.stdout.splitlines()[-2]
    assert "run.log" in done.stdout.splitlines()[-1]
    assert json.loads(folder_of(tmp_path).provenance_path.read_text())["status"] == "failed"


def test_ppo_on_two_workers(tmp_path):
    """Two data-parallel processes, each with its part of the policy's and of the critic's batch."""
    done = run("hardware=cpu_two_workers", "scale.steps=2", f"runs_dir={tmp_path}", experiment="ppo_one_shot")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = folder_of(tmp_path, "ppo_one_shot")
    metrics = read_metrics(folder.metrics_path)
    assert metrics["step"].tolist() == [0, 1, 2]
    assert metrics.loc[2, ["critic/value_loss", "actor/kl"]].gt(0).all()
    assert len(pd.read_parquet(folder.rollouts_path(2))) == 16


@one_process
def test_verls_own_agent_loop_and_a_majority_vote(finished, tmp_path):
    """The per-request path that GPU runs take, on a CPU: same run folder, greedy and sampled benchmarks in one pass."""
    done = run(
        f"runs_dir={tmp_path}",
        "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null",
        "reward.num_workers=1",
        "scale.steps=1",
        experiment="majority_vote",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = folder_of(tmp_path, "majority_vote")
    assert read_metrics(folder.metrics_path)["step"].tolist() == [0, 1]
    greedy, sampled = (pd.read_parquet(folder.eval_path(name, 0)) for name in ("tiny500", "tiny500_avg2"))
    batched = pd.read_parquet(folder_of(finished[0]).eval_path("tiny500", 0))
    assert greedy[["id", "sample", "response"]].equals(batched[["id", "sample", "response"]])
    assert len(sampled) == 16 and sorted(set(sampled["sample"])) == [0, 1]
    first, second = (sampled[sampled["sample"] == k].set_index("id")["response"] for k in (0, 1))
    assert (first != second.loc[first.index]).any()
    rollouts = pd.read_parquet(folder.rollouts_path(1))
    votes = rollouts[rollouts["answer"].notna() & (rollouts["answer"] != "")].groupby("answer").size()
    assert rollouts["reward"].sum() == votes.max()
    assert rollouts.loc[rollouts["reward"] == 1, "answer"].nunique() == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hardware=one_gpu"], "needs 1 GPU(s)"),
        (["runs_dir=/dev/null/runs"], "runs_dir="),
        (["train_set.ranks=[5000]"], "ranks end at 1209"),
        (["base_model.path=/no/such/model"], "no such folder"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_before_ray_starts(overrides, message, tmp_path):
    where = [] if any(o.startswith("runs_dir") for o in overrides) else [f"runs_dir={tmp_path}"]
    done = command_line.run("+experiment=one_shot", *SMALL, *where, *overrides)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert not ray.is_initialized()


def test_corrupt_weights_are_refused_before_ray_starts(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for file in (ROOT / "rlvr" / "tiny" / "model").iterdir():
        (model / file.name).write_bytes(file.read_bytes()[: 100_000 if file.suffix == ".safetensors" else None])
    done = command_line.run("+experiment=one_shot", *SMALL, f"runs_dir={tmp_path}", f"base_model.path={model}")
    assert done.returncode == 1 and "corrupt weights file" in done.stderr
    assert not ray.is_initialized()
