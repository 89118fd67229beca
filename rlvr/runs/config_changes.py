"""May this configuration go on with the run that a folder holds? Two starts may differ in MAY_DIFFER; a run may grow (MAY_GROW);
any other difference is a RunConflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rlvr.runs.naming import MACHINE, holds_data
from rlvr.runs.plain_files import RunFolderError

if TYPE_CHECKING:
    from rlvr.runs.folder import RunFolder

# What two starts of one run may differ in. Paths inside the run folder may move with it. The problems that are read from a file
# are compared themselves (train_set.examples; data/*.parquet, rlvr/data/prepare.py).
MAY_DIFFER = (*(key for key, may_differ in MACHINE.items() if may_differ), "trainer.logger", "example.file")
# A reward of the user's own may lie elsewhere; its text is compared (data/reward.py, rlvr/training/train_run.py).
OWN_REWARD = ("reward_rule.file", "reward.custom_reward_function.reward_kwargs.file")
# What may change on a run that is there, to no fewer steps than it has; it then goes on from its last checkpoint. With the
# keys that follow it.
MAY_GROW = {"scale.steps": ("trainer.total_training_steps", "trainer.total_epochs")}
MAX_SHOWN = 8


class RunConflict(RunFolderError):
    """The folder holds a run of another config."""


def refuse_other_config(folder: RunFolder, config: dict) -> dict[str, tuple[Any, Any]]:
    """RunConflict when the folder holds a run whose config differs from this one, resolved and plain.

    What only grew is returned: dotted key -> (old value, new value).
    """
    if folder.state == "new":
        return {}
    stored, plain = folder.config(), yaml.safe_load(yaml.safe_dump(config, sort_keys=False))
    differences = config_differences(stored, plain)
    grown = _grown(stored, plain, differences, folder.last_step())
    for key in grown:
        for follows in (key, "overrides", *MAY_GROW[key]):
            differences.pop(follows, None)
    if differences:
        shown = [f"{key}: {old} → {new}" for key, (old, new) in list(differences.items())[:MAX_SHOWN]]
        if len(differences) > MAX_SHOWN:
            shown.append(f"and {len(differences) - MAX_SHOWN} more")
        raise RunConflict(
            f"{folder.path} holds a run of another config ({'; '.join(shown)}): give variant=<name> or another runs_dir"
        )
    if grown and folder.state == "finished" and not folder.resume_step():
        raise RunConflict(
            f"{folder.path}: has no checkpoint to go on from, so it cannot grow ({', '.join(grown)}): give variant=<name>"
        )
    return grown


def may_grow(config: Mapping) -> dict[str, Any]:
    """The values of MAY_GROW in a configuration, those that it has."""
    flat = _flat(config)
    return {key: flat[key] for key in MAY_GROW if key in flat}


def _grown(
    old: Mapping, new: Mapping, differences: Mapping[str, tuple[Any, Any]], done: int
) -> dict[str, tuple[Any, Any]]:
    """The keys of MAY_GROW that differ and do not end before the steps `done`, where the overrides differ in nothing else."""
    grown = {key: differences[key] for key in MAY_GROW if key in differences}
    if not all(isinstance(value, int) and value >= done for _, value in grown.values()):
        return {}
    others = [{k: v for k, v in _overrides(config).items() if k not in grown} for config in (old, new)]
    return grown if others[0] == others[1] else {}


def _overrides(config: Mapping) -> dict[str, str]:
    """What a run overrides, by key, as far as it matters to the run."""
    given = (str(override).partition("=") for override in config.get("overrides") or [])
    return {key: value for key, _, value in given if key not in OWN_REWARD and not _may_differ(key)}


def _may_differ(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)


def config_differences(old: Mapping, new: Mapping) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value) for all keys that matter to a run; an absent value is "(none)".

    A null that the other does not have is no difference: an option that came later and is not used.
    """
    # An override of a file says what the file holds, so the path need not be the same.
    by_content = {key for key in _overrides(old).keys() & _overrides(new).keys() if holds_data(key)}
    old, new = (
        _flat({**config, "overrides": [f"{key}={value}" for key, value in _overrides(config).items()]})
        for config in (old, new)
    )
    both = {key for key in OWN_REWARD if old.get(key) and new.get(key)}
    return {
        key: (old.get(key, "(none)"), new.get(key, "(none)"))
        for key in old | new
        if old.get(key) != new.get(key) and key not in by_content | both and not _may_differ(key)
    }


def in_this_copy(path: str) -> str:
    """Map a path inside another checkout's rlvr/ to this one, where that file is here too; other texts stay as they are."""
    _, found, inside = path.rpartition("/rlvr/")
    here = Path(__file__).parents[1] / inside
    return str(here) if found and inside and here.exists() else path


def _flat(config: Mapping) -> dict[str, Any]:
    """Leaves by dotted key; where the run folder and this package are is taken out of every path."""
    place = str(config.get("run_dir", ""))
    leaves: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), item)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for i, item in enumerate(value):
                visit(f"{prefix}[{i}]", item)
        else:
            if isinstance(value, str):
                value = in_this_copy(value.replace(place, "<run_dir>") if place else value)
            leaves[prefix] = value

    visit("", config)
    return leaves
