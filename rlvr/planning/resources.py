"""What a run needs before it starts: GPU memory, host memory, disk, hours. Orders of magnitude, each formula in one place.

    python run.py +experiment=one_shot scale=paper hardware=eight_gpus check=true

P parameters, N devices, TP GPUs to an inference replica. Training state in fp32: 4 P weights, 4 P gradients, 8 P Adam
moments, in shares of 1 / N (FSDP). Where a finished run of the same scale, model and hardware lies under `runs_dir`, its
measured seconds replace the formula's. `warnings` says what may not fit. Reads a `Workload`, no configuration.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from yaml import YAMLError

from rlvr.cli import ConfigError
from rlvr.planning.architecture import Architecture
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_lines

GIB = 2**30
# Mean answer as a share of the longest allowed. Paper Fig. 4: 1,117 of 3,072 tokens over pi1's 2,000 steps.
MEAN_RESPONSE = 0.36
# All that follow are ours. Tokens of a problem of DSR-sub in the chat template.
PROMPT_TOKENS = 150
# Read from verl's engine: logits, their gradient, softmax and its product for the entropy.
LOGITS_COPIES = 4
CHUNK_OF_LOGITS = 2**25  # on a CPU no more exist at once (rlvr/verl_torch/chunked_head.py)
# On a GPU: CUDA, NCCL and a sleeping vLLM. In main memory: a GPU's processes; Ray, trainer and agent loops together.
GPU_CONTEXT_GIB, GPU_PROCESS_GIB, DRIVER_GIB = 4, 4, 10
# Ray's and verl's processes at scale=tiny (measured, proportional set size).
CPU_PROCESSES_GIB = 3.2
# Memory of a large model's activations over their size: micro-batches have different lengths, and glibc keeps the freed blocks that
# do not fit the next one. Measured: 3.3 with 24 layers, 0.5 billion parameters and micro-batches of 1,024 tokens.
ACTIVATIONS_KEPT, LARGE = 3.3, 10**8
# Of the data sheet, usual for dense models of this size.
FLOPS_SHARE, BANDWIDTH_SHARE = 0.35, 0.6
# Overhead of a decoding step; on a CPU 0.44 s for 80 of them (docs/performance.md).
GPU_DECODE_S, CPU_DECODE_S = 0.004, 0.0055
# On a CPU: FLOP/s of one core's matrix products where it was not measured, the share of them that a model of small and of
# large matrices reaches, from which width a matrix is large, and bytes that memory gives in a second.
CPU_FLOPS, CPU_SHARES, CPU_WIDE, CPU_BANDWIDTH = 1e11, (0.3, 0.6), 512, 1.5e10
# Of the torch engine on a GPU, whose kernels are launched one by one; a guess.
TORCH_DECODE_S = 0.03
# To the first step: cpu measured (docs/performance.md), cuda a guess.
STARTUP_S = {"cpu": 35, "cuda": 180}
# Of a stored response in Parquet: 0.6 to 1.25 at scale=tiny.
BYTES_PER_TOKEN = 1.5
# Of a file whose length the protocols do not say.
UNKNOWN_PROBLEMS = 500


@dataclass(frozen=True)
class Workload:
    """What a run computes and keeps. Counts, tokens and steps; `trained_models` is 2 with PPO's critic.

    gpu: memory_gib, tflops, bandwidth_tb_s of a GPU that is not of this machine; None on a CPU. likes: what decides the seconds
    of a step, by dotted key, so that a finished run that equals it in these was as fast.
    """

    runs_dir: str
    model: str
    scale: str
    hardware: str
    architecture: Architecture
    device: str
    nodes: int
    devices_per_node: int
    gpu: Mapping[str, float] | None
    engine: str
    exact_rollout: bool
    trained_models: int
    steps: int
    evaluate_every: int
    save_every: int
    evaluation_answers: int
    prompts_per_step: int
    samples_per_prompt: int
    prompt_tokens: int
    response_tokens: int
    micro_batch_tokens: int
    checkpointing: bool
    lora_rank: int | None
    bf16: bool
    offload_weights: bool
    offload_optimizer: bool
    offload_all: bool
    offload_reference: bool
    tensor_parallel: int
    gpu_share: float
    states_kept: int | None
    weights_every: int
    weights_dtype: str
    likes: Mapping[str, Any]

    @property
    def devices(self) -> int:
        return self.nodes * self.devices_per_node

    @property
    def answers_per_step(self) -> int:
        return self.prompts_per_step * self.samples_per_prompt

    @property
    def trained(self) -> int:
        """Weights of the policy that are trained."""
        return self.architecture.adapters(self.lora_rank) if self.lora_rank else self.architecture.parameters


class Machine(NamedTuple):
    """What there is; None: not known here, so nothing is refused for it."""

    gpu_gib: float | None
    host_gib: float | None
    free_disk_gib: float | None
    cores: int
    cpu_flops: float | None = None  # of matrix products in the run's precision on all cores


class Needs(NamedTuple):
    """In GiB (per GPU, per node, per run) and hours. `parts` explains the memory of a GPU; `measured` names a run."""

    parameters: int
    heads: int
    update_gib: float
    rollout_gib: float
    parts: dict[str, float]
    kv_sequences: int
    host_gib: float
    disk_gib: float
    disk_peak_gib: float
    step_s: float
    hours: float
    gpu_hours: float
    measured: str | None


def estimate(load: Workload, machine: Machine) -> Needs:
    """Everything that the run needs."""
    arch = load.architecture
    update, rollout, parts, sequences = _gpu_gib(load, arch, machine)
    disk, peak = _disk_gib(load, arch)
    step_s, eval_s, measured = _seconds(load, arch, machine, max(1, sequences))
    evaluations = 1 + ceil(load.steps / load.evaluate_every)
    hours = (STARTUP_S[load.device] + load.steps * step_s + evaluations * eval_s) / 3600
    gpus = load.devices if load.device == "cuda" else 0
    return Needs(
        arch.parameters, arch.heads, update, rollout, parts, sequences, _host_gib(load, arch), disk, peak, step_s, hours,
        gpus * hours, measured,
    )  # fmt: skip


def _gpu_gib(load: Workload, a: Architecture, machine: Machine) -> tuple[float, float, dict[str, float], int]:
    """GiB of a GPU in the update and in the rollout, the parts of both, and full-length sequences its cache holds."""
    if load.device != "cuda":
        return 0.0, 0.0, {}, load.answers_per_step
    tp = load.tensor_parallel
    share = a.parameters / load.devices / GIB
    offloaded = load.offload_weights and load.offload_optimizer
    in_host = load.offload_all
    waiting = 0 if offloaded or in_host else 12 * share  # a model's weights and moments while another works
    tokens = max(load.micro_batch_tokens, load.prompt_tokens + load.response_tokens)
    one_layer = 2 * tokens * (8 * a.hidden + 3 * a.intermediate)  # bf16, between the saved inputs of layers
    layers = 1 if load.checkpointing else a.layers
    unit = max(a.layer_parameters, a.vocabulary * a.hidden)
    parts = {
        "weights": 0 if in_host else 4 * share,
        "gradients": 0 if in_host else 4 * share,
        "Adam": 0 if in_host else 8 * share,
        "critic, waiting": (load.trained_models - 1) * waiting,
        "gathered layers": 2 * 2 * unit / GIB,
        "activations": (2 * tokens * a.hidden * a.layers + layers * one_layer) / GIB,
        "logits": LOGITS_COPIES * 2 * tokens * a.vocabulary / GIB,
        "CUDA, NCCL": GPU_CONTEXT_GIB,
    }
    update = sum(parts.values())
    memory = machine.gpu_gib or load.gpu["memory_gib"]  # type: ignore[index]
    engine = load.gpu_share * memory
    cache = engine - 2 * a.parameters / tp / GIB - GPU_CONTEXT_GIB
    per_sequence = 2 * a.kv_values / tp * (load.prompt_tokens + load.response_tokens) / GIB
    parts |= {"rollout engine": engine, "of it KV cache": cache, "waiting beside it": load.trained_models * waiting}
    return update, engine + load.trained_models * waiting + GPU_CONTEXT_GIB / 2, parts, int(cache / per_sequence)


def _host_gib(load: Workload, a: Architecture) -> float:
    """Main memory of a node."""
    weights, devices = a.parameters / GIB, load.devices_per_node
    if load.device == "cpu":
        tokens, bytes_each = load.micro_batch_tokens, 2 if load.bf16 else 4
        logits = LOGITS_COPIES * min(tokens * a.vocabulary, CHUNK_OF_LOGITS)
        kept = ACTIVATIONS_KEPT if a.parameters > LARGE else 1
        activations = (kept * bytes_each * tokens * a.layers * (16 * a.hidden + 3 * a.intermediate) + 4 * logits) / GIB
        # Copies of the weights: the rollout's, what it is sent (in shared memory), the reference's (with adapters there is none).
        copies = 2 * devices + (load.lora_rank is None)
        return CPU_PROCESSES_GIB + _training_gib(load) + copies * bytes_each * weights + devices * activations
    offloaded = 4 * load.offload_weights + 8 * load.offload_optimizer + 16 * load.offload_all
    kept = load.trained_models * offloaded + 4 * load.offload_reference
    saved = 4 + 2  # a checkpoint's full state on rank 0, and its bf16 copy
    return DRIVER_GIB + devices * GPU_PROCESS_GIB + weights * (kept / load.nodes + saved)


def _training_gib(load: Workload) -> float:
    """Weights, gradients and Adam's moments; adapters stand on frozen weights, which are the reference too."""
    frozen = (2 if load.bf16 else 4) * load.architecture.parameters if load.lora_rank else 0
    return (frozen + 16 * (load.trained + (load.trained_models - 1) * load.architecture.parameters)) / GIB


def _checkpoint_bytes(load: Workload) -> int:
    frozen = 4 * load.architecture.parameters if load.lora_rank else 0
    return frozen + 12 * (load.trained + (load.trained_models - 1) * load.architecture.parameters)


def _disk_gib(load: Workload, a: Architecture) -> tuple[float, float]:
    """GiB at the end and at the fullest moment: while the last checkpoint is written and the one before is still whole."""
    steps = range(load.save_every, load.steps + 1, load.save_every)
    checkpoints = max(1, len(steps) + bool(load.steps % load.save_every))
    whole = checkpoints if load.states_kept is None else min(checkpoints, load.states_kept)
    weights = max(1, checkpoints // load.weights_every)
    stored = {"bfloat16": 2, "float32": 4}[load.weights_dtype] * a.parameters
    state = _checkpoint_bytes(load)
    tokens = MEAN_RESPONSE * load.response_tokens
    responses = load.steps * load.answers_per_step
    responses += (1 + load.steps // load.evaluate_every) * load.evaluation_answers
    text = responses * tokens * BYTES_PER_TOKEN
    end = weights * stored + whole * state + text
    another = state + 4 * a.parameters - stored if checkpoints > 1 else 0  # verl writes weights in fp32 first
    return end / GIB, (end + another) / GIB


def _seconds(load: Workload, a: Architecture, machine: Machine, sequences: int) -> tuple[float, float, str | None]:
    """Seconds of a step and of an evaluation, and the run they were measured in."""
    if found := measured(load):
        return found
    response = MEAN_RESPONSE * load.response_tokens
    prompt = min(PROMPT_TOKENS, load.prompt_tokens)
    rows = load.answers_per_step
    # Forward 1, backward 2, recomputed activations 1, reference 1, old log-probabilities 1; the critic likewise.
    recomputed = load.checkpointing
    backward = 1 if load.lora_rank else 2  # no gradient of frozen weights
    passes = 2 + backward + recomputed + (not load.exact_rollout) + (load.trained_models - 1) * (4 + recomputed)
    flops = 2 * a.parameters * passes * rows * (prompt + response)
    if load.device == "cpu":
        share = CPU_SHARES[a.hidden >= CPU_WIDE]
        rate, tp = share * (machine.cpu_flops or CPU_FLOPS * machine.cores), 1
        decode_s = CPU_DECODE_S + (2 if load.bf16 else 4) * a.parameters / CPU_BANDWIDTH
        token_s = 2 * a.parameters / rate
    else:
        assert load.gpu is not None
        rate = load.devices * load.gpu["tflops"] * 1e12 * FLOPS_SHARE
        tp = load.tensor_parallel
        bandwidth = load.gpu["bandwidth_tb_s"] * 1e12 * BANDWIDTH_SHARE
        launches_s = TORCH_DECODE_S if load.engine == "torch" else GPU_DECODE_S
        decode_s = launches_s + 2 * a.parameters / tp / bandwidth
        token_s = 2 * a.kv_values / tp * (prompt + response / 2) / bandwidth

    def generation_s(answers: int) -> float:
        each = ceil(answers / (load.devices / tp))  # of a replica; a wave lasts as long as its longest answer
        return load.response_tokens * ceil(each / sequences) * decode_s + each * response * token_s

    return generation_s(rows) + flops / rate, generation_s(load.evaluation_answers), None


def measured(load: Workload) -> tuple[float, float, str] | None:
    """Median seconds of a step and of an evaluation in the newest finished run of this scale, model, hardware and batch."""
    folders = Path(load.runs_dir, load.scale, load.model).glob("*/seed*")
    for path in sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True):
        folder = RunFolder(path)
        with suppress(
            OSError, ValueError, LookupError, TypeError, YAMLError
        ):  # damaged, or of another version: measures nothing
            if folder.state != "finished":
                continue
            theirs = folder.config()
            if any(_select(theirs, key) != value for key, value in load.likes.items()):
                continue
            lines = metrics_lines(folder.metrics_path)
            steps = [line["time/step_s"] for line in lines if "time/step_s" in line]
            evaluations = [line["time/eval_s"] for line in lines if "time/eval_s" in line]
            if steps:
                return median(steps), median(evaluations or [0.0]), str(path)
    return None


def _select(config, key: str):
    for part in key.split("."):
        config = config[part]
    return config


def warnings(load: Workload, needed: Needs, machine: Machine) -> list[str]:
    """What may not fit, with the key to change: these are estimates, so they refuse nothing.

    ConfigError for what cannot fit by counting alone: weights that are larger than the memory or the disk they must be on.
    What is unknown about the machine is no reason for anything.
    """
    weights = needed.parameters * 2 / GIB
    found: list[tuple[float, float | None, str]] = []  # needed, there, and how to say it
    if load.device == "cuda":
        memory = machine.gpu_gib or load.gpu["memory_gib"]  # type: ignore[index]
        where = f"hardware={load.hardware}, {memory:.0f} GiB a GPU"
        parts, heads = load.tensor_parallel, needed.heads
        if heads % parts:
            raise ConfigError(
                f"actor_rollout_ref.rollout.tensor_model_parallel_size={parts}: vLLM shares out whole attention heads, and "
                f"base_model {load.model} has {heads}: set it to a divisor of that, such as 1"
            )
        share = weights / parts
        if share > memory:
            raise ConfigError(
                f"{where}: the weights alone are {share:.0f} GiB a GPU: raise actor_rollout_ref.rollout.tensor_model_parallel_size"
            )
        if needed.kv_sequences < 1:
            found.append((1, 0, f"{where}: the rollout engine may have no room for one answer beside the weights; raise "
                          "actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size"))  # fmt: skip
        found.append((needed.rollout_gib, memory, f"{where}: generation needs about {needed.rollout_gib:.0f} GiB; lower "
                      "actor_rollout_ref.rollout.gpu_memory_utilization, or set "
                      "actor_rollout_ref.actor.fsdp_config.param_offload and optimizer_offload to true"))  # fmt: skip
        found.append((needed.update_gib, memory, f"{where}: an update needs about {needed.update_gib:.0f} GiB; lower "
                      "actor_rollout_ref.actor.ppo_max_token_len_per_gpu, set "
                      "actor_rollout_ref.actor.fsdp_config.offload_policy=true, or use more GPUs"))  # fmt: skip
    elif machine.host_gib and (state := _training_gib(load)) > machine.host_gib:
        raise ConfigError(
            f"hardware={load.hardware}: weights, gradients and Adam's moments alone are {state:.0f} GiB, this machine has "
            f"{machine.host_gib:.0f}; choose a smaller base_model, or lora.rank=32 (adapters)"
        )
    found.append((needed.host_gib, machine.host_gib, f"hardware={load.hardware}: needs about {needed.host_gib:.0f} GiB of "
                  f"main memory, this machine has {machine.host_gib or 0:.0f}; choose a smaller base_model or scale, or lower "
                  "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"))  # fmt: skip
    disk = machine.free_disk_gib
    if disk is not None and (saved := _checkpoint_bytes(load) / GIB) > disk:
        raise ConfigError(
            f"runs_dir={load.runs_dir}: one checkpoint is {saved:.1f} GiB, {disk:.1f} are free; give another runs_dir"
        )
    found.append((needed.disk_peak_gib, disk, f"runs_dir={load.runs_dir}: needs about {needed.disk_peak_gib:.1f} GiB, "
                  f"{disk or 0:.1f} are free; raise retention.weights_every or scale.save_every, or give another runs_dir"))  # fmt: skip
    return [f"warning: {text}" for need, there, text in found if there is not None and need > there]
