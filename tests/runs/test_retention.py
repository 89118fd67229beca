"""Which checkpoints stay: on real weights written by transformers, and on the disk use of a run of the paper's size."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlvr.runs import retention
from rlvr.runs.folder import RunFolder

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"


def policy(states=1, weights_every=1, weights_dtype="bfloat16"):
    return OmegaConf.create({"states": states, "weights_every": weights_every, "weights_dtype": weights_dtype})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The tiny model's weights in fp32 as verl stores them: a Hugging Face folder whose config says bfloat16."""
    folder = tmp_path_factory.mktemp("huggingface")
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():  # values that bf16 cannot hold
        for parameter in model.parameters():
            parameter += 1e-4 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save(folder: RunFolder, step: int, weights: Path, critic=False) -> None:
    """A checkpoint with the files that verl writes, the sharded state in small."""
    checkpoint = folder.checkpoint_path(step)
    for model in ["actor", *(["critic"] if critic else [])]:
        shutil.copytree(weights, checkpoint / model / "huggingface")
        for kind in ("model", "optim", "extra_state"):
            torch.save({"step": step}, checkpoint / model / f"{kind}_world_size_1_rank_0.pt")
        (checkpoint / model / "fsdp_config.json").write_text("{}")
    torch.save({"step": step}, checkpoint / "data.pt")
    with open(folder.metrics_path, "a") as file:
        file.write(json.dumps({"step": step}) + "\n")


def test_the_newest_state_stays_and_every_ones_weights(tmp_path, weights):
    folder = RunFolder(tmp_path)
    for step in (20, 40, 60):
        save(folder, step, weights, critic=True)
        retention.apply(folder, policy(), save_every=20)
        assert folder.resume_step() == step
    assert [step for step in folder.checkpoint_steps() if folder.is_resumable(step)] == [60]
    for step in (20, 40):
        left = {str(p.relative_to(folder.checkpoint_path(step))) for p in folder.checkpoint_path(step).rglob("*")}
        assert {p for p in left if "huggingface" not in p} == {"actor"}
    assert (folder.checkpoint_path(60) / "critic" / "optim_world_size_1_rank_0.pt").exists()


def test_stored_weights_are_the_trained_ones_rounded_to_bf16(tmp_path, weights):
    folder = RunFolder(tmp_path)
    save(folder, 20, weights)
    retention.apply(folder, policy(), save_every=20)
    trained, stored = (
        load_file(weights / "model.safetensors"),
        load_file(folder.weights_path(20) / "model.safetensors"),
    )
    assert stored.keys() == trained.keys()
    for name, tensor in trained.items():
        assert stored[name].dtype == torch.bfloat16
        assert torch.equal(stored[name], tensor.to(torch.bfloat16))
        assert not torch.equal(stored[name].float(), tensor)
    size = (folder.weights_path(20) / "model.safetensors").stat().st_size
    assert size == pytest.approx((weights / "model.safetensors").stat().st_size / 2, rel=0.01)
    loaded = AutoModelForCausalLM.from_pretrained(folder.weights_path(20))
    assert torch.equal(loaded.model.norm.weight, trained["model.norm.weight"].to(torch.bfloat16))


def test_in_float32_the_weights_stay_and_their_config_says_so(tmp_path, weights):
    folder = RunFolder(tmp_path)
    save(folder, 20, weights)
    before = (folder.weights_path(20) / "model.safetensors").read_bytes()
    retention.apply(folder, policy(weights_dtype="float32"), save_every=20)
    assert (folder.weights_path(20) / "model.safetensors").read_bytes() == before
    assert json.loads((folder.weights_path(20) / "config.json").read_text())["dtype"] == "float32"


def test_every_kth_checkpoints_weights_stay_and_the_newest(tmp_path, weights):
    folder = RunFolder(tmp_path)
    for step in range(20, 120, 20):
        save(folder, step, weights)
        retention.apply(folder, policy(weights_every=2), save_every=20)
    assert folder.checkpoint_steps() == [40, 80, 100]
    assert folder.resume_step() == 100


def test_all_states_stay_if_told_to(tmp_path, weights):
    folder = RunFolder(tmp_path)
    for step in (20, 40):
        save(folder, step, weights)
        retention.apply(folder, policy(states=None), save_every=20)
    assert all(folder.is_resumable(step) for step in (20, 40))


def test_a_crash_between_checkpoint_and_metrics_resumes_from_the_one_before(tmp_path, weights):
    """The one before is still whole then, because nothing is thinned out before the metrics are written."""
    folder = RunFolder(tmp_path)
    for step in (20, 40):
        save(folder, step, weights)
        retention.apply(folder, policy(), save_every=20)
    written = folder.metrics_path.read_text()
    save(folder, 60, weights)
    folder.metrics_path.write_text(written)  # the process died before
    assert folder.resume_step() == 40
    folder.rewind(40)
    assert folder.checkpoint_steps() == [20, 40]
    assert folder.resume_step() == 40


def test_weights_without_a_state_are_not_resumed_from(tmp_path, weights):
    folder = RunFolder(tmp_path)
    save(folder, 20, weights)
    retention.strip_state(folder.checkpoint_path(20))
    assert (folder.checkpoint_steps(), folder.resume_step()) == ([20], 0)
