"""`vllm serve` as a subprocess for each model, behind the same requests, limits and errors as our own engine.

Each listens on loopback with a key of its own that nobody else is told. One that ends is not started again: the server then
ends with it. `python=` names the interpreter of an environment that has vLLM, where this one does not.

vLLM looks for stop texts in text without special tokens, so a stop text that is a special token is given by its id. The
sampling defaults in a model's generation config (a repetition penalty, for Qwen2.5's Instruct models) are left out: evaluation
has none of them. Its end tokens count all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from rlvr.cli import ConfigError
from rlvr.data.prompts import STOPS, chat_template
from rlvr.serve.api_requests import ApiError, ChatRequest, CompletionRequest
from rlvr.verl_torch import stop_texts

START_S = 900.0  # loading and compiling a large model takes minutes
STOP_S = 20.0
MEMORY = 0.9  # of the GPU, shared by the models
CPU_MEMORY = 0.3  # of main memory, shared by the models and by other programs
PLATFORM = "from vllm.platforms import current_platform; print(current_platform.device_type)"
PATHS = {True: "/v1/chat/completions", False: "/v1/completions"}


class VllmModel(NamedTuple):
    """A subprocess, a client that speaks to it, and the model's tokenizer."""

    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    tokenizer: Any


class VllmBackend:
    """Answers requests for the models by name."""

    def __init__(self, template: str, default: int | None):
        self.template, self.default = template, default
        self.models: dict[str, VllmModel] = {}
        self.files: list[str] = []  # with the template's text

    @classmethod
    async def start(
        cls, paths: dict[str, str], template: str, python: Path | None, dtype: str | None, default: int | None
    ) -> VllmBackend:
        """A backend that is ready. ConfigError if vLLM is missing, or ends before it answers."""
        program = str(python) if python else sys.executable
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        found = await asyncio.create_subprocess_exec(program, "-c", PLATFORM, stdout=pipe, stderr=nowhere)
        platform = (await found.communicate())[0].split()
        if found.returncode:
            raise ConfigError(
                f"engine=vllm: {program} has no vLLM: python=<interpreter of an environment with it>, or engine=torch"
            )
        backend = cls(template, default)
        on_cpu = platform[-1:] == [b"cpu"]  # vLLM's messages come before it
        memory, dtype = (CPU_MEMORY, dtype or "float32") if on_cpu else (MEMORY, dtype)
        options = {"gpu-memory-utilization": round(memory / len(paths), 3), "generation-config": "vllm"}
        options |= {"dtype": dtype} if dtype else {}
        # Compiling takes minutes on a CPU, for a model of any size.
        flags = ["--enforce-eager"] if on_cpu else []
        try:
            for name, path in paths.items():
                await backend._add(program, name, path, options, flags)
        except BaseException:
            await backend.close()
            raise
        return backend

    async def _add(self, program: str, name: str, path: str, shared: dict[str, Any], flags: list[str]) -> None:
        from transformers import AutoTokenizer

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = shared | {"host": "127.0.0.1", "port": port, "served-model-name": name}
        if (text := chat_template(self.template)) is not None:
            handle, file = tempfile.mkstemp(suffix=".jinja")
            os.write(handle, text.encode())
            os.close(handle)
            self.files.append(file)
            options["chat-template"] = file
        key, arguments = secrets.token_urlsafe(), [*(f"--{k}={v}" for k, v in options.items()), *flags]
        process = await asyncio.create_subprocess_exec(
            program, "-m", "vllm.entrypoints.cli.main", "serve", path, *arguments,
            env={**os.environ, "VLLM_API_KEY": key}, stdout=sys.stderr,
        )  # fmt: skip
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"},
                                   timeout=None, trust_env=False)  # fmt: skip
        self.models[name] = VllmModel(process, client, None)
        end = asyncio.get_running_loop().time() + START_S
        while process.returncode is None:
            with suppress(httpx.HTTPError):
                if (await client.get("/health", timeout=5)).is_success:
                    tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, path)
                    self.models[name] = VllmModel(process, client, tokenizer)
                    return
            if asyncio.get_running_loop().time() > end:
                raise ConfigError(f"engine=vllm: {path} was not ready after {START_S:.0f} s; its messages say why")
            await asyncio.sleep(0.2)
        raise ConfigError(
            f"engine=vllm: `vllm serve {path}` ended with code {process.returncode}; its messages above say why"
        )

    @property
    def healthy(self) -> bool:
        return all(model.process.returncode is None for model in self.models.values())

    async def close(self) -> None:
        for process, client, _ in self.models.values():
            await client.aclose()
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), STOP_S)
                except asyncio.TimeoutError:
                    process.kill()
                    await process.wait()
        for file in self.files:
            Path(file).unlink(missing_ok=True)

    async def answer(self, asked: ChatRequest | CompletionRequest) -> AsyncIterator[dict[str, Any]]:
        """vLLM's response, or the chunks of its stream. ApiError if it refuses the request or has ended."""
        path, body = PATHS[isinstance(asked, ChatRequest)], self._body(asked)
        try:
            async with self.models[asked.model].client.stream("POST", path, json=body) as response:
                if not response.is_success:
                    raise _error(response.status_code, await response.aread())
                if not asked.stream:
                    yield json.loads(await response.aread())
                    return
                left = b""
                async for part in response.aiter_bytes():
                    *events, left = (left + part).split(b"\n\n")
                    for data in (event.removeprefix(b"data: ") for event in events if event.startswith(b"data: ")):
                        if data == b"[DONE]":
                            continue
                        chunk = json.loads(data)
                        if "error" in chunk:
                            raise _error(500, data)
                        yield chunk
        except httpx.HTTPError as error:
            raise ApiError(502, f"vLLM does not answer ({type(error).__name__})", None, "backend_down") from None

    def _body(self, asked: ChatRequest | CompletionRequest) -> dict[str, Any]:
        """The request for vLLM: messages as plain text, with the limit of tokens and all stop texts written out."""
        tokenizer = self.models[asked.model].tokenizer
        body = asked.model_dump(exclude_none=True, exclude_unset=True)
        if isinstance(asked, ChatRequest):
            body["messages"] = [message.plain for message in asked.messages]
        if asked.limit is None and self.default is not None:
            body["max_tokens"] = self.default
        stops = list(dict.fromkeys([*STOPS.get(self.template, ()), *(asked.stop or [])]))
        if not stops:
            return body
        if stop_texts.special_tokens(tokenizer, stops):
            raise ApiError(400, "stop: engine=vllm takes a special token only as a stop text of its own", "stop")
        special = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        ids = [special[stop] for stop in stops if stop in special]
        texts = {"stop": [stop for stop in stops if stop not in special]}
        return body | texts | {"stop_token_ids": [*(asked.stop_token_ids or []), *ids]}


def _error(status: int, body: bytes) -> ApiError:
    """vLLM's error as an ApiError; the message is at the top level or below `error`."""
    try:
        said = json.loads(body)
        said = said.get("error", said)
        code = str(said["code"]) if said.get("code") else None
        return ApiError(status, str(said["message"]), said.get("param"), code)
    except (ValueError, KeyError, AttributeError):
        return ApiError(status, body.decode(errors="replace")[:500] or "vLLM gave no reason")
