"""A single-turn agent loop that hands verl a whole batch at once.

verl's own agent loop makes several remote calls for every sample (generate, score, store); for a model that answers
128 prompts in half a second those calls are most of a step. This manager tokenises each distinct prompt once, makes
one call per rollout server, scores in this process and stores everything with one put.

Selected by `actor_rollout_ref.rollout.agent.agent_loop_manager_class`. Departures from verl's loop:
1. Text, one turn, no teacher and no reward model.
2. Every sample has its own seed, made of `rollout.seed`, the step, and the row's and the sample's place in the batch,
   so that a run repeats itself and a resumed run continues as if it had not stopped.
3. A row may carry its own sampling in `extra_info.sampling` = {temperature, top_p, top_k, n, max_tokens, stop}: one validation set can
   then be greedy and another an average over samples.
4. A reward function may have an attribute `batch`: the same function for whole batches, with the arguments of verl's signature in
   the plural. It is then called once for all responses.
5. A failure is raised here, where it ends the run, not logged in a worker while the trainer waits.
"""

import asyncio
import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils import hf_tokenizer, normalize_token_ids
from verl.utils import tensordict_utils as tu
from verl.utils.reward_score import default_compute_score

from rlvr.verl_torch import stop_texts
from rlvr.verl_torch.rollout_server import server_name


def sample_seed(run_seed: int, step: int, validate: bool, row: int, sample: int) -> int:
    """A 63-bit seed that depends on every argument and on nothing else."""
    text = f"{run_seed}/{'validate' if validate else step}/{row}/{sample}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class SampleRequest(NamedTuple):
    """One sample to request from a server: its row, its index among the row's samples, prompt ids, sampling."""

    row: int
    sample: int
    prompt: list[int]
    sampling: dict[str, Any]


class BatchedAgentLoopManager:
    """Generates, scores and stores one batch of prompts per call; see the module's docstring."""

    asks_load_balancer = False  # it asks the servers themselves

    def __init__(self, config: DictConfig, llm_client, teacher_client=None, reward_loop_worker_handles=None):
        if teacher_client or config.reward.reward_model.enable:
            raise ValueError(
                "BatchedAgentLoopManager has neither teachers nor reward models: use verl's own agent loop"
            )
        self.rollout = config.actor_rollout_ref.rollout
        self.tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
        if template := config.actor_rollout_ref.model.get("custom_chat_template"):
            self.tokenizer.chat_template = template
        self.template_kwargs = dict(config.data.get("apply_chat_template_kwargs") or {})
        self.score = _batch_form(get_custom_reward_fn(config) or default_compute_score)
        replicas = config.trainer.n_gpus_per_node * config.trainer.nnodes
        self.servers = [ray.get_actor(server_name(rank)) for rank in range(replicas)]
        self.prompt_ids: dict[str, list[int]] = {}

    @classmethod
    def create(cls, *args, **kwargs) -> "BatchedAgentLoopManager":
        return cls(*args, **kwargs)

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Generate all samples of all rows and put them into TransferQueue.

        Raises whatever generation or scoring raised, and RuntimeError when a rollout server has died.
        """
        validate = bool(tu.get(prompts, "validate", default=False))
        step = int(tu.get(prompts, "global_steps"))
        names = ("uid", "raw_prompt", "data_source", "reward_model", "extra_info")
        rows = [dict(zip(names, values, strict=True)) for values in zip(*(prompts[n] for n in names), strict=True)]
        requests = [request for i, row in enumerate(rows) for request in self._requests(row, i, step, validate)]
        self._store(rows, requests, self._generate(requests), step, "val" if validate else "train")

    def _requests(self, row: dict, index: int, step: int, validate: bool) -> list[SampleRequest]:
        """What to ask the servers for one row: its prompt and the sampling of each of its samples."""
        kwargs = self.rollout.val_kwargs if validate else self.rollout
        own = (row["extra_info"].get("sampling") or {}) if validate else {}
        sampling = {name: own.get(name, kwargs[name]) for name in ("temperature", "top_p", "top_k")}
        longest = self.rollout.response_length
        sampling["max_tokens"] = min(own.get("max_tokens") or longest, longest)
        if validate and (texts := stop_texts.of_row(row["extra_info"])):
            sampling["stop_token_ids"] = stop_texts.token_ids(self.tokenizer, texts)
        prompt = self._tokenize(row["raw_prompt"])
        seeds = (sample_seed(self.rollout.seed, step, validate, index, i) for i in range(int(own.get("n", kwargs.n))))
        return [SampleRequest(index, i, prompt, {**sampling, "seed": seed}) for i, seed in enumerate(seeds)]

    def _tokenize(self, messages: list[dict]) -> list[int]:
        key = repr(messages)
        if key not in self.prompt_ids:
            how = {"add_generation_prompt": True, "tokenize": True, **self.template_kwargs}
            ids = normalize_token_ids(self.tokenizer.apply_chat_template(messages, **how))
            if len(ids) > self.rollout.prompt_length:
                raise ValueError(
                    f"prompt of {len(ids)} tokens: data.max_prompt_length={self.rollout.prompt_length} allows fewer; "
                    f"raise it. The prompt begins: {messages[-1]['content'][:80]!r}"
                )
            self.prompt_ids[key] = list(ids)
        return self.prompt_ids[key]

    def _generate(self, requests: list[SampleRequest]) -> list[tuple]:
        """Share the requests among the servers, whole rows to one server, and wait for all of them."""
        share = -(-(requests[-1].row + 1) // len(self.servers))
        pending = []
        for rank, server in enumerate(self.servers):
            group = [request for request in requests if request.row // share == rank]
            pending.append(server.generate_many.remote([r.prompt for r in group], [r.sampling for r in group]))
        return [output for answers in ray.get(pending) for output in answers]

    def _store(self, rows: list[dict], requests: list[SampleRequest], outputs, step: int, partition: str) -> None:
        asked = [rows[request.row] for request in requests]
        # A random reward is drawn from this key, so that a resumed run draws the same rewards.
        sample_keys = [{"sample_key": f"{step}:{request.row}:{request.sample}"} for request in requests]
        scores = self.score(
            data_sources=[row["data_source"] for row in asked],
            solution_strs=self.tokenizer.batch_decode([tokens for tokens, *_ in outputs], skip_special_tokens=True),
            ground_truths=[row["reward_model"]["ground_truth"] for row in asked],
            extra_infos=[row["extra_info"] | key for row, key in zip(asked, sample_keys, strict=True)],
        )
        keys, fields, tags = [], [], []
        for request, row, output, score in zip(requests, asked, outputs, scores, strict=True):
            tokens, log_probs, stop_reason, versions = output
            info = score if isinstance(score, dict) else {"score": score, "acc": score}
            prompt, response = torch.tensor(request.prompt), torch.tensor(tokens)
            ids, mask = torch.cat([prompt, response]), torch.ones_like(response)
            rewards = torch.zeros(len(tokens))
            rewards[-1] = float(info["score"])
            keys.append(f"{row['uid']}_{request.sample}_0")
            fields.append(
                {name: row[name] for name in ("uid", "data_source", "reward_model", "extra_info")}
                | {
                    "prompts": prompt,
                    "responses": response,
                    "response_mask": mask,
                    "loss_mask": mask,
                    "input_ids": ids,
                    "position_ids": torch.arange(len(ids)),
                    "rollout_log_probs": torch.tensor(log_probs),
                    "rm_scores": rewards,
                    "num_turns": 2,
                    "extra_fields": {"reward_extra_info": info, "stop_reason": stop_reason},
                }
            )
            lengths = {"prompt_len": len(prompt), "response_len": len(response), "seq_len": len(ids)}
            weights = {"global_steps": step, "min_global_steps": versions[0], "max_global_steps": versions[1]}
            tags.append({"status": "success"} | lengths | weights)
        tq.kv_batch_put(keys=keys, partition_id=partition, fields=_to_tensordict(fields), tags=tags)
        finished = [{"is_prompt": True, "status": "finished", "global_steps": step} for _ in rows]
        tq.kv_batch_put(keys=[row["uid"] for row in rows], partition_id=partition, tags=finished)


def _batch_form(compute_score: Callable) -> Callable[..., list]:
    """A reward function for whole batches: its attribute `batch` with the configured arguments, else one call for each.

    verl hands out `partial(call, function, reward_kwargs)`.
    """
    function, kwargs = (*getattr(compute_score, "args", ()), None, None)[:2]
    if batch := getattr(function, "batch", None):
        return functools.partial(batch, **(kwargs or {}))

    def one_by_one(**columns: list) -> list:
        names = [name.removesuffix("s") for name in columns]
        calls = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if inspect.iscoroutinefunction(compute_score):
            return [asyncio.run(compute_score(**arguments)) for arguments in calls]
        return [compute_score(**arguments) for arguments in calls]

    return one_by_one


def _to_tensordict(samples: list[dict]) -> TensorDict:
    """Tensor columns as jagged nested tensors (also where all lengths agree, as verl's readers expect), others as is."""
    tensors = {key for key, value in samples[0].items() if isinstance(value, torch.Tensor)}
    nested = {
        key: torch.nested.as_nested_tensor([sample[key] for sample in samples], layout=torch.jagged) for key in tensors
    }
    other = {key: [sample[key] for sample in samples] for key in samples[0] if key not in tensors}
    return tu.get_tensordict({**nested, **other})
