"""Does everything work on this GPU, and how fast? One command, part by part; a part that is done is not done again.

    python -m experiments.gpu_check                                   # all parts, into gpu_check/<GPU>/
    python -m experiments.gpu_check parts=machine,engine              # what needs only torch and transformers
    python -m experiments.gpu_check device=cpu                        # a rehearsal: the same code without a GPU

    machine    what is here, and what is missing, with the command that installs it
    engine     the torch rollout engine in fp32 against the CPU's: greedy answers, log-probabilities; tokens/s in bf16
    parity     log-probabilities, loss and parameters after an update of verl's engine, GPU against CPU (timings.gpu_parity)
    runs       one_shot, entropy_only and full_set at scale=tiny with hardware=one_gpu (one_gpu_torch where vLLM is missing), and
               one_shot with one_gpu_torch and on the CPU: scores, and the largest difference between the probabilities of
               rollout and trainer, which is large when new weights have not reached the rollout
    resume     one_shot, killed in the middle, resumes from its checkpoint and has each step once

Each part writes <out>/<part>.json, or <part>.failed.json when its check does not hold; such a part is done again the next time.
<out>/runs holds the run folders.
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
# Largest differences from the CPU in fp32 that count as agreement, by precision. On a CPU verl's engine in fp32 is within
# 1e-5, and bf16 within 0.0021 (mean log-probability) and 0.002 (gradient norm 0.095): experiments/results/gpu_parity_cpu_parts.csv.
AGREE = {
    "fp32": {"log_prob_diff_max": 1e-3, "loss_diff": 1e-4, "grad_norm_diff": 1e-3},
    "bf16": {"log_prob_diff_mean": 0.01, "loss_diff": 1e-3, "grad_norm_diff": 0.01},
}


@dataclass
class Options:
    parts: list[str] = option("which; all when none is given", [])
    device: Literal["cuda", "cpu"] = option("cpu: a rehearsal", "cuda")
    out: Path | None = option("folder of the results", None)


def machine(options: Options) -> dict[str, Any]:
    import torch

    missing = {name: remedy for name, remedy in NEEDS.items() if find_spec(name) is None}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return provenance.hardware() | versions | {"missing": missing}


def engine(options: Options) -> dict[str, Any]:
    """The tiny model's answers to `validation`: equal greedy ones, log-probabilities, and the speed of many sampled ones."""
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

    here = generator("cpu", torch.float32).generate(prompts, greedy)
    with torch.device(options.device):
        there = generator(options.device, torch.float32).generate(prompts, greedy)
        fast = generator(options.device, torch.bfloat16)
        many = [Sampling(96, 0.6, seed=i) for i in range(8 * len(prompts))]
        asked = [prompt for prompt in prompts for _ in range(8)]
        fast.generate(asked[:64], many[:64])
        started = time.perf_counter()
        answers = fast.generate(asked, many)
        took = time.perf_counter() - started
    same = [a.token_ids == b.token_ids for a, b in zip(here, there, strict=True)]
    gaps = [
        abs(x - y)
        for a, b, equal in zip(here, there, same, strict=True)
        if equal
        for x, y in zip(a.log_probs, b.log_probs, strict=True)
    ]
    tokens = sum(len(answer.token_ids) for answer in answers)
    return {
        "greedy_equal": sum(same),
        "answers": len(same),
        "log_prob_diff_max": max(gaps),
        "tokens_per_s": tokens / took,
    }


def parity(options: Options) -> dict[str, Any]:
    """What verl's engine computes on the GPU beside the CPU in fp32, from `timings.gpu_parity`, and whether it agrees."""
    from experiments.timings import gpu_parity

    parts = ["cpu_fp32", "verl_fp32"] + (["cuda_fp32", "cuda_bf16"] if options.device == "cuda" else [])
    table = _folder(options) / "gpu_parity.csv"
    lines = gpu_parity.measure(gpu_parity.Options(parts, table))
    off = {
        f"{line['part']}: {column}": line[column]
        for line in lines
        for column, limit in AGREE[line["part"].partition("_")[2]].items()
        if float(line[column]) > limit
    }
    return {"ok": not off, "table": table.name, "beyond_limits": off}


def runs(options: Options) -> dict[str, Any]:
    """Of each run its first and last scores, how far rollout and trainer were apart, and seconds of its parts."""
    hardware = _hardware(options)
    wanted = [(name, hardware) for name in EXPERIMENTS]
    if options.device == "cuda":
        wanted = list(dict.fromkeys([*wanted, ("one_shot", "one_gpu_torch"), ("one_shot", "cpu")]))
    return {f"{name}_{where}": _summary(_run(options, name, where).metrics_path) for name, where in wanted}


def resume(options: Options) -> dict[str, Any]:
    """A run killed after its first checkpoint and started again, beside a whole one.

    ok: it was killed, goes on from the checkpoint and has each step once, and up to there it is the whole run; on a CPU in
    the end too. vLLM's random stream begins anew with the process, so on a GPU later steps may be other draws.
    """
    hardware, short = _hardware(options), ("scale.steps=8", "scale.save_every=4", "scale.evaluate_every=4")
    whole = _run(options, "one_shot", hardware, *short, variant="whole")
    killed = _run(options, "one_shot", hardware, *short, variant="killed", kill=6)
    resumed_at = [entry["step"] for entry in read_json(killed.provenance_path).get("resumed_at", [])]
    one, other = (read_metrics(folder.metrics_path).set_index("step") for folder in (whole, killed))
    steps = other.index.tolist()
    columns = [name for name in one if name.startswith(("train/", "eval/", "actor/"))]
    gap = (one[columns] - other[columns]).abs().max(axis=1)
    same = 8 if options.device == "cpu" else 0
    ok = resumed_at == [4] and steps == list(range(9)) and bool((gap.loc[:same] < 1e-3).all())
    return {"ok": ok, "resumed_at": resumed_at, "steps": steps, "gap_max": {int(k): float(v) for k, v in gap.items()}}


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "machine": machine,
    "engine": engine,
    "parity": parity,
    "runs": runs,
    "resume": resume,
}
PACKAGES = dict.fromkeys(("parity", "runs", "resume"), ("verl", "ray"))


def lacks(part: str, options: Options) -> list[str]:
    """The missing requirements of a part, each with how to install it."""
    import torch

    found = []
    if options.device == "cuda" and not torch.cuda.is_available():
        found.append("a CUDA GPU that torch finds (device=cpu rehearses without)")
    return found + [f"{name} ({NEEDS[name]})" for name in PACKAGES.get(part, ()) if find_spec(name) is None]


def _hardware(options: Options) -> str:
    """Without vLLM the torch engine generates on the GPU."""
    return "cpu" if options.device == "cpu" else "one_gpu" if find_spec("vllm") else "one_gpu_torch"


def _run(
    options: Options, experiment: str, hardware: str, *overrides: str, variant: str = "check", kill: int = 0
) -> RunFolder:
    """A finished run of the tiny world, begun or gone on with; `kill`: killed once that step is done, and started again."""
    runs_dir, variant = _folder(options).resolve() / "runs", f"{variant}_{hardware}"
    words = [f"+experiment={experiment}", f"variant={variant}", f"hardware={hardware}", f"runs_dir={runs_dir}"]
    words += ["tracking=off", "watchdog.no_progress_minutes=10", *overrides]
    if hardware != "cpu":  # most of Ray's slots idle, so a small machine may count more than it has
        words.append(f"ray_kwargs.ray_init.num_cpus={max(8, os.cpu_count() or 1)}")
        if find_spec("flash_attn") is None:
            words.append("hardware.attention=sdpa")
    command = [sys.executable, "run.py", *words]
    folder = RunFolder(runs_dir / "tiny" / "tiny" / f"{experiment}-{variant}" / "seed0")
    runs_dir.mkdir(exist_ok=True)
    log = runs_dir / f"{experiment}-{variant}.log"
    with open(log, "w") as output:  # to a file: a pipe stays open as long as any of Ray's processes lives
        if kill and folder.last_step() < kill:
            _kill_after(
                subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=output, stderr=output), folder, kill
            )
        if subprocess.run(command, cwd=ROOT, stdout=output, stderr=output).returncode:
            raise ConfigError(f"{experiment}-{variant}: {log.read_text().strip().splitlines()[-1]} (all of it: {log})")
    return folder


def _kill_after(process: subprocess.Popen, folder: RunFolder, step: int) -> None:
    """SIGKILL once this step's metrics are written, and wait for what the run has left: it holds the GPU's memory."""
    while folder.last_step() < step and process.poll() is None:
        time.sleep(0.1)
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=120)
    process.wait()


def _summary(metrics_path: Path) -> dict[str, Any]:
    metrics = read_metrics(metrics_path).set_index("step")
    scores = metrics.filter(regex=r"^(eval/.*|train)/accuracy$")
    said = {name: [float(column.dropna().iloc[place]) for place in (0, -1)] for name, column in scores.items()}
    for name, over_steps in (("rollout/probs_diff_max", "max"), ("rollout/probs_diff_mean", "mean")):
        if name in metrics:
            said[name] = float(metrics[name].agg(over_steps))
    return said | metrics.filter(like="time/").mean().round(3).to_dict()


def _folder(options: Options) -> Path:
    assert options.out is not None
    return options.out


def check(options: Options) -> int:
    """All parts; one that fails or is left out does not stop the others. 1 where one failed, or none was done."""
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
            # Its own process: a part leaves no memory behind on the card. Those in PACKAGES start processes themselves.
            found = PARTS[part](options) if part in PACKAGES else apart(PARTS[part], options)
        except Exception as error:
            failed = True
            print(f"{part}: failed: {str(error).strip().splitlines()[-1] if str(error) else type(error).__name__}")
            continue
        found |= {"wall_s": round(time.perf_counter() - started, 1)}
        print(f"{part}: {json.dumps(found)}")
        if found.get("ok", True):
            done = True
            file.write_text(json.dumps(found, indent=1) + "\n")
        else:
            failed = True
            file.with_suffix(".failed.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0 if done and not failed else 1


if __name__ == "__main__":
    sys.exit(command(Options, check, __doc__))
