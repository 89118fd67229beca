"""One verl training worker inside the test process, and batches for it. Used by the tests of `rlvr.verl_cpu`."""

import os
import socket
from functools import cache

import torch
from omegaconf import OmegaConf
from tensordict import TensorDict

FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


@cache
def join_process_group() -> None:
    """Make this process a verl worker of its own world: CPU platform, rank 0 of 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "VERL_PLATFORM": "cpu",
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    from rlvr.verl_cpu import plugin

    plugin.register()


def make_worker(
    model_path,
    *,
    learning_rate=1e-4,
    weight_decay=0.01,
    forward_only=False,
    max_tokens=512,
    actor=None,
    model_type="language_model",
):
    """A `TrainingWorker` with verl's PPO loss; `actor` holds overrides of verl's actor config.

    model_type "value_model": a critic, whose loss is the caller's to set.
    """
    join_process_group()
    from functools import partial

    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import ActorConfig, HFModelConfig
    from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig
    from verl.workers.utils.losses import ppo_loss

    model = HFModelConfig(
        path=str(model_path),
        use_remove_padding=False,
        enable_gradient_checkpointing=False,
        override_config={"attn_implementation": "sdpa"},
    )
    config: ActorConfig = omega_conf_to_dataclass(
        OmegaConf.create(
            {
                "_target_": "verl.workers.config.FSDPActorConfig",
                "strategy": "fsdp2",
                "rollout_n": 1,
                "ppo_mini_batch_size": 1,
                "use_dynamic_bsz": True,
                "ppo_max_token_len_per_gpu": max_tokens,
                "use_torch_compile": False,
                "optim": {
                    "_target_": "verl.workers.config.FSDPOptimizerConfig",
                    "lr": learning_rate,
                    "weight_decay": weight_decay,
                    "total_training_steps": 100,
                },
                "fsdp_config": {
                    "_target_": "verl.workers.config.FSDPEngineConfig",
                    "strategy": "fsdp2",
                    "use_torch_compile": False,
                    "model_dtype": "fp32",
                    "mixed_precision": FP32,
                    "forward_only": forward_only,
                },
                **(actor or {}),
            }
        )
    )
    engine = config.fsdp_config
    engine.use_dynamic_bsz = True
    engine.max_token_len_per_gpu = engine.infer_max_token_len_per_gpu = max_tokens
    worker = TrainingWorker(
        TrainingWorkerConfig(
            model_type=model_type,
            model_config=model,
            engine_config=engine,
            optimizer_config=config.optim,
            checkpoint_config=config.checkpoint,
        )
    )
    worker.reset()
    config.model_config = model
    worker.set_loss_fn(partial(ppo_loss, config=config))
    return worker


def nested(rows) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.as_tensor(row) for row in rows], layout=torch.jagged)


def make_batch(prompts, responses, temperature=1.0, **columns) -> TensorDict:
    """A batch as verl's trainer hands it to a worker: jagged columns, and the options as non-tensor data."""
    from verl.utils import tensordict_utils as tu

    ids = [list(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
    mask = nested([[1] * len(r) for r in responses])
    data = {
        "prompts": nested(prompts),
        "responses": nested(responses),
        "input_ids": nested(ids),
        "position_ids": nested([list(range(len(row))) for row in ids]),
        "response_mask": mask,
        "loss_mask": mask,
        **{name: nested(rows) for name, rows in columns.items()},
    }
    return tu.get_tensordict(
        data,
        {"temperature": temperature, "global_batch_size": len(ids), "calculate_entropy": True, "compute_loss": False},
    )
