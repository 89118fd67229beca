"""What can be known to fail before Ray starts: no GPU, weights that cannot be read. One line each, with the remedy."""

import os
import shutil
import subprocess
from pathlib import Path

from omegaconf import DictConfig

from rlvr.config import ConfigError


def check_machine(cfg: DictConfig) -> None:
    """ConfigError when `hardware` asks for GPUs that this machine does not have."""
    hardware = cfg.hardware
    if hardware.device != "cuda" or hardware.nodes > 1 or os.environ.get("RAY_ADDRESS"):
        return  # several nodes: Ray knows what the cluster has
    found = count_gpus()
    if found < hardware.devices_per_node:
        raise ConfigError(
            f"hardware={hardware.name}: needs {hardware.devices_per_node} GPU(s), this machine has {found}; "
            "hardware=cpu runs scale=tiny anywhere"
        )


def count_gpus() -> int:
    """GPUs that nvidia-smi lists, or the fewer that CUDA_VISIBLE_DEVICES allows."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else min(found, len([v for v in visible.split(",") if v.strip()]))


def check_weights(path: str) -> None:
    """ConfigError when a local model folder lacks its config or holds a weights file that cannot be read."""
    folder = Path(path)
    if not folder.exists():
        if path.startswith(("/", ".")):
            raise ConfigError(f"base_model.path={path}: no such folder; give one, or a Hugging Face id")
        return
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"base_model.path={path}: has no config.json, so it is not a Hugging Face model folder"
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files and not list(folder.glob("*.bin")):
        raise ConfigError(
            f"base_model.path={path}: has no weights (*.safetensors); download or copy them again"
        )
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="numpy") as weights:
                weights.keys()
        except SafetensorError as error:
            raise ConfigError(f"{file}: corrupt weights file ({error}); download or copy it again") from None
