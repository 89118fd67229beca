"""Private names of verl, Ray, torch and transformers that this project uses, and what it expects of each.

If a method that we override or replace gets another name in a new version, ours would silently not be called. So each module
that overrides one calls `check` when it is loaded. A test checks all names, and that none is missing here.
"""

import importlib
import inspect
import re
from typing import NamedTuple

REPLAY = "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer"
TRAINER = "verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync"
ENGINE = "verl.workers.engine.fsdp.transformer_impl:FSDPEngineWithLMHead"
VALUE_ENGINE = "verl.workers.engine.fsdp.transformer_impl:FSDPEngineWithValueHead"
ENGINES_MODULE = "verl.workers.engine.fsdp.transformer_impl"
LOOP = "verl.experimental.agent_loop.agent_loop:AgentLoopBase"
SINGLE_TURN = "verl.experimental.agent_loop.single_turn_agent_loop:SingleTurnAgentLoop"
REPLICA = "verl.workers.rollout.replica:RolloutReplica"


class Name(NamedTuple):
    """takes: the parameters of a function that we use; its other parameters must have defaults."""

    user: str  # the module of rlvr that uses it
    where: str  # "module" or "module:Class"
    name: str
    takes: str | None
    why: str


OVERRIDDEN = (
    Name("training.replay_buffer", REPLAY, "_sync_metadata_from_transfer_queue", "", "failed groups end the run"),
    Name("training.trainer", TRAINER, "_load_checkpoint", "", "opens metrics.jsonl at the resumed step"),
    Name("training.trainer", TRAINER, "_submit_batch_to_rollout", "batch", "times the rollout"),
    Name("training.trainer", TRAINER, "step", "metrics timing_raw", "keeps the batch until the evaluation"),
    Name("training.trainer", TRAINER, "_validate", "", "evaluates benchmark by benchmark and keeps all answers"),
    Name("training.trainer", TRAINER, "_compute_advantage", "batch metrics", "sets the votes of reward_rule=majority"),
    Name("training.trainer", TRAINER, "_compute_metrics", "batch metrics timing_raw global_steps epoch", "writes a step"),
    Name("training.trainer", TRAINER, "on_train_begin", "", "says that training begins"),
    Name("training.row_sampling", LOOP, "__init__", "hf_model_type", "one turn needs no model's turn tokens"),
    Name("training.row_sampling", SINGLE_TURN, "run", "sampling_params", "samples a row as its benchmark says"),
    Name("verl_torch.platform", "verl.plugin.platform:PlatformBase", "is_platform_available", "use_smi_check", "never by itself"),
    Name("verl_torch.patches", "torch.distributed", "init_process_group", "backend", "a CPU is named twice"),
    Name("verl_torch.rollout", REPLICA, "launch_servers", "", "starts the server"),
    Name("verl_torch.trainer_engine", ENGINE, "_build_fsdp_module", "module", "no offload to pinned memory"),
    Name("verl_torch.trainer_engine", ENGINE, "initialize", "", "returns the memory of loading"),
    Name("verl_torch.trainer_engine", ENGINE, "_build_module", "", "computes a shared prompt once"),
    Name("verl_torch.trainer_engine", VALUE_ENGINE, "_build_module", "", "the value head's seed"),
    Name("verl_torch.trainer_engine", ENGINE, "_build_lora_module", "module", "a frozen base in its own precision"),
    Name("verl_torch.trainer_engine", ENGINE, "_merged_lora_per_tensor_param", "", "LoRA weights are sent in fp32"),
    Name("verl_torch.trainer_engine", ENGINE, "forward_backward_batch", "data loss_function forward_only", "cuts batches"),
    Name("verl_torch.trainer_engine", ENGINE, "prepare_model_inputs", "micro_batch", "packs prompts, or no mask"),
    Name(
        "verl_torch.trainer_engine", ENGINE, "prepare_model_outputs",
        "output output_args micro_batch logits_processor_func", "unpacks prompts",
    ),
    Name("verl_torch.trainer_engine", ENGINES_MODULE, "CPUOffloadPolicy", "pin_memory", "pinning fails on a CPU"),
    Name(
        "verl_torch.trainer_engine", ENGINES_MODULE, "prepare_micro_batches",
        "data dp_group same_micro_num_in_dp", "cuts by length or prompt",
    ),
    Name("verl_torch.trainer_engine", ENGINES_MODULE, "logprobs_from_logits", "logits labels inplace_backward", "is fast"),
    Name(
        "verl_torch.trainer_engine", "verl.utils.model", "load_valuehead_model",
        "local_path torch_dtype model_config trust_remote_code", "the value head's seed",
    ),
)  # fmt: skip
USED = (
    Name("training.replay_buffer", REPLAY, "failure_keys", None, "the groups that failed, by partition"),
    Name("training.replay_buffer", REPLAY, "__init__", "poll_interval", "polls every 20 ms"),
    Name("training.row_sampling", "verl.utils.tokenizer.continuous_token_wiring", "logger", None, "warns at every row"),
    Name("training.task_runner", "verl.trainer.ppo.v1.trainer_base:PPOTrainer", "llm_server_manager", None, "has the load balancer, which a CPU run ends"),
    Name("training.watchdog", "ray._private.state", "actors", "job_id", "the actors of a run and how they ended"),
    Name("training.watchdog", "ray._private.worker", "_global_node", None, "Ray's own processes"),
    Name("training.watchdog", "ray._private.node:Node", "dead_processes", "", "those of them that have ended"),
    Name("training.watchdog", "ray._private.node:Node", "head", None, "whether they are ours to watch"),
    Name("training.ray_cluster", "ray._private.worker", "_temp_dir", None, "Ray's folder"),
    Name("training.ray_cluster", "ray._private.worker", "_system_config", None, "no spare processes"),
    Name(
        "training.ray_cluster", "ray._private.authentication.authentication_token_setup",
        "maybe_enable_token_auth_if_token_available", "warn_if_disabled", "shows a cluster its token",
    ),
    Name("verl_torch.agent_loop", "verl.trainer.ppo.reward", "_call_with_kwargs", "raw_fn extra_kwargs", "a batched reward"),
    Name("verl_torch.rollout", "verl.workers.rollout.base", "_ROLLOUT_REGISTRY", None, "registers the adapter"),
    Name("verl_torch.rollout", REPLICA, "_server_handle", None, "where verl looks for the server"),
    Name("verl_torch.rollout", REPLICA, "_server_address", None, "where verl looks for the server's name"),
    Name("verl_torch.rollout", "ray.actor", "__ray_call__", None, "asks a worker for its place"),
    Name("verl_torch.shared_prompt", "transformers:PreTrainedConfig", "_attn_implementation", None, "is it sdpa?"),
    Name("verl_torch.shared_prompt", "transformers:PreTrainedModel", "_supports_attention_backend", None, "is it plain?"),
)  # fmt: skip


def check(user: str) -> None:
    """RuntimeError when something that this module of ours overrides or replaces is gone or takes other parameters."""
    for one in OVERRIDDEN:
        if f"rlvr.{one.user}" == user:
            expect(one)


def expect(one: Name) -> None:
    """RuntimeError unless the name is there, as we expect it."""
    path, _, class_name = one.where.partition(":")
    module = importlib.import_module(path)
    owner = getattr(module, class_name, None) if class_name else module
    if not (_takes(owner, one.name, one.takes.split()) if one.takes is not None else _has(owner, one.name)):
        package = path.partition(".")[0]
        raise RuntimeError(
            f"{one.where}.{one.name}({one.takes or ''}): not in {package} {importlib.import_module(package).__version__}, and "
            f"rlvr.{one.user} needs it ({one.why}): install the lowest {package} that pyproject.toml allows"
        )


def _takes(owner, name: str, wanted: list[str]) -> bool:
    """Does this function take the wanted parameters, and need no others?"""
    function = getattr(owner, name, None)
    if function is None:
        return False
    given = inspect.signature(function).parameters.values()
    names = [one.name for one in given]
    free = [
        one.name for one in given if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    return set(wanted) <= set(names) and (name == "__init__" or set(free) - {"self"} <= set(wanted))


def _has(owner, name: str) -> bool:
    """Does the name exist? It is an attribute of the class or module, or occurs in its source."""
    return hasattr(owner, name) or re.search(rf"(self\.|def |[\"']){name}\b", inspect.getsource(owner)) is not None
