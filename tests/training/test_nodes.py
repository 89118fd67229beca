"""A run on a Ray cluster of two nodes, both on this machine. By hand, for it trains three times:

    NODES=2 pytest tests/training/test_nodes.py

Two data-parallel workers, one on each node. To pass: while it trains the second node is killed (its raylet, kill -9), and the
run ends with its cause within LIMIT_S; with the node back, the same command finishes it, each step exactly once; and its
metrics are those of two workers on one node. LIMIT_S: Ray misses a node after about 20 s, the watchdog gives the trainer's
own error 8 s. Tolerance: gloo adds the gradients of two processes in the same order on one node and on two.
"""

import secrets
import socket
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import ray

from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_lines, read_metrics

LIMIT_S = 60
SMALL = ["scale.benchmarks=[tiny500]", "+benchmarks.tiny500.limit=8", "scale.prompts_per_step=4", "variant=small"]
SMALL += ["scale.samples_per_prompt=4", "scale.steps=6", "scale.evaluate_every=6", "scale.save_every=2", "tracking=off"]
pytestmark = pytest.mark.on_request("NODES")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def cluster(monkeypatch):
    """The address of a head node, and what starts a second node and returns its process; all of it ended afterwards."""
    address = f"{ray.util.get_node_ip_address()}:{free_port()}"  # what Ray itself takes a loopback address for
    ip, port = address.split(":")
    started = []
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))

    def joined(nodes: int) -> None:
        status, deadline = (
            [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address={address}"],
            time.monotonic() + 180,
        )
        while subprocess.run(status, capture_output=True, text=True).stdout.count(" 1 node_") != nodes:
            assert time.monotonic() < deadline, f"not {nodes} nodes within 180 s"

    def second() -> psutil.Process:
        joined(1)  # a node that was killed is missed after some 20 s
        node = start(f"--address={address}")
        joined(2)
        return node

    def start(*arguments: str) -> psutil.Process:
        slots = ["--num-cpus=6", "--num-gpus=1", "--block"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *slots]
        started.append(
            psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        )
        return started[-1]

    start("--head", f"--node-ip-address={ip}", f"--port={port}", "--include-dashboard=false")
    try:
        joined(1)
        yield address, second
    finally:
        for process in started:
            for member in [*process.children(recursive=True), process] if process.is_running() else []:
                member.kill()


@pytest.mark.timeout(7200)
def test_two_nodes_train_as_one_and_a_lost_node_ends_the_run(cluster, tmp_path, request):
    address, second_node = cluster

    def train(runs_dir, *overrides):
        command = [sys.executable, "run.py", "+experiment=one_shot", *SMALL, f"runs_dir={runs_dir}", *overrides]
        with open(tmp_path / "output", "a") as output:
            return subprocess.Popen(command, cwd=request.config.rootpath, stdout=output, stderr=output)

    def said() -> list[str]:
        return (tmp_path / "output").read_text().splitlines()

    folder = RunFolder(tmp_path / "two" / "tiny" / "tiny" / "one_shot-small" / "seed0")
    on_two = ["hardware=cpu_two_workers", "hardware.nodes=2", "hardware.devices_per_node=1", f"ray.address={address}"]
    alone = train(tmp_path / "two", *on_two)
    assert alone.wait(600) == 1  # one node is not enough
    assert f"needs 2 devices on 2 node(s), the cluster at {address} has 1 in all" in said()[-2]
    node = second_node()
    driver = train(tmp_path / "two", *on_two)
    while folder.last_step() < 3 and driver.poll() is None:
        time.sleep(0.2)
    next(member for member in node.children(recursive=True) if member.name() == "raylet").kill()
    killed = time.monotonic()
    assert driver.wait(LIMIT_S) == 1, said()[-3:]
    print(f"second node: {time.monotonic() - killed:.0f} s from the kill to the end: {said()[-2]}")
    second_node()
    assert train(tmp_path / "two", *on_two).wait(3000) == 0, said()[-5:]
    assert [line["step"] for line in metrics_lines(folder.metrics_path)] == list(range(7))
    assert train(tmp_path / "one", "hardware=cpu_two_workers").wait(3000) == 0, said()[-5:]
    two, one = (
        read_metrics(RunFolder(tmp_path / place / "tiny" / "tiny" / "one_shot-small" / "seed0").metrics_path)
        for place in ("two", "one")
    )
    compared = [key for key in one if key.startswith(("train/", "eval/", "actor/"))]
    pd.testing.assert_frame_equal(two[compared], one[compared], rtol=1e-3, atol=1e-5)
