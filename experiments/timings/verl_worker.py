"""One verl training worker in this process, and batches for it. `gpu_parity` and tests use it."""

import os
import socket
from functools import cache, partial

import torch
from tensordict import TensorDict


@cache
def join_world() -> None:
    """Make this process rank 0 of 1 of torch.distributed, as verl expects; on a CPU unless VERL_PLATFORM is set."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    os.environ.setdefault("VERL_PLATFORM", "cpu")
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if os.environ["VERL_PLATFORM"] == "cpu":
        from rlvr.verl_torch import plugin

        plugin.register()


def start_worker(actor, model, model_type: str = "language_model"):
    """A `TrainingWorker` with verl's PPO loss. actor, model: verl's configurations.

    model_type: "value_model" for a critic; the caller then sets its loss.
    """
    from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig
    from verl.workers.utils.losses import ppo_loss

    engine = actor.engine
    engine.use_dynamic_bsz = True
    engine.max_token_len_per_gpu = engine.infer_max_token_len_per_gpu = actor.ppo_max_token_len_per_gpu
    actor.model_config = model
    configs = {"engine_config": engine, "optimizer_config": actor.optim, "checkpoint_config": actor.checkpoint}
    worker = TrainingWorker(TrainingWorkerConfig(model_type=model_type, model_config=model, **configs))
    worker.reset()
    worker.set_loss_fn(partial(ppo_loss, config=actor))
    return worker


def nested(rows) -> torch.Tensor:
    """Rows of unequal length as one jagged tensor."""
    return torch.nested.as_nested_tensor([torch.as_tensor(row) for row in rows], layout=torch.jagged)


def make_batch(prompts, responses, temperature=1.0, **columns) -> TensorDict:
    """A batch as verl's trainer sends it to a worker: jagged columns, and options as non-tensor data."""
    from verl.utils import tensordict_utils as tu

    ids = [list(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
    mask = [[1] * len(r) for r in responses]
    columns |= {"prompts": prompts, "responses": responses, "input_ids": ids, "response_mask": mask, "loss_mask": mask}
    columns["position_ids"] = [list(range(len(row))) for row in ids]
    options = {"global_batch_size": len(ids), "calculate_entropy": True, "compute_loss": False}
    jagged = {name: nested(rows) for name, rows in columns.items()}
    return tu.get_tensordict(jagged, options | {"temperature": temperature})
