"""LoRA through verl's own adapters: what is sampled, stored and evaluated is the trained policy; the reference is the base."""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from verl_worker import make_batch, make_worker

from rlvr.runs import adapters

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"
TEMPERATURE = 0.7
PROMPTS = [[5, 9, 11, 40], [7, 8, 60, 61, 62, 63], [5, 9, 11, 40]]
RESPONSES = [[20, 21, 22, 23], [30, 31], [25, 26, 27]]


def rows(worker, **options):
    """Log-probabilities of the responses under the worker's policy, one tensor each."""
    from verl.utils import tensordict_utils as tu

    batch = make_batch(PROMPTS, RESPONSES, TEMPERATURE)
    tu.assign_non_tensor(batch, **options)
    found = worker.infer_batch(batch)["log_probs"].unbind()
    pairs = zip(found, PROMPTS, RESPONSES, strict=True)
    return torch.cat([row[len(p) - 1 : len(p) - 1 + len(r)] for row, p, r in pairs])


def plain(model):
    with torch.no_grad():
        every = [
            torch.log_softmax(model(torch.tensor([p + r])).logits[0, len(p) - 1 : -1] / TEMPERATURE, -1)
            .gather(-1, torch.tensor(r)[:, None])[:, 0]
            for p, r in zip(PROMPTS, RESPONSES, strict=True)
        ]  # fmt: skip
    return torch.cat(every)


def test_trained_adapters_are_sampled_and_stored_merged(tmp_path):
    from verl.utils import tensordict_utils as tu

    checkpoint = {"_target_": "verl.trainer.config.CheckpointConfig", "save_contents": ["model", "hf_model"]}
    lora = {"lora_rank": 16, "lora_alpha": 32, "lora": {"merge": True}}
    worker = make_worker(MODEL, learning_rate=1e-2, actor={"checkpoint": checkpoint}, model=lora)
    trained = {name for name, p in worker.engine.module.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    base = plain(AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval())
    assert torch.allclose(rows(worker), base, atol=1e-5)  # an adapter begins as nothing

    terms = {
        "old_log_probs": list(base.split([len(r) for r in RESPONSES])),
        "advantages": [torch.full((len(r),), a) for r, a in zip(RESPONSES, (1.0, -1.0, 0.5), strict=True)],
    }
    for _ in range(2):
        batch = make_batch(PROMPTS, RESPONSES, TEMPERATURE, **terms)
        tu.assign_non_tensor(batch, mini_batch_size=3, epochs=1, seed=0, dataloader_kwargs={"shuffle": False})
        worker.train_mini_batch(batch)
    policy = rows(worker)
    assert (policy - base).abs().max() > 0.05
    assert torch.allclose(rows(worker, no_lora_adapter=True), base, atol=1e-5)  # the reference

    sent = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    named, about = worker.engine.get_per_tensor_param(base_sync_done=True)
    weights = dict(named)
    assert about is None and set(weights) <= set(sent.state_dict())
    sent.load_state_dict(weights, strict=False)
    assert torch.allclose(plain(sent), policy, atol=1e-4)  # what the rollout engine gets
    assert torch.allclose(rows(worker), policy, atol=1e-5)  # and the trainer goes on from where it was

    worker.save_checkpoint(str(tmp_path / "actor"))
    stored = tmp_path / "actor" / "huggingface"
    adapters.merge(stored)
    model, info = AutoModelForCausalLM.from_pretrained(stored, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.allclose(plain(model.eval()), policy, atol=1e-4)
    shutil.rmtree(tmp_path / "actor")
