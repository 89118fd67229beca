"""Continuous batching gives every request the answer that the plain sampler gives it, whenever it joins."""

import threading
from concurrent.futures import Future

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from rlvr.verl_torch.continuous_batching import Decoder, PendingAnswer
from rlvr.verl_torch.generation import Generator, Sampling

EOS = 3
SIZES = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
         "num_key_value_heads": 2, "initializer_range": 0.3, "eos_token_id": EOS, "pad_token_id": 0, "bos_token_id": None}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()


def ask(decoder, prompt, sampling, **more):
    future: Future = Future()
    decoder.submit([PendingAnswer(prompt, sampling, future.set_result, **more)])
    return future


def asked(count):
    """Prompts of many lengths, some alike; greedy and sampled, short and long."""
    generator = torch.Generator().manual_seed(1)
    for i in range(count):
        prompt = torch.randint(4, 40, (1 + (7 * i) % 11,), generator=generator).tolist() if i % 5 else [5, 9, 11]
        how = {
            "temperature": (0.0, 0.7, 1.0)[i % 3],
            "top_p": 0.8 if i % 4 == 0 else 1.0,
            "top_k": 5 if i % 6 == 0 else -1,
        }
        yield prompt, Sampling(1 + (13 * i) % 40, seed=i, **how)


@pytest.mark.parametrize("generators", [1, 2])
def test_the_answers_of_the_plain_sampler_whenever_a_request_joins(model, generators):
    pairs = list(asked(24))
    alone = Generator(model, (EOS,))
    expected = [alone.generate([prompt], [sampling])[0] for prompt, sampling in pairs]
    decoder = Decoder([Generator(model, (EOS,), max_rows=12) for _ in range(generators)], threads_each=1)
    futures = []
    for i, (prompt, sampling) in enumerate(pairs):
        futures.append(ask(decoder, prompt, sampling, top=i % 3))
        if i % 7 == 6:  # the next come when these are under way
            futures[i - 3].result(60)
    for (prompt, sampling), future, want in zip(pairs, futures, expected, strict=True):
        got = future.result(60)
        assert (got.token_ids, got.stop_reason) == (want.token_ids, want.stop_reason), (prompt, sampling)
        assert got.log_probs == pytest.approx(want.log_probs, abs=1e-5)
    decoder.close()
    assert decoder.load == 0


def test_the_likeliest_tokens_are_those_of_a_forward_pass(model):
    decoder = Decoder([Generator(model, (EOS,))], threads_each=1)
    others = [ask(decoder, [7, 8], Sampling(20, 1.0, seed=i, ignore_eos=True)) for i in range(3)]
    answer = ask(decoder, [5, 9], Sampling(6, 0.5, seed=0, ignore_eos=True), top=3).result(60)
    with torch.no_grad():
        logits = model(torch.tensor([[5, 9, *answer.token_ids]])).logits[0, 1:-1]
    values, ids = torch.log_softmax(logits / 0.5, -1).topk(3)
    assert [[token for token, _ in place] for place in answer.likeliest] == ids.tolist()
    assert torch.allclose(torch.tensor([[p for _, p in place] for place in answer.likeliest]), values, atol=1e-5)
    assert all(not other.result(60).likeliest for other in others)
    decoder.close()


def test_padding_does_not_pile_up_while_requests_keep_coming(model):
    """Rows that joined later start further to the right; the columns that only older ones used are dropped."""
    generator = Generator(model, (EOS,))
    longest, plain = [0], generator._logits
    generator._logits = lambda ids, mask, positions, cache: (
        longest.__setitem__(0, max(longest[0], cache.get_seq_length())),
        plain(ids, mask, positions, cache),
    )[1]
    decoder = Decoder([generator], threads_each=1)
    slots = threading.Semaphore(4)
    for i in range(20):
        slots.acquire()
        ask(decoder, [5, 6, 7], Sampling(10 + i % 3, 1.0, seed=i, ignore_eos=True)).add_done_callback(
            lambda _: slots.release()
        )
    for _ in range(4):
        slots.acquire()
    assert longest[0] < 3 + 3 * 12
    decoder.close()


def test_an_answer_ends_where_its_listener_says_or_when_it_is_cancelled(model):
    decoder = Decoder([Generator(model, (EOS,))], threads_each=1)
    seen = []
    stopped = ask(decoder, [5], Sampling(30, 1.0, seed=1, ignore_eos=True),
                  on_token=lambda token: seen.append(token) or len(seen) == 4)  # fmt: skip
    answer = stopped.result(60)
    assert answer.token_ids == seen and len(seen) == 4 and answer.stop_reason == "completed"
    cancelled: Future = Future()
    request = PendingAnswer([5], Sampling(10_000, 1.0, seed=1, ignore_eos=True), cancelled.set_result)
    request.on_token = lambda token: setattr(request, "cancelled", len(request.answer.token_ids) > 2)
    decoder.submit([request])
    assert cancelled.result(60).stop_reason == "aborted" and len(request.answer.token_ids) == 3
    decoder.close()


def test_a_failure_is_told_to_whoever_asked_and_the_next_request_is_answered(model):
    generator = Generator(model, (EOS,))
    decoder = Decoder([generator], threads_each=1)
    assert isinstance(ask(decoder, [99], Sampling(3)).result(60).error, IndexError)  # no such token
    assert ask(decoder, [5], Sampling(3)).result(60).error is None
    waiting = ask(decoder, [5], Sampling(100_000, 1.0, ignore_eos=True))
    decoder.close()
    assert waiting.result(60).stop_reason == "aborted"
    with pytest.raises(RuntimeError, match="closed"):
        ask(decoder, [5], Sampling(3))


def test_a_model_whose_layers_are_not_plain_attention_is_decoded_batch_by_batch():
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, sliding_window=4)).eval()
    pairs = list(asked(5))
    expected = [Generator(model, (EOS,)).generate([p], [s])[0].token_ids for p, s in pairs]
    decoder = Decoder([Generator(model, (EOS,))], threads_each=1)
    assert not decoder.joins
    futures = [ask(decoder, prompt, sampling) for prompt, sampling in pairs]
    assert [future.result(60).token_ids for future in futures] == expected
    decoder.close()
