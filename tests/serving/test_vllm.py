"""The vLLM backend against a program that stands in for `vllm serve`: same options, same endpoints."""

import os
import signal
import stat
import sys
import time

import httpx
import pytest
from served import Serving

from rlvr.cli import ConfigError
from rlvr.serving.api import Served
from rlvr.serving.vllm import VllmBackend

PROGRAM = '''#!{python}
"""As an interpreter: `-c "import vllm"` succeeds, `-m vllm.entrypoints.cli.main serve` answers what it was asked."""
import http.server, json, os, sys
if sys.argv[1] == "-c":
    sys.exit()
assert sys.argv[2:4] == ["vllm.entrypoints.cli.main", "serve"]
if sys.argv[4] == "broken":
    sys.exit(3)
given = dict(argument[2:].split("=", 1) for argument in sys.argv[5:])

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
        about = {{"asked": body, "path": self.path, "template": open(given["chat-template"]).read()}}
        if body.get("stream"):
            self.wfile.write(b"data: " + json.dumps(about).encode() + b"\\n\\ndata: [DONE]\\n\\n")
        else:
            self.wfile.write(json.dumps(about).encode())

http.server.ThreadingHTTPServer((given["host"], int(given["port"])), Handler).serve_forever()
'''


@pytest.fixture
def python(tmp_path):
    file = tmp_path / "python"
    file.write_text(PROGRAM.format(python=sys.executable))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.mark.timeout(120)
def test_requests_reach_vllm_and_its_end_ends_the_server(python):
    import asyncio

    loop = asyncio.new_event_loop()
    backend = loop.run_until_complete(VllmBackend.start({"tuned": "path"}, "none", python, None, 8, 48))
    process = backend.models["tuned"][0]
    with Serving(Served(backend, 0)) as serving:
        url = f"{serving.url}/v1/chat/completions"
        body = {"model": "tuned", "messages": [{"role": "user", "content": "x"}], "seed": 3}
        whole = httpx.post(url, json=body, timeout=60).json()
        assert whole["asked"] == body | {"max_tokens": 48} and whole["path"] == "/v1/chat/completions"
        assert "message['content']" in whole["template"]
        streamed = httpx.post(url, json=body | {"stream": True}, timeout=60).text
        assert streamed.startswith("data: {") and streamed.endswith("data: [DONE]\n\n") and streamed.count("data:") == 2
        refused = httpx.post(url, json=body | {"top_k": 7}, timeout=60)
        assert refused.status_code == 400 and refused.json()["error"]["message"] == "vLLM says no"
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.1)
        down = httpx.post(url, json=body, timeout=60)
        assert down.status_code == 502 and down.json()["error"]["code"] == "backend_down"
    loop.run_until_complete(process.wait())
    assert not backend.healthy and not backend.active
    loop.run_until_complete(backend.close())
    loop.close()


def test_what_does_not_start_is_named(python):
    import asyncio

    with pytest.raises(ConfigError, match="`vllm serve broken` ended with code 3"):
        asyncio.run(VllmBackend.start({"tuned": "broken"}, "chat", python, None, 8, None))
