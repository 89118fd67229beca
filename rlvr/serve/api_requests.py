"""What may be asked of the endpoint, and its errors in the API's shape.

The fields are OpenAI's, and of vLLM's extensions `top_k` and `stop_token_ids`. A field that would change the answer and is
not implemented is refused unless it says what holds anyway; nothing is ignored in silence.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rlvr.cli import did_you_mean

MAX_CHOICES = 128  # OpenAI's bound on n
INT64 = 2**63


class Problem(Exception):
    """An error of one request: its HTTP status, and what the API's error object says."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def _only(*allowed: Any) -> Any:
    """A field that may be given, if it says what holds anyway."""

    def check(value: Any) -> Any:
        if value is not None and value not in allowed:
            raise ValueError(f"is not supported here; leave it out, or give {' or '.join(map(repr, allowed))}")
        return value

    return Annotated[Any, BeforeValidator(check)]


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool = False
    include_obfuscation: _only(False) = None  # type: ignore[valid-type]


class Common(BaseModel):
    """What both endpoints take. `temperature` 0 is greedy; log-probabilities are of softmax(logits / temperature)."""

    model_config = ConfigDict(strict=True, extra="forbid")
    model: str
    n: int | None = Field(1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(-1, ge=-1)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(_stops)] = Field(
        None, max_length=4
    )
    stop_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(None, max_length=64)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None  # says who asks; nothing depends on it
    frequency_penalty: _only(0) = None  # type: ignore[valid-type]
    presence_penalty: _only(0) = None  # type: ignore[valid-type]
    logit_bias: _only({}) = None  # type: ignore[valid-type]

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return not self.stream or bool(self.stream_options and self.stream_options.include_usage)


class TextPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def plain(self) -> dict[str, str]:
        """As chat templates take it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(Common):
    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: _only({"type": "text"}) = None  # type: ignore[valid-type]
    tools: _only([]) = None  # type: ignore[valid-type]
    tool_choice: _only("none") = None  # type: ignore[valid-type]

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to report; None: no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(Common):
    prompt: str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: _only(False) = None  # type: ignore[valid-type]
    best_of: _only(1) = None  # type: ignore[valid-type]
    suffix: _only() = None  # type: ignore[valid-type]

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def top(self) -> int | None:
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        given: Any = self.prompt
        return [given] if isinstance(given, str) or given and isinstance(given[0], int) else list(given)


KINDS: dict[str, type[ChatRequest] | type[CompletionRequest]] = {"chat": ChatRequest, "completions": CompletionRequest}


def read(kind: str, body: bytes) -> ChatRequest | CompletionRequest:
    """The request of a body. Problem (400) naming the field."""
    try:
        asked = KINDS[kind].model_validate_json(body)
    except ValidationError as error:
        field = error.errors()[0]["loc"][:1]

        def fit(one: Any) -> tuple[int, bool]:
            return len(one["loc"]), not one["type"].endswith("_type")

        # Of what was tried for the first wrong field, that which fits best; pydantic names the kinds that it tried, too.
        first = max((one for one in error.errors() if one["loc"][:1] == field), key=fit)
        param = (
            ".".join(str(part) for part in first["loc"] if not re.search(r"[\[\]]|^(constrained-)?str$", str(part)))
            or None
        )
        if first["type"] == "json_invalid":
            raise Problem(400, f"the body is not JSON: {first['ctx']['error']}") from None
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(param), list(KINDS[kind].model_fields), "leave it out")
            raise Problem(400, f"{param}: no such argument here; {hint}", param, "unknown_parameter") from None
        said = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] == "missing" else f"={str(first['input'])[:60]!r}"
        raise Problem(400, f"{param or 'body'}{given}: {said}", param) from None
    if isinstance(asked, ChatRequest) and asked.top_logprobs is not None and not asked.logprobs:
        raise Problem(400, "top_logprobs: needs logprobs=true", "top_logprobs")
    if asked.stream_options and not asked.stream:
        raise Problem(400, "stream_options: needs stream=true", "stream_options")
    return asked
