"""The HTTP application: an OpenAI-compatible API over the local encoder and the extractive stand-in."""

import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.local.model_server.config import Config
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.generation import Completion, Generator
from infra.local.model_server.protocol import (
    CHAT_MODELS,
    EMBEDDING_MODEL,
    ApiError,
    ChatRequest,
    EmbeddingRequest,
    Json,
    chunk_body,
    completion_body,
    embeddings_body,
    models_body,
    parse,
    require_model,
    usage_body,
)

_MAX_BODY_BYTES = 16 * 1024 * 1024
_MAX_BUSY_THREADS = 8
_CLIENT_CLOSED_REQUEST = 499

_Result = TypeVar("_Result")


def create_app(config: Config, encoder: Encoder) -> Starlette:
    """Return the application; the caller closes the encoder after it."""
    server = _Server(config, encoder)
    return Starlette(
        routes=[
            Route("/health", server.health, methods=["GET"]),
            Route("/v1/models", server.models, methods=["GET"]),
            Route("/v1/embeddings", server.embeddings, methods=["POST"]),
            Route("/v1/chat/completions", server.chat, methods=["POST"]),
        ],
        middleware=[Middleware(_RequireKey, api_key=config.api_key)] if config.api_key else [],
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_exception,
            Exception: _on_unexpected,
        },
    )


class _Server:
    def __init__(self, config: Config, encoder: Encoder) -> None:
        self._encoder = encoder
        self._generator = Generator(encoder, config.tokens_per_second)
        self._started = int(time.time())
        self._threads = anyio.CapacityLimiter(_MAX_BUSY_THREADS)

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "generating": self._generator.active})

    async def models(self, _request: Request) -> Response:
        return JSONResponse(models_body(self._started))

    async def embeddings(self, request: Request) -> Response:
        body = parse(EmbeddingRequest, await _read(request))
        require_model(body.model, (EMBEDDING_MODEL,), "embeddings")
        texts = body.texts()
        if body.dimensions not in (None, self._encoder.dimensions):
            message = f"This model's embeddings have {self._encoder.dimensions} dimensions."
            raise ApiError(400, message, param="dimensions")

        def respond() -> Response:
            embedded = self._encoder.embed(texts)
            as_base64 = body.encoding_format == "base64"
            return JSONResponse(embeddings_body(body.model, embedded.vectors, embedded.tokens, as_base64=as_base64))

        return await self._in_thread(respond)

    async def chat(self, request: Request) -> Response:
        body = parse(ChatRequest, await _read(request))
        require_model(body.model, CHAT_MODELS, "chat completions")
        completion = await self._in_thread(
            partial(self._generator.complete, body.prompt(), body.token_limit(), body.stops())
        )
        identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
        if body.stream:
            return StreamingResponse(
                self._events(identity, completion, include_usage=body.includes_usage()),
                media_type="text/event-stream",
                headers={"cache-control": "no-cache"},
            )
        return await self._whole(request, identity, completion)

    async def _events(self, identity: Json, completion: Completion, *, include_usage: bool) -> AsyncIterator[str]:
        """Yield the server-sent events of a completion. Starlette ends it when the client disconnects."""
        # With include_usage every chunk has the field, and only the last one has a value in it.
        usage: Json = {"usage": None} if include_usage else {}
        yield _event({**chunk_body(identity, {"role": "assistant", "content": ""}), **usage})
        async with aclosing(self._generator.write(completion)) as pieces:
            async for piece in pieces:
                yield _event({**chunk_body(identity, {"content": piece}), **usage})
        yield _event({**chunk_body(identity, {}, completion.finish_reason), **usage})
        if include_usage:
            total = usage_body(completion.prompt_tokens, len(completion.pieces))
            yield _event({**chunk_body(identity, {}), "choices": [], "usage": total})
        yield "data: [DONE]\n\n"

    async def _whole(self, request: Request, identity: Json, completion: Completion) -> Response:
        """Write the completion out at its pace, unless the client disconnects meanwhile."""
        written: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                async with aclosing(self._generator.write(completion)) as pieces:
                    written.extend([piece async for piece in pieces])
                tasks.cancel_scope.cancel()

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(write)
            tasks.start_soon(watch)
        if len(written) < len(completion.pieces):
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        usage = usage_body(completion.prompt_tokens, len(written))
        return JSONResponse(completion_body(identity, "".join(written), completion.finish_reason, usage))

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        """Run what keeps a core busy outside the event loop."""
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


class _RequireKey:
    """Answers 401 to a request without the right bearer token; the health check needs none."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health" or self._has_key(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = ApiError(401, "Incorrect or missing API key.", code="invalid_api_key")
        response = JSONResponse(error.body(), error.status, {"www-authenticate": "Bearer"})
        await response(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._api_key)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise ApiError(413, f"The body is larger than {_MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _event(body: Json) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _on_api_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return JSONResponse(error.body(), error.status)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = f"{error.detail}: {request.method} {request.url.path}"
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, error.headers)


async def _on_unexpected(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this response, so that the server logs it.
    return JSONResponse(ApiError(500, "The server failed.", kind="server_error").body(), 500)
