"""Two engines with the same methods: `torch` (ours) and `vllm` (its offline `LLM`), each on a CPU or a GPU.

    name, versions, dtype, tokenizer, context   of what runs; context is the tokens of prompt and response together
    load(path)                                  replace the weights by those of another model of the same shape
    generate(prompts, sampling, on_progress)    one response to each prompt, in order: token ids, the end token kept
    loglikelihood(prompts, continuations)       log-probability (nats) of each continuation after its prompt

One engine serves every checkpoint of a run: `load` copies the next weights into the running model. On a CPU each core
decodes batches of its own over the same weights, which two cores do twice as fast as one operation shared by both; a
large model's cores share one batch.

Departure from the authors: every model is read in one dtype (float32 on a CPU, bfloat16 on a GPU). Theirs reads the base
model in bfloat16 and its own float32 checkpoints in float16, which alone moves MATH500 by 3.6 points (paper B.6, Table 7).
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rlvr.cli import ConfigError, hide_transformers_bars
from rlvr.verl_torch.generation import Completion, Generator, Sampling, end_tokens, rows_in_memory

ENGINES = ("torch", "vllm")
OnProgress = Callable[[int, int], None]  # called with how many more responses and tokens there are
# Answers decoded at once. On a core the tiny model makes 7,000 tokens/s with 256 and 10,000 with 1,024: what a step costs
# whatever its size is then small. Of a large model that is little, and progress is shown after every batch.
MOST_ROWS, MOST_ROWS_OF_LARGE, LARGE_PARAMETERS = 1024, 256, 2e7
MEMORY_SHARE = 0.25  # of what is free, for the keys and values of the running batches
SCORE_ROWS = 64  # sequences in one forward pass of `loglikelihood`


def start(
    engine: str, path: str, device: str | None = None, dtype: str | None = None, rows: int | None = None, seed: int = 0
) -> Engine:
    """An engine with the model at `path` (folder or Hugging Face id) loaded. ConfigError with the remedy when it cannot be.

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
    """Tokens of prompt and response together that a model was made for."""
    return int(config.max_position_embeddings)


def _from_pretrained(kind: str, path: str, **options: Any) -> Any:
    """What transformers' class `kind` reads at a path; ConfigError with the remedy when it cannot."""
    import transformers

    hide_transformers_bars()
    try:
        return getattr(transformers, kind).from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        remedy = "give a folder, or a Hugging Face id and a network"
        raise ConfigError(f"model={path}: cannot be loaded ({reason}): {remedy}") from None


def named_weights(path: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a model's safetensors files: a folder's own, or those of a Hugging Face id (downloaded once)."""
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
    """`rlvr.verl_torch.generation` in as many threads as there are cores (one on a GPU).

    ConfigError for weights that do not fit.
    """

    name = "torch"
    batch: int | None  # answers of a large model that are decoded together

    def __init__(self, path: str, device: str, dtype: str, rows: int | None):
        import transformers

        self.tokenizer = _from_pretrained("AutoTokenizer", path)
        how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
        self.model = _from_pretrained("AutoModelForCausalLM", path, **how).to(device).eval()
        self.device, self.dtype, self.rows = device, dtype, rows
        self.context = context_of(self.model.config)
        self.versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        self.eos = end_tokens(self.model, lambda: self.tokenizer)
        # A large model's cores share a batch: each batch reads all weights for every token, and they fit into no cache.
        self.large = self.model.num_parameters() >= LARGE_PARAMETERS
        self.batch = MOST_ROWS_OF_LARGE if self.large else None
        workers = _cores() if device == "cpu" and not self.large else 1
        self.generators = [Generator(self.model, self.eos, rows or MOST_ROWS) for _ in range(workers)]

    def load(self, path: str) -> None:
        parameters = self.model.state_dict(keep_vars=False)
        given = set()
        for name, value in named_weights(path):
            if name not in parameters or parameters[name].shape != value.shape:
                shape = tuple(parameters[name].shape) if name in parameters else "no such parameter"
                raise ConfigError(f"{path}: {name} {tuple(value.shape)} does not fit the model that runs ({shape})")
            parameters[name].copy_(value)
            given.add(name)
        written = {parameters[name].data_ptr() for name in given}  # also those tied to one that the file holds
        if missing := sorted(name for name in parameters if parameters[name].data_ptr() not in written):
            raise ConfigError(f"{path}: has no weights for {missing[0]}: the checkpoint is not whole")

    def generate(self, prompts: list[list[int]], sampling: list[Sampling], on_progress: OnProgress) -> list[Completion]:
        # Equal requests (greedy copies, a repeated seed) have equal answers and are asked once.
        asked: dict[tuple, list[int]] = {}
        for i, (prompt, how) in enumerate(zip(prompts, sampling, strict=True)):
            fixed = how.seed is not None or not how.temperature
            asked.setdefault((tuple(prompt), how) if fixed else (i,), []).append(i)
        groups = sorted(
            asked.values(), key=lambda group: (sampling[group[0]].max_tokens, len(prompts[group[0]]), prompts[group[0]])
        )
        # The longest come first, so that no core is left with them at the end; the batches that the cores decode side by side
        # are dealt from neighbours, so that all take as long.
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
            firsts = [group[0] for group in batch]
            generator = idle.get()
            try:
                with torch.device(self.device):
                    ours, how = [prompts[i] for i in firsts], [sampling[i] for i in firsts]
                    answers = generator.generate(ours, how, stop.is_set)
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
        """Answers that each core decodes at once, when the longest may have so many tokens, its prompt's included."""
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
            # Padding on the right: under causal attention no token sees it.
            ids = torch.tensor([ids + ids[:1] * (width - len(ids)) for ids in whole], device=self.device)
            logits = self.model(input_ids=ids, use_cache=False).logits
            for row, i in enumerate(rows):
                end = len(whole[row])
                begin = end - len(continuations[i])
                log_probs = torch.log_softmax(logits[row, begin - 1 : end - 1].float(), -1)
                sums[i] = float(log_probs.gather(-1, ids[row, begin:end, None]).sum())
        return sums


def _cores() -> int:
    """Cores this process may use, or as many as OMP_NUM_THREADS says."""
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else torch.get_num_threads()


class VllmEngine:
    """vLLM's offline engine. The weights of a further checkpoint go through its own loader, in its worker process."""

    name = "vllm"
    batch: int | None = None

    def __init__(self, path: str, dtype: str, seed: int):
        if find_spec("vllm") is None:
            raise ConfigError("engine=vllm: vLLM is not installed: pip install -e '.[gpu]', or engine=torch")
        import vllm

        self.tokenizer = _from_pretrained("AutoTokenizer", path)
        self.dtype, self.context = dtype, context_of(_from_pretrained("AutoConfig", path))
        self.versions = {"vllm": vllm.__version__, "torch": torch.__version__}
        # On a CPU compiling takes minutes, and the memory is not vLLM's alone as a GPU's is.
        on_cpu = {} if torch.cuda.is_available() else {"enforce_eager": True, "gpu_memory_utilization": 0.3}
        try:
            self.llm = vllm.LLM(
                model=path,
                dtype=dtype,
                seed=seed,
                max_model_len=self.context,
                worker_extension_cls="rlvr.evaluate.vllm_worker.LoadWeights",
                **on_cpu,
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"engine=vllm: vLLM did not start ({reason}); its messages above say why. engine=torch runs without it"
            ) from None

    def load(self, path: str) -> None:
        self.llm.collective_rpc("load_weights_from", args=(path,))
        self.llm.reset_prefix_cache()

    def generate(self, prompts: list[list[int]], sampling: list[Sampling], on_progress: OnProgress) -> list[Completion]:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        # `LLM.generate` says nothing until all is done: the loop inside it, with a word after every answer.
        engine = self.llm.llm_engine
        for i, (prompt, s) in enumerate(zip(prompts, sampling, strict=True)):
            params = SamplingParams(temperature=s.temperature, top_p=s.top_p, top_k=s.top_k, max_tokens=s.max_tokens,
                                    seed=s.seed, stop_token_ids=list(s.stop_token_ids), detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)  # fmt: skip
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
        return [_log_prob(o, len(prompt)) for o, prompt in zip(outputs, prompts, strict=True)]


def _log_prob(output: Any, begin: int) -> float:
    ids: Sequence[int] = output.prompt_token_ids
    return sum(output.prompt_logprobs[i][ids[i]].logprob for i in range(begin, len(ids)))


Engine = TorchEngine | VllmEngine
