"""Serves a checkpoint of a run, and the model it began as, behind an OpenAI-compatible endpoint.

    python -m rlvr.serve run=runs/tiny/tiny/one_shot/seed0                  # the best checkpoint, http://127.0.0.1:8000
    python -m rlvr.serve run=<run folder> step=40 port=8080 base_too=false
    python -m rlvr.serve model=<exported folder> gate=off
    RLVR_API_KEY=... python -m rlvr.serve run=<run folder> host=0.0.0.0     # any host but this one needs a key
    python -m rlvr.serve run=<run folder> engine=vllm python=<vLLM's environment>/bin/python

`/v1/models`, `/v1/completions`, `/v1/chat/completions`: streaming, n, stop, stop_token_ids, seed, temperature (0: greedy),
top_p, top_k, logprobs, max_tokens and max_completion_tokens; what else would change an answer is refused. `GET /` asks both
models side by side. Log-probabilities are those of softmax(logits / temperature), as the trainer computes them.
Before it announces itself, the served model is asked problems whose answers the run has stored: when it has lost more of
them than chance allows, it is not served (`gate=off` skips that).

Prompts are rendered with the run's own template. An answer is as long as in training unless a request says otherwise.
Requests wait while others are decoded and join the batch between two tokens; more than `queue` are answered 429.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlvr.cli import ConfigError, command, option


@dataclass
class Options:
    run: Path | None = option("the run folder", None)
    model: str | None = option("instead of a run: a Hugging Face id or folder", None)
    step: str = option("which checkpoint: best, last, or its number; 0 is the base model", "best")
    name: str | None = option("what the model is called; default: the run's and the step", None)
    base_too: bool = option("serve the untrained model as `base` beside it", True)
    base: str | None = option("the untrained model, where it has moved since the run", None)
    template: str | None = option("prompt template; default: the run's own, for a model chat", None)
    host: str = option("address to listen at", "127.0.0.1")
    port: int = option("0: any that is free", 8000, at_least=0)
    key_file: Path | None = option("a file with the key that requests must give; default: $RLVR_API_KEY", None)
    gate: Literal["on", "off"] = option("hold the model to its reported score before serving it", "on")
    gate_problems: int = option("how many problems that takes", 64, at_least=1)
    engine: Literal["torch", "vllm"] = option("what answers", "torch")
    python: Path | None = option("of engine=vllm: the interpreter of an environment that has it", None)
    device: Literal["cpu", "cuda"] | None = option("of engine=torch; default: a GPU where there is one", None)
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(
        "default: float32 on a CPU, bfloat16 on a GPU", None
    )
    rows: int = option("answers decoded at once, on each core (engine=torch)", 128, at_least=1)
    queue: int = option("answers that may be waiting or under way", 1024, at_least=1)
    seconds: float = option("that a request may take, waiting included", 300.0, at_least=0.1)
    body_bytes: int = option("that a request may have", 1_000_000, at_least=1)
    data_root: Path | None = option("folder with the benchmarks' files, for the gate; default: the run's", None)


def serve(options: Options) -> int:
    """Load, check, announce, answer until a signal; returns the exit code. ConfigError for what cannot be served."""
    if (options.run is None) == (options.model is None):
        raise ConfigError("give run=<run folder>, or model=<Hugging Face id or folder>")
    from rlvr.serve import http_server

    return http_server.run(options)


if __name__ == "__main__":
    sys.exit(command(Options, serve, __doc__))
