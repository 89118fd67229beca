"""The rollout where it is not on a CPU: bf16 weights, rows that fit a GPU, and a server on the trainer's GPU. No GPU is needed."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Qwen2Config

from experiments.timings import apart
from rlvr.config.compose import compose
from rlvr.verl_torch.generation import rows_in_memory
from rlvr.verl_torch.rollout_server import TorchServer, to_array

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"


def test_a_server_in_bfloat16_gets_the_weights_rounded_once():
    rollout = TorchServer(str(MODEL), False, response_length=8, max_rows=8, seed=0, dtype="bfloat16")
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(old.shape, generator=generator) for name, old in rollout.parameters.items()}
    sent = {name: to_array(weight, "bfloat16") for name, weight in weights.items()}
    assert {array.dtype.itemsize for array in sent.values()} == {2}, "half of what float32 takes"
    asyncio.run(rollout.update_weights(sent, global_steps=1))
    tied = {"lm_head.weight"}  # with the embeddings: the later of the two stays
    for name in weights.keys() - tied - {"model.embed_tokens.weight"}:
        assert torch.equal(rollout.parameters[name], weights[name].bfloat16()), name
    [(tokens, log_probs, _, versions)] = asyncio.run(
        rollout.generate_many([[5, 6, 7]], [{"temperature": 0, "max_tokens": 4, "ignore_eos": True}])
    )
    assert (len(tokens), len(log_probs), versions) == (4, 4, (1, 1))


def test_what_is_sent_in_float32_is_the_weight_itself():
    weight = torch.randn(3, 5)
    assert torch.equal(torch.from_numpy(to_array(weight, "float32")), weight)


def test_rows_that_fit_into_memory():
    qwen = Qwen2Config(hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2)
    row = 28 * 2 * 128 * 2 * 2 * 4096  # layers, heads, dimensions, key and value, bf16, tokens: 112 MiB
    assert rows_in_memory(qwen, 4096, 2, 30 * row) == 20
    assert rows_in_memory(qwen, 2048, 2, 30 * row) == 40
    assert rows_in_memory(AutoConfig.from_pretrained(MODEL), 512, 2, 0) == 1


def _seen_beside() -> list[tuple[str, str, bool]]:
    """For two workers with a GPU each: the worker's, what an actor beside it sees, and whether they share a node."""
    import os

    import ray

    from rlvr.verl_torch.rollout import beside

    class Worker:
        def node(self) -> str:
            return ray.get_runtime_context().get_node_id()

        def accelerator(self) -> str:
            return ray.get_runtime_context().get_accelerator_ids()["GPU"][0]

        def sees(self) -> str:
            return os.environ["CUDA_VISIBLE_DEVICES"]

    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    actor, found = ray.remote(Worker), []
    workers = [actor.options(num_gpus=1).remote() for _ in range(2)]
    for worker in workers:
        server = actor.options(num_cpus=0, **asyncio.run(beside(worker))).remote()
        seen = ray.get([worker.accelerator.remote(), server.sees.remote()])
        found.append((*seen, ray.get(worker.node.remote()) == ray.get(server.node.remote())))
    ray.shutdown()
    return found


def test_a_server_sees_its_trainers_gpu():
    """Ray would hide all GPUs from an actor that asks for none; logical GPUs, no card is touched."""
    found = apart(_seen_beside, VERL_PLATFORM="nvidia", RAY_AUTH_MODE="disabled", CUDA_VISIBLE_DEVICES="3,5")
    assert sorted(found) == [("3", "3", True), ("5", "5", True)]


def test_without_vllm_the_torch_engine_is_named(monkeypatch):
    from rlvr.cli import ConfigError
    from rlvr.planning import machine
    from rlvr.planning.plan import plan
    from rlvr.training.ray_cluster import ray_environment

    monkeypatch.setattr(machine, "count_gpus", lambda: 1)
    monkeypatch.setattr(machine, "gpu_memory_gib", lambda: 80.0)
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == "vllm" else name)
    slots = "ray_kwargs.ray_init.num_cpus=64"
    with pytest.raises(ConfigError, match="vLLM is not installed.*hardware=one_gpu_torch"):
        machine.check_machine(plan(compose("+experiment=one_shot", "hardware=one_gpu", slots)).devices)
    cfg = compose("+experiment=one_shot", "hardware=one_gpu_torch", slots)
    machine.check_machine(plan(cfg).devices)
    monkeypatch.setattr("rlvr.training.ray_cluster.wandb_id", lambda folder: "id")
    folder = type("Folder", (), {"path": Path("run")})
    assert ray_environment(cfg, folder, "tmp")["VERL_USE_EXTERNAL_MODULES"] == "rlvr.verl_torch.rollout"
