"""What a scale says of itself (conf/scale/<scale>.yaml), for those who compose no whole configuration: tables and the launcher."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlvr.cli import ConfigError, did_you_mean

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "scale"


def check_scale(scale: str) -> None:
    """ConfigError for a scale that has no file."""
    if not scale_file(scale):
        known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
        raise ConfigError(f"scale={scale}: {did_you_mean(scale, known)}")


@cache
def scale_file(scale: str) -> Mapping[str, Any]:
    """The keys of `scale` over those of the file that it builds on, and the name of its own base model; {} if unknown.

    Read as Hydra composes it, which a test compares; a report asks thousands of times.
    """
    path = FOLDER / f"{scale}.yaml"
    if not path.exists():
        return {}
    file = OmegaConf.load(path)
    parts: list[Mapping[str, Any]] = []
    for default in file.get("defaults", []):
        if isinstance(default, Mapping):
            parts += [{"base_model": model} for key, model in default.items() if key == "override /base_model"]
        elif default != "_self_":
            parts.append(scale_file(default))
    return OmegaConf.to_container(OmegaConf.merge(*parts, file.scale), resolve=False)


def paper_columns(scale: str) -> dict[str, tuple[str, ...]]:
    """Column of the paper -> the benchmarks of a scale whose mean stands for it (`scale.columns`)."""
    columns = scale_file(scale).get("columns", {})
    return {name: tuple([given] if isinstance(given, str) else given) for name, given in columns.items()}


def shown(scale: str, evaluated: Sequence[str]) -> str:
    """The main benchmark of a scale: the one that takes the place of MATH500, else the last."""
    return next((name for name in paper_columns(scale).get("MATH500", ()) if name in evaluated), evaluated[-1])
