"""Continuous batching over `Generator`: answers join and leave a running batch between two tokens.

Sampling, seeds and log-probabilities are `generation`'s: a request gets the tokens that `Generator.generate` would give
it, whatever else is being decoded. One `Decoder` thread for each generator; `submit` may be called from any thread.
Where a layer of the model is not plain attention (`decoding.grows`), caches cannot be joined and a batch is decoded to its
end before the next begins.
"""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Cache

from rlvr.verl_torch.decoding import GrowingLayer, grows, join
from rlvr.verl_torch.generation import COMPACT_BELOW, Completion, Generator, Sampling, _Chooser, _stop_matrix


@dataclass
class DecodedAnswer(Completion):
    """A completion, with the likeliest tokens [(id, log-probability)] at every place where the request wants them.

    `error`: what decoding raised; the answer is then worth nothing.
    """

    likeliest: list[list[tuple[int, float]]] = field(default_factory=list)
    error: Exception | None = None


@dataclass(eq=False)
class PendingAnswer:
    """One answer to be decoded. The two functions are called in the decoder's thread and must return at once.

    `on_token(id)` is told of every token as it is drawn; True ends the answer there, as a stop token does.
    `finished(answer)` is called once, whatever happens. `cancelled` may be set at any time.
    """

    prompt: list[int]
    sampling: Sampling
    finished: Callable[[DecodedAnswer], None]
    on_token: Callable[[int], bool] | None = None
    top: int = 0  # how many of the likeliest tokens to report at every place
    cancelled: bool = False
    answer: DecodedAnswer = field(default_factory=DecodedAnswer)

    def end(self, reason: str) -> None:
        self.answer.stop_reason = reason
        self.finished(self.answer)


class _Draws(_Chooser):
    """Chooses for rows that are at different places of their answers."""

    def __init__(self, sampling: list[Sampling], unseeded: torch.Generator):
        super().__init__(sampling, max(s.max_tokens for s in sampling), unseeded)
        self.place = torch.zeros(len(sampling), dtype=torch.long)

    def add(self, other: "_Draws") -> None:
        width = max(self.uniform.shape[1], other.uniform.shape[1])
        for part in (self, other):
            part.uniform = torch.nn.functional.pad(part.uniform, (0, width - part.uniform.shape[1]))
        for name in ("greedy", "temperature", "top_p", "top_k", "uniform", "place"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self.restricted = self.restricted or other.restricted

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.place = self.place[rows]

    def _uniform(self, step: int) -> Tensor:
        return self.uniform.gather(1, self.place[:, None])


class _Batch:
    """The rows being decoded. `logits` "rows vocab" are those after each row's last token."""

    def __init__(self, generator: Generator):
        self.generator = generator
        self.requests: list[PendingAnswer] = []
        self.ended: list[bool] = []  # rows that are still computed but no longer wanted
        self.logits: Tensor
        self.cache: Cache
        self.mask: Tensor  # "rows tokens", 0 on the left where a row is shorter
        self.positions: Tensor  # of each row's next token
        self.draws: _Draws
        self.stop: Tensor

    def __len__(self) -> int:
        return len(self.requests) - sum(self.ended)

    def add(self, requests: list[PendingAnswer]) -> None:
        """Prefill the requests' prompts (equal ones once) and let them join."""
        generator, sampling = self.generator, [request.sampling for request in requests]
        distinct = {prompt: k for k, prompt in enumerate(dict.fromkeys(tuple(r.prompt) for r in requests))}
        logits, cache, mask = generator._prefill(list(distinct))
        if mask is None:
            mask = torch.ones(len(distinct), len(next(iter(distinct))), dtype=torch.long)
        source = torch.tensor([distinct[tuple(request.prompt)] for request in requests])
        cache.batch_select_indices(source)
        logits, mask = logits[source], mask[source]
        positions = torch.tensor([len(request.prompt) for request in requests])
        draws = _Draws(sampling, generator._unseeded)
        stop = _stop_matrix(sampling, generator.eos_token_ids, logits.shape[-1])
        if len(self):
            self._compact()
            width = max(self.mask.shape[1], mask.shape[1])
            masks = [torch.nn.functional.pad(m, (width - m.shape[1], 0)) for m in (self.mask, mask)]
            cache, logits = join([self.cache, cache]), torch.cat([self.logits, logits])
            mask, positions, stop = (
                torch.cat(masks),
                torch.cat([self.positions, positions]),
                torch.cat([self.stop, stop]),
            )
            self.draws.add(draws)
            draws = self.draws
        else:
            self.requests, self.ended = [], []
        self.logits, self.cache, self.mask, self.positions, self.stop = logits, cache, mask, positions, stop
        self.draws = draws
        self.requests = self.requests + requests
        self.ended = self.ended + [False] * len(requests)

    def step(self) -> None:
        """Sample one token for every row; rows that end with it get their result."""
        chosen, log_probs = self.draws.choose(self.logits, 0)
        likeliest = self._likeliest()
        stops = self.stop.gather(1, chosen[:, None])[:, 0].tolist()
        tokens = chosen.tolist()
        for i, (request, token, log_prob) in enumerate(zip(self.requests, tokens, log_probs.tolist(), strict=True)):
            if self.ended[i]:
                continue
            answer = request.answer
            if request.cancelled:
                reason = "aborted"
            else:
                answer.token_ids.append(token)
                answer.log_probs.append(log_prob)
                if request.top:
                    answer.likeliest.append(likeliest[i][: request.top])
                told = request.on_token is not None and request.on_token(token)
                ended = len(answer.token_ids) >= request.sampling.max_tokens
                reason = "completed" if stops[i] or told else "length" if ended else ""
            if reason:
                self.ended[i] = True
                request.end(reason)
        if not len(self):
            self.requests, self.ended = [], []
            return
        self.draws.place = (self.draws.place + 1).clamp(max=self.draws.uniform.shape[1] - 1)
        if len(self) < COMPACT_BELOW * len(self.requests):
            chosen = self._compact(chosen)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        mask = None if bool(self.mask.all()) else self.mask
        self.logits = self.generator._logits(chosen[:, None], mask, self.positions[:, None], self.cache)
        self.positions = self.positions + 1

    def _likeliest(self) -> list[list[tuple[int, float]]]:
        """Of each row, the likeliest tokens under softmax(logits / temperature), best first; [] for rows that want none."""
        if not (count := max(request.top for request in self.requests)):
            return []
        values, ids = torch.log_softmax(self.logits.float() / self.draws.temperature, -1).topk(count)
        return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)]

    def _compact(self, chosen: Tensor | None = None) -> Tensor:
        """Drop the rows that have ended, and what is padding in all that stay; returns the others' tokens."""
        keep = torch.tensor([i for i, ended in enumerate(self.ended) if not ended])
        if len(keep) < len(self.requests):
            self.cache.batch_select_indices(keep)
            self.logits, self.mask, self.positions = self.logits[keep], self.mask[keep], self.positions[keep]
            self.stop = self.stop[keep]
            self.draws.keep(keep)
            self.requests = [self.requests[i] for i in keep.tolist()]
            self.ended = [False] * len(self.requests)
            chosen = None if chosen is None else chosen[keep]
        padding = self.mask.shape[1] - int(self.mask.sum(1).max())
        if padding and all(isinstance(layer, GrowingLayer) for layer in self.cache.layers):
            for layer in self.cache.layers:
                layer.drop_left(padding)  # type: ignore[attr-defined]
            self.mask = self.mask[:, padding:]
        return chosen  # type: ignore[return-value]


class Decoder:
    """Decodes what is submitted, in one thread for each of the generators, until `close`."""

    def __init__(self, generators: list[Generator], threads_each: int | None = None, device: str = "cpu"):
        """`threads_each`: torch's threads in one operation; None: torch's own choice."""
        self.joins = grows(generators[0].model.config)
        self.condition = threading.Condition()
        self.waiting: list[list[PendingAnswer]] = [[] for _ in generators]
        self.running = [0] * len(generators)
        self.closed = False
        self.threads = [
            threading.Thread(target=self._work, args=(i, generator, threads_each, device), daemon=True)
            for i, generator in enumerate(generators)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, requests: list[PendingAnswer]) -> None:
        """Queue requests, each where least is being done."""
        with self.condition:
            if self.closed:
                raise RuntimeError("the decoder is closed")
            for request in requests:
                loads = [len(queue) + self.running[i] for i, queue in enumerate(self.waiting)]
                self.waiting[loads.index(min(loads))].append(request)
            self.condition.notify_all()

    @property
    def load(self) -> int:
        """Requests waiting or being decoded."""
        with self.condition:
            return sum(map(len, self.waiting)) + sum(self.running)

    def close(self) -> None:
        """End the threads; what is not finished ends as `aborted`."""
        with self.condition:
            self.closed = True
            self.condition.notify_all()
        for thread in self.threads:
            thread.join()

    def _work(self, number: int, generator: Generator, threads: int | None, device: str) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        batch = _Batch(generator)
        with torch.inference_mode(), torch.device(device) if device != "cpu" else nullcontext():
            while (new := self._take(number, batch)) is not None:
                try:
                    if new:
                        batch.add(new)
                    if len(batch):
                        batch.step()
                except Exception as error:  # every waiting request gets the error; the next requests start a new batch
                    failed = dict.fromkeys([r for r, over in zip(batch.requests, batch.ended, strict=True) if not over])
                    for request in failed | dict.fromkeys(new):
                        request.answer.error = error
                        request.end("aborted")
                    batch = _Batch(generator)
        with self.condition:
            left = self.waiting[number] + [r for r, over in zip(batch.requests, batch.ended, strict=True) if not over]
            self.waiting[number] = []
        for request in left:
            request.end("aborted")

    def _take(self, number: int, batch: _Batch) -> list[PendingAnswer] | None:
        """The requests that now join the batch, waiting for one if it is empty; None at the end."""
        with self.condition:
            self.running[number] = len(batch)
            while not (self.closed or len(batch) or self.waiting[number]):
                self.condition.wait()
            if self.closed:
                return None
            queue = self.waiting[number]
            for request in [request for request in queue if request.cancelled]:
                queue.remove(request)
                request.end("aborted")
            room = batch.generator.max_rows - len(batch) if self.joins or not len(batch) else 0
            self.waiting[number], taken = queue[room:], queue[:room]
            self.running[number] = len(batch) + len(taken)
            return taken
