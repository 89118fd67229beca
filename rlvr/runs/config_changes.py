"""Decides whether a configuration may resume the run in a folder.

Two starts of a run may differ in MAY_DIFFER. A run may get more steps (MAY_GROW). Any other difference is a RunConflict.
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

# Keys in which two starts of one run may differ. A path to a file of problems may change, because the problems themselves are
# compared (train_set.examples; data/*.parquet, rlvr/data/prepare.py).
MAY_DIFFER = (*(key for key, may_differ in MACHINE.items() if may_differ), "trainer.logger", "example.file")
# A user's own reward file may move; its text is compared (data/reward.py, rlvr/training/train_run.py).
OWN_REWARD = ("reward_rule.file", "reward.custom_reward_function.reward_kwargs.file")
# A key that may grow, but not below the steps that are done, and the keys that follow from it.
MAY_GROW = {"scale.steps": ("trainer.total_training_steps", "trainer.total_epochs")}
MAX_SHOWN = 8


class RunConflict(RunFolderError):
    """The folder holds a run of another config."""


def refuse_other_config(folder: RunFolder, config: dict) -> dict[str, tuple[Any, Any]]:
    """Raise RunConflict if the folder holds a run with another config. `config`: resolved, of dicts, lists and scalars.

    Returns the keys that have grown: dotted key -> (old value, new value).
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
            f"{folder.path}: has no checkpoint to resume from, so {', '.join(grown)} cannot grow: give variant=<name>"
        )
    return grown


def may_grow(config: Mapping) -> dict[str, Any]:
    """The values of the MAY_GROW keys that a configuration has."""
    flat = _flat(config)
    return {key: flat[key] for key in MAY_GROW if key in flat}


def _grown(
    old: Mapping, new: Mapping, differences: Mapping[str, tuple[Any, Any]], done: int
) -> dict[str, tuple[Any, Any]]:
    """The MAY_GROW keys that differ, if their new values are at least `done` steps and no other override differs."""
    grown = {key: differences[key] for key in MAY_GROW if key in differences}
    if not all(isinstance(value, int) and value >= done for _, value in grown.values()):
        return {}
    others = [{k: v for k, v in _overrides(config).items() if k not in grown} for config in (old, new)]
    return grown if others[0] == others[1] else {}


def _overrides(config: Mapping) -> dict[str, str]:
    """The overrides of a run by key, without those in which two starts may differ."""
    given = (str(override).partition("=") for override in config.get("overrides") or [])
    return {key: value for key, _, value in given if key not in OWN_REWARD and not _may_differ(key)}


def _may_differ(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)


def config_differences(old: Mapping, new: Mapping) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value) for all keys that matter to a run; a missing value is "(none)".

    null on one side and no key on the other are equal: the option was added later and is not used.
    """
    # Files of data are compared by their content, so their paths may differ.
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
    """Map a path inside another checkout's rlvr/ to this checkout, if the file exists here too; return other texts unchanged."""
    _, found, inside = path.rpartition("/rlvr/")
    here = Path(__file__).parents[1] / inside
    return str(here) if found and inside and here.exists() else path


def _flat(config: Mapping) -> dict[str, Any]:
    """Leaves by dotted key. Paths are made independent of where the run folder and this package are."""
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
