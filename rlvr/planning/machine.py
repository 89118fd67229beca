"""What can be known to fail before Ray starts: no GPU, weights that cannot be read. One line each, with the remedy."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rlvr.cli import ConfigError
from rlvr.planning import resources
from rlvr.planning.resources import Machine
from rlvr.runs.config_changes import refuse_other_config
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import RunFolderError


def check_machine(cfg: DictConfig) -> None:
    """ConfigError when `hardware` asks for what this machine does not have."""
    hardware = cfg.hardware
    cluster = hardware.nodes > 1 or ray_address(cfg)  # then Ray knows what there is
    if hardware.device == "cuda" and not cluster and (found := count_gpus()) < hardware.devices_per_node:
        raise ConfigError(
            f"hardware={hardware.name}: needs {hardware.devices_per_node} GPU(s), this machine has {found}; "
            "hardware=cpu runs scale=tiny anywhere"
        )
    if hardware.device == "cuda" and hardware.attention == "flash_attention_2" and not find_spec("flash_attn"):
        raise ConfigError(
            f"hardware.attention={hardware.attention}: flash-attn is not installed: pip install flash-attn==2.8.3 "
            "--no-build-isolation, or hardware.attention=sdpa (slower: no packing)"
        )
    if cfg.actor_rollout_ref.rollout.name == "vllm" and not find_spec("vllm"):
        raise ConfigError(
            f"hardware={hardware.name}: vLLM is not installed: pip install -e '.[gpu]', or hardware=one_gpu_torch "
            "(the torch engine, several times slower)"
        )
    if not cluster:
        check_slots(cfg, cfg.ray_kwargs.ray_init.get("num_cpus") or os.cpu_count() or 1, "this machine")


def ray_address(cfg: DictConfig) -> str | None:
    """The Ray cluster that a run joins; None: it starts one of its own."""
    return cfg.ray.address or os.environ.get("RAY_ADDRESS") or None


def cpu_slots(cfg: DictConfig) -> int:
    """CPU slots of Ray that a run takes: TransferQueue's controller and storage units, three of verl's for each worker
    (`ResourcePoolManager.max_colocate_count`), and one that its other actors must find free to be placed."""
    storage = cfg.transfer_queue.backend.SimpleStorage.num_data_storage_units
    others = cfg.reward.num_workers > 0 or cfg.actor_rollout_ref.rollout.agent.agent_loop_manager_class is None
    return storage + 1 + 3 * cfg.hardware.nodes * cfg.hardware.devices_per_node + others


def check_slots(cfg: DictConfig, there: float, where: str) -> None:
    """ConfigError when Ray has fewer CPU slots than the run takes: it would wait for them for ever, and in silence."""
    needed, key = cpu_slots(cfg), "transfer_queue.backend.SimpleStorage.num_data_storage_units"
    if needed > there:
        units = cfg.transfer_queue.backend.SimpleStorage.num_data_storage_units
        fewer = f"{key}=1 saves {units - 1}, and " if units > 1 else ""
        more = "`ray start --num-cpus`" if ray_address(cfg) else f"ray_kwargs.ray_init.num_cpus={needed}"
        raise ConfigError(
            f"hardware={cfg.hardware.name}: needs {needed} CPU slots of Ray, {where} has {there:g}: {fewer}"
            f"{more} counts more than there are, for most of them idle"
        )


def count_gpus() -> int:
    """GPUs that nvidia-smi lists, or the fewer that CUDA_VISIBLE_DEVICES allows."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else min(found, len([v for v in visible.split(",") if v.strip()]))


def machine(cfg: DictConfig) -> Machine:
    """This machine, as far as the run would use it: one without the GPUs it asks for only plans for another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cluster = cfg.hardware.nodes > 1 or ray_address(cfg)
    if cfg.hardware.device == "cuda" and (cluster or count_gpus() < cfg.hardware.devices_per_node):
        return Machine(None, None, None, cores)
    import psutil

    folder = Path(cfg.runs_dir).resolve()
    while not folder.is_dir():
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    return Machine(
        gpu_gib=gpu_memory_gib() if cfg.hardware.device == "cuda" else None,
        host_gib=psutil.virtual_memory().total / 2**30,
        # A place that takes no files (size 0) is refused when the run folder is made, with its own reason.
        free_disk_gib=disk.free / 2**30 if disk.total else None,
        cores=cores,
    )


def gpu_memory_gib() -> float:
    """Memory of the smallest GPU that nvidia-smi lists."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    return min(int(mib) for mib in listed) / 1024


def check_fits(cfg: DictConfig) -> list[str]:
    """Warnings of what may not fit into this machine by estimate; ConfigError for what cannot (rlvr/planning/resources.py)."""
    here = machine(cfg)
    needed = resources.estimate(cfg, here)
    return resources.warnings(cfg, needed, here) if needed else []


def check_place(cfg: DictConfig) -> None:
    """RunFolderError when the run folder cannot be written, or holds a run of another config."""
    folder = RunFolder(cfg.run_dir)
    refuse_other_config(folder, OmegaConf.to_container(cfg))
    place = folder.path
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise RunFolderError(f"{folder.path}: cannot write below {place}: give another runs_dir=<folder>")


def check_weights(path: str) -> None:
    """ConfigError when a local model folder lacks its config or holds a weights file that cannot be read."""
    folder = Path(path)
    if not folder.exists():
        if path.startswith(("/", ".")):
            raise ConfigError(f"base_model.path={path}: no such folder; give one, or a Hugging Face id")
        return
    if not (folder / "config.json").exists():
        raise ConfigError(f"base_model.path={path}: has no config.json, so it is not a Hugging Face model folder")
    files = sorted(folder.glob("*.safetensors"))
    if not files and not list(folder.glob("*.bin")):
        raise ConfigError(f"base_model.path={path}: has no weights (*.safetensors); download or copy them again")
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="numpy") as weights:
                weights.keys()
        except SafetensorError as error:
            raise ConfigError(f"{file}: corrupt weights file ({error}); download or copy it again") from None
