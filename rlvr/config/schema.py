"""The known keys of a configuration and the values that each may have. Imports neither hydra nor torch.

`conf/config.yaml` declares every key of ours; verl ships the flat form of its own. A key in neither is an error, wherever
it was written (Hydra itself accepts a misspelt key inside an experiment file in silence).
"""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

from rlvr.cli import ConfigError
from rlvr.data import protocols
from rlvr.data.prompts import TEMPLATES
from rlvr.grading import GRADERS
from rlvr.grading.reward_rules import RULES
from rlvr.runs.plain_files import LOADER

CONF = Path(__file__).resolve().parents[2] / "conf"

# Mappings whose keys are not checked: they are arguments of another library's function, or names that the user gives.
FREE_FORM = (
    "ray_kwargs.ray_init",
    "benchmarks",
    "scale.columns",
    "actor_rollout_ref.model.override_config",
    "critic.model.override_config",
)


def group_options(group: str) -> list[str]:
    """The files of one group of `conf/`, by name."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def experiments() -> list[str]:
    """The names `+experiment=` accepts."""
    return group_options("experiment")


def verl_config_dir() -> Path:
    """verl's folder of YAML files, found without importing verl."""
    spec = find_spec("verl")
    if spec is None or spec.origin is None:
        raise ConfigError("verl is not installed: pip install -e . installs it")
    return Path(spec.origin).parent / "trainer" / "config"


@cache
def verl_config() -> dict[str, Any]:
    """verl's `ppo_trainer`, from the flat form that verl ships: composing its 30 files takes twice as long as the rest."""
    return yaml.load((verl_config_dir() / "_generated_ppo_trainer.yaml").read_text(), LOADER)


@cache
def known_keys() -> dict[str, Any]:
    """The tree of all keys: verl's, with those of `conf/config.yaml` merged in; values are defaults or `???`."""
    ours = OmegaConf.load(CONF / "config.yaml")
    known = OmegaConf.to_container(OmegaConf.merge(ours, verl_config(), ours))  # ours also first, to be suggested first
    del known["defaults"], known["hydra"]
    return known


def unknown_keys(config: dict[str, Any], known: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths in `config` that `known` lacks. Below a known key whose value is empty or not a mapping, any key is allowed."""
    for key, value in config.items():
        here = f"{path}{key}"
        if key not in known:
            yield here
        elif here in FREE_FORM or not known[key]:
            continue
        elif isinstance(value, dict) and isinstance(known[key], dict):
            yield from unknown_keys(value, known[key], f"{here}.")


def unknown_key_message(path: str) -> str:
    """One line that names an unknown dotted key and the known one that looks most like it."""
    node: Any = known_keys()
    parts = path.split(".")
    right = 0  # how many parts are right
    while right < len(parts) and isinstance(node, dict) and parts[right] in node:
        node = node[parts[right]]
        right += 1
    if right == len(parts):
        return f"{path}: no such choice"
    siblings = get_close_matches(parts[right], node if isinstance(node, dict) else (), n=1, cutoff=0.7)
    elsewhere = {leaf.rpartition(".")[2]: leaf for leaf in reversed(list(_paths(known_keys())))}
    names = get_close_matches(parts[-1], elsewhere, n=1, cutoff=0.8)
    if siblings:
        return f"{path}: no such key; did you mean {'.'.join([*parts[:right], *siblings, *parts[right + 1 :]])}?"
    if names:  # the right name in the wrong place
        return f"{path}: no such key; did you mean {elsewhere[names[0]]}?"
    return f"{path}: no such key in verl's ppo_trainer or conf/config.yaml"


def _paths(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{path}{key}.")


def leaves(tree: dict, path: str = "") -> Iterator[str]:
    """Dotted paths of a tree's values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


class Domain(NamedTuple):
    """A condition on a value, and its wording in an error."""

    holds: Callable[[Any], bool]
    expected: str


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _integer(value) or isinstance(value, float) and isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def one_of(*choices: Any) -> Domain:
    said = (
        f"one of {', '.join(choices)}"
        if len(choices) > 3
        else " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
    )
    return Domain(lambda v: v in choices, said)


POSITIVE = Domain(lambda v: _integer(v) and v > 0, "a whole number above 0")
COUNT = Domain(lambda v: _integer(v) and v >= 0, "a whole number of 0 or more")
RATE = Domain(lambda v: _number(v) and v > 0, "a number above 0")
HOT = Domain(RATE.holds, "a number above 0 (greedy answers are all equal)")
TRUTH = Domain(lambda v: isinstance(v, bool), "true or false")
# Keys and their domain; keys with the same domain share a line.
DOMAINS = {
    "scale.steps scale.prompts_per_step scale.samples_per_prompt scale.max_prompt_tokens scale.max_response_tokens": POSITIVE,
    "scale.evaluate_every scale.save_every updates_per_step retention.weights_every base_model.context_tokens": POSITIVE,
    "hardware.nodes hardware.devices_per_node": POSITIVE,
    "loss.kl loss.weight_decay": Domain(lambda v: _number(v) and v >= 0, "a number of 0 or more"),
    "loss.entropy": Domain(_number, "a number; below 0, entropy is minimised"),
    "scale.learning_rate scale.critic_learning_rate": RATE,
    "watchdog.no_progress_minutes watchdog.placement_minutes reward_rule.seconds": RATE,
    "scale.temperature scale.high_temperature": HOT,
    "scale.top_p": Domain(lambda v: _number(v) and 0 < v <= 1, "above 0 and at most 1"),
    "scale.top_k": Domain(lambda v: _integer(v) and (v == -1 or v > 0), "-1 (all) or a whole number above 0"),
    "seed example.probe_samples": COUNT,
    "label.text": Domain(lambda v: v is None or _number(v) or _text(v), "a text, a number or null"),
    "label.wrong_share": Domain(lambda v: _number(v) and 0 <= v <= 1, "a share from 0 to 1"),
    "reward_rule.grader": one_of(*GRADERS),
    "reward_rule.probability": Domain(lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1"),
    "variant": Domain(
        lambda v: v is None or _text(v) and re.fullmatch(r"[\w.]+", v) is not None,
        "letters, digits, '_' and '.', for it names a folder",
    ),
    "tracking": one_of("offline", "online", "tensorboard", "off"),
    "algorithm.adv_estimator": Domain(lambda v: v in ("grpo", "gae"), "grpo or gae (PPO)"),
    "loss.policy": one_of("vanilla", "none"),
    "reward_rule.name": one_of(*RULES),
    "base_model.template": one_of(*TEMPLATES),
    "scale.fail_fast check all": TRUTH,
    "retention.states": Domain(lambda v: v is None or POSITIVE.holds(v), "a whole number above 0, or null (all)"),
    "lora.rank lora.alpha": Domain(lambda v: v is None or POSITIVE.holds(v), "a whole number above 0, or null"),
    "retention.weights_dtype": one_of("bfloat16", "float32"),
    "hardware.device": one_of("cpu", "cuda"),
    "hardware.attention": one_of("flash_attention_2", "sdpa"),
}


def check(cfg: DictConfig) -> None:
    """Raises ConfigError on the first unknown key, missing value or value out of its domain."""
    if "experiment" in cfg:
        raise ConfigError(
            f"experiment {cfg.experiment_name}: add '# @package _global_' as the first line of the experiment's file"
        )
    for path in unknown_keys(OmegaConf.to_container(cfg, resolve=False), known_keys()):
        raise ConfigError(unknown_key_message(path))
    if not cfg.experiment_name:
        raise ConfigError(f"no experiment chosen: add +experiment=NAME, one of {', '.join(experiments())}")
    for group in ("scale", "base_model", "pool", "train_set", "label", "reward_rule", "hardware"):
        for key in cfg[group]:
            if OmegaConf.is_missing(cfg[group], key):
                raise ConfigError(f"{group}.{key}: no value; set it in the file of conf/{group}")
    for keys, domain in DOMAINS.items():
        for key in keys.split():
            value = OmegaConf.select(cfg, key)
            if not domain.holds(value):
                raise ConfigError(f"{key}={'null' if value is None else value}: expected {domain.expected}")
    _check_updates(cfg)
    _check_example(cfg)
    _check_context(cfg)
    _check_token_budget(cfg)
    _check_ranks(cfg)
    _check_benchmarks(cfg)


def _check_updates(cfg: DictConfig) -> None:
    rows = cfg.scale.prompts_per_step
    if rows % cfg.updates_per_step:
        divisors = ", ".join(str(n) for n in range(1, rows + 1) if rows % n == 0)
        raise ConfigError(
            f"updates_per_step={cfg.updates_per_step}: must divide scale.prompts_per_step={rows} ({divisors})"
        )


def _check_example(cfg: DictConfig) -> None:
    question, answer, file = (cfg.example[key] for key in ("question", "answer", "file"))
    if file is not None and (question is not None or answer is not None):
        raise ConfigError("example.file and example.question: give one of them, or several questions in the file")
    if (question is None) != (answer is None):
        missing = "answer" if answer is None else "question"
        raise ConfigError(f"example.{missing}: no value; an example has a question and an answer")


def _check_context(cfg: DictConfig) -> None:
    tokens = cfg.scale.max_prompt_tokens + cfg.scale.max_response_tokens
    if tokens > cfg.base_model.context_tokens:
        raise ConfigError(
            f"scale.max_prompt_tokens + scale.max_response_tokens = {tokens}: base_model {cfg.base_model.name} was made "
            f"for base_model.context_tokens={cfg.base_model.context_tokens}; shorten scale.max_response_tokens"
        )


def _check_token_budget(cfg: DictConfig) -> None:
    """On GPUs a micro-batch must hold one whole row, or verl ends at the first answer of full length."""
    if cfg.hardware.device != "cuda":
        return
    tokens = cfg.scale.max_prompt_tokens + cfg.scale.max_response_tokens
    keys = ["actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu"]
    keys += ["critic.ppo_max_token_len_per_gpu"] if cfg.algorithm.adv_estimator == "gae" else []
    for key in keys:
        if (budget := OmegaConf.select(cfg, key)) < tokens:
            raise ConfigError(
                f"{key}={budget}: a prompt and its answer may have {tokens} tokens; raise it to that or more"
            )


def _check_ranks(cfg: DictConfig) -> None:
    ranks, size = cfg.train_set.ranks, cfg.pool.size
    if ranks == "all" or ranks is None and cfg.train_set.examples:
        return
    where, there = f"train_set.ranks={ranks}", f"pi1 .. pi{size} in pool {cfg.pool.name}"
    if isinstance(ranks, str | int) or not ranks or not all(_integer(rank) for rank in ranks):
        raise ConfigError(f"{where}: expected a list of ranks such as [1,13], or all ({there})")
    if min(ranks) < 1:
        raise ConfigError(f"{where}: ranks start at 1 ({there})")
    if max(ranks) > size:
        raise ConfigError(f"{where}: ranks end at {size} ({there})")
    if len(set(ranks)) < len(ranks):
        raise ConfigError(f"{where}: a rank occurs twice; every example gets the same number of rows anyway")


def _check_benchmarks(cfg: DictConfig) -> None:
    listed = protocols.of_run(cfg)
    if not listed:
        raise ConfigError("scale.benchmarks=[]: a run is evaluated on one benchmark or more, such as [validation]")
    for row in listed:
        if row.scoring != "generate":
            raise ConfigError(
                f"scale.benchmarks: {row.name}: its choices are scored, which training does not do; "
                f"afterwards: python -m rlvr.evaluate run=<folder> benchmarks={row.name}"
            )
        if row.template != cfg.base_model.template:
            raise ConfigError(
                f"scale.benchmarks: {row.name}: its template is {row.template}, the run's base_model.template={cfg.base_model.template}: "
                "training puts all prompts in one template"
            )
        if (row.max_tokens or 0) > cfg.scale.max_response_tokens:
            raise ConfigError(
                f"scale.benchmarks: {row.name}: its answers may have {row.max_tokens} tokens, a run's "
                f"scale.max_response_tokens={cfg.scale.max_response_tokens}: raise that, or lower benchmarks.{row.name}.max_tokens"
            )
    for names in cfg.scale.columns.values():
        protocols.select(names if isinstance(names, str) else list(names))
