"""A run of the shipped tiny model with one evaluated checkpoint, and it being served to real clients on loopback."""

import asyncio
import shutil

import openai
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from served import MODEL, Serving
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlvr.data import pools
from rlvr.evaluate import __main__ as evaluate_command
from rlvr.evaluate import evaluated_models
from rlvr.runs.folder import RunFolder
from rlvr.serve import http_server
from rlvr.serve.api import Served
from rlvr.serve.torch_backend import TorchBackend, TorchModel

GREEDY = {"dataset": "tiny500", "limit": 16}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Step 20 is the tiny model as it ships, evaluated on 16 problems; the base is the same model."""
    folder = RunFolder(tmp_path_factory.mktemp("served") / "one_shot" / "seed0")
    folder.data_dir.mkdir(parents=True)
    config = {
        "data_root": None, "seed": 0, "base_model": {"name": "tiny", "template": "chat"},
        "scale": {"name": "tiny", "max_response_tokens": 48, "benchmarks": ["greedy"]}, "benchmarks": {"greedy": GREEDY},
        "actor_rollout_ref": {"model": {"path": str(MODEL)}},
    }  # fmt: skip
    folder.config_path.write_text(yaml.safe_dump(config))
    shutil.copytree(MODEL, folder.weights_path(20))
    rows = pools.training_rows([{"index": 0, "prompt": "What is 3+4?", "answer": "7", "source": "own"}], 8)
    pq.write_table(pa.Table.from_pylist(rows), folder.data_dir / "train.parquet")
    for name, limit in (("greedy", 16), ("tried", 4)):  # the second is no benchmark of the run's report
        asked = [f"benchmarks.{name}.dataset=tiny500", f"benchmarks.{name}.limit={limit}"]
        assert evaluate_command.main([f"run={folder.path}", *asked]) == 0
    return folder


@pytest.fixture(scope="session")
def backend(run):
    """The checkpoint and the base, by name."""
    how = ("chat", 64, "cpu", "float32", 48)
    models = {"tuned": TorchModel(str(run.weights_path(20)), *how), "base": TorchModel(str(MODEL), *how)}
    backend = TorchBackend(models)
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="session")
def about(run):
    subject = evaluated_models.of_run(run.path, "20", None, None)
    return http_server.about(subject, {"tuned": 20, "base": 0})


@pytest.fixture(scope="session")
def serving(backend, about):
    with Serving(Served(backend, 0, about, queue=256)) as running:
        yield running


@pytest.fixture(scope="session")
def client(serving):
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def plain():
    """The model and its tokenizer, without any of our code."""
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(MODEL)
