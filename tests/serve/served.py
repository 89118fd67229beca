"""A server for tests (uvicorn in a thread of this process), and a question to it."""

import asyncio
import socket
import threading
import time
from pathlib import Path

import uvicorn

import rlvr.tiny
from rlvr.serve import http_server
from rlvr.serve.api import Served, app

MODEL = Path(rlvr.tiny.__file__).parent / "model"
QUESTION = [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}]


def chat(client, **more):
    return client.chat.completions.create(**{"model": "tuned", "messages": QUESTION, "seed": 7, **more})


class Serving:
    """uvicorn in a thread of this process, for a `with` block."""

    def __init__(self, served: Served):
        self.served = served
        self.listening = http_server._listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.uvicorn = uvicorn.Server(uvicorn.Config(app(served), log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.uvicorn.serve([self.listening])))

    def __enter__(self):
        self.thread.start()
        while not self.uvicorn.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *exc_info):
        self.uvicorn.should_exit = True
        self.thread.join()
        self.listening.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listening.getsockname(), timeout=30)
