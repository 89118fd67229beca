"""Every machine with every model that makes sense on it, as far as verl goes without its devices.

Composed and checked as a run is, through verl's own validator, into the workers that its trainer starts: configurations,
engines with their device meshes in a world of as many ranks as the machine has devices (torch's fake process group), the
critic, the rollout's configuration. Models are empty folders of the right shape. What is left out: weights, kernels, vLLM.
"""

import shutil
from pathlib import Path

import pytest

import rlvr.tiny
from experiments.timings import apart
from rlvr.config.schema import group_options

TOKENIZER = Path(rlvr.tiny.__file__).parent / "model"
SMALL = {"tiny": "tiny", "smollm2_135m": "reduced"}  # models that have a scale of their own, for a CPU or one GPU
PAPERS = [model for model in group_options("base_model") if model not in SMALL]
PPO = "+experiment=ppo_one_shot"
CPUS = [machine for machine in group_options("hardware") if machine.startswith("cpu")]
MODELS = dict.fromkeys(CPUS, [*SMALL]) | {"one_gpu": [*SMALL, *PAPERS], "multi_node": PAPERS[:2]}
MODELS["one_gpu_torch"] = [*SMALL, *PAPERS[:2]]
# The paper's models at one of the two scales that are made for them, each machine at both.
CASES = [
    (machine, model, SMALL.get(model, ("paper", "small")[i % 2]))
    for machine in group_options("hardware")
    for i, model in enumerate(MODELS.get(machine, PAPERS))
]


def overrides(machine: str, model: str, scale: str) -> list[str]:
    """PPO, which has a critic, on some machines; R1-Distill's answers need a larger budget on one GPU."""
    long = machine.startswith("one_gpu") and model.startswith("deepseek") and scale == "paper"
    keys = ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "critic.ppo_max_token_len_per_gpu")
    experiment = (
        PPO if machine in ("cpu_two_workers", "one_gpu", "one_gpu_torch", "multi_node") else "+experiment=one_shot"
    )
    given = [experiment, f"scale={scale}", f"base_model={model}", f"hardware={machine}"]
    return given + [f"{key}=9216" for key in keys if long]


def model_folder(folder: Path, architecture) -> str:
    """A model without weights: verl's configurations read its config.json and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    a = architecture
    kind, name = (Qwen2Config, Qwen2ForCausalLM) if a.qkv_bias else (LlamaConfig, LlamaForCausalLM)
    config = kind(
        vocab_size=a.vocabulary, hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads,
        num_key_value_heads=a.kv_heads, intermediate_size=a.intermediate, tie_word_embeddings=a.tied,
        architectures=[name.__name__],
    )  # fmt: skip
    folder.mkdir()
    config.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)
    return str(folder)


def build_all(cases: list, root: str) -> dict[str, dict]:
    """What was built of each case, or {"error": why not}; in a process that verl may make its own."""
    return {" ".join(case): _built(Path(root, str(i)), *case) for i, case in enumerate(cases)}


def _built(folder: Path, machine: str, model: str, scale: str) -> dict:
    import os

    import torch
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from rlvr.config.compose import compose
    from rlvr.config.schema import check
    from rlvr.planning import resources
    from rlvr.planning.plan import plan

    anywhere = resources.Machine(None, None, None, 1)
    try:
        cfg = compose(*overrides(machine, model, scale))
        check(cfg)
        load = plan(cfg).workload
        cfg.actor_rollout_ref.model.path = model_folder(folder, load.architecture)
        world = cfg.hardware.nodes * cfg.hardware.devices_per_node
        os.environ |= {"RANK": "0", "WORLD_SIZE": str(world), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(world)}
        resources.warnings(load, resources.estimate(load, anywhere), anywhere)  # raises what cannot be
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
        torch.distributed.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
        try:
            return _workers(cfg, world)
        finally:
            torch.distributed.destroy_process_group()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _workers(cfg, world: int) -> dict:
    """In the order of verl's trainer (`PPOTrainer._setup`)."""
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config
    from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker, TrainingWorkerConfig

    class Worker(TrainingWorker):
        def reset(self):  # would read the weights
            pass

    class Workers(ActorRolloutRefWorker):
        actor_worker_cls = ref_worker_cls = Worker

    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    validate_config(cfg, need_reference_policy(cfg), need_critic(cfg))
    built = {}
    for role in ("actor", "ref"):
        workers = Workers(cfg.actor_rollout_ref, role)
        workers.init_model()
        built[role] = _facts(getattr(workers, role))
    if need_critic(cfg):
        critic = omega_conf_to_dataclass(cfg.critic)
        critic.engine.infer_max_token_len_per_gpu = critic.ppo_infer_max_token_len_per_gpu
        critic.engine.max_token_len_per_gpu = critic.ppo_infer_max_token_len_per_gpu
        config = TrainingWorkerConfig(model_type="value_model", model_config=critic.model, engine_config=critic.engine,
                                      optimizer_config=critic.optim, checkpoint_config=critic.checkpoint)  # fmt: skip
        built["critic"] = _facts(Worker(config))
    rollout = omega_conf_to_dataclass(cfg.actor_rollout_ref.rollout)
    assert world % rollout.tensor_model_parallel_size == 0, "ranks over replicas"
    assert cfg.data.train_batch_size * rollout.n % world == 0, "responses over ranks"
    longest = rollout.prompt_length + rollout.response_length
    return {"workers": built, "ranks": world, "longest": longest, "rollout": rollout.name}


def _facts(worker) -> tuple[str, int, int]:
    """The engine, its ranks, and the tokens that a micro-batch may have."""
    budget = worker.engine_config.infer_max_token_len_per_gpu
    return type(worker.engine).__name__, worker.engine.get_data_parallel_size(), budget


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    found = {}
    for platform in ("cpu", "nvidia"):
        cases = [case for case in CASES if (case[0] in CPUS) == (platform == "cpu")]
        root = str(tmp_path_factory.mktemp(platform))
        found |= apart(build_all, cases, root, VERL_PLATFORM=platform, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    return found


@pytest.mark.xdist_group("dry_run")  # they share what is built in 45 s
@pytest.mark.parametrize("case", [" ".join(case) for case in CASES])
def test_every_machine_gets_its_workers(built, case):
    found, cpu = built[case], case.startswith("cpu")
    assert "error" not in found, found["error"]
    assert found["rollout"] == ("torch" if cpu or case.startswith("one_gpu_torch") else "vllm")
    assert ("critic" in found["workers"]) == (PPO in overrides(*case.split()))
    for role, (engine, ranks, budget) in found["workers"].items():
        assert engine == ("CPU" if cpu else "FSDP") + (
            "EngineWithValueHead" if role == "critic" else "EngineWithLMHead"
        )
        assert ranks == found["ranks"]
        assert cpu or budget >= found["longest"]  # on a CPU a longer answer is a micro-batch of its own
