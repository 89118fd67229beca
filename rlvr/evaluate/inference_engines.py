"""Two engines with the same methods: `torch` (ours) and `vllm` (its offline `LLM`), each on a CPU or a GPU.

    name, versions, dtype, tokenizer, context   context: the most tokens of prompt and response together
    batch                                       answers that are decoded together; None: no fixed number
    load(path)                                  replace the weights by those of another model of the same shape
    generate(prompts, sampling, on_progress)    one response to each prompt, in order: token ids, the end token kept
    loglikelihood(prompts, continuations)       log-probability (nats) of each continuation after its prompt

One engine serves every checkpoint of a run: `load` copies the next weights into the running model. On a CPU each core
decodes batches of its own with the same weights; on two cores this is twice as fast as sharing each operation. The cores
share one batch if the model is large.

Departure from the authors: all models have the same dtype (float32 on a CPU, bfloat16 on a GPU). The authors read the base
model in bfloat16 and their float32 checkpoints in float16, which alone moves MATH500 by 3.6 points (paper B.6, Table 7).
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rlvr.cli import ConfigError, hide_transformers_bars, usable_cores
from rlvr.verl_torch.generation import Completion, Generator, Sampling, end_tokens, rows_in_memory

ENGINES = ("torch", "vllm")
OnProgress = Callable[[int, int], None]  # called with the numbers of new responses and tokens
# Answers decoded at once. On one core the tiny model generates 7,000 tokens/s with 256 and 10,000 with 1,024, because a step
# has a fixed cost. For a large model that cost is small, and a smaller batch shows progress more often.
MOST_ROWS, MOST_ROWS_OF_LARGE, LARGE_PARAMETERS = 1024, 256, 2e7
MEMORY_SHARE = 0.25  # of the free memory, for the keys and values of the running batches
SCORE_ROWS = 64  # sequences in one forward pass of `loglikelihood`


def start(
    engine: str, path: str, device: str | None = None, dtype: str | None = None, rows: int | None = None, seed: int = 0
) -> Engine:
    """An engine with the model at `path` (folder or Hugging Face id). ConfigError if it cannot be loaded.

    rows: answers that the torch engine decodes at once on each core; None: as many as fit into memory, MOST_ROWS at most.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine={engine}: expected one of {', '.join(ENGINES)}")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch sees no GPU here; device=cpu runs on the processor")
    dtype = dtype or ("bfloat16" if device == "cuda" else "float32")
    if not hasattr(torch, dtype):
        raise ConfigError(f"dtype={dtype}: expected float32, bfloat16 or float16")
    if engine == "vllm":
        return VllmEngine(path, dtype, seed)
    return TorchEngine(path, device, dtype, rows)


def context_of(config: Any) -> int:
    """The most tokens of prompt and response together."""
    return int(config.max_position_embeddings)


def _from_pretrained(kind: str, path: str, **options: Any) -> Any:
    """Load with transformers' class `kind`. ConfigError if that fails."""
    import transformers

    hide_transformers_bars()
    try:
        return getattr(transformers, kind).from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        reason = f"model={path}: cannot be loaded ({str(error).splitlines()[0]})"
        raise ConfigError(f"{reason}: give a folder, or a Hugging Face id and a network") from None


def named_weights(path: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of all weights in the safetensors files of a folder or of a Hugging Face id (downloaded once)."""
    from safetensors import safe_open

    folder = Path(path)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (a safetensors handle is not a mapping)
                yield name, tensors.get_tensor(name)


class TorchEngine:
    """`rlvr.verl_torch.generation` in as many threads as there are cores (one on a GPU)."""

    name = "torch"

    def __init__(self, path: str, device: str, dtype: str, rows: int | None):
        import transformers

        self.tokenizer = _from_pretrained("AutoTokenizer", path)
        how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
        self.model = _from_pretrained("AutoModelForCausalLM", path, **how).to(device).eval()
        self.device, self.dtype, self.rows = device, dtype, rows
        self.context = context_of(self.model.config)
        self.versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        self.eos = end_tokens(self.model, lambda: self.tokenizer)
        # Each batch reads all weights for every token. Those of a large model fit into no cache: the cores share one batch.
        self.large = self.model.num_parameters() >= LARGE_PARAMETERS
        self.batch: int | None = MOST_ROWS_OF_LARGE if self.large else None
        workers = _cores() if device == "cpu" and not self.large else 1
        self.generators = [Generator(self.model, self.eos, rows or MOST_ROWS) for _ in range(workers)]

    def load(self, path: str) -> None:
        """ConfigError for weights of another shape, and for missing ones."""
        parameters = self.model.state_dict(keep_vars=False)
        loaded = set()
        for name, value in named_weights(path):
            if name not in parameters or parameters[name].shape != value.shape:
                shape = tuple(parameters[name].shape) if name in parameters else "no such parameter"
                raise ConfigError(f"{path}: {name} {tuple(value.shape)} does not fit the running model ({shape})")
            parameters[name].copy_(value)
            loaded.add(name)
        written = {parameters[name].data_ptr() for name in loaded}  # a tied parameter shares its memory
        if missing := sorted(name for name in parameters if parameters[name].data_ptr() not in written):
            raise ConfigError(f"{path}: has no weights for {missing[0]}: the checkpoint is incomplete")

    def generate(self, prompts: list[list[int]], sampling: list[Sampling], on_progress: OnProgress) -> list[Completion]:
        # Equal requests (greedy, or with the same seed) have equal answers and are generated once.
        equal: dict[tuple, list[int]] = {}
        for i, (prompt, how) in enumerate(zip(prompts, sampling, strict=True)):
            fixed = how.seed is not None or not how.temperature
            equal.setdefault((tuple(prompt), how) if fixed else (i,), []).append(i)
        groups = sorted(equal.values(), key=lambda g: (sampling[g[0]].max_tokens, len(prompts[g[0]]), prompts[g[0]]))
        # The longest come first, so that no core has to finish them alone at the end. Batches that run at the same time take
        # turns through the sorted groups, so that they take equally long.
        workers = len(self.generators)
        longest = max((len(p) + s.max_tokens for p, s in zip(prompts, sampling, strict=True)), default=1)
        rows = self.rows or self._rows(longest)
        rounds = max(1, -(-len(groups) // (rows * workers)))
        size = -(-len(groups) // rounds)
        sides = [groups[i : i + size] for i in range(0, len(groups), size)]
        batches = [side[worker::workers] for side in reversed(sides) for worker in range(workers)]
        results: list[Completion] = [Completion()] * len(prompts)
        idle: queue.SimpleQueue[Generator] = queue.SimpleQueue()
        for generator in self.generators:
            idle.put(generator)
        stop = threading.Event()

        def work(batch: list[list[int]]) -> None:
            if self.device == "cpu" and workers > 1:
                torch.set_num_threads(1)
            requests = [prompts[group[0]] for group in batch], [sampling[group[0]] for group in batch]
            generator = idle.get()
            try:
                with torch.device(self.device):
                    answers = generator.generate(*requests, stop.is_set)
            finally:
                idle.put(generator)
            for group, answer in zip(batch, answers, strict=True):
                for i in group:
                    results[i] = answer
            on_progress(sum(map(len, batch)), sum(len(answer.token_ids) for answer in answers))

        with ThreadPoolExecutor(workers) as threads:
            try:
                list(threads.map(work, filter(None, batches)))
            finally:
                stop.set()
        return results

    def _rows(self, tokens: int) -> int:
        """Answers that each core decodes at once. tokens: of the longest answer with its prompt."""
        import psutil

        cuda = self.device == "cuda"
        free = torch.cuda.mem_get_info()[0] if cuda else psutil.virtual_memory().available / len(self.generators)
        most = MOST_ROWS_OF_LARGE if self.large and not cuda else MOST_ROWS
        config, size = self.model.config.get_text_config(), self.model.dtype.itemsize
        return min(most, rows_in_memory(config, tokens, size, MEMORY_SHARE * free))

    @torch.inference_mode()
    def loglikelihood(self, prompts: list[list[int]], continuations: list[list[int]]) -> list[float]:
        sums = [0.0] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(continuations[i]))
        for start_at in range(0, len(order), SCORE_ROWS):
            rows = order[start_at : start_at + SCORE_ROWS]
            whole = [prompts[i] + continuations[i] for i in rows]
            width = max(map(len, whole))
            # Padding on the right: with causal attention no other token sees it.
            ids = torch.tensor([ids + ids[:1] * (width - len(ids)) for ids in whole], device=self.device)
            logits = self.model(input_ids=ids, use_cache=False).logits
            for row, i in enumerate(rows):
                end = len(whole[row])
                begin = end - len(continuations[i])
                log_probs = torch.log_softmax(logits[row, begin - 1 : end - 1].float(), -1)
                sums[i] = float(log_probs.gather(-1, ids[row, begin:end, None]).sum())
        return sums


def _cores() -> int:
    """OMP_NUM_THREADS if it is set, else the cores that this process may use."""
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else usable_cores()


class VllmEngine:
    """vLLM's offline engine. Its own loader, in its worker process, loads the weights of a further checkpoint."""

    name = "vllm"
    batch: int | None = None

    def __init__(self, path: str, dtype: str, seed: int):
        if find_spec("vllm") is None:
            raise ConfigError("engine=vllm: vLLM is not installed: pip install -e '.[gpu]', or engine=torch")
        import vllm

        self.tokenizer = _from_pretrained("AutoTokenizer", path)
        self.dtype, self.context = dtype, context_of(_from_pretrained("AutoConfig", path))
        self.versions = {"vllm": vllm.__version__, "torch": torch.__version__}
        how: dict[str, Any] = {"model": path, "dtype": dtype, "seed": seed, "max_model_len": self.context}
        how["worker_extension_cls"] = "rlvr.evaluate.vllm_worker.LoadWeights"
        if not torch.cuda.is_available():  # on a CPU compiling takes minutes, and other programs use the same memory
            how |= {"enforce_eager": True, "gpu_memory_utilization": 0.3}
        try:
            self.llm = vllm.LLM(**how)
        except (RuntimeError, ValueError) as error:
            reason = f"engine=vllm: vLLM did not start ({str(error).splitlines()[0]})"
            raise ConfigError(f"{reason}; its messages above say why. engine=torch runs without it") from None

    def load(self, path: str) -> None:
        self.llm.collective_rpc("load_weights_from", args=(path,))
        self.llm.reset_prefix_cache()

    def generate(self, prompts: list[list[int]], sampling: list[Sampling], on_progress: OnProgress) -> list[Completion]:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        # `LLM.generate` reports no progress. This is the loop inside it, with a report after every answer.
        engine = self.llm.llm_engine
        for i, (prompt, s) in enumerate(zip(prompts, sampling, strict=True)):
            params = SamplingParams(
                temperature=s.temperature, top_p=s.top_p, top_k=s.top_k, max_tokens=s.max_tokens, seed=s.seed,
                stop_token_ids=list(s.stop_token_ids), detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY,
            )  # fmt: skip
            engine.add_request(str(i), TokensPrompt(prompt_token_ids=prompt), params)
        results: list[Completion] = [Completion()] * len(prompts)
        while engine.has_unfinished_requests():
            for output in engine.step():
                answer = output.outputs[0]
                reason = "completed" if answer.finish_reason == "stop" else "length"
                results[int(output.request_id)] = Completion(list(answer.token_ids), [], reason)
                on_progress(1, len(answer.token_ids))
        return results

    def loglikelihood(self, prompts: list[list[int]], continuations: list[list[int]]) -> list[float]:
        from vllm import SamplingParams, TokensPrompt

        whole = [TokensPrompt(prompt_token_ids=p + c) for p, c in zip(prompts, continuations, strict=True)]
        outputs = self.llm.generate(whole, SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)
        sums = []
        for output, prompt in zip(outputs, prompts, strict=True):
            ids = output.prompt_token_ids
            sums.append(sum(output.prompt_logprobs[i][ids[i]].logprob for i in range(len(prompt), len(ids))))
        return sums


Engine = TorchEngine | VllmEngine
