"""`vllm serve` as a subprocess for each model, behind the same requests, limits and errors as our own engine.

Each listens on loopback with a key of its own that nobody else is told. One that ends is not started again: the server then
ends with it. `python=` names the interpreter of an environment that has vLLM, where this one does not.
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
from typing import Any

import httpx

from rlvr.cli import ConfigError
from rlvr.data.prompts import chat_template
from rlvr.serve.api_requests import ChatRequest, CompletionRequest, Problem

START_S = 900.0  # loading and compiling a large model takes minutes
STOP_S = 20.0
MEMORY = 0.9  # of the GPU, shared by the models
CPU_MEMORY = 0.3  # of main memory, likewise, which is not vLLM's alone
PLATFORM = "from vllm.platforms import current_platform; print(current_platform.device_type)"
PATHS = {True: "/v1/chat/completions", False: "/v1/completions"}


class VllmBackend:
    """Answers requests for the models by name: each a subprocess, and a client that speaks to it."""

    def __init__(self, queue: int, default: int | None):
        self.queue, self.default, self.active = queue, default, 0
        self.models: dict[str, tuple[asyncio.subprocess.Process, httpx.AsyncClient]] = {}
        self.templates: list[str] = []

    @classmethod
    async def start(
        cls,
        paths: dict[str, str],
        template: str,
        python: Path | None,
        dtype: str | None,
        queue: int,
        default: int | None,
    ) -> VllmBackend:
        """One that is ready. ConfigError when vLLM is not there, or ends before it answers."""
        program = str(python) if python else sys.executable
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        found = await asyncio.create_subprocess_exec(program, "-c", PLATFORM, stdout=pipe, stderr=nowhere)
        platform = (await found.communicate())[0].split()
        if found.returncode:
            raise ConfigError(
                f"engine=vllm: {program} has no vLLM: python=<interpreter of an environment with it>, or engine=torch"
            )
        backend = cls(queue, default)
        on_cpu = platform[-1:] == [b"cpu"]  # vLLM's messages come before it
        memory, dtype = (CPU_MEMORY, dtype or "float32") if on_cpu else (MEMORY, dtype)
        # Compiling takes minutes on a CPU, for a model of any size.
        flags = ["--enforce-eager"] if on_cpu else []
        try:
            for name, path in paths.items():
                await backend._add(program, name, path, template, dtype, memory / len(paths), flags)
        except BaseException:
            await backend.close()
            raise
        return backend

    async def _add(
        self, program: str, name: str, path: str, template: str, dtype: str | None, memory: float, flags: list[str]
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = {
            "host": "127.0.0.1",
            "port": port,
            "served-model-name": name,
            "gpu-memory-utilization": round(memory, 3),
        }
        if (text := chat_template(template)) is not None:
            handle, file = tempfile.mkstemp(suffix=".jinja")
            os.write(handle, text.encode())
            os.close(handle)
            self.templates.append(file)
            options["chat-template"] = file
        if dtype:
            options["dtype"] = dtype
        key, arguments = secrets.token_urlsafe(), [*(f"--{k}={v}" for k, v in options.items()), *flags]
        process = await asyncio.create_subprocess_exec(
            program, "-m", "vllm.entrypoints.cli.main", "serve", path, *arguments,
            env={**os.environ, "VLLM_API_KEY": key}, stdout=sys.stderr,
        )  # fmt: skip
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"},
                                   timeout=None, trust_env=False)  # fmt: skip
        self.models[name] = process, client
        end = asyncio.get_running_loop().time() + START_S
        while process.returncode is None:
            with suppress(httpx.HTTPError):
                if (await client.get("/health", timeout=5)).is_success:
                    return
            if asyncio.get_running_loop().time() > end:
                raise ConfigError(
                    f"engine=vllm: {path} was not ready after {START_S:.0f} s; its messages above say why"
                )
            await asyncio.sleep(0.2)
        raise ConfigError(
            f"engine=vllm: `vllm serve {path}` ended with code {process.returncode}; its messages above say why"
        )

    @property
    def healthy(self) -> bool:
        return all(process.returncode is None for process, _ in self.models.values())

    async def close(self) -> None:
        for process, client in self.models.values():
            await client.aclose()
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), STOP_S)
                except asyncio.TimeoutError:
                    process.kill()
                    await process.wait()
        for file in self.templates:
            Path(file).unlink(missing_ok=True)

    async def answer(self, asked: ChatRequest | CompletionRequest) -> AsyncIterator[dict[str, Any]]:
        """vLLM's response, or the chunks of its stream. Problem for what it refuses, and when it has ended."""
        prompts = len(asked.prompts) if isinstance(asked, CompletionRequest) else 1
        count = prompts * asked.choices
        if self.active + count > self.queue:
            raise Problem(
                429, f"{self.active} answers are under way, no room for {count} more: try again", None, "queue_full"
            )
        _, client = self.models[asked.model]
        body = asked.model_dump(exclude_none=True, exclude_unset=True)
        if asked.limit is None and self.default is not None:
            body["max_tokens"] = self.default
        self.active += count
        try:
            async with client.stream("POST", PATHS[isinstance(asked, ChatRequest)], json=body) as response:
                if not response.is_success:
                    raise _problem(response.status_code, await response.aread())
                if not asked.stream:
                    yield json.loads(await response.aread())
                    return
                async for line in response.aiter_lines():
                    data = line.removeprefix("data: ")
                    if line.startswith("data: ") and data != "[DONE]":
                        chunk = json.loads(data)
                        if "error" in chunk:
                            raise _problem(500, data.encode())
                        yield chunk
        except httpx.HTTPError as error:
            raise Problem(502, f"vLLM does not answer ({type(error).__name__})", None, "backend_down") from None
        finally:
            self.active -= count


def _problem(status: int, body: bytes) -> Problem:
    """vLLM's error in our shape; it has the message at the top or below `error`."""
    try:
        said = json.loads(body)
        said = said.get("error", said)
        return Problem(status, str(said["message"]), said.get("param"), str(said["code"]) if said.get("code") else None)
    except (ValueError, KeyError, AttributeError):
        return Problem(status, body.decode(errors="replace")[:500] or "vLLM gave no reason")
