"""What each row of the paper's Table 5 does to the weights: gradients of verl's own loss against plain torch, term by term.

pytest tests/verl_torch/test_losses.py
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM
from verl_worker import make_batch, make_worker

from rlvr.config.compose import compose

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"
TEMPERATURE = 0.6
KL, ENTROPY, DECAY = 0.001, 0.001, 0.01  # the paper's coefficients
# Table 5: experiment -> policy gradient, KL, entropy, weight decay.
TABLE_5 = {
    "no_loss": (0, 0, 0, 0),
    "policy_gradient_only": (1, 0, 0, 0),
    "weight_decay": (1, 0, 0, DECAY),
    "no_entropy": (1, KL, 0, DECAY),
    "one_shot": (1, KL, ENTROPY, DECAY),
    "entropy_0_003": (1, KL, 0.003, DECAY),
    "policy_gradient_and_entropy": (1, 0, ENTROPY, 0),
    "weight_decay_and_kl": (0, KL, 0, DECAY),
    "no_policy_gradient": (0, KL, ENTROPY, DECAY),
    "entropy_only": (0, 0, ENTROPY, 0),
}


@cache
def actor_config(experiment: str) -> dict:
    """verl's actor configuration of an experiment: the keys its loss reads."""
    actor = OmegaConf.to_container(compose(f"+experiment={experiment}").actor_rollout_ref.actor, resolve=True)
    names = ("use_kl_loss", "kl_loss_coef", "kl_loss_type", "entropy_coeff", "loss_agg_mode", "policy_loss")
    clip = ("clip_ratio", "clip_ratio_low", "clip_ratio_high")
    return {name: actor[name] for name in (*names, *clip)} | {"optim": actor["optim"]}


@pytest.fixture(scope="module")
def rows():
    """Six prompts with random answers of 3 to 8 tokens, old and reference log-probabilities, and advantages."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(2, 640, (count,), generator=generator).tolist()

    prompts = [tokens(4 + i) for i in range(6)]
    responses = [tokens(3 + i) for i in range(6)]
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        log_probs = [response_terms(model, p, r)[0] for p, r in zip(prompts, responses, strict=True)]

    def moved(by):  # the old policy and the reference are near the policy, not equal to it
        return [row + by * torch.randn(len(row), generator=generator) for row in log_probs]

    advantages = [float(torch.randn((), generator=generator)) for _ in prompts]
    columns = {
        "old_log_probs": moved(0.05),
        "ref_log_prob": moved(0.3),
        "advantages": [torch.full((len(r),), a) for r, a in zip(responses, advantages, strict=True)],
    }
    return prompts, responses, columns


def response_terms(model, prompt, response):
    """Log-probabilities ("tokens") and entropies ("tokens") of a response under logits / temperature."""
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
    log_softmax = torch.log_softmax(logits, -1)
    log_prob = log_softmax.gather(-1, torch.tensor(response)[:, None])[:, 0]
    return log_prob, -(log_softmax.exp() * log_softmax).sum(-1)


@pytest.fixture(scope="module")
def plain(rows):
    """Value and gradient of the three terms, each alone, by plain torch: {"pg" | "kl" | "entropy": (value, gradients)}."""
    prompts, responses, columns = rows
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    count = sum(map(len, responses))
    sums = {"pg": 0.0, "kl": 0.0, "entropy": 0.0}
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        log_prob, entropy = response_terms(model, prompt, response)
        old, reference, advantage = (columns[k][i] for k in ("old_log_probs", "ref_log_prob", "advantages"))
        ratio = (log_prob - old).exp()
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        gap = reference - log_prob
        sums["pg"] -= surrogate.sum() / count
        sums["kl"] += (gap.exp() - gap - 1).sum() / count
        sums["entropy"] += entropy.sum() / count
    terms = {}
    for name, value in sums.items():
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        terms[name] = (
            float(value.detach()),
            dict(zip([n for n, _ in model.named_parameters()], gradients, strict=True)),
        )
    return terms


@pytest.fixture(scope="module")
def worker():
    import rlvr.training.policy_losses  # noqa: F401  (registers the policy loss `none`)

    return make_worker(MODEL, max_tokens=64)  # several micro-batches


@pytest.fixture(scope="module")
def through_verl(worker, rows):
    """Gradients and logged metrics of one pass of an experiment's loss through verl's engine; nothing is updated."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.utils.losses import ppo_loss

    @cache
    def run(experiment: str):
        config = omega_conf_to_dataclass(
            OmegaConf.create(
                {
                    "_target_": "verl.workers.config.FSDPActorConfig",
                    "strategy": "fsdp2",
                    "rollout_n": 1,
                    "ppo_mini_batch_size": 1,
                    "use_dynamic_bsz": True,
                    **{k: v for k, v in actor_config(experiment).items() if k != "optim"},
                }
            )
        )
        batch = make_batch(rows[0], rows[1], TEMPERATURE, **rows[2])
        tu.assign_non_tensor(batch, use_dynamic_bsz=True, max_token_len_per_gpu=64, use_remove_padding=False)
        with worker.engine.train_mode():
            worker.engine.optimizer_zero_grad()
            output = worker.engine.forward_backward_batch(batch, partial(ppo_loss, config=config))
            named = worker.engine.module.named_parameters()
            gradients = {name: p.grad.full_tensor().clone() for name, p in named}
        return gradients, output["metrics"]

    return run


def assert_same(ours, expected, scale_of=None):
    """Equal to 1 % of the largest entry of `scale_of` (default: `expected`), parameter by parameter."""
    for name, gradient in ours.items():
        scale = float((scale_of or expected)[name].abs().max())
        assert torch.allclose(gradient, expected[name], rtol=0, atol=0.01 * scale + 1e-9), name


def combined(plain, pg, kl, entropy):
    return {
        name: pg * plain["pg"][1][name] + kl * plain["kl"][1][name] - entropy * plain["entropy"][1][name]
        for name in plain["pg"][1]
    }


@pytest.mark.parametrize("experiment", TABLE_5)
def test_the_gradient_of_every_row_is_the_sum_of_its_terms(experiment, through_verl, plain):
    pg, kl, entropy, decay = TABLE_5[experiment]
    gradients, _ = through_verl(experiment)
    assert_same(gradients, combined(plain, pg, kl, entropy))
    assert actor_config(experiment)["optim"]["weight_decay"] == decay
    is_zero = all(float(g.abs().max()) == 0 for g in gradients.values())
    assert is_zero == (experiment == "no_loss")


@pytest.mark.parametrize(
    ("whole", "without", "term"),
    [
        ("one_shot", "no_policy_gradient", (1, 0, 0)),
        ("one_shot", "no_kl", (0, KL, 0)),
        ("one_shot", "no_entropy", (0, 0, ENTROPY)),
        ("entropy_0_003", "one_shot", (0, 0, 0.002)),
        ("no_policy_gradient", "weight_decay_and_kl", (0, 0, ENTROPY)),
        ("policy_gradient_and_entropy", "policy_gradient_only", (0, 0, ENTROPY)),
        ("weight_decay_and_kl", "no_loss", (0, KL, 0)),
    ],
)
def test_turning_a_term_off_removes_exactly_its_contribution(whole, without, term, through_verl, plain):
    """The difference is judged on the scale of the term itself, a thousandth of the policy gradient's."""
    more, less = through_verl(whole)[0], through_verl(without)[0]
    contribution = combined(plain, *term)
    assert_same({name: more[name] - less[name] for name in more}, contribution, scale_of=contribution)


def test_logged_terms_are_the_separate_terms(through_verl, plain):
    """verl subtracts entropy from the policy loss in place: what it logs must have been read before."""
    metrics = through_verl("one_shot")[1]
    for name, term in (("actor/pg_loss", "pg"), ("actor/entropy_loss", "entropy"), ("kl_loss", "kl")):
        logged = metrics[name].aggregate() if hasattr(metrics[name], "aggregate") else np.sum(metrics[name])
        assert float(logged) == pytest.approx(plain[term][0], rel=1e-4), name


def test_entropy_is_that_of_the_logits_over_the_temperature(rows, plain):
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        cold = []
        for prompt, response in zip(*rows[:2], strict=True):
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            cold.append(torch.distributions.Categorical(logits=logits).entropy())
    untempered = float(torch.cat(cold).mean())
    assert plain["entropy"][0] < 0.9 * untempered  # what verl logs equals the first, so it is not the second


def update(worker, rows, copies=1, mini_batch_size=None, **actor):
    """One step of verl's optimiser loop on the rows, each `copies` times, with the loss of an actor configuration."""
    from verl.utils import tensordict_utils as tu

    prompts, responses = ([p for p in rows[0] for _ in range(copies)], [r for r in rows[1] for _ in range(copies)])
    columns = {name: [v for v in column for _ in range(copies)] for name, column in rows[2].items()}
    batch = make_batch(prompts, responses, TEMPERATURE, **columns)
    size = mini_batch_size or len(prompts)
    tu.assign_non_tensor(
        batch, mini_batch_size=size, epochs=1, seed=0, dataloader_kwargs={"shuffle": False}, global_batch_size=size
    )
    worker.train_mini_batch(batch)


def test_weight_decay_acts_with_zero_gradient(rows):
    """No term at all but weight decay: AdamW's decoupled decay shrinks every weight by lr x decay, once a step."""
    rate = 0.01
    off = {k: v for k, v in actor_config("no_loss").items() if k != "optim"}
    worker = make_worker(MODEL, learning_rate=rate, weight_decay=DECAY, actor=off)
    before = {name: w.detach().clone() for name, w in worker.engine.get_per_tensor_param()[0]}
    update(worker, rows)
    for name, weight in worker.engine.get_per_tensor_param()[0]:
        assert torch.allclose(weight, before[name] * (1 - rate * DECAY), rtol=1e-6, atol=0), name
        assert not torch.equal(weight, before[name]), name


def test_without_any_term_nothing_changes(rows):
    off = {k: v for k, v in actor_config("no_loss").items() if k != "optim"}
    worker = make_worker(MODEL, learning_rate=0.01, weight_decay=0, actor=off)
    before = {name: w.detach().clone() for name, w in worker.engine.get_per_tensor_param()[0]}
    update(worker, rows)
    assert all(torch.equal(w, before[name]) for name, w in worker.engine.get_per_tensor_param()[0])


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_updates_per_step_counts_optimiser_steps(updates, rows, monkeypatch):
    """verl multiplies the mini-batch by rollout.n: six rows of two responses make `updates_per_step` updates, not more."""
    samples = ("scale.prompts_per_step=6", "scale.samples_per_prompt=2", f"updates_per_step={updates}")
    cfg = compose("+experiment=one_shot", *samples)
    size = cfg.actor_rollout_ref.actor.ppo_mini_batch_size * cfg.actor_rollout_ref.rollout.n
    worker = make_worker(MODEL, actor={k: v for k, v in actor_config("one_shot").items() if k != "optim"})
    steps = []
    step = worker.engine.optimizer_step
    monkeypatch.setattr(worker.engine, "optimizer_step", lambda: steps.append(1) or step())
    update(worker, rows, copies=2, mini_batch_size=size)
    assert len(steps) == updates


def test_advantages_are_per_group_not_per_prompt_text():
    """Two groups of two responses to one and the same prompt: (r - mean) / (std + 1e-6) within each, std over n - 1."""
    from verl import DataProto
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0])
    data = DataProto.from_dict(
        tensors={
            "token_level_rewards": torch.stack([torch.zeros(4), rewards], dim=1),
            "response_mask": torch.ones(4, 2),
            "prompts": torch.full((4, 3), 5),
        },
        non_tensors={"uid": np.array(["a", "a", "b", "b"], dtype=object)},
    )
    keys = ["a_0_0", "a_1_0", "b_0_0", "b_1_0"]
    out = compute_advantage_for_multi_trajectories(data, keys, adv_estimator="grpo", num_repeat=2)
    half = 0.5 / (0.5**0.5 + 1e-6)
    expected = torch.tensor([half, -half, 0.0, 0.0])
    assert torch.allclose(out.batch["advantages"][:, 1], expected, atol=1e-6)
    assert float(rewards.mean()) != 0.5  # as one group of four, the first two would not be symmetric


def test_the_critic_gives_a_value_to_every_token_and_learns(rows):
    """Values of a CPU critic are those of transformers' token classifier; its new head repeats itself; verl's loss falls."""
    from transformers import AutoModelForTokenClassification
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import CriticConfig
    from verl.workers.utils.losses import value_loss

    prompts, responses, columns = rows
    worker = make_worker(MODEL, learning_rate=1e-3, weight_decay=0, max_tokens=64, model_type="value_model")
    again = make_worker(MODEL, max_tokens=64, model_type="value_model")
    weights = dict(worker.engine.get_per_tensor_param()[0])
    for name, weight in again.engine.get_per_tensor_param()[0]:
        assert torch.equal(weight, weights[name]), name

    def values():
        batch = make_batch(prompts, responses, TEMPERATURE, **columns)
        return [row.detach().clone() for row in worker.infer_batch(batch)["values"].unbind()]

    plain = AutoModelForTokenClassification.from_pretrained(MODEL, num_labels=1, dtype=torch.float32)
    plain.load_state_dict({name: weight.detach() for name, weight in weights.items()})
    before = values()
    with torch.no_grad():
        for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            expected = plain.eval()(torch.tensor([prompt + response])).logits[0, :, 0]
            assert torch.allclose(before[i], expected, atol=1e-4)

    worker.set_loss_fn(partial(value_loss, config=CriticConfig(strategy="fsdp2", use_dynamic_bsz=True)))

    def at_responses(all_values):
        return [v[len(p) - 1 : len(p) - 1 + len(r)] for v, p, r in zip(all_values, prompts, responses, strict=True)]

    old = at_responses(before)
    returns = [v + 0.3 for v in old]
    batch = make_batch(prompts, responses, TEMPERATURE, values=old, returns=returns, **columns)
    size = len(prompts)
    tu.assign_non_tensor(
        batch, mini_batch_size=size, epochs=20, seed=0, dataloader_kwargs={"shuffle": False}, global_batch_size=size
    )
    worker.train_mini_batch(batch)
    errors = [float((torch.cat(at_responses(v)) - torch.cat(returns)).square().mean()) for v in (before, values())]
    assert errors[1] < 0.5 * errors[0]
