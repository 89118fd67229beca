"""Models answered on this machine by `rlvr.verl_torch.continuous_batching`, whose log-probabilities are the trainer's.

On a CPU each core decodes a batch of its own, which for a small model is faster than sharing every operation; a model of
more than 100 million parameters has work enough for all cores in one batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rlvr.cli import ConfigError
from rlvr.data.prompts import chat_template
from rlvr.serve.api_requests import ChatRequest, CompletionRequest, Problem
from rlvr.serve.detokenize import Text

SHARED_ABOVE = 100_000_000  # parameters
REASONS = {"completed": "stop", "length": "length"}


class LocalModel:
    """One model with its decoder, its prompt template and how long it answers when nobody says."""

    def __init__(self, path: str, template: str, rows: int, device: str | None, dtype: str | None, default: int | None):
        from transformers.utils import logging

        from rlvr.evaluate.inference_engines import start
        from rlvr.verl_torch.continuous_batching import Decoder

        logging.disable_progress_bar()
        engine: Any = start("torch", path, device, dtype, rows)
        self.tokenizer, self.context = engine.tokenizer, engine.context
        if (text := chat_template(template)) is not None:
            self.tokenizer.chat_template = text
        if not self.tokenizer.chat_template:
            raise ConfigError(f"{path}: its tokenizer has no chat template; name one, template=<name>")
        if not hasattr(self.tokenizer, "_tokenizer"):
            raise ConfigError(f"{path}: its tokenizer is a slow one, which cannot be streamed")
        self.default = min(default or self.context, self.context)
        small = engine.device == "cpu" and engine.model.num_parameters() <= SHARED_ABOVE
        generators = engine.generators if small else engine.generators[:1]
        self.decoder = Decoder(generators, 1 if len(generators) > 1 else None, engine.device)
        self.vocabulary = engine.model.get_input_embeddings().num_embeddings

    def prompts(self, asked: ChatRequest | CompletionRequest) -> list[list[int]]:
        """Token ids of what is to be continued; Problem for a prompt that is empty or leaves no room."""
        if isinstance(asked, ChatRequest):
            try:
                text = self.tokenizer.apply_chat_template(
                    [message.plain for message in asked.messages], add_generation_prompt=True, tokenize=False
                )
            except Exception as error:  # a template refuses what it was not made for, in words of its own
                raise Problem(400, f"messages: the chat template refuses them ({error})", "messages") from None
            given: list[Any] = [text]
        else:
            given = asked.prompts
        prompts = [
            p if isinstance(p, list) else self.tokenizer(p, add_special_tokens=False)["input_ids"] for p in given
        ]
        param = "messages" if isinstance(asked, ChatRequest) else "prompt"
        for ids in prompts:
            if not ids:
                raise Problem(400, f"{param}: is empty; give at least one token", param)
            if max(ids) >= self.vocabulary:
                raise Problem(400, f"{param}: {max(ids)} is no token; they end at {self.vocabulary - 1}", param)
            if len(ids) + (asked.limit or 1) > self.context:
                raise Problem(
                    400,
                    f"{param}: {len(ids)} tokens and {asked.limit or 1} to be answered; the model's context is "
                    f"{self.context} tokens",
                    param,
                    "context_length_exceeded",
                )
        if asked.stop_token_ids and max(asked.stop_token_ids) >= self.vocabulary:
            raise Problem(400, f"stop_token_ids: tokens end at {self.vocabulary - 1}", "stop_token_ids")
        return prompts


def _seed(seed: int | None, choice: int) -> int | None:
    """Of one choice: the request's own for the first, one that depends on it for each further one."""
    if seed is None or not choice:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}/{choice}".encode(), digest_size=7).digest(), "big")


class LocalBackend:
    """Answers requests for the models by name. `queue`: answers that may be waiting or under way at once."""

    def __init__(self, models: dict[str, LocalModel], queue: int):
        self.models: Mapping[str, LocalModel] = models
        self.queue = queue
        self.active = 0

    @property
    def healthy(self) -> bool:
        return all(thread.is_alive() for model in self.models.values() for thread in model.decoder.threads)

    async def close(self) -> None:
        for model in self.models.values():
            await asyncio.to_thread(model.decoder.close)

    async def answer(self, asked: ChatRequest | CompletionRequest) -> AsyncIterator[dict[str, Any]]:
        """The response's chunks as they come, if it is streamed; else the one whole response.

        Problem before the first if it cannot be answered. Closing the iterator cancels what is left.
        """
        model = self.models[asked.model]
        prompts = model.prompts(asked)
        count = len(prompts) * asked.choices
        if count > self.queue:
            raise Problem(400, f"n: {count} answers in one request; {self.queue} may be under way at once", "n")
        if self.active + count > self.queue:
            raise Problem(
                429, f"{self.active} answers are under way, no room for {count} more: try again", None, "queue_full"
            )
        work = _Work(model, asked, prompts)
        self.active += count
        try:
            async for chunk in work.run():
                yield chunk
        finally:
            self.active -= count
            work.cancel()


class _Work:
    """One request being answered: its choices, and their events on the way from the decoder's threads."""

    def __init__(self, model: LocalModel, asked: ChatRequest | CompletionRequest, prompts: list[list[int]]):
        from rlvr.verl_torch.continuous_batching import Request
        from rlvr.verl_torch.generation import Sampling

        self.model, self.asked, self.prompts = model, asked, prompts
        self.loop, self.events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, str, Any]]()
        self.chat = isinstance(asked, ChatRequest)
        self.head = {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": ("chat.completion.chunk" if asked.stream else "chat.completion")
            if self.chat
            else "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }
        self.texts: list[Text] = []
        self.sent: list[list[int]] = []  # of each choice: characters and tokens that were streamed
        self.requests: list[Request] = []
        for prompt in prompts:
            for choice in range(asked.choices):
                limit = asked.limit or min(model.default, model.context - len(prompt))
                how = Sampling(
                    limit,
                    1.0 if asked.temperature is None else asked.temperature,
                    asked.top_p or 1.0,
                    asked.top_k or -1,
                    _seed(asked.seed, choice),
                    tuple(asked.stop_token_ids or ()),
                )
                i = len(self.requests)
                self.texts.append(Text(model.tokenizer, asked.stop or []))
                self.sent.append([0, 0])
                request = Request(prompt, how, lambda answer, i=i: self._tell(i, "end", answer), top=asked.top or 0)  # type: ignore[misc]
                if asked.stream or asked.stop:
                    request.on_token = lambda token, i=i: self._token(i, token)  # type: ignore[misc]
                self.requests.append(request)

    def _tell(self, choice: int, what: str, value: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, (choice, what, value))

    def _token(self, choice: int, token: int) -> bool:
        new, stopped = self.texts[choice].push(token)
        if self.asked.stream and new and not stopped:
            self._tell(choice, "text", new)
        return stopped

    def cancel(self) -> None:
        for request in self.requests:
            request.cancelled = True

    async def run(self) -> AsyncIterator[dict[str, Any]]:
        self.model.decoder.submit(self.requests)
        left = len(self.requests)
        whole: list[dict[str, Any]] = [{}] * left
        if self.asked.stream and self.chat:
            for i in range(left):
                yield self._chunk(i, {"role": "assistant", "content": ""}, None)
        while left:
            i, what, value = await self.events.get()
            if what == "text":
                self.sent[i][0] += len(value)
                yield self._chunk(i, {"content": value} if self.chat else value, None, self._new_logprobs(i))
                continue
            left -= 1
            if value.error is not None:
                raise Problem(500, f"the model failed: {type(value.error).__name__}: {value.error}")
            if value.stop_reason == "aborted":
                raise Problem(503, "the server is shutting down")
            text, reason = self._whole(i, value), REASONS[value.stop_reason]
            if self.asked.stream:
                rest = text[self.sent[i][0] :]
                logprobs = self._new_logprobs(i)
                if rest or logprobs:
                    yield self._chunk(i, {"content": rest} if self.chat else rest, None, logprobs)
                yield self._chunk(i, {} if self.chat else "", reason)
            else:
                body = (
                    {"message": {"role": "assistant", "content": text, "refusal": None}}
                    if self.chat
                    else {"text": text}
                )
                logprobs = self._logprobs(i, 0) if self.asked.top is not None else None
                whole[i] = {"index": i, **body, "logprobs": logprobs, "finish_reason": reason}
        if not self.asked.stream:
            yield self.head | {"choices": whole, "usage": self._usage()}
        elif self.asked.wants_usage:
            yield self.head | {"choices": [], "usage": self._usage()}

    def _whole(self, choice: int, answer: Any) -> str:
        text = self.texts[choice]
        text.ids = answer.token_ids
        return text.end()

    def _usage(self) -> dict[str, int]:
        prompt = sum(map(len, self.prompts))
        completion = sum(len(request.answer.token_ids) for request in self.requests)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _chunk(self, choice: int, delta: Any, reason: str | None, logprobs: Any = None) -> dict[str, Any]:
        body = {"delta": delta} if self.chat else {"text": delta}
        return self.head | {"choices": [{"index": choice, **body, "logprobs": logprobs, "finish_reason": reason}]}

    def _new_logprobs(self, choice: int) -> dict[str, Any] | None:
        """Those of the tokens that no chunk has reported."""
        if self.asked.top is None:
            return None
        begin = self.sent[choice][1]
        self.sent[choice][1] = len(self.requests[choice].answer.log_probs)
        return self._logprobs(choice, begin, self.sent[choice][1]) if self.sent[choice][1] > begin else None

    def _logprobs(self, choice: int, begin: int, end: int | None = None) -> dict[str, Any]:
        answer = self.requests[choice].answer
        places = []
        for i in range(begin, len(answer.log_probs) if end is None else end):
            likeliest = answer.likeliest[i] if self.asked.top else []
            places.append((self._token_text(answer.token_ids[i]), answer.log_probs[i],
                           [(self._token_text(token), value) for token, value in likeliest]))  # fmt: skip
        if self.chat:
            return {"content": [_entry(t, p) | {"top_logprobs": [_entry(*one) for one in top]} for t, p, top in places],
                    "refusal": None}  # fmt: skip
        offsets, at = [], sum(len(self._token_text(token)) for token in answer.token_ids[:begin])
        for text, _, _ in places:
            offsets.append(at)
            at += len(text)
        return {"tokens": [text for text, _, _ in places], "token_logprobs": [value for _, value, _ in places],
                "top_logprobs": [dict(top) for _, _, top in places] if self.asked.top else None,
                "text_offset": offsets}  # fmt: skip

    def _token_text(self, token: int) -> str:
        return self.model.tokenizer.decode([token], skip_special_tokens=False)


def _entry(text: str, log_prob: float) -> dict[str, Any]:
    """A token as chat log-probabilities show it; a part of a character has no text, so its bytes are not given."""
    return {"token": text, "logprob": log_prob, "bytes": None if "�" in text else list(text.encode())}
