"""hardware=cpu_bf16: computed in bf16, trained in fp32; rollout and trainer stay one policy, up to their rounding."""

import asyncio
from pathlib import Path

import torch
from omegaconf import OmegaConf
from verl_worker import make_batch, make_worker

from rlvr.config.compose import compose
from rlvr.verl_torch.generation import Sampling

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"
TEMPERATURE = 0.7
PROMPTS = [[5, 9, 11, 40], [7, 8, 60, 61, 62, 63]] * 8


def worker(**model):
    """A trainer as hardware=cpu_bf16 configures it."""
    cfg = compose("+experiment=one_shot", "hardware=cpu_bf16").actor_rollout_ref
    precision = OmegaConf.to_container(cfg.actor.fsdp_config.mixed_precision)
    engine = {"_target_": "verl.workers.config.FSDPEngineConfig", "strategy": "fsdp2", "use_torch_compile": False}
    engine |= {"model_dtype": cfg.actor.fsdp_config.model_dtype, "mixed_precision": precision}
    return make_worker(MODEL, learning_rate=1e-3, actor={"fsdp_config": engine}, model=model)


def update(trained, completions):
    from verl.utils import tensordict_utils as tu

    responses = [c.token_ids for c in completions]
    terms = {"old_log_probs": [torch.tensor(c.log_probs) for c in completions]}
    terms["advantages"] = [torch.full((len(r),), (-1.0) ** i) for i, r in enumerate(responses)]
    batch = make_batch(PROMPTS, responses, TEMPERATURE, **terms)
    options = {"mini_batch_size": len(PROMPTS), "epochs": 1, "seed": 0, "dataloader_kwargs": {"shuffle": False}}
    tu.assign_non_tensor(batch, **options)
    trained.train_mini_batch(batch)


def probability_gaps(trained, completions) -> torch.Tensor:
    """Of each sampled token: how far its probability in the rollout is from the trainer's."""
    responses = [c.token_ids for c in completions]
    rows = trained.infer_batch(make_batch(PROMPTS, responses, TEMPERATURE))["log_probs"].unbind()
    gaps = []
    for row, prompt, c in zip(rows, PROMPTS, completions, strict=True):
        ours = row[len(prompt) - 1 : len(prompt) - 1 + len(c.token_ids)].float()
        gaps.append((ours.exp() - torch.tensor(c.log_probs).exp()).abs())
    return torch.cat(gaps)


def sampled(rollout, seed=0):
    sampling = [Sampling(30, TEMPERATURE, seed=100 * seed + i) for i in range(len(PROMPTS))]
    return rollout.generator.generate(PROMPTS, sampling)


def test_rollout_and_trainer_are_one_policy_up_to_rounding():
    from rlvr.verl_torch.rollout import to_array
    from rlvr.verl_torch.rollout_server import TorchServer

    trained = worker()
    rollout = TorchServer(str(MODEL), False, response_length=40, max_rows=16, seed=0, dtype="bfloat16")
    for step in range(3):
        weights = {name: to_array(weight, "bfloat16") for name, weight in trained.engine.get_per_tensor_param()[0]}
        asyncio.run(rollout.update_weights(weights, global_steps=step))
        completions = sampled(rollout, step)
        gaps = probability_gaps(trained, completions)
        print(f"step {step}: probabilities apart by {gaps.max():.4f} at most, {gaps.mean():.5f} on the mean")
        assert gaps.max() < 0.1 and gaps.mean() < 0.005
        before = {name: w.clone() for name, w in trained.engine.get_per_tensor_param()[0]}
        update(trained, completions)
        after = dict(trained.engine.get_per_tensor_param()[0])
        assert any(not torch.equal(after[name], before[name]) for name in before)
    # A bf16 weight of 1 does not move by less than 1/256: what is trained is kept in fp32.
    assert {w.dtype for w in after.values()} == {torch.float32}
    states = trained.engine.optimizer.state.values()
    assert {state["exp_avg"].dtype for state in states} == {torch.float32} and states


def test_adapters_are_trained_in_fp32_on_a_bf16_base():
    trained = worker(lora_rank=4, lora_alpha=4, lora={"merge": True})
    dtypes = {(p.requires_grad, p.dtype) for p in trained.engine.module.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    base = {name: w.clone() for name, w in trained.engine.get_per_tensor_param(base_sync_done=True)[0]}
    from rlvr.verl_torch.rollout_server import TorchServer

    update(trained, sampled(TorchServer(str(MODEL), False, 40, 16, 0, dtype="bfloat16")))
    sent = dict(trained.engine.get_per_tensor_param(base_sync_done=True)[0])
    state = trained.engine.module.state_dict()
    prefix, name = "base_model.model.", "model.layers.0.mlp.up_proj"
    up, down = (state[f"{prefix}{name}.lora_{side}.default.weight"].full_tensor() for side in "BA")
    assert up.abs().max() > 0
    expected = (base[f"{name}.weight"].float() + up @ down).bfloat16()
    assert torch.equal(sent[f"{name}.weight"], expected)
    unchanged = {name for name in base if torch.equal(base[name], sent[name])}
    assert "model.embed_tokens.weight" in unchanged and f"{name}.weight" not in unchanged


def test_the_backward_pass_ends_at_the_lowest_adapter():
    upper = r"model\.layers\.[01]\..*"  # of four layers
    trained = worker(lora_rank=4, lora_alpha=4, lora={"merge": True}, exclude_modules=upper)
    layers, seen = trained.engine.module.get_base_model().model.layers, {}
    for i, layer in enumerate(layers):
        layer.register_forward_hook(lambda _, __, out, i=i: seen.__setitem__(i, out.requires_grad))
    from rlvr.verl_torch.generation import Completion

    update(trained, [Completion([20, 21, 22], [-3.0] * 3) for _ in PROMPTS])
    assert seen == {0: False, 1: False} | {i: True for i in range(2, len(layers))}
