"""The plan of a run: its configuration, read once, in typed parts. rlvr/training/start_checks.py checks these parts.

A start, `check=true` and the launcher's dry run read the same plan. Loads neither Ray nor torch.
"""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlvr.data import pools, prepare, protocols
from rlvr.data.downloads import without_downloads
from rlvr.data.protocols import Protocol
from rlvr.planning import machine, resources
from rlvr.planning.architecture import architecture
from rlvr.planning.machine import Devices, Model
from rlvr.planning.prompt_lengths import Problems
from rlvr.planning.resources import Machine, Needs, Workload
from rlvr.runs.folder import RunFolder
from rlvr.runs.free_text import as_written, protected


@dataclass(frozen=True)
class Plan:
    """A run before it starts. config: resolved, for verl and the run folder.

    own: the user's own examples, if any. download: whether data may be fetched. own_reward: file, function and seconds of the
    user's own reward, else empty. prompt_tokens: of the longest prompt allowed. workload, needs: None for a model of unknown
    architecture.
    """

    config: DictConfig
    folder: RunFolder
    model: Model
    benchmarks: list[Protocol]
    own: list[dict[str, str]] | None
    download: bool
    prompt_tokens: int
    own_reward: dict[str, Any]
    devices: Devices
    machine: Machine
    workload: Workload | None
    needs: Needs | None

    @property
    def stored_config(self) -> dict[str, Any]:
        """The configuration for the run folder, with the user's texts as they were written."""
        return as_written(OmegaConf.to_container(self.config))

    @cached_property
    def problems(self) -> Problems:
        """Read once, at the first access. DataError for data that cannot be read, NotAtHand if it is not on disk and downloads are off."""
        cfg = self.config
        with nullcontext() if self.download else without_downloads():
            chosen, notes = prepare.chosen_examples(cfg, self.own)
            test_rows = []
            for protocol in self.benchmarks:
                examples, _, more = protocols.load(protocol, cfg.data_root)
                test_rows += pools.evaluation_rows(examples, protocol)
                notes += more
        # How often the model solves the user's own examples or a replaced label is not known yet.
        unknown = any(cfg.example[key] is not None for key in ("question", "file")) or cfg.label.text is not None
        training_rows = pools.training_rows(chosen, cfg.scale.prompts_per_step)
        return Problems(chosen, training_rows, test_rows, notes, cfg.example.probe_samples if unknown else 0)


def plan(cfg: DictConfig, download: bool = True) -> Plan:
    """Read a configuration that rlvr.config.schema has checked. download=False: only data on disk is read."""
    cfg = cfg.copy()
    OmegaConf.set_struct(cfg, False)
    cfg.run_dir = str(Path(cfg.run_dir).resolve())
    for group, key in ((cfg, "data_root"), (cfg.reward_rule, "file"), (cfg.base_model, "path")):
        if group[key] is not None and (key != "path" or Path(group[key]).is_file()):  # a folder or an id stays as it is
            group[key] = str(Path(group[key]).resolve())
    own = prepare.own_examples(cfg)
    if own is not None:
        # The config holds their text, so that a run is not resumed with a file that was edited since.
        cfg.train_set.examples, cfg.train_set.ranks, cfg.train_set.name = protected(own), None, "own"
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    benchmarks = protocols.of_run(cfg)
    devices, load = _devices(cfg), _workload(cfg, benchmarks)
    here = machine.this_machine(devices, Path(cfg.runs_dir))
    return Plan(
        config=cfg,
        folder=RunFolder(cfg.run_dir),
        model=Model(cfg.base_model.name, cfg.actor_rollout_ref.model.path, cfg.base_model.revision, cfg.base_model.template),
        benchmarks=benchmarks,
        own=own,
        download=download,
        prompt_tokens=cfg.scale.max_prompt_tokens,
        own_reward={key: cfg.reward_rule[key] for key in ("file", "function", "seconds") if cfg.reward_rule.file is not None},
        devices=devices,
        machine=here,
        workload=load,
        needs=resources.estimate(load, here) if load else None,
    )  # fmt: skip


def _devices(cfg: DictConfig) -> Devices:
    hardware, units = cfg.hardware, cfg.transfer_queue.backend.SimpleStorage.num_data_storage_units
    # TransferQueue's controller and storage units, three of verl's for each worker (`ResourcePoolManager.max_colocate_count`),
    # and one that its other actors must find free to be placed.
    others = cfg.reward.num_workers > 0 or cfg.actor_rollout_ref.rollout.agent.agent_loop_manager_class is None
    return Devices(
        hardware=hardware.name,
        device=hardware.device,
        nodes=hardware.nodes,
        devices_per_node=hardware.devices_per_node,
        attention=hardware.attention,
        engine=cfg.actor_rollout_ref.rollout.name,
        slots=units + 1 + 3 * hardware.nodes * hardware.devices_per_node + others,
        given=cfg.ray_kwargs.ray_init.get("num_cpus"),
        storage_units=units,
        cluster=cfg.ray.address or os.environ.get("RAY_ADDRESS") or None,
        bf16=cfg.actor_rollout_ref.rollout.dtype == "bfloat16",
    )


SPEED = ("scale.name", "base_model.name", "hardware.name", "scale.prompts_per_step", "scale.samples_per_prompt",
         "scale.max_response_tokens", "lora.rank", "algorithm.adv_estimator")  # fmt: skip


def _workload(cfg: DictConfig, benchmarks: list[Protocol]) -> Workload | None:
    """None for a model of unknown architecture."""
    known = architecture(cfg.base_model.path, _plain(cfg.base_model.architecture))
    if known is None:
        return None
    actor, rollout = cfg.actor_rollout_ref.actor, cfg.actor_rollout_ref.rollout
    return Workload(
        runs_dir=cfg.runs_dir,
        model=cfg.base_model.name,
        scale=cfg.scale.name,
        hardware=cfg.hardware.name,
        architecture=known,
        device=cfg.hardware.device,
        nodes=cfg.hardware.nodes,
        devices_per_node=cfg.hardware.devices_per_node,
        gpu=_plain(cfg.hardware.gpu),
        engine=rollout.name,
        exact_rollout=cfg.hardware.exact_rollout,
        trained_models=2 if cfg.algorithm.adv_estimator == "gae" else 1,
        steps=cfg.scale.steps,
        evaluate_every=cfg.scale.evaluate_every,
        save_every=cfg.scale.save_every,
        evaluation_answers=sum(row.answers or resources.UNKNOWN_PROBLEMS * row.k for row in benchmarks),
        prompts_per_step=cfg.scale.prompts_per_step,
        samples_per_prompt=cfg.scale.samples_per_prompt,
        prompt_tokens=cfg.scale.max_prompt_tokens,
        response_tokens=cfg.scale.max_response_tokens,
        micro_batch_tokens=actor.ppo_max_token_len_per_gpu,
        lora_rank=cfg.lora.rank,
        bf16=rollout.dtype == "bfloat16",
        checkpointing=cfg.actor_rollout_ref.model.enable_gradient_checkpointing,
        offload_weights=actor.fsdp_config.param_offload,
        offload_optimizer=actor.fsdp_config.optimizer_offload,
        offload_all=actor.fsdp_config.offload_policy,
        offload_reference=cfg.actor_rollout_ref.ref.fsdp_config.param_offload,
        tensor_parallel=rollout.tensor_model_parallel_size,
        gpu_share=rollout.gpu_memory_utilization,
        states_kept=cfg.retention.states,
        weights_every=cfg.retention.weights_every,
        weights_dtype=cfg.retention.weights_dtype,
        likes={key: OmegaConf.select(cfg, key) for key in SPEED},
    )


def _plain(value: Any) -> Mapping[str, Any] | None:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
