"""How fast `rlvr.serve` answers many at once, beside one-at-a-time `transformers.generate` and `transformers serve`.

    python -m experiments.timings.serving run=<run folder>
    python -m experiments.timings.serving run=<run folder> theirs=true      # transformers' server too

Every request is a chat about another problem of `validation`, at temperature 0.6 and as long as in training; all start at
the same moment. Printed: seconds until the server is ready, seconds for all, answers lost, and p50 and p99 of a request.
One at a time: the first `alone` of the same requests, scaled to all. Record what else the machine does beside the numbers.
"""

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlvr.cli import ConfigError, command, option


@dataclass
class Options:
    run: Path = option("the run folder")
    step: str = option("which checkpoint", "last")
    requests: int = option("how many at once", 200, at_least=1)
    alone: int = option("how many one at a time", 20, at_least=1)
    theirs: bool = option("measure `transformers serve --continuous-batching` too", False)


def measure(options: Options) -> None:
    from rlvr.data import protocols
    from rlvr.evaluate import evaluated_models as subjects

    subject = subjects.of_run(options.run, options.step, None, None)
    path = subject.models[max(subject.models)]
    (protocol,) = protocols.select("validation")
    problems = [example["question"] for example in protocols.load(protocol, None)[0]]
    questions = [problems[i % len(problems)] for i in range(options.requests)]
    tokens = subject.config["scale"]["max_response_tokens"]
    servers = {"rlvr.serve": [sys.executable, "-m", "rlvr.serve", f"run={options.run}", f"step={options.step}", "port=0",
                              "base_too=false"]}  # fmt: skip
    if options.theirs:
        program = shutil.which("transformers", path=Path(sys.executable).parent)
        servers["transformers serve"] = [
            str(program),
            "serve",
            "--port",
            "8765",
            "--continuous-batching",
            "--device",
            "cpu",
            "--dtype",
            "float32",
        ]
    seconds = {}
    for name, arguments in servers.items():
        ours = name == "rlvr.serve"
        with tempfile.TemporaryFile("w+") as log:
            started = time.perf_counter()
            process = subprocess.Popen(arguments, stdout=log, stderr=log)
            try:
                url, model = _ready(process, log, None if ours else ("http://127.0.0.1:8765", path))
                ready = time.perf_counter() - started
                asyncio.run(_ask(url, model, questions[:1], tokens))
                all_s, latencies, lost = asyncio.run(_ask(url, model, questions, tokens))
            finally:
                process.terminate()
                process.wait(30)
        seconds[name] = all_s
        p50, p99 = np.quantile(latencies, [0.5, 0.99])
        print(f"{name}: ready after {ready:.1f} s; {len(questions)} requests in {all_s:.2f} s, {lost} lost; "
              f"p50 {p50:.2f} s, p99 {p99:.2f} s", flush=True)  # fmt: skip
    alone = _alone(path, questions[: options.alone], tokens) * options.requests / options.alone
    print(f"transformers.generate, one at a time: {alone:.1f} s")
    for name, all_s in seconds.items():
        print(f"{name}: {alone / all_s:.1f} times as fast")


def _ready(process: subprocess.Popen, log, known: tuple[str, str] | None) -> tuple[str, str]:
    """URL and model, once the server answers."""
    import httpx

    while process.poll() is None:
        log.seek(0)
        found = re.search(r"serving ([^,\s]+).* at (http\S+)", log.read())
        if known is None and found:
            return found[2], found[1]
        if known is not None:
            try:
                httpx.get(f"{known[0]}/v1/models", timeout=5)
                return known
            except httpx.HTTPError:
                pass
        time.sleep(0.05)
    log.seek(0)
    raise ConfigError(f"the server ended: {log.read()[-500:]}")


async def _ask(url: str, model: str, questions: list[str], tokens: int) -> tuple[float, list[float], int]:
    import openai

    async def one(i: int, question: str) -> float | None:
        try:
            started = time.perf_counter()
            got = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question}],
                temperature=0.6,
                max_tokens=tokens,
                seed=i,
            )
            return time.perf_counter() - started if got.choices[0].message.content else None
        except openai.APIError:
            return None

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as client:
        started = time.perf_counter()
        latencies = await asyncio.gather(*(one(i, question) for i, question in enumerate(questions)))
    kept = [latency for latency in latencies if latency is not None]
    return time.perf_counter() - started, kept, len(latencies) - len(kept)


def _alone(path: str, questions: list[str], tokens: int) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(path),
    )
    started = time.perf_counter()
    for question in questions:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        model.generate(**ids, do_sample=True, temperature=0.6, max_new_tokens=tokens)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
