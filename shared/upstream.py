"""The model's side: one streamed chat completion from any OpenAI-compatible endpoint.

The request is one POST and the answer lines of JSON, so this is aiohttp and not the openai SDK: over the same transport a
stream of 60 tokens took the SDK's raw lines 1.5 ms of CPU, its typed chunks 6.9 and this 0.7, and importing the SDK takes half
a second. Retries are not here but with the run of a job, which knows whether anybody has seen a token.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared import telemetry
from shared.model_endpoint import endpoint
from shared.runtime import runtime
from shared.settings import Settings
from shared.text import Cleaner, storable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

DATA = b"data:"
DONE = b"[DONE]"
USUAL, BETWEEN, LAST = b"data: {", b"\n\ndata: ", b"\n\ndata: [DONE]"
"""How events look that are separated by one empty line, and have no other fields."""
PLAIN = frozenset({"content", "role"})
"""The members of a delta that is text."""
MAX_TOKENS = 10**9
MAX_LINE_BYTES = 8 * 1024 * 1024
ERROR_CHARS = 300
PASSING = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Refusals of the moment, not of the request."""
LAST_READ_SECONDS = 0.02
RETRY_AFTER_SECONDS = 5.0
"""A server that asks for more patience than this is left for the next model."""


class UpstreamError(Exception):
    """The model server failed the request; `code` is stable and `detail` is for people.

    `retry_after`: how long the server asks to be left alone, in seconds; None where another try cannot help.
    """

    def __init__(self, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


@dataclass(slots=True)
class Delta:
    """A piece of the answer: its text can be stored as it is; the rest has the shapes of the OpenAI API."""

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish_reason: str | None = None
    texts: int = 1
    """How many pieces of text came at once, and are one here."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server counted, in tokens."""

    prompt_tokens: int
    completion_tokens: int


async def stream(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    max_tokens: int,
    parameters: Mapping[str, Any],
    settings: Settings,
    base_url: str | None = None,
) -> AsyncGenerator[list[Delta | Usage], None]:
    """Yield the answer as it arrives: all that one read brought, and the usage if the server reports it.

    `parameters` are further members of the request, such as temperature or tools. Raises UpstreamError `model_unavailable` (no
    connection, 429, 5xx), `model_timeout` (no first token, or a pause), `model_refused` (4xx), and `model_stream_broken` (the
    stream ended early or is not understood).
    """
    body = {
        **parameters,
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with _post(body, settings, base_url) as response, aclosing(_items(response, settings)) as answer:
        async for items in answer:
            yield items


@asynccontextmanager
async def _post(body: Mapping[str, Any], settings: Settings, base_url: str | None) -> "AsyncIterator[ClientResponse]":
    """Send the request and yield its response, once it is the beginning of an answer."""
    from aiohttp import ClientError, ClientResponseError, ClientTimeout, ConnectionTimeoutError

    patience = settings.model_first_token_timeout_seconds
    try:
        async with asyncio.timeout(patience):
            response = await runtime.http().post(
                f"{endpoint(base_url or settings.litellm_base_url)}/chat/completions",
                data=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
                headers={
                    "Authorization": f"Bearer {settings.litellm_api_key.get_secret_value()}",
                    "Content-Type": "application/json",
                    **telemetry.headers(),
                },
                timeout=ClientTimeout(total=None, sock_connect=settings.model_connect_timeout_seconds),
            )
    except ConnectionTimeoutError as error:
        raise UpstreamError("model_unavailable", "The model server cannot be reached.", 0) from error
    except TimeoutError as error:
        raise UpstreamError("model_timeout", "The model server did not begin to answer in time.") from error
    except ClientResponseError as error:
        raise UpstreamError("model_stream_broken", "The model server does not answer as HTTP wants it.", 0) from error
    except (ClientError, OSError) as error:
        raise UpstreamError("model_unavailable", "The model server cannot be reached.", 0) from error
    async with response:
        if response.status != HTTPStatus.OK:
            raise await _refusal(response)
        yield response


async def _refusal(response: "ClientResponse") -> UpstreamError:
    from aiohttp import ClientError

    try:
        async with asyncio.timeout(1):
            text = (await response.content.read(64 * 1024)).decode(errors="replace")
    except (ClientError, TimeoutError, OSError):
        text = ""
    detail = f"The model server answered {response.status}: {_message(text)}"
    if response.status == HTTPStatus.REQUEST_TIMEOUT:  # how a proxy tells that the model behind it was too slow
        return UpstreamError("model_timeout", detail)
    if response.status < HTTPStatus.INTERNAL_SERVER_ERROR and response.status not in PASSING:
        return UpstreamError("model_refused", detail)
    if response.headers.get("x-should-retry") == "false":  # OpenAI's own servers say so; their clients follow it
        return UpstreamError("model_unavailable", detail)
    wait = response.headers.get("Retry-After", "0")
    seconds = float(wait) if wait.isascii() and wait.isdigit() else 0.0
    return UpstreamError("model_unavailable", detail, seconds if seconds <= RETRY_AFTER_SECONDS else None)


async def _items(response: "ClientResponse", settings: Settings) -> AsyncGenerator[list[Delta | Usage], None]:
    """Read the event lines until [DONE]; a stream that ends before, or after no finish_reason, is broken."""
    from aiohttp import ClientError

    events, patience = _Events(), settings.model_first_token_timeout_seconds
    while not events.done:
        try:
            async with asyncio.timeout(patience):
                data = await response.content.readany()
        except (TimeoutError, ClientError, OSError) as error:
            # The answer is whole; only its usage may be missing.
            if events.finished:
                break
            if isinstance(error, TimeoutError):
                raise UpstreamError("model_timeout", f"The model server was silent for {patience:g} s.") from error
            raise UpstreamError("model_stream_broken", "The model server cut the stream.", 0) from error
        if items := events.feed(data):
            yield items
        if events.failure is not None:
            raise events.failure
        if events.begun:
            # It speaks: what is awaited now is the next token.
            patience = settings.model_token_timeout_seconds
    if not events.finished:
        raise UpstreamError("model_stream_broken", "The model server cut the stream.", 0)
    # Read to its end, the connection can be used again.
    with suppress(TimeoutError, ClientError, OSError):
        async with asyncio.timeout(LAST_READ_SECONDS):
            await response.content.readany()


class _Events:
    """The event lines of one answer, of which a read may bring several, or half of one."""

    def __init__(self) -> None:
        self.begun = self.finished = self.done = False
        self.failure: UpstreamError | None = None
        self._rest = b""
        self._cleaner = Cleaner()

    def feed(self, data: bytes) -> list[Delta | Usage]:
        """Return what a read brings; an empty one is the end. `failure` says what is wrong with what follows it."""
        block, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if not data:
            block, self._rest = block + newline + self._rest, b""
        items: list[Delta | Usage] = []
        self.done = not data
        try:
            chunks, ended = _chunks(block.strip(b"\r\n"))
            for item in self._read(chunks):
                items.append(item)
                self.finished = self.finished or (isinstance(item, Delta) and item.finish_reason is not None)
            if ended:
                self.done = self.finished = True
            if len(self._rest) > MAX_LINE_BYTES:
                raise UpstreamError("model_stream_broken", "The model server sent a line without an end.")
        except UpstreamError as error:
            self.failure, self.done = error, True
        self.begun = self.begun or bool(items)
        if self.done and (text := self._cleaner.clean("", final=True)):
            items.append(Delta(text))
        return items

    def _read(self, chunks: Iterable[object]) -> Iterator[Delta | Usage]:
        """Yield what chunks say, the text of those that follow each other as one piece."""
        texts: list[str] = []
        for chunk in _until_wrong(chunks):
            if isinstance(chunk, UpstreamError):
                yield from self._joined(texts)
                raise chunk
            if (text := _text(chunk)) is None:
                yield from self._joined(texts)
                yield from _read(_checked(chunk), self._cleaner)
            elif text:
                texts.append(text)
        yield from self._joined(texts)

    def _joined(self, texts: list[str]) -> Iterator[Delta]:
        if text := self._cleaner.clean("".join(texts)):
            yield Delta(text, texts=len(texts))
        texts.clear()


def _text(chunk: object) -> str | None:
    """Return the text of a chunk that says nothing else, as most do."""
    try:
        (choice,) = chunk["choices"]  # type: ignore[index] # it may be anything
        delta = choice["delta"]
        text: object = delta["content"]
        other = choice.get("finish_reason") or chunk.get("usage") or chunk.get("error")  # type: ignore[attr-defined]
        plain = type(text) is str and not other and delta.keys() <= PLAIN
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return text if plain and isinstance(text, str) else None


def _read(chunk: dict[str, Any], cleaner: Cleaner) -> Iterator[Delta | Usage]:
    try:
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or delta.get("reasoning") or ""
            calls, ends = delta.get("tool_calls") or (), choice.get("finish_reason")
            if not (isinstance(text, str) and isinstance(reasoning, str)):
                raise TypeError(choice)
            if calls and not all(isinstance(call, dict) for call in calls):
                raise TypeError(choice)
            text = cleaner.clean(text)
            if text or reasoning or calls or ends:
                yield Delta(text, storable(reasoning) if reasoning else "", calls, ends)
    except (TypeError, AttributeError) as error:
        raise UpstreamError(
            "model_stream_broken", "The model server sent something that is no completion chunk."
        ) from error
    if (usage := _usage(chunk)) is not None:
        yield usage


def _chunks(block: bytes) -> tuple[Iterable[object], bool]:
    """Return what a block of whole event lines holds, until [DONE], and whether that is in it.

    What comes together is parsed together, for a quarter of the time: at once where its events look as nearly all servers write
    them. Where something is wrong, they are looked at one by one.
    """
    if block.startswith(USUAL):
        usual, ended = (block.removesuffix(LAST), True) if block.endswith(LAST) else (block, False)
        try:
            parsed = json.loads(b"[%b]" % usual[len(USUAL) - 1 :].replace(BETWEEN, b","))
        except (ValueError, RecursionError):
            pass
        else:
            if len(parsed) == usual.count(BETWEEN) + 1:
                return parsed, ended
    payloads = [line[len(DATA) :].strip() for line in block.split(b"\n") if line.startswith(DATA)]
    if ended := DONE in payloads:
        del payloads[payloads.index(DONE) :]
    return map(_parse, payloads), ended


def _until_wrong(chunks: Iterable[object]) -> Iterator[object]:
    """Yield the chunks, and in the place of one that is none what is wrong with it."""
    try:
        yield from chunks
    except UpstreamError as error:
        yield error


def _parse(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise UpstreamError("model_stream_broken", "The model server sent something that is not JSON.") from error


def _checked(chunk: object) -> dict[str, Any]:
    if not isinstance(chunk, dict):
        raise UpstreamError("model_stream_broken", "The model server sent something that is no completion chunk.")
    if failure := chunk.get("error"):
        raise UpstreamError("model_stream_broken", f"The model server reported: {_said(failure)}")
    return chunk


def _usage(chunk: Mapping[str, Any]) -> Usage | None:
    """Return the usage that a chunk reports; one that cannot be right counts as not reported."""
    reported = chunk.get("usage")
    if not reported:
        return None
    try:
        usage = Usage(reported["prompt_tokens"], reported["completion_tokens"])
    except (KeyError, TypeError):
        return None
    counts = (usage.prompt_tokens, usage.completion_tokens)
    return usage if all(type(count) is int and 0 <= count <= MAX_TOKENS for count in counts) else None


def _message(text: str) -> str:
    """Return the message of an error's body, which may be in the OpenAI API's shape."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return storable(text[:ERROR_CHARS])
    return _said(body.get("error", body) if isinstance(body, dict) else body)


def _said(failure: object) -> str:
    """Return the message of an error in the OpenAI API's shape, at most 300 characters."""
    if isinstance(failure, dict):
        failure = failure.get("message") or failure.get("error") or failure
    return storable(str(failure)[:ERROR_CHARS])
