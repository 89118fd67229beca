"""Functions that `conf/` calls in interpolations, such as `${exact_division:${scale.prompts_per_step},${updates_per_step}}`."""

import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlvr.cli import ConfigError
from rlvr.config.schema import group_options
from rlvr.data.prompts import chat_template
from rlvr.runs.free_text import as_written, protected
from rlvr.runs.naming import run_name, science


def register_resolvers() -> None:
    """Makes `${exact_division:..}` and its like, used in `conf/`, known to OmegaConf."""
    for resolver in (
        chat_template,
        equal,
        exact_division,
        if_set,
        is_set,
        package_path,
        product,
        random_ranks,
        run_name,
        science,
        trackers,
        train_set_name,
    ):
        OmegaConf.register_new_resolver(resolver.__name__, _with_containers(resolver), replace=True)
    OmegaConf.register_new_resolver("group_options", lambda group: ", ".join(group_options(group)), replace=True)


def _with_containers(resolver: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the user's texts to a resolver as written, and return lists as OmegaConf lists (`--cfg job --resolve` fails on plain ones)."""

    def resolve(*arguments: Any) -> Any:
        value = protected(resolver(*as_written(arguments)))
        return OmegaConf.create(value) if isinstance(value, list) else value

    return resolve


def equal(one: Any, other: Any) -> bool:
    return one == other


def product(one: int, other: int) -> int:
    return one * other


def exact_division(total: int, parts: int) -> int:
    if total % parts:
        raise ConfigError(f"{total} is not a multiple of {parts}")
    return total // parts


def if_set(value: Any, otherwise: Any) -> Any:
    """The value, or `otherwise` if it is null."""
    return otherwise if value is None else value


def is_set(value: Any) -> bool:
    return value is not None


def package_path(package: str, *parts: str) -> str:
    """A path inside an installed package, which is located but not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"package {package} is not installed")
    return str(Path(spec.submodule_search_locations[0], *parts))


def train_set_name(ranks: Any) -> str:
    """`[1, 13]` -> `pi1_pi13`; three ranks or more in a row -> `pi1_to_pi16`; `all` -> `full`; none -> `own`."""
    if ranks is None:
        return "own"
    if isinstance(ranks, str):
        return "full"
    ranks = list(ranks)
    if len(ranks) > 2 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"pi{ranks[0]}_to_pi{ranks[-1]}"
    return "_".join(f"pi{rank}" for rank in ranks)


def trackers(tracking: str) -> list[str]:
    """verl's loggers for `tracking`. W&B's mode and TensorBoard's folder are environment variables (rlvr/training/ray_cluster.py)."""
    return {"off": [], "tensorboard": ["tensorboard"]}.get(tracking, ["wandb"])


def random_ranks(count: int, size: int, seed: int) -> list[int]:
    """`count` different ranks of a pool of `size`, in rising order."""
    return sorted(random.Random(seed).sample(range(1, size + 1), count))
