"""The name of a run: its experiment and what was overridden. run.py, the launcher and the tables all use it.

    one_shot                          +experiment=one_shot
    one_shot-train_set.ranks=3_7      +experiment=one_shot train_set.ranks=[3,7]
    one_shot-example.file=3f2a9c1d    +experiment=one_shot example.file=problems/mine.yaml
    one_shot-long                     +experiment=one_shot variant=long scale.steps=240

Tables identify runs by their configuration (`experiment_name` and `overrides`), not by their folder's name. A file of data is
identified by its content (8 digits of its SHA-256), so its path may change. A user's own reward is identified by its path, because
it may be corrected while the run goes on.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from rlvr.runs.free_text import as_written, without_quotes

# Keys that do not change what is studied. PLACE: keys that have a folder level of their own. MACHINE: keys of where and how a run
# is run; True: two starts of one run may differ in the key and in all keys below it.
PLACE = ("experiment", "scale", "base_model", "seed", "variant")
MACHINE = {"hardware": False, "retention": False, "transfer_queue": False, "trainer": False, "hydra": False, "runs_dir": True,
           "run_dir": True, "data_root": True, "tracking": True, "check": True, "all": True, "watchdog": True, "ray": True,
           "ray_kwargs": True}  # fmt: skip
LONGEST = 120


def science(overrides: Iterable[str]) -> list[str]:
    """The overrides of a command line that change what is studied, as `key=value`, sorted by key. The last value of a key counts."""
    kept: dict[str, str] = {}
    for override in overrides:
        key, equals, value = str(override).lstrip("+").partition("=")
        if not equals or key in PLACE or any(key == name or key.startswith(f"{name}.") for name in MACHINE):
            continue
        if (inside := without_quotes(value)) != value:
            value = as_written(inside)
        kept[key] = re.sub(r"\s*,\s*", ",", value) if value.startswith("[") else _told_apart(key, value)
    return [f"{key}={kept[key]}" for key in sorted(kept)]


def run_name(experiment: str, variant: str | None = None, overrides: Iterable[str] = ()) -> str:
    """The folder name of a run: the experiment, then its variant or else `science(overrides)`."""
    if variant:
        return f"{experiment}-{variant}"
    own = [f"{key}={_readable(key, value)}" for key, _, value in (o.partition("=") for o in science(overrides))]
    name = "-".join([experiment, *own])
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 9]}-{_digest(name)}"
    return name


def holds_data(key: str) -> bool:
    """Whether a key names a file of data: examples, a ranking, a benchmark's problems."""
    return key in ("example.file", "pool.ranking") or key.startswith("benchmarks.") and key.endswith(".file")


def _told_apart(key: str, value: str) -> str:
    """For a file's path, what identifies the file; other values and paths of missing files are returned unchanged."""
    path = Path(value).expanduser()
    if holds_data(key) and path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    if key == "reward_rule.file" and path.is_file():
        path, here = path.resolve(), Path.cwd().resolve()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)
    return value


def _readable(key: str, value: str) -> str:
    if key in ("example.question", "example.answer"):  # free text does not fit into a name
        return _digest(value)
    if key.endswith(".file") and Path(value).is_absolute():
        value = f"{Path(value).name}-{_digest(value)}"
    return re.sub(r"[^\w.+-]+", "_", value).strip("_")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
