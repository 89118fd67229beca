"""The rollout server: a Ray actor around `Generator` that batches the waiting requests.

`TorchServer` answers verl's per-request `generate` (any agent loop works with it) and `generate_many` (one call for a
whole batch). Both go through one queue. This module imports neither torch nor verl, so that a program can start a
server before it has loaded them, and the server's own process loads no more of verl than it needs.
"""

import asyncio
from typing import Any

import numpy as np
import ray

BATCH_WINDOW_S = 0.005  # how long a first request waits for company


def server_name(replica_rank: int) -> str:
    """Name of the Ray actor that serves replica `replica_rank`, unique within a Ray job."""
    return f"rlvr_torch_server_{replica_rank}"


def to_array(weight, dtype: str) -> np.ndarray:
    """A tensor for sending, in `dtype` (float32 or bfloat16), as a numpy array, which Ray shares without a copy; bfloat16 as its bits."""
    import torch

    value = weight.detach().to(getattr(torch, dtype)).cpu()
    return (value if dtype == "float32" else value.view(torch.int16)).numpy()


class TorchServer:
    """Serves one model. All methods but generation return at once, also while a batch is being decoded."""

    def __init__(
        self,
        model_path: str,
        trust_remote_code: bool,
        response_length: int,
        max_rows: int,
        seed: int,
        device: str = "cpu",
        dtype: str = "float32",
        context: int = 0,
        memory_share: float = 1.0,
    ):
        """On a GPU fewer than `max_rows` are decoded at once where `memory_share` of it holds no more of `context` tokens."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from rlvr.verl_torch.generation import Generator, end_tokens, rows_in_memory

        how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa", "trust_remote_code": trust_remote_code}
        model = AutoModelForCausalLM.from_pretrained(model_path, **how).to(device).eval()
        self.device = device
        if device == "cuda":
            free = memory_share * torch.cuda.mem_get_info()[1] - torch.cuda.memory_allocated()
            max_rows = min(max_rows, rows_in_memory(model.config, context, model.dtype.itemsize, free))
        ends = end_tokens(model, lambda: AutoTokenizer.from_pretrained(model_path, trust_remote_code=trust_remote_code))
        self.generator = Generator(model, ends, max_rows, seed)
        self.response_length = response_length
        self.parameters = model.state_dict(keep_vars=False)
        self.global_steps: int | None = None
        self.waiting: list[tuple[list[int], Any, asyncio.Future]] = []
        self.decoding: asyncio.Task | None = None
        self.aborting = False
        self.accepting = asyncio.Event()
        self.accepting.set()

    async def ready(self) -> bool:
        return True

    async def generate(self, prompt_ids: list[int], sampling_params: dict, request_id: str, **kwargs):
        """verl's token-in-token-out call: one prompt, one response (`TokenOutput`)."""
        from verl.workers.rollout.replica import TokenOutput

        completion, steps = await self._enqueue(list(prompt_ids), self._sampling(sampling_params))
        return TokenOutput(
            token_ids=completion.token_ids,
            log_probs=completion.log_probs,
            stop_reason=completion.stop_reason,
            extra_fields={"global_steps": steps[1], "min_global_steps": steps[0], "max_global_steps": steps[1]},
        )

    async def generate_many(self, prompts: list[list[int]], sampling_params: list[dict]) -> list[tuple]:
        """One response per prompt: (token_ids, log_probs, stop_reason, first and last weight version)."""
        answers = await asyncio.gather(
            *[self._enqueue(prompt, self._sampling(p)) for prompt, p in zip(prompts, sampling_params, strict=True)]
        )
        return [(c.token_ids, c.log_probs, c.stop_reason, steps) for c, steps in answers]

    def _sampling(self, params: dict):
        from rlvr.verl_torch.generation import Sampling

        names = ("temperature", "top_p", "top_k", "seed", "ignore_eos")
        return Sampling(
            max_tokens=params.get("max_tokens") or params.get("max_new_tokens") or self.response_length,
            stop_token_ids=tuple(params.get("stop_token_ids") or ()),
            **{name: params[name] for name in names if name in params},
        )

    async def _enqueue(self, prompt, sampling):
        await self.accepting.wait()
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((prompt, sampling, answer))
        if self.decoding is None or self.decoding.done():
            self.decoding = asyncio.create_task(self._decode_waiting())
        return await answer

    async def _decode_waiting(self) -> None:
        while self.waiting:
            seen = -1
            while len(self.waiting) != seen:  # as long as requests keep coming
                seen = len(self.waiting)
                await asyncio.sleep(BATCH_WINDOW_S)
            batch, self.waiting = self.waiting, []
            prompts, sampling, answers = map(list, zip(*batch, strict=True))
            first = self.global_steps
            try:
                completions = await asyncio.to_thread(self._generate, prompts, sampling)
            except Exception as error:
                for answer in answers:
                    answer.set_exception(error)
                continue
            for answer, completion in zip(answers, completions, strict=True):
                answer.set_result((completion, (first, self.global_steps)))

    def _generate(self, prompts, sampling) -> list:
        import torch

        with torch.device(self.device):
            return self.generator.generate(prompts, sampling, lambda: self.aborting)

    async def update_weights(self, named: dict[str, np.ndarray], global_steps: int | None = None) -> None:
        """Copy new values into the model, between two tokens if a batch is being decoded."""
        await asyncio.to_thread(self._write_weights, named)
        if global_steps is not None:
            self.global_steps = global_steps

    def _write_weights(self, named) -> None:
        import torch

        unknown = [name for name in named if name not in self.parameters]
        if unknown:
            raise KeyError(f"weights of another model: {unknown[0]} is not a parameter of the rollout model")
        with self.generator.lock, torch.no_grad():
            for name, value in named.items():
                given = torch.from_numpy(np.array(value, copy=not value.flags.writeable))
                self.parameters[name].copy_(given.view(torch.bfloat16) if given.dtype == torch.int16 else given)

    async def abort_all_requests(self, reject_request: bool = False) -> dict:
        """Stop decoding at the next token (partial responses end as `aborted`) and hold further requests."""
        self.accepting.clear()
        self.aborting = True
        count = 0
        if self.decoding is not None and not self.decoding.done():
            await self.decoding
            count = 1
        self.aborting = False
        return {"aborted_count": count, "request_ids": []}

    async def resume_generation(self) -> None:
        self.accepting.set()

    async def sleep(self, *args, **kwargs) -> None:
        """Leave the trainer what the last batch took of a GPU; the weights stay, and on a CPU there is nothing to free."""
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    release_kv_cache = sleep

    async def wake_up(self, *args, **kwargs) -> None: ...
    async def clear_kv_cache(self) -> None: ...
    async def resume_kv_cache(self) -> None: ...
    async def start_profile(self, **kwargs) -> None: ...
    async def stop_profile(self, **kwargs) -> None: ...


def start_server(replica_rank: int, rollout, model, device: str = "cpu", **place):
    """The actor of one replica, started if it is not there; `rollout` and `model` are verl's configs.

    A program may call this before verl does, so that the server loads while the trainer does. `place`: options of the actor.
    """
    options = {"name": server_name(replica_rank), "get_if_exists": True, "max_concurrency": 4096, "num_cpus": 0}
    return ray.remote(TorchServer).options(**options, **place).remote(
        model.path, model.trust_remote_code, rollout.response_length, rollout.max_num_seqs, rollout.seed,
        device, rollout.dtype, rollout.prompt_length + rollout.response_length, rollout.gpu_memory_utilization,
    )  # fmt: skip
