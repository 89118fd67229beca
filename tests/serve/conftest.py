"""A run of the shipped tiny model with one evaluated checkpoint, and it being served to real clients on loopback."""

import asyncio
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from served import MODEL, Serving

from rlvr.data import pools
from rlvr.evaluate import __main__ as evaluate_command
from rlvr.evaluate import evaluated_models as subjects
from rlvr.runs.folder import RunFolder
from rlvr.serve import http_server
from rlvr.serve.api import Served
from rlvr.serve.torch_backend import LocalBackend, LocalModel

GREEDY = {"dataset": "tiny500", "name": "greedy", "temperature": 0.0, "top_p": 1.0, "top_k": -1, "n": 1, "limit": 16}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Step 20 is the tiny model as it ships, evaluated on 16 problems; the base is the same model."""
    folder = RunFolder(tmp_path_factory.mktemp("served") / "one_shot" / "seed0")
    folder.data_dir.mkdir(parents=True)
    config = {
        "data_root": None, "seed": 0, "base_model": {"name": "tiny", "template": "chat"},
        "scale": {"name": "tiny", "max_response_tokens": 48, "benchmarks": [GREEDY]},
        "actor_rollout_ref": {"model": {"path": str(MODEL)}},
    }  # fmt: skip
    folder.config_path.write_text(yaml.safe_dump(config))
    shutil.copytree(MODEL, folder.weights_path(20))
    rows = pools.training_rows([{"index": 0, "prompt": "What is 3+4?", "answer": "7", "source": "own"}], 8)
    pq.write_table(pa.Table.from_pylist(rows), folder.data_dir / "train.parquet")
    assert (
        evaluate_command.main([f"run={folder.path}", "benchmarks.greedy.dataset=tiny500", "benchmarks.greedy.limit=16"])
        == 0
    )
    return folder


@pytest.fixture(scope="session")
def backend(run):
    """The checkpoint and the base, by name."""
    how = ("chat", 64, "cpu", "float32", 48)
    models = {"tuned": LocalModel(str(run.weights_path(20)), *how), "base": LocalModel(str(MODEL), *how)}
    backend = LocalBackend(models, queue=256)
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="session")
def about(run):
    subject = subjects.of_run(run.path, "20", None, None)
    return http_server.about(subject, {"tuned": 20, "base": 0})


@pytest.fixture(scope="session")
def serving(backend, about):
    with Serving(Served(backend, 0, about)) as running:
        yield running
