"""Models that run on this machine with `rlvr.verl_torch.continuous_batching`; log-probabilities equal the trainer's.

On a CPU each core decodes a batch of its own, which for a small model is faster than sharing every operation; a model of
more than 100 million parameters has work enough for all cores in one batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from itertools import accumulate, repeat
from typing import Any

from rlvr.cli import ConfigError
from rlvr.data.prompts import STOPS, chat_template
from rlvr.serve.api_requests import ApiError, ChatRequest, CompletionRequest
from rlvr.serve.detokenize import StreamedText

SHARED_ABOVE = 100_000_000  # parameters
SCORED_AT_ONCE = 256  # tokens of a prompt in one forward pass: their logits are held at once
REASONS = {"completed": "stop", "length": "length"}


# A token, its log-probability (None: the first of a prompt) and the likeliest tokens there with theirs.
Place = tuple[int, float | None, list[tuple[int, float]]]


class TorchModel:
    """One model with its decoder, its prompt template and stop texts, and its default length of answers."""

    def __init__(self, path: str, template: str, rows: int, device: str | None, dtype: str | None, default: int | None):
        from transformers.utils import logging

        from rlvr.evaluate.inference_engines import start
        from rlvr.verl_torch.continuous_batching import Decoder

        logging.disable_progress_bar()
        engine: Any = start("torch", path, device, dtype, rows)
        self.model, self.tokenizer, self.context = engine.model, engine.tokenizer, engine.context
        if (text := chat_template(template)) is not None:
            self.tokenizer.chat_template = text
        if not self.tokenizer.chat_template:
            raise ConfigError(f"{path}: its tokenizer has no chat template; name one, template=<name>")
        if not hasattr(self.tokenizer, "backend_tokenizer"):
            raise ConfigError(f"{path}: its tokenizer is a slow one, which cannot be streamed")
        self.stops = STOPS.get(template, ())
        self.default = min(default or self.context, self.context)
        small = engine.device == "cpu" and self.model.num_parameters() <= SHARED_ABOVE
        generators = engine.generators if small else engine.generators[:1]
        self.decoder = Decoder(generators, 1 if len(generators) > 1 else None, engine.device)
        self.vocabulary = self.model.get_input_embeddings().num_embeddings

    def prompts(self, asked: ChatRequest | CompletionRequest) -> list[list[int]]:
        """Token ids of the prompt; ApiError for a prompt that is empty or leaves no room for an answer."""
        if isinstance(asked, ChatRequest):
            param, messages = "messages", [message.plain for message in asked.messages]
            try:
                how = {"add_generation_prompt": True, "tokenize": False}
                given: list[Any] = [self.tokenizer.apply_chat_template(messages, **how)]
            except Exception as error:  # a template refuses some conversations, with an error of its own
                raise ApiError(400, f"messages: the chat template refuses them ({error})", "messages") from None
        else:
            param, given = "prompt", asked.prompt
        prompts = [
            p if isinstance(p, list) else self.tokenizer(p, add_special_tokens=False)["input_ids"] for p in given
        ]
        room = 1 if asked.limit is None else asked.limit
        for ids in prompts:
            if not ids:
                raise ApiError(400, f"{param}: is empty; give at least one token", param)
            if max(ids) >= self.vocabulary:
                raise ApiError(400, f"{param}: {max(ids)} is not a token; tokens end at {self.vocabulary - 1}", param)
            if len(ids) + room > self.context:
                said = f"{len(ids)} tokens and {room} for the answer; the model's context is {self.context} tokens"
                raise ApiError(400, f"{param}: {said}", param, "context_length_exceeded")
        if asked.stop_token_ids and max(asked.stop_token_ids) >= self.vocabulary:
            raise ApiError(400, f"stop_token_ids: tokens end at {self.vocabulary - 1}", "stop_token_ids")
        return prompts

    def scored(self, ids: list[int], temperature: float, top: int) -> list[Place]:
        """A prompt's tokens with their log-probabilities, in the form of an answer's."""
        import torch

        from rlvr.verl_torch.decoding import new_cache

        places: list[Place] = [(ids[0], None, [])]
        cache = new_cache(self.model.config)
        with torch.inference_mode():
            for start in range(0, len(ids) - 1, SCORED_AT_ONCE):
                part = torch.tensor([ids[start : start + SCORED_AT_ONCE]], device=self.model.device)
                logits = self.model(input_ids=part, past_key_values=cache, use_cache=True).logits[0].float().cpu()
                log_probs = torch.log_softmax(logits / (temperature or 1.0), -1)
                values, tokens = (of.tolist() for of in log_probs.topk(top))
                for i, token in enumerate(ids[start + 1 : start + SCORED_AT_ONCE + 1]):
                    places.append((token, float(log_probs[i, token]), list(zip(tokens[i], values[i], strict=True))))
        return places

    def written(self, token: int) -> str:
        return self.tokenizer.decode([token], skip_special_tokens=False)


class TorchBackend:
    """Answers requests for the models by name."""

    def __init__(self, models: dict[str, TorchModel]):
        self.models: Mapping[str, TorchModel] = models

    @property
    def healthy(self) -> bool:
        return all(thread.is_alive() for model in self.models.values() for thread in model.decoder.threads)

    async def close(self) -> None:
        for model in self.models.values():
            await asyncio.to_thread(model.decoder.close)

    async def answer(self, asked: ChatRequest | CompletionRequest) -> AsyncIterator[dict[str, Any]]:
        """The response's chunks as they arrive, if it is streamed; else the whole response.

        ApiError before the first if it cannot be answered. Closing the iterator cancels what is left.
        """
        model = self.models[asked.model]
        exchange = _Exchange(model, asked, model.prompts(asked))
        try:
            async for chunk in exchange.chunks():
                yield chunk
        finally:
            for choice in exchange.choices:
                choice.pending.cancelled = True


class _Choice:
    """One of the answers to a request: its text and decoding, the text before it, and how much was streamed."""

    def __init__(self, exchange: _Exchange, index: int, prompt: list[int]):
        from rlvr.verl_torch import stop_texts
        from rlvr.verl_torch.continuous_batching import PendingAnswer
        from rlvr.verl_torch.generation import Sampling

        model, asked = exchange.model, exchange.asked
        stops = [*model.stops, *(asked.stop or [])]
        ends = (*stop_texts.token_ids(model.tokenizer, stops), *(asked.stop_token_ids or ()))
        how = Sampling(
            min(model.default, model.context - len(prompt)) if asked.limit is None else max(1, asked.limit),
            1.0 if asked.temperature is None else asked.temperature,
            asked.top_p or 1.0,
            asked.top_k or -1,
            _seed(asked.seed, index % asked.choices),
            ends,
        )
        self.exchange, self.index, self.prompt = exchange, index, prompt
        self.text = StreamedText(model.tokenizer, stops)
        self.pending = PendingAnswer(prompt, how, lambda answer: exchange.tell(self, answer), top=asked.top or 0)
        if asked.stream or stops:
            self.pending.on_token = self._drawn
        self.before: list[Place] = []  # the prompt's tokens, if the request wants them
        self.characters = self.tokens = self.offset = 0  # that were streamed: of the answer, and with the prompt

    def _drawn(self, token: int) -> bool:
        new, stopped = self.text.push(token)
        if self.exchange.asked.stream and new and not stopped:
            self.exchange.tell(self, new)
        return stopped

    def logprobs(self) -> dict[str, Any] | None:
        """Log-probabilities of the tokens that were not reported yet, in the API's format."""
        asked, answer, written = self.exchange.asked, self.pending.answer, self.exchange.model.written
        if asked.top is None:
            return None
        # The decoder's thread may be adding a token: only completely written tokens count.
        drawn = zip(answer.token_ids, answer.log_probs, answer.likeliest if asked.top else repeat([]), strict=False)
        new = [
            (written(token), value, [(written(other), of_other) for other, of_other in likeliest])
            for token, value, likeliest in [*self.before, *drawn][self.tokens :]
        ]
        if not new:
            return None
        self.tokens += len(new)
        if isinstance(asked, ChatRequest):
            content = [_entry(text, value) | {"top_logprobs": [_entry(*of) for of in top]} for text, value, top in new]
            return {"content": content, "refusal": None}
        texts, values, tops = zip(*new, strict=True)
        *offsets, self.offset = accumulate(map(len, texts), initial=self.offset)
        top_logprobs = [dict(top) or None for top in tops] if asked.top else None
        return {"tokens": texts, "token_logprobs": values, "top_logprobs": top_logprobs, "text_offset": offsets}


class _Exchange:
    """One running request: its choices, and the messages of the decoder's threads about them."""

    def __init__(self, model: TorchModel, asked: ChatRequest | CompletionRequest, prompts: list[list[int]]):
        self.model, self.asked, self.prompts = model, asked, prompts
        self.loop, self.told = asyncio.get_running_loop(), asyncio.Queue[tuple[_Choice, Any]]()
        self.chat = isinstance(asked, ChatRequest)
        kind, name = ("chat.completion", "chatcmpl") if self.chat else ("text_completion", "cmpl")
        self.head = {
            "id": f"{name}-{uuid.uuid4().hex}", "object": f"{kind}.chunk" if self.chat and asked.stream else kind,
            "created": int(time.time()), "model": asked.model,
        }  # fmt: skip
        self.choices = [_Choice(self, i, prompts[i // asked.choices]) for i in range(asked.answers)]

    def tell(self, choice: _Choice, what: Any) -> None:
        """From a decoder's thread: new text of a choice, or its whole answer."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.told.put_nowait, (choice, what))

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks that `TorchBackend.answer` yields."""
        asked, echoed = self.asked, await self._echoed()
        if asked.limit == 0:
            for choice in self.choices:
                choice.pending.end("length")
        else:
            self.model.decoder.submit([choice.pending for choice in self.choices])
        whole: list[dict[str, Any]] = [{}] * len(self.choices)
        for choice in self.choices if asked.stream else ():
            if self.chat:
                yield self._chunk(choice, {"role": "assistant", "content": ""}, None)
            elif echoed:
                yield self._chunk(choice, echoed[choice.index // asked.choices], None)
        left = len(self.choices)
        while left:
            choice, what = await self.told.get()
            if isinstance(what, str):
                choice.characters += len(what)
                yield self._chunk(choice, what, None)
                continue
            left -= 1
            if what.error is not None:
                raise ApiError(500, f"the model failed: {type(what.error).__name__}: {what.error}")
            if what.stop_reason == "aborted":
                raise ApiError(503, "the server is shutting down")
            text, reason = choice.text.end(what.token_ids), REASONS[what.stop_reason]
            if asked.stream:
                yield self._chunk(choice, text[choice.characters :], reason)
                continue
            shown = (echoed[choice.index // asked.choices] if echoed else "") + text
            message = {"message": {"role": "assistant", "content": shown, "refusal": None}}
            body = message if self.chat else {"text": shown}
            logprobs = choice.logprobs()
            whole[choice.index] = {"index": choice.index, **body, "logprobs": logprobs, "finish_reason": reason}
        if not asked.stream:
            yield self.head | {"choices": whole, "usage": self._usage()}
        elif asked.wants_usage:
            yield self.head | {"choices": [], "usage": self._usage()}

    async def _echoed(self) -> list[str]:
        """The prompts' texts if the answer is to begin with them; also scores their tokens if the request wants that."""
        asked, model = self.asked, self.model
        if isinstance(asked, ChatRequest) or not asked.echo:
            return []
        if asked.top is not None:
            for i, prompt in enumerate(self.prompts):
                temperature = 1.0 if asked.temperature is None else asked.temperature
                places = await asyncio.to_thread(model.scored, prompt, temperature, asked.top)
                for choice in self.choices[i * asked.choices : (i + 1) * asked.choices]:
                    choice.before = places
        given = zip(asked.prompt, self.prompts, strict=True)
        return [p if isinstance(p, str) else model.tokenizer.decode(ids) for p, ids in given]

    def _usage(self) -> dict[str, int]:
        prompt = sum(map(len, self.prompts))
        completion = sum(len(choice.pending.answer.token_ids) for choice in self.choices)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _chunk(self, choice: _Choice, delta: Any, reason: str | None) -> dict[str, Any]:
        text = {"content": delta} if self.chat and isinstance(delta, str) else delta
        body = {"delta": text} if self.chat else {"text": text}
        choices = [{"index": choice.index, **body, "logprobs": choice.logprobs(), "finish_reason": reason}]
        return self.head | {"choices": choices}


def _seed(seed: int | None, choice: int) -> int | None:
    """The seed of one choice: the request's for the first; a different one, derived from it, for each further choice."""
    if seed is None or not choice:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}/{choice}".encode(), digest_size=7).digest(), "big")


def _entry(text: str, log_prob: float | None) -> dict[str, Any]:
    """A token as chat log-probabilities show it; a part of a character has no text, so its bytes are not given."""
    return {"token": text, "logprob": log_prob, "bytes": None if "�" in text else list(text.encode())}
