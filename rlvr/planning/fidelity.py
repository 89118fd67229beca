"""How faithful is a run? Every setting the results depend on: its value here, the paper's and the authors' code's.

`compare(cfg)` gives the rows as data (also stored as fidelity.json in the run folder), `table(rows)` as a table:
    python run.py +experiment=one_shot scale=paper hardware=eight_gpus check=true
Sources: arXiv 2504.20571 v3; ypwang61/One-Shot-RLVR at 21ed529 (scripts/train/training_1.5b_pi1_r128.sh and the verl it
carries). `None` means that a source does not say. Pure: imports neither hydra, torch nor verl.
"""

from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from rlvr.config.schema import CONF, leaves
from rlvr.data import protocols
from rlvr.data.prompts import AUTHORS_STOPS

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
BENCHMARKS = protocols.group("paper")
LORA = "lora.rank: trained"  # no key: all weights, or adapters of a rank
STOPS = "scale.benchmarks: stop"  # no key: read from the protocols of all benchmarks


class Setting(NamedTuple):
    """One thing a result depends on. where: the place in the paper, or a difference that the values do not show."""

    setting: str
    key: str  # dotted
    paper: Any
    authors: Any
    where: str


SETTINGS = (
    Setting("base model", "base_model.path", "Qwen/Qwen2.5-Math-1.5B", "Qwen/Qwen2.5-Math-1.5B", "§3.1"),
    Setting("prompt template", "base_model.template", "qwen25-math-cot", "qwen25-math-cot", "B.5"),
    Setting("pool", "pool.name", "dsr_sub", "dsr_sub", "§3.1"),
    Setting("examples (ranks)", "train_set.ranks", [1], [1], "Table 3"),
    Setting("label", "label.name", "correct", "correct", "Table 5"),
    Setting("reward", "reward_rule.name", "outcome", "outcome", "§2"),
    Setting("estimator", "algorithm.adv_estimator", "grpo", "grpo", "§2"),
    Setting("advantage / std of its group", "algorithm.norm_adv_by_std_in_grpo", True, True, "§2"),
    Setting("policy loss", "loss.policy", "vanilla", "vanilla", "§2"),
    Setting("clip ratio", f"{ACTOR}.clip_ratio", None, 0.2, ""),
    Setting("dual clip", f"{ACTOR}.clip_ratio_c", None, "none", "acts from the second update of a step on"),
    Setting("loss mean over", f"{ACTOR}.loss_agg_mode", None, "token-mean, micro-batch", "here: mini-batch"),
    Setting("KL coefficient", "loss.kl", 0.001, 0.001, "§3.1"),
    Setting("KL estimator", f"{ACTOR}.kl_loss_type", None, "low_var_kl", ""),
    Setting("KL in the reward", "algorithm.use_kl_in_reward", False, False, "§2"),
    Setting("entropy coefficient", "loss.entropy", 0.001, 0.001, "§3.1"),
    Setting("weight decay", "loss.weight_decay", 0.01, 0.01, "B.4"),
    Setting("updates per step", "updates_per_step", 8, 1, "§3.1 against the code's mini-batch of prompts"),
    Setting("epochs per batch", f"{ACTOR}.ppo_epochs", None, 1, ""),
    Setting("trained weights", LORA, "all", "all", "B.4"),
    Setting("learning rate", "scale.learning_rate", 1e-6, 1e-6, "B.4"),
    Setting("schedule", f"{ACTOR}.optim.lr_scheduler_type", "constant", "constant", "B.4"),
    Setting("warm-up steps", f"{ACTOR}.optim.lr_warmup_steps", None, 0, ""),
    Setting("Adam betas", f"{ACTOR}.optim.betas", None, [0.9, 0.999], ""),
    Setting("gradient norm limit", f"{ACTOR}.grad_clip", None, 1.0, ""),
    Setting("prompts per step", "scale.prompts_per_step", 128, 128, "§3.1"),
    Setting("samples per prompt", "scale.samples_per_prompt", 8, 8, "§3.1"),
    Setting("steps", "scale.steps", "base_model.paper_steps", 2000, "B.4, by model"),
    Setting("temperature", "scale.temperature", 0.6, 0.6, "§3.1"),
    Setting("top_p", "scale.top_p", None, 1.0, ""),
    Setting("top_k", "scale.top_k", None, -1, ""),
    Setting("prompt tokens", "scale.max_prompt_tokens", 1024, 1024, "§3.1"),
    Setting("response tokens", "scale.max_response_tokens", "base_model.paper_response_tokens", 3072, "§3.1, B.4"),
    Setting("evaluation every", "scale.evaluate_every", 20, 20, "Fig. 1"),
    Setting("checkpoint every", "scale.save_every", 20, 20, "§3.1"),
    Setting("answers end at", STOPS, None, list(AUTHORS_STOPS), "in evaluation; in training at the end token alone"),
    Setting("benchmarks", "scale.benchmarks", BENCHMARKS, BENCHMARKS, "§3.1"),
    Setting("shuffle", "data.shuffle", None, True, ""),
    Setting("seed", "seed", None, 1, ""),
    Setting("training precision", f"{ACTOR}.fsdp_config.model_dtype", None, "fp32", "bf16 compute on GPUs"),
    Setting("rollout precision", f"{ROLLOUT}.dtype", None, "bfloat16", ""),
    Setting("rollout engine", f"{ROLLOUT}.name", "vllm", "vllm", "B.4"),
    Setting("sharding", f"{ACTOR}.strategy", None, "fsdp", ""),
    Setting("GPUs", "hardware.devices_per_node", 8, 8, "B.4"),
    Setting("stored weights", "retention.weights_dtype", None, "float32", "Table 7"),
)
CRITIC_UPDATES = "updates of the critic"  # no key: prompts per step over its mini-batch
PPO_SETTINGS = (  # the paper says nothing about them; the authors' are the defaults of their verl
    Setting("discount (gamma)", "algorithm.gamma", None, 1.0, ""),
    Setting("GAE lambda", "algorithm.lam", None, 1.0, ""),
    Setting("critic's learning rate", "scale.critic_learning_rate", None, 1e-5, ""),
    Setting("critic's value clip", "critic.cliprange_value", None, 0.5, ""),
    Setting(
        "critic's updates per step", CRITIC_UPDATES, None, 8, "theirs is not multiplied by the samples of a prompt"
    ),
    Setting(
        "KL in the reward (PPO)", "algorithm.use_kl_in_reward", None, True, "their default for PPO; here a loss term"
    ),
)
# Groups that an experiment file may choose in its defaults, and the setting that shows it.
GROUP_KEYS = {"train_set": "train_set.ranks", "label": "label.name", "reward_rule": "reward_rule.name"}


def compare(cfg: DictConfig) -> list[dict]:
    """One row for each setting: name, key, here, paper, authors, where, mark.

    mark: "" if the run agrees with every source that states a value; "authors" or "paper" if these disagree and the run follows
    one of them; otherwise where the difference comes from: "experiment", "scale", "hardware", or "changed".
    """
    settings: tuple[Setting, ...] = SETTINGS
    if cfg.algorithm.adv_estimator == "gae":
        told = {setting.key for setting in PPO_SETTINGS}
        settings = tuple(setting for setting in SETTINGS if setting.key not in told) + PPO_SETTINGS
    rows = []
    for setting in settings:
        here = _value(cfg, setting.key)
        paper = setting.paper
        if isinstance(paper, str) and paper.startswith("base_model."):
            paper = _value(cfg, paper)
        mark = _mark(here, paper, setting.authors)
        if mark == "changed":
            mark = _origin(setting.key, cfg)
        rows.append(setting._asdict() | {"here": here, "paper": paper, "mark": mark})
    return rows


def _value(cfg: DictConfig, key: str) -> Any:
    if key == CRITIC_UPDATES:
        return cfg.scale.prompts_per_step // cfg.critic.ppo_mini_batch_size
    if key == LORA:
        return "all" if cfg.lora.rank is None else f"LoRA, rank {cfg.lora.rank}"
    if key == STOPS:
        return list(dict.fromkeys(stop for row in protocols.of_run(cfg) for stop in row.stop or ()))
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _mark(here: Any, paper: Any, authors: Any) -> str:
    stated = {"paper": paper, "authors": authors}
    agree = [source for source, value in stated.items() if value is not None and value == here]
    said = [source for source, value in stated.items() if value is not None]
    if agree == said:
        return ""
    return agree[0] if agree else "changed"


def _origin(key: str, cfg: DictConfig) -> str:
    if _sets("experiment", cfg.experiment_name, key):
        return "experiment"
    if key.startswith(("scale.", "base_model.", "pool.")) and cfg.scale.name != "paper":
        return "scale"
    return "hardware" if _sets("hardware", cfg.hardware.name, key) else "changed"


def _sets(group: str, name: str | None, key: str) -> bool:
    """Whether a file of `conf/`, or one that it builds on, sets a key or the group that it is in."""
    path = CONF / group / f"{name}.yaml"
    if not path.exists():  # of the user's own config folder
        return False
    file = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(file, dict)
    for default in file.pop("defaults", []):
        if isinstance(default, str):
            if default != "_self_" and _sets(group, default, key):
                return True
            continue
        chosen = [one.removeprefix("override /") for one in default]
        if any(GROUP_KEYS.get(one, key if key.startswith(f"{one}.") else one) == key for one in chosen):
            return True
    return key in leaves(file)


def table(rows: list[dict]) -> Table:
    """The rows for a terminal; differences stand out by their mark."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "this run", "paper", "authors' code", "differs", "where"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        style = "yellow" if row["mark"] in ("changed", "scale", "hardware") else None
        values = [_text(row[name]) for name in ("here", "paper", "authors")]
        shown.add_row(row["setting"], *values, row["mark"], row["where"], style=style)
    return shown


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
