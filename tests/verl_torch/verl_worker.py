"""A verl training worker inside the test process, with the settings that a test is about. Used by the tests of losses and engines."""

from omegaconf import OmegaConf

from experiments.timings.verl_worker import join_world, make_batch, nested, start_worker

__all__ = ["make_batch", "make_worker", "nested"]

FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


def make_worker(
    model_path,
    *,
    learning_rate=1e-4,
    weight_decay=0.01,
    forward_only=False,
    max_tokens=512,
    actor=None,
    model_type="language_model",
    model=None,
):
    """A `TrainingWorker` with verl's PPO loss; `actor` and `model` hold overrides of verl's configs of these names.

    model_type "value_model": a critic, whose loss is the caller's to set.
    """
    join_world()
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import ActorConfig, HFModelConfig

    model_config = HFModelConfig(
        path=str(model_path),
        use_remove_padding=False,
        enable_gradient_checkpointing=False,
        override_config={"attn_implementation": "sdpa"},
        **(model or {}),
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
    return start_worker(config, model_config, model_type)
