"""How fast `rlvr.serve` answers many chats at once, compared with `transformers.generate` on one chat at a time.

    python -m experiments.timings.serving run=<run folder>

Each request is a chat about another problem of `validation`, at temperature 0.6, with the response length of training. All
start at the same moment. Prints the seconds until the server is ready, the seconds for all requests, the number of lost
answers, and p50 and p99 of the seconds of a request. One at a time: the first `alone` requests, scaled to all.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from rlvr.cli import ConfigError, command, option

TEMPERATURE = 0.6


@dataclass
class Options:
    run: Path = option("the run folder")
    requests: int = option("how many at once", 200, at_least=1)
    alone: int = option("how many one at a time", 20, at_least=1)


def measure(options: Options) -> None:
    from rlvr.data import protocols
    from rlvr.evaluate import evaluated_models

    run = evaluated_models.of_run(options.run, "last", None, None)
    (protocol,) = protocols.select("validation")
    problems = [example["question"] for example in protocols.load(protocol, None)[0]]
    chats = [[{"role": "user", "content": problems[i % len(problems)]}] for i in range(options.requests)]
    tokens = run.config["scale"]["max_response_tokens"]
    program = [sys.executable, "-m", "rlvr.serve", f"run={options.run}", "port=0", "base_too=false"]
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(program, stdout=log, stderr=log)
        try:
            url, model = _ready(process, log)
            ready_s = time.perf_counter() - started
            asyncio.run(_at_once(url, model, chats[:1], tokens))
            all_s, latencies = asyncio.run(_at_once(url, model, chats, tokens))
        finally:
            process.terminate()
            process.wait(30)
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    print(f"rlvr.serve: ready after {ready_s:.1f} s; {len(chats)} requests in {all_s:.2f} s, ", end="")
    print(f"{len(chats) - len(latencies)} lost; p50 {p50:.2f} s, p99 {p99:.2f} s", flush=True)
    path = run.models[max(run.models)]
    alone_s = _one_at_a_time(path, chats[: options.alone], tokens) * options.requests / options.alone
    print(f"transformers.generate, one at a time: {alone_s:.1f} s, {alone_s / all_s:.1f} times as long")


def _ready(process: subprocess.Popen, log: IO[str]) -> tuple[str, str]:
    """Wait until the server prints its URL and model, and return both. ConfigError if it ends before."""
    text = ""
    while process.poll() is None:
        log.seek(0)
        text = log.read()
        if found := re.search(r"serving ([^,\s]+).* at (http\S+)", text):
            return found[2], found[1]
        time.sleep(0.05)
    raise ConfigError(f"the server ended: {text[-500:]}")


async def _at_once(url: str, model: str, chats: list[list[dict]], tokens: int) -> tuple[float, list[float]]:
    """Seconds for all chats, and the seconds of each chat that was answered."""
    import openai

    async def one(seed: int, chat: list[dict]) -> float | None:
        try:
            started = time.perf_counter()
            settings = {"temperature": TEMPERATURE, "max_tokens": tokens, "seed": seed}
            answer = await client.chat.completions.create(model=model, messages=chat, **settings)
            return time.perf_counter() - started if answer.choices[0].message.content else None
        except openai.APIError:
            return None

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as client:
        started = time.perf_counter()
        latencies = await asyncio.gather(*(one(i, chat) for i, chat in enumerate(chats)))
    return time.perf_counter() - started, [latency for latency in latencies if latency is not None]


def _one_at_a_time(path: str, chats: list[list[dict]], tokens: int) -> float:
    """Seconds that transformers needs for these chats."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    started = time.perf_counter()
    for chat in chats:
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        model.generate(**ids, do_sample=True, temperature=TEMPERATURE, max_new_tokens=tokens)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
