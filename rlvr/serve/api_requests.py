"""The requests that the endpoint accepts, and errors in the API's format.

The fields are OpenAI's, and of vLLM's extensions `top_k` and `stop_token_ids`. What clients send besides is dropped where
it changes no answer: always (`NO_EFFECT`), or with the value that is listed (`NEUTRAL`), null or empty. Any other field is
refused by its name.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from rlvr.cli import did_you_mean

MAX_CHOICES, MAX_STOPS = 128, 256
INT64 = 2**63
EMPTY: tuple[Any, ...] = (None, [], {}, "")
NO_EFFECT = frozenset([
    "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store", "metadata", "service_tier",
    "parallel_tool_calls", "prediction", "priority", "request_id", "cache_salt", "cache_control", "cache_prompt", "keep_alive",
    "include_reasoning", "separate_reasoning", "stream_reasoning",
])  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,), "repeat_penalty": (1,),
    "length_penalty": (1,), "min_p": (0,), "top_a": (0,), "typical_p": (1,), "tfs_z": (1,), "mirostat": (0,),
    "min_tokens": (0,), "ignore_eos": (False,), "use_beam_search": (False,), "early_stopping": (False,), "num_beams": (1,),
    "skip_special_tokens": (True,), "spaces_between_special_tokens": (True,), "include_stop_str_in_output": (False,),
    "no_stop_trim": (False,), "add_generation_prompt": (True,), "continue_final_message": (False,),
    "add_special_tokens": (False,), "return_tokens_as_token_ids": (False,), "return_token_ids": (False,),
    "logit_bias": (), "best_of": (1,), "echo": (False,), "suffix": (), "tools": (), "tool_choice": ("none", "auto"),
    "functions": (), "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "reasoning_effort": (), "verbosity": ("medium",), "audio": (), "web_search_options": (),
}  # fmt: skip
# Of a message.
MESSAGE_NO_EFFECT = frozenset(["name", "id", "annotations", "cache_control", "parsed", "provider_specific_fields"])
MESSAGE_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "type": ("text", "message"), "tool_calls": (), "function_call": (), "audio": (), "refusal": (),
    "reasoning_content": (), "reasoning": (), "thinking_blocks": (), "status": ("completed",),
}  # fmt: skip


class ApiError(Exception):
    """An error of one request: its HTTP status, and the fields of the API's error object."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def _effective(
    model: type[BaseModel], given: Any, no_effect: frozenset[str], neutral: dict[str, tuple[Any, ...]]
) -> Any:
    """The fields without those that do not change the answer."""
    if not isinstance(given, dict):
        return given

    def changes_nothing(name: str, value: Any) -> bool:
        empty = value in EMPTY and (value is None or name != "web_search_options")  # whose {} asks for a search
        return name not in model.model_fields and (name in no_effect or empty or value in neutral.get(name, ()))

    return {name: value for name, value in given.items() if not changes_nothing(name, value)}


def _joined(content: Any) -> Any:
    """A message's text; text parts are joined."""
    if not isinstance(content, list):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"expected a text or parts {{'type': 'text', 'text': ...}}; this model reads no {kind}")
    return "".join(part["text"] for part in content)


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined)]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        given = _effective(cls, given, MESSAGE_NO_EFFECT, MESSAGE_NEUTRAL)
        silent = isinstance(given, dict) and given.get("role") == "assistant" and given.get("content") is None
        return given | {"content": ""} if silent else given

    @property
    def plain(self) -> dict[str, str]:
        """The message as a dict for chat templates."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class StreamOptions(BaseModel):
    include_usage: bool | None = False


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class Common(BaseModel):
    """The fields of both endpoints. `temperature` 0 is greedy; log-probabilities are of softmax(logits / temperature)."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    model: str
    n: int | None = Field(1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(-1, ge=-1)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(_listed)] = Field(
        None, max_length=MAX_STOPS
    )
    stop_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(None, max_length=MAX_STOPS)
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        given = _effective(cls, given, NO_EFFECT, NEUTRAL)
        if isinstance(given, dict) and given.get("best_of") == given.get("n"):  # then none is better than the others
            given = {name: value for name, value in given.items() if name != "best_of"}
        return given

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def answers(self) -> int:
        """The number of answers that the request wants in all."""
        return self.choices * len(getattr(self, "prompt", [""]))

    @property
    def wants_usage(self) -> bool:
        return not self.stream or bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Common):
    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to report; None: no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


def _prompts(given: Any) -> list[str | list[int]]:
    """The prompts to be continued, each a text or token ids."""

    def is_ids(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(type(token) is int and token >= 0 for token in value)

    prompts = [given] if isinstance(given, str) or is_ids(given) else given
    if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) or is_ids(p) for p in prompts):
        raise ValueError("expected a text, token ids, or a list with at least 1 item of these")
    return prompts


class CompletionRequest(Common):
    prompt: Annotated[list[str | list[int]], BeforeValidator(_prompts)]
    max_tokens: int | None = Field(None, ge=0)
    logprobs: Annotated[int | None, BeforeValidator(lambda given: None if given is False else given)] = Field(
        None, ge=0, le=20
    )
    echo: bool | None = False

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def top(self) -> int | None:
        return self.logprobs


KINDS: dict[str, type[ChatRequest] | type[CompletionRequest]] = {"chat": ChatRequest, "completions": CompletionRequest}


def parse_request(kind: str, body: bytes) -> ChatRequest | CompletionRequest:
    """The request in a body. ApiError (400) that names the faulty field."""
    try:
        asked = KINDS[kind].model_validate(from_json(body))
    except ValidationError as error:
        raise _named(kind, error) from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if isinstance(asked, ChatRequest) and asked.top_logprobs and not asked.logprobs:
        raise ApiError(400, "top_logprobs: needs logprobs=true", "top_logprobs")
    if isinstance(asked, CompletionRequest) and asked.max_tokens == 0 and not asked.echo:
        raise ApiError(400, "max_tokens=0: expected 1 or more; 0 needs echo=true", "max_tokens")
    return asked


def _named(kind: str, error: ValidationError) -> ApiError:
    """The first fault, with the field's name."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        given = "" if first["type"] == "missing" else f"={str(first['input'])[:60]!r}"
        return ApiError(400, f"{field or 'body'}{given}: {first['msg'].removeprefix('Value error, ')}", field or None)
    name, of_message = str(first["loc"][-1]), len(first["loc"]) > 1
    neutral = (MESSAGE_NEUTRAL if of_message else NEUTRAL).get(name)
    if neutral is None:
        known = list((Message if of_message else KINDS[kind]).model_fields)
        hint = did_you_mean(name, known, "leave it out", 0.8)
        return ApiError(400, f"{field}: no such argument here; {hint}", field, "unknown_parameter")
    instead = f", or give {' or '.join(map(json.dumps, neutral))}" if neutral else ""
    said = f"{field}={str(first['input'])[:60]!r}: is not supported here; leave it out{instead}"
    return ApiError(400, said, field, "unsupported_parameter")
