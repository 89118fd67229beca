"""The HTTP side: routes, keys, limits, errors in the API's shape, server-sent events. Knows nothing of models.

GET /v1/models[/<name>]   POST /v1/completions   POST /v1/chat/completions
GET /health               GET / and /about: the page, and what it shows
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rlvr.serve.api_requests import ApiError, ChatRequest, CompletionRequest, parse_request

PAGE = Path(__file__).with_name("page") / "index.html"
BODY_S = 30  # to send a request's body
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


class Backend(Protocol):
    """Answers requests: a response is one dict, or the chunks of a stream. Closing the iterator ends the work."""

    @property
    def models(self) -> Mapping[str, Any]: ...
    @property
    def healthy(self) -> bool: ...
    def answer(self, asked: ChatRequest | CompletionRequest) -> AsyncIterator[dict[str, Any]]: ...
    async def close(self) -> None: ...


@dataclass
class Served:
    """The settings and the backend of the endpoint.

    about: what the page shows beside the models' names.
    key: what a request must give; None where it needs none.
    hosts: names under which the server may be addressed, None for any. A web page of another site can make its own name point
        to this machine; a request by such a name is refused.
    seconds: from a request's arrival to the end of its answer, waiting included.
    queue: answers that may be waiting or under way; so many are `active`.
    """

    backend: Backend
    created: int
    about: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    hosts: tuple[str, ...] | None = LOOPBACK
    body_bytes: int = 1_000_000
    seconds: float = 300.0
    queue: int = 1024
    active: int = 0

    async def answer(self, asked: ChatRequest | CompletionRequest) -> AsyncIterator[dict[str, Any]]:
        """The backend's chunks. ApiError if the queue is full."""
        if asked.answers > self.queue:
            raise ApiError(
                400, f"n: {asked.answers} answers in one request; {self.queue} may be under way at once", "n"
            )
        if self.active + asked.answers > self.queue:
            busy = f"{self.active} answers are under way, no room for {asked.answers} more: try again"
            raise ApiError(429, busy, None, "queue_full")
        self.active += asked.answers
        try:
            async with aclosing(self.backend.answer(asked)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
        finally:
            self.active -= asked.answers


def app(served: Served) -> Starlette:
    """The ASGI application."""
    backend = served.backend

    def allow(request: HttpRequest) -> None:
        """ApiError for a request that must not be answered (host, origin, key)."""
        if served.hosts is not None and request.url.hostname not in served.hosts:
            raise ApiError(403, f"host {request.url.hostname!r}: this server answers to {', '.join(served.hosts)}")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), (served.key or "").encode())
        if served.key is not None and not right:
            raise ApiError(401, "no such key; give the server's, Authorization: Bearer <key>", None, "invalid_api_key")

    def listed(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": served.created, "owned_by": "one-shot-rlvr"}

    def known(name: str) -> str:
        if name not in backend.models:
            raise ApiError(404, f"model={name!r}: {', '.join(backend.models)}", "model", "model_not_found")
        return name

    async def models(request: HttpRequest) -> Response:
        allow(request)
        return JSONResponse({"object": "list", "data": [listed(name) for name in backend.models]})

    async def model(request: HttpRequest) -> Response:
        allow(request)
        return JSONResponse(listed(known(request.path_params["name"])))

    async def health(request: HttpRequest) -> Response:
        return JSONResponse({"status": "ok" if backend.healthy else "down"}, 200 if backend.healthy else 503)

    async def page(request: HttpRequest) -> Response:
        return FileResponse(PAGE, headers=HEADERS)

    async def about(request: HttpRequest) -> Response:
        allow(request)
        return JSONResponse({"models": list(backend.models), **served.about})

    async def respond(kind: str, request: HttpRequest) -> Response:
        allow(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "expected content-type: application/json")
        asked = parse_request(kind, await _body(request, served.body_bytes))
        known(asked.model)
        chunks: Any = served.answer(asked)
        end = asyncio.get_running_loop().time() + served.seconds
        # Wait for the first chunk, so that a fault of the request becomes an HTTP error and not an event of the stream.
        first = await _unless_gone(request, anext(chunks), end)
        if first is not None and asked.stream:
            return _Events(_events(first, chunks, end), end)
        await chunks.aclose()
        return Response(status_code=499) if first is None else JSONResponse(first)

    async def refused(request: HttpRequest, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        elif not isinstance(error, ApiError):
            error = ApiError(500, f"{type(error).__name__}: {error}")
        headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(error.status)
        return JSONResponse(error.body, error.status, headers)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/about", about),
            Route("/health", health),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/completions", partial(respond, "completions"), methods=["POST"]),
            Route("/v1/chat/completions", partial(respond, "chat"), methods=["POST"]),
        ],
        exception_handlers={ApiError: refused, HTTPException: refused, Exception: refused},
    )


async def _body(request: HttpRequest, limit: int) -> bytes:
    """The request's body. ApiError if it is too long or does not arrive in time."""
    body = b""
    try:
        with anyio.fail_after(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise ApiError(413, f"the body is longer than {limit} bytes")
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_S} s") from None
    except ClientDisconnect:
        raise ApiError(400, "the client went away") from None
    return body


async def _unless_gone(request: HttpRequest, answer: Any, end: float) -> dict[str, Any] | None:
    """The answer, or None if the client disconnected first. ApiError (504) if it takes too long."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, left = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        done, _ = await asyncio.wait({work, left}, timeout=end - asyncio.get_running_loop().time(),
                                     return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        if work in done:
            return work.result()
        if left in done:
            return None
        raise ApiError(504, "the answer took too long", None, "timeout")
    finally:
        left.cancel()
        if not work.done():
            work.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, ApiError):
                await work


async def _events(first: dict[str, Any], chunks: Any, end: float) -> AsyncIterator[str]:
    """A stream as server-sent events. A later error is an event too, because the status has been sent."""
    async with aclosing(chunks):
        yield _event(first)
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield _event(await asyncio.wait_for(anext(chunks), end - asyncio.get_running_loop().time()))
        except asyncio.TimeoutError:
            yield _event(ApiError(504, "the answer took too long", None, "timeout").body)
        except ApiError as error:
            yield _event(error.body)
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


class _Events(StreamingResponse):
    """A streamed response that also ends if the client stays connected but reads nothing."""

    def __init__(self, events: AsyncIterator[str], end: float):
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self.events, self.end = events, end

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            with anyio.move_on_after(self.end + 1 - asyncio.get_running_loop().time()):
                await super().__call__(scope, receive, send)
        finally:
            await self.events.aclose()  # type: ignore[attr-defined]
