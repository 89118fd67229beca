"""Every YAML of `conf/` composes, passes `check` and says what it should; what is wrong is refused in one line.

pytest tests/config/test_config.py
"""

import hashlib
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from command_line import run
from omegaconf import DictConfig, OmegaConf

from rlvr.cli import ConfigError
from rlvr.config.compose import check_restated, compose, quoted
from rlvr.config.resolvers import train_set_name
from rlvr.config.schema import CONF, check, experiments, group_options, known_keys, verl_config, verl_config_dir
from rlvr.data import scales
from rlvr.runs import naming

ROOT = CONF.parent
GROUPS = ("scale", "hardware", "base_model", "pool", "train_set", "label", "reward_rule")
OURS = {*GROUPS, "experiment_name", "variant", "seed", "runs_dir", "data_root", "tracking", "check", "run_dir"}
OURS |= {
    "experiment_folder",
    "overrides",
    "benchmarks",
    "all",
    "lora",
    "ray",
    "watchdog",
    "loss",
    "updates_per_step",
    "example",
    "retention",
}
MACHINE = ("hardware", "ray_kwargs", "transfer_queue", "trainer")


@cache
def resolved(*overrides: str) -> dict:
    cfg = compose(*overrides)
    check(cfg)
    return OmegaConf.to_container(cfg, resolve=True)


@cache
def sound() -> DictConfig:
    return compose("+experiment=one_shot")


def keys(tree: dict, path: str = "") -> set[str]:
    """Dotted paths of a tree's leaves."""
    leaves = set()
    for key, value in tree.items():
        leaves |= keys(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}"}
    return leaves


# --- every file --------------------------------------------------------------------------------------------


# Files that set a key of `scale` may mean something else at each of them; all others cannot.
SCALED = [name for name in experiments() if "scale:" in (CONF / "experiment" / f"{name}.yaml").read_text()]
EVERYWHERE = [(name, "paper") for name in experiments()]
EVERYWHERE += [(name, scale) for name in ["one_shot", *SCALED] for scale in ("tiny", "small", "reduced")]


@pytest.mark.parametrize(("experiment", "scale"), EVERYWHERE)
def test_every_experiment_is_sound_and_restates_nothing(experiment: str, scale: str) -> None:
    composed = compose(f"+experiment={experiment}", f"scale={scale}")
    check(composed)
    check_restated(composed)
    cfg = OmegaConf.to_container(composed, resolve=True)
    assert cfg["run_dir"] == f"runs/{scale}/{cfg['base_model']['name']}/{experiment}/seed0"
    assert cfg["trainer"]["experiment_name"] == experiment


@pytest.mark.parametrize("choice", [(group, name) for group in GROUPS for name in group_options(group)], ids="=".join)
def test_every_choice_is_sound_and_named_after_its_file(choice: tuple[str, str]) -> None:
    group, name = choice
    assert resolved("+experiment=one_shot", f"{group}={name}")[group]["name"] == name


def test_no_file_is_left_out() -> None:
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert groups == {*GROUPS, "experiment", "hydra", "launch"}


def test_names_never_equal_verls() -> None:
    verl = verl_config_dir()
    assert not {*GROUPS, "experiment"} & {path.name for path in verl.iterdir() if path.is_dir()}
    assert not OURS & set(verl_config())
    assert OURS | set(verl_config()) == set(known_keys())


def test_verls_flat_file_is_what_verl_composes() -> None:
    import hydra

    with hydra.initialize_config_dir(str(verl_config_dir()), version_base="1.3"):
        composed = hydra.compose("ppo_trainer")
    composed = OmegaConf.to_container(composed, resolve=False)
    assert composed.pop("model_engine") == "dp"  # chose the parts; no key of a run
    assert composed == verl_config()


# --- what the files mean -----------------------------------------------------------------------------------


def test_the_papers_numbers_reach_verl() -> None:
    cfg = resolved("+experiment=one_shot", "scale=paper", "hardware=eight_gpus", "seed=3")
    actor, rollout = cfg["actor_rollout_ref"]["actor"], cfg["actor_rollout_ref"]["rollout"]
    assert cfg["actor_rollout_ref"]["model"]["path"] == "Qwen/Qwen2.5-Math-1.5B"
    assert (cfg["data"]["train_batch_size"], rollout["n"], actor["ppo_mini_batch_size"]) == (128, 8, 128)
    assert (cfg["data"]["max_prompt_length"], rollout["response_length"]) == (1024, 3072)
    assert (rollout["temperature"], rollout["top_p"], rollout["top_k"]) == (0.6, 1.0, -1)
    assert (actor["optim"]["lr"], actor["optim"]["weight_decay"]) == (1e-6, 0.01)
    assert (actor["kl_loss_coef"], actor["entropy_coeff"], actor["clip_ratio"]) == (0.001, 0.001, 0.2)
    assert actor["use_kl_loss"] and not cfg["algorithm"]["use_kl_in_reward"]
    assert cfg["algorithm"]["adv_estimator"] == "grpo" and cfg["algorithm"]["norm_adv_by_std_in_grpo"]
    trainer = cfg["trainer"]
    assert [trainer[k] for k in ("total_training_steps", "test_freq", "save_freq")] == [2000, 20, 20]
    assert (trainer["device"], trainer["nnodes"], trainer["n_gpus_per_node"]) == ("cuda", 1, 8)
    assert actor["ppo_max_token_len_per_gpu"] == 24000 and cfg["actor_rollout_ref"]["ref"]["log_prob_use_dynamic_bsz"]
    assert {cfg["data"]["seed"], actor["data_loader_seed"], actor["fsdp_config"]["seed"]} == {3}
    assert rollout["seed"] == 3000


def test_the_papers_text_has_eight_updates_per_step() -> None:
    cfg = resolved("+experiment=one_shot", "scale=paper", "updates_per_step=8")
    assert cfg["actor_rollout_ref"]["actor"]["ppo_mini_batch_size"] == 16  # prompts; x 8 answers = 128, paper §3.1


@pytest.mark.parametrize(
    ("experiment", "row"),  # policy, kl, entropy, weight decay: Table 5
    [
        ("no_loss", ("none", 0, 0, 0)),
        ("policy_gradient_only", ("vanilla", 0, 0, 0)),
        ("weight_decay", ("vanilla", 0, 0, 0.01)),
        ("no_entropy", ("vanilla", 0.001, 0, 0.01)),
        ("one_shot", ("vanilla", 0.001, 0.001, 0.01)),
        ("entropy_only", ("none", 0, 0.001, 0)),
        ("no_kl", ("vanilla", 0, 0.001, 0.01)),
        ("entropy_0_003", ("vanilla", 0.001, 0.003, 0.01)),
        ("policy_gradient_and_entropy", ("vanilla", 0, 0.001, 0)),
        ("weight_decay_and_kl", ("none", 0.001, 0, 0.01)),
        ("no_policy_gradient", ("none", 0.001, 0.001, 0.01)),
    ],
)
def test_loss_terms(experiment: str, row: tuple) -> None:
    actor = resolved(f"+experiment={experiment}")["actor_rollout_ref"]["actor"]
    loss_mode, decay = actor["policy_loss"]["loss_mode"], actor["optim"]["weight_decay"]
    assert (loss_mode, actor["kl_loss_coef"], actor["entropy_coeff"], decay) == row


def test_ppo_has_a_critic_and_its_own_estimator() -> None:
    cfg = resolved("+experiment=ppo_one_shot", "scale=paper", "hardware=eight_gpus", "seed=3")
    critic = cfg["critic"]
    assert (cfg["algorithm"]["adv_estimator"], critic["optim"]["lr"]) == ("gae", 1e-5)
    assert critic["model"]["path"] == cfg["actor_rollout_ref"]["model"]["path"]
    assert (critic["cliprange_value"], critic["optim"]["weight_decay"], critic["fsdp"]["seed"]) == (0.5, 0.01, 3)
    assert critic["ppo_mini_batch_size"] == 128 and critic["ppo_epochs"] == 1


@pytest.mark.parametrize(
    ("model", "steps", "response"),
    [
        ("qwen2_5_math_1_5b", 2000, 3072),
        ("qwen2_5_math_7b", 1000, 3072),
        ("qwen2_5_1_5b", 2000, 3072),
        ("qwen2_5_math_1_5b_instruct", 1500, 3072),
        ("llama3_2_3b_instruct", 1000, 3072),
        ("deepseek_r1_distill_qwen_1_5b", 1200, 8192),
    ],
)
def test_steps_and_lengths_of_the_papers_models(model: str, steps: int, response: int) -> None:
    """They come with the model at scale=paper, whichever is named first, and leave the other scales alone."""
    for order in (["scale=paper", f"base_model={model}"], [f"base_model={model}", "scale=paper"]):
        cfg = resolved("+experiment=one_shot", *order)
        assert cfg["base_model"]["name"] == model
        assert (cfg["scale"]["steps"], cfg["scale"]["max_response_tokens"]) == (steps, response)
        assert cfg["data"]["max_response_length"] == response
    small = resolved("+experiment=one_shot", "scale=small", f"base_model={model}")
    assert small["scale"]["steps"] == resolved("+experiment=one_shot", "scale=small")["scale"]["steps"]
    tiny = resolved("+experiment=one_shot", f"base_model={model}")
    assert tiny["scale"] == resolved("+experiment=one_shot")["scale"]


def test_an_answer_longer_than_the_models_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale.max_response_tokens = 4097.*context_tokens=4096; shorten"):
        resolved("+experiment=one_shot", "scale=paper", "scale.max_response_tokens=3073")


def test_scale_picks_model_and_pool_and_the_command_line_overrules_it() -> None:
    paper = resolved("+experiment=one_shot", "scale=paper")
    assert (paper["base_model"]["name"], paper["pool"]["name"]) == ("qwen2_5_math_1_5b", "dsr_sub")
    mixed = resolved("+experiment=one_shot", "base_model=smollm2_135m", "pool=dsr_sub", "scale=tiny")
    assert (mixed["base_model"]["name"], mixed["pool"]["name"]) == ("smollm2_135m", "dsr_sub")
    assert mixed["scale"] == resolved("+experiment=one_shot")["scale"]


def test_small_is_paper_but_for_its_size() -> None:
    paper, small = (resolved("+experiment=one_shot", f"scale={scale}") for scale in ("paper", "small"))
    assert {key for key in paper["scale"] if paper["scale"][key] != small["scale"][key]} == {
        "name", "steps", "prompts_per_step", "max_response_tokens", "evaluate_every", "save_every", "benchmarks", "columns"
    }  # fmt: skip
    assert small["pool"] == paper["pool"] and small["base_model"]["name"] == "qwen2_5_0_5b"


def test_reward_rule_reaches_the_reward() -> None:
    rewards = [resolved(f"+experiment={name}")["reward"] for name in ("one_shot", "format_reward")]
    assert [reward["custom_reward_function"]["reward_kwargs"]["rule"] for reward in rewards] == ["outcome", "format"]


def test_variant_and_ranks_name_themselves() -> None:
    cfg = resolved("+experiment=one_shot", "train_set.ranks=[3,7]", "variant=pi3_pi7", "seed=2")
    assert cfg["train_set"] == {"ranks": [3, 7], "examples": None, "name": "pi3_pi7"}
    assert cfg["run_dir"].endswith("/one_shot-pi3_pi7/seed2")
    assert [train_set_name(ranks) for ranks in ([5], [1, 2], [4, 5, 6], "all")] == [
        "pi5",
        "pi1_pi2",
        "pi4_to_pi6",
        "full",
    ]


@pytest.mark.parametrize("scale", ["tiny", "paper"])
@pytest.mark.parametrize("hardware", group_options("hardware"))
def test_hardware_leaves_science_alone(hardware: str, scale: str) -> None:
    assert science(hardware, scale) == science("cpu", scale)


def science(hardware: str, scale: str) -> dict:
    """All of the configuration but what says where and how fast: the machine's groups, and its keys inside science's."""
    cfg = OmegaConf.to_container(
        OmegaConf.create(resolved("+experiment=one_shot", f"scale={scale}", f"hardware={hardware}"))
    )
    trainer = cfg["trainer"]
    cfg["steps"] = [trainer[key] for key in ("total_training_steps", "test_freq", "save_freq", "val_before_train")]
    for group in MACHINE:
        del cfg[group]
    del cfg["data"]["dataloader_num_workers"], cfg["reward"]["num_workers"]
    del cfg["algorithm"]["rollout_correction"]["bypass_mode"]  # equal numbers, not computed twice
    ours = cfg["actor_rollout_ref"]
    for key in ("use_remove_padding", "enable_gradient_checkpointing", "override_config", "path"):
        del ours["model"][key]
    ours["model"] |= {"path": cfg["base_model"]["path"]}
    for role in ("actor", "ref"):
        for key in ("strategy", "fsdp_config", "use_torch_compile"):
            del ours[role][key]
    for key in ("ppo_max_token_len_per_gpu", "use_remove_padding"):
        del ours["actor"][key]
    for key in ("strategy", "model", "fsdp", "ppo_max_token_len_per_gpu", "forward_max_token_len_per_gpu"):
        del cfg["critic"][key]
    del cfg["critic"]["ppo_infer_max_token_len_per_gpu"]
    del ours["ref"]["log_prob_max_token_len_per_gpu"]
    machine = ("name", "dtype", "agent", "tensor_model_parallel_size", "gpu_memory_utilization", "free_cache_engine")
    for key in (*machine, "n_gpus_per_node", "log_prob_max_token_len_per_gpu"):
        del ours["rollout"][key]
    for teacher in cfg["distillation"]["teacher_models"].values():  # verl repeats the rollout engine there, disabled
        del teacher["inference"]
    return cfg


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: {kl: 0.001}", "experiment restating: restates loss.kl=0.001"),
        ("defaults: [override /train_set: pi1]", "experiment restating: restates train_set=pi1"),
        ("scale: {temperature: '${scale.learning_rate}', top_p: 1.0}", "restates scale.top_p=1.0"),
    ],
)
def test_an_experiment_that_restates_the_base_is_refused(tmp_path, monkeypatch, text, message) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "experiment" / "restating.yaml").write_text(f"# @package _global_\n{text}\n")
    monkeypatch.setattr("rlvr.config.compose.CONF", conf)
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_restated(compose("+experiment=restating", conf=conf))


@pytest.mark.parametrize(
    "file",
    sorted(set(CONF.rglob("*.yaml")) - set(CONF.glob("hydra/**/*")) - set(CONF.glob("launch/*"))),
    ids=lambda f: str(f.relative_to(CONF)),
)
def test_every_number_has_its_source_on_its_line(file: Path) -> None:
    """paper, authors (of the code, or of a model) or ours. An experiment's numbers are the paper's: its header says where."""
    lines = file.read_text().splitlines()
    for line in lines:
        value, _, comment = line.partition(" #")
        if re.search(r"(: |\[|, )-?\d[\d.e-]*(?=[\s,\]}]|$)", value) and not line.startswith("#"):
            if "question:" in line:
                continue
            if file.parent.name == "experiment":
                assert any(re.match(r"# Paper: .*(Table|Fig)", text) for text in lines), file
            else:
                assert re.search(r"\b(paper|authors|ours)\b", comment), f"{file.name}: {line}"


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "actor_rollout_ref: {actor: {entropy_coef: 0.1}}",
            "actor_rollout_ref.actor.entropy_coef: no such key; did you mean actor_rollout_ref.actor.entropy_coeff?",
        ),
        ("los: {kl: 0}", "los: no such key; did you mean loss?"),
        (
            "benchmarks: {math500: {limits: 3}}\nscale: {benchmarks: [math500]}",
            "benchmarks.math500.limits: no such key; did you mean limit?",
        ),
        ("lora_rank: 8", "lora_rank: no such key; did you mean actor_rollout_ref.model.lora_rank?"),
    ],
)
def test_a_typo_inside_an_experiment_is_caught(tmp_path: Path, line: str, message: str) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "experiment" / "typo.yaml").write_text(f"# @package _global_\n{line}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(compose("+experiment=typo", conf=conf))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_set.ranks=[0]", "train_set.ranks=[0]: ranks start at 1 (pi1 .. pi1209 in pool tiny)"),
        ("train_set.ranks=[1300]", "train_set.ranks=[1300]: ranks end at 1209 (pi1 .. pi1209 in pool tiny)"),
        ("train_set.ranks=[]", "train_set.ranks=[]: expected a list of ranks such as [1,13], or all"),
        ("train_set.ranks=7", "train_set.ranks=7: expected a list of ranks such as [1,13], or all"),
        ("train_set.ranks=[2,2]", "train_set.ranks=[2, 2]: a rank occurs twice"),
        ("updates_per_step=3", "updates_per_step=3: must divide scale.prompts_per_step=8 (1, 2, 4, 8)"),
        ("updates_per_step=0", "updates_per_step=0: expected a whole number above 0"),
        ("scale.steps=0", "scale.steps=0: expected a whole number above 0"),
        ("scale.temperature=0", "scale.temperature=0: expected a number above 0"),
        ("scale.top_k=0", "scale.top_k=0: expected -1 (all) or a whole number above 0"),
        ("loss.kl=-0.1", "loss.kl=-0.1: expected a number of 0 or more"),
        ("loss.entropy=null", "loss.entropy=null: expected a number; below 0, entropy is minimised"),
        ("loss.policy=gspo", "loss.policy=gspo: expected vanilla or none"),
        ("seed=-1", "seed=-1: expected a whole number of 0 or more"),
        ("seed=true", "seed=True: expected a whole number of 0 or more"),
        ("tracking=wandb", "tracking=wandb: expected one of offline, online, tensorboard, off"),
        ("variant=a/b", "variant=a/b: expected letters, digits, '_' and '.'"),
        ("label.text=''", "label.text=: expected a text, a number or null"),
        ("label.wrong_share=1.5", "label.wrong_share=1.5: expected a share from 0 to 1"),
        ("reward_rule.name=length", "reward_rule.name=length: expected one of outcome, format, random, majority"),
        ("base_model.template=qwen", "base_model.template=qwen: expected one of chat, none, qwen25-math-cot"),
        ("example.question=Why?", "example.answer: no value; an example has a question and an answer"),
        ("scale.top_p=???", "scale.top_p: no value; set it in the file of conf/scale"),
        ("benchmarks={validation: {k: 2}}", "benchmarks.validation.k=2: expected 1, or more with a temperature"),
        ("benchmarks={validation: {limit: -5}}", "benchmarks.validation.limit=-5: expected a whole number above 0"),
        ("benchmarks={validation: {max_tokens: 500}}", "validation: its answers may have 500 tokens"),
        ("scale.benchmarks=[]", "scale.benchmarks=[]: a run is evaluated on one benchmark or more"),
        ("scale.benchmarks=[tiny50]", "benchmarks=tiny50: no such benchmark or group; did you mean tiny500?"),
        ("scale.benchmarks=[arc_easy_ll]", "scale.benchmarks: arc_easy_ll: its choices are scored"),
        ("scale.benchmarks=[math500_r1_8k]", "scale.benchmarks: math500_r1_8k: its template is r1-distill"),
    ],
)
def test_values_out_of_their_domain(override: str, message: str) -> None:
    cfg, (key, _, value) = sound().copy(), override.partition("=")
    OmegaConf.update(cfg, key, yaml.safe_load(value), merge=False)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        check(cfg)
    assert "\n" not in str(error.value)


def test_free_form_parts_of_verls_config_stay_free() -> None:
    resolved(
        "+experiment=one_shot",
        "+ray_kwargs.ray_init.address=auto",
        "+actor_rollout_ref.model.override_config.rope_theta=1",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.seed=1",
    )


@pytest.mark.parametrize(
    "text",
    [
        "What is 17 * 3?",
        "Let f(x) = x^2, and {a, b} = {1, 2}; what's f(a)?",
        "12",
        "\\frac{1}{2}",
        "ends in \\",
        "a 'quoted' \\' word",
        '5" long',
    ],
)
def test_free_text_reaches_the_config_as_it_was_written(text: str) -> None:
    cfg = compose("+experiment=one_shot", f"example.question={text}", "example.answer=[1,2)")
    assert str(cfg.example.question) == text
    assert cfg.example.answer == "[1,2)"
    assert re.fullmatch(r"one_shot-example.answer=\w{8}-example.question=\w{8}", cfg.experiment_folder)


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ((), "one_shot"),
        (("seed=3", "hardware=cpu", "runs_dir=x", "tracking=off", "scale=tiny"), "one_shot"),
        (("train_set.ranks=[3,7]",), "one_shot-train_set.ranks=3_7"),
        (("scale.steps=9", "loss.entropy=3e-3"), "one_shot-loss.entropy=3e-3-scale.steps=9"),
        (("loss.entropy=3e-3", "scale.steps=9"), "one_shot-loss.entropy=3e-3-scale.steps=9"),
        (("variant=long", "scale.steps=9"), "one_shot-long"),
        (("example.file=README.md",), "one_shot-example.file=README_SHA"),
        (("reward_rule.file=rlvr/cli.py",), "one_shot-reward_rule.file=rlvr_cli.py"),
        (("base_model.path=/m/mine",), "one_shot-base_model.path=m_mine"),
    ],
)
def test_a_run_is_named_after_what_it_changes(overrides: tuple[str, ...], folder: str, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    cfg = compose("+experiment=one_shot", *overrides)
    sha = hashlib.sha256(Path("README.md").read_bytes()).hexdigest()[:8]
    assert cfg.experiment_folder == folder.replace("README_SHA", sha)
    assert list(cfg.overrides) == naming.science(overrides)


def test_a_scales_file_is_read_as_hydra_composes_it() -> None:
    for name in group_options("scale"):
        cfg, read = compose(f"scale={name}"), dict(scales.scale_file(name))
        assert read.pop("base_model") == OmegaConf.to_container(cfg.base_model)["name"]
        composed = OmegaConf.to_container(cfg.scale, resolve=False)
        assert read == {key: value for key, value in composed.items() if value != "???" or key in read}


def test_sixteen_at_random() -> None:
    ranks = resolved("+experiment=one_shot", "train_set=random_16")["train_set"]["ranks"]
    assert len(set(ranks)) == 16 and ranks == sorted(ranks) and ranks[0] >= 1 and ranks[-1] <= 1209


# --- the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: no experiment chosen: add +experiment=NAME, one of eight_shot, entropy_0_003, "),
        (("experiment=one_shot",), "error: experiment: write +experiment=NAME, with a plus sign"),
        (("+experiment=one_shto",), "error: experiment=one_shto: no such choice; did you mean one_shot?"),
        (("+experiment=one_shot", "train_set=pi0"), "from 1 up: train_set.ranks=[3,7]"),
        (("+experiment=one_shot", "loss.entrop=1"), "error: loss.entrop: no such key; did you mean loss.entropy?"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_multirun_composes_every_combination(tmp_path: Path) -> None:
    done = run("-m", "+experiment=one_shot,no_kl", "seed=0,1", "check=true", f"hydra.sweep.dir={tmp_path}")
    sound = re.findall(r"^(runs/.*): the configuration is sound", done.stdout, flags=re.M)
    places = [f"runs/tiny/tiny/{name}/seed{seed}" for name in ("one_shot", "no_kl") for seed in (0, 1)]
    assert sound == places
    assert "run 4 of 4" in done.stdout
    assert done.stdout.splitlines()[-4:] == [f"{place}  sound" for place in places]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+experiment=precise_label"], "12.7 stands in for 12.8"),
        (["reward_rule.file=nowhere.py"], "reward_rule.file={cwd}/nowhere.py: no such file"),
        (["base_model.path=/no/such/model"], "no such folder"),
        (["runs_dir=/dev/null/runs"], "cannot write below /dev/null"),
        (["example.file=nowhere, or else.yaml"], "example.file=nowhere, or else.yaml: no such file"),
        (["scale.benchmarks=[]"], "a run is evaluated on one benchmark or more"),
        (["+benchmarks.tiny500.limit=-5"], "benchmarks.tiny500.limit=-5: expected a whole number above 0"),
        (["scale.max_prompt_tokens=8"], "1 training example longer than scale.max_prompt_tokens=8"),
        (["scale.max_prompt_tokens=40", "scale.max_response_tokens=60"], "longer than scale.max_prompt_tokens=40"),
        (["check=maybe"], "check=maybe: expected true or false"),
    ],
)
def test_check_refuses_what_a_run_would_refuse(arguments: list[str], message: str) -> None:
    experiment = [] if arguments[0].startswith("+experiment") else ["+experiment=one_shot"]
    done = run(*experiment, "check=true", *arguments)
    assert done.returncode == 1 and message.format(cwd=ROOT) in done.stderr, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1


def test_check_refuses_a_folder_of_another_run(tmp_path: Path) -> None:
    cfg = compose("+experiment=one_shot", f"runs_dir={tmp_path}", "loss.kl=0.5", "variant=x")
    folder = Path(cfg.run_dir)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    done = run("+experiment=one_shot", f"runs_dir={tmp_path}", "variant=x", "check=true")
    assert done.returncode == 1 and "loss.kl: 0.5 → 0.001" in done.stderr


def test_what_is_not_at_hand_is_said_and_not_downloaded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = run("+experiment=one_shot", "scale=paper", "hardware=eight_gpus", "check=true")
    assert (
        done.returncode == 0 and "not checked: train/dsr_sub.parquet is downloaded when the run starts" in done.stdout
    )


def test_two_files_of_one_name_have_two_folders_and_one_variant_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.yaml").write_text(f"question: 1 + 1, {name}?\nanswer: 2\n")
    sweep = f"example.file={tmp_path}/a/best.yaml,{tmp_path}/b/best.yaml"
    given = ["-m", "+experiment=one_shot", sweep, "check=true", f"hydra.sweep.dir={tmp_path}/sweep"]
    places = re.findall(r"^(runs/.*): the configuration is sound", (done := run(*given)).stdout, flags=re.M)
    assert done.returncode == 0 and len(set(places)) == 2
    done = run(*given, "variant=x")
    assert done.returncode == 1 and "two runs of this sweep would share the folder: leave variant out" in done.stderr


def test_paths_need_no_quotes(tmp_path: Path) -> None:
    place = tmp_path / "Größe (1), [2]=x"
    place.mkdir()
    (place / "my problem, é.yaml").write_text("question: 1 + 1?\nanswer: 2\n")
    done = run("+experiment=one_shot", f"runs_dir={place}", f"example.file={place}/my problem, é.yaml", "check=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("/seed0: the configuration is sound\n") and "one_shot-example.file=" in done.stdout
    assert compose("+experiment=one_shot", "runs_dir=~/runs").runs_dir == str(Path.home() / "runs")
    both = f"example.file={place}/a.yaml,{place}/b.yaml"  # a sweep where both are there
    assert quoted(both) != both
    for name in "ab":
        (place / f"{name}.yaml").write_text("question: 1 + 1?\nanswer: 2\n")
    clean = tmp_path / "a.yaml", tmp_path / "b.yaml"
    for path in clean:
        path.write_text("question: 1 + 1?\nanswer: 2\n")
    sweep = f"example.file={clean[0]},{clean[1]}"
    assert quoted(sweep) == sweep


def test_an_experiment_file_without_its_package_line_is_told(tmp_path: Path) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "experiment" / "mine.yaml").write_text("loss:\n  kl: 0\n")
    with pytest.raises(ConfigError, match="add '# @package _global_' as the first line"):
        check(compose("+experiment=mine", conf=conf))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["+experiment=one_shot", "check=true"]], ids=" ".join
)
def test_the_command_is_light(arguments: list[str]) -> None:
    script = (
        "import runpy, sys; sys.argv = ['run.py', *sys.argv[1:]]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "finally: print('HEAVY', sorted({'torch', 'ray', 'verl', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert len(done.stdout) > 60


def test_a_budget_below_one_answer_is_refused_on_a_gpu():
    r1 = ("+experiment=one_shot", "scale=paper", "base_model=deepseek_r1_distill_qwen_1_5b")
    with pytest.raises(
        ConfigError, match="actor.ppo_max_token_len_per_gpu=4096: a prompt and its answer may have 9216"
    ):
        check(compose(*r1, "hardware=one_gpu"))
    check(compose(*r1, "hardware=eight_gpus"))
    small_critic = ("hardware=eight_gpus", "critic.ppo_max_token_len_per_gpu=4000", "scale=paper")
    check(compose("+experiment=one_shot", *small_critic))
    with pytest.raises(ConfigError, match="critic.ppo_max_token_len_per_gpu=4000"):
        check(compose("+experiment=ppo_one_shot", *small_critic))


def test_without_flash_attention_nothing_is_packed():
    for attention, packed in (("sdpa", False), ("flash_attention_2", True)):
        cfg = compose("+experiment=ppo_one_shot", "scale=paper", "hardware=one_gpu", f"hardware.attention={attention}")
        for model in (cfg.actor_rollout_ref.model, cfg.critic.model):
            assert (model.use_remove_padding, model.override_config.attn_implementation) == (packed, attention)


def test_replicas_of_seeds_side_by_side_share_no_stream():
    seeds = [
        compose("+experiment=one_shot", "hardware=eight_gpus", f"seed={s}").actor_rollout_ref.rollout.seed
        for s in (0, 1, 2)
    ]
    assert min(b - a for a, b in zip(seeds, seeds[1:], strict=False)) > 8  # vLLM: seed + replica


def test_hydras_own_listing_resolves():
    done = subprocess.run(
        [sys.executable, "run.py", "+experiment=one_shot", "--cfg", "job", "--resolve"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "logger:" in done.stdout, done.stderr
