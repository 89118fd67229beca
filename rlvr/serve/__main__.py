"""Serves a checkpoint of a run, and the model it began as, behind an OpenAI-compatible endpoint.

    python -m rlvr.serve run=runs/tiny/tiny/one_shot/seed0                  # the best checkpoint, http://127.0.0.1:8000
    python -m rlvr.serve run=<run folder> step=40 port=8080 base_too=false
    python -m rlvr.serve model=<exported folder> gate=off
    RLVR_API_KEY=... python -m rlvr.serve run=<run folder> host=0.0.0.0     # any host but this one needs a key
    python -m rlvr.serve run=<run folder> engine=vllm python=<vLLM's environment>/bin/python

`/v1/models`, `/v1/completions`, `/v1/chat/completions`: streaming, n, stop, stop_token_ids, seed, temperature (0: greedy),
top_p, top_k, logprobs, echo, max_tokens and max_completion_tokens. A field that would change the answer and is not
implemented is refused by its name. `GET /` asks both models side by side. Log-probabilities are those of
softmax(logits / temperature), as the trainer computes them.
Before it announces itself, the server asks the model problems whose answers the run has stored: when the model has lost more
of them than chance allows, it is not served (`gate=off` skips that).

Prompts are rendered with the run's own template, and an answer ends where evaluation ends it: at the template's stop texts,
besides those of a request. It is as long as in training unless a request says otherwise.
Requests wait while others are decoded and join the batch between two tokens; more than `queue` are answered 429.
"""

import sys

from rlvr.cli import ConfigError, command
from rlvr.serve.options import Options


def serve(options: Options) -> int:
    """Load and check the models, then answer requests until a signal; returns the exit code. ConfigError if they cannot be served."""
    if (options.run is None) == (options.model is None):
        raise ConfigError("give run=<run folder>, or model=<Hugging Face id or folder>")
    from rlvr.serve import http_server

    return http_server.run(options)


if __name__ == "__main__":
    sys.exit(command(Options, serve, __doc__))
