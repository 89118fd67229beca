"""Does everything work on this GPU, and how fast? One command, part by part. A part that is done is not repeated.

    python -m experiments.gpu_check                                   # all parts, into gpu_check/<GPU>/
    python -m experiments.gpu_check parts=machine,engine              # these need only torch and transformers
    python -m experiments.gpu_check device=cpu                        # a rehearsal: the same code without a GPU

    machine    hardware and versions; missing packages, with the command that installs each
    engine     the torch rollout engine in fp32, GPU against CPU: greedy answers, log-probabilities; tokens/s in bf16
    parity     verl's engine, GPU against CPU: log-probabilities, loss, and parameters after an update (timings.gpu_parity)
    runs       one_shot, entropy_only and full_set at scale=tiny with hardware=one_gpu (one_gpu_torch without vLLM), and one_shot
               with one_gpu_torch and on the CPU: scores, and the largest difference between the probabilities of rollout
               and trainer, which is large if new weights have not reached the rollout
    resume     one_shot is killed in the middle; it must resume from its checkpoint and have each step once

Each part writes <out>/<part>.json, or <part>.failed.json if its check fails; the next call repeats a failed part. <out>/runs
holds the run folders.
"""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import psutil

from experiments.timings import apart
from rlvr.cli import ConfigError, command, did_you_mean, option
from rlvr.runs import provenance
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics
from rlvr.runs.plain_files import read_json

ROOT = Path(__file__).resolve().parents[1]
NEEDS = {
    "verl": "pip install -e .",
    "ray": "pip install -e .",
    "vllm": "pip install -e '.[gpu]'",
    "flash_attn": "pip install flash-attn==2.8.3 --no-build-isolation (or hardware.attention=sdpa)",
}
EXPERIMENTS = ("one_shot", "entropy_only", "full_set")
# Largest accepted differences from the CPU in fp32, by precision. On a CPU verl's engine in fp32 is within 1e-5, and bf16
# within 0.0021 (mean log-probability) and 0.002 (gradient norm 0.095): experiments/results/gpu_parity_cpu_parts.csv.
LIMITS = {
    "fp32": {"log_prob_diff_max": 1e-3, "loss_diff": 1e-4, "grad_norm_diff": 1e-3},
    "bf16": {"log_prob_diff_mean": 0.01, "loss_diff": 1e-3, "grad_norm_diff": 0.01},
}


@dataclass
class Options:
    parts: list[str] = option("which parts; none: all", [])
    device: Literal["cuda", "cpu"] = option("cpu: a rehearsal", "cuda")
    out: Path | None = option("folder of the results; none: gpu_check/<GPU>", None)


def machine(options: Options) -> dict[str, Any]:
    """Hardware, versions, and missing packages with the command that installs each."""
    import torch

    missing = {name: remedy for name, remedy in NEEDS.items() if find_spec(name) is None}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return provenance.hardware() | versions | {"missing": missing}


def engine(options: Options) -> dict[str, Any]:
    """The tiny model's answers to `validation`: how many greedy ones are equal, log-probabilities, speed of sampling."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr.tiny import datasets
    from rlvr.verl_torch.generation import Generator, Sampling

    path = ROOT / "rlvr" / "tiny" / "model"
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts = [tokenizer(e["question"] + "\n").input_ids for e in datasets.load("validation")]
    greedy = [Sampling(96, 0.0)] * len(prompts)

    def generator(device: str, dtype: torch.dtype) -> Generator:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()
        return Generator(model, (tokenizer.eos_token_id,), max_rows=4096)

    on_cpu = generator("cpu", torch.float32).generate(prompts, greedy)
    with torch.device(options.device):
        on_device = generator(options.device, torch.float32).generate(prompts, greedy)
        bf16 = generator(options.device, torch.bfloat16)
        sampling = [Sampling(96, 0.6, seed=i) for i in range(8 * len(prompts))]
        repeated = [prompt for prompt in prompts for _ in range(8)]
        bf16.generate(repeated[:64], sampling[:64])  # warms up
        started = time.perf_counter()
        answers = bf16.generate(repeated, sampling)
        tokens_per_s = sum(len(answer.token_ids) for answer in answers) / (time.perf_counter() - started)
    equal = [(a, b) for a, b in zip(on_cpu, on_device, strict=True) if a.token_ids == b.token_ids]
    gap = max(abs(x - y) for a, b in equal for x, y in zip(a.log_probs, b.log_probs, strict=True))
    counts = {"greedy_equal": len(equal), "answers": len(prompts)}
    return counts | {"log_prob_diff_max": gap, "tokens_per_s": tokens_per_s}


def parity(options: Options) -> dict[str, Any]:
    """Whether verl's engine on the GPU agrees with the CPU in fp32 within LIMITS, as `timings.gpu_parity` measures."""
    from experiments.timings import gpu_parity

    parts = ["cpu_fp32", "verl_fp32"] + (["cuda_fp32", "cuda_bf16"] if options.device == "cuda" else [])
    table = options.out / "gpu_parity.csv"
    beyond = {}
    for line in gpu_parity.measure(gpu_parity.Options(parts, table)):
        for column, limit in LIMITS[line["part"].partition("_")[2]].items():
            if float(line[column]) > limit:
                beyond[f"{line['part']}: {column}"] = line[column]
    return {"ok": not beyond, "table": table.name, "beyond_limits": beyond}


def runs(options: Options) -> dict[str, Any]:
    """For each run: first and last scores, the difference between rollout and trainer, and seconds by part of a step."""
    hardware = _hardware(options)
    wanted = [(name, hardware) for name in EXPERIMENTS]
    if options.device == "cuda":
        wanted = list(dict.fromkeys([*wanted, ("one_shot", "one_gpu_torch"), ("one_shot", "cpu")]))
    return {f"{name}_{where}": _summary(_run(options, name, where).metrics_path) for name, where in wanted}


def resume(options: Options) -> dict[str, Any]:
    """Compares a run that is killed after its first checkpoint and started again with an uninterrupted one.

    ok: it resumes from the checkpoint, has each step once, and equals the uninterrupted run: on a CPU at all steps, on a GPU
    at step 0 only, because vLLM's random stream restarts with the process, so later steps may sample other answers.
    """
    hardware, short = _hardware(options), ("scale.steps=8", "scale.save_every=4", "scale.evaluate_every=4")
    whole = _run(options, "one_shot", hardware, *short, variant="whole")
    killed = _run(options, "one_shot", hardware, *short, variant="killed", kill=6)
    resumed_at = [entry["step"] for entry in read_json(killed.provenance_path).get("resumed_at", [])]
    expected, resumed = (read_metrics(folder.metrics_path).set_index("step") for folder in (whole, killed))
    steps = resumed.index.tolist()
    columns = [name for name in expected if name.startswith(("train/", "eval/", "actor/"))]
    gap = (expected[columns] - resumed[columns]).abs().max(axis=1)
    last_equal = 8 if options.device == "cpu" else 0
    ok = resumed_at == [4] and steps == list(range(9)) and bool((gap.loc[:last_equal] < 1e-3).all())
    return {"ok": ok, "resumed_at": resumed_at, "steps": steps, "gap_max": {int(k): float(v) for k, v in gap.items()}}


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    part.__name__: part for part in (machine, engine, parity, runs, resume)
}
PACKAGES = dict.fromkeys(("parity", "runs", "resume"), ("verl", "ray"))


def lacks(part: str, options: Options) -> list[str]:
    """The missing requirements of a part, each with how to install it."""
    import torch

    found = []
    if options.device == "cuda" and not torch.cuda.is_available():
        found.append("a CUDA GPU that torch finds (device=cpu is a rehearsal without one)")
    return found + [f"{name} ({NEEDS[name]})" for name in PACKAGES.get(part, ()) if find_spec(name) is None]


def _hardware(options: Options) -> str:
    """The choice of conf/hardware; without vLLM the torch engine generates on the GPU."""
    return "cpu" if options.device == "cpu" else "one_gpu" if find_spec("vllm") else "one_gpu_torch"


def _run(
    options: Options, experiment: str, hardware: str, *overrides: str, variant: str = "check", kill: int = 0
) -> RunFolder:
    """Starts or resumes a run at scale=tiny and finishes it. kill: the step after which it is killed once and started again."""
    runs_dir, variant = options.out.resolve() / "runs", f"{variant}_{hardware}"
    words = [f"+experiment={experiment}", f"variant={variant}", f"hardware={hardware}", f"runs_dir={runs_dir}"]
    words += ["tracking=off", "watchdog.no_progress_minutes=10", *overrides]
    if hardware != "cpu":  # most of Ray's slots are idle, so a small machine may declare more cores than it has
        words.append(f"ray_kwargs.ray_init.num_cpus={max(8, os.cpu_count() or 1)}")
        if find_spec("flash_attn") is None:
            words.append("hardware.attention=sdpa")
    command = [sys.executable, "run.py", *words]
    folder = RunFolder(runs_dir / "tiny" / "tiny" / f"{experiment}-{variant}" / "seed0")
    runs_dir.mkdir(exist_ok=True)
    log = runs_dir / f"{experiment}-{variant}.log"
    with open(log, "w") as output:  # not a pipe, which stays open as long as any of Ray's processes lives
        if kill and folder.last_step() < kill:
            process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=output, stderr=output)
            _kill_after(process, folder, kill)
        if subprocess.run(command, cwd=ROOT, stdout=output, stderr=output).returncode:
            raise ConfigError(f"{experiment}-{variant}: {log.read_text().strip().splitlines()[-1]} (full log: {log})")
    return folder


def _kill_after(process: subprocess.Popen, folder: RunFolder, step: int) -> None:
    """SIGKILL once this step's metrics are written. Waits for the run's other processes: they hold the GPU's memory."""
    while folder.last_step() < step and process.poll() is None:
        time.sleep(0.1)
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=120)
    process.wait()


def _summary(metrics_path: Path) -> dict[str, Any]:
    """First and last scores, differences between rollout and trainer, and mean seconds by part of a step."""
    metrics = read_metrics(metrics_path).set_index("step")
    scores = metrics.filter(regex=r"^(eval/.*|train)/accuracy$")
    summary = {name: [float(column.dropna().iloc[place]) for place in (0, -1)] for name, column in scores.items()}
    for name, over_steps in (("rollout/probs_diff_max", "max"), ("rollout/probs_diff_mean", "mean")):
        if name in metrics:
            summary[name] = float(metrics[name].agg(over_steps))
    return summary | metrics.filter(like="time/").mean().round(3).to_dict()


def check(options: Options) -> int:
    """Do all parts; one that fails or lacks a requirement does not stop the others. Returns 1 if one failed or none was done."""
    import torch

    for name in options.parts:
        if name not in PARTS:
            raise ConfigError(f"parts={name}: {did_you_mean(name, list(PARTS))}")
    failed, done = False, False
    for part in options.parts or PARTS:
        if missing := lacks(part, options):
            print(f"{part}: left out, lacks {'; '.join(missing)}")
            continue
        name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        options.out = options.out or Path("gpu_check", re.sub(r"\W+", "_", name))
        options.out.mkdir(parents=True, exist_ok=True)
        file = options.out / f"{part}.json"
        if file.exists():
            done = True
            print(f"{part}: done already, {file}")
            continue
        started = time.perf_counter()
        try:
            # In its own process, so that it leaves no memory on the GPU. Parts in PACKAGES start processes themselves.
            found = PARTS[part](options) if part in PACKAGES else apart(PARTS[part], options)
        except Exception as error:
            failed = True
            print(f"{part}: failed: {str(error).strip().splitlines()[-1] if str(error) else type(error).__name__}")
            continue
        found |= {"wall_s": round(time.perf_counter() - started, 1)}
        print(f"{part}: {json.dumps(found)}")
        ok = found.get("ok", True)
        done, failed = done or ok, failed or not ok
        written = file if ok else file.with_suffix(".failed.json")
        written.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if done and not failed else 1


if __name__ == "__main__":
    sys.exit(command(Options, check, __doc__))
