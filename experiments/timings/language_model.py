"""The speed of generation and training of a pretrained language model, as a share of this processor's matrix rate.

Prints, for one dtype: the rate of plain matrix products with the model's shapes; tokens/s when `rows` answers to one prompt
are generated; seconds of forward and backward over 2,048 tokens, with log-probability and entropy of each token; page faults
and peak memory. The speeds are also printed as a share of the matrix rate. On a busy machine compare processor seconds, not
wall seconds.

    python -m experiments.timings.language_model [dtype=bfloat16] [model=<folder or GGUF file>] [head=plain] [malloc=default]
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from experiments.timings import apart
from rlvr.cli import command, option, usable_cores

TOKENS, PROMPT = 2048, 128
SIZES = dict(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_attention_heads=14)


@dataclass
class Options:
    model: Path | None = option("a folder or GGUF file; none: random weights in the shape of Qwen2.5-0.5B", None)
    dtype: Literal["float32", "bfloat16"] = option("of weights and products", "bfloat16")
    head: Literal["chunked", "plain"] = option("plain: all logits of a micro-batch at once", "chunked")
    malloc: Literal["kept", "default"] = option("default: glibc returns large blocks to the system", "kept")
    layers: int = option("of the model with random weights; fewer on a busy machine", 24, at_least=1)
    rows: int = option("answers to one prompt", 64, at_least=1)
    tokens: int = option("of each answer", 64, at_least=1)
    repeats: int = option("of each part; medians are printed", 3, at_least=1)
    parts: str = option("which parts: generation, update", "generation,update")


def timed(action: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Medians of wall seconds, processor seconds and page faults (thousands) of a call, after one that warms up."""
    action()
    walls, cpus, faults = [], [], []
    for _ in range(repeats):
        faults_before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        faults.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_before) / 1000)
    return median(walls), median(cpus), median(faults)


def load(options: Options):
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    dtype = getattr(torch, options.dtype)
    if options.model is None:
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        model = Qwen2ForCausalLM(
            Qwen2Config(**SIZES, num_hidden_layers=options.layers, num_key_value_heads=2, tie_word_embeddings=True)
        )
        torch.set_default_dtype(torch.float32)
        return model
    from rlvr.data import gguf

    return AutoModelForCausalLM.from_pretrained(gguf.local_folder(str(options.model)), dtype=dtype)


def update(model, head: str) -> Callable[[], None]:
    """Forward and backward over one micro-batch: 15 answers to one prompt, as the trainer lays them out."""
    import torch

    from rlvr.verl_torch import chunked_head, shared_prompt

    random = torch.Generator().manual_seed(0)
    prompt = torch.randint(1000, 100_000, (PROMPT,), generator=random)
    answers = torch.randint(1000, 100_000, (15, (TOKENS - PROMPT) // 15), generator=random)
    rows = torch.nested.as_nested_tensor([torch.cat([prompt, answer]) for answer in answers], layout=torch.jagged)
    layout = shared_prompt.lay_out(rows, torch.nested.as_nested_tensor([prompt] * 15, layout=torch.jagged))
    wanted = chunked_head.Wanted(rows.values()[layout.outputs + 1], 0.6, True)
    model.set_attn_implementation(shared_prompt.NAME)
    output = chunked_head.Head.of(model)

    def passes() -> None:
        output.wanted = wanted if head == "chunked" else None
        logits = model(**shared_prompt.model_inputs(layout), use_cache=False).logits[0]
        values = logits.unbind(-1) if head == "chunked" else chunked_head.all_at_once(logits, wanted)
        (values[0].sum() + values[1].sum()).backward()
        model.zero_grad()

    return passes


def measured(options: Options) -> None:
    import torch

    from rlvr.verl_torch.generation import Generator, Sampling

    torch.set_num_threads(usable_cores())
    model = load(options).eval()
    weights = sum(p.numel() for p in model.parameters())
    config = model.config

    def product_rate(rows: int) -> tuple[float, float]:
        """GFLOP/s by wall time and by processor time."""
        left = torch.randn(rows, config.hidden_size).to(model.dtype)
        matrices = [torch.randn(config.intermediate_size, config.hidden_size).to(model.dtype) for _ in range(16)]
        wall, cpu, _ = timed(lambda: [torch.nn.functional.linear(left, one) for one in matrices], options.repeats)
        work = 2 * rows * 16 * config.hidden_size * config.intermediate_size / 1e9
        return work / wall, work / cpu

    def report(name: str, work: float, rate: tuple[float, float], found: tuple[float, float, float]) -> None:
        wall, cpu, faults = found
        shares = f"{work / wall / 1e9 / rate[0]:.2f} of the matrix rate by wall, {work / cpu / 1e9 / rate[1]:.2f} by processor"
        print(f"{name}: {wall:.2f} s wall, {cpu:.2f} s processor, {faults:.0f}k page faults; {shares}", flush=True)

    full = product_rate(TOKENS)
    print(f"{options.dtype}, {weights / 1e6:.0f} M weights, head={options.head}, malloc={options.malloc}")
    print(f"matrix rate: {full[0]:.0f} GFLOP/s by wall, {full[1]:.0f} by processor second (of one core)")
    if "generation" in options.parts:
        generator, prompt = Generator(model, ()), list(range(1000, 1000 + PROMPT))
        sampling = [Sampling(options.tokens, 0.6, seed=row) for row in range(options.rows)]
        with torch.inference_mode():
            found = timed(lambda: generator.generate([prompt] * options.rows, sampling), options.repeats)
        answer_tokens = options.rows * options.tokens
        print(f"generation: {answer_tokens / found[0]:.0f} tokens/s, {answer_tokens / found[1]:.0f} a processor second")
        report("  of it", 2 * weights * answer_tokens, product_rate(options.rows), found)
    if "update" in options.parts:
        report("forward and backward", 6 * weights * TOKENS, full, timed(update(model, options.head), options.repeats))
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def measure(options: Options) -> None:
    from rlvr.training.ray_cluster import KEPT_MEMORY

    environment = {"OMP_NUM_THREADS": str(usable_cores()), "GOMP_SPINCOUNT": "100000"}
    environment |= KEPT_MEMORY if options.malloc == "kept" else {}
    os.environ.update(environment)  # glibc reads it when a process starts
    apart(measured, options, **environment)


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
