"""Checks of the machine and the weights before Ray starts. Each error is one line with the remedy."""

import os
import shutil
import subprocess
import timeit
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from rlvr.cli import ConfigError, usable_cores
from rlvr.data import gguf
from rlvr.planning.resources import Machine
from rlvr.runs.folder import existing


@dataclass(frozen=True)
class Devices:
    """What a run asks of a machine. slots: CPU slots of Ray that it takes, given: that its Ray gets (None: one for each core);
    storage_units: of TransferQueue, each a slot. cluster: the address of a Ray cluster to join; None: the run starts its own."""

    hardware: str
    device: str
    nodes: int
    devices_per_node: int
    attention: str
    engine: str
    slots: int
    given: int | None
    storage_units: int
    cluster: str | None
    bf16: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether Ray, not this machine, knows what there is."""
        return self.nodes > 1 or self.cluster is not None


@dataclass(frozen=True)
class Model:
    """The base model: `path` is a folder, a Hugging Face id or a GGUF file."""

    name: str
    path: str
    revision: str | None
    template: str


def processor_notes(asked: Devices) -> list[str]:
    """How fast this processor is in bf16, for a run that computes in it on a CPU."""
    if asked.device != "cpu" or not asked.bf16:
        return []
    speed = bf16_flops() / fp32_flops()
    if speed >= 1:
        return [f"bf16: this processor multiplies matrices {speed:.2g} times as fast as in fp32 (measured)"]
    return [
        f"warning: hardware={asked.hardware}: this processor multiplies matrices in bf16 {1 / speed:.2g} times slower than in "
        "fp32 (measured): hardware=cpu is faster where its memory suffices"
    ]


@cache
def bf16_flops() -> float:
    """FLOP/s of bf16 matrix products on all cores, which torch makes (numpy has no bf16); measured in 0.1 to 1 s."""
    import torch

    left, right = (torch.ones(rows, 1024, dtype=torch.bfloat16) for rows in (512, 2048))
    seconds = timeit.repeat(lambda: torch.nn.functional.linear(left, right), number=1, repeat=5)
    return 2 * left.numel() * len(right) / min(seconds)


@cache
def fp32_flops() -> float:
    """FLOP/s of fp32 matrix products on all cores, measured in some 50 ms."""
    import numpy as np

    left, right = np.ones((512, 1024), np.float32), np.ones((1024, 2048), np.float32)
    seconds = timeit.repeat(lambda: left @ right, number=1, repeat=4)
    return 2 * left.size * right.shape[1] / min(seconds)


def check_machine(asked: Devices) -> None:
    """ConfigError when `hardware` asks for what this machine does not have."""
    if asked.device == "cuda" and not asked.elsewhere and (found := count_gpus()) < asked.devices_per_node:
        raise ConfigError(
            f"hardware={asked.hardware}: needs {asked.devices_per_node} GPU(s), this machine has {found}; "
            "scale=tiny hardware=cpu runs without a GPU"
        )
    if asked.device == "cuda" and asked.attention == "flash_attention_2" and not find_spec("flash_attn"):
        raise ConfigError(
            f"hardware.attention={asked.attention}: flash-attn is not installed: pip install flash-attn==2.8.3 "
            "--no-build-isolation, or hardware.attention=sdpa (slower: no packing)"
        )
    if asked.engine == "vllm" and not find_spec("vllm"):
        raise ConfigError(
            f"hardware={asked.hardware}: vLLM is not installed: pip install -e '.[gpu]', or hardware=one_gpu_torch "
            "(the torch engine, several times slower)"
        )
    if not asked.elsewhere:
        check_slots(asked, asked.given or os.cpu_count() or 1, "this machine")


def check_slots(asked: Devices, there: float, where: str) -> None:
    """ConfigError when Ray has fewer CPU slots than the run needs: it would wait forever without a message."""
    if asked.slots > there:
        key = "transfer_queue.backend.SimpleStorage.num_data_storage_units"
        fewer = f"{key}=1 saves {asked.storage_units - 1}, and " if asked.storage_units > 1 else ""
        more = "`ray start --num-cpus`" if asked.cluster else f"ray_kwargs.ray_init.num_cpus={asked.slots}"
        raise ConfigError(
            f"hardware={asked.hardware}: needs {asked.slots} CPU slots of Ray, {where} has {there:g}: {fewer}"
            f"{more} may exceed the number of cores, because most of these processes idle"
        )


def check_cluster(asked: Devices, resources: Mapping[str, float]) -> None:
    """ConfigError when the Ray cluster has fewer devices or CPU slots in all than the run takes."""
    where = f"the cluster at {asked.cluster}"
    devices, there = asked.nodes * asked.devices_per_node, resources.get("GPU", 0)
    if devices > there:
        raise ConfigError(
            f"hardware={asked.hardware}: needs {devices} devices on {asked.nodes} node(s), {where} has {there:g} in "
            "all: start Ray on more nodes, with --num-gpus where they have none, or lower hardware.nodes"
        )
    check_slots(asked, resources.get("CPU", 0), where)


def count_gpus() -> int:
    """GPUs that nvidia-smi lists, or the fewer that CUDA_VISIBLE_DEVICES allows."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else min(found, len([v for v in visible.split(",") if v.strip()]))


def this_machine(asked: Devices, runs_dir: Path) -> Machine:
    """What this machine has. If the run asks for GPUs that it lacks, the plan is for another machine, and only the cores are known."""
    cores = usable_cores()
    if asked.device == "cuda" and (asked.elsewhere or count_gpus() < asked.devices_per_node):
        return Machine(None, None, None, cores)
    import psutil

    disk, flops = shutil.disk_usage(existing(runs_dir)), None
    if asked.device == "cpu":
        flops = bf16_flops() if asked.bf16 else fp32_flops()
    return Machine(
        gpu_gib=gpu_memory_gib() if asked.device == "cuda" else None,
        host_gib=psutil.virtual_memory().total / 2**30,
        # A place that takes no files (size 0) is refused by `check_place`, with its own reason.
        free_disk_gib=disk.free / 2**30 if disk.total else None,
        cores=cores,
        cpu_flops=flops,
    )


def gpu_memory_gib() -> float:
    """Memory of the smallest GPU that nvidia-smi lists."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    return min(int(mib) for mib in listed) / 1024


def check_weights(model: Model) -> None:
    """ConfigError when a local model folder lacks its config or holds a weights file that cannot be read."""
    path = model.path
    if gguf.is_gguf(path):
        return gguf.check(path)
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
