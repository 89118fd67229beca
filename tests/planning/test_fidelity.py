"""What `check=true` says: a run beside the paper and the authors' code, and what it needs, on hand-computed cases."""

import json
import re
import subprocess
import sys
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.config.schema import CONF, experiments, group_options
from rlvr.data import protocols, scales
from rlvr.planning import check_report, fidelity, resources
from rlvr.planning.plan import plan
from rlvr.planning.resources import Machine
from rlvr.training.first_step_check import FirstStepError
from rlvr.training.first_step_check import check as check_first_step

HERE = Machine(gpu_gib=None, host_gib=None, free_disk_gib=None, cores=2)
GB = 1e9
GIB = 2**30


composed = cache(compose)


def marks(*overrides: str) -> dict[str, str]:
    return {row["key"]: row["mark"] for row in fidelity.compare(composed(*overrides))}


def workload(*overrides: str) -> resources.Workload:
    planned = plan(composed(*overrides))
    assert planned.workload is not None
    return planned.workload


def needs(*overrides: str, machine: Machine = HERE) -> resources.Needs:
    return resources.estimate(workload("+experiment=one_shot", "runs_dir=/no/runs", *overrides), machine)


# --- beside the paper --------------------------------------------------------------------------------------


def test_the_papers_run_differs_only_where_it_is_known_to():
    found = marks("+experiment=one_shot", "scale=paper", "hardware=eight_gpus")
    assert {key: mark for key, mark in found.items() if mark} == {
        "updates_per_step": "authors",  # 1; the paper's text says 8
        "actor_rollout_ref.actor.clip_ratio_c": "changed",  # verl 0.9's dual clip; theirs has none
        "actor_rollout_ref.actor.loss_agg_mode": "changed",  # over the mini-batch, not the micro-batch
        "seed": "changed",
        "actor_rollout_ref.actor.strategy": "hardware",  # FSDP2
        "retention.weights_dtype": "changed",
    }


def test_where_a_difference_comes_from():
    found = marks("+experiment=no_kl", "scale=paper", "hardware=eight_gpus", "updates_per_step=8", "scale.top_p=0.9")
    assert found["loss.kl"] == "experiment"
    assert found["updates_per_step"] == "paper"
    assert found["scale.top_p"] == "changed"
    assert marks("+experiment=full_set")["train_set.ranks"] == "experiment"
    assert marks("+experiment=one_shot")["scale.prompts_per_step"] == "scale"
    assert marks("+experiment=one_shot", "scale=paper")["hardware.devices_per_node"] == "hardware"


def test_where_answers_end_is_compared_with_the_authors():
    key = fidelity.STOPS
    assert marks("+experiment=one_shot", "scale=paper")[key] == ""
    assert marks("+experiment=one_shot", "scale=paper", "+benchmarks.math500.stop=['#']")[key] == "changed"
    assert marks("+experiment=one_shot")[key] == "scale"


def test_a_models_own_steps_and_lengths_are_the_papers():
    found = marks("+experiment=one_shot", "scale=paper", "base_model=deepseek_r1_distill_qwen_1_5b")
    assert (found["scale.steps"], found["scale.max_response_tokens"]) == ("paper", "paper")


def test_ppo_adds_its_settings():
    assert "critic.cliprange_value" in marks("+experiment=ppo_one_shot")
    assert "critic.cliprange_value" not in marks("+experiment=one_shot")


@pytest.mark.parametrize("experiment", ["one_shot", "ppo_full_set", "format_reward"])
def test_rows_are_plain_data_and_every_key_exists(experiment):
    rows = fidelity.compare(composed(f"+experiment={experiment}"))
    assert json.loads(json.dumps(rows)) == rows
    assert all(row["here"] is not None for row in rows)
    printed = StringIO()
    Console(width=check_report.WIDTH, file=printed).print(fidelity.table(rows))
    assert all(row["setting"].split()[0] in printed.getvalue() for row in rows)


# --- what a run needs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters"),  # as published by their authors
    [
        ("qwen2_5_math_1_5b", 1_543_714_304),
        ("qwen2_5_math_7b", 7_615_616_512),
        ("qwen2_5_0_5b", 494_032_768),
        ("llama3_2_3b_instruct", 3_212_749_824),
        ("deepseek_r1_distill_qwen_1_5b", 1_777_088_000),
        ("smollm2_135m", 134_515_008),
        ("tiny", 1_821_632),
    ],
)
def test_parameters_are_counted_as_published(model, parameters):
    assert needs(f"base_model={model}").parameters == parameters


def test_every_base_model_is_described():
    for model in group_options("base_model"):
        assert plan(composed("+experiment=one_shot", f"base_model={model}")).workload is not None


def test_disk_of_the_papers_run_stays_below_350_gb():
    """100 checkpoints of 1.54e9 parameters: 2 bytes each, and 12 bytes once for the state; the authors': 16 bytes each."""
    paper = ("scale=paper", "hardware=eight_gpus")
    p = 1_543_714_304
    ours = needs(*paper)
    text = ours.disk_gib * GIB - (100 * 2 + 12) * p
    assert 0 < text < 10 * GB  # responses
    assert (100 * 2 + 12) * p < 328 * GB
    assert (ours.disk_peak_gib - ours.disk_gib) * GIB == pytest.approx((12 + 2) * p, rel=1e-6)
    authors = needs(*paper, "retention.states=null", "retention.weights_dtype=float32")
    assert authors.disk_gib * GIB - text == pytest.approx(100 * 16 * p, rel=1e-6)
    assert authors.disk_gib * GIB > 2.4e12
    fifth = needs(*paper, "retention.weights_every=5")
    assert fifth.disk_gib * GIB - text == pytest.approx((20 * 2 + 12) * p, rel=1e-6)


def test_memory_of_a_gpu_adds_up():
    paper = needs("scale=paper", "hardware=eight_gpus")
    share = 1_543_714_304 / 8 / GIB
    assert [paper.parts[k] for k in ("weights", "gradients", "Adam")] == pytest.approx(
        [4 * share, 4 * share, 8 * share]
    )
    assert paper.parts["rollout engine"] == pytest.approx(0.7 * 80)
    assert paper.parts["logits"] == pytest.approx(4 * 2 * 24000 * 151936 / GIB)
    # KV cache: 2 x 28 layers x 2 heads x 128 x 2 bytes, over 2 GPUs, for 4,096 tokens.
    per_sequence = 2 * 28 * 2 * 128 * 2 / 2 * 4096 / GIB
    assert paper.kv_sequences == int(paper.parts["of it KV cache"] / per_sequence)
    ppo = workload("+experiment=ppo_one_shot", "scale=paper", "hardware=eight_gpus", "runs_dir=/no/runs")
    both = resources.estimate(ppo, HERE)
    assert both.update_gib - paper.update_gib == pytest.approx(12 * share)
    assert both.step_s > paper.step_s


@pytest.mark.parametrize(
    ("overrides", "machine", "message"),
    [
        (["scale=paper", "hardware=one_gpu"], {"gpu_gib": 24}, "an update needs about"),
        (["scale=small", "hardware=one_gpu", "base_model=qwen2_5_math_1_5b"], {"gpu_gib": 24}, "offload_policy=true"),
        (["scale=paper", "hardware=one_gpu", "base_model=qwen2_5_math_7b"], {}, "offload_policy=true"),
        (
            ["scale=paper", "hardware=eight_gpus", "actor_rollout_ref.rollout.gpu_memory_utilization=0.99"],
            {},
            "generation needs about",
        ),
        (
            ["scale=paper", "hardware=eight_gpus", "base_model=qwen2_5_math_7b"],
            {"gpu_gib": 12},
            "no room for one answer",
        ),
        (["scale=tiny"], {"free_disk_gib": 0.03}, "raise retention.weights_every or scale.save_every"),
        (["scale=reduced"], {"host_gib": 12}, "GiB of main memory, this machine has 12"),
    ],
)
def test_what_may_not_fit_is_a_warning_with_the_key_to_change(overrides, machine, message):
    load = workload("+experiment=one_shot", "runs_dir=/no/runs", *overrides)
    there = Machine(**{**HERE._asdict(), **machine})
    found = resources.estimate(load, there)
    warnings = resources.warnings(load, found, there)
    assert any(message in text for text in warnings) and not any("\n" in text for text in warnings)


@pytest.mark.parametrize(
    ("overrides", "machine", "message"),
    [
        (
            ["scale=paper", "hardware=one_gpu", "base_model=qwen2_5_math_7b"],
            {"gpu_gib": 12},
            "the weights alone are 14 GiB",
        ),
        (
            ["base_model=smollm2_135m", "hardware=eight_gpus"],
            {},
            "tensor_model_parallel_size=2: .* smollm2_135m has 9: set it to",
        ),
        (["scale=paper", "base_model=qwen2_5_math_7b"], {"host_gib": 64}, "Adam's moments alone are 113 GiB"),
        (["scale=tiny"], {"free_disk_gib": 0.01}, "one checkpoint is 0.0 GiB, 0.0 are free"),
    ],
)
def test_what_cannot_fit_by_counting_is_refused(overrides, machine, message):
    load = workload("+experiment=one_shot", "runs_dir=/no/runs", *overrides)
    there = Machine(**{**HERE._asdict(), **machine})
    found = resources.estimate(load, there)
    with pytest.raises(ConfigError, match=message):
        resources.warnings(load, found, there)


@pytest.mark.parametrize("model", ["qwen2_5_math_1_5b", "qwen2_5_math_7b", "deepseek_r1_distill_qwen_1_5b"])
def test_the_papers_models_fit_the_papers_machine(model):
    load = workload("+experiment=one_shot", "scale=paper", "hardware=eight_gpus", f"base_model={model}")
    found = resources.estimate(load, HERE)
    assert resources.warnings(load, found, HERE) == []


CARDS = {
    24: (165, 1.0),
    48: (362, 0.86),
    80: (312, 2.0),
}  # GB: bf16 TFLOP/s, TB/s of RTX 4090, L40S, A100 (data sheets)


@pytest.mark.parametrize(
    ("model", "memory", "hours", "more"),
    [
        ("qwen2_5_0_5b", 24, 1, []),
        ("qwen2_5_0_5b", 48, 1, []),
        ("qwen2_5_0_5b", 80, 1, []),
        ("qwen2_5_math_1_5b", 24, 4, ["actor_rollout_ref.actor.fsdp_config.offload_policy=true"]),
        ("qwen2_5_math_1_5b", 48, 2, []),
        ("qwen2_5_math_1_5b", 80, 1, []),
    ],
)
def test_the_small_study_fits_one_card_and_the_hours_its_file_states(model, memory, hours, more):
    tflops, bandwidth = CARDS[memory]
    card = f"hardware.gpu={{name: card, memory_gib: {memory}, tflops: {tflops}, bandwidth_tb_s: {bandwidth}}}"
    small = ["+experiment=one_shot_pi13", "scale=small", "hardware=one_gpu", f"base_model={model}", "runs_dir=/no/runs"]
    load = workload(*small, card, *more)
    found = resources.estimate(load, HERE)
    assert resources.warnings(load, found, HERE) == []
    assert round(found.hours) <= hours
    assert max(found.update_gib, found.rollout_gib) < 0.94 * memory  # what the driver leaves of a 24 GB card


def test_the_small_study_is_within_two_points_and_lists_what_differs():
    """Half of the 95 % interval that sampling leaves to the mean of 500 problems, all as uncertain as can be."""
    cfg = composed("+experiment=one_shot", "scale=small")
    protocol = next(row for row in protocols.of_run(cfg) if (row.name,) == scales.paper_columns("small")["MATH500"])
    assert (protocol.dataset, protocol.limit) == ("math500", None)
    assert 1.96 * (0.25 / protocol.answers) ** 0.5 < 0.02
    differ = {row["setting"] for row in fidelity.compare(cfg) if row["mark"] == "scale"}
    assert differ == {"base model", "prompts per step", "steps", "response tokens", "evaluation every", "checkpoint every",
                      "benchmarks"}  # fmt: skip


def finished_run(runs: Path, step_s: float, rows: int, status="finished") -> Path:
    folder = runs / "tiny" / "tiny" / "one_shot" / "seed0"
    folder.mkdir(parents=True)
    cfg = composed("+experiment=one_shot", f"scale.prompts_per_step={rows}", f"runs_dir={runs}")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (folder / "provenance.json").write_text(json.dumps({"status": status}))
    lines = [{"step": 0, "time/eval_s": 6.0}, {"step": 1, "time/step_s": 90.0}]  # the first is a warm-up
    lines += [{"step": s, "time/step_s": step_s, "time/eval_s": 8.0} for s in (2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_finished_run_calibrates_the_hours(tmp_path):
    run = finished_run(tmp_path, step_s=1.5, rows=8)
    load = workload("+experiment=no_kl", f"runs_dir={tmp_path}")
    found = resources.estimate(load, HERE)
    assert (found.step_s, found.measured) == (1.5, str(run))
    # 35 s to start, 60 steps, and an evaluation before the first step and after every 15th or 20th.
    evaluations = 1 + -(-load.steps // load.evaluate_every)
    assert found.hours == pytest.approx((35 + 60 * 1.5 + evaluations * 8.0) / 3600)


@pytest.mark.parametrize(("rows", "status"), [(16, "finished"), (8, "failed")])
def test_another_batch_or_a_failed_run_does_not(tmp_path, rows, status):
    finished_run(tmp_path, step_s=1.5, rows=rows, status=status)
    found = resources.estimate(workload("+experiment=one_shot", f"runs_dir={tmp_path}"), HERE)
    assert found.measured is None


# --- the command -------------------------------------------------------------------------------------------


def test_the_command_compares_and_estimates_without_ray_or_torch():
    script = (
        "import runpy, sys; sys.argv = ['run.py', *sys.argv[1:]]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "finally: print('HEAVY', sorted({'torch', 'ray', 'verl', 'transformers'} & set(sys.modules)))"
    )
    arguments = ["+experiment=entropy_only", "scale=paper", "hardware=eight_gpus", "check=true"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=CONF.parent, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["policy", "loss", "none", "vanilla", "vanilla", "experiment", "§2"] in rows
    assert ["parameters", "1,543,714,304"] in rows
    assert (
        "GPU-hours" in done.stdout
        and "(by formula, uncalibrated)" in done.stdout
        and "the configuration is sound" in done.stdout
    )


# --- the first step ----------------------------------------------------------------------------------------


def step(rewards, reasons, truncated=False, gold="12.8"):
    n = len(rewards)
    return {
        "reward": rewards,
        "reason": reasons,
        "truncated": [truncated] * n,
        "response_tokens": [3072] * n,
        "gold": [gold] * n,
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (step([0.0] * 4, ["no_answer"] * 4), "no response has an answer in .*base_model.template"),
        (step([0.0] * 4, ["no_answer"] * 4, truncated=True), "cut off at 3072 tokens: raise scale.max_response_tokens"),
        (
            step([0.0] * 4, ["unparsable"] * 3 + ["no_answer"], gold="\\frac{"),
            r"with the label '\\\\frac\{'.*does it parse",
        ),
    ],
)
def test_a_first_step_that_shows_a_mistake_ends_the_run(columns, message):
    with pytest.raises(FirstStepError, match=message):
        check_first_step(columns)


@pytest.mark.parametrize(
    "columns",
    [
        step([0.0] * 4, ["wrong"] * 3 + ["no_answer"]),  # too hard, as pi1208: no mistake
        step([1.0] * 4, ["correct"] * 4),  # solved already
        step([0.0, 1.0], ["no_answer", "correct"], truncated=True),
    ],
)
def test_a_hard_or_an_easy_problem_is_no_mistake(columns):
    check_first_step(columns)


def test_there_is_an_experiment_for_each_of_the_thirteen_rows_of_table_5():
    rows = {}
    for name in experiments():
        text = (CONF / "experiment" / f"{name}.yaml").read_text()
        place = next(line for line in text.splitlines() if line.startswith("# Paper:"))
        for row in re.findall(r"Table 5 row (\d+)", place):
            if not place.startswith(("# Paper: no row", "# Paper: none")):
                rows[int(row)] = name
    assert sorted(rows) == list(range(1, 14))
    assert (rows[7], rows[11], rows[12], rows[13]) == (
        "policy_gradient_and_entropy",
        "precise_label",
        "wrong_label",
        "unguessable_label",
    )
