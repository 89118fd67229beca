"""Chunks of logits say what all logits at once say, gradients included."""

from pathlib import Path

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, Qwen2Config, Qwen2ForCausalLM
from verl_worker import make_batch, make_worker

from rlvr.verl_torch import chunked_head
from rlvr.verl_torch.chunked_head import Wanted, all_at_once, log_probs

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"
TOKENS, FEATURES, VOCABULARY = 23, 16, 50


@pytest.mark.parametrize("temperature", ["0.6", "of each token"])
@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_values_and_gradients_equal_those_of_all_logits(temperature, entropy, frozen):
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, FEATURES, generator=random, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(VOCABULARY, FEATURES, generator=random).requires_grad_(not frozen)
    bias = torch.randn(VOCABULARY, generator=random).requires_grad_(not frozen)
    labels = torch.randint(VOCABULARY, (TOKENS,), generator=random)
    warm = torch.rand(TOKENS, 1, generator=random) + 0.5 if temperature == "of each token" else 0.6
    wanted, trained = Wanted(labels, warm, entropy), [t for t in (hidden, weight, bias) if t.requires_grad]
    share = torch.randn(TOKENS, 2, generator=random)

    plain = torch.stack(all_at_once(hidden @ weight.T + bias, wanted), -1)
    expected = torch.autograd.grad((plain * share[:, : plain.shape[1]]).sum(), trained)
    ours = log_probs(hidden, weight, bias, wanted, chunk=7 * VOCABULARY)[0]  # four parts, the last one shorter
    assert ours.shape == (TOKENS, 2) and (entropy or not ours[:, 1].any())
    torch.testing.assert_close(ours[:, : plain.shape[1]], plain)
    gradients = torch.autograd.grad((ours * share).sum(), trained)
    for found, exact in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_bf16_gradients_are_as_near_as_those_of_all_logits():
    random = torch.Generator().manual_seed(0)
    exact = [torch.randn(*shape, generator=random) for shape in ((200, 64), (500, 64))]
    wanted = Wanted(torch.randint(500, (200,), generator=random), 0.7, True)

    def gradients(dtype, chunk):
        hidden, weight = (tensor.to(dtype).requires_grad_() for tensor in exact)
        if chunk is None:
            values = torch.stack(all_at_once(hidden @ weight.T, wanted), -1)
        else:
            values = log_probs(hidden, weight, None, wanted, chunk)[0]
        return torch.autograd.grad(values.sum(), (hidden, weight))

    truth = gradients(torch.float32, None)
    for ours, plain, true in zip(gradients(torch.bfloat16, 5000), gradients(torch.bfloat16, None), truth, strict=True):
        assert (ours.float() - true).norm() <= 1.2 * (plain.float() - true).norm()


def test_a_model_that_changes_its_logits_has_no_chunked_head():
    sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    assert chunked_head.Head.of(Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2))) is not None
    assert chunked_head.Head.of(CohereForCausalLM(CohereConfig(**sizes, num_key_value_heads=2))) is None


@pytest.mark.parametrize("lora", [False, True])
def test_verl_gets_the_same_through_chunks(lora, monkeypatch):
    """Outputs and gradients of verl's engine, in chunks of a few tokens and all at once."""
    from verl.utils import tensordict_utils as tu

    model = {"lora_rank": 4, "lora_alpha": 4, "lora": {"merge": True}} if lora else None
    worker = make_worker(MODEL, max_tokens=64, actor={"entropy_coeff": 0.1}, model=model)
    prompts, responses = [[5, 9, 11]] * 3 + [[7, 8]], [[20, 21, 22], [30], [25, 26], [3, 4, 5, 6]]
    terms = {
        "old_log_probs": [torch.full((len(r),), -4.0) for r in responses],
        "advantages": [torch.full((len(r),), a) for r, a in zip(responses, (1.0, -1.0, 0.5, 2.0), strict=True)],
    }
    batch = make_batch(prompts, responses, 0.7, **terms)
    tu.assign_non_tensor(batch, use_dynamic_bsz=True, max_token_len_per_gpu=64, use_remove_padding=False)

    def passes(chunk):
        monkeypatch.setattr(chunked_head, "CHUNK", chunk)
        with worker.engine.eval_mode():
            outputs = worker.engine.forward_backward_batch(batch, None, forward_only=True)["model_output"]
        with worker.engine.train_mode():
            worker.engine.optimizer_zero_grad()
            worker.engine.forward_backward_batch(batch, worker.loss_fn)
            named = worker.engine.module.named_parameters()
            gradients = {n: p.grad.full_tensor().clone() for n, p in named if p.grad is not None}
        return outputs, gradients

    whole, parts = passes(2**25), passes(3 * 768)
    for name in ("log_probs", "entropy"):
        torch.testing.assert_close(parts[0][name].values(), whole[0][name].values())
    assert whole[1].keys() == parts[1].keys() and whole[1]
    for name, gradient in whole[1].items():
        torch.testing.assert_close(parts[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)
