"""The vLLM backend against a program that stands in for `vllm serve`: same options, same endpoints."""

import json
import os
import signal
import stat
import sys
import time

import httpx
import pytest
from served import MODEL, Serving

from rlvr.cli import ConfigError
from rlvr.data.prompts import TEMPLATES
from rlvr.serve.api import Served
from rlvr.serve.api_requests import ApiError, parse_request
from rlvr.serve.vllm_backend import VllmBackend

PROGRAM = '''#!{python}
"""As an interpreter: `-c` tells vLLM's platform, `-m vllm.entrypoints.cli.main serve` answers what it was asked."""
import http.server, json, os, sys
if sys.argv[1] == "-c":
    print("INFO a message of vLLM's\\n{platform}")
    sys.exit()
assert sys.argv[2:4] == ["vllm.entrypoints.cli.main", "serve"]
if sys.argv[4] == "broken":
    sys.exit(3)
given = dict(argument[2:].partition("=")[::2] for argument in sys.argv[5:])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        if body.get("top_k") == 7:
            self.send_response(400); self.end_headers()
            self.wfile.write(json.dumps({{"error": {{"message": "vLLM says no", "param": "top_k", "code": 400}}}}).encode())
            return
        self.send_response(200); self.end_headers()
        about = {{"asked": body, "path": self.path, "template": open(given["chat-template"]).read(), "given": given}}
        if body.get("stream"):
            self.wfile.write(b"data: " + json.dumps(about).encode() + b"\\n\\ndata: [DONE]\\n\\n")
        else:
            self.wfile.write(json.dumps(about).encode())

http.server.ThreadingHTTPServer((given["host"], int(given["port"])), Handler).serve_forever()
'''


def program(path, platform):
    path.write_text(PROGRAM.format(python=sys.executable, platform=platform))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def python(tmp_path):
    return program(tmp_path / "python", "cuda")


@pytest.mark.timeout(120)
def test_requests_reach_vllm_and_its_end_ends_the_server(python):
    import asyncio

    loop = asyncio.new_event_loop()
    backend = loop.run_until_complete(VllmBackend.start({"tuned": str(MODEL)}, "none", python, None, 48))
    process = backend.models["tuned"][0]
    with Serving(Served(backend, 0)) as serving:
        url = f"{serving.url}/v1/chat/completions"
        body = {"model": "tuned", "messages": [{"role": "user", "content": "x"}], "seed": 3}
        whole = httpx.post(url, json=body, timeout=60).json()
        assert whole["asked"] == body | {"max_tokens": 48} and whole["path"] == "/v1/chat/completions"
        assert whole["template"] == TEMPLATES["none"] and whole["given"]["generation-config"] == "vllm"
        streamed = httpx.post(url, json=body | {"stream": True}, timeout=60).text
        assert streamed.startswith("data: {") and streamed.endswith("data: [DONE]\n\n") and streamed.count("data:") == 2
        refused = httpx.post(url, json=body | {"top_k": 7}, timeout=60)
        assert refused.status_code == 400 and refused.json()["error"]["message"] == "vLLM says no"
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.1)
        down = httpx.post(url, json=body, timeout=60)
        assert down.status_code == 502 and down.json()["error"]["code"] == "backend_down"
    loop.run_until_complete(process.wait())
    assert not backend.healthy and not serving.served.active
    loop.run_until_complete(backend.close())
    loop.close()


def test_vllm_is_told_where_an_answer_ends_and_gets_plain_messages(python):
    """The template's stop texts and the request's; one that is a special token by its id."""
    import asyncio

    async def asked(*bodies):
        backend = await VllmBackend.start({"tuned": str(MODEL)}, "qwen25-math-cot", python, None, 48)
        try:
            requests = [parse_request("chat", json.dumps(body).encode()) for body in bodies]
            return [(await anext(backend.answer(request)))["asked"] for request in requests]
        finally:
            await backend.close()

    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    body = {"model": "tuned", "messages": [{"role": "developer", "content": [part]}], "store": False}
    plain, more = asyncio.run(asked(body, body | {"stop": ["\n\n", "<|pad|>"], "stop_token_ids": [7], "max_tokens": 5}))
    expected = {"model": "tuned", "messages": [{"role": "system", "content": "x"}], "max_tokens": 48}
    assert plain == expected | {"stop": ["</s>", "<|im_end|>"], "stop_token_ids": [0]}
    assert more == expected | {
        "stop": ["</s>", "<|im_end|>", "\n\n"], "stop_token_ids": [7, 0, 1], "max_tokens": 5
    }  # fmt: skip
    with pytest.raises(ApiError, match="a special token only as a stop text of its own"):
        asyncio.run(asked(body | {"stop": "x<|pad|>"}))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("platform", "asked", "expected"),
    [
        ("cuda", None, {"gpu-memory-utilization": "0.45"}),
        ("cpu", None, {"gpu-memory-utilization": "0.15", "enforce-eager": "", "dtype": "float32"}),
        ("cpu", "bfloat16", {"gpu-memory-utilization": "0.15", "enforce-eager": "", "dtype": "bfloat16"}),
    ],
)
def test_a_cpu_has_float32_eagerly_and_a_smaller_share_of_the_memory(platform, asked, expected, tmp_path):
    import asyncio

    async def given():
        paths = {"tuned": str(MODEL), "base": str(MODEL)}
        backend = await VllmBackend.start(paths, "none", program(tmp_path / "python", platform), asked, 48)
        try:
            body = {"model": "base", "messages": [{"role": "user", "content": "x"}]}
            return (await backend.models["base"][1].post("/v1/chat/completions", json=body)).json()["given"]
        finally:
            await backend.close()

    options = asyncio.run(given())
    assert {k: v for k, v in options.items() if k in ("gpu-memory-utilization", "enforce-eager", "dtype")} == expected


def test_what_does_not_start_is_named(python):
    import asyncio

    with pytest.raises(ConfigError, match="`vllm serve broken` ended with code 3"):
        asyncio.run(VllmBackend.start({"tuned": "broken"}, "chat", python, None, None))
