"""Does verl's engine on a GPU compute the same as the trainer on a CPU? (Its speed: time/update_s of a run.)

One process per part trains the same weights on the same batch, 128 answers of the tiny model, through one verl
`TrainingWorker`, built from the configuration of a run. The others are compared with the first part, `cpu_fp32`.

    cpu_fp32    hardware=cpu: rlvr.verl_torch, fp32
    cpu_bf16    the same with bf16 compute on fp32 weights
    verl_fp32   hardware=one_gpu with the engine class that verl registers for CUDA, on the CPU in fp32
    cuda_fp32   hardware=one_gpu in fp32 (torch's default: no TF32)
    cuda_bf16   hardware=one_gpu unchanged: bf16 compute on fp32 weights

Departures from a run: no Ray, rollout or reference model; the reference's log-probabilities are the sampled ones plus noise,
so that the KL term has a gradient. Without flash-attention the CUDA parts use sdpa on padded rows, and verl computes
log-probabilities token by token, which is slow.
Parameters are compared after one update of AdamW. Its first step has the size of the learning rate, whatever the gradient.
If a gradient is 0 up to rounding, two correct results may therefore differ by twice the learning rate.

    python -m experiments.timings.gpu_parity [parts=cpu_fp32,verl_fp32,cuda_fp32] [out=FILE.csv]
"""

import csv
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from experiments.timings import apart
from rlvr.cli import ConfigError, command, did_you_mean, option

ROWS = 128
Rows = tuple[list[list[int]], list[list[int]]]  # token ids of prompts and responses
BASE = "cpu_fp32"
PARTS = {  # environment variables with which verl chooses a platform and an engine class
    "cpu_fp32": {"VERL_PLATFORM": "cpu"},
    "cpu_bf16": {"VERL_PLATFORM": "cpu"},
    "verl_fp32": {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"},
    "cuda_fp32": {"VERL_PLATFORM": "nvidia"},
    "cuda_bf16": {"VERL_PLATFORM": "nvidia"},
}


def configuration(part: str):
    """The configuration of a run with the part's hardware and precision."""
    from rlvr.config.compose import compose

    overrides = [f"hardware={'cpu' if part.startswith('cpu') else 'one_gpu'}"]
    if not part.startswith("cpu") and (part == "verl_fp32" or find_spec("flash_attn") is None):
        overrides += ["hardware.attention=sdpa"]
    fp32 = "{param_dtype: fp32, reduce_dtype: fp32, buffer_dtype: fp32}"
    precision = fp32 if part.endswith("fp32") else "null"
    return compose(*overrides, f"actor_rollout_ref.actor.fsdp_config.mixed_precision={precision}")


def sample() -> Rows:
    """Prompts of the pool and the tiny model's answers to them."""
    from rlvr.config.compose import compose
    from rlvr.data.pools import load_pool
    from rlvr.data.prompts import render
    from rlvr.evaluate.inference_engines import start
    from rlvr.verl_torch.generation import Sampling

    cfg = compose()
    engine, n = start("torch", cfg.base_model.path, "cpu"), cfg.scale.samples_per_prompt
    pool = load_pool(cfg.pool.source, None)[: ROWS // n]
    texts = [render(cfg.base_model.template, row["prompt"], engine.tokenizer) for row in pool]
    prompts = [ids for text in texts for ids in [engine.tokenizer(text).input_ids] * n]
    sampling = [Sampling(cfg.scale.max_response_tokens, cfg.scale.temperature, seed=i) for i in range(ROWS)]
    return prompts, [answer.token_ids for answer in engine.generate(prompts, sampling, lambda *_: None)]


def measure_part(part: str, rows: Rows, folder: Path) -> None:
    """Save to `folder` the log-probabilities of one part, and loss, gradient norm and parameters of one update."""
    import torch

    from experiments.timings.verl_worker import join_world, make_batch, start_worker

    join_world()
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.device import get_torch_device

    cfg = configuration(part)
    cfg.actor_rollout_ref.actor.optim.total_training_steps = cfg.scale.steps
    actor = omega_conf_to_dataclass(cfg.actor_rollout_ref.actor)
    worker = start_worker(actor, omega_conf_to_dataclass(cfg.actor_rollout_ref.model))
    prompts, responses = rows
    batch = make_batch(prompts, responses, cfg.scale.temperature)
    # verl's value at each token is the log-probability of the next token.
    sequences = zip(worker.infer_batch(batch)["log_probs"].cpu().unbind(), responses, strict=True)
    result = {"device": get_torch_device().get_device_name()}
    result["log_probs"] = [row[-len(r) - 1 : -1].float() for row, r in sequences]
    old = result["log_probs"] if part == BASE else torch.load(folder / f"{BASE}.pt")["log_probs"]
    noise = torch.Generator().manual_seed(0)
    columns = {
        "old_log_probs": old,
        "ref_log_prob": [row + 0.3 * torch.randn(len(row), generator=noise) for row in old],
        "advantages": [torch.full((len(row),), float(torch.randn((), generator=noise))) for row in old],
    }
    batch = make_batch(prompts, responses, cfg.scale.temperature, **columns)
    one_update = {"mini_batch_size": ROWS, "epochs": 1, "seed": 0, "dataloader_kwargs": {"shuffle": False}}
    tu.assign_non_tensor(batch, **one_update)
    metrics = tu.get(worker.train_mini_batch(batch), "metrics")
    parameters = sorted(worker.engine.get_per_tensor_param()[0])  # by name
    result["parameters"] = torch.cat([tensor.float().cpu().flatten() for _, tensor in parameters])
    result |= {name: metrics[name][0] for name in ("loss", "grad_norm")}
    torch.save(result, folder / f"{part}.pt")


def compare(part: str, tokens: int, ours: dict, base: dict) -> dict:
    """One line of the table: results of a part, and their absolute differences from `base`."""
    import torch

    line = {"part": part, "device": ours["device"], "rows": ROWS, "tokens": tokens}
    line |= {name: ours[name] for name in ("loss", "grad_norm")}
    log_prob = (torch.cat(ours["log_probs"]) - torch.cat(base["log_probs"])).abs()
    line |= {"log_prob_diff_max": log_prob.max().item(), "log_prob_diff_mean": log_prob.mean().item()}
    line |= {f"{name}_diff": abs(ours[name] - base[name]) for name in ("loss", "grad_norm")}
    parameter = (ours["parameters"] - base["parameters"]).abs()
    line |= {"parameter_diff_max": parameter.max().item(), "parameter_diff_mean": parameter.mean().item()}
    return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in line.items()}


@dataclass
class Options:
    parts: list[str] = option(f"{BASE} first, then any others", list(PARTS))
    out: Path = option("the table", Path("experiments/results/gpu_parity.csv"))


def measure(options: Options) -> list[dict]:
    """Write the table and return its lines. ConfigError for a part that is unknown or needs a missing GPU."""
    import torch

    for part in options.parts:
        if part not in PARTS:
            raise ConfigError(f"parts={part}: {did_you_mean(part, list(PARTS))}")
        if part.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"parts={part}: needs a CUDA GPU; parts=cpu_fp32,cpu_bf16,verl_fp32 need none")
    if options.parts[:1] != [BASE]:
        raise ConfigError(f"parts={','.join(options.parts)}: expected {BASE} first; the others are compared with it")
    rows = apart(sample)
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            apart(measure_part, part, rows, Path(folder), **PARTS[part])
        results = {part: torch.load(Path(folder, f"{part}.pt")) for part in options.parts}
    tokens = sum(len(ids) for column in rows for ids in column)
    lines = [compare(part, tokens, result, results[BASE]) for part, result in results.items()]
    with open(options.out, "w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    return lines


def show(options: Options) -> None:
    print(*measure(options), sep="\n")


if __name__ == "__main__":
    sys.exit(command(Options, show, __doc__))
