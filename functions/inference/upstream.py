"""The model's side: one streamed chat completion from any OpenAI-compatible endpoint.

The openai SDK sends the request, retries until the first byte, and names the errors. The token path reads its raw event
lines: building the SDK's typed chunks costs several times what the rest of a stream does. The SDK is imported with the
first job.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.embeddings import endpoint
from shared.settings import Settings, get_settings
from shared.text import Cleaner, storable

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageParam

DATA = "data:"
DONE = "[DONE]"
MAX_TOKENS = 10**9


class UpstreamError(Exception):
    """The model server failed the request; `code` is stable and `detail` is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Token:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class Usage:
    """What the server counted, in tokens."""

    prompt_tokens: int
    completion_tokens: int


_clients: "dict[str, AsyncOpenAI]" = {}


def client(base_url: str) -> "AsyncOpenAI":
    """Return the process's client of an endpoint."""
    if base_url not in _clients:
        _clients[base_url] = _new_client(base_url)
    return _clients[base_url]


async def close_clients() -> None:
    """Close every client."""
    while _clients:
        _, closing = _clients.popitem()
        await closing.close()


def _new_client(base_url: str) -> "AsyncOpenAI":
    from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

    settings = get_settings()
    return AsyncOpenAI(
        base_url=endpoint(base_url),
        api_key=settings.litellm_api_key.get_secret_value(),
        http_client=DefaultAioHttpClient(),
        timeout=Timeout(
            settings.model_token_timeout_seconds,
            connect=settings.model_connect_timeout_seconds,
            read=settings.model_first_token_timeout_seconds,
        ),
        max_retries=2,
    )


async def generate(
    model: str,
    messages: "list[ChatCompletionMessageParam]",
    max_tokens: int,
    settings: Settings,
    base_url: str | None = None,
) -> AsyncGenerator[Token | Usage, None]:
    """Yield the answer's tokens, which can be stored as they are, and the usage if the server reports it.

    Raises UpstreamError `model_unavailable` (no connection, 5xx), `model_timeout` (no first token, or a pause),
    `model_refused` (4xx), and `model_stream_broken` (the stream ended early or is not understood).
    """
    from aiohttp import ClientError
    from httpx2 import ConnectTimeout
    from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

    try:
        async with client(base_url or settings.litellm_base_url).chat.completions.with_streaming_response.create(
            model=model,
            messages=messages,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        ) as response:
            async for item in _items(response.iter_lines(), settings):
                yield item
    except APITimeoutError as error:
        # The aiohttp transport also gives this name to a connection that is closed before the answer.
        if isinstance(error.__cause__, ConnectTimeout):
            raise UpstreamError("model_unavailable", "The model server cannot be reached.") from error
        raise UpstreamError("model_timeout", "The model server did not begin to answer in time.") from error
    except APIConnectionError as error:
        raise UpstreamError("model_unavailable", "The model server cannot be reached.") from error
    except APIStatusError as error:
        passing = (
            error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status_code == HTTPStatus.TOO_MANY_REQUESTS
        )
        code = "model_unavailable" if passing else "model_refused"
        raise UpstreamError(code, f"The model server answered {error.status_code}: {_message(error.body)}") from error
    except (OpenAIError, ClientError) as error:
        raise UpstreamError(
            "model_stream_broken", f"The model server's answer failed: {type(error).__name__}."
        ) from error


async def _items(lines: AsyncIterator[str], settings: Settings) -> AsyncIterator[Token | Usage]:
    """Read the event lines until [DONE]; a stream that ends before, or after no finish_reason, is broken."""
    finished, patience = False, settings.model_first_token_timeout_seconds
    cleaner = Cleaner()
    while True:
        try:
            line = await _next(lines, patience)
        except UpstreamError:
            # The answer is whole; only its usage may be missing.
            if finished:
                break
            raise
        if line is None:
            break
        if not line.startswith(DATA):
            continue
        payload = line.removeprefix(DATA).strip()
        if payload == DONE:
            finished = True
            break
        chunk = _parse(payload)
        patience = settings.model_token_timeout_seconds
        for text, ends in _choices(chunk):
            finished = finished or ends
            if cleaned := cleaner.clean(text):
                yield Token(cleaned)
        if (usage := _usage(chunk)) is not None:
            yield usage
    if rest := cleaner.clean("", final=True):
        yield Token(rest)
    if not finished:
        raise UpstreamError("model_stream_broken", "The model server cut the stream.")


async def _next(lines: AsyncIterator[str], patience: float) -> str | None:
    """Return the next line, None at the end; raises UpstreamError after `patience` seconds of silence."""
    # The SDK wraps what its transport raises until the response begins, and not in mid-stream.
    from aiohttp import ClientError
    from httpx2 import ReadTimeout, RequestError

    try:
        async with asyncio.timeout(patience):
            return await anext(lines, None)
    except (TimeoutError, ReadTimeout) as error:
        raise UpstreamError("model_timeout", f"The model server was silent for {patience:g} s.") from error
    except (RequestError, ClientError, OSError) as error:
        raise UpstreamError("model_stream_broken", "The model server cut the stream.") from error


def _parse(payload: str) -> dict[str, Any]:
    try:
        chunk = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise UpstreamError("model_stream_broken", "The model server sent something that is not JSON.") from error
    if not isinstance(chunk, dict):
        raise UpstreamError("model_stream_broken", "The model server sent something that is no completion chunk.")
    if failure := chunk.get("error"):
        raise UpstreamError("model_stream_broken", f"The model server reported: {_message(failure)}")
    return chunk


def _choices(chunk: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the text of each of a chunk's choices, and whether it is the last."""
    try:
        for choice in chunk.get("choices") or ():
            text = (choice.get("delta") or {}).get("content") or ""
            if not isinstance(text, str):
                raise TypeError(text)
            yield text, choice.get("finish_reason") is not None
    except (TypeError, AttributeError) as error:
        raise UpstreamError(
            "model_stream_broken", "The model server sent something that is no completion chunk."
        ) from error


def _usage(chunk: dict[str, Any]) -> Usage | None:
    """Return the usage that a chunk reports; one that cannot be right counts as not reported."""
    try:
        usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
    except (KeyError, TypeError):
        return None
    counts = (usage.prompt_tokens, usage.completion_tokens)
    return usage if all(type(count) is int and 0 <= count <= MAX_TOKENS for count in counts) else None


def _message(body: object) -> str:
    """Return the message of an error in the OpenAI API's shape, at most 300 characters."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("error") or body
    return storable(str(body)[:300])
