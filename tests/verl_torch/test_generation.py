"""The CPU sampler against `transformers.generate` and against the softmax it claims to draw from."""

from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from transformers import Qwen2Config, Qwen2ForCausalLM

from rlvr.verl_torch import generation
from rlvr.verl_torch.generation import Generator, Sampling, end_tokens

EOS = 3


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
        eos_token_id=EOS,
        pad_token_id=0,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).eval()


PROMPTS = [[5, 9, 11], [7, 7, 8, 20, 30, 12], [5, 9, 11], [22], [31, 4, 6, 9]]


@pytest.fixture(params=["at once", "in parts"])
def prefill(request, monkeypatch):
    """Both ways to prefill; the parts are of two of the prompts below, of unequal lengths."""
    if request.param == "in parts":
        monkeypatch.setattr(generation, "PREFILL_TOKENS", 12)


@pytest.mark.usefixtures("prefill")
def test_greedy_equals_transformers_generate(model):
    ours = Generator(model, (EOS,)).generate(PROMPTS, [Sampling(max_tokens=25, temperature=0)] * len(PROMPTS))
    for prompt, completion in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=25, do_sample=False)
        assert completion.token_ids == theirs[0, len(prompt) :].tolist()
        assert completion.stop_reason == ("completed" if completion.token_ids[-1] == EOS else "length")


@pytest.mark.usefixtures("prefill")
def test_log_probs_equal_a_plain_forward_pass(model):
    sampling = [Sampling(max_tokens=20, temperature=t, seed=i) for i, t in enumerate([0.6, 1.0, 1.5, 0.0, 1.0])]
    for prompt, s, c in zip(PROMPTS, sampling, Generator(model, (EOS,)).generate(PROMPTS, sampling), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + c.token_ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits / (s.temperature or 1.0), -1).gather(-1, torch.tensor(c.token_ids)[:, None])
        assert torch.allclose(torch.tensor(c.log_probs), expected[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    "block", [generation.BLOCK, 16]
)  # one sum over the vocabulary; sums over blocks, the last one short
@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"), [(1.0, 1.0, -1), (0.6, 1.0, -1), (1.0, 0.7, -1), (1.0, 1.0, 5)]
)
def test_sampled_frequencies_match_the_softmax(model, temperature, top_p, top_k, block, monkeypatch):
    monkeypatch.setattr(generation, "BLOCK", block)
    n = 6000
    sampling = [Sampling(1, temperature, top_p, top_k, seed=i) for i in range(n)]
    drawn = Generator(model, (), max_rows=n).generate([PROMPTS[1]] * n, sampling)
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in drawn]), minlength=40).double()
    with torch.no_grad():
        probs = torch.softmax(model(torch.tensor([PROMPTS[1]])).logits[0, -1].double() / temperature, -1)
    order = probs.argsort(descending=True)
    allowed = torch.zeros_like(probs, dtype=torch.bool)
    mass = 0.0
    for rank, token in enumerate(order.tolist()):  # the definition of top_k and of the nucleus, token by token
        if (top_k > 0 and rank >= top_k) or mass >= top_p:
            break
        allowed[token] = True
        mass += float(probs[token])
    assert counts[~allowed].sum() == 0
    expected = torch.where(allowed, probs, 0.0)
    expected = expected / expected.sum() * n
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    keep = expected > 0
    assert stats.chisquare(observed[keep].numpy(), expected[keep].numpy()).pvalue > 1e-3


def test_two_levels_of_sums_draw_what_one_does(monkeypatch):
    random = torch.Generator().manual_seed(0)
    probs = torch.randn(300, 5000, generator=random).mul(4).softmax(-1)
    probs[:, 2048:3072] = 0  # a block of nothing
    uniform = torch.rand(300, 1, generator=random, dtype=torch.float64)
    uniform[:2, 0] = torch.tensor([0.0, 1 - 2**-53])  # the ends
    blocks = generation._invert(probs, uniform)
    monkeypatch.setattr(generation, "BLOCK", 5000)
    assert torch.equal(blocks, generation._invert(probs, uniform))
    assert (probs.gather(1, blocks[:, None]) > 0).all()


def test_a_seed_fixes_a_row_whatever_else_is_in_the_batch(model):
    alone = Generator(model, (EOS,)).generate([PROMPTS[3]], [Sampling(30, seed=7)])[0]
    crowd = [Sampling(30, seed=100 + i) for i in range(4)] + [Sampling(30, seed=7)]
    together = Generator(model, (EOS,), max_rows=3).generate([*PROMPTS[:3], PROMPTS[4], PROMPTS[3]], crowd)[-1]
    assert alone.token_ids == together.token_ids


def test_limits_and_stop_tokens(model):
    free = Generator(model, ()).generate([PROMPTS[0]], [Sampling(12, temperature=0)])[0]
    stop = free.token_ids[4]
    cut = Generator(model, ()).generate(
        [PROMPTS[0], PROMPTS[0]], [Sampling(12, temperature=0, stop_token_ids=(stop,)), Sampling(3, temperature=0)]
    )
    assert cut[0].token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert (cut[0].stop_reason, cut[1].stop_reason) == ("completed", "length")
    assert cut[1].token_ids == free.token_ids[:3]


@pytest.mark.parametrize(
    "of_model, of_tokenizer, expected", [(3, 5, (3,)), ([3, 4], 5, (3, 4)), (None, 5, (5,)), (None, None, ())]
)
def test_the_tokenizer_names_the_end_where_the_model_does_not(of_model, of_tokenizer, expected):
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=of_model))
    assert end_tokens(model, lambda: SimpleNamespace(eos_token_id=of_tokenizer)) == expected


def test_abort_keeps_what_was_sampled(model):
    calls = iter([False, False, True])
    (completion,) = Generator(model, ()).generate([PROMPTS[0]], [Sampling(20, temperature=0)], lambda: next(calls))
    assert completion.stop_reason == "aborted"
    assert len(completion.token_ids) == 3


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"max_tokens": 5, "temperature": -1.0}, {"max_tokens": 5, "top_p": 0}]
)
def test_values_outside_their_domain_are_refused(wrong):
    with pytest.raises(ValueError, match=next(k for k in wrong if k != "max_tokens" or len(wrong) == 1)):
        Sampling(**wrong)
