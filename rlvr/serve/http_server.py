"""From the command's options to a running server: models, key, score gate, start message."""

import asyncio
import json
import os
import resource
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

from rlvr.cli import ConfigError
from rlvr.data import protocols
from rlvr.data.own_examples import trained_on
from rlvr.evaluate import evaluated_models
from rlvr.evaluate.evaluated_models import EvaluatedModels
from rlvr.runs import evaluations
from rlvr.serve.api import LOOPBACK, Backend, Served, app
from rlvr.serve.options import Options
from rlvr.serve.score_gate import Gate, gate_of

KEY = "RLVR_API_KEY"
FILES = 8192  # the limit of open files to request; each connection is one


def run(options: Options) -> int:
    """Serve until a signal; returns the exit code."""
    key = read_key(options.key_file)
    if options.host not in LOOPBACK and key is None:
        raise ConfigError(
            f"host={options.host}: everyone who reaches this address could use the server; set {KEY}, or give key_file=<file>"
        )
    with _listen(options.host, options.port) as listening:
        subject, names = _subject(options)
        root = str(options.data_root) if options.data_root else None
        gate = gate_of(subject, options.gate_problems, root) if options.gate == "on" else None
        try:
            return asyncio.run(_serve(options, subject, names, key, gate, listening))
        except asyncio.CancelledError:  # SIGTERM before it was ready
            return 128 + signal.SIGTERM


def read_key(file: Path | None) -> str | None:
    """The key from the file, else from the environment; None without a key. ConfigError for a key that a request cannot contain."""
    where, key = KEY, os.environ.get(KEY)
    if file is not None:
        where = f"key_file={file}"
        try:
            key = file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"{where}: cannot be read ({error.strerror})") from None
    if key is not None and (len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key):
        raise ConfigError(f"{where}: expected a key of at least 8 printable ASCII characters without spaces")
    return key


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address before anything is loaded. ConfigError if the address is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        said = getattr(error, "strerror", None) or error
        raise ConfigError(f"host={host} port={port}: cannot listen there ({said}); give another, or port=0") from None
    return listening


def _subject(options: Options) -> tuple[EvaluatedModels, dict[str, int]]:
    """The models to serve, and the step of each by its name."""
    if options.model is not None:
        subject = evaluated_models.of_model(options.model, Path(), options.template)
        return subject, {options.name or Path(options.model).name: 0}
    subject = evaluated_models.of_run(Path(str(options.run)), options.step, options.base, options.template)
    step = max(subject.models)
    if step == 0 and options.step not in ("0", "[0]"):
        raise ConfigError(f"run={options.run}: keeps no checkpoint; step=0 serves its base model")
    if len(subject.models) > 2:
        raise ConfigError(f"step={options.step}: expected best, last or one number")
    name = options.name or f"{subject.folder.path.resolve().parent.name}-step{step}"
    names = {name: step} if step else {options.name or "base": 0}
    if step and options.base_too:
        names["base"] = 0
    return subject, names


class _Server(uvicorn.Server):
    """Print the start message and serve until a signal, or until the backend has ended: a dead backend is not replaced silently."""

    def __init__(self, config: uvicorn.Config, backend: Backend, announcement: Callable[[], str]):
        super().__init__(config)
        self.backend, self.announcement = backend, announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.announcement(), flush=True)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or not self.backend.healthy

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handler raises the signal again, which would leave no time to stop the backend."""
        for sent in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sent, self.handle_exit, sent, None)
        yield


async def _serve(
    options: Options,
    subject: EvaluatedModels,
    names: dict[str, int],
    key: str | None,
    gate: Gate | None,
    listening: socket.socket,
) -> int:
    started, model = time.monotonic(), next(iter(names))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    _raise_file_limit()
    backend = await _backend(options, subject, names)
    try:
        if gate is not None:
            outcome = await gate.check(backend, model, min(64, options.queue))
            print(f"gate: {outcome}", flush=True)
            if not outcome.open:
                raise ConfigError(
                    "the served model does not reach its reported score: the weights, the template or the engine differ "
                    "from what was evaluated; gate=off serves it all the same"
                )
        limits = (options.body_bytes, options.seconds, options.queue)
        hosts = LOOPBACK if options.host in LOOPBACK else None
        served = Served(backend, int(time.time()), about(subject, names), key, hosts, *limits)
        config = uvicorn.Config(
            app(served), log_level="warning", lifespan="off", timeout_graceful_shutdown=5, timeout_keep_alive=60,
            backlog=1024, server_header=False, date_header=False,
        )  # fmt: skip

        def announcement() -> str:
            ready = f"(ready after {time.monotonic() - started:.1f} s); Ctrl-C ends it"
            url = _url(options.host, listening.getsockname()[1])
            return f"serving {', '.join(names)} at {url} {ready}\n\n{_examples(url, model, key is not None)}"

        await _Server(config, backend, announcement).serve(sockets=[listening])
        if not backend.healthy:
            raise ConfigError(f"engine={options.engine}: ended while it served; its messages above say why")
    finally:
        await backend.close()
    return 0


async def _backend(options: Options, subject: EvaluatedModels, names: dict[str, int]) -> Backend:
    paths = {name: subject.models[step] for name, step in names.items()}
    default = subject.config["scale"]["max_response_tokens"] if subject.config else None
    if options.engine == "vllm":
        from rlvr.serve.vllm_backend import VllmBackend

        return await VllmBackend.start(paths, subject.template, options.python, options.dtype, default)
    from rlvr.serve.torch_backend import TorchBackend, TorchModel

    how = (subject.template, options.rows, options.device, options.dtype, default)
    return TorchBackend({name: TorchModel(path, *how) for name, path in paths.items()})


def _url(host: str, port: int) -> str:
    shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def _examples(url: str, model: str, keyed: bool) -> str:
    """Example requests for curl and the openai client."""
    messages = [{"role": "user", "content": "What is 17 * 3?"}]
    header = f' -H "Authorization: Bearer ${KEY}"' if keyed else ""
    return f"""\
curl {url}/v1/chat/completions -H "Content-Type: application/json"{header} -d {shlex.quote(json.dumps({"model": model, "messages": messages}))}

{"import os" + chr(10) if keyed else ""}from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key={f'os.environ["{KEY}"]' if keyed else '"none"'})
messages = {json.dumps(messages)}
print(client.chat.completions.create(model="{model}", messages=messages).choices[0].message.content)"""


def about(subject: EvaluatedModels, names: dict[str, int]) -> dict[str, Any]:
    """The data of the web page: each model's evaluated accuracy, and the training examples."""
    if not subject.config:
        return {}
    benchmarks = protocols.reported_names(subject.config)
    scores = {}
    for name, step in names.items():
        found = evaluations.scores(subject.folder, step, benchmarks).items()
        lines = [f"{benchmark} {one.accuracy * 100:.1f} % of {one.problems} problems" for benchmark, one in found]
        scores[name] = ", ".join(lines)
    return {"scores": scores, "examples": trained_on(subject.folder)}


def _raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (FILES if most < 0 else min(FILES, most), most)
        )  # below 0: without limit
