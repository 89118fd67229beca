"""A checkpoint with LoRA adapters, as verl writes it, becomes that of a plain model with the same logits."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from rlvr.runs import adapters

IDS = torch.tensor([[5, 9, 11, 3, 7]])


@pytest.fixture
def checkpoint(tmp_path):
    """A folder as verl leaves it, in two files, and the logits of the model that it was written from."""
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         intermediate_size=64, initializer_range=0.3, tie_word_embeddings=True)  # fmt: skip
    model = get_peft_model(Qwen2ForCausalLM(config), LoraConfig(r=4, lora_alpha=6, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start
            torch.nn.init.normal_(parameter, std=0.2)
    weights = tmp_path / "actor" / "huggingface"
    model.get_base_model().config.save_pretrained(weights)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    lora = {name for name in state if "lora_A" in name}
    save_file({name: value for name, value in state.items() if name in lora}, weights / "model-00001-of-00002.safetensors")
    save_file({name: value for name, value in state.items() if name not in lora}, weights / "model-00002-of-00002.safetensors")
    (weights.parent / "lora_train_meta.json").write_text(json.dumps({"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"}))
    with torch.no_grad():
        return weights, model.eval()(IDS).logits


def test_the_merged_folder_is_a_plain_model_with_the_same_logits(checkpoint):
    weights, expected = checkpoint
    adapters.merge(weights)
    model, info = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        assert torch.allclose(model.eval()(IDS).logits, expected, atol=1e-5)
    written = {file: file.stat().st_mtime_ns for file in weights.iterdir()}
    adapters.merge(weights)
    assert written == {file: file.stat().st_mtime_ns for file in weights.iterdir()}


def test_a_crash_between_the_two_folders_is_mended(checkpoint):
    weights, expected = checkpoint
    adapters.merge(weights)
    weights.rename(weights.with_name("huggingface.merged"))
    adapters.merge(weights)
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
        assert torch.allclose(model(IDS).logits, expected, atol=1e-5)


def test_a_folder_without_adapters_stays_as_it_is(tmp_path):
    weights = tmp_path / "actor" / "huggingface"
    Qwen2ForCausalLM(Qwen2Config(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                                 num_key_value_heads=2)).save_pretrained(weights)  # fmt: skip
    before = {file.name: file.read_bytes() for file in weights.iterdir()}
    adapters.merge(weights)
    assert before == {file.name: file.read_bytes() for file in weights.iterdir()}
