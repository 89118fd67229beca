"""verl's trainer and our rollout on a CPU must be the same policy: log-probabilities, weights and gradients agree."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl_worker import make_batch, make_worker

from rlvr.tiny import datasets
from rlvr.verl_torch.generation import Sampling

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """Eight prompts of different lengths, each twice."""
    questions = [row["question"] + "\n" for row in datasets.load("pool")[:8]]
    return [ids for text in questions for ids in [tokenizer(text)["input_ids"]] * 2]


def server():
    from rlvr.verl_torch.rollout_server import TorchServer

    return TorchServer(str(MODEL), trust_remote_code=False, response_length=40, max_rows=8, seed=0)


def trainer_weights(worker) -> dict:
    named, _ = worker.engine.get_per_tensor_param()
    return {name: tensor.detach().clone() for name, tensor in named}


def ppo_batch(prompts, completions, reference, generator):
    """Random advantages on sampled responses: what one update needs."""
    responses = [c.token_ids for c in completions]
    return make_batch(
        prompts,
        responses,
        TEMPERATURE,
        old_log_probs=[torch.tensor(c.log_probs) for c in completions],
        ref_log_prob=reference,
        advantages=[torch.full((len(r),), float(torch.randn((), generator=generator))) for r in responses],
    )


def response_log_probs(output, prompts, completions):
    """verl gives one value per token of the sequence, for the token that follows; the response's start one earlier."""
    rows = output["log_probs"].unbind()
    return [
        row[len(p) - 1 : len(p) - 1 + len(c.token_ids)] for row, p, c in zip(rows, prompts, completions, strict=True)
    ]


def test_rollout_and_trainer_agree_over_several_updates(prompts):
    """A stale weight anywhere shows at once: every update moves the policy by far more than the tolerance."""
    from verl.utils import tensordict_utils as tu

    worker = make_worker(MODEL, learning_rate=1e-3, actor={"use_kl_loss": True, "entropy_coeff": 0.001})
    rollout = server()
    generator = torch.Generator().manual_seed(0)
    moved = []
    for step in range(4):
        weights = trainer_weights(worker)
        asyncio.run(rollout.update_weights({name: w.numpy() for name, w in weights.items()}, global_steps=step))
        assert all(torch.equal(rollout.parameters[name], weight) for name, weight in weights.items())

        sampling = [Sampling(40, TEMPERATURE, seed=100 * step + i) for i in range(len(prompts))]
        completions = rollout.generator.generate(prompts, sampling)
        output = worker.infer_batch(make_batch(prompts, [c.token_ids for c in completions], TEMPERATURE))
        for row, completion in zip(response_log_probs(output, prompts, completions), completions, strict=True):
            assert torch.allclose(row, torch.tensor(completion.log_probs), atol=1e-4)

        reference = [torch.tensor(c.log_probs) for c in completions]
        batch = ppo_batch(prompts, completions, reference, generator)
        tu.assign_non_tensor(
            batch, mini_batch_size=len(prompts), epochs=1, seed=0, dataloader_kwargs={"shuffle": False}
        )
        worker.train_mini_batch(batch)
        after = worker.infer_batch(make_batch(prompts, [c.token_ids for c in completions], TEMPERATURE))
        rows = response_log_probs(after, prompts, completions)
        moved.append(max(float((a - b).abs().max()) for a, b in zip(rows, reference, strict=True)))
    assert min(moved) > 1e-2


def test_gradient_equals_a_plain_torch_computation(prompts):
    kl, entropy = 0.02, 0.03
    actor = {"use_kl_loss": True, "kl_loss_coef": kl, "kl_loss_type": "low_var_kl", "entropy_coeff": entropy}
    worker = make_worker(MODEL, max_tokens=200, actor=actor)  # several micro-batches
    rollout = server()
    completions = rollout.generator.generate(prompts, [Sampling(40, TEMPERATURE, seed=i) for i in range(len(prompts))])
    generator = torch.Generator().manual_seed(1)
    reference = [
        torch.tensor(c.log_probs) + 0.3 * torch.randn(len(c.log_probs), generator=generator) for c in completions
    ]
    batch = ppo_batch(prompts, completions, reference, generator)
    advantages = [row[0] for row in batch["advantages"].unbind()]
    from verl.utils import tensordict_utils as tu

    tu.assign_non_tensor(batch, use_dynamic_bsz=True, max_token_len_per_gpu=200, use_remove_padding=False)
    with worker.engine.train_mode():
        worker.engine.optimizer_zero_grad()
        worker.engine.forward_backward_batch(batch, worker.loss_fn)
        ours = {n: p.grad.full_tensor().clone() for n, p in worker.engine.module.named_parameters()}

    plain = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    tokens = sum(len(c.token_ids) for c in completions)
    loss = 0.0
    for prompt, c, ref, advantage in zip(prompts, completions, reference, advantages, strict=True):
        logits = plain(torch.tensor([prompt + c.token_ids])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        log_softmax = torch.log_softmax(logits, -1)
        log_prob = log_softmax.gather(-1, torch.tensor(c.token_ids)[:, None])[:, 0]
        ratio = (log_prob - torch.tensor(c.log_probs)).exp()
        k3 = ((ref - log_prob).exp() - (ref - log_prob) - 1).clamp(-10, 10)
        spread = -(log_softmax.exp() * log_softmax).sum(-1)
        loss = loss + (-(ratio * advantage) + kl * k3 - entropy * spread).sum() / tokens
    loss.backward()
    for name, parameter in plain.named_parameters():
        scale = parameter.grad.abs().max()
        assert torch.allclose(ours[name], parameter.grad, atol=1e-4 * float(scale) + 1e-8), name


def test_server_batches_what_is_waiting_and_syncs_while_decoding(prompts, tokenizer):
    async def scenario():
        rollout = server()
        batches = []
        generate = rollout.generator.generate
        rollout.generator.generate = lambda p, s, a: batches.append(len(p)) or generate(p, s, a)
        params = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
        answers = await asyncio.gather(*[rollout.generate(p, params, str(i)) for i, p in enumerate(prompts)])
        assert batches == [len(prompts)]
        assert all(len(a.token_ids) == 8 for a in answers)

        # Weights arrive while a long answer is being sampled, and do not wait for it.
        long = asyncio.create_task(rollout.generate(prompts[0], params | {"max_tokens": 200}, "long"))
        await asyncio.sleep(0.1)
        zero = {name: (0 * w).numpy() for name, w in rollout.parameters.items()}
        await rollout.update_weights(zero, global_steps=7)
        assert not long.done()
        answer = await long
        assert (answer.extra_fields["min_global_steps"], answer.extra_fields["max_global_steps"]) == (None, 7)
        assert len(set(answer.token_ids[-20:])) == 1  # all weights 0: the first token is as good as any

        stopped = asyncio.create_task(rollout.generate(prompts[0], params | {"max_tokens": 400}, "stopped"))
        await asyncio.sleep(0.1)
        await rollout.abort_all_requests()
        assert (await stopped).stop_reason == "aborted"

    asyncio.run(scenario())


def test_weights_of_another_model_are_refused():
    import numpy as np

    with pytest.raises(KeyError, match="weights of another model"):
        asyncio.run(server().update_weights({"model.layers.99.weight": np.zeros(2)}))


def test_micro_batches_hold_every_row_once_within_the_budget():
    from rlvr.verl_torch.trainer_engine import pack_by_length

    lengths = [5, 90, 7, 7, 40, 41, 300, 6]
    groups = pack_by_length(lengths, 100)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert [[lengths[i] for i in group] for group in groups] == [[300], [90], [41, 40], [7, 7, 6, 5]]
