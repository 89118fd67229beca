"""Is verl's engine on a GPU the trainer that runs on a CPU, and how fast is it there?

One process per part trains the same weights on the same batch through one verl `TrainingWorker`, built from the
configuration of a run; the first part, `cpu_fp32`, samples the batch and is what the others are compared with.

    cpu_fp32    hardware=cpu: rlvr.verl_cpu, fp32
    cpu_bf16    the same with bf16 compute on fp32 weights
    verl_fp32   hardware=one_gpu with verl's own engine class, the one it registers for CUDA, held on the CPU in fp32
    cuda_fp32   hardware=one_gpu in fp32 (torch's default: no TF32)
    cuda_bf16   hardware=one_gpu as it is: bf16 compute on fp32 weights
    cuda_1_5b   the same for random weights of the shape of Qwen2.5-Math-1.5B, 64 answers of 1,400 tokens; only timed

Departures from a run: without Ray, rollout and reference; the reference's log-probabilities are the sampled ones plus
noise, so that the KL term has a gradient. Where flash-attention is missing, the CUDA parts use sdpa on padded rows,
and verl takes log-probabilities token by token, which is slow.
A difference of parameters is measured after one update of AdamW, whose first step has the size of the learning rate
whatever the gradient: where a gradient is 0 up to rounding, two right answers may differ by twice that.

    python -m experiments.benchmarks.gpu_parity [parts=cpu_fp32,verl_fp32,cuda_fp32] [repeats=5] [out=FILE.csv]
"""

import csv
import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from experiments.benchmarks import parity_inputs

PARTS = {  # the environment that makes verl choose a platform and an engine class
    "cpu_fp32": {"VERL_PLATFORM": "cpu"},
    "cpu_bf16": {"VERL_PLATFORM": "cpu"},
    "verl_fp32": {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"},
    "cuda_fp32": {"VERL_PLATFORM": "nvidia"},
    "cuda_bf16": {"VERL_PLATFORM": "nvidia"},
    "cuda_1_5b": {"VERL_PLATFORM": "nvidia"},
}
FP32 = "{param_dtype: fp32, reduce_dtype: fp32, buffer_dtype: fp32}"
RESULTS = Path(__file__).resolve().parents[1] / "results"


def make_worker(part: str, large_model: Path):
    """verl's actor for a part, with the configuration's loss and optimiser; and that configuration."""
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig
    from verl.workers.utils.losses import ppo_loss

    from rlvr.config.compose import compose

    overrides = [f"hardware={'cpu' if part.startswith('cpu') else 'one_gpu'}"]
    if part == "cuda_1_5b":
        overrides += ["scale=paper", f"base_model.path={large_model}"]
    if not part.startswith("cpu") and (part == "verl_fp32" or find_spec("flash_attn") is None):
        overrides += ["actor_rollout_ref.model.use_remove_padding=false"]
        overrides += ["+actor_rollout_ref.model.override_config.attn_implementation=sdpa"]
    precision = FP32 if part.endswith("fp32") else "null"
    overrides += [f"actor_rollout_ref.actor.fsdp_config.mixed_precision={precision}"]
    cfg = compose(*overrides)
    cfg.actor_rollout_ref.actor.optim.total_training_steps = cfg.scale.steps

    actor = omega_conf_to_dataclass(cfg.actor_rollout_ref.actor)
    actor.model_config = omega_conf_to_dataclass(cfg.actor_rollout_ref.model)
    actor.engine.use_dynamic_bsz = True
    actor.engine.max_token_len_per_gpu = actor.ppo_max_token_len_per_gpu
    actor.engine.infer_max_token_len_per_gpu = actor.ppo_max_token_len_per_gpu
    worker = TrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=actor.model_config,
            engine_config=actor.engine,
            optimizer_config=actor.optim,
            checkpoint_config=actor.checkpoint,
        )
    )
    worker.reset()
    worker.set_loss_fn(partial(ppo_loss, config=actor))
    return worker, cfg


def measure(part: str, folder: Path, repeats: int) -> None:
    """Log-probabilities, one update and its parameters of one part, and the time of both; saved to `folder`."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.device import get_torch_device

    if os.environ["VERL_PLATFORM"] == "cpu":
        from rlvr.verl_cpu import plugin

        plugin.register()
    elif not torch.cuda.is_available():
        raise SystemExit(f"parts={part}: needs a CUDA GPU; parts=cpu_fp32,cpu_bf16,verl_fp32 need none")
    large = part == "cuda_1_5b"
    if large:
        parity_inputs.make_large_model(folder / "model")
    worker, cfg = make_worker(part, folder / "model")
    noise = torch.Generator().manual_seed(0)
    if large:
        rows = parity_inputs.draw_large(noise)
    elif part == "cpu_fp32":
        rows = parity_inputs.sample(cfg)
    else:
        rows = torch.load(folder / "cpu_fp32.pt")["rows"]

    def log_probs() -> list[torch.Tensor]:
        """Of the responses' tokens; verl gives one value per token, for the token that follows."""
        output = worker.infer_batch(parity_inputs.tensordict(rows, cfg.scale.temperature, {}))
        sequences = output["log_probs"].cpu().unbind()
        return [row[-len(r) - 1 : -1].float() for row, r in zip(sequences, rows["responses"], strict=True)]

    def update() -> dict:
        batch = parity_inputs.tensordict(rows, cfg.scale.temperature, columns)
        return tu.get(worker.train_mini_batch(batch), "metrics")

    def seconds(action) -> float | None:
        times = []
        for _ in range(repeats):
            get_torch_device().synchronize()
            started = time.perf_counter()
            action()
            get_torch_device().synchronize()
            times.append(time.perf_counter() - started)
        return median(times) if times else None

    before = log_probs()
    old = before if part in ("cpu_fp32", "cuda_1_5b") else torch.load(folder / "cpu_fp32.pt")["log_probs"]
    columns = {
        "old_log_probs": old,
        "ref_log_prob": [row + 0.3 * torch.randn(len(row), generator=noise) for row in old],
        "advantages": [torch.full((len(row),), float(torch.randn((), generator=noise))) for row in old],
    }
    metrics = update()
    result = {"rows": rows, "log_probs": before} | {name: metrics[name][0] for name in ("loss", "grad_norm")}
    if not large:
        parameters = worker.engine.get_per_tensor_param()[0]
        result["parameters"] = {name: tensor.float().cpu().clone() for name, tensor in parameters}
    get_torch_device().reset_peak_memory_stats()
    result |= {"log_prob_s": seconds(log_probs), "update_s": seconds(update)}
    result["peak_gib"] = get_torch_device().max_memory_allocated() / 2**30 or None
    result["device"] = get_torch_device().get_device_name()
    torch.save(result, folder / f"{part}.pt")


def compare(part: str, ours: dict, base: dict) -> dict:
    """One line of the table: absolute differences from `base`; speeds in tokens of whole sequences."""
    lengths = [sum(map(len, ours["rows"][name])) for name in ("prompts", "responses")]
    line = {"part": part, "device": ours["device"], "rows": len(ours["log_probs"]), "tokens": sum(lengths)}
    line |= {name: ours[name] for name in ("loss", "grad_norm")}
    if ours["rows"] == base["rows"]:
        difference = (torch.cat(ours["log_probs"]) - torch.cat(base["log_probs"])).abs()
        line |= {"log_prob_diff_max": difference.max().item(), "log_prob_diff_mean": difference.mean().item()}
        line |= {f"{name}_diff": abs(ours[name] - base[name]) for name in ("loss", "grad_norm")}
        difference = [(ours["parameters"][n] - p).abs().flatten() for n, p in base["parameters"].items()]
        line |= {"parameter_diff_max": torch.cat(difference).max().item()}
        line |= {"parameter_diff_mean": torch.cat(difference).mean().item()}
    for name in ("log_prob", "update"):
        line[f"{name}_s"] = ours[f"{name}_s"]
        line[f"{name}_tokens_per_s"] = ours[f"{name}_s"] and sum(lengths) / ours[f"{name}_s"]
    line["peak_gib"] = ours["peak_gib"]
    return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in line.items()}


def main(arguments: list[str]) -> None:
    options = dict(argument.split("=") for argument in arguments)
    parts, repeats = options.get("parts", ",".join(PARTS)).split(","), int(options.get("repeats", 5))
    if "folder" in options:  # the process of one part
        return measure(parts[0], Path(options["folder"]), repeats)
    if parts[0] != "cpu_fp32" or not set(parts) <= set(PARTS):
        raise SystemExit(f"parts={','.join(parts)}: expected cpu_fp32 and then any of {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
            world |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            command = [sys.executable, "-m", __spec__.name, f"parts={part}", f"repeats={repeats}"]
            subprocess.run([*command, f"folder={folder}"], check=True, env=os.environ | world | PARTS[part])
        results = {part: torch.load(Path(folder, f"{part}.pt")) for part in parts}
    lines = [compare(part, result, results["cpu_fp32"]) for part, result in results.items()]
    with open(options.get("out", RESULTS / "gpu_parity.csv"), "w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    for line in lines:
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
