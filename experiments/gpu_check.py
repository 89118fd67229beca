"""Does everything work on this GPU, and how fast? One command, part by part; a part that is done is not done again.

    python -m experiments.gpu_check                                   # all parts, into gpu_check/<GPU>/
    python -m experiments.gpu_check parts=roofline,engine,step        # what needs only torch and transformers
    python -m experiments.gpu_check device=cpu shape=tiny             # a rehearsal: the same code without a GPU

    machine    what is here, and what is missing, with the command that installs it
    roofline   bf16 matrix products (FLOP/s) and memory bandwidth, which the other parts are compared with
    engine     the torch rollout engine in fp32 against the CPU's: greedy answers, log-probabilities; tokens/s in bf16
    step       one GRPO step of `shape` with random weights: rollout and update in tokens/s, MFU, peak memory
    parity     log-probabilities, loss and parameters after an update of verl's engine, GPU against CPU (timings.gpu_parity)
    runs       one_shot, entropy_only and full_set at scale=tiny with hardware=one_gpu, and one_shot on the CPU beside it
    resume     one_shot killed in the middle goes on and ends as the whole run did

Each part writes <out>/<part>.json: small files to commit. The rollout of `step` ignores end tokens, for random weights end
nowhere; its update is the policy gradient alone on fp32 weights with bf16 compute, gradients recomputed layer by layer.
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

from experiments.timings import apart
from rlvr.cli import ConfigError, command, did_you_mean, option

ROOT = Path(__file__).resolve().parents[1]
NEEDS = {
    "verl": "pip install -e .",
    "ray": "pip install -e .",
    "vllm": "pip install -e '.[gpu]'",
    "flash_attn": "pip install flash-attn==2.8.3 --no-build-isolation (or hardware.attention=sdpa)",
}
# hidden, layers, heads, key-value heads, MLP, vocabulary; prompts, samples of each, prompt and response tokens, tokens of a micro-batch
SHAPES = {
    "qwen2_5_math_1_5b": ((1536, 28, 12, 2, 8960, 151936), (16, 8, 128, 1024, 9216)),
    "tiny": ((192, 4, 6, 2, 512, 640), (2, 4, 16, 32, 256)),
}
EXPERIMENTS = ("one_shot", "entropy_only", "full_set")


@dataclass
class Options:
    parts: list[str] = option("which; all when none is given", [])
    device: Literal["cuda", "cpu"] = option("cpu: a rehearsal", "cuda")
    shape: Literal["qwen2_5_math_1_5b", "tiny"] = option("of the model of `step`", "qwen2_5_math_1_5b")
    out: Path | None = option("folder of the results", None)


def machine(options: Options) -> dict[str, Any]:
    import torch

    cuda = options.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if cuda else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "missing": {name: remedy for name, remedy in NEEDS.items() if find_spec(name) is None},
    }


def roofline(options: Options) -> dict[str, Any]:
    """tflops: of a bf16 product; bandwidth_tb_s: bytes read and written by a copy."""
    import torch

    size, count = (8192, 2**28) if options.device == "cuda" else (512, 2**22)
    a, b = (torch.randn(size, size, device=options.device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(count, device=options.device)
    target = torch.empty_like(source)
    product, copied = _seconds(lambda: a @ b, options), _seconds(lambda: target.copy_(source), options)
    return {"tflops": 2 * size**3 / product / 1e12, "bandwidth_tb_s": 8 * count / copied / 1e12}


def engine(options: Options) -> dict[str, Any]:
    """The tiny model's answers to `validation`: equal greedy ones, log-probabilities, and the speed of many sampled ones."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr.tiny import datasets
    from rlvr.verl_cpu.generation import Generator, Sampling

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


def step(options: Options) -> dict[str, Any]:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from rlvr.verl_cpu.generation import Generator, Sampling

    (hidden, layers, heads, kv_heads, mlp, vocabulary), (prompts, n, prompt, response, budget) = SHAPES[options.shape]
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, intermediate_size=mlp, tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(options.device):
        model = Qwen2ForCausalLM(config)
        parameters = sum(p.numel() for p in model.parameters())
        generator = [Generator(Qwen2ForCausalLM(config).to(torch.bfloat16).eval(), ())]
        questions = [torch.randint(0, vocabulary, (prompt,)).tolist() for _ in range(prompts)]
        sampling = [Sampling(response, 0.6, seed=i, ignore_eos=True) for i in range(prompts * n)]
        asked = [question for question in questions for _ in range(n)]
        made: list = []
        rollout_s = _seconds(lambda: made.append(generator[0].generate(asked, sampling)), options, 1)
        generator.clear()  # its weights leave the card
        model.gradient_checkpointing_enable()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        rows = torch.tensor([q + a.token_ids for q, a in zip(asked, made[0], strict=True)])

        def update() -> None:
            for part in rows.split(max(1, budget // rows.shape[1])):
                with torch.autocast(options.device, torch.bfloat16):
                    logits = model(input_ids=part, use_cache=False).logits[:, prompt - 1 : -1]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), part[:, prompt:].flatten())
                (loss * len(part) / len(rows)).backward()
            optimizer.step()
            optimizer.zero_grad()

        update()  # Adam's moments
        update_s = _seconds(update, options, 1)
    peak = torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else None
    rate = 8 * parameters * rows.numel() / update_s / 1e12  # forward 2, backward 4, recomputed forward 2
    return {
        "shape": options.shape, "parameters": parameters, "rows": len(rows), "prompt": prompt, "response": response,
        "rollout_s": rollout_s, "rollout_tokens_per_s": prompts * n * response / rollout_s, "update_s": update_s,
        "update_tokens_per_s": rows.numel() / update_s, "update_tflops": rate, "peak_gib": peak,
    }  # fmt: skip


def parity(options: Options) -> dict[str, Any]:
    from experiments.timings import gpu_parity

    parts = ["cpu_fp32", "verl_fp32"] + (["cuda_fp32", "cuda_bf16"] if options.device == "cuda" else [])
    table = _folder(options) / "gpu_parity.csv"
    gpu_parity.measure(gpu_parity.Options(parts, table))
    return {"table": table.name}


def runs(options: Options) -> dict[str, Any]:
    """Of each run its last scores, and seconds of its parts."""
    hardware = "one_gpu" if options.device == "cuda" else "cpu"
    wanted = [(name, hardware) for name in EXPERIMENTS] + ([("one_shot", "cpu")] if options.device == "cuda" else [])
    return {f"{name}_{where}": _run(options, name, where) for name, where in wanted}


def resume(options: Options) -> dict[str, Any]:
    """The metrics of a run killed after its first checkpoint beside those of a whole one."""
    hardware = "one_gpu" if options.device == "cuda" else "cpu"
    whole = _run(
        options, "one_shot", hardware, "scale.steps=8", "scale.save_every=4", "scale.evaluate_every=4", variant="whole"
    )
    killed = _run(
        options,
        "one_shot",
        hardware,
        "scale.steps=8",
        "scale.save_every=4",
        "scale.evaluate_every=4",
        variant="killed",
        kill=6,
    )
    return {"whole": whole, "killed": killed}


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "machine": machine,
    "roofline": roofline,
    "engine": engine,
    "step": step,
    "parity": parity,
    "runs": runs,
    "resume": resume,
}
THROUGH_VERL = ("parity", "runs", "resume")


def _run(options: Options, experiment: str, hardware: str, *overrides: str, variant: str = "check", kill: int = 0):
    """A run's last evaluation and mean times; `kill`: it is killed once that step is done, and started again."""
    from rlvr.runs.folder import RunFolder, read_metrics

    runs_dir = _folder(options).resolve() / "runs"
    words = [
        f"+experiment={experiment}",
        f"variant={variant}_{hardware}",
        f"hardware={hardware}",
        f"runs_dir={runs_dir}",
    ]
    if hardware != "cpu" and find_spec("flash_attn") is None:
        words.append("hardware.attention=sdpa")
    arguments = [sys.executable, "run.py", *words, "tracking=off", *overrides]
    folder = RunFolder(runs_dir / "tiny" / "tiny" / f"{experiment}-{variant}_{hardware}" / "seed0")
    if kill:
        process = subprocess.Popen(arguments, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
        while folder.last_step() < kill and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    metrics = read_metrics(folder.metrics_path)
    last = {k: v for k, v in metrics.iloc[-1].items() if re.fullmatch(r"(eval/.*/accuracy|train/accuracy)", str(k))}
    return {str(k): float(v) for k, v in last.items()} | metrics.filter(like="time/").mean().round(3).to_dict()


def _seconds(action: Callable[[], object], options: Options, repeats: int = 20) -> float:
    """Of one call, warm."""
    import torch

    def wait() -> None:
        if options.device == "cuda":
            torch.cuda.synchronize()

    if repeats > 1:
        action()
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        action()
    wait()
    return (time.perf_counter() - started) / repeats


def _folder(options: Options) -> Path:
    assert options.out is not None
    return options.out


def check(options: Options) -> int:
    """All parts; a failed one does not stop the others. 1 where one failed. ConfigError without a GPU."""
    import torch

    for name in options.parts:
        if name not in PARTS:
            raise ConfigError(f"parts={name}: {did_you_mean(name, list(PARTS))}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch finds no GPU; device=cpu shape=tiny rehearses without one")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    options.out = options.out or Path("gpu_check", re.sub(r"\W+", "_", name))
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for part in options.parts or PARTS:
        file = options.out / f"{part}.json"
        if file.exists():
            print(f"{part}: done already, {file}")
            continue
        missing = [f"{m}: {NEEDS[m]}" for m in ("verl", "ray", "vllm") if part in THROUGH_VERL and find_spec(m) is None]
        if options.device == "cpu":
            missing = [text for text in missing if not text.startswith("vllm")]
        if missing:
            print(f"{part}: left out, needs {'; '.join(missing)}")
            continue
        started = time.perf_counter()
        try:
            # Its own process: a part leaves no memory behind on the card.
            found = PARTS[part](options) if part in THROUGH_VERL else apart(PARTS[part], options)
        except Exception as error:
            failed.append(part)
            print(f"{part}: failed: {str(error).strip().splitlines()[-1] if str(error) else type(error).__name__}")
            continue
        found |= {"wall_s": round(time.perf_counter() - started, 1)}
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{part}: {json.dumps(found)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(command(Options, check, __doc__))
