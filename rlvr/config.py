"""What a run's configuration may say: its resolvers, its known keys and its domains. Pure: imports neither hydra nor torch.

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
from typing import Any

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"

# Mappings that are handed on as they are: their keys are arguments of somebody else's function.
FREE_FORM = ("ray_kwargs.ray_init",)

CHOICES = {
    "tracking": ("offline", "online", "off"),
    "loss.policy": ("vanilla", "none"),
    "reward_rule.name": ("outcome", "format"),
    "base_model.template": ("qwen25-math-cot", "chat"),
    "hardware.device": ("cpu", "cuda"),
}
POSITIVE_INTEGERS = (
    *(f"scale.{key}" for key in ("steps", "prompts_per_step", "samples_per_prompt", "max_prompt_tokens")),
    *(f"scale.{key}" for key in ("max_response_tokens", "evaluate_every", "save_every")),
    *("updates_per_step", "hardware.nodes", "hardware.devices_per_node"),
)
NONNEGATIVE = ("loss.kl", "loss.entropy", "loss.weight_decay")


class ConfigError(ValueError):
    """A configuration that cannot run; the message is one line with the value, what was expected and the remedy."""


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
        raise ConfigError("verl is not installed: pip install verl==0.9.1")
    return Path(spec.origin).parent / "trainer" / "config"


def register_resolvers() -> None:
    """Makes `${exact_division:..}` and its like, used in `conf/`, known to OmegaConf."""
    for resolver in (exact_division, package_path, train_set_name, with_variant):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    OmegaConf.register_new_resolver(
        "group_options", lambda group: ", ".join(group_options(group)), replace=True
    )


def exact_division(total: int, parts: int) -> int:
    if total % parts:
        raise ConfigError(f"{total} is not a multiple of {parts}")
    return total // parts


def package_path(package: str, *parts: str) -> str:
    """A path inside an installed package, which is located but not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"package {package} is not installed")
    return str(Path(spec.submodule_search_locations[0], *parts))


def train_set_name(ranks: Any) -> str:
    """`[1, 13]` -> `pi1_pi13`; three ranks or more in a row -> `pi1_to_pi16`; `all` -> `full`."""
    if isinstance(ranks, str):
        return "full"
    ranks = list(ranks)
    if len(ranks) > 2 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"pi{ranks[0]}_to_pi{ranks[-1]}"
    return "_".join(f"pi{rank}" for rank in ranks)


def with_variant(experiment: str, variant: str | None) -> str:
    return experiment if variant is None else f"{experiment}-{variant}"


@cache
def known_keys() -> dict[str, Any]:
    """The tree of all keys: verl's, with those of `conf/config.yaml` merged in; values are defaults or `???`."""
    verl = OmegaConf.load(verl_config_dir() / "_generated_ppo_trainer.yaml")
    ours = OmegaConf.load(CONF / "config.yaml")
    known = OmegaConf.to_container(OmegaConf.merge(verl, ours))
    del known["defaults"], known["hydra"]
    return known | {"model_engine": "dp"}  # the one key that verl's flat file leaves out


def unknown_keys(config: dict[str, Any], known: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths in `config` that `known` lacks. An empty or non-mapping known value says nothing about what is below."""
    for key, value in config.items():
        here = f"{path}{key}"
        if key not in known:
            yield here
        elif here in FREE_FORM or not known[key]:
            continue
        elif isinstance(value, dict) and isinstance(known[key], dict):
            yield from unknown_keys(value, known[key], f"{here}.")
        elif isinstance(value, list) and isinstance(known[key], list) and isinstance(known[key][0], dict):
            for item in value:
                yield from unknown_keys(item, known[key][0], f"{here}.")


def unknown_key_message(path: str) -> str:
    """One line that names an unknown dotted key and the known one that looks most like it."""
    node: Any = known_keys()
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, dict) or part not in node:
            break
        node = node[part]
    else:
        return f"{path}: no such choice"
    close = get_close_matches(part, node if isinstance(node, dict) else (), n=1, cutoff=0.7)
    if close:
        meant = ".".join([*parts[:depth], close[0], *parts[depth + 1 :]])
    else:  # perhaps the right name in the wrong place
        everywhere = {
            leaf.rpartition(".")[2]: leaf for leaf in sorted(_leaves(known_keys()), key=len, reverse=True)
        }
        close = get_close_matches(parts[-1], everywhere, n=1, cutoff=0.8)
        meant = everywhere[close[0]] if close else None
    return f"{path}: no such key" + (
        f"; did you mean {meant}?" if meant else " in verl's ppo_trainer or conf/config.yaml"
    )


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")


def check(cfg: DictConfig) -> None:
    """Raises ConfigError on the first thing that cannot be right: an unknown key, a missing value, one out of its domain."""
    config = OmegaConf.to_container(cfg, resolve=False)
    for path in unknown_keys(config, known_keys()):
        raise ConfigError(unknown_key_message(path))
    if not cfg.experiment_name:
        raise ConfigError(f"no experiment chosen: add +experiment=NAME, one of {', '.join(experiments())}")
    for group in ("scale", "base_model", "pool", "train_set", "reward_rule", "hardware"):
        for key in cfg[group]:
            if OmegaConf.is_missing(cfg[group], key):
                raise ConfigError(f"{group}.{key}: no value; set it in the file of conf/{group}")
    for key, allowed in CHOICES.items():
        _require(cfg, key, lambda value, allowed=allowed: value in allowed, f"one of {', '.join(allowed)}")
    for key in POSITIVE_INTEGERS:
        _require(cfg, key, lambda value: _is_integer(value) and value > 0, "a whole number above 0")
    for key in NONNEGATIVE:
        _require(cfg, key, lambda value: _is_number(value) and value >= 0, "a number of 0 or more")
    _require(cfg, "scale.learning_rate", lambda value: _is_number(value) and value > 0, "a number above 0")
    _require(
        cfg,
        "scale.temperature",
        lambda t: _is_number(t) and t > 0,
        "a number above 0: greedy answers are all alike",
    )
    _require(cfg, "scale.top_p", lambda value: _is_number(value) and 0 < value <= 1, "above 0, at most 1")
    _require(
        cfg,
        "scale.top_k",
        lambda k: _is_integer(k) and (k == -1 or k > 0),
        "-1 (all) or a whole number above 0",
    )
    _require(cfg, "seed", lambda value: _is_integer(value) and value >= 0, "a whole number of 0 or more")
    _require(
        cfg,
        "label",
        lambda v: v is None or v != "" and (isinstance(v, str) or _is_number(v)),
        "a text, a number or null",
    )
    _require(
        cfg,
        "variant",
        lambda v: v is None or isinstance(v, str) and re.fullmatch(r"[\w.]+", v),
        "letters, digits, '_' and '.', for it names a folder",
    )
    _check_updates(cfg)
    _check_ranks(cfg)
    _check_benchmarks(cfg)


def _require(cfg: DictConfig, key: str, holds: Callable[[Any], Any], expected: str) -> None:
    value = OmegaConf.select(cfg, key)
    if not holds(value):
        raise ConfigError(f"{key}={'null' if value is None else value}: expected {expected}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, float) and isfinite(value)


def _check_updates(cfg: DictConfig) -> None:
    rows = cfg.scale.prompts_per_step
    if rows % cfg.updates_per_step:
        divisors = ", ".join(str(n) for n in range(1, rows + 1) if rows % n == 0)
        raise ConfigError(
            f"updates_per_step={cfg.updates_per_step}: must divide scale.prompts_per_step={rows} ({divisors})"
        )


def _check_ranks(cfg: DictConfig) -> None:
    ranks, size = cfg.train_set.ranks, cfg.pool.size
    if ranks == "all":
        return
    where, there = f"train_set.ranks={ranks}", f"pi1 .. pi{size} in pool {cfg.pool.name}"
    if isinstance(ranks, str | int) or not ranks or not all(_is_integer(rank) for rank in ranks):
        raise ConfigError(f"{where}: expected a list of ranks such as [1,13], or all ({there})")
    if min(ranks) < 1:
        raise ConfigError(f"{where}: ranks start at 1 ({there})")
    if max(ranks) > size:
        raise ConfigError(f"{where}: ranks end at {size} ({there})")
    if len(set(ranks)) < len(ranks):
        raise ConfigError(f"{where}: a rank occurs twice; every example gets the same number of rows anyway")


def _check_benchmarks(cfg: DictConfig) -> None:
    names = [benchmark.name for benchmark in cfg.scale.benchmarks]
    for benchmark in cfg.scale.benchmarks:
        where = f"benchmark {benchmark.name}"
        if names.count(benchmark.name) > 1:
            raise ConfigError(f"{where}: the name occurs twice; results are filed under it")
        if benchmark.temperature < 0 or not 0 < benchmark.top_p <= 1 or benchmark.n < 1:
            raise ConfigError(f"{where}: expected temperature >= 0, 0 < top_p <= 1, n >= 1")
        if benchmark.temperature == 0 and benchmark.n > 1:
            raise ConfigError(
                f"{where}: n={benchmark.n} greedy answers are all alike; n=1 or a temperature above 0"
            )
