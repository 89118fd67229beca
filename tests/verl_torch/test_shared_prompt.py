"""Computing a prompt once for all its responses changes nothing but the time: outputs and gradients stay the same."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config
from verl_worker import make_batch, make_worker, nested

from rlvr.verl_torch import shared_prompt

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"
# (prompt, response length) of every sequence: a prompt in rows that do not follow each other, a unique one, one that
# is the start of another, one of a single token; responses of one token.
SEQUENCES = [("a", 9), ("b", 1), ("a", 1), ("unique", 30), ("start_of_a", 5), ("a", 21), ("b", 17), ("token", 4)]


@pytest.fixture(scope="module")
def sequences():
    generator = torch.Generator().manual_seed(0)
    tokens = lambda length: torch.randint(5, 640, (length,), generator=generator).tolist()  # noqa: E731
    prompts = {"a": tokens(12), "b": tokens(7), "unique": tokens(19), "token": tokens(1)}
    prompts["start_of_a"] = prompts["a"][:5]
    return [prompts[name] for name, _ in SEQUENCES], [tokens(length) for _, length in SEQUENCES]


def assert_same_gradient(name, ours, expected):
    """Equal to 1e-5 of the largest entry."""
    difference, scale = float((ours - expected).abs().max()), float(expected.abs().max())
    assert difference <= 1e-5 * scale + 1e-9, f"{name}: differs by {difference:.2g} of {scale:.2g}"


def small(config, **options):
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=768,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    return AutoModelForCausalLM.from_config(config(**sizes, **options), dtype=torch.float32, attn_implementation="sdpa")


@pytest.mark.parametrize(("config", "options"), [(LlamaConfig, {"tie_word_embeddings": True}), (Qwen2Config, {})])
def test_packed_row_equals_one_row_for_each_sequence(config, options, sequences):
    prompts, responses = sequences
    model = small(config, **options)
    assert shared_prompt.supports(model)
    ids = [torch.tensor(p + r) for p, r in zip(prompts, responses, strict=True)]
    rows = [model(row[None]).logits[0, len(p) - 1 : -1] for row, p in zip(ids, prompts, strict=True)]
    expected = torch.cat(rows)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (expected * weight).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}

    model.zero_grad()
    model.set_attn_implementation(shared_prompt.NAME)
    layout = shared_prompt.lay_out(nested(ids), nested(prompts))
    distinct = {tuple(p) for p in prompts}
    assert layout.input_ids.shape[1] == sum(len(p) - 1 for p in distinct) + sum(map(len, responses))
    logits = model(**shared_prompt.model_inputs(layout), use_cache=False).logits[0]
    (logits * weight).sum().backward()
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        assert_same_gradient(name, parameter.grad, gradients[name])
    # Without a packed row the model computes what it did.
    torch.testing.assert_close(model(ids[0][None]).logits[0, len(prompts[0]) - 1 : -1], rows[0])


@pytest.mark.parametrize("max_tokens", [45, 4096])  # a prompt's responses in several micro-batches; all in one
@pytest.mark.parametrize("temperature", [0.7, "one for each sequence"])
def test_verl_gets_the_same_outputs_and_gradients(max_tokens, temperature, sequences):
    from verl.utils import tensordict_utils as tu

    prompts, responses = sequences
    generator = torch.Generator().manual_seed(2)
    actor = {"use_kl_loss": True, "kl_loss_coef": 0.02, "entropy_coeff": 0.03}
    worker = make_worker(MODEL, max_tokens=max_tokens, actor=actor)
    engine = worker.engine
    assert engine.shares_prompts
    noise = lambda: [0.3 * torch.randn(len(r), generator=generator) - 6 for r in responses]  # noqa: E731
    advantages = [torch.randn((), generator=generator).expand(len(r)).clone() for r in responses]
    batch = make_batch(prompts, responses, old_log_probs=noise(), ref_log_prob=noise(), advantages=advantages)
    if temperature == "one for each sequence":
        batch["temperature"] = torch.linspace(0.6, 1.3, len(prompts))
    else:
        tu.assign_non_tensor(batch, temperature=temperature)
    tu.assign_non_tensor(batch, use_dynamic_bsz=True, max_token_len_per_gpu=max_tokens, use_remove_padding=False)

    def passes():
        with engine.eval_mode():
            outputs = engine.forward_backward_batch(batch, None, forward_only=True)["model_output"]
        with engine.train_mode():
            engine.optimizer_zero_grad()
            losses = engine.forward_backward_batch(batch, worker.loss_fn)["loss"]
            gradients = {n: p.grad.full_tensor().clone() for n, p in engine.module.named_parameters()}
        return outputs, sum(losses), gradients

    shared = passes()
    engine.shares_prompts = False
    plain = passes()
    for name in ("log_probs", "entropy"):
        assert torch.equal(shared[0][name].offsets(), plain[0][name].offsets())
        pairs = zip(shared[0][name].unbind(), plain[0][name].unbind(), prompts, strict=True)
        for ours, theirs, prompt in pairs:
            response = slice(len(prompt) - 1, -1)
            torch.testing.assert_close(ours[response], theirs[response], atol=3e-5, rtol=1e-5)
            assert not ours[: len(prompt) - 1].any()
    assert shared[1] == pytest.approx(plain[1], abs=1e-5)
    for name, gradient in plain[2].items():
        assert_same_gradient(name, shared[2][name], gradient)


def test_micro_batches_keep_responses_to_a_prompt_together(sequences):
    prompts, responses = sequences
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    pack = lambda budget: shared_prompt.pack_by_prompt(nested(prompts), lengths, budget)  # noqa: E731
    # a: 12 + 21 + 9 + 1 = 43 tokens; b: 7 + 17 + 1 = 25; unique: 49; start_of_a: 10; token: 5.
    assert pack(49) == [[5, 0, 2], [6, 1], [3], [4, 7]]
    assert pack(68) == [[5, 0, 2, 6, 1], [3, 4, 7]]
    # Cut where the budget ends; what is longer than it stands alone.
    assert pack(40) == [[5], [0, 2], [6, 1], [3], [4, 7]]


def test_models_with_other_attention_are_left_alone():
    assert not shared_prompt.supports(small(MistralConfig, sliding_window=16))
    assert not shared_prompt.supports(small(Qwen2Config, use_sliding_window=True, max_window_layers=1))
    eager = small(LlamaConfig)
    eager.set_attn_implementation("eager")
    assert not shared_prompt.supports(eager)


def test_gradients_are_the_same_each_time_with_two_threads():
    """Many responses to one prompt: the gradients of its keys and values are sums over all of them."""
    generator, threads = torch.Generator().manual_seed(0), torch.get_num_threads()
    rows = [torch.arange(length) for length in torch.randint(50, 70, (64,), generator=generator).tolist()]
    layout = shared_prompt.lay_out(nested(rows), nested([torch.arange(30)] * len(rows)))
    tokens = layout.input_ids.shape[1]
    query = torch.randn(1, 6, tokens, 32, generator=generator)
    key, value = (torch.randn(1, 2, tokens, 32, generator=generator, requires_grad=True) for _ in range(2))
    torch.set_num_threads(2)
    try:
        found = set()
        for _ in range(10):
            output, _ = shared_prompt.attention(torch.nn.Module(), query, key, value, None, shared_prompt=layout)
            gradients = torch.autograd.grad(output.square().sum(), (key, value))
            found.add(b"".join(gradient.numpy().tobytes() for gradient in gradients))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1
